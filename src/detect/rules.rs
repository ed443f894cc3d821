//! Is it an attack? The one rule, said in a sentence: the failures of this window are at least 50 times what is normal
//! here, that could not be chance, and there are enough of them to matter.
//!
//! For addresses and networks a failure counts once per account ("independent failures"): one forgetful person is one, and
//! that is what makes the arithmetic honest. For accounts every failed attempt counts.
//!
//! Invariant: a [`Verdict`] is a spike only if every condition holds, and else names the first that did not.

use super::baseline::Expectation;
use crate::event::Timestamp;
use crate::finding::{EntityKind, Rule, WindowEvidence};

/// Below this many expected failures a ratio says more about the floor than about the entity.
const EXPECTED_FLOOR: f64 = 0.1;
/// Addresses that must take part before a network, not an address, is what attacks.
const MIN_NETWORK_SPREAD: u64 = 3;

/// Bounds of one kind of entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) minimum: u64,
    pub(crate) ceiling: u64,
}

/// What the rules are set to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Thresholds {
    /// How many times normal is an attack.
    pub(crate) factor: f64,
    /// Largest probability of chance.
    pub(crate) chance: f64,
    /// An address must fail for this many times more accounts than it succeeds for.
    pub(crate) failing_per_succeeding: f64,
    pub(crate) ip: Limits,
    pub(crate) network: Limits,
    pub(crate) account: Limits,
}

impl Thresholds {
    fn limits(&self, kind: EntityKind) -> Limits {
        match kind {
            EntityKind::Ip => self.ip,
            EntityKind::Network => self.network,
            EntityKind::Account => self.account,
        }
    }
}

/// The rule that judges a kind of entity.
pub(crate) fn rule_of(kind: EntityKind) -> Rule {
    match kind {
        EntityKind::Ip => Rule::AddressFailureSpike,
        EntityKind::Network => Rule::NetworkFailureSpike,
        EntityKind::Account => Rule::AccountFailureSpike,
    }
}

/// What is judged: one window of one entity.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judgement<'a> {
    pub(crate) thresholds: &'a Thresholds,
    pub(crate) kind: EntityKind,
    pub(crate) expectation: Expectation,
    /// Start of the window.
    pub(crate) start: Timestamp,
    /// The moment of judging.
    pub(crate) now: Timestamp,
    /// What the rule judges: independent failures, or failures.
    pub(crate) count: u64,
    /// Distinct accounts that succeeded in the same window.
    pub(crate) succeeding: u64,
    /// Distinct addresses (of a network) that failed.
    pub(crate) spread: u64,
}

/// Which conditions a window met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All of them.
    Spike,
    /// Too few failures to matter.
    BelowMinimum,
    /// A shared address: more accounts get in from it than fail.
    SharedAddress,
    /// One address explains it; it is judged by itself.
    OneAddress,
    /// Not 50 times normal.
    WithinFactor,
    /// Could be chance.
    CouldBeChance,
}

impl Judgement<'_> {
    /// The verdict, cheapest condition first.
    pub(crate) fn verdict(&self) -> Verdict {
        let limits = self.thresholds.limits(self.kind);
        if self.count < limits.minimum {
            return Verdict::BelowMinimum;
        }
        #[expect(clippy::cast_precision_loss, reason = "counts of ten minutes, far below 2^52")]
        let guarded = self.kind != EntityKind::Account
            && (self.count as f64) < self.thresholds.failing_per_succeeding * self.succeeding as f64;
        if guarded {
            return Verdict::SharedAddress;
        }
        if self.kind == EntityKind::Network && self.spread < MIN_NETWORK_SPREAD {
            return Verdict::OneAddress;
        }
        if self.count >= limits.ceiling {
            return Verdict::Spike;
        }
        self.against_baseline(self.count)
    }

    fn against_baseline(&self, count: u64) -> Verdict {
        #[expect(clippy::cast_precision_loss, reason = "counts of ten minutes, far below 2^52")]
        let within = (count as f64) < self.thresholds.factor * self.expectation.expected(self.seconds());
        if within {
            Verdict::WithinFactor
        // One less: the window is judged at a failure, and given that one the others are still Poisson.
        } else if self.expectation.chance(count.saturating_sub(1), self.seconds()) > self.thresholds.chance {
            Verdict::CouldBeChance
        } else {
            Verdict::Spike
        }
    }

    /// Whether an open episode is still being fed: a fifth of what opens one, so that it does not flicker.
    pub(crate) fn keeps_open(&self) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "counts of ten minutes, far below 2^52")]
        let (count, expected) = (self.count as f64, self.expectation.expected(self.seconds()));
        self.count * 2 >= self.thresholds.limits(self.kind).minimum && count >= self.thresholds.factor / 5.0 * expected
    }

    /// The figures for the finding.
    pub(crate) fn evidence(&self, failures: u64, distinct: u64, successes: u64) -> WindowEvidence {
        WindowEvidence {
            start: self.start,
            end: self.now,
            failures,
            distinct,
            successes,
            ratio: self.ratio(),
            expected: rounded(self.floored_expectation(), 1000.0),
            threshold: self.threshold(),
        }
    }

    /// How many times normal this window is, to one decimal.
    pub(crate) fn ratio(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "counts of ten minutes, far below 2^52")]
        let count = self.count as f64;
        rounded(count / self.floored_expectation(), 10.0)
    }

    fn floored_expectation(&self) -> f64 {
        self.expectation.expected(self.seconds()).max(EXPECTED_FLOOR)
    }

    /// The smallest count that would have fired.
    fn threshold(&self) -> u64 {
        let limits = self.thresholds.limits(self.kind);
        (limits.minimum..limits.ceiling)
            .find(|count| self.against_baseline(*count) == Verdict::Spike)
            .unwrap_or(limits.ceiling)
    }

    #[expect(clippy::cast_precision_loss, reason = "minutes in milliseconds")]
    fn seconds(&self) -> f64 {
        self.now.millis_since(self.start).max(1000) as f64 / 1000.0
    }
}

/// `value` to the given fraction of one: the digits a person reads, and the same bits on every machine.
pub(crate) fn rounded(value: f64, fraction: f64) -> f64 {
    (value * fraction).round() / fraction
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::Config;
    use crate::detect::baseline::{Baseline, Population};

    fn judge(kind: EntityKind, count: u64, succeeding: u64, expectation: Expectation) -> Verdict {
        let thresholds = Config::default().thresholds();
        Judgement {
            thresholds: &thresholds,
            kind,
            expectation,
            start: Timestamp(0),
            now: Timestamp(400_000),
            count,
            succeeding,
            spread: 5,
        }
        .verdict()
    }

    fn fresh(kind: EntityKind) -> Expectation {
        Baseline::default().expectation(Population::default(), kind)
    }

    /// Fails `per_day` times a day and has done so for a month.
    fn settled(kind: EntityKind, per_day: u32) -> Expectation {
        let (mut baseline, mut population) = (Baseline::default(), Population::default());
        for number in 0..30 * 288 {
            let before = u64::from(number % 288 * per_day / 288);
            let after = u64::from((number % 288 + 1) * per_day / 288);
            baseline.learn(number, after - before, &mut population, kind);
        }
        baseline.expectation(population, kind)
    }

    #[test]
    fn an_unknown_address_fires_at_the_minimum_and_not_before() {
        assert_eq!(judge(EntityKind::Ip, 7, 0, fresh(EntityKind::Ip)), Verdict::BelowMinimum);
        assert_eq!(judge(EntityKind::Ip, 8, 0, fresh(EntityKind::Ip)), Verdict::Spike);
    }

    #[test]
    fn a_busy_address_needs_fifty_times_its_own_normal() {
        // 100 a day is 0.46 in 400 s: 50 times that is 23.
        let expectation = settled(EntityKind::Ip, 100);
        let normal = expectation.expected(400.0);
        assert!((0.4..0.5).contains(&normal), "{normal}");
        assert_eq!(judge(EntityKind::Ip, 20, 0, expectation), Verdict::WithinFactor);
        assert_eq!(judge(EntityKind::Ip, 25, 0, expectation), Verdict::Spike);
    }

    #[test]
    fn an_address_from_which_more_accounts_get_in_than_fail_is_shared() {
        assert_eq!(judge(EntityKind::Ip, 30, 31, fresh(EntityKind::Ip)), Verdict::SharedAddress);
        assert_eq!(judge(EntityKind::Ip, 30, 29, fresh(EntityKind::Ip)), Verdict::Spike);
        assert_eq!(judge(EntityKind::Account, 30, 31, fresh(EntityKind::Account)), Verdict::Spike);
    }

    #[test]
    fn the_ceiling_fires_whatever_was_learned() {
        let expectation = settled(EntityKind::Ip, 10_000);
        assert_eq!(judge(EntityKind::Ip, 59, 0, expectation), Verdict::WithinFactor);
        assert_eq!(judge(EntityKind::Ip, 60, 0, expectation), Verdict::Spike);
    }

    #[test]
    fn the_printed_threshold_is_the_smallest_count_that_fires() {
        let thresholds = Config::default().thresholds();
        let mut judgement = Judgement {
            thresholds: &thresholds,
            kind: EntityKind::Ip,
            expectation: settled(EntityKind::Ip, 100),
            start: Timestamp(0),
            now: Timestamp(400_000),
            count: 0,
            succeeding: 0,
            spread: 0,
        };
        let threshold = judgement.threshold();
        judgement.count = threshold - 1;
        assert_ne!(judgement.verdict(), Verdict::Spike);
        judgement.count = threshold;
        assert_eq!(judgement.verdict(), Verdict::Spike);
    }
}
