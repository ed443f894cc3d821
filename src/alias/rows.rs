//! The links of one machine, kept in its store.
//!
//! Invariant: rows are written in batches that share the writer with the log, off the way of every request; a batch that
//! fails is tried again with what is then true. A kill loses what was learned in the last half second.

use std::time::Duration;

use rusqlite::{Connection, Row, Transaction, params};
use tokio_util::sync::CancellationToken;

use super::{Aliases, Change, Config, Link};
use crate::event::{IdentifierHash, Tenant, Timestamp};
use crate::metrics::AliasMetrics;
use crate::store::{Store, StoreError};

/// Table of the links.
pub const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS alias (
    identifier BLOB PRIMARY KEY CHECK (length(identifier) = 16),
    tenant TEXT NOT NULL,
    user TEXT NOT NULL,
    said_at INTEGER NOT NULL,
    listed INTEGER NOT NULL
) STRICT, WITHOUT ROWID;";

/// Between two looks for what changed.
const PAUSE: Duration = Duration::from_millis(500);
/// Rows of one write: some milliseconds, for which the log's next sync waits.
const BATCH: usize = 1000;

/// Keeps the links of `aliases` in `store`.
pub struct Keeper {
    aliases: Aliases,
    store: Store,
    is_failing: bool,
}

impl Keeper {
    /// What `store` holds, whose schema must include [`SCHEMA`], and what keeps it up to date. If that is more than there is
    /// room for, the oldest are forgotten.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn open(store: Store, config: &Config, metrics: &AliasMetrics) -> Result<(Aliases, Self), StoreError> {
        let aliases = Aliases::new(config, metrics);
        let max = i64::try_from(config.max_entries).unwrap_or(i64::MAX);
        store.read(|connection| {
            let mut rows = connection.prepare(
                "SELECT identifier, tenant, user, said_at, listed FROM alias ORDER BY said_at DESC LIMIT ?1",
            )?;
            for change in rows.query_map([max], change)? {
                aliases.take(change?, false);
            }
            Ok(())
        })?;
        let rows: i64 =
            store.read(|connection| connection.query_row("SELECT count(*) FROM alias", [], |row| row.get(0)))?;
        if rows > max {
            let forget = move |transaction: &Transaction<'_>| {
                let surplus = "SELECT identifier FROM alias ORDER BY said_at DESC LIMIT -1 OFFSET ?1";
                transaction.execute(&format!("DELETE FROM alias WHERE identifier IN ({surplus})"), [max])
            };
            store.write(forget).await?;
        }
        let keeper = Self { aliases: aliases.clone(), store, is_failing: false };
        Ok((aliases, keeper))
    }

    /// Keeps until `stop`, and then what is left.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut is_last = false;
        while !is_last {
            tokio::select! {
                () = stop.cancelled() => is_last = true,
                () = tokio::time::sleep(PAUSE) => {}
            }
            while self.keep_some().await {}
        }
    }

    /// Writes one batch; whether there may be more.
    async fn keep_some(&mut self) -> bool {
        let changes = self.aliases.changes(BATCH);
        if changes.is_empty() {
            return false;
        }
        let is_full = changes.len() == BATCH;
        let (written, changes) = {
            let rows = changes.clone();
            (self.store.write(move |transaction| write(transaction, &rows)).await, changes)
        };
        match written {
            Ok(()) => {
                self.is_failing = false;
                is_full
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::warn!(%error, "users' names cannot be kept; trying again");
                }
                self.aliases.not_kept(&changes);
                false
            }
        }
    }
}

/// Puts `changes` into the table.
///
/// # Errors
/// What the database says.
pub fn write(transaction: &Transaction<'_>, changes: &[Change]) -> rusqlite::Result<()> {
    let mut put = transaction.prepare_cached("INSERT OR REPLACE INTO alias VALUES (?1, ?2, ?3, ?4, ?5)")?;
    let mut delete = transaction.prepare_cached("DELETE FROM alias WHERE identifier = ?1")?;
    for Change { identifier, link } in changes {
        match link {
            Some(Link { tenant, user, said_at, listed }) => {
                put.execute(params![identifier.0, &*tenant.0, &**user, said_at.0, listed])?
            }
            None => delete.execute([identifier.0])?,
        };
    }
    Ok(())
}

/// Deletes all names of `user`; answers with them. For a person's commands, where no process runs.
///
/// # Errors
/// What the database says.
pub fn forget(transaction: &Transaction<'_>, tenant: &Tenant, user: &str) -> rusqlite::Result<Vec<IdentifierHash>> {
    transaction
        .prepare("DELETE FROM alias WHERE tenant = ?1 AND user = ?2 RETURNING identifier")?
        .query_map([&*tenant.0, user], |row| Ok(IdentifierHash(row.get(0)?)))?
        .collect()
}

/// The instances at which `user` has names.
///
/// # Errors
/// What the database says.
pub fn tenants_of(connection: &Connection, user: &str) -> rusqlite::Result<Vec<Tenant>> {
    connection
        .prepare("SELECT DISTINCT tenant FROM alias WHERE user = ?1")?
        .query_map([user], |row| Ok(Tenant(row.get(0)?)))?
        .collect()
}

/// Deletes what is still kept of `user`, at `tenant` or, for [`Tenant::EVERY`], wherever it is: whoever looks for what is
/// left must not have to wait for the [`Keeper`].
///
/// # Errors
/// What the database says.
pub fn delete(transaction: &Transaction<'_>, tenant: &Tenant, user: &str) -> rusqlite::Result<()> {
    transaction
        .execute("DELETE FROM alias WHERE user = ?2 AND ?1 IN (tenant, ?3)", [&*tenant.0, user, Tenant::EVERY])
        .map(drop)
}

fn change(row: &Row<'_>) -> rusqlite::Result<Change> {
    let link = Link {
        tenant: Tenant(row.get::<_, String>(1)?.into()),
        user: row.get::<_, String>(2)?.into(),
        said_at: Timestamp(row.get(3)?),
        listed: row.get(4)?,
    };
    Ok(Change { identifier: IdentifierHash(row.get(0)?), link: Some(link) })
}

#[cfg(test)]
mod tests;
