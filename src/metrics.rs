//! Every metric: its name, help text and labels, in one file.
//!
//! Invariant: label values come from closed lists in the code (sources, outcomes, rules, sinks by their configured name);
//! never an address, an account or the text of an error. Handles are passed in; there is no global registry.

use std::sync::Arc;

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

mod alias;
mod fapi_proxy;
mod kafka;
mod latency;

pub use alias::AliasMetrics;
pub use fapi_proxy::FapiProxyMetrics;
pub use kafka::KafkaMetrics;
pub use latency::LatencyQuantiles;

/// All metrics of one process.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    /// Keeps the names every dashboard knows, hence outside the registry with its prefix. One for the whole life of the
    /// process: it counts CPU time from one look to the next.
    process: Arc<ProcessCollector>,
    /// What came in at the front door.
    pub ingest: IngestMetrics,
    /// Users' names.
    pub alias: AliasMetrics,
    /// The proxy in front of Clerk's Frontend API.
    pub fapi_proxy: FapiProxyMetrics,
    /// The durable log.
    pub log: LogMetrics,
    /// The detector tasks.
    pub detect: DetectMetrics,
    /// The way out.
    pub outbox: OutboxMetrics,
    /// The configuration in force.
    pub config: ConfigMetrics,
    /// Kafka.
    pub kafka: KafkaMetrics,
    /// Accounts that are forgotten.
    pub erasure: ErasureMetrics,
}

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

/// The configuration in force.
#[derive(Clone, Debug)]
pub struct ConfigMetrics {
    /// `result`
    pub reloads: IntCounterVec,
    /// When it was read.
    pub loaded_seconds: Gauge,
}

impl Metrics {
    /// Declares everything in a registry of its own.
    ///
    /// # Errors
    /// Two metrics of one name: a defect of this file, found at start.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new_custom(Some("authspike".into()), None)?;
        let declare = Declare(&registry);
        let metrics = Self {
            ingest: IngestMetrics::new(&declare)?,
            alias: AliasMetrics::new(&declare)?,
            fapi_proxy: FapiProxyMetrics::new(&declare)?,
            log: LogMetrics::new(&declare)?,
            detect: DetectMetrics::new(&declare)?,
            outbox: OutboxMetrics::new(&declare)?,
            config: ConfigMetrics::new(&declare)?,
            kafka: KafkaMetrics::new(&declare)?,
            erasure: ErasureMetrics::new(&declare)?,
            registry: registry.clone(),
            process: Arc::new(ProcessCollector::for_self()),
        };
        let build = declare.gauges("build_info", "Always 1; the version is in the label.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(metrics)
    }

    /// The page a Prometheus server scrapes.
    ///
    /// # Errors
    /// A metric that cannot be written as text.
    pub fn render(&self) -> prometheus::Result<String> {
        let mut families = self.registry.gather();
        families.extend(self.process.collect());
        TextEncoder::new().encode_to_string(&families)
    }
}

impl IngestMetrics {
    fn new(declare: &Declare<'_>) -> prometheus::Result<Self> {
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

impl LogMetrics {
    fn new(declare: &Declare<'_>) -> prometheus::Result<Self> {
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

impl DetectMetrics {
    fn new(declare: &Declare<'_>) -> prometheus::Result<Self> {
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

impl OutboxMetrics {
    fn new(declare: &Declare<'_>) -> prometheus::Result<Self> {
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

impl ErasureMetrics {
    fn new(declare: &Declare<'_>) -> prometheus::Result<Self> {
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

impl ConfigMetrics {
    fn new(declare: &Declare<'_>) -> prometheus::Result<Self> {
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

/// Makes and registers; every help text passes through here, so none can be empty.
struct Declare<'a>(&'a Registry);

impl Declare<'_> {
    fn register<C: Collector + Clone + 'static>(&self, collector: prometheus::Result<C>) -> prometheus::Result<C> {
        let collector = collector?;
        self.0.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.register(IntCounter::new(name, help))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
        self.register(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.register(IntGauge::new(name, help))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        self.register(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    fn float_gauge(&self, name: &str, help: &str) -> prometheus::Result<Gauge> {
        self.register(Gauge::new(name, help))
    }

    fn float_gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<GaugeVec> {
        self.register(GaugeVec::new(Opts::new(name, help), labels))
    }

    fn histograms(
        &self,
        name: &str,
        help: &str,
        buckets: Vec<f64>,
        labels: &[&str],
    ) -> prometheus::Result<HistogramVec> {
        self.register(HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), labels))
    }

    fn histogram(&self, name: &str, help: &str, buckets: Vec<f64>) -> prometheus::Result<Histogram> {
        self.register(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_page_holds_each_kind_of_metric() {
        let metrics = Metrics::new().unwrap();
        metrics.ingest.events.with_label_values(&["attempt_report", "failure"]).inc_by(3);
        metrics.detect.ingest_to_finding.record(Duration::from_millis(40));
        let page = metrics.render().unwrap();
        assert!(
            page.contains("authspike_ingest_events_total{outcome=\"failure\",source=\"attempt_report\"} 3"),
            "{page}"
        );
        assert!(page.contains("\nauthspike_ingest_to_finding_seconds{quantile=\"0.99\"} 0.04"), "{page}");
        assert!(page.contains("authspike_ingest_to_finding_seconds_count 1"), "{page}");
        assert!(page.contains("process_resident_memory_bytes"), "{page}");
    }
}
