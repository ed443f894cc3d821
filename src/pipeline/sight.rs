//! What comes in of each instance, as the tasks see it pass: for other threads to ask, and for the log to tell.
//!
//! Invariant: an instance is told of by the task that judges it and by no other; what a task told goes with it. Whether a
//! signal has stopped depends on the time, so it is worked out for whoever asks, when he asks.
//!
//! Not here: which signal which rule needs (`detect::signals`).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use prometheus::IntGaugeVec;
use serde::{Deserialize, Serialize};

use crate::clock::{Clock, Stopwatch};
use crate::detect::{Blind, Detector, Flow, Signal, Signals, Silence};
use crate::event::{Tenant, Timestamp};
use crate::log::Partition;

/// Between two looks at a detector; each copies what its instances have, some 200 bytes each.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
/// Instances named one by one when a task starts; all are in `GET /v1/signals`.
const MAX_TOLD: usize = 20;

/// What one task shows; replaced as a whole.
type OfTask = Arc<[(Tenant, Signals)]>;

/// What is shown to other threads. Clones share it.
#[derive(Clone, Debug)]
pub struct SignalBoard {
    silence: Silence,
    clock: Clock,
    shown: Arc<DashMap<Partition, OfTask>>,
}

/// One instance, as it stands when it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Which.
    pub instance: Tenant,
    /// Every signal by its name.
    pub signals: BTreeMap<String, Standing>,
    /// What cannot be found there, a sentence for each signal that is missing.
    pub blind: Vec<Blindness>,
}

/// How one signal stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Whether it flows.
    pub state: Flow,
    /// When the first arrived that is known of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_seen_at: Option<Timestamp>,
    /// When the last arrived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen_at: Option<Timestamp>,
}

/// A signal that is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blindness {
    /// Which.
    pub signal: Signal,
    /// Stopped, gone or never seen.
    pub state: Flow,
    /// The rules that cannot fire.
    pub rules: Vec<String>,
    /// The same for a person.
    pub text: String,
}

impl SignalBoard {
    /// Nothing is known yet. After `silence` by `clock` a signal has stopped.
    #[must_use]
    pub fn new(silence: Silence, clock: Clock) -> Self {
        Self { silence, clock, shown: Arc::default() }
    }

    /// The instances judged in this process, as they stand now: first those that something stopped of, then by name.
    #[must_use]
    pub fn instances(&self) -> Vec<Instance> {
        let now = self.clock.now();
        let mut all: Vec<_> = self.all().map(|(tenant, signals)| self.instance(&tenant, &signals, now)).collect();
        let has_stopped = |one: &Instance| one.blind.iter().any(|blind| blind.state == Flow::Stopped);
        all.sort_by(|a, b| has_stopped(b).cmp(&has_stopped(a)).then(a.instance.cmp(&b.instance)));
        all
    }

    /// Sets `gauges` (`signal`, `state`) to the number of instances.
    pub fn publish(&self, gauges: &IntGaugeVec) {
        let now = self.clock.now();
        let mut counts = HashMap::<(Signal, Flow), i64>::new();
        for (_, signals) in self.all() {
            for signal in Signal::ALL {
                *counts.entry((signal, signals.flow(signal, now, self.silence))).or_default() += 1;
            }
        }
        for (signal, flow) in Signal::ALL.into_iter().flat_map(|signal| Flow::ALL.map(|flow| (signal, flow))) {
            let count = counts.get(&(signal, flow)).copied().unwrap_or_default();
            gauges.with_label_values(&[signal.as_str(), flow.as_str()]).set(count);
        }
    }

    fn all(&self) -> impl Iterator<Item = (Tenant, Signals)> {
        // Taken out at once: a task must not wait for whoever asks.
        let shown: Vec<_> = self.shown.iter().map(|entry| Arc::clone(entry.value())).collect();
        shown.into_iter().flat_map(|of_one| of_one.to_vec())
    }

    fn instance(&self, tenant: &Tenant, signals: &Signals, now: Timestamp) -> Instance {
        let standing = |signal: Signal| {
            let seen = signals.seen(signal);
            Standing {
                state: signals.flow(signal, now, self.silence),
                first_seen_at: seen.map(|seen| seen.first),
                last_seen_at: seen.map(|seen| seen.last),
            }
        };
        let blindness = |blind: Blind| Blindness {
            signal: blind.signal,
            state: blind.flow,
            rules: blind.rules.iter().map(|rule| rule.as_str().to_owned()).collect(),
            text: blind.to_string(),
        };
        Instance {
            instance: tenant.clone(),
            signals: Signal::ALL.map(|signal| (signal.as_str().to_owned(), standing(signal))).into(),
            blind: signals.blind(now, self.silence).into_iter().map(blindness).collect(),
        }
    }
}

impl Default for SignalBoard {
    fn default() -> Self {
        Self::new(Silence(86_400_000), Clock::system())
    }
}

/// One task's part of the board, and what its log was told.
pub(super) struct Sight {
    board: SignalBoard,
    partition: Partition,
    since: Stopwatch,
    /// Events the detector had seen at the last look.
    events: u64,
    /// Of each instance the signals that have stopped, a bit for each.
    stopped: HashMap<Tenant, u16>,
}

impl Sight {
    /// Shows what a restored `detector` knows, and tells the log what cannot be seen.
    pub(super) fn open(board: SignalBoard, partition: Partition, detector: &Detector) -> Self {
        let now = board.clock.now();
        let mut sight = Self { board, partition, since: Stopwatch::start(), events: 0, stopped: HashMap::new() };
        sight.show(detector);
        for (number, (tenant, signals)) in detector.signals().enumerate() {
            let blind = signals.blind(now, sight.board.silence);
            sight.stopped.insert(tenant.clone(), bits(&blind));
            for blind in blind.iter().filter(|_| number < MAX_TOLD) {
                tracing::warn!(instance = %tenant, "{blind}");
            }
        }
        if sight.stopped.len() > MAX_TOLD {
            let more = sight.stopped.len() - MAX_TOLD;
            tracing::warn!(partition = partition.0, more, "GET /v1/signals tells of the other instances");
        }
        sight
    }

    /// Looks whether anything changed, now and then; `detector` has seen `events`.
    pub(super) fn look(&mut self, detector: &Detector, events: u64) {
        if self.since.elapsed() < BETWEEN_LOOKS {
            return;
        }
        self.since = Stopwatch::start();
        let now = self.board.clock.now();
        if std::mem::replace(&mut self.events, events) != events {
            self.show(detector);
        }
        for (tenant, signals) in detector.signals() {
            let blind = signals.blind(now, self.board.silence);
            let (bits, before) = (bits(&blind), self.stopped.get(tenant).copied().unwrap_or_default());
            if bits == before {
                continue;
            }
            self.stopped.insert(tenant.clone(), bits);
            for blind in blind.iter().filter(|one| bits & !before & bit(one.signal) != 0) {
                tracing::warn!(instance = %tenant, "{blind}");
            }
            for signal in Signal::ALL.into_iter().filter(|signal| before & !bits & bit(*signal) != 0) {
                let flow = signals.flow(signal, now, self.board.silence);
                tracing::info!(instance = %tenant, signal = signal.as_str(), state = flow.as_str(), "no longer stopped");
            }
        }
    }

    /// The task has ended.
    pub(super) fn withdraw(&self) {
        self.board.shown.remove(&self.partition);
    }

    fn show(&self, detector: &Detector) {
        let all = detector.signals().map(|(tenant, signals)| (tenant.clone(), signals.clone())).collect();
        self.board.shown.insert(self.partition, all);
    }
}

fn bits(blind: &[Blind]) -> u16 {
    blind.iter().filter(|one| one.flow == Flow::Stopped).fold(0, |bits, one| bits | bit(one.signal))
}

const fn bit(signal: Signal) -> u16 {
    1 << signal as u16
}

#[cfg(test)]
mod tests;
