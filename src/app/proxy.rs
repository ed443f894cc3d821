//! The Frontend API proxy as a part of the program: its listener, and its going on when the rest is broken.

use std::net::SocketAddr;
use std::sync::OnceLock;

use anyhow::{Context as _, anyhow};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Engine;
use crate::clock::Clock;
use crate::config::{Config, Secrets, identifier_key};
use crate::metrics::Metrics;
use crate::sources::fapi_proxy::{FapiProxy, Parts};

/// Bound and ready.
pub(super) struct Proxy {
    listener: TcpListener,
    addr: SocketAddr,
    forwarding: FapiProxy,
}

impl Proxy {
    pub(super) async fn bind(
        config: &Config,
        secrets: &Secrets,
        engine: &Engine,
        metrics: &Metrics,
        clock: &Clock,
    ) -> anyhow::Result<Self> {
        let forwarding = FapiProxy::new(Parts {
            config: config.ingest.fapi_proxy.clone(),
            secret_key: secrets.clerk_secret_key.clone().context("CLERK_SECRET_KEY is not set")?,
            log: engine.log(),
            ingest: metrics.ingest.clone(),
            metrics: metrics.fapi_proxy.clone(),
            clock: clock.clone(),
            identifier_key: identifier_key::of(&config.data_dir, secrets.identifier_key.as_ref())?,
            aliases: engine.aliases(),
        })
        .map_err(|fault| anyhow!("ingest.fapi_proxy.{fault}"))?;
        let listen = config.ingest.fapi_proxy.listen;
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("ingest.fapi_proxy.listen: cannot listen on {listen}"))?;
        let addr = listener.local_addr()?;
        Ok(Self { listener, addr, forwarding })
    }

    pub(super) const fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(super) async fn run(self, stop: CancellationToken) {
        self.forwarding.run(self.listener, stop).await;
    }
}

/// Something else ended by itself: people still sign in until somebody stops the program.
pub(super) async fn alone(why: &str, broken: &OnceLock<String>, proxy: &mut JoinSet<()>, shutdown: &CancellationToken) {
    tracing::error!("{why}; sign-ins are still forwarded, but nothing is detected until a restart");
    let _ = broken.set(format!("{why}; restart it"));
    tokio::select! {
        () = shutdown.cancelled() => {}
        _ = proxy.join_next() => {}
    }
}
