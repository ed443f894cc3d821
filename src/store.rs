//! One SQLite database, one writer: what the embedded log and the outbox stand on.
//!
//! Invariant: a write is answered only after the transaction that holds it is on disk (`synchronous = FULL`). Writes that
//! arrive while one is being synced share the next transaction: that is what lets thousands of requests a second each
//! wait for a disk that syncs a few hundred times.
//!
//! Not here: what the tables mean. Their owners (`log::embedded`, `sinks::outbox`) bring schema and statements.

use rusqlite::{Connection, Transaction};

/// Why the database could not be read or written. The text names no row's content.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Too many writes are waiting.
    #[error("too many writes are waiting")]
    Overloaded,
    /// SQLite said no (disk full, I/O error, corrupt file).
    #[error("{0}")]
    Database(String),
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
}

/// A handle on the database; clones share it.
#[derive(Clone, Debug)]
pub struct Store;

impl Store {
    /// Runs `job` in the writer's next transaction and answers once it is durable. An error of `job` undoes `job` alone.
    ///
    /// # Errors
    /// See [`StoreError`]; after one, nothing `job` did is durable.
    pub async fn write<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        let _ = job;
        Err(StoreError::Closed)
    }

    /// Like [`Store::write`], for a thread that may block.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn write_blocking<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        let _ = job;
        Err(StoreError::Closed)
    }

    /// Runs `query` on a reading connection that sees everything written so far. Blocks the calling thread.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn read<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let _ = query;
        Err(StoreError::Closed)
    }
}
