//! What is measured on the way out.

use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec};

use super::Declare;

/// The way out.
#[derive(Clone, Debug)]
pub struct OutboxMetrics {
    /// `sink`
    pub depth: IntGaugeVec,
    /// `sink`
    pub bytes: IntGaugeVec,
    /// `sink`, `state`
    pub state: IntGaugeVec,
    /// `sink`
    pub oldest_age_seconds: GaugeVec,
    /// `sink`
    pub dead_letters: IntGaugeVec,
    /// `sink`, `result`
    pub deliveries: IntCounterVec,
}

impl OutboxMetrics {
    pub(super) fn new(declare: &Declare<'_>) -> prometheus::Result<Self> {
        Ok(Self {
            depth: declare.gauges("outbox_depth", "Finding revisions waiting for delivery, by sink.", &["sink"])?,
            bytes: declare.gauges(
                "outbox_bytes",
                "Bytes of the revisions waiting for delivery, by sink.",
                &["sink"],
            )?,
            state: declare.gauges(
                "sink_state",
                "1 for how a sink stands (ok, failing, open, blocked), 0 for how it does not.",
                &["sink", "state"],
            )?,
            oldest_age_seconds: declare.float_gauges(
                "outbox_oldest_age_seconds",
                "Age of the oldest revision waiting for delivery, by sink.",
                &["sink"],
            )?,
            dead_letters: declare.gauges(
                "outbox_dead_letters",
                "Finding revisions that were given up and are kept for inspection, by sink.",
                &["sink"],
            )?,
            deliveries: declare.counters(
                "deliveries_total",
                "Deliveries tried, by sink and result (accepted, retry, blocked, refused).",
                &["sink", "result"],
            )?,
        })
    }
}
