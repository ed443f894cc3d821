//! OpenTelemetry Collector (Go modules) for Splunk's HEC with acknowledgements: `tests/receivers/otelcol`, which prints what
//! arrived and what it answered to the question what is acknowledged.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use serde_json::Value;

use super::{free_port, go, installed, run};
use crate::delivery::{Way, revision};
use crate::support::until;

const ACKS: &str = "ack: { extension: ack }";
/// How far the clock moves at a time.
const STEP: Duration = Duration::from_secs(1);

/// Built once for all tests, which run beside each other. Go itself knows whether there is anything to build.
static BINARY: LazyLock<PathBuf> = LazyLock::new(|| {
    let binary = installed("otelcol");
    let module = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/receivers/otelcol");
    run(go().args(["build", "-buildvcs=false", "-o"]).arg(&binary).arg(".").current_dir(module));
    binary
});

/// A collector that can be killed and started again where it was.
struct Collector {
    child: Option<Child>,
    binary: PathBuf,
    port: u16,
    files: tempfile::TempDir,
}

/// How it is to run.
struct How {
    token: &'static str,
    acks: &'static str,
    /// Between printing what arrived and answering.
    delay: &'static str,
}

const WELL: How = How { token: "token", acks: ACKS, delay: "0s" };

impl Collector {
    /// None runs yet.
    fn build() -> Self {
        let binary = BINARY.clone();
        Self { child: None, binary, port: free_port(), files: tempfile::tempdir().unwrap() }
    }

    fn start(&mut self, How { token, acks, delay }: &How) {
        let config = self.files.path().join("config.yaml");
        let text = format!(
            "extensions: {{ ack: {{}}, bearertokenauth: {{ scheme: Splunk, token: {token} }} }}\n\
             receivers:\n  splunk_hec:\n    endpoint: 127.0.0.1:{}\n    auth: {{ authenticator: bearertokenauth }}\n    {acks}\n\
             exporters: {{ printer: {{ delay: {delay} }} }}\n\
             service:\n  extensions: [ack, bearertokenauth]\n  telemetry: {{ metrics: {{ level: none }} }}\n  \
             pipelines: {{ logs: {{ receivers: [splunk_hec], exporters: [printer] }} }}\n",
            self.port
        );
        std::fs::write(&config, text).unwrap();
        let append =
            |name: &str| File::options().create(true).append(true).mode(0o600).open(self.files.path().join(name));
        let mut command = Command::new(&self.binary);
        command.arg("--config").arg(config).stdin(Stdio::null());
        command.stdout(append("printed").unwrap()).stderr(append("said").unwrap());
        self.child = Some(command.spawn().unwrap());
        let client = reqwest::blocking::Client::new();
        let url = format!("http://127.0.0.1:{}/services/collector/health", self.port);
        until("the collector to listen", || {
            let request = client.get(&url).header("authorization", format!("Splunk {token}"));
            request.send().ok().filter(|answer| answer.status().is_success())
        });
    }

    /// Without a chance to finish anything.
    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn section(&self, keys: &str) -> String {
        format!(
            "[[sinks.splunk_hec]]\nname = \"siem\"\nurl = \"http://127.0.0.1:{}\"\ntoken_env = \"T\"\nack = true\n{keys}",
            self.port
        )
    }

    /// What it printed, without a line that it was killed in.
    fn printed(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.files.path().join("printed")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Each event that arrived, by the id of its revision, as often as it did.
    fn arrived(&self) -> BTreeMap<String, Vec<Arrived>> {
        let mut arrived: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for resource in self.printed().iter().flat_map(|line| list(&line["resourceLogs"])) {
            let about = attributes(&resource["resource"]["attributes"]);
            for record in list(&resource["scopeLogs"]).iter().flat_map(|scope| list(&scope["logRecords"])) {
                let event = attributes(&record["body"]["kvlistValue"]["values"]);
                let uid = attributes(&event["metadata"]["kvlistValue"]["values"])["uid"]["stringValue"].clone();
                let nanos = record["timeUnixNano"].as_str().unwrap().parse().unwrap();
                let one = Arrived { about: about.clone(), fields: attributes(&record["attributes"]), event, nanos };
                arrived.entry(uid.as_str().unwrap().to_owned()).or_default().push(one);
            }
        }
        arrived
    }

    /// Acknowledgements that were asked for: how many it gave and how many it did not.
    fn acks(&self) -> (usize, usize) {
        let acks = self.printed().into_iter().filter_map(|line| line.get("acks")?.as_object().cloned());
        let answers: Vec<bool> = acks.flat_map(|acks| acks.into_values().map(|ack| ack == true)).collect();
        let given = answers.iter().filter(|given| **given).count();
        (given, answers.len() - given)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One event, as OpenTelemetry's data model has it.
struct Arrived {
    about: BTreeMap<String, Value>,
    fields: BTreeMap<String, Value>,
    event: BTreeMap<String, Value>,
    nanos: i64,
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn attributes(value: &Value) -> BTreeMap<String, Value> {
    list(value).into_iter().map(|one| (one["key"].as_str().unwrap().to_owned(), one["value"].clone())).collect()
}

#[test]
fn opentelemetry_takes_what_hec_brings_and_acknowledges_it() {
    let mut collector = Collector::build();
    collector.start(&WELL);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let way = Way::with(&collector.section("index = \"soc\"\n"));
        way.put_all().await;
        way.until_delivered().await;
        way.stop().await;
    });
    let arrived = collector.arrived();
    let events: usize = arrived.values().map(Vec::len).sum();
    assert_eq!((arrived.len(), events), (500, 500));
    let (given, withheld) = collector.acks();
    assert!(given > 0 && withheld == 0, "{given} acknowledged, {withheld} not");

    let revision = revision(7, 3);
    let one = &arrived[&revision.revision_id.to_string()][0];
    let text = |of: &BTreeMap<String, Value>, key: &str| of[key]["stringValue"].as_str().unwrap().to_owned();
    assert_eq!(text(&one.about, "com.splunk.source"), "authspike");
    assert_eq!(text(&one.about, "com.splunk.sourcetype"), "ocsf:detection_finding");
    assert_eq!(text(&one.about, "com.splunk.index"), "soc");
    assert_eq!(text(&one.fields, "finding_uid"), revision.finding_id.to_string());
    assert_eq!(text(&one.fields, "rule"), revision.rule.as_str());
    assert_eq!(text(&one.fields, "lifecycle"), revision.lifecycle.as_str());
    assert_eq!(one.event["class_uid"]["doubleValue"], 2004);
    // Seconds as a floating-point number, so not to the nanosecond.
    assert!((one.nanos - revision.at.0 * 1_000_000).abs() < 1_000_000, "{} for {}", one.nanos, revision.at.0);
}

#[test]
fn opentelemetry_that_is_killed_loses_nothing_and_refuses_a_wrong_token() {
    let mut collector = Collector::build();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    // It has printed, which stands for having written, and is killed before it answers: the same comes again.
    collector.start(&How { delay: "30s", ..WELL });
    runtime.block_on(async {
        let way = Way::with(&collector.section(""));
        way.put_all().await;
        way.pass(Duration::ZERO, "something to arrive", || !collector.arrived().is_empty()).await;
        assert_eq!(way.figures().await.pending, 500);
        tokio::task::block_in_place(|| {
            collector.kill();
            collector.start(&WELL);
        });
        way.until_delivered().await;
        assert_eq!(way.figures().await.dead, 0);
        way.stop().await;
    });
    let arrived = collector.arrived();
    let events: usize = arrived.values().map(Vec::len).sum();
    println!("killed before it answered: {} arrived, {} of them twice", arrived.len(), events - arrived.len());
    assert_eq!(arrived.len(), 500);
    assert!(events > 500, "what was taken without an answer comes again");

    // Neither a token that it does not know nor one without acknowledgement: kept, and said so, until somebody mends it.
    for (how, reason) in [(How { token: "another", ..WELL }, "401"), (How { acks: "", ..WELL }, "ackId")] {
        collector.kill();
        collector.start(&how);
        runtime.block_on(async {
            let way = Way::with(&collector.section(""));
            way.put(vec![revision(1000, 1)]).await;
            way.pass(Duration::ZERO, "it to be blocked", || way.standing().0 == "blocked").await;
            assert!(way.standing().1.unwrap().contains(reason), "{:?}", way.standing());
            tokio::task::block_in_place(|| {
                collector.kill();
                collector.start(&WELL);
            });
            way.pass(STEP, "it to recover", || way.standing().0 == "ok").await;
            way.until_delivered().await;
            way.stop().await;
        });
    }
    assert!(collector.arrived().contains_key(&revision(1000, 1).revision_id.to_string()));
}
