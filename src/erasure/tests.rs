//! A round that fails half-way, and the one after it.

use std::path::Path;

use super::*;
use crate::event::{AuthEvent, Erasure, Outcome, Source, Timestamp};
use crate::log::embedded::{self, EmbeddedLog};
use crate::log::{Commit, Log, Offset, Partition, Record, Snapshot};
use crate::metrics::Metrics;
use crate::sinks::jsonl;

fn event(id: &str, user: &str) -> AuthEvent {
    AuthEvent {
        id: id.into(),
        occurred_at: Timestamp(1_767_600_000_000),
        received_at: Timestamp(1_767_600_000_000),
        tenant: "ins_1".into(),
        source: Source::AttemptReport,
        outcome: Outcome::Failure,
        reason: None,
        ip: None,
        account: Some(Account::User(user.into())),
        identifier: None,
        user_agent: None,
        session: None,
    }
}

/// Two records of `user_anna`, one of `user_ann`, and one of `user_anna` that the snapshot is not past.
fn log(directory: &Path, metrics: &Metrics, runtime: &Handle) -> (Store, EmbeddedLog) {
    let store = Store::open(directory, &[embedded::SCHEMA, outbox::SCHEMA, alias::rows::SCHEMA]).unwrap();
    let (config, clock) = (embedded::Config::default(), Clock::system());
    let log =
        EmbeddedLog::open(store.clone(), &config, std::sync::Arc::new(|_, _| Ok(())), &clock, &metrics.log).unwrap();
    let before = vec![event("1", "user_anna"), event("of user_anna", "user_ann"), event("3", "user_anna")];
    runtime.block_on(log.append(before)).unwrap();
    let erasure = Erasure {
        tenant: "ins_1".into(),
        account: Account::User("user_anna".into()),
        replacement: "erased_1".into(),
        request: "request".into(),
        asked_by: "api".into(),
        asked_at: Timestamp(1_767_600_000_000),
    };
    let snapshot = Some(Snapshot { offset: Offset(3), state: Vec::new() });
    log.commit(Partition(0), Commit { snapshot, erasures: vec![erasure], ..Commit::default() }).unwrap();
    runtime.block_on(log.append(vec![event("4", "user_anna")])).unwrap();
    (store, log)
}

fn accounts(log: &EmbeddedLog) -> Vec<(String, String)> {
    let polled = log.poll(Partition(0), Offset(0), Duration::ZERO).unwrap();
    let named = |record| match record {
        Record::Event(event) => (event.id.into_string(), event.account.unwrap().to_string()),
        Record::Tick { .. } => unreachable!("no ticks were written"),
    };
    polled.records.into_iter().map(named).collect()
}

#[test]
fn a_round_that_failed_half_way_is_finished_by_the_next_and_counted_once() {
    let (directory, metrics) = (tempfile::tempdir().unwrap(), Metrics::new().unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (store, log) = log(directory.path(), &metrics, runtime.handle());
    let log = std::sync::Arc::new(log);
    let eraser = || Eraser {
        store: store.clone(),
        files: Files::of(&jsonl::Config::default(), directory.path()),
        data_dir: directory.path().to_owned(),
        requests: Requests::new(
            std::sync::Arc::clone(&log) as std::sync::Arc<dyn Log>,
            Clock::system(),
            true,
            std::sync::Arc::new(|_, _| Vec::new()),
        ),
        clock: Clock::system(),
        metrics: metrics.erasure.clone(),
    };
    let round = |eraser: &Eraser| eraser.round(runtime.handle(), &CancellationToken::new(), &mut true);
    // The files cannot be cleaned: something lies where the new one is to be written.
    let in_the_way = directory.path().join("findings.jsonl.erasing");
    std::fs::create_dir(&in_the_way).unwrap();
    assert!(round(&eraser()).unwrap_err().contains("files of findings"));
    assert!(!directory.path().join(audit::FILE).exists(), "nothing is audited that is not done");
    let pairs = |all: [(&str, &str); 4]| all.map(|(id, account)| (id.to_owned(), account.to_owned())).to_vec();
    let rewritten = pairs([("1", "erased_1"), ("of erased_1", "user_ann"), ("3", "erased_1"), ("4", "user_anna")]);
    assert_eq!(accounts(&log), rewritten, "places are kept, and what the snapshot is not past is left");

    std::fs::remove_dir(&in_the_way).unwrap();
    assert_eq!(round(&eraser()), Ok(true));
    assert_eq!(round(&eraser()), Ok(false), "there is nothing left to do");
    assert_eq!(accounts(&log), rewritten);
    let audited = std::fs::read_to_string(directory.path().join(audit::FILE)).unwrap();
    let done: Vec<Done> = audited.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((done.len(), done[0].log_records, done[0].number), (1, 3, 1));
    log.close();
    store.close();
}
