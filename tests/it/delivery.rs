//! Findings reach the receiver, whatever happens to it (`faults`), whoever it is (`tls`) and whatever happens to us
//! (`process`): with a real database, a real sink and real sockets, on a clock that the test moves. What is lost, what comes
//! twice and in which order is counted and printed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use authspike::clock::{Clock, Stopwatch};
use authspike::event::Timestamp;
use authspike::finding::{Finding, Lifecycle, revision_id};
use authspike::metrics::Metrics;
use authspike::secret::Secret;
use authspike::sinks::credential::Variables;
use authspike::sinks::dispatch::Dispatch;
use authspike::sinks::outbox::inspect::{self, Filter};
use authspike::sinks::outbox::{self, Bounds, Outbox, Recipient};
use authspike::sinks::{self, Config, Parts};
use authspike::store::Store;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::faulty::Faulty;
use crate::ocsf::fixture;

mod faults;
mod process;
mod tls;

const START: Timestamp = Timestamp(1_716_883_500_000);
const DEADLINE: Duration = Duration::from_mins(1);
/// Findings and revisions of each that every fault has to cope with.
const FINDINGS: u128 = 100;
const REVISIONS: u32 = 5;

pub(crate) fn revision(finding: u128, revision: u32) -> Finding {
    let finding_id = Uuid::from_u128(finding);
    let lifecycle = match revision {
        1 => Lifecycle::Opened,
        REVISIONS => Lifecycle::Closed,
        _ => Lifecycle::Updated,
    };
    Finding { finding_id, revision_id: revision_id(finding_id, revision), revision, lifecycle, ..fixture("stuffing") }
}

/// One sink over a store of its own, on a clock that runs as fast as it is moved.
pub(crate) struct Way {
    directory: tempfile::TempDir,
    config: Config,
    store: Store,
    clock: Clock,
    wake: watch::Sender<()>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Way {
    fn to(faulty: &Faulty, keys: &str) -> Self {
        Self::with(&format!(
            "[[sinks.splunk_hec]]\nname = \"siem\"\nurl = \"{}\"\ntoken_env = \"T\"\ntimeout_seconds = 1\n{keys}",
            faulty.url()
        ))
    }

    /// By a section of one sink called `siem`.
    pub(crate) fn with(section: &str) -> Self {
        let text = format!("[sinks.stdout]\nenabled = false\n[sinks.jsonl]\nenabled = false\n{section}");
        let config = authspike::config::parse("test", &text).unwrap().sinks;
        Self::open(tempfile::tempdir().unwrap(), config, Clock::held(START))
    }

    fn open(directory: tempfile::TempDir, config: Config, clock: Clock) -> Self {
        let store = Store::open(directory.path(), &[outbox::SCHEMA]).unwrap();
        let variables = Variables::from([("T".to_owned(), Secret::new("token"))]);
        let parts = Parts { data_dir: Path::new("unused"), variables: &variables, clock: clock.clone() };
        let outlet = sinks::build(&config, &parts).unwrap().pop().unwrap();
        let (wake, shutdown) = (watch::Sender::new(()), CancellationToken::new());
        let dispatch = Dispatch {
            outlet,
            outbox: Outbox::new(store.clone()),
            metrics: Metrics::new().unwrap().outbox,
            clock: clock.clone(),
            pseudonym: Arc::new(|_, _| [0; 16]),
        };
        let task = tokio::spawn(dispatch.run(wake.subscribe(), shutdown.clone()));
        Self { directory, config, store, clock, wake, shutdown, task }
    }

    pub(crate) async fn put(&self, findings: Vec<Finding>) {
        let recipients = vec![Recipient { sink: "siem".into(), route: sinks::route::Route::ALL }];
        let now = self.clock.now();
        self.store.write(move |tx| outbox::enqueue(tx, &recipients, &findings, now, &Bounds::default())).await.unwrap();
        self.wake.send_replace(());
    }

    /// Everything that each fault has to cope with.
    pub(crate) async fn put_all(&self) {
        for number in 1..=REVISIONS {
            self.put((1..=FINDINGS).map(|finding| revision(finding, number)).collect()).await;
        }
    }

    /// Lets time pass, `step` at a time, until `done`.
    pub(crate) async fn pass(&self, step: Duration, what: &str, mut done: impl FnMut() -> bool) {
        let watch = Stopwatch::start();
        while !done() {
            assert!(watch.elapsed() < DEADLINE, "waited in vain for {what}: {:?}", self.figures().await);
            self.clock.set(self.clock.now().plus_millis(i64::try_from(step.as_millis()).unwrap()));
            self.wake.send_replace(());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn figures(&self) -> outbox::Figures {
        Outbox::new(self.store.clone()).figures("siem").await.unwrap()
    }

    pub(crate) async fn until_delivered(&self) {
        self.until_delivered_by(Duration::from_secs(3)).await;
    }

    /// The same in steps of time that are small beside what delivering takes on a busy machine.
    async fn until_delivered_by(&self, step: Duration) {
        let store = self.store.clone();
        let pending = || {
            let sinks = store.read(inspect::sinks).unwrap();
            sinks.first().is_none_or(|sink| sink.pending == 0)
        };
        self.pass(step, "everything to be delivered", pending).await;
    }

    pub(crate) fn dead(&self) -> Vec<inspect::Entry> {
        self.store.read(|connection| inspect::list(connection, &Filter::dead(10))).unwrap()
    }

    pub(crate) fn standing(&self) -> (String, Option<String>) {
        let sinks = self.store.read(inspect::sinks).unwrap();
        sinks.into_iter().next().map(|sink| (sink.state, sink.reason)).unwrap_or_default()
    }

    /// Ends the task and opens everything anew, as a restart would.
    async fn restart(self) -> Self {
        let Self { directory, config, store, clock, shutdown, task, .. } = self;
        shutdown.cancel();
        tokio::time::timeout(DEADLINE, task).await.unwrap().unwrap();
        store.close();
        drop(store);
        Self::open(directory, config, clock)
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(DEADLINE, self.task).await.unwrap().unwrap();
    }
}

/// What arrived, against what was put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Count {
    lost: usize,
    twice: usize,
}

/// Counts; and holds that whatever came twice came under one id, and that the revisions of a finding came in order.
fn count(faulty: &Faulty, expected: usize) -> Count {
    let taken = faulty.taken();
    let mut newest: BTreeMap<&str, u64> = BTreeMap::new();
    let mut ids: BTreeMap<(&str, u64), &str> = BTreeMap::new();
    for one in &taken {
        let id = *ids.entry((&one.finding, one.revision)).or_insert(&one.id);
        assert_eq!(id, one.id, "one revision, two ids");
        let newest = newest.entry(&one.finding).or_insert(0);
        assert!(one.revision <= *newest + 1, "{} came before {}", one.revision, *newest + 1);
        // Again after a later one would be out of order.
        assert!(one.revision >= *newest, "{} came after {newest}", one.revision);
        *newest = one.revision;
    }
    Count { lost: expected - ids.len(), twice: taken.len() - ids.len() }
}
