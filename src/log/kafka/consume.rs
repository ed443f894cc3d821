//! Reading a topic on from its committed offsets: what findings and other people's topics have in common.
//!
//! Invariant: whoever takes the records also begins the partitions, so nothing that was under way of a partition that went
//! and came back is taken for what comes next. Nothing is committed here: whoever takes the records says when.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use super::group::{Feed, FeedEnd, Group, Raw, WAITING};
use super::seat::locked;

/// The partitions that are ours, with what is kept of each.
#[derive(Default)]
pub(super) struct Shares<T> {
    /// Not read yet: first it has to be known where to begin.
    new: BTreeSet<i32>,
    pub(super) open: BTreeMap<i32, T>,
}

impl<T: Default> Shares<T> {
    /// Ours from now on. Where to begin is a question to the brokers, which takes its time: not here.
    pub(super) fn assigned(&mut self, partitions: &[i32]) {
        self.new.extend(partitions);
    }

    /// No longer ours; what was kept of it.
    pub(super) fn revoked(&mut self, partition: i32) -> Option<T> {
        self.new.remove(&partition);
        self.open.remove(&partition)
    }
}

/// Begins to read the partitions that are new into `end`, whose other side is `feed`. `pass_over` gets what is still under
/// way of earlier times: of a partition that went and came back it comes again, in order.
pub(super) fn begin<T: Default>(
    group: &Group,
    shares: &Mutex<Shares<T>>,
    feed: &Feed,
    end: &FeedEnd,
    mut pass_over: impl FnMut(Vec<Raw>),
) {
    let new: Vec<i32> = locked(shares).new.iter().copied().collect();
    if new.is_empty() {
        return;
    }
    for batch in feed.try_iter().take(WAITING) {
        pass_over(batch);
    }
    for partition in new {
        let from = match group.committed(partition) {
            Ok((offset, _)) => offset.unwrap_or(0),
            Err(error) => {
                // The next round asks again.
                tracing::warn!(partition, %error, "cannot learn yet where to read on");
                return;
            }
        };
        let mut shares = locked(shares);
        // Unless it went meanwhile.
        if shares.new.remove(&partition) {
            shares.open.insert(partition, T::default());
            group.start(partition, from, end.clone());
        }
    }
}
