//! What is measured of the configuration in force.

use prometheus::{Gauge, IntCounterVec};

use super::Declare;

/// The configuration in force.
#[derive(Clone, Debug)]
pub struct ConfigMetrics {
    /// `result`
    pub reloads: IntCounterVec,
    /// When it was read.
    pub loaded_seconds: Gauge,
}

impl ConfigMetrics {
    pub(super) fn new(declare: &Declare<'_>) -> prometheus::Result<Self> {
        let reloads = declare.counters(
            "config_reloads_total",
            "Times the configuration was read again on SIGHUP, by result (ok, failed).",
            &["result"],
        )?;
        // Both are there from the start: what appears with its first failure cannot be seen to rise.
        for result in ["ok", "failed"] {
            reloads.with_label_values(&[result]);
        }
        Ok(Self {
            reloads,
            loaded_seconds: declare
                .float_gauge("config_loaded_timestamp_seconds", "When the configuration in force was read.")?,
        })
    }
}
