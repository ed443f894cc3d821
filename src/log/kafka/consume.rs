//! Reading a topic on from its committed offsets: what findings and other people's topics have in common.
//!
//! Invariant: nothing is committed here. Whoever takes the records says when; until then they come again after a restart.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rdkafka::error::KafkaError;

use super::group::{Feed, FeedEnd, Group, Owner, feed};
use super::health::Health;
use super::{Clients, client_fault};

/// Between questions to brokers that do not answer.
const RETRY_WAIT: Duration = Duration::from_secs(1);

/// Told what comes and goes. Called on threads of the group's.
pub(super) trait Partitions: Send + Sync + 'static {
    /// Records of `partition` will arrive from now on.
    fn begun(&self, partition: i32);
    /// These go to somebody else. Returns within seconds.
    fn ended(&self, partitions: &[i32]);
}

/// A member of a group that reads on from where the group had committed. Clones share it.
#[derive(Clone)]
pub(super) struct Consumer {
    group: Arc<OnceLock<Group>>,
}

struct Seating<P> {
    group: Arc<OnceLock<Group>>,
    end: FeedEnd,
    partitions: Arc<P>,
}

impl Consumer {
    /// Joins `group` for `topic`; all its partitions arrive in the feed.
    pub(super) fn join<P: Partitions>(
        clients: &Clients,
        group: &str,
        topic: &str,
        health: &Arc<Health>,
        partitions: Arc<P>,
        failed: impl Fn(String) + Send + 'static,
    ) -> Result<(Self, Feed), String> {
        let (end, feed) = feed();
        let shared = Arc::new(OnceLock::new());
        let owner = Seating { group: Arc::clone(&shared), end, partitions };
        let joined = Group::join(clients, group, topic, health, Box::new(owner), failed);
        if shared.set(joined.map_err(|error| client_fault(&error))?).is_err() {
            return Err(format!("group {group} was joined twice"));
        }
        Ok((Self { group: shared }, feed))
    }

    /// Commits `next` as the offset to read `partition` on from. Blocks.
    pub(super) fn commit(&self, partition: i32, next: i64) -> Result<(), KafkaError> {
        self.group.wait().commit(partition, next, "", true)
    }

    /// Leaves the group. Blocks the calling thread.
    pub(super) fn leave(&self) {
        if let Some(group) = self.group.get() {
            group.leave();
        }
    }
}

impl<P: Partitions> Owner for Seating<P> {
    fn assigned(&mut self, partitions: &[i32]) {
        let (group, end, assigned) = (Arc::clone(&self.group), self.end.clone(), partitions.to_vec());
        let partitions = Arc::clone(&self.partitions);
        // Not here: a question to the brokers takes its time.
        let asked = std::thread::Builder::new().name("kafka-start".to_owned()).spawn(move || {
            let group = group.wait();
            for partition in assigned {
                let from = loop {
                    if !group.holds(partition) {
                        break None;
                    }
                    match group.committed(partition) {
                        Ok((offset, _)) => break Some(offset.unwrap_or(0)),
                        Err(error) => {
                            tracing::warn!(partition, %error, "cannot learn where to read on yet");
                            std::thread::sleep(RETRY_WAIT);
                        }
                    }
                };
                if let Some(from) = from {
                    partitions.begun(partition);
                    group.start(partition, from, end.clone());
                }
            }
        });
        if let Err(error) = asked {
            tracing::error!(%error, "no thread to begin reading a topic");
        }
    }

    fn revoked(&mut self, partitions: &[i32]) {
        self.partitions.ended(partitions);
    }
}
