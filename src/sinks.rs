//! Where findings go.
//!
//! Invariant: a sink only sends. It neither chooses what to send, nor retries, nor keeps anything: the outbox does, so a
//! sink that fails or hangs loses nothing and delays nobody else.
//!
//! Not here: the order, the schedule and the memory of what was delivered (`sinks::outbox`, `sinks::dispatch`).

use std::path::Path;

use async_trait::async_trait;
use serde::Deserialize;

use crate::finding::Finding;

pub mod dispatch;
pub mod format;
pub mod jsonl;
pub mod outbox;
pub mod stdout;

/// What became of one finding revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It arrived.
    Accepted,
    /// Not now: try again later.
    Retry(String),
    /// Never: it goes to the dead letters.
    Refused(String),
}

impl Delivery {
    /// The value of the `result` label.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Retry(_) => "retry",
            Self::Refused(_) => "refused",
        }
    }
}

/// A destination.
#[async_trait]
pub trait Sink: Send + Sync + 'static {
    /// Sends the findings in order; one result each.
    async fn deliver(&mut self, findings: &[Finding]) -> Vec<Delivery>;
}

/// What the user can set.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The terminal.
    pub stdout: stdout::Config,
    /// A rotating file.
    pub jsonl: jsonl::Config,
}

impl Config {
    /// Every fault, as `key: what is wrong`.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        self.jsonl.validate().into_iter().map(|fault| format!("jsonl.{fault}")).collect()
    }
}

/// The configured sinks, by name.
///
/// # Errors
/// Every sink that cannot be opened, and why.
pub fn build(config: &Config, data_dir: &Path) -> Result<Vec<(String, Box<dyn Sink>)>, Vec<String>> {
    let mut sinks: Vec<(String, Box<dyn Sink>)> = Vec::new();
    if config.stdout.enabled {
        sinks.push(("stdout".into(), Box::new(stdout::Stdout::new(&config.stdout))));
    }
    if config.jsonl.enabled {
        let sink =
            jsonl::Jsonl::open(&config.jsonl, data_dir).map_err(|error| vec![format!("sinks.jsonl: {error}")])?;
        sinks.push(("jsonl".into(), Box::new(sink)));
    }
    Ok(sinks)
}
