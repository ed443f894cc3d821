//! The topics: which there are, how they must be, and what it takes to make them.
//!
//! Invariant: nothing is created unless it was asked for by `authspike topics --create`. A topic that a broker would create
//! by itself has one partition and no compaction, and nobody would notice until it matters.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::access::{self, Roles};
use super::config::{Clients, Config};
use super::health::{self, client_fault};

/// A cluster that is there answers within this.
const ASK: Duration = Duration::from_secs(10);

/// From so many copies on, two must have what is acknowledged: one broker may go then, and nothing stops or is lost. With
/// two copies it would stop as soon as one is away.
const COPIES_TO_LOSE_ONE: u16 = 3;

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
    /// Users' names.
    pub aliases: String,
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
            aliases: config.topic("aliases.v1"),
        }
    }

    fn specs(&self, config: &Config) -> [Spec; 5] {
        let week = "604800000";
        let mut specs = [
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
                    // Nothing is too old; but only where `delete` stands may snapshots be deleted that name an account
                    // that was forgotten.
                    ("cleanup.policy", "compact,delete"),
                    ("retention.ms", "-1"),
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
            Spec {
                name: self.aliases.clone(),
                // A million names are some 150 MB: read by all, spread over the brokers like the rest.
                partitions: config.partitions,
                settings: [
                    ("cleanup.policy", "compact"),
                    ("min.cleanable.dirty.ratio", "0.1"),
                    ("segment.bytes", "67108864"),
                    // A receiver that was away for less than a day learns what was forgotten meanwhile as it reads on; one
                    // that starts reads all of it anyway.
                    ("delete.retention.ms", "86400000"),
                    // A name that was forgotten is not in the topic for longer than this, beside the time of a cleaning.
                    ("max.compaction.lag.ms", "86400000"),
                ]
                .into(),
            },
        ];
        if config.replication >= COPIES_TO_LOSE_ONE {
            // The brokers' own default is 1, under which a broker may acknowledge what nobody else has.
            for spec in &mut specs {
                spec.settings.insert("min.insync.replicas", "2");
            }
        }
        specs
    }
}

/// Creates the topics that are not there; answers with one line each.
///
/// # Errors
/// What the brokers say, all faults at once.
pub async fn create(clients: &Clients) -> Result<Vec<String>, String> {
    // It has no way of saying why nobody answers.
    let asking = clients.clone();
    let reached =
        tokio::task::spawn_blocking(move || access::reach(&asking)).await.map_err(|error| error.to_string())?;
    reached.map_err(|error| error.to_string())?;
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
            Ok([Err((name, RDKafkaErrorCode::TopicAuthorizationFailed))]) => faults.push(format!(
                "topic {name}: the brokers do not allow Create on it: `authspike topics` prints what somebody has to do who may"
            )),
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
    for (role, roles) in Roles::EACH {
        let title = format!("# Rights of a process with --role {role}, as User:{role}");
        let _ = match role {
            "receive" => writeln!(text, "\n{title} (choose your own names; one user may have several roles)"),
            _ => writeln!(text, "\n{title}"),
        };
        for (operations, names) in roles.by_operations(&topics) {
            let _ = write!(text, "{acl} User:{role}");
            for operation in operations {
                let _ = write!(text, " --operation {operation}");
            }
            for name in names {
                let _ = write!(text, " --topic {name}");
            }
            text.push('\n');
        }
        if let Some(group) = roles.group(config) {
            let _ = writeln!(text, "{acl} User:{role} --operation Read --group {group}");
        }
    }
    let _ = write!(
        text,
        "\n# Brokers before Kafka 3.0 also want this of each of them\n\
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
            "--topic t.state.v1 --partitions 12 --replication-factor 3 --config cleanup.policy=compact,delete",
            "--config min.insync.replicas=2",
            "--topic t.findings.v1",
            "--topic t.events.dlq.v1 --partitions 1",
            "--topic t.aliases.v1 --partitions 12 --replication-factor 3 --config cleanup.policy=compact",
            "User:receive --operation Describe --operation Read --operation Write --topic t.aliases.v1\n",
            "User:receive --operation Describe --operation Write --topic t.events.v1\n",
            "User:detect --operation Describe --operation Read --operation Write --operation Delete --topic t.events.v1 --topic t.state.v1\n",
            "User:detect --operation Describe --operation Write --topic t.findings.v1 --topic t.events.dlq.v1\n",
            "User:detect --operation Read --group authspike-detect\n",
            "User:deliver --operation Describe --operation Read --operation Delete --topic t.findings.v1\n",
            "User:deliver --operation Describe --operation Write --topic t.events.dlq.v1\n",
            "User:deliver --operation Read --group authspike-deliver\n",
        ] {
            assert!(text.contains(needle), "{needle}: {text}");
        }
    }
}
