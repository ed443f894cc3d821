//! Which values come most often, of more than can be kept? Space-saving (Metwally, Agrawal, El Abbadi 2005).
//!
//! A fixed number of values is kept with a counter each. A value that is not kept takes the place of the one with the
//! smallest counter and inherits that counter as its possible error. So a late value that carries the excess is found,
//! where a list of the first values to come would never show it.
//!
//! Invariants, for any stream:
//! - the counters add up to the weight of all values, exactly;
//! - `count - error <= true count <= count`, and `error <= total / capacity`; while no more values than the capacity have
//!   come, every error is 0;
//! - every value with more than `total / capacity` of the weight is kept;
//! - the same values in the same order give the same state: among equal counters the one that reached it last is replaced.
//!
//! Memory: `capacity` values, bounded in their length by the event that carries them. Work: a scan from the most frequent
//! value on, so what comes often is found first; no allocation once the place of a replaced value fits the new one.

use std::borrow::Borrow;
use std::fmt::Display;

use serde::{Deserialize, Serialize};

use crate::finding::Counted;

/// The row of everything that is not shown by name.
const OTHERS: &str = "(others)";

/// Counts of the values that come most often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeavyHitters<K> {
    /// Descending by count.
    kept: Vec<Hitter<K>>,
    capacity: u32,
    total: u64,
}

/// One value with its bounds: it came at least [`Hitter::at_least`] and at most `count` times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hitter<K> {
    /// The value.
    pub(crate) value: K,
    /// Never less than the value's true weight.
    pub(crate) count: u64,
    /// By how much `count` may be too much.
    pub(crate) error: u64,
}

impl<K> Hitter<K> {
    /// Never more than the value's true weight.
    pub(crate) fn at_least(&self) -> u64 {
        self.count - self.error
    }
}

impl<K> HeavyHitters<K> {
    /// Nothing counted yet; `capacity` values (at least one) will be kept.
    pub(crate) fn new(capacity: u32) -> Self {
        Self { kept: Vec::new(), capacity: capacity.max(1), total: 0 }
    }

    /// The weight of all values, kept or not.
    #[cfg(test)]
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// The values kept, largest count first.
    #[cfg(test)]
    pub(crate) fn top(&self) -> &[Hitter<K>] {
        &self.kept
    }

    /// Adds `weight` to `value`; a weight of 0 changes nothing. `value` may be borrowed (`str` for `String`); it is copied
    /// only when it was not kept.
    pub(crate) fn add<Q>(&mut self, value: &Q, weight: u64)
    where
        K: Borrow<Q>,
        Q: PartialEq + ToOwned<Owned = K> + ?Sized,
    {
        if weight == 0 {
            return;
        }
        self.total = self.total.saturating_add(weight);
        let known = self.kept.iter().position(|hitter| hitter.value.borrow() == value);
        let place = known.unwrap_or_else(|| self.admit(value));
        if let Some(hitter) = self.kept.get_mut(place) {
            hitter.count = hitter.count.saturating_add(weight);
        }
        self.rise(place);
    }

    /// Gives `value` the last place, with the counter of what was there.
    fn admit<Q>(&mut self, value: &Q) -> usize
    where
        Q: ToOwned<Owned = K> + ?Sized,
    {
        if self.kept.len() < self.capacity as usize {
            self.kept.push(Hitter { value: value.to_owned(), count: 0, error: 0 });
        } else if let Some(least) = self.kept.last_mut() {
            value.clone_into(&mut least.value);
            least.error = least.count;
        }
        self.kept.len().saturating_sub(1)
    }

    /// Moves the hitter at `place` before all with a smaller count.
    fn rise(&mut self, place: usize) {
        let Some((before, [risen, ..])) = self.kept.split_at_checked(place) else { return };
        let to = before.partition_point(|hitter| hitter.count >= risen.count);
        if let Some(moved) = self.kept.get_mut(to..=place) {
            moved.rotate_right(1);
        }
    }
}

impl<K: Display> HeavyHitters<K> {
    /// At most `rows` values, each with the weight that it certainly has, largest first and equal ones by name; all the
    /// rest is in one last row, so that the rows add up to the weight of all values.
    pub(crate) fn shown(&self, rows: usize) -> Vec<Counted> {
        let mut shown: Vec<_> = self
            .kept
            .iter()
            .filter(|hitter| hitter.at_least() > 0)
            .map(|hitter| Counted { value: hitter.value.to_string(), count: hitter.at_least() })
            .collect();
        shown.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.value.cmp(&b.value)));
        shown.truncate(rows);
        let others = self.total.saturating_sub(shown.iter().map(|row| row.count).sum());
        if others > 0 {
            shown.push(Counted { value: OTHERS.into(), count: others });
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Few values often, many rarely; weights from 0 on.
    fn stream() -> impl Strategy<Value = Vec<(String, u64)>> {
        let value =
            prop_oneof![3 => 0..4_u32, 2 => 4..12_u32, 2 => 12..400_u32].prop_map(|number| format!("v{number}"));
        prop::collection::vec((value, prop_oneof![8 => Just(1_u64), 1 => 0..20_u64]), 0..600)
    }

    proptest! {
        #[test]
        fn every_guarantee_holds(stream in stream(), capacity in 1..24_u32) {
            let mut hitters = HeavyHitters::<String>::new(capacity);
            let mut truth = BTreeMap::<&str, u64>::new();
            for (value, weight) in &stream {
                hitters.add(value.as_str(), *weight);
                *truth.entry(value).or_default() += weight;
            }
            truth.retain(|_, count| *count > 0);
            let total = truth.values().sum::<u64>();
            prop_assert_eq!(hitters.total(), total);
            prop_assert_eq!(hitters.top().iter().map(|hitter| hitter.count).sum::<u64>(), total);
            prop_assert_eq!(hitters.top().len(), truth.len().min(capacity as usize));
            prop_assert!(hitters.top().windows(2).all(|pair| pair[0].count >= pair[1].count));
            for hitter in hitters.top() {
                let true_count = truth[hitter.value.as_str()];
                prop_assert!(hitter.at_least() <= true_count && true_count <= hitter.count, "{:?} {}", hitter, true_count);
                prop_assert!(hitter.error <= total / u64::from(capacity), "{:?} of {}", hitter, total);
                prop_assert!(hitter.error == 0 || truth.len() > capacity as usize);
            }
            for (value, count) in truth {
                let kept = hitters.top().iter().any(|hitter| hitter.value == value);
                prop_assert!(kept || count * u64::from(capacity) <= total, "{} with {} of {}", value, count, total);
            }
            let shown = hitters.shown(5);
            prop_assert!(shown.len() <= 6);
            prop_assert_eq!(shown.iter().map(|row| row.count).sum::<u64>(), total);
        }
    }

    #[test]
    fn what_comes_late_and_often_is_found() {
        let mut hitters = HeavyHitters::<String>::new(32);
        for number in 0..1000 {
            hitters.add(format!("agent {number}").as_str(), 1);
        }
        for _ in 0..500 {
            hitters.add("python-requests/2.31", 1);
        }
        let shown = hitters.shown(10);
        assert_eq!(shown.first(), Some(&Counted { value: "python-requests/2.31".into(), count: 500 }));
        assert_eq!(shown.iter().map(|row| row.count).sum::<u64>(), 1500);
    }

    #[test]
    fn few_values_are_counted_exactly_and_ties_stand_by_name() {
        let mut hitters = HeavyHitters::<String>::new(8);
        for value in ["b", "c", "a", "b", "c"] {
            hitters.add(value, 1);
        }
        let row = |value: &str, count| Counted { value: value.into(), count };
        assert_eq!(hitters.shown(10), [row("b", 2), row("c", 2), row("a", 1)]);
        assert_eq!(hitters.shown(1), [row("b", 2), row(OTHERS, 3)]);
    }

    #[test]
    fn keys_need_not_be_text_and_a_snapshot_goes_on() {
        let mut hitters = HeavyHitters::<u32>::new(3);
        for number in 0..50_u32 {
            hitters.add(&(number % 7), u64::from(number));
        }
        let mut restored: HeavyHitters<u32> = postcard::from_bytes(&postcard::to_stdvec(&hitters).unwrap()).unwrap();
        for number in 50..99_u32 {
            hitters.add(&(number % 5), 2);
            restored.add(&(number % 5), 2);
        }
        assert_eq!(restored, hitters);
    }
}
