//! Records that cannot be read, put where somebody can look at them.
//!
//! Invariant: a record that cannot be read never stops its partition. If it cannot be put into the dead-letter topic
//! either, its place in its own topic is logged; it is still there.

use std::sync::Arc;

use super::group::Raw;
use super::producer::{Message, Producer, Unplaced};

/// The dead-letter topic. Clones share the producer.
#[derive(Clone)]
pub(super) struct DeadLetters {
    producer: Arc<Producer>,
    topic: String,
}

impl DeadLetters {
    pub(super) const fn new(producer: Arc<Producer>, topic: String) -> Self {
        Self { producer, topic }
    }

    /// Puts `raw`, which came from `topic`, there. `reason` is a label, `error` a sentence; neither holds anything of the
    /// value. Blocks the calling thread.
    pub(super) fn put(&self, topic: &str, raw: &Raw, reason: &str, error: &str) {
        let (partition, offset) = (raw.partition.to_string(), raw.offset.to_string());
        let own = [
            ("dlq.reason", reason),
            ("dlq.error", error),
            ("dlq.topic", topic),
            ("dlq.partition", partition.as_str()),
            ("dlq.offset", offset.as_str()),
        ];
        let theirs = raw.headers.iter().filter_map(|(name, value)| Some((&**name, std::str::from_utf8(value).ok()?)));
        let headers: Vec<_> = own.into_iter().chain(theirs).collect();
        let message = Message {
            topic: &self.topic,
            partition: None,
            key: raw.key.as_deref().unwrap_or_default(),
            value: raw.value.as_deref(),
            headers: &headers,
        };
        self.producer.health().metrics().dead_letters.with_label_values(&[topic, reason]).inc();
        let (partition, offset) = (raw.partition, raw.offset);
        match self.producer.append_blocking(std::iter::once(message)) {
            Ok(_) => tracing::warn!(topic, partition, offset, error, "a record went to the dead letters"),
            Err(fault) => {
                let fault = match fault {
                    Unplaced::Full => "the producer's queue is full".to_owned(),
                    Unplaced::Failed(fault) => fault,
                };
                tracing::error!(topic, partition, offset, error, fault, "a record was passed over");
            }
        }
    }
}
