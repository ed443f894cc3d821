//! The log in memory: what `replay` runs on, and the one with faults that tests use.
//!
//! Invariant: the same order and the same answers as the durable engine; bounded: an append waits until the reader has
//! made room. Nothing survives the process.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;

use super::id_window::{IdWindow, fingerprint};
use super::{AppendError, Appended, Commit, Log, LogError, Offset, Partition, Polled, Record, Snapshot};
use crate::event::{AuthEvent, Timestamp};
use crate::finding::Finding;

/// Batches kept between the reader and the detector: enough that neither waits for the other's scheduling.
const MAX_BATCHES: usize = 16;
/// Ids remembered, the durable engine's default.
const MAX_IDS: usize = 16_000_000;

/// A log that lives as long as the process.
#[derive(Debug)]
pub struct MemoryLog {
    state: Mutex<State>,
    appended: Condvar,
    polled: Notify,
    /// Keep what was read (a restarted task can read it again) instead of dropping it to make room.
    keep: bool,
}

#[derive(Debug)]
struct State {
    batches: VecDeque<(Offset, Vec<Record>)>,
    next: Offset,
    ids: IdWindow,
    findings: Vec<Finding>,
    snapshot: Option<Snapshot>,
    fault: Option<String>,
}

impl MemoryLog {
    /// For one pass: what was read is dropped.
    #[must_use]
    pub fn streaming() -> Self {
        Self::with(false)
    }

    /// For tests: keeps every record, so a second task can start from any offset.
    #[must_use]
    pub fn keeping() -> Self {
        Self::with(true)
    }

    fn with(keep: bool) -> Self {
        let state = State {
            batches: VecDeque::new(),
            next: Offset(0),
            ids: IdWindow::new(MAX_IDS),
            findings: Vec::new(),
            snapshot: None,
            fault: None,
        };
        Self { state: Mutex::new(state), appended: Condvar::new(), polled: Notify::new(), keep }
    }

    /// Takes the findings committed so far.
    pub fn take_findings(&self) -> Vec<Finding> {
        std::mem::take(&mut self.state().findings)
    }

    /// From now on every write fails with this text; `None` heals it.
    pub fn set_fault(&self, fault: Option<&str>) {
        self.state().fault = fault.map(Into::into);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_room(&self) -> bool {
        self.keep || self.state().batches.len() < MAX_BATCHES
    }

    async fn write(&self, records: impl ExactSizeIterator<Item = Record> + Send) -> Result<Vec<Appended>, AppendError> {
        loop {
            let room = self.polled.notified();
            if self.has_room() {
                break;
            }
            room.await;
        }
        let mut state = self.state();
        if let Some(fault) = &state.fault {
            return Err(AppendError::Unavailable(fault.clone()));
        }
        let mut answers = Vec::with_capacity(records.len());
        let mut batch = Vec::with_capacity(records.len());
        for record in records {
            let new = match &record {
                Record::Event(event) => state.ids.insert(fingerprint(event), event.received_at),
                Record::Tick { .. } => true,
            };
            answers.push(if new { Appended::Stored } else { Appended::Duplicate });
            if new {
                batch.push(record);
            }
        }
        let first = state.next;
        state.next = Offset(first.0 + batch.len() as u64);
        if !batch.is_empty() {
            state.batches.push_back((first, batch));
        }
        drop(state);
        self.appended.notify_all();
        Ok(answers)
    }
}

#[async_trait]
impl Log for MemoryLog {
    async fn append(&self, events: Vec<AuthEvent>) -> Result<Vec<Appended>, AppendError> {
        self.write(events.into_iter().map(Record::Event)).await
    }

    async fn tick(&self, _: Partition, at: Timestamp) -> Result<(), AppendError> {
        self.write(std::iter::once(Record::Tick { at })).await.map(|_| ())
    }

    fn poll(&self, _: Partition, from: Offset, wait: Duration) -> Result<Polled, LogError> {
        let waited = self.appended.wait_timeout_while(self.state(), wait, |state| state.next <= from);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        let mut polled = Polled { records: Vec::new(), next: from };
        if self.keep {
            for (first, batch) in &state.batches {
                let skip = usize::try_from(from.0.saturating_sub(first.0)).unwrap_or(usize::MAX);
                polled.records.extend(batch.iter().skip(skip).cloned());
            }
        } else if let Some((_, batch)) = state.batches.pop_front() {
            polled.records = batch;
        }
        polled.next = Offset(from.0 + polled.records.len() as u64);
        drop(state);
        self.polled.notify_waiters();
        Ok(polled)
    }

    fn commit(&self, _: Partition, commit: Commit) -> Result<(), LogError> {
        let mut state = self.state();
        if let Some(fault) = &state.fault {
            return Err(LogError::Unavailable(fault.clone()));
        }
        for finding in commit.findings {
            if !state.findings.iter().any(|known| known.revision_id == finding.revision_id) {
                state.findings.push(finding);
            }
        }
        if commit.snapshot.is_some() {
            state.snapshot = commit.snapshot;
        }
        Ok(())
    }

    fn snapshot(&self, _: Partition) -> Result<Option<Snapshot>, LogError> {
        Ok(self.state().snapshot.clone())
    }

    fn head(&self, _: Partition) -> Offset {
        self.state().next
    }

    fn fault(&self) -> Option<String> {
        self.state().fault.clone()
    }
}
