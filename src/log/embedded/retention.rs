//! What the log forgets: events the detector has seen, by age, and by size before the disk decides.
//!
//! Invariant: an event is never deleted before a snapshot holds its effect. Ids outlive their events: they are kept for
//! as long as a duplicate can arrive.

use std::convert::Infallible;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::appender::Appender;
use super::{Config, signed};
use crate::clock::Clock;
use crate::event::Timestamp;
use crate::log::id_window::SPAN_MILLIS;
use crate::store::{Store, StoreError};

/// How often old blocks are looked for.
const INTERVAL: Duration = Duration::from_secs(10);
/// Blocks deleted in one transaction: keeps the writer free for appends in between.
const MAX_DELETED: u32 = 256;
/// Transactions of one pass: 1600 blocks a second can go, more than a disk that syncs can bring.
const MAX_ROUNDS: usize = 64;
/// Pages handed back to the file system in one go, for the same reason.
const MAX_VACUUMED_PAGES: i64 = 2048;
/// The database may grow this far past `max_bytes` (numerator of sixteenths) before appends are refused: snapshots and
/// the outbox need room of their own.
const HEADROOM_SIXTEENTHS: u64 = 18;

/// Its thread: looks for what may go until `stop` is hung up.
pub(super) fn run(store: &Store, config: &Config, appender: &Appender, clock: &Clock, stop: &Receiver<Infallible>) {
    while let Err(RecvTimeoutError::Timeout) = stop.recv_timeout(INTERVAL) {
        let now = clock.now();
        if let Err(error) = apply(store, config, now) {
            tracing::warn!(%error, "old events could not be deleted");
        }
        appender.report(now);
    }
}

/// Whether appends may go on.
pub(super) fn has_room(store: &Store, max_bytes: u64) -> Result<bool, StoreError> {
    if store.bytes() <= max_bytes {
        return Ok(true);
    }
    let used = store.read(used_bytes)?;
    Ok(used <= signed(max_bytes / 16 * HEADROOM_SIXTEENTHS))
}

/// Deletes what may go, a bounded amount at a time.
pub(super) fn apply(store: &Store, config: &Config, now: Timestamp) -> Result<(), StoreError> {
    let seen: Option<i64> = store
        .read(|connection| {
            connection.query_row("SELECT min(next_offset) FROM snapshot", [], |row| row.get(0)).optional()
        })?
        .flatten();
    let aged = now.plus_millis(-i64::from(config.retention_days) * 86_400_000);
    for _ in 0..MAX_ROUNDS {
        // While it is too big, age does not count.
        let too_big = store.read(used_bytes)? > signed(config.max_bytes);
        let old = if too_big { now } else { aged };
        if !store.write_blocking(move |transaction| delete(transaction, seen.unwrap_or(0), old, now))? {
            break;
        }
    }
    Ok(())
}

/// Deletes blocks that the snapshot at `seen` is past and that are older than `old`; answers whether there is more.
fn delete(transaction: &Transaction<'_>, seen: i64, old: Timestamp, now: Timestamp) -> rusqlite::Result<bool> {
    let deleted = transaction.execute(
        "DELETE FROM block WHERE first_offset IN (
            SELECT first_offset FROM block WHERE first_offset + records <= ?1 AND appended_at < ?2
            ORDER BY first_offset LIMIT ?3)",
        params![seen, old.0, MAX_DELETED],
    )?;
    let ids = transaction.execute(
        "DELETE FROM block_ids WHERE first_offset IN (
            SELECT first_offset FROM block_ids WHERE appended_at < ?1 ORDER BY first_offset LIMIT ?2)",
        params![now.plus_millis(-2 * SPAN_MILLIS).0, MAX_DELETED],
    )?;
    if deleted + ids > 0 {
        let mut vacuum = transaction.prepare(&format!("PRAGMA incremental_vacuum({MAX_VACUUMED_PAGES})"))?;
        let mut freed = vacuum.query([])?;
        // Each step frees a page.
        while freed.next()?.is_some() {}
    }
    Ok(deleted.max(ids) >= MAX_DELETED as usize)
}

/// Bytes of the pages in use.
fn used_bytes(connection: &Connection) -> rusqlite::Result<i64> {
    let pragma = |name: &str| connection.pragma_query_value::<i64, _>(None, name, |row| row.get(0));
    Ok((pragma("page_count")? - pragma("freelist_count")?) * pragma("page_size")?)
}
