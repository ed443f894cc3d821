//! What is measured of Kafka. Without it none of these has a value, and the page does not show them.

use prometheus::{GaugeVec, HistogramVec, IntCounterVec, IntGaugeVec};

use super::Declare;

/// Kafka.
#[derive(Clone, Debug)]
pub struct KafkaMetrics {
    /// `topic`, `partition`: records appended and not yet taken.
    pub lag_records: IntGaugeVec,
    /// `topic`, `partition`: age of the record taken last, while there are more.
    pub lag_seconds: GaugeVec,
    /// `group`: times partitions were given or taken.
    pub rebalances: IntCounterVec,
    /// `group`: partitions held.
    pub partitions: IntGaugeVec,
    /// `partition`: from the assignment until the state was restored.
    pub restore_seconds: GaugeVec,
    /// `topic`: from hand-over to the acknowledgement of all replicas.
    pub produce_seconds: HistogramVec,
    /// `topic`: records that were not acknowledged.
    pub produce_failures: IntCounterVec,
    /// `topic`, `reason`: records put into the dead-letter topic.
    pub dead_letters: IntCounterVec,
    /// `topic`: records that retention deleted before they were taken.
    pub missed_records: IntCounterVec,
    /// `client`: brokers connected.
    pub brokers_up: IntGaugeVec,
    /// `client`: 99th percentile of the slowest broker's round trip.
    pub rtt: GaugeVec,
    /// `client`: requests a broker did not answer in time.
    pub request_timeouts: IntCounterVec,
    /// `client`: messages waiting for a broker.
    pub queued_messages: IntGaugeVec,
}

impl KafkaMetrics {
    pub(super) fn new(declare: &Declare<'_>) -> prometheus::Result<Self> {
        // From a broker on the same machine (0.2 ms) to the time-out of a message (10 s).
        let buckets = vec![0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0, 10.0];
        let partition = &["topic", "partition"];
        Ok(Self {
            lag_records: declare.gauges(
                "kafka_consumer_lag",
                "Records in the partition that were not yet taken, by topic and partition.",
                partition,
            )?,
            lag_seconds: declare.float_gauges(
                "kafka_consumer_lag_seconds",
                "Age of the record taken last while more are there, by topic and partition.",
                partition,
            )?,
            rebalances: declare.counters(
                "kafka_rebalances_total",
                "Times partitions were given to or taken from this process, by group.",
                &["group"],
            )?,
            partitions: declare.gauges(
                "kafka_assigned_partitions",
                "Partitions this process holds, by group.",
                &["group"],
            )?,
            restore_seconds: declare.float_gauges(
                "kafka_restore_seconds",
                "Time from the assignment of a partition until its state was restored.",
                &["partition"],
            )?,
            produce_seconds: declare.histograms(
                "kafka_produce_seconds",
                "Time from handing records over until all replicas in sync had them, by topic.",
                buckets,
                &["topic"],
            )?,
            produce_failures: declare.counters(
                "kafka_produce_failures_total",
                "Records that were not acknowledged, by topic.",
                &["topic"],
            )?,
            dead_letters: declare.counters(
                "kafka_dead_letters_total",
                "Records that could not be read and were put into the dead-letter topic, by topic and reason.",
                &["topic", "reason"],
            )?,
            missed_records: declare.counters(
                "kafka_missed_records_total",
                "Records that the topic's retention deleted before they were taken, by topic.",
                &["topic"],
            )?,
            brokers_up: declare.gauges("kafka_brokers_up", "Brokers connected, by client.", &["client"])?,
            rtt: declare.float_gauges(
                "kafka_rtt_p99_seconds",
                "99th percentile of the round trip to the slowest broker, by client.",
                &["client"],
            )?,
            request_timeouts: declare.counters(
                "kafka_request_timeouts_total",
                "Requests that a broker did not answer in time, by client.",
                &["client"],
            )?,
            queued_messages: declare.gauges(
                "kafka_queued_messages",
                "Messages that wait for a broker, by client.",
                &["client"],
            )?,
        })
    }
}
