//! Processes of ours on topics of their own, and what they must come to: a detector in this process, fed with what the
//! events topic holds, says which revisions there must be.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use authspike::clock::Stopwatch;
use authspike::detect::{self, Detector};
use authspike::finding::Finding;
use authspike::log::Record;
use authspike::log::kafka::read_record;
use serde_json::Value;
use tempfile::TempDir;

use super::client::{fresh, read_topic};
use super::cluster::Cluster;
use super::{Login, Record as Lying};
use crate::support::{Instance, simulated, until};

/// What every process of the fleet hashes identifiers with.
const IDENTIFIER_KEY: &str = "5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f";

/// The three things a process can do.
pub const ALL: [&str; 3] = ["receive", "detect", "deliver"];

/// A finding and one of its revisions.
pub type Revision = (String, String);

/// Topics, a configuration, and processes that share them.
pub struct Fleet {
    pub properties: BTreeMap<String, String>,
    pub prefix: String,
    pub folder: TempDir,
    started: Cell<usize>,
}

impl Fleet {
    /// Makes the topics with `authspike topics --create`. `protocol` is `classic` or `consumer`.
    pub fn new(cluster: &Cluster, partitions: usize, replication: usize, protocol: &str) -> Self {
        let fleet = Self {
            properties: cluster.properties(Login::Plain),
            prefix: fresh("fleet"),
            folder: tempfile::tempdir().unwrap(),
            started: Cell::new(0),
        };
        let mut text = format!(
            "[kafka]\nbrokers = \"{}\"\ntopic_prefix = \"{prefix}\"\ngroup = \"{prefix}\"\npartitions = {partitions}\n\
             replication = {replication}\ngroup_protocol = \"{protocol}\"\n",
            cluster.bootstrap(),
            prefix = fleet.prefix,
        );
        if protocol == "classic" {
            // A process that is gone is missed within seconds, not 45.
            text += "[kafka.consumer.properties]\n\"session.timeout.ms\" = 4000\n\"heartbeat.interval.ms\" = 500\n";
        }
        std::fs::write(fleet.config(), text).unwrap();
        let made = Command::new(env!("CARGO_BIN_EXE_authspike"))
            .args(["topics", "--create", "--config"])
            .arg(fleet.config())
            .env_clear()
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        fleet
    }

    pub fn config(&self) -> PathBuf {
        self.folder.path().join("authspike.toml")
    }

    pub fn topic(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.prefix)
    }

    /// Starts a process and waits until it is ready.
    pub fn start(&self, roles: &[&str]) -> Instance {
        let instance = self.launch(roles);
        let begun = Stopwatch::start();
        loop {
            let (status, answer) = instance.admin("/readyz");
            if status == 200 {
                break;
            }
            assert!(begun.elapsed().as_secs() < 60, "not ready: {answer}\n{}", instance.said());
            std::thread::sleep(Duration::from_millis(50));
        }
        instance
    }

    /// Starts a process and waits only until it listens.
    pub fn launch(&self, roles: &[&str]) -> Instance {
        let data_dir = self.folder.path().join(self.started.get().to_string());
        self.started.set(self.started.get() + 1);
        self.launch_in(roles, &data_dir)
    }

    /// The same in a directory that there may have been before.
    pub fn launch_in(&self, roles: &[&str], data_dir: &std::path::Path) -> Instance {
        let config = self.config().display().to_string();
        let mut arguments = vec!["--config", &config];
        for role in roles {
            arguments.extend(["--role", role]);
        }
        Instance::start_as(data_dir, &[("AUTHSPIKE_IDENTIFIER_KEY", IDENTIFIER_KEY)], &arguments)
    }

    /// The same with an admin token.
    pub fn launch_with_token(&self, roles: &[&str], token: &str) -> Instance {
        let data_dir = self.folder.path().join(self.started.get().to_string());
        self.started.set(self.started.get() + 1);
        let config = self.config().display().to_string();
        let mut arguments = vec!["--config", &config];
        for role in roles {
            arguments.extend(["--role", role]);
        }
        let variables = [("AUTHSPIKE_IDENTIFIER_KEY", IDENTIFIER_KEY), ("AUTHSPIKE_ADMIN_TOKEN", token)];
        Instance::start_as(&data_dir, &variables, &arguments)
    }

    /// Everything in one of the topics.
    pub fn read(&self, suffix: &str) -> Vec<Lying> {
        read_topic(&self.properties, &self.topic(suffix)).unwrap()
    }

    /// The ids of the events that are in the log, duplicates counted.
    pub fn ids(&self) -> BTreeMap<String, usize> {
        let mut ids = BTreeMap::new();
        for lying in self.read("events.v1") {
            if let Record::Event(event) = read_record(&lying.value.unwrap()).unwrap() {
                *ids.entry(event.id.into_string()).or_default() += 1;
            }
        }
        ids
    }

    /// The revisions that the log makes: what one detector for each partition finds that never stops.
    pub fn expected(&self) -> BTreeMap<Revision, Finding> {
        let mut detectors: BTreeMap<i32, (Detector, HashSet<String>)> = BTreeMap::new();
        let mut found = Vec::new();
        for lying in self.read("events.v1") {
            let (detector, ids) = detectors
                .entry(lying.partition)
                .or_insert_with(|| (Detector::new(&detect::Config::default()), HashSet::new()));
            match read_record(&lying.value.unwrap()).unwrap() {
                Record::Event(event) => {
                    if ids.insert(format!("{} {}", event.source.as_str(), event.id)) {
                        detector.observe(event, &mut found);
                    }
                }
                Record::Tick { at } => detector.tick(at, &mut found),
            }
        }
        by_revision(found)
    }

    /// The revisions in the findings topic. One that is there twice must be the same both times.
    pub fn found(&self) -> BTreeMap<Revision, Finding> {
        let found = self.read("findings.v1").into_iter().map(|lying| {
            let finding: Finding = serde_json::from_slice(&lying.value.unwrap()).unwrap();
            assert_eq!(lying.key.unwrap(), finding.finding_id.to_string().into_bytes());
            finding
        });
        by_revision(found)
    }

    /// Waits until the findings topic holds what the log makes, and answers with it; nothing more may be there.
    pub fn settled(&self) -> BTreeMap<Revision, Finding> {
        let expected = until("the detectors to find what the log makes", || {
            let (expected, found) = (self.expected(), self.found());
            (expected.keys().all(|revision| found.contains_key(revision))).then_some(expected)
        });
        let found = self.found();
        for (revision, finding) in &found {
            assert_eq!(Some(finding), expected.get(revision), "{revision:?} is not what the log makes");
        }
        expected
    }

    /// Waits until these revisions, and no others, lie in the findings files of `deliverers`; how often all together.
    #[expect(clippy::unused_self, reason = "it is the fleet that delivers")]
    pub fn delivered(&self, revisions: &BTreeMap<Revision, Finding>, files: &[PathBuf]) -> usize {
        let wanted: BTreeSet<&str> = revisions.keys().map(|(_, revision)| &**revision).collect();
        until("every revision to be delivered", || {
            let mut lines = BTreeMap::new();
            for file in files {
                lines.extend(crate::support::findings(file));
            }
            let delivered: BTreeSet<&str> = lines.keys().map(|revision| &**revision).collect();
            assert!(delivered.is_subset(&wanted), "something else was delivered");
            (delivered == wanted).then_some(())
        });
        files.iter().map(|file| std::fs::read_to_string(file).unwrap_or_default().lines().count()).sum()
    }
}

fn by_revision(found: impl IntoIterator<Item = Finding>) -> BTreeMap<Revision, Finding> {
    let mut revisions = BTreeMap::new();
    for finding in found {
        let revision = (finding.finding_id.to_string(), finding.revision_id.to_string());
        if let Some(before) = revisions.insert(revision, finding.clone()) {
            assert_eq!(before, finding, "one revision, two contents");
        }
    }
    revisions
}

/// Attempts at four tenants, in the order of their time; each tenant has an attack of its own kind in it, and a last
/// attempt so much later that every finding has been closed.
pub fn traffic(span: &str) -> Vec<String> {
    let tenants = [
        ("ins_a", "stuffing:at=20m,for=10m"),
        ("ins_b", "botnet:at=30m,for=20m"),
        ("ins_c", "distributed-guessing:at=15m"),
        ("ins_d", "spraying:at=15m,for=30m"),
    ];
    let mut attempts: Vec<(i64, String)> = Vec::new();
    for (number, (tenant, attack)) in tenants.into_iter().enumerate() {
        let seed = number.to_string();
        let lines = simulated(&[
            "--for",
            span,
            "--users",
            "3000",
            "--per-second",
            "0.5",
            "--seed",
            &seed,
            "--instance",
            tenant,
            "--attack",
            attack,
        ]);
        let mut last = 0;
        for line in lines.lines() {
            let attempt: Value = serde_json::from_str(line).unwrap();
            let at: jiff::Timestamp = attempt["occurred_at"].as_str().unwrap().parse().unwrap();
            last = at.as_millisecond();
            attempts.push((last, line.to_owned()));
        }
        let mut end = String::new();
        let at = last + 2 * 86_400_000;
        write!(end, r#"{{"id":"end-{tenant}","instance_id":"{tenant}","occurred_at":{at},"outcome":"failure","ip":"192.0.2.9"}}"#)
            .unwrap();
        attempts.push((at, end));
    }
    attempts.sort();
    attempts.into_iter().map(|(_, line)| line).collect()
}

/// Posts them in order, some at a time.
pub fn post(instance: &Instance, attempts: &[String]) {
    for lines in attempts.chunks(500) {
        let (status, answer) = instance.attempts(&lines.join("\n")).unwrap();
        assert_eq!((status, &answer["refused"]), (200, &Value::from(0)), "{answer}");
    }
}
