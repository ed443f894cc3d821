//! The seam between reading and judging.

use crate::config::Config;
use crate::finding::Finding;
use crate::log::Record;

/// Judges records in order.
pub(super) trait Engine {
    /// Judges `records`; answers with the revisions that made.
    fn feed(&mut self, records: Vec<Record>) -> anyhow::Result<Vec<Finding>>;

    /// Nothing more comes: answers with the revisions that are left.
    fn finish(&mut self) -> anyhow::Result<Vec<Finding>>;
}

/// Opens the detector on a log in memory.
#[expect(clippy::unnecessary_wraps, reason = "placeholder")]
pub(super) fn open(config: &Config) -> anyhow::Result<Box<dyn Engine>> {
    let _ = &config.detect;
    Ok(Box::new(Placeholder))
}

/// Placeholder until the pipeline lands.
struct Placeholder;

impl Engine for Placeholder {
    fn feed(&mut self, records: Vec<Record>) -> anyhow::Result<Vec<Finding>> {
        drop(records);
        Ok(Vec::new())
    }

    fn finish(&mut self) -> anyhow::Result<Vec<Finding>> {
        Ok(Vec::new())
    }
}
