//! The second detector: what would be found under other thresholds.
//!
//! It sees the records that the live one sees, in the same order, and has a detector's whole cost: as much memory and as
//! much work again.
//!
//! Invariant: nothing of it reaches the log, the outbox or a sink; the live findings are the same with it and without it.
//! Its state lies in the snapshot beside the live one's, so it goes on after a restart. Without a state of its own it
//! starts from what the live one has learned: a detector that knows nobody would find other things for that reason alone.
//!
//! Not here: which thresholds (`detect::overrides`).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dashmap::DashMap;
use uuid::Uuid;

use crate::detect::{self, Detector, SnapshotError};
use crate::event::Timestamp;
use crate::finding::{Finding, Lifecycle};
use crate::log::Record;
use crate::metrics::DetectMetrics;

/// Closed findings listed; a screen or two. All are in the counter.
const MAX_CLOSED: usize = 200;
/// First byte of a snapshot with two states in it; a detector's own begins with its version, which never gets there.
const FRAME: u8 = 255;

/// What the shadow shows to other threads. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct ShadowBoard(Arc<Shown>);

#[derive(Debug, Default)]
struct Shown {
    /// `None`: there is no shadow.
    name: Mutex<Option<String>>,
    open: DashMap<Uuid, Arc<Finding>>,
    closed: Mutex<VecDeque<Arc<Finding>>>,
}

impl ShadowBoard {
    /// What the set of thresholds is called, if one is tried out.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        locked(&self.0.name).clone()
    }

    /// The findings that are open now.
    #[must_use]
    pub fn open(&self) -> Vec<Arc<Finding>> {
        self.0.open.iter().map(|entry| Arc::clone(entry.value())).collect()
    }

    /// The last few that were closed since the start, newest first.
    #[must_use]
    pub fn recently_closed(&self) -> Vec<Arc<Finding>> {
        locked(&self.0.closed).iter().rev().cloned().collect()
    }

    /// Calls the account `from` `to`, in what is shown.
    pub(super) fn rename(&self, from: &str, to: &str) {
        let rename = |finding: &mut Arc<Finding>| {
            let mut renamed = Finding::clone(finding);
            if renamed.rename_account(from, to) {
                *finding = Arc::new(renamed);
            }
        };
        self.0.open.iter_mut().for_each(|mut entry| rename(entry.value_mut()));
        locked(&self.0.closed).iter_mut().for_each(rename);
    }

    pub(super) fn clear(&self) {
        *locked(&self.0.name) = None;
        self.0.open.clear();
        locked(&self.0.closed).clear();
    }

    fn show(&self, finding: Arc<Finding>) {
        if finding.lifecycle != Lifecycle::Closed {
            self.0.open.insert(finding.finding_id, finding);
            return;
        }
        self.0.open.remove(&finding.finding_id);
        let mut closed = locked(&self.0.closed);
        if closed.len() >= MAX_CLOSED {
            closed.pop_front();
        }
        closed.push_back(finding);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The detector beside the live one.
pub(super) struct Shadow {
    detector: Detector,
    found: Vec<Finding>,
    board: ShadowBoard,
    metrics: DetectMetrics,
}

impl Shadow {
    /// The shadow that `config` asks for, if it does. `states` are tried in order; without any it knows nothing.
    pub(super) fn open(
        config: &detect::Config,
        states: &[Option<&[u8]>],
        board: &ShadowBoard,
        metrics: &DetectMetrics,
    ) -> Option<Self> {
        let settings = config.shadowed()?;
        let restored = states.iter().flatten().find_map(|state| Detector::restore(&settings, state).ok());
        let detector = restored.unwrap_or_else(|| Detector::new(&settings));
        *locked(&board.0.name) = Some(config.shadow.name.clone());
        for finding in detector.open_findings() {
            board.show(Arc::new(finding));
        }
        Some(Self { detector, found: Vec::new(), board: board.clone(), metrics: metrics.clone() })
    }

    /// Judges by the shadow thresholds of `config` from now on; `false`: there are none any more.
    pub(super) fn reconfigure(&mut self, config: &detect::Config) -> bool {
        let Some(settings) = config.shadowed() else { return false };
        self.detector.reconfigure(&settings);
        *locked(&self.board.0.name) = Some(config.shadow.name.clone());
        true
    }

    /// Takes what the live one takes.
    pub(super) fn observe(&mut self, record: &Record) {
        match record {
            Record::Event(event) => self.detector.observe(event.clone(), &mut self.found),
            Record::Tick { at } => self.detector.tick(*at, &mut self.found),
        }
    }

    /// Closes by wall time what is due. No tick is written to the log for it: the live detector would see that.
    pub(super) fn tick_if_due(&mut self, now: Timestamp) {
        if self.detector.is_due(now) {
            self.detector.tick(now, &mut self.found);
            self.publish();
        }
    }

    /// See [`Detector::finish`].
    pub(super) fn finish(&mut self) {
        self.detector.finish(&mut self.found);
        self.publish();
    }

    /// Counts and lists what was found since the last time.
    pub(super) fn publish(&mut self) {
        // The live one tells of them.
        self.detector.take_erased();
        for finding in self.found.drain(..) {
            let labels = [finding.rule.as_str(), finding.severity.as_str(), finding.lifecycle.as_str()];
            self.metrics.shadow_findings.with_label_values(&labels).inc();
            self.board.show(Arc::new(finding));
        }
    }

    /// `live` with this one's state beside it.
    pub(super) fn beside(&self, live: &[u8]) -> Result<Vec<u8>, SnapshotError> {
        let own = self.detector.snapshot()?;
        let mut both = Vec::with_capacity(1 + size_of::<u64>() + live.len() + own.len());
        both.push(FRAME);
        both.extend((live.len() as u64).to_le_bytes());
        both.extend(live);
        both.extend(own);
        Ok(both)
    }
}

/// The live detector's state in a snapshot, and the shadow's if there is one. What is damaged is left as it is, for the
/// detector to refuse.
pub(super) fn split(snapshot: &[u8]) -> (&[u8], Option<&[u8]>) {
    let both = || {
        let rest = snapshot.strip_prefix(&[FRAME])?;
        let (length, rest) = rest.split_first_chunk()?;
        rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)
    };
    both().map_or((snapshot, None), |(live, shadow)| (live, Some(shadow)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    fn config() -> detect::Config {
        serde_json::from_str(r#"{"shadow": {"factor": 20}}"#).unwrap()
    }

    #[test]
    fn two_states_come_apart_as_they_were_put_together() {
        let (board, metrics) = (ShadowBoard::default(), Metrics::new().unwrap());
        let shadow = Shadow::open(&config(), &[], &board, &metrics.detect).unwrap();
        let live = Detector::new(&detect::Config::default()).snapshot().unwrap();
        let both = shadow.beside(&live).unwrap();
        assert_eq!(split(&both), (&*live, Some(&*shadow.detector.snapshot().unwrap())));
        assert_eq!(split(&live), (&*live, None));
        // Damage is nobody's state.
        for damaged in [&both[..5], &both[..9], &[][..]] {
            let (state, _) = split(damaged);
            assert!(Detector::restore(&config(), state).is_err() && state == damaged);
        }
        assert!(Shadow::open(&detect::Config::default(), &[], &board, &metrics.detect).is_none());
    }

    #[test]
    fn the_list_of_closed_findings_is_bounded_and_newest_first() {
        let board = ShadowBoard::default();
        let finding = |number: u32, lifecycle| {
            let mut finding = crate::sinks::sample::stuffing();
            finding.finding_id = Uuid::from_u128(u128::from(number));
            Arc::new(Finding { lifecycle, revision: number, ..finding })
        };
        for number in 0..250 {
            board.show(finding(number, Lifecycle::Opened));
            board.show(finding(number, Lifecycle::Closed));
        }
        board.show(finding(250, Lifecycle::Opened));
        let closed = board.recently_closed();
        assert_eq!((closed.len(), closed[0].revision, closed[199].revision), (200, 249, 50));
        assert_eq!(board.open().len(), 1);
    }
}
