//! Simulated tenants: counts per bucket with a day, a week and more spread than a Poisson process has.

use crate::detect::series::bucket::start_of;
use crate::detect::series::{Alarm, Limits, Series};

/// Monday 2026-01-05, midnight UTC.
pub(in crate::detect::series) const MONDAY: u32 = 1_767_571_200 / 300;
pub(in crate::detect::series) const DAY: u32 = 288;
pub(in crate::detect::series) const WEEK: u32 = 7 * DAY;

pub(in crate::detect::series) struct Random(u64);

impl Random {
    pub(in crate::detect::series) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// Evenly in (0, 1): splitmix64.
    pub(in crate::detect::series) fn even(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64 + 1e-18
    }

    pub(in crate::detect::series) fn normal(&mut self) -> f64 {
        (-2.0 * self.even().ln()).sqrt() * (std::f64::consts::TAU * self.even()).cos()
    }

    pub(in crate::detect::series) fn poisson(&mut self, mean: f64) -> u32 {
        if mean > 60.0 {
            return (mean + mean.sqrt() * self.normal()).round().max(0.0) as u32;
        }
        let (limit, mut product, mut count) = ((-mean).exp(), self.even(), 0);
        while product > limit {
            product *= self.even();
            count += 1;
        }
        count
    }

    /// Mean 1, variance `1 / shape` (Marsaglia and Tsang; `shape >= 1`).
    pub(in crate::detect::series) fn gamma(&mut self, shape: f64) -> f64 {
        let d = shape - 1.0 / 3.0;
        loop {
            let x = self.normal();
            let v = (1.0 + x / (9.0 * d).sqrt()).powi(3);
            if v > 0.0 && self.even().ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v / shape;
            }
        }
    }
}

/// A tenant as the series sees it.
#[derive(Clone, Copy, Debug)]
pub(in crate::detect::series) struct Population {
    /// Failures in a bucket at the busiest hour of a working day.
    pub(in crate::detect::series) peak: f64,
    /// Accounts that get in per failure counted.
    pub(in crate::detect::series) successes: f64,
    /// Shape of the gamma factor of each bucket: 5 is a standard deviation of 45 % beyond Poisson.
    pub(in crate::detect::series) steadiness: f64,
    /// Standard deviation of the logarithm of each day's level.
    pub(in crate::detect::series) days: f64,
}

pub(in crate::detect::series) const OFFICE: Population =
    Population { peak: 5.0, successes: 8.0, steadiness: 10.0, days: 0.15 };

/// Between 0 and 1: night, a steep morning, a working day, an evening; two fifths of it at the weekend.
pub(in crate::detect::series) fn season(number: u32) -> f64 {
    let hour = f64::from(number % DAY) / 12.0;
    let day = match hour {
        7.0..9.0 => 0.1 + 0.45 * (hour - 7.0),
        9.0..17.0 => 1.0 - 0.3 * (std::f64::consts::PI * (hour - 9.0) / 8.0).sin(),
        17.0..23.0 => 1.0 - 0.15 * (hour - 17.0),
        _ => 0.1,
    };
    if (number - MONDAY) % WEEK >= 5 * DAY { day * 0.4 } else { day }
}

/// The tenant of one seed, bucket by bucket.
pub(in crate::detect::series) struct Tenant {
    pub(in crate::detect::series) series: Series,
    pub(in crate::detect::series) limits: Limits,
    population: Population,
    random: Random,
    level: f64,
    next: u32,
}

impl Tenant {
    pub(in crate::detect::series) fn new(population: Population, seed: u64, start: u32) -> Self {
        Self {
            series: Series::starting_at(start_of(start)),
            limits: Limits::default(),
            population,
            random: Random::new(seed),
            level: 1.0,
            next: start,
        }
    }

    /// What the population would fail in the next bucket, without its noise.
    pub(in crate::detect::series) fn mean(&self) -> f64 {
        self.population.peak * season(self.next)
    }

    /// One bucket with `crowd` times the usual traffic and `attack` more failures; the alarm that is up at its end.
    pub(in crate::detect::series) fn bucket(&mut self, crowd: f64, attack: u32) -> Option<Alarm> {
        let number = self.next;
        if number.is_multiple_of(DAY) {
            self.level = (self.population.days * self.random.normal()).exp();
        }
        let mean = self.mean() * self.level * crowd;
        let factor = self.random.gamma(self.population.steadiness);
        let failures = self.random.poisson(mean * factor) + attack;
        let successes = self.random.poisson(mean * self.population.successes);
        self.next += 1;
        put(&mut self.series, number, failures, successes, &self.limits);
        self.series.alarm()
    }

    pub(in crate::detect::series) fn quiet(&mut self, buckets: u32) {
        for _ in 0..buckets {
            self.bucket(1.0, 0);
        }
    }
}

/// The whole bucket at once: what its events would leave, without the sketches.
pub(in crate::detect::series) fn put(series: &mut Series, number: u32, failures: u32, successes: u32, limits: &Limits) {
    series.roll(start_of(number), limits);
    series.running.failures = failures;
    series.running.successes = successes;
    series.judge(limits);
}
