//! How many findings go into one request, and what became of those of several.

use std::ops::Range;

use crate::sinks::Delivery;

/// Cuts items of `sizes` bytes into runs of at most `max_bytes` each; an item above that is a run of its own, which the
/// receiver may still take.
#[must_use]
pub fn runs(sizes: impl IntoIterator<Item = usize>, max_bytes: usize) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    let mut bytes = 0_usize;
    for (index, size) in sizes.into_iter().enumerate() {
        match runs.last_mut() {
            Some(run) if bytes.saturating_add(size) <= max_bytes => {
                run.end = index + 1;
                bytes += size;
            }
            _ => {
                runs.push(index..index + 1);
                bytes = size;
            }
        }
    }
    runs
}

/// What became of the findings of several requests, in order.
#[derive(Debug, Default)]
pub struct Tally {
    deliveries: Vec<Delivery>,
    stopped: Option<Delivery>,
}

impl Tally {
    /// Why the remaining requests are not worth sending, if they are not: the receiver is down, or refuses us.
    #[must_use]
    pub fn stopped(&self) -> Option<Delivery> {
        self.stopped.clone()
    }

    /// The next `count` findings all had this result.
    pub fn all(&mut self, count: usize, delivery: &Delivery) {
        if matches!(delivery, Delivery::Retry { .. } | Delivery::Blocked(_)) {
            self.stopped.get_or_insert_with(|| delivery.clone());
        }
        self.deliveries.extend(std::iter::repeat_n(delivery, count).cloned());
    }

    /// The next findings each had a result.
    pub fn each(&mut self, deliveries: impl IntoIterator<Item = Delivery>) {
        self.deliveries.extend(deliveries);
    }

    /// How many findings have a result.
    #[must_use]
    pub fn len(&self) -> usize {
        self.deliveries.len()
    }

    /// Whether none has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.deliveries.is_empty()
    }

    /// Changes what became of those in `range`.
    pub fn correct(&mut self, range: Range<usize>, delivery: &Delivery) {
        if let Some(deliveries) = self.deliveries.get_mut(range) {
            deliveries.fill(delivery.clone());
        }
    }

    /// One result for each finding.
    #[must_use]
    pub fn finish(self) -> Vec<Delivery> {
        self.deliveries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_as_long_as_fits_and_nothing_is_left_out() {
        assert_eq!(runs([4, 4, 4, 20, 1, 9, 1], 10), [0..2, 2..3, 3..4, 4..6, 6..7]);
        assert!(runs([], 10).is_empty());
        assert_eq!(runs([99], 10), vec![0..1; 1]);
    }
}
