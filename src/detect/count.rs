//! Counting one sign-in event for its address, its network and its account, and judging what came of it.

use super::baseline::Population;
use super::distinct::estimate_64;
use super::entity::{Entity, Key};
use super::episode::Episode;
use super::recent::SignIn;
use super::rules::{Judgement, Verdict, rounded, rule_of};
use super::window::{Bucket, bucket_of, generation_of, start_of};
use super::{Detector, minutes};
use crate::event::{Address, Network, Outcome, Timestamp};
use crate::finding::{self, BaselineEvidence, EntityKind, Finding, Lifecycle};

/// What an event adds to one entity.
#[derive(Clone, Copy)]
struct Share {
    key: Key,
    /// Who (for an account: from where); chooses a bit of the sketch.
    who: u64,
    /// Which address of a network, which network of an account.
    spread: u64,
}

impl Detector {
    /// Counts the newest event of the ring.
    pub(super) fn count(&mut self, found: &mut Vec<Finding>) {
        let Some(sign_in) = self.recent.newest() else { return };
        let (at, outcome) = (sign_in.at, sign_in.outcome);
        let bucket = bucket_of(at);
        let shares = shares(sign_in);
        // All three look-ups before any work: they miss the cache independently, and so wait for memory together.
        let places = shares.map(|share| share.and_then(|share| self.entities.find(&share.key)));
        let mut is_late = false;
        let mut address_is_open = false;
        for (share, found_before) in shares.into_iter().zip(places) {
            let Some(share) = share else { continue };
            // An address with a finding of its own is explained; its network is judged by the others.
            if share.key.kind == EntityKind::Network && address_is_open && outcome == Outcome::Failure {
                continue;
            }
            let Some(place) = self.place(&share.key, found_before, outcome, bucket) else { continue };
            is_late |= !self.add(place, share, outcome, bucket);
            self.judge(place, outcome, at, found);
            address_is_open |= self.entities.get(place).is_some_and(|entity| entity.episode().is_some());
        }
        self.stats.late += u64::from(is_late);
    }

    /// The entity's place. Only successes and failures admit a new one: the rest means something only where something
    /// is known.
    fn place(&mut self, key: &Key, before: Option<u32>, outcome: Outcome, bucket: Bucket) -> Option<u32> {
        // Admitting one entity may have evicted another that was found before.
        let still_there = |place: &u32| self.entities.get(*place).is_some_and(|entity| entity.key == *key);
        if let Some(place) = before.filter(still_there) {
            return Some(place);
        }
        if matches!(outcome, Outcome::Success | Outcome::Failure) {
            self.entities.find_or_admit(key, bucket)
        } else {
            self.entities.find(key)
        }
    }

    /// Adds to the entity's window; answers whether the event was in time for it.
    fn add(&mut self, place: u32, share: Share, outcome: Outcome, bucket: Bucket) -> bool {
        let Some(entity) = self.entities.get_mut(place) else { return true };
        let populations = self.tenants.get_mut(share.key.tenant as usize).map(|tenant| &mut tenant.populations);
        if let Some(population) = populations.and_then(|all| all.get_mut(share.key.kind as usize)) {
            roll(entity, bucket, population);
        }
        match outcome {
            Outcome::Failure => entity.window.add_failure(bucket, share.who, share.spread),
            Outcome::Success => {
                entity.window.add_success(bucket, share.who);
                true
            }
            Outcome::PasswordCorrectStopped
            | Outcome::Challenge
            | Outcome::Locked
            | Outcome::RateLimited
            | Outcome::Blocked
            | Outcome::CodeSent
            | Outcome::AccountChanged
            | Outcome::AccountDeleted
            | Outcome::SessionEnded
            | Outcome::Other => true,
        }
    }

    /// Opens an episode, or adds the event to the one that is open.
    fn judge(&mut self, place: u32, outcome: Outcome, at: Timestamp, found: &mut Vec<Finding>) {
        let Some(entity) = self.entities.get(place) else { return };
        match entity.episode() {
            Some(id) => self.continue_episode(id, place, outcome, at, found),
            None if outcome == Outcome::Failure => self.consider(place, at, found),
            None => {}
        }
    }

    fn consider(&mut self, place: u32, at: Timestamp, found: &mut Vec<Finding>) {
        let Some(entity) = self.entities.get(place) else { return };
        let kind = entity.key.kind;
        if judged_count(entity) < self.minimum(kind) {
            return;
        }
        // A straggler from a window that was reported and closed: a new finding would repeat the old one, id and all.
        if entity.baseline.is_reported(generation_of(entity.window.newest())) {
            return;
        }
        let Some(judgement) = self.judgement(entity, at) else { return };
        if judgement.verdict() != Verdict::Spike {
            return;
        }
        if let Some(count) = self.stats.over_threshold.get_mut(rule_of(kind) as usize) {
            *count += 1;
        }
        if self.episodes.len() >= self.config.max_open_findings as usize {
            self.stats.suppressed += 1;
            return;
        }
        self.open(place, at, found);
    }

    fn minimum(&self, kind: EntityKind) -> u64 {
        match kind {
            EntityKind::Ip => self.thresholds.ip.minimum,
            EntityKind::Network => self.thresholds.network.minimum,
            EntityKind::Account => self.thresholds.account.minimum,
        }
    }

    fn judgement(&self, entity: &Entity, at: Timestamp) -> Option<Judgement<'_>> {
        let kind = entity.key.kind;
        let tenant = self.tenants.get(entity.key.tenant as usize)?;
        let population = *tenant.populations.get(kind as usize)?;
        let counts = entity.window.generations();
        let (start, count) = match kind {
            EntityKind::Account => (entity.window.ring_start(), entity.window.ring_failures()),
            EntityKind::Ip | EntityKind::Network => (counts.start, counts.distinct),
        };
        Some(Judgement {
            thresholds: &self.thresholds,
            kind,
            expectation: entity.baseline.expectation(population, kind),
            start,
            now: at.max(start_of(entity.window.newest())),
            count,
            succeeding: counts.distinct_successes,
            spread: counts.spread,
        })
    }

    fn open(&mut self, place: u32, at: Timestamp, found: &mut Vec<Finding>) {
        let Some(entity) = self.entities.get(place) else { return };
        let (key, counts) = (entity.key, entity.window.generations());
        let Some(judgement) = self.judgement(entity, at) else { return };
        let failures = if key.kind == EntityKind::Account { judgement.count } else { counts.failures };
        let window = judgement.evidence(failures, counts.distinct, counts.successes);
        let (baseline, name) =
            (baseline_evidence(&judgement), self.recent.newest().and_then(|newest| name(&key, newest)));
        let (Some(name), Some(tenant)) = (name, self.tenants.get(key.tenant as usize)) else { return };
        let value = finding::Entity { kind: key.kind, value: name };
        let mut episode = Episode::open(place, key, tenant.tenant.clone(), value, window, baseline);
        episode.last_active_at = self.watermark.now();
        let mut failing = false;
        for sign_in in self.recent.iter().filter(|sign_in| sign_in.at >= window.start && concerns(sign_in, &key)) {
            // What got in before the first failure is not the attacker's.
            failing |= sign_in.outcome == Outcome::Failure;
            if failing {
                episode.absorb(sign_in);
            }
        }
        episode.at_least_failures(failures);
        episode.reassess();
        found.push(episode.revise(Lifecycle::Opened, at));
        let id = self.next_episode;
        self.next_episode = self.next_episode.wrapping_add(1);
        let first_look = minutes(self.config.update_minutes.min(self.config.quiet_minutes));
        self.deadlines.insert((self.watermark.now().plus_millis(first_look), id));
        self.episodes.insert(id, episode);
        if let Some(entity) = self.entities.get_mut(place) {
            entity.set_episode(Some(id));
            entity.baseline.freeze(generation_of(entity.window.newest()));
        }
    }

    fn continue_episode(&mut self, id: u32, place: u32, outcome: Outcome, at: Timestamp, found: &mut Vec<Finding>) {
        let Some(entity) = self.entities.get(place) else { return };
        let judgement = if outcome == Outcome::Failure { self.judgement(entity, at) } else { None };
        let keeps_open = judgement.as_ref().is_some_and(Judgement::keeps_open);
        let counts = entity.window.generations();
        // The threshold search is worth its time only for a new peak.
        let window = judgement
            .filter(|judged| self.episodes.get(&id).is_some_and(|open| open.is_new_peak(judged)))
            .map(|judged| {
                let failures = if judged.kind == EntityKind::Account { judged.count } else { counts.failures };
                judged.evidence(failures, counts.distinct, counts.successes)
            });
        let (Some(episode), Some(sign_in)) = (self.episodes.get_mut(&id), self.recent.newest()) else { return };
        episode.absorb(sign_in);
        if let Some(window) = window {
            episode.raise_peak(window);
        }
        if keeps_open {
            // Quiet is measured from the arrival: an attack told of late is still going on as long as more of it comes.
            episode.last_active_at = episode.last_active_at.max(self.watermark.now());
        }
        if episode.reassess() {
            found.push(episode.revise(Lifecycle::Updated, at));
        }
        if keeps_open && let Some(entity) = self.entities.get_mut(place) {
            entity.baseline.freeze(generation_of(entity.window.newest()));
        }
    }
}

/// Brings the entity's window to `bucket` and lets the baseline learn what has left it.
fn roll(entity: &mut Entity, bucket: Bucket, population: &mut Population) {
    let kind = entity.key.kind;
    let (from, to) = (generation_of(entity.window.newest()), generation_of(bucket));
    let baseline = &mut entity.baseline;
    entity.window.roll(bucket, |number, generation| {
        let failures = u64::from(generation.failures);
        let count = match kind {
            EntityKind::Account => failures,
            EntityKind::Ip | EntityKind::Network => estimate_64(generation.failing).min(failures),
        };
        baseline.learn(number, count, population, kind);
    });
    if let Some(idle) = to.checked_sub(from + 2)
        && idle > 0
    {
        baseline.learn_idle(from + 1, idle, population);
    }
}

/// What the rule of its kind judges.
fn judged_count(entity: &Entity) -> u64 {
    match entity.key.kind {
        EntityKind::Account => entity.window.ring_failures(),
        EntityKind::Ip | EntityKind::Network => entity.window.generations().distinct,
    }
}

/// What the event adds to its address, its network and its account.
fn shares(sign_in: &SignIn) -> [Option<Share>; 3] {
    let tenant = sign_in.tenant;
    let account = sign_in.account.as_ref().map(|account| Key::account(tenant, account));
    let address = sign_in.ip.map(|ip| Key::address(tenant, Address::of(ip)));
    let network = sign_in.ip.map(|ip| Key::network(tenant, Network::of(ip)));
    let who = account.map_or_else(|| anonymous(sign_in), |account| account.bits());
    let from = address.map_or(0, |address| address.bits());
    [
        address.map(|key| Share { key, who, spread: 0 }),
        network.map(|key| Share { key, who, spread: from }),
        account.map(|key| Share { key, who: from, spread: network.map_or(0, |network| network.bits()) }),
    ]
}

/// Who tried, where neither account nor identifier is known: the same browser within half a minute is one person, so that
/// one forgetful person stays one and a script that keeps going does not.
fn anonymous(sign_in: &SignIn) -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let mut hasher = foldhash::quality::FixedState::default().build_hasher();
    hasher.write(sign_in.user_agent.as_deref().unwrap_or_default().as_bytes());
    hasher.write_u32(bucket_of(sign_in.at));
    hasher.finish()
}

fn concerns(sign_in: &SignIn, key: &Key) -> bool {
    let theirs = match key.kind {
        EntityKind::Ip => sign_in.ip.map(|ip| Key::address(sign_in.tenant, Address::of(ip))),
        EntityKind::Network => sign_in.ip.map(|ip| Key::network(sign_in.tenant, Network::of(ip))),
        EntityKind::Account => sign_in.account.as_ref().map(|account| Key::account(sign_in.tenant, account)),
    };
    theirs.as_ref() == Some(key)
}

/// The entity as a person writes it, from an event that concerns it.
fn name(key: &Key, sign_in: &SignIn) -> Option<String> {
    match key.kind {
        EntityKind::Ip => sign_in.ip.map(|ip| Address::of(ip).to_string()),
        EntityKind::Network => sign_in.ip.map(|ip| Network::of(ip).to_string()),
        EntityKind::Account => sign_in.account.as_ref().map(ToString::to_string),
    }
}

fn baseline_evidence(judgement: &Judgement<'_>) -> BaselineEvidence {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "seconds of a few weeks, never negative"
    )]
    let observed_seconds = judgement.expectation.observed_seconds as u64;
    BaselineEvidence {
        source: judgement.expectation.source,
        per_day: rounded(judgement.expectation.expected(86_400.0), 1000.0),
        observed_seconds,
    }
}
