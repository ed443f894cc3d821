//! Wiring: which part gets which other part. Knows every module and decides nothing.
//!
//! [`App::build`] opens and binds and can fail; [`App::run`] runs until asked to stop, then stops the parts in the order of
//! the flow, each only when the one before it has nothing more to give: sources, log, tasks, outbox, admin.
//!
//! Invariant: a part that ends by itself stops the whole program with an error. A detector that is gone while the front
//! door still answers 204 would be a silent hole. Where people sign in through the Frontend API proxy they come first: it
//! goes on until the program is asked to stop, readiness says what is broken, and the exit code tells it.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, bail};
use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{Config, Loaded, Role, Secrets};
use crate::detect::Silence;
use crate::erasure::Eraser;
use crate::log::kafka::Failed;
use crate::metrics::Metrics;
use crate::pipeline::{self, Board, Ended, ShadowBoard, SignalBoard, Tasks};
use crate::sources::kafka_topic::{Config as Topic, Format};
use crate::{admin, http};

mod engine;
mod erasing;
mod fleet;
mod proxy;
pub mod reload;
mod way_in;
mod way_out;

use engine::Engine;
use proxy::Proxy;
use reload::Reload;
use way_in::WayIn;
use way_out::WayOut;

/// Connections the admin listener holds: a few scrapers and probes.
const MAX_ADMIN_CONNECTIONS: usize = 64;

/// The program, opened and bound.
pub struct App {
    clock: Clock,
    metrics: Metrics,
    engine: Engine,
    tasks: Tasks,
    ended: Ended,
    /// What cannot go on by itself; whatever tells of it holds the sender.
    failures: mpsc::Receiver<String>,
    failed: Failed,
    way_out: Option<WayOut>,
    way_in: Option<WayIn>,
    proxy: Option<Proxy>,
    admin: Front,
    /// What ended by itself, while there is a proxy to go on.
    broken: Arc<OnceLock<String>>,
    eraser: Option<Eraser>,
}

/// A listener and what answers on it.
struct Front {
    listener: TcpListener,
    addr: SocketAddr,
    router: Router,
    limits: http::Limits,
}

impl App {
    /// Opens the log and the outbox, restores the task, binds the listeners.
    ///
    /// # Errors
    /// Something cannot be opened or bound; the text says what and why.
    pub async fn build(config: &Config, secrets: Secrets) -> anyhow::Result<Self> {
        let clock = Clock::system();
        let metrics = Metrics::new()?;
        if let Some(fault) = config.admin.exposure(&secrets.admin_tokens) {
            bail!(fault);
        }
        let delivers = config.roles.contains(&Role::Deliver);
        let way_out = if delivers { Some(WayOut::open(config, &secrets, &clock).await?) } else { None };
        let woken = way_out.as_ref().map(WayOut::waker);
        // The first is enough: it ends the program.
        let (send, failures) = mpsc::channel(1);
        let failed: Failed = Arc::new(move |fault| send.try_send(fault).unwrap_or(()));
        let mut engine = Engine::open(config, &secrets, way_out.as_ref(), &clock, &metrics, &failed).await?;
        let (board, shadow) = (Board::default(), ShadowBoard::default());
        let signals = SignalBoard::new(Silence(i64::from(config.admin.silent_minutes) * 60_000), clock.clone());
        let parts = pipeline::Parts {
            log: engine.log(),
            config: config.detect.clone(),
            clock: clock.clone(),
            detect_metrics: metrics.detect.clone(),
            log_metrics: metrics.log.clone(),
            board: Arc::clone(&board),
            shadow: shadow.clone(),
            signals: signals.clone(),
            wake: woken.unwrap_or_else(|| Arc::new(|| ())),
        };
        let (tasks, ended) = Tasks::new(parts, tokio::runtime::Handle::current());
        engine.restore(&tasks)?;
        let receives = config.roles.contains(&Role::Receive);
        let notes = notes(receives.then_some((config, &secrets)), way_out.as_ref());
        for note in &*notes {
            tracing::warn!("{note}");
        }
        let broken = Arc::new(OnceLock::new());
        let (erasures, eraser) = erasing::open(config, &engine, way_out.as_ref(), &clock, &metrics);
        let admin_parts = admin::Parts {
            tokens: secrets.admin_tokens.clone().into(),
            metrics: metrics.clone(),
            faults: with_broken(engine.faults(), &broken),
            board,
            shadow,
            signals,
            questions: tasks.questions(),
            erasures,
            notes,
            gaps: gaps(&metrics),
        };
        let proxies = receives && config.ingest.fapi_proxy.enabled;
        let proxy = if proxies { Some(Proxy::bind(config, &secrets, &engine, &metrics, &clock).await?) } else { None };
        let way_in =
            if receives { Some(WayIn::open(config, secrets, &engine, &metrics, &clock, &failed).await?) } else { None };
        let limits = http::Limits { max_connections: MAX_ADMIN_CONNECTIONS, ..config.ingest.limits() };
        let admin = Front::bind("admin.listen", config.admin.listen, admin::router(admin_parts), limits).await?;
        Ok(Self {
            clock,
            metrics,
            engine,
            tasks,
            ended,
            failures,
            failed,
            way_out,
            way_in,
            proxy,
            admin,
            broken,
            eraser,
        })
    }

    /// Where `/webhooks/clerk` and `/v1/attempts` are, if this process receives.
    #[must_use]
    pub fn ingest_addr(&self) -> Option<SocketAddr> {
        self.way_in.as_ref().map(WayIn::addr)
    }

    /// Where Clerk's Frontend API is forwarded from, if it is.
    #[must_use]
    pub fn fapi_proxy_addr(&self) -> Option<SocketAddr> {
        self.proxy.as_ref().map(Proxy::addr)
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
        Reload {
            started,
            read,
            tasks: self.tasks.clone(),
            metrics: self.metrics.config.clone(),
            clock: self.clock.clone(),
        }
    }

    /// Runs until `shutdown`, then drains.
    ///
    /// # Errors
    /// A part ended by itself.
    pub async fn run(mut self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let stop = Stops::default();
        let connections = self.metrics.ingest.connections.clone();
        let mut sources = JoinSet::new();
        if let Some(way_in) = self.way_in {
            way_in.serve(&mut sources, connections, &stop.sources);
        }
        let mut proxy = JoinSet::new();
        if let Some(part) = self.proxy {
            proxy.spawn(part.run(stop.sources.clone()));
        }
        let mut admin = JoinSet::new();
        let uncounted = prometheus::IntGauge::new("admin_connections", "Not exported.")?;
        admin.spawn(self.admin.serve(uncounted, stop.admin.clone()));
        let intake = self.way_out.as_ref().map(|way_out| way_out.intake(&self.clock));
        self.engine.start(&self.tasks, intake)?;
        let mut keeping = JoinSet::new();
        if let Some(keeper) = self.engine.keeper() {
            keeping.spawn(keeper.run(stop.outbox.clone()));
        }
        let mut deliveries = JoinSet::new();
        let store = self.way_out.as_ref().map(|way_out| way_out.store().clone());
        if let Some(way_out) = self.way_out {
            way_out.deliver(&mut deliveries, &self.metrics, &self.clock, &stop.outbox);
        }
        if let Some(eraser) = self.eraser {
            let (runtime, stop) = (tokio::runtime::Handle::current(), stop.outbox.clone());
            deliveries.spawn_blocking(move || eraser.run(&runtime, &stop));
        }

        let early = tokio::select! {
            () = shutdown.cancelled() => None,
            Some(_) = sources.join_next() => Some(ended_by_itself("a source")),
            Some(why) = self.ended.recv() => Some(why),
            Some(why) = self.failures.recv() => Some(why),
            Some(_) = keeping.join_next() => Some(ended_by_itself("what keeps the names of users")),
            Some(_) = deliveries.join_next() => Some(ended_by_itself("a sink's delivery")),
            Some(_) = proxy.join_next() => Some(ended_by_itself("the Frontend API proxy")),
            _ = admin.join_next() => Some(ended_by_itself("the admin listener")),
        };
        if let Some(why) = early.as_deref().filter(|_| !proxy.is_empty()) {
            proxy::alone(why, &self.broken, &mut proxy, &shutdown).await;
        }
        stop.sources.cancel();
        drain(&mut sources).await;
        drain(&mut proxy).await;
        let (engine, tasks) = (self.engine, self.tasks);
        let engine = tokio::task::spawn_blocking(move || {
            engine.stop_judging(&tasks);
            engine
        })
        .await?;
        stop.outbox.cancel();
        drain(&mut keeping).await;
        drain(&mut deliveries).await;
        tokio::task::spawn_blocking(move || engine.stop_delivering()).await?;
        stop.admin.cancel();
        drain(&mut admin).await;
        if let Some(store) = store {
            tokio::task::spawn_blocking(move || store.close()).await?;
        }
        drop(self.failed);
        match early {
            None => Ok(()),
            Some(why) => bail!(why),
        }
    }
}

/// One token per stage, cancelled in this order.
#[derive(Default)]
struct Stops {
    sources: CancellationToken,
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

fn ended_by_itself(part: &str) -> String {
    format!("{part} ended by itself")
}

/// The faults of `faults`, and what broke for good.
fn with_broken(
    faults: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
    broken: &Arc<OnceLock<String>>,
) -> Arc<dyn Fn() -> Vec<String> + Send + Sync> {
    let broken = Arc::clone(broken);
    Arc::new(move || faults().into_iter().chain(broken.get().cloned()).collect())
}

/// What went by unseen.
fn gaps(metrics: &Metrics) -> Arc<dyn Fn() -> Vec<String> + Send + Sync> {
    let metrics = metrics.fapi_proxy.clone();
    Arc::new(move || metrics.gap().into_iter().collect())
}

/// What cannot be seen with the sources that are configured.
fn notes(sources: Option<(&Config, &Secrets)>, way_out: Option<&WayOut>) -> Arc<[String]> {
    let mut notes = Vec::new();
    if let Some(aside) = way_out.and_then(|way_out| way_out.store().moved_aside()) {
        notes.push(format!("the database was damaged and is now {}: this instance began anew", aside.display()));
    }
    let Some((config, secrets)) = sources else { return notes.into() };
    let proxy = &config.ingest.fapi_proxy;
    notes.extend(proxy.notes());
    let topics = &config.ingest.kafka;
    let reads = topics.iter().any(Topic::has_failures) || !config.ingest.file.is_empty() || proxy.enabled;
    if secrets.attempts.is_empty() && secrets.attempts_tokens.is_empty() && !reads {
        notes.push(
            "no failure source configured: Clerk's webhooks carry no failed sign-in, so no failure rate can be computed; \
             set AUTHSPIKE_ATTEMPTS_TOKEN or AUTHSPIKE_ATTEMPTS_SECRET and report attempts, enable ingest.fapi_proxy, or \
             follow a log ([[ingest.file]])"
                .to_owned(),
        );
    }
    if secrets.clerk_webhook.is_empty() && !topics.iter().any(|topic| topic.is_of(Format::ClerkWebhook)) {
        notes.push(
            "no Clerk webhook configured: lock-outs and sign-ins are seen only where attempts report them".to_owned(),
        );
    }
    notes.into()
}
