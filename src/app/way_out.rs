//! The way out of a process that delivers: the store, the outbox in it, the sinks behind that.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::fleet::IntoOutbox;
use crate::alias;
use crate::clock::Clock;
use crate::config::{Config, Secrets, identifier_key};
use crate::log::embedded::{self, Enqueue};
use crate::metrics::Metrics;
use crate::sinks::dispatch::{self, Dispatch};
use crate::sinks::jsonl::Files;
use crate::sinks::outbox::{self, Bounds, Outbox, Recipient};
use crate::sinks::redact::Pseudonym;
use crate::sinks::{self, Outlet};
use crate::store::Store;

/// The outbox and what it leads to.
pub(super) struct WayOut {
    store: Store,
    outlets: Vec<Outlet>,
    pseudonym: Pseudonym,
    bounds: Bounds,
    /// Changes when findings were put into the outbox.
    wake: watch::Receiver<()>,
    woken: watch::Sender<()>,
}

impl WayOut {
    /// Opens the store and everything that is configured to take findings.
    pub(super) async fn open(config: &Config, secrets: &Secrets, clock: &Clock) -> anyhow::Result<Self> {
        create_data_dir(&config.data_dir)?;
        let store = Store::open(&config.data_dir, &[embedded::SCHEMA, outbox::SCHEMA, alias::rows::SCHEMA])
            .with_context(|| format!("cannot open the store in {}", config.data_dir.display()))?;
        let parts = sinks::Parts { data_dir: &config.data_dir, variables: &secrets.sinks, clock: clock.clone() };
        let outlets = sinks::build(&config.sinks, &parts)?;
        let names: Vec<_> = outlets.iter().map(|outlet| outlet.name.clone()).collect();
        let outbox = Outbox::new(store.clone());
        let retired = outbox.retire_others(&names, clock.now()).await?;
        if retired > 0 {
            tracing::warn!(revisions = retired, "given up: they waited for sinks that are no longer configured");
        }
        if config.kafka.is_on() {
            // What an earlier run left behind is in the topic still, for whoever has its partition now.
            outbox.give_up_all().await?;
        }
        let identifier_key = identifier_key::of(&config.data_dir, secrets.identifier_key.as_ref())?;
        let pseudonym: Pseudonym = Arc::new(move |tenant, text| identifier_key.hash(tenant, text).0);
        let (woken, wake) = watch::channel(());
        Ok(Self { store, outlets, pseudonym, bounds: config.sinks.outbox, wake, woken })
    }

    pub(super) const fn store(&self) -> &Store {
        &self.store
    }

    /// To be called when findings were put into the outbox.
    pub(super) fn waker(&self) -> Arc<dyn Fn() + Send + Sync> {
        let woken = self.woken.clone();
        // Without a sink nobody listens.
        Arc::new(move || woken.send(()).unwrap_or(()))
    }

    fn recipients(&self) -> Vec<Recipient> {
        self.outlets.iter().map(Recipient::of).collect()
    }

    /// The files of findings, if there is a sink that writes them.
    pub(super) fn files(&self) -> Option<Files> {
        self.outlets.iter().find_map(|outlet| outlet.sink.files())
    }

    /// Puts findings into the outbox inside the log's own transaction.
    pub(super) fn enqueue(&self, clock: &Clock) -> Enqueue {
        let (recipients, bounds, clock) = (self.recipients(), self.bounds, clock.clone());
        Arc::new(move |transaction, findings| {
            outbox::enqueue(transaction, &recipients, findings, clock.now(), &bounds).map(|_| ())
        })
    }

    /// Puts findings into the outbox that come from elsewhere.
    pub(super) fn intake(&self, clock: &Clock) -> IntoOutbox {
        IntoOutbox {
            store: self.store.clone(),
            recipients: self.recipients(),
            bounds: self.bounds,
            clock: clock.clone(),
            wake: self.waker(),
        }
    }

    /// Delivers until `stop`.
    pub(super) fn deliver(
        self,
        deliveries: &mut JoinSet<()>,
        metrics: &Metrics,
        clock: &Clock,
        stop: &CancellationToken,
    ) {
        let outbox = Outbox::new(self.store);
        deliveries.spawn(dispatch::prune(outbox.clone(), self.bounds, clock.clone(), stop.clone()));
        for outlet in self.outlets {
            let (metrics, clock) = (metrics.outbox.clone(), clock.clone());
            let pseudonym = Arc::clone(&self.pseudonym);
            let dispatch = Dispatch { outlet, outbox: outbox.clone(), metrics, clock, pseudonym };
            deliveries.spawn(dispatch.run(self.wake.clone(), stop.clone()));
        }
    }
}

fn create_data_dir(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    // Findings and addresses are nobody else's business.
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("data_dir: cannot create {}", path.display()))
}
