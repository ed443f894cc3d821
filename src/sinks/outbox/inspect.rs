//! What a person asks the outbox, and does to it: behind `authspike outbox`.
//!
//! Invariant: only what is dead can be replayed or purged; nothing that waits can be lost from here. Everything works on
//! the database beside a running process, which notices within seconds.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, named_params};
use uuid::Uuid;

use super::queue::id;
use crate::event::Timestamp;
use crate::finding::Finding;

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It waits.
    Pending,
    /// It arrived.
    Delivered,
    /// It was given up.
    Dead,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Pending, Self::Delivered, Self::Dead];

    /// The value in the database and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
        }
    }
}

/// Which deliveries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Of this sink; `None`: of all.
    pub sink: Option<String>,
    /// In this state; `None`: in any.
    pub state: Option<State>,
    /// Of this revision, or of any revision of this finding; `None`: of all.
    pub id: Option<Uuid>,
    /// At most so many.
    pub limit: usize,
}

impl Filter {
    /// The dead letters, at most `limit`.
    #[must_use]
    pub const fn dead(limit: usize) -> Self {
        Self { sink: None, state: Some(State::Dead), id: None, limit }
    }

    fn parameters(&self) -> [(&'static str, Value); 4] {
        let text = |text: Option<String>| text.map_or(Value::Null, Value::Text);
        [
            (":sink", text(self.sink.clone())),
            (":state", text(self.state.map(|state| state.as_str().to_owned()))),
            (":id", text(self.id.map(|id| id.to_string()))),
            (":limit", Value::Integer(i64::try_from(self.limit).unwrap_or(i64::MAX))),
        ]
    }
}

const CONDITION: &str = "(:sink IS NULL OR d.sink = :sink) AND (:state IS NULL OR d.state = :state)
    AND (:id IS NULL OR r.revision_id = :id OR r.finding_id = :id)";

/// One delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its row.
    pub entry: i64,
    /// Where it goes.
    pub sink: String,
    /// Which revision.
    pub revision_id: Uuid,
    /// Of which finding.
    pub finding_id: Uuid,
    /// Its number.
    pub revision: u32,
    /// The rule that fired.
    pub rule: String,
    /// How bad it is.
    pub severity: String,
    /// Opened, updated or closed.
    pub lifecycle: String,
    /// `pending`, `delivered` or `dead`.
    pub state: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was put in.
    pub created_at: Timestamp,
    /// When it may be tried next, if it waits.
    pub next_at: Timestamp,
    /// When it arrived or was given up.
    pub settled_at: Option<Timestamp>,
    /// What the last failure was.
    pub reason: Option<String>,
}

/// How one sink stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkEntry {
    /// Its name.
    pub sink: String,
    /// `ok`, `failing`, `open` or `blocked`.
    pub state: String,
    /// Deliveries that wait, and their bytes.
    pub pending: u64,
    /// See `pending`.
    pub pending_bytes: u64,
    /// Dead letters.
    pub dead: u64,
    /// Since when it is not `ok`.
    pub since: Option<Timestamp>,
    /// What was said last.
    pub reason: Option<String>,
}

/// Deliveries, newest first.
///
/// # Errors
/// The database's own.
pub fn list(connection: &Connection, filter: &Filter) -> rusqlite::Result<Vec<Entry>> {
    let mut select = connection.prepare_cached(&format!(
        "SELECT d.entry, d.sink, r.revision_id, r.finding_id, r.revision, r.rule, r.severity, r.lifecycle, d.state,
                d.attempts, d.created_at, d.next_at, d.settled_at, d.last_error
         FROM outbox_delivery AS d JOIN outbox_revision AS r USING (entry)
         WHERE {CONDITION} ORDER BY d.entry DESC, d.sink LIMIT :limit"
    ))?;
    let parameters = filter.parameters();
    let parameters: Vec<(&str, &dyn rusqlite::ToSql)> =
        parameters.iter().map(|(name, value)| (*name, value as &dyn rusqlite::ToSql)).collect();
    select.query_map(parameters.as_slice(), entry)?.collect()
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry {
        entry: row.get(0)?,
        sink: row.get(1)?,
        revision_id: id(row, 2)?,
        finding_id: id(row, 3)?,
        revision: row.get(4)?,
        rule: row.get(5)?,
        severity: row.get(6)?,
        lifecycle: row.get(7)?,
        state: row.get(8)?,
        attempts: row.get(9)?,
        created_at: Timestamp(row.get(10)?),
        next_at: Timestamp(row.get(11)?),
        settled_at: row.get::<_, Option<i64>>(12)?.map(Timestamp),
        reason: row.get(13)?,
    })
}

/// Every sink that something was ever put in for.
///
/// # Errors
/// The database's own.
pub fn sinks(connection: &Connection) -> rusqlite::Result<Vec<SinkEntry>> {
    let mut select = connection
        .prepare("SELECT sink, state, pending, pending_bytes, dead, since, reason FROM outbox_sink ORDER BY sink")?;
    let sinks = select.query_map([], |row| {
        Ok(SinkEntry {
            sink: row.get(0)?,
            state: row.get(1)?,
            pending: row.get::<_, i64>(2)?.unsigned_abs(),
            pending_bytes: row.get::<_, i64>(3)?.unsigned_abs(),
            dead: row.get::<_, i64>(4)?.unsigned_abs(),
            since: row.get::<_, Option<i64>>(5)?.map(Timestamp),
            reason: row.get(6)?,
        })
    })?;
    sinks.collect()
}

/// The finding of a row, as it is stored: nothing is redacted.
///
/// # Errors
/// The database's own; a body that cannot be read counts as one.
pub fn finding(connection: &Connection, entry: i64) -> rusqlite::Result<Option<Finding>> {
    let body: Option<String> = connection
        .prepare_cached("SELECT body FROM outbox_revision WHERE entry = ?1")?
        .query_row([entry], |row| row.get(0))
        .optional()?;
    let read = |body: String| {
        serde_json::from_str(&body)
            .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, error.into()))
    };
    body.map(read).transpose()
}

/// Makes dead letters pending again, with a fresh age and no attempts; returns how many. `filter.state` is not looked at.
///
/// # Errors
/// The database's own.
pub fn replay(tx: &Transaction<'_>, filter: &Filter, now: Timestamp) -> rusqlite::Result<usize> {
    let mut replayed = 0;
    for dead in dead(tx, filter)? {
        replayed += tx
            .prepare_cached(
                "UPDATE outbox_delivery
                 SET state = 'pending', attempts = 0, created_at = :now, next_at = :now, settled_at = NULL
                 WHERE entry = :entry AND sink = :sink AND state = 'dead'",
            )?
            .execute(named_params! { ":now": now.0, ":entry": dead.entry, ":sink": dead.sink })?;
    }
    Ok(replayed)
}

/// Deletes dead letters for good; returns how many. `filter.state` is not looked at. The revisions stay known, so that a
/// replay of the log does not bring them back.
///
/// # Errors
/// The database's own.
pub fn purge(tx: &Transaction<'_>, filter: &Filter) -> rusqlite::Result<usize> {
    let mut purged = 0;
    for dead in dead(tx, filter)? {
        purged += tx
            .prepare_cached("DELETE FROM outbox_delivery WHERE entry = :entry AND sink = :sink AND state = 'dead'")?
            .execute(named_params! { ":entry": dead.entry, ":sink": dead.sink })?;
    }
    Ok(purged)
}

fn dead(tx: &Transaction<'_>, filter: &Filter) -> rusqlite::Result<Vec<Entry>> {
    list(tx, &Filter { state: Some(State::Dead), ..filter.clone() })
}
