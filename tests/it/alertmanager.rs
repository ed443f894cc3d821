//! Prometheus Alertmanager: the real one is told of findings and asked what it knows.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use authspike::clock::Clock;
use authspike::finding::{Finding, Lifecycle, Severity};
use authspike::sinks::Delivery;
use serde_json::Value;

use crate::ocsf::fixture;
use crate::stub::{Stub, reasons, sink};
use crate::support::until;

/// A running Alertmanager; it ends with this value.
struct Alertmanager {
    child: Child,
    url: String,
    client: reqwest::blocking::Client,
    /// Its configuration and its data.
    _directory: tempfile::TempDir,
}

impl Alertmanager {
    /// Tells `webhook` of alerts, each by itself.
    fn start(webhook: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = format!(
            "route:\n  receiver: stub\n  group_by: ['...']\n  group_wait: 0s\n  group_interval: 1s\n\
             receivers:\n- name: stub\n  webhook_configs:\n  - url: {webhook}\n"
        );
        std::fs::write(directory.path().join("conf.yml"), config).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let child = Command::new("prometheus-alertmanager")
            .arg(format!("--config.file={}", directory.path().join("conf.yml").display()))
            .arg(format!("--storage.path={}", directory.path().display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--cluster.listen-address=")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let client = reqwest::blocking::Client::new();
        let this = Self { child, url: format!("http://{address}"), client, _directory: directory };
        until("Alertmanager to be ready", || {
            let answer = this.client.get(format!("{}/-/ready", this.url)).send().ok()?;
            answer.status().is_success().then_some(())
        });
        this
    }

    /// The alerts that are firing, by severity.
    fn firing(&self) -> Vec<(String, Value)> {
        let text = self.client.get(format!("{}/api/v2/alerts", self.url)).send().unwrap().text().unwrap();
        let alerts: Vec<Value> = serde_json::from_str(&text).unwrap();
        let mut alerts: Vec<_> =
            alerts.into_iter().map(|alert| (alert["labels"]["severity"].as_str().unwrap().to_owned(), alert)).collect();
        alerts.sort_by(|(one, _), (other, _)| one.cmp(other));
        alerts
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Severity and status of what Alertmanager told its receiver since this was last asked.
fn told(stub: &Stub) -> Vec<(String, String)> {
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    let said = stub.take().into_iter().flat_map(|request| request.json()["alerts"].as_array().unwrap().clone());
    said.map(|alert| (word(&alert["labels"]["severity"]), word(&alert["status"]))).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(one, other)| ((*one).to_owned(), (*other).to_owned())).collect()
}

#[test]
fn a_finding_fires_escalates_and_resolves_once() {
    let stub = Stub::answering(&[]);
    let alertmanager = Alertmanager::start(&stub.url("/"));
    let section = format!("[[alertmanager]]\nname = \"am\"\nurl = \"{}\"\n", alertmanager.url);
    let mut outlet = sink(&section, &[]).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut deliver = |finding: &Finding| {
        let deliveries = runtime.block_on(outlet.sink.deliver(std::slice::from_ref(finding)));
        assert_eq!(deliveries, [Delivery::Accepted], "{:?}", outlet.sink.last_answer());
    };

    let now = Clock::system().now();
    let mut finding = Finding { severity: Severity::Medium, at: now, ..fixture("stuffing") };
    deliver(&finding);
    let firing = alertmanager.firing();
    assert_eq!(firing.len(), 1);
    let (labels, annotations) = (&firing[0].1["labels"], &firing[0].1["annotations"]);
    assert_eq!(labels["alertname"], "address_failure_spike");
    assert_eq!(labels["finding_id"], finding.finding_id.to_string());
    assert_eq!((&labels["severity"], &labels["entity"]), (&"medium".into(), &"203.0.113.7".into()));
    assert_eq!(annotations["summary"], "Credential stuffing from 203.0.113.7");
    assert_eq!(firing[0].1["startsAt"], finding.episode.first_seen_at.to_string());
    // Four hours from now: without an end of its own it would be forgotten within five minutes.
    let ends_at: jiff::Timestamp = firing[0].1["endsAt"].as_str().unwrap().parse().unwrap();
    let hold = ends_at.as_millisecond() - now.0;
    assert!((14_390_000..14_410_000).contains(&hold), "{hold}");
    let mut seen = Vec::new();
    until("the receiver to hear of it", || {
        seen.extend(told(&stub));
        (seen == pairs(&[("medium", "firing")])).then_some(())
    });

    // More of the same is the same alert; worse is another, and the milder one ends.
    finding = Finding { lifecycle: Lifecycle::Updated, revision: 2, ..finding };
    deliver(&finding);
    assert_eq!(alertmanager.firing().len(), 1);
    finding = Finding { severity: Severity::Critical, revision: 3, ..finding };
    deliver(&finding);
    assert_eq!(alertmanager.firing().iter().map(|(severity, _)| severity.as_str()).collect::<Vec<_>>(), ["critical"]);
    finding.episode.closed_at = Some(now);
    finding = Finding { lifecycle: Lifecycle::Closed, revision: 4, ..finding };
    deliver(&finding);
    assert_eq!(alertmanager.firing(), []);
    until("the receiver to hear of the end", || {
        seen.extend(told(&stub));
        (seen.iter().filter(|(_, status)| status == "resolved").count() == 2).then_some(())
    });
    // Nobody hears of low and high, which never fired.
    seen.sort();
    seen.dedup();
    assert_eq!(
        seen,
        pairs(&[("critical", "firing"), ("critical", "resolved"), ("medium", "firing"), ("medium", "resolved")])
    );
    // An account that is found out when all seems over.
    deliver(&Finding { at: now.plus_millis(1), revision: 5, ..finding });
    assert_eq!(alertmanager.firing().iter().map(|(severity, _)| severity.as_str()).collect::<Vec<_>>(), ["critical"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_alertmanager_refuses_is_taken_apart_and_its_password_is_sent() {
    let stub =
        Stub::answering(&["400 Bad Request\r\n\r\n\"start time must be before end time\"", "401 Unauthorized\r\n\r\n"]);
    let url = stub.url("/am/");
    let section =
        format!("[[alertmanager]]\nname = \"am\"\nurl = \"{url}\"\nauthorization_env = \"A\"\nhold_minutes = 10\n");
    let mut outlet = sink(&section, &[("A", "Basic dXNlcjpnZWhlaW0=")]).unwrap();
    for start in ["bisect: answered 400", "blocked: answered 401"] {
        let deliveries = outlet.sink.deliver(&[fixture("stuffing"), fixture("network_closed")]).await;
        assert!(reasons(&deliveries).iter().all(|reason| reason.starts_with(start)), "{deliveries:?}");
        assert_eq!(deliveries.len(), 2);
    }
    let received = stub.take();
    assert_eq!(received[0].path, "/am/api/v2/alerts");
    assert_eq!(received[0].headers["authorization"], "Basic dXNlcjpnZWhlaW0=");
}
