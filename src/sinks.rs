//! Where findings go.
//!
//! Invariant: a sink only sends. It neither chooses what to send, nor retries, nor keeps anything: the outbox does, so a
//! sink that fails or hangs loses nothing and delays nobody else.
//!
//! Not here: the order, the schedule and the memory of what was delivered (`sinks::outbox`, `sinks::dispatch`).

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::finding::Finding;

pub mod dispatch;
pub mod format;
pub mod http;
pub mod jsonl;
pub mod outbox;
pub mod stdout;
pub mod thread;

use thread::Threaded;

/// What became of one finding revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It arrived.
    Accepted,
    /// Not now: try again later.
    Retry {
        /// Why.
        reason: String,
        /// The receiver's own wish: not before this has passed.
        after: Option<Duration>,
    },
    /// Not until somebody repairs something (credentials, address): everything is kept, and tried now and then.
    Blocked(String),
    /// What was sent together was too large: send it in halves; a single one, cut down.
    Split(String),
    /// Something in what was sent together is bad, and nobody said what: send it in halves until that is found; a single
    /// one goes to the dead letters.
    Bisect(String),
    /// Never: it goes to the dead letters.
    Refused(String),
}

impl Delivery {
    /// [`Delivery::Retry`] where the receiver has said nothing about when.
    #[must_use]
    pub fn retry(reason: impl Into<String>) -> Self {
        Self::Retry { reason: reason.into(), after: None }
    }

    /// The value of the `result` label.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Retry { .. } => "retry",
            Self::Blocked(_) => "blocked",
            Self::Split(_) => "split",
            Self::Bisect(_) => "bisect",
            Self::Refused(_) => "refused",
        }
    }
}

/// A destination.
#[async_trait]
pub trait Sink: Send + 'static {
    /// Sends the findings in order; one result each. A reason holds no secret: it is stored and shown. The caller may
    /// stop waiting (a time-out, the end of the process) and then sends the same findings again.
    async fn deliver(&mut self, findings: &[Finding]) -> Vec<Delivery>;
}

/// A sink and its name in the outbox and in metrics.
pub type NamedSink = (String, Box<dyn Sink>);

/// What the user can set. A sink's name here is its name in the outbox and in metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Standard output.
    pub stdout: stdout::Config,
    /// A file of OCSF records.
    pub jsonl: jsonl::Config,
}

impl Config {
    /// Every fault, as `sink.key: what is wrong`.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        self.jsonl.validate().into_iter().map(|fault| format!("jsonl.{fault}")).collect()
    }
}

/// A sink that was asked for cannot be had: the start fails, since a detector that tells nobody is worse than none.
#[derive(Debug, thiserror::Error)]
#[error("sink {name}: {what}: {source}")]
pub struct BuildError {
    /// The sink.
    pub name: &'static str,
    /// What it was about.
    pub what: String,
    /// Why.
    pub source: std::io::Error,
}

/// The sinks that are enabled, by name, ready to deliver.
///
/// # Errors
/// See [`BuildError`].
pub fn build(config: &Config, data_dir: &Path) -> Result<Vec<NamedSink>, BuildError> {
    let mut sinks: Vec<NamedSink> = Vec::new();
    if config.stdout.enabled {
        let sink = Threaded::spawn("stdout", stdout::Stdout::new(&config.stdout));
        let sink = sink.map_err(|source| BuildError { name: "stdout", what: "thread".into(), source })?;
        sinks.push(("stdout".into(), Box::new(sink)));
    }
    if config.jsonl.enabled {
        let fault = |what: String| move |source| BuildError { name: "jsonl", what, source };
        let path = data_dir.join(&config.jsonl.path);
        let sink = jsonl::JsonLines::open(&config.jsonl, data_dir).map_err(fault(path.display().to_string()))?;
        let sink = Threaded::spawn("jsonl", sink).map_err(fault("thread".into()))?;
        sinks.push(("jsonl".into(), Box::new(sink)));
    }
    Ok(sinks)
}

#[cfg(test)]
pub(crate) mod sample;
