//! May the process be sent requests yet? What a detector waits for, and the check of the topics that a start could not make.
//!
//! Invariant: a process that was ready once stays so, but for topics that are not checked: a rebalance takes nobody out of
//! service.
//!
//! Not here: faults that last while it runs (`health`), and what is checked (`access`).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::seat::locked;
use super::{KafkaLog, access, config};
use crate::log::Partition;

impl KafkaLog {
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
}
