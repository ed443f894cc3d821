//! Where findings go.
//!
//! Invariant: a sink only sends. It neither chooses what to send, nor retries, nor keeps anything: the outbox does, so a
//! sink that fails or hangs loses nothing and delays nobody else.
//!
//! Not here: the order, the schedule and the memory of what was delivered (`sinks::outbox`, `sinks::dispatch`).

use async_trait::async_trait;

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
