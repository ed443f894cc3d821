//! The topics: which there are, how they must be, and what it takes to make them.
//!
//! Invariant: nothing is created unless it was asked for by `authspike topics --create`. A topic that a broker would create
//! by itself has one partition and no compaction, and nobody would notice until it matters.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use std::sync::{Arc, Mutex, PoisonError};

use super::config::{Clients, Config};
use super::{client_fault, detect_group, findings, health};
use crate::clock::Stopwatch;

/// A cluster that is there answers within this; also how long a start waits for one that is not.
const ASK: Duration = Duration::from_secs(10);
/// A topic that was made a moment ago is not known to every broker yet: for how long one is asked again.
const SPREAD: Duration = Duration::from_secs(5);
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// The names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    /// What happened, by tenant.
    pub events: String,
    /// Snapshots of detectors.
    pub state: String,
    /// Revisions of findings, by finding.
    pub findings: String,
    /// What could not be read.
    pub dead_letters: String,
}

/// One topic as it has to be.
struct Spec {
    name: String,
    partitions: u32,
    settings: BTreeMap<&'static str, &'static str>,
}

impl Topics {
    /// With the configured prefix.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self {
            events: config.topic("events.v1"),
            state: config.topic("state.v1"),
            findings: config.topic("findings.v1"),
            dead_letters: config.topic("events.dlq.v1"),
        }
    }

    fn specs(&self, config: &Config) -> [Spec; 4] {
        let week = "604800000";
        [
            Spec {
                name: self.events.clone(),
                partitions: config.partitions,
                settings: [("cleanup.policy", "delete"), ("retention.ms", week)].into(),
            },
            Spec {
                name: self.state.clone(),
                // That of the events: a partition's snapshots lie in the partition of the same number.
                partitions: config.partitions,
                settings: [
                    ("cleanup.policy", "compact"),
                    ("min.cleanable.dirty.ratio", "0.1"),
                    ("segment.bytes", "67108864"),
                    ("delete.retention.ms", "3600000"),
                    ("max.message.bytes", "1048576"),
                ]
                .into(),
            },
            Spec {
                name: self.findings.clone(),
                partitions: config.partitions,
                settings: [("cleanup.policy", "delete"), ("retention.ms", "2592000000")].into(),
            },
            Spec {
                name: self.dead_letters.clone(),
                partitions: 1,
                settings: [("cleanup.policy", "delete"), ("retention.ms", "2592000000")].into(),
            },
        ]
    }
}

/// Why a start cannot go on, or may.
#[derive(Debug, thiserror::Error)]
pub enum TopicsError {
    /// They may come.
    #[error("{0}")]
    Unreachable(String),
    /// Somebody has to change something.
    #[error("{0}")]
    Wrong(String),
}

/// Keeps what the brokers complain of while a question is asked.
#[derive(Clone, Default)]
struct Complaints(Arc<Mutex<Option<String>>>);

impl ClientContext for Complaints {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(?level, facility, "{message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let kind = match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Authentication) => "the brokers refuse our credentials",
            Some(RDKafkaErrorCode::SSL) => "TLS fails",
            _ => return,
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(format!("kafka: {kind} ({reason})"));
    }
}

impl ConsumerContext for Complaints {}

/// Asks whether every topic is there and as it has to be. Blocks the calling thread, up to ten seconds,
/// and five more where one seems to be missing.
///
/// # Errors
/// See [`TopicsError`]; all faults at once.
pub fn check(clients: &Clients) -> Result<(), TopicsError> {
    let complaints = Complaints::default();
    let client: BaseConsumer<Complaints> = clients
        .plain()
        .create_with_context(complaints.clone())
        .map_err(|error| TopicsError::Wrong(client_fault(&error)))?;
    let (topics, config) = (Topics::of(clients.config()), clients.config());
    let (mut faults, mut found, begun) = (Vec::new(), BTreeMap::new(), Stopwatch::start());
    for spec in topics.specs(config) {
        // One by one: asked for all, the brokers leave out what we may not see.
        let mut asked = partitions(&ask(&client, &spec.name, &complaints)?, &spec.name);
        while asked.is_err() && begun.elapsed() < SPREAD {
            std::thread::sleep(ASK_AGAIN);
            asked = partitions(&ask(&client, &spec.name, &complaints)?, &spec.name);
        }
        match asked {
            Ok(count) => {
                found.insert(spec.name, count);
            }
            Err(fault) => faults.push(fault),
        }
    }
    let (events, state) = (found.get(&topics.events), found.get(&topics.state));
    if let (Some(events), Some(state)) = (events, state)
        && events != state
    {
        faults.push(format!(
            "topic {} has {state} partitions and {} has {events}: they must have the same number",
            topics.state, topics.events
        ));
    }
    if faults.is_empty() { Ok(()) } else { Err(TopicsError::Wrong(faults.join("; "))) }
}

fn ask(client: &BaseConsumer<Complaints>, topic: &str, complaints: &Complaints) -> Result<Metadata, TopicsError> {
    client.fetch_metadata(Some(topic), ASK).map_err(|error| {
        // What the client has to say is told only when it is listened to.
        while client.poll(Duration::ZERO).is_some() {}
        match complaints.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(complaint) => TopicsError::Wrong(complaint),
            None => TopicsError::Unreachable(format!("kafka: no broker can be reached ({error})")),
        }
    })
}

fn partitions(metadata: &Metadata, topic: &str) -> Result<usize, String> {
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let Some(found) = found else { return Err(format!("topic {topic}: the brokers do not know it")) };
    match found.error() {
        Some(error) => {
            let error = KafkaError::MetadataFetch(error.into());
            Err(health::explain(&error, &format!("topic {topic}")))
        }
        None => Ok(found.partitions().len()),
    }
}

/// Creates the topics that are not there; answers with one line each.
///
/// # Errors
/// What the brokers say, all faults at once.
pub async fn create(clients: &Clients) -> Result<Vec<String>, String> {
    let admin: AdminClient<DefaultClientContext> = clients.plain().create().map_err(|error| client_fault(&error))?;
    let (config, options) = (clients.config(), AdminOptions::new().operation_timeout(Some(ASK)));
    let (mut done, mut faults) = (Vec::new(), Vec::new());
    for spec in Topics::of(config).specs(config) {
        let partitions = i32::try_from(spec.partitions).unwrap_or(i32::MAX);
        let copies = TopicReplication::Fixed(i32::from(config.replication));
        let topic = NewTopic::new(&spec.name, partitions, copies);
        let topic = spec.settings.iter().fold(topic, |topic, (name, value)| topic.set(name, value));
        let results = admin.create_topics([&topic], &options).await;
        match results.as_deref() {
            Ok([Ok(name)]) => done.push(format!("{name}: created")),
            Ok([Err((name, RDKafkaErrorCode::TopicAlreadyExists))]) => done.push(format!("{name}: is there already")),
            Ok([Err((name, code))]) => {
                faults.push(health::explain(&KafkaError::AdminOp(*code), &format!("topic {name}")));
            }
            Ok(_) => faults.push(format!("topic {}: the brokers gave no answer", spec.name)),
            Err(error) => faults.push(health::explain(error, &format!("topic {}", spec.name))),
        }
    }
    if faults.is_empty() { Ok(done) } else { Err(faults.join("; ")) }
}

/// The commands that make the topics and grant the rights, as `kafka-topics.sh` and `kafka-acls.sh` take them.
#[must_use]
pub fn commands(config: &Config) -> String {
    let topics = Topics::of(config);
    let brokers = if config.brokers.is_empty() { "localhost:9092" } else { &config.brokers };
    let mut text = String::from("# Topics\n");
    for spec in topics.specs(config) {
        let _ = write!(
            text,
            "kafka-topics.sh --bootstrap-server {brokers} --create --if-not-exists --topic {} --partitions {} \
             --replication-factor {}",
            spec.name, spec.partitions, config.replication
        );
        for (name, value) in &spec.settings {
            let _ = write!(text, " --config {name}={value}");
        }
        text.push('\n');
    }
    let acl = format!("kafka-acls.sh --bootstrap-server {brokers} --add --allow-principal");
    let Topics { events, state, findings, dead_letters } = &topics;
    let (detect, deliver) = (detect_group(config), findings::group_of(config));
    let _ = write!(
        text,
        "\n# Rights of a process with --role receive, as User:receive (choose your own names; one may have several roles)\n\
         {acl} User:receive --operation Describe --operation Write --topic {events}\n\
         {acl} User:receive --operation Describe --topic {state} --topic {findings} --topic {dead_letters}\n\
         \n# Rights of a process with --role detect, as User:detect\n\
         {acl} User:detect --operation Describe --operation Read --operation Write --topic {events} --topic {state}\n\
         {acl} User:detect --operation Describe --operation Write --topic {findings} --topic {dead_letters}\n\
         {acl} User:detect --operation Read --group {detect}\n\
         \n# Rights of a process with --role deliver, as User:deliver\n\
         {acl} User:deliver --operation Describe --operation Read --topic {findings}\n\
         {acl} User:deliver --operation Describe --operation Write --topic {dead_letters}\n\
         {acl} User:deliver --operation Describe --topic {events} --topic {state}\n\
         {acl} User:deliver --operation Read --group {deliver}\n\
         \n# Brokers before Kafka 3.0 also want this of each of them\n\
         # {acl} User:receive --operation IdempotentWrite --cluster\n"
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_name_every_topic_and_both_groups() {
        let config = Config { brokers: "b1:9092,b2:9092".into(), topic_prefix: "t".into(), ..Config::default() };
        let text = commands(&config);
        for needle in [
            "--bootstrap-server b1:9092,b2:9092 --create --if-not-exists --topic t.events.v1 --partitions 12 --replication-factor 3",
            "--topic t.state.v1 --partitions 12 --replication-factor 3 --config cleanup.policy=compact",
            "--topic t.findings.v1",
            "--topic t.events.dlq.v1 --partitions 1",
            "--group authspike-detect",
            "--group authspike-deliver",
        ] {
            assert!(text.contains(needle), "{needle}: {text}");
        }
    }
}
