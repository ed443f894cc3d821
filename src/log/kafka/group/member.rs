//! What the group says: which partitions are ours. Runs on the group's thread, inside its polls.
//!
//! Invariant: a partition is given back only after its owner has let go of it.

use std::collections::BTreeSet;
use std::sync::Mutex;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset as KafkaOffset, Statistics, TopicPartitionList};

use super::{Owner, locked};
use crate::log::kafka::health::Listener;

/// What the member's callbacks do.
pub(super) struct Member {
    pub(super) topic: String,
    pub(super) group: String,
    pub(super) owner: Mutex<Box<dyn Owner>>,
    pub(super) health: Listener,
    pub(super) held: Mutex<BTreeSet<i32>>,
    /// Not yet taken out of the reader.
    pub(super) gone: Mutex<Vec<i32>>,
}

impl ClientContext for Member {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.health.log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        self.health.stats(statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.health.error(error, reason);
    }
}

impl ConsumerContext for Member {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, error: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions: Vec<i32> =
            list.elements_for_topic(&self.topic).iter().map(TopicPartitionListElem::partition).collect();
        let cooperative = matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
        let result = if error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.assign(consumer, list, &partitions, cooperative)
        } else {
            self.revoke(consumer, list, &partitions, cooperative)
        };
        if let Err(error) = result {
            tracing::warn!(group = self.group, %error, "a rebalance did not go as it should; the group will do it again");
        }
        let held = locked(&self.held).len();
        let label = [self.group.as_str()];
        self.health.0.metrics().rebalances.with_label_values(&label).inc();
        self.health.0.metrics().partitions.with_label_values(&label).set(i64::try_from(held).unwrap_or(i64::MAX));
    }
}

impl Member {
    fn assign(
        &self,
        consumer: &BaseConsumer<Self>,
        list: &mut TopicPartitionList,
        partitions: &[i32],
        cooperative: bool,
    ) -> Result<(), KafkaError> {
        // Where it begins does not matter, since it is paused; the end costs least.
        list.set_all_offsets(KafkaOffset::End)?;
        if cooperative {
            consumer.incremental_assign(list)?;
        } else {
            consumer.assign(list)?;
        }
        consumer.pause(list)?;
        let new: Vec<i32> = {
            let mut held = locked(&self.held);
            partitions.iter().copied().filter(|partition| held.insert(*partition)).collect()
        };
        tracing::info!(group = self.group, partitions = ?new, "partitions are ours");
        locked(&self.owner).assigned(&new);
        Ok(())
    }

    fn revoke(
        &self,
        consumer: &BaseConsumer<Self>,
        list: &TopicPartitionList,
        partitions: &[i32],
        cooperative: bool,
    ) -> Result<(), KafkaError> {
        let is_lost = consumer.assignment_lost();
        let old: Vec<i32> =
            partitions.iter().copied().filter(|partition| locked(&self.held).contains(partition)).collect();
        tracing::info!(group = self.group, partitions = ?old, lost = is_lost, "partitions are no longer ours");
        locked(&self.owner).revoked(&old);
        locked(&self.held).retain(|partition| !old.contains(partition));
        locked(&self.gone).extend(&old);
        if cooperative { consumer.incremental_unassign(list) } else { consumer.unassign() }
    }
}
