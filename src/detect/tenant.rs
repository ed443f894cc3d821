//! What is kept of a tenant as a whole, and the attacks that show only there.
//!
//! Two thousand addresses with three tries each cross no threshold of their own. What they have in common is that they
//! fail from networks where nobody signs in: that count, per tenant, is a series with an alarm of its own, and so is the
//! number of accounts that get locked. Beside it the pulse tells an outage, which is an incident and no attack.
//!
//! Invariant: one episode per series at a time; while one is open its series learns nothing.

use serde::{Deserialize, Serialize};

use super::count::Parties;
use super::device::Devices;
use super::episode::Opening;
use super::key::{self, Counter, Key, pair};
use super::population::Population;
use super::pulse::{Outage, Pulse};
use super::rules::{Span, Thresholds, rounded};
use super::series::{Alarm, Limits, Maturity, Reading, Series};
use super::signals::Signals;
use super::window::{Counts, SLOTS, bucket_of, slot_of, start_of_slot};
use super::{Config, Detector};
use crate::event::{Address, Outcome, Tenant, Timestamp};
use crate::finding::{self, BaselineEvidence, BaselineSource, EntityKind, Finding, Learning, WindowEvidence};

/// Failing accounts an hour that are an attack on a tenant of which nothing is known, not even that anybody gets in: more
/// than a tenant of half a million accounts has.
const MANY_FAILURES: u64 = 2000;
/// What marks, among those who signed in, an account that was locked on a day.
const LOCKED: u64 = 0x6c6f_636b_6564_0000;

/// One tenant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TenantState {
    pub(crate) tenant: Tenant,
    /// Tells its accounts apart from another tenant's of the same name; the same in whatever order tenants came.
    pub(super) salt: u64,
    pub(crate) population: Population,
    pub(crate) pulse: Pulse,
    pub(crate) devices: Devices,
    pub(crate) signals: Signals,
    strange: Series,
    locks: Series,
    /// Somebody has signed in: without that there is nothing to hold a new tenant's failures against.
    has_succeeded: bool,
    /// Codes are sent, so sign-ins may have to be held against them.
    pub(crate) has_codes: bool,
    /// Not part of the state: what the user has set for it.
    #[serde(skip, default = "unset")]
    pub(crate) thresholds: Thresholds,
}

fn unset() -> Thresholds {
    Config::default().thresholds()
}

impl TenantState {
    pub(crate) fn new(tenant: Tenant, at: Timestamp, config: &Config) -> Self {
        let thresholds = config.thresholds_of(&tenant);
        Self {
            salt: key::text(&tenant.0),
            tenant,
            population: Population::starting_at(at, slot_of(bucket_of(at))),
            pulse: Pulse::default(),
            devices: Devices::default(),
            signals: Signals::default(),
            strange: Series::starting_at(at),
            locks: Series::starting_at(at),
            has_succeeded: false,
            has_codes: false,
            thresholds,
        }
    }

    /// Seasonal seconds from `start` to `now`.
    pub(crate) fn exposure(&self, start: Timestamp, now: Timestamp) -> f64 {
        let (first, last) = (slot_of(bucket_of(start)), slot_of(bucket_of(now)));
        let whole: f64 = (first..last).map(|slot| self.population.exposure(slot)).sum();
        #[expect(clippy::cast_precision_loss, reason = "hours in milliseconds")]
        let rest = now.millis_since(start_of_slot(last)).max(0) as f64 / 1000.0;
        whole + rest * self.population.season(last)
    }

    /// Accounts that fail per account that gets in: what is normal, or what is the case everywhere else at the moment or,
    /// for a day, over the day; without the entity's own, which are `fast` and `day`. Of codes, every sign-in may have
    /// asked for one.
    pub(crate) fn phi(&self, counter: Counter, fast: &Counts, day: Option<&Counts>) -> f64 {
        if counter.is_codes() {
            return 1.0;
        }
        let now = self.pulse.phi(fast.failures, fast.successes);
        let today = day.and_then(|day| self.pulse.day_phi(day.failures, day.succeeding));
        [now, today].into_iter().flatten().fold(self.population.phi(), |most, phi| if phi > most { phi } else { most })
    }

    /// How many times more than usual may fail from where nobody signs in, by what is the case where people do. More than
    /// in proportion: such a day brings back those who have not been seen for months.
    fn elsewhere(&self) -> f64 {
        let more = self.pulse.more_than_usual();
        more * libm::sqrt(more)
    }

    /// Sign-in fails for everyone at `at`.
    pub(crate) fn in_outage(&self, at: Timestamp) -> bool {
        self.outage(at).is_some()
    }

    pub(super) fn outage(&self, at: Timestamp) -> Option<Outage> {
        self.pulse.outage(at, self.strange.expected_sign_ins())
    }

    pub(super) fn series(&self, counter: Counter) -> &Series {
        if counter == Counter::TenantLocks { &self.locks } else { &self.strange }
    }

    fn series_mut(&mut self, counter: Counter) -> &mut Series {
        if counter == Counter::TenantLocks { &mut self.locks } else { &mut self.strange }
    }

    pub(super) fn limits(&self, counter: Counter) -> Limits {
        let usual = Limits {
            minimum: self.thresholds.tenant_minimum,
            chance: self.population.chance(self.thresholds.budget),
            failures_per_success: self.population.phi(),
            // Where only failures are reported, there is nothing to hold them against on the first day.
            cold_minimum: if self.has_succeeded { Limits::default().cold_minimum } else { MANY_FAILURES },
            elsewhere: self.elsewhere(),
            ..Limits::default()
        };
        // Lock-outs do not come with sign-ins; a handful is a day's ration.
        let locks =
            Limits { cold_minimum: self.thresholds.tenant_minimum, failures_per_success: 0.0, elsewhere: 1.0, ..usual };
        if counter == Counter::TenantLocks { locks } else { usual }
    }
}

impl Detector {
    /// Counts the newest event for its tenant and judges the tenant's series.
    /// `explained`: its address has a finding of its own.
    pub(super) fn count_for_tenant(
        &mut self,
        parties: &Parties,
        independent: bool,
        explained: bool,
        found: &mut Vec<Finding>,
    ) {
        let Some(newest) = self.recent.newest() else { return };
        let (at, outcome, strange) = (newest.at, newest.outcome, newest.strange);
        let is_again = newest.again.told;
        let is_attacked = self.of_key.contains_key(&Key::tenant(parties.tenant, Counter::Tenant));
        let Some(tenant) = self.tenants.get_mut(usize::from(parties.tenant)) else { return };
        if !is_again {
            tenant.population.count(slot_of(bucket_of(at)), independent);
        }
        let limits = tenant.limits(Counter::Tenant);
        match outcome {
            // What one address does is told there; it takes several, or a finding of the tenant that is open already.
            Outcome::Failure if strange && explained && !is_attacked => {}
            // While nobody gets in, neither does an attacker, and travellers fail like everybody else.
            Outcome::Failure if strange && tenant.in_outage(at) => {}
            Outcome::Failure if strange => {
                tenant.strange.fail(at, parties.who, &limits);
                self.mistyped.fail(pair(parties.who, tenant.salt), at);
            }
            Outcome::Failure => tenant.pulse.fail(at, parties.network.map_or(0, |network| network.bits())),
            Outcome::Success => {
                tenant.has_succeeded = true;
                if !is_again {
                    if !strange {
                        tenant.pulse.succeed(at);
                    }
                    tenant.strange.succeed(at, parties.who, &limits);
                }
                if strange && self.mistyped.redeem(pair(parties.who, tenant.salt), at) {
                    tenant.strange.redeem(at, &limits);
                }
            }
            // Once a day: whoever keeps trying meets the lock again and again.
            Outcome::Locked => {
                let Some(account) = parties.account else { return };
                let today = pair(account.hash(), LOCKED ^ u64::from(slot_of(bucket_of(at)) / SLOTS));
                if !self.familiar.contains(today) {
                    self.familiar.add(today, at);
                    let limits = tenant.limits(Counter::TenantLocks);
                    tenant.locks.fail(at, parties.who, &limits);
                }
            }
            Outcome::CodeSent => tenant.has_codes = true,
            Outcome::PasswordCorrectStopped
            | Outcome::Challenge
            | Outcome::RateLimited
            | Outcome::Blocked
            | Outcome::AccountChanged
            | Outcome::AccountDeleted
            | Outcome::SessionEnded
            | Outcome::Other => {}
        }
        self.judge_series(Counter::Tenant, parties, at, found);
        if outcome == Outcome::Locked {
            self.judge_series(Counter::TenantLocks, parties, at, found);
        }
        if outcome == Outcome::Failure && !strange || self.has_outage(parties.tenant) {
            self.judge_outage(parties.tenant, at, found);
        }
    }

    fn judge_series(&mut self, counter: Counter, parties: &Parties, at: Timestamp, found: &mut Vec<Finding>) {
        let key = Key::tenant(parties.tenant, counter);
        let Some(tenant) = self.tenants.get(usize::from(parties.tenant)) else { return };
        let alarm = tenant.series(counter).alarm();
        let Some(id) = self.of_key.get(&key).copied() else {
            if let Some(alarm) = alarm {
                self.open_tenant(counter, parties.tenant, alarm, at, found);
            }
            return;
        };
        let Some(episode) = self.episodes.get(&id) else { return };
        let Some(newest) = self.recent.newest() else { return };
        let right_password = matches!(newest.outcome, Outcome::Success | Outcome::PasswordCorrectStopped);
        // Without an alarm it is the attack of certain addresses; with one, of all from where nobody signs in.
        let concerns = if counter == Counter::Tenant {
            (newest.strange && alarm.is_some()) || episode.implicates(newest)
        } else {
            newest.outcome == Outcome::Locked
        };
        if episode.is_closed() {
            if alarm.is_some() {
                self.forget(id);
                self.judge_series(counter, parties, at, found);
            } else if concerns && right_password {
                self.late_compromise(id, at, found);
            }
        } else if concerns {
            let limits = tenant.limits(counter);
            let window = alarm
                .map(|alarm| tenant.series(counter).reading(alarm, &limits))
                .filter(|reading| episode.is_new_peak(rounded(reading.ratio(), 10.0)))
                .map(|reading| evidence(&reading, &limits, at));
            let keeps_open = match alarm {
                Some(_) => tenant.series(counter).is_in_excess(&limits),
                None => counter == Counter::Tenant && newest.outcome == Outcome::Failure,
            };
            self.advance(id, window, keeps_open, at, found);
        }
    }

    fn open_tenant(&mut self, counter: Counter, place: u16, alarm: Alarm, at: Timestamp, found: &mut Vec<Finding>) {
        let Some(tenant) = self.tenants.get(usize::from(place)) else { return };
        let limits = tenant.limits(counter);
        let reading = tenant.series(counter).reading(alarm, &limits);
        let (peak, baseline) = (evidence(&reading, &limits, at), baseline(&reading));
        self.open_whole(Key::tenant(place, counter), peak, baseline, None, at, found);
    }

    /// An attack of the addresses `only`, whose windows together are `peak`.
    pub(super) fn open_gathered(
        &mut self,
        place: u16,
        peak: WindowEvidence,
        only: Vec<Address>,
        at: Timestamp,
        found: &mut Vec<Finding>,
    ) {
        let Some(tenant) = self.tenants.get(usize::from(place)) else { return };
        let limits = tenant.limits(Counter::Tenant);
        let baseline = baseline(&tenant.strange.reading(Alarm::Spike, &limits));
        #[expect(clippy::cast_precision_loss, reason = "minutes in milliseconds")]
        let days = peak.end.millis_since(peak.start).max(1000) as f64 / 86_400_000.0;
        let baseline = BaselineEvidence { per_day: rounded(peak.expected / days, 10.0), ..baseline };
        self.open_whole(Key::tenant(place, Counter::Tenant), peak, baseline, Some(only), at, found);
    }

    /// Opens an episode about a whole tenant.
    pub(super) fn open_whole(
        &mut self,
        key: Key,
        peak: WindowEvidence,
        baseline: BaselineEvidence,
        only: Option<Vec<Address>>,
        at: Timestamp,
        found: &mut Vec<Finding>,
    ) {
        let Some(tenant) = self.tenants.get(usize::from(key.tenant)) else { return };
        let opening = Opening {
            key,
            rule: key.counter.rule(),
            span: Span::Fast,
            tenant: tenant.tenant.clone(),
            entity: entity(&tenant.tenant),
            correlation: None,
            network: None,
            strange: key.counter == Counter::Tenant,
            peak,
            only,
            baseline,
            now: self.watermark.now(),
        };
        if let Some(count) = self.stats.over_threshold.get_mut(key.counter.rule() as usize) {
            *count += 1;
        }
        if self.open(opening, peak.failures, at, found)
            && key.counter != Counter::TenantOutage
            && let Some(tenant) = self.tenants.get_mut(usize::from(key.tenant))
        {
            tenant.series_mut(key.counter).freeze();
        }
    }

    /// An episode of a tenant is over: its series learns again.
    pub(super) fn thaw(&mut self, key: &Key) {
        if matches!(key.counter, Counter::Tenant | Counter::TenantLocks)
            && let Some(tenant) = self.tenants.get_mut(usize::from(key.tenant))
        {
            tenant.series_mut(key.counter).thaw();
        }
    }
}

fn entity(tenant: &Tenant) -> finding::Entity {
    finding::Entity { kind: EntityKind::Tenant, value: tenant.to_string() }
}

pub(super) fn evidence(reading: &Reading, limits: &Limits, at: Timestamp) -> WindowEvidence {
    WindowEvidence {
        start: reading.start,
        end: at.max(reading.start),
        failures: reading.observed,
        distinct: reading.observed,
        successes: 0,
        ratio: rounded(reading.ratio(), 10.0),
        expected: rounded(reading.expected, 1000.0),
        threshold: reading.threshold.unwrap_or_else(|| reading.drift_threshold(limits)),
    }
}

pub(super) fn baseline(reading: &Reading) -> BaselineEvidence {
    #[expect(clippy::cast_precision_loss, reason = "hours in milliseconds")]
    let days = reading.end.millis_since(reading.start).max(1) as f64 / 86_400_000.0;
    BaselineEvidence {
        source: if reading.maturity == Maturity::Learning { BaselineSource::Prior } else { BaselineSource::Tenant },
        per_day: rounded(reading.expected / days, 10.0),
        observed_seconds: u64::from(reading.learned_hours) * 3600,
        learning: match reading.maturity {
            Maturity::Learning => Learning::Learning,
            Maturity::Provisional => Learning::Provisional,
            Maturity::Learned => Learning::Learned,
        },
    }
}
