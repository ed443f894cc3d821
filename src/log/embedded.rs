//! The log on SQLite: what one machine runs on.
//!
//! Invariant: a row of `block` is never one event but all that waited when the last sync ended, so the number of syncs
//! does not grow with the load. Ids already held are recognised before writing; the window of ids is rebuilt from the
//! same rows at start, so a redelivery after a restart is still a duplicate.
//!
//! One partition: one detector task handles an order of magnitude more than one machine's front door takes in, and with
//! one partition every finding is independent of the machine's number of cores.
//!
//! Not here: deciding what goes to which sink: the caller brings the function that puts findings into the outbox.

use std::convert::Infallible;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{OptionalExtension, Transaction, params};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::id_window::{IdWindow, SPAN_MILLIS};
use super::{AppendError, Appended, Commit, Log, LogError, Offset, Partition, Polled, Record, Snapshot};
use crate::clock::{Clock, Stopwatch};
use crate::event::{AuthEvent, Timestamp};
use crate::finding::Finding;
use crate::metrics::LogMetrics;
use crate::store::{Store, StoreError};

mod append;
mod appender;
mod block;
pub mod erasure;
mod head;
mod queue;
mod retention;

use append::{Answer, Append};
use appender::Appender;
use head::Head;

/// Tables of the log.
pub const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS block (
    first_offset INTEGER PRIMARY KEY,
    records INTEGER NOT NULL,
    appended_at INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS block_ids (
    first_offset INTEGER PRIMARY KEY,
    appended_at INTEGER NOT NULL,
    fingerprints BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS snapshot (
    partition INTEGER PRIMARY KEY,
    next_offset INTEGER NOT NULL,
    state BLOB NOT NULL
) STRICT;
-- Accounts that the snapshot no longer names and the rest still may; a row goes when that is done. Numbers never repeat.
CREATE TABLE IF NOT EXISTS erasure (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL,
    account TEXT NOT NULL,
    replacement TEXT NOT NULL,
    request TEXT NOT NULL,
    asked_by TEXT NOT NULL,
    asked_at INTEGER NOT NULL,
    records INTEGER NOT NULL DEFAULT 0,
    revisions INTEGER NOT NULL DEFAULT 0,
    lines INTEGER NOT NULL DEFAULT 0,
    UNIQUE (tenant, account)
) STRICT;
-- Identifiers that were seen with them: asked for in turn.
CREATE TABLE IF NOT EXISTS erasure_identifier (
    number INTEGER NOT NULL,
    identifier TEXT NOT NULL,
    PRIMARY KEY (number, identifier)
) STRICT, WITHOUT ROWID;";

/// Blocks read at one poll: bounds the memory of a poll to a few hundred thousand records after a long stop.
const MAX_BLOCKS_PER_POLL: i64 = 64;

/// What the user can set.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Events older than this are deleted once the detector has seen them. At least 2, so that a redelivery is recognised
    /// for the 28 hours over which Svix retries.
    pub retention_days: u32,
    /// Size of the database above which the oldest events are deleted early.
    pub max_bytes: u64,
    /// Ids remembered to recognise duplicates, at about 20 bytes each; when more arrive within 28 hours, the span over
    /// which duplicates are recognised shrinks (metric `authspike_log_dedupe_span_seconds`).
    pub dedupe_max_ids: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { retention_days: 7, max_bytes: 4 << 30, dedupe_max_ids: 16_000_000 }
    }
}

impl Config {
    /// Every fault, as `key: what is wrong`.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !(2..=3650).contains(&self.retention_days) {
            faults.push("retention_days: must be from 2 to 3650".into());
        }
        if self.max_bytes < 64 << 20 {
            faults.push("max_bytes: must be at least 67108864 (64 MiB)".into());
        }
        if !(1000..=1_000_000_000).contains(&self.dedupe_max_ids) {
            faults.push("dedupe_max_ids: must be from 1000 to 1000000000".into());
        }
        faults
    }
}

/// Puts findings into the outbox, inside the transaction that commits them.
pub type Enqueue = Arc<dyn Fn(&Transaction<'_>, &[Finding]) -> rusqlite::Result<()> + Send + Sync>;

/// The log on SQLite.
pub struct EmbeddedLog {
    store: Store,
    head: Arc<Head>,
    appender: Arc<Appender>,
    retention: Mutex<Option<Retention>>,
    enqueue: Enqueue,
    metrics: LogMetrics,
}

/// The thread that forgets; it ends when the sender is dropped.
type Retention = (SyncSender<Infallible>, JoinHandle<()>);

impl EmbeddedLog {
    /// Opens the log in `store`, whose schema must include [`SCHEMA`].
    ///
    /// # Errors
    /// The store cannot be read, or holds something this version cannot read.
    pub fn open(
        store: Store,
        config: &Config,
        enqueue: Enqueue,
        clock: &Clock,
        metrics: &LogMetrics,
    ) -> Result<Self, LogError> {
        let next: i64 = store
            .read(|connection| {
                connection.query_row("SELECT coalesce(max(first_offset + records), 0) FROM block", [], |row| row.get(0))
            })
            .and_then(|in_blocks: i64| {
                // Retention may have emptied the table; the offset still must not go back.
                let in_snapshots: i64 = store.read(|connection| {
                    connection.query_row("SELECT coalesce(max(next_offset), 0) FROM snapshot", [], |row| row.get(0))
                })?;
                Ok(in_blocks.max(in_snapshots))
            })?;
        let ids = load_ids(&store, config.dedupe_max_ids, clock.now())?;
        let head = Arc::new(Head::new(Offset(unsigned(next))));
        let (config, clock) = (config.clone(), clock.clone());
        let appender =
            Appender::new(store.clone(), ids, config.clone(), Arc::clone(&head), clock.clone(), metrics.clone());
        let appender = Arc::new(appender);
        let (running, stop) = sync_channel(0);
        let retention = {
            let (store, appender) = (store.clone(), Arc::clone(&appender));
            std::thread::Builder::new()
                .name("log-retention".into())
                .spawn(move || retention::run(&store, &config, &appender, &clock, &stop))
                .map_err(|error| LogError::Unavailable(format!("cannot start the log's retention: {error}")))?
        };
        let retention = Mutex::new(Some((running, retention)));
        Ok(Self { store, head, appender, retention, enqueue, metrics: metrics.clone() })
    }

    /// Finishes the waiting appends; later ones answer [`AppendError::Unavailable`]. Blocks.
    pub fn close(&self) {
        self.appender.close();
        let retention = self.retention.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((running, thread)) = retention {
            drop(running);
            // A panic there has cost nothing but room.
            let _ = thread.join();
        }
    }
}

impl EmbeddedLog {
    async fn write(&self, records: impl ExactSizeIterator<Item = Record> + Send) -> Result<Vec<Appended>, AppendError> {
        let stopwatch = Stopwatch::start();
        let (reply, answer) = oneshot::channel();
        let append = Append::encode(records, reply).map_err(AppendError::Unavailable)?;
        self.appender.push(append)?;
        let answer = answer.await.map_or_else(|_| Err(closed()), Answer::into_appended);
        if answer.is_ok() {
            self.metrics.append_seconds.observe(stopwatch.elapsed().as_secs_f64());
        }
        answer
    }
}

#[async_trait]
impl Log for EmbeddedLog {
    async fn append(&self, events: Vec<AuthEvent>) -> Result<Vec<Appended>, AppendError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        self.write(events.into_iter().map(Record::Event)).await
    }

    async fn tick(&self, _: Partition, at: Timestamp) -> Result<(), AppendError> {
        self.write(std::iter::once(Record::Tick { at })).await.map(|_| ())
    }

    fn poll(&self, _: Partition, from: Offset, wait: Duration) -> Result<Polled, LogError> {
        if self.head.wait_past(from, wait) <= from {
            return Ok(Polled { records: Vec::new(), next: from });
        }
        let blocks = self.store.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT first_offset, records, body FROM block
                     WHERE first_offset >= (SELECT coalesce(max(first_offset), 0) FROM block WHERE first_offset <= ?1)
                     ORDER BY first_offset LIMIT ?2",
                )?
                .query_map(params![signed(from.0), MAX_BLOCKS_PER_POLL], |row| {
                    Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, Vec<u8>>(2)?))
                })?
                .collect::<rusqlite::Result<Vec<_>>>()
        })?;
        let mut polled = Polled { records: Vec::new(), next: from };
        for (first, count, body) in blocks {
            let (first, end) = (unsigned(first), unsigned(first + count));
            if end <= polled.next.0 {
                continue;
            }
            let skip = usize::try_from(polled.next.0.saturating_sub(first)).unwrap_or(usize::MAX);
            polled.records.extend(block::decode(&body)?.into_iter().skip(skip));
            polled.next = Offset(end);
        }
        Ok(polled)
    }

    fn commit(&self, partition: Partition, commit: Commit) -> Result<(), LogError> {
        let enqueue = Arc::clone(&self.enqueue);
        self.store.write_blocking(move |transaction| {
            enqueue(transaction, &commit.findings)?;
            if let Some(snapshot) = &commit.snapshot {
                transaction
                    .prepare_cached(
                        "INSERT OR REPLACE INTO snapshot (partition, next_offset, state) VALUES (?1, ?2, ?3)",
                    )?
                    .execute(params![partition.0, signed(snapshot.offset.0), snapshot.state])?;
                erasure::put(transaction, &commit.erasures)?;
            }
            Ok(())
        })?;
        Ok(())
    }

    fn snapshot(&self, partition: Partition) -> Result<Option<Snapshot>, LogError> {
        let found = self.store.read(|connection| {
            connection
                .query_row("SELECT next_offset, state FROM snapshot WHERE partition = ?1", [partition.0], |row| {
                    Ok(Snapshot { offset: Offset(unsigned(row.get(0)?)), state: row.get(1)? })
                })
                .optional()
        })?;
        Ok(found)
    }

    fn head(&self, _: Partition) -> Offset {
        self.head.get()
    }

    fn fault(&self) -> Option<String> {
        self.store.fault()
    }
}

impl From<StoreError> for LogError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// Rebuilds the window of ids from the stored blocks.
fn load_ids(store: &Store, max_ids: usize, now: Timestamp) -> Result<IdWindow, StoreError> {
    let mut window = IdWindow::new(max_ids);
    store.read(|connection| {
        let mut statement = connection
            .prepare("SELECT appended_at, fingerprints FROM block_ids WHERE appended_at >= ?1 ORDER BY first_offset")?;
        let mut rows = statement.query([now.plus_millis(-SPAN_MILLIS).0])?;
        while let Some(row) = rows.next()? {
            let at = Timestamp(row.get(0)?);
            for id in row.get_ref(1)?.as_blob()?.as_chunks().0 {
                window.insert(u64::from_le_bytes(*id), at);
            }
        }
        Ok(())
    })?;
    Ok(window)
}

fn closed() -> AppendError {
    AppendError::Unavailable("the log is closed".into())
}

/// SQLite integers are signed; offsets and times stay far below 2^63.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

#[cfg(test)]
mod tests;
