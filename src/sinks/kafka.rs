//! Kafka: findings into a topic of the user's own, keyed by finding.
//!
//! Invariant: delivered means that every replica in sync has it. The key keeps a finding's revisions in one partition and so
//! in order.
//!
//! Not here: the topics that authspike itself runs on (`log::kafka`). This one is for whoever reads findings.

use std::collections::BTreeMap;

use async_trait::async_trait;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};

use super::credential::{Credential, Variables};
use super::format::Body;
use super::section::{SecretKeys, Section, section, shared_keys};
use super::{Delivery, Sink};
use crate::finding::Finding;

/// Below the million that every broker takes, with room for key and headers. What is longer loses lists first.
const MAX_VALUE_BYTES: usize = 900_000;
/// Below the time after which a delivery counts as hung.
const TIMEOUT: &str = "30000";
/// What the guarantee rests on.
const OURS: [&str; 5] =
    ["bootstrap.servers", "acks", "enable.idempotence", "message.timeout.ms", "delivery.timeout.ms"];
/// Secrets are named, not written.
const SECRETS: [&str; 2] = ["sasl.password", "ssl.key.password"];

section! {
    /// `[[sinks.kafka]]`
    pub struct Config {
        /// `host:port` of some brokers, parted by commas.
        brokers: String = String::new(),
        /// The topic; it must be there.
        topic: String = String::new(),
        /// What a value is.
        body: Body = Body::Ocsf,
        /// For librdkafka as they are.
        properties: BTreeMap<String, String> = BTreeMap::new(),
        /// The variable that holds the password of SASL.
        password_env: Option<String> = None,
        /// The file that holds it.
        password_file: Option<std::path::PathBuf> = None,
    }
}

impl Config {
    fn password(&self) -> SecretKeys<'_> {
        SecretKeys { key: "password", env: self.password_env.as_deref(), file: self.password_file.as_deref() }
    }
}

impl Section for Config {
    shared_keys!();

    fn secrets(&self) -> Vec<SecretKeys<'_>> {
        vec![self.password()]
    }

    fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.brokers.split(',').any(|broker| broker.trim().is_empty()) {
            faults.push("brokers: must be host:port, several parted by commas".to_owned());
        }
        if self.topic.is_empty() {
            faults.push("topic: must not be empty".to_owned());
        }
        for name in self.properties.keys() {
            if OURS.contains(&name.as_str()) {
                faults.push(format!("properties.{name}: cannot be set: that a finding arrives rests on it"));
            }
            if SECRETS.contains(&name.as_str()) {
                faults.push(format!("properties.{name}: is a secret: name it in password_env or password_file"));
            }
        }
        faults
    }
}

/// The sink.
pub struct Kafka {
    producer: FutureProducer,
    topic: String,
    body: Body,
}

impl Kafka {
    /// A sink for `config`. Connects when there is something to send.
    ///
    /// # Errors
    /// The secret is not there, or librdkafka does not know a property.
    pub fn new(config: &Config, variables: &Variables) -> Result<Self, String> {
        let mut client = ClientConfig::new();
        for (name, value) in &config.properties {
            client.set(name, value);
        }
        if let Some(password) = Credential::load(config.password(), variables)? {
            client.set("sasl.password", password.loaded().expose());
        }
        client
            .set("bootstrap.servers", &config.brokers)
            .set("client.id", "authspike-sink")
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", TIMEOUT);
        let producer = client.create().map_err(|error| match error {
            KafkaError::ClientConfig(_, what, key, _) => format!("properties.{key}: {what}"),
            error => error.to_string(),
        })?;
        Ok(Self { producer, topic: config.topic.clone(), body: config.body })
    }

    fn unplaced(&self, error: &KafkaError) -> Delivery {
        let topic = &self.topic;
        match error.rdkafka_error_code() {
            Some(Code::TopicAuthorizationFailed) => Delivery::Blocked(format!("not allowed to write to topic {topic}")),
            Some(Code::ClusterAuthorizationFailed) => {
                Delivery::Blocked(format!("not allowed to write to topic {topic}, or to be idempotent"))
            }
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => {
                Delivery::Blocked(format!("topic {topic} does not exist"))
            }
            Some(Code::MessageSizeTooLarge | Code::InvalidMessageSize) => {
                Delivery::Refused(format!("topic {topic} takes no value of that size"))
            }
            _ => Delivery::retry(error.to_string()),
        }
    }
}

#[async_trait]
impl Sink for Kafka {
    async fn deliver(&mut self, findings: &[Finding]) -> Vec<Delivery> {
        let mut sent = Vec::with_capacity(findings.len());
        for finding in findings {
            let value = match self.body.line_within(finding, MAX_VALUE_BYTES) {
                Ok(Some(value)) => value,
                Ok(None) => {
                    sent.push(Err(Delivery::Refused("it is too long even without its lists".to_owned())));
                    continue;
                }
                Err(error) => {
                    sent.push(Err(Delivery::Refused(error.to_string())));
                    continue;
                }
            };
            let (key, revision) = (finding.finding_id.to_string(), finding.revision_id.to_string());
            let headers = OwnedHeaders::new_with_capacity(2)
                .insert(Header { key: "content-type", value: Some("application/json") })
                .insert(Header { key: "revision-id", value: Some(revision.as_str()) });
            let record = FutureRecord::to(&self.topic).key(&key).payload(&value).headers(headers);
            // No waiting for room: what does not fit is due again.
            sent.push(self.producer.send_result(record).map_err(|(error, _)| self.unplaced(&error)));
        }
        let mut deliveries = Vec::with_capacity(sent.len());
        for answer in sent {
            deliveries.push(match answer {
                Err(delivery) => delivery,
                Ok(answer) => match answer.await {
                    Ok(Ok(_)) => Delivery::Accepted,
                    Ok(Err((error, _))) => self.unplaced(&error),
                    Err(_) => Delivery::retry("the producer is closed"),
                },
            });
        }
        deliveries
    }
}
