//! The log this process runs on, and what belongs to it: the embedded one with its one task, or Kafka with its groups.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};

use super::fleet::{Detectors, IntoOutbox};
use super::way_out::WayOut;
use crate::alias::Aliases;
use crate::alias::rows::Keeper;
use crate::clock::Clock;
use crate::config::{Config, Role, Secrets};
use crate::log::embedded::{EmbeddedLog, Enqueue};
use crate::log::kafka::access::{self, AccessError};
use crate::log::kafka::findings::Deliveries;
use crate::log::kafka::{self, Clients, KafkaLog, Sharing};
use crate::log::{Log, Partition};
use crate::metrics::Metrics;
use crate::pipeline::{Task, Tasks};
use crate::store::Store;

/// One of the two.
pub(super) enum Engine {
    /// This machine alone.
    Embedded {
        log: Arc<EmbeddedLog>,
        /// Restored, and run once the rest is.
        task: Option<Box<Task>>,
        aliases: Aliases,
        /// Runs once the rest does.
        keeper: Option<Keeper>,
    },
    /// A fleet.
    Kafka {
        log: Arc<KafkaLog>,
        detects: bool,
        aliases: Aliases,
        /// Of one that receives.
        sharing: Option<Sharing>,
        deliveries: Option<Deliveries>,
        failed: kafka::Failed,
    },
}

impl Engine {
    /// The one that `config` asks for; the embedded one shares the database of `way_out`.
    pub(super) async fn open(
        config: &Config,
        secrets: &Secrets,
        way_out: Option<&WayOut>,
        clock: &Clock,
        metrics: &Metrics,
        failed: &kafka::Failed,
    ) -> anyhow::Result<Self> {
        if config.kafka.is_on() {
            return Self::kafka(config, secrets, clock, metrics, Arc::clone(failed)).await;
        }
        let way_out = way_out.context("without Kafka one process has all roles")?;
        Self::embedded(config, way_out.store(), way_out.enqueue(clock), clock, metrics).await
    }

    async fn embedded(
        config: &Config,
        store: &Store,
        enqueue: Enqueue,
        clock: &Clock,
        metrics: &Metrics,
    ) -> anyhow::Result<Self> {
        let log = EmbeddedLog::open(store.clone(), &config.log, enqueue, clock, &metrics.log)?;
        let kept = Keeper::open(store.clone(), &config.ingest.aliases, &metrics.alias).await;
        let (aliases, keeper) = kept.context("cannot read the names of users")?;
        Ok(Self::Embedded { log: Arc::new(log), task: None, aliases, keeper: Some(keeper) })
    }

    /// Looks at the topics first: what is wrong with them is better known before anything is acknowledged.
    async fn kafka(
        config: &Config,
        secrets: &Secrets,
        clock: &Clock,
        metrics: &Metrics,
        failed: kafka::Failed,
    ) -> anyhow::Result<Self> {
        let clients = Clients::new(config.kafka.clone(), secrets.kafka.clone());
        for note in config.kafka.left_out() {
            tracing::warn!("{note}");
        }
        let has = |role| config.roles.contains(&role);
        let roles =
            access::Roles { receives: has(Role::Receive), detects: has(Role::Detect), delivers: has(Role::Deliver) };
        let asking = clients.clone();
        let unreachable = match tokio::task::spawn_blocking(move || access::check(&asking, roles)).await? {
            Ok(()) => None,
            Err(AccessError::Unreachable(fault)) => {
                tracing::warn!("{fault}; waiting for them");
                Some(fault)
            }
            Err(AccessError::Wrong(fault)) => return Err(anyhow!(fault)),
        };
        let parts = kafka::Parts {
            clients,
            failed: Arc::clone(&failed),
            clock: clock.clone(),
            log: metrics.log.clone(),
            kafka: metrics.kafka.clone(),
        };
        let log = KafkaLog::open(parts).map_err(|fault| anyhow!(fault))?;
        let aliases = Aliases::new(&config.ingest.aliases, &metrics.alias);
        let share = || log.share(aliases.clone()).map_err(|fault| anyhow!(fault));
        let sharing = if roles.receives { Some(share()?) } else { None };
        if let Some(sharing) = sharing.as_ref().filter(|_| unreachable.is_none()) {
            sharing.first_reading().await;
        }
        if let Some(fault) = unreachable {
            log.check_later(roles, fault).context("no thread to wait for the brokers")?;
        }
        Ok(Self::Kafka { log, detects: roles.detects, aliases, sharing, deliveries: None, failed })
    }

    pub(super) fn log(&self) -> Arc<dyn Log> {
        match self {
            Self::Embedded { log, .. } => Arc::clone(log) as Arc<dyn Log>,
            Self::Kafka { log, .. } => Arc::clone(log) as Arc<dyn Log>,
        }
    }

    /// Which names belong to which user.
    pub(super) fn aliases(&self) -> Aliases {
        match self {
            Self::Embedded { aliases, .. } | Self::Kafka { aliases, .. } => aliases.clone(),
        }
    }

    /// What keeps them, to be run, where the log does not.
    pub(super) fn keeper(&mut self) -> Option<Keeper> {
        match self {
            Self::Embedded { keeper, .. } => keeper.take(),
            Self::Kafka { .. } => None,
        }
    }

    /// Why nothing should be sent to this process.
    pub(super) fn faults(&self) -> Arc<dyn Fn() -> Vec<String> + Send + Sync> {
        match self {
            Self::Embedded { log, .. } => {
                let log = Arc::clone(log);
                Arc::new(move || {
                    log.fault().map(|fault| format!("the log cannot be written: {fault}")).into_iter().collect()
                })
            }
            Self::Kafka { log, .. } => {
                let log = Arc::clone(log);
                Arc::new(move || {
                    let fault = log.fault().map(|fault| format!("Kafka: {fault}"));
                    fault.into_iter().chain(log.unready()).collect()
                })
            }
        }
    }

    /// Restores what can be restored before anything else begins.
    pub(super) fn restore(&mut self, tasks: &Tasks) -> anyhow::Result<()> {
        if let Self::Embedded { task, .. } = self {
            *task = Some(Box::new(tasks.open(Partition(0)).context("cannot restore the detector")?));
        }
        Ok(())
    }

    /// Begins to judge, and to deliver into `outbox` if this process does.
    pub(super) fn start(&mut self, tasks: &Tasks, outbox: Option<IntoOutbox>) -> anyhow::Result<()> {
        match self {
            Self::Embedded { task, .. } => {
                if let Some(task) = task.take() {
                    tasks.run(*task).context("cannot start the detector")?;
                }
            }
            Self::Kafka { log, detects, deliveries, failed, .. } => {
                if *detects {
                    let (tasks, failed) = (tasks.clone(), Arc::clone(failed));
                    let detectors = Detectors { tasks, log: Arc::downgrade(log), failed };
                    log.detect(Box::new(detectors)).map_err(|fault| anyhow!(fault))?;
                }
                if let Some(outbox) = outbox {
                    *deliveries = Some(log.deliver(Box::new(outbox)).map_err(|fault| anyhow!(fault))?);
                }
            }
        }
        Ok(())
    }

    /// Nothing more is appended: has the tasks judge what they can and leave their snapshots. Blocks.
    pub(super) fn stop_judging(&self, tasks: &Tasks) {
        match self {
            Self::Embedded { log, .. } => {
                log.close();
                // As long as it takes: whoever runs this bounds it.
                let _ = tasks.stop_all(Duration::MAX);
            }
            Self::Kafka { log, sharing, .. } => {
                // Before the producer, with which it tells the last.
                if let Some(sharing) = sharing {
                    sharing.close();
                }
                log.close();
            }
        }
    }

    /// Nothing more is delivered: commits what was. Blocks.
    pub(super) fn stop_delivering(self) {
        if let Self::Kafka { deliveries: Some(deliveries), .. } = self {
            deliveries.close();
        }
    }
}
