//! What is counted in one bucket, while it counts and after.
//!
//! Invariant: the counts are those of the sketches; the threshold is worked out again only when it may matter.

use serde::{Deserialize, Serialize};

use super::BUCKET_MILLIS;
use super::judge::{Judge, Limits};
use super::season::Normal;
use crate::detect::sketch::Sketch;
use crate::event::Timestamp;

/// A bucket that still counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Open {
    pub(super) number: u32,
    pub(super) failing: Sketch,
    pub(super) succeeding: Sketch,
    /// Failures taken back.
    pub(super) redeemed: u32,
    pub(super) failures: u32,
    pub(super) successes: u32,
    pub(super) normal: Normal,
    /// From so many failures on it is a spike, as of `judged_with` sign-ins. More sign-ins only raise it.
    threshold: u64,
    pub(super) judged_with: Option<u32>,
    pub(super) over: bool,
}

/// What is kept of a bucket that counts no more.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Closed {
    pub(super) number: u32,
    pub(super) failures: u32,
    pub(super) successes: u32,
    /// What was expected of it while it was open; nothing if it was judged by the ceilings.
    pub(super) expected: Option<f64>,
}

impl Open {
    /// Nothing counted yet.
    pub(super) fn new(number: u32, normal: Normal) -> Self {
        Self {
            number,
            failing: Sketch::default(),
            succeeding: Sketch::default(),
            redeemed: 0,
            failures: 0,
            successes: 0,
            normal,
            threshold: 0,
            judged_with: None,
            over: false,
        }
    }

    /// Looks again whether it is over.
    pub(super) fn judge(&mut self, judge: Judge, limits: &Limits) {
        let failures = u64::from(self.failures);
        self.over = false;
        // Where counting becomes estimating, sign-ins may look fewer than they were judged with.
        let is_lower_bound = self.judged_with.is_some_and(|with| with <= self.successes);
        if failures < limits.minimum.min(limits.cold_minimum) || is_lower_bound && failures < self.threshold {
            return;
        }
        if self.judged_with != Some(self.successes) {
            let expected = judge.expected(self.normal, self.successes, limits);
            self.threshold = judge.threshold(self.normal, expected, limits);
            self.judged_with = Some(self.successes);
        }
        self.over = failures >= self.threshold;
    }
}

/// The bucket of a moment, counted from the epoch; moments before it count as the epoch.
pub(super) fn bucket_of(at: Timestamp) -> u32 {
    u32::try_from(at.0.max(0) / BUCKET_MILLIS).unwrap_or(u32::MAX - 1)
}

/// The start of a bucket.
pub(super) fn start_of(number: u32) -> Timestamp {
    Timestamp(i64::from(number) * BUCKET_MILLIS)
}
