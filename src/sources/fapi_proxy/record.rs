//! From answers to attempts in the log, off the way of every request.
//!
//! Invariant: nobody who is signing in waits for anything here. The queue is bounded in places and in bytes; what finds it
//! full, and what the log did not take until the end, is counted (`fapi_proxy_unrecorded_total`) and told in `/readyz`.
//! While the log takes nothing, what waits is tried again: the oldest are kept, since they show how it began.

use std::io::Read as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::sign_ins::SignIns;
use crate::alias::Aliases;
use crate::clock::{Clock, Stopwatch};
use crate::event::{Account, AuthEvent, IdentifierHash, Outcome, Source, Tenant, Timestamp};
use crate::log::{AppendError, Appended, Log};
use crate::metrics::{FapiProxyMetrics, IngestMetrics};
use crate::normalize::fapi::{self, Route};
use crate::normalize::identifier::IdentifierKey;
use crate::normalize::{Names, Normalized};

/// Ten seconds of a heavy attack (800 a second).
const MAX_QUEUED: usize = 8192;
/// What they may hold together; a usual answer has 5 kB.
const MAX_QUEUED_BYTES: usize = 32 << 20;
/// What one takes beside its answer.
const BYTES_EACH: usize = 512;
/// Appended together: one write of the disk for all of them.
const BATCH: usize = 256;
/// An answer of 256 KiB unpacks to less unless it is made to burst.
const MAX_UNPACKED_BYTES: u64 = 2 << 20;
/// Between two tries while the log has no room, and while it cannot be written.
const RETRY_OVERLOADED: Duration = Duration::from_millis(20);
const RETRY_UNAVAILABLE: Duration = Duration::from_millis(500);
/// When stopping, for a log that takes nothing.
const LAST_TRIES: Duration = Duration::from_secs(3);

/// An answer to a request about a sign-in, as it went by.
pub(super) struct Sighted {
    pub(super) at: Timestamp,
    pub(super) route: Route,
    pub(super) status: u16,
    pub(super) gzip: bool,
    pub(super) body: Vec<u8>,
    /// The body was too long to be kept.
    pub(super) is_cut: bool,
    pub(super) identifier: Option<IdentifierHash>,
    pub(super) strategy: Option<Box<str>>,
    pub(super) ip: Option<IpAddr>,
    pub(super) agent: Option<Box<str>>,
}

/// The way in.
#[derive(Clone)]
pub(super) struct Queue {
    sender: mpsc::Sender<(Sighted, OwnedSemaphorePermit)>,
    bytes: Arc<Semaphore>,
    metrics: FapiProxyMetrics,
}

impl Queue {
    /// Hands it over, or counts it.
    pub(super) fn put(&self, sighted: Sighted) {
        let bytes = u32::try_from(sighted.body.len() + BYTES_EACH).unwrap_or(u32::MAX);
        let charged = Arc::clone(&self.bytes).try_acquire_many_owned(bytes).ok();
        if charged.is_some_and(|charged| self.sender.try_send((sighted, charged)).is_ok()) {
            self.metrics.queued.inc();
        } else {
            self.metrics.unrecorded("queue_full", 1);
        }
    }
}

/// The way out.
pub(super) struct Recorder {
    queue: mpsc::Receiver<(Sighted, OwnedSemaphorePermit)>,
    log: Arc<dyn Log>,
    ingest: IngestMetrics,
    metrics: FapiProxyMetrics,
    clock: Clock,
    tenant: Tenant,
    key: IdentifierKey,
    aliases: Aliases,
    sign_ins: SignIns,
    /// What tells events of this run from those of others.
    run: u64,
    number: u64,
}

pub(super) fn new(
    log: Arc<dyn Log>,
    ingest: IngestMetrics,
    metrics: FapiProxyMetrics,
    clock: Clock,
    tenant: Tenant,
    key: IdentifierKey,
    aliases: Aliases,
) -> (Recorder, Queue) {
    let (sender, queue) = mpsc::channel(MAX_QUEUED);
    let bytes = Arc::new(Semaphore::new(MAX_QUEUED_BYTES));
    // Without randomness the clock has to do: two runs do not begin in one millisecond.
    let run = getrandom::u64().unwrap_or_else(|_| clock.now().0.cast_unsigned());
    let sign_ins = SignIns::new(clock.now());
    let way_in = Queue { sender, bytes, metrics: metrics.clone() };
    (Recorder { queue, log, ingest, metrics, clock, tenant, key, aliases, sign_ins, run, number: 0 }, way_in)
}

impl Recorder {
    /// Records until `stop`, and then what waits.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let taken = tokio::select! {
                taken = self.queue.recv_many(&mut batch, BATCH) => taken,
                () = stop.cancelled(), if !self.queue.is_closed() => {
                    self.queue.close();
                    continue;
                }
            };
            if taken == 0 {
                return;
            }
            self.metrics.queued.sub(i64::try_from(taken).unwrap_or_default());
            // Their bytes are given back once they are read: what waits from here on is small.
            let events: Vec<_> = batch.drain(..).filter_map(|(sighted, _charged)| self.read(&sighted)).collect();
            if !events.is_empty() {
                self.append(events, &stop).await;
            }
        }
    }

    /// The attempt in an answer, if there is one.
    fn read(&mut self, sighted: &Sighted) -> Option<AuthEvent> {
        let unpacked = if sighted.gzip { unpack(&sighted.body) } else { None };
        let body = unpacked.as_deref().unwrap_or(&sighted.body);
        let ending = fapi::ending(&sighted.route, sighted.status, sighted.strategy.as_deref(), body);
        let Ok(ending) = ending.inspect_err(|error| {
            let is_cut = sighted.is_cut;
            tracing::debug!(%error, is_cut, "an answer about a sign-in could not be read");
            self.metrics.unrecorded("unreadable", 1);
        }) else {
            return None;
        };
        let ending = ending?;
        let now = self.clock.now();
        let sign_in = sighted.route.sign_in().or(ending.sign_in.as_deref());
        let identifier = match (sighted.identifier, sign_in) {
            (Some(identifier), Some(sign_in)) => {
                self.sign_ins.insert(sign_in.into(), identifier, now);
                Some(identifier)
            }
            (None, Some(sign_in)) => self.sign_ins.get(sign_in, now),
            (identifier, None) => identifier,
        };
        let context = fapi::Context {
            at: sighted.at,
            received_at: now,
            tenant: &self.tenant,
            ip: sighted.ip,
            user_agent: sighted.agent.as_deref(),
            identifier,
        };
        self.number += 1;
        let id = format!("fapi_{:016x}_{}", self.run, self.number);
        let event = fapi::event(&context, ending, id.into());
        let names = self.names(&event, body);
        let mut normalized = Normalized { event, clamped: false, unknown_type: false, names };
        self.aliases.admit(&mut normalized);
        Some(normalized.event)
    }

    /// Whose the identifier is that was typed, where Clerk's answer says it too.
    fn names(&self, event: &AuthEvent, body: &[u8]) -> Names {
        if event.outcome != Outcome::Success || !matches!(event.account, Some(Account::User(_))) {
            return Names::Unsaid;
        }
        let identified = fapi::identified(body).map(|identifier| self.key.hash(&self.tenant, &identifier));
        if identified.is_some() && identified == event.identifier { Names::Tried } else { Names::Unsaid }
    }

    /// As often as it takes, and when stopping for a while.
    async fn append(&self, events: Vec<AuthEvent>, stop: &CancellationToken) {
        let outcomes: Vec<_> = events.iter().map(|event| event.outcome).collect();
        let give_up = async {
            stop.cancelled().await;
            tokio::time::sleep(LAST_TRIES).await;
        };
        let appended = tokio::select! {
            appended = self.try_until_taken(events) => appended,
            () = give_up => {
                self.metrics.unrecorded("log", outcomes.len());
                return;
            }
        };
        let label = Source::FapiProxy.as_str();
        for (outcome, appended) in outcomes.into_iter().zip(appended) {
            if appended == Appended::Duplicate {
                self.ingest.duplicates.with_label_values(&[label]).inc();
            } else {
                self.ingest.events.with_label_values(&[label, outcome.as_str()]).inc();
            }
        }
    }

    async fn try_until_taken(&self, events: Vec<AuthEvent>) -> Vec<Appended> {
        let watch = Stopwatch::start();
        let mut failures = 0_u64;
        loop {
            let pause = match self.log.append(events.clone()).await {
                Ok(appended) => {
                    if failures > 0 {
                        tracing::info!(failures, after = ?watch.elapsed(), "sign-in attempts are recorded again");
                    }
                    return appended;
                }
                Err(AppendError::Overloaded) => RETRY_OVERLOADED,
                Err(AppendError::Unavailable(error)) => {
                    if failures == 0 {
                        tracing::warn!(%error, "sign-ins are forwarded and cannot be recorded");
                    }
                    failures += 1;
                    RETRY_UNAVAILABLE
                }
            };
            tokio::time::sleep(pause).await;
        }
    }
}

/// The content of an answer; of a stream that ends too early what came of it.
fn unpack(body: &[u8]) -> Option<Vec<u8>> {
    let mut unpacked = Vec::new();
    MultiGzDecoder::new(body).take(MAX_UNPACKED_BYTES).read_to_end(&mut unpacked).ok()?;
    Some(unpacked)
}
