//! The statements behind delivery: what is due, what became of it, what is dead.
//!
//! Invariant: a settled delivery never becomes pending again by itself. Only a late acceptance changes a dead letter (it
//! did arrive), and only [`revive`] makes one pending.

use rusqlite::{Connection, OptionalExtension as _, Transaction, named_params, params};
use uuid::Uuid;

use crate::event::Timestamp;
use crate::finding::Finding;
use crate::sinks::Delivery;

use super::{MAX_AHEAD_MILLIS, Outcome, brief, text};

/// A delivery that should be tried now.
#[derive(Clone, Debug, PartialEq)]
pub struct Due {
    /// Which revision.
    pub revision_id: Uuid,
    /// How often it has been tried.
    pub attempts: u32,
    /// What to send, or why the stored body cannot be read.
    pub finding: Result<Finding, String>,
}

/// One sink's queue in figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Deliveries that wait.
    pub pending: u64,
    /// When the oldest of them was put in.
    pub oldest_at: Option<Timestamp>,
    /// When the next can be tried.
    pub next_at: Option<Timestamp>,
    /// Deliveries given up.
    pub dead: u64,
}

/// A delivery that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Where it should have gone.
    pub sink: String,
    /// Which revision.
    pub revision_id: Uuid,
    /// Of which finding.
    pub finding_id: Uuid,
    /// Its number.
    pub revision: u32,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was given up.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
}

/// The earliest pending revision of a finding: the condition under which `delivery d` may be tried at all.
const IS_FIRST: &str = "NOT EXISTS (SELECT 1 FROM delivery AS earlier
    WHERE earlier.sink = d.sink AND earlier.state = 'pending'
      AND earlier.finding_id = d.finding_id AND earlier.revision < d.revision)";

pub(super) fn due(connection: &Connection, sink: &str, now: Timestamp, limit: usize) -> rusqlite::Result<Vec<Due>> {
    let mut select = connection.prepare_cached(&format!(
        "SELECT d.revision_id, d.attempts, r.body
         FROM delivery AS d JOIN finding_revision AS r USING (revision_id)
         WHERE d.sink = :sink AND d.state = 'pending'
           AND (d.next_at <= :now OR d.next_at > :ahead) AND {IS_FIRST}
         ORDER BY d.next_at, d.id LIMIT :limit"
    ))?;
    let parameters = named_params! {
        ":sink": sink,
        ":now": now.0,
        ":ahead": now.plus_millis(MAX_AHEAD_MILLIS).0,
        ":limit": i64::try_from(limit).unwrap_or(i64::MAX),
    };
    let rows = select.query_map(parameters, |row| {
        let body: String = row.get(2)?;
        let finding = serde_json::from_str(&body).map_err(|error| format!("the stored body cannot be read: {error}"));
        Ok(Due { revision_id: id(row, 0)?, attempts: row.get(1)?, finding })
    })?;
    rows.collect()
}

pub(super) fn record(
    tx: &Transaction<'_>,
    sink: &str,
    outcomes: &[(Outcome, Timestamp)],
    now: Timestamp,
) -> rusqlite::Result<()> {
    for (outcome, retry_at) in outcomes {
        let revision_id = text(outcome.revision_id);
        match &outcome.delivery {
            Delivery::Accepted => tx
                .prepare_cached(
                    "UPDATE delivery SET state = 'delivered', attempts = attempts + 1, settled_at = ?3, last_error = NULL
                     WHERE sink = ?1 AND revision_id = ?2 AND state <> 'delivered'",
                )?
                .execute(params![sink, revision_id, now.0])?,
            Delivery::Retry { reason, .. }
            | Delivery::Blocked(reason)
            | Delivery::Split(reason)
            | Delivery::Bisect(reason) => tx
                .prepare_cached(
                    "UPDATE delivery SET attempts = attempts + 1, next_at = ?3, last_error = ?4
                     WHERE sink = ?1 AND revision_id = ?2 AND state = 'pending'",
                )?
                .execute(params![sink, revision_id, retry_at.0, brief(reason)])?,
            Delivery::Refused(reason) => tx
                .prepare_cached(
                    "UPDATE delivery SET state = 'dead', attempts = attempts + 1, settled_at = ?3, last_error = ?4
                     WHERE sink = ?1 AND revision_id = ?2 AND state = 'pending'",
                )?
                .execute(params![sink, revision_id, now.0, brief(reason)])?,
        };
    }
    Ok(())
}

pub(super) fn figures(connection: &Connection, sink: &str) -> rusqlite::Result<Figures> {
    let (pending, oldest_at) = connection
        .prepare_cached("SELECT count(*), min(created_at) FROM delivery WHERE sink = ?1 AND state = 'pending'")?
        .query_row([sink], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?)))?;
    let next_at: Option<i64> = connection
        .prepare_cached(&format!(
            "SELECT d.next_at FROM delivery AS d WHERE d.sink = ?1 AND d.state = 'pending' AND {IS_FIRST}
             ORDER BY d.next_at LIMIT 1"
        ))?
        .query_row([sink], |row| row.get(0))
        .optional()?;
    let dead: i64 = connection
        .prepare_cached("SELECT count(*) FROM delivery WHERE state = 'dead' AND sink = ?1")?
        .query_row([sink], |row| row.get(0))?;
    Ok(Figures {
        pending: pending.unsigned_abs(),
        oldest_at: oldest_at.map(Timestamp),
        next_at: next_at.map(Timestamp),
        dead: dead.unsigned_abs(),
    })
}

pub(super) fn dead_letters(connection: &Connection, limit: usize) -> rusqlite::Result<Vec<DeadLetter>> {
    let mut select = connection.prepare_cached(
        "SELECT sink, revision_id, finding_id, revision, attempts, settled_at, last_error
         FROM delivery WHERE state = 'dead' ORDER BY settled_at DESC, id DESC LIMIT ?1",
    )?;
    let rows = select.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
        Ok(DeadLetter {
            sink: row.get(0)?,
            revision_id: id(row, 1)?,
            finding_id: id(row, 2)?,
            revision: row.get(3)?,
            attempts: row.get(4)?,
            at: Timestamp(row.get(5)?),
            reason: row.get::<_, Option<String>>(6)?.unwrap_or_default(),
        })
    })?;
    rows.collect()
}

pub(super) fn revive(tx: &Transaction<'_>, sink: &str, revision_id: Uuid, now: Timestamp) -> rusqlite::Result<bool> {
    let revived = tx
        .prepare_cached(
            "UPDATE delivery SET state = 'pending', attempts = 0, created_at = ?3, next_at = ?3, settled_at = NULL
             WHERE sink = ?1 AND revision_id = ?2 AND state = 'dead'",
        )?
        .execute(params![sink, text(revision_id), now.0])?;
    Ok(revived == 1)
}

/// The id in a column.
fn id(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Uuid> {
    let text: String = row.get(column)?;
    Uuid::parse_str(&text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, error.into()))
}
