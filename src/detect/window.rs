//! What one entity did in the last minutes and in the last day: failure counts, distinct estimates, successes.
//!
//! Three windows on event time share one record of 88 bytes:
//! - the *ring*: 11 half-minutes, so the count covers between 5 and 5½ minutes up to now and never less than a true
//!   five-minute window. It is exact for the interval it reports, up to 255 failures in one half-minute ([`Window::fast`]).
//! - the *generations*: the running aligned five minutes and the five before, so distinct members are known over the last
//!   5 to 10 minutes, again with the exact interval reported.
//! - the *day*: six slots of four hours, so 20 to 24 hours. What a slot counts is said by [`Unit`].
//!
//! Invariant: an event is counted where it belongs by its own time, in whatever order it arrives, as long as its
//! half-minute, five minutes or four hours is still in the window.
//!
//! Not here: what is normal (`baseline`), and what is too much (`rules`).

use serde::{Deserialize, Serialize};

use super::distinct::{estimate_32, estimate_64, is_saturated, is_saturated_32};
use crate::event::Timestamp;

/// Length of a ring bucket.
pub(crate) const BUCKET_MILLIS: i64 = 30_000;
/// Ring buckets: ten full ones and the running one.
const BUCKETS: u32 = 11;
/// Ring buckets in a generation.
pub(crate) const BUCKETS_PER_GENERATION: u32 = 10;
/// Ring buckets in a slot of the day.
const BUCKETS_PER_SLOT: u32 = 480;
/// Slots of the day.
pub(crate) const SLOTS: u32 = 6;
/// Length of a slot in seconds.
pub(crate) const SLOT_SECONDS: u32 = 4 * 3600;
/// A slot before the entity was known: nothing was counted and nothing may be learned from it.
const UNOBSERVED: u16 = u16::MAX;

/// A half-minute of event time, counted from the epoch.
pub(crate) type Bucket = u32;
/// Four hours of event time, counted from the epoch; six make a UTC day.
pub(crate) type Slot = u32;

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

/// The slot a bucket lies in.
pub(crate) fn slot_of(bucket: Bucket) -> Slot {
    bucket / BUCKETS_PER_SLOT
}

/// The start of a slot.
pub(crate) fn start_of_slot(slot: Slot) -> Timestamp {
    start_of(slot.saturating_mul(BUCKETS_PER_SLOT))
}

/// What the day counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Each member once a UTC day: a client that retries a stale password all day is one. Past some 40 members, each
    /// member once per 5 to 10 minutes.
    Independent,
    /// Each failure; the day's sketch then tells from how many networks they came.
    Each,
}

/// One of the windows, for the interval `[start, now]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) start: Timestamp,
    pub(crate) failures: u64,
    pub(crate) successes: u64,
    /// Distinct who failed.
    pub(crate) distinct: u64,
    /// Distinct who succeeded.
    pub(crate) succeeding: u64,
    /// Distinct addresses (of a network) or networks (of an account) among the failures.
    pub(crate) spread: u64,
}

/// The state of all three. Index 0 of a pair is the running generation, 1 the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Window {
    /// Who failed, hashed to 64 bits.
    failing: [u64; 2],
    /// Who succeeded, hashed to 32 bits.
    succeeding: [u32; 2],
    /// Which addresses (of a network) or networks (of an account) failed.
    spread: [u32; 2],
    failures: [u32; 2],
    day_failures: [u16; SLOTS as usize],
    day_successes: [u16; SLOTS as usize],
    successes: [u16; 2],
    /// The newest bucket seen; every bucket, generation and slot is relative to it.
    newest: Bucket,
    /// Members seen this UTC day ([`Unit::Independent`]), or the networks they came from ([`Unit::Each`]).
    day_seen: u32,
    ring: [u8; BUCKETS as usize],
}

impl Window {
    /// An empty window whose newest bucket is `bucket`.
    pub(crate) fn starting_at(bucket: Bucket) -> Self {
        let mut window = Self {
            failing: [0; 2],
            succeeding: [0; 2],
            spread: [0; 2],
            failures: [0; 2],
            day_failures: [UNOBSERVED; SLOTS as usize],
            day_successes: [0; SLOTS as usize],
            successes: [0; 2],
            newest: bucket,
            day_seen: 0,
            ring: [0; BUCKETS as usize],
        };
        if let Some(count) = window.day_failures.get_mut(place(slot_of(bucket))) {
            *count = 0;
        }
        window
    }

    /// The newest bucket seen.
    pub(crate) fn newest(&self) -> Bucket {
        self.newest
    }

    /// Makes `bucket` the newest, forgetting what falls out. `leaving` is called for each observed slot that has just left
    /// the day, oldest first, with its number, failures and successes; answers the first of the empty slots that passed
    /// by altogether and how many these were.
    pub(crate) fn roll(&mut self, bucket: Bucket, mut leaving: impl FnMut(Slot, u64, u64)) -> (Slot, u32) {
        if bucket <= self.newest {
            return (0, 0);
        }
        for gone in 0..(bucket - self.newest).min(BUCKETS) {
            if let Some(count) = self.ring.get_mut(ring_place(self.newest + 1 + gone)) {
                *count = 0;
            }
        }
        self.shift(generation_of(bucket) - generation_of(self.newest));
        let (from, to) = (slot_of(self.newest), slot_of(bucket));
        self.newest = bucket;
        if to == from {
            return (0, 0);
        }
        for slot in from + 1..=to.min(from + SLOTS) {
            let slots = self.day_failures.get_mut(place(slot)).zip(self.day_successes.get_mut(place(slot)));
            let Some((failures, successes)) = slots else { continue };
            if *failures != UNOBSERVED {
                leaving(slot.wrapping_sub(SLOTS), u64::from(*failures), u64::from(*successes));
            }
            (*failures, *successes) = (0, 0);
        }
        if from / SLOTS != to / SLOTS {
            self.day_seen = 0;
        }
        (from + 1, (to - from).saturating_sub(SLOTS))
    }

    fn shift(&mut self, generations: u32) {
        fn older<T: Default + Copy>(pair: &mut [T; 2], keep: bool) {
            let [current, previous] = pair;
            *previous = if keep { *current } else { T::default() };
            *current = T::default();
        }
        if generations == 0 {
            return;
        }
        let keep = generations == 1;
        older(&mut self.failing, keep);
        older(&mut self.succeeding, keep);
        older(&mut self.spread, keep);
        older(&mut self.failures, keep);
        older(&mut self.successes, keep);
    }

    /// Counts a failure at `bucket`, which must not be newer than the newest. `who` and `spread` choose the bits.
    /// Answers whether the ring still covers the bucket; if not, the failure is too late for it.
    pub(crate) fn add_failure(&mut self, bucket: Bucket, who: u64, spread: u64, unit: Unit) -> bool {
        let seen = self.any_failing();
        if let Some(generation) = self.generation(bucket) {
            add(&mut self.failing, generation, |bits| *bits |= 1 << (who & 63));
            add(&mut self.spread, generation, |bits| *bits |= 1 << (spread & 31));
            add(&mut self.failures, generation, |count| *count = count.saturating_add(1));
        }
        let weight = match unit {
            Unit::Independent => self.independent_weight(seen, who),
            Unit::Each => {
                self.day_seen |= 1 << (spread & 31);
                1
            }
        };
        self.add_to_day(bucket, weight);
        let in_ring = self.newest.saturating_sub(bucket) < BUCKETS;
        if in_ring && let Some(count) = self.ring.get_mut(ring_place(bucket)) {
            *count = count.saturating_add(1);
        }
        in_ring
    }

    /// By how much one more failure of `who` raises the number of independent ones, given the members `seen` in the last
    /// minutes: what the estimate grows by if it sets a new bit, so that the sum is the estimate.
    fn independent_weight(&mut self, seen: u64, who: u64) -> u64 {
        let before = self.day_seen;
        if is_saturated_32(before) {
            return estimate_64(seen | 1 << (who & 63)) - estimate_64(seen);
        }
        // Other bits of the hash than the generations use, so that the two sketches err independently.
        self.day_seen |= 1 << ((who >> 32) & 31);
        estimate_32(self.day_seen) - estimate_32(before)
    }

    fn add_to_day(&mut self, bucket: Bucket, weight: u64) {
        if weight == 0 || slot_of(self.newest).saturating_sub(slot_of(bucket)) >= SLOTS {
            return;
        }
        if let Some(count) = self.day_failures.get_mut(place(slot_of(bucket))) {
            let before = if *count == UNOBSERVED { 0 } else { *count };
            *count = before.saturating_add(u16::try_from(weight).unwrap_or(u16::MAX)).min(UNOBSERVED - 1);
        }
    }

    /// Counts a success at `bucket`, which must not be newer than the newest. Only one that earns `credit` counts among the
    /// distinct who succeeded.
    pub(crate) fn add_success(&mut self, bucket: Bucket, who: u64, credit: bool) {
        let before = self.any_succeeding();
        if let Some(generation) = self.generation(bucket) {
            if credit {
                add(&mut self.succeeding, generation, |bits| *bits |= 1 << (who & 31));
            }
            add(&mut self.successes, generation, |count| *count = count.saturating_add(1));
        }
        let weight = if is_saturated_32(before) {
            u64::from(credit)
        } else {
            estimate_32(self.any_succeeding()) - estimate_32(before)
        };
        if weight > 0
            && slot_of(self.newest).saturating_sub(slot_of(bucket)) < SLOTS
            && let Some(count) = self.day_successes.get_mut(place(slot_of(bucket)))
        {
            *count = count.saturating_add(u16::try_from(weight).unwrap_or(u16::MAX));
        }
    }

    /// The day's failures were reported: a finding that follows must rest on new ones.
    pub(crate) fn clear_day(&mut self) {
        for count in &mut self.day_failures {
            *count = if *count == UNOBSERVED { UNOBSERVED } else { 0 };
        }
        self.day_seen = 0;
    }

    fn generation(&self, bucket: Bucket) -> Option<usize> {
        match generation_of(self.newest).checked_sub(generation_of(bucket))? {
            0 => Some(0),
            1 => Some(1),
            _ => None,
        }
    }

    fn any_failing(&self) -> u64 {
        self.failing.iter().fold(0, |all, bits| all | bits)
    }

    fn any_succeeding(&self) -> u32 {
        self.succeeding.iter().fold(0, |all, bits| all | bits)
    }

    /// Start of the running and the previous five minutes.
    pub(crate) fn generations_start(&self) -> Timestamp {
        start_of(generation_of(self.newest).saturating_sub(1) * BUCKETS_PER_GENERATION)
    }

    /// Independent failures of the running and the previous five minutes: the cheap question asked of every failure.
    pub(crate) fn distinct(&self) -> u64 {
        let (failing, failures) = (self.any_failing(), self.generation_failures());
        let estimate = estimate_64(failing);
        if is_saturated(failing) { estimate.max(failures / 2).min(failures) } else { estimate.min(failures) }
    }

    fn generation_failures(&self) -> u64 {
        self.failures.iter().map(|count| u64::from(*count)).sum()
    }

    /// Figures over the running and the previous five minutes.
    pub(crate) fn generations(&self) -> Counts {
        let failures = self.generation_failures();
        let successes: u64 = self.successes.iter().map(|count| u64::from(*count)).sum();
        let succeeding = self.any_succeeding();
        let spread = self.spread.iter().fold(0, |all, bits| all | bits);
        Counts {
            start: self.generations_start(),
            failures,
            successes,
            distinct: self.distinct(),
            // Padding with a handful of own accounts cannot fill the bits, so a full sketch is an honest crowd.
            succeeding: if is_saturated_32(succeeding) {
                successes * 9 / 10
            } else {
                estimate_32(succeeding).min(successes)
            },
            spread: estimate_32(spread).min(failures),
        }
    }

    /// Failures of the last 5 to 5½ minutes and the start of the interval the figure is exact for; where a half-minute had
    /// more than the ring can hold, those of the generations.
    pub(crate) fn fast(&self) -> (Timestamp, u64) {
        if self.ring.contains(&u8::MAX) {
            return (self.generations_start(), self.generation_failures());
        }
        let count = self.ring.iter().map(|count| u64::from(*count)).sum();
        (start_of(self.newest.saturating_sub(BUCKETS - 1)), count)
    }

    /// What the day counted: `failures` and `distinct` are both in the day's [`Unit`], `succeeding` in distinct members
    /// per 5 to 10 minutes, `spread` the networks of an account since UTC midnight.
    pub(crate) fn day(&self) -> Counts {
        let failures =
            self.day_failures.iter().filter(|count| **count != UNOBSERVED).map(|count| u64::from(*count)).sum();
        let succeeding = self.day_successes.iter().map(|count| u64::from(*count)).sum();
        Counts {
            start: start_of_slot(slot_of(self.newest).saturating_sub(SLOTS - 1)),
            failures,
            successes: succeeding,
            distinct: failures,
            succeeding,
            spread: estimate_32(self.day_seen).min(failures),
        }
    }
}

fn add<T>(pair: &mut [T; 2], generation: usize, change: impl FnOnce(&mut T)) {
    if let Some(value) = pair.get_mut(generation) {
        change(value);
    }
}

fn ring_place(bucket: Bucket) -> usize {
    (bucket % BUCKETS) as usize
}

fn place(slot: Slot) -> usize {
    (slot % SLOTS) as usize
}

#[cfg(test)]
mod tests;
