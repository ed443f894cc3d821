//! Users' names, shared among receivers over a compacted topic: the identifier's hash is the key, its user the value, and a
//! name that is nobody's any more has none.
//!
//! Invariant: every receiver reads the topic whole, follows it, and tells there what it learned itself, so all come to know
//! the same, whoever was told. A compacted topic keeps the last word on a name, which is not the newest where two receivers
//! were told within a moment: whoever holds the newer one tells it again.
//!
//! An event is never held up for this. A start waits for the first reading, since what is not known yet is counted as two
//! accounts, but for [`FIRST_READING`] at the most, and not at all where the brokers cannot be reached: senders keep what
//! nobody takes for a day only, and two accounts are what there was before.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::metadata::MetadataPartition;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::config::{Clients, Config};
use super::health::client_fault;
use super::producer::{Message, Producer, Unplaced};
use super::seat::locked;
use super::wire;
use crate::alias::{Aliases, Change, Link};
use crate::clock::Stopwatch;

/// How long a start waits: an unoptimised build read 300,000 names in 5 seconds.
const FIRST_READING: Duration = Duration::from_secs(10);
/// How long one look at the topic waits for something new; so often what was learned is told.
const POLL: Duration = Duration::from_millis(200);
/// Changes told at one time, and so few that reading goes on in between.
const BATCH: usize = 1000;
/// Records read before it is seen whether there is something to tell.
const READ_AT_ONCE: usize = 10_000;
/// Between tries while the brokers are away.
const RETRY_WAIT: Duration = Duration::from_secs(1);
/// For one question to the brokers.
const ASK: Duration = Duration::from_secs(5);

/// In whose name it is read. Nothing is committed, so this is no group anybody needs a right on.
pub(super) fn reader_of(config: &Config) -> String {
    format!("{}-names", config.group)
}

/// Follows the topic until it is closed.
pub struct Sharing {
    stop: CancellationToken,
    thread: Mutex<Option<JoinHandle<()>>>,
    read: watch::Receiver<bool>,
}

impl Sharing {
    /// Begins to read `topic` into `aliases`, and to tell there what they learn.
    pub(super) fn begin(
        clients: Clients,
        topic: String,
        producer: std::sync::Arc<Producer>,
        aliases: Aliases,
    ) -> Result<Self, String> {
        let (done, read) = watch::channel(false);
        let stop = CancellationToken::new();
        let follower = Follower { clients, topic, producer, aliases, stop: stop.clone(), done, is_failing: false };
        let thread = std::thread::Builder::new().name("kafka-names".to_owned()).spawn(move || follower.run());
        let thread = thread.map_err(|error| format!("no thread to read the names of users: {error}"))?;
        Ok(Self { stop, thread: Mutex::new(Some(thread)), read })
    }

    /// Waits until the topic has been read once, though not for ever.
    pub async fn first_reading(&self) {
        let mut read = self.read.clone();
        // An end of the thread is no reason to wait either.
        if tokio::time::timeout(FIRST_READING, read.wait_for(|read| *read)).await.is_err() {
            tracing::warn!("the names of users are still being read; until they are, some are counted as two accounts");
        }
    }

    /// Tells what is left to tell, and ends. Blocks.
    pub fn close(&self) {
        self.stop.cancel();
        if let Some(thread) = locked(&self.thread).take() {
            // If it panicked, what it did not tell is learned again.
            let _ = thread.join();
        }
    }
}

/// Says little: the producer's health tells of brokers that are away.
struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(?level, facility, "{message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka");
    }
}

impl ConsumerContext for Quiet {}

/// The thread.
struct Follower {
    clients: Clients,
    topic: String,
    producer: std::sync::Arc<Producer>,
    aliases: Aliases,
    stop: CancellationToken,
    done: watch::Sender<bool>,
    is_failing: bool,
}

impl Follower {
    fn run(mut self) {
        let consumer = self.clients.reader(&reader_of(self.clients.config()));
        let consumer = consumer
            .clone()
            .set("enable.partition.eof", "true")
            .set("statistics.interval.ms", "0")
            .create_with_context(Quiet);
        let consumer: BaseConsumer<Quiet> = match consumer {
            Ok(consumer) => consumer,
            // The producer has the same settings, and did not fail.
            Err(error) => return tracing::error!(error = client_fault(&error), "names of users are not shared"),
        };
        let Some(mut ends) = self.start(&consumer) else { return };
        let begun = Stopwatch::start();
        while !self.stop.is_cancelled() {
            self.read(&consumer, &mut ends);
            if ends.is_empty() && !self.done.send_replace(true) {
                let (names, seconds) = (self.aliases.len(), begun.elapsed().as_secs_f64());
                tracing::info!(names, seconds, "the names of users are read");
            }
            // What is told before the rest is known may be older than what lies there.
            if ends.is_empty() {
                self.tell();
            }
        }
        // If nobody takes it now, a stop is not held up by trying once more.
        if ends.is_empty() && !self.is_failing {
            while self.tell() {}
        }
    }

    /// Goes to the beginning; up to where each partition has to be read first. `None`: it was stopped before.
    fn start(&mut self, consumer: &BaseConsumer<Quiet>) -> Option<BTreeMap<i32, i64>> {
        while !self.stop.is_cancelled() {
            match self.ends(consumer) {
                Ok(ends) => return Some(ends),
                Err(error) => self.fails("they cannot be read", &error.to_string()),
            }
        }
        None
    }

    fn ends(&self, consumer: &BaseConsumer<Quiet>) -> Result<BTreeMap<i32, i64>, KafkaError> {
        let metadata = consumer.fetch_metadata(Some(&self.topic), ASK)?;
        let found = metadata.topics().iter().find(|found| found.name() == self.topic);
        let partitions: Vec<i32> =
            found.map(|found| found.partitions().iter().map(MetadataPartition::id).collect()).unwrap_or_default();
        if partitions.is_empty() {
            return Err(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition));
        }
        let (mut ends, mut list) = (BTreeMap::new(), TopicPartitionList::new());
        for partition in partitions {
            let (low, high) = consumer.fetch_watermarks(&self.topic, partition, ASK)?;
            list.add_partition_offset(&self.topic, partition, Offset::Beginning)?;
            if low < high {
                ends.insert(partition, high);
            }
        }
        consumer.assign(&list)?;
        Ok(ends)
    }

    /// Takes what is there; strikes out of `ends` what has been read.
    fn read(&mut self, consumer: &BaseConsumer<Quiet>, ends: &mut BTreeMap<i32, i64>) {
        for taken in 0..READ_AT_ONCE {
            let wait = if taken == 0 { POLL } else { Duration::ZERO };
            match consumer.poll(wait) {
                Some(Ok(message)) => {
                    let partition = message.partition();
                    if let Some(change) = change(&message) {
                        self.aliases.take(change, ends.is_empty());
                    } else {
                        tracing::debug!(
                            partition,
                            offset = message.offset(),
                            "a record that is no name was passed over"
                        );
                    }
                    if ends.get(&partition).is_some_and(|end| message.offset() + 1 >= *end) {
                        ends.remove(&partition);
                    }
                }
                // Compaction may have left nothing at the very end.
                Some(Err(KafkaError::PartitionEOF(partition))) => drop(ends.remove(&partition)),
                // What may not be asked of a group is none of this; whatever else it is may pass, and the client tries on.
                Some(Err(error)) => return tracing::debug!(%error, "names of users"),
                None => return,
            }
        }
    }

    /// Tells some of what was learned; whether there may be more.
    fn tell(&mut self) -> bool {
        let changes = self.aliases.changes(BATCH);
        if changes.is_empty() {
            return false;
        }
        let told: Vec<_> =
            changes.iter().map(|change| (change.identifier.to_string(), change.link.as_ref().map(value))).collect();
        let messages = told.iter().map(|(key, value)| Message {
            topic: &self.topic,
            partition: None,
            key: key.as_bytes(),
            value: value.as_deref(),
            headers: &[],
        });
        match self.producer.append_blocking(messages) {
            Ok(_) => {
                self.is_failing = false;
                changes.len() == BATCH
            }
            Err(unplaced) => {
                self.aliases.not_kept(&changes);
                let why = match unplaced {
                    Unplaced::Full => "the producer's queue is full".to_owned(),
                    Unplaced::Failed(why) => why,
                };
                self.fails("what was learned cannot be told", &why);
                false
            }
        }
    }

    /// Says so once, and waits a little.
    fn fails(&mut self, what: &str, error: &str) {
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::warn!(error, "names of users: {what}; trying again");
        }
        let waiting = Stopwatch::start();
        while !self.stop.is_cancelled() && waiting.elapsed() < RETRY_WAIT {
            std::thread::sleep(RETRY_WAIT / 10);
        }
    }
}

fn value(link: &Link) -> Vec<u8> {
    serde_json::to_vec(link).unwrap_or_default()
}

/// What a record says, if it is one of ours.
fn change(message: &BorrowedMessage<'_>) -> Option<Change> {
    let identifier = wire::hash(std::str::from_utf8(message.key()?).ok()?)?;
    let link = message.payload().map(serde_json::from_slice).transpose().ok()?;
    Some(Change { identifier, link })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_written_so_that_other_programs_and_later_versions_read_it() {
        let link = Link {
            tenant: "ins_1".into(),
            user: "user_1".into(),
            said_at: crate::event::Timestamp(1_767_600_000_000),
            listed: true,
        };
        let text = String::from_utf8(value(&link)).unwrap();
        assert_eq!(text, r#"{"tenant":"ins_1","user":"user_1","said_at":1767600000000,"listed":true}"#);
        let later = text.replace('}', r#","how":"verified"}"#);
        assert_eq!(serde_json::from_str::<Link>(&later).unwrap(), link);
    }
}
