//! What has to be delivered, what was, and what never will be: the durable queue between the detector and the sinks.
//!
//! Invariant: a revision is in the outbox once per sink, however often the detector makes it again, and stays pending
//! until its sink has taken or refused it. Revisions of one finding reach a sink in order, one at a time; different
//! findings do not wait for each other. Nothing leaves without a trace: what is given up becomes a dead letter with its
//! reason.
//!
//! Not here: sending (`sinks::dispatch`), and opening the database (`store`), which includes [`SCHEMA`].

use rusqlite::{Transaction, params};
use serde::{Deserialize, Serialize};

use crate::event::Timestamp;
use crate::finding::Finding;
use crate::store::{Store, StoreError};

mod bounds;
mod erase;
pub mod inspect;
mod queue;
mod upstream;

pub use erase::erase;
pub use queue::{Due, Figures};
pub use upstream::{enqueue_again, give_up, unsettled};

use super::route::Route;
use super::standing::Standing;
use super::{Delivery, Outlet};

/// The outbox's tables. Ids are text and times milliseconds since the Unix epoch, so that `sqlite3` shows what a SIEM
/// shows. What is counted is counted by triggers: no statement, here or by hand, can change a state and forget to.
pub const SCHEMA: &str = include_str!("outbox/schema.sql");

/// A reason is a sentence; a receiver that answers with a page is cut.
const MAX_REASON_CHARS: usize = 500;

/// What may wait, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bounds {
    /// Deliveries that may wait for one sink.
    pub max_pending: u32,
    /// Bytes they may have together.
    pub max_pending_bytes: u64,
    /// Hours after which one that was not taken is given up, unless its sink is blocked.
    pub max_age_hours: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            // At ten revisions a minute, which is a bad attack, a receiver may be down for a week.
            max_pending: 100_000,
            // A few kilobytes each.
            max_pending_bytes: 512 << 20,
            // A long weekend and the days until somebody is back.
            max_age_hours: 168,
        }
    }
}

impl Bounds {
    /// Every fault, as `key: what is wrong`.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !(100..=10_000_000).contains(&self.max_pending) {
            faults.push("max_pending: must be from 100 to 10000000".to_owned());
        }
        if !(1 << 20..=64 << 30).contains(&self.max_pending_bytes) {
            faults.push("max_pending_bytes: must be from 1048576 to 68719476736".to_owned());
        }
        if !(1..=8760).contains(&self.max_age_hours) {
            faults.push("max_age_hours: must be from 1 to 8760".to_owned());
        }
        faults
    }
}

/// Who gets which findings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The sink's name.
    pub sink: String,
    /// What it gets.
    pub route: Route,
}

impl Recipient {
    /// The recipient that `outlet` is.
    #[must_use]
    pub fn of(outlet: &Outlet) -> Self {
        Self { sink: outlet.name.clone(), route: outlet.route.clone() }
    }
}

/// Puts `findings` into the outbox for each of `recipients` that takes them, inside the caller's transaction; returns how
/// many were new. A revision that is already known, delivered or not, is left as it is: that is what makes a replay
/// harmless.
///
/// # Errors
/// The database's own. A finding that cannot be written as JSON counts as one.
pub fn enqueue(
    tx: &Transaction<'_>,
    recipients: &[Recipient],
    findings: &[Finding],
    now: Timestamp,
    bounds: &Bounds,
) -> rusqlite::Result<usize> {
    let mut new = 0;
    for finding in findings {
        let Some((entry, bytes)) = insert_revision(tx, finding, now)? else { continue };
        new += 1;
        let mut insert = tx.prepare_cached(
            "INSERT INTO outbox_delivery
             (entry, sink, finding_id, revision, bytes, state, attempts, created_at, next_at)
             VALUES (?1, ?2, ?3, ?4, ?5, 'pending', 0, ?6, ?6)",
        )?;
        let finding_id = finding.finding_id.to_string();
        for recipient in recipients.iter().filter(|recipient| recipient.route.takes(finding)) {
            insert.execute(params![entry, recipient.sink, finding_id, finding.revision, bytes, now.0])?;
        }
    }
    if new > 0 {
        for recipient in recipients {
            bounds::make_room(tx, &recipient.sink, now, bounds)?;
        }
    }
    Ok(new)
}

/// The row and the size of the revision, if it was new.
fn insert_revision(tx: &Transaction<'_>, finding: &Finding, now: Timestamp) -> rusqlite::Result<Option<(i64, i64)>> {
    let body = serde_json::to_string(finding).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let inserted = tx
        .prepare_cached(
            "INSERT OR IGNORE INTO outbox_revision
             (revision_id, finding_id, revision, tenant, rule, severity, lifecycle, at, created_at, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            finding.revision_id.to_string(),
            finding.finding_id.to_string(),
            finding.revision,
            finding.tenant.0,
            finding.rule.as_str(),
            finding.severity.as_str(),
            finding.lifecycle.as_str(),
            finding.at.0,
            now.0,
            body
        ])?;
    let bytes = i64::try_from(body.len()).unwrap_or(i64::MAX);
    Ok((inserted == 1).then(|| (tx.last_insert_rowid(), bytes)))
}

/// What became of one delivery.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Which, see [`Due::entry`].
    pub entry: i64,
    /// How often it had been tried before.
    pub attempts: u32,
    /// What.
    pub delivery: Delivery,
    /// When it is due again, if it is; `None` leaves it due, since its sink waits as a whole.
    pub next_at: Option<Timestamp>,
}

/// The sinks' side of the outbox; clones share the store.
#[derive(Clone, Debug)]
pub struct Outbox(Store);

impl Outbox {
    /// The outbox in `store`, whose schema must include [`SCHEMA`].
    #[must_use]
    pub const fn new(store: Store) -> Self {
        Self(store)
    }

    /// What `sink` should be sent at `now`, at most `limit`: of each finding the earliest pending revision, if it is due and
    /// not among the entries `on_the_way`. While some are, nothing unless about `limit` more wait: a receiver that keeps up
    /// gets one request after the other and not a swarm of small ones.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn due(
        &self,
        sink: &str,
        now: Timestamp,
        limit: usize,
        on_the_way: &[i64],
    ) -> Result<Vec<Due>, StoreError> {
        let (sink, on_the_way) = (sink.to_owned(), on_the_way.to_vec());
        self.read(move |connection| {
            if !on_the_way.is_empty() && queue::pending(connection, &sink)? < on_the_way.len() + limit {
                return Ok(Vec::new());
            }
            queue::due(connection, &sink, now, limit, &on_the_way)
        })
        .await
    }

    /// Records what became of deliveries to `sink` and how it stands: accepted and refused ones are settled, others stay.
    /// With `recovered`, what waits alone is due again too: what it failed of is over.
    ///
    /// # Errors
    /// See [`StoreError`]; after one nothing is recorded, and the caller must try again rather than deliver again.
    pub async fn record(
        &self,
        sink: &str,
        outcomes: &[Outcome],
        standing: &Standing,
        recovered: bool,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let (sink, outcomes, standing) = (sink.to_owned(), outcomes.to_vec(), standing.clone());
        self.0
            .write(move |tx| {
                if recovered {
                    queue::release(tx, &sink, now)?;
                }
                queue::record(tx, &sink, &outcomes, now)?;
                queue::keep_standing(tx, &sink, &standing)
            })
            .await
    }

    /// How `sink` stood when the process ended.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn standing(&self, sink: &str) -> Result<Standing, StoreError> {
        let sink = sink.to_owned();
        self.read(move |connection| queue::standing(connection, &sink)).await
    }

    /// Depth, size, age and next due time of `sink`.
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

    /// Gives up what has waited longer than `bounds` say, and deletes what was settled long ago, a bounded amount at a
    /// time; returns how many revisions were deleted. Call it again while that is [`Outbox::PRUNED_AT_ONCE`].
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn prune(&self, bounds: Bounds, now: Timestamp) -> Result<usize, StoreError> {
        self.0
            .write(move |tx| {
                bounds::expire(tx, &bounds, now)?;
                bounds::prune(tx, now)
            })
            .await
    }

    /// Most revisions that one [`Outbox::prune`] deletes.
    pub const PRUNED_AT_ONCE: usize = bounds::PRUNED_AT_ONCE;

    /// Deliveries by `filter`, newest first.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn list(&self, filter: inspect::Filter) -> Result<Vec<inspect::Entry>, StoreError> {
        self.read(move |connection| inspect::list(connection, &filter)).await
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

/// `reason` cut to what is worth keeping.
fn brief(reason: &str) -> String {
    reason.chars().take(MAX_REASON_CHARS).collect()
}

#[cfg(test)]
mod tests;
