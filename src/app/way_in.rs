//! The way in of a process that receives: the ingest listener, and the topics that are read.

use std::net::SocketAddr;

use anyhow::anyhow;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Engine, Front};
use crate::clock::Clock;
use crate::config::{Config, Secrets, identifier_key};
use crate::log::kafka::{Clients, Failed};
use crate::metrics::Metrics;
use crate::sources::file::{self, Follower};
use crate::sources::{self, kafka_topic};

/// What events come in by.
pub(super) struct WayIn {
    front: Front,
    topics: Vec<kafka_topic::Reading>,
    followers: Vec<Follower>,
}

impl WayIn {
    /// Binds the listener and joins the groups of the topics.
    pub(super) async fn open(
        config: &Config,
        secrets: Secrets,
        engine: &Engine,
        metrics: &Metrics,
        clock: &Clock,
        failed: &Failed,
    ) -> anyhow::Result<Self> {
        let clients = Clients::new(config.kafka.clone(), secrets.kafka);
        let parts = sources::Parts {
            config: config.ingest.clone(),
            identifier_key: identifier_key::of(&config.data_dir, secrets.identifier_key.as_ref())?,
            secrets: sources::Secrets {
                clerk_webhook: secrets.clerk_webhook,
                attempts: secrets.attempts,
                attempts_tokens: secrets.attempts_tokens,
            },
            log: engine.log(),
            metrics: metrics.ingest.clone(),
            clock: clock.clone(),
            aliases: engine.aliases(),
        };
        let topics = sources::topics(&parts, &clients, &metrics.kafka, failed).map_err(|fault| anyhow!(fault))?;
        let followers = file::followers(&parts, &config.data_dir).map_err(|fault| anyhow!(fault))?;
        let router = sources::router(parts).map_err(|faults| anyhow!(faults.join("; ")))?;
        let front = Front::bind("ingest.listen", config.ingest.listen, router, config.ingest.limits()).await?;
        Ok(Self { front, topics, followers })
    }

    pub(super) const fn addr(&self) -> SocketAddr {
        self.front.addr
    }

    /// Takes events in until `stop`.
    pub(super) fn serve(self, sources: &mut JoinSet<()>, connections: prometheus::IntGauge, stop: &CancellationToken) {
        sources.spawn(self.front.serve(connections, stop.clone()));
        for follower in self.followers {
            sources.spawn(follower.follow(stop.clone()));
        }
        for topic in self.topics {
            let (runtime, stop) = (tokio::runtime::Handle::current(), stop.clone());
            sources.spawn_blocking(move || topic.run(&runtime, &stop));
        }
    }
}
