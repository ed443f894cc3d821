//! The same input makes the same findings on the embedded log and on Kafka, with one, two and three detectors.

use super::cluster::Cluster;
use super::fleet::{ALL, Fleet, post, traffic};
use crate::support::{Instance, findings};

const IDENTIFIER_KEY: (&str, &str) =
    ("AUTHSPIKE_IDENTIFIER_KEY", "5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f");

#[test]
fn findings_are_the_same_on_the_embedded_log_and_on_kafka_with_any_number_of_detectors() {
    let attempts = traffic("70m");
    let embedded = tempfile::tempdir().unwrap();
    let instance = Instance::start_with(embedded.path(), &[IDENTIFIER_KEY]);
    post(&instance, &attempts);
    instance.settle();
    let reference = instance.findings();
    assert!(instance.terminate().success());
    let rules = ["address_failure_spike", "account_failure_spike", "network_failure_spike", "distributed_attack"];
    for rule in rules {
        assert!(reference.values().any(|line| line.contains(rule)), "no {rule} among {}", reference.len());
    }

    for detectors in 1..=3 {
        let fleet = Fleet::new(Cluster::shared(), 6, 1, "classic");
        let first = fleet.start(&ALL);
        let others: Vec<_> = (1..detectors).map(|_| fleet.start(&["detect"])).collect();
        post(&first, &attempts);
        let revisions = fleet.settled();
        let file = first.data_dir.join("findings.jsonl");
        fleet.delivered(&revisions, std::slice::from_ref(&file));
        assert!(first.terminate().success());
        assert!(others.into_iter().all(|other| other.terminate().success()));
        let lines = findings(&file);
        assert_eq!(lines.keys().collect::<Vec<_>>(), reference.keys().collect::<Vec<_>>(), "{detectors} detectors");
        for (revision, line) in &lines {
            assert_eq!(Some(line), reference.get(revision), "{detectors} detectors");
        }
    }
}
