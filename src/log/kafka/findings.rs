//! Findings on their way from the topic to whoever delivers them.
//!
//! Invariant: the offset of a revision is committed only once the intake says that it was delivered, or given up with a
//! trace, everywhere. Until then the topic holds it: the disk of the process that delivers may be lost. A partition that
//! goes to another process takes what is not delivered with it, so that a finding's revisions are not sent by two.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Parts;
use super::config::Config;
use super::consume::{Shares, begin};
use super::dead_letters::DeadLetters;
use super::erasure::{self, Shears};
use super::group::{Feed, FeedEnd, Group, Owner, Raw, feed};
use super::health::Health;
use super::health::client_fault;
use super::seat::locked;
use crate::clock::Stopwatch;
use crate::event::Erasure;
use crate::finding::Finding;

/// Revisions taken and not yet delivered: a sink that is down for a night leaves the rest in the topic.
const MAX_UNSETTLED: usize = 10_000;
/// How soon what was delivered is committed.
const LOOK: Duration = Duration::from_millis(500);
/// Between tries when the intake fails.
const RETRY_WAIT: Duration = Duration::from_secs(1);

/// The group of those who deliver.
pub(super) fn group_of(config: &Config) -> String {
    format!("{}-deliver", config.group)
}

/// Whoever delivers. All of it blocks.
pub trait Intake: Send + 'static {
    /// Takes revisions, in order; those it has already are left as they are.
    ///
    /// # Errors
    /// Why not now; it is asked again.
    fn take(&mut self, findings: &[Finding]) -> Result<(), String>;

    /// Which of `revisions` still wait for delivery somewhere.
    ///
    /// # Errors
    /// Why it cannot be said now.
    fn unsettled(&mut self, revisions: &[Uuid]) -> Result<HashSet<Uuid>, String>;

    /// Accounts are to be forgotten in all that was taken. Asked twice is done once.
    ///
    /// # Errors
    /// Why not now; it is asked again.
    fn forget(&mut self, erasures: &[Erasure]) -> Result<(), String>;

    /// Somebody else delivers these from now on.
    ///
    /// # Errors
    /// Why not now.
    fn give_up(&mut self, revisions: &[Uuid]) -> Result<(), String>;
}

/// What was taken of a partition and is not committed, in order.
#[derive(Default)]
struct Open {
    /// Offset and revision.
    taken: VecDeque<(i64, Option<Uuid>)>,
    /// The place of the last account that is to be forgotten: what lies before it is cut off once it is delivered.
    forgotten_at: Option<i64>,
}

/// A record of the topic.
enum Taken {
    Finding(Box<Finding>),
    Erasure(Erasure),
    Unreadable,
}

/// What the thread that takes findings and the one that is told of rebalances share.
struct Ledger {
    group: OnceLock<Group>,
    shares: Mutex<Shares<Open>>,
    /// Locked before `shares`, and for as long as a revision is in one of the two and not yet in the other.
    intake: Mutex<Box<dyn Intake>>,
}

/// The consumer of the findings topic.
pub struct Deliveries {
    ledger: Arc<Ledger>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

struct Carrier {
    topic: String,
    ledger: Arc<Ledger>,
    feed: Feed,
    end: FeedEnd,
    dead: DeadLetters,
    shears: Shears,
    stop: CancellationToken,
}

/// Begins and ends with the partitions as the group gives and takes them.
struct Seating(Arc<Ledger>);

impl Deliveries {
    pub(super) fn join(
        parts: &Parts,
        topic: &str,
        health: &Arc<Health>,
        dead: &DeadLetters,
        intake: Box<dyn Intake>,
    ) -> Result<Self, String> {
        let (end, feed) = feed();
        let ledger = Arc::new(Ledger { group: OnceLock::new(), shares: Mutex::default(), intake: Mutex::new(intake) });
        let owner = Box::new(Seating(Arc::clone(&ledger)));
        let (name, failed) = (group_of(parts.clients.config()), Arc::clone(&parts.failed));
        let joined = Group::join(&parts.clients, &name, topic, health, owner, move |fault| failed(fault));
        if ledger.group.set(joined.map_err(|error| client_fault(&error))?).is_err() {
            return Err("deliveries were joined twice".to_owned());
        }
        let stop = CancellationToken::new();
        let carrier = Carrier {
            topic: topic.to_owned(),
            ledger: Arc::clone(&ledger),
            feed,
            end,
            dead: dead.clone(),
            shears: Shears::new(parts.clients.clone()),
            stop: stop.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("deliver".to_owned())
            .spawn(move || carrier.run())
            .map_err(|error| error.to_string())?;
        Ok(Self { ledger, stop, thread: Some(thread) })
    }

    /// Leaves the group; what was taken and not delivered stays in the topic. Blocks the calling thread.
    pub fn close(mut self) {
        if let Some(group) = self.ledger.group.get() {
            group.leave();
        }
        self.stop.cancel();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that takes findings panicked");
        }
    }
}

impl Owner for Seating {
    fn assigned(&mut self, partitions: &[i32]) {
        locked(&self.0.shares).assigned(partitions);
    }

    fn revoked(&mut self, partitions: &[i32]) {
        for partition in partitions {
            // Whoever gets it begins after what was delivered.
            self.0.settle(*partition);
            let mut intake = locked(&self.0.intake);
            let open = locked(&self.0.shares).revoked(*partition).unwrap_or_default();
            let revisions: Vec<Uuid> = open.taken.into_iter().filter_map(|(_, revision)| revision).collect();
            if let Err(error) = intake.give_up(&revisions) {
                // They are delivered twice then, under the same ids.
                tracing::warn!(%error, "findings that go to another process could not be taken back");
            }
        }
    }
}

impl Ledger {
    /// Commits as far as everything was delivered.
    fn settle(&self, partition: i32) {
        let mut intake = locked(&self.intake);
        let revisions: Vec<Uuid> = match locked(&self.shares).open.get(&partition) {
            Some(open) if !open.taken.is_empty() => open.taken.iter().filter_map(|(_, revision)| *revision).collect(),
            _ => return,
        };
        let unsettled = match intake.unsettled(&revisions) {
            Ok(unsettled) => unsettled,
            Err(error) => {
                tracing::warn!(error, "cannot learn which findings were delivered");
                return;
            }
        };
        let mut next = None;
        if let Some(open) = locked(&self.shares).open.get_mut(&partition) {
            let is_settled = |revision: &Option<Uuid>| revision.is_none_or(|revision| !unsettled.contains(&revision));
            while open.taken.front().is_some_and(|(_, revision)| is_settled(revision)) {
                next = open.taken.pop_front().map(|(offset, _)| offset + 1);
            }
        }
        if let (Some(next), Some(group)) = (next, self.group.get())
            && let Err(error) = group.commit(partition, next, "", true)
        {
            tracing::warn!(partition, %error, "delivered findings could not be committed; they may be delivered again");
        }
    }
}

impl Carrier {
    fn run(self) {
        let mut since_look = Stopwatch::start();
        while !self.stop.is_cancelled() {
            let Ledger { group, shares, .. } = &*self.ledger;
            begin(group.wait(), shares, &self.feed, &self.end, |batch| self.take(batch));
            let open: usize = locked(&self.ledger.shares).open.values().map(|open| open.taken.len()).sum();
            if open >= MAX_UNSETTLED {
                std::thread::sleep(LOOK);
            } else if let Ok(batch) = self.feed.recv_timeout(LOOK) {
                self.take(batch);
            }
            if since_look.elapsed() >= LOOK {
                let partitions: Vec<i32> = locked(&self.ledger.shares).open.keys().copied().collect();
                for partition in partitions {
                    self.ledger.settle(partition);
                    self.cut(partition);
                }
                since_look = Stopwatch::start();
            }
        }
    }

    fn take(&self, batch: Vec<Raw>) {
        let mut taken = Vec::with_capacity(batch.len());
        for raw in batch {
            let read = match (erasure::decode(&raw), serde_json::from_slice(raw.value.as_deref().unwrap_or_default())) {
                (Some(erasure), _) => Taken::Erasure(erasure),
                (None, Ok(finding)) => Taken::Finding(Box::new(finding)),
                (None, Err(_)) => {
                    self.dead.put(&self.topic, &raw, "unreadable", "it is no finding that this version knows");
                    Taken::Unreadable
                }
            };
            taken.push((raw.partition, raw.offset, read));
        }
        while let Err(error) = self.enter(&mut taken) {
            tracing::warn!(error, "findings wait: they cannot be put into the outbox");
            if self.stop.is_cancelled() {
                return;
            }
            std::thread::sleep(RETRY_WAIT);
        }
    }

    /// Into the outbox first: what is open and does not wait there counts as delivered.
    fn enter(&self, taken: &mut Vec<(i32, i64, Taken)>) -> Result<(), String> {
        let mut intake = locked(&self.ledger.intake);
        {
            let shares = locked(&self.ledger.shares);
            // A partition that has gone meanwhile is somebody else's.
            taken.retain(|(partition, ..)| shares.open.contains_key(partition));
        }
        let (mut findings, mut erasures) = (Vec::new(), Vec::new());
        for (.., read) in &*taken {
            match read {
                Taken::Finding(finding) => findings.push(Finding::clone(finding)),
                Taken::Erasure(erasure) => erasures.push(erasure.clone()),
                Taken::Unreadable => {}
            }
        }
        intake.take(&findings)?;
        // After the findings that may name them.
        if !erasures.is_empty() {
            intake.forget(&erasures)?;
        }
        let mut shares = locked(&self.ledger.shares);
        for (partition, offset, read) in taken.drain(..) {
            let Some(open) = shares.open.get_mut(&partition) else { continue };
            let revision = if let Taken::Finding(finding) = &read { Some(finding.revision_id) } else { None };
            if matches!(read, Taken::Erasure(_)) {
                open.forgotten_at = Some(offset);
            }
            open.taken.push_back((offset, revision));
        }
        Ok(())
    }

    /// Cuts off what was delivered, if an account was forgotten in it.
    fn cut(&self, partition: i32) {
        let due = |open: &Open| {
            let settled = open.taken.front().map_or(i64::MAX, |(offset, _)| *offset);
            open.forgotten_at.filter(|at| *at < settled)
        };
        let Some(at) = locked(&self.ledger.shares).open.get(&partition).and_then(due) else { return };
        if let Err(error) = self.shears.cut(partition, &BTreeMap::from([(self.topic.as_str(), at + 1)])) {
            tracing::warn!(partition, error, "findings that name a forgotten account are not deleted yet");
            return;
        }
        if let Some(open) = locked(&self.ledger.shares).open.get_mut(&partition) {
            // Another may have come since.
            open.forgotten_at = open.forgotten_at.filter(|newest| *newest > at);
        }
    }
}
