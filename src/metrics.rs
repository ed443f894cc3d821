//! Every metric of one process: its name, help text and labels, one file for each part of the program, and the page that
//! shows them.
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
mod config;
mod detect;
mod erasure;
mod fapi_proxy;
mod ingest;
mod kafka;
mod latency;
mod log;
mod outbox;

pub use alias::AliasMetrics;
pub use config::ConfigMetrics;
pub use detect::{DetectMetrics, MemoryMetrics};
pub use erasure::ErasureMetrics;
pub use fapi_proxy::FapiProxyMetrics;
pub use ingest::IngestMetrics;
pub use kafka::KafkaMetrics;
pub use latency::LatencyQuantiles;
pub use log::LogMetrics;
pub use outbox::OutboxMetrics;

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

impl Metrics {
    /// Declares everything in a registry of its own.
    ///
    /// # Errors
    /// Two metrics of one name: a defect of these files, found at start.
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
