//! How many different values there were, and the first few of them by name.
//!
//! Invariant: a count is exact or says that it is not; the same events in the same order give the same list.
//!
//! Not here: which came most often (`heavy`).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::finding::Sample;

/// Values named in a finding: what a person reads and an OCSF record carries.
const MAX_SAMPLES: usize = 20;
/// Different values told apart per episode; at most 2,000 episodes are open, so all of them stay below 150 MB.
const MAX_DISTINCT: usize = 2048;
/// Different values, the first few by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Distinct {
    first: Vec<String>,
    seen: BTreeSet<u64>,
    overflowed: bool,
}

impl Distinct {
    /// Adds a value known by `hash`; `name` is asked only if it becomes a sample.
    pub(crate) fn add(&mut self, hash: u64, name: impl FnOnce() -> String) {
        if self.seen.contains(&hash) {
            return;
        }
        if self.seen.len() >= MAX_DISTINCT {
            self.overflowed = true;
            return;
        }
        self.seen.insert(hash);
        if self.first.len() < MAX_SAMPLES {
            self.first.push(name());
        }
    }

    pub(crate) fn contains(&self, hash: u64) -> bool {
        self.seen.contains(&hash)
    }

    /// Different values; a lower bound once [`MAX_DISTINCT`] are known.
    pub(crate) fn total(&self) -> u64 {
        self.seen.len() as u64
    }

    pub(crate) fn sample(&self) -> Sample {
        Sample { values: self.first.clone(), total: self.seen.len() as u64, exact: !self.overflowed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinct_values_are_exact_until_they_say_otherwise() {
        let mut distinct = Distinct::default();
        for hash in (0..2048).chain(0..2048) {
            distinct.add(hash, || hash.to_string());
        }
        let sample = distinct.sample();
        assert_eq!((sample.total, sample.exact, sample.values.len()), (2048, true, 20));
        assert_eq!(sample.values.first().map(String::as_str), Some("0"));
        distinct.add(9999, || "late".into());
        assert_eq!((distinct.sample().total, distinct.sample().exact), (2048, false));
    }
}
