//! Findings reach the receiver, whatever happens to it: every fault in turn, with a real database, a real sink and real
//! sockets, on a clock that the test moves. What is lost, what comes twice and in which order is counted and printed.

use std::collections::{BTreeMap, BTreeSet};
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

use crate::faulty::{Faulty, Mode, certificates};
use crate::ocsf::fixture;
use crate::support::{Instance, simulated, until};

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

/// One fault: everything is put in while `mode` lasts, which is until so many requests met it; then all is well.
#[expect(clippy::print_stdout, reason = "a row of the table that the test prints")]
async fn through(name: &str, mode: Mode, keys: &str, requests: usize) -> Count {
    let expected = usize::try_from(FINDINGS).unwrap() * usize::try_from(REVISIONS).unwrap();
    let faulty = Faulty::start();
    faulty.set(mode);
    let way = Way::to(&faulty, keys);
    way.put_all().await;
    way.pass(Duration::from_secs(5), "requests that fail", || faulty.requests() >= requests).await;
    faulty.set(Mode::Well);
    way.until_delivered().await;
    let dead = way.figures().await.dead;
    way.stop().await;
    let count = count(&faulty, expected);
    println!("{name:<40} {expected:>6} {:>8} {:>5} {:>6} {dead:>5}", faulty.requests(), count.lost, count.twice);
    assert_eq!((count.lost, dead), (0, 0), "{name}");
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_whatever_the_receiver_does() {
    println!("{:<40} {:>6} {:>8} {:>5} {:>6} {:>5}", "fault", "events", "requests", "lost", "twice", "dead");
    let none = Count { lost: 0, twice: 0 };
    let http_date = |seconds: i64| {
        let at = std::time::UNIX_EPOCH + Duration::from_millis(u64::try_from(START.0 + seconds * 1000).unwrap());
        format!("Retry-After: {}\r\n", httpdate::fmt_http_date(at))
    };
    for (name, mode, requests) in [
        ("none", Mode::Well, 1),
        ("connection refused", Mode::Refuse, 20),
        ("no answer", Mode::Hang, 3),
        ("reset in the middle of the body", Mode::ResetMidBody, 8),
        ("slow", Mode::Slow(Duration::from_millis(300)), 3),
        ("storm of 500", Mode::Answer(500, String::new(), "boom"), 12),
        ("503, HEC code 9", Mode::Answer(503, String::new(), r#"{"text":"Server is busy","code":9}"#), 5),
        ("429, Retry-After in seconds", Mode::Answer(429, "Retry-After: 7\r\n".into(), ""), 3),
        ("429, Retry-After as a date", Mode::Answer(429, http_date(60), ""), 3),
        ("401, then repaired", Mode::Answer(401, String::new(), r#"{"text":"Token is required","code":2}"#), 3),
        ("403, then repaired", Mode::Answer(403, String::new(), r#"{"text":"Invalid token","code":4}"#), 2),
        ("404, then repaired", Mode::Answer(404, String::new(), "no such page"), 2),
        ("wrong index, then repaired", Mode::Answer(400, String::new(), r#"{"text":"Incorrect index","code":7}"#), 2),
        ("redirected", Mode::Answer(307, "Location: http://127.0.0.1:9/\r\n".into(), ""), 2),
        ("413 above ten findings", Mode::AtMost(10), 10),
    ] {
        assert_eq!(through(name, mode, "", requests).await, none, "{name}");
    }
    // What was taken and not answered comes again: the receiver knows it by its id.
    for (name, mode) in [("answer cut short", Mode::TruncatedAnswer), ("taken, not answered", Mode::NoAnswer)] {
        assert!(through(name, mode, "", 3).await.twice > 0, "{name}");
    }
    assert_eq!(through("none, without compression", Mode::Well, "gzip = false\n", 1).await, none);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_poison_finding_among_five_hundred_dies_alone_and_can_be_replayed() {
    let faulty = Faulty::start();
    let poison = revision(321, 1);
    faulty.set(Mode::Poison(poison.revision_id.to_string()));
    let way = Way::to(&faulty, "");
    way.put((1..=500).map(|finding| revision(finding, 1)).collect()).await;
    way.until_delivered().await;
    assert_eq!((faulty.taken().len(), way.figures().await.dead), (499, 1));
    assert!(faulty.requests() <= 30, "{}", faulty.requests());
    let dead = way.store.read(|connection| inspect::list(connection, &Filter::dead(10))).unwrap();
    assert_eq!((dead[0].revision_id, dead[0].state.as_str()), (poison.revision_id, "dead"));
    assert!(dead[0].reason.as_ref().unwrap().contains("400") && dead[0].attempts == 1, "{dead:?}");

    // A later revision is not held up by the dead one.
    way.put(vec![revision(321, 2)]).await;
    way.until_delivered().await;
    assert_eq!(faulty.taken().last().unwrap().revision, 2);

    faulty.set(Mode::Well);
    let now = way.clock.now();
    assert_eq!(way.store.write(move |tx| inspect::replay(tx, &Filter::dead(10), now)).await.unwrap(), 1);
    way.until_delivered().await;
    way.stop().await;
    let ids: BTreeSet<String> = faulty.taken().into_iter().map(|one| one.id).collect();
    assert_eq!((ids.len(), faulty.taken().len()), (501, 501));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_after_is_a_floor_that_survives_a_restart() {
    let faulty = Faulty::start();
    faulty.set(Mode::Answer(429, "Retry-After: 600\r\n".into(), ""));
    let way = Way::to(&faulty, "");
    way.put(vec![revision(1, 1)]).await;
    way.pass(Duration::ZERO, "the first try", || faulty.requests() == 1).await;
    way.pass(Duration::ZERO, "it to be recorded", || way.standing().0 == "failing").await;
    faulty.set(Mode::Well);
    let way = way.restart().await;
    let asked = way.clock.now();
    way.pass(Duration::from_secs(5), "ten minutes", || {
        faulty.requests() == 2 || way.clock.now().millis_since(asked) > 700_000
    })
    .await;
    assert!(way.clock.now().millis_since(asked) >= 600_000, "{}", way.clock.now().millis_since(asked));
    way.until_delivered().await;
    way.stop().await;
    assert_eq!(count(&faulty, 1), Count { lost: 0, twice: 0 });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hour_of_outage_costs_few_requests_and_nothing_else() {
    let faulty = Faulty::start();
    faulty.set(Mode::Answer(503, String::new(), "down for maintenance"));
    let way = Way::to(&faulty, "");
    let began = way.clock.now();
    for number in 1..=REVISIONS {
        way.put((1..=FINDINGS).map(|finding| revision(finding, number)).collect()).await;
        let until = i64::from(number) * 12 * 60_000;
        way.pass(Duration::from_secs(5), "time", || way.clock.now().millis_since(began) >= until).await;
    }
    let during = faulty.requests();
    assert_eq!(way.standing().0, "open");
    assert!((10..80).contains(&during), "an hour took {during} requests");
    faulty.set(Mode::Well);
    let recovered = way.clock.now();
    way.until_delivered_by(Duration::from_millis(500)).await;
    let took = way.clock.now().millis_since(recovered);
    way.stop().await;
    assert!(took < 6 * 60_000, "{took} ms after the receiver came back");
    println!("an hour of 503: {during} requests, all 500 delivered {} s after it came back", took / 1000);
    assert_eq!(count(&faulty, 500), Count { lost: 0, twice: 0 });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_sink_keeps_everything_through_a_restart_and_its_file_is_read_again() {
    let faulty = Faulty::start();
    faulty.set(Mode::Answer(401, String::new(), r#"{"text":"Invalid authorization","code":3}"#));
    let way = Way::to(&faulty, "");
    way.put_all().await;
    way.pass(Duration::from_secs(5), "it to be blocked", || way.standing().0 == "blocked").await;
    let requests = faulty.requests();
    let blocked = way.clock.now();
    way.pass(Duration::from_secs(5), "half an hour", || way.clock.now().millis_since(blocked) > 30 * 60_000).await;
    assert!((4..=8).contains(&(faulty.requests() - requests)), "{}", faulty.requests() - requests);
    assert!(way.standing().1.unwrap().contains("Invalid authorization"));
    assert_eq!((way.figures().await.pending, way.figures().await.dead), (500, 0));
    faulty.set(Mode::Well);
    // At once, not after the next five minutes.
    let way = way.restart().await;
    way.pass(Duration::ZERO, "it to recover", || way.standing().0 == "ok").await;
    way.until_delivered().await;
    way.stop().await;
    assert_eq!(count(&faulty, 500), Count { lost: 0, twice: 0 });
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_are_waited_for_and_without_them_it_is_sent_again() {
    let faulty = Faulty::start();
    faulty.acknowledge();
    let way = Way::to(&faulty, "ack = true\nack_timeout_seconds = 5\n");
    way.put((1..=20).map(|finding| revision(finding, 1)).collect()).await;
    way.until_delivered().await;
    way.stop().await;
    assert_eq!(count(&faulty, 20), Count { lost: 0, twice: 0 });

    // A token without acknowledgement: kept, and said so.
    let faulty = Faulty::start();
    let way = Way::to(&faulty, "ack = true\n");
    way.put(vec![revision(1, 1)]).await;
    way.pass(Duration::ZERO, "it to be blocked", || way.standing().0 == "blocked").await;
    assert!(way.standing().1.unwrap().contains("ackId"), "{:?}", way.standing());
    way.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_right_authority_is_believed() {
    let directory = tempfile::tempdir().unwrap();
    let path = certificates(directory.path());
    let faulty = Faulty::with_tls(&path);
    let with = |authority: &str| format!("ca_file = \"{}\"\n", path.join(authority).display());
    for keys in [String::new(), with("other.pem")] {
        let way = Way::to(&faulty, &keys);
        way.put(vec![revision(1, 1)]).await;
        way.pass(Duration::from_millis(200), "it to fail", || way.standing().0 != "ok" && way.standing().1.is_some())
            .await;
        let (state, reason) = way.standing();
        assert!(["failing", "open"].contains(&&*state) && reason.unwrap().contains("certificate verify failed"));
        assert_eq!(way.figures().await.pending, 1);
        way.stop().await;
    }
    assert_eq!(faulty.requests(), 0, "not a byte was told to a stranger");
    let way = Way::to(&faulty, &with("ca.pem"));
    way.put(vec![revision(1, 1)]).await;
    way.until_delivered().await;
    way.stop().await;
    assert_eq!(faulty.taken().len(), 1);
}

/// OpenSSL's own server, which demands a certificate of its authority and prints what it was sent.
#[tokio::test(flavor = "multi_thread")]
async fn our_own_certificate_is_shown_to_whoever_demands_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = certificates(directory.path());
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let heard = path.join("heard");
    let server = std::process::Command::new("openssl")
        .args(["s_server", "-quiet", "-cert", "server.pem", "-key", "server.key", "-CAfile", "ca.pem", "-Verify", "2"])
        .args(["-verify_return_error", "-accept", &format!("127.0.0.1:{port}")])
        .current_dir(&path)
        // At the end of its input it would end each conversation.
        .stdin(std::process::Stdio::piped())
        .stdout(std::fs::File::create(&heard).unwrap())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let _server = Ended(server);
    let section = |more: &str| {
        format!(
            "[[sinks.splunk_hec]]\nname = \"siem\"\nurl = \"https://127.0.0.1:{port}\"\ntoken_env = \"T\"\n\
             timeout_seconds = 1\nca_file = \"{}\"\n{more}",
            path.join("ca.pem").display()
        )
    };
    let (certificate, key) = (path.join("client.pem"), path.join("client.key"));
    let ours = format!("client_cert_file = \"{}\"\nclient_key_file = \"{}\"\n", certificate.display(), key.display());
    for (more, is_heard) in [("", false), (ours.as_str(), true)] {
        let way = Way::with(&section(more));
        way.put(vec![revision(1, 1)]).await;
        // It never answers as HTTP does, so nothing is ever delivered.
        way.pass(Duration::from_millis(200), "tries", || way.standing().0 == "open").await;
        way.stop().await;
        let said = String::from_utf8_lossy(&std::fs::read(&heard).unwrap()).into_owned();
        assert_eq!(said.contains("POST /services/collector/event"), is_heard, "{said:?}");
    }
}

/// Ends with its test, however that ends.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The built binary, killed at every step between the commit of a finding and the record of its delivery.
#[test]
fn kill_9_at_every_step_of_the_way_out_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let faulty = Faulty::start();
    let file = directory.path().join("authspike.toml");
    let section = format!("[[sinks.splunk_hec]]\nname = \"siem\"\nurl = \"{}\"\ntoken_env = \"T\"\n", faulty.url());
    std::fs::write(&file, section).unwrap();
    let variables = [("AUTHSPIKE_CONFIG", file.to_str().unwrap()), ("T", "token")];
    let data_dir = directory.path().join("data");
    let start = || Instance::start_with(&data_dir, &variables);
    let depth = |instance: &Instance| instance.metric("authspike_outbox_depth{sink=\"siem\"}");

    println!("{:<44} {:>8}", "killed", "taken");
    let killed = |step: &str, instance: Instance| {
        instance.kill();
        println!("{step:<44} {:>8}", faulty.taken().len());
    };
    faulty.set(Mode::Refuse);
    let instance = start();
    let traffic =
        simulated(&["--lockout", "0", "--for", "5h", "--users", "20000", "--attack", "stuffing:at=2h,hits=2"]);
    assert_eq!(instance.attempts(&traffic).unwrap().0, 200);
    instance.settle();
    until("findings", || Some(depth(&instance)).filter(|depth| *depth >= 3.0));
    killed("committed, nothing sent", instance);

    faulty.set(Mode::ResetMidBody);
    let (instance, before) = (start(), faulty.requests());
    until("a request", || (faulty.requests() > before).then_some(()));
    killed("half of the body sent", instance);
    assert_eq!(faulty.taken(), []);

    for step in ["taken, not answered", "answered, perhaps not recorded"] {
        faulty.set(Mode::Held);
        let (hold, before) = (faulty.hold(), faulty.taken().len());
        let instance = start();
        until("it to be taken", || (faulty.taken().len() > before).then_some(()));
        if step.starts_with("answered") {
            drop(hold);
            killed(step, instance);
        } else {
            killed(step, instance);
            drop(hold);
        }
    }
    faulty.set(Mode::Well);
    let instance = start();
    instance.settle();
    until("the rest", || (depth(&instance) == 0.0).then_some(()));
    killed("all recorded", instance);
    let taken = faulty.taken().len();
    let instance = start();
    instance.settle();
    let found: BTreeSet<String> = instance.findings().into_keys().collect();
    assert!(instance.terminate().success());
    assert_eq!(faulty.taken().len(), taken, "what was recorded does not come again");

    let arrived: BTreeSet<String> = faulty.taken().into_iter().map(|one| one.id).collect();
    assert!(found.len() >= 3, "{found:?}");
    assert_eq!(arrived, found, "the file and the receiver hold the same revisions");
    let count = count(&faulty, found.len());
    println!("{} revisions, lost {}, twice {}", found.len(), count.lost, count.twice);
    assert!(count.lost == 0 && count.twice > 0);
}

#[test]
fn with_a_damaged_database_it_says_so_and_runs() {
    let directory = tempfile::tempdir().unwrap();
    Instance::start(directory.path()).kill();
    std::fs::remove_file(directory.path().join("authspike.db-wal")).unwrap();
    std::fs::write(directory.path().join("authspike.db"), b"SQLite format 3\0 and then nothing of the kind").unwrap();
    let instance = Instance::start(directory.path());
    assert!(instance.said().contains("the database is damaged: moved aside"), "{}", instance.said());
    assert!(directory.path().join("authspike.db.damaged-1").exists());
    assert_eq!(
        instance
            .attempts(r#"{"id":"1","occurred_at":1716883200000,"outcome":"failure","identifier":"a@b.c"}"#)
            .unwrap()
            .0,
        200
    );
    assert!(instance.terminate().success());
}

#[test]
fn a_sink_that_hangs_holds_up_neither_detection_nor_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let faulty = Faulty::start();
    faulty.set(Mode::Hang);
    let file = directory.path().join("authspike.toml");
    let section = format!("[[sinks.splunk_hec]]\nname = \"siem\"\nurl = \"{}\"\ntoken_env = \"T\"\n", faulty.url());
    std::fs::write(&file, section).unwrap();
    let variables = [("AUTHSPIKE_CONFIG", file.to_str().unwrap()), ("T", "token")];
    let instance = Instance::start_with(&directory.path().join("data"), &variables);
    let first = simulated(&["--lockout", "0", "--for", "3h", "--users", "20000", "--attack", "guessing:at=1h"]);
    assert_eq!(instance.attempts(&first).unwrap().0, 200);
    instance.settle();
    until("the sink to hang", || (faulty.requests() > 0).then_some(()));
    let (before, watch) = (instance.findings().len(), Stopwatch::start());
    // While it hangs: five hours of traffic with an attack in them, judged and delivered to the file.
    let traffic =
        simulated(&["--lockout", "0", "--for", "5h", "--users", "20000", "--attack", "stuffing:at=2h,hits=2"]);
    assert_eq!(instance.attempts(&traffic).unwrap().0, 200);
    instance.settle();
    println!("{} revisions more in {:?} beside a sink that hangs", instance.findings().len() - before, watch.elapsed());
    assert!(instance.findings().len() > before, "{before}");
    assert_eq!(faulty.taken(), []);
    assert_eq!(instance.metric("authspike_log_lag_records{partition=\"0\"}"), 0.0);
    instance.kill();
}
