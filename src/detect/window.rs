//! What one entity did in the last minutes: exact failure counts, distinct estimates, successes.
//!
//! Two windows on event time share one record:
//! - the *ring*: 11 half-minutes, so the count covers between 5 and 5½ minutes up to now and never less than a true
//!   five-minute window. It is exact for the interval it reports (up to 65,535 failures in one half-minute).
//! - the *generations*: the running aligned five minutes and the five before, so distinct members are known over the last
//!   5 to 10 minutes, again with the exact interval reported.
//!
//! Invariant: an event is counted where it belongs by its own time, in whatever order it arrives, as long as its
//! half-minute (its five minutes) is still in the window; [`Window::add_failure`] says when it is not.
//!
//! Not here: what is normal, and what is too much.

use serde::{Deserialize, Serialize};

use super::distinct::{estimate_32, estimate_64, is_saturated};
use crate::event::Timestamp;

/// Length of a ring bucket.
pub(crate) const BUCKET_MILLIS: i64 = 30_000;
/// Ring buckets: ten full ones and the running one.
const BUCKETS: u32 = 11;
/// Ring buckets in a generation.
pub(crate) const BUCKETS_PER_GENERATION: u32 = 10;
/// Length of a generation in seconds.
pub(crate) const GENERATION_SECONDS: u32 = 300;

/// A half-minute of event time, counted from the epoch.
pub(crate) type Bucket = u32;

/// The bucket of a moment; moments before the epoch count as the epoch.
pub(crate) fn bucket_of(at: Timestamp) -> Bucket {
    u32::try_from(at.0.max(0) / BUCKET_MILLIS).unwrap_or(u32::MAX)
}

/// The start of a bucket.
pub(crate) fn start_of(bucket: Bucket) -> Timestamp {
    Timestamp(i64::from(bucket) * BUCKET_MILLIS)
}

/// The generation a bucket lies in.
pub(crate) fn generation_of(bucket: Bucket) -> u32 {
    bucket / BUCKETS_PER_GENERATION
}

/// One generation's counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Generation {
    /// Who failed (or, for an account, from where), hashed to 64 bits.
    pub(crate) failing: u64,
    /// Who succeeded.
    pub(crate) succeeding: u64,
    /// Which addresses (of a network) or networks (of an account) failed.
    pub(crate) spread: u32,
    /// Failures.
    pub(crate) failures: u32,
    /// Successes.
    pub(crate) successes: u32,
}

/// The state of both windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Window {
    current: Generation,
    previous: Generation,
    /// The newest bucket seen; every slot of the ring is relative to it.
    newest: Bucket,
    ring: [u16; BUCKETS as usize],
}

/// Figures of one window, for the interval `[start, now]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) start: Timestamp,
    pub(crate) failures: u64,
    pub(crate) successes: u64,
    /// Distinct who failed.
    pub(crate) distinct: u64,
    /// Distinct who succeeded.
    pub(crate) distinct_successes: u64,
    /// Distinct addresses or networks among the failures.
    pub(crate) spread: u64,
}

impl Window {
    /// An empty window whose newest bucket is `bucket`.
    pub(crate) fn starting_at(bucket: Bucket) -> Self {
        Self { newest: bucket, ..Self::default() }
    }

    /// The newest bucket seen.
    pub(crate) fn newest(&self) -> Bucket {
        self.newest
    }

    /// Makes `bucket` the newest, forgetting what falls out. `leaving` is called for each generation that had counts and
    /// has just left the window, oldest first, with its number.
    pub(crate) fn roll(&mut self, bucket: Bucket, mut leaving: impl FnMut(u32, Generation)) {
        if bucket <= self.newest {
            return;
        }
        for gone in 0..(bucket - self.newest).min(BUCKETS) {
            if let Some(slot) = self.ring.get_mut(slot(self.newest + 1 + gone)) {
                *slot = 0;
            }
        }
        let (from, to) = (generation_of(self.newest), generation_of(bucket));
        self.newest = bucket;
        if to == from {
            return;
        }
        leaving(from.wrapping_sub(1), self.previous);
        if to > from + 1 {
            leaving(from, self.current);
            self.previous = Generation::default();
        } else {
            self.previous = self.current;
        }
        self.current = Generation::default();
    }

    /// Counts a failure at `bucket`, which must not be newer than the newest. `who` and `spread` choose the bits.
    /// Answers whether the ring still covers the bucket; if not, the failure is too late for it.
    pub(crate) fn add_failure(&mut self, bucket: Bucket, who: u64, spread: u64) -> bool {
        if let Some(generation) = self.generation_mut(bucket) {
            generation.failing |= 1 << (who & 63);
            generation.spread |= 1 << (spread & 31);
            generation.failures = generation.failures.saturating_add(1);
        }
        let in_ring = self.newest.saturating_sub(bucket) < BUCKETS;
        if in_ring && let Some(count) = self.ring.get_mut(slot(bucket)) {
            *count = count.saturating_add(1);
        }
        in_ring
    }

    /// Counts a success at `bucket`, which must not be newer than the newest.
    pub(crate) fn add_success(&mut self, bucket: Bucket, who: u64) {
        if let Some(generation) = self.generation_mut(bucket) {
            generation.succeeding |= 1 << (who & 63);
            generation.successes = generation.successes.saturating_add(1);
        }
    }

    fn generation_mut(&mut self, bucket: Bucket) -> Option<&mut Generation> {
        match generation_of(self.newest).checked_sub(generation_of(bucket))? {
            0 => Some(&mut self.current),
            1 => Some(&mut self.previous),
            _ => None,
        }
    }

    /// Failures in the last 5 to 5½ minutes before the end of the newest bucket.
    pub(crate) fn ring_failures(&self) -> u64 {
        self.ring.iter().map(|count| u64::from(*count)).sum()
    }

    /// Start of the interval that [`Window::ring_failures`] is exact for.
    pub(crate) fn ring_start(&self) -> Timestamp {
        start_of(self.newest.saturating_sub(BUCKETS - 1))
    }

    /// Figures over the running and the previous five minutes.
    pub(crate) fn generations(&self) -> Counts {
        let failures = u64::from(self.current.failures) + u64::from(self.previous.failures);
        let successes = u64::from(self.current.successes) + u64::from(self.previous.successes);
        let failing = self.current.failing | self.previous.failing;
        let succeeding = self.current.succeeding | self.previous.succeeding;
        let distinct =
            if is_saturated(failing) { estimate_64(failing).max(failures / 2) } else { estimate_64(failing) };
        // Padding with a handful of own accounts cannot fill the bits, so a full sketch is an honest crowd.
        let distinct_successes =
            if is_saturated(succeeding) { successes * 9 / 10 } else { estimate_64(succeeding).min(successes) };
        Counts {
            start: self.generations_start(),
            failures,
            successes,
            distinct: distinct.min(failures),
            distinct_successes,
            spread: estimate_32(self.current.spread | self.previous.spread).min(failures),
        }
    }

    /// Start of the interval that [`Window::generations`] is exact for.
    pub(crate) fn generations_start(&self) -> Timestamp {
        start_of(generation_of(self.newest).saturating_sub(1) * BUCKETS_PER_GENERATION)
    }
}

fn slot(bucket: Bucket) -> usize {
    (bucket % BUCKETS) as usize
}

#[cfg(test)]
mod tests;
