//! Bounded lists for evidence: how many different values there were, how often each, and the first few of them.
//!
//! Invariant: a count is exact or says that it is not; the same events in the same order give the same lists.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::finding::{Counted, Sample};

/// Values named in a finding: what a person reads and an OCSF record carries.
const MAX_SAMPLES: usize = 20;
/// Different values told apart per episode; at most 2,000 episodes are open, so all of them stay below 150 MB.
const MAX_DISTINCT: usize = 2048;
/// Different reasons or user agents counted per episode; Clerk has about 50 codes for a sign-in.
const MAX_COUNTED: usize = 32;
/// Rows a finding shows.
const MAX_SHOWN: usize = 10;
/// The row of everything beyond [`MAX_COUNTED`].
const OTHERS: &str = "(others)";

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

    pub(crate) fn sample(&self) -> Sample {
        Sample { values: self.first.clone(), total: self.seen.len() as u64, exact: !self.overflowed }
    }
}

/// How often each value was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Frequencies {
    counts: Vec<(Box<str>, u64)>,
    others: u64,
}

impl Frequencies {
    pub(crate) fn add(&mut self, value: &str) {
        if let Some((_, count)) = self.counts.iter_mut().find(|(known, _)| **known == *value) {
            *count += 1;
        } else if self.counts.len() < MAX_COUNTED {
            self.counts.push((value.into(), 1));
        } else {
            self.others += 1;
        }
    }

    /// Most frequent first; what is not shown by name is in one last row.
    pub(crate) fn shown(&self) -> Vec<Counted> {
        let mut sorted: Vec<_> = self.counts.iter().collect();
        sorted.sort_by(|(a, a_count), (b, b_count)| b_count.cmp(a_count).then_with(|| a.cmp(b)));
        let others = self.others + sorted.iter().skip(MAX_SHOWN).map(|(_, count)| count).sum::<u64>();
        let mut shown: Vec<_> = sorted
            .into_iter()
            .take(MAX_SHOWN)
            .map(|(value, count)| Counted { value: value.to_string(), count: *count })
            .collect();
        if others > 0 {
            shown.push(Counted { value: OTHERS.into(), count: others });
        }
        shown
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

    #[test]
    fn frequencies_add_up_however_many_values_there_are() {
        let mut frequencies = Frequencies::default();
        for number in 0..1000 {
            frequencies.add(&format!("agent {}", number % 100));
            frequencies.add("the usual");
        }
        let shown = frequencies.shown();
        assert_eq!(shown.first(), Some(&Counted { value: "the usual".into(), count: 1000 }));
        assert_eq!(shown.len(), MAX_SHOWN + 1);
        assert_eq!(shown.iter().map(|row| row.count).sum::<u64>(), 2000);
    }
}
