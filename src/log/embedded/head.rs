//! How far the log reaches, and a way to wait for more.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::log::Offset;

/// The offset the next record will get; it only grows.
#[derive(Debug)]
pub(super) struct Head {
    next: Mutex<Offset>,
    grown: Condvar,
}

impl Head {
    pub(super) fn new(next: Offset) -> Self {
        Self { next: Mutex::new(next), grown: Condvar::new() }
    }

    pub(super) fn get(&self) -> Offset {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn advance(&self, next: Offset) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = next;
        self.grown.notify_all();
    }

    /// The head, once it lies past `from` or `wait` is over.
    pub(super) fn wait_past(&self, from: Offset, wait: Duration) -> Offset {
        let next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.grown.wait_timeout_while(next, wait, |next| *next <= from);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}
