//! The outbox where another durable queue stands before it: what waits here can be taken back, since it is kept there.
//!
//! Invariant: what was delivered stays known, so that a revision that comes again goes only to the sinks that lack it.

use std::collections::HashSet;

use rusqlite::{Connection, Transaction, params};
use uuid::Uuid;

use super::{Bounds, Outbox, Recipient, bounds, insert_revision};
use crate::event::Timestamp;
use crate::finding::Finding;
use crate::store::StoreError;

/// As [`super::enqueue`], for revisions that may have been taken back before: each sink that has none gets its delivery.
///
/// # Errors
/// The database's own.
pub fn enqueue_again(
    tx: &Transaction<'_>,
    recipients: &[Recipient],
    findings: &[Finding],
    now: Timestamp,
    bounds: &Bounds,
) -> rusqlite::Result<()> {
    for finding in findings {
        insert_revision(tx, finding, now)?;
        let mut insert = tx.prepare_cached(
            "INSERT OR IGNORE INTO outbox_delivery
             (entry, sink, finding_id, revision, bytes, state, attempts, created_at, next_at)
             SELECT entry, ?2, ?3, ?4, length(CAST(body AS BLOB)), 'pending', 0, ?5, ?5
             FROM outbox_revision WHERE revision_id = ?1",
        )?;
        let (revision_id, finding_id) = (finding.revision_id.to_string(), finding.finding_id.to_string());
        for recipient in recipients.iter().filter(|recipient| recipient.route.takes(finding)) {
            insert.execute(params![revision_id, recipient.sink, finding_id, finding.revision, now.0])?;
        }
    }
    for recipient in recipients {
        bounds::make_room(tx, &recipient.sink, now, bounds)?;
    }
    Ok(())
}

/// Which of `revisions` still wait for a sink.
///
/// # Errors
/// The database's own.
pub fn unsettled(connection: &Connection, revisions: &[Uuid]) -> rusqlite::Result<HashSet<Uuid>> {
    let mut select = connection.prepare_cached(
        "SELECT 1 FROM outbox_revision JOIN outbox_delivery USING (entry)
         WHERE revision_id = ?1 AND state = 'pending' LIMIT 1",
    )?;
    let mut waiting = HashSet::new();
    for revision in revisions {
        if select.exists([revision.to_string()])? {
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
        tx.execute("DELETE FROM outbox_delivery WHERE state = 'pending'", [])?;
        return Ok(());
    };
    let mut delete = tx.prepare_cached(
        "DELETE FROM outbox_delivery WHERE state = 'pending'
         AND entry = (SELECT entry FROM outbox_revision WHERE revision_id = ?1)",
    )?;
    for revision in revisions {
        delete.execute([revision.to_string()])?;
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
    use crate::sinks::route::Route;
    use crate::sinks::sample;
    use crate::sinks::standing::Standing;
    use crate::store::Store;

    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_taken_back_comes_again_only_to_those_who_lack_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), &[SCHEMA]).unwrap();
        let (outbox, finding) = (Outbox::new(store.clone()), sample::stuffing());
        let id = finding.revision_id;
        let recipients = ["a", "b"].map(|sink| Recipient { sink: sink.to_owned(), route: Route::ALL });
        let take = async || {
            let (recipients, findings) = (recipients.clone(), vec![finding.clone()]);
            let enqueue =
                move |tx: &Transaction<'_>| enqueue_again(tx, &recipients, &findings, Timestamp(1), &Bounds::default());
            store.write(enqueue).await.unwrap();
        };
        let waits = || store.read(|connection| unsettled(connection, &[id])).unwrap().contains(&id);
        take().await;
        assert!(waits());
        let due = outbox.due("a", Timestamp(2), 9, &[]).await.unwrap();
        let taken = Outcome { entry: due[0].entry, attempts: 0, delivery: Delivery::Accepted, next_at: None };
        outbox.record("a", &[taken], &Standing::default(), false, Timestamp(2)).await.unwrap();
        assert!(waits(), "b has not");
        store.write(move |tx| give_up(tx, Some(&[id]))).await.unwrap();
        assert!(!waits());
        assert_eq!(outbox.figures("b").await.unwrap().pending, 0);
        take().await;
        assert_eq!(outbox.due("a", Timestamp(3), 9, &[]).await.unwrap().len(), 0);
        assert_eq!(outbox.due("b", Timestamp(3), 9, &[]).await.unwrap().len(), 1);
        outbox.give_up_all().await.unwrap();
        assert!(!waits());
        tokio::task::spawn_blocking(move || store.close()).await.unwrap();
    }
}
