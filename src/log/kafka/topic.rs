//! Somebody else's topic, read record by record.
//!
//! Invariant: a record is committed once it was taken or put into the dead letters, never before: at least once, and a
//! record that cannot be read stops nothing.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::consume::{Shares, begin};
use super::dead_letters::DeadLetters;
use super::group::{Feed, FeedEnd, Group, Owner, Raw, feed};
use super::health::Health;
use super::health::client_fault;
use super::producer::Producer;
use super::seat::locked;
use super::{Clients, Failed};
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

    /// Its partition and its offset there: the same whenever it is read.
    #[must_use]
    pub const fn place(self) -> (i32, i64) {
        (self.raw.partition, self.raw.offset)
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
    group: Group,
    shares: Arc<Mutex<Shares<()>>>,
    feed: Feed,
    end: FeedEnd,
    dead: Option<DeadLetters>,
    metrics: KafkaMetrics,
}

/// Nothing is kept of a partition: what is not committed comes again.
struct Seating(Arc<Mutex<Shares<()>>>);

impl Owner for Seating {
    fn assigned(&mut self, partitions: &[i32]) {
        locked(&self.0).assigned(partitions);
    }

    fn revoked(&mut self, partitions: &[i32]) {
        for partition in partitions {
            locked(&self.0).revoked(*partition);
        }
    }
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
        let (end, feed) = feed();
        let shares = Arc::new(Mutex::new(Shares::default()));
        let owner = Box::new(Seating(Arc::clone(&shares)));
        let joined = Group::join(clients, group, name, &health, owner, move |fault| failed(fault));
        let group = joined.map_err(|error| client_fault(&error))?;
        Ok(Self { name: name.to_owned(), group, shares, feed, end, dead, metrics: metrics.clone() })
    }

    /// Gives batches to `take` until `stop`; it answers with what was wrong with each record, if anything, or with why
    /// none can be taken now. Blocks the calling thread.
    pub fn run(
        self,
        stop: &CancellationToken,
        mut take: impl FnMut(&[Incoming<'_>]) -> Result<Vec<Option<Unreadable>>, String>,
    ) {
        while !stop.is_cancelled() {
            begin(&self.group, &self.shares, &self.feed, &self.end, drop);
            let Ok(batch) = self.feed.recv_timeout(LOOK) else { continue };
            // All of a batch are of one partition; if that has gone, so have they.
            let Some(last) = batch.last() else { continue };
            if !locked(&self.shares).open.contains_key(&last.partition) {
                continue;
            }
            let incoming: Vec<Incoming<'_>> = batch.iter().map(|raw| Incoming { raw }).collect();
            let faults = loop {
                match take(&incoming) {
                    Ok(faults) => break faults,
                    Err(error) => {
                        tracing::warn!(topic = self.name, error, "records wait: they cannot be taken now");
                        if stop.is_cancelled() {
                            return self.group.leave();
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
            if let Err(error) = self.group.commit(last.partition, last.offset + 1, "", true) {
                tracing::warn!(topic = self.name, %error, "not committed; these records may come again");
            }
        }
        self.group.leave();
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
