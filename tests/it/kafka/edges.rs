//! Kafka at the edges of an instance that runs on its embedded log: other people's topics as sources, findings into a
//! topic of the user's own.

use super::Login;
use super::client::{acknowledged, create_topic, fresh, read_topic};
use super::cluster::Cluster;
use super::fleet::traffic;
use crate::support::{Instance, until};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Hashes are comparable between instances.
const IDENTIFIER_KEY: (&str, &str) =
    ("AUTHSPIKE_IDENTIFIER_KEY", "5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f");

fn configured(folder: &std::path::Path, text: &str) -> Instance {
    let config = folder.join("authspike.toml");
    std::fs::write(&config, text).unwrap();
    Instance::start_as(&folder.join("data"), &[IDENTIFIER_KEY], &["--config", &config.display().to_string()])
}

#[test]
fn a_topic_of_attempts_is_a_source_and_what_cannot_be_read_stops_nothing() {
    let properties = Cluster::shared().properties(Login::Plain);
    let (topic, dead) = (fresh("attempts"), fresh("dead"));
    create_topic(&properties, &topic, 1, &[]);
    create_topic(&properties, &dead, 1, &[]);
    let attempts: Vec<(String, String)> = traffic("40m").into_iter().map(|line| (String::new(), line)).collect();
    let poison = [("p", "no JSON"), ("p", r#"{"id":"1"}"#), ("p", "")].map(|(key, value)| (key.into(), value.into()));
    let half = attempts.len() / 2;
    let write = |records: &[(String, String)]| {
        let placed = acknowledged(&properties, &topic, records, Duration::from_secs(20));
        assert!(placed.iter().all(Result::is_ok));
    };
    write(&attempts[..half]);
    write(&poison);

    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "[[ingest.kafka]]\ntopic = \"{topic}\"\nbrokers = \"{}\"\ngroup = \"{topic}\"\ndead_letter_topic = \"{dead}\"\n",
        Cluster::shared().bootstrap()
    );
    let instance = configured(folder.path(), &text);
    let events = |instance: &Instance| instance.metric("authspike_detect_events_total");
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let wanted = |count: usize| count as f64;
    until("the first half", || (events(&instance) == wanted(half)).then_some(()));
    let letters = until("the dead letters", || {
        let letters = read_topic(&properties, &dead).unwrap();
        (letters.len() == poison.len()).then_some(letters)
    });
    for letter in &letters {
        let header = |name: &str| {
            let (_, value) = letter.headers.iter().find(|(header, _)| header == name).unwrap();
            String::from_utf8(value.clone().unwrap()).unwrap()
        };
        assert_eq!(header("dlq.topic"), topic);
        assert!(!header("dlq.error").is_empty() && header("dlq.offset").parse::<u64>().is_ok());
        assert!(["malformed", "missing_field"].contains(&header("dlq.reason").as_str()));
        assert!(
            poison.iter().any(|(_, value): &(String, String)| value.as_bytes() == letter.value.as_deref().unwrap())
        );
    }
    // Killed, it reads on from what it had committed, or a little before: nothing is counted twice and nothing is missing.
    instance.kill();
    write(&attempts[half..]);
    let instance = configured(folder.path(), &text);
    let taken = || instance.metric(r#"authspike_ingest_events_total{outcome="failure",source="attempt_report"}"#);
    until("the second half", || (taken() > 0.0 && lag(&topic) == 0).then_some(()));
    instance.settle();
    let findings = instance.findings();
    assert!(!findings.is_empty());
    // The same input at the front door.
    let other = tempfile::tempdir().unwrap();
    let front = Instance::start_with(other.path(), &[IDENTIFIER_KEY]);
    for lines in attempts.chunks(500) {
        let lines: Vec<&str> = lines.iter().map(|(_, line)| line.as_str()).collect();
        front.attempts(&lines.join("\n")).unwrap();
    }
    front.settle();
    // While it was dead time went on, so figures may differ; what was found does not.
    let ids = |findings: &BTreeMap<String, String>| -> BTreeSet<String> {
        let id = |line: &String| {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            record["finding_info"]["uid"].as_str().unwrap().to_owned()
        };
        findings.values().map(id).collect()
    };
    assert_eq!(ids(&findings), ids(&front.findings()));
}

/// Records of `topic` that its group, which bears its name, has not committed.
fn lag(topic: &str) -> i64 {
    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    let mut client = super::client::config(&Cluster::shared().properties(Login::Plain));
    let client: BaseConsumer = client.set("group.id", topic).create().unwrap();
    let mut list = rdkafka::TopicPartitionList::new();
    list.add_partition(topic, 0);
    let committed = client.committed_offsets(list, Duration::from_secs(10)).unwrap();
    let elements = committed.elements();
    let behind = elements.iter().map(|element| {
        let (_, end) = client.fetch_watermarks(topic, element.partition(), Duration::from_secs(10)).unwrap();
        end - element.offset().to_raw().unwrap().max(0)
    });
    behind.sum()
}

#[test]
fn findings_go_into_a_topic_of_the_users_own_keyed_by_finding() {
    let properties = Cluster::shared().properties(Login::Plain);
    let topic = fresh("findings");
    create_topic(&properties, &topic, 3, &[]);
    let folder = tempfile::tempdir().unwrap();
    let section = format!(
        "[[sinks.kafka]]\nname = \"bus\"\ntopic = \"{topic}\"\nbrokers = \"{}\"\nproperties = {{ \"linger.ms\" = \"2\" }}\n",
        Cluster::shared().bootstrap()
    );
    let instance = configured(folder.path(), &section);
    for lines in traffic("40m").chunks(500) {
        instance.attempts(&lines.join("\n")).unwrap();
    }
    instance.settle();
    let findings = instance.findings();
    until("the topic to have them", || {
        let records = read_topic(&properties, &topic).unwrap();
        for record in &records {
            let value = String::from_utf8(record.value.clone().unwrap()).unwrap();
            let parsed: serde_json::Value = serde_json::from_str(&value).unwrap();
            let revision = parsed["metadata"]["uid"].as_str().unwrap();
            assert_eq!(findings.get(revision), Some(&value), "the same line as in the file");
            assert_eq!(record.key.as_deref(), parsed["finding_info"]["uid"].as_str().map(str::as_bytes));
        }
        (records.len() == findings.len()).then_some(())
    });
    assert!(instance.terminate().success());
}

#[test]
fn a_sink_whose_topic_is_missing_is_blocked_and_keeps_everything() {
    let folder = tempfile::tempdir().unwrap();
    let topic = fresh("missing");
    let section = format!(
        "[[sinks.kafka]]\nname = \"bus\"\ntopic = \"{topic}\"\nbrokers = \"{}\"\nproperties = {{ \"topic.metadata.propagation.max.ms\" = \"500\" }}\n",
        Cluster::shared().bootstrap()
    );
    let instance = configured(folder.path(), &section);
    for lines in traffic("40m").chunks(500) {
        instance.attempts(&lines.join("\n")).unwrap();
    }
    instance.settle();
    let findings = instance.findings().len();
    until("the sink to be blocked", || instance.said().contains("does not exist").then_some(()));
    #[expect(clippy::cast_precision_loss, reason = "a few dozen")]
    let all = findings as f64;
    until("all of it to wait", || (instance.metric("authspike_outbox_depth{sink=\"bus\"}") == all).then_some(()));
}
