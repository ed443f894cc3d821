//! Where findings go.
//!
//! Invariant: a sink only sends. It neither chooses what to send, nor retries, nor keeps anything: the outbox does, so a
//! sink that fails or hangs loses nothing and delays nobody else.
//!
//! Not here: the order, the schedule and the memory of what was delivered (`sinks::outbox`, `sinks::dispatch`).

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
pub trait Sink: Send + 'static {
    /// Sends the findings in order; one result each.
    async fn deliver(&mut self, findings: &[Finding]) -> Vec<Delivery>;
}

/// What the user can set.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {}

impl Config {
    /// Every fault, as `key: what is wrong`.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        Vec::new()
    }
}
