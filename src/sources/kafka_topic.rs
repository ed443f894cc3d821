//! A topic that already holds what Clerk sends or what a back end reports: `[[ingest.kafka]]`.
//!
//! Invariant: whoever may write to the topic is believed; there is no signature to verify. A record is at least once in our
//! log, under an id of its own sender, so one that is read again is a duplicate.

use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::Intake;
use crate::event::Source;
use crate::log::kafka::config::Properties;
use crate::log::kafka::topic::{Incoming, Topic, Unreadable};
use crate::log::kafka::{self, Clients, Failed};
use crate::metrics::KafkaMetrics;
use crate::normalize::identifier::IdentifierKey;
use crate::normalize::{NormalizeError, Normalized, attempt, clerk_webhook};

/// One topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The topic.
    pub topic: String,
    /// What its records are.
    pub format: Format,
    /// The consumer group; empty: made of `kafka.group` and the topic's name.
    pub group: String,
    /// Where records go that cannot be read; empty: they are counted and logged.
    pub dead_letter_topic: String,
    /// The brokers, if they are others than those of `[kafka]`.
    pub brokers: String,
    /// For librdkafka, over those of `[kafka]`.
    pub properties: Properties,
}

/// What the records of a topic are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Attempts as `POST /v1/attempts` takes them, one a record.
    #[default]
    Attempts,
    /// Webhook bodies as Clerk sends them; the header `svix-id`, if there is one, is their id.
    ClerkWebhook,
}

impl Format {
    const fn source(self) -> Source {
        match self {
            Self::Attempts => Source::AttemptReport,
            Self::ClerkWebhook => Source::ClerkWebhook,
        }
    }
}

impl Config {
    /// Every fault, as `key: what is wrong`.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.topic.is_empty() {
            faults.push("topic: must not be empty".to_owned());
        }
        let named = kafka::Config { properties: self.properties.clone(), ..kafka::Config::default() };
        faults.extend(named.validate());
        faults
    }

    /// Joins its group.
    ///
    /// # Errors
    /// What the settings lack.
    pub fn join(&self, ours: &Clients, metrics: &KafkaMetrics, failed: Failed) -> Result<Topic, String> {
        let clients = ours.with(&self.brokers, &self.properties);
        if !clients.config().is_on() {
            return Err(format!("ingest.kafka: topic {}: neither brokers nor kafka.brokers is set", self.topic));
        }
        let group = if self.group.is_empty() {
            format!("{}-source-{}", ours.config().group, self.topic)
        } else {
            self.group.clone()
        };
        let dead = Some(self.dead_letter_topic.as_str()).filter(|topic| !topic.is_empty());
        Topic::join(&clients, &group, &self.topic, dead, metrics, failed)
    }
}

/// A topic that is to be read, and what takes its records.
pub struct Reading {
    pub(super) format: Format,
    pub(super) topic: Topic,
    pub(super) intake: Intake,
    pub(super) key: IdentifierKey,
}

impl Reading {
    /// Reads until `stop`. Blocks the calling thread; `runtime` is where events are appended.
    pub fn run(self, runtime: &Handle, stop: &CancellationToken) {
        let Self { format, topic, intake, key } = self;
        topic.run(stop, |records| {
            let (mut events, mut faults) = (Vec::with_capacity(records.len()), Vec::with_capacity(records.len()));
            for record in records {
                intake.metrics.requests.with_label_values(&[format.source().as_str()]).inc();
                match normalize(format, *record, &intake, &key) {
                    Ok(normalized) => {
                        events.push(normalized);
                        faults.push(None);
                    }
                    Err(error) => faults.push(Some(Unreadable { reason: error.reason(), error: error.to_string() })),
                }
            }
            let appended = runtime.block_on(intake.append(format.source(), events));
            appended.map(|_| faults).map_err(|refused| refused.reason.to_owned())
        });
    }
}

fn normalize(
    format: Format,
    record: Incoming<'_>,
    intake: &Intake,
    key: &IdentifierKey,
) -> Result<Normalized, NormalizeError> {
    // It reached us when it reached the topic: a backlog is not late, and a producer's clock that runs ahead is not believed.
    let received_at = record.appended_at().min(intake.clock.now());
    match format {
        Format::Attempts => attempt::normalize(record.value(), Some(received_at), key),
        Format::ClerkWebhook => {
            clerk_webhook::normalize(record.header("svix-id"), record.value(), Some(received_at), key)
        }
    }
}
