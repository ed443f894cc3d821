//! What is normal: the rate at which an entity fails when nobody attacks it.
//!
//! A Gamma-Poisson posterior per entity: `learned` failures over `observed` seconds, both halved every seven days, with
//! the tenant's mean for entities of that kind as the prior. A young entity is judged by its population, an old one by
//! itself, and there is no threshold in between.
//!
//! Invariant: what is being judged never feeds its own baseline: a five-minute generation is learned only after it has left
//! the window, at most at twice the rate known before, and not at all for a day after the entity was attacked.

use serde::{Deserialize, Serialize};

use super::tail::negative_binomial_tail;
use super::window::GENERATION_SECONDS;
use crate::finding::{BaselineSource, EntityKind};

/// Weight of the prior, in failures: half a failure is outweighed by the first day of an entity's own history.
const PRIOR_FAILURES: f64 = 0.5;
/// `2^(-300 s / 7 d)`: how much of the past is left after one generation.
const KEPT_PER_GENERATION: f64 = 0.999_656_236_094_126_1;
/// Generations after an attack in which nothing is learned: a day.
const FROZEN_GENERATIONS: u32 = 288;
/// A generation counts at most this many times its expectation, so that a patient attacker doubles what is normal no
/// faster than once a week.
const WINSOR_FACTOR: f64 = 2.0;
/// Entity-seconds a tenant must have been observed before its own mean replaces the shipped one: 1000 entity-days.
const TENANT_WARM_SECONDS: f64 = 1000.0 * 86_400.0;
/// The tenant's mean stays within this factor of the shipped one: a tenant under attack from its first day must not be
/// able to call that normal.
const TENANT_CLAMP: f64 = 4.0;
/// Seconds of its own history after which an entity is said to be judged by itself.
const ENTITY_WARM_SECONDS: f64 = 86_400.0;

/// Failures a day of one entity before anything is known, by kind: distinct accounts for an address and for a network,
/// failed attempts for an account.
fn shipped_per_day(kind: EntityKind) -> f64 {
    match kind {
        EntityKind::Ip => 0.5,
        EntityKind::Network => 1.0,
        EntityKind::Account => 0.1,
    }
}

/// What a tenant's entities of one kind have been seen to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Population {
    failures: f64,
    seconds: f64,
}

impl Population {
    /// Mean failures per second of one entity, and whether it is the tenant's own figure.
    fn mean(self, kind: EntityKind) -> (f64, BaselineSource) {
        let shipped = shipped_per_day(kind) / 86_400.0;
        if self.seconds < TENANT_WARM_SECONDS {
            return (shipped, BaselineSource::Prior);
        }
        let own = (self.failures / self.seconds).clamp(shipped / TENANT_CLAMP, shipped * TENANT_CLAMP);
        (own, BaselineSource::Tenant)
    }
}

/// What one entity has been seen to do. Stored as `f32`: a baseline is known to a few percent at best.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Baseline {
    failures: f32,
    seconds: f32,
    /// Nothing is learned before this generation.
    frozen_until: u32,
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
    pub(crate) fn expectation(self, population: Population, kind: EntityKind) -> Expectation {
        let (mean, prior) = population.mean(kind);
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

    /// The entity was found under attack in `generation`: nothing is learned from it or from the day after.
    pub(crate) fn freeze(&mut self, generation: u32) {
        self.frozen_until = self.frozen_until.max(generation + FROZEN_GENERATIONS);
    }

    /// Whether the window that ends with `generation` reaches back to the last attack found: what it holds was reported.
    pub(crate) fn is_reported(self, generation: u32) -> bool {
        self.frozen_until > 0 && generation <= self.frozen_until - FROZEN_GENERATIONS + 1
    }

    /// Generation `number`, with `failures` in it, has left the window.
    pub(crate) fn learn(&mut self, number: u32, failures: u64, population: &mut Population, kind: EntityKind) {
        if number < self.frozen_until {
            return;
        }
        let expected = self.expectation(*population, kind).expected(f64::from(GENERATION_SECONDS));
        let ceiling = (WINSOR_FACTOR * expected).max(1.0);
        #[expect(clippy::cast_precision_loss, reason = "a count of five minutes, far below 2^52")]
        let learned = (failures as f64).min(ceiling);
        self.decay(1);
        self.add(learned, f64::from(GENERATION_SECONDS), population);
    }

    /// `idle` generations without a failure, the first of them `number`, have left the window.
    pub(crate) fn learn_idle(&mut self, number: u32, idle: u32, population: &mut Population) {
        let idle = idle - self.frozen_until.saturating_sub(number).min(idle);
        if idle == 0 {
            return;
        }
        let kept = self.decay(idle);
        // The sum of 300 s at each of `idle` generations, each decayed since: a geometric series.
        let seconds = f64::from(GENERATION_SECONDS) * (1.0 - kept) / (1.0 - KEPT_PER_GENERATION);
        self.add(0.0, seconds, population);
    }

    fn decay(&mut self, generations: u32) -> f64 {
        let kept = power(KEPT_PER_GENERATION, generations);
        self.set(f64::from(self.failures) * kept, f64::from(self.seconds) * kept);
        kept
    }

    fn add(&mut self, failures: f64, seconds: f64, population: &mut Population) {
        self.set(f64::from(self.failures) + failures, f64::from(self.seconds) + seconds);
        population.failures += failures;
        population.seconds += seconds;
    }

    #[expect(clippy::cast_possible_truncation, reason = "stored small on purpose; f32 spans the range")]
    fn set(&mut self, failures: f64, seconds: f64) {
        self.failures = failures as f32;
        self.seconds = seconds as f32;
    }
}

impl Expectation {
    /// Expected failures in `seconds`.
    pub(crate) fn expected(&self, seconds: f64) -> f64 {
        self.shape / self.seconds * seconds
    }

    /// Probability that chance alone gives at least `count` failures in `seconds`.
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

    const DAY: u32 = 288;

    fn per_day(baseline: Baseline, population: Population) -> f64 {
        baseline.expectation(population, EntityKind::Ip).expected(86_400.0)
    }

    #[test]
    fn constants_are_what_they_say() {
        assert!((KEPT_PER_GENERATION - 0.5_f64.powf(300.0 / (7.0 * 86_400.0))).abs() < 1e-15);
        assert!((power(KEPT_PER_GENERATION, 7 * DAY) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn a_new_entity_is_judged_by_the_shipped_prior_and_an_old_one_by_itself() {
        let mut population = Population::default();
        let mut baseline = Baseline::default();
        assert!((per_day(baseline, population) - 0.5).abs() < 1e-9);
        for day in 0..14 {
            baseline.learn(day * DAY, 1, &mut population, EntityKind::Ip);
            baseline.learn_idle(day * DAY + 1, DAY - 1, &mut population);
        }
        let expectation = baseline.expectation(population, EntityKind::Ip);
        assert_eq!(expectation.source, BaselineSource::Entity);
        let rate = per_day(baseline, population);
        assert!((0.85..1.05).contains(&rate), "one failure a day, seen for two weeks: {rate}");
    }

    #[test]
    fn idle_time_in_one_step_or_in_many_is_the_same() {
        let (mut once, mut often) = (Baseline::default(), Baseline::default());
        let (mut population, mut other) = (Population::default(), Population::default());
        once.learn_idle(0, 1000, &mut population);
        for number in 0..1000 {
            often.learn_idle(number, 1, &mut other);
        }
        assert!((once.seconds / often.seconds - 1.0).abs() < 1e-4, "{once:?} {often:?}");
    }

    #[test]
    fn nothing_is_learned_for_a_day_after_an_attack() {
        let mut population = Population::default();
        let mut baseline = Baseline::default();
        baseline.learn_idle(0, 10, &mut population);
        let before = baseline;
        baseline.freeze(10);
        baseline.learn(10, 5000, &mut population, EntityKind::Ip);
        baseline.learn_idle(11, DAY - 1, &mut population);
        assert_eq!((baseline.failures, baseline.seconds), (before.failures, before.seconds));
        baseline.learn_idle(10 + DAY, 1, &mut population);
        assert!(baseline.seconds > before.seconds);
        // A span that straddles the end of the freeze counts its part after it.
        let mut straddling = before;
        straddling.freeze(10);
        straddling.learn_idle(11, DAY, &mut population);
        assert_eq!(straddling.seconds, baseline.seconds);
    }

    #[test]
    fn a_patient_attacker_needs_a_week_to_double_what_is_normal() {
        let mut population = Population::default();
        let mut baseline = Baseline::default();
        for day in 0..30 {
            baseline.learn(day * DAY, 1, &mut population, EntityKind::Ip);
            baseline.learn_idle(day * DAY + 1, DAY - 1, &mut population);
        }
        let before = per_day(baseline, population);
        // Far more than is normal in every five minutes of a day.
        for number in 30 * DAY..31 * DAY {
            baseline.learn(number, 1000, &mut population, EntityKind::Ip);
        }
        let after_a_day = per_day(baseline, population) / before;
        // Winsorised at one failure a generation: the least a baseline can learn of something.
        assert!(after_a_day < 40.0, "{after_a_day}");
        let mut fast = Baseline { failures: 2880.0, seconds: 86_400.0 * 10.0, frozen_until: 0 };
        let before = per_day(fast, population);
        for number in 0..7 * DAY {
            fast.learn(number, 100_000, &mut population, EntityKind::Ip);
        }
        let doubled = per_day(fast, population) / before;
        assert!((1.5..2.3).contains(&doubled), "{doubled}");
    }

    #[test]
    fn the_tenant_replaces_the_shipped_prior_within_bounds() {
        let population = Population { failures: 100_000.0, seconds: 2000.0 * 86_400.0 };
        let expectation = Baseline::default().expectation(population, EntityKind::Ip);
        assert_eq!(expectation.source, BaselineSource::Tenant);
        assert!((expectation.expected(86_400.0) - 2.0).abs() < 1e-9, "50 a day, clamped to 4 times 0.5");
    }
}
