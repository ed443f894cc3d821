//! What does it mean: the detector of one partition. Events in, findings out.
//!
//! Invariant: pure. No IO, clock, threads, locks, randomness or logging: the state and the findings are a function of the
//! records observed and their order, so a task that restarts from a snapshot and reads on makes the same findings, with
//! the same ids, as one that never stopped. Work per event does not grow with history; memory is bounded by
//! [`Config::max_state_bytes`] and [`Config::max_open_findings`].
//!
//! How an event is judged: it is counted for its address, its network and its account (`count`, `entity`, `window`) and
//! for its tenant (`tenant`, `series`), and a success with which an account leaves all that is known of it is counted once
//! more (`device`, `fan_out`); of a sign-in that several sources tell of only what is news (`session`); the counts are held against what is normal there (`baseline`, `population`); if
//! they are out of all proportion (`rules`, `judge`), an `episode` opens; what is one attack is told as one (`campaign`).
//!
//! Not here: reading the log, storing snapshots, publishing figures (`pipeline`).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use foldhash::fast::FixedState;

use crate::event::{AuthEvent, Outcome, Tenant, Timestamp};
use crate::finding::{EntityKind, Finding, Learning, Lifecycle, Rule};

pub mod allow;
mod baseline;
mod campaign;
mod cold;
mod config;
mod count;
mod device;
mod distinct;
mod entity;
mod episode;
mod erase;
mod explain;
mod familiar;
mod fan_out;
mod heavy;
mod judge;
mod key;
mod mistyped;
mod narrow;
mod outage;
pub mod overrides;
mod population;
mod pulse;
mod recent;
mod reconfigure;
mod rules;
mod series;
mod session;
mod shape;
mod signals;
mod sketch;
mod snapshot;
mod tail;
mod tally;
mod tenant;
mod watermark;
mod window;

pub use config::Config;
pub use explain::{Explanation, MAX_TENANTS_EXPLAINED, Subject, UnknownSubject};
pub use reconfigure::NEEDS_RESTART;
pub use signals::{Blind, Flow, Seen, Signal, Signals, Silence};
pub use snapshot::SnapshotError;

use allow::AllowList;
use entity::{Entities, Entity};
use episode::Episode;
use erase::{Erasures, is_erasure};
use familiar::Familiar;
use key::{Counter, Key};
use mistyped::Mistyped;
use recent::{Again, Recent, SignIn};
use session::{News, Sessions};
use tenant::TenantState;
use watermark::Watermark;

/// Tenants told apart. Clerk instances of one company are a handful; events of further ones share one tenant, so that a
/// sender who invents instance ids cannot fill the memory.
const MAX_TENANTS: usize = 4096;
/// Where events of tenants beyond [`MAX_TENANTS`] are counted.
const OVERFLOW_TENANT: &str = "(other instances)";

/// How long after its end an attack's accounts are still named: whoever found a password uses it within the hour.
const LINGER_MILLIS: i64 = 3_600_000;

/// Figures about the detector itself. Counters start at zero with the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Events observed.
    pub events: u64,
    /// Events too late for the window they belong to.
    pub late: u64,
    /// Sign-in events of which something was left out because the allow list covers it.
    pub allowed: u64,
    /// Successes whose session had been told of before: only what is news in them was counted.
    pub repeated: u64,
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
    /// Entities the memory has room for.
    pub max_entities: u64,
    /// First contacts forgotten while they were still in a window: the blind spot.
    pub overwritten: u64,
    /// Pairs of account and network, accounts and networks remembered from sign-ins.
    pub familiar: u64,
    /// Seconds for which a sign-in is remembered at least.
    pub familiar_seconds: u64,
    /// Tenants by how far their normal has been learned, by [`Learning::ALL`].
    pub learning: [u64; Learning::ALL.len()],
    /// Addresses and networks that crossed their threshold as part of a distributed attack and got no finding of their own.
    pub folded: u64,
    /// Findings open.
    pub open: u64,
    /// Event time up to which everything is believed seen.
    pub watermark: Timestamp,
}

/// The detector of one partition.
#[derive(Clone, Debug)]
pub struct Detector {
    config: Config,
    allow: AllowList,
    watermark: Watermark,
    tenants: Vec<TenantState>,
    tenant_places: HashMap<Tenant, u16, FixedState>,
    entities: Entities,
    familiar: Familiar,
    mistyped: Mistyped,
    recent: Recent,
    sessions: Sessions,
    episodes: BTreeMap<u32, Episode>,
    /// Which episode is whose, for those that are open or linger.
    of_key: BTreeMap<Key, u32>,
    next_episode: u32,
    /// When each episode is to be looked at next.
    deadlines: BTreeSet<(Timestamp, u32)>,
    erasures: Erasures,
    stats: Stats,
}

impl Detector {
    /// A detector that has seen nothing.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let shares = config.shares();
        Self {
            config: config.clone(),
            allow: AllowList::new(&config.allow),
            watermark: Watermark::default(),
            tenants: Vec::new(),
            tenant_places: HashMap::default(),
            entities: Entities::new(shares.entities, shares.cold),
            familiar: Familiar::new(shares.familiar),
            mistyped: Mistyped::default(),
            recent: Recent::default(),
            sessions: Sessions::default(),
            episodes: BTreeMap::new(),
            of_key: BTreeMap::new(),
            next_episode: 0,
            deadlines: BTreeSet::new(),
            erasures: Erasures::default(),
            stats: Stats::default(),
        }
    }

    /// Takes one event; findings that it opens, changes or (by moving time) closes are added to `found`.
    pub fn observe(&mut self, event: AuthEvent, found: &mut Vec<Finding>) {
        self.stats.events += 1;
        let at = Watermark::effective(event.occurred_at, event.received_at);
        self.watermark.on_event(at, event.received_at);
        self.settle(found);
        self.forget_due(event.received_at, found);
        if is_erasure(&event) {
            self.ask_to_forget(&event, found);
        }
        if is_counted(event.outcome) {
            let place = self.tenant(&event.tenant, at);
            if let Some(tenant) = self.tenants.get_mut(usize::from(place)) {
                tenant.signals.note(&event);
            }
            let AuthEvent { tenant: name, outcome, ip, account, identifier, reason, user_agent, session, .. } = event;
            let account = account.or_else(|| identifier.map(crate::event::Account::Identifier));
            let exempt = self.allow.exempt(&name, ip, account.as_ref(), at);
            self.stats.allowed += u64::from(exempt.any());
            let tenant = place;
            let (strange, novel, stranger, again) = (false, false, false, Again::default());
            let sign_in = SignIn {
                at,
                tenant,
                outcome,
                ip,
                account,
                reason,
                user_agent,
                strange,
                novel,
                stranger,
                again,
                exempt,
            };
            match session.filter(|_| outcome == Outcome::Success) {
                Some(session) => self.count_session(&name, &session, sign_in, found),
                None => {
                    self.count(sign_in, News::ALL, found);
                }
            }
        }
    }

    /// Nothing happened until wall time `at`.
    pub fn tick(&mut self, at: Timestamp, found: &mut Vec<Finding>) {
        self.watermark.on_tick(at);
        self.settle(found);
        self.forget_due(at, found);
    }

    /// Whether a tick at wall time `wall` would change or close a finding, or forget an account.
    #[must_use]
    pub fn is_due(&self, wall: Timestamp) -> bool {
        if self.erasures.is_due(wall) {
            return true;
        }
        // A lingering episode only waits to be forgotten; that can wait for the next event.
        let due = self.deadlines.iter().find(|(_, id)| self.episodes.get(id).is_some_and(|one| !one.is_closed()));
        match (due, self.watermark.projected(wall)) {
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
        self.episodes.values().filter(|episode| !episode.is_closed()).map(Episode::current).collect()
    }

    /// What has come in of each instance.
    pub fn signals(&self) -> impl Iterator<Item = (&Tenant, &Signals)> {
        self.tenants.iter().map(|state| (&state.tenant, &state.signals))
    }

    /// Figures about the detector itself.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = Stats {
            entity_bytes: self.entities.bytes_per_entity(),
            max_entities: self.entities.max() as u64,
            overwritten: self.entities.overwritten(),
            familiar: self.familiar.len() as u64,
            familiar_seconds: u64::try_from(self.familiar.span() / 1000).unwrap_or(0),
            open: self.open_count() as u64,
            watermark: self.watermark.now(),
            ..self.stats
        };
        for counter in [
            Counter::Address,
            Counter::Network,
            Counter::Account,
            Counter::AddressCodes,
            Counter::AccountCodes,
            Counter::AddressFanOut,
            Counter::NetworkFanOut,
        ] {
            let (entities, evictions) = self.entities.counts(counter);
            let kind = counter.kind() as usize;
            if let (Some(count), Some(evicted)) = (stats.entities.get_mut(kind), stats.evictions.get_mut(kind)) {
                *count += entities;
                *evicted += evictions;
            }
        }
        if let Some(count) = stats.entities.get_mut(EntityKind::Tenant as usize) {
            *count = self.tenants.len() as u64;
        }
        for tenant in &self.tenants {
            if let Some(count) = stats.learning.get_mut(tenant.population.learning(self.watermark.now()) as usize) {
                *count += 1;
            }
        }
        stats
    }

    fn tenant(&mut self, tenant: &Tenant, at: Timestamp) -> u16 {
        if let Some(place) = self.tenant_places.get(tenant) {
            return *place;
        }
        if self.tenants.len() >= MAX_TENANTS && *tenant.0 != *OVERFLOW_TENANT {
            return self.tenant(&OVERFLOW_TENANT.into(), at);
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most MAX_TENANTS and one")]
        let place = self.tenants.len() as u16;
        self.tenants.push(TenantState::new(tenant.clone(), at, &self.config));
        self.tenant_places.insert(tenant.clone(), place);
        place
    }

    fn settle(&mut self, found: &mut Vec<Finding>) {
        self.settle_until(self.watermark.now(), found);
    }

    /// Updates, closes and forgets the episodes whose time has come by `now`.
    fn settle_until(&mut self, now: Timestamp, found: &mut Vec<Finding>) {
        while let Some((due, id)) = self.deadlines.first().copied()
            && due <= now
        {
            self.deadlines.pop_first();
            let Some(episode) = self.episodes.get_mut(&id) else { continue };
            if episode.is_closed() {
                self.forget(id);
                continue;
            }
            let quiet = self.config.quiet_millis(episode.span);
            let close_at = episode.last_active_at.plus_millis(quiet);
            if due >= close_at {
                found.push(episode.revise(Lifecycle::Closed, close_at));
                let key = episode.key;
                self.thaw(&key);
                // What the day holds by now was told: another finding has to rest on what comes after.
                self.each_told_as(&key, |entity| entity.window.clear_day());
                self.deadlines.insert((close_at.plus_millis(LINGER_MILLIS), id));
                continue;
            }
            if episode.grew {
                found.push(episode.revise(Lifecycle::Updated, due));
            }
            let next = due.plus_millis(minutes(self.config.update_minutes));
            self.deadlines.insert((next.min(close_at), id));
        }
    }

    fn forget(&mut self, id: u32) {
        let Some(episode) = self.episodes.remove(&id) else { return };
        self.of_key.remove(&episode.key);
        self.each_told_as(&episode.key, |entity| entity.set_in_episode(false));
    }

    /// The entity of an episode, under each aspect that the episode tells of.
    fn each_told_as(&mut self, key: &Key, change: impl Fn(&mut Entity)) {
        let keys = [Some(*key), key.counter.fan_out().map(|counter| key.of(counter))];
        for key in keys.into_iter().flatten() {
            if let Some(place) = self.entities.find(&key, key.hash())
                && let Some(entity) = self.entities.get_mut(place)
            {
                change(entity);
            }
        }
    }
}

/// Outcomes that say how an attempt to sign in went; the rest is context.
fn is_counted(outcome: Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Success
            | Outcome::Failure
            | Outcome::PasswordCorrectStopped
            | Outcome::Locked
            | Outcome::RateLimited
            | Outcome::Blocked
            | Outcome::CodeSent
    )
}

fn minutes(count: u32) -> i64 {
    i64::from(count) * 60_000
}

#[cfg(test)]
mod tests;
