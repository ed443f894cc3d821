//! Detector snapshots in the compacted state topic.
//!
//! A snapshot is larger than a message: it is compressed and cut into parts, each under a key of its own that holds the
//! snapshot's id, so that two writers (a task that was thought dead, and its successor) never mix. Where the newest lies
//! is noted beside the committed offset of the partition; if that note leads nowhere, the whole partition of the topic is
//! read.
//!
//! Invariant: a snapshot counts only when all its parts are there; an older one is deleted only after a newer one was
//! noted.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::{Offset as KafkaOffset, TopicPartitionList};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::config::Clients;
use super::health::explain;
use super::producer::{Message, Placed, Producer, Unplaced};
use crate::clock::Stopwatch;
use crate::log::{LogError, Offset, Snapshot};

/// Bytes of one part: below the million that every topic takes, with room for key and headers.
const PART_BYTES: usize = 900_000;
/// Counts and hashes: a higher level saves a tenth and takes three times as long.
const COMPRESSION_LEVEL: i32 = 1;
/// A state is bounded by the detector's memory; this only stops a damaged one from taking all there is.
const MAX_STATE_BYTES: usize = 4 << 30;
/// A broker that sends nothing for so long is away.
const READ_PATIENCE: Duration = Duration::from_secs(20);
/// An end before the end that was expected: a leader that is new learns a moment later how far its followers are; but
/// compaction may also have left nothing there.
const END_PATIENCE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(200);
/// Header of each part.
const HEADER: &str = "authspike-snapshot";

/// Where a snapshot lies: what is noted beside the committed offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// Which snapshot.
    id: Uuid,
    /// How many parts it has.
    parts: u32,
    /// Of the first and last part in the state topic.
    pub(super) first: i64,
    last: i64,
    /// Of the event to read on from.
    pub(super) next: u64,
    /// What lies before it names accounts that were forgotten, and has to be deleted.
    #[serde(default)]
    pub(super) uncut: bool,
}

impl Note {
    /// The same, with what lies before it still to be deleted, or not.
    pub(super) const fn with_uncut(self, uncut: bool) -> Self {
        Self { uncut, ..self }
    }
}

/// What each part says of its snapshot.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct PartOf {
    id: Uuid,
    part: u32,
    parts: u32,
    next: u64,
}

/// The state topic.
pub(super) struct States {
    topic: String,
    clients: Clients,
    /// In whose name it is read.
    group: String,
}

impl States {
    pub(super) fn new(topic: String, clients: Clients, group: String) -> Self {
        Self { topic, clients, group }
    }

    /// Writes `snapshot` of `partition`; answers once it is safe. Blocks the calling thread.
    pub(super) fn write(&self, producer: &Producer, partition: i32, snapshot: &Snapshot) -> Result<Note, LogError> {
        let packed = zstd::bulk::compress(&snapshot.state, COMPRESSION_LEVEL)
            .map_err(|error| LogError::Corrupt(format!("a snapshot cannot be compressed: {error}")))?;
        let id = random_id();
        let parts: Vec<&[u8]> = packed.chunks(PART_BYTES).collect();
        let count = u32::try_from(parts.len()).unwrap_or(u32::MAX);
        let headers: Vec<String> = (0..count)
            .map(|part| PartOf { id, part, parts: count, next: snapshot.offset.0 })
            .map(|part_of| serde_json::to_string(&part_of).unwrap_or_default())
            .collect();
        let keys: Vec<String> = (0..count).map(|part| key(partition, id, part)).collect();
        let headers: Vec<_> = headers.iter().map(|header| [(HEADER, header.as_str())]).collect();
        let messages = parts.iter().zip(&keys).zip(&headers).map(|((value, key), headers)| Message {
            topic: &self.topic,
            partition: Some(partition),
            key: key.as_bytes(),
            value: Some(value),
            headers,
        });
        let Placed { first, last } = producer.append_blocking(messages).map_err(unavailable)?;
        Ok(Note { id, parts: count, first, last, next: snapshot.offset.0, uncut: false })
    }

    /// Deletes a snapshot that a newer one has replaced. Blocks the calling thread.
    pub(super) fn delete(&self, producer: &Producer, partition: i32, note: &Note) -> Result<(), LogError> {
        let keys: Vec<String> = (0..note.parts).map(|part| key(partition, note.id, part)).collect();
        let messages = keys.iter().map(|key| Message {
            topic: &self.topic,
            partition: Some(partition),
            key: key.as_bytes(),
            value: None,
            headers: &[],
        });
        producer.append_blocking(messages).map(|_| ()).map_err(unavailable)
    }

    /// The newest snapshot of `partition`, `noted` or found by reading everything. Blocks the calling thread.
    pub(super) fn read(&self, partition: i32, noted: Option<Note>) -> Result<Option<(Note, Snapshot)>, LogError> {
        let consumer: BaseConsumer = self
            .clients
            .reader(&self.group)
            .set("enable.partition.eof", "true")
            .set("statistics.interval.ms", "0")
            .create()
            .map_err(|error| self.fault(&error))?;
        let (low, high) =
            consumer.fetch_watermarks(&self.topic, partition, READ_PATIENCE).map_err(|error| self.fault(&error))?;
        if let Some(note) = noted
            && note.first >= low
            && note.last < high
        {
            let found = self.scan(&consumer, partition, note.first, note.last + 1)?;
            if let Some((_, snapshot)) = found.filter(|(found, _)| found.id == note.id) {
                return Ok(Some((note, snapshot)));
            }
        }
        if noted.is_some() {
            tracing::warn!(partition, "the snapshot that was noted is gone; looking for another");
        }
        self.scan(&consumer, partition, low, high)
    }

    /// The newest whole snapshot among the messages from `from` up to `until`.
    fn scan(
        &self,
        consumer: &BaseConsumer,
        partition: i32,
        from: i64,
        until: i64,
    ) -> Result<Option<(Note, Snapshot)>, LogError> {
        let mut found = Found::default();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, partition, KafkaOffset::Offset(from))
            .map_err(|error| self.fault(&error))?;
        let mut next = from;
        if next < until {
            consumer.assign(&list).map_err(|error| self.fault(&error))?;
        }
        let (mut silent, mut ended) = (Stopwatch::start(), false);
        while next < until {
            match consumer.poll(POLL) {
                Some(Ok(message)) => {
                    next = message.offset() + 1;
                    found.take(&message)?;
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    ended = true;
                    continue;
                }
                Some(Err(error)) => return Err(self.fault(&error)),
                None if silent.elapsed() > READ_PATIENCE => {
                    return Err(LogError::Unavailable(format!("topic {}: no broker answers", self.topic)));
                }
                None if ended && silent.elapsed() > END_PATIENCE => break,
                None => continue,
            }
            silent = Stopwatch::start();
        }
        found.newest()
    }

    fn fault(&self, error: &KafkaError) -> LogError {
        LogError::Unavailable(explain(error, &format!("topic {}", self.topic)))
    }
}

/// What was met while reading.
#[derive(Default)]
struct Found {
    incomplete: HashMap<Uuid, Parts>,
    best: Option<(Note, Parts)>,
}

#[derive(Default)]
struct Parts {
    values: BTreeMap<u32, Vec<u8>>,
    first: i64,
    last: i64,
}

impl Found {
    fn take(&mut self, message: &BorrowedMessage<'_>) -> Result<(), LogError> {
        let Some(value) = message.payload() else {
            // Deleted: whoever wrote this has a newer one.
            return Ok(());
        };
        let header = message.headers().and_then(|headers| headers.iter().find(|header| header.key == HEADER));
        let part_of: Option<PartOf> = header.and_then(|header| serde_json::from_slice(header.value?).ok());
        let Some(part_of) = part_of else {
            return Err(LogError::Corrupt(format!("topic {} holds what is no snapshot", message.topic())));
        };
        let parts = self.incomplete.entry(part_of.id).or_default();
        if parts.values.is_empty() {
            parts.first = message.offset();
        }
        parts.last = message.offset();
        parts.values.insert(part_of.part, value.to_vec());
        if parts.values.len() < part_of.parts as usize {
            return Ok(());
        }
        let Some(parts) = self.incomplete.remove(&part_of.id) else { return Ok(()) };
        // The same place in the log twice: the later one was written by whoever came later.
        if self.best.as_ref().is_none_or(|(note, _)| note.next <= part_of.next) {
            let (first, last) = (parts.first, parts.last);
            let note = Note { id: part_of.id, parts: part_of.parts, first, last, next: part_of.next, uncut: false };
            self.best = Some((note, parts));
        }
        Ok(())
    }

    fn newest(self) -> Result<Option<(Note, Snapshot)>, LogError> {
        let Some((note, parts)) = self.best else { return Ok(None) };
        let packed: Vec<u8> = parts.values.into_values().flatten().collect();
        let state = unpack(&packed).map_err(|error| LogError::Corrupt(format!("a snapshot is damaged: {error}")))?;
        Ok(Some((note, Snapshot { offset: Offset(note.next), state })))
    }
}

fn unpack(packed: &[u8]) -> io::Result<Vec<u8>> {
    let mut state = Vec::new();
    let reader = zstd::Decoder::new(packed)?;
    io::Read::read_to_end(&mut io::Read::take(reader, MAX_STATE_BYTES as u64), &mut state)?;
    Ok(state)
}

fn key(partition: i32, id: Uuid, part: u32) -> String {
    format!("{partition}/{id}/{part}")
}

/// Nobody has to guess it; two writers must not have the same.
fn random_id() -> Uuid {
    let mut bytes = [0; 16];
    // Without entropy: ids that differ by the time they are made.
    if getrandom::fill(&mut bytes).is_err() {
        bytes = crate::clock::Clock::system().now().0.to_be_bytes().repeat(2).try_into().unwrap_or(bytes);
    }
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

pub(super) fn unavailable(unplaced: Unplaced) -> LogError {
    match unplaced {
        Unplaced::Full => LogError::Unavailable("the producer's queue is full".to_owned()),
        Unplaced::Failed(fault) => LogError::Unavailable(fault),
    }
}
