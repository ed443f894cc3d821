//! One partition of the events topic while it is ours: its feed, its window of ids, its newest snapshot.
//!
//! Invariant: the window holds the ids of exactly the records that were handed out, so it belongs to the offset the task
//! stands at; it is written into the task's snapshot and comes back with it.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::group::{Feed, FeedEnd, Raw, feed};
use super::state::Note;
use crate::clock::Stopwatch;
use crate::log::id_window::IdWindow;

/// Between commits of the offset alone: group lag, which operators alarm on, is a few seconds old at most.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// The partition's state; one task uses it.
pub(super) struct Seat {
    feed: Mutex<Feed>,
    /// Until reading has begun.
    end: Mutex<Option<FeedEnd>>,
    pub(super) ids: Mutex<IdWindow>,
    /// Where the window of ids belongs.
    pub(super) ids_at: AtomicI64,
    /// The snapshot that is noted.
    pub(super) note: Mutex<Option<Note>>,
    /// Of the next record to hand out.
    pub(super) next: AtomicI64,
    progress: Mutex<(Stopwatch, i64)>,
    revoked: AtomicBool,
    /// The task has its state and reads.
    pub(super) reads: AtomicBool,
}

impl Seat {
    pub(super) fn new(max_ids: usize) -> Self {
        let (end, feed) = feed();
        Self {
            feed: Mutex::new(feed),
            end: Mutex::new(Some(end)),
            ids: Mutex::new(IdWindow::new(max_ids)),
            ids_at: AtomicI64::new(0),
            note: Mutex::default(),
            next: AtomicI64::new(0),
            progress: Mutex::new((Stopwatch::start(), -1)),
            revoked: AtomicBool::new(false),
            reads: AtomicBool::new(false),
        }
    }

    /// Where records are to be put in, the first time it is asked for.
    pub(super) fn take_end(&self) -> Option<FeedEnd> {
        locked(&self.end).take()
    }

    /// From now on nothing is handed out.
    pub(super) fn revoke(&self) {
        self.revoked.store(true, Ordering::Release);
    }

    /// The next batch, waiting up to `wait`.
    pub(super) fn receive(&self, wait: Duration) -> Vec<Raw> {
        // Short waits: a partition that is taken away is let go at once.
        const LOOK: Duration = Duration::from_millis(50);
        let begun = Stopwatch::start();
        loop {
            if self.revoked.load(Ordering::Acquire) {
                return Vec::new();
            }
            let left = wait.saturating_sub(begun.elapsed());
            match locked(&self.feed).recv_timeout(left.min(LOOK)) {
                Ok(batch) => return batch,
                Err(RecvTimeoutError::Timeout) if !left.is_zero() => {}
                // Reading has ended: only as everything does, or the partition goes.
                Err(RecvTimeoutError::Disconnected) if !left.is_zero() => std::thread::sleep(left.min(LOOK)),
                Err(_) => return Vec::new(),
            }
        }
    }

    /// Whether the offset `next` should be committed now.
    pub(super) fn progress_is_due(&self, next: i64) -> bool {
        let mut progress = locked(&self.progress);
        if progress.1 == next || progress.0.elapsed() < PROGRESS_INTERVAL {
            return false;
        }
        *progress = (Stopwatch::start(), next);
        true
    }
}

pub(super) fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
