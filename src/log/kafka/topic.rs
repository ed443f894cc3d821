//! Somebody else's topic, read record by record.
//!
//! Invariant: a record is committed once it was taken or put into the dead letters, never before: at least once, and a
//! record that cannot be read stops nothing.

use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::consume::{Consumer, Partitions};
use super::dead_letters::DeadLetters;
use super::group::{Feed, Raw};
use super::health::Health;
use super::producer::Producer;
use super::{Clients, Failed, client_fault};
use crate::event::Timestamp;
use crate::metrics::KafkaMetrics;

/// How soon a stop is noticed.
const LOOK: Duration = Duration::from_millis(250);
/// Between tries when the records cannot be taken.
const RETRY_WAIT: Duration = Duration::from_secs(1);

/// A record of the topic.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    raw: &'a Raw,
}

impl<'a> Incoming<'a> {
    /// Its value; empty where it has none.
    #[must_use]
    pub fn value(self) -> &'a [u8] {
        self.raw.value.as_deref().unwrap_or_default()
    }

    /// The text of a header.
    #[must_use]
    pub fn header(self, name: &str) -> Option<&'a str> {
        let (_, value) = self.raw.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok()
    }

    /// When it was put into the topic.
    #[must_use]
    pub const fn appended_at(self) -> Timestamp {
        Timestamp(self.raw.appended_at)
    }
}

/// Why a record is passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The value of the `reason` label.
    pub reason: &'static str,
    /// For a person; holds nothing of the record.
    pub error: String,
}

/// A topic that is read.
pub struct Topic {
    name: String,
    consumer: Consumer,
    feed: Feed,
    dead: Option<DeadLetters>,
    metrics: KafkaMetrics,
}

/// Nothing to keep: what is not committed comes again.
struct Uncounted;

impl Partitions for Uncounted {
    fn begun(&self, _: i32) {}

    fn ended(&self, _: &[i32]) {}
}

impl Topic {
    /// Joins `group` for the topic `name`. What cannot be read goes to the topic `dead_letters`, if there is one.
    ///
    /// # Errors
    /// What the clients' settings lack.
    pub fn join(
        clients: &Clients,
        group: &str,
        name: &str,
        dead_letters: Option<&str>,
        metrics: &KafkaMetrics,
        failed: Failed,
    ) -> Result<Self, String> {
        let health = Arc::new(Health::new("source", metrics.clone()));
        let dead = match dead_letters {
            Some(topic) => {
                let failed = Arc::clone(&failed);
                let producer = Producer::new(clients, Arc::clone(&health), move |fault| failed(fault));
                let producer = producer.map_err(|error| client_fault(&error))?;
                Some(DeadLetters::new(Arc::new(producer), topic.to_owned()))
            }
            None => None,
        };
        let (consumer, feed) =
            Consumer::join(clients, group, name, &health, Arc::new(Uncounted), move |fault| failed(fault))?;
        Ok(Self { name: name.to_owned(), consumer, feed, dead, metrics: metrics.clone() })
    }

    /// Gives batches to `take` until `stop`; it answers with what was wrong with each record, if anything, or with why
    /// none can be taken now. Blocks the calling thread.
    pub fn run(
        self,
        stop: &CancellationToken,
        mut take: impl FnMut(&[Incoming<'_>]) -> Result<Vec<Option<Unreadable>>, String>,
    ) {
        while !stop.is_cancelled() {
            let batch = match self.feed.recv_timeout(LOOK) {
                Ok(batch) => batch,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => {
                    std::thread::sleep(LOOK);
                    continue;
                }
            };
            let incoming: Vec<Incoming<'_>> = batch.iter().map(|raw| Incoming { raw }).collect();
            let faults = loop {
                match take(&incoming) {
                    Ok(faults) => break faults,
                    Err(error) => {
                        tracing::warn!(topic = self.name, error, "records wait: they cannot be taken now");
                        if stop.is_cancelled() {
                            return self.consumer.leave();
                        }
                        std::thread::sleep(RETRY_WAIT);
                    }
                }
            };
            for (raw, fault) in batch.iter().zip(faults) {
                if let Some(fault) = fault {
                    self.pass_over(raw, &fault);
                }
            }
            // All of a batch are of one partition.
            if let Some(last) = batch.last()
                && let Err(error) = self.consumer.commit(last.partition, last.offset + 1)
            {
                tracing::warn!(topic = self.name, %error, "not committed; these records may come again");
            }
        }
        self.consumer.leave();
    }

    fn pass_over(&self, raw: &Raw, fault: &Unreadable) {
        if let Some(dead) = &self.dead {
            return dead.put(&self.name, raw, fault.reason, &fault.error);
        }
        self.metrics.dead_letters.with_label_values(&[self.name.as_str(), fault.reason]).inc();
        let (partition, offset) = (raw.partition, raw.offset);
        tracing::warn!(topic = self.name, partition, offset, error = fault.error, "a record was passed over");
    }
}
