use std::collections::HashSet;

use proptest::prelude::*;
use rusqlite::Connection;

use super::*;
use crate::finding::Lifecycle;
use crate::sinks::sample::{revision, stuffing};

const NOW: Timestamp = Timestamp(1_716_883_500_000);
const DAY: i64 = 24 * 3600 * 1000;

struct Database(Connection);

impl Database {
    fn new() -> Self {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(SCHEMA).unwrap();
        Self(connection)
    }

    fn write<T>(&mut self, job: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> T {
        let tx = self.0.transaction().unwrap();
        let answer = job(&tx).unwrap();
        tx.commit().unwrap();
        answer
    }

    fn put(&mut self, findings: &[Finding], now: Timestamp) -> usize {
        self.write(|tx| enqueue(tx, &sinks(&["a", "b"]), findings, now))
    }

    /// `(finding, revision)` of what is due.
    fn due(&self, sink: &str, now: Timestamp) -> Vec<(u128, u32)> {
        let due = queue::due(&self.0, sink, now, 100).unwrap();
        due.into_iter()
            .map(|due| due.finding.unwrap())
            .map(|found| (found.finding_id.as_u128(), found.revision))
            .collect()
    }

    fn settle(&mut self, sink: &str, finding: &Finding, delivery: Delivery, now: Timestamp, retry_at: Timestamp) {
        let outcome = Outcome { revision_id: finding.revision_id, attempts: 0, delivery };
        self.write(|tx| queue::record(tx, sink, &[(outcome, retry_at)], now));
    }

    fn dead(&self) -> Vec<DeadLetter> {
        queue::dead_letters(&self.0, 1000).unwrap()
    }

    fn count(&self, table: &str) -> i64 {
        self.0.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    }
}

fn sinks(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn retry() -> Delivery {
    Delivery::retry("busy")
}

#[test]
fn revisions_of_a_finding_go_out_in_order_and_other_findings_overtake() {
    let mut database = Database::new();
    let (first, second, other) = (revision(1, 1), revision(1, 2), revision(2, 1));
    assert_eq!(database.put(&[first.clone(), second.clone(), other.clone()], NOW), 3);
    assert_eq!(database.due("a", NOW), [(1, 1), (2, 1)], "revision 2 waits for revision 1");

    database.settle("a", &first, retry(), NOW, NOW.plus_millis(5000));
    assert_eq!(database.due("a", NOW), [(2, 1)], "the finding that backs off holds nobody else up");
    assert_eq!(database.due("b", NOW), [(1, 1), (2, 1)], "nor another sink");
    assert_eq!(queue::figures(&database.0, "a").unwrap().next_at, Some(NOW));

    database.settle("a", &other, Delivery::Accepted, NOW, NOW);
    let figures = queue::figures(&database.0, "a").unwrap();
    assert_eq!(figures.next_at, Some(NOW.plus_millis(5000)), "revision 2 is not what is waited for");
    assert_eq!((figures.pending, figures.oldest_at), (2, Some(NOW)));

    database.settle("a", &first, Delivery::Accepted, NOW, NOW);
    assert_eq!(database.due("a", NOW), [(1, 2)]);
    database.settle("a", &second, Delivery::Accepted, NOW, NOW);
    assert_eq!(queue::figures(&database.0, "a").unwrap(), Figures::default());
}

#[test]
fn a_dead_revision_does_not_block_the_next() {
    let mut database = Database::new();
    let first = revision(1, 1);
    database.put(&[first.clone(), revision(1, 2)], NOW);
    database.settle("a", &first, Delivery::Refused("x".repeat(10_000)), NOW, NOW);
    assert_eq!(database.due("a", NOW), [(1, 2)]);
    let dead = database.dead();
    assert_eq!((dead.len(), dead[0].sink.as_str(), dead[0].revision_id), (1, "a", first.revision_id));
    assert_eq!((dead[0].reason.len(), dead[0].attempts), (MAX_REASON_CHARS, 1));

    // A retry that is reported late does not bring it back; an acceptance that is, settles it.
    database.settle("a", &first, retry(), NOW, NOW);
    assert_eq!(database.dead().len(), 1);
    database.settle("a", &first, Delivery::Accepted, NOW, NOW);
    assert_eq!(database.dead(), []);
}

#[test]
fn a_dead_letter_can_be_revived_once() {
    let mut database = Database::new();
    let finding = revision(1, 1);
    database.put(std::slice::from_ref(&finding), NOW);
    database.settle("a", &finding, Delivery::Refused("no".into()), NOW, NOW);
    assert!(database.write(|tx| queue::revive(tx, "a", finding.revision_id, NOW)));
    assert!(!database.write(|tx| queue::revive(tx, "a", finding.revision_id, NOW)));
    assert_eq!(database.due("a", NOW), [(1, 1)]);
}

#[test]
fn what_is_made_again_is_not_delivered_again() {
    let mut database = Database::new();
    let finding = revision(1, 1);
    assert_eq!(database.put(std::slice::from_ref(&finding), NOW), 1);
    assert_eq!(database.put(std::slice::from_ref(&finding), NOW), 0, "still pending");
    assert_eq!(database.due("a", NOW).len(), 1);
    database.settle("a", &finding, Delivery::Accepted, NOW, NOW);
    assert_eq!(database.put(std::slice::from_ref(&finding), NOW), 0, "delivered to a, pending for b");
    assert_eq!((database.due("a", NOW).len(), database.due("b", NOW).len()), (0, 1));
}

#[test]
fn a_clock_that_was_set_back_does_not_stop_deliveries() {
    let mut database = Database::new();
    database.put(&[revision(1, 1)], NOW);
    assert_eq!(database.due("a", NOW.plus_millis(-MAX_DELAY_MILLIS)), [], "no delay is longer, so this one is meant");
    assert_eq!(database.due("a", NOW.plus_millis(-DAY)), [(1, 1)]);
}

#[test]
fn a_body_that_cannot_be_read_says_so_instead_of_stopping_the_queue() {
    let mut database = Database::new();
    let mut broken = revision(1, 1);
    // JSON has no infinity: it is written as null and does not come back.
    broken.evidence.peak.ratio = f64::INFINITY;
    database.put(&[broken.clone(), revision(2, 1)], NOW);
    let due = queue::due(&database.0, "a", NOW, 100).unwrap();
    assert_eq!(due.len(), 2);
    assert_eq!(due[0].revision_id, broken.revision_id);
    assert!(due[0].finding.as_ref().unwrap_err().contains("cannot be read"));
    assert!(due[1].finding.is_ok());
}

#[test]
fn a_full_outbox_first_drops_superseded_updates_then_the_oldest_and_says_why() {
    let mut database = Database::new();
    let mut closed = revision(1, 5);
    closed.lifecycle = Lifecycle::Closed;
    let of_one = [revision(1, 1), revision(1, 2), revision(1, 3), revision(1, 4), closed];
    let put = |database: &mut Database, findings: &[Finding]| {
        database.write(|tx| enqueue_within(tx, &sinks(&["a"]), findings, NOW, 5))
    };
    put(&mut database, &of_one);
    assert_eq!(database.dead(), [], "full, not over");
    put(&mut database, &[revision(2, 1)]);
    let given_up: HashSet<u32> = database.dead().iter().map(|dead| dead.revision).collect();
    assert_eq!(given_up, HashSet::from([2, 3, 4]), "the updates, not the opening and the close");
    assert!(database.dead().iter().all(|dead| dead.reason.contains("superseded")));

    put(&mut database, &[revision(3, 1), revision(4, 1), revision(5, 1)]);
    assert_eq!(queue::figures(&database.0, "a").unwrap().pending, 5);
    let oldest: Vec<DeadLetter> = database.dead().into_iter().filter(|dead| dead.reason.contains("oldest")).collect();
    assert_eq!(oldest.len(), 1);
    assert_eq!((oldest[0].finding_id.as_u128(), oldest[0].revision), (1, 1));
}

#[test]
fn a_sink_that_is_gone_holds_nothing() {
    let mut database = Database::new();
    database.put(&[revision(1, 1)], NOW);
    assert_eq!(database.write(|tx| bounds::retire_others(tx, &sinks(&["b"]), NOW)), 1);
    assert_eq!((database.due("a", NOW).len(), database.due("b", NOW).len()), (0, 1));
    assert!(database.dead()[0].reason.contains("no longer configured"));
}

#[test]
fn pruning_takes_what_is_settled_and_old_and_nothing_else() {
    let mut database = Database::new();
    let [delivered, dead, pending] = [revision(1, 1), revision(2, 1), revision(3, 1)];
    database.write(|tx| enqueue(tx, &sinks(&["a"]), &[delivered.clone(), dead.clone(), pending.clone()], NOW));
    database.settle("a", &delivered, Delivery::Accepted, NOW, NOW);
    database.settle("a", &dead, Delivery::Refused("no".into()), NOW, NOW);
    let prune =
        |database: &mut Database, days: i64| database.write(|tx| bounds::prune(tx, NOW.plus_millis(days * DAY)));
    assert_eq!(prune(&mut database, 13), 0);
    assert_eq!(prune(&mut database, 15), 1);
    assert_eq!(prune(&mut database, 29), 0);
    assert_eq!(prune(&mut database, 31), 1);
    assert_eq!((database.count("finding_revision"), database.count("delivery")), (1, 1));
    assert_eq!(database.due("a", NOW), [(3, 1)]);
}

#[test]
fn pruning_keeps_settled_revisions_within_their_number() {
    let mut database = Database::new();
    let findings: Vec<Finding> = (1..=10).map(|finding| revision(finding, 1)).collect();
    for (second, finding) in findings.iter().enumerate() {
        let at = NOW.plus_millis(1000 * i64::try_from(second).unwrap());
        database.write(|tx| enqueue(tx, &sinks(&["a"]), std::slice::from_ref(finding), at));
    }
    for finding in &findings[1..] {
        database.settle("a", finding, Delivery::Accepted, NOW, NOW);
    }
    assert_eq!(database.write(|tx| bounds::prune_within(tx, NOW, 4)), 5);
    assert_eq!(database.due("a", NOW), [(1, 1)], "the oldest is pending, so it stays");
    assert_eq!(database.count("finding_revision"), 5);
}

#[test]
fn delays_double_up_to_five_minutes_and_use_their_whole_range() {
    for (attempts, ceiling) in [(0, 1000), (1, 2000), (8, 256_000), (9, 300_000), (u32::MAX, 300_000)] {
        let delays: Vec<i64> = (0..2000).map(|_| delay_millis(attempts)).collect();
        let (least, most) = (*delays.iter().min().unwrap(), *delays.iter().max().unwrap());
        assert!(least >= 0 && most <= ceiling, "{attempts}: {least}..{most}");
        assert!(least < ceiling / 20 && most > ceiling * 19 / 20, "{attempts}: {least}..{most}");
    }
}

proptest! {
    /// Whatever a sink answers and however often things are made again: every revision is accepted exactly once, in order
    /// within its finding.
    #[test]
    fn everything_arrives_once_and_in_order(
        revisions in proptest::collection::vec((1_u128..4, 1_u32..5), 1..20),
        answers in proptest::collection::vec(any::<bool>(), 0..60),
    ) {
        let mut database = Database::new();
        let mut expected = HashSet::new();
        let mut arrived: Vec<(u128, u32)> = Vec::new();
        let mut answers = answers.into_iter();
        let mut now = NOW;
        for (finding, number) in revisions {
            // The detector makes revisions in order, so all up to `number` are put in, again and again.
            let made: Vec<Finding> = (1..=number).map(|number| revision(finding, number)).collect();
            expected.extend((1..=number).map(|number| (finding, number)));
            database.put(&made, now);
            now = now.plus_millis(1);
            for due in queue::due(&database.0, "a", now, 2).unwrap() {
                let found = due.finding.unwrap();
                if answers.next().unwrap_or(true) {
                    arrived.push((found.finding_id.as_u128(), found.revision));
                    database.settle("a", &found, Delivery::Accepted, now, now);
                } else {
                    database.settle("a", &found, retry(), now, now.plus_millis(3));
                }
            }
        }
        for _ in 0..100 {
            now = now.plus_millis(10);
            for due in queue::due(&database.0, "a", now, 2).unwrap() {
                let found = due.finding.unwrap();
                arrived.push((found.finding_id.as_u128(), found.revision));
                database.settle("a", &found, Delivery::Accepted, now, now);
            }
        }
        prop_assert_eq!(arrived.len(), expected.len());
        for finding in 1..4 {
            let order: Vec<u32> = arrived.iter().filter(|(of, _)| *of == finding).map(|(_, number)| *number).collect();
            prop_assert!(order.is_sorted(), "{:?}", order);
        }
        prop_assert_eq!(arrived.into_iter().collect::<HashSet<_>>(), expected);
    }
}

/// Not a benchmark, a guard: statements that miss their index would stop the whole program once a receiver is down.
#[test]
fn a_full_outbox_is_handled_in_a_fraction_of_a_second() {
    let mut database = Database::new();
    database.write(|tx| {
        // Ten thousand findings of ten revisions each.
        tx.execute_batch(
            "CREATE TEMP TABLE n AS WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 99999)
             SELECT i, printf('%08x-0000-5000-8000-000000000000', i) AS id FROM n",
        )?;
        tx.execute(
            "INSERT INTO finding_revision SELECT id, i / 10, i % 10, '', '', '', 'updated', ?1, ?1, ?2 FROM n",
            params![NOW.0, serde_json::to_string(&stuffing()).unwrap()],
        )?;
        tx.execute(
            "INSERT INTO delivery (sink, revision_id, finding_id, revision, state, attempts, created_at, next_at)
             SELECT 'a', id, i / 10, i % 10, 'pending', 0, ?1, ?1 + i FROM n",
            params![NOW.0],
        )
    });
    let watch = crate::clock::Stopwatch::start();
    let mut lap = std::time::Duration::ZERO;
    let mut step = |what: &str| {
        let took = watch.elapsed().saturating_sub(lap);
        lap = watch.elapsed();
        println!("{what}: {took:?}");
        // At most half a second here; minutes without the indices.
        assert!(took < std::time::Duration::from_secs(2), "{what}: {took:?}");
    };
    assert_eq!(database.due("a", NOW.plus_millis(DAY)).len(), 100);
    step("due");
    assert_eq!(queue::figures(&database.0, "a").unwrap().pending, 100_000);
    step("figures");
    database.write(|tx| tx.execute("UPDATE delivery SET next_at = ?1 WHERE revision = 0", [NOW.0 + DAY / 500]));
    step("back off");
    assert_eq!(database.due("a", NOW.plus_millis(99_999)), []);
    step("due while every finding backs off");
    assert_eq!(database.write(|tx| bounds::prune(tx, NOW)), 0);
    step("prune");
    database.write(|tx| bounds::make_room(tx, "a", NOW, 99_999));
    step("make room");
    assert_eq!(queue::figures(&database.0, "a").unwrap().pending, 10_000);
}
