//! What an episode asks of its series: whether the attack goes on, and to learn nothing until it is over.

use super::reading::Reading;
use super::{Limits, Series};

/// From this many times the expectation on, an attack that was found is still going on.
const GOING_ON: f64 = 1.5;

impl Series {
    /// Nothing is learned from now on.
    pub(crate) fn freeze(&mut self) {
        self.set_frozen(true);
    }

    /// The attack is over: learning goes on, and the next alarm needs evidence of its own.
    pub(crate) fn thaw(&mut self) {
        self.set_frozen(false);
        self.drift = super::Drift::default();
    }

    /// Whether the running bucket or the one before is in excess of what is normal.
    pub(crate) fn is_in_excess(&self, limits: &Limits) -> bool {
        let judge = self.judge_of();
        [&self.running, &self.previous].into_iter().any(|open| {
            let expected = judge.expected(open.normal, open.successes, limits);
            open.failures >= 2 && f64::from(open.failures) >= GOING_ON * expected
        })
    }

    /// Sign-ins that are normal in five minutes at this hour; 0 while nothing is learned.
    pub(crate) fn expected_sign_ins(&self) -> f64 {
        self.running.normal.successes
    }
}

impl Reading {
    /// The count at which the drift alarm would have been raised, had its evidence come all at once.
    pub(crate) fn drift_threshold(&self, limits: &Limits) -> u64 {
        let count = (limits.drift_threshold * self.variance + (limits.drift_ratio - 1.0) * self.expected)
            / libm::log(limits.drift_ratio);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of some hours")]
        {
            libm::ceil(count) as u64
        }
    }
}
