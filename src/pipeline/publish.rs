//! From the detector's own figures to metrics.

use std::time::Duration;

use prometheus::IntGauge;

use crate::detect::Stats;
use crate::event::Timestamp;
use crate::finding::{EntityKind, Finding, Learning, Lifecycle, Rule};
use crate::log::Partition;
use crate::metrics::{DetectMetrics, LogMetrics};

/// Publishes one task's figures: counters and sums over tasks by what changed since the last time.
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
        self.detect.repeated.inc_by(stats.repeated - last.repeated);
        self.detect.findings_suppressed.inc_by(stats.suppressed - last.suppressed);
        for (rule, (now, before)) in Rule::ALL.iter().zip(stats.over_threshold.iter().zip(last.over_threshold)) {
            self.detect.windows_over_threshold.with_label_values(&[rule.as_str()]).inc_by(now - before);
        }
        for (place, kind) in EntityKind::ALL.iter().enumerate() {
            let at = |counts: &[u64]| counts.get(place).copied().unwrap_or(0);
            let (label, entities) = ([kind.as_str()], at(&stats.entities));
            let (entities_before, bytes) = (at(&last.entities), entities * stats.entity_bytes);
            move_by(&self.detect.memory.entities.with_label_values(&label), entities, entities_before);
            let bytes_before = entities_before * last.entity_bytes;
            move_by(&self.detect.memory.entity_bytes.with_label_values(&label), bytes, bytes_before);
            self.detect.memory.evictions.with_label_values(&label).inc_by(at(&stats.evictions) - at(&last.evictions));
        }
        move_by(&self.detect.memory.max_entities, stats.max_entities, last.max_entities);
        move_by(&self.detect.memory.familiar, stats.familiar, last.familiar);
        self.detect.memory.familiar_seconds.with_label_values(&[&self.partition]).set(signed(stats.familiar_seconds));
        self.detect.memory.forgotten_contacts.inc_by(stats.overwritten - last.overwritten);
        self.detect.folded.inc_by(stats.folded - last.folded);
        for (state, (count, before)) in Learning::ALL.iter().zip(stats.learning.iter().zip(last.learning)) {
            move_by(&self.detect.tenants.with_label_values(&[state.as_str()]), *count, before);
        }
        move_by(&self.detect.findings_open, stats.open, last.open);
        self.detect.watermark_seconds.with_label_values(&[&self.partition]).set(seconds(stats.watermark.0));
        self.log.lag_records.with_label_values(&[&self.partition]).set(signed(lag_records));
        self.log.lag_seconds.with_label_values(&[&self.partition]).set(seconds(lag_millis));
    }

    pub(super) fn snapshot(&self, bytes: u64, at: Timestamp) {
        self.detect.snapshot_bytes.with_label_values(&[&self.partition]).set(signed(bytes));
        self.detect.snapshot_seconds.with_label_values(&[&self.partition]).set(seconds(at.0));
    }

    /// The task has ended: takes its share out of the sums and its partition out of the labels.
    pub(super) fn withdraw(&mut self) {
        let last = self.last;
        let gone = Stats { entities: [0; _], max_entities: 0, familiar: 0, learning: [0; _], open: 0, ..last };
        self.publish(&gone, 0, 0);
        let label = [self.partition.as_str()];
        // Not there: nothing was published yet.
        let _ = self.detect.memory.familiar_seconds.remove_label_values(&label);
        let _ = self.detect.watermark_seconds.remove_label_values(&label);
        let _ = self.detect.snapshot_bytes.remove_label_values(&label);
        let _ = self.detect.snapshot_seconds.remove_label_values(&label);
        let _ = self.log.lag_records.remove_label_values(&label);
        let _ = self.log.lag_seconds.remove_label_values(&label);
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

fn move_by(gauge: &IntGauge, now: u64, before: u64) {
    gauge.add(signed(now).saturating_sub(signed(before)));
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of this millennium fit in 52 bits")]
fn seconds(millis: i64) -> f64 {
    millis as f64 / 1000.0
}
