//! Forgetting accounts in the log's own records.
//!
//! What is to be forgotten is a row beside the snapshot that no longer names it, written in the same transaction: a crash
//! before it has the detector forget again, one after it has the rest done again. Records keep their places: a record is
//! written anew with the pseudonym in it, so that whoever reads the log from its beginning (another version, whose
//! snapshots differ) still counts as many accounts.
//!
//! Invariant: a block is rewritten only when the snapshot lies behind it, and in one transaction with the count of what was
//! done; done twice, the second time changes nothing and counts nothing.

use std::collections::BTreeSet;

use aho_corasick::AhoCorasick;
use rusqlite::{Connection, Transaction, params};

use super::{block, signed, unsigned};
use crate::event::{Account, AuthEvent, Erasure, IdentifierHash, Outcome, Tenant, Timestamp, mention};
use crate::log::{LogError, Record};
use crate::store::Store;

/// Accounts forgotten in one pass over the log.
const MAX_TOGETHER: i64 = 64;
/// Blocks looked at in one read: a few megabytes at most, as for a poll.
const MAX_BLOCKS: i64 = 64;

/// An account to be forgotten, and what has been done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Its number, for ever.
    pub number: i64,
    /// What, and what takes its place.
    pub erasure: Erasure,
    /// Records of the log that named it.
    pub records: u64,
    /// Revisions of findings that named it.
    pub revisions: u64,
    /// Lines of files that named it.
    pub lines: u64,
}

/// Puts `erasures` down, inside the caller's transaction; those that are there already are left as they are.
///
/// # Errors
/// The database's own.
pub fn put(transaction: &Transaction<'_>, erasures: &[Erasure]) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare_cached(
        "INSERT OR IGNORE INTO erasure (tenant, account, replacement, request, asked_by, asked_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for Erasure { tenant, account, replacement, request, asked_by, asked_at } in erasures {
        insert.execute(params![tenant.0, account.to_string(), replacement, request, asked_by, asked_at.0])?;
    }
    Ok(())
}

/// The accounts that are to be forgotten next, oldest first; a bounded number.
///
/// # Errors
/// The database's own.
pub fn pending(connection: &Connection) -> rusqlite::Result<Vec<Pending>> {
    let mut select = connection.prepare_cached(
        "SELECT number, tenant, account, replacement, asked_by, asked_at, records, revisions, lines, request
         FROM erasure ORDER BY number LIMIT ?1",
    )?;
    let rows = select.query_map([MAX_TOGETHER], |row| {
        Ok(Pending {
            number: row.get(0)?,
            erasure: Erasure {
                tenant: Tenant(row.get(1)?),
                account: Account::named(&row.get::<_, String>(2)?),
                replacement: row.get(3)?,
                request: row.get(9)?,
                asked_by: row.get(4)?,
                asked_at: Timestamp(row.get(5)?),
            },
            records: unsigned(row.get(6)?),
            revisions: unsigned(row.get(7)?),
            lines: unsigned(row.get(8)?),
        })
    })?;
    rows.collect()
}

/// Accounts that wait.
///
/// # Errors
/// The database's own.
pub fn count(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT count(*) FROM erasure", [], |row| row.get(0))
}

/// The identifiers that were seen with the account of `number`.
///
/// # Errors
/// The database's own.
pub fn identifiers(connection: &Connection, number: i64) -> rusqlite::Result<Vec<Account>> {
    connection
        .prepare_cached("SELECT identifier FROM erasure_identifier WHERE number = ?1 ORDER BY identifier")?
        .query_map([number], |row| row.get::<_, String>(0).map(|identifier| Account::named(&identifier)))?
        .collect()
}

/// Puts down that `identifiers` belong to the account of `number`, inside the caller's transaction.
///
/// # Errors
/// The database's own.
pub fn link<'a>(
    transaction: &Transaction<'_>,
    number: i64,
    identifiers: impl IntoIterator<Item = &'a IdentifierHash>,
) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare_cached("INSERT OR IGNORE INTO erasure_identifier VALUES (?1, ?2)")?;
    identifiers.into_iter().try_for_each(|identifier| insert.execute(params![number, identifier.to_string()]).map(drop))
}

/// Counts what was done elsewhere about `number`, inside the caller's transaction.
///
/// # Errors
/// The database's own.
pub fn add(transaction: &Transaction<'_>, number: i64, revisions: u64, lines: u64) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("UPDATE erasure SET revisions = revisions + ?2, lines = lines + ?3 WHERE number = ?1")?
        .execute(params![number, signed(revisions), signed(lines)])
        .map(drop)
}

/// Forgets that `number` was asked for: it is done.
///
/// # Errors
/// The database's own.
pub fn finish(transaction: &Transaction<'_>, number: i64) -> rusqlite::Result<()> {
    transaction.execute("DELETE FROM erasure WHERE number = ?1", [number])?;
    transaction.execute("DELETE FROM erasure_identifier WHERE number = ?1", [number]).map(drop)
}

/// Rewrites every record that names one of `pending` and that the snapshot is past, and puts down the identifiers that were
/// seen with them. Answers `false` if `stop` said so before the end. Blocks; long on a large log, and it never holds the
/// writer for long.
///
/// # Errors
/// The log cannot be read or written; what was rewritten stays so.
pub fn rewrite(store: &Store, pending: &[Pending], mut stop: impl FnMut() -> bool) -> Result<bool, LogError> {
    let needles = AhoCorasick::new(pending.iter().map(|one| needle(&one.erasure.account)))
        .map_err(|error| LogError::Corrupt(format!("no search for accounts: {error}")))?;
    let mut from = -1;
    loop {
        if stop() {
            return Ok(false);
        }
        let blocks = store.read(|connection| behind_snapshot(connection, from))?;
        let Some((last, _)) = blocks.last() else { return Ok(true) };
        from = *last;
        let mut rewritten = Rewritten { blocks: Vec::new(), counts: vec![0; pending.len()], links: BTreeSet::new() };
        for (first, body) in blocks {
            // Most blocks name none: looked through as they lie, faster than they are read.
            if needles.is_match(&body) {
                rewritten.take(first, &body, pending)?;
            }
        }
        if !rewritten.blocks.is_empty() {
            let numbers: Vec<i64> = pending.iter().map(|one| one.number).collect();
            store.write_blocking(move |transaction| rewritten.store(transaction, &numbers))?;
        }
    }
}

/// Blocks after `from` that the snapshot is past: (first offset, body).
fn behind_snapshot(connection: &Connection, from: i64) -> rusqlite::Result<Vec<(i64, Vec<u8>)>> {
    connection
        .prepare_cached(
            "SELECT first_offset, body FROM block
             WHERE first_offset > ?1 AND first_offset + records <= (SELECT min(next_offset) FROM snapshot)
             ORDER BY first_offset LIMIT ?2",
        )?
        .query_map(params![from, MAX_BLOCKS], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

/// Blocks without the accounts that they named.
struct Rewritten {
    /// By first offset.
    blocks: Vec<(i64, Vec<u8>)>,
    /// Records that named each account.
    counts: Vec<i64>,
    /// (place of the account, identifier seen with it)
    links: BTreeSet<(usize, IdentifierHash)>,
}

impl Rewritten {
    /// Takes the block in, if it names any of `pending`.
    fn take(&mut self, first: i64, body: &[u8], pending: &[Pending]) -> Result<(), LogError> {
        let mut records = block::decode(body)?;
        let mut changed = false;
        for record in &mut records {
            let Record::Event(event) = record else { continue };
            for (place, (one, count)) in pending.iter().zip(&mut self.counts).enumerate() {
                let user = Some(&one.erasure.account).filter(|account| matches!(account, Account::User(_)));
                let typed = event.identifier.filter(|_| user.is_some() && event.account.as_ref() == user);
                if erase(event, &one.erasure) {
                    self.links.extend(typed.map(|identifier| (place, identifier)));
                    // The request itself is none of what was kept.
                    *count += i64::from(event.outcome != Outcome::AccountDeleted);
                    changed = true;
                }
            }
        }
        if changed {
            let mut rewritten = block::with_capacity(body.len());
            for record in &records {
                rewritten = postcard::to_extend(record, rewritten)
                    .map_err(|error| LogError::Corrupt(format!("cannot encode a record: {error}")))?;
            }
            self.blocks.push((first, rewritten));
        }
        Ok(())
    }

    fn store(&self, transaction: &Transaction<'_>, numbers: &[i64]) -> rusqlite::Result<()> {
        let mut update = transaction.prepare_cached("UPDATE block SET body = ?2 WHERE first_offset = ?1")?;
        for (first, body) in &self.blocks {
            // One that was too old is gone meanwhile.
            update.execute(params![first, body])?;
        }
        let mut count = transaction.prepare_cached("UPDATE erasure SET records = records + ?2 WHERE number = ?1")?;
        for (number, records) in numbers.iter().zip(&self.counts) {
            count.execute(params![number, records])?;
        }
        for (place, identifier) in &self.links {
            if let Some(number) = numbers.get(*place) {
                link(transaction, *number, [identifier])?;
            }
        }
        Ok(())
    }
}

/// What a record that names `account` holds, as it is encoded.
fn needle(account: &Account) -> &[u8] {
    match account {
        Account::User(id) => id.as_bytes(),
        Account::Identifier(hash) => &hash.0,
    }
}

/// Takes the account out of `event`; answers whether it was in it.
fn erase(event: &mut AuthEvent, erasure: &Erasure) -> bool {
    if !erasure.tenant.covers(&event.tenant) {
        return false;
    }
    let mut changed = false;
    if event.account.as_ref() == Some(&erasure.account) {
        event.account = Some(Account::User(erasure.replacement.clone()));
        // What was typed is theirs too. It decides nothing where there is an account.
        event.identifier = None;
        changed = true;
    }
    match &erasure.account {
        // Some make ids of what they are about. Duplicates are recognised by what is kept beside.
        Account::User(id) => {
            if let Some(id) = mention::replace(&event.id, id, &erasure.replacement) {
                event.id = id.into();
                changed = true;
            }
        }
        Account::Identifier(hash) => {
            if event.identifier == Some(*hash) {
                event.identifier = None;
                changed = true;
            }
        }
    }
    changed
}
