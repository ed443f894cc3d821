//! The writer's thread: takes what waits, runs it in one transaction, commits, answers.
//!
//! Invariant: no answer before the commit returned, and exactly one answer per write.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};
use tokio::sync::oneshot;

use super::{Fault, StoreError};

/// Most writes in one transaction: enough to share a sync among every waiting connection, few enough that a commit's
/// memory and time stay bounded.
const MAX_GROUP: usize = 256;
/// How often a store that cannot be written tries again by itself, so that readiness returns without traffic.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// One row, rewritten, with as many bytes as an ordinary block of events: a disk with room for less is still full.
pub(super) const PROBE_SCHEMA: &str =
    "CREATE TABLE IF NOT EXISTS probe (id INTEGER PRIMARY KEY CHECK (id = 1), writes INTEGER NOT NULL, ballast BLOB)
     STRICT;
     INSERT OR IGNORE INTO probe VALUES (1, 0, NULL);";

/// A write that waits. The writer collects a group of them before it runs the first, so what a job enqueues while it runs
/// belongs to the next transaction.
pub(crate) trait Job: Send {
    /// Called before the transaction begins: a job that others can join may wait for them, for less than a sync takes.
    fn gather(&mut self) {}

    /// Runs inside a transaction; `Err` undoes what this job did in it. The outcome is kept for `answer`.
    fn run(&mut self, transaction: &Transaction<'_>) -> Result<(), ErrorCode>;

    /// Answers the one who waits, after the transaction is durable or has failed (then perhaps without [`Job::run`]).
    fn answer(self: Box<Self>, committed: &Result<(), StoreError>);
}

/// A closure and where its result goes.
pub(super) struct WriteJob<T, F> {
    job: Option<F>,
    outcome: Result<T, StoreError>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> WriteJob<T, F> {
    pub(super) fn new(job: F, reply: oneshot::Sender<Result<T, StoreError>>) -> Self {
        Self { job: Some(job), outcome: Err(StoreError::Closed), reply }
    }
}

impl<T, F> Job for WriteJob<T, F>
where
    T: Send,
    F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send,
{
    fn run(&mut self, transaction: &Transaction<'_>) -> Result<(), ErrorCode> {
        let Some(job) = self.job.take() else { return Ok(()) };
        let outcome = job(transaction);
        let result = match &outcome {
            Ok(_) => Ok(()),
            Err(error) => Err(error.sqlite_error_code().unwrap_or(ErrorCode::Unknown)),
        };
        self.outcome = outcome.map_err(StoreError::from);
        result
    }

    fn answer(self: Box<Self>, committed: &Result<(), StoreError>) {
        let answer = match committed {
            Ok(()) => self.outcome,
            Err(error) => Err(error.clone()),
        };
        // Nobody waits any more (the client hung up): what is durable stays durable.
        let _ = self.reply.send(answer);
    }
}

/// Runs until every sender is gone.
pub(super) fn run(mut connection: Connection, waiting: &Receiver<Box<dyn Job>>, fault: &Fault) {
    let mut group = Vec::with_capacity(MAX_GROUP);
    loop {
        match waiting.recv_timeout(PROBE_INTERVAL) {
            Ok(job) => group.push(job),
            Err(RecvTimeoutError::Timeout) if fault.get().is_none() => continue,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        for job in &mut group {
            job.gather();
        }
        group.extend(waiting.try_iter().take(MAX_GROUP - 1));
        let before = connection.total_changes();
        let committed = commit(&mut connection, &mut group);
        // A transaction that wrote nothing says nothing about the disk.
        if committed.is_err() || connection.total_changes() != before {
            report(fault, &committed);
        }
        for job in group.drain(..) {
            job.answer(&committed);
        }
    }
}

/// Keeps the fault for readiness; says it once, and once that it is over.
fn report(fault: &Fault, committed: &Result<(), StoreError>) {
    let (before, now) = (fault.get(), committed.as_ref().err().map(ToString::to_string));
    if before != now {
        if let Some(error) = &now {
            tracing::error!(error, "the store cannot be written");
        } else {
            tracing::info!("the store can be written again");
        }
        fault.set(now);
    }
}

fn commit(connection: &mut Connection, group: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if group.is_empty() {
        transaction.execute("UPDATE probe SET writes = writes + 1, ballast = zeroblob(65536)", [])?;
    }
    // A savepoint keeps a copy of every page it changes; a job that is alone can do without: its failure spoils nothing.
    let alone = group.len() == 1;
    for job in group {
        if !alone {
            transaction.prepare_cached("SAVEPOINT job")?.execute([])?;
        }
        if let Err(code) = job.run(&transaction) {
            if concerns_all(code) || transaction.is_autocommit() {
                return Err(StoreError::Database(describe(code).into()));
            }
            if alone {
                return Ok(transaction.rollback()?);
            }
            transaction.prepare_cached("ROLLBACK TO job")?.execute([])?;
        }
        if !alone {
            transaction.prepare_cached("RELEASE job")?.execute([])?;
        }
    }
    transaction.commit()?;
    Ok(())
}

/// Faults of the disk or the file, not of one statement: everything in the transaction shares them.
fn concerns_all(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::DatabaseCorrupt
            | ErrorCode::NotADatabase
            | ErrorCode::CannotOpen
            | ErrorCode::ReadOnly
            | ErrorCode::OutOfMemory
    )
}

fn describe(code: ErrorCode) -> &'static str {
    if code == ErrorCode::DiskFull {
        "database or disk is full"
    } else if code == ErrorCode::SystemIoFailure {
        "disk I/O error"
    } else if code == ErrorCode::ReadOnly {
        "the database is read-only"
    } else if code == ErrorCode::OutOfMemory {
        "out of memory"
    } else {
        "the database file is damaged or cannot be opened"
    }
}
