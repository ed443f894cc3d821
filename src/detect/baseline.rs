//! What is normal for one entity: the rate at which it fails when nobody attacks it.
//!
//! A Gamma-Poisson posterior per entity: `learned` failures over `observed` seconds of seasonal time, both halved every
//! seven days, with the tenant's mean for entities of that kind as the prior. A young entity is judged by its population,
//! an old one by itself, and there is no threshold in between. Seasonal time runs as fast as the tenant is busy at that
//! hour of the week, so no entity needs a season of its own.
//!
//! Invariant: what is being judged never feeds its own baseline: four hours are learned only after they have left the day,
//! at most at twice the rate known before, and not at all for a day around an attack. The bound on poisoning follows: at
//! best a patient attacker doubles what is normal every seven days, so that 50 times takes him 39 days, and the absolute
//! ceilings hold all the while.

use serde::{Deserialize, Serialize};

use super::key::Counter;
use super::population::Population;
use super::tail::negative_binomial_tail;
use super::window::{SLOTS, Slot};
use crate::finding::BaselineSource;

/// Weight of the prior, in failures: half a failure is outweighed by the first day of an entity's own history.
const PRIOR_FAILURES: f64 = 0.5;
/// `2^(-4 h / 7 d)`: how much of the past is left after one slot.
const KEPT_PER_SLOT: f64 = 0.983_631_932_444_19;
/// Slots after an attack in which nothing is learned: a day.
const FROZEN_SLOTS: u32 = SLOTS;
/// A slot counts at most this many times its expectation, so that a patient attacker doubles what is normal no faster
/// than once a week.
const WINSOR_FACTOR: f64 = 2.0;
/// Seconds of its own history after which an entity is said to be judged by itself.
const ENTITY_WARM_SECONDS: f64 = 86_400.0;
/// Idle slots told apart by season: a week. What lies further back has decayed by half and averages out.
const SEASONAL_SLOTS: u32 = 7 * SLOTS;

/// What one entity has been seen to do. Stored as `f32`: a baseline is known to a few percent at best.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Baseline {
    failures: f32,
    seconds: f32,
    /// The last generation in which an attack was seen, plus one; 0: never.
    attacked: u32,
}

/// A baseline with its prior: what the rules ask.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Expectation {
    shape: f64,
    seconds: f64,
    /// Where the figure comes from.
    pub(crate) source: BaselineSource,
    /// Seconds the entity itself was observed for.
    pub(crate) observed_seconds: f64,
}

impl Baseline {
    /// The expectation under `population`'s prior.
    pub(crate) fn expectation(self, population: &Population, counter: Counter) -> Expectation {
        let (mean, prior) = population.mean(counter);
        let observed_seconds = f64::from(self.seconds);
        Expectation {
            shape: PRIOR_FAILURES + f64::from(self.failures),
            seconds: PRIOR_FAILURES / mean + observed_seconds,
            source: if observed_seconds >= ENTITY_WARM_SECONDS { BaselineSource::Entity } else { prior },
            observed_seconds,
        }
    }

    /// Whether anything would be lost with it.
    pub(crate) fn is_learned(self) -> bool {
        f64::from(self.seconds) >= ENTITY_WARM_SECONDS
    }

    /// The entity was found under attack in `generation`: nothing is learned from the day before or from the day after.
    pub(crate) fn freeze(&mut self, generation: u32) {
        self.attacked = self.attacked.max(generation + 1);
    }

    /// Whether the window that ends with `generation` reaches back to the last attack found: what it holds was reported.
    pub(crate) fn is_reported(self, generation: u32) -> bool {
        self.attacked > 0 && generation <= self.attacked
    }

    /// The first slot to learn from again. What leaves the day earlier is from the attack or the day before it, and what
    /// leaves later up to here is from the day after.
    fn frozen_until(self) -> Slot {
        if self.attacked == 0 { 0 } else { (self.attacked - 1) / GENERATIONS_PER_SLOT + FROZEN_SLOTS + 1 }
    }

    /// Slot `number`, with `failures` in it, has left the day. Answers what was learned: failures and seasonal seconds.
    pub(crate) fn learn(
        &mut self,
        number: Slot,
        failures: u64,
        population: &Population,
        counter: Counter,
    ) -> Option<(f64, f64)> {
        if number < self.frozen_until() {
            return None;
        }
        let exposure = population.exposure(number);
        let ceiling = (WINSOR_FACTOR * self.expectation(population, counter).expected(exposure)).max(1.0);
        #[expect(clippy::cast_precision_loss, reason = "a count of four hours, far below 2^52")]
        let learned = (failures as f64).min(ceiling);
        self.decay(1);
        self.set(f64::from(self.failures) + learned, f64::from(self.seconds) + exposure);
        Some((learned, exposure))
    }

    /// `idle` slots without a failure, the first of them `first`, have left the day. Answers the seasonal seconds learned.
    pub(crate) fn learn_idle(&mut self, first: Slot, idle: u32, population: &Population) -> f64 {
        let frozen = self.frozen_until().saturating_sub(first).min(idle);
        let (first, idle) = (first + frozen, idle - frozen);
        if idle == 0 {
            return 0.0;
        }
        let seasonal = idle.min(SEASONAL_SLOTS);
        let unseasonal = idle - seasonal;
        let kept = self.decay(unseasonal);
        // The sum of the slots that are too long ago to tell apart, each decayed since: a geometric series.
        let mut seconds = f64::from(super::window::SLOT_SECONDS) * (1.0 - kept) / (1.0 - KEPT_PER_SLOT);
        self.set(f64::from(self.failures), f64::from(self.seconds) + seconds);
        for slot in first + unseasonal..first + idle {
            let exposure = population.exposure(slot);
            self.decay(1);
            self.set(f64::from(self.failures), f64::from(self.seconds) + exposure);
            seconds += exposure;
        }
        seconds
    }

    fn decay(&mut self, slots: u32) -> f64 {
        let kept = power(KEPT_PER_SLOT, slots);
        self.set(f64::from(self.failures) * kept, f64::from(self.seconds) * kept);
        kept
    }

    #[expect(clippy::cast_possible_truncation, reason = "stored small on purpose; f32 spans the range")]
    fn set(&mut self, failures: f64, seconds: f64) {
        self.failures = failures as f32;
        self.seconds = seconds as f32;
    }
}

/// Five-minute generations in a slot.
const GENERATIONS_PER_SLOT: u32 = 48;

impl Expectation {
    /// Expected failures in `seconds` of seasonal time.
    pub(crate) fn expected(&self, seconds: f64) -> f64 {
        self.shape / self.seconds * seconds
    }

    /// Probability that chance alone gives at least `count` failures in `seconds` of seasonal time.
    pub(crate) fn chance(&self, count: u64, seconds: f64) -> f64 {
        negative_binomial_tail(count, self.shape, seconds / (seconds + self.seconds))
    }
}

/// `base^exponent` by squaring: the same bits everywhere, in at most 32 steps.
fn power(base: f64, mut exponent: u32) -> f64 {
    let (mut result, mut square) = (1.0, base);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result *= square;
        }
        square *= square;
        exponent >>= 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u32 = SLOTS;
    const COUNTER: Counter = Counter::Address;

    fn per_day(baseline: Baseline) -> f64 {
        baseline.expectation(&Population::default(), COUNTER).expected(86_400.0)
    }

    /// One failure in the first slot of each of `days`.
    fn one_a_day(days: std::ops::Range<u32>) -> Baseline {
        let (mut baseline, population) = (Baseline::default(), Population::default());
        for day in days {
            baseline.learn(day * DAY, 1, &population, COUNTER);
            baseline.learn_idle(day * DAY + 1, DAY - 1, &population);
        }
        baseline
    }

    #[test]
    fn constants_are_what_they_say() {
        assert!((KEPT_PER_SLOT - 0.5_f64.powf(4.0 / (7.0 * 24.0))).abs() < 1e-15);
        assert!((power(KEPT_PER_SLOT, 7 * DAY) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn a_new_entity_is_judged_by_the_shipped_prior_and_an_old_one_by_itself() {
        assert!((per_day(Baseline::default()) - 0.5).abs() < 1e-9);
        let baseline = one_a_day(0..14);
        assert_eq!(baseline.expectation(&Population::default(), COUNTER).source, BaselineSource::Entity);
        let rate = per_day(baseline);
        assert!((0.85..1.05).contains(&rate), "one failure a day, seen for two weeks: {rate}");
    }

    #[test]
    fn idle_time_in_one_step_or_in_many_is_the_same() {
        let (mut once, mut often) = (Baseline::default(), Baseline::default());
        let population = Population::default();
        once.learn_idle(0, 1000, &population);
        for number in 0..1000 {
            often.learn_idle(number, 1, &population);
        }
        assert!((once.seconds / often.seconds - 1.0).abs() < 1e-4, "{once:?} {often:?}");
    }

    #[test]
    fn nothing_is_learned_for_a_day_after_an_attack() {
        let population = Population::default();
        let mut baseline = Baseline::default();
        baseline.learn_idle(0, 10, &population);
        let before = baseline;
        baseline.freeze(10 * GENERATIONS_PER_SLOT);
        assert!(baseline.is_reported(10 * GENERATIONS_PER_SLOT + 1));
        assert!(!baseline.is_reported(10 * GENERATIONS_PER_SLOT + 2));
        assert_eq!(baseline.learn(10, 5000, &population, COUNTER), None);
        baseline.learn_idle(11, DAY, &population);
        assert_eq!((baseline.failures, baseline.seconds), (before.failures, before.seconds));
        baseline.learn_idle(11 + DAY, 1, &population);
        assert!(baseline.seconds > before.seconds);
        // A span that straddles the end of the freeze counts its part after it.
        let mut straddling = before;
        straddling.freeze(10 * GENERATIONS_PER_SLOT);
        straddling.learn_idle(11, DAY + 1, &population);
        assert_eq!(straddling.seconds, baseline.seconds);
    }

    #[test]
    fn a_patient_attacker_doubles_what_is_normal_in_a_week_at_best() {
        let population = Population::default();
        let mut baseline = Baseline { failures: 1000.0, seconds: 86_400.0 * 10.0, attacked: 0 };
        let before = per_day(baseline);
        for number in 0..7 * DAY {
            baseline.learn(number, 100_000, &population, COUNTER);
        }
        let week = per_day(baseline) / before;
        assert!((1.5..2.1).contains(&week), "{week}");
        for number in 7 * DAY..39 * DAY {
            baseline.learn(number, 100_000, &population, COUNTER);
        }
        let grown = per_day(baseline) / before;
        assert!(grown < 50.0, "39 days of poisoning: {grown} times");
    }
}
