//! Forgetting accounts in what waits, was delivered or was given up.
//!
//! Invariant: a revision keeps its ids, its place in the order and its counts; a delivery that waits goes out without the
//! name. Done twice, the second time changes nothing.

use rusqlite::{Connection, Transaction, params};

use crate::event::{Tenant, mention};
use crate::finding::Finding;
use crate::sinks::forgotten::Name;
use crate::store::{Store, StoreError};

/// Revisions looked at in one transaction: some megabytes, a few milliseconds.
const MAX_ROWS: i64 = 500;

/// Takes `names` out of every revision, and out of what receivers have said; answers how many revisions named each. Blocks.
///
/// # Errors
/// See [`StoreError`]; what was rewritten stays so.
pub fn erase(store: &Store, names: &[Name]) -> Result<Vec<u64>, StoreError> {
    let mut revisions = vec![0; names.len()];
    let mut from = -1;
    loop {
        let rows = store.read(|connection| rows(connection, from))?;
        let Some((last, ..)) = rows.last() else { break };
        from = *last;
        let mut rewritten = Vec::new();
        for (entry, tenant, body) in &rows {
            if let Some(body) = clean(tenant, body, names, &mut revisions) {
                rewritten.push((*entry, body));
            }
        }
        if !rewritten.is_empty() {
            store.write_blocking(move |transaction| replace(transaction, &rewritten))?;
        }
    }
    let names = names.to_vec();
    store.write_blocking(move |transaction| said(transaction, &names))?;
    Ok(revisions)
}

fn rows(connection: &Connection, from: i64) -> rusqlite::Result<Vec<(i64, String, String)>> {
    connection
        .prepare_cached("SELECT entry, tenant, body FROM outbox_revision WHERE entry > ?1 ORDER BY entry LIMIT ?2")?
        .query_map(params![from, MAX_ROWS], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect()
}

fn replace(transaction: &Transaction<'_>, rewritten: &[(i64, String)]) -> rusqlite::Result<()> {
    let mut update = transaction.prepare_cached("UPDATE outbox_revision SET body = ?2 WHERE entry = ?1")?;
    rewritten.iter().try_for_each(|(entry, body)| update.execute(params![entry, body]).map(drop))
}

/// The body without `names`, if it has any of them.
fn clean(tenant: &str, body: &str, names: &[Name], revisions: &mut [u64]) -> Option<String> {
    let tenant = Tenant::from(tenant);
    let of_tenant = |name: &Name| name.tenant.covers(&tenant) && body.contains(&name.from);
    if !names.iter().any(of_tenant) {
        return None;
    }
    let Ok(mut finding) = serde_json::from_str::<Finding>(body) else {
        // Of another version: as it lies.
        let mut text = None;
        for (name, count) in names.iter().zip(revisions).filter(|(name, _)| of_tenant(name)) {
            let body = text.as_deref().unwrap_or(body);
            if let Some(clean) = mention::replace_in_json(body, None, &name.from, &name.to) {
                text = Some(clean);
                *count += 1;
            }
        }
        return text;
    };
    let mut changed = false;
    for (name, count) in names.iter().zip(revisions).filter(|(name, _)| of_tenant(name)) {
        let renamed = finding.rename_account(&name.from, &name.to);
        *count += u64::from(renamed);
        changed |= renamed;
    }
    if changed { serde_json::to_string(&finding).ok() } else { None }
}

/// What receivers said may quote what they were sent.
fn said(transaction: &Transaction<'_>, names: &[Name]) -> rusqlite::Result<()> {
    for Name { from, to, .. } in names {
        let mut select = transaction
            .prepare_cached("SELECT entry, sink, last_error FROM outbox_delivery WHERE instr(last_error, ?1) > 0")?;
        let found: Vec<(i64, String, String)> = select
            .query_map([from], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<rusqlite::Result<_>>()?;
        for (entry, sink, said) in found {
            let said = mention::replace(&said, from, to);
            let mut update = transaction
                .prepare_cached("UPDATE outbox_delivery SET last_error = ?3 WHERE entry = ?1 AND sink = ?2")?;
            if let Some(said) = said {
                update.execute(params![entry, sink, said])?;
            }
        }
        transaction.execute("UPDATE outbox_sink SET reason = NULL WHERE instr(reason, ?1) > 0", [from])?;
    }
    Ok(())
}
