//! The loop with a log that fails, and with a task that dies.

use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::event::{Account, AuthEvent, Outcome, Source};
use crate::log::memory::MemoryLog;
use crate::metrics::Metrics;

fn failure(number: u32) -> Record {
    let at = Timestamp(1_767_600_000_000 + i64::from(number) * 1000);
    Record::Event(AuthEvent {
        id: number.to_string().into(),
        occurred_at: at,
        received_at: at,
        tenant: "ins_1".into(),
        source: Source::AttemptReport,
        outcome: Outcome::Failure,
        reason: None,
        ip: Some(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7))),
        account: Some(Account::User(format!("user_{number}").into())),
        identifier: None,
        user_agent: None,
        session: None,
    })
}

fn open(log: &Arc<MemoryLog>, clock: &Clock, board: &Board) -> Task {
    let metrics = Metrics::new().unwrap();
    let parts = Parts {
        log: Arc::clone(log) as Arc<dyn Log>,
        config: detect::Config::default(),
        clock: clock.clone(),
        detect_metrics: metrics.detect,
        log_metrics: metrics.log,
        board: Arc::clone(board),
        wake: Arc::new(|| ()),
    };
    Task::open(parts, Partition(0)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finding_waits_for_a_log_that_cannot_be_written_and_is_not_made_twice() {
    let (log, board) = (Arc::new(MemoryLog::keeping()), Board::default());
    let clock = Clock::held(Timestamp(1_767_600_020_000));
    let mut task = open(&log, &clock, &board);
    log.append((0..20).map(failure).collect()).await.unwrap();
    log.set_fault(Some("disk is full"));
    assert!(matches!(task.step(Duration::ZERO), Err(LogError::Unavailable(_))));
    assert!(board.is_empty(), "not durable, not shown");
    log.set_fault(None);
    task.step(Duration::ZERO).unwrap();
    let found = log.take_findings();
    assert_eq!(found.iter().filter(|finding| finding.lifecycle == Lifecycle::Opened).count(), 1);
    assert_eq!(board.len(), 1);
    task.step(Duration::ZERO).unwrap();
    assert_eq!(log.take_findings().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_died_without_a_snapshot_makes_the_same_revisions_again() {
    let (log, board) = (Arc::new(MemoryLog::keeping()), Board::default());
    let clock = Clock::held(Timestamp(1_767_600_020_000));
    log.append((0..20).map(failure).collect()).await.unwrap();
    let mut first = open(&log, &clock, &board);
    first.step(Duration::ZERO).unwrap();
    drop(first);
    let mut second = open(&log, &clock, &board);
    second.step(Duration::ZERO).unwrap();
    let found = log.take_findings();
    let ids: std::collections::BTreeSet<_> = found.iter().map(|finding| finding.revision_id).collect();
    assert_eq!(ids.len(), found.len(), "the log keeps each revision once");
    assert!(!found.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_closes_what_is_open_and_a_stop_leaves_a_snapshot_to_go_on_from() {
    let (log, board) = (Arc::new(MemoryLog::keeping()), Board::default());
    let clock = Clock::held(Timestamp(1_767_600_020_000));
    log.append((0..20).map(failure).collect()).await.unwrap();
    let (stop, runtime) = (CancellationToken::new(), tokio::runtime::Handle::current());
    let running = {
        let (task, stop, runtime) = (open(&log, &clock, &board), stop.clone(), runtime.clone());
        tokio::task::spawn_blocking(move || task.run(&runtime, &stop))
    };
    let until = |wanted: usize, board: Board| async move {
        for _ in 0..200 {
            if board.len() == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{} findings are open instead of {wanted}", board.len());
    };
    until(1, Arc::clone(&board)).await;
    clock.set(Timestamp(1_767_600_020_000 + 20 * 60_000));
    until(0, Arc::clone(&board)).await;
    stop.cancel();
    running.await.unwrap().unwrap();
    assert_eq!(log.take_findings().last().map(|finding| finding.lifecycle), Some(Lifecycle::Closed));
    let snapshot = log.snapshot(Partition(0)).unwrap().unwrap();
    assert_eq!(snapshot.offset, log.head(Partition(0)), "ticks included");
}

#[tokio::test(flavor = "multi_thread")]
async fn open_findings_are_shown_again_after_a_restart() {
    let (log, board) = (Arc::new(MemoryLog::keeping()), Board::default());
    let clock = Clock::held(Timestamp(1_767_600_020_000));
    log.append((0..20).map(failure).collect()).await.unwrap();
    let mut first = open(&log, &clock, &board);
    first.step(Duration::ZERO).unwrap();
    first.commit(true).unwrap();
    let shown: Vec<_> = board.iter().map(|entry| entry.value().revision_id).collect();
    let fresh = Board::default();
    drop(open(&log, &clock, &fresh));
    assert_eq!(fresh.iter().map(|entry| entry.value().revision_id).collect::<Vec<_>>(), shown);
}
