//! Is it an attack? The one rule, said in a sentence: the failures of this window are at least 50 times what is normal
//! here, that could not be chance, and there are enough of them to matter.
//!
//! For addresses and networks a failure counts once per account ("independent failures"): one forgetful person is one, and
//! that is what makes the arithmetic honest. For accounts every failed attempt counts. A success fan-out is judged by the
//! same conditions: there the accounts that strangers get in to take the place of those that fail (`fan_out`).
//!
//! Invariant: a [`Verdict`] is a spike only if every condition holds, and else names the first that did not.
//!
//! Not here: a tenant's totals, which are judged as series (`series`).

use super::baseline::Expectation;
use super::key::Counter;
use crate::event::Timestamp;
use crate::finding::{BaselineEvidence, Learning, Verdict, WindowEvidence};

/// Below this many expected failures a ratio says more about the floor than about the entity.
const EXPECTED_FLOOR: f64 = 0.1;
/// Addresses that must take part before a network, not an address, is what attacks.
const MIN_NETWORK_SPREAD: u64 = 3;

/// Bounds of one counter in one window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Limits {
    /// Fewer are never a finding.
    pub(crate) minimum: u64,
    /// So many always are.
    pub(crate) ceiling: u64,
    /// How many times normal is an attack.
    pub(crate) factor: f64,
}

/// Which window is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub(crate) enum Span {
    /// The last minutes.
    Fast,
    /// The last day.
    Day,
}

/// What the rules are set to for one tenant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Thresholds {
    /// False findings a day the tenant is ready to bear.
    pub(crate) budget: f64,
    /// An address must fail for this many times more accounts than is normal among those it succeeds for.
    pub(crate) guard: f64,
    pub(crate) address: [Limits; 2],
    pub(crate) network: [Limits; 2],
    pub(crate) account: [Limits; 2],
    /// Networks from which one account fails that are an attack on it.
    pub(crate) account_networks: u64,
    pub(crate) address_codes: [Limits; 2],
    pub(crate) account_codes: [Limits; 2],
    pub(crate) address_fan_out: [Limits; 2],
    pub(crate) network_fan_out: [Limits; 2],
    /// Locked accounts that are a wave, and independent failures from strange networks that are a distributed attack.
    pub(crate) tenant_minimum: u64,
}

impl Thresholds {
    pub(crate) const fn limits(&self, counter: Counter, span: Span) -> Limits {
        let [fast, day] = match counter {
            Counter::Address => self.address,
            Counter::Account => self.account,
            Counter::AddressCodes => self.address_codes,
            Counter::AccountCodes => self.account_codes,
            Counter::AddressFanOut => self.address_fan_out,
            Counter::NetworkFanOut => self.network_fan_out,
            Counter::Network | Counter::Tenant | Counter::TenantLocks | Counter::TenantOutage => self.network,
        };
        match span {
            Span::Fast => fast,
            Span::Day => day,
        }
    }
}

/// What is judged: one window of one entity.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judgement<'a> {
    pub(crate) thresholds: &'a Thresholds,
    pub(crate) counter: Counter,
    pub(crate) span: Span,
    pub(crate) expectation: Expectation,
    /// Start of the window.
    pub(crate) start: Timestamp,
    /// The moment of judging.
    pub(crate) now: Timestamp,
    /// The window in seasonal seconds.
    pub(crate) exposure: f64,
    /// What the rule judges: independent failures, or failures.
    pub(crate) count: u64,
    /// Distinct accounts that succeeded in the same window; of a fan-out, guests.
    pub(crate) succeeding: u64,
    /// Distinct addresses (of a network) or networks (of an account) that failed in the same window.
    pub(crate) spread: u64,
    /// Accounts that fail (of a fan-out: strangers) per account that gets in, as things stand at the tenant.
    pub(crate) phi: f64,
    /// Largest probability of chance.
    pub(crate) chance: f64,
    /// People sign in from here, and at the moment sign-in fails for everyone.
    pub(crate) in_outage: bool,
    /// The window reaches back to what was already reported.
    pub(crate) reported: bool,
    pub(crate) learning: Learning,
}

impl Judgement<'_> {
    fn limits(&self) -> Limits {
        self.thresholds.limits(self.counter, self.span)
    }

    /// The verdict, cheapest condition first.
    pub(crate) fn verdict(&self) -> Verdict {
        let limits = self.limits();
        let distributed = self.counter == Counter::Account
            && self.spread >= self.thresholds.account_networks
            && self.count > self.thresholds.account_networks;
        if self.count < limits.minimum && !distributed {
            return Verdict::BelowMinimum;
        }
        if self.reported {
            return Verdict::Reported;
        }
        if self.in_outage {
            return Verdict::Outage;
        }
        if !self.counter.is_account() && (float(self.count)) < self.excused() {
            return Verdict::SharedAddress;
        }
        // Over a day, an address that explains its network has long had a finding of its own.
        if self.counter.is_network() && self.span == Span::Fast && self.spread < MIN_NETWORK_SPREAD {
            return Verdict::OneAddress;
        }
        if self.count >= limits.ceiling || distributed {
            return Verdict::Spike;
        }
        self.against_baseline(self.count)
    }

    /// Failing accounts that the succeeding ones excuse.
    pub(crate) fn excused(&self) -> f64 {
        // A guest is imagined where strangers are judged: no number of them means anything while everybody is one.
        let succeeding = self.succeeding.max(u64::from(self.counter.is_fan_out()));
        self.thresholds.guard * self.phi * float(succeeding)
    }

    fn against_baseline(&self, count: u64) -> Verdict {
        if float(count) < self.limits().factor * self.expectation.expected(self.exposure) {
            Verdict::WithinFactor
        // One less: the window is judged at a failure, and given that one the others are still Poisson.
        } else if self.probability(count) > self.chance {
            Verdict::CouldBeChance
        } else {
            Verdict::Spike
        }
    }

    fn probability(&self, count: u64) -> f64 {
        self.expectation.chance(count.saturating_sub(1), self.exposure)
    }

    /// Probability that chance alone gives this window.
    pub(crate) fn by_chance(&self) -> f64 {
        self.probability(self.count)
    }

    /// Whether an open episode is still being fed: a tenth of the factor or half of the minimum, so that it does not flicker.
    pub(crate) fn keeps_open(&self) -> bool {
        let limits = self.limits();
        match self.span {
            // Any failure: the count starts anew when the finding opens, and a patient attacker makes few.
            Span::Day => true,
            Span::Fast => {
                self.count * 2 >= limits.minimum
                    && float(self.count) >= limits.factor / 10.0 * self.expectation.expected(self.exposure)
            }
        }
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
        rounded(float(self.count) / self.floored_expectation(), 10.0)
    }

    fn floored_expectation(&self) -> f64 {
        self.expectation.expected(self.exposure).max(EXPECTED_FLOOR)
    }

    /// The smallest count that would have fired.
    pub(crate) fn threshold(&self) -> u64 {
        let limits = self.limits();
        let excused = self.excused();
        (limits.minimum..limits.ceiling)
            .find(|count| {
                (self.counter.is_account() || float(*count) >= excused)
                    && self.against_baseline(*count) == Verdict::Spike
            })
            .unwrap_or(limits.ceiling)
    }

    /// What was normal, for the finding.
    pub(crate) fn baseline(&self) -> BaselineEvidence {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "seconds of a few weeks, never negative"
        )]
        let observed_seconds = self.expectation.observed_seconds as u64;
        BaselineEvidence {
            source: self.expectation.source,
            per_day: rounded(self.expectation.expected(86_400.0), 1000.0),
            observed_seconds,
            learning: self.learning,
        }
    }
}

/// `value` to the given fraction of one: the digits a person reads, and the same bits on every machine.
pub(crate) fn rounded(value: f64, fraction: f64) -> f64 {
    (value * fraction).round() / fraction
}

#[expect(clippy::cast_precision_loss, reason = "counts of a day, far below 2^52")]
pub(crate) const fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::Config;
    use crate::detect::baseline::Baseline;
    use crate::detect::population::Population;

    fn judgement(thresholds: &Thresholds, counter: Counter, expectation: Expectation) -> Judgement<'_> {
        Judgement {
            thresholds,
            counter,
            span: Span::Fast,
            expectation,
            start: Timestamp(0),
            now: Timestamp(400_000),
            exposure: 400.0,
            count: 0,
            succeeding: 0,
            spread: 3,
            phi: 0.2,
            chance: 1e-7,
            in_outage: false,
            reported: false,
            learning: Learning::Learned,
        }
    }

    fn judge(counter: Counter, count: u64, succeeding: u64, expectation: Expectation) -> Verdict {
        let thresholds = Config::default().thresholds();
        Judgement { count, succeeding, ..judgement(&thresholds, counter, expectation) }.verdict()
    }

    fn fresh(counter: Counter) -> Expectation {
        Baseline::default().expectation(&Population::default(), counter)
    }

    /// Fails `per_day` times a day and has done so for a month.
    fn settled(counter: Counter, per_day: u32) -> Expectation {
        let (mut baseline, population) = (Baseline::default(), Population::default());
        // The winsor lets a young baseline grow slowly; a long history is what is meant here.
        for number in 0..400 * 6 {
            baseline.learn(number, u64::from(per_day / 6), &population, counter);
        }
        baseline.expectation(&population, counter)
    }

    #[test]
    fn an_unknown_address_fires_at_the_minimum_and_not_before() {
        assert_eq!(judge(Counter::Address, 7, 0, fresh(Counter::Address)), Verdict::BelowMinimum);
        assert_eq!(judge(Counter::Address, 8, 0, fresh(Counter::Address)), Verdict::Spike);
    }

    #[test]
    fn a_busy_address_needs_fifty_times_its_own_normal() {
        // 102 a day is 0.47 in 400 s: 50 times that is 24.
        let expectation = settled(Counter::Address, 102);
        let normal = expectation.expected(400.0);
        assert!((0.41..0.49).contains(&normal), "{normal}");
        assert_eq!(judge(Counter::Address, 20, 0, expectation), Verdict::WithinFactor);
        assert_eq!(judge(Counter::Address, 25, 0, expectation), Verdict::Spike);
    }

    #[test]
    fn an_address_from_which_more_accounts_get_in_than_fail_is_shared() {
        assert_eq!(judge(Counter::Address, 30, 31, fresh(Counter::Address)), Verdict::SharedAddress);
        assert_eq!(judge(Counter::Address, 30, 30, fresh(Counter::Address)), Verdict::Spike);
        assert_eq!(judge(Counter::Account, 30, 31, fresh(Counter::Account)), Verdict::Spike);
    }

    #[test]
    fn an_account_that_fails_from_many_networks_needs_few_failures() {
        let thresholds = Config::default().thresholds();
        let from = |spread, count| {
            Judgement { count, spread, ..judgement(&thresholds, Counter::Account, fresh(Counter::Account)) }.verdict()
        };
        assert_eq!(from(4, 14), Verdict::BelowMinimum);
        assert_eq!(from(5, 5), Verdict::BelowMinimum);
        assert_eq!(from(5, 6), Verdict::Spike);
    }

    #[test]
    fn the_ceiling_fires_whatever_was_learned() {
        let expectation = settled(Counter::Address, 9_000);
        assert_eq!(judge(Counter::Address, 59, 0, expectation), Verdict::WithinFactor);
        assert_eq!(judge(Counter::Address, 60, 0, expectation), Verdict::Spike);
    }

    #[test]
    fn the_printed_threshold_is_the_smallest_count_that_fires() {
        let thresholds = Config::default().thresholds();
        for succeeding in [0, 40] {
            let judgement =
                Judgement { succeeding, ..judgement(&thresholds, Counter::Address, settled(Counter::Address, 100)) };
            let threshold = judgement.threshold();
            assert_ne!(Judgement { count: threshold - 1, ..judgement }.verdict(), Verdict::Spike);
            assert_eq!(Judgement { count: threshold, ..judgement }.verdict(), Verdict::Spike);
        }
    }
}
