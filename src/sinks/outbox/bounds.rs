//! What keeps the outbox finite: how much may wait, and for how long what is settled is remembered.
//!
//! The policy when it is full, in this order: updates that a later pending revision of the same finding supersedes go,
//! since every revision is a full snapshot; then the mildest findings, of these the oldest. Invariant: nothing is given up
//! without a reason in its row and a line in the log; what is given up is a dead letter, which a person can replay.
//!
//! Not here: erasure of a person's data, which is asked for and not a matter of room.

use rusqlite::{OptionalExtension as _, Transaction, named_params, params};

use super::Bounds;
use crate::event::Timestamp;

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
const HOUR_MILLIS: i64 = 3600 * 1000;

/// Brings what waits for `sink` within `bounds`.
pub(super) fn make_room(tx: &Transaction<'_>, sink: &str, now: Timestamp, bounds: &Bounds) -> rusqlite::Result<()> {
    let (most, most_bytes) =
        (i64::from(bounds.max_pending), i64::try_from(bounds.max_pending_bytes).unwrap_or(i64::MAX));
    let (pending, bytes) = waiting(tx, sink)?;
    if pending <= most && bytes <= most_bytes {
        return Ok(());
    }
    let superseded = tx
        .prepare_cached(
            "UPDATE outbox_delivery AS d
             SET state = 'dead', settled_at = ?2, last_error = 'the outbox was full; superseded by a later revision'
             WHERE d.sink = ?1 AND d.state = 'pending'
               AND EXISTS (SELECT 1 FROM outbox_delivery AS later
                   WHERE later.sink = d.sink AND later.state = 'pending'
                     AND later.finding_id = d.finding_id AND later.revision > d.revision)
               AND (SELECT lifecycle FROM outbox_revision WHERE entry = d.entry) = 'updated'",
        )?
        .execute(params![sink, now.0])?;
    let (pending, bytes) = waiting(tx, sink)?;
    let dropped = give_up_mildest(
        tx,
        sink,
        now,
        pending - (most - most / FREED_SHARE),
        bytes - (most_bytes - most_bytes / FREED_SHARE),
    )?;
    tracing::error!(sink, superseded, dropped, "the outbox is full: gave up deliveries (see the dead letters)");
    Ok(())
}

/// Gives up the mildest and of these the oldest, until `rows` and `bytes` are freed.
fn give_up_mildest(tx: &Transaction<'_>, sink: &str, now: Timestamp, rows: i64, bytes: i64) -> rusqlite::Result<usize> {
    if rows <= 0 && bytes <= 0 {
        return Ok(0);
    }
    tx.prepare_cached(
        "UPDATE outbox_delivery
         SET state = 'dead', settled_at = :now,
             last_error = 'the outbox was full; this was the oldest of the mildest in it'
         WHERE sink = :sink AND state = 'pending' AND entry IN (
             SELECT entry FROM (
                 SELECT d.entry,
                        row_number() OVER mildest AS place,
                        sum(d.bytes) OVER mildest - d.bytes AS freed
                 FROM outbox_delivery AS d JOIN outbox_revision AS r USING (entry)
                 WHERE d.sink = :sink AND d.state = 'pending'
                 WINDOW mildest AS (ORDER BY CASE r.severity WHEN 'informational' THEN 0 WHEN 'low' THEN 1
                     WHEN 'medium' THEN 2 WHEN 'high' THEN 3 ELSE 4 END, d.entry ROWS UNBOUNDED PRECEDING))
             WHERE place <= :rows OR freed < :bytes)",
    )?
    .execute(named_params! { ":sink": sink, ":now": now.0, ":rows": rows, ":bytes": bytes })
}

/// Deliveries and bytes that wait for `sink`.
fn waiting(tx: &Transaction<'_>, sink: &str) -> rusqlite::Result<(i64, i64)> {
    let waiting = tx
        .prepare_cached("SELECT pending, pending_bytes FROM outbox_sink WHERE sink = ?1")?
        .query_row([sink], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(waiting.unwrap_or_default())
}

/// Gives up what waits longer than `bounds` say for a sink that is not blocked: a person has to repair that one, and what
/// waits for it is bounded by its number.
pub(super) fn expire(tx: &Transaction<'_>, bounds: &Bounds, now: Timestamp) -> rusqlite::Result<usize> {
    let oldest = now.plus_millis(-i64::from(bounds.max_age_hours) * HOUR_MILLIS);
    let expired = tx
        .prepare_cached(
            "UPDATE outbox_delivery
             SET state = 'dead', settled_at = ?1,
                 last_error = 'not taken for ' || ?3 || ' hours' || coalesce('; last: ' || last_error, '')
             WHERE state = 'pending' AND created_at < ?2
               AND sink NOT IN (SELECT sink FROM outbox_sink WHERE state = 'blocked')",
        )?
        .execute(params![now.0, oldest.0, bounds.max_age_hours])?;
    if expired > 0 {
        tracing::error!(
            expired,
            hours = bounds.max_age_hours,
            "gave up deliveries that nobody took (see the dead letters)"
        );
    }
    Ok(expired)
}

pub(super) fn retire_others(tx: &Transaction<'_>, sinks: &[String], now: Timestamp) -> rusqlite::Result<usize> {
    let known = serde_json::to_string(sinks).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    tx.prepare_cached(
        "UPDATE outbox_delivery SET state = 'dead', settled_at = ?2, last_error = 'the sink is no longer configured'
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
            "SELECT r.entry FROM outbox_revision AS r
             WHERE r.created_at < ?1
               AND NOT EXISTS (SELECT 1 FROM outbox_delivery AS d WHERE d.entry = r.entry
                   AND (d.state = 'pending' OR d.settled_at >= iif(d.state = 'dead', ?2, ?1)))
             ORDER BY r.created_at LIMIT ?3",
        )?
        .query_map(
            params![now.plus_millis(-DELIVERED_KEPT_MILLIS).0, now.plus_millis(-DEAD_KEPT_MILLIS).0, at_once],
            |row| row.get(0),
        )?
        .collect::<rusqlite::Result<Vec<i64>>>()?;
    let pruned = delete(tx, &aged)?;
    let settled: i64 = tx
        .prepare_cached(
            "SELECT (SELECT count(*) FROM outbox_revision)
                  - (SELECT count(DISTINCT entry) FROM outbox_delivery WHERE state = 'pending')",
        )?
        .query_row([], |row| row.get(0))?;
    let room = i64::try_from(PRUNED_AT_ONCE.saturating_sub(pruned)).unwrap_or(0);
    let excess = (settled - max_settled).clamp(0, room);
    // Dead letters last: somebody may still want them.
    let oldest = tx
        .prepare_cached(
            "SELECT r.entry, EXISTS (SELECT 1 FROM outbox_delivery AS d WHERE d.entry = r.entry AND d.state = 'dead') AS dead
             FROM outbox_revision AS r
             WHERE NOT EXISTS (SELECT 1 FROM outbox_delivery AS d WHERE d.entry = r.entry AND d.state = 'pending')
             ORDER BY dead, r.created_at LIMIT ?1",
        )?
        .query_map([excess], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<Vec<(i64, bool)>>>()?;
    let dead = oldest.iter().filter(|(_, dead)| *dead).count();
    if dead > 0 {
        tracing::error!(dead, most = max_settled, "too many dead letters: deleted the oldest");
    }
    let oldest: Vec<i64> = oldest.into_iter().map(|(entry, _)| entry).collect();
    Ok(pruned + delete(tx, &oldest)?)
}

fn delete(tx: &Transaction<'_>, entries: &[i64]) -> rusqlite::Result<usize> {
    let mut deleted = 0;
    for entry in entries {
        tx.prepare_cached("DELETE FROM outbox_delivery WHERE entry = ?1")?.execute([entry])?;
        deleted += tx.prepare_cached("DELETE FROM outbox_revision WHERE entry = ?1")?.execute([entry])?;
    }
    Ok(deleted)
}
