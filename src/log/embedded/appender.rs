//! The appender's thread: everything that waits becomes one block.
//!
//! Invariant: an append is answered once, after its block is durable. A duplicate of a record in the same or an earlier
//! block is answered together with the block that holds the first, never before. An id whose write failed is forgotten.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use rusqlite::params;
use tokio::sync::oneshot;

use super::head::Head;
use super::{Config, block, retention, signed};
use crate::clock::{Clock, Stopwatch};
use crate::event::Timestamp;
use crate::log::id_window::{IdWindow, fingerprint};
use crate::log::{AppendError, Appended, Offset, Record};
use crate::metrics::LogMetrics;
use crate::store::{Store, StoreError};

/// Bytes after which a block is closed: what one sync of a slow disk writes in well under a second.
const MAX_BLOCK_BYTES: usize = 8 << 20;
/// How often old blocks are looked for.
const RETENTION_INTERVAL: Duration = Duration::from_secs(10);

/// Records that wait, encoded by the one who brought them so that the appender only copies.
pub(super) struct Append {
    records: Vec<Encoded>,
    bytes: Vec<u8>,
    reply: Reply,
}

/// Where the answer to an append goes.
pub(super) type Reply = oneshot::Sender<Result<Vec<Appended>, AppendError>>;

struct Encoded {
    /// `None` for a tick: it has no id and repeats nothing.
    fingerprint: Option<u64>,
    /// End of the record in `Append::bytes`.
    end: usize,
}

impl Append {
    pub(super) fn encode(records: &[Record], reply: Reply) -> Result<Self, String> {
        let mut bytes = Vec::with_capacity(records.len() * 256);
        let mut encoded = Vec::with_capacity(records.len());
        for record in records {
            bytes = postcard::to_extend(record, bytes).map_err(|error| format!("cannot encode an event: {error}"))?;
            let fingerprint = match record {
                Record::Event(event) => Some(fingerprint(event)),
                Record::Tick { .. } => None,
            };
            encoded.push(Encoded { fingerprint, end: bytes.len() });
        }
        Ok(Self { records: encoded, bytes, reply })
    }
}

/// The thread's state.
pub(super) struct Appender {
    store: Store,
    ids: IdWindow,
    config: Config,
    head: Arc<Head>,
    clock: Clock,
    metrics: LogMetrics,
    /// The next append starts behind this offset even if the last write's fate is unknown.
    next: Offset,
}

#[derive(Default)]
struct Block {
    body: Vec<u8>,
    records: u64,
    fingerprints: Vec<u8>,
    inserted: Vec<u64>,
    answers: Vec<(Vec<Appended>, Reply)>,
}

impl Appender {
    pub(super) fn new(
        store: Store,
        ids: IdWindow,
        config: Config,
        head: Arc<Head>,
        clock: Clock,
        metrics: LogMetrics,
    ) -> Self {
        let next = head.get();
        Self { store, ids, config, head, clock, metrics, next }
    }

    /// Runs until every sender is gone.
    pub(super) fn run(mut self, waiting: &Receiver<Append>) {
        let mut since_retention = Stopwatch::start();
        loop {
            match waiting.recv_timeout(RETENTION_INTERVAL) {
                Ok(first) => self.append(first, waiting),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if since_retention.elapsed() >= RETENTION_INTERVAL {
                since_retention = Stopwatch::start();
                self.retain();
            }
        }
    }

    fn append(&mut self, first: Append, waiting: &Receiver<Append>) {
        let now = self.clock.now();
        let mut block = Block { body: block::empty(), ..Block::default() };
        self.add(&mut block, first, now);
        while block.body.len() < MAX_BLOCK_BYTES
            && let Ok(next) = waiting.try_recv()
        {
            self.add(&mut block, next, now);
        }
        let written = if block.records == 0 { Ok(()) } else { self.write(&mut block, now) };
        if written.is_err() {
            self.metrics.append_failures.inc();
            for id in &block.inserted {
                self.ids.remove(*id);
            }
        }
        for (answer, reply) in block.answers {
            // The client may have hung up; what is durable stays durable.
            let _ = reply.send(match &written {
                Ok(()) => Ok(answer),
                Err(StoreError::Overloaded) => Err(AppendError::Overloaded),
                Err(error) => Err(AppendError::Unavailable(error.to_string())),
            });
        }
    }

    fn add(&mut self, block: &mut Block, append: Append, now: Timestamp) {
        self.metrics.queue_depth.dec();
        let mut answer = Vec::with_capacity(append.records.len());
        let mut start = 0;
        for record in append.records {
            let bytes = append.bytes.get(start..record.end).unwrap_or_default();
            start = record.end;
            let stored = match record.fingerprint {
                Some(id) if !self.ids.insert(id, now) => Appended::Duplicate,
                Some(id) => {
                    block.inserted.push(id);
                    block.fingerprints.extend_from_slice(&id.to_le_bytes());
                    Appended::Stored
                }
                None => Appended::Stored,
            };
            if stored == Appended::Stored {
                block.body.extend_from_slice(bytes);
                block.records += 1;
            }
            answer.push(stored);
        }
        block.answers.push((answer, append.reply));
    }

    fn write(&mut self, block: &mut Block, now: Timestamp) -> Result<(), StoreError> {
        if !retention::has_room(&self.store, self.config.max_bytes)? {
            return Err(StoreError::Database(
                "the log is at max_bytes and the detector has not seen the oldest events yet".into(),
            ));
        }
        let (first, records) = (signed(self.next.0), signed(block.records));
        let (body, fingerprints) = (std::mem::take(&mut block.body), std::mem::take(&mut block.fingerprints));
        self.store.write_blocking(move |transaction| {
            transaction
                .prepare_cached("INSERT INTO block (first_offset, records, appended_at, body) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![first, records, now.0, body])?;
            transaction
                .prepare_cached("INSERT INTO block_ids (first_offset, appended_at, fingerprints) VALUES (?1, ?2, ?3)")?
                .execute(params![first, now.0, fingerprints])?;
            Ok(())
        })?;
        self.next = Offset(self.next.0 + block.records);
        self.head.advance(self.next);
        Ok(())
    }

    fn retain(&mut self) {
        let now = self.clock.now();
        if let Err(error) = retention::apply(&self.store, &self.config, now) {
            tracing::warn!(%error, "old events could not be deleted");
        }
        self.metrics.bytes.set(signed(self.store.bytes()));
        #[expect(clippy::cast_precision_loss, reason = "a span of at most 28 hours")]
        self.metrics.dedupe_span_seconds.set(self.ids.span_millis(now) as f64 / 1000.0);
    }
}
