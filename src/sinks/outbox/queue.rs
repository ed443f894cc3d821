//! The statements behind delivery: what is due, what became of it, how a sink stands.
//!
//! Invariant: a settled delivery never becomes pending again by itself. Only a late acceptance changes a dead letter (it
//! did arrive), and only a person makes one pending (`inspect`).

use rusqlite::{Connection, OptionalExtension as _, Transaction, named_params, params};
use uuid::Uuid;

use crate::event::Timestamp;
use crate::finding::Finding;
use crate::sinks::Delivery;
use crate::sinks::standing::{MAX_AHEAD_MILLIS, Standing};

use super::{Outcome, brief};

/// Bodies read at one time: what a batch holds in memory, together with the requests made of it. Five hundred ordinary
/// findings have one megabyte.
const MAX_BATCH_BYTES: usize = 4 << 20;

/// A delivery that should be tried now.
#[derive(Clone, Debug, PartialEq)]
pub struct Due {
    /// Its row.
    pub entry: i64,
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
    /// Bytes of them.
    pub pending_bytes: u64,
    /// When the oldest of them was put in.
    pub oldest_at: Option<Timestamp>,
    /// When the next can be tried.
    pub next_at: Option<Timestamp>,
    /// Deliveries given up.
    pub dead: u64,
}

/// The earliest pending revision of a finding: the condition under which delivery `d` may be tried at all.
const IS_FIRST: &str = "NOT EXISTS (SELECT 1 FROM outbox_delivery AS earlier
    WHERE earlier.sink = d.sink AND earlier.state = 'pending'
      AND earlier.finding_id = d.finding_id AND earlier.revision < d.revision)";

/// What is due but for the entries `on_the_way`.
pub(super) fn due(
    connection: &Connection,
    sink: &str,
    now: Timestamp,
    limit: usize,
    on_the_way: &[i64],
) -> rusqlite::Result<Vec<Due>> {
    let mut select = connection.prepare_cached(&format!(
        "SELECT d.entry, r.revision_id, d.attempts, r.body
         FROM outbox_delivery AS d JOIN outbox_revision AS r USING (entry)
         WHERE d.sink = :sink AND d.state = 'pending'
           AND d.entry NOT IN (SELECT value FROM json_each(:on_the_way))
           AND (d.next_at <= :now OR d.next_at > :ahead) AND {IS_FIRST}
         ORDER BY d.next_at, d.entry LIMIT :limit"
    ))?;
    let mut rows = select.query(named_params! {
        ":sink": sink,
        ":now": now.0,
        ":ahead": now.plus_millis(MAX_AHEAD_MILLIS).0,
        ":limit": i64::try_from(limit).unwrap_or(i64::MAX),
        ":on_the_way": json(on_the_way)?,
    })?;
    let (mut due, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let body = row.get_ref(3)?.as_str()?;
        bytes += body.len();
        if bytes > MAX_BATCH_BYTES && !due.is_empty() {
            break;
        }
        let finding = serde_json::from_str(body).map_err(|error| format!("the stored body cannot be read: {error}"));
        due.push(Due { entry: row.get(0)?, revision_id: id(row, 1)?, attempts: row.get(2)?, finding });
    }
    Ok(due)
}

/// How many deliveries wait for `sink`.
pub(super) fn pending(connection: &Connection, sink: &str) -> rusqlite::Result<usize> {
    let pending = connection
        .prepare_cached("SELECT pending FROM outbox_sink WHERE sink = ?1")?
        .query_row([sink], |row| row.get::<_, i64>(0))
        .optional()?;
    Ok(pending.map_or(0, |pending| usize::try_from(pending).unwrap_or(0)))
}

pub(super) fn record(tx: &Transaction<'_>, sink: &str, outcomes: &[Outcome], now: Timestamp) -> rusqlite::Result<()> {
    let accepted: Vec<i64> = outcomes
        .iter()
        .filter_map(|outcome| (outcome.delivery == Delivery::Accepted).then_some(outcome.entry))
        .collect();
    // Nearly all of them as a rule: in one statement, which is a third less work than one for each.
    tx.prepare_cached(
        "UPDATE outbox_delivery
         SET state = 'delivered', attempts = attempts + 1, settled_at = ?3, last_error = NULL
         WHERE sink = ?1 AND state <> 'delivered' AND entry IN (SELECT value FROM json_each(?2))",
    )?
    .execute(params![sink, json(&accepted)?, now.0])?;
    for Outcome { entry, delivery, next_at, .. } in outcomes {
        match delivery {
            Delivery::Accepted => {}
            Delivery::Refused(reason) => {
                tx.prepare_cached(
                    "UPDATE outbox_delivery
                     SET state = 'dead', attempts = attempts + 1, settled_at = ?3, last_error = ?4
                     WHERE sink = ?1 AND entry = ?2 AND state = 'pending'",
                )?
                .execute(params![sink, entry, now.0, brief(reason)])?;
            }
            Delivery::Retry { reason, .. }
            | Delivery::Blocked(reason)
            | Delivery::Split(reason)
            | Delivery::Bisect(reason) => {
                tx.prepare_cached(
                    "UPDATE outbox_delivery
                     SET attempts = attempts + 1, next_at = coalesce(?3, next_at), last_error = ?4
                     WHERE sink = ?1 AND entry = ?2 AND state = 'pending'",
                )?
                .execute(params![sink, entry, next_at.map(|at| at.0), brief(reason)])?;
            }
        }
    }
    Ok(())
}

/// Rows as a parameter of `json_each`.
fn json(entries: &[i64]) -> rusqlite::Result<String> {
    serde_json::to_string(entries).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

/// Makes due what waits alone.
pub(super) fn release(tx: &Transaction<'_>, sink: &str, now: Timestamp) -> rusqlite::Result<usize> {
    tx.prepare_cached("UPDATE outbox_delivery SET next_at = ?2 WHERE sink = ?1 AND state = 'pending' AND next_at > ?2")?
        .execute(params![sink, now.0])
}

pub(super) fn keep_standing(tx: &Transaction<'_>, sink: &str, standing: &Standing) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "INSERT INTO outbox_sink (sink, state, failures, next_at, since, reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (sink) DO UPDATE SET state = ?2, failures = ?3, next_at = ?4, since = ?5, reason = ?6",
    )?
    .execute(params![
        sink,
        standing.state.as_str(),
        standing.failures,
        standing.next_at.map(|at| at.0),
        standing.since.map(|at| at.0),
        standing.reason.as_deref().map(brief)
    ])
    .map(drop)
}

pub(super) fn standing(connection: &Connection, sink: &str) -> rusqlite::Result<Standing> {
    let kept = connection
        .prepare_cached("SELECT state, failures, next_at, since, reason FROM outbox_sink WHERE sink = ?1")?
        .query_row([sink], |row| {
            let at = |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(Timestamp));
            Ok(Standing::restored(&row.get::<_, String>(0)?, row.get(1)?, at(2)?, at(3)?, row.get(4)?))
        })
        .optional()?;
    Ok(kept.unwrap_or_default())
}

pub(super) fn figures(connection: &Connection, sink: &str) -> rusqlite::Result<Figures> {
    let counted = connection
        .prepare_cached("SELECT pending, pending_bytes, dead FROM outbox_sink WHERE sink = ?1")?
        .query_row([sink], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)))
        .optional()?;
    let (pending, pending_bytes, dead) = counted.unwrap_or_default();
    let (mut oldest_at, mut next_at) = (None, None);
    if pending > 0 {
        oldest_at = connection
            .prepare_cached("SELECT min(created_at) FROM outbox_delivery WHERE sink = ?1 AND state = 'pending'")?
            .query_row([sink], |row| row.get(0))?;
        next_at = connection
            .prepare_cached(&format!(
                "SELECT d.next_at FROM outbox_delivery AS d WHERE d.sink = ?1 AND d.state = 'pending' AND {IS_FIRST}
                 ORDER BY d.next_at LIMIT 1"
            ))?
            .query_row([sink], |row| row.get(0))
            .optional()?;
    }
    Ok(Figures {
        pending: pending.unsigned_abs(),
        pending_bytes: pending_bytes.unsigned_abs(),
        oldest_at: oldest_at.map(Timestamp),
        next_at: next_at.map(Timestamp),
        dead: dead.unsigned_abs(),
    })
}

/// The id in a column.
pub(super) fn id(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Uuid> {
    let text = row.get_ref(column)?.as_str()?;
    Uuid::parse_str(text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, error.into()))
}
