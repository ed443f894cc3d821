//! What the task of a partition reads: records in order, each once, and how far behind it is meanwhile.
//!
//! Invariant: an offset is committed only once everything before it was judged and what it found is acknowledged. What
//! cannot be read goes to the dead letters, never to the task; what retention deleted before it was judged is told.
//!
//! Not here: how records get from the brokers into the seat (`group`).

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::group::Raw;
use super::seat::{Seat, locked};
use super::{KafkaLog, signed_partition, wire};
use crate::event::Timestamp;
use crate::log::id_window::{IdWindow, fingerprint};
use crate::log::{LogError, Offset, Partition, Polled, Record};

impl KafkaLog {
    /// The next records of `partition` from `from` on, waiting up to `wait`; commits the offset now and then.
    pub(super) fn read(&self, partition: Partition, from: Offset, wait: Duration) -> Result<Polled, LogError> {
        let seat = self.seat(partition)?;
        let start = i64::try_from(from.0).unwrap_or(i64::MAX);
        self.begin(&seat, partition, start);
        // Everything before it was judged, and what it found is safe.
        if seat.progress_is_due(start) {
            let note =
                locked(&seat.note).as_ref().and_then(|note| serde_json::to_string(note).ok()).unwrap_or_default();
            if let Err(error) = self.group().commit(signed_partition(partition), start, &note, false) {
                tracing::debug!(partition = partition.0, %error, "an offset was not committed");
            }
        }
        let batch = seat.receive(wait);
        let (Some(first), Some(last)) = (batch.first(), batch.last()) else {
            self.lag(partition, start, 0);
            return Ok(Polled { records: Vec::new(), next: from });
        };
        if first.offset > start && start > 0 {
            let missed = first.offset - start;
            tracing::error!(partition = partition.0, missed, "records were deleted before they were judged");
            let metric = self.parts.kafka.missed_records.with_label_values(&[&self.topics.events]);
            metric.inc_by(missed.unsigned_abs());
        }
        let (next, appended_at) = (last.offset + 1, last.appended_at);
        let records = self.decode(&seat, batch);
        seat.next.store(next, Ordering::Relaxed);
        self.lag(partition, next, appended_at);
        Ok(Polled { records, next: Offset(next.unsigned_abs()) })
    }

    /// Begins to read where the task wants to, the first time it asks.
    fn begin(&self, seat: &Seat, partition: Partition, from: i64) {
        let Some(end) = seat.take_end() else { return };
        if seat.ids_at.load(Ordering::Relaxed) != from {
            // The snapshot was of no use, and what it held of ids neither: everything is read again.
            *locked(&seat.ids) = IdWindow::new(self.parts.clients.config().dedupe_max_ids);
        }
        seat.next.store(from, Ordering::Relaxed);
        self.group().start(signed_partition(partition), from, end);
        seat.reads.store(true, Ordering::Relaxed);
    }

    /// The records of `batch` that were not met before.
    fn decode(&self, seat: &Seat, batch: Vec<Raw>) -> Vec<Record> {
        let mut records = Vec::with_capacity(batch.len());
        let mut ids = locked(&seat.ids);
        for raw in batch {
            match wire::record(raw.value.as_deref().unwrap_or_default()) {
                Ok(Record::Event(event)) => {
                    if ids.insert(fingerprint(&event), event.received_at) {
                        records.push(Record::Event(event));
                    }
                }
                Ok(tick @ Record::Tick { .. }) => records.push(tick),
                Err(reason) => self.dead.put(&self.topics.events, &raw, "unreadable", reason),
            }
        }
        if let Some(Record::Event(last)) = records.last() {
            #[expect(clippy::cast_precision_loss, reason = "hours in milliseconds")]
            let span = ids.span_millis(last.received_at) as f64 / 1000.0;
            self.parts.log.dedupe_span_seconds.set(span);
        }
        records
    }

    /// Publishes how far behind the partition is.
    fn lag(&self, partition: Partition, next: i64, appended_at: i64) {
        let label = partition.0.to_string();
        let label = [self.topics.events.as_str(), label.as_str()];
        let behind = self.detect.end(&self.topics.events, signed_partition(partition)).unwrap_or(next) - next;
        let age = if behind > 0 { self.parts.clock.now().millis_since(Timestamp(appended_at)) } else { 0 };
        self.parts.kafka.lag_records.with_label_values(&label).set(behind.max(0));
        #[expect(clippy::cast_precision_loss, reason = "hours in milliseconds")]
        self.parts.kafka.lag_seconds.with_label_values(&label).set(age.max(0) as f64 / 1000.0);
    }
}
