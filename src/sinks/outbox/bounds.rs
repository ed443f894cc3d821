//! What keeps the outbox finite: how much may wait, and for how long what is settled is remembered.
//!
//! Invariant: nothing is given up without a reason in its row and a line in the log, and a revision that opens or closes
//! a finding only when no update is left that a later revision makes superfluous.
//!
//! Not here: erasure of a person's data, which is asked for and not a matter of room.

use rusqlite::{Transaction, params};

use crate::event::Timestamp;

/// Deliveries that may wait for one sink: at a few kilobytes each some 400 MB, and at ten revisions a minute, which is a
/// bad attack, a receiver may be down for a week.
pub(super) const MAX_PENDING: i64 = 100_000;
/// Once full, this share of the bound is freed at one time: superseding looks at everything that waits (some hundred
/// milliseconds), which must not happen at every finding.
const FREED_SHARE: i64 = 100;
/// Delivered revisions are remembered this long, so that a replay of the log does not deliver them again. Twice as long
/// as the log can be replayed by default (7 days).
const DELIVERED_KEPT_MILLIS: i64 = 14 * 24 * 3600 * 1000;
/// Somebody has to look at dead letters, who may be on holiday.
const DEAD_KEPT_MILLIS: i64 = 30 * 24 * 3600 * 1000;
/// Settled revisions kept at most, whatever their age: at a few kilobytes each some 400 MB.
const MAX_SETTLED: i64 = 100_000;
/// Revisions deleted in one transaction: a few milliseconds of the writer that everybody shares.
pub(super) const PRUNED_AT_ONCE: usize = 500;

/// Brings what waits for `sink` within `max_pending`: first updates that a newer pending revision of the same finding
/// supersedes, then the oldest.
pub(super) fn make_room(tx: &Transaction<'_>, sink: &str, now: Timestamp, max_pending: i64) -> rusqlite::Result<()> {
    if pending(tx, sink)? <= max_pending {
        return Ok(());
    }
    let target = max_pending - max_pending / FREED_SHARE;
    let superseded = tx
        .prepare_cached(
            "UPDATE delivery AS d
             SET state = 'dead', settled_at = ?2, last_error = 'the outbox was full; superseded by a later revision'
             WHERE d.sink = ?1 AND d.state = 'pending'
               AND EXISTS (SELECT 1 FROM delivery AS later
                   WHERE later.sink = d.sink AND later.state = 'pending'
                     AND later.finding_id = d.finding_id AND later.revision > d.revision)
               AND (SELECT lifecycle FROM finding_revision WHERE revision_id = d.revision_id) = 'updated'",
        )?
        .execute(params![sink, now.0])?;
    let excess = (pending(tx, sink)? - target).max(0);
    let dropped = tx
        .prepare_cached(
            "UPDATE delivery
             SET state = 'dead', settled_at = ?2, last_error = 'the outbox was full; this was the oldest in it'
             WHERE id IN (SELECT id FROM delivery WHERE sink = ?1 AND state = 'pending' ORDER BY id LIMIT ?3)",
        )?
        .execute(params![sink, now.0, excess])?;
    tracing::error!(sink, superseded, dropped, "the outbox is full: gave up deliveries (see the dead letters)");
    Ok(())
}

fn pending(tx: &Transaction<'_>, sink: &str) -> rusqlite::Result<i64> {
    tx.prepare_cached("SELECT count(*) FROM delivery WHERE sink = ?1 AND state = 'pending'")?
        .query_row([sink], |row| row.get(0))
}

pub(super) fn retire_others(tx: &Transaction<'_>, sinks: &[String], now: Timestamp) -> rusqlite::Result<usize> {
    let known = serde_json::to_string(sinks).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    tx.prepare_cached(
        "UPDATE delivery SET state = 'dead', settled_at = ?2, last_error = 'the sink is no longer configured'
         WHERE state = 'pending' AND sink NOT IN (SELECT value FROM json_each(?1))",
    )?
    .execute(params![known, now.0])
}

pub(super) fn prune(tx: &Transaction<'_>, now: Timestamp) -> rusqlite::Result<usize> {
    prune_within(tx, now, MAX_SETTLED)
}

/// Deletes the oldest revisions that nobody waits for: those settled long ago, then those beyond `max_settled`.
pub(super) fn prune_within(tx: &Transaction<'_>, now: Timestamp, max_settled: i64) -> rusqlite::Result<usize> {
    let at_once = i64::try_from(PRUNED_AT_ONCE).unwrap_or(i64::MAX);
    let aged = tx
        .prepare_cached(
            "SELECT r.revision_id FROM finding_revision AS r
             WHERE r.created_at < ?1
               AND NOT EXISTS (SELECT 1 FROM delivery AS d WHERE d.revision_id = r.revision_id
                   AND (d.state = 'pending' OR d.settled_at >= iif(d.state = 'dead', ?2, ?1)))
             ORDER BY r.created_at LIMIT ?3",
        )?
        .query_map(
            params![now.plus_millis(-DELIVERED_KEPT_MILLIS).0, now.plus_millis(-DEAD_KEPT_MILLIS).0, at_once],
            |row| row.get(0),
        )?
        .collect::<rusqlite::Result<Vec<String>>>()?;
    let pruned = delete(tx, &aged)?;
    let settled: i64 = tx
        .prepare_cached(
            "SELECT (SELECT count(*) FROM finding_revision)
                  - (SELECT count(DISTINCT revision_id) FROM delivery WHERE state = 'pending')",
        )?
        .query_row([], |row| row.get(0))?;
    let room = i64::try_from(PRUNED_AT_ONCE.saturating_sub(pruned)).unwrap_or(0);
    let excess = (settled - max_settled).clamp(0, room);
    let oldest = tx
        .prepare_cached(
            "SELECT r.revision_id FROM finding_revision AS r
             WHERE NOT EXISTS (SELECT 1 FROM delivery AS d WHERE d.revision_id = r.revision_id AND d.state = 'pending')
             ORDER BY r.created_at LIMIT ?1",
        )?
        .query_map([excess], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<String>>>()?;
    Ok(pruned + delete(tx, &oldest)?)
}

fn delete(tx: &Transaction<'_>, revision_ids: &[String]) -> rusqlite::Result<usize> {
    let mut deleted = 0;
    for revision_id in revision_ids {
        tx.prepare_cached("DELETE FROM delivery WHERE revision_id = ?1")?.execute([revision_id])?;
        deleted += tx.prepare_cached("DELETE FROM finding_revision WHERE revision_id = ?1")?.execute([revision_id])?;
    }
    Ok(deleted)
}
