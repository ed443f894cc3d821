//! Wiring: which part gets which other part. Knows every module and decides nothing.
//!
//! [`App::build`] opens and binds and can fail; [`App::run`] runs until asked to stop, then stops the parts in the order of
//! the flow, each only when the one before it has nothing more to give: sources, log, tasks, outbox, admin.
//!
//! Invariant: a part that ends by itself stops the whole program with an error. A detector that is gone while the front
//! door still answers 204 would be a silent hole.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{Config, Loaded, Secrets, identifier_key};
use crate::log::embedded::{self, EmbeddedLog, Enqueue};
use crate::log::{Log, Partition};
use crate::metrics::Metrics;
use crate::pipeline::{self, Board, Questions, ShadowBoard, Task};
use crate::sinks::dispatch::{self, Dispatch};
use crate::sinks::outbox::{self, Bounds, Outbox, Recipient};
use crate::sinks::redact::Pseudonym;
use crate::sinks::{self, Outlet};
use crate::store::Store;
use crate::{admin, http, sources};

pub mod reload;

use reload::Reload;

/// Connections the admin listener holds: a few scrapers and probes.
const MAX_ADMIN_CONNECTIONS: usize = 64;

/// The program, opened and bound.
pub struct App {
    clock: Clock,
    metrics: Metrics,
    store: Store,
    log: Arc<EmbeddedLog>,
    tasks: Vec<Task>,
    outlets: Vec<Outlet>,
    pseudonym: Pseudonym,
    bounds: Bounds,
    /// Changes when findings were put into the outbox.
    wake: watch::Receiver<()>,
    ingest: Front,
    admin: Front,
}

/// A listener and what answers on it.
struct Front {
    listener: TcpListener,
    addr: SocketAddr,
    router: Router,
    limits: http::Limits,
}

impl App {
    /// Opens the store, restores the tasks, binds the listeners.
    ///
    /// # Errors
    /// Something cannot be opened or bound; the text says what and why.
    pub async fn build(config: &Config, secrets: Secrets) -> anyhow::Result<Self> {
        let clock = Clock::system();
        let metrics = Metrics::new()?;
        create_data_dir(&config.data_dir)?;
        let store = Store::open(&config.data_dir, &[embedded::SCHEMA, outbox::SCHEMA])
            .with_context(|| format!("cannot open the store in {}", config.data_dir.display()))?;
        let parts = sinks::Parts { data_dir: &config.data_dir, variables: &secrets.sinks, clock: clock.clone() };
        let outlets = sinks::build(&config.sinks, &parts)?;
        let names: Vec<_> = outlets.iter().map(|outlet| outlet.name.clone()).collect();
        let identifier_key = identifier_key::load_or_create(&config.data_dir)?;
        let retired = Outbox::new(store.clone()).retire_others(&names, clock.now()).await?;
        if retired > 0 {
            tracing::warn!(revisions = retired, "given up: they waited for sinks that are no longer configured");
        }
        let (woken, wake) = watch::channel(());
        let enqueue = enqueue(outlets.iter().map(Recipient::of).collect(), config.sinks.outbox, clock.clone());
        let log = EmbeddedLog::open(store.clone(), &config.log, enqueue, &clock, &metrics.log)?;
        let log = Arc::new(log);
        let (board, shadow) = (Board::default(), ShadowBoard::default());
        let tasks = open_tasks(config, &log, &clock, &metrics, (&board, &shadow), woken)?;
        let notes = notes(&secrets, &store);
        for note in &*notes {
            tracing::warn!("{note}");
        }
        let admin_parts = admin::Parts {
            tokens: secrets.admin_tokens.clone().into(),
            metrics: metrics.clone(),
            log: Arc::clone(&log) as Arc<dyn Log>,
            board,
            shadow,
            questions: Questions::to(&tasks),
            notes,
        };
        if let Some(fault) = config.admin.exposure(&secrets.admin_tokens) {
            bail!(fault);
        }
        let router = sources::router(sources::Parts {
            config: config.ingest.clone(),
            secrets: sources::Secrets {
                clerk_webhook: secrets.clerk_webhook,
                attempts: secrets.attempts,
                attempts_tokens: secrets.attempts_tokens,
            },
            log: Arc::clone(&log) as Arc<dyn Log>,
            metrics: metrics.ingest.clone(),
            clock: clock.clone(),
            identifier_key: identifier_key.clone(),
        })
        .map_err(|faults| anyhow!(faults.join("; ")))?;
        let ingest = Front::bind("ingest.listen", config.ingest.listen, router, config.ingest.limits()).await?;
        let limits = http::Limits { max_connections: MAX_ADMIN_CONNECTIONS, ..config.ingest.limits() };
        let admin = Front::bind("admin.listen", config.admin.listen, admin::router(admin_parts), limits).await?;
        let pseudonym: Pseudonym = Arc::new(move |tenant, text| identifier_key.hash(tenant, text).0);
        let bounds = config.sinks.outbox;
        Ok(Self { clock, metrics, store, log, tasks, outlets, pseudonym, bounds, wake, ingest, admin })
    }

    /// Where `/webhooks/clerk` and `/v1/attempts` are.
    #[must_use]
    pub fn ingest_addr(&self) -> SocketAddr {
        self.ingest.addr
    }

    /// Where `/metrics` is.
    #[must_use]
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin.addr
    }

    /// What reads the configuration again while this runs; `started` is what it was built from, `read` reads it anew.
    #[must_use]
    pub fn reload(&self, started: Loaded, read: reload::Read) -> Reload {
        self.metrics.config.loaded_seconds.set(reload::seconds(self.clock.now()));
        let settings = self.tasks.iter().map(Task::settings).collect();
        Reload { started, read, settings, metrics: self.metrics.config.clone(), clock: self.clock.clone() }
    }

    /// Runs until `shutdown`, then drains.
    ///
    /// # Errors
    /// A part ended by itself.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let stop = Stops::default();
        let connections = self.metrics.ingest.connections.clone();
        let mut sources = JoinSet::new();
        sources.spawn(self.ingest.serve(connections, stop.sources.clone()));
        let mut admin = JoinSet::new();
        let uncounted = prometheus::IntGauge::new("admin_connections", "Not exported.")?;
        admin.spawn(self.admin.serve(uncounted, stop.admin.clone()));
        let mut tasks = JoinSet::new();
        for task in self.tasks {
            let (runtime, stop) = (tokio::runtime::Handle::current(), stop.tasks.clone());
            tasks.spawn_blocking(move || task.run(&runtime, &stop));
        }
        let outbox = Outbox::new(self.store.clone());
        let mut deliveries = JoinSet::new();
        deliveries.spawn(dispatch::prune(outbox.clone(), self.bounds, self.clock.clone(), stop.outbox.clone()));
        for outlet in self.outlets {
            let (metrics, clock) = (self.metrics.outbox.clone(), self.clock.clone());
            let pseudonym = Arc::clone(&self.pseudonym);
            let dispatch = Dispatch { outlet, outbox: outbox.clone(), metrics, clock, pseudonym };
            deliveries.spawn(dispatch.run(self.wake.clone(), stop.outbox.clone()));
        }

        let early = tokio::select! {
            () = shutdown.cancelled() => None,
            _ = sources.join_next() => Some("the ingest listener"),
            Some(ended) = tasks.join_next() => Some(describe(&ended)),
            Some(_) = deliveries.join_next() => Some("a sink's delivery"),
            _ = admin.join_next() => Some("the admin listener"),
        };
        stop.sources.cancel();
        drain(&mut sources).await;
        let log = Arc::clone(&self.log);
        tokio::task::spawn_blocking(move || log.close()).await?;
        stop.tasks.cancel();
        drain(&mut tasks).await;
        stop.outbox.cancel();
        drain(&mut deliveries).await;
        stop.admin.cancel();
        drain(&mut admin).await;
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || store.close()).await?;
        match early {
            None => Ok(()),
            Some(part) => bail!("{part} ended by itself"),
        }
    }
}

/// One token per stage, cancelled in this order.
#[derive(Default)]
struct Stops {
    sources: CancellationToken,
    tasks: CancellationToken,
    outbox: CancellationToken,
    admin: CancellationToken,
}

impl Front {
    async fn bind(key: &str, listen: SocketAddr, router: Router, limits: http::Limits) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(listen).await.with_context(|| format!("{key}: cannot listen on {listen}"))?;
        let addr = listener.local_addr()?;
        Ok(Self { listener, addr, router, limits })
    }

    async fn serve(self, connections: prometheus::IntGauge, stop: CancellationToken) {
        http::serve(self.listener, self.router, self.limits, connections, stop).await;
    }
}

async fn drain<T: 'static>(set: &mut JoinSet<T>) {
    while let Some(ended) = set.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a part failed while stopping");
        }
    }
}

fn describe(ended: &Result<Result<(), crate::log::LogError>, tokio::task::JoinError>) -> &'static str {
    match ended {
        Ok(Err(error)) => tracing::error!(%error, "a detector stopped"),
        Err(error) => tracing::error!(%error, "a detector failed"),
        Ok(Ok(())) => {}
    }
    "a detector"
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

fn enqueue(recipients: Vec<Recipient>, bounds: Bounds, clock: Clock) -> Enqueue {
    Arc::new(move |transaction, findings| {
        outbox::enqueue(transaction, &recipients, findings, clock.now(), &bounds).map(|_| ())
    })
}

fn open_tasks(
    config: &Config,
    log: &Arc<EmbeddedLog>,
    clock: &Clock,
    metrics: &Metrics,
    (board, shadow): (&Board, &ShadowBoard),
    woken: watch::Sender<()>,
) -> anyhow::Result<Vec<Task>> {
    let parts = pipeline::Parts {
        log: Arc::clone(log) as Arc<dyn Log>,
        config: config.detect.clone(),
        clock: clock.clone(),
        detect_metrics: metrics.detect.clone(),
        log_metrics: metrics.log.clone(),
        board: Arc::clone(board),
        shadow: shadow.clone(),
        // Without a sink nobody listens.
        wake: Arc::new(move || woken.send(()).unwrap_or(())),
    };
    (0..log.partitions())
        .map(|partition| Task::open(parts.clone(), Partition(partition)).context("cannot restore the detector"))
        .collect()
}

/// What cannot be seen with the sources that are configured.
fn notes(secrets: &Secrets, store: &Store) -> Arc<[String]> {
    let mut notes = Vec::new();
    if let Some(aside) = store.moved_aside() {
        notes.push(format!("the database was damaged and is now {}: this instance began anew", aside.display()));
    }
    if secrets.attempts.is_empty() && secrets.attempts_tokens.is_empty() {
        notes.push(
            "no failure source configured: Clerk's webhooks carry no failed sign-in, so no failure rate can be computed; \
             set AUTHSPIKE_ATTEMPTS_TOKEN or AUTHSPIKE_ATTEMPTS_SECRET and report attempts"
                .to_owned(),
        );
    }
    if secrets.clerk_webhook.is_empty() {
        notes.push(
            "no Clerk webhook configured: lock-outs and sign-ins are seen only where attempts report them".to_owned(),
        );
    }
    notes.into()
}
