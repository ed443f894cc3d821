//! Findings on their way from the topic to whoever delivers them.
//!
//! Invariant: the offset of a revision is committed only once the intake says that it was delivered, or given up with a
//! trace, everywhere. Until then the topic holds it: the disk of the process that delivers may be lost. A partition that
//! goes to another process takes what is not delivered with it, so that a finding's revisions are not sent by two.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Parts;
use super::config::Config;
use super::consume::{Consumer, Partitions};
use super::dead_letters::DeadLetters;
use super::group::{Feed, Raw};
use super::health::Health;
use super::seat::locked;
use crate::clock::Stopwatch;
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

    /// Somebody else delivers these from now on.
    ///
    /// # Errors
    /// Why not now.
    fn give_up(&mut self, revisions: &[Uuid]) -> Result<(), String>;
}

/// By partition, what was taken and is not committed: offset and revision, in order.
type Open = Mutex<BTreeMap<i32, VecDeque<(i64, Option<Uuid>)>>>;

/// The consumer of the findings topic.
pub struct Deliveries {
    consumer: Consumer,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

struct Carrier {
    topic: String,
    consumer: Consumer,
    feed: Feed,
    taken: Arc<Taken>,
    dead: DeadLetters,
    stop: CancellationToken,
}

/// What was taken, and who took it.
struct Taken {
    open: Open,
    intake: Mutex<Box<dyn Intake>>,
}

impl Partitions for Taken {
    fn begun(&self, partition: i32) {
        locked(&self.open).insert(partition, VecDeque::new());
    }

    fn ended(&self, partitions: &[i32]) {
        for partition in partitions {
            let open = locked(&self.open).remove(partition).unwrap_or_default();
            let revisions: Vec<Uuid> = open.into_iter().filter_map(|(_, revision)| revision).collect();
            if let Err(error) = locked(&self.intake).give_up(&revisions) {
                // They are delivered twice then, under the same ids.
                tracing::warn!(%error, "findings that go to another process could not be taken back");
            }
        }
    }
}

impl Deliveries {
    pub(super) fn join(
        parts: &Parts,
        topic: &str,
        health: &Arc<Health>,
        dead: &DeadLetters,
        intake: Box<dyn Intake>,
    ) -> Result<Self, String> {
        let taken = Arc::new(Taken { open: Mutex::default(), intake: Mutex::new(intake) });
        let (name, failed) = (group_of(parts.clients.config()), Arc::clone(&parts.failed));
        let (consumer, feed) =
            Consumer::join(&parts.clients, &name, topic, health, Arc::clone(&taken), move |fault| failed(fault))?;
        let stop = CancellationToken::new();
        let carrier = Carrier {
            topic: topic.to_owned(),
            consumer: consumer.clone(),
            feed,
            taken,
            dead: dead.clone(),
            stop: stop.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("deliver".to_owned())
            .spawn(move || carrier.run())
            .map_err(|error| error.to_string())?;
        Ok(Self { consumer, stop, thread: Some(thread) })
    }

    /// Leaves the group; what was taken and not delivered stays in the topic. Blocks the calling thread.
    pub fn close(mut self) {
        self.consumer.leave();
        self.stop.cancel();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that takes findings panicked");
        }
    }
}

impl Carrier {
    fn run(self) {
        let mut since_look = Stopwatch::start();
        while !self.stop.is_cancelled() {
            let open: usize = locked(&self.taken.open).values().map(VecDeque::len).sum();
            if open < MAX_UNSETTLED {
                match self.feed.recv_timeout(LOOK) {
                    Ok(batch) => self.take(batch),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => std::thread::sleep(LOOK),
                }
            } else {
                std::thread::sleep(LOOK);
            }
            if since_look.elapsed() >= LOOK {
                self.settle();
                since_look = Stopwatch::start();
            }
        }
    }

    fn take(&self, batch: Vec<Raw>) {
        let mut findings = Vec::with_capacity(batch.len());
        let mut places = Vec::with_capacity(batch.len());
        for raw in batch {
            let read = serde_json::from_slice::<Finding>(raw.value.as_deref().unwrap_or_default());
            let revision = read.as_ref().ok().map(|finding| finding.revision_id);
            match read {
                Ok(finding) => findings.push(finding),
                Err(_) => self.dead.put(&self.topic, &raw, "unreadable", "it is no finding that this version knows"),
            }
            places.push((raw.partition, raw.offset, revision));
        }
        {
            let mut open = locked(&self.taken.open);
            // Nothing to do for a partition that has gone meanwhile: it is somebody else's.
            findings.retain(|finding| {
                places.iter().any(|(partition, _, id)| *id == Some(finding.revision_id) && open.contains_key(partition))
            });
            for (partition, offset, revision) in places {
                if let Some(open) = open.get_mut(&partition) {
                    open.push_back((offset, revision));
                }
            }
        }
        while let Err(error) = locked(&self.taken.intake).take(&findings) {
            tracing::warn!(error, "findings wait: they cannot be put into the outbox");
            if self.stop.is_cancelled() {
                return;
            }
            std::thread::sleep(RETRY_WAIT);
        }
    }

    /// Commits as far as everything was delivered.
    fn settle(&self) {
        let waiting: Vec<(i32, Vec<Uuid>)> = locked(&self.taken.open)
            .iter()
            .filter(|(_, open)| !open.is_empty())
            .map(|(partition, open)| (*partition, open.iter().filter_map(|(_, revision)| *revision).collect()))
            .collect();
        for (partition, revisions) in waiting {
            let unsettled = match locked(&self.taken.intake).unsettled(&revisions) {
                Ok(unsettled) => unsettled,
                Err(error) => {
                    tracing::warn!(error, "cannot learn which findings were delivered");
                    return;
                }
            };
            let asked: HashSet<Uuid> = revisions.into_iter().collect();
            let mut next = None;
            if let Some(open) = locked(&self.taken.open).get_mut(&partition) {
                // What came while we asked was not asked about.
                let is_settled = |revision: &Option<Uuid>| {
                    revision.is_none_or(|revision| asked.contains(&revision) && !unsettled.contains(&revision))
                };
                while open.front().is_some_and(|(_, revision)| is_settled(revision)) {
                    next = open.pop_front().map(|(offset, _)| offset + 1);
                }
            }
            if let Some(next) = next
                && let Err(error) = self.consumer.commit(partition, next)
            {
                tracing::warn!(partition, %error, "delivered findings could not be committed; they may be delivered again");
            }
        }
    }
}
