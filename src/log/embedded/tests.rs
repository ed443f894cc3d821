use super::*;
use crate::event::{AuthEvent, Outcome, Source, Timestamp};
use crate::metrics::Metrics;

fn event(id: &str) -> AuthEvent {
    AuthEvent {
        id: id.into(),
        occurred_at: Timestamp(1_000),
        received_at: Timestamp(1_001),
        tenant: "ins_1".into(),
        source: Source::AttemptReport,
        outcome: Outcome::Failure,
        reason: Some("form_password_incorrect".into()),
        ip: Some("203.0.113.7".parse().unwrap()),
        account: None,
        identifier: None,
        user_agent: None,
        session: None,
    }
}

struct Fixture {
    directory: tempfile::TempDir,
    clock: Clock,
    config: Config,
}

impl Fixture {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            clock: Clock::held(Timestamp(1_700_000_000_000)),
            config: Config::default(),
        }
    }

    fn open(&self) -> (EmbeddedLog, Store) {
        let store = Store::open(self.directory.path(), &[SCHEMA]).unwrap();
        let metrics = Metrics::new().unwrap();
        let enqueue: Enqueue = Arc::new(|_, _| Ok(()));
        (EmbeddedLog::open(store.clone(), &self.config, enqueue, &self.clock, &metrics.log).unwrap(), store)
    }
}

fn close((log, store): (EmbeddedLog, Store)) {
    log.close();
    store.close();
}

fn ids(polled: &Polled) -> Vec<&str> {
    polled
        .records
        .iter()
        .map(|record| match record {
            Record::Event(event) => &*event.id,
            Record::Tick { .. } => "tick",
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn records_come_back_in_order_and_from_any_offset() {
    let fixture = Fixture::new();
    let opened = fixture.open();
    let log = &opened.0;
    assert_eq!(log.append(vec![event("a"), event("b")]).await.unwrap(), [Appended::Stored; 2]);
    log.tick(Partition(0), Timestamp(5)).await.unwrap();
    assert_eq!(log.append(vec![event("c")]).await.unwrap(), [Appended::Stored]);
    let all = log.poll(Partition(0), Offset(0), Duration::ZERO).unwrap();
    assert_eq!((ids(&all), all.next), (vec!["a", "b", "tick", "c"], Offset(4)));
    assert_eq!(all.records.first(), Some(&Record::Event(event("a"))));
    let rest = log.poll(Partition(0), Offset(1), Duration::ZERO).unwrap();
    assert_eq!((ids(&rest), rest.next), (vec!["b", "tick", "c"], Offset(4)));
    let none = log.poll(Partition(0), Offset(4), Duration::ZERO).unwrap();
    assert_eq!((ids(&none), none.next), (vec![], Offset(4)));
    close(opened);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_is_recognised_in_a_call_across_calls_and_across_restarts() {
    let fixture = Fixture::new();
    let opened = fixture.open();
    let answer = opened.0.append(vec![event("a"), event("a"), event("b")]).await.unwrap();
    assert_eq!(answer, [Appended::Stored, Appended::Duplicate, Appended::Stored]);
    assert_eq!(opened.0.append(vec![event("b")]).await.unwrap(), [Appended::Duplicate]);
    close(opened);

    fixture.clock.set(Timestamp(1_700_000_000_000 + 27 * 3_600_000));
    let opened = fixture.open();
    assert_eq!(opened.0.append(vec![event("a"), event("c")]).await.unwrap(), [Appended::Duplicate, Appended::Stored]);
    assert_eq!(opened.0.head(Partition(0)), Offset(3));
    close(opened);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_append_leaves_nothing_and_can_be_sent_again() {
    let fixture = Fixture::new();
    let opened = fixture.open();
    let limit = |pages: i64| {
        opened.1.write_blocking(move |tx| {
            tx.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |row| row.get::<_, i64>(0))
        })
    };
    let pages = tokio::task::block_in_place(|| limit(1)).unwrap_or_default();
    let many = |from: usize| (from..from + 2000).map(|number| event(&format!("event-{number}"))).collect::<Vec<_>>();
    let refused = opened.0.append(many(0)).await;
    assert!(matches!(&refused, Err(AppendError::Unavailable(why)) if why.contains("full")), "{refused:?}");
    assert!(opened.0.fault().is_some());
    assert_eq!(opened.0.head(Partition(0)), Offset(0));
    tokio::task::block_in_place(|| limit(pages + 10_000)).unwrap();
    assert_eq!(opened.0.append(many(0)).await.unwrap(), vec![Appended::Stored; 2000]);
    assert_eq!(opened.0.head(Partition(0)), Offset(2000));
    close(opened);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_replaces_the_one_before_and_survives() {
    let fixture = Fixture::new();
    let opened = fixture.open();
    assert_eq!(opened.0.snapshot(Partition(0)).unwrap(), None);
    for (offset, state) in [(3, vec![1]), (9, vec![2, 3])] {
        let snapshot = Snapshot { offset: Offset(offset), state };
        tokio::task::block_in_place(|| {
            opened.0.commit(Partition(0), Commit { snapshot: Some(snapshot), ..Commit::default() })
        })
        .unwrap();
    }
    close(opened);
    let opened = fixture.open();
    assert_eq!(opened.0.snapshot(Partition(0)).unwrap(), Some(Snapshot { offset: Offset(9), state: vec![2, 3] }));
    assert_eq!(opened.0.head(Partition(0)), Offset(9), "offsets never go back, even with no block left");
    close(opened);
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_deletes_only_what_a_snapshot_has_seen() {
    let fixture = Fixture::new();
    let opened = fixture.open();
    let (log, store) = (&opened.0, &opened.1);
    for id in ["a", "b", "c"] {
        log.append(vec![event(id)]).await.unwrap();
    }
    let later = Timestamp(1_700_000_000_000 + 30 * 86_400_000);
    let left = || ids(&log.poll(Partition(0), Offset(0), Duration::ZERO).unwrap()).len();
    tokio::task::block_in_place(|| {
        retention::apply(store, &fixture.config, later).unwrap();
        assert_eq!(left(), 3, "no snapshot yet");
        let snapshot = Snapshot { offset: Offset(2), state: Vec::new() };
        log.commit(Partition(0), Commit { snapshot: Some(snapshot), ..Commit::default() }).unwrap();
        retention::apply(store, &fixture.config, Timestamp(1_700_000_000_000 + 86_400_000)).unwrap();
        assert_eq!(left(), 3, "too young");
        retention::apply(store, &fixture.config, later).unwrap();
        assert_eq!(left(), 1, "the two that the snapshot has seen are gone");
    });
    close(opened);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_too_big_refuses_what_is_unseen_shrinks_once_it_is_seen_and_gives_the_space_back() {
    let fixture = Fixture { config: Config { max_bytes: 2 << 20, ..Config::default() }, ..Fixture::new() };
    let opened = fixture.open();
    let (log, store) = (&opened.0, &opened.1);
    let padding = "x".repeat(180);
    let block = |number: usize| (0..40).map(|item| event(&format!("{number}-{item}-{padding}"))).collect();
    let mut written = 0;
    let refused = loop {
        match log.append(block(written)).await {
            Ok(_) => written += 1,
            Err(error) => break error.to_string(),
        }
    };
    assert!(refused.contains("max_bytes"), "{refused}");
    tokio::task::block_in_place(|| {
        let used = |store: &Store| {
            store
                .read(|connection| connection.pragma_query_value::<i64, _>(None, "page_count", |row| row.get(0)))
                .unwrap()
        };
        let before = used(store) * 4096;
        assert!(before > 2 << 20, "{before}");
        let snapshot = Snapshot { offset: log.head(Partition(0)), state: Vec::new() };
        log.commit(Partition(0), Commit { snapshot: Some(snapshot), ..Commit::default() }).unwrap();
        fixture.clock.set(Timestamp(1_700_000_001_000));
        retention::apply(store, &fixture.config, fixture.clock.now()).unwrap();
        let after = used(store) * 4096;
        assert!(after <= 2 << 20, "{before} became {after}");
    });
    assert_eq!(log.append(block(written)).await.unwrap().len(), 40, "there is room again");
    close(opened);
}
