//! What is kept of a partition when its task stops: the snapshot, the offset that leads to it, and what may go since then.
//!
//! Invariant: a snapshot is deleted only after the offset is committed that leads to the next one, and records are cut off
//! only before the snapshot that is noted. A snapshot that could not be noted is withdrawn.
//!
//! Not here: how a snapshot lies in its topic (`state`), and how records are cut off (`erasure`).

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rdkafka::error::KafkaError;

use super::producer::Message;
use super::seat::locked;
use super::state::{Note, unavailable};
use super::{KafkaLog, detect_group, erasure, group, health, signed_partition, wire};
use crate::log::id_window::IdWindow;
use crate::log::{Erasure, LogError, Partition, Snapshot};

/// How often an offset is committed again while the group is being rearranged, and how long is waited in between.
const COMMIT_TRIES: usize = 3;
const COMMIT_PAUSE: Duration = Duration::from_millis(300);

impl KafkaLog {
    /// The noted snapshot, or the newest that is whole; the ids in it are those of the partition from now on.
    pub(super) fn read_snapshot(&self, partition: Partition) -> Result<Option<Snapshot>, LogError> {
        let (seat, number) = (self.seat(partition)?, signed_partition(partition));
        let group = detect_group(self.parts.clients.config());
        let (_, noted) = self
            .group()
            .committed(number)
            .map_err(|error| LogError::Unavailable(health::explain(&error, &format!("group {group}"))))?;
        let noted: Option<Note> = serde_json::from_str(&noted).ok();
        let Some((note, snapshot)) = self.states.read(number, noted)? else { return Ok(None) };
        let max_ids = self.parts.clients.config().dedupe_max_ids;
        let Some((ids, state)) = IdWindow::decode(&snapshot.state, max_ids) else {
            return Err(LogError::Corrupt("a snapshot is damaged: it does not begin with ids".to_owned()));
        };
        *locked(&seat.ids) = ids;
        seat.ids_at.store(i64::try_from(note.next).unwrap_or(i64::MAX), Ordering::Relaxed);
        *locked(&seat.note) = Some(note);
        Ok(Some(Snapshot { offset: snapshot.offset, state: state.to_vec() }))
    }

    /// Writes `snapshot`, has the committed offset lead to it, and only then deletes the one before. `erases`: it is the
    /// first that no longer names certain accounts.
    pub(super) fn write_snapshot(
        &self,
        partition: Partition,
        snapshot: &Snapshot,
        erases: bool,
    ) -> Result<(), LogError> {
        let (seat, number) = (self.seat(partition)?, signed_partition(partition));
        let mut state = Vec::with_capacity(snapshot.state.len() + 64);
        locked(&seat.ids).encode(&mut state);
        state.extend(&snapshot.state);
        let uncut = erases || locked(&seat.note).is_some_and(|note| note.uncut);
        let snapshot = Snapshot { offset: snapshot.offset, state };
        let note = self.states.write(&self.producer, number, &snapshot)?.with_uncut(uncut);
        let text = serde_json::to_string(&note).map_err(|error| LogError::Corrupt(error.to_string()))?;
        match self.commit_offset(number, i64::try_from(note.next).unwrap_or(i64::MAX), &text) {
            Ok(()) => {
                let old = locked(&seat.note).replace(note);
                old.map_or(Ok(()), |old| self.states.delete(&self.producer, number, &old))
            }
            // Somebody else has the partition, or will have it in a moment: he reads on from the one that is noted.
            Err(error) => {
                tracing::warn!(partition = number, %error, "a snapshot was not noted and is withdrawn");
                self.states.delete(&self.producer, number, &note)
            }
        }
    }

    fn commit_offset(&self, partition: i32, next: i64, note: &str) -> Result<(), KafkaError> {
        let mut tries = 1;
        loop {
            match self.group().commit(partition, next, note, true) {
                Err(error) if tries < COMMIT_TRIES && group::may_pass(&error) => {
                    tries += 1;
                    std::thread::sleep(COMMIT_PAUSE);
                }
                result => return result,
            }
        }
    }

    /// Cuts off what named accounts that the noted snapshot does not, if there are any that may still be named.
    pub(super) fn cut(&self, partition: Partition) -> Result<(), LogError> {
        let (seat, number) = (self.seat(partition)?, signed_partition(partition));
        let Some(note) = locked(&seat.note).filter(|note| note.uncut) else { return Ok(()) };
        let next = i64::try_from(note.next).unwrap_or(i64::MAX);
        let before = BTreeMap::from([(self.topics.events.as_str(), next), (self.topics.state.as_str(), note.first)]);
        match self.shears.cut(number, &before) {
            // What is noted with the next offset says so too.
            Ok(()) => *locked(&seat.note) = Some(note.with_uncut(false)),
            Err(error) => {
                tracing::warn!(partition = number, error, "records that name a forgotten account are not deleted yet");
            }
        }
        Ok(())
    }

    /// Says in every partition of the findings topic that accounts are to be forgotten: whoever delivers has one of them.
    pub(super) fn tell_of(&self, erasures: &[Erasure]) -> Result<(), LogError> {
        let partitions = self.shears.partitions(&self.topics.findings).map_err(LogError::Unavailable)?;
        let corrupt = |error| LogError::Corrupt(format!("an erasure cannot be written: {error}"));
        let values = erasures.iter().map(erasure::encode).collect::<Result<Vec<_>, _>>().map_err(corrupt)?;
        let messages: Vec<_> = values
            .iter()
            .flat_map(|value| partitions.iter().map(move |partition| (value, *partition)))
            .map(|(value, partition)| Message {
                topic: &self.topics.findings,
                partition: Some(partition),
                key: &[],
                value: Some(value),
                headers: &[(wire::SCHEMA_HEADER, erasure::SCHEMA)],
            })
            .collect();
        self.producer.append_blocking(messages.into_iter()).map(|_| ()).map_err(unavailable)
    }
}
