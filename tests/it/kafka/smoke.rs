//! Is the fixture a real Kafka, and does it do what the tests above it rely on?

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;

use super::client::{Properties, acknowledged, config, create_topic, fresh, read_topic};
use super::cluster::resident_mib;
use super::leash::{Leash, runs};
use super::{Cluster, Login, Spec};
use crate::support::until;

/// Longer than a fail-over takes.
const PATIENT: Duration = Duration::from_secs(20);
/// Long enough for an answer, short enough for a test that expects none.
const BRIEF: Duration = Duration::from_secs(2);

fn records(range: std::ops::Range<usize>) -> Vec<(String, String)> {
    range.map(|at| (format!("key {at}"), format!("value {at}"))).collect()
}

fn write(
    properties: &Properties,
    topic: &str,
    range: std::ops::Range<usize>,
    patience: Duration,
) -> Result<(), KafkaError> {
    acknowledged(properties, topic, &records(range), patience).into_iter().try_for_each(|result| result.map(drop))
}

/// The keys that lie in a topic, each of them once.
fn keys(properties: &Properties, topic: &str) -> BTreeSet<String> {
    let records = read_topic(properties, topic).unwrap();
    let keys: BTreeSet<String> =
        records.iter().map(|record| String::from_utf8(record.key.clone().unwrap()).unwrap()).collect();
    assert_eq!(keys.len(), records.len(), "something was written twice");
    keys
}

fn expected(range: std::ops::Range<usize>) -> BTreeSet<String> {
    records(range).into_iter().map(|(key, _)| key).collect()
}

#[test]
fn what_is_written_is_read_back_whole() {
    let cluster = Cluster::shared();
    let client = cluster.properties(Login::Plain);
    let topic = fresh("written");
    create_topic(&client, &topic, 3, &[]);
    let places = acknowledged(&client, &topic, &records(0..500), PATIENT);
    let places: BTreeSet<(i32, i64)> = places.into_iter().map(Result::unwrap).collect();
    assert_eq!(places.len(), 500);
    let read = read_topic(&client, &topic).unwrap();
    let read_places: BTreeSet<(i32, i64)> = read.iter().map(|record| (record.partition, record.offset)).collect();
    assert_eq!(read_places, places);
    let pairs: BTreeSet<_> = read.into_iter().map(|record| (record.key.unwrap(), record.value.unwrap())).collect();
    assert_eq!(pairs, records(0..500).into_iter().map(|(key, value)| (key.into(), value.into())).collect());
    let _ = writeln!(std::io::stderr(), "kafka: a broker takes {} MiB", resident_mib(cluster.process(0)));
    // Small enough for four of them beside the program on a modest machine.
    let resident = resident_mib(cluster.process(0));
    assert!(resident < 600, "a broker takes {resident} MiB");
}

#[test]
fn both_group_protocols_hand_out_partitions_and_pass_them_on_in_seconds() {
    let client = Cluster::shared().properties(Login::Plain);
    let topic = fresh("grouped");
    create_topic(&client, &topic, 4, &[]);
    write(&client, &topic, 0..100, PATIENT).unwrap();
    for protocol in ["classic", "consumer"] {
        let group = fresh("group");
        let member = || -> BaseConsumer {
            let mut config = config(&client);
            config.set("group.id", &group).set("group.protocol", protocol).set("auto.offset.reset", "earliest");
            if protocol == "classic" {
                config.set("partition.assignment.strategy", "cooperative-sticky").set("session.timeout.ms", "2000");
                config.set("heartbeat.interval.ms", "500");
            }
            let consumer: BaseConsumer = config.create().unwrap();
            consumer.subscribe(&[&topic]).unwrap();
            consumer
        };
        let poll = |consumer: &BaseConsumer| {
            let message = consumer.poll(Duration::from_millis(50))?.unwrap();
            Some(String::from_utf8(message.key().unwrap().to_vec()).unwrap())
        };
        let first = member();
        let mut seen = BTreeSet::new();
        until("all records", || {
            seen.extend(poll(&first));
            (seen == expected(0..100)).then_some(())
        });
        let second = member();
        let assigned = |consumer: &BaseConsumer| consumer.assignment().unwrap().count();
        until("half of the partitions", || {
            poll(&first);
            poll(&second);
            (assigned(&first) == 2 && assigned(&second) == 2).then_some(())
        });
        drop(first);
        until("the other half", || {
            poll(&second);
            (assigned(&second) == 4).then_some(())
        });
    }
}

#[test]
fn a_killed_broker_comes_back_with_everything_it_acknowledged() {
    let mut cluster = Cluster::start(Spec::default());
    let client = cluster.properties(Login::Plain);
    let topic = fresh("kept");
    create_topic(&client, &topic, 2, &[]);
    write(&client, &topic, 0..200, PATIENT).unwrap();
    let before = cluster.process(0);
    cluster.kill(0);
    assert!(!runs(before));
    assert!(write(&client, &topic, 200..201, BRIEF).is_err());
    cluster.restart(0);
    write(&client, &topic, 300..400, PATIENT).unwrap();
    assert_eq!(keys(&client, &topic), &expected(0..200) | &expected(300..400));
    // Asked to stop instead, and frozen for a while: the same.
    cluster.stop(0);
    cluster.restart(0);
    cluster.pause(0);
    assert!(write(&client, &topic, 400..401, BRIEF).is_err());
    cluster.resume(0);
    write(&client, &topic, 500..600, PATIENT).unwrap();
    let kept = keys(&client, &topic);
    let missing: Vec<_> = expected(500..600).difference(&kept).cloned().collect();
    assert!(missing.is_empty() && kept.is_superset(&expected(0..200)), "{missing:?}");
}

#[test]
fn of_three_brokers_one_may_be_away_and_two_may_not() {
    let mut cluster = Cluster::start(Spec { brokers: 3, replication: 3, min_isr: 2, ..Spec::default() });
    let client = cluster.properties(Login::Plain);
    let topic = fresh("copied");
    create_topic(&client, &topic, 3, &[]);
    write(&client, &topic, 0..100, PATIENT).unwrap();
    cluster.kill(0);
    write(&client, &topic, 100..200, PATIENT).unwrap();
    cluster.kill(1);
    assert!(write(&client, &topic, 200..201, BRIEF).is_err(), "acknowledged by one of three");
    cluster.restart_all();
    write(&client, &topic, 300..400, PATIENT).unwrap();
    let kept = keys(&client, &topic);
    let missing: Vec<_> = (&expected(0..200) | &expected(300..400)).difference(&kept).cloned().collect();
    assert!(missing.is_empty(), "{missing:?}");
    cluster.kill_all();
    cluster.restart_all();
    assert_eq!(keys(&client, &topic), kept);
}

/// Why a client does not get in.
fn rejection(properties: &Properties) -> RDKafkaErrorCode {
    let client: BaseConsumer = config(properties).create().unwrap();
    // It connects when it has something to ask.
    client.fetch_metadata(None, BRIEF).unwrap_err();
    until("a rejection", || client.poll(Duration::from_millis(50))?.unwrap_err().rdkafka_error_code())
}

#[test]
fn a_secured_broker_lets_in_who_can_prove_it_and_no_further_than_allowed() {
    let cluster = Cluster::secured();
    let topic = fresh("secured");
    create_topic(&cluster.properties(Login::Plain), &topic, 1, &[]);
    cluster.allow("receive", &["--operation", "Write", "--operation", "Describe", "--topic", &topic]);
    cluster.allow("reader", &["--operation", "Read", "--operation", "Describe", "--topic", &topic]);

    let scram = cluster.properties(Login::Scram("receive"));
    write(&scram, &topic, 0..10, PATIENT).unwrap();
    let mtls = cluster.properties(Login::Certificate("reader"));
    assert_eq!(keys(&mtls, &topic), expected(0..10));

    // Each in, none allowed what it asks for.
    let unauthorized = Some(RDKafkaErrorCode::TopicAuthorizationFailed);
    let other = fresh("secured");
    create_topic(&cluster.properties(Login::Plain), &other, 1, &[]);
    let refused = write(&scram, &other, 10..11, BRIEF).unwrap_err();
    assert_eq!(refused.rdkafka_error_code(), unauthorized);
    assert_eq!(read_topic(&scram, &topic).unwrap_err().rdkafka_error_code(), unauthorized);
    assert_eq!(read_topic(&mtls, &other).unwrap_err().rdkafka_error_code(), unauthorized);
    // Who may write to no topic at all may not be an idempotent producer; who may not even see one is told that.
    let refused = write(&mtls, &topic, 10..11, BRIEF).unwrap_err();
    assert_eq!(refused.rdkafka_error_code(), Some(RDKafkaErrorCode::ClusterAuthorizationFailed));
    let refused = write(&cluster.properties(Login::Scram("stranger")), &topic, 10..11, BRIEF).unwrap_err();
    assert_eq!(refused.rdkafka_error_code(), unauthorized);

    // Neither gets in: with a wrong password, or by TLS without a certificate.
    let wrong = cluster.properties(Login::Password("receive", "not this one"));
    assert_eq!(rejection(&wrong), RDKafkaErrorCode::Authentication);
    let mut nameless = cluster.properties(Login::Certificate("receive"));
    nameless.retain(|property, _| property != "ssl.certificate.location" && property != "ssl.key.location");
    // With TLS 1.3 the client is through the handshake when the broker hangs up; whether its alert is still read is luck.
    let rejected = rejection(&nameless);
    assert!(matches!(rejected, RDKafkaErrorCode::SSL | RDKafkaErrorCode::BrokerTransportFailure), "{rejected}");
    assert_eq!(keys(&mtls, &topic), expected(0..10));
}

#[test]
fn kafkas_own_scripts_run_as_an_operator_types_them() {
    let cluster = Cluster::shared();
    let topic = fresh("typed");
    let server = cluster.bootstrap();
    let made = format!("kafka-topics.sh --bootstrap-server {server} --create --topic {topic} --partitions 5");
    cluster.shell(&made).unwrap();
    let shown =
        cluster.shell(&format!("kafka-topics.sh --bootstrap-server {server} --describe --topic {topic}")).unwrap();
    assert!(shown.contains("PartitionCount: 5"), "{shown}");
    assert!(cluster.shell(&made).unwrap_err().contains("already exists"));
}

#[test]
fn a_broker_does_not_outlive_a_test_process_that_is_killed() {
    const MARK: &str = "AUTHSPIKE_TEST_HOLDS_A_LEASH";
    let folder = std::env::temp_dir();
    if std::env::var_os(MARK).is_some() {
        // The process to be killed: this test again, which holds something long-lived and says what.
        let leash = Leash::start(["sleep", "60"], &folder, Path::new("/dev/null"));
        std::fs::write(std::env::var_os(MARK).unwrap(), leash.process().to_string()).unwrap();
        std::thread::sleep(Duration::from_mins(1));
        return;
    }
    let note = tempfile::NamedTempFile::new().unwrap();
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kafka::smoke::a_broker_does_not_outlive_a_test_process_that_is_killed"])
        .env(MARK, note.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let held = until("the process on its leash", || std::fs::read_to_string(note.path()).unwrap().parse::<u32>().ok());
    assert!(runs(held));
    holder.kill().unwrap();
    assert_eq!(holder.wait().unwrap().signal(), Some(9));
    until("the leash to be noticed", || (!runs(held)).then_some(()));
}
