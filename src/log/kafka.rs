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

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use dashmap::DashMap;
use rdkafka::error::KafkaError;

use super::id_window::{IdWindow, fingerprint};
use super::{AppendError, Appended, Commit, Log, LogError, Offset, Partition, Polled, Record, Snapshot};
use crate::alias::Aliases;
use crate::clock::{Clock, Stopwatch};
use crate::event::{AuthEvent, Erasure, Timestamp};
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
mod seat;
mod state;
pub mod topic;
pub mod topics;
mod wire;

pub use aliases::Sharing;
pub use config::{Clients, Config, Secrets};
pub use wire::record as read_record;

use dead_letters::DeadLetters;
use erasure::Shears;
use group::{Group, Owner, Raw};
use health::Health;
use producer::{Message, Producer, Unplaced, Waiting};
use seat::{Seat, locked};
use state::{Note, States, unavailable};
use topics::Topics;

/// How often an offset is committed again while the group is being rearranged, and how long is waited in between.
const COMMIT_TRIES: usize = 3;
const COMMIT_PAUSE: Duration = Duration::from_millis(300);

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

    /// The brokers could not be reached, which `fault` says: asks them what [`access::check`] asks once they can be, and
    /// fails then if it has to.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn check_later(self: &Arc<Self>, roles: access::Roles, fault: String) -> std::io::Result<()> {
        *locked(&self.unchecked) = Some(fault);
        let log = Arc::downgrade(self);
        let body = move || {
            while let Some(clients) = log.upgrade().map(|log| log.parts.clients.clone()) {
                let result = access::check(&clients, roles);
                let Some(log) = log.upgrade() else { return };
                match result {
                    Ok(()) => return *locked(&log.unchecked) = None,
                    Err(access::AccessError::Wrong(fault)) => return (*log.parts.failed)(fault),
                    Err(access::AccessError::Unreachable(fault)) => *locked(&log.unchecked) = Some(fault),
                }
            }
        };
        std::thread::Builder::new().name("kafka-access".to_owned()).spawn(body).map(drop)
    }

    /// Why the detector of this process is not ready, if it is one and is not. Once it was, a rebalance is no reason:
    /// it would be taken out of service for what its coming back would only repeat.
    #[must_use]
    pub fn unready(&self) -> Option<String> {
        if let Some(fault) = locked(&self.unchecked).clone() {
            return Some(format!("it is not known yet whether the topics may be used: {fault}"));
        }
        self.group.get()?;
        if self.was_ready.load(Ordering::Relaxed) {
            return None;
        }
        if !self.detect.has_joined() {
            let why = "the group of detectors has not given us our partitions yet";
            return Some(match self.parts.clients.config().group_protocol {
                config::Protocol::Classic => why.to_owned(),
                // They refuse, and the client tries on without a word.
                config::Protocol::Consumer => {
                    format!("{why}; brokers do that only once the last member of the classic protocol has left")
                }
            });
        }
        let restoring = self.seats.iter().filter(|seat| !seat.reads.load(Ordering::Relaxed)).count();
        if restoring > 0 {
            return Some(format!("the state of {restoring} partitions is being restored"));
        }
        self.was_ready.store(true, Ordering::Relaxed);
        None
    }

    /// How long it took until the state of `partition` was restored.
    pub fn restored(&self, partition: Partition, took: Duration) {
        let label = partition.0.to_string();
        self.parts.kafka.restore_seconds.with_label_values(&[&label]).set(took.as_secs_f64());
        tracing::info!(partition = partition.0, seconds = took.as_secs_f64(), "the detector's state is restored");
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

    /// Says in every partition of the findings topic that accounts are to be forgotten: whoever delivers has one of them.
    fn tell_of(&self, erasures: &[Erasure]) -> Result<(), LogError> {
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

    /// Cuts off what named accounts that the noted snapshot does not, if there are any that may still be named.
    fn cut(&self, partition: Partition) -> Result<(), LogError> {
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

    fn write_snapshot(&self, partition: Partition, snapshot: &Snapshot, erases: bool) -> Result<(), LogError> {
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

/// Makes and clears seats as the group gives and takes partitions.
struct Seating {
    log: Weak<KafkaLog>,
    assignee: Box<dyn Assignee>,
}

impl Owner for Seating {
    fn assigned(&mut self, partitions: &[i32]) {
        let Some(log) = self.log.upgrade() else { return };
        for partition in partitions.iter().map(|number| number.unsigned_abs()) {
            log.seats.insert(partition, Arc::new(Seat::new(log.parts.clients.config().dedupe_max_ids)));
            self.assignee.assigned(Partition(partition));
        }
    }

    fn revoked(&mut self, partitions: &[i32]) {
        let Some(log) = self.log.upgrade() else { return };
        let partitions: Vec<Partition> = partitions.iter().map(|number| Partition(number.unsigned_abs())).collect();
        for partition in &partitions {
            if let Some(seat) = log.seats.get(&partition.0) {
                seat.revoke();
            }
        }
        self.assignee.revoked(&partitions);
        for partition in &partitions {
            log.seats.remove(&partition.0);
            let label = partition.0.to_string();
            // Not there: nothing was published yet.
            let _ = log.parts.kafka.lag_records.remove_label_values(&[&log.topics.events, &label]);
            let _ = log.parts.kafka.lag_seconds.remove_label_values(&[&log.topics.events, &label]);
            let _ = log.parts.kafka.restore_seconds.remove_label_values(&[&label]);
        }
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

/// What is wrong with a client's settings, without their values.
fn client_fault(error: &KafkaError) -> String {
    if let KafkaError::ClientConfig(_, what, key, _) = error {
        return format!("kafka: property {key}: {what}");
    }
    if let KafkaError::ClientCreation(what) = error {
        // OpenSSL does not say that a password is wrong.
        let hint = if what.contains("ssl.key.location") {
            " (is it the private key, and AUTHSPIKE_KAFKA_SSL_KEY_PASSWORD its password?)"
        } else {
            ""
        };
        return format!("kafka: {}{hint}", what.trim_end());
    }
    format!("kafka: {error}")
}
