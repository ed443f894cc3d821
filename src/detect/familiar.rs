//! Who has signed in before, and from where: membership over the last month.
//!
//! Invariant: bounded by the entries given; a member is remembered for at least 30 days after it was last added unless the
//! set had to turn over early, which [`Familiar::span`] says. Forgetting makes a sign-in look new, never the other way.
//!
//! Two generations of 64-bit hashes; when the current one is 30 days old or full, it becomes the previous one.

use std::hash::{BuildHasher, Hasher};

use hashbrown::HashSet;
use serde::{Deserialize, Serialize};

use crate::event::Timestamp;

/// How long a member is remembered at least.
const GENERATION_MILLIS: i64 = 30 * 86_400_000;
/// Bytes one entry takes in the worst moment, right after its table has doubled.
const ENTRY_BYTES: usize = 20;

/// A set of hashes with a month's memory.
#[derive(Clone, Debug)]
pub(crate) struct Familiar {
    current: HashSet<u64, Unmixed>,
    previous: HashSet<u64, Unmixed>,
    since: Timestamp,
    span: i64,
    max: usize,
}

/// What a snapshot keeps, sorted, so that equal sets give equal bytes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Saved {
    current: Vec<u64>,
    previous: Vec<u64>,
    since: Timestamp,
    span: i64,
}

impl Familiar {
    /// An empty set that never takes more than `bytes`.
    pub(crate) fn new(bytes: usize) -> Self {
        Self {
            current: HashSet::default(),
            previous: HashSet::default(),
            since: Timestamp(0),
            span: GENERATION_MILLIS,
            max: (bytes / ENTRY_BYTES / 2).max(1),
        }
    }

    pub(crate) fn contains(&self, hash: u64) -> bool {
        self.current.contains(&hash) || self.previous.contains(&hash)
    }

    /// Remembers `hash` from event time `at` on.
    pub(crate) fn add(&mut self, hash: u64, at: Timestamp) {
        let age = at.millis_since(self.since);
        if age >= GENERATION_MILLIS || self.current.len() >= self.max {
            self.span = age.min(GENERATION_MILLIS);
            self.previous = std::mem::take(&mut self.current);
            self.since = at;
        }
        self.current.insert(hash);
    }

    /// Members.
    pub(crate) fn len(&self) -> usize {
        self.current.len() + self.previous.len()
    }

    /// Milliseconds a member is remembered for at least, by the last turn-over.
    pub(crate) fn span(&self) -> i64 {
        self.span
    }

    pub(crate) fn save(&self) -> Saved {
        let sorted = |set: &HashSet<u64, Unmixed>| {
            let mut all: Vec<u64> = set.iter().copied().collect();
            all.sort_unstable();
            all
        };
        Saved { current: sorted(&self.current), previous: sorted(&self.previous), since: self.since, span: self.span }
    }

    pub(crate) fn restore(saved: Saved, bytes: usize) -> Self {
        Self {
            current: saved.current.into_iter().collect(),
            previous: saved.previous.into_iter().collect(),
            since: saved.since,
            span: saved.span,
            ..Self::new(bytes)
        }
    }
}

/// The members are hashes already.
#[derive(Clone, Copy, Debug, Default)]
struct Unmixed;

struct Identity(u64);

impl BuildHasher for Unmixed {
    type Hasher = Identity;

    fn build_hasher(&self) -> Identity {
        Identity(0)
    }
}

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;

    #[test]
    fn a_member_is_remembered_for_a_month_and_forgotten_after_two() {
        let mut familiar = Familiar::new(1 << 20);
        familiar.add(1, Timestamp(0));
        for day in 0..=60 {
            familiar.add(1000, Timestamp(day * DAY));
            assert_eq!(familiar.contains(1), day < 60, "day {day}");
        }
        assert!(familiar.contains(1000));
    }

    #[test]
    fn it_stays_in_its_bound_and_says_how_far_back_it_reaches() {
        let mut familiar = Familiar::new(20 * 2 * 1000);
        for number in 0..100_000 {
            familiar.add(number, Timestamp(i64::try_from(number).unwrap() * 1000));
            assert!(familiar.len() <= 2000);
        }
        assert!(familiar.contains(99_999) && familiar.contains(99_000) && !familiar.contains(90_000));
        assert_eq!(familiar.span(), 1000 * 1000);
    }

    #[test]
    fn a_restored_set_is_the_saved_one() {
        let mut familiar = Familiar::new(20 * 2 * 10);
        (0..15).for_each(|number| familiar.add(number, Timestamp(0)));
        let restored = Familiar::restore(familiar.save(), 20 * 2 * 10);
        assert!((0..15).all(|number| restored.contains(number)));
        assert_eq!(postcard::to_allocvec(&restored.save()).unwrap(), postcard::to_allocvec(&familiar.save()).unwrap());
    }
}
