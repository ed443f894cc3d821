//! What is measured of users' names.

use prometheus::{IntCounter, IntGauge};

use super::Declare;

/// Identifiers whose user is known.
#[derive(Clone, Debug)]
pub struct AliasMetrics {
    /// How many there are.
    pub entries: IntGauge,
    /// Forgotten to make room.
    pub evictions: IntCounter,
    /// Events put under their user.
    pub resolved: IntCounter,
}

impl AliasMetrics {
    pub(super) fn new(declare: &Declare<'_>) -> prometheus::Result<Self> {
        Ok(Self {
            entries: declare.gauge("alias_entries", "Identifiers (e-mail, phone, user name) whose user is known.")?,
            evictions: declare.counter(
                "alias_evictions_total",
                "Identifiers whose user was forgotten because there were too many (ingest.aliases.max_entries).",
            )?,
            resolved: declare
                .counter("alias_resolved_total", "Events that named only an identifier and were put under its user.")?,
        })
    }
}
