//! Topics whose records a mapping reads: a preset, and one of the user's own.

use std::time::Duration;

use authspike::clock::Clock;
use serde_json::Value;

use super::Login;
use super::client::{acknowledged, create_topic, fresh, read_topic};
use super::cluster::Cluster;
use crate::support::{Instance, until};

fn write(topic: &str, records: &[String]) {
    let properties = Cluster::shared().properties(Login::Plain);
    let records: Vec<(String, String)> = records.iter().map(|line| (String::new(), line.clone())).collect();
    let placed = acknowledged(&properties, topic, &records, Duration::from_secs(20));
    assert!(placed.iter().all(Result::is_ok));
}

fn now() -> String {
    jiff::Timestamp::from_millisecond(Clock::system().now().0).unwrap().to_string()
}

/// A record of Auth0's tenant logs.
fn auth0(id: &str, kind: &str, ip: &str) -> String {
    format!(
        r#"{{"log_id":"{id}","data":{{"date":"{}","type":"{kind}","ip":"{ip}","user_name":"{id}@example.com","user_agent":"curl/8"}}}}"#,
        now()
    )
}

/// A topic for a preset, and one for a mapping that is written beside it.
fn sections(preset: &str, own: &str, dead: &str) -> String {
    let brokers = Cluster::shared().bootstrap();
    format!(
        r#"
[[ingest.kafka]]
topic = "{preset}"
preset = "auth0"
instance = "ins_auth0"
brokers = "{brokers}"
dead_letter_topic = "{dead}"

[[ingest.kafka]]
topic = "{own}"
mapping = "mine"
instance = "ins_own"
brokers = "{brokers}"
dead_letter_topic = "{dead}"

[ingest.mapping.mine]
occurred_at = ["/at"]
ip = ["/from"]
identifier = ["/who"]

[[ingest.mapping.mine.rules]]
when = [{{ at = ["/ok"], is = ["false"] }}]
outcome = "failure"
"#
    )
}

#[test]
fn topics_are_read_by_a_preset_and_by_a_mapping_of_ones_own_each_record_once() {
    let properties = Cluster::shared().properties(Login::Plain);
    let (preset, own, dead) = (fresh("auth0"), fresh("own"), fresh("dead"));
    for topic in [&preset, &own, &dead] {
        create_topic(&properties, topic, 1, &[]);
    }
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("authspike.toml");
    std::fs::write(&config, sections(&preset, &own, &dead)).unwrap();
    let data = folder.path().join("data");
    let start = || Instance::start_as(&data, &[], &["--config", &config.display().to_string()]);

    // Twenty accounts from one address; one record came twice, one is context, two cannot be read.
    let mut records: Vec<String> = (0..20).map(|n| auth0(&format!("l{n}"), "fp", "203.0.113.7")).collect();
    records.push(records[0].clone());
    records.push(auth0("l20", "sapi", "203.0.113.7"));
    records.extend(["no JSON".to_owned(), r#"{"log_id":"l21","data":{"type":"fp"}}"#.to_owned()]);
    write(&preset, &records);
    // Without ids of their own: the same bytes at two places are two attempts.
    let line =
        |who: u32| format!(r#"{{"at":"{}","ok":false,"from":"198.51.100.9","who":"person{who}@example.com"}}"#, now());
    let mut lines: Vec<String> = (0..20).map(line).collect();
    lines.push(lines[0].clone());
    lines.push(lines[0].replace("false", "true"));
    write(&own, &lines);

    let failures = r#"authspike_ingest_events_total{outcome="failure",source="log_record"}"#;
    let skipped = |instance: &Instance| instance.metric("authspike_ingest_records_skipped_total");
    let instance = start();
    until("all that can be read", || (instance.metric(failures) == 41.0 && skipped(&instance) == 2.0).then_some(()));
    assert_eq!(
        instance.metric(r#"authspike_ingest_duplicates_total{source="log_record"}"#),
        0.0,
        "one batch: collapsed"
    );
    let letters = until("the dead letters", || {
        let letters = read_topic(&properties, &dead).unwrap();
        (letters.len() == 2).then_some(letters)
    });
    let reasons: Vec<String> = letters
        .iter()
        .map(|letter| {
            let (_, value) = letter.headers.iter().find(|(header, _)| header == "dlq.reason").unwrap();
            String::from_utf8(value.clone().unwrap()).unwrap()
        })
        .collect();
    assert_eq!(reasons, ["malformed", "missing_field"]);
    // Killed and started anew, it reads on: what it may read again counts once.
    instance.kill();
    write(&preset, &[auth0("l22", "fp", "203.0.113.7")]);
    write(&own, &[line(30)]);
    let instance = start();
    until("the two that came meanwhile", || (instance.metric(failures) >= 2.0).then_some(()));
    instance.settle();
    assert_eq!(instance.metric(failures), 2.0, "nothing is counted twice");
    let open: Vec<Value> = serde_json::from_str(&instance.admin("/v1/findings").1).unwrap();
    let mut told: Vec<(&str, &str)> =
        open.iter().map(|one| (one["tenant"].as_str().unwrap(), one["entity"]["value"].as_str().unwrap())).collect();
    told.sort_unstable();
    assert_eq!(told, [("ins_auth0", "203.0.113.7"), ("ins_own", "198.51.100.9")]);
    assert!(!instance.said().contains("@example.com"));
}
