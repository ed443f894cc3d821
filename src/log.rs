//! The durable, ordered record of events: the seam between "did this happen, and is it safe" and "what does it mean".
//!
//! Invariant: what [`Log::append`] acknowledged is never lost, and [`Log::poll`] returns it in one order for ever. A
//! detector's state is a function of that order, so a snapshot and the offset it was taken at are stored together, and
//! findings are durable before the offset moves past the events that made them.
//!
//! Not here: what the events mean. The log neither filters nor interprets; it only recognises an id it already holds.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::event::{AuthEvent, Erasure, Timestamp};
use crate::finding::Finding;

pub mod embedded;
mod id_window;
pub mod kafka;
pub mod memory;

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// Something happened.
    Event(AuthEvent),
    /// Nothing happened, and time went on to `at`: lets an idle partition close its windows, and a replay close them at
    /// the same place.
    Tick {
        /// Wall time when the tick was written.
        at: Timestamp,
    },
}

/// A place in a partition: the number of records before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(pub u64);

/// A share of the log that one task reads, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(pub u32);

/// What became of one event of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// Durable now.
    Stored,
    /// Its id is already durable; nothing was written.
    Duplicate,
}

/// Records read in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Polled {
    /// The records.
    pub records: Vec<Record>,
    /// Where to read on.
    pub next: Offset,
}

/// A detector's state and the place it had read to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Read on from here.
    pub offset: Offset,
    /// Opaque to the log.
    pub state: Vec<u8>,
}

/// What a task hands over at one time; all of it becomes durable or none.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// Finding revisions for the outbox. A revision that is already there is left as it is.
    pub findings: Vec<Finding>,
    /// Replaces the partition's snapshot.
    pub snapshot: Option<Snapshot>,
    /// Accounts that this snapshot is the first not to name: what is to be done about the rest. Without a snapshot none.
    pub erasures: Vec<Erasure>,
}

/// Why an append was not acknowledged. Nothing of it will be delivered later unless it is sent again.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// Too much is waiting already: try again in a moment.
    #[error("the log's queue is full")]
    Overloaded,
    /// The store cannot take it: try again later; somebody has to look.
    #[error("the log cannot be written: {0}")]
    Unavailable(String),
}

/// The task's side of the log failed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// It may pass (a full disk): try the same again.
    #[error("the log is not available: {0}")]
    Unavailable(String),
    /// What is stored cannot be understood: trying again is no use.
    #[error("the log holds something that this version cannot read: {0}")]
    Corrupt(String),
}

/// The log, whichever engine keeps it.
#[async_trait]
pub trait Log: Send + Sync + 'static {
    /// Appends events; answers once all of them are durable, one result each, in order.
    async fn append(&self, events: Vec<AuthEvent>) -> Result<Vec<Appended>, AppendError>;

    /// Appends a [`Record::Tick`] to `partition`; answers once it is durable.
    async fn tick(&self, partition: Partition, at: Timestamp) -> Result<(), AppendError>;

    /// Records from `from` on, waiting up to `wait` for the first. Blocks the calling thread.
    ///
    /// # Errors
    /// See [`LogError`].
    fn poll(&self, partition: Partition, from: Offset, wait: Duration) -> Result<Polled, LogError>;

    /// Makes `commit` durable. Blocks the calling thread.
    ///
    /// # Errors
    /// See [`LogError`]; after one, nothing of the commit is durable.
    fn commit(&self, partition: Partition, commit: Commit) -> Result<(), LogError>;

    /// The newest snapshot of a partition. Blocks the calling thread.
    ///
    /// # Errors
    /// See [`LogError`].
    fn snapshot(&self, partition: Partition) -> Result<Option<Snapshot>, LogError>;

    /// The offset the next appended record will get.
    fn head(&self, partition: Partition) -> Offset;

    /// Why the log cannot be written just now, if it cannot.
    fn fault(&self) -> Option<String>;
}
