//! One SQLite database, one writer: what the embedded log and the outbox stand on.
//!
//! Invariant: a write is answered only after the transaction that holds it is on disk (`synchronous = FULL`). Writes that
//! arrive while one is being synced share the next transaction: that is what lets thousands of requests a second each
//! wait for a disk that syncs a few hundred times. A write that fails undoes itself alone; a transaction that fails
//! fails every write in it, and the next one starts afresh, so a full disk heals without a restart. A database that is
//! damaged is moved aside at start, never deleted and never repaired: what is in it can still be looked at.
//!
//! Not here: what the tables mean. Their owners (`log::embedded`, `sinks::outbox`) bring schema and statements.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rusqlite::{Connection, OpenFlags, Transaction};
use tokio::sync::oneshot;

mod damage;
mod writer;

use writer::WriteJob;

pub(crate) use writer::Job;

/// Version of the tables; a database with a higher one was written by a newer authspike and is left alone.
const SCHEMA_VERSION: i64 = 1;
/// Writes that may wait. Each is a block of events or a batch of deliveries, so this many behind a stuck disk is already
/// seconds of work; beyond it the honest answer is 503.
const MAX_WAITING: usize = 1024;
/// Idle reading connections kept open: the detector task and one per sink read at a time.
const MAX_IDLE_READERS: usize = 4;

/// Why the database could not be read or written. The text names no row's content.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Too many writes are waiting.
    #[error("too many writes are waiting")]
    Overloaded,
    /// SQLite said no (disk full, I/O error, corrupt file).
    #[error("{0}")]
    Database(String),
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error.to_string())
    }
}

/// A handle on the database; clones share it.
#[derive(Clone, Debug)]
pub struct Store(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    /// `None` once closed.
    jobs: Mutex<Option<SyncSender<Box<dyn Job>>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    readers: Mutex<Vec<Connection>>,
    fault: Arc<Fault>,
    /// Where a damaged database went at this start.
    moved_aside: Option<PathBuf>,
    /// Held for as long as the store lives: a second process on the same directory is refused.
    _lock: File,
}

/// Why the last write failed, until one succeeds.
#[derive(Debug, Default)]
struct Fault(Mutex<Option<String>>);

impl Fault {
    fn set(&self, fault: Option<String>) {
        *locked(&self.0) = fault;
    }

    fn get(&self) -> Option<String> {
        locked(&self.0).clone()
    }
}

impl Store {
    /// Opens (and if need be creates) `directory/authspike.db` with the tables of `schema`, which must be repeatable
    /// (`CREATE … IF NOT EXISTS`).
    ///
    /// # Errors
    /// The directory is in use by another process, cannot be written, or holds a database that this version cannot use.
    pub fn open(directory: &Path, schema: &[&str]) -> Result<Self, StoreError> {
        let lock = lock(directory)?;
        let path = directory.join("authspike.db");
        let (connection, moved_aside) = damage::open(&path, schema)?;
        let fault = Arc::new(Fault::default());
        let (jobs, waiting) = sync_channel(MAX_WAITING);
        let writer_fault = Arc::clone(&fault);
        let writer = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer::run(connection, &waiting, &writer_fault))
            .map_err(|error| StoreError::Database(format!("cannot start the writer: {error}")))?;
        Ok(Self(Arc::new(Shared {
            path,
            jobs: Mutex::new(Some(jobs)),
            writer: Mutex::new(Some(writer)),
            readers: Mutex::default(),
            fault,
            moved_aside,
            _lock: lock,
        })))
    }

    /// Runs `job` in the writer's next transaction and answers once it is durable. An error of `job` undoes `job` alone.
    ///
    /// # Errors
    /// See [`StoreError`]; after one, nothing `job` did is durable.
    pub async fn write<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        self.submit(job).await.unwrap_or(Err(StoreError::Closed))
    }

    /// Like [`Store::write`], for a thread that may block.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn write_blocking<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        self.submit(job).blocking_recv().unwrap_or(Err(StoreError::Closed))
    }

    fn submit<T, F>(&self, job: F) -> oneshot::Receiver<Result<T, StoreError>>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.enqueue(Box::new(WriteJob::new(job, reply)));
        answer
    }

    /// Hands `job` to the writer; one that cannot be taken is answered at once.
    pub(crate) fn enqueue(&self, job: Box<dyn Job>) {
        let refused = match locked(&self.0.jobs).as_ref() {
            None => Some((job, StoreError::Closed)),
            Some(jobs) => match jobs.try_send(job) {
                Ok(()) => None,
                Err(TrySendError::Full(job)) => Some((job, StoreError::Overloaded)),
                Err(TrySendError::Disconnected(job)) => Some((job, StoreError::Closed)),
            },
        };
        if let Some((job, error)) = refused {
            job.answer(&Err(error));
        }
    }

    /// Runs `query` on a reading connection that sees everything written so far. Blocks the calling thread.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn read<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let idle = locked(&self.0.readers).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => open_reader(&self.0.path)?,
        };
        let answer = query(&connection)?;
        let mut readers = locked(&self.0.readers);
        if readers.len() < MAX_IDLE_READERS {
            readers.push(connection);
        }
        Ok(answer)
    }

    /// Why the last write failed, as long as none has succeeded since.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        self.0.fault.get()
    }

    /// Where the database went at this start, if it was damaged: everything began anew.
    #[must_use]
    pub fn moved_aside(&self) -> Option<&Path> {
        self.0.moved_aside.as_deref()
    }

    /// Bytes of the database and its write-ahead log on disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files().iter().map(|path| std::fs::metadata(path).map_or(0, |found| found.len())).sum()
    }

    /// The database and its write-ahead log.
    #[must_use]
    pub fn files(&self) -> [PathBuf; 2] {
        let mut wal = self.0.path.clone().into_os_string();
        wal.push("-wal");
        [self.0.path.clone(), wal.into()]
    }

    /// Brings what is in the write-ahead log into the database and empties it, so that nothing of what was overwritten is
    /// left there; `false`: somebody reads an older state, try again. Blocks.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn empty_write_ahead_log(&self) -> Result<bool, StoreError> {
        let connection = self.beside()?;
        let busy: i64 = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        Ok(busy == 0)
    }

    /// Writes the whole database anew, without what is left of rows that moved from page to page. Writers wait meanwhile,
    /// some seconds for a gigabyte. Blocks.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn rebuild(&self) -> Result<(), StoreError> {
        Ok(self.beside()?.execute_batch("VACUUM")?)
    }

    /// A writing connection beside the writer's, for what cannot be done inside a transaction.
    fn beside(&self) -> Result<Connection, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.0.path, flags)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "secure_delete", true)?;
        Ok(connection)
    }

    /// Finishes the waiting writes and closes the database; later writes answer [`StoreError::Closed`]. Blocks.
    pub fn close(&self) {
        drop(locked(&self.0.jobs).take());
        // The last connection to close empties the write-ahead log: let it be the writer's.
        locked(&self.0.readers).clear();
        if let Some(writer) = locked(&self.0.writer).take() {
            // A panic of the writer has already answered every waiting write with `Closed`.
            let _ = writer.join();
        }
    }
}

/// A connection to the database in `directory`, beside the process that may have it open: for a person's commands.
///
/// # Errors
/// There is no database, or it cannot be opened.
pub fn attach(directory: &Path, writable: bool) -> Result<Connection, StoreError> {
    let path = directory.join("authspike.db");
    if !path.exists() {
        return Err(StoreError::Database(format!("there is no {}", path.display())));
    }
    let access = if writable { OpenFlags::SQLITE_OPEN_READ_WRITE } else { OpenFlags::SQLITE_OPEN_READ_ONLY };
    let connection = Connection::open_with_flags(&path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    // As everywhere: what is answered is on disk.
    connection.pragma_update(None, "synchronous", "FULL")?;
    if writable {
        connection.pragma_update(None, "secure_delete", true)?;
    }
    Ok(connection)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lock(directory: &Path) -> Result<File, StoreError> {
    let path = directory.join("authspike.lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| StoreError::Database(format!("cannot open {}: {error}", path.display())))?;
    file.try_lock()
        .map_err(|_| StoreError::Database(format!("{} is in use by another authspike process", directory.display())))?;
    Ok(file)
}

fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS word (text TEXT NOT NULL UNIQUE) STRICT;";

    fn words(store: &Store) -> Vec<String> {
        store
            .read(|connection| {
                connection.prepare("SELECT text FROM word ORDER BY text")?.query_map([], |row| row.get(0))?.collect()
            })
            .unwrap()
    }

    fn insert(store: &Store, word: &'static str) -> Result<usize, StoreError> {
        store.write_blocking(move |tx| tx.execute("INSERT INTO word VALUES (?1)", [word]))
    }

    #[test]
    fn a_failing_write_undoes_itself_alone() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), &[SCHEMA]).unwrap();
        insert(&store, "one").unwrap();
        let failed = store.write_blocking(|tx| {
            tx.execute("INSERT INTO word VALUES ('half')", [])?;
            tx.execute("INSERT INTO word VALUES ('one')", [])
        });
        assert!(matches!(failed, Err(StoreError::Database(_))), "{failed:?}");
        insert(&store, "two").unwrap();
        assert_eq!(words(&store), ["one", "two"]);
        assert_eq!(store.fault(), None, "a job's own fault is not the store's");
    }

    #[test]
    fn a_failing_write_leaves_those_that_share_its_transaction() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), &[SCHEMA]).unwrap();
        let (release, held) = sync_channel::<()>(1);
        // While it runs, the others gather for the next transaction.
        let holding = store.submit(move |_| {
            let _ = held.recv();
            Ok(())
        });
        let word = |words: &'static [&'static str]| {
            store.submit(move |tx| {
                words.iter().try_for_each(|word| tx.execute("INSERT INTO word VALUES (?1)", [word]).map(drop))
            })
        };
        let together = [word(&["one"]), word(&["half", "one"]), word(&["two"])];
        release.send(()).unwrap();
        holding.blocking_recv().unwrap().unwrap();
        let outcomes = together.map(|answer| answer.blocking_recv().unwrap().is_ok());
        assert_eq!(outcomes, [true, false, true]);
        assert_eq!(words(&store), ["one", "two"]);
    }

    #[test]
    fn what_was_answered_is_there_after_reopening_and_the_directory_is_locked_meanwhile() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), &[SCHEMA]).unwrap();
        insert(&store, "kept").unwrap();
        let second = Store::open(directory.path(), &[SCHEMA]);
        assert!(second.unwrap_err().to_string().contains("in use"));
        store.close();
        assert!(matches!(insert(&store, "late"), Err(StoreError::Closed)));
        drop(store);
        assert_eq!(words(&Store::open(directory.path(), &[SCHEMA]).unwrap()), ["kept"]);
    }

    #[test]
    fn a_full_database_fails_writes_says_so_and_heals() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), &[SCHEMA]).unwrap();
        let limit = |pages: i64| {
            store.write_blocking(move |tx| {
                tx.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |row| row.get::<_, i64>(0))
            })
        };
        let pages = limit(1).unwrap();
        let big = || store.write_blocking(|tx| tx.execute("INSERT INTO word VALUES (hex(randomblob(100000)))", []));
        assert!(big().unwrap_err().to_string().contains("full"));
        assert!(store.fault().is_some_and(|fault| fault.contains("full")));
        limit(pages + 1000).unwrap();
        assert_eq!(big().unwrap(), 1);
        assert_eq!(store.fault(), None);
    }

    #[test]
    fn a_database_of_a_newer_version_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        Store::open(directory.path(), &[SCHEMA]).unwrap().close();
        let connection = Connection::open(directory.path().join("authspike.db")).unwrap();
        connection.pragma_update(None, "user_version", SCHEMA_VERSION + 1).unwrap();
        drop(connection);
        let refused = Store::open(directory.path(), &[SCHEMA]).unwrap_err();
        assert!(refused.to_string().contains("newer version"), "{refused}");
    }
}
