//! What waits to become a block, and how much of it the next block is made of.
//!
//! Senders that wait for their answer before they send again all end up in one block if every block takes what waits:
//! then the processors idle while the disk syncs, and the disk idles while the answers go out and the next requests come
//! in. So a block takes half of those who are there: while one half is synced, the other is worked on. It waits for that
//! half a moment too, or the first request after a sync would be synced alone and keep all others waiting.
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
/// The longest wait for others; the last commit's duration if that was shorter.
const MAX_GATHERING: Duration = Duration::from_micros(250);
/// The number of senders is taken to be what it was at its highest, less a sixteenth with every block.
const DECAY: usize = 16;

/// The queue before the writer.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// As many wait as the writer gathers for.
    enough: Condvar,
}

#[derive(Default)]
struct State {
    appends: VecDeque<Append>,
    /// The writer has been called and will take what is here.
    called: bool,
    closed: bool,
    /// How many were waiting or being written at one time, lately.
    senders: usize,
    gathering: Duration,
}

/// Why nothing was queued.
pub(super) enum Refused {
    Full,
    Closed,
}

impl State {
    /// Half of the senders.
    fn share(&self) -> usize {
        self.senders.div_ceil(2)
    }
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
        let enough = !call && state.appends.len() == state.share();
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
        let waited = self.enough.wait_timeout_while(state, limit, |state| state.appends.len() < state.share());
        drop(waited);
    }

    /// What the next block is made of, and whether the writer has to be called for what is left.
    pub(super) fn take(&self) -> (VecDeque<Append>, bool) {
        let mut state = self.locked();
        let most = state.share().max(MIN_SHARE);
        let mut bytes = 0;
        let fitting = state.appends.iter().take(most).take_while(|append| {
            let fits = bytes < MAX_BLOCK_BYTES;
            bytes += append.len();
            fits
        });
        let count = fitting.count();
        let rest = state.appends.split_off(count);
        let taken = std::mem::replace(&mut state.appends, rest);
        state.called = !state.appends.is_empty();
        (taken, state.called)
    }

    /// Everything that waits, because it cannot be written.
    pub(super) fn take_all(&self) -> VecDeque<Append> {
        let mut state = self.locked();
        state.called = false;
        std::mem::take(&mut state.appends)
    }

    /// A block of `written` appends took `duration` from its transaction's beginning to its end.
    pub(super) fn written(&self, written: usize, duration: Duration) {
        let mut state = self.locked();
        let there = written + state.appends.len();
        state.senders = there.max(state.senders - state.senders.div_ceil(DECAY));
        state.gathering = duration.min(MAX_GATHERING);
    }

    /// From now on nothing is queued.
    pub(super) fn close(&self) {
        self.locked().closed = true;
    }

    /// Whether everything has been taken.
    pub(super) fn is_empty(&self) -> bool {
        !self.locked().called
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
