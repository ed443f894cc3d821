//! Appends become blocks: whoever appends queues and waits; the store's writer, when it is free, makes one block of what
//! has queued meanwhile and writes it as one row.
//!
//! Invariant: an append is answered after its block is durable. A duplicate of a record in the same or an earlier block
//! is answered together with the block that holds the first, never before: ids are looked up by the writer alone, when
//! the fate of every earlier block is known. An id whose write failed is forgotten.
//!
//! Not here: a thread. One of its own would pass every block to the writer and wait for it to come back: two hops more
//! for each sync, and the writer idle meanwhile.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{ErrorCode, Transaction, params};

use super::append::{Answers, Append};
use super::head::Head;
use super::queue::{Queue, Refused};
use super::{Config, block, closed, retention, signed};
use crate::clock::{Clock, Stopwatch};
use crate::event::Timestamp;
use crate::log::id_window::IdWindow;
use crate::log::{AppendError, Appended, Offset};
use crate::metrics::LogMetrics;
use crate::store::{Job, Store, StoreError};

/// Bytes written between two looks at the size of the files: each look costs two system calls.
const ROOM_CHECK_BYTES: usize = 64 << 10;

/// What waits, and what the blocks are made with.
pub(super) struct Appender {
    store: Store,
    queue: Queue,
    /// The writer's; others only look.
    state: Mutex<State>,
    head: Arc<Head>,
    config: Config,
    clock: Clock,
    metrics: LogMetrics,
}

struct State {
    ids: IdWindow,
    /// The next block starts here.
    next: Offset,
    /// Bytes until the size of the files is looked at again.
    unchecked: usize,
}

#[derive(Default)]
struct Block {
    body: Vec<u8>,
    records: u64,
    /// Of those records that have an id, in little-endian bytes.
    fingerprints: Vec<u8>,
    answers: Answers,
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
        let state = Mutex::new(State { ids, next: head.get(), unchecked: 0 });
        Self { store, queue: Queue::default(), state, head, config, clock, metrics }
    }

    /// Queues `append`, and sees to it that the writer will take it.
    pub(super) fn push(self: &Arc<Self>, append: Append) -> Result<(), AppendError> {
        // The writer counts it down when it takes it, whether or not anybody still waits for the answer.
        self.metrics.queue_depth.inc();
        let call = self.queue.push(append).map_err(|refused| {
            self.metrics.queue_depth.dec();
            match refused {
                Refused::Full => AppendError::Overloaded,
                Refused::Closed => closed(),
            }
        })?;
        if call {
            self.call_writer();
        }
        Ok(())
    }

    /// From now on nothing is queued; returns once everything that was has been answered. Blocks.
    pub(super) fn close(&self) {
        self.queue.close();
    }

    /// Figures that are looked at now and then.
    pub(super) fn report(&self, now: Timestamp) {
        self.metrics.bytes.set(signed(self.store.bytes()));
        #[expect(clippy::cast_precision_loss, reason = "a span of at most 28 hours")]
        self.metrics.dedupe_span_seconds.set(self.state().ids.span_millis(now) as f64 / 1000.0);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings a turn to the writer, which answers what waits even if the store does not take it.
    fn call_writer(self: &Arc<Self>) {
        let appender = Arc::clone(self);
        let turn = Turn { appender, block: None, outcome: Ok(()), answered: false, stopwatch: Stopwatch::start() };
        self.store.enqueue(Box::new(turn));
    }

    /// Makes a block of what waits.
    fn collect(self: &Arc<Self>, state: &mut State, now: Timestamp) -> Block {
        let (appends, more) = self.queue.take();
        if more {
            self.call_writer();
        }
        self.metrics.queue_depth.sub(signed(appends.len() as u64));
        let mut block = Block {
            body: block::with_capacity(appends.iter().map(|append| append.content.len()).sum()),
            answers: Answers::with_capacity(appends.len()),
            ..Block::default()
        };
        for append in appends {
            state.add(&mut block, append, now);
        }
        block
    }

    /// Whether the block may be written as far as `max_bytes` is concerned.
    fn admit(&self, state: &mut State, block: &Block) -> Result<(), StoreError> {
        state.unchecked = state.unchecked.saturating_sub(block.body.len());
        if state.unchecked > 0 {
            return Ok(());
        }
        if !retention::has_room(&self.store, self.config.max_bytes)? {
            return Err(StoreError::Database(
                "the log is at max_bytes and the detector has not seen the oldest events yet".into(),
            ));
        }
        state.unchecked = ROOM_CHECK_BYTES;
        Ok(())
    }

    /// Takes the outcome of a block to those who wait for it.
    fn settle(&self, mut block: Block, written: Result<(), StoreError>) {
        let mut state = self.state();
        match written {
            Ok(()) => {
                state.next = Offset(state.next.0 + block.records);
                self.head.advance(state.next);
            }
            Err(error) => {
                self.metrics.append_failures.inc();
                state.unchecked = 0;
                for id in block.fingerprints.as_chunks().0 {
                    state.ids.remove(u64::from_le_bytes(*id));
                }
                block.answers.refuse(&refusal(error));
            }
        }
        drop(state);
        block.answers.send();
    }

    /// Answers what waits and cannot be written.
    fn refuse_waiting(&self, error: StoreError) {
        let appends = self.queue.take_all();
        self.metrics.queue_depth.sub(signed(appends.len() as u64));
        let (mut answers, error) = (Answers::default(), refusal(error));
        for append in appends {
            answers.push(Err(error.clone()), append.reply);
        }
        answers.send();
    }
}

impl State {
    fn add(&mut self, block: &mut Block, Append { mut content, reply }: Append, now: Timestamp) {
        content.judge(|fingerprint, bytes| {
            if let Some(id) = fingerprint {
                if !self.ids.insert(id, now) {
                    return Appended::Duplicate;
                }
                block.fingerprints.extend_from_slice(&id.to_le_bytes());
            }
            block.body.extend_from_slice(bytes);
            block.records += 1;
            Appended::Stored
        });
        block.answers.push(Ok(content), reply);
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
/// has taken what it writes, and belongs to the next transaction.
struct Turn {
    appender: Arc<Appender>,
    /// `None` until the transaction has begun.
    block: Option<Block>,
    outcome: Result<(), StoreError>,
    answered: bool,
    stopwatch: Stopwatch,
}

impl Job for Turn {
    fn gather(&mut self) {
        self.appender.queue.gather();
    }

    fn run(&mut self, transaction: &Transaction<'_>) -> Result<(), ErrorCode> {
        self.stopwatch = Stopwatch::start();
        let now = self.appender.clock.now();
        let mut state = self.appender.state();
        let block = self.appender.collect(&mut state, now);
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
        let Some(block) = self.block.take() else {
            // The transaction could not begin, or the store did not take the turn.
            if let Err(error) = committed {
                self.appender.refuse_waiting(error.clone());
            }
            return;
        };
        self.appender.queue.written(block.answers.len(), self.stopwatch.elapsed());
        // Ids already known are durable whatever became of this transaction.
        let written = if block.records == 0 { Ok(()) } else { self.outcome.clone().and(committed.clone()) };
        self.appender.settle(block, written);
        self.appender.queue.answered();
    }
}

impl Drop for Turn {
    /// Without an answer the writer is gone, and what waits would wait for ever.
    fn drop(&mut self) {
        if !self.answered {
            self.appender.refuse_waiting(StoreError::Closed);
        }
    }
}

fn refusal(error: StoreError) -> AppendError {
    match error {
        StoreError::Overloaded => AppendError::Overloaded,
        StoreError::Closed => closed(),
        StoreError::Database(why) => AppendError::Unavailable(why),
    }
}
