//! Findings on their way out as bytes, many to a request: which of them could not be written, what became of the others.
//!
//! Invariant: one result for each finding, in order, whatever happened to the others.

use std::ops::Range;

use super::batch::runs;
use crate::sinks::Delivery;

/// The findings of one delivery.
#[derive(Debug)]
pub struct Encoded {
    /// What could be written, and the number of its finding.
    items: Vec<(usize, Vec<u8>)>,
    deliveries: Vec<Delivery>,
    waiting: std::vec::IntoIter<Range<usize>>,
}

impl Encoded {
    /// `findings`, each written or refused, in requests of at most `max_bytes` with a separator of one byte.
    #[must_use]
    pub fn new(findings: impl IntoIterator<Item = Result<Vec<u8>, Delivery>>, max_bytes: usize) -> Self {
        let (mut items, mut deliveries) = (Vec::new(), Vec::new());
        for written in findings {
            match written {
                Ok(item) => {
                    items.push((deliveries.len(), item));
                    deliveries.push(Delivery::retry("its turn did not come"));
                }
                Err(refused) => deliveries.push(refused),
            }
        }
        let waiting = runs(items.iter().map(|(_, item)| item.len() + 1), max_bytes).into_iter();
        Self { items, deliveries, waiting }
    }

    /// What goes into the next request; `None` when there is no more, or the next would fare no better than the last.
    pub fn next_run(&mut self) -> Option<Range<usize>> {
        self.waiting.next()
    }

    /// The items of `run`, with `separator` between them.
    #[must_use]
    pub fn joined(&self, run: Range<usize>, separator: u8) -> Vec<u8> {
        let items: Vec<&[u8]> = self.items.get(run).unwrap_or_default().iter().map(|(_, item)| &item[..]).collect();
        items.join(&separator)
    }

    /// What became of `run`. If the receiver is down, or refuses us, the same became of all that follow.
    pub fn settle(&mut self, run: Range<usize>, delivery: &Delivery) {
        let stop = matches!(delivery, Delivery::Retry { .. } | Delivery::Blocked(_));
        if stop {
            self.waiting = Vec::new().into_iter();
        }
        let until = if stop { self.items.len() } else { run.end };
        for (finding, _) in self.items.get(run.start..until).unwrap_or_default() {
            if let Some(place) = self.deliveries.get_mut(*finding) {
                place.clone_from(delivery);
            }
        }
    }

    /// One result for each finding.
    #[must_use]
    pub fn into_deliveries(self) -> Vec<Delivery> {
        self.deliveries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_finding_has_the_result_of_its_request_and_a_receiver_that_is_down_is_asked_no_more() {
        let refused = Delivery::Refused("r".into());
        let down = Delivery::retry("down");
        let findings = || {
            let items = ["aa", "", "bb", "cc", "dd"].map(|text| text.as_bytes().to_vec());
            items.into_iter().map(|item| if item.is_empty() { Err(Delivery::Refused("r".into())) } else { Ok(item) })
        };
        let mut encoded = Encoded::new(findings(), 6);
        let first = encoded.next_run().unwrap();
        assert_eq!(encoded.joined(first.clone(), b','), b"aa,bb");
        encoded.settle(first, &Delivery::Bisect("b".into()));
        let second = encoded.next_run().unwrap();
        assert_eq!(encoded.joined(second.clone(), b','), b"cc,dd");
        encoded.settle(second, &Delivery::Accepted);
        assert_eq!(encoded.next_run(), None);
        let bisect = Delivery::Bisect("b".into());
        assert_eq!(
            encoded.into_deliveries(),
            [bisect.clone(), refused.clone(), bisect, Delivery::Accepted, Delivery::Accepted]
        );

        let mut encoded = Encoded::new(findings(), 6);
        let first = encoded.next_run().unwrap();
        encoded.settle(first, &down);
        assert_eq!(encoded.next_run(), None);
        assert_eq!(encoded.into_deliveries(), [down.clone(), refused, down.clone(), down.clone(), down]);
    }
}
