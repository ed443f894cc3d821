//! Takes what is due from the outbox to one sink, and writes down what became of it.
//!
//! While one batch is on its way the next is read and sent, as many as the sink's `max_in_flight`; a sink in trouble gets one
//! at a time. Invariant: one task for one sink, so that a sink that hangs or fails delays nobody else. What a sink has taken
//! is recorded before the next batch is sent: a disk that cannot be written stops deliveries instead of repeating them.
//!
//! Not here: what is due (`sinks::outbox`), when a sink that fails is tried again (`sinks::standing`), and how findings are
//! sent (the sinks).

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Stopwatch};
use crate::metrics::OutboxMetrics;

use super::Outlet;
use super::outbox::{Bounds, Outbox, Outcome};
use super::redact::Pseudonym;
use super::standing::{Standing, State};

mod flights;
mod halves;
mod judge;

use flights::{Flights, Landed};
use judge::{Verdict, judge};

/// The longest sleep: finds what a lost wake-up or a changed clock hid, what a person replayed, and keeps the metrics
/// fresh.
const MAX_SLEEP: Duration = Duration::from_secs(15);
/// Between updates of the gauges while there is always more to send.
const PUBLISH_INTERVAL: Duration = Duration::from_secs(1);
/// How long to wait when the store cannot be read or written.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// Between prunings: settled revisions live for days, so minutes do not matter.
const PRUNE_INTERVAL: Duration = Duration::from_mins(10);

/// One sink and what its task needs.
pub struct Dispatch {
    /// Where to, and what.
    pub outlet: Outlet,
    /// Where from.
    pub outbox: Outbox,
    /// Depth, age and results.
    pub metrics: OutboxMetrics,
    /// For due times.
    pub clock: Clock,
    /// What hashed addresses and accounts are hashed with.
    pub pseudonym: Pseudonym,
}

/// Why no further batch was sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pause {
    /// As many are on their way as may be.
    Full,
    /// The sink is to be left alone: it failed.
    Sink(Duration),
    /// Nothing is due.
    Idle,
    /// The store cannot be read or written.
    Store,
}

/// A [`Dispatch`] at work.
struct Course {
    name: String,
    outbox: Outbox,
    metrics: OutboxMetrics,
    clock: Clock,
    shutdown: CancellationToken,
    standing: Standing,
    /// As many as the sink takes when all is well.
    most: usize,
    flights: Flights,
}

impl Dispatch {
    /// Delivers until `shutdown`, then once more whatever is due, and returns. The caller bounds how long that may take:
    /// what is not recorded by then is delivered after the next start. `wake` changes when something was put in.
    pub async fn run(self, wake: watch::Receiver<()>, shutdown: CancellationToken) {
        let Self { outlet, outbox, metrics, clock, pseudonym } = self;
        let Outlet { name, redaction, sink, beside, .. } = outlet;
        let standing = restored(&outbox, &name, &shutdown).await;
        let mut sinks = beside;
        sinks.push(sink);
        let most = sinks.len();
        let flights = Flights::over(sinks, redaction, pseudonym);
        Course { name, outbox, metrics, clock, shutdown, standing, most, flights }.run(wake).await;
    }
}

impl Course {
    async fn run(mut self, mut wake: watch::Receiver<()>) {
        let mut published = Stopwatch::start();
        loop {
            // Before looking: what is put in while this round runs wakes the next.
            wake.borrow_and_update();
            let is_last = self.shutdown.is_cancelled();
            let pause = self.send().await;
            if is_last && self.flights.is_empty() {
                break;
            }
            // A long backlog must be seen to shrink, and counting it takes time.
            let mut idle = MAX_SLEEP;
            let is_idle = pause == Pause::Idle && self.flights.is_empty();
            if is_idle || published.elapsed() > PUBLISH_INTERVAL {
                let next = self.publish().await;
                // What is on its way is due as well, until it is recorded.
                idle = if is_idle { next } else { MAX_SLEEP };
                published = Stopwatch::start();
            }
            let wait = match pause {
                Pause::Full => MAX_SLEEP,
                Pause::Sink(wait) => wait.min(MAX_SLEEP),
                Pause::Idle => idle,
                Pause::Store => STORE_PAUSE,
            };
            tokio::select! {
                landed = self.flights.landed(), if !self.flights.is_empty() => {
                    if self.settle(landed).await.is_none() {
                        break;
                    }
                }
                () = self.shutdown.cancelled(), if !is_last => {}
                () = tokio::time::sleep(wait) => {}
                () = woken(&mut wake), if matches!(pause, Pause::Sink(_) | Pause::Idle) => {}
            }
        }
        self.publish().await;
    }

    /// Sends batches until one of the reasons not to.
    async fn send(&mut self) -> Pause {
        loop {
            let limit = match self.standing.allowance(self.clock.now()) {
                Err(wait) => return Pause::Sink(wait),
                Ok(limit) => limit,
            };
            if !self.flights.has_room(self.standing.together(self.most)) {
                return Pause::Full;
            }
            let due = self.outbox.due(&self.name, self.clock.now(), limit, &self.flights.entries()).await;
            let due = match due {
                Ok(due) if due.is_empty() => return Pause::Idle,
                Ok(due) => due,
                Err(error) => {
                    tracing::warn!(sink = self.name, %error, "the outbox cannot be read");
                    return Pause::Store;
                }
            };
            let mut unreadable = self.flights.send(due, self.standing.troubles);
            if !unreadable.is_empty() {
                let verdict = judge(&self.name, &mut unreadable, &mut self.standing, false, self.clock.now());
                if self.record(unreadable, verdict.recovered).await.is_none() {
                    return Pause::Store;
                }
            }
        }
    }

    /// Records what became of the parts that `landed`, all at once, and sends what is left of their batches. `None` when
    /// it cannot be recorded before the end.
    async fn settle(&mut self, landed: Vec<Landed>) -> Option<()> {
        let now = self.clock.now();
        let (mut outcomes, mut recovered, mut flights) = (Vec::new(), false, Vec::new());
        for Landed { mut flight, part, deliveries } in landed {
            let mut of_part = flight.halves.sort(part, deliveries);
            // A part that only has to be smaller says nothing.
            let mut verdict = Verdict { go_on: true, recovered: false };
            if !of_part.is_empty() {
                let is_stale = flight.troubles != self.standing.troubles;
                verdict = judge(&self.name, &mut of_part, &mut self.standing, is_stale, now);
            }
            recovered |= verdict.recovered;
            outcomes.append(&mut of_part);
            flights.push((flight, verdict.go_on));
        }
        self.record(outcomes, recovered).await?;
        for (flight, go_on) in flights {
            let is_stale = flight.troubles != self.standing.troubles;
            if go_on && !is_stale && self.standing.allowance(now).is_ok() {
                self.flights.send_next(flight);
            } else {
                // The rest would fare no better; it is still due.
                self.flights.end(flight);
            }
        }
        Some(())
    }

    /// Records `outcomes` and how the sink stands, however often it takes; `None` when it cannot be done before the end.
    async fn record(&mut self, outcomes: Vec<Outcome>, recovered: bool) -> Option<()> {
        if outcomes.is_empty() {
            return Some(());
        }
        for outcome in &outcomes {
            self.metrics.deliveries.with_label_values(&[self.name.as_str(), outcome.delivery.as_str()]).inc();
        }
        while let Err(error) =
            self.outbox.record(&self.name, &outcomes, &self.standing, recovered, self.clock.now()).await
        {
            tracing::warn!(sink = self.name, %error, "deliveries cannot be recorded: no more until they are");
            if self.shutdown.is_cancelled() {
                return None;
            }
            tokio::select! {
                // One more try, then the process ends; the ids tell the receiver that it has them already.
                () = self.shutdown.cancelled() => {}
                () = tokio::time::sleep(STORE_PAUSE) => {}
            }
        }
        Some(())
    }

    /// Sets the gauges; returns how long nothing will be due, unless something is put in.
    async fn publish(&mut self) -> Duration {
        let name = self.name.as_str();
        let figures = match self.outbox.figures(name).await {
            Ok(figures) => figures,
            Err(error) => {
                tracing::warn!(sink = name, %error, "the outbox cannot be read");
                return STORE_PAUSE;
            }
        };
        let now = self.clock.now();
        let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let age = figures.oldest_at.map_or(Duration::ZERO, |oldest| millis(now.millis_since(oldest)));
        self.metrics.depth.with_label_values(&[name]).set(signed(figures.pending));
        self.metrics.bytes.with_label_values(&[name]).set(signed(figures.pending_bytes));
        self.metrics.oldest_age_seconds.with_label_values(&[name]).set(age.as_secs_f64());
        self.metrics.dead_letters.with_label_values(&[name]).set(signed(figures.dead));
        for state in State::ALL {
            let is = i64::from(state == self.standing.state);
            self.metrics.state.with_label_values(&[name, state.as_str()]).set(is);
        }
        figures.next_at.map_or(MAX_SLEEP, |next| millis(next.millis_since(now))).min(MAX_SLEEP)
    }
}

/// How the sink stood when the process ended.
async fn restored(outbox: &Outbox, name: &str, shutdown: &CancellationToken) -> Standing {
    loop {
        match outbox.standing(name).await {
            Ok(standing) => return standing,
            Err(error) => tracing::warn!(sink = name, %error, "the outbox cannot be read"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return Standing::default(),
            () = tokio::time::sleep(STORE_PAUSE) => {}
        }
    }
}

/// Deletes what was settled long ago, now and then, until `shutdown`. One task for all sinks.
pub async fn prune(outbox: Outbox, bounds: Bounds, clock: Clock, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        let more = match outbox.prune(bounds, clock.now()).await {
            Ok(pruned) => pruned >= Outbox::PRUNED_AT_ONCE,
            Err(error) => {
                tracing::warn!(%error, "the outbox cannot be pruned");
                false
            }
        };
        // Even a long backlog leaves the writer to others most of the time.
        let pause = if more { STORE_PAUSE } else { PRUNE_INTERVAL };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Until something is put in; for ever once nobody is left to do that.
async fn woken(wake: &mut watch::Receiver<()>) {
    if wake.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn millis(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}
