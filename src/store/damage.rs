//! Opening the database, and what happens when it is damaged: it is moved aside, and a new one begins.
//!
//! Invariant: nothing is moved for a fault that may pass (a full disk, a lock, missing rights, a newer version), and nothing
//! is overwritten by moving.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode};

use super::{SCHEMA_VERSION, StoreError, writer};

/// A database above this is not read through at start, which would take longer than a supervisor waits; its damage shows
/// when it is read.
const MAX_CHECKED_BYTES: u64 = 1 << 30;
/// Damaged databases kept beside each other. Whoever has more has another problem.
const MAX_ASIDE: u32 = 100;

/// Why a database cannot be used.
enum Unusable {
    /// It is no database, or a broken one.
    Damaged(String),
    /// Something that leaves the file as it should be.
    Refused(StoreError),
}

impl From<rusqlite::Error> for Unusable {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged(error.to_string()),
            _ => Self::Refused(error.into()),
        }
    }
}

/// A connection to `path` with the tables of `schema`, and where a damaged database went that was there.
pub(super) fn open(path: &Path, schema: &[&str]) -> Result<(Connection, Option<PathBuf>), StoreError> {
    let damage = match open_checked(path, schema) {
        Ok(connection) => return Ok((connection, None)),
        Err(Unusable::Refused(error)) => return Err(error),
        Err(Unusable::Damaged(damage)) => damage,
    };
    let aside = move_aside(path).map_err(|error| {
        StoreError::Database(format!("the database is damaged ({damage}) and cannot be moved: {error}"))
    })?;
    tracing::error!(
        damage,
        moved_to = %aside.display(),
        "the database is damaged: moved aside, beginning anew; events, baselines and undelivered findings are in it"
    );
    match open_checked(path, schema) {
        Ok(connection) => Ok((connection, Some(aside))),
        Err(Unusable::Refused(error)) => Err(error),
        Err(Unusable::Damaged(damage)) => Err(StoreError::Database(format!("a new database is damaged: {damage}"))),
    }
}

/// Looks before it writes: what is damaged is kept as it was found.
fn open_checked(path: &Path, schema: &[&str]) -> Result<Connection, Unusable> {
    let bytes = std::fs::metadata(path).map_or(0, |found| found.len());
    let mut connection = Connection::open(path)?;
    if bytes > MAX_CHECKED_BYTES {
        tracing::info!(bytes, "the database is too large to be checked at start");
    } else if bytes > 0 {
        let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if found != "ok" {
            return Err(Unusable::Damaged(found.replace('\n', "; ")));
        }
    }
    prepare(&mut connection, schema)?;
    Ok(connection)
}

fn prepare(connection: &mut Connection, schema: &[&str]) -> Result<(), Unusable> {
    // Must come before the first table, or it has no effect.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // 16 MiB between checkpoints: the writer pays for one about once a second under full load, not at every commit.
    connection.pragma_update(None, "wal_autocheckpoint", 4096)?;
    // What was deleted is deleted: not a byte of an account that was forgotten is left in a free page.
    connection.pragma_update(None, "secure_delete", true)?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version > SCHEMA_VERSION {
        return Err(Unusable::Refused(StoreError::Database(format!(
            "the database was written by a newer version (schema {version}, this one knows {SCHEMA_VERSION})"
        ))));
    }
    let transaction = connection.transaction()?;
    for statements in schema {
        transaction.execute_batch(statements)?;
    }
    transaction.execute_batch(writer::PROBE_SCHEMA)?;
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    transaction.commit()?;
    Ok(())
}

/// Moves the database and what belongs to it to the first free `<name>.damaged-<n>`.
fn move_aside(path: &Path) -> std::io::Result<PathBuf> {
    let with = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let free = (1..=MAX_ASIDE).map(|number| format!(".damaged-{number}")).find(|suffix| !with(suffix).exists());
    let suffix = free.ok_or_else(|| std::io::Error::other(format!("{MAX_ASIDE} damaged ones are there already")))?;
    // The log first: a database without it is older, one with a stranger's is destroyed.
    for part in ["-wal", "-shm", ""] {
        let (from, to) = (with(part), with(&format!("{suffix}{part}")));
        match std::fs::rename(from, to) {
            Err(error) if part.is_empty() || error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(with(&suffix))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use crate::store::Store;

    const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS word (text TEXT NOT NULL UNIQUE) STRICT;";

    fn count(store: &Store) -> i64 {
        store.read(|connection| connection.query_row("SELECT count(*) FROM word", [], |row| row.get(0))).unwrap()
    }

    fn filled(directory: &std::path::Path) {
        let store = Store::open(directory, &[SCHEMA]).unwrap();
        let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
                    INSERT INTO word SELECT printf('word %d', i) FROM n";
        store.write_blocking(|tx| tx.execute(fill, [])).unwrap();
        store.close();
    }

    #[test]
    fn a_damaged_database_is_moved_aside_and_a_new_one_begins() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("authspike.db");
        for (number, damage) in [(1, 0), (2, 4096 * 5)] {
            filled(directory.path());
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.write_all_at(&[0x5a; 4096], damage).unwrap();
            let broken = std::fs::read(&path).unwrap();
            let store = Store::open(directory.path(), &[SCHEMA]).unwrap();
            let aside = directory.path().join(format!("authspike.db.damaged-{number}"));
            assert_eq!(store.moved_aside(), Some(aside.as_path()));
            assert!(std::fs::read(&aside).unwrap() == broken, "it is as it was found");
            assert_eq!(count(&store), 0);
            store.close();
            drop(store);
            let store = Store::open(directory.path(), &[SCHEMA]).unwrap();
            assert_eq!(store.moved_aside(), None);
            store.close();
        }
    }

    #[test]
    fn a_database_that_is_well_stays() {
        let directory = tempfile::tempdir().unwrap();
        filled(directory.path());
        let store = Store::open(directory.path(), &[SCHEMA]).unwrap();
        assert_eq!((count(&store), store.moved_aside()), (5000, None));
    }
}
