//! What a fleet does when brokers go: one of three, which it must hardly notice, and all of them, which it must outlast.
//!
//! Judged by what was acknowledged: every id that got a 200 lies in the log, and the findings are those that the log makes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use authspike::clock::Stopwatch;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use serde_json::Value;

use super::client::{block_on, config};
use super::cluster::resident_mib;
use super::fleet::{ALL, Fleet, traffic};
use super::{Cluster, Spec};
use crate::support::{Instance, TOKEN, until};

/// Attempts in a request, and between requests: some hundred attempts a second.
const CHUNK: usize = 25;
const PACE: Duration = Duration::from_millis(60);
/// When a sender gives up. A message may take 10 s, and a request is answered after 12.
const LONGEST_ANSWER: Duration = Duration::from_secs(15);

/// A request that was answered 503.
struct Refusal {
    at: Duration,
    retry_after: Option<String>,
}

/// Sends attempts as a sender does that knows two receivers: what was refused is sent again, to the other.
struct Sender<'a> {
    receivers: [&'a Instance; 2],
    client: reqwest::blocking::Client,
    watch: Stopwatch,
    accepted: Mutex<BTreeSet<String>>,
    refusals: Mutex<Vec<Refusal>>,
    slowest: Mutex<Duration>,
}

impl<'a> Sender<'a> {
    fn new(receivers: [&'a Instance; 2]) -> Self {
        Self {
            receivers,
            client: reqwest::blocking::Client::builder().timeout(Duration::from_secs(30)).build().unwrap(),
            watch: Stopwatch::start(),
            accepted: Mutex::default(),
            refusals: Mutex::default(),
            slowest: Mutex::default(),
        }
    }

    /// One request; whether it was taken. Anything but 200 and 503 is a fault.
    fn send(&self, receiver: &Instance, lines: &[String]) -> bool {
        let asked = Stopwatch::start();
        let request = self.client.post(format!("http://{}/v1/attempts", receiver.ingest)).bearer_auth(TOKEN);
        let request = request.header("content-type", "application/x-ndjson").body(lines.join("\n"));
        let response = request.send().expect("a receiver keeps answering");
        let mut slowest = self.slowest.lock().unwrap();
        *slowest = (*slowest).max(asked.elapsed());
        drop(slowest);
        let retry_after = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        let status = response.status().as_u16();
        let text = response.text().unwrap();
        if status == 503 {
            self.refusals.lock().unwrap().push(Refusal { at: self.watch.elapsed(), retry_after });
            return false;
        }
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        assert_eq!((status, &answer["refused"]), (200, &Value::from(0)), "{answer}");
        let ids = answer["results"].as_array().unwrap().iter().map(|result| result["id"].as_str().unwrap().to_owned());
        self.accepted.lock().unwrap().extend(ids);
        true
    }

    /// Sends from `next` on until `enough`; each chunk until it is taken.
    fn run(&self, attempts: &[String], next: &AtomicUsize, enough: &AtomicBool) {
        let mut tries = 0;
        while !enough.load(Ordering::Relaxed) {
            let from = next.load(Ordering::Relaxed);
            assert!(from < attempts.len(), "out of attempts: the load has to last longer than the fault");
            let until = (from + CHUNK).min(attempts.len());
            if self.send(self.receivers[tries % 2], &attempts[from..until]) {
                next.store(until, Ordering::Relaxed);
            }
            tries += 1;
            std::thread::sleep(PACE);
        }
    }

    fn slowest(&self) -> Duration {
        *self.slowest.lock().unwrap()
    }
}

fn ready(instance: &Instance) -> (bool, String) {
    let (status, page) = instance.admin("/readyz");
    (status == 200, page)
}

/// Waits until a process says that it is not ready because no broker can be reached.
fn says_that_kafka_is_away(instance: &Instance) {
    until("a process to say that Kafka is away", || {
        let (ready, page) = ready(instance);
        (!ready && page.contains("Kafka") && page.contains("no broker can be reached")).then_some(())
    });
}

/// What a topic's own setting is.
fn setting(fleet: &Fleet, suffix: &str, name: &str) -> Option<String> {
    let admin: AdminClient<DefaultClientContext> = config(&fleet.properties).create().unwrap();
    let topic = fleet.topic(suffix);
    let described =
        block_on(admin.describe_configs([&ResourceSpecifier::Topic(&topic)], &AdminOptions::new())).unwrap();
    let described = described.into_iter().next().unwrap().unwrap();
    described.get(name).and_then(|entry| entry.value.clone())
}

fn missing(fleet: &Fleet, accepted: &BTreeSet<String>) -> Vec<String> {
    let lying: BTreeMap<String, usize> = fleet.ids();
    accepted.iter().filter(|id| !lying.contains_key(*id)).cloned().collect()
}

#[test]
fn one_broker_of_three_may_go_under_load_and_all_of_them_for_a_while() {
    // The brokers' own default is 1: what protects the topics has to be set by us.
    let mut cluster = Cluster::start(Spec { brokers: 3, replication: 3, min_isr: 1, ..Spec::default() });
    let fleet = Fleet::new(&cluster, 6, 3, "classic");
    for suffix in ["events.v1", "state.v1", "findings.v1", "events.dlq.v1", "aliases.v1"] {
        assert_eq!(setting(&fleet, suffix, "min.insync.replicas").as_deref(), Some("2"), "{suffix}");
    }
    let (first, second, third) = (fleet.start(&ALL), fleet.start(&["receive", "detect"]), fleet.start(&["deliver"]));
    let attempts = traffic("70m");
    let sender = Sender::new([&first, &second]);
    let next = AtomicUsize::new(0);

    one_goes(&mut cluster, &sender, &attempts, &next);
    assert_eq!(missing(&fleet, &sender.accepted.lock().unwrap()), [""; 0]);

    let late = all_go(&mut cluster, &fleet, &sender, &attempts, &next, &[&first, &second, &third]);

    // By themselves, and without anybody having sent anything.
    let watch = Stopwatch::start();
    for process in [&first, &second, &third, &late] {
        until("a process to be ready again", || ready(process).0.then_some(()));
    }
    let _ = writeln!(std::io::stderr(), "brokers: ready {:.1} s after they answered", watch.elapsed().as_secs_f64());
    let rest = &attempts[next.load(Ordering::Relaxed)..];
    for (number, lines) in rest.chunks(500).enumerate() {
        until("the rest to be taken", || sender.send(sender.receivers[number % 2], lines).then_some(()));
    }
    let accepted = sender.accepted.lock().unwrap();
    assert_eq!(accepted.len(), attempts.len());
    assert_eq!(missing(&fleet, &accepted), [""; 0]);
    let revisions = fleet.settled();
    for rule in ["address_failure_spike", "account_failure_spike", "network_failure_spike", "distributed_attack"] {
        let found = revisions.values().any(|finding| serde_json::to_string(finding).unwrap().contains(rule));
        assert!(found, "no {rule}");
    }
    let files: Vec<_> = [&first, &third, &late].iter().map(|process| process.data_dir.join("findings.jsonl")).collect();
    let lines = fleet.delivered(&revisions, &files);
    let _ = writeln!(std::io::stderr(), "brokers: {} revisions, delivered {lines} times", revisions.len());
}

/// One broker is killed and started again while attempts come in.
fn one_goes(cluster: &mut Cluster, sender: &Sender<'_>, attempts: &[String], next: &AtomicUsize) {
    let enough = AtomicBool::new(false);
    let killed = std::thread::scope(|scope| {
        let load = scope.spawn(|| sender.run(attempts, next, &enough));
        std::thread::sleep(Duration::from_secs(2));
        let killed = sender.watch.elapsed();
        cluster.kill(0);
        // Until the others have noticed and gone on.
        std::thread::sleep(Duration::from_secs(5));
        cluster.restart(0);
        std::thread::sleep(Duration::from_secs(1));
        enough.store(true, Ordering::Relaxed);
        load.join().unwrap();
        killed
    });
    let refusals = std::mem::take(&mut *sender.refusals.lock().unwrap());
    let _ = writeln!(
        std::io::stderr(),
        "brokers: one of three gone: {} attempts, {} requests refused, slowest answer {:.1} s",
        next.load(Ordering::Relaxed),
        refusals.len(),
        sender.slowest().as_secs_f64(),
    );
    assert!(refusals.len() <= 5, "{} requests were refused", refusals.len());
    for refusal in refusals {
        assert!(refusal.retry_after.is_some());
        let after = refusal.at.saturating_sub(killed);
        assert!(after < Duration::from_secs(12), "refused {after:?} after the broker went");
    }
    assert!(sender.slowest() < LONGEST_ANSWER, "{:?}", sender.slowest());
}

/// All brokers are killed, and started again later; a process that is started meanwhile.
fn all_go(
    cluster: &mut Cluster,
    fleet: &Fleet,
    sender: &Sender<'_>,
    attempts: &[String],
    next: &AtomicUsize,
    processes: &[&Instance],
) -> Instance {
    let enough = AtomicBool::new(false);
    let memory = || -> Vec<u64> { processes.iter().map(|process| resident_mib(process.process())).collect() };
    let late = std::thread::scope(|scope| {
        let load = scope.spawn(|| sender.run(attempts, next, &enough));
        std::thread::sleep(Duration::from_secs(1));
        let before = memory();
        let lines = || processes.iter().map(|process| process.said().lines().count()).sum::<usize>();
        let said = lines();
        cluster.kill_all();
        let gone = sender.watch.elapsed();
        // More than any buffer holds, from more senders than one.
        let waiting = &attempts[next.load(Ordering::Relaxed)..];
        let crowd: Vec<_> = (0..6)
            .map(|number| {
                let (enough, waiting) = (&enough, &waiting[..waiting.len().min(2000)]);
                scope.spawn(move || {
                    let mut refused = 0_usize;
                    while !enough.load(Ordering::Relaxed) {
                        assert!(!sender.send(sender.receivers[number % 2], waiting), "acknowledged by nobody");
                        refused += 1;
                    }
                    refused
                })
            })
            .collect();
        for process in processes {
            says_that_kafka_is_away(process);
        }
        let late = fleet.launch(&ALL);
        says_that_kafka_is_away(&late);
        let after = memory();
        enough.store(true, Ordering::Relaxed);
        let refused: usize = crowd.into_iter().map(|one| one.join().unwrap()).sum();
        load.join().unwrap();
        let away = sender.watch.elapsed().saturating_sub(gone);
        let _ = writeln!(
            std::io::stderr(),
            "brokers: all gone for {:.1} s: {refused} requests refused, MiB {before:?} before and {after:?} after",
            away.as_secs_f64(),
        );
        assert!(refused > 20, "{refused}");
        // Tries to connect are no news, and there are some each second.
        let said = lines() - said;
        assert!(said < 200, "{said} lines of log; the last: {:?}", processes[0].said().lines().last());
        for (before, after) in before.iter().zip(&after) {
            // What bodies and the producer's queue may hold together is 128 MiB.
            assert!(after - before.min(after) < 160, "{before} MiB before, {after} MiB after");
        }
        late
    });
    for refusal in &*sender.refusals.lock().unwrap() {
        assert!(refusal.retry_after.is_some(), "refused at {:?} without Retry-After", refusal.at);
    }
    assert!(sender.slowest() < LONGEST_ANSWER, "{:?}", sender.slowest());
    cluster.restart_all();
    late
}
