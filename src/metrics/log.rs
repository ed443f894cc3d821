//! What is measured of the durable log, whichever it is. Not here: what only Kafka has (`kafka`).

use prometheus::{Gauge, GaugeVec, Histogram, IntCounter, IntGauge, IntGaugeVec};

use super::Declare;

/// The durable log.
#[derive(Clone, Debug)]
pub struct LogMetrics {
    /// From hand-over to durable.
    pub append_seconds: Histogram,
    /// Appends waiting for the writer.
    pub queue_depth: IntGauge,
    /// Writes that failed.
    pub append_failures: IntCounter,
    /// Bytes of the store's files.
    pub bytes: IntGauge,
    /// `partition`
    pub lag_records: IntGaugeVec,
    /// `partition`
    pub lag_seconds: GaugeVec,
    /// How far back duplicates are recognised.
    pub dedupe_span_seconds: Gauge,
}

impl LogMetrics {
    pub(super) fn new(declare: &Declare<'_>) -> prometheus::Result<Self> {
        // From the fastest fsync seen on NVMe (0.1 ms) to the Svix time-out (15 s).
        let buckets = vec![0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0];
        Ok(Self {
            append_seconds: declare.histogram(
                "log_append_seconds",
                "Time from handing an append to the log until it was durable.",
                buckets,
            )?,
            queue_depth: declare.gauge("log_queue_depth", "Appends waiting for the log's writer.")?,
            append_failures: declare.counter("log_append_failures_total", "Writes to the log that failed.")?,
            bytes: declare.gauge("log_bytes", "Bytes of the log's files on disk.")?,
            lag_records: declare.gauges(
                "log_lag_records",
                "Records appended and not yet seen by the detector, by partition.",
                &["partition"],
            )?,
            lag_seconds: declare.float_gauges(
                "log_lag_seconds",
                "Age of the oldest record not yet seen by the detector, by partition.",
                &["partition"],
            )?,
            dedupe_span_seconds: declare
                .float_gauge("log_dedupe_span_seconds", "How far back in time duplicate ids are recognised.")?,
        })
    }
}
