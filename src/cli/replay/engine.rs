//! Judging what was read: the program's own pipeline on a log in memory.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use crate::clock::Clock;
use crate::config::Config;
use crate::detect::{Silence, Subject};
use crate::event::AuthEvent;
use crate::finding::{Finding, Lifecycle, Rule, Severity};
use crate::log::memory::MemoryLog;
use crate::log::{Log, Partition};
use crate::metrics::{DetectMetrics, Metrics};
use crate::pipeline::{Answer, Parts, ShadowBoard, SignalBoard, Task};

/// The pipeline of one replay.
pub(super) struct Engine {
    log: Arc<MemoryLog>,
    task: Task,
    metrics: DetectMetrics,
    runtime: tokio::runtime::Runtime,
}

impl Engine {
    /// Opens the pipeline on an empty log.
    pub(super) fn open(config: &Config) -> anyhow::Result<Self> {
        let log = Arc::new(MemoryLog::streaming());
        let metrics = Metrics::new()?;
        let parts = Parts {
            log: Arc::clone(&log) as Arc<dyn Log>,
            config: config.detect.clone(),
            clock: Clock::system(),
            detect_metrics: metrics.detect.clone(),
            log_metrics: metrics.log,
            board: Arc::default(),
            shadow: ShadowBoard::default(),
            // The past has not stopped.
            signals: SignalBoard::new(Silence(i64::MAX), Clock::system()),
            wake: Arc::new(|| ()),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().context("cannot start the runtime")?;
        Ok(Self { log, task: Task::open(parts, Partition(0))?, metrics: metrics.detect, runtime })
    }

    /// Judges `events` in order; answers with the revisions that made.
    pub(super) fn feed(&mut self, events: Vec<AuthEvent>) -> anyhow::Result<Vec<Finding>> {
        self.runtime.block_on(self.log.append(events))?;
        self.task.step(Duration::ZERO)?;
        Ok(self.log.take_findings())
    }

    /// What the rules say of `subject` after what was fed so far.
    pub(super) fn explain(&self, subject: &Subject) -> Answer {
        self.task.explain(subject)
    }

    /// Nothing more comes: answers with the revisions that are left.
    pub(super) fn finish(&mut self) -> anyhow::Result<Vec<Finding>> {
        self.task.finish()?;
        Ok(self.log.take_findings())
    }

    /// How many findings were closed, live and by the shadow thresholds, of every severity and rule that has any; the worst
    /// first.
    pub(super) fn closed(&self) -> Vec<(Severity, Rule, u64, u64)> {
        let kinds = Severity::ALL.into_iter().rev().flat_map(|severity| Rule::ALL.map(|rule| (severity, rule)));
        let counted = kinds.map(|(severity, rule)| {
            let labels = [rule.as_str(), severity.as_str(), Lifecycle::Closed.as_str()];
            let of = |counters: &prometheus::IntCounterVec| counters.with_label_values(&labels).get();
            (severity, rule, of(&self.metrics.findings), of(&self.metrics.shadow_findings))
        });
        counted.filter(|(_, _, live, shadow)| live + shadow > 0).collect()
    }
}
