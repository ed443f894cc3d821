//! What follows when the group gives us partitions and takes them: a seat for each, and the task that judges it told.
//!
//! Invariant: a seat is there before the task that reads from it is told, and until that task has let go. A partition that
//! is gone leaves no figures behind.

use std::sync::{Arc, Weak};

use super::group::Owner;
use super::seat::Seat;
use super::{Assignee, KafkaLog};
use crate::log::Partition;

/// Makes and clears seats as the group gives and takes partitions.
pub(super) struct Seating {
    pub(super) log: Weak<KafkaLog>,
    pub(super) assignee: Box<dyn Assignee>,
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
