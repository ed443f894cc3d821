//! Draws from the distributions the traffic is made of.
//!
//! Invariant: the same seed gives the same draws.

use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;

/// A stream of draws.
#[derive(Clone, Debug)]
pub(super) struct Random(Pcg64Mcg);

/// Spreads `value` over all 64 bits (the finaliser of SplitMix64): what an account is, without keeping a table of it.
pub(super) const fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// `hash` as a number in `[0, 1)`.
#[expect(clippy::cast_precision_loss, reason = "the upper 53 bits fit exactly")]
pub(super) fn unit(hash: u64) -> f64 {
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(Pcg64Mcg::seed_from_u64(seed))
    }

    pub(super) fn bits(&mut self) -> u64 {
        self.0.random()
    }

    /// Uniform in `[0, 1)`.
    pub(super) fn unit(&mut self) -> f64 {
        self.0.random()
    }

    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Uniform in `0..bound`; 0 for a bound of 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.0.random_range(0..bound) }
    }

    /// Mean 0, variance 1.
    pub(super) fn normal(&mut self) -> f64 {
        // 1 - u lies in (0, 1]: its logarithm is finite.
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// e to a normal draw with these parameters.
    pub(super) fn log_normal(&mut self, mu: f64, sigma: f64) -> f64 {
        self.normal().mul_add(sigma, mu).exp()
    }

    /// Gamma with shape 1/2 and mean 1: the square of a normal draw.
    pub(super) fn gamma_half(&mut self) -> f64 {
        let draw = self.normal();
        draw * draw
    }

    /// Number of events where `mean` are expected.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0 and far below 2^63")]
    pub(super) fn poisson(&mut self, mean: f64) -> u64 {
        // Above this the normal approximation is within 2 % in the body, and the product below would take too long.
        if mean > 60.0 {
            return (mean + mean.sqrt() * self.normal()).round().max(0.0) as u64;
        }
        let limit = (-mean).exp();
        let mut product = self.unit();
        let mut count = 0;
        while product > limit {
            product *= self.unit();
            count += 1;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(mut draw: impl FnMut() -> f64) -> f64 {
        (0..200_000).map(|_| draw()).sum::<f64>() / 200_000.0
    }

    #[test]
    fn the_moments_are_right() {
        let mut random = Random::new(1);
        assert!(mean(|| random.normal()).abs() < 0.01);
        assert!((mean(|| random.normal().powi(2)) - 1.0).abs() < 0.02);
        assert!((mean(|| random.gamma_half()) - 1.0).abs() < 0.03);
        // The mean of a log-normal draw is e^(mu + sigma^2/2).
        assert!((mean(|| random.log_normal(2.1, 0.8)) - 11.245).abs() < 0.2);
        for expected in [0.3, 7.0, 59.0, 500.0_f64] {
            #[expect(clippy::cast_precision_loss, reason = "small counts")]
            let found = mean(|| random.poisson(expected) as f64);
            assert!((found - expected).abs() < 0.01 * expected.sqrt() + 0.005, "{found} for {expected}");
        }
    }
}
