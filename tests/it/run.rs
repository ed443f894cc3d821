//! The built binary as its users run it: Clerk's bodies, attacks, `kill -9`, a full disk, a real Prometheus.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use authspike::clock::Stopwatch;
use serde_json::Value;

use crate::support::{Instance, TOKEN, lines_by_revision, simulated, until};
use crate::webhook::documented;

/// An attack with look-alikes around it, over six hours of 2026.
const TRAFFIC: [&str; 12] = [
    "--lockout",
    "0",
    "--for",
    "6h",
    "--users",
    "30000",
    "--attack",
    "stuffing:at=2h,hits=2",
    "--attack",
    "guessing:at=3h",
    "--benign",
    "office-rush:at=1h",
];

fn ids(lines: &str) -> BTreeSet<String> {
    lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned()).collect()
}

/// What `replay` finds in the same lines, under the identifier key of `data_dir`.
fn replayed(lines: &str, data_dir: &Path) -> Vec<String> {
    let file = data_dir.join("replayed.ndjson");
    std::fs::write(&file, lines).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_authspike"))
        .args(["replay", "--json", "--data-dir"])
        .args([data_dir, &file])
        .env_clear()
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found = lines_by_revision(std::str::from_utf8(&output.stdout).unwrap());
    found.into_values().collect()
}

fn closed(findings: impl IntoIterator<Item = String>) -> Vec<String> {
    let is_close = |line: &String| serde_json::from_str::<Value>(line).unwrap()["activity_id"] == 3;
    findings.into_iter().filter(is_close).collect()
}

/// Every byte that the data directory holds.
fn stored(data_dir: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(data_dir).unwrap().map(Result::unwrap) {
        all.extend(std::fs::read(entry.path()).unwrap());
    }
    all
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn clerks_bodies_are_durable_known_again_after_a_restart_and_hold_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    let instance = Instance::start(directory.path());
    let bodies = documented();
    for (name, body) in &bodies {
        assert_eq!(instance.webhook(&format!("msg_{name}"), body), 204, "{name}");
    }
    let identifier = r#"{"id":"1","occurred_at":1716883200000,"outcome":"failure","identifier":"carol@example.com"}"#;
    assert_eq!(instance.attempts(identifier).unwrap().0, 200);
    instance.settle();
    assert_eq!(instance.metric("authspike_detect_events_total"), 50.0);
    assert!(instance.terminate().success());

    let bytes = stored(directory.path());
    assert!(contains(&bytes, "user_2g7np7Hrk0SN6kj5EDMLDaKNL0S"), "what is kept is there to be found");
    for secret in ["123456", "carol@", "<html", "Doe", "+1987654"] {
        assert!(!contains(&bytes, secret), "{secret} is on disk");
    }
    let instance = Instance::start(directory.path());
    for (name, body) in &bodies {
        assert_eq!(instance.webhook(&format!("msg_{name}"), body), 204, "{name}");
    }
    assert_eq!(instance.metric("authspike_ingest_duplicates_total{source=\"clerk_webhook\"}"), 49.0);
    assert_eq!(instance.metric("authspike_ingest_events_total{outcome=\"success\",source=\"clerk_webhook\"}"), 0.0);
}

#[test]
fn an_attack_is_found_live_and_a_replay_of_the_same_lines_finds_the_same_to_the_byte() {
    let directory = tempfile::tempdir().unwrap();
    let instance = Instance::start(directory.path());
    let traffic = simulated(&TRAFFIC);
    for batch in traffic.lines().collect::<Vec<_>>().chunks(5000) {
        let (status, answer) = instance.attempts(&batch.join("\n")).unwrap();
        assert_eq!((status, answer["accepted"].as_u64()), (200, Some(batch.len() as u64)));
    }
    instance.settle();
    let live = closed(instance.findings().into_values());
    let rules: Vec<_> = live
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|record| record["metadata"]["event_code"].as_str().unwrap().to_owned())
        .collect();
    for rule in ["address_failure_spike", "account_failure_spike"] {
        assert!(rules.iter().any(|found| found == rule), "{rules:?}");
    }
    assert!(live.iter().any(|line| line.contains("\"how\":\"signed_in\"")), "the accounts broken into are named");
    assert!(instance.terminate().success());
    assert_eq!(replayed(&traffic, directory.path()), live);
}

#[test]
fn kill_9_in_a_loop_under_load_loses_nothing_and_finds_the_same() {
    let traffic = simulated(&TRAFFIC);
    let all: Vec<&str> = traffic.lines().collect();
    let undisturbed = {
        let directory = tempfile::tempdir().unwrap();
        let instance = Instance::start(directory.path());
        for batch in all.chunks(100) {
            assert_eq!(instance.attempts(&batch.join("\n")).unwrap().0, 200);
        }
        instance.settle();
        let found = instance.findings();
        let key = std::fs::read(directory.path().join("identifier.key")).unwrap();
        instance.kill();
        (found, key)
    };

    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("identifier.key"), &undisturbed.1).unwrap();
    let mut instance = Instance::start(directory.path());
    let mut acknowledged = BTreeSet::new();
    let mut kills = 0_u64;
    for (number, batch) in all.chunks(100).enumerate() {
        let lines = batch.join("\n");
        if number % 9 == 5 {
            // A request in flight at the moment of death: its answer may be lost, and its sender sends it again.
            kills += 1;
            std::thread::scope(|scope| {
                let sent = scope.spawn(|| instance.attempts(&lines));
                std::thread::sleep(std::time::Duration::from_micros(kills * 700 % 9000));
                let id = instance.process();
                assert!(Command::new("kill").arg("-9").arg(id.to_string()).status().unwrap().success());
                if let Ok((200, _)) = sent.join().unwrap() {
                    acknowledged.extend(ids(&lines));
                }
            });
            instance.kill();
            instance = Instance::start(directory.path());
        }
        let (status, answer) = instance.attempts(&lines).unwrap();
        assert_eq!(status, 200, "{answer}");
        acknowledged.extend(ids(&lines));
    }
    instance.settle();
    assert!(kills >= 5, "{kills}");
    assert_eq!(acknowledged.len(), all.len());
    let found = instance.findings();
    instance.kill();

    let logged = logged_ids(directory.path());
    assert_eq!(logged.len(), logged.iter().collect::<BTreeSet<_>>().len(), "nothing twice");
    assert_eq!(logged.into_iter().collect::<BTreeSet<_>>(), acknowledged, "nothing lost, nothing invented");
    assert_eq!(found, undisturbed.0);
}

/// The ids in the log, read by the program's own library after the process is gone.
fn logged_ids(data_dir: &Path) -> Vec<String> {
    use authspike::log::{Log, Offset, Partition, Record, embedded};
    let store = authspike::store::Store::open(data_dir, &[embedded::SCHEMA]).unwrap();
    let (clock, metrics) = (authspike::clock::Clock::system(), authspike::metrics::Metrics::new().unwrap());
    let log = embedded::EmbeddedLog::open(
        store,
        &embedded::Config::default(),
        std::sync::Arc::new(|_, _| Ok(())),
        &clock,
        &metrics.log,
    )
    .unwrap();
    let (mut ids, mut from) = (Vec::new(), Offset(0));
    while from < log.head(Partition(0)) {
        let polled = log.poll(Partition(0), from, std::time::Duration::ZERO).unwrap();
        from = polled.next;
        ids.extend(polled.records.into_iter().filter_map(|record| match record {
            Record::Event(event) => Some(event.id.into_string()),
            Record::Tick { .. } => None,
        }));
    }
    log.close();
    ids
}

#[test]
fn a_full_disk_is_503_and_unready_and_heals_without_a_restart() {
    let mounted = Mounted::new();
    let instance = Instance::start(&mounted.0.path().join("data"));
    let line = |number: usize| {
        let padding = "x".repeat(150);
        format!(
            r#"{{"id":"{number}-{padding}","occurred_at":1716883200000,"outcome":"success","user_agent":"{padding}"}}"#
        )
    };
    assert_eq!(instance.attempts(&line(0)).unwrap().0, 200);
    let filler = mounted.0.path().join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    let mut accepted = vec![0];
    let refused = (1..2000).find(|number| {
        let (status, answer) = instance.attempts(&line(*number)).unwrap();
        assert!(matches!(status, 200 | 503), "{status} {answer}");
        if status == 200 {
            accepted.push(*number);
        }
        status == 503
    });
    assert!(refused.is_some(), "the disk is full");
    let (status, body) = instance.admin("/readyz");
    assert_eq!(status, 503);
    assert!(body.contains("full"), "{body}");
    assert_eq!(instance.admin("/livez").0, 200);

    // The space is free only once the file is closed too.
    drop(file);
    std::fs::remove_file(&filler).unwrap();
    until("it to be ready again by itself", || (instance.admin("/readyz").0 == 200).then_some(()));
    let (status, answer) = instance.attempts(&line(refused.unwrap())).unwrap();
    assert_eq!((status, answer["accepted"].as_u64()), (200, Some(1)), "what was refused was not taken: {answer}");
    accepted.push(refused.unwrap());
    for number in &accepted {
        assert_eq!(instance.attempts(&line(*number)).unwrap().1["duplicates"], 1, "{number} was acknowledged");
    }
    assert!(instance.terminate().success());
}

/// A small disk of its own, for as long as the test runs.
pub struct Mounted(pub tempfile::TempDir);

impl Mounted {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"])
            .arg(directory.path())
            .status()
            .unwrap();
        assert!(mounted.success(), "the test of a full disk needs the right to mount a tmpfs: run it as root");
        Self(directory)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: the instance under test may still be going.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn promtool_and_a_real_prometheus_read_the_metrics() {
    let directory = tempfile::tempdir().unwrap();
    let instance = Instance::start(directory.path());
    instance.attempts(&simulated(&["--for", "20m", "--users", "90000", "--attack", "stuffing"])).unwrap();
    instance.settle();
    let mut promtool = Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).spawn().unwrap();
    promtool.stdin.take().unwrap().write_all(instance.admin("/metrics").1.as_bytes()).unwrap();
    assert!(promtool.wait().unwrap().success(), "promtool finds fault with the names or the help texts");

    let config = format!(
        "global: {{ scrape_interval: 1s }}\nscrape_configs:\n  - job_name: authspike\n    static_configs:\n      - targets: ['{}']\n",
        instance.admin
    );
    std::fs::write(directory.path().join("prometheus.yml"), config).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut prometheus = Command::new("prometheus")
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .args(["--config.file=prometheus.yml", "--storage.tsdb.path=tsdb"])
        .current_dir(directory.path())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let query = |expression: &str| -> Option<f64> {
        let url = format!("http://127.0.0.1:{port}/api/v1/query?query={expression}");
        let answer: Value = serde_json::from_str(&reqwest::blocking::get(url).ok()?.text().ok()?).ok()?;
        answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    };
    let watch = Stopwatch::start();
    let found = until("prometheus to have scraped a finding", || {
        let found = query("sum(authspike_findings_total)");
        assert!(watch.elapsed().as_secs() < 55, "{found:?}");
        found.filter(|found| *found >= 1.0)
    });
    let p99 = query("authspike_ingest_to_finding_seconds%7Bquantile=%220.99%22%7D");
    prometheus.kill().unwrap();
    prometheus.wait().unwrap();
    assert!(found >= 1.0 && p99.is_some_and(|seconds| seconds > 0.0), "{found} {p99:?}");
}

#[test]
fn nothing_of_the_token_or_a_body_reaches_the_log_even_at_its_most_talkative() {
    let directory = tempfile::tempdir().unwrap();
    let log = std::fs::File::create(directory.path().join("stderr")).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_authspike"))
        .args(["run", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir"])
        .arg(directory.path().join("data"))
        .env_clear()
        .env("AUTHSPIKE_ATTEMPTS_TOKEN", TOKEN)
        .env("AUTHSPIKE_LOGGING__LEVEL", "trace")
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let said = || std::fs::read_to_string(directory.path().join("stderr")).unwrap();
    let address = until("it to listen", || {
        said().lines().find_map(|line| Some(line.split_once("ingest=")?.1.split_whitespace().next()?.to_owned()))
    });
    let client = reqwest::blocking::Client::new();
    let post = |token: &str| {
        let body =
            r#"{"id":"1","occurred_at":1,"outcome":"failure","identifier":"dave@example.com","ip":"203.0.113.99"}"#;
        let url = format!("http://{address}/v1/attempts");
        let request = client.post(url).bearer_auth(token).header("content-type", "application/json").body(body);
        request.send().unwrap().status().as_u16()
    };
    assert_eq!((post(TOKEN), post("wrong-token")), (200, 401));
    let asked = Command::new("kill").arg("-TERM").arg(child.id().to_string()).status().unwrap();
    assert!(asked.success() && child.wait().unwrap().success());
    let log = said();
    assert!(log.contains("listening") && log.contains("stopping"), "{log}");
    for secret in [TOKEN, "wrong-token", "dave", "203.0.113.99"] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
}
