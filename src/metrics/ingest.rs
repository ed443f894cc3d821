//! What is measured at the front door.

use prometheus::{IntCounter, IntCounterVec, IntGauge};

use super::Declare;

/// What came in at the front door.
#[derive(Clone, Debug)]
pub struct IngestMetrics {
    /// `source`
    pub requests: IntCounterVec,
    /// `source`
    pub verified: IntCounterVec,
    /// `source`, `reason`
    pub refused: IntCounterVec,
    /// `source`, `outcome`
    pub events: IntCounterVec,
    /// `source`
    pub duplicates: IntCounterVec,
    /// `source`
    pub clamped: IntCounterVec,
    /// `reason`
    pub items_refused: IntCounterVec,
    /// `result`
    pub file_lines: IntCounterVec,
    /// Records of topics that are no attempt by their mapping.
    pub records_skipped: IntCounter,
    /// Files to follow that cannot be read.
    pub files_unreadable: IntGauge,
    /// Bytes of followed files that are not read yet.
    pub file_lag_bytes: IntGauge,
    /// Webhook event types that this version does not know.
    pub unknown_types: IntCounter,
    /// Connections open on the ingest listener.
    pub connections: IntGauge,
}

impl IngestMetrics {
    pub(super) fn new(declare: &Declare<'_>) -> prometheus::Result<Self> {
        Ok(Self {
            requests: declare.counters("ingest_requests_total", "Requests received, by source.", &["source"])?,
            verified: declare.counters(
                "ingest_verified_total",
                "Requests whose signature or token was right, by source.",
                &["source"],
            )?,
            refused: declare.counters(
                "ingest_refused_total",
                "Requests refused, by source and reason.",
                &["source", "reason"],
            )?,
            events: declare.counters(
                "ingest_events_total",
                "Events made durable, by source and outcome; duplicates are not among them.",
                &["source", "outcome"],
            )?,
            duplicates: declare.counters(
                "ingest_duplicates_total",
                "Events acknowledged but already known by their id, by source.",
                &["source"],
            )?,
            clamped: declare.counters(
                "ingest_clamped_total",
                "Events whose time lay too far in the future and was moved back, by source.",
                &["source"],
            )?,
            items_refused: declare.counters(
                "ingest_items_refused_total",
                "Single attempts refused inside an accepted request, by reason.",
                &["reason"],
            )?,
            file_lines: declare.counters(
                "ingest_file_lines_total",
                "Lines of followed files, by what they were: attempt, skipped (none by the mapping), refused.",
                &["result"],
            )?,
            records_skipped: declare.counter(
                "ingest_records_skipped_total",
                "Records of topics that are no attempt by the mapping that reads them.",
            )?,
            files_unreadable: declare
                .gauge("ingest_files_unreadable", "Files to follow that are not there or cannot be read.")?,
            file_lag_bytes: declare.gauge("ingest_file_lag_bytes", "Bytes of followed files that are not read yet.")?,
            unknown_types: declare.counter(
                "ingest_unknown_types_total",
                "Webhook events of a type this version does not know; accepted and not counted by detection.",
            )?,
            connections: declare.gauge("ingest_connections", "Connections open on the ingest listener.")?,
        })
    }
}
