use std::collections::HashSet;

use proptest::prelude::*;
use rusqlite::Connection;

use super::inspect::{Entry, Filter};
use super::*;
use crate::finding::Lifecycle;
use crate::finding::Severity;
use crate::sinks::sample::{revision, stuffing};
use crate::sinks::standing::{MAX_AHEAD_MILLIS, State};

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
        self.write(|tx| enqueue(tx, &sinks(&["a", "b"]), findings, now, &Bounds::default()))
    }

    /// `(finding, revision)` of what is due.
    fn due(&self, sink: &str, now: Timestamp) -> Vec<(u128, u32)> {
        let due = queue::due(&self.0, sink, now, 100, &[]).unwrap();
        due.into_iter()
            .map(|due| due.finding.unwrap())
            .map(|found| (found.finding_id.as_u128(), found.revision))
            .collect()
    }

    fn settle(&mut self, sink: &str, finding: &Finding, delivery: Delivery, now: Timestamp, retry_at: Timestamp) {
        let entry = "SELECT entry FROM outbox_revision WHERE revision_id = ?1";
        let entry = self.0.query_row(entry, [finding.revision_id.to_string()], |row| row.get(0)).unwrap();
        let outcome = Outcome { entry, attempts: 0, delivery, next_at: Some(retry_at) };
        self.write(|tx| queue::record(tx, sink, &[outcome], now));
    }

    fn dead(&self) -> Vec<Entry> {
        inspect::list(&self.0, &Filter::dead(1000)).unwrap()
    }

    fn count(&self, table: &str) -> i64 {
        self.0.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    }
}

fn sinks(names: &[&str]) -> Vec<Recipient> {
    names.iter().map(|&name| Recipient { sink: name.to_owned(), route: Route::ALL }).collect()
}

fn reason(entry: &Entry) -> &str {
    entry.reason.as_deref().unwrap_or_default()
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
fn what_is_on_its_way_is_not_sent_beside_itself_nor_is_its_next_revision() {
    let mut database = Database::new();
    database.put(&[revision(1, 1), revision(1, 2), revision(2, 1)], NOW);
    let first = queue::due(&database.0, "a", NOW, 1, &[]).unwrap().remove(0);
    let beside = queue::due(&database.0, "a", NOW, 100, &[first.entry]).unwrap();
    let beside: Vec<Finding> = beside.into_iter().map(|due| due.finding.unwrap()).collect();
    assert_eq!((first.finding.unwrap(), beside), (revision(1, 1), vec![revision(2, 1)]));
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
    assert_eq!((reason(&dead[0]).len(), dead[0].attempts), (MAX_REASON_CHARS, 1));

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
    let filter = Filter { id: Some(finding.revision_id), ..Filter::dead(10) };
    assert_eq!(database.write(|tx| inspect::replay(tx, &filter, NOW)), 1);
    assert_eq!(database.write(|tx| inspect::replay(tx, &filter, NOW)), 0);
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
    assert_eq!(database.due("a", NOW.plus_millis(-MAX_AHEAD_MILLIS)), [], "no delay is longer, so this one is meant");
    assert_eq!(database.due("a", NOW.plus_millis(-DAY)), [(1, 1)]);
}

#[test]
fn a_body_that_cannot_be_read_says_so_instead_of_stopping_the_queue() {
    let mut database = Database::new();
    let mut broken = revision(1, 1);
    // JSON has no infinity: it is written as null and does not come back.
    broken.evidence.peak.ratio = f64::INFINITY;
    database.put(&[broken.clone(), revision(2, 1)], NOW);
    let due = queue::due(&database.0, "a", NOW, 100, &[]).unwrap();
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
        let bounds = Bounds { max_pending: 5, ..Bounds::default() };
        database.write(|tx| enqueue(tx, &sinks(&["a"]), findings, NOW, &bounds))
    };
    put(&mut database, &of_one);
    assert_eq!(database.dead(), [], "full, not over");
    put(&mut database, &[revision(2, 1)]);
    let given_up: HashSet<u32> = database.dead().iter().map(|dead| dead.revision).collect();
    assert_eq!(given_up, HashSet::from([2, 3, 4]), "the updates, not the opening and the close");
    assert!(database.dead().iter().all(|dead| reason(dead).contains("superseded")));

    put(&mut database, &[revision(3, 1), revision(4, 1), revision(5, 1)]);
    assert_eq!(queue::figures(&database.0, "a").unwrap().pending, 5);
    let oldest: Vec<Entry> = database.dead().into_iter().filter(|dead| reason(dead).contains("oldest")).collect();
    assert_eq!(oldest.len(), 1);
    assert_eq!((oldest[0].finding_id.as_u128(), oldest[0].revision), (1, 1));
}

#[test]
fn a_sink_that_is_gone_holds_nothing() {
    let mut database = Database::new();
    database.put(&[revision(1, 1)], NOW);
    assert_eq!(database.write(|tx| bounds::retire_others(tx, &["b".to_owned()], NOW)), 1);
    assert_eq!((database.due("a", NOW).len(), database.due("b", NOW).len()), (0, 1));
    assert!(reason(&database.dead()[0]).contains("no longer configured"));
}

#[test]
fn pruning_takes_what_is_settled_and_old_and_nothing_else() {
    let mut database = Database::new();
    let [delivered, dead, pending] = [revision(1, 1), revision(2, 1), revision(3, 1)];
    database.write(|tx| {
        enqueue(tx, &sinks(&["a"]), &[delivered.clone(), dead.clone(), pending.clone()], NOW, &Bounds::default())
    });
    database.settle("a", &delivered, Delivery::Accepted, NOW, NOW);
    database.settle("a", &dead, Delivery::Refused("no".into()), NOW, NOW);
    let prune =
        |database: &mut Database, days: i64| database.write(|tx| bounds::prune(tx, NOW.plus_millis(days * DAY)));
    assert_eq!(prune(&mut database, 13), 0);
    assert_eq!(prune(&mut database, 15), 1);
    assert_eq!(prune(&mut database, 29), 0);
    assert_eq!(prune(&mut database, 31), 1);
    assert_eq!((database.count("outbox_revision"), database.count("outbox_delivery")), (1, 1));
    assert_eq!(database.due("a", NOW), [(3, 1)]);
}

#[test]
fn pruning_keeps_settled_revisions_within_their_number() {
    let mut database = Database::new();
    let findings: Vec<Finding> = (1..=10).map(|finding| revision(finding, 1)).collect();
    for (second, finding) in findings.iter().enumerate() {
        let at = NOW.plus_millis(1000 * i64::try_from(second).unwrap());
        database.write(|tx| enqueue(tx, &sinks(&["a"]), std::slice::from_ref(finding), at, &Bounds::default()));
    }
    for finding in &findings[1..] {
        database.settle("a", finding, Delivery::Accepted, NOW, NOW);
    }
    assert_eq!(database.write(|tx| bounds::prune_within(tx, NOW, 4)), 5);
    assert_eq!(database.due("a", NOW), [(1, 1)], "the oldest is pending, so it stays");
    assert_eq!(database.count("outbox_revision"), 5);
}

#[test]
fn the_mildest_go_first_and_bytes_count_too() {
    let mut database = Database::new();
    let of = |finding, severity| Finding { severity, ..revision(finding, 1) };
    let size = i64::try_from(serde_json::to_string(&of(1, Severity::High)).unwrap().len()).unwrap();
    let bounds = Bounds { max_pending_bytes: u64::try_from(3 * size + 100).unwrap(), ..Bounds::default() };
    let mut put = |finding| database.write(|tx| enqueue(tx, &sinks(&["a"]), &[finding], NOW, &bounds));
    put(of(1, Severity::High));
    put(of(2, Severity::Low));
    put(of(3, Severity::Critical));
    put(of(4, Severity::Low));
    let dead = database.dead();
    assert!(dead.iter().all(|dead| dead.severity == "low" && reason(dead).contains("mildest")), "{dead:?}");
    assert_eq!(dead.last().unwrap().finding_id.as_u128(), 2, "the oldest of the mildest");
    let figures = queue::figures(&database.0, "a").unwrap();
    assert_eq!(figures.dead, u64::try_from(dead.len()).unwrap());
    assert!(i64::try_from(figures.pending_bytes).unwrap() <= 3 * size + 100);
    assert!(figures.pending >= 2, "the severe ones are there");
}

#[test]
fn what_nobody_takes_is_given_up_with_its_last_failure_unless_the_sink_is_blocked() {
    let mut database = Database::new();
    database.put(&[revision(1, 1)], NOW);
    database.settle("a", &revision(1, 1), retry(), NOW, NOW);
    let mut blocked = Standing::default();
    blocked.blocked("401", NOW);
    database.write(|tx| queue::keep_standing(tx, "b", &blocked));
    let expire = |database: &mut Database, hours: i64| {
        database.write(|tx| bounds::expire(tx, &Bounds::default(), NOW.plus_millis(hours * 3_600_000)))
    };
    assert_eq!(expire(&mut database, 167), 0);
    assert_eq!(expire(&mut database, 169), 1);
    let dead = database.dead();
    assert_eq!((dead[0].sink.as_str(), reason(&dead[0])), ("a", "not taken for 168 hours; last: busy"));
}

#[test]
fn a_route_decides_at_the_door_and_standing_survives() {
    let mut database = Database::new();
    let mut recipients = sinks(&["all", "severe"]);
    recipients[1].route.min_severity = Severity::High;
    let mild = Finding { severity: Severity::Medium, ..revision(1, 1) };
    let risen = Finding { severity: Severity::High, ..revision(1, 2) };
    database.write(|tx| enqueue(tx, &recipients, &[mild, risen], NOW, &Bounds::default()));
    assert_eq!((database.due("all", NOW), database.due("severe", NOW)), (vec![(1, 1)], vec![(1, 2)]));

    let mut standing = Standing::default();
    standing.failed("503", Some(std::time::Duration::from_mins(20)), NOW);
    database.write(|tx| queue::keep_standing(tx, "severe", &standing));
    let kept = queue::standing(&database.0, "severe").unwrap();
    assert_eq!((kept.state, kept.next_at, kept.reason), (State::Failing, standing.next_at, Some("503".into())));
    assert_eq!(queue::standing(&database.0, "all").unwrap(), Standing::default());
    assert_eq!(queue::figures(&database.0, "severe").unwrap().pending, 1, "counts are beside the standing");
}

#[test]
fn only_dead_letters_are_replayed_or_purged_and_counts_follow() {
    let mut database = Database::new();
    database.put(&[revision(1, 1), revision(2, 1), revision(3, 1)], NOW);
    for finding in 1..=2 {
        database.settle("a", &revision(finding, 1), Delivery::Refused("no".into()), NOW, NOW);
    }
    let of = |finding: u128| Filter { id: Some(revision(finding, 1).finding_id), ..Filter::dead(10) };
    assert_eq!(database.write(|tx| inspect::purge(tx, &of(3))), 0, "it waits");
    assert_eq!(database.write(|tx| inspect::purge(tx, &of(1))), 1);
    assert_eq!(database.write(|tx| inspect::replay(tx, &Filter::dead(10), NOW.plus_millis(5))), 1);
    let figures = queue::figures(&database.0, "a").unwrap();
    assert_eq!((figures.pending, figures.dead), (2, 0));
    assert_eq!(database.put(&[revision(1, 1)], NOW), 0, "still known");
    let all = inspect::sinks(&database.0).unwrap();
    assert_eq!((all[1].sink.as_str(), all[1].pending, all[1].state.as_str()), ("b", 3, "ok"));
    assert_eq!(inspect::finding(&database.0, 1).unwrap(), Some(revision(1, 1)));
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
            for due in queue::due(&database.0, "a", now, 2, &[]).unwrap() {
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
            for due in queue::due(&database.0, "a", now, 2, &[]).unwrap() {
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

/// How long this thread has had a processor, which is the same however busy the machine is.
fn worked() -> std::time::Duration {
    let said = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    std::time::Duration::from_nanos(said.split(' ').next().unwrap().parse().unwrap())
}

/// Not a benchmark, a guard: statements that miss their index would stop the whole program once a receiver is down.
#[test]
fn a_full_outbox_is_handled_with_a_fraction_of_a_second_of_work() {
    let mut database = Database::new();
    database.write(|tx| {
        // Ten thousand findings of ten revisions each.
        tx.execute_batch(
            "CREATE TEMP TABLE n AS WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 99999)
             SELECT i, printf('%08x-0000-5000-8000-000000000000', i) AS id FROM n",
        )?;
        tx.execute(
            "INSERT INTO outbox_revision SELECT i, id, i / 10, i % 10, '', '', '', 'updated', ?1, ?1, ?2 FROM n",
            params![NOW.0, serde_json::to_string(&stuffing()).unwrap()],
        )?;
        tx.execute(
            "INSERT INTO outbox_delivery (entry, sink, finding_id, revision, bytes, state, attempts, created_at, next_at)
             SELECT i, 'a', i / 10, i % 10, 3000, 'pending', 0, ?1, ?1 + i FROM n",
            params![NOW.0],
        )
    });
    let mut before = worked();
    let mut step = |what: &str| {
        let took = worked().saturating_sub(before);
        before = worked();
        println!("{what}: {took:?}");
        // At most half a second here; minutes without the indices.
        assert!(took < std::time::Duration::from_secs(2), "{what}: {took:?}");
    };
    assert_eq!(database.due("a", NOW.plus_millis(DAY)).len(), 100);
    step("due");
    assert_eq!(queue::figures(&database.0, "a").unwrap().pending, 100_000);
    step("figures");
    database.write(|tx| tx.execute("UPDATE outbox_delivery SET next_at = ?1 WHERE revision = 0", [NOW.0 + DAY / 500]));
    step("back off");
    assert_eq!(database.due("a", NOW.plus_millis(99_999)), []);
    step("due while every finding backs off");
    assert_eq!(database.write(|tx| bounds::prune(tx, NOW)), 0);
    step("prune");
    database.write(|tx| bounds::make_room(tx, "a", NOW, &Bounds { max_pending: 99_999, ..Bounds::default() }));
    step("make room");
    assert_eq!(queue::figures(&database.0, "a").unwrap().pending, 10_000);
}
