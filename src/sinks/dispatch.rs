//! Takes what is due from the outbox to one sink, and writes down what became of it.
//!
//! Invariant: one task and one sink, so that a sink that hangs or fails delays nobody else. What a sink has taken is
//! recorded before anything more is sent to it: a disk that cannot be written stops deliveries instead of repeating them.
//!
//! Not here: what is due and when (`sinks::outbox`), and how it is sent (the sinks).

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Stopwatch};
use crate::finding::Finding;
use crate::metrics::OutboxMetrics;

use super::outbox::{Due, Outbox, Outcome, delay_millis};
use super::{Delivery, Sink};

/// Findings handed over at one time: bounds memory and the work that is repeated if the answer is lost.
const MAX_BATCH: usize = 100;
/// No sink's own time-outs are longer; one that does not answer within this is hung.
const MAX_DELIVERY: Duration = Duration::from_mins(1);
/// The longest sleep: finds what a lost wake-up or a changed clock hid, and keeps the metrics fresh.
const MAX_SLEEP: Duration = Duration::from_secs(15);
/// Between updates of the gauges while there is always more to send.
const PUBLISH_INTERVAL: Duration = Duration::from_secs(1);
/// How long to wait when the store cannot be read or written.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// Between prunings: settled revisions live for days, so minutes do not matter.
const PRUNE_INTERVAL: Duration = Duration::from_mins(10);

/// One sink and what its task needs.
pub struct Dispatch {
    /// Its name in the outbox and in metrics.
    pub name: String,
    /// Where to.
    pub sink: Box<dyn Sink>,
    /// Where from.
    pub outbox: Outbox,
    /// Depth, age and results.
    pub metrics: OutboxMetrics,
    /// For due times.
    pub clock: Clock,
}

/// What one round did.
enum Round {
    /// Nothing is due.
    Idle,
    /// Something was taken or refused.
    Progress,
    /// Something was due and everything has to be tried again.
    Stalled,
}

impl Dispatch {
    /// Delivers until `shutdown`, then once more whatever is due, and returns. The caller bounds how long that may take:
    /// what is not recorded by then is delivered after the next start. `wake` changes when something was put in.
    pub async fn run(mut self, mut wake: watch::Receiver<()>, shutdown: CancellationToken) {
        let mut stalled_rounds = 0;
        let mut published = Stopwatch::start();
        while !shutdown.is_cancelled() {
            // Before looking: what is put in while this round runs wakes the next.
            wake.borrow_and_update();
            let pause = match self.round(&shutdown).await {
                Some(Round::Progress) => {
                    stalled_rounds = 0;
                    // A long backlog must be seen to shrink, and counting it takes time.
                    if published.elapsed() > PUBLISH_INTERVAL {
                        self.publish().await;
                        published = Stopwatch::start();
                    }
                    continue;
                }
                Some(Round::Idle) => {
                    stalled_rounds = 0;
                    None
                }
                // The sink is down: the others would fare no better, so they wait with it.
                Some(Round::Stalled) => {
                    stalled_rounds += 1;
                    Some(millis(delay_millis(stalled_rounds)).min(MAX_SLEEP))
                }
                None => Some(STORE_PAUSE),
            };
            let idle = self.publish().await;
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(pause.unwrap_or(idle)) => {}
                () = woken(&mut wake), if pause.is_none() => {}
            }
        }
        while matches!(self.round(&shutdown).await, Some(Round::Progress)) {}
        self.publish().await;
    }

    /// Delivers one batch and records it; `None` when the store failed.
    async fn round(&mut self, shutdown: &CancellationToken) -> Option<Round> {
        let due = match self.outbox.due(&self.name, self.clock.now(), MAX_BATCH).await {
            Ok(due) => due,
            Err(error) => {
                tracing::warn!(sink = self.name, %error, "the outbox cannot be read");
                return None;
            }
        };
        if due.is_empty() {
            return Some(Round::Idle);
        }
        let outcomes = self.deliver(due).await;
        let stalled =
            outcomes.iter().all(|outcome| !matches!(outcome.delivery, Delivery::Accepted | Delivery::Refused(_)));
        self.log_failures(&outcomes);
        for outcome in &outcomes {
            self.metrics.deliveries.with_label_values(&[self.name.as_str(), outcome.delivery.as_str()]).inc();
        }
        while let Err(error) = self.outbox.record(&self.name, &outcomes, self.clock.now()).await {
            tracing::warn!(sink = self.name, %error, "deliveries cannot be recorded: no more until they are");
            if shutdown.is_cancelled() {
                return None;
            }
            tokio::select! {
                // One more try, then the process ends; the ids tell the receiver that it has them already.
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(STORE_PAUSE) => {}
            }
        }
        Some(if stalled { Round::Stalled } else { Round::Progress })
    }

    /// Sends what can be read; what cannot is refused.
    async fn deliver(&mut self, due: Vec<Due>) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(due.len());
        let mut sent = Vec::with_capacity(due.len());
        let mut findings: Vec<Finding> = Vec::with_capacity(due.len());
        for Due { revision_id, attempts, finding } in due {
            match finding {
                Ok(finding) => {
                    sent.push((revision_id, attempts));
                    findings.push(finding);
                }
                Err(reason) => outcomes.push(Outcome { revision_id, attempts, delivery: Delivery::Refused(reason) }),
            }
        }
        if findings.is_empty() {
            return outcomes;
        }
        let unanswered = |reason: &str| Delivery::retry(reason);
        let (deliveries, missing) = match tokio::time::timeout(MAX_DELIVERY, self.sink.deliver(&findings)).await {
            Ok(deliveries) => (deliveries, unanswered("the sink gave no result for it")),
            Err(_) => (Vec::new(), unanswered("the sink did not answer in time")),
        };
        let mut deliveries = deliveries.into_iter();
        outcomes.extend(sent.into_iter().map(|(revision_id, attempts)| {
            let delivery = deliveries.next().unwrap_or_else(|| missing.clone());
            Outcome { revision_id, attempts, delivery }
        }));
        outcomes
    }

    /// One line a round and kind, not one a finding.
    fn log_failures(&self, outcomes: &[Outcome]) {
        let (mut retries, mut refusals) = ((0_usize, ""), (0_usize, ""));
        for outcome in outcomes {
            match &outcome.delivery {
                Delivery::Accepted => {}
                Delivery::Retry { reason, .. }
                | Delivery::Blocked(reason)
                | Delivery::Split(reason)
                | Delivery::Bisect(reason) => retries = (retries.0 + 1, reason),
                Delivery::Refused(reason) => refusals = (refusals.0 + 1, reason),
            }
        }
        if retries.0 > 0 {
            tracing::warn!(sink = self.name, findings = retries.0, reason = retries.1, "not delivered, trying again");
        }
        if refusals.0 > 0 {
            tracing::error!(sink = self.name, findings = refusals.0, reason = refusals.1, "refused for good");
        }
    }

    /// Sets the gauges; returns how long nothing will be due, unless something is put in.
    async fn publish(&mut self) -> Duration {
        let figures = match self.outbox.figures(&self.name).await {
            Ok(figures) => figures,
            Err(error) => {
                tracing::warn!(sink = self.name, %error, "the outbox cannot be read");
                return STORE_PAUSE;
            }
        };
        let now = self.clock.now();
        let label = [self.name.as_str()];
        let age = figures.oldest_at.map_or(Duration::ZERO, |oldest| millis(now.millis_since(oldest)));
        self.metrics.depth.with_label_values(&label).set(i64::try_from(figures.pending).unwrap_or(i64::MAX));
        self.metrics.oldest_age_seconds.with_label_values(&label).set(age.as_secs_f64());
        self.metrics.dead_letters.with_label_values(&label).set(i64::try_from(figures.dead).unwrap_or(i64::MAX));
        figures.next_at.map_or(MAX_SLEEP, |next| millis(next.millis_since(now))).min(MAX_SLEEP)
    }
}

/// Deletes what was settled long ago, now and then, until `shutdown`. One task for all sinks.
pub async fn prune(outbox: Outbox, clock: Clock, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        let more = match outbox.prune(clock.now()).await {
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
