//! How far do the counts stray from what is expected, when nobody attacks?
//!
//! Sign-ins come in crowds: the variance of a count is more than its mean, by a factor that grows with the mean. Two
//! figures are learned, and the larger one holds:
//! - the plain factor, the mean of `(X - mu)^2 / mu`: what failures that come in twos and threes look like at any hour;
//! - the crowding `c` of `1 + c mu` (negative binomial): the days and hours that are busier than usual, which a mean over
//!   night and day would hide just when they matter.
//!
//! Invariant: a bucket counts at most three times its expectation and 3 more, so that one outlier does not blind the alarms.

use serde::{Deserialize, Serialize};

/// The factor is never less: a count is Poisson at best, and the expectation is not exact.
const LEAST: f64 = 1.1;
/// Nor is the plain factor more: a series that says nothing.
const MOST: f64 = 20.0;
/// Before anything is known.
const FIRST: f64 = 2.0;
/// Crowding before anything is known: a standard deviation of 45 % beyond Poisson.
const FIRST_CROWDING: f64 = 0.2;
/// Nor is the crowding more: a standard deviation of 100 %.
const MOST_CROWDING: f64 = 1.0;
/// Weight of one bucket: a week of them.
const WEIGHT: f64 = 1.0 / 2016.0;
/// A bucket counts at most so many times its expectation, and as many more.
const WINSOR: f64 = 3.0;

/// What was learned of the variance.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Spread {
    plain: f64,
    /// Decayed sum of `(X - mu)^2 - mu`.
    beyond: f64,
    /// Decayed sum of `mu^2`.
    squares: f64,
}

impl Default for Spread {
    fn default() -> Self {
        Self { plain: FIRST, beyond: FIRST_CROWDING, squares: 1.0 }
    }
}

impl Spread {
    /// Variance over mean of a bucket where `expected` (above 0) failures are normal; above 1.
    pub(super) fn factor(self, expected: f64) -> f64 {
        let crowded = LEAST + (self.beyond / self.squares).clamp(0.0, MOST_CROWDING) * expected;
        self.plain.clamp(LEAST, MOST).max(crowded)
    }

    /// A quiet bucket had so many failures.
    pub(super) fn learn(&mut self, failures: f64, expected: f64) {
        let stray = failures.min(WINSOR * (expected + 1.0)) - expected;
        let square = stray * stray;
        self.plain += WEIGHT * (square / expected - self.plain);
        self.beyond += square - expected - WEIGHT * self.beyond;
        self.squares += expected * expected - WEIGHT * self.squares;
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::traffic::Random;
    use super::*;

    #[test]
    fn it_finds_the_variance_of_day_and_night() {
        let mut random = Random::new(3);
        let mut spread = Spread::default();
        for bucket in 0..40_000 {
            let mean = if bucket % 2 == 0 { 1.0 } else { 50.0 };
            let factor = random.gamma(5.0);
            spread.learn(random.poisson(mean * factor).into(), mean);
        }
        // 1 + 50/5; at night the plain mean of 1.2 and 11 holds, which is on the safe side.
        let (day, night) = (spread.factor(50.0), spread.factor(1.0));
        assert!((8.5..12.5).contains(&day), "{day}");
        assert!((4.5..7.5).contains(&night), "{night}");
    }

    #[test]
    fn one_outlier_moves_it_little() {
        let mut spread = Spread::default();
        for _ in 0..20_000 {
            spread.learn(3.0, 2.0);
        }
        let before = spread.factor(2.0);
        spread.learn(1e6, 2.0);
        assert!(spread.factor(2.0) - before < 0.05, "{before} {}", spread.factor(2.0));
    }
}
