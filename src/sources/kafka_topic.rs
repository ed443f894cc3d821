//! A topic that already holds what Clerk sends, what a back end reports, or records that a mapping reads: `[[ingest.kafka]]`.
//!
//! Invariant: whoever may write to the topic is believed; there is no signature to verify. A record is at least once in our
//! log, under an id of its own sender or one made of it and its place, so one that is read again is a duplicate.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::Intake;
use crate::event::{Source, Timestamp};
use crate::log::kafka::config::Properties;
use crate::log::kafka::topic::{Incoming, Topic, Unreadable};
use crate::log::kafka::{self, Clients, Failed};
use crate::metrics::KafkaMetrics;
use crate::normalize::identifier::IdentifierKey;
use crate::normalize::mapped::{self, Arrival, Choice, Mapped, Mapping, collapse};
use crate::normalize::{NormalizeError, Normalized, attempt, clerk_webhook};

/// One topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The topic.
    pub topic: String,
    /// What its records are, unless a preset or a mapping reads them.
    pub format: Format,
    /// The preset that reads them.
    pub preset: String,
    /// Or the mapping of `[ingest.mapping.NAME]`.
    pub mapping: String,
    /// The instance their attempts belong to, where the mapping names none.
    pub instance: String,
    /// The consumer group; empty: made of `kafka.group` and the topic's name.
    pub group: String,
    /// Where records go that cannot be read; empty: they are counted and logged.
    pub dead_letter_topic: String,
    /// The brokers, if they are others than those of `[kafka]`.
    pub brokers: String,
    /// For librdkafka, over those of `[kafka]`.
    pub properties: Properties,
}

/// What the records of a topic are that no mapping reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Attempts as `POST /v1/attempts` takes them, one a record.
    #[default]
    Attempts,
    /// Webhook bodies as Clerk sends them; the header `svix-id`, if there is one, is their id.
    ClerkWebhook,
}

/// What reads the records of a topic.
pub(super) enum Reader {
    /// One of ours.
    Format(Format),
    /// A mapping.
    Mapping(Box<Mapping>),
}

impl Reader {
    const fn source(&self) -> Source {
        match self {
            Self::Format(Format::Attempts) => Source::AttemptReport,
            Self::Format(Format::ClerkWebhook) => Source::ClerkWebhook,
            Self::Mapping(_) => Source::LogRecord,
        }
    }
}

impl Config {
    /// Every fault, as `key: what is wrong`.
    #[must_use]
    pub fn validate(&self, own: &BTreeMap<String, mapped::Config>) -> Vec<String> {
        let mut faults = Vec::new();
        if self.topic.is_empty() {
            faults.push("topic: must not be empty".to_owned());
        }
        if self.is_mapped() {
            faults.extend(self.choice().fault(own));
            // "attempts" is what it is where nobody sets it.
            if self.format == Format::ClerkWebhook {
                faults.push("format: not together with preset or mapping".to_owned());
            }
        } else if !self.instance.is_empty() {
            faults.push("instance: only with preset or mapping; these records name theirs".to_owned());
        }
        let named = kafka::Config { properties: self.properties.clone(), ..kafka::Config::default() };
        faults.extend(named.validate());
        faults
    }

    fn choice(&self) -> Choice<'_> {
        Choice { preset: &self.preset, mapping: &self.mapping, instance: &self.instance }
    }

    fn is_mapped(&self) -> bool {
        !self.choice().is_none()
    }

    /// Whether its records are of `format`, and no mapping reads them.
    #[must_use]
    pub fn is_of(&self, format: Format) -> bool {
        self.format == format && !self.is_mapped()
    }

    /// Whether its records may tell of failures.
    #[must_use]
    pub fn has_failures(&self) -> bool {
        self.is_mapped() || self.format == Format::Attempts
    }

    /// What reads its records.
    pub(super) fn reader(&self, own: &BTreeMap<String, mapped::Config>) -> Result<Reader, String> {
        if !self.is_mapped() {
            return Ok(Reader::Format(self.format));
        }
        let mapping = self.choice().compile(own).map_err(|fault| format!("ingest.kafka.{fault}"))?;
        Ok(Reader::Mapping(Box::new(mapping)))
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
    pub(super) name: String,
    pub(super) reader: Reader,
    pub(super) topic: Topic,
    pub(super) intake: Intake,
    pub(super) key: IdentifierKey,
}

impl Reading {
    /// Reads until `stop`. Blocks the calling thread; `runtime` is where events are appended.
    pub fn run(self, runtime: &Handle, stop: &CancellationToken) {
        let Self { name, reader, topic, intake, key } = self;
        let source = reader.source();
        topic.run(stop, |records| {
            let (mut events, mut faults) = (Vec::with_capacity(records.len()), Vec::with_capacity(records.len()));
            intake.metrics.requests.with_label_values(&[source.as_str()]).inc_by(records.len() as u64);
            let mut skipped = 0;
            for record in records {
                // It reached us when it reached the topic: a backlog is not late, and a producer's clock that runs ahead is
                // not believed.
                let received_at = record.appended_at().min(intake.clock.now());
                match read(&reader, &name, *record, received_at, &key) {
                    Ok(normalized) => {
                        skipped += u64::from(normalized.is_none());
                        events.extend(normalized);
                        faults.push(None);
                    }
                    Err(error) => faults.push(Some(Unreadable { reason: error.reason(), error: error.to_string() })),
                }
            }
            if matches!(reader, Reader::Mapping(_)) {
                events = collapse(events, |normalized: &Normalized| &normalized.event);
            }
            runtime.block_on(intake.append(source, events)).map_err(|refused| refused.reason.to_owned())?;
            // Only now: what could not be taken is read again.
            intake.metrics.records_skipped.inc_by(skipped);
            Ok(faults)
        });
    }
}

/// What a record of the topic `name` says; `None`: by its mapping it is no attempt.
fn read(
    reader: &Reader,
    name: &str,
    record: Incoming<'_>,
    received_at: Timestamp,
    key: &IdentifierKey,
) -> Result<Option<Normalized>, NormalizeError> {
    match reader {
        Reader::Format(Format::Attempts) => attempt::normalize(record.value(), Some(received_at), key).map(Some),
        Reader::Format(Format::ClerkWebhook) => {
            clerk_webhook::normalize(record.header("svix-id"), record.value(), Some(received_at), key).map(Some)
        }
        Reader::Mapping(mapping) => {
            let (partition, offset) = record.place();
            let place = format!("{name}:{partition}:{offset}");
            let arrival = Arrival { received_at: Some(received_at), near: received_at, place: &place };
            Ok(match mapping.apply(record.value().trim_ascii(), arrival, key)? {
                Mapped::Attempt(attempt) => Some(*attempt),
                Mapped::Skipped(_) => None,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(section: &str) -> Vec<String> {
        let own = BTreeMap::from([("mine".to_owned(), mapped::Config::default())]);
        serde_json::from_str::<Config>(section).unwrap().validate(&own)
    }

    #[test]
    fn a_preset_or_a_mapping_is_named_once_and_known_and_not_beside_a_format() {
        for right in [
            r#"{"topic":"t"}"#,
            r#"{"topic":"t","format":"clerk_webhook"}"#,
            r#"{"topic":"t","preset":"auth0","instance":"ins_1"}"#,
            // What is wrong with it is told where it stands.
            r#"{"topic":"t","mapping":"mine"}"#,
        ] {
            assert_eq!(faults(right), [""; 0], "{right}");
        }
        for (wrong, fault) in [
            (r#"{"topic":"t","preset":"auth1"}"#, "preset: must be one of alb, auth0"),
            (r#"{"topic":"t","mapping":"yours"}"#, "mapping: is no [ingest.mapping]"),
            (r#"{"topic":"t","preset":"auth0","mapping":"mine"}"#, "mapping: not together with preset"),
            (r#"{"topic":"t","preset":"auth0","format":"clerk_webhook"}"#, "format: not together with preset"),
            (r#"{"topic":"t","preset":"auth0","instance":"a b"}"#, "instance: "),
            (r#"{"topic":"t","instance":"ins_1"}"#, "instance: only with preset or mapping"),
        ] {
            let found = faults(wrong);
            assert!(found.len() == 1 && found[0].starts_with(fault), "{wrong}: {found:?}");
        }
    }
}
