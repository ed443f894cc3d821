//! Judging what was read: the program's own pipeline on a log in memory.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use crate::clock::Clock;
use crate::config::Config;
use crate::finding::Finding;
use crate::log::memory::MemoryLog;
use crate::log::{Log, Partition, Record};
use crate::metrics::Metrics;
use crate::pipeline::{Parts, Task};

/// The pipeline of one replay.
pub(super) struct Engine {
    log: Arc<MemoryLog>,
    task: Task,
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
            detect_metrics: metrics.detect,
            log_metrics: metrics.log,
            board: Arc::default(),
            wake: Arc::new(|| ()),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().context("cannot start the runtime")?;
        Ok(Self { log, task: Task::open(parts, Partition(0))?, runtime })
    }

    /// Judges `records` in order; answers with the revisions that made.
    pub(super) fn feed(&mut self, records: Vec<Record>) -> anyhow::Result<Vec<Finding>> {
        self.runtime.block_on(self.log.append(records))?;
        self.task.step(Duration::ZERO)?;
        Ok(self.log.take_findings())
    }

    /// Nothing more comes: answers with the revisions that are left.
    pub(super) fn finish(&mut self) -> anyhow::Result<Vec<Finding>> {
        self.task.finish()?;
        Ok(self.log.take_findings())
    }
}
