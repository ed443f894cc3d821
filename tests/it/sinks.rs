//! The way out with a real database under it: order, restarts, sinks that fail or hang, and the end of the process.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use authspike::clock::{Clock, Stopwatch};
use authspike::event::Timestamp;
use authspike::finding::{Finding, Lifecycle, revision_id};
use authspike::metrics::Metrics;
use authspike::sinks::credential::Variables;
use authspike::sinks::dispatch::Dispatch;
use authspike::sinks::outbox::inspect::{self, Filter};
use authspike::sinks::outbox::{self, Bounds, Outbox, Recipient};
use authspike::sinks::redact::Redaction;
use authspike::sinks::route::Route;
use authspike::sinks::{self, BuildError, Config, Delivery, Outlet, Parts, Sink};
use authspike::store::Store;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::ocsf::{faults, fixture};

const START: Timestamp = Timestamp(1_716_883_500_000);
/// Far above what anything here takes, far below what a person would call stuck.
const DEADLINE: Duration = Duration::from_secs(10);

/// Revision `revision` of the finding number `finding`.
fn revision(finding: u128, revision: u32) -> Finding {
    let finding_id = Uuid::from_u128(finding);
    let lifecycle = if revision == 1 { Lifecycle::Opened } else { Lifecycle::Updated };
    Finding { finding_id, revision_id: revision_id(finding_id, revision), revision, lifecycle, ..fixture("stuffing") }
}

fn open(directory: &Path) -> Store {
    Store::open(directory, &[outbox::SCHEMA]).unwrap()
}

async fn put(store: &Store, sinks: &[&str], findings: Vec<Finding>) -> usize {
    let sinks: Vec<_> = sinks.iter().map(|&name| Recipient { sink: name.into(), route: Route::ALL }).collect();
    store.write(move |tx| outbox::enqueue(tx, &sinks, &findings, START, &Bounds::default())).await.unwrap()
}

/// What arrived, in order, as `(finding, revision)`.
type Arrived = Arc<Mutex<Vec<(u128, u32)>>>;

/// Remembers what it was sent and gives one answer.
struct Recorder(Arrived, Delivery);

#[async_trait]
impl Sink for Recorder {
    async fn deliver(&mut self, findings: &[Finding]) -> Vec<Delivery> {
        let sent = findings.iter().map(|finding| (finding.finding_id.as_u128(), finding.revision));
        self.0.lock().unwrap().extend(sent);
        findings.iter().map(|_| self.1.clone()).collect()
    }
}

/// Never answers.
struct Stuck;

#[async_trait]
impl Sink for Stuck {
    async fn deliver(&mut self, _: &[Finding]) -> Vec<Delivery> {
        std::future::pending().await
    }
}

/// The tasks of some sinks over one store.
struct Running {
    outbox: Outbox,
    metrics: Metrics,
    clock: Clock,
    wake: watch::Sender<()>,
    shutdown: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Running {
    fn over(store: &Store) -> Self {
        Self {
            outbox: Outbox::new(store.clone()),
            metrics: Metrics::new().unwrap(),
            clock: Clock::held(START),
            wake: watch::Sender::new(()),
            shutdown: CancellationToken::new(),
            tasks: Vec::new(),
        }
    }

    fn start(&mut self, name: &str, sink: Box<dyn Sink>) {
        self.open(Outlet {
            name: name.into(),
            route: Route::ALL,
            redaction: Redaction::default(),
            sink,
            beside: Vec::new(),
        });
    }

    fn open(&mut self, outlet: Outlet) {
        let dispatch = Dispatch {
            outlet,
            pseudonym: Arc::new(|_, _| [0; 16]),
            outbox: self.outbox.clone(),
            metrics: self.metrics.outbox.clone(),
            clock: self.clock.clone(),
        };
        self.tasks.push(tokio::spawn(dispatch.run(self.wake.subscribe(), self.shutdown.clone())));
    }

    async fn stop(self) {
        self.shutdown.cancel();
        for task in self.tasks {
            tokio::time::timeout(DEADLINE, task).await.unwrap().unwrap();
        }
    }

    async fn pending(&self, sink: &str) -> u64 {
        self.outbox.figures(sink).await.unwrap().pending
    }

    async fn until_empty(&self, sink: &str) {
        let watch = Stopwatch::start();
        while self.pending(sink).await > 0 {
            assert!(watch.elapsed() < DEADLINE, "{sink} still has {}", self.pending(sink).await);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn build(config: &Config, data_dir: &Path) -> Result<Vec<Outlet>, BuildError> {
    sinks::build(config, &Parts { data_dir, variables: &Variables::new(), clock: Clock::held(START) })
}

fn recorder(answer: Delivery) -> (Arrived, Box<dyn Sink>) {
    let arrived = Arrived::default();
    (Arc::clone(&arrived), Box::new(Recorder(arrived, answer)))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_sink_that_is_down_could_not_take_arrives_once_after_a_restart_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let made = || vec![revision(1, 1), revision(2, 1), revision(1, 2), revision(1, 3)];
    let store = open(directory.path());
    assert_eq!(put(&store, &["siem"], made()).await, 4);
    let mut running = Running::over(&store);
    let (tried, sink) = recorder(Delivery::retry("503"));
    running.start("siem", sink);
    let watch = Stopwatch::start();
    while tried.lock().unwrap().is_empty() && watch.elapsed() < DEADLINE {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    running.stop().await;
    // Revision 1 of each, perhaps several times; never what has to wait for it.
    let tried = tried.lock().unwrap().clone();
    assert!(tried.starts_with(&[(1, 1), (2, 1)]) && tried.iter().all(|sent| sent.1 == 1), "{tried:?}");
    store.close();
    drop(store);

    let store = open(directory.path());
    // The detector replays its log: nothing new.
    assert_eq!(put(&store, &["siem"], made()).await, 0);
    let mut running = Running::over(&store);
    running.clock.set(START.plus_millis(5 * 60 * 1000));
    let (arrived, sink) = recorder(Delivery::Accepted);
    running.start("siem", sink);
    running.until_empty("siem").await;
    let label = |result| running.metrics.outbox.deliveries.with_label_values(&["siem", result]).get();
    assert_eq!((label("accepted"), label("retry")), (4, 0));
    running.stop().await;
    let arrived = arrived.lock().unwrap().clone();
    let of = |finding| arrived.iter().filter(|sent| sent.0 == finding).map(|sent| sent.1).collect::<Vec<u32>>();
    assert_eq!((of(1), of(2)), (vec![1, 2, 3], vec![1]));

    // And once more, after everything was delivered.
    assert_eq!(put(&store, &["siem"], made()).await, 0);
}

#[tokio::test(flavor = "current_thread")]
async fn a_stuck_sink_delays_nobody_and_new_findings_wake_the_others_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let mut running = Running::over(&store);
    let (arrived, sink) = recorder(Delivery::Accepted);
    running.start("stuck", Box::new(Stuck));
    running.start("well", sink);
    for number in 1..=20 {
        put(&store, &["stuck", "well"], vec![revision(number, 1)]).await;
        running.wake.send_replace(());
        let watch = Stopwatch::start();
        running.until_empty("well").await;
        // Without the wake-up it would be the longest sleep, 15 s.
        assert!(watch.elapsed() < Duration::from_secs(2), "{:?}", watch.elapsed());
    }
    assert_eq!(arrived.lock().unwrap().len(), 20);
    assert_eq!(running.pending("stuck").await, 20);
    for task in &running.tasks {
        task.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_end_everything_due_is_still_sent() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    // More than two batches.
    put(&store, &["siem"], (1..=250).map(|finding| revision(finding, 1)).collect()).await;
    let mut running = Running::over(&store);
    running.shutdown.cancel();
    let (arrived, sink) = recorder(Delivery::Accepted);
    running.start("siem", sink);
    let metrics = running.metrics.clone();
    running.stop().await;
    assert_eq!(arrived.lock().unwrap().len(), 250);
    assert_eq!(metrics.outbox.depth.with_label_values(&["siem"]).get(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_deliveries_cannot_be_recorded_none_is_repeated() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    put(&store, &["siem"], vec![revision(1, 1), revision(1, 2)]).await;
    let broken = "CREATE TRIGGER broken BEFORE UPDATE ON outbox_delivery BEGIN SELECT raise(ABORT, 'no space'); END";
    store.write(move |tx| tx.execute_batch(broken)).await.unwrap();
    let mut running = Running::over(&store);
    let (arrived, sink) = recorder(Delivery::Accepted);
    running.start("siem", sink);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(*arrived.lock().unwrap(), [(1, 1)], "sent, and tried to be recorded twice");
    store.write(|tx| tx.execute_batch("DROP TRIGGER broken")).await.unwrap();
    running.until_empty("siem").await;
    running.stop().await;
    assert_eq!(*arrived.lock().unwrap(), [(1, 1), (1, 2)]);
}

/// Answers for the first finding only.
struct Curt;

#[async_trait]
impl Sink for Curt {
    async fn deliver(&mut self, _: &[Finding]) -> Vec<Delivery> {
        vec![Delivery::Refused("401 for good".into())]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_become_dead_letters_and_a_missing_answer_is_no_acceptance() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    put(&store, &["siem"], vec![revision(1, 1), revision(2, 1)]).await;
    let mut running = Running::over(&store);
    running.shutdown.cancel();
    running.start("siem", Box::new(Curt));
    let (outbox, metrics) = (running.outbox.clone(), running.metrics.clone());
    running.stop().await;
    let dead = outbox.list(Filter::dead(10)).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!((dead[0].finding_id.as_u128(), dead[0].reason.as_deref()), (1, Some("401 for good")));
    assert_eq!(outbox.figures("siem").await.unwrap().pending, 1);
    assert_eq!(metrics.outbox.dead_letters.with_label_values(&["siem"]).get(), 1);
    assert_eq!(store.write(|tx| inspect::replay(tx, &Filter::dead(10), START)).await.unwrap(), 1);
    assert_eq!(outbox.figures("siem").await.unwrap().pending, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sinks_of_a_configuration_deliver_valid_records() {
    let directory = tempfile::tempdir().unwrap();
    let config: Config =
        serde_json::from_str(r#"{ "stdout": { "enabled": false }, "jsonl": { "max_bytes": 1000000 } }"#).unwrap();
    assert_eq!(config.validate(), [""; 0]);
    let store = open(directory.path());
    put(&store, &["jsonl"], vec![revision(1, 1), revision(2, 1), revision(1, 2)]).await;
    let mut running = Running::over(&store);
    for outlet in build(&config, directory.path()).unwrap() {
        running.open(outlet);
    }
    running.until_empty("jsonl").await;
    running.stop().await;
    let written = std::fs::read_to_string(directory.path().join("findings.jsonl")).unwrap();
    let records: Vec<Value> = written.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), 3);
    for record in &records {
        assert_eq!(faults(record), [""; 0]);
    }
    assert_eq!(records[2]["metadata"]["uid"], revision(1, 2).revision_id.to_string());
}

#[test]
fn a_configuration_with_a_wrong_key_or_an_unusable_file_is_refused() {
    let unknown = serde_json::from_str::<Config>(r#"{ "jsonl": { "pth": "x" } }"#).unwrap_err();
    assert!(unknown.to_string().contains("pth"), "{unknown}");
    let config: Config = serde_json::from_str(r#"{ "jsonl": { "path": "/nowhere/at/all", "keep": 0 } }"#).unwrap();
    assert_eq!(config.validate(), ["jsonl.keep: must be from 1 to 1000"]);
    let Err(refused) = build(&config, Path::new("unused")) else { panic!("it was built") };
    assert!(refused.to_string().starts_with("sink jsonl: /nowhere/at/all: "), "{refused}");
}
