//! The only loop: poll → detect → outbox → snapshot → commit; one task per partition.
//!
//! Invariant: a finding is in the outbox before any snapshot lies behind the event that made it. A crash therefore repeats
//! work from the last snapshot and re-creates the same revisions under the same ids, which the outbox already has.
//! The detector is owned by its task; what others may see of it is published ([`Board`], metrics) or asked for
//! ([`Questions`]).
//!
//! Not here: what an event means (`detect`), how bytes are kept (`log`), how findings leave (`sinks`).

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::clock::{Clock, Stopwatch};
use crate::detect::{self, Detector};
use crate::event::{Erasure, Timestamp};
use crate::finding::{Finding, Lifecycle};
use crate::log::{Commit, Log, LogError, Offset, Partition, Record, Snapshot};
use crate::metrics::{DetectMetrics, LogMetrics};

mod publish;
mod questions;
mod settings;
mod shadow;
mod sight;
mod tasks;

pub use questions::{Answer, Questions, Unanswered};
pub use shadow::ShadowBoard;
pub use sight::{Blindness, Instance, SignalBoard, Standing};
pub use tasks::{Ended, Tasks};

use publish::Publisher;
use questions::Question;
use settings::{Change, Settings};
use shadow::Shadow;
use sight::Sight;

/// Longest wait for new records: how late a tick may be written, and how soon a stop is noticed.
const POLL_WAIT: Duration = Duration::from_millis(250);
/// Between tries when the log cannot be read or written.
const RETRY_WAIT: Duration = Duration::from_secs(1);
/// Shortest time between snapshots: bounds what a crash repeats to half a minute of events, seconds of work.
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(30);
/// The same while an account waits to be forgotten: somebody may be waiting for it, and a script that deletes thousands
/// must not have a snapshot written for each.
const ERASURE_INTERVAL: Duration = Duration::from_secs(2);
/// A large state is written less often, so that snapshots take at most this share of the disk.
const SNAPSHOT_BYTES_PER_SECOND: u64 = 1 << 20;

/// The findings that are open now, by finding id: what the task shows to other threads.
pub type Board = Arc<DashMap<Uuid, Arc<Finding>>>;

/// What a task is made of.
#[derive(Clone)]
pub struct Parts {
    /// Where records come from and findings go.
    pub log: Arc<dyn Log>,
    /// Settings of detection.
    pub config: detect::Config,
    /// Stamps ticks and latencies.
    pub clock: Clock,
    /// Figures of detection.
    pub detect_metrics: DetectMetrics,
    /// Figures of the log.
    pub log_metrics: LogMetrics,
    /// Open findings are put here.
    pub board: Board,
    /// What a shadow detector finds is listed here.
    pub shadow: ShadowBoard,
    /// What comes in of each instance is shown here.
    pub signals: SignalBoard,
    /// Called after findings became durable.
    pub wake: Arc<dyn Fn() + Send + Sync>,
}

/// One partition's task.
pub struct Task {
    parts: Parts,
    partition: Partition,
    detector: Detector,
    shadow: Option<Shadow>,
    sight: Sight,
    settings: (Settings, mpsc::Receiver<Change>),
    questions: (mpsc::Sender<Question>, mpsc::Receiver<Question>),
    /// Settings that wait for a snapshot.
    change: Option<Change>,
    offset: Offset,
    snapshot_offset: Offset,
    snapshot_bytes: u64,
    since_snapshot: Stopwatch,
    publisher: Publisher,
    found: Vec<Finding>,
    /// Accounts that the state no longer names, until a snapshot says so too.
    erased: Vec<Erasure>,
    /// Arrival of the event behind each of `found`; `None` where time alone made it.
    arrivals: Vec<Option<Timestamp>>,
    last_received_at: Timestamp,
}

impl Task {
    /// Restores the partition's state and stands where its snapshot was taken. A snapshot of another version is dropped and
    /// the log read again from its oldest record.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn open(parts: Parts, partition: Partition) -> Result<Self, LogError> {
        let snapshot = parts.log.snapshot(partition)?;
        let (live, own) = snapshot.as_ref().map_or((None, None), |snapshot| {
            let (live, own) = shadow::split(&snapshot.state);
            (Some(live), own)
        });
        let (detector, offset) = match live.map(|live| Detector::restore(&parts.config, live)) {
            None => (Detector::new(&parts.config), Offset(0)),
            Some(Ok(detector)) => (detector, snapshot.as_ref().map_or(Offset(0), |snapshot| snapshot.offset)),
            Some(Err(error)) => {
                tracing::warn!(%error, "reading the log again from its oldest record");
                (Detector::new(&parts.config), Offset(0))
            }
        };
        let shadow = Shadow::open(&parts.config, &[own, live], &parts.shadow, &parts.detect_metrics);
        for finding in detector.open_findings() {
            parts.board.insert(finding.finding_id, Arc::new(finding));
        }
        let sight = Sight::open(parts.signals.clone(), partition, &detector);
        let publisher = Publisher::new(partition, parts.detect_metrics.clone(), parts.log_metrics.clone());
        Ok(Self {
            partition,
            detector,
            shadow,
            sight,
            settings: Settings::channel(),
            questions: questions::channel(),
            change: None,
            offset,
            snapshot_offset: offset,
            snapshot_bytes: 0,
            since_snapshot: Stopwatch::start(),
            publisher,
            found: Vec::new(),
            erased: Vec::new(),
            arrivals: Vec::new(),
            last_received_at: Timestamp(0),
            parts,
        })
    }

    /// Runs until `stop`, then reads what the log still holds and leaves a snapshot. `runtime` is where ticks are appended.
    ///
    /// # Errors
    /// The log holds something this version cannot read.
    pub fn run(mut self, runtime: &tokio::runtime::Handle, stop: &CancellationToken) -> Result<(), LogError> {
        let result = self.judge(runtime, stop);
        // However it ended.
        self.withdraw();
        result
    }

    fn judge(&mut self, runtime: &tokio::runtime::Handle, stop: &CancellationToken) -> Result<(), LogError> {
        loop {
            let stopping = stop.is_cancelled();
            match self.step(if stopping { Duration::ZERO } else { POLL_WAIT }) {
                Ok(true) => {}
                Ok(false) if stopping => break,
                Ok(false) => self.tick_if_due(runtime),
                Err(LogError::Unavailable(error)) => {
                    tracing::warn!(%error, "the detector waits for the log");
                    if stopping {
                        // Nothing is lost: the next start reads on from the last snapshot.
                        return Ok(());
                    }
                    std::thread::sleep(RETRY_WAIT);
                }
                Err(error @ LogError::Corrupt(_)) => return Err(error),
            }
        }
        if let Err(error) = self.commit(true) {
            tracing::warn!(%error, "no last snapshot; the next start reads on from the one before");
        }
        Ok(())
    }

    /// Somebody else may judge this partition now: takes back what is shown of it here.
    fn withdraw(&mut self) {
        for finding in self.detector.open_findings() {
            self.parts.board.remove(&finding.finding_id);
        }
        if self.shadow.is_some() {
            self.parts.shadow.clear();
        }
        self.sight.withdraw();
        self.publisher.withdraw();
    }

    /// Polls once and handles what came; answers whether anything did.
    ///
    /// # Errors
    /// See [`LogError`]; findings that could not be committed are kept and committed by the next step.
    pub fn step(&mut self, wait: Duration) -> Result<bool, LogError> {
        // First, so that a log that cannot be read or written does not keep it from answering.
        self.answer_questions();
        self.take_settings()?;
        let polled = self.parts.log.poll(self.partition, self.offset, wait)?;
        let any = !polled.records.is_empty();
        for record in polled.records {
            self.observe(record);
        }
        self.offset = polled.next;
        if let Some(shadow) = &mut self.shadow {
            shadow.publish();
        }
        let lag = self.parts.log.head(self.partition).0.saturating_sub(self.offset.0);
        let behind = if lag == 0 { 0 } else { self.parts.clock.now().millis_since(self.last_received_at).max(0) };
        let stats = self.detector.stats();
        self.sight.look(&self.detector, stats.events);
        self.publisher.publish(&stats, lag, behind);
        self.take_erased();
        let snapshot_due =
            self.offset > self.snapshot_offset && self.since_snapshot.elapsed() >= self.snapshot_interval();
        if !self.found.is_empty() || snapshot_due {
            self.commit(snapshot_due)?;
        }
        Ok(any)
    }

    /// The end of a file: moves time on until every finding is closed.
    ///
    /// # Errors
    /// See [`LogError`].
    pub fn finish(&mut self) -> Result<(), LogError> {
        self.detector.finish(&mut self.found);
        self.arrivals.resize(self.found.len(), None);
        if let Some(shadow) = &mut self.shadow {
            shadow.finish();
        }
        self.commit(false)
    }

    fn observe(&mut self, record: Record) {
        if let Some(shadow) = &mut self.shadow {
            shadow.observe(&record);
        }
        let received_at = match record {
            Record::Event(event) => {
                let received_at = event.received_at;
                self.last_received_at = received_at;
                self.detector.observe(event, &mut self.found);
                Some(received_at)
            }
            Record::Tick { at } => {
                self.last_received_at = at;
                self.detector.tick(at, &mut self.found);
                None
            }
        };
        self.arrivals.resize(self.found.len(), received_at);
    }

    /// What the detector forgot in the last records, and what is shown of it here.
    fn take_erased(&mut self) {
        for erased in self.detector.take_erased() {
            // Of open findings there is a new revision; the shadow's closed ones are kept for the asking.
            self.parts.shadow.rename(&erased.account.to_string(), &erased.replacement);
            self.erased.push(erased);
        }
    }

    fn snapshot_interval(&self) -> Duration {
        let shortest = if self.erased.is_empty() { SNAPSHOT_INTERVAL } else { ERASURE_INTERVAL };
        shortest.max(Duration::from_secs(self.snapshot_bytes / SNAPSHOT_BYTES_PER_SECOND))
    }

    fn commit(&mut self, with_snapshot: bool) -> Result<(), LogError> {
        let snapshot = if with_snapshot {
            let live = self.detector.snapshot();
            let state = live.and_then(|live| match &self.shadow {
                Some(shadow) => shadow.beside(&live),
                None => Ok(live),
            });
            let state = state.map_err(|error| LogError::Corrupt(error.to_string()))?;
            self.snapshot_bytes = state.len() as u64;
            self.publisher.snapshot(self.snapshot_bytes, self.parts.clock.now());
            Some(Snapshot { offset: self.offset, state })
        } else {
            None
        };
        let erasures = if with_snapshot { self.erased.clone() } else { Vec::new() };
        self.parts.log.commit(self.partition, Commit { findings: self.found.clone(), snapshot, erasures })?;
        if with_snapshot {
            self.erased.clear();
            self.snapshot_offset = self.offset;
            self.since_snapshot = Stopwatch::start();
        }
        self.announce();
        Ok(())
    }

    /// The findings are durable: tell everyone.
    fn announce(&mut self) {
        if self.found.is_empty() {
            return;
        }
        let now = self.parts.clock.now();
        for (finding, received_at) in self.found.drain(..).zip(self.arrivals.drain(..)) {
            self.publisher.finding(&finding, received_at.map(|received_at| now.millis_since(received_at)));
            if finding.lifecycle == Lifecycle::Closed {
                self.parts.board.remove(&finding.finding_id);
            } else {
                self.parts.board.insert(finding.finding_id, Arc::new(finding));
            }
        }
        (self.parts.wake)();
    }

    /// Writes a tick if time alone would change a finding; the task then reads it like any other record.
    fn tick_if_due(&mut self, runtime: &tokio::runtime::Handle) {
        let now = self.parts.clock.now();
        if !self.detector.is_due(now) {
            // If the live one is due too, both see the tick that is written for it.
            if let Some(shadow) = &mut self.shadow {
                shadow.tick_if_due(now);
            }
            return;
        }
        if let Err(error) = runtime.block_on(self.parts.log.tick(self.partition, now)) {
            tracing::warn!(%error, "a tick could not be written; the next round tries again");
            std::thread::sleep(RETRY_WAIT);
        }
    }
}

#[cfg(test)]
mod tests;
