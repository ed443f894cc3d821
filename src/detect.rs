//! What does it mean: the detector of one partition. Events in, findings out.
//!
//! Invariant: pure. No IO, clock, threads, locks, randomness or logging: the state and the findings are a function of the
//! records observed and their order, so a task that restarts from a snapshot and reads on makes the same findings, with
//! the same ids, as one that never stopped. Work per event does not grow with history; memory is bounded by
//! [`Config::max_entities`] and [`Config::max_open_findings`].
//!
//! How an event is judged: it is counted for its address, its network and its account (`entity`, `window`); the counts are
//! held against what is normal there (`baseline`); if they are out of all proportion (`rules`), an `episode` opens.
//!
//! Not here: reading the log, storing snapshots, publishing figures (`pipeline`).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use foldhash::fast::FixedState;
use serde::Deserialize;

use crate::event::{AuthEvent, Outcome, Tenant, Timestamp};
use crate::finding::{EntityKind, Finding, Lifecycle, Rule};

mod baseline;
mod count;
mod distinct;
mod entity;
mod episode;
#[cfg_attr(not(test), expect(dead_code, reason = "not yet asked by an episode"))]
mod heavy;
mod recent;
mod rules;
#[cfg_attr(not(test), expect(dead_code, reason = "not yet kept by a tenant"))]
mod series;
#[cfg_attr(not(test), expect(dead_code, reason = "not yet asked by an episode"))]
mod sketch;
mod snapshot;
mod tail;
mod tally;
mod watermark;
mod window;

pub use snapshot::SnapshotError;

use baseline::Population;
use entity::Entities;
use episode::Episode;
use recent::{Recent, SignIn};
use rules::{Limits, Thresholds};
use watermark::Watermark;

/// Tenants told apart. Clerk instances of one company are a handful; events of further ones share one tenant, so that a
/// sender who invents instance ids cannot fill the memory.
const MAX_TENANTS: usize = 4096;
/// Where events of tenants beyond [`MAX_TENANTS`] are counted.
const OVERFLOW_TENANT: &str = "(other instances)";

/// What the user can set.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How many times the normal rate of failures is an attack.
    pub factor: f64,
    /// Largest probability that chance alone explains the failures. About this many false findings per independent failure
    /// are to be expected: at 100,000 failures a day, one in a hundred days.
    pub chance: f64,
    /// An address is taken to be shared (an office, a mobile carrier) and left alone while fewer than this many accounts
    /// fail from it per account that gets in.
    pub failing_per_succeeding: f64,
    /// Fewer failing accounts of one address are never a finding.
    pub address_minimum: u64,
    /// So many always are, whatever is normal: the bound on what a patient attacker can teach the baseline.
    pub address_ceiling: u64,
    /// See `address_minimum`, for networks.
    pub network_minimum: u64,
    /// See `address_ceiling`, for networks.
    pub network_ceiling: u64,
    /// Fewer failures of one account are never a finding. Stays above Clerk's lock-out (10), where honest people pile up.
    pub account_minimum: u64,
    /// So many always are.
    pub account_ceiling: u64,
    /// A finding closes after so many minutes without anything that would keep it open.
    pub quiet_minutes: u32,
    /// A finding that grows is updated at most this often; a rise in severity does not wait.
    pub update_minutes: u32,
    /// Addresses, networks and accounts remembered, at about 150 bytes each.
    pub max_entities: u32,
    /// Findings open at one time; beyond it new ones are counted, not opened.
    pub max_open_findings: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            factor: 50.0,
            chance: 1e-7,
            failing_per_succeeding: 1.0,
            address_minimum: 8,
            address_ceiling: 60,
            network_minimum: 16,
            network_ceiling: 240,
            account_minimum: 15,
            account_ceiling: 60,
            quiet_minutes: 15,
            update_minutes: 5,
            max_entities: 1_000_000,
            max_open_findings: 2000,
        }
    }
}

impl Config {
    /// Every fault, as `key: what is wrong`.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut check = |holds: bool, fault: &str| {
            if !holds {
                faults.push(fault.to_owned());
            }
        };
        check(self.factor.is_finite() && self.factor >= 2.0, "factor: must be at least 2");
        check(self.chance > 0.0 && self.chance <= 0.01, "chance: must be above 0 and at most 0.01");
        check(
            self.failing_per_succeeding.is_finite() && self.failing_per_succeeding >= 0.0,
            "failing_per_succeeding: must be 0 or more",
        );
        let thresholds = self.thresholds();
        for (key, limits, highest) in [
            ("address", thresholds.ip, distinct::MAX_64),
            ("network", thresholds.network, distinct::MAX_64),
            ("account", thresholds.account, 100_000),
        ] {
            check(limits.minimum >= 3, &format!("{key}_minimum: must be at least 3"));
            check(
                (limits.minimum..=highest).contains(&limits.ceiling),
                &format!("{key}_ceiling: must be from {key}_minimum to {highest}"),
            );
        }
        check((1..=1440).contains(&self.quiet_minutes), "quiet_minutes: must be from 1 to 1440");
        check((1..=1440).contains(&self.update_minutes), "update_minutes: must be from 1 to 1440");
        check((1000..=1 << 30).contains(&self.max_entities), "max_entities: must be from 1000 to 1073741824");
        check((1..=100_000).contains(&self.max_open_findings), "max_open_findings: must be from 1 to 100000");
        faults
    }

    pub(crate) fn thresholds(&self) -> Thresholds {
        Thresholds {
            factor: self.factor,
            chance: self.chance,
            failing_per_succeeding: self.failing_per_succeeding,
            ip: Limits { minimum: self.address_minimum, ceiling: self.address_ceiling },
            network: Limits { minimum: self.network_minimum, ceiling: self.network_ceiling },
            account: Limits { minimum: self.account_minimum, ceiling: self.account_ceiling },
        }
    }
}

/// Figures about the detector itself. Counters start at zero with the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Events observed.
    pub events: u64,
    /// Events too late for the window they belong to.
    pub late: u64,
    /// Findings not opened because [`Config::max_open_findings`] were open.
    pub suppressed: u64,
    /// Failures after which a window was over its threshold, by [`Rule::ALL`].
    pub over_threshold: [u64; Rule::ALL.len()],
    /// Entities in memory, by [`EntityKind::ALL`].
    pub entities: [u64; EntityKind::ALL.len()],
    /// Entities evicted, by [`EntityKind::ALL`].
    pub evictions: [u64; EntityKind::ALL.len()],
    /// Bytes of one entity's state, with its share of the table.
    pub entity_bytes: u64,
    /// Findings open.
    pub open: u64,
    /// Event time up to which everything is believed seen.
    pub watermark: Timestamp,
}

/// What is known of one tenant.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct TenantState {
    tenant: Tenant,
    populations: [Population; EntityKind::ALL.len()],
}

/// The detector of one partition.
#[derive(Debug)]
pub struct Detector {
    config: Config,
    thresholds: Thresholds,
    watermark: Watermark,
    tenants: Vec<TenantState>,
    tenant_places: HashMap<Tenant, u32, FixedState>,
    entities: Entities,
    recent: Recent,
    episodes: BTreeMap<u32, Episode>,
    next_episode: u32,
    /// When each open episode is to be looked at next.
    deadlines: BTreeSet<(Timestamp, u32)>,
    stats: Stats,
}

impl Detector {
    /// A detector that has seen nothing.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            config: config.clone(),
            thresholds: config.thresholds(),
            watermark: Watermark::default(),
            tenants: Vec::new(),
            tenant_places: HashMap::default(),
            entities: Entities::new(config.max_entities as usize),
            recent: Recent::default(),
            episodes: BTreeMap::new(),
            next_episode: 0,
            deadlines: BTreeSet::new(),
            stats: Stats::default(),
        }
    }

    /// Takes one event; findings that it opens, changes or (by moving time) closes are added to `found`.
    pub fn observe(&mut self, event: AuthEvent, found: &mut Vec<Finding>) {
        self.stats.events += 1;
        let at = Watermark::effective(event.occurred_at, event.received_at);
        self.watermark.on_event(at, event.received_at);
        self.settle(found);
        if is_sign_in(event.outcome) {
            let tenant = self.tenant(&event.tenant);
            let AuthEvent { outcome, ip, account, identifier, reason, user_agent, .. } = event;
            let account = account.or_else(|| identifier.map(crate::event::Account::Identifier));
            self.recent.push(SignIn { at, tenant, outcome, ip, account, reason, user_agent });
            self.count(found);
        }
    }

    /// Nothing happened until wall time `at`.
    pub fn tick(&mut self, at: Timestamp, found: &mut Vec<Finding>) {
        self.watermark.on_tick(at);
        self.settle(found);
    }

    /// Whether a tick at wall time `wall` would change or close a finding.
    #[must_use]
    pub fn is_due(&self, wall: Timestamp) -> bool {
        match (self.deadlines.first(), self.watermark.projected(wall)) {
            (Some((due, _)), Some(projected)) => *due <= projected,
            _ => false,
        }
    }

    /// Moves event time forward until every open finding is closed: the end of a file.
    pub fn finish(&mut self, found: &mut Vec<Finding>) {
        while let Some((due, _)) = self.deadlines.first().copied() {
            self.settle_until(due, found);
        }
    }

    /// The findings that are open, as they stand.
    #[must_use]
    pub fn open_findings(&self) -> Vec<Finding> {
        self.episodes.values().map(Episode::current).collect()
    }

    /// Figures about the detector itself.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let counts = self.entities.counts();
        Stats {
            entities: counts.map(|(_, entities, _)| entities),
            evictions: counts.map(|(_, _, evictions)| evictions),
            entity_bytes: self.entities.bytes_per_entity(),
            open: self.episodes.len() as u64,
            watermark: self.watermark.now(),
            ..self.stats
        }
    }

    fn tenant(&mut self, tenant: &Tenant) -> u32 {
        if let Some(place) = self.tenant_places.get(tenant) {
            return *place;
        }
        if self.tenants.len() >= MAX_TENANTS && *tenant.0 != *OVERFLOW_TENANT {
            return self.tenant(&OVERFLOW_TENANT.into());
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most MAX_TENANTS and one")]
        let place = self.tenants.len() as u32;
        self.tenants.push(TenantState { tenant: tenant.clone(), populations: Default::default() });
        self.tenant_places.insert(tenant.clone(), place);
        place
    }

    fn settle(&mut self, found: &mut Vec<Finding>) {
        self.settle_until(self.watermark.now(), found);
    }

    /// Updates and closes the episodes whose time has come by `now`.
    fn settle_until(&mut self, now: Timestamp, found: &mut Vec<Finding>) {
        while let Some((due, id)) = self.deadlines.first().copied()
            && due <= now
        {
            self.deadlines.pop_first();
            let Some(episode) = self.episodes.get_mut(&id) else { continue };
            let close_at = episode.last_active_at.plus_millis(minutes(self.config.quiet_minutes));
            if due >= close_at {
                found.push(episode.revise(Lifecycle::Closed, close_at));
                if let Some(entity) = self.entities.get_mut(episode.place) {
                    entity.set_episode(None);
                }
                self.episodes.remove(&id);
                continue;
            }
            if episode.grew {
                found.push(episode.revise(Lifecycle::Updated, due));
            }
            let next = due.plus_millis(minutes(self.config.update_minutes));
            self.deadlines.insert((next.min(close_at), id));
        }
    }
}

/// Outcomes that say how an attempt to sign in ended; the rest is context.
fn is_sign_in(outcome: Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Success
            | Outcome::Failure
            | Outcome::PasswordCorrectStopped
            | Outcome::Locked
            | Outcome::RateLimited
            | Outcome::Blocked
    )
}

fn minutes(count: u32) -> i64 {
    i64::from(count) * 60_000
}

#[cfg(test)]
mod tests;
