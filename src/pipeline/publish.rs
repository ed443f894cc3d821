//! From the detector's own figures to metrics.

use std::time::Duration;

use crate::detect::Stats;
use crate::finding::{EntityKind, Finding, Learning, Lifecycle, Rule};
use crate::log::Partition;
use crate::metrics::{DetectMetrics, LogMetrics};

/// Publishes one task's figures; counters by what they grew since the last time.
pub(super) struct Publisher {
    partition: String,
    detect: DetectMetrics,
    log: LogMetrics,
    last: Stats,
}

impl Publisher {
    pub(super) fn new(partition: Partition, detect: DetectMetrics, log: LogMetrics) -> Self {
        Self { partition: partition.0.to_string(), detect, log, last: Stats::default() }
    }

    pub(super) fn publish(&mut self, stats: &Stats, lag_records: u64, lag_millis: i64) {
        let last = std::mem::replace(&mut self.last, *stats);
        self.detect.events.inc_by(stats.events - last.events);
        self.detect.late.inc_by(stats.late - last.late);
        self.detect.allowed.inc_by(stats.allowed - last.allowed);
        self.detect.findings_suppressed.inc_by(stats.suppressed - last.suppressed);
        for (rule, (now, before)) in Rule::ALL.iter().zip(stats.over_threshold.iter().zip(last.over_threshold)) {
            self.detect.windows_over_threshold.with_label_values(&[rule.as_str()]).inc_by(now - before);
        }
        for (place, kind) in EntityKind::ALL.iter().enumerate() {
            let at = |counts: &[u64]| counts.get(place).copied().unwrap_or(0);
            let (label, entities) = ([kind.as_str()], at(&stats.entities));
            self.detect.memory.entities.with_label_values(&label).set(signed(entities));
            self.detect.memory.entity_bytes.with_label_values(&label).set(signed(entities * stats.entity_bytes));
            self.detect.memory.evictions.with_label_values(&label).inc_by(at(&stats.evictions) - at(&last.evictions));
        }
        self.detect.memory.max_entities.set(signed(stats.max_entities));
        self.detect.memory.familiar.set(signed(stats.familiar));
        self.detect.memory.familiar_seconds.set(signed(stats.familiar_seconds));
        self.detect.memory.forgotten_contacts.inc_by(stats.overwritten - last.overwritten);
        self.detect.folded.inc_by(stats.folded - last.folded);
        for (state, count) in Learning::ALL.iter().zip(stats.learning) {
            self.detect.tenants.with_label_values(&[state.as_str()]).set(signed(count));
        }
        self.detect.findings_open.set(signed(stats.open));
        self.detect.watermark_seconds.set(seconds(stats.watermark.0));
        self.log.lag_records.with_label_values(&[&self.partition]).set(signed(lag_records));
        self.log.lag_seconds.with_label_values(&[&self.partition]).set(seconds(lag_millis));
    }

    pub(super) fn snapshot(&self, bytes: u64) {
        self.detect.snapshot_bytes.set(signed(bytes));
    }

    /// A revision became durable, `latency_millis` after the event behind it arrived.
    pub(super) fn finding(&self, finding: &Finding, latency_millis: Option<i64>) {
        let labels = [finding.rule.as_str(), finding.severity.as_str(), finding.lifecycle.as_str()];
        self.detect.findings.with_label_values(&labels).inc();
        if let Some(millis) = latency_millis
            && finding.lifecycle != Lifecycle::Closed
        {
            self.detect.ingest_to_finding.record(Duration::from_millis(u64::try_from(millis).unwrap_or(0)));
        }
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of this millennium fit in 52 bits")]
fn seconds(millis: i64) -> f64 {
    millis as f64 / 1000.0
}
