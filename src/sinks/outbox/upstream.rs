//! The outbox where another durable queue stands before it: what waits here can be taken back, since it is kept there.
//!
//! Invariant: what was delivered stays known, so that a revision that comes again goes only to the sinks that lack it.

use std::collections::HashSet;

use rusqlite::{Connection, Transaction, params};
use uuid::Uuid;

use super::{Outbox, bounds, insert_revision, text};
use crate::event::Timestamp;
use crate::finding::Finding;
use crate::store::StoreError;

/// As [`super::enqueue`], for revisions that may have been taken back before: each sink that has none gets its delivery.
///
/// # Errors
/// The database's own.
pub fn enqueue_again(
    tx: &Transaction<'_>,
    sinks: &[String],
    findings: &[Finding],
    now: Timestamp,
) -> rusqlite::Result<()> {
    for finding in findings {
        insert_revision(tx, finding, now)?;
        let mut insert = tx.prepare_cached(
            "INSERT OR IGNORE INTO delivery (sink, revision_id, finding_id, revision, state, attempts, created_at, next_at)
             VALUES (?1, ?2, ?3, ?4, 'pending', 0, ?5, ?5)",
        )?;
        for sink in sinks {
            let (revision_id, finding_id) = (text(finding.revision_id), text(finding.finding_id));
            insert.execute(params![sink, revision_id, finding_id, finding.revision, now.0])?;
        }
    }
    for sink in sinks {
        bounds::make_room(tx, sink, now, bounds::MAX_PENDING)?;
    }
    Ok(())
}

/// Which of `revisions` still wait for a sink.
///
/// # Errors
/// The database's own.
pub fn unsettled(connection: &Connection, revisions: &[Uuid]) -> rusqlite::Result<HashSet<Uuid>> {
    let mut select =
        connection.prepare_cached("SELECT 1 FROM delivery WHERE revision_id = ?1 AND state = 'pending' LIMIT 1")?;
    let mut waiting = HashSet::new();
    for revision in revisions {
        if select.exists([text(*revision)])? {
            waiting.insert(*revision);
        }
    }
    Ok(waiting)
}

/// Takes back what waits of `revisions`, or everything that waits.
///
/// # Errors
/// The database's own.
pub fn give_up(tx: &Transaction<'_>, revisions: Option<&[Uuid]>) -> rusqlite::Result<()> {
    let Some(revisions) = revisions else {
        tx.execute("DELETE FROM delivery WHERE state = 'pending'", [])?;
        return Ok(());
    };
    let mut delete = tx.prepare_cached("DELETE FROM delivery WHERE revision_id = ?1 AND state = 'pending'")?;
    for revision in revisions {
        delete.execute([text(*revision)])?;
    }
    Ok(())
}

impl Outbox {
    /// Takes back everything that waits.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn give_up_all(&self) -> Result<(), StoreError> {
        self.0.write(|tx| give_up(tx, None)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::Delivery;
    use crate::sinks::outbox::{Outcome, SCHEMA};
    use crate::sinks::sample;
    use crate::store::Store;

    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_taken_back_comes_again_only_to_those_who_lack_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), &[SCHEMA]).unwrap();
        let (outbox, finding) = (Outbox::new(store.clone()), sample::stuffing());
        let (id, sinks) = (finding.revision_id, ["a".to_owned(), "b".to_owned()]);
        let take = || {
            let (sinks, findings) = (sinks.clone(), vec![finding.clone()]);
            store.write_blocking(move |tx| enqueue_again(tx, &sinks, &findings, Timestamp(1))).unwrap();
        };
        let waits = || store.read(|connection| unsettled(connection, &[id])).unwrap().contains(&id);
        take();
        assert!(waits());
        let taken = Outcome { revision_id: id, attempts: 0, delivery: Delivery::Accepted };
        outbox.record("a", &[taken], Timestamp(2)).await.unwrap();
        assert!(waits(), "b has not");
        store.write_blocking(move |tx| give_up(tx, Some(&[id]))).unwrap();
        assert!(!waits());
        take();
        assert_eq!(outbox.due("a", Timestamp(3), 9).await.unwrap().len(), 0);
        assert_eq!(outbox.due("b", Timestamp(3), 9).await.unwrap().len(), 1);
        outbox.give_up_all().await.unwrap();
        assert!(!waits());
        store.close();
    }
}
