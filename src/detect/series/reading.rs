//! What does the series show? The figures behind an alarm, for evidence and for explanation.

use serde::{Deserialize, Serialize};

use super::bucket::start_of;
use super::judge::{Limits, cold_expected, cold_threshold};
use super::season::{FLOOR, Source};
use super::{BUCKETS_PER_HOUR, Maturity, Series};
use crate::event::Timestamp;

/// Why a series is too high.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Alarm {
    /// Nothing is learned yet, and failures outnumber sign-ins.
    Ceiling,
    /// One bucket is far out of proportion.
    Spike,
    /// The excess of hours has added up.
    Drift,
}

/// Figures over `[start, end)`, for evidence and explanation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Reading {
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
    /// Independent failures.
    pub(crate) observed: u64,
    /// What would have been normal, the sign-ins of the same time considered.
    pub(crate) expected: f64,
    /// From how many failures on it is an alarm; for the drift, what the score is held against is in the limits.
    pub(crate) threshold: Option<u64>,
    /// Variance of the counts over their mean.
    pub(crate) variance: f64,
    /// The sum of the drift alarm.
    pub(crate) score: f64,
    pub(crate) maturity: Maturity,
    pub(crate) source: Source,
    /// Hours that the expectation rests on, those that wait to be learned included.
    pub(crate) learned_hours: u32,
}

impl Reading {
    /// Failures beyond the expectation; negative when there are fewer.
    #[cfg(test)]
    pub(crate) fn excess(&self) -> f64 {
        as_float(self.observed) - self.expected
    }

    /// How many times the expectation; the expectation is at least 0.2, so it stays a figure with a meaning.
    pub(crate) fn ratio(&self) -> f64 {
        as_float(self.observed) / if self.expected < FLOOR { FLOOR } else { self.expected }
    }
}

impl Series {
    /// The figures behind `alarm`.
    pub(crate) fn reading(&self, alarm: Alarm, limits: &Limits) -> Reading {
        let is_over = self.running.over || self.previous.over;
        match alarm {
            Alarm::Ceiling if self.hour_over && !is_over => self.hour(limits),
            Alarm::Ceiling | Alarm::Spike => self.bucket(limits),
            Alarm::Drift => self.drift(limits),
        }
    }

    /// The running bucket, or the one before when only that is over.
    pub(crate) fn bucket(&self, limits: &Limits) -> Reading {
        let open = if self.previous.over && !self.running.over { &self.previous } else { &self.running };
        let judge = self.judge_of();
        let expected = judge.expected(open.normal, open.successes, limits);
        Reading {
            start: start_of(open.number),
            end: start_of(open.number + 1),
            observed: open.failures.into(),
            expected,
            threshold: Some(judge.threshold(open.normal, expected, limits)),
            variance: self.spread.factor(expected),
            source: open.normal.source,
            ..self.drift(limits)
        }
    }

    /// The running bucket and the eleven before it, against the ceiling of a series that has learned nothing.
    pub(crate) fn hour(&self, limits: &Limits) -> Reading {
        let (failures, successes) = self.last_hour();
        let expected = cold_expected(successes, limits);
        Reading {
            start: start_of(self.running.number.saturating_sub(BUCKETS_PER_HOUR - 1)),
            end: start_of(self.running.number + 1),
            observed: failures,
            expected,
            threshold: Some(cold_threshold(expected, limits)),
            source: Source::Ceiling,
            ..self.drift(limits)
        }
    }

    /// Everything since the drift alarm's sum was last 0, the open buckets included.
    pub(crate) fn drift(&self, limits: &Limits) -> Reading {
        let drift = self.drift_with_open(limits);
        Reading {
            start: start_of(if drift.expected > 0.0 { drift.since } else { self.running.number }),
            end: start_of(self.running.number + 1),
            observed: drift.observed,
            expected: drift.expected,
            threshold: None,
            variance: self.spread.factor(self.running.normal.failures),
            score: drift.score,
            maturity: self.maturity(),
            source: self.running.normal.source,
            learned_hours: self.known / BUCKETS_PER_HOUR,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a count of hours, far below 2^52")]
fn as_float(count: u64) -> f64 {
    count as f64
}
