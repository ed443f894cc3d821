//! What a fleet's log asks of this process: to judge the partitions it is given, and to deliver the findings.

use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use uuid::Uuid;

use crate::clock::Clock;
use crate::event::Erasure;
use crate::finding::Finding;
use crate::log::Partition;
use crate::log::embedded;
use crate::log::kafka::findings::Intake;
use crate::log::kafka::{Assignee, KafkaLog};
use crate::pipeline::Tasks;
use crate::sinks::outbox::{self, Bounds, Recipient};
use crate::store::Store;

/// How long the others of a group wait for our last snapshots: a state of some hundred megabytes takes seconds, and what
/// is not written by then is only judged again.
const PATIENCE: Duration = Duration::from_secs(20);

/// Judges the partitions that the group gives us.
pub(super) struct Detectors {
    pub(super) tasks: Tasks,
    pub(super) log: Weak<KafkaLog>,
    /// Told if that cannot be done.
    pub(super) failed: Arc<dyn Fn(String) + Send + Sync>,
}

impl Assignee for Detectors {
    fn assigned(&mut self, partition: Partition) {
        let log = Weak::clone(&self.log);
        let restored = move |took| {
            if let Some(log) = log.upgrade() {
                log.restored(partition, took);
            }
        };
        if let Err(error) = self.tasks.start(partition, restored) {
            (*self.failed)(format!("no thread for the detector of partition {}: {error}", partition.0));
        }
    }

    fn revoked(&mut self, partitions: &[Partition]) {
        if !self.tasks.stop(partitions, PATIENCE) {
            tracing::warn!("a detector did not stop in time; whoever takes over judges its last events again");
        }
    }
}

/// Puts the findings that the log gives us into the outbox.
pub(super) struct IntoOutbox {
    pub(super) store: Store,
    pub(super) recipients: Vec<Recipient>,
    pub(super) bounds: Bounds,
    pub(super) clock: Clock,
    pub(super) wake: Arc<dyn Fn() + Send + Sync>,
}

impl Intake for IntoOutbox {
    fn take(&mut self, findings: &[Finding]) -> Result<(), String> {
        let (recipients, bounds, now) = (self.recipients.clone(), self.bounds, self.clock.now());
        let findings = findings.to_vec();
        self.store
            .write_blocking(move |transaction| outbox::enqueue_again(transaction, &recipients, &findings, now, &bounds))
            .map_err(|error| error.to_string())?;
        (*self.wake)();
        Ok(())
    }

    fn unsettled(&mut self, revisions: &[Uuid]) -> Result<HashSet<Uuid>, String> {
        self.store.read(|connection| outbox::unsettled(connection, revisions)).map_err(|error| error.to_string())
    }

    fn forget(&mut self, erasures: &[Erasure]) -> Result<(), String> {
        let erasures = erasures.to_vec();
        self.store
            .write_blocking(move |transaction| embedded::erasure::put(transaction, &erasures))
            .map_err(|error| error.to_string())
    }

    fn give_up(&mut self, revisions: &[Uuid]) -> Result<(), String> {
        let revisions = revisions.to_vec();
        self.store
            .write_blocking(move |transaction| outbox::give_up(transaction, Some(&revisions)))
            .map_err(|error| error.to_string())
    }
}
