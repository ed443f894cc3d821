//! What waits to become a block, and how much of it the next block is made of.
//!
//! Senders that wait for their answer before they send again all end up in one block if every block takes what waits:
//! then the processors idle while the disk syncs, and the disk idles while the answers go out and the next requests come
//! in. So a block takes half of those who are there: while one half is synced, the other is worked on. It waits for that
//! half a moment too, or the first request after a sync would be synced alone and keep all others waiting.
//!
//! A disk that takes longer to sync than the processors take to bring everybody back is another matter: there a half would
//! wait behind the other half's sync for nothing, so it waits for all of them.
//!
//! Invariant: a bounded number waits, for a bounded time, in the order in which they came; who is alone waits for nobody.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::append::Append;

/// Appends that may wait: more than the front door lets in at one time (`ingest.max_in_flight`).
const MAX_WAITING: usize = 4096;
/// Bytes after which a block is closed: what one sync of a slow disk writes in well under a second.
const MAX_BLOCK_BYTES: usize = 8 << 20;
/// A block takes as many appends as this if they are there: halving fewer would add syncs and win nothing.
const MIN_SHARE: usize = 8;
/// The longest wait for a half; a commit's duration if that is shorter. The wait for all is half a commit's duration.
const MAX_GATHERING: Duration = Duration::from_micros(250);
/// What it takes to answer one of many senders and to have his next request: a front door of two cores without a store
/// answers 60,000 to 80,000 a second. Where it takes less, halves are taken on some disks on which all would be better.
const TURN: Duration = Duration::from_micros(12);
/// The number of senders is taken to be what it was at its highest, less a sixteenth with every block.
const DECAY: usize = 16;

/// The queue before the writer.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// As many wait as the writer gathers for.
    enough: Condvar,
    /// Nothing waits and nothing is being written; told only once closed.
    idle: Condvar,
}

#[derive(Default)]
struct State {
    appends: VecDeque<Append>,
    /// The writer has been called and will take what is here.
    called: bool,
    /// What was taken last has not been answered yet.
    writing: bool,
    closed: bool,
    /// How many were waiting or being written at one time, lately.
    senders: usize,
    /// How long the last commit took.
    commit: Duration,
    /// How many the next block waits for: half of the senders, or all.
    share: usize,
    gathering: Duration,
}

/// Why nothing was queued.
pub(super) enum Refused {
    Full,
    Closed,
}

impl Queue {
    /// Queues `append`; answers whether the writer has to be called.
    pub(super) fn push(&self, append: Append) -> Result<bool, Refused> {
        let mut state = self.locked();
        if state.closed {
            return Err(Refused::Closed);
        }
        if state.appends.len() >= MAX_WAITING {
            return Err(Refused::Full);
        }
        state.appends.push_back(append);
        let call = !std::mem::replace(&mut state.called, true);
        let enough = !call && state.appends.len() == state.share;
        drop(state);
        if enough {
            self.enough.notify_one();
        }
        Ok(call)
    }

    /// Waits a moment for as many as the next block shall take.
    pub(super) fn gather(&self) {
        let state = self.locked();
        let limit = state.gathering;
        let waited = self.enough.wait_timeout_while(state, limit, |state| state.appends.len() < state.share);
        drop(waited);
    }

    /// What the next block is made of, and whether the writer has to be called for what is left.
    pub(super) fn take(&self) -> (Vec<Append>, bool) {
        let mut state = self.locked();
        let most = state.share.max(MIN_SHARE);
        let mut bytes = 0;
        let fitting = state.appends.iter().take(most).take_while(|append| {
            let fits = bytes < MAX_BLOCK_BYTES;
            bytes += append.content.len();
            fits
        });
        let count = fitting.count();
        let taken = state.appends.drain(..count).collect();
        state.called = !state.appends.is_empty();
        state.writing = true;
        (taken, state.called)
    }

    /// Everything that waits, because it cannot be written.
    pub(super) fn take_all(&self) -> VecDeque<Append> {
        let mut state = self.locked();
        (state.called, state.writing) = (false, false);
        self.idle.notify_all();
        std::mem::take(&mut state.appends)
    }

    /// A block of `written` appends took `duration` from its transaction's beginning to its end. To be told before the
    /// answers go out: who has got one and comes again would be counted twice.
    pub(super) fn written(&self, written: usize, duration: Duration) {
        let mut state = self.locked();
        let there = written + state.appends.len();
        state.senders = there.max(state.senders - state.senders.div_ceil(DECAY));
        // The shorter of the last two: one slow commit, for a checkpoint, says nothing of the disk.
        let commit = std::mem::replace(&mut state.commit, duration).min(duration);
        let turns = TURN.saturating_mul(u32::try_from(state.senders).unwrap_or(u32::MAX));
        let all = state.senders > 2 * MIN_SHARE && commit > turns;
        state.share = if all { state.senders } else { state.senders.div_ceil(2) };
        state.gathering = if all { commit / 2 } else { commit.min(MAX_GATHERING) };
    }

    /// Those whose block was written last have their answers.
    pub(super) fn answered(&self) {
        let mut state = self.locked();
        state.writing = false;
        if state.closed {
            self.idle.notify_all();
        }
    }

    /// From now on nothing is queued; returns once everything that was has been written or refused. Blocks.
    pub(super) fn close(&self) {
        let mut state = self.locked();
        state.closed = true;
        drop(self.idle.wait_while(state, |state| state.called || state.writing));
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::event::Timestamp;
    use crate::log::Record;

    fn ticks(count: usize) -> Append {
        Append::encode(vec![Record::Tick { at: Timestamp(i64::MAX) }; count].into_iter(), oneshot::channel().0).unwrap()
    }

    fn push(queue: &Queue, appends: usize) {
        for _ in 0..appends {
            assert!(queue.push(ticks(1)).is_ok());
        }
    }

    #[test]
    fn a_block_takes_half_of_those_who_are_there_in_their_order() {
        let queue = Queue::default();
        push(&queue, 64);
        assert_eq!(queue.take().0.len(), MIN_SHARE, "nothing is known yet");
        queue.written(8, Duration::ZERO);
        let (half, more) = queue.take();
        assert_eq!((half.len(), more), (32, true));
        push(&queue, 30);
        queue.written(32, Duration::ZERO);
        assert_eq!((queue.take().0.len(), queue.locked().senders), (43, 86));
    }

    #[test]
    fn a_block_takes_all_where_a_sync_takes_longer_than_their_return() {
        let slow = TURN * 65;
        let queue = Queue::default();
        push(&queue, 64);
        let shares = [(64, slow), (64, slow), (128, slow), (128, 2 * slow), (64, TURN)].map(|(written, duration)| {
            queue.locked().appends.clear();
            queue.written(written, duration);
            queue.locked().share
        });
        // The first has no other commit beside it, and one slow commit after a fast one is not believed.
        assert_eq!(shares, [32, 64, 64, 64, 60]);
    }

    #[test]
    fn who_is_alone_soon_waits_for_nobody() {
        let queue = Queue::default();
        queue.written(64, MAX_GATHERING);
        assert_eq!(queue.locked().share, 32);
        let blocks = (0..).take_while(|_| {
            queue.written(1, MAX_GATHERING);
            queue.locked().share > 1
        });
        assert!(blocks.count() < 64);
        push(&queue, 1);
        // No time-out: it would hang if it waited.
        queue.locked().gathering = Duration::MAX;
        queue.gather();
        assert_eq!(queue.take().0.len(), 1);
    }

    #[test]
    fn the_last_one_needed_ends_the_wait() {
        let queue = Queue::default();
        queue.written(4, Duration::ZERO);
        queue.locked().gathering = Duration::MAX;
        std::thread::scope(|scope| {
            push(&queue, 1);
            let gathered = scope.spawn(|| {
                queue.gather();
                queue.take().0.len()
            });
            push(&queue, 1);
            assert_eq!(gathered.join().unwrap(), 2);
        });
    }

    #[test]
    fn the_writer_is_called_once_for_what_waits() {
        let queue = Queue::default();
        assert!(matches!(queue.push(ticks(1)), Ok(true)));
        assert!(matches!(queue.push(ticks(1)), Ok(false)));
        assert!(!queue.take().1);
        assert!(matches!(queue.push(ticks(1)), Ok(true)), "the block is being written without it");
    }

    #[test]
    fn number_and_bytes_are_bounded() {
        let queue = Queue::default();
        let large = MAX_BLOCK_BYTES / ticks(1).content.len() / 2 + 1;
        for _ in 0..3 {
            assert!(queue.push(ticks(large)).is_ok());
        }
        let (block, more) = queue.take();
        assert_eq!((block.len(), more), (2, true));
        push(&queue, MAX_WAITING - 1);
        assert!(matches!(queue.push(ticks(1)), Err(Refused::Full)));
    }

    #[test]
    fn closing_waits_for_what_is_being_written() {
        let queue = Queue::default();
        push(&queue, 1);
        std::thread::scope(|scope| {
            let closing = scope.spawn(|| queue.close());
            while !queue.locked().closed {
                std::thread::yield_now();
            }
            assert!(matches!(queue.push(ticks(1)), Err(Refused::Closed)));
            assert_eq!(queue.take().0.len(), 1);
            assert!(!closing.is_finished());
            queue.answered();
            closing.join().unwrap();
        });
    }
}
