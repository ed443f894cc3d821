//! The scenarios of `CrowdSec` for brute force: three leaky buckets and one that looks for a steady slow pace.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;

use super::{Alert, Comparator, HOUR, MINUTE, Seen};

/// After an overflow the address is left alone for so long.
const BLACKHOLE: i64 = MINUTE;

#[derive(Clone, Debug, Default)]
struct Bucket {
    level: f64,
    at: i64,
    accounts: HashSet<u64>,
    blackhole_until: i64,
}

/// A leaky bucket per address: every failure adds one, one leaks out per `leak`, what exceeds `capacity` overflows.
#[derive(Clone, Debug)]
pub struct Leaky {
    name: &'static str,
    capacity: f64,
    leak: i64,
    /// Whether only the first failure of an account enters.
    distinct: bool,
    buckets: HashMap<IpAddr, Bucket>,
    swept: i64,
}

impl Leaky {
    fn new(name: &'static str, capacity: f64, leak: i64, distinct: bool) -> Self {
        Self { name, capacity, leak, distinct, buckets: HashMap::new(), swept: 0 }
    }

    pub fn bf() -> Self {
        Self::new("CrowdSec bf", 5.0, 10_000, false)
    }

    pub fn user_enum() -> Self {
        Self::new("CrowdSec user-enum", 5.0, 10_000, true)
    }

    pub fn slow_bf() -> Self {
        Self::new("CrowdSec slow-bf", 10.0, MINUTE, false)
    }

    fn sweep(&mut self, at: i64) {
        if at - self.swept >= MINUTE {
            self.swept = at;
            let leak = self.leak as f64;
            self.buckets
                .retain(|_, bucket| (at - bucket.at) as f64 / leak < bucket.level || at < bucket.blackhole_until);
        }
    }
}

impl Comparator for Leaky {
    fn name(&self) -> &'static str {
        self.name
    }

    fn observe(&mut self, seen: &Seen, alerts: &mut Vec<Alert>) {
        self.sweep(seen.at);
        if !seen.failed {
            return;
        }
        let bucket = self.buckets.entry(seen.ip).or_default();
        if seen.at < bucket.blackhole_until {
            return;
        }
        let level = bucket.level - (seen.at - bucket.at) as f64 / self.leak as f64;
        if level <= 0.0 {
            // An empty bucket is thrown away, and with it who was in it.
            *bucket = Bucket::default();
        }
        if self.distinct && !bucket.accounts.insert(seen.account) {
            return;
        }
        bucket.level = level.max(0.0) + 1.0;
        bucket.at = seen.at;
        if bucket.level > self.capacity {
            *bucket = Bucket { blackhole_until: seen.at + BLACKHOLE, ..Bucket::default() };
            alerts.push(Alert::at_once(seen.at, seen.ip));
        }
    }

    fn fork(&self) -> Box<dyn Comparator> {
        Box::new(self.clone())
    }
}

/// How many failures in a row a pace is taken from.
const PACED: usize = 4;
/// The pace that is slow enough to be meant to hide.
const SLOW_PACE: i64 = 10 * MINUTE;
/// A bucket without a failure for so long is thrown away.
const KEPT: i64 = 2 * HOUR;

/// Four failures of an address whose median gap is above ten minutes; a success of the address forgives all.
#[derive(Clone, Debug, Default)]
pub struct TimeBased {
    failures: HashMap<IpAddr, VecDeque<i64>>,
    swept: i64,
}

impl Comparator for TimeBased {
    fn name(&self) -> &'static str {
        "CrowdSec time-based"
    }

    fn observe(&mut self, seen: &Seen, alerts: &mut Vec<Alert>) {
        if seen.at - self.swept >= HOUR {
            self.swept = seen.at;
            self.failures.retain(|_, times| times.back().is_some_and(|last| seen.at - last <= KEPT));
        }
        if !seen.failed {
            self.failures.remove(&seen.ip);
            return;
        }
        let times = self.failures.entry(seen.ip).or_default();
        if times.back().is_some_and(|last| seen.at - last > KEPT) {
            times.clear();
        }
        if times.len() == PACED {
            times.pop_front();
        }
        times.push_back(seen.at);
        let mut gaps: Vec<i64> = times.iter().zip(times.iter().skip(1)).map(|(from, to)| to - from).collect();
        gaps.sort_unstable();
        if times.len() == PACED && gaps.get(gaps.len() / 2).is_some_and(|median| *median > SLOW_PACE) {
            self.failures.remove(&seen.ip);
            alerts.push(Alert::at_once(seen.at, seen.ip));
        }
    }

    fn fork(&self) -> Box<dyn Comparator> {
        Box::new(self.clone())
    }
}
