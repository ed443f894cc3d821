//! Judging the windows an event was counted in: when an episode opens, what goes on in it, and which attack it is part of.
//!
//! Invariant: an entity has at most one episode at a time, and an attack is told once: what belongs to a network or a
//! tenant that is already known to be under attack is told there.
//!
//! Not here: the conditions (`rules`), a tenant's totals (`tenant`), and when an episode is over (`detect`).

use uuid::Uuid;

use super::count::Parties;
use super::entity::Entity;
use super::episode::{Episode, Opening};
use super::fan_out::window_of;
use super::key::{Counter, Key};
use super::narrow::Narrow;
use super::recent::SignIn;
use super::rules::{Judgement, Span, float};
use super::window::{generation_of, slot_of, start_of};
use super::{Detector, LINGER_MILLIS, minutes};
use crate::event::{Address, Network, Outcome, Timestamp};
use crate::finding::{self, Finding, Lifecycle, Rule, Verdict, WindowEvidence};

impl Detector {
    /// Opens an episode, or adds the event to the one that is there.
    pub(super) fn judge(&mut self, place: u32, outcome: Outcome, at: Timestamp, found: &mut Vec<Finding>) {
        let Some(entity) = self.entities.get(place) else { return };
        let (key, in_episode) = (entity.key(), entity.is_in_episode());
        if !in_episode {
            if key.counter.counts(outcome) {
                self.consider(place, at, found);
            }
            return;
        }
        let Some(id) = self.of_key.get(&key).copied() else { return };
        if self.episodes.get(&id).is_some_and(Episode::is_closed) {
            self.linger(id, place, outcome, at, found);
        } else {
            self.continue_episode(id, place, outcome, at, found);
        }
    }

    /// The window that is over its threshold, if one is.
    fn consider(&mut self, place: u32, at: Timestamp, found: &mut Vec<Finding>) {
        if let Some(span) = self.spike(place, at)
            && let Some(rule) = self.entities.get(place).map(|entity| entity.key().counter.rule())
        {
            self.count_over_threshold(rule);
            self.open_entity(place, span, at, None, found);
        }
    }

    pub(super) fn spike(&self, place: u32, at: Timestamp) -> Option<Span> {
        let entity = self.entities.get(place)?;
        let thresholds = &self.tenants.get(usize::from(entity.key().tenant))?.thresholds;
        let counter = entity.key().counter;
        for span in [Span::Fast, Span::Day] {
            // The cheap question first: nearly every window is far below its minimum.
            let minimum = thresholds.limits(counter, span).minimum;
            let count = match (span, counter.is_account()) {
                (Span::Fast, false) => entity.window.distinct(),
                (Span::Fast, true) => entity.window.fast().1,
                (Span::Day, _) => entity.window.day().failures,
            };
            let few_from_many =
                counter == Counter::Account && span == Span::Fast && count > thresholds.account_networks;
            if (count >= minimum || few_from_many)
                && self.judgement(entity, span, at).is_some_and(|judged| judged.verdict() == Verdict::Spike)
            {
                return Some(span);
            }
        }
        None
    }

    pub(super) fn judgement(&self, entity: &Entity, span: Span, at: Timestamp) -> Option<Judgement<'_>> {
        let key = entity.key();
        let tenant = self.tenants.get(usize::from(key.tenant))?;
        let newest = entity.window.newest();
        let generations = entity.window.generations();
        let (counts, start, count) = match span {
            Span::Fast if key.counter.is_account() => {
                let (start, count) = entity.window.fast();
                (generations, start, count)
            }
            Span::Fast => (generations, generations.start, generations.distinct),
            Span::Day => {
                let day = entity.window.day();
                (day, day.start, day.distinct)
            }
        };
        let now = at.max(start_of(newest));
        let is_fan_out = key.counter.is_fan_out();
        let (succeeding, phi) = if is_fan_out {
            let guests = counts.succeeding;
            (guests, tenant.devices.strangers_per_guest(float(count), float(guests)))
        } else {
            (counts.succeeding, tenant.phi(key.counter, &generations, (span == Span::Day).then_some(&counts)))
        };
        let in_outage =
            !is_fan_out && (tenant.in_outage(at) || self.has_open_outage(key.tenant)) && !self.is_strange(&key);
        let exposure = match span {
            #[expect(clippy::cast_precision_loss, reason = "minutes in milliseconds")]
            Span::Fast => now.millis_since(start).max(1000) as f64 / 1000.0 * tenant.population.season(slot_of(newest)),
            Span::Day => tenant.exposure(start, now),
        };
        Some(Judgement {
            thresholds: &tenant.thresholds,
            counter: key.counter,
            span,
            expectation: entity.baseline.expectation(&tenant.population, key.counter),
            start,
            now,
            exposure,
            count,
            succeeding,
            spread: counts.spread,
            phi,
            chance: tenant.population.chance(tenant.thresholds.budget),
            in_outage,
            // Span::Day starts anew when a finding opens.
            reported: span == Span::Fast && entity.baseline.is_reported(generation_of(newest)),
            learning: tenant.population.learning(self.watermark.now()),
        })
    }

    /// Whether the newest event came from where nobody signs in: what an outage does not explain.
    fn is_strange(&self, key: &Key) -> bool {
        !key.counter.is_codes() && self.recent.newest().is_some_and(|newest| newest.strange)
    }

    /// Opens an episode by the counter at `place`, or adds it to the attack it is part of.
    pub(super) fn open_entity(
        &mut self,
        place: u32,
        span: Span,
        at: Timestamp,
        part_of: Option<Uuid>,
        found: &mut Vec<Finding>,
    ) {
        let Some(entity) = self.entities.get(place) else { return };
        let judged = entity.key().counter;
        let key = entity.key().of(judged.told_as());
        let Some(judgement) = self.judgement(entity, span, at) else { return };
        let peak = window_of(entity, &judgement);
        let (baseline, failures) = (judgement.baseline(), peak.failures);
        let Some(newest) = self.recent.newest() else { return };
        let parties = Parties::of(newest);
        // Whoever lets strangers in has by now let in some whose devices happen to be known, and who vouch for it.
        let strange = if judged.is_fan_out() {
            self.began_strange(&key, told_from(judged.rule(), peak.start))
        } else {
            newest.strange
        };
        let address = newest.ip.map(Address::of);
        let Some(value) = self.name(&key, newest, peak.start) else { return };
        let whole = part_of
            .or_else(|| self.whole(&key, &parties, strange))
            .or_else(|| if judged.is_fan_out() { self.first_fan_out(key.tenant) } else { None });
        if part_of.is_none()
            && let Some(whole) = whole
            && self.folds(&key, whole)
        {
            self.fold(place, whole, address);
            return;
        }
        let Some(tenant) = self.tenants.get(usize::from(key.tenant)) else { return };
        let opening = Opening {
            key,
            rule: judged.rule(),
            span,
            tenant: tenant.tenant.clone(),
            entity: finding::Entity { kind: key.counter.kind(), value },
            correlation: whole,
            network: parties.network.filter(|_| key.counter == Counter::Address),
            strange,
            peak,
            only: None,
            baseline,
            now: self.watermark.now(),
        };
        if let (Some(address), Some(whole)) = (address, whole.and_then(|whole| self.episode_with(whole)))
            && whole.key.counter != Counter::Address
        {
            whole.take_part(address);
        }
        if self.open(opening, failures, at, found) {
            self.each_told_as(&key, |entity| {
                entity.set_in_episode(true);
                entity.baseline.freeze(generation_of(entity.window.newest()));
                entity.window.clear_day();
            });
            if key.counter == Counter::Address {
                self.promote(judged, &parties, at, found);
                self.gather(&parties, at, found);
            }
        }
    }

    /// Whether nobody had signed in from there before what `key` did since `start`.
    fn began_strange(&self, key: &Key, start: Timestamp) -> bool {
        self.recent.of(key.tenant).find(|one| one.at >= start && concerns(one, key)).is_some_and(|one| one.strange)
    }

    /// The entity of `key` as a person writes it, from an event that concerns it and the window that began at `start`.
    fn name(&self, key: &Key, sign_in: &SignIn, start: Timestamp) -> Option<String> {
        match key.counter {
            Counter::Address | Counter::AddressCodes | Counter::AddressFanOut => {
                sign_in.ip.map(|ip| Address::of(ip).to_string())
            }
            Counter::Network | Counter::NetworkFanOut => {
                let counts = |one: &&SignIn| {
                    one.at >= start && (one.stranger || one.outcome == Outcome::Failure) && concerns(one, key)
                };
                let taking_part = self.recent.of(key.tenant).filter(counts).filter_map(|one| one.ip);
                let narrow = Narrow::of(taking_part).within(key).filter(|within| within.is_narrower());
                sign_in.ip.map(|ip| narrow.map_or_else(|| Network::of(ip).to_string(), |within| within.to_string()))
            }
            Counter::Account | Counter::AccountCodes => sign_in.account.as_ref().map(ToString::to_string),
            Counter::Tenant | Counter::TenantLocks | Counter::TenantOutage => None,
        }
    }

    /// Opens an episode and tells of it; answers whether there was room.
    pub(super) fn open(&mut self, opening: Opening, failures: u64, at: Timestamp, found: &mut Vec<Finding>) -> bool {
        if self.open_count() >= self.config.max_open_findings as usize {
            self.stats.suppressed += 1;
            return false;
        }
        let (key, start, only) = (opening.key, told_from(opening.rule, opening.peak.start), opening.only.clone());
        let is_one = |sign_in: &SignIn| {
            let among = |only: &Vec<Address>| sign_in.ip.is_some_and(|ip| only.contains(&Address::of(ip)));
            sign_in.at >= start && concerns(sign_in, &key) && only.as_ref().is_none_or(among)
        };
        let mut episode = Episode::open(opening);
        // Of a place where nobody ever signed in, whoever got in is told.
        let mut begun = episode.is_fan_out() && episode.is_strange();
        for sign_in in self.recent.of(key.tenant).filter(|sign_in| is_one(sign_in)) {
            // What got in before the first failure is not the attacker's.
            begun |= episode.counts(sign_in);
            if begun {
                episode.absorb(sign_in);
            }
        }
        if !key.counter.is_codes() && key.counter != Counter::TenantLocks && !episode.is_fan_out() {
            episode.at_least_failures(failures);
        }
        episode.reassess();
        found.push(episode.revise(Lifecycle::Opened, at));
        let id = self.next_episode;
        self.next_episode = self.next_episode.wrapping_add(1);
        let first_look = minutes(self.config.update_minutes).min(self.config.quiet_millis(episode.span));
        self.deadlines.insert((self.watermark.now().plus_millis(first_look), id));
        self.of_key.insert(key, id);
        self.episodes.insert(id, episode);
        self.make_room_for_lingering();
        true
    }

    /// Lingering episodes are as bounded as open ones: the oldest are forgotten early.
    fn make_room_for_lingering(&mut self) {
        let max = self.config.max_open_findings as usize;
        if self.episodes.len() < 2 * max {
            return;
        }
        if let Some(id) = self.episodes.iter().find(|(_, episode)| episode.is_closed()).map(|(id, _)| *id) {
            self.forget(id);
        }
    }

    fn continue_episode(&mut self, id: u32, place: u32, outcome: Outcome, at: Timestamp, found: &mut Vec<Finding>) {
        let (Some(entity), Some(span)) = (self.entities.get(place), self.episodes.get(&id).map(|one| one.span)) else {
            return;
        };
        let counted = entity.key().counter.counts(outcome);
        let judgement = if counted { self.judgement(entity, span, at) } else { None };
        let keeps_open = judgement.as_ref().is_some_and(Judgement::keeps_open);
        // The threshold search is worth its time only for a new peak, and a peak is of what the finding is about.
        let is_peak = |open: &Episode, ratio: f64| !open.is_fan_out() && open.is_new_peak(ratio);
        let window = judgement
            .filter(|judged| self.episodes.get(&id).is_some_and(|open| is_peak(open, judged.ratio())))
            .map(|judged| window_of(entity, &judged));
        self.advance(id, window, keeps_open, at, found);
        if keeps_open && let Some(entity) = self.entities.get_mut(place) {
            entity.baseline.freeze(generation_of(entity.window.newest()));
        }
    }

    /// Adds the newest event to an open episode, with the window it was judged in.
    pub(super) fn advance(
        &mut self,
        id: u32,
        window: Option<WindowEvidence>,
        keeps_open: bool,
        at: Timestamp,
        found: &mut Vec<Finding>,
    ) {
        let (Some(episode), Some(sign_in)) = (self.episodes.get_mut(&id), self.recent.newest()) else { return };
        episode.absorb_newest(sign_in);
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
    }

    /// The episode is over; its accounts are still named, and a new attack opens a new one.
    fn linger(&mut self, id: u32, place: u32, outcome: Outcome, at: Timestamp, found: &mut Vec<Finding>) {
        if matches!(outcome, Outcome::Success | Outcome::PasswordCorrectStopped) {
            self.late_compromise(id, at, found);
            return;
        }
        let counts = self.entities.get(place).is_some_and(|entity| entity.key().counter.counts(outcome));
        if counts && let Some(span) = self.spike(place, at) {
            let before = self.episodes.get(&id).map(Episode::finding_id);
            self.forget(id);
            self.open_entity(place, span, at, before, found);
        }
    }

    /// A success within the hour after an attack: if it names another account, the closed finding says so.
    pub(super) fn late_compromise(&mut self, id: u32, at: Timestamp, found: &mut Vec<Finding>) {
        let (Some(episode), Some(sign_in)) = (self.episodes.get_mut(&id), self.recent.newest()) else { return };
        if episode.absorb_late(sign_in) {
            episode.reassess();
            found.push(episode.revise(Lifecycle::Closed, at));
        }
    }

    /// Whether a success of these parties may be the attacker's: its account is already named by an open attack.
    pub(super) fn is_suspected(&self, parties: &Parties) -> bool {
        let Some(account) = parties.account else { return false };
        let id = self.of_key.get(&Key::tenant(parties.tenant, Counter::Tenant));
        id.and_then(|id| self.episodes.get(id)).is_some_and(|episode| episode.names(account.bits()))
    }

    /// Episodes that are open; the rest only linger.
    pub(super) fn open_count(&self) -> usize {
        self.episodes.values().filter(|episode| !episode.is_closed()).count()
    }
}

/// From when on an episode tells of what happened, of which the window that opened it began at `start`. Strangers who came
/// before that window had got in as well.
fn told_from(rule: Rule, start: Timestamp) -> Timestamp {
    if rule == Rule::SuccessFanOut { start.plus_millis(-LINGER_MILLIS) } else { start }
}

/// Whether an episode of `key` tells of this event.
fn concerns(sign_in: &SignIn, key: &Key) -> bool {
    if sign_in.tenant != key.tenant || (sign_in.outcome == Outcome::CodeSent) != key.counter.is_codes() {
        return false;
    }
    let theirs = match key.counter {
        Counter::Address | Counter::AddressCodes | Counter::AddressFanOut => {
            sign_in.counted_ip().map(|ip| Key::address(sign_in.tenant, Address::of(ip)))
        }
        Counter::Network | Counter::NetworkFanOut => {
            sign_in.counted_ip().map(|ip| Key::network(sign_in.tenant, Network::of(ip)))
        }
        Counter::Account | Counter::AccountCodes => {
            sign_in.counted_account().map(|account| Key::account(sign_in.tenant, account))
        }
        Counter::Tenant => return sign_in.strange,
        Counter::TenantLocks => return sign_in.outcome == Outcome::Locked,
        Counter::TenantOutage => return !sign_in.strange,
    };
    theirs.is_some_and(|theirs| theirs.id == key.id)
}
