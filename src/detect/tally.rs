//! How many different values there were, and the first few of them by name.
//!
//! Invariant: a count is exact or says that it is not, and is then an estimate (2 %); the same events in the same order give
//! the same list.
//!
//! Not here: which came most often (`heavy`).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::sketch::Sketch;
use crate::finding::Sample;

/// Values named in a finding: what a person reads and an OCSF record carries.
const MAX_SAMPLES: usize = 20;
/// Different values told apart for one entity: more than Clerk lets one address try in an hour.
pub(crate) const OF_ENTITY: u32 = 2048;
/// The same for a tenant: attacks from tens of thousands of addresses are on record.
pub(crate) const OF_TENANT: u32 = 16_384;

/// Different values, the first few by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Distinct {
    first: Vec<String>,
    seen: BTreeSet<u64>,
    capacity: u32,
    /// Everything, once there are more than can be told apart.
    all: Option<Sketch>,
}

impl Distinct {
    /// Tells up to `capacity` values apart.
    pub(crate) fn new(capacity: u32) -> Self {
        Self { first: Vec::new(), seen: BTreeSet::new(), capacity, all: None }
    }

    /// Adds a value known by `hash`; `name` is asked only if it becomes a sample.
    pub(crate) fn add(&mut self, hash: u64, name: impl FnOnce() -> String) {
        if let Some(all) = &mut self.all {
            all.add(hash);
            return;
        }
        if self.seen.contains(&hash) {
            return;
        }
        if self.seen.len() >= self.capacity as usize {
            let mut all = Sketch::default();
            for hash in self.seen.iter().copied().chain([hash]) {
                all.add(hash);
            }
            self.all = Some(all);
            return;
        }
        self.seen.insert(hash);
        if self.first.len() < MAX_SAMPLES {
            self.first.push(name());
        }
    }

    /// The value known by `from` is another from now on, and so is its name; answers whether it was a sample.
    pub(crate) fn rename(&mut self, from: (u64, &str), to: (u64, &str)) -> bool {
        if self.seen.remove(&from.0) {
            self.seen.insert(to.0);
        }
        self.first.iter_mut().filter(|name| *name == from.1).map(|name| to.1.clone_into(name)).count() > 0
    }

    /// Whether the value was added while values were told apart.
    pub(crate) fn contains(&self, hash: u64) -> bool {
        self.seen.contains(&hash)
    }

    /// Different values.
    pub(crate) fn total(&self) -> u64 {
        let told_apart = self.seen.len() as u64;
        self.all.as_ref().map_or(told_apart, |all| all.estimate().max(told_apart + 1))
    }

    pub(crate) fn sample(&self) -> Sample {
        Sample { values: self.first.clone(), total: self.total(), exact: self.all.is_none() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinct_values_are_exact_until_they_say_otherwise() {
        let mut distinct = Distinct::new(2048);
        for hash in (0..2048).chain(0..2048) {
            distinct.add(hash, || hash.to_string());
        }
        let sample = distinct.sample();
        assert_eq!((sample.total, sample.exact, sample.values.len()), (2048, true, 20));
        assert_eq!(sample.values.first().map(String::as_str), Some("0"));
        (2048..50_000).for_each(|hash| distinct.add(hash, || "late".into()));
        let sample = distinct.sample();
        assert!(!sample.exact && (46_000..54_000).contains(&sample.total), "{sample:?}");
        assert!(distinct.contains(7) && !distinct.contains(40_000));
    }
}
