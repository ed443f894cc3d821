//! One sink's deliveries: takes what is due from the outbox, sends it, records what became of it.
//!
//! Invariant: each sink has a task of its own; one that hangs delays nobody else. A delivery is recorded after the sink
//! answered, so a crash in between delivers again, under the same ids.

use std::sync::Arc;
use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::outbox::{Due, Outbox};
use super::{Delivery, Sink};
use crate::clock::{Clock, Stopwatch};
use crate::event::Timestamp;
use crate::metrics::OutboxMetrics;
use crate::store::StoreError;

/// Revisions sent at one time.
const BATCH: u32 = 100;
/// A sink that has not answered by then has hung.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest sleep: how old the figures of an idle sink may be.
const IDLE: Duration = Duration::from_secs(5);
/// How often old rows are removed.
const TIDY_INTERVAL: Duration = Duration::from_secs(60);

/// Runs until `stop`; then delivers once more what is due, and returns.
pub async fn run(
    name: String,
    sink: Box<dyn Sink>,
    outbox: Outbox,
    metrics: OutboxMetrics,
    clock: Clock,
    wake: Arc<Notify>,
    stop: CancellationToken,
) {
    let random = Pcg64Mcg::seed_from_u64(clock.now().0.unsigned_abs());
    let mut dispatch = Dispatch { name, sink, outbox, metrics, clock, random };
    let mut since_tidy = Stopwatch::start();
    loop {
        let stopping = stop.is_cancelled();
        if let Err(error) = dispatch.deliver_due().await {
            tracing::warn!(sink = dispatch.name, %error, "the outbox cannot be used");
        }
        let wait = dispatch.measure().await.unwrap_or(IDLE);
        if stopping {
            return;
        }
        if since_tidy.elapsed() >= TIDY_INTERVAL {
            since_tidy = Stopwatch::start();
            if let Err(error) = dispatch.outbox.tidy(&dispatch.name, dispatch.clock.now()).await {
                tracing::warn!(sink = dispatch.name, %error, "the outbox cannot be tidied");
            }
        }
        tokio::select! {
            () = wake.notified() => {}
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => {}
        }
    }
}

struct Dispatch {
    name: String,
    sink: Box<dyn Sink>,
    outbox: Outbox,
    metrics: OutboxMetrics,
    clock: Clock,
    random: Pcg64Mcg,
}

impl Dispatch {
    /// Delivers until nothing more is due.
    async fn deliver_due(&mut self) -> Result<(), StoreError> {
        loop {
            let now = self.clock.now();
            let due = self.due(now).await?;
            if due.is_empty() {
                return Ok(());
            }
            let results = self.deliver(due).await;
            let mut random = self.random.clone();
            // Another stream next time.
            self.random = Pcg64Mcg::seed_from_u64(self.random.random());
            self.outbox.record(results, self.clock.now(), move || random.random()).await?;
        }
    }

    async fn due(&self, now: Timestamp) -> Result<Vec<Due>, StoreError> {
        let (outbox, name) = (self.outbox.clone(), self.name.clone());
        tokio::task::spawn_blocking(move || outbox.due(&name, now, BATCH)).await.unwrap_or(Err(StoreError::Closed))
    }

    async fn deliver(&mut self, due: Vec<Due>) -> Vec<(Due, Delivery)> {
        let findings: Vec<_> = due.iter().map(|due| due.finding.clone()).collect();
        let delivered = tokio::time::timeout(DELIVERY_TIMEOUT, self.sink.deliver(&findings)).await;
        let mut deliveries = delivered.unwrap_or_else(|_| vec![Delivery::Retry("no answer in time".into()); due.len()]);
        deliveries.resize(due.len(), Delivery::Retry("the sink gave no result".into()));
        for delivery in &deliveries {
            self.metrics.deliveries.with_label_values(&[self.name.as_str(), delivery.as_str()]).inc();
        }
        let failed = deliveries.iter().find_map(|delivery| match delivery {
            Delivery::Accepted => None,
            Delivery::Retry(error) | Delivery::Refused(error) => Some((delivery.as_str(), error)),
        });
        if let Some((result, error)) = failed {
            tracing::warn!(sink = self.name, result, error, "findings were not delivered");
        }
        due.into_iter().zip(deliveries).collect()
    }

    /// Publishes what is owed; answers how long to sleep.
    async fn measure(&self) -> Option<Duration> {
        let (outbox, name) = (self.outbox.clone(), self.name.clone());
        let backlog = tokio::task::spawn_blocking(move || outbox.backlog(&name)).await.ok()?.ok()?;
        let now = self.clock.now();
        let label = [self.name.as_str()];
        let age = backlog.oldest.map_or(0, |oldest| now.millis_since(oldest).max(0));
        self.metrics.depth.with_label_values(&label).set(backlog.depth);
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of weeks")]
        self.metrics.oldest_age_seconds.with_label_values(&label).set(age as f64 / 1000.0);
        let until_due = backlog.next_at.map_or(i64::MAX, |next| next.millis_since(now).max(0));
        Some(Duration::from_millis(u64::try_from(until_due).unwrap_or(u64::MAX)).clamp(Duration::from_millis(20), IDLE))
    }
}
