//! (being written)

use std::net::SocketAddr;

use tokio_util::sync::CancellationToken;

use crate::config::{Config, Secrets};

/// The running program.
#[derive(Debug)]
pub struct App {
    ingest: SocketAddr,
    admin: SocketAddr,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Everything was drained.
    Drained,
    /// The deadline passed first.
    DeadlineMissed,
}

impl App {
    /// Opens everything.
    ///
    /// # Errors
    /// Something cannot be opened.
    #[expect(clippy::unused_async, reason = "placeholder")]
    pub async fn build(config: &Config, secrets: Secrets) -> anyhow::Result<Self> {
        drop(secrets);
        Ok(Self { ingest: config.ingest.listen, admin: config.admin.listen })
    }

    /// Where `/v1/attempts` and `/webhooks/clerk` listen.
    #[must_use]
    pub fn ingest_addr(&self) -> SocketAddr {
        self.ingest
    }

    /// Where `/metrics` listens.
    #[must_use]
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin
    }

    /// Runs until `shutdown`.
    ///
    /// # Errors
    /// A part failed.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<Stopped> {
        shutdown.cancelled().await;
        Ok(Stopped::Drained)
    }
}
