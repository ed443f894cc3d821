//! What is measured of the detector tasks: what they judged and found, and what they remember within their bound.

use prometheus::{GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::{Declare, LatencyQuantiles};

/// The detector tasks.
#[derive(Clone, Debug)]
pub struct DetectMetrics {
    /// Events that went through a detector.
    pub events: IntCounter,
    /// Too late for their window.
    pub late: IntCounter,
    /// What is remembered, and what had to be forgotten.
    pub memory: MemoryMetrics,
    /// `state`
    pub tenants: IntGaugeVec,
    /// `signal`, `state`; worked out when the page is asked for
    pub signals: IntGaugeVec,
    /// Entities told of in the finding of a larger attack.
    pub folded: IntCounter,
    /// `rule`
    pub windows_over_threshold: IntCounterVec,
    /// `rule`, `severity`, `lifecycle`
    pub findings: IntCounterVec,
    /// `rule`, `severity`, `lifecycle`; of the shadow detector
    pub shadow_findings: IntCounterVec,
    /// Sign-in events that the allow list covers.
    pub allowed: IntCounter,
    /// Successes that another source had told of.
    pub repeated: IntCounter,
    /// Findings open now.
    pub findings_open: IntGauge,
    /// Findings not opened because too many were open.
    pub findings_suppressed: IntCounter,
    /// `partition`; event time up to which everything is believed seen.
    pub watermark_seconds: GaugeVec,
    /// `partition`; size of the newest snapshot.
    pub snapshot_bytes: IntGaugeVec,
    /// `partition`; when it was taken.
    pub snapshot_seconds: GaugeVec,
    /// From the arrival of the event that made a finding to its being in the outbox.
    pub ingest_to_finding: LatencyQuantiles,
}

/// What the detector remembers within its memory bound.
#[derive(Clone, Debug)]
pub struct MemoryMetrics {
    /// `kind`
    pub entities: IntGaugeVec,
    /// `kind`
    pub entity_bytes: IntGaugeVec,
    /// `kind`
    pub evictions: IntCounterVec,
    /// Entities the memory has room for.
    pub max_entities: IntGauge,
    /// First contacts forgotten while they still mattered.
    pub forgotten_contacts: IntCounter,
    /// Who is remembered to have signed in, and from where.
    pub familiar: IntGauge,
    /// `partition`; how long it is remembered.
    pub familiar_seconds: IntGaugeVec,
}

impl DetectMetrics {
    pub(super) fn new(declare: &Declare<'_>) -> prometheus::Result<Self> {
        let ingest_to_finding = LatencyQuantiles::new(
            "ingest_to_finding_seconds",
            "Time from the arrival of the event that opened or changed a finding until the finding was durable.",
        )?;
        declare.0.register(Box::new(ingest_to_finding.clone()))?;
        Ok(Self {
            events: declare.counter("detect_events_total", "Events that went through a detector.")?,
            late: declare.counter("detect_late_total", "Events older than the window they belong to.")?,
            memory: MemoryMetrics::new(declare)?,
            tenants: declare.gauges(
                "detect_tenants",
                "Instances by how far their normal has been learned: learning (a day), provisional (two weeks), learned.",
                &["state"],
            )?,
            signals: declare.gauges(
                "detect_signals",
                "Instances by how each kind of event comes in: flowing, stopped, gone (for so long that nobody waits), never.",
                &["signal", "state"],
            )?,
            folded: declare.counter(
                "findings_folded_total",
                "Addresses and networks over their threshold that are told of in the finding of a larger attack.",
            )?,
            windows_over_threshold: declare.counters(
                "detect_windows_over_threshold_total",
                "Failures after which a window was over its threshold, by rule.",
                &["rule"],
            )?,
            findings: declare.counters(
                "findings_total",
                "Finding revisions, by rule, severity and lifecycle.",
                &["rule", "severity", "lifecycle"],
            )?,
            shadow_findings: declare.counters(
                "shadow_findings_total",
                "Finding revisions of the shadow detector, which go nowhere, by rule, severity and lifecycle.",
                &["rule", "severity", "lifecycle"],
            )?,
            allowed: declare.counter(
                "detect_allowed_total",
                "Sign-in events of which something was not counted because the allow list covers it.",
            )?,
            repeated: declare.counter(
                "detect_repeated_successes_total",
                "Successes whose session another event had told of: counted once, with what only this one said.",
            )?,
            findings_open: declare.gauge("findings_open", "Findings open now.")?,
            findings_suppressed: declare.counter(
                "findings_suppressed_total",
                "Findings not opened because the bound on open findings was reached.",
            )?,
            watermark_seconds: declare.float_gauges(
                "detect_watermark_timestamp_seconds",
                "Event time up to which everything is believed to have been seen, by partition.",
                &["partition"],
            )?,
            snapshot_bytes: declare.gauges(
                "detect_snapshot_bytes",
                "Size of the newest detector snapshot, by partition.",
                &["partition"],
            )?,
            snapshot_seconds: declare.float_gauges(
                "detect_snapshot_timestamp_seconds",
                "When the newest detector snapshot was taken, by partition.",
                &["partition"],
            )?,
            ingest_to_finding,
        })
    }
}

impl MemoryMetrics {
    fn new(declare: &Declare<'_>) -> prometheus::Result<Self> {
        Ok(Self {
            entities: declare.gauges("detect_entities", "Entities with state in memory, by kind.", &["kind"])?,
            entity_bytes: declare.gauges(
                "detect_entity_bytes",
                "Bytes that the state of entities takes, by kind.",
                &["kind"],
            )?,
            evictions: declare.counters(
                "detect_evictions_total",
                "Entities forgotten to stay within the memory bound, by kind.",
                &["kind"],
            )?,
            max_entities: declare.gauge("detect_entities_max", "Entities the memory bound has room for.")?,
            forgotten_contacts: declare.counter(
                "detect_forgotten_contacts_total",
                "First contacts forgotten, to stay within the memory bound, while they were in a window: the blind spot.",
            )?,
            familiar: declare.gauge(
                "detect_familiar",
                "Accounts, networks and pairs of them remembered from sign-ins of the last month or two.",
            )?,
            familiar_seconds: declare.gauges(
                "detect_familiar_seconds",
                "How long a sign-in is remembered at least, by partition; 30 days unless the memory bound makes it less.",
                &["partition"],
            )?,
        })
    }
}
