//! The durable queue before the sinks.
//!
//! Invariant: a revision that was enqueued stays until its sink has taken or refused it, over restarts and outages; each
//! sink gets the revisions of one finding in order, while different findings may overtake each other. A revision that a
//! replay after a crash makes again is recognised, also after its delivery, for [`DELIVERED_KEPT_MILLIS`].
//!
//! Not here: sending (`dispatch`).

use rusqlite::{Connection, Transaction, params};

use super::Delivery;
use crate::event::Timestamp;
use crate::finding::Finding;
use crate::store::{Store, StoreError};

/// Tables of the outbox.
pub const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS finding (
    revision_id BLOB PRIMARY KEY,
    created_at INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outbox (
    id INTEGER PRIMARY KEY,
    sink TEXT NOT NULL,
    revision_id BLOB NOT NULL,
    finding_id BLOB NOT NULL,
    revision INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'delivered', 'dead')),
    attempts INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    next_at INTEGER NOT NULL,
    last_error TEXT,
    UNIQUE (sink, revision_id)
) STRICT;
CREATE INDEX IF NOT EXISTS outbox_due ON outbox (sink, next_at, id) WHERE state = 'pending';
CREATE INDEX IF NOT EXISTS outbox_order ON outbox (sink, finding_id, revision) WHERE state = 'pending';
CREATE INDEX IF NOT EXISTS outbox_done ON outbox (created_at) WHERE state <> 'pending';";

/// Delivered revisions are remembered so long: a crash repeats at most what came since the last snapshot, minutes; the
/// rest of the week is for the person who asks what was sent.
const DELIVERED_KEPT_MILLIS: i64 = 7 * 86_400_000;
/// Dead letters are kept so long.
const DEAD_KEPT_MILLIS: i64 = 90 * 86_400_000;
/// Revisions one sink may owe: at 4 kB each 400 MB of disk, weeks of an outage.
const MAX_PENDING: i64 = 100_000;
/// First wait after a failed delivery; doubled each time, drawn between nothing and all of it.
const BACKOFF_BASE_MILLIS: i64 = 1000;
/// Longest wait: a SIEM that is back is noticed within five minutes.
const BACKOFF_CAP_MILLIS: i64 = 300_000;

/// Puts findings before every one of `sinks`. A revision that is already there is left as it is.
///
/// # Errors
/// The database's.
pub fn enqueue(
    transaction: &Transaction<'_>,
    sinks: &[String],
    findings: &[Finding],
    now: Timestamp,
) -> rusqlite::Result<()> {
    for finding in findings {
        let body =
            serde_json::to_string(finding).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        let new = transaction
            .prepare_cached("INSERT OR IGNORE INTO finding (revision_id, created_at, body) VALUES (?1, ?2, ?3)")?
            .execute(params![finding.revision_id.as_bytes(), now.0, body])?;
        if new == 0 {
            continue;
        }
        for sink in sinks {
            transaction
                .prepare_cached(
                    "INSERT OR IGNORE INTO outbox (sink, revision_id, finding_id, revision, state, created_at, next_at)
                     VALUES (?1, ?2, ?3, ?4, 'pending', ?5, ?5)",
                )?
                .execute(params![
                    sink,
                    finding.revision_id.as_bytes(),
                    finding.finding_id.as_bytes(),
                    finding.revision,
                    now.0
                ])?;
        }
    }
    Ok(())
}

/// One revision that a sink owes.
#[derive(Clone, Debug, PartialEq)]
pub struct Due {
    /// The row.
    pub id: i64,
    /// Deliveries tried before.
    pub attempts: u32,
    /// What to deliver.
    pub finding: Finding,
}

/// What a sink owes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Revisions.
    pub depth: i64,
    /// When the oldest was enqueued.
    pub oldest: Option<Timestamp>,
    /// When the next one is due.
    pub next_at: Option<Timestamp>,
}

/// The queue.
#[derive(Clone, Debug)]
pub struct Outbox(Store);

impl Outbox {
    /// The outbox in `store`, whose schema must include [`SCHEMA`].
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self(store)
    }

    /// Up to `max` revisions that `sink` owes and that are due at `now`, oldest first; of each finding only the first that
    /// is owed. Blocks the calling thread.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn due(&self, sink: &str, now: Timestamp, max: u32) -> Result<Vec<Due>, StoreError> {
        self.0.read(|connection| due(connection, sink, now, max))
    }

    /// What `sink` owes. Blocks the calling thread.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn backlog(&self, sink: &str) -> Result<Backlog, StoreError> {
        self.0.read(|connection| {
            connection.query_row(
                "SELECT count(*), min(created_at), min(next_at) FROM outbox WHERE sink = ?1 AND state = 'pending'",
                [sink],
                |row| {
                    let (oldest, next_at): (Option<i64>, Option<i64>) = (row.get(1)?, row.get(2)?);
                    Ok(Backlog { depth: row.get(0)?, oldest: oldest.map(Timestamp), next_at: next_at.map(Timestamp) })
                },
            )
        })
    }

    /// Records what became of deliveries. `draw` gives a number in `[0, 1)` for each wait.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn record(
        &self,
        results: Vec<(Due, Delivery)>,
        now: Timestamp,
        mut draw: impl FnMut() -> f64 + Send + 'static,
    ) -> Result<(), StoreError> {
        self.0
            .write(move |transaction| {
                for (due, delivery) in &results {
                    record(transaction, due, delivery, now, draw())?;
                }
                Ok(())
            })
            .await
    }

    /// Forgets what was delivered or died long ago, and keeps what `sink` owes within its bound.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn tidy(&self, sink: &str, now: Timestamp) -> Result<(), StoreError> {
        let sink = sink.to_owned();
        self.0.write(move |transaction| tidy(transaction, &sink, now)).await
    }
}

fn due(connection: &Connection, sink: &str, now: Timestamp, max: u32) -> rusqlite::Result<Vec<Due>> {
    connection
        .prepare_cached(
            "SELECT owed.id, owed.attempts, finding.body FROM outbox AS owed JOIN finding USING (revision_id)
             WHERE owed.sink = ?1 AND owed.state = 'pending' AND owed.next_at <= ?2 AND NOT EXISTS (
                 SELECT 1 FROM outbox AS earlier
                 WHERE earlier.sink = owed.sink AND earlier.finding_id = owed.finding_id
                   AND earlier.revision < owed.revision AND earlier.state = 'pending')
             ORDER BY owed.id LIMIT ?3",
        )?
        .query_map(params![sink, now.0, max], |row| {
            let body: String = row.get(2)?;
            let finding = serde_json::from_str(&body).map_err(|error| {
                rusqlite::Error::FromSqlConversionFailure(2, rusqlite::types::Type::Text, error.into())
            })?;
            Ok(Due { id: row.get(0)?, attempts: row.get(1)?, finding })
        })?
        .collect()
}

fn record(
    transaction: &Transaction<'_>,
    due: &Due,
    delivery: &Delivery,
    now: Timestamp,
    draw: f64,
) -> rusqlite::Result<()> {
    let (state, next_at, error) = match delivery {
        Delivery::Accepted => ("delivered", now, None),
        Delivery::Retry(error) => ("pending", now.plus_millis(backoff(due.attempts, draw)), Some(error)),
        Delivery::Refused(error) => ("dead", now, Some(error)),
    };
    transaction
        .prepare_cached(
            "UPDATE outbox SET state = ?2, next_at = ?3, last_error = ?4, attempts = attempts + 1 WHERE id = ?1",
        )?
        .execute(params![due.id, state, next_at.0, error])?;
    Ok(())
}

/// The wait after the delivery that followed `attempts` others: exponential, with full jitter, at least 100 ms.
fn backoff(attempts: u32, draw: f64) -> i64 {
    let most = BACKOFF_BASE_MILLIS.saturating_mul(1 << attempts.min(20)).min(BACKOFF_CAP_MILLIS);
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "at most five minutes")]
    let drawn = (most as f64 * draw) as i64;
    drawn.max(100)
}

fn tidy(transaction: &Transaction<'_>, sink: &str, now: Timestamp) -> rusqlite::Result<()> {
    for (state, kept) in [("delivered", DELIVERED_KEPT_MILLIS), ("dead", DEAD_KEPT_MILLIS)] {
        transaction.execute(
            "DELETE FROM outbox WHERE state = ?1 AND created_at < ?2",
            params![state, now.plus_millis(-kept).0],
        )?;
    }
    transaction.execute(
        "DELETE FROM finding WHERE created_at < ?1
         AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.revision_id = finding.revision_id)",
        [now.plus_millis(-DELIVERED_KEPT_MILLIS).0],
    )?;
    let pending = |transaction: &Transaction<'_>| -> rusqlite::Result<i64> {
        transaction
            .query_row("SELECT count(*) FROM outbox WHERE sink = ?1 AND state = 'pending'", [sink], |row| row.get(0))
    };
    if pending(transaction)? <= MAX_PENDING {
        return Ok(());
    }
    // Each revision is complete: the newest one of a finding says all that the ones before it said.
    transaction.execute(
        "UPDATE outbox SET state = 'dead', last_error = 'superseded by a newer revision while the sink was away'
         WHERE sink = ?1 AND state = 'pending' AND EXISTS (
             SELECT 1 FROM outbox AS newer WHERE newer.sink = outbox.sink AND newer.finding_id = outbox.finding_id
               AND newer.revision > outbox.revision AND newer.state = 'pending')",
        [sink],
    )?;
    let over = pending(transaction)? - MAX_PENDING;
    if over > 0 {
        tracing::error!(sink, findings = over, "more findings wait than the outbox holds; the oldest are dead letters");
        transaction.execute(
            "UPDATE outbox SET state = 'dead', last_error = 'the outbox is full' WHERE id IN (
                 SELECT id FROM outbox WHERE sink = ?1 AND state = 'pending' ORDER BY id LIMIT ?2)",
            params![sink, over],
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
