//! Sign-in fails for everyone: told as an incident, so that nobody looks for an attacker.
//!
//! Invariant: an outage never hides an attack that began before it, and opens no finding about addresses where people sign
//! in; an attack that begins in it shows when people get in again.
//!
//! Not here: what makes an outage (`pulse`).

use super::Detector;
use super::key::{Counter, Key};
use super::pulse::{OUTAGE_FAILURES, Outage};
use super::rules::rounded;
use crate::event::Timestamp;
use crate::finding::{BaselineEvidence, BaselineSource, Finding, WindowEvidence};

impl Detector {
    /// An outage is told of and not over yet: in its lulls too, those who fail are people.
    pub(super) fn has_open_outage(&self, tenant: u16) -> bool {
        let id = self.of_key.get(&Key::tenant(tenant, Counter::TenantOutage));
        id.and_then(|id| self.episodes.get(id)).is_some_and(|episode| !episode.is_closed())
    }

    pub(super) fn has_outage(&self, tenant: u16) -> bool {
        self.of_key.contains_key(&Key::tenant(tenant, Counter::TenantOutage))
    }

    pub(super) fn judge_outage(&mut self, place: u16, at: Timestamp, found: &mut Vec<Finding>) {
        let key = Key::tenant(place, Counter::TenantOutage);
        let Some(tenant) = self.tenants.get(usize::from(place)) else { return };
        let (outage, id) = (tenant.outage(at), self.of_key.get(&key).copied());
        match (outage, id) {
            (None, None) => {}
            (Some(outage), None) => {
                let peak = outage_evidence(&outage, tenant.population.phi(), at);
                let baseline = BaselineEvidence {
                    source: BaselineSource::Tenant,
                    per_day: 0.0,
                    observed_seconds: 0,
                    learning: tenant.population.learning(self.watermark.now()),
                };
                self.open_whole(key, peak, baseline, None, at, found);
            }
            (outage, Some(id)) => {
                let is_theirs = self.recent.newest().is_some_and(|newest| !newest.strange);
                if self.episodes.get(&id).is_some_and(|episode| !episode.is_closed()) {
                    if is_theirs {
                        self.advance(id, None, outage.is_some(), at, found);
                    }
                } else if outage.is_some() {
                    self.forget(id);
                    self.judge_outage(place, at, found);
                }
            }
        }
    }
}

fn outage_evidence(outage: &Outage, phi: f64, at: Timestamp) -> WindowEvidence {
    let expected = outage.expected_successes * phi;
    #[expect(clippy::cast_precision_loss, reason = "failures of ten minutes")]
    let ratio = outage.failures as f64 / expected.max(1.0);
    WindowEvidence {
        start: outage.start,
        end: at.max(outage.start),
        failures: outage.failures,
        distinct: outage.networks,
        successes: outage.successes,
        ratio: rounded(ratio, 10.0),
        expected: rounded(expected, 1000.0),
        threshold: OUTAGE_FAILURES.into(),
    }
}
