//! Takes what is due from the outbox to one sink, and writes down what became of it.
//!
//! Invariant: one task and one sink, so that a sink that hangs or fails delays nobody else. What a sink has taken is
//! recorded before anything more is sent to it: a disk that cannot be written stops deliveries instead of repeating them.
//!
//! Not here: what is due (`sinks::outbox`), when a sink that fails is tried again (`sinks::standing`), and how findings are
//! sent (the sinks).

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Stopwatch};
use crate::event::Timestamp;
use crate::finding::Finding;
use crate::metrics::OutboxMetrics;

use super::outbox::{Bounds, Outbox, Outcome};
use super::redact::Pseudonym;
use super::standing::{OPEN_AFTER, Standing, State};
use super::{Delivery, Outlet};

mod halves;

use halves::Halves;

/// No sink's own time-outs are longer; one that does not answer within this is hung.
const MAX_DELIVERY: Duration = Duration::from_mins(1);
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

/// What one round did.
enum Round {
    /// Nothing is due.
    Idle,
    /// Something was, and what became of it is recorded.
    Settled,
}

/// What to wait for before the next round.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pause {
    /// Nothing.
    None,
    /// The sink: it failed.
    Sink(Duration),
    /// Something to send.
    Idle,
    /// The store: it failed.
    Store,
}

impl Dispatch {
    /// Delivers until `shutdown`, then once more whatever is due, and returns. The caller bounds how long that may take:
    /// what is not recorded by then is delivered after the next start. `wake` changes when something was put in.
    pub async fn run(mut self, mut wake: watch::Receiver<()>, shutdown: CancellationToken) {
        let mut standing = self.restored(&shutdown).await;
        let mut published = Stopwatch::start();
        while !shutdown.is_cancelled() {
            // Before looking: what is put in while this round runs wakes the next.
            wake.borrow_and_update();
            let pause = match standing.allowance(self.clock.now()) {
                Err(wait) => Pause::Sink(wait),
                Ok(limit) => match self.round(&mut standing, limit, &shutdown).await {
                    Some(Round::Settled) => Pause::None,
                    Some(Round::Idle) => Pause::Idle,
                    None => Pause::Store,
                },
            };
            // A long backlog must be seen to shrink, and counting it takes time.
            let mut idle = MAX_SLEEP;
            if pause == Pause::Idle || published.elapsed() > PUBLISH_INTERVAL {
                idle = self.publish(&standing).await;
                published = Stopwatch::start();
            }
            let wait = match pause {
                Pause::None => continue,
                Pause::Sink(wait) => wait.min(MAX_SLEEP),
                Pause::Idle => idle,
                Pause::Store => STORE_PAUSE,
            };
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(wait) => {}
                () = woken(&mut wake), if pause != Pause::Store => {}
            }
        }
        while let Ok(limit) = standing.allowance(self.clock.now())
            && let Some(Round::Settled) = self.round(&mut standing, limit, &shutdown).await
        {}
        self.publish(&standing).await;
    }

    /// How the sink stood when the process ended.
    async fn restored(&mut self, shutdown: &CancellationToken) -> Standing {
        loop {
            match self.outbox.standing(&self.outlet.name).await {
                Ok(standing) => return standing,
                Err(error) => tracing::warn!(sink = self.outlet.name, %error, "the outbox cannot be read"),
            }
            tokio::select! {
                () = shutdown.cancelled() => return Standing::default(),
                () = tokio::time::sleep(STORE_PAUSE) => {}
            }
        }
    }

    /// Delivers up to `limit` findings, in as many parts as it takes, and records each part; `None` when the store failed.
    async fn round(&mut self, standing: &mut Standing, limit: usize, shutdown: &CancellationToken) -> Option<Round> {
        let due = match self.outbox.due(&self.outlet.name, self.clock.now(), limit).await {
            Ok(due) => due,
            Err(error) => {
                tracing::warn!(sink = self.outlet.name, %error, "the outbox cannot be read");
                return None;
            }
        };
        if due.is_empty() {
            return Some(Round::Idle);
        }
        let (mut halves, unreadable) = Halves::of(due);
        if !unreadable.is_empty() {
            self.settle(unreadable, standing, shutdown).await?;
        }
        while let Some(part) = halves.next() {
            let deliveries = self.send(part.findings()).await;
            let outcomes = halves.sort(part, deliveries);
            if outcomes.is_empty() {
                continue;
            }
            if !self.settle(outcomes, standing, shutdown).await? {
                // The rest would fare no better; it is still due.
                break;
            }
        }
        Some(Round::Settled)
    }

    /// One call of the sink, which answers for each finding or is answered for.
    async fn send(&mut self, findings: &[Finding]) -> Vec<Delivery> {
        let Outlet { redaction, sink, .. } = &mut self.outlet;
        let redacted: Vec<Finding>;
        let findings = if redaction.keeps_all() {
            findings
        } else {
            redacted = findings.iter().map(|finding| redaction.apply(finding.clone(), &self.pseudonym)).collect();
            &redacted
        };
        let (mut deliveries, missing) = match tokio::time::timeout(MAX_DELIVERY, sink.deliver(findings)).await {
            Ok(deliveries) => (deliveries, "the sink gave no result for it"),
            Err(_) => (Vec::new(), "the sink did not answer in time"),
        };
        deliveries.resize_with(findings.len(), || Delivery::retry(missing));
        deliveries
    }

    /// Records `outcomes` and what they say of the sink; whether it took or refused any. `None` when that cannot be
    /// recorded before the end.
    async fn settle(
        &mut self,
        mut outcomes: Vec<Outcome>,
        standing: &mut Standing,
        shutdown: &CancellationToken,
    ) -> Option<bool> {
        let name = &self.outlet.name;
        for outcome in &outcomes {
            self.metrics.deliveries.with_label_values(&[name.as_str(), outcome.delivery.as_str()]).inc();
        }
        let now = self.clock.now();
        let (verdict, recovered) = judge(name, &mut outcomes, standing, now);
        while let Err(error) = self.outbox.record(name, &outcomes, standing, recovered, self.clock.now()).await {
            tracing::warn!(sink = name, %error, "deliveries cannot be recorded: no more until they are");
            if shutdown.is_cancelled() {
                return None;
            }
            tokio::select! {
                // One more try, then the process ends; the ids tell the receiver that it has them already.
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(STORE_PAUSE) => {}
            }
        }
        Some(verdict)
    }

    /// Sets the gauges; returns how long nothing will be due, unless something is put in.
    async fn publish(&mut self, standing: &Standing) -> Duration {
        let name = self.outlet.name.as_str();
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
            let is = i64::from(state == standing.state);
            self.metrics.state.with_label_values(&[name, state.as_str()]).set(is);
        }
        figures.next_at.map_or(MAX_SLEEP, |next| millis(next.millis_since(now))).min(MAX_SLEEP)
    }
}

/// What `outcomes` say of the sink as a whole, and when those that were not taken are due again. Whether any was taken or
/// refused, and whether that is so for the first time after failures.
fn judge(name: &str, outcomes: &mut [Outcome], standing: &mut Standing, now: Timestamp) -> (bool, bool) {
    let settled = |outcome: &Outcome| matches!(outcome.delivery, Delivery::Accepted | Delivery::Refused(_));
    let (count, failed) = (outcomes.len(), outcomes.iter().filter(|outcome| !settled(outcome)).count());
    if let Some(reason) = outcomes.iter().find_map(|outcome| match &outcome.delivery {
        Delivery::Refused(reason) => Some(reason),
        Delivery::Accepted
        | Delivery::Retry { .. }
        | Delivery::Blocked(_)
        | Delivery::Split(_)
        | Delivery::Bisect(_) => None,
    }) {
        let findings = outcomes.iter().filter(|outcome| matches!(outcome.delivery, Delivery::Refused(_))).count();
        tracing::error!(sink = name, findings, reason, "refused for good (see the dead letters)");
    }
    if failed < count {
        let recovered = standing.progressed();
        if recovered {
            tracing::info!(sink = name, "takes deliveries again");
        }
        // What failed alone waits alone, for as long as it has failed.
        for outcome in outcomes.iter_mut().filter(|outcome| !settled(outcome)) {
            outcome.wait_alone(now);
        }
        if failed > 0 {
            tracing::warn!(sink = name, findings = failed, "not delivered with the others, trying again");
        }
        return (true, recovered);
    }
    // A single one that fails makes room for the next probe: it may be the one that is at fault.
    if let [one] = outcomes {
        one.wait_alone(now);
    }
    let blocked = outcomes.iter().find(|outcome| matches!(outcome.delivery, Delivery::Blocked(_)));
    if let Some(reason) = blocked.and_then(|outcome| outcome.delivery.reason()) {
        if standing.blocked(reason, now) {
            tracing::error!(sink = name, reason, "blocked: everything is kept until this is repaired");
        }
        return (false, false);
    }
    let longest = outcomes.iter().filter_map(|outcome| outcome.delivery.after()).max();
    let reason = outcomes.first().and_then(|outcome| outcome.delivery.reason()).unwrap_or_default();
    standing.failed(reason, longest, now);
    if standing.failures <= OPEN_AFTER {
        tracing::warn!(sink = name, findings = count, reason, "not delivered, trying again");
    }
    (false, false)
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
