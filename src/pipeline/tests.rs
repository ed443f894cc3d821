//! The loop with a log that fails, and with a task that dies.

use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::event::{Account, AuthEvent, Outcome, Source};
use crate::log::memory::MemoryLog;
use crate::metrics::Metrics;

pub(super) fn failure(number: u32) -> AuthEvent {
    let at = Timestamp(1_767_600_000_000 + i64::from(number) * 1000);
    AuthEvent {
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
    }
}

fn open(log: &Arc<MemoryLog>, clock: &Clock, board: &Board) -> Task {
    open_with(log, clock, board, detect::Config::default(), &ShadowBoard::default())
}

fn open_with(log: &Arc<MemoryLog>, clock: &Clock, board: &Board, config: detect::Config, shadow: &ShadowBoard) -> Task {
    let metrics = Metrics::new().unwrap();
    let parts = Parts {
        log: Arc::clone(log) as Arc<dyn Log>,
        config,
        clock: clock.clone(),
        detect_metrics: metrics.detect,
        log_metrics: metrics.log,
        board: Arc::clone(board),
        shadow: shadow.clone(),
        signals: SignalBoard::default(),
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

fn config(json: &str) -> detect::Config {
    let config: detect::Config = serde_json::from_str(json).unwrap();
    assert_eq!(config.validate(), [""; 0]);
    config
}

/// Hands `config` to `task`, which takes it in its next step.
async fn change(task: &mut Task, config: detect::Config) {
    let settings = task.settings();
    let in_force = tokio::spawn(async move { settings.put_in_force(config).await });
    while !in_force.is_finished() {
        task.step(Duration::ZERO).unwrap();
        tokio::task::yield_now().await;
    }
    assert!(in_force.await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn new_settings_wait_for_a_snapshot_and_what_was_counted_counts() {
    let (log, board) = (Arc::new(MemoryLog::keeping()), Board::default());
    let clock = Clock::held(Timestamp(1_767_600_020_000));
    let mut task = open_with(&log, &clock, &board, config(r#"{"address_minimum": 60}"#), &ShadowBoard::default());
    log.append((0..20).map(failure).collect()).await.unwrap();
    task.step(Duration::ZERO).unwrap();
    assert_eq!(log.take_findings().len(), 0);

    log.set_fault(Some("disk is full"));
    let settings = task.settings();
    let in_force = tokio::spawn(async move { settings.put_in_force(config(r#"{"address_minimum": 8}"#)).await });
    while task.change.is_none() {
        let _ = task.step(Duration::ZERO);
        tokio::task::yield_now().await;
    }
    assert!(matches!(task.step(Duration::ZERO), Err(LogError::Unavailable(_))));
    assert!(!in_force.is_finished() && task.parts.config.address_minimum == 60, "not before it is safe");
    log.set_fault(None);
    task.step(Duration::ZERO).unwrap();
    assert!(in_force.await.unwrap());
    assert_eq!(log.snapshot(Partition(0)).unwrap().unwrap().offset, Offset(20));

    // One more, and the twenty before it count: here, and in a task that starts anew from that snapshot.
    log.append(vec![failure(20)]).await.unwrap();
    task.step(Duration::ZERO).unwrap();
    let found = log.take_findings();
    assert_eq!(found.iter().map(|finding| finding.evidence.totals.failures).collect::<Vec<_>>(), [21]);
    drop(task);
    let fresh = Board::default();
    let mut again = open_with(&log, &clock, &fresh, config(r#"{"address_minimum": 8}"#), &ShadowBoard::default());
    again.step(Duration::ZERO).unwrap();
    assert_eq!(log.take_findings(), found);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_finds_for_itself_goes_on_after_a_restart_and_changes_nothing_live() {
    let clock = Clock::held(Timestamp(1_767_600_020_000));
    let (shadowed, plain) = (config(r#"{"shadow": {"address_minimum": 4}}"#), config("{}"));
    let live = |records: u32, config: &detect::Config| {
        let (log, shadow, config) = (Arc::new(MemoryLog::keeping()), ShadowBoard::default(), config.clone());
        let clock = clock.clone();
        async move {
            log.append((0..records).map(failure).collect()).await.unwrap();
            let mut task = open_with(&log, &clock, &Board::default(), config, &shadow);
            task.step(Duration::ZERO).unwrap();
            (log, shadow, task)
        }
    };
    let (log, shadow, mut task) = live(6, &shadowed).await;
    assert_eq!((log.take_findings().len(), shadow.open().len()), (0, 1), "six are enough for the shadow only");
    assert_eq!(shadow.name().as_deref(), Some("shadow"));
    task.commit(true).unwrap();
    drop(task);

    // Restored with it, its finding is still open; without it, the same snapshot does.
    let (again, without) = (ShadowBoard::default(), ShadowBoard::default());
    let mut task = open_with(&log, &clock, &Board::default(), plain.clone(), &without);
    assert_eq!((without.open().len(), without.name()), (0, None));
    drop(std::mem::replace(&mut task, open_with(&log, &clock, &Board::default(), shadowed.clone(), &again)));
    assert_eq!(again.open()[0].finding_id, shadow.open()[0].finding_id);

    // Its finding closes by wall time, and nothing is written for that.
    let head = log.head(Partition(0));
    clock.set(Timestamp(1_767_600_020_000 + 60 * 60_000));
    task.tick_if_due(&tokio::runtime::Handle::current());
    assert_eq!((again.open().len(), again.recently_closed().len()), (0, 1));
    assert_eq!(log.head(Partition(0)), head);

    let mut found = Vec::new();
    for config in [&shadowed, &plain] {
        found.push(live(40, config).await.0.take_findings());
    }
    assert!(!found[0].is_empty() && found[0] == found[1], "the live findings do not know of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_can_be_turned_on_and_off_and_starts_from_what_is_known() {
    let (log, board) = (Arc::new(MemoryLog::keeping()), Board::default());
    let clock = Clock::held(Timestamp(1_767_600_020_000));
    let shadow = ShadowBoard::default();
    let mut task = open_with(&log, &clock, &board, config(r#"{"address_minimum": 30}"#), &shadow);
    log.append((0..12).map(failure).collect()).await.unwrap();
    task.step(Duration::ZERO).unwrap();
    change(&mut task, config(r#"{"address_minimum": 30, "shadow": {"name": "low", "address_minimum": 8}}"#)).await;
    assert_eq!((shadow.name().as_deref(), shadow.open().len()), (Some("low"), 0));
    log.append(vec![failure(12)]).await.unwrap();
    task.step(Duration::ZERO).unwrap();
    assert_eq!(shadow.open().len(), 1, "the twelve before count");
    change(&mut task, config(r#"{"shadow": {"name": "high", "address_minimum": 50}}"#)).await;
    assert_eq!((shadow.name().as_deref(), shadow.open().len()), (Some("high"), 1), "what is open stays open");
    change(&mut task, config("{}")).await;
    assert_eq!((shadow.name(), shadow.open().len()), (None, 0));
}
