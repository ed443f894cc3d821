//! The log on Kafka: what a fleet runs on.
//!
//! One topic of events, keyed by tenant, so that everything the rules join (an account, an address, their tenant) meets in
//! one partition, whose task makes the same findings on whichever machine it runs. Receivers only append; detectors are a
//! consumer group; snapshots lie in a compacted topic, findings in one keyed by finding.
//!
//! Invariant: an event is acknowledged once every replica in sync has it. Findings are acknowledged before a snapshot is
//! written that lies behind them, and the snapshot before the offset is committed: whoever takes over repeats work and
//! makes the same revisions under the same ids. So does one that was thought dead and is not: nothing has to be fenced.
//!
//! Duplicates are recognised when they are read, not when they are appended, since receivers share nothing: `append` says
//! [`Appended::Stored`] of every event.
//!
//! Here is what the log is made of, and what it appends. Not here: reading (`reading`), snapshots and offsets (`snapshots`),
//! who owns which partition (`seating`), and whether the process is ready (`ready`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use dashmap::DashMap;

use super::{AppendError, Appended, Commit, Log, LogError, Offset, Partition, Polled, Snapshot};
use crate::alias::Aliases;
use crate::clock::{Clock, Stopwatch};
use crate::event::{AuthEvent, Timestamp};
use crate::finding::Finding;
use crate::metrics::{KafkaMetrics, LogMetrics};

pub mod access;
mod aliases;
pub mod config;
mod consume;
mod dead_letters;
mod erasure;
pub mod findings;
mod group;
mod health;
mod producer;
mod reading;
mod ready;
mod seat;
mod seating;
mod snapshots;
mod state;
pub mod topic;
pub mod topics;
mod wire;

pub use aliases::Sharing;
pub use config::{Clients, Config, Secrets};
pub use wire::record as read_record;

use dead_letters::DeadLetters;
use erasure::Shears;
use group::Group;
use health::{Health, client_fault};
use producer::{Message, Producer, Unplaced, Waiting};
use seat::Seat;
use seating::Seating;
use state::{States, unavailable};
use topics::Topics;

/// Whoever judges partitions. Called on a thread of the log's.
pub trait Assignee: Send + 'static {
    /// `partition` is ours: restore its state and judge it.
    fn assigned(&mut self, partition: Partition);
    /// These go to somebody else: stop judging them. Returns once their last snapshots are written, within seconds.
    fn revoked(&mut self, partitions: &[Partition]);
}

/// Called when something cannot go on by itself, with why.
pub type Failed = Arc<dyn Fn(String) + Send + Sync>;

/// What the log is made of.
pub struct Parts {
    /// The clients.
    pub clients: Clients,
    /// Told of what cannot go on.
    pub failed: Failed,
    /// Stamps lag.
    pub clock: Clock,
    /// Figures of the log.
    pub log: LogMetrics,
    /// Figures of Kafka.
    pub kafka: KafkaMetrics,
}

/// The log on Kafka.
pub struct KafkaLog {
    parts: Parts,
    topics: Topics,
    producer: Arc<Producer>,
    dead: DeadLetters,
    states: States,
    shears: Shears,
    detect: Arc<Health>,
    deliver: Arc<Health>,
    group: OnceLock<Group>,
    /// Why it is not known yet whether the topics are there and may be used.
    unchecked: Mutex<Option<String>>,
    seats: DashMap<u32, Arc<Seat>>,
    was_ready: AtomicBool,
}

impl KafkaLog {
    /// Opens it for appending. Brokers that cannot be reached now are no error: they may come.
    ///
    /// # Errors
    /// What the clients' settings lack, or that the topics are not as they must be.
    pub fn open(parts: Parts) -> Result<Arc<Self>, String> {
        let health = Arc::new(Health::new("producer", parts.kafka.clone()));
        let failed = Arc::clone(&parts.failed);
        let producer =
            Producer::new(&parts.clients, health, move |fault| failed(fault)).map_err(|error| client_fault(&error))?;
        let producer = Arc::new(producer);
        let topics = Topics::of(parts.clients.config());
        let detect = Arc::new(Health::new("detect", parts.kafka.clone()));
        let deliver = Arc::new(Health::new("deliver", parts.kafka.clone()));
        let states = States::new(topics.state.clone(), parts.clients.clone(), detect_group(parts.clients.config()));
        Ok(Arc::new(Self {
            dead: DeadLetters::new(Arc::clone(&producer), topics.dead_letters.clone()),
            producer,
            topics,
            states,
            shears: Shears::new(parts.clients.clone()),
            detect,
            deliver,
            group: OnceLock::new(),
            unchecked: Mutex::default(),
            seats: DashMap::new(),
            was_ready: AtomicBool::new(false),
            parts,
        }))
    }

    /// Joins the group of detectors: from now on `assignee` is told which partitions are ours.
    ///
    /// # Errors
    /// What the clients' settings lack.
    pub fn detect(self: &Arc<Self>, assignee: Box<dyn Assignee>) -> Result<(), String> {
        let owner = Seating { log: Arc::downgrade(self), assignee };
        let (clients, failed) = (&self.parts.clients, Arc::clone(&self.parts.failed));
        let name = detect_group(clients.config());
        let group =
            Group::join(clients, &name, &self.topics.events, &self.detect, Box::new(owner), move |fault| failed(fault));
        let group = group.map_err(|error| client_fault(&error))?;
        if self.group.set(group).is_err() {
            return Err("detectors were joined twice".to_owned());
        }
        Ok(())
    }

    /// Has `aliases` know what all receivers know, and the others what they learn.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn share(&self, aliases: Aliases) -> Result<Sharing, String> {
        let (clients, topic) = (self.parts.clients.clone(), self.topics.aliases.clone());
        Sharing::begin(clients, topic, Arc::clone(&self.producer), aliases)
    }

    /// Where findings come out again, for whoever delivers them.
    ///
    /// # Errors
    /// What the clients' settings lack.
    pub fn deliver(&self, intake: Box<dyn findings::Intake>) -> Result<findings::Deliveries, String> {
        findings::Deliveries::join(&self.parts, &self.topics.findings, &self.deliver, &self.dead, intake)
    }

    /// Leaves the group and waits for what was appended. Blocks the calling thread.
    pub fn close(&self) {
        if let Some(group) = self.group.get() {
            group.leave();
        }
        self.producer.flush();
    }

    fn seat(&self, partition: Partition) -> Result<Arc<Seat>, LogError> {
        let seat = self.seats.get(&partition.0).map(|seat| Arc::clone(&seat));
        seat.ok_or_else(|| LogError::Unavailable(format!("partition {} is not ours", partition.0)))
    }

    /// Waits for [`KafkaLog::detect`], which the first assignment may outrun.
    fn group(&self) -> &Group {
        self.group.wait()
    }

    fn hand_over(&self, events: &[AuthEvent]) -> Result<Waiting, AppendError> {
        let values = events.iter().map(wire::event).collect::<Result<Vec<_>, _>>();
        let values = values.map_err(|error| AppendError::Unavailable(format!("cannot encode an event: {error}")))?;
        let messages = events.iter().zip(&values).map(|(event, value)| Message {
            topic: &self.topics.events,
            partition: None,
            key: event.tenant.0.as_bytes(),
            value: Some(value),
            headers: &[],
        });
        placed(self.producer.hand_over(messages))
    }

    fn append_findings(&self, findings: &[Finding]) -> Result<(), LogError> {
        let corrupt = |error| LogError::Corrupt(format!("a finding cannot be written: {error}"));
        let values = findings.iter().map(serde_json::to_vec).collect::<Result<Vec<_>, _>>().map_err(corrupt)?;
        let keys: Vec<String> = findings.iter().map(|finding| finding.finding_id.to_string()).collect();
        let messages = keys.iter().zip(&values).map(|(key, value)| Message {
            topic: &self.topics.findings,
            partition: None,
            key: key.as_bytes(),
            value: Some(value),
            headers: &[(wire::SCHEMA_HEADER, wire::FINDING_SCHEMA)],
        });
        self.producer.append_blocking(messages).map(|_| ()).map_err(unavailable)
    }
}

#[async_trait]
impl Log for KafkaLog {
    async fn append(&self, events: Vec<AuthEvent>) -> Result<Vec<Appended>, AppendError> {
        // What cannot leave now is better kept by its sender than here.
        self.producer.health().may_try().map_err(AppendError::Unavailable)?;
        let stopwatch = Stopwatch::start();
        let count = events.len();
        // Not kept until they are acknowledged: where that takes long, the producer's own bound is what waits in memory.
        let handed_over = self.hand_over(&events);
        drop(events);
        let appended = match handed_over {
            Ok(waiting) => placed(waiting.placed().await),
            Err(error) => Err(error),
        };
        if let Err(error) = appended {
            self.parts.log.append_failures.inc_by(u64::from(matches!(error, AppendError::Unavailable(_))));
            return Err(error);
        }
        self.parts.log.append_seconds.observe(stopwatch.elapsed().as_secs_f64());
        Ok(vec![Appended::Stored; count])
    }

    async fn tick(&self, partition: Partition, at: Timestamp) -> Result<(), AppendError> {
        let value = wire::tick(at);
        let message = Message {
            topic: &self.topics.events,
            partition: Some(signed_partition(partition)),
            key: &[],
            value: Some(value.as_bytes()),
            headers: &[],
        };
        let waiting = placed(self.producer.hand_over(std::iter::once(message)))?;
        placed(waiting.placed().await).map(|_| ())
    }

    fn poll(&self, partition: Partition, from: Offset, wait: Duration) -> Result<Polled, LogError> {
        self.read(partition, from, wait)
    }

    fn commit(&self, partition: Partition, commit: Commit) -> Result<(), LogError> {
        self.append_findings(&commit.findings)?;
        let Some(snapshot) = commit.snapshot else { return Ok(()) };
        let erases = !commit.erasures.is_empty();
        if erases {
            self.tell_of(&commit.erasures)?;
        }
        self.write_snapshot(partition, &snapshot, erases)?;
        self.cut(partition)
    }

    fn snapshot(&self, partition: Partition) -> Result<Option<Snapshot>, LogError> {
        self.read_snapshot(partition)
    }

    fn head(&self, partition: Partition) -> Offset {
        let next = self.seats.get(&partition.0).map_or(0, |seat| seat.next.load(Ordering::Relaxed));
        let end = self.detect.end(&self.topics.events, signed_partition(partition)).unwrap_or(0);
        Offset(next.max(end).unsigned_abs())
    }

    fn fault(&self) -> Option<String> {
        // Those that have nothing to do here have nothing to complain of.
        self.producer.health().fault().or_else(|| self.detect.fault()).or_else(|| self.deliver.fault())
    }
}

/// In the words of the log.
fn placed<T>(result: Result<T, Unplaced>) -> Result<T, AppendError> {
    result.map_err(|error| match error {
        Unplaced::Full => AppendError::Overloaded,
        Unplaced::Failed(fault) => AppendError::Unavailable(fault),
    })
}

/// The group of detectors.
fn detect_group(config: &Config) -> String {
    format!("{}-detect", config.group)
}

fn signed_partition(partition: Partition) -> i32 {
    i32::try_from(partition.0).unwrap_or(i32::MAX)
}
