//! Has the rate been higher than normal for a while? A CUSUM of counts against a moving expectation (Page 1954; for
//! counts Lucas 1985), divided by their variance factor.
//!
//! Each bucket adds `(ln rho X - (rho - 1) mu) / V`: what it says for "rho times the normal rate" against "normal".
//! The sum never falls below 0; at `h` it is an alarm. A rate of `rho'` times the normal one is noticed after about
//! `h V / (mu (rho' ln rho - rho + 1))` buckets; one below `(rho - 1) / ln rho` (1.44 for rho = 2) never is.
//!
//! Invariant: the sum is capped at 1.5 `h`, so that a long attack does not keep the alarm up for as long again.

use serde::{Deserialize, Serialize};

/// What the sum may reach, in thresholds.
const CAP: f64 = 1.5;
/// Below this share of the threshold an alarm may end.
const CALM: f64 = 0.25;
/// Buckets below it until it does: half an hour.
const CALM_BUCKETS: u32 = 6;

/// One closed or running bucket, as the sum sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Term {
    pub(super) number: u32,
    pub(super) observed: u32,
    pub(super) expected: f64,
    pub(super) variance: f64,
}

/// What the sum is held against.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    /// `rho`: the ratio it is tuned for.
    pub(super) ratio: f64,
    /// `h`: the alarm.
    pub(super) threshold: f64,
}

/// The running sum and what has gone into it since it was last 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Drift {
    pub(super) score: f64,
    /// First bucket since the sum was 0; meaningless while it is.
    pub(super) since: u32,
    /// Failures since then.
    pub(super) observed: u64,
    /// What was expected since then.
    pub(super) expected: f64,
    /// Whether the alarm is up.
    pub(super) raised: bool,
    calm: u32,
}

impl Drift {
    /// The sum as it would stand with this bucket.
    pub(super) fn with(mut self, term: Term, scale: Scale) -> Self {
        let gain =
            (libm::log(scale.ratio) * f64::from(term.observed) - (scale.ratio - 1.0) * term.expected) / term.variance;
        if self.score <= 0.0 && !self.raised {
            (self.since, self.observed, self.expected) = (term.number, 0, 0.0);
        }
        self.observed += u64::from(term.observed);
        self.expected += term.expected;
        let cap = CAP * scale.threshold;
        self.score = (self.score + gain).clamp(0.0, cap);
        self.raised |= self.score >= scale.threshold;
        self
    }

    /// This bucket is complete.
    pub(super) fn close(&mut self, term: Term, scale: Scale) {
        *self = self.with(term, scale);
        let is_calm = self.score < CALM * scale.threshold;
        self.calm = if self.raised && is_calm { self.calm + 1 } else { 0 };
        if self.calm >= CALM_BUCKETS {
            *self = Self::default();
        }
    }
}
