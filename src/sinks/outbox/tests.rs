use super::*;
use crate::event::Tenant;
use crate::finding::tests::sample;
use crate::finding::{Lifecycle, revision_id};

const SINK: &str = "jsonl";

fn revision(number: u32, of: &str) -> Finding {
    let mut finding = sample(of);
    finding.revision = number;
    finding.revision_id = revision_id(finding.finding_id, number);
    finding.lifecycle = if number == 1 { Lifecycle::Opened } else { Lifecycle::Updated };
    finding.tenant = Tenant::from("ins_1");
    finding
}

fn open() -> (tempfile::TempDir, Store, Outbox) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), &[SCHEMA]).unwrap();
    (directory, store.clone(), Outbox::new(store))
}

fn put(store: &Store, findings: Vec<Finding>, now: i64) {
    let sinks = vec![SINK.to_owned(), "other".to_owned()];
    store.write_blocking(move |tx| enqueue(tx, &sinks, &findings, Timestamp(now))).unwrap();
}

fn revisions(due: &[Due]) -> Vec<(String, u32)> {
    due.iter().map(|due| (due.finding.entity.value.clone(), due.finding.revision)).collect()
}

async fn answer(outbox: &Outbox, due: Vec<Due>, delivery: Delivery, now: i64) {
    let results = due.into_iter().map(|due| (due, delivery.clone())).collect();
    outbox.record(results, Timestamp(now), || 0.5).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_findings_revisions_go_in_order_and_others_overtake_a_stuck_one() {
    let (_directory, store, outbox) = open();
    tokio::task::block_in_place(|| {
        put(&store, vec![revision(1, "203.0.113.1"), revision(2, "203.0.113.1"), revision(1, "203.0.113.2")], 0);
    });
    let due = outbox.due(SINK, Timestamp(0), 10).unwrap();
    assert_eq!(revisions(&due), [("203.0.113.1".to_owned(), 1), ("203.0.113.2".to_owned(), 1)]);
    let stuck = vec![due[0].clone()];
    answer(&outbox, stuck, Delivery::Retry("503".into()), 0).await;
    let due = outbox.due(SINK, Timestamp(100), 10).unwrap();
    assert_eq!(revisions(&due), [("203.0.113.2".to_owned(), 1)], "revision 2 waits behind 1");
    answer(&outbox, due, Delivery::Accepted, 100).await;
    assert_eq!(outbox.due(SINK, Timestamp(499), 10).unwrap(), [], "half of the first second is drawn");
    let due = outbox.due(SINK, Timestamp(500), 10).unwrap();
    assert_eq!((revisions(&due), due[0].attempts), (vec![("203.0.113.1".to_owned(), 1)], 1));
    answer(&outbox, due, Delivery::Accepted, 500).await;
    assert_eq!(revisions(&outbox.due(SINK, Timestamp(500), 10).unwrap()), [("203.0.113.1".to_owned(), 2)]);
    assert_eq!(outbox.backlog("other").unwrap().depth, 3, "the other sink has its own rows");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_made_again_is_not_delivered_again() {
    let (_directory, store, outbox) = open();
    tokio::task::block_in_place(|| put(&store, vec![revision(1, "203.0.113.1")], 0));
    answer(&outbox, outbox.due(SINK, Timestamp(0), 10).unwrap(), Delivery::Accepted, 0).await;
    tokio::task::block_in_place(|| put(&store, vec![revision(1, "203.0.113.1")], 1000));
    assert_eq!(outbox.due(SINK, Timestamp(1000), 10).unwrap(), []);
    outbox.tidy(SINK, Timestamp(DELIVERED_KEPT_MILLIS - 1)).await.unwrap();
    tokio::task::block_in_place(|| put(&store, vec![revision(1, "203.0.113.1")], 1000));
    assert_eq!(outbox.due(SINK, Timestamp(1000), 10).unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_revision_is_a_dead_letter_and_does_not_block_the_next() {
    let (_directory, store, outbox) = open();
    tokio::task::block_in_place(|| put(&store, vec![revision(1, "203.0.113.1"), revision(2, "203.0.113.1")], 0));
    answer(&outbox, outbox.due(SINK, Timestamp(0), 1).unwrap(), Delivery::Refused("400".into()), 0).await;
    assert_eq!(revisions(&outbox.due(SINK, Timestamp(0), 10).unwrap()), [("203.0.113.1".to_owned(), 2)]);
    let dead: String = store
        .read(|connection| {
            connection.query_row("SELECT last_error FROM outbox WHERE state = 'dead'", [], |row| row.get(0))
        })
        .unwrap();
    assert_eq!(dead, "400");
}

#[test]
fn waits_grow_to_their_cap() {
    assert_eq!(backoff(0, 0.0), 100);
    assert_eq!(backoff(0, 0.999), 999);
    assert_eq!(backoff(3, 0.5), 4000);
    assert_eq!(backoff(30, 1.0), BACKOFF_CAP_MILLIS);
    assert_eq!(backoff(u32::MAX, 0.5), BACKOFF_CAP_MILLIS / 2);
}
