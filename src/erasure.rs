//! Forgetting an account everywhere but in the detector's state, which did so first: in the log's records, the findings
//! that are stored, and the files of findings.
//!
//! `user.deleted` and an operator's request ([`Requests`]) are the same record of the log. When it is due the detector
//! calls the account by a pseudonym (`detect`), and its next snapshot leaves what remains to be done as a row beside it.
//! Here those rows are worked off, in the order in which nothing can bring the name back: what is written from now on, then
//! what is stored, then what was written. At the end an audit line says what was done, the row goes, and the write-ahead log is emptied.
//!
//! Invariant: a row goes only when everything it asks for is on the disk, so a crash at any time has it done again; every
//! step done twice changes nothing the second time. The audit line of a row is written once.
//!
//! Not here: what was delivered. Nobody can take that back from a SIEM; a finding that is open gets a further revision
//! without the name.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aho_corasick::AhoCorasick;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::alias;
use crate::clock::{Clock, Stopwatch};
use crate::event::Account;
use crate::log::embedded::erasure::{self, Pending};
use crate::metrics::ErasureMetrics;
use crate::sinks::forgotten::Name;
use crate::sinks::jsonl::Files;
use crate::sinks::outbox;
use crate::store::Store;

mod audit;
mod requests;

pub use audit::Done;
pub use requests::{Linked, Requests, Unasked};

/// How often rows are looked for: a person may be waiting.
const INTERVAL: Duration = Duration::from_millis(250);
/// After a round, ten times as long as it took: reading a log of gigabytes must not take the disk from the events.
const REST: u32 = 10;
/// Between tries when something failed.
const RETRY_WAIT: Duration = Duration::from_secs(5);
/// A database above this is not written anew for what may be left between its rows, since writers would wait too long.
const MAX_REBUILT_BYTES: u64 = 1 << 30;
/// Bytes of a file that are searched at one time.
const BLOCK: usize = 1 << 20;

/// What it works on.
pub struct Eraser {
    /// The log's records, the outbox, and what is to be done.
    pub store: Store,
    /// The files of findings.
    pub files: Files,
    /// Where `audit.jsonl` is.
    pub data_dir: PathBuf,
    /// Where further accounts are asked for, and who waits.
    pub requests: Requests,
    /// For dates.
    pub clock: Clock,
    /// What was done.
    pub metrics: ErasureMetrics,
}

impl Eraser {
    /// Works off what is asked for until `stop`; what is not done by then is done after the next start. Blocks. `runtime` is
    /// where requests are appended.
    pub fn run(&self, runtime: &Handle, stop: &CancellationToken) {
        let mut is_dirty = true;
        while !stop.is_cancelled() {
            let watch = Stopwatch::start();
            let wait = match self.round(runtime, stop, &mut is_dirty) {
                Ok(false) => INTERVAL,
                Ok(true) => INTERVAL.max(watch.elapsed() * REST),
                Err(error) => {
                    self.metrics.failures.inc();
                    tracing::warn!(error, "accounts could not be forgotten yet");
                    RETRY_WAIT
                }
            };
            let rest = Stopwatch::start();
            while rest.elapsed() < wait && !stop.is_cancelled() {
                std::thread::sleep(INTERVAL.min(wait));
            }
        }
    }

    /// One pass over everything for the accounts that wait; answers whether there were any.
    fn round(&self, runtime: &Handle, stop: &CancellationToken, is_dirty: &mut bool) -> Result<bool, String> {
        let (pending, waiting) = self
            .store
            .read(|connection| Ok((erasure::pending(connection)?, erasure::count(connection)?)))
            .map_err(|error| error.to_string())?;
        self.metrics.waiting.set(waiting);
        if pending.is_empty() {
            if std::mem::take(is_dirty) {
                // What a run that ended early has left.
                *is_dirty = !self.store.empty_write_ahead_log().map_err(|error| error.to_string())?;
            }
            return Ok(false);
        }
        *is_dirty = true;
        let stopping = || stop.is_cancelled();
        if !erasure::rewrite(&self.store, &pending, stopping).map_err(|error| error.to_string())? {
            return Ok(false);
        }
        self.erase_findings(&pending)?;
        self.ask_for_linked(&pending, runtime)?;
        let done = self.finish(&pending)?;
        match self.settle(&pending) {
            Ok(()) => *is_dirty = false,
            Err(error) => {
                // The rows are clean; what SQLite keeps beside them is looked after again until it is.
                self.metrics.failures.inc();
                tracing::warn!(error, "what an account that was forgotten has left beside the rows is still there");
            }
        }
        for done in done {
            self.metrics.done.with_label_values(&[&done.asked_by]).inc();
            self.requests.done(done);
        }
        Ok(true)
    }

    fn erase_findings(&self, pending: &[Pending]) -> Result<(), String> {
        let names: Vec<Name> = pending.iter().map(name).collect();
        // From here on the file is written without the names, whatever is on its way to it; once the outbox is clean too,
        // nothing more is.
        let lines = self.files.erase(&names, self.clock.now());
        let lines = lines.map_err(|error| format!("the files of findings: {error}"))?;
        let revisions = outbox::erase(&self.store, &names).map_err(|error| error.to_string())?;
        let counts: Vec<(i64, u64, u64)> =
            pending.iter().zip(revisions.iter().zip(&lines)).map(|(one, (r, l))| (one.number, *r, *l)).collect();
        self.store
            .write_blocking(move |transaction| {
                counts
                    .iter()
                    .try_for_each(|(number, revisions, lines)| erasure::add(transaction, *number, *revisions, *lines))
            })
            .map_err(|error| error.to_string())
    }

    /// Identifiers that were seen with an account, and that nobody knew to be its own when it was asked for.
    fn ask_for_linked(&self, pending: &[Pending], runtime: &Handle) -> Result<(), String> {
        for Pending { number, erasure, .. } in pending {
            let identifiers = self
                .store
                .read(|connection| erasure::identifiers(connection, *number))
                .map_err(|error| error.to_string())?;
            for identifier in identifiers {
                if pending.iter().all(|other| other.erasure.account != identifier) {
                    runtime
                        .block_on(self.requests.ask_for_linked(erasure.tenant.clone(), identifier))
                        .map_err(|error| error.to_string())?;
                }
            }
        }
        Ok(())
    }

    /// Audits and strikes off.
    fn finish(&self, pending: &[Pending]) -> Result<Vec<Done>, String> {
        let mut all = Vec::with_capacity(pending.len());
        // As counted, over restarts.
        let counted = self.store.read(erasure::pending).map_err(|error| error.to_string())?;
        for one in counted.iter().filter(|one| pending.iter().any(|other| other.number == one.number)) {
            let number = one.number;
            let identifiers = self
                .store
                .read(|connection| erasure::identifiers(connection, number))
                .map_err(|error| error.to_string())?;
            all.push(Done::of(one, identifiers.len() as u64, self.clock.now()));
        }
        audit::write(&self.data_dir, &all).map_err(|error| format!("{}: {error}", audit::FILE))?;
        let pending = pending.to_vec();
        self.store
            .write_blocking(move |transaction| {
                pending.iter().try_for_each(|one| {
                    if let Account::User(user) = &one.erasure.account {
                        alias::rows::delete(transaction, &one.erasure.tenant, user)?;
                    }
                    erasure::finish(transaction, one.number)
                })
            })
            .map_err(|error| error.to_string())?;
        Ok(all)
    }

    /// Nothing of it is left in what SQLite keeps beside the rows.
    fn settle(&self, pending: &[Pending]) -> Result<(), String> {
        let empty = || match self.store.empty_write_ahead_log() {
            Ok(true) => Ok(()),
            Ok(false) => Err("the write-ahead log is in use".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        empty()?;
        let needles = AhoCorasick::new(pending.iter().flat_map(|one| match &one.erasure.account {
            Account::User(id) => vec![id.as_bytes().to_vec()],
            Account::Identifier(hash) => vec![hash.0.to_vec(), hash.to_string().into_bytes()],
        }))
        .map_err(|error| error.to_string())?;
        if !self.mentions(&needles)? {
            return Ok(());
        }
        // Rows that moved between pages leave a copy in the gap.
        if self.store.bytes() <= MAX_REBUILT_BYTES {
            self.store.rebuild().map_err(|error| error.to_string())?;
            empty()?;
            if !self.mentions(&needles)? {
                return Ok(());
            }
        }
        // No fault: what arrives about an account after it was asked for is a record of its own.
        tracing::warn!("an account that was forgotten is mentioned in the database again, or still between its rows");
        Ok(())
    }

    fn mentions(&self, needles: &AhoCorasick) -> Result<bool, String> {
        for path in self.store.files() {
            match mentions(&path, needles) {
                Ok(true) => return Ok(true),
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.to_string()),
                Ok(false) | Err(_) => {}
            }
        }
        Ok(false)
    }
}

fn name(one: &Pending) -> Name {
    Name {
        tenant: one.erasure.tenant.clone(),
        from: one.erasure.account.to_string(),
        to: one.erasure.replacement.to_string(),
    }
}

/// Whether the file holds one of `needles`.
fn mentions(path: &Path, needles: &AhoCorasick) -> std::io::Result<bool> {
    let mut file = std::fs::File::open(path)?;
    let overlap = needles.max_pattern_len();
    let mut block = Vec::with_capacity(BLOCK + overlap);
    loop {
        let read = file.by_ref().take(BLOCK as u64).read_to_end(&mut block)?;
        if needles.is_match(&block) {
            return Ok(true);
        }
        if read == 0 {
            return Ok(false);
        }
        // One may lie across two blocks.
        block.drain(..block.len().saturating_sub(overlap));
    }
}

#[cfg(test)]
mod tests;
