//! From how many failures on is a bucket too much?
//!
//! Invariant: within a bucket the threshold only rises, with the sign-ins. So one that was worked out with fewer of them is
//! a lower bound, and an event below it costs one comparison.

use super::drift::Scale;
use super::season::{Normal, Source};
use super::spread::Spread;
use super::{Maturity, tail};

/// Sign-ins added above and below before they are compared: a few more at night prove nothing.
const SUCCESS_OFFSET: f64 = 10.0;
/// How far sign-ins can raise the expectation.
const MAX_SCALE: f64 = 4.0;
/// The same while the week is not known: the first Monday after a quiet weekend is many times what was learned.
const MAX_SCALE_PROVISIONAL: f64 = 20.0;
/// While the week is not known, the drift alarm is tuned for so many times its ratio: the expectation itself is off by two
/// now and then.
const PROVISIONAL_DRIFT: f64 = 2.0;

/// Terms that the tail sums: beyond it is 0. Where three times the expectation is that far out, chance is no explanation.
const FAR: u64 = 10_000;

/// From where on it is too much. What changes here holds from the next bucket on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Limits {
    /// Fewer failures in a bucket are never a spike.
    pub(crate) minimum: u64,
    /// Nor is less than so many times the expectation.
    pub(crate) ratio: f64,
    /// Nor what chance gives with at least this probability per bucket.
    pub(crate) chance: f64,
    /// The ratio the drift alarm is tuned for; above 1.
    pub(crate) drift_ratio: f64,
    /// Its threshold, in nats of evidence; above 0.
    pub(crate) drift_threshold: f64,
    /// While nothing is learned: fewer failures in a bucket or in an hour are never too many,
    pub(crate) cold_minimum: u64,
    /// nor are fewer than `cold_factor` times this many per account that got in.
    pub(crate) failures_per_success: f64,
    /// See `failures_per_success`.
    pub(crate) cold_factor: f64,
    /// How many times more than usual fail where nobody attacks, at the moment: on the day of a forced reset everybody does.
    pub(crate) elsewhere: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            minimum: 20,
            ratio: 3.0,
            chance: 1e-7,
            drift_ratio: 2.0,
            drift_threshold: 20.0,
            cold_minimum: 50,
            failures_per_success: 0.2,
            cold_factor: 5.0,
            elsewhere: 1.0,
        }
    }
}

/// What a bucket is judged by, besides the limits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judge {
    pub(super) maturity: Maturity,
    pub(super) spread: Spread,
}

impl Judge {
    /// What the drift is held against.
    pub(super) fn scale(self, limits: &Limits) -> Scale {
        let ratio = if self.maturity == Maturity::Learned { 1.0 } else { PROVISIONAL_DRIFT } * limits.drift_ratio;
        Scale { ratio, threshold: limits.drift_threshold }
    }

    /// Failures that are normal in a bucket with so many sign-ins.
    pub(super) fn expected(self, normal: Normal, successes: u32, limits: &Limits) -> f64 {
        if self.is_cold(normal) {
            return cold_expected(successes, limits);
        }
        let most = if self.maturity == Maturity::Learned { MAX_SCALE } else { MAX_SCALE_PROVISIONAL };
        let scale = (f64::from(successes) + SUCCESS_OFFSET) / (normal.successes + SUCCESS_OFFSET);
        normal.failures * scale.clamp(1.0, most) * limits.elsewhere
    }

    /// Whether nothing is known of such a bucket, so that only the ceilings hold.
    pub(super) fn is_cold(self, normal: Normal) -> bool {
        self.maturity == Maturity::Learning || normal.source <= Source::Week
    }

    /// The fewest failures of a bucket that are too many where `expected` are normal.
    pub(super) fn threshold(self, normal: Normal, expected: f64, limits: &Limits) -> u64 {
        if self.is_cold(normal) {
            return cold_threshold(expected, limits);
        }
        let least = limits.minimum.max(ceiling(limits.ratio * expected));
        // Mean `expected`, variance so many times that. For very large means the first term underflows and the tail
        // is 0, which is right: there the ratio alone is far beyond chance.
        if least >= FAR {
            return least;
        }
        let variance = self.spread.factor(expected);
        let (shape, success) = (expected / (variance - 1.0), 1.0 - 1.0 / variance);
        let is_chance = |count| tail::negative_binomial_tail(count, shape, success) > limits.chance;
        if !is_chance(least) {
            return least;
        }
        // `low` is chance, `high` is not; beyond `FAR` the tail is 0, so `high` is found.
        let (mut low, mut high) = (least, least + 1);
        while is_chance(high) {
            (low, high) = (high, high + 2 * (high - low));
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if is_chance(middle) { low = middle } else { high = middle }
        }
        high
    }
}

/// Failures that are normal beside so many sign-ins, before anything is learned.
pub(super) fn cold_expected(successes: u32, limits: &Limits) -> f64 {
    limits.failures_per_success * (f64::from(successes) + SUCCESS_OFFSET) * limits.elsewhere
}

/// The fewest that are then too many.
pub(super) fn cold_threshold(expected: f64, limits: &Limits) -> u64 {
    limits.cold_minimum.max(ceiling(limits.cold_factor * expected))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and counts are not negative")]
fn ceiling(count: f64) -> u64 {
    libm::ceil(count) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const NORMAL: Normal = Normal { failures: 2.0, successes: 40.0, source: Source::Hour };

    fn learned() -> Judge {
        Judge { maturity: Maturity::Learned, spread: Spread::default() }
    }

    #[test]
    fn the_threshold_is_the_first_count_that_all_three_conditions_hold_for() {
        let limits = Limits::default();
        for stray in [0.0, 1.0, 2.0, 4.0] {
            for expected in [0.2, 1.0, 5.0, 17.0, 60.0, 900.0, 5000.0] {
                let mut judge = learned();
                for _ in 0..10_000 {
                    judge.spread.learn(20.0 * (1.0 + stray), 20.0);
                }
                let variance = judge.spread.factor(expected);
                let holds = |count: u64| {
                    let tail = tail::negative_binomial_tail(count, expected / (variance - 1.0), 1.0 - 1.0 / variance);
                    count >= 20 && count as f64 >= 3.0 * expected && tail < 1e-7
                };
                let threshold = judge.threshold(NORMAL, expected, &limits);
                assert!(holds(threshold) && !holds(threshold - 1), "{stray} {expected}: {threshold}");
            }
        }
    }

    #[test]
    fn sign_ins_raise_the_expectation_up_to_a_bound() {
        let (limits, normal) = (Limits::default(), NORMAL);
        assert_eq!(learned().expected(normal, 0, &limits), 2.0);
        assert_eq!(learned().expected(normal, 40, &limits), 2.0);
        assert_eq!(learned().expected(normal, 90, &limits), 4.0);
        assert_eq!(learned().expected(normal, 100_000, &limits), 8.0);
        let provisional = Judge { maturity: Maturity::Provisional, ..learned() };
        assert_eq!(provisional.expected(normal, 490, &limits), 20.0);
    }

    #[test]
    fn cold_it_is_too_much_when_failures_outnumber_sign_ins() {
        let (limits, normal) = (Limits::default(), Normal { source: Source::Week, ..NORMAL });
        let judge = learned();
        assert_eq!(judge.threshold(normal, judge.expected(normal, 0, &limits), &limits), 50);
        assert_eq!(judge.threshold(normal, judge.expected(normal, 5000, &limits), &limits), 5010);
        assert!(Judge { maturity: Maturity::Learning, ..judge }.is_cold(NORMAL));
    }
}
