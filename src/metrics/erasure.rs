//! What is measured of accounts that are forgotten.

use prometheus::{IntCounter, IntCounterVec, IntGauge};

use super::Declare;

/// Accounts that are forgotten.
#[derive(Clone, Debug)]
pub struct ErasureMetrics {
    /// `asked_by`
    pub done: IntCounterVec,
    /// Those that the detector has forgotten and the store not yet.
    pub waiting: IntGauge,
    /// Rounds that failed.
    pub failures: IntCounter,
}

impl ErasureMetrics {
    pub(super) fn new(declare: &Declare<'_>) -> prometheus::Result<Self> {
        let done = declare.counters(
            "erasures_total",
            "Accounts forgotten, by what asked for it (webhook, api, cli, link: an identifier seen with one of them).",
            &["asked_by"],
        )?;
        for asked_by in ["webhook", "api", "cli", "link"] {
            done.with_label_values(&[asked_by]);
        }
        Ok(Self {
            done,
            waiting: declare.gauge(
                "erasures_waiting",
                "Accounts that the detector has forgotten and that records, findings or files still name.",
            )?,
            failures: declare
                .counter("erasure_failures_total", "Rounds of forgetting that failed; they are repeated.")?,
        })
    }
}
