//! Appends become blocks: whoever appends queues and goes to wait; the store's writer, when it is free, makes one block
//! of everything that has queued meanwhile and writes it as one row.
//!
//! Invariant: an append is answered once, after its block is durable. A duplicate of a record in the same or an earlier
//! block is answered together with the block that holds the first, never before: ids are looked up by the writer alone,
//! when the fate of every earlier block is known. An id whose write failed is forgotten.
//!
//! Not here: a thread. One of its own would pass every block to the writer and wait for it to come back: two hops more
//! for each sync, and the writer idle meanwhile.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{ErrorCode, Transaction, params};
use tokio::sync::oneshot;

use super::head::Head;
use super::{Config, block, closed, retention, signed};
use crate::clock::Clock;
use crate::event::Timestamp;
use crate::log::id_window::{IdWindow, fingerprint};
use crate::log::{AppendError, Appended, Offset, Record};
use crate::metrics::LogMetrics;
use crate::store::{Job, Store, StoreError};

/// Appends that may wait: more than the front door lets in at one time (`ingest.max_in_flight`).
const MAX_WAITING: usize = 4096;
/// Bytes after which a block is closed: what one sync of a slow disk writes in well under a second.
const MAX_BLOCK_BYTES: usize = 8 << 20;
/// Bytes written between two looks at the size of the files: each look costs two system calls.
const ROOM_CHECK_BYTES: usize = 64 << 10;

/// Records that wait, encoded by the one who brought them so that the writer only copies.
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

/// What waits, and what the blocks are made with.
pub(super) struct Appender {
    store: Store,
    queue: Mutex<Queue>,
    /// The writer's; others only look.
    state: Mutex<State>,
    head: Arc<Head>,
    config: Config,
    clock: Clock,
    metrics: LogMetrics,
}

#[derive(Default)]
struct Queue {
    appends: VecDeque<Append>,
    /// A [`Turn`] is on its way to the writer and will take what is here.
    turn: bool,
    closed: bool,
}

struct State {
    ids: IdWindow,
    /// The next block starts here.
    next: Offset,
    /// Bytes until the size of the files is looked at again.
    room: usize,
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
        let state = Mutex::new(State { ids, next: head.get(), room: 0 });
        Self { store, queue: Mutex::default(), state, head, config, clock, metrics }
    }

    /// Queues `append`, and sees to it that the writer will take it.
    pub(super) fn push(self: &Arc<Self>, append: Append) -> Result<(), AppendError> {
        let mut queue = locked(&self.queue);
        if queue.closed {
            return Err(closed());
        }
        if queue.appends.len() >= MAX_WAITING {
            return Err(AppendError::Overloaded);
        }
        queue.appends.push_back(append);
        self.metrics.queue_depth.inc();
        if !std::mem::replace(&mut queue.turn, true) {
            drop(queue);
            self.call_writer();
        }
        Ok(())
    }

    /// From now on nothing is queued; returns once everything that was has been answered. Blocks.
    pub(super) fn close(&self) {
        locked(&self.queue).closed = true;
        // Writes are made in order: one that comes back has seen the turn before it end.
        while locked(&self.queue).turn {
            if let Err(StoreError::Closed) = self.store.write_blocking(|_| Ok(())) {
                return;
            }
        }
    }

    /// Figures that are looked at now and then.
    pub(super) fn report(&self, now: Timestamp) {
        self.metrics.bytes.set(signed(self.store.bytes()));
        #[expect(clippy::cast_precision_loss, reason = "a span of at most 28 hours")]
        self.metrics.dedupe_span_seconds.set(locked(&self.state).ids.span_millis(now) as f64 / 1000.0);
    }

    /// Brings a turn to the writer, which answers what waits even if the store does not take it.
    fn call_writer(self: &Arc<Self>) {
        let turn = Turn { appender: Arc::clone(self), block: None, outcome: Ok(()), answered: false };
        self.store.enqueue(Box::new(turn));
    }

    /// As many of those that wait as one block may hold.
    fn take(self: &Arc<Self>) -> VecDeque<Append> {
        let mut queue = locked(&self.queue);
        let mut bytes = 0;
        let fits = queue.appends.iter().take_while(|append| {
            let fits = bytes < MAX_BLOCK_BYTES;
            bytes += append.bytes.len();
            fits
        });
        let fits = fits.count();
        let rest = queue.appends.split_off(fits);
        let taken = std::mem::replace(&mut queue.appends, rest);
        queue.turn = !queue.appends.is_empty();
        if queue.turn {
            drop(queue);
            self.call_writer();
        }
        self.metrics.queue_depth.sub(signed(taken.len() as u64));
        taken
    }

    fn fail_waiting(&self, error: &StoreError) {
        let appends = {
            let mut queue = locked(&self.queue);
            queue.turn = false;
            std::mem::take(&mut queue.appends)
        };
        self.metrics.queue_depth.sub(signed(appends.len() as u64));
        for append in appends {
            let _ = append.reply.send(Err(refusal(error)));
        }
    }

    /// Whether the block may be written as far as `max_bytes` is concerned.
    fn admit(&self, state: &mut State, block: &Block) -> Result<(), StoreError> {
        state.room = state.room.saturating_sub(block.body.len());
        if state.room > 0 {
            return Ok(());
        }
        if !retention::has_room(&self.store, self.config.max_bytes)? {
            return Err(StoreError::Database(
                "the log is at max_bytes and the detector has not seen the oldest events yet".into(),
            ));
        }
        state.room = ROOM_CHECK_BYTES;
        Ok(())
    }

    /// Takes the outcome of a block to those who wait for it.
    fn settle(&self, block: Block, written: &Result<(), StoreError>) {
        let mut state = locked(&self.state);
        if written.is_ok() {
            state.next = Offset(state.next.0 + block.records);
            self.head.advance(state.next);
        } else {
            self.metrics.append_failures.inc();
            state.room = 0;
            for id in &block.inserted {
                state.ids.remove(*id);
            }
        }
        drop(state);
        for (answer, reply) in block.answers {
            // The client may have hung up; what is durable stays durable.
            let _ = reply.send(match written {
                Ok(()) => Ok(answer),
                Err(error) => Err(refusal(error)),
            });
        }
    }
}

impl State {
    fn add(&mut self, block: &mut Block, append: Append, now: Timestamp) {
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
}

fn insert(transaction: &Transaction<'_>, first: Offset, block: &Block, now: Timestamp) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("INSERT INTO block (first_offset, records, appended_at, body) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![signed(first.0), signed(block.records), now.0, block.body])?;
    transaction
        .prepare_cached("INSERT INTO block_ids (first_offset, appended_at, fingerprints) VALUES (?1, ?2, ?3)")?
        .execute(params![signed(first.0), now.0, block.fingerprints])?;
    Ok(())
}

/// The log's place in a transaction of the store's writer. There is one at a time: the next is called for when this one
/// has taken what waits, and then belongs to the next transaction.
struct Turn {
    appender: Arc<Appender>,
    /// `None` until the transaction has begun.
    block: Option<Block>,
    outcome: Result<(), StoreError>,
    answered: bool,
}

impl Job for Turn {
    fn run(&mut self, transaction: &Transaction<'_>) -> Result<(), ErrorCode> {
        let now = self.appender.clock.now();
        let mut state = locked(&self.appender.state);
        let mut block = Block { body: block::empty(), ..Block::default() };
        for append in self.appender.take() {
            state.add(&mut block, append, now);
        }
        let mut result = Ok(());
        if block.records > 0 {
            self.outcome = self.appender.admit(&mut state, &block);
            if self.outcome.is_ok()
                && let Err(error) = insert(transaction, state.next, &block, now)
            {
                result = Err(error.sqlite_error_code().unwrap_or(ErrorCode::Unknown));
                self.outcome = Err(error.into());
            }
        }
        self.block = Some(block);
        result
    }

    fn answer(mut self: Box<Self>, committed: &Result<(), StoreError>) {
        self.answered = true;
        match (self.block.take(), committed) {
            // Ids already known are durable whatever became of this transaction.
            (Some(block), _) if block.records == 0 => self.appender.settle(block, &Ok(())),
            (Some(block), _) => self.appender.settle(block, &self.outcome.clone().and(committed.clone())),
            (None, Err(error)) => self.appender.fail_waiting(error),
            (None, Ok(())) => {}
        }
    }
}

impl Drop for Turn {
    /// Without an answer the writer is gone, and what waits would wait for ever.
    fn drop(&mut self) {
        if !self.answered {
            self.appender.fail_waiting(&StoreError::Closed);
        }
    }
}

fn refusal(error: &StoreError) -> AppendError {
    match error {
        StoreError::Overloaded => AppendError::Overloaded,
        StoreError::Closed => closed(),
        StoreError::Database(_) => AppendError::Unavailable(error.to_string()),
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
