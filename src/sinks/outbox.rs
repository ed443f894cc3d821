//! What has to be delivered, what was, and what never will be: the durable queue between the detector and the sinks.
//!
//! Invariant: a revision is in the outbox once per sink, however often the detector makes it again, and stays pending
//! until its sink has taken or refused it. Revisions of one finding reach a sink in order, one at a time; different
//! findings do not wait for each other. Nothing leaves without a trace: what is given up becomes a dead letter with its
//! reason.
//!
//! Not here: sending (`sinks::dispatch`), and opening the database (`store`), which includes [`SCHEMA`].

use rusqlite::{Transaction, params};
use uuid::Uuid;

use crate::event::Timestamp;
use crate::finding::Finding;
use crate::store::{Store, StoreError};

mod bounds;
mod queue;
mod upstream;

pub use queue::{DeadLetter, Due, Figures};
pub use upstream::{enqueue_again, give_up, unsettled};

use super::Delivery;

/// The outbox's tables. Ids are text and times milliseconds since the Unix epoch, so that `sqlite3` shows what a SIEM shows.
pub const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS finding_revision (
    revision_id TEXT PRIMARY KEY,
    finding_id TEXT NOT NULL,
    revision INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    rule TEXT NOT NULL,
    severity TEXT NOT NULL,
    lifecycle TEXT NOT NULL,
    at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS finding_revision_created ON finding_revision (created_at);
CREATE TABLE IF NOT EXISTS delivery (
    id INTEGER PRIMARY KEY,
    sink TEXT NOT NULL,
    revision_id TEXT NOT NULL REFERENCES finding_revision (revision_id),
    finding_id TEXT NOT NULL,
    revision INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'delivered', 'dead')),
    attempts INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    next_at INTEGER NOT NULL,
    settled_at INTEGER,
    last_error TEXT,
    UNIQUE (revision_id, sink)
) STRICT;
CREATE INDEX IF NOT EXISTS delivery_order ON delivery (sink, finding_id, revision) WHERE state = 'pending';
CREATE INDEX IF NOT EXISTS delivery_due ON delivery (sink, next_at, id, created_at) WHERE state = 'pending';
CREATE INDEX IF NOT EXISTS delivery_dead ON delivery (sink, settled_at) WHERE state = 'dead';";

/// The first retry comes within this, each next within twice as much.
const BASE_DELAY_MILLIS: i64 = 1000;
/// A receiver that comes back is noticed within five minutes, and one that is down is not hammered.
const MAX_DELAY_MILLIS: i64 = 5 * 60 * 1000;
/// A due time further ahead than any delay means that the wall clock has been set back since: it is due now.
const MAX_AHEAD_MILLIS: i64 = 2 * MAX_DELAY_MILLIS;
/// A reason is a sentence; a receiver that answers with a page is cut.
const MAX_REASON_CHARS: usize = 500;

/// Puts `findings` into the outbox for each of `sinks`, inside the caller's transaction; returns how many were new. A
/// revision that is already known, delivered or not, is left as it is: that is what makes a replay harmless.
///
/// # Errors
/// The database's own. A finding that cannot be written as JSON counts as one.
pub fn enqueue(
    tx: &Transaction<'_>,
    sinks: &[String],
    findings: &[Finding],
    now: Timestamp,
) -> rusqlite::Result<usize> {
    enqueue_within(tx, sinks, findings, now, bounds::MAX_PENDING)
}

fn enqueue_within(
    tx: &Transaction<'_>,
    sinks: &[String],
    findings: &[Finding],
    now: Timestamp,
    max_pending: i64,
) -> rusqlite::Result<usize> {
    let mut new = 0;
    for finding in findings {
        if !insert_revision(tx, finding, now)? {
            continue;
        }
        new += 1;
        let mut insert = tx.prepare_cached(
            "INSERT INTO delivery (sink, revision_id, finding_id, revision, state, attempts, created_at, next_at)
             VALUES (?1, ?2, ?3, ?4, 'pending', 0, ?5, ?5)",
        )?;
        for sink in sinks {
            insert.execute(params![
                sink,
                text(finding.revision_id),
                text(finding.finding_id),
                finding.revision,
                now.0
            ])?;
        }
    }
    if new > 0 {
        for sink in sinks {
            bounds::make_room(tx, sink, now, max_pending)?;
        }
    }
    Ok(new)
}

/// Whether the revision was new.
fn insert_revision(tx: &Transaction<'_>, finding: &Finding, now: Timestamp) -> rusqlite::Result<bool> {
    let body = serde_json::to_string(finding).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let inserted = tx
        .prepare_cached(
            "INSERT OR IGNORE INTO finding_revision
             (revision_id, finding_id, revision, tenant, rule, severity, lifecycle, at, created_at, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            text(finding.revision_id),
            text(finding.finding_id),
            finding.revision,
            finding.tenant.0,
            finding.rule.as_str(),
            finding.severity.as_str(),
            finding.lifecycle.as_str(),
            finding.at.0,
            now.0,
            body
        ])?;
    Ok(inserted == 1)
}

/// The sinks' side of the outbox; clones share the store.
#[derive(Clone, Debug)]
pub struct Outbox(Store);

/// What became of one delivery, to be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Which revision.
    pub revision_id: Uuid,
    /// How often it had been tried before, as [`Due`] said.
    pub attempts: u32,
    /// What became of it.
    pub delivery: Delivery,
}

impl Outbox {
    /// The outbox in `store`, whose schema must include [`SCHEMA`].
    #[must_use]
    pub const fn new(store: Store) -> Self {
        Self(store)
    }

    /// What `sink` should be sent at `now`, at most `limit`: of each finding the earliest pending revision, if it is due.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn due(&self, sink: &str, now: Timestamp, limit: usize) -> Result<Vec<Due>, StoreError> {
        let sink = sink.to_owned();
        self.read(move |connection| queue::due(connection, &sink, now, limit)).await
    }

    /// Records what became of deliveries to `sink`: accepted and refused ones are settled, others are due again after a
    /// full-jitter exponential delay.
    ///
    /// # Errors
    /// See [`StoreError`]; after one nothing is recorded, and the caller must try again rather than deliver again.
    pub async fn record(&self, sink: &str, outcomes: &[Outcome], now: Timestamp) -> Result<(), StoreError> {
        let sink = sink.to_owned();
        let outcomes: Vec<(Outcome, Timestamp)> =
            outcomes.iter().map(|outcome| (outcome.clone(), now.plus_millis(delay_millis(outcome.attempts)))).collect();
        self.0.write(move |tx| queue::record(tx, &sink, &outcomes, now)).await
    }

    /// Depth, age and next due time of `sink`.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn figures(&self, sink: &str) -> Result<Figures, StoreError> {
        let sink = sink.to_owned();
        self.read(move |connection| queue::figures(connection, &sink)).await
    }

    /// Gives up what is pending for sinks other than `sinks`: a sink that is no longer configured would otherwise hold its
    /// revisions for ever. Returns how many. Call it at start.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn retire_others(&self, sinks: &[String], now: Timestamp) -> Result<usize, StoreError> {
        let sinks = sinks.to_vec();
        self.0.write(move |tx| bounds::retire_others(tx, &sinks, now)).await
    }

    /// Deletes what was settled long ago, a bounded amount at a time; returns how many revisions. Call it again while that
    /// is [`Outbox::PRUNED_AT_ONCE`].
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn prune(&self, now: Timestamp) -> Result<usize, StoreError> {
        self.0.write(move |tx| bounds::prune(tx, now)).await
    }

    /// Most revisions that one [`Outbox::prune`] deletes.
    pub const PRUNED_AT_ONCE: usize = bounds::PRUNED_AT_ONCE;

    /// The newest dead letters, at most `limit`.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        self.read(move |connection| queue::dead_letters(connection, limit)).await
    }

    /// Makes a dead letter pending again; `false` when there is none.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn revive(&self, sink: &str, revision_id: Uuid, now: Timestamp) -> Result<bool, StoreError> {
        let sink = sink.to_owned();
        self.0.write(move |tx| queue::revive(tx, &sink, revision_id, now)).await
    }

    /// Reads block, so they run on a thread that may.
    async fn read<T, F>(&self, query: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let store = self.0.clone();
        // A panic of the query, or the end of the runtime.
        tokio::task::spawn_blocking(move || store.read(query)).await.unwrap_or(Err(StoreError::Closed))
    }
}

/// Full jitter: anywhere from nothing to the whole delay, so that what failed together does not come back together.
/// `attempts` is how often it had been tried before this failure.
pub(super) fn delay_millis(attempts: u32) -> i64 {
    let ceiling = BASE_DELAY_MILLIS.saturating_mul(1_i64 << attempts.min(20)).min(MAX_DELAY_MILLIS);
    // Without entropy the delay is the full one: late, but not hammering.
    let Ok(random) = getrandom::u64() else { return ceiling };
    i64::try_from(random % (ceiling.unsigned_abs() + 1)).unwrap_or(ceiling)
}

fn text(id: Uuid) -> String {
    id.to_string()
}

/// `reason` cut to what is worth keeping.
fn brief(reason: &str) -> String {
    reason.chars().take(MAX_REASON_CHARS).collect()
}

#[cfg(test)]
mod tests;
