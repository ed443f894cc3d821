//! What the log forgets: events the detector has seen, by age, and by size before the disk decides.
//!
//! Invariant: an event is never deleted before a snapshot holds its effect. Ids outlive their events: they are kept for
//! as long as a duplicate can arrive.

use rusqlite::{Connection, OptionalExtension, params};

use super::{Config, signed};
use crate::event::Timestamp;
use crate::log::id_window::SPAN_MILLIS;
use crate::store::{Store, StoreError};

/// Blocks deleted in one transaction: keeps the writer free for appends in between.
const MAX_DELETED: i64 = 256;
/// Pages handed back to the file system in one go, for the same reason.
const MAX_VACUUMED_PAGES: i64 = 2048;
/// The database may grow this far past `max_bytes` (numerator of sixteenths) before appends are refused: snapshots and
/// the outbox need room of their own.
const HEADROOM_SIXTEENTHS: u64 = 18;

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
    let old = now.plus_millis(-i64::from(config.retention_days) * 86_400_000);
    let used = store.read(used_bytes)?;
    let too_big = used > signed(config.max_bytes);
    let seen: Option<i64> = store
        .read(|connection| {
            connection.query_row("SELECT min(next_offset) FROM snapshot", [], |row| row.get(0)).optional()
        })?
        .flatten();
    store.write_blocking(move |transaction| {
        // Strictly before the snapshot's block: offsets continue from the newest block.
        let deleted = transaction.execute(
            "DELETE FROM block WHERE first_offset IN (
                SELECT first_offset FROM block
                WHERE first_offset + records <= ?1 AND (?2 OR appended_at < ?3)
                ORDER BY first_offset LIMIT ?4)",
            params![seen.unwrap_or(0), too_big, old.0, MAX_DELETED],
        )?;
        let ids = transaction.execute(
            "DELETE FROM block_ids WHERE first_offset IN (
                SELECT first_offset FROM block_ids WHERE appended_at < ?1 ORDER BY first_offset LIMIT ?2)",
            params![now.plus_millis(-2 * SPAN_MILLIS).0, MAX_DELETED],
        )?;
        if deleted + ids > 0 {
            transaction.execute_batch(&format!("PRAGMA incremental_vacuum({MAX_VACUUMED_PAGES})"))?;
        }
        Ok(())
    })
}

/// Bytes of the pages in use.
fn used_bytes(connection: &Connection) -> rusqlite::Result<i64> {
    let pragma = |name: &str| connection.pragma_query_value::<i64, _>(None, name, |row| row.get(0));
    Ok((pragma("page_count")? - pragma("freelist_count")?) * pragma("page_size")?)
}
