//! Success fan-out: many accounts are signed in to from one address or network that none of them has to do with. What is
//! left to see, where only sessions are reported, of a stuffing run with a list that was checked before, or of a farm of
//! stolen sessions.
//!
//! The statistic is N, the distinct accounts *with a history* that get in (or get their password right) from a network and
//! with a kind of device that are both new to them (`device`), of one address within the window. It opens a finding by the
//! one rule (`rules`) with these parts:
//! - enough to matter: 10 in minutes, 20 in a day, twice that of a network;
//! - out of proportion: 50 times (over a day 20) what the address' own history, or before that 0.2 a day, leads to expect,
//!   and more than chance;
//! - past the crowd: N is at least the guard times r times S, with S the guests: distinct accounts with a history that came
//!   there for the first time in the same window and brought a device of theirs; and r the strangers per guest that the
//!   tenant is used to when people come to a new network ([`Devices::strangers_per_guest`], 0.05 to 0.2 within its bounds,
//!   so that an attacker cannot teach it). An attacker's run has 1.5 strangers per guest if his browsers are so common that
//!   two in five of his victims have such a one themselves; people have at most 0.2.
//!
//! So what is normal stays quiet: an office, a carrier, a marketing spike (networks or devices are known); the first days
//! and a first day of term (nobody has a history); a company's new address and a trade fair (devices are known, and the few
//! that are not are excused by the many); an app's release that calls itself otherwise (r is everybody).
//!
//! Who is at home there is not counted, neither for nor against: a guest is what a stranger would be if he were none.
//!
//! Invariant: an address has one episode, whatever opened it: strangers at an address that has a finding are told there, and
//! so are failures at one that was found by its strangers. Only first visits cost anything.
//!
//! Not here: strangers one by one from thousands of addresses, which nothing but their number tells from travellers.
//!
//! [`Devices::strangers_per_guest`]: super::device::Devices::strangers_per_guest

use uuid::Uuid;

use super::Detector;
use super::cold::Contact;
use super::count::{Parties, roll};
use super::entity::Entity;
use super::episode::Episode;
use super::key::{Counter, Key};
use super::rules::{Judgement, Span};
use super::window::{bucket_of, generation_of};
use crate::event::Timestamp;
use crate::finding::{Finding, Rule, WindowEvidence};

impl Detector {
    /// The newest event got an account with a history in to a network new to it: counts it for its address and its network,
    /// and judges them if it `is_stranger`. Answers whether either is now told of in an episode.
    pub(super) fn count_newcomer(
        &mut self,
        parties: &Parties,
        is_stranger: bool,
        at: Timestamp,
        found: &mut Vec<Finding>,
    ) -> bool {
        let (bucket, from) = (bucket_of(at), parties.address.map_or(0, |address| address.bits()));
        let mut in_episode = false;
        for of in [parties.address, parties.network].into_iter().flatten() {
            // A network is judged by the addresses that have no finding of their own, as with failures.
            let is_told = self.has_episode(&of);
            if in_episode && !is_told {
                continue;
            }
            in_episode |= is_told;
            let Some(key) = of.counter.fan_out().map(|counter| of.of(counter)) else { continue };
            // Of a guest the doorkeeper keeps that he speaks for the place.
            let spread = if !is_stranger {
                1
            } else if of.counter == Counter::Network {
                from
            } else {
                0
            };
            let contact = Contact { bucket, failure: is_stranger, who: parties.who, spread };
            let Some(place) = self.add_newcomer(&key, contact) else { continue };
            if is_stranger {
                self.judge_strangers(place, &of, at, found);
                in_episode |= self.has_episode(&of);
            }
        }
        in_episode
    }

    /// Strangers take the place of failures in the window, guests that of successes.
    fn add_newcomer(&mut self, key: &Key, contact: Contact) -> Option<u32> {
        let (hash, bucket) = (key.hash(), contact.bucket);
        let known = self.entities.find(key, hash);
        let place = known.or_else(|| self.entities.meet(key, hash, contact, bucket))?;
        let (entity, tenant) = self.entities.get_mut(place).zip(self.tenants.get_mut(usize::from(key.tenant)))?;
        roll(entity, bucket, &mut tenant.population);
        if contact.failure {
            let unit = entity.unit();
            entity.window.add_failure(bucket, contact.who, contact.spread, unit);
        } else {
            entity.set_has_succeeded();
            entity.window.add_success(bucket, contact.who, true);
        }
        Some(place)
    }

    fn has_episode(&self, key: &Key) -> bool {
        self.of_key.contains_key(key)
    }

    /// `place`: the counter of strangers of the entity whose episodes have the key `of`.
    fn judge_strangers(&mut self, place: u32, of: &Key, at: Timestamp, found: &mut Vec<Finding>) {
        let open = |detector: &mut Self, part_of: Option<Uuid>, found: &mut Vec<Finding>| {
            if let Some(span) = detector.spike(place, at) {
                detector.count_over_threshold(Rule::SuccessFanOut);
                if part_of.is_some() {
                    detector.of_key.get(of).copied().into_iter().for_each(|id| detector.forget(id));
                }
                detector.open_entity(place, span, at, part_of, found);
            }
        };
        let Some((id, is_closed)) = self.of_key.get(of).copied().and_then(|id| {
            let episode = self.episodes.get(&id)?;
            Some((id, episode.is_closed()))
        }) else {
            open(self, None, found);
            return;
        };
        if is_closed {
            let before = self.episodes.get(&id).map(Episode::finding_id);
            open(self, before, found);
            return;
        }
        self.go_on_with_strangers(id, place, at);
    }

    /// The event itself was added with its address; here it keeps the episode open, and may be its new peak.
    fn go_on_with_strangers(&mut self, id: u32, place: u32, at: Timestamp) {
        let Some((entity, span)) = self.entities.get(place).zip(self.episodes.get(&id).map(|one| one.span)) else {
            return;
        };
        let Some(judged) = self.judgement(entity, span, at) else { return };
        let keeps_open = judged.keeps_open();
        let is_peak = |episode: &Episode| episode.is_fan_out() && episode.is_new_peak(judged.ratio());
        let window = self.episodes.get(&id).filter(|episode| is_peak(episode)).map(|_| window_of(entity, &judged));
        let now = self.watermark.now();
        if let Some(episode) = self.episodes.get_mut(&id) {
            if let Some(window) = window {
                episode.raise_peak(window);
            }
            if keeps_open {
                episode.last_active_at = episode.last_active_at.max(now);
            }
        }
        if keeps_open && let Some(entity) = self.entities.get_mut(place) {
            entity.baseline.freeze(generation_of(entity.window.newest()));
        }
    }

    /// The first finding about strangers that is open at the tenant, which further ones refer to: whoever bought a list uses
    /// more than one address.
    pub(super) fn first_fan_out(&self, tenant: u16) -> Option<Uuid> {
        let is_one = |episode: &&Episode| {
            episode.is_fan_out() && episode.key.tenant == tenant && !episode.is_closed() && episode.is_strange()
        };
        let first = self.episodes.values().find(is_one)?;
        Some(first.correlation().unwrap_or(first.finding_id()))
    }

    pub(super) fn count_over_threshold(&mut self, rule: Rule) {
        if let Some(count) = self.stats.over_threshold.get_mut(rule as usize) {
            *count += 1;
        }
    }
}

/// The figures of a window for the finding.
pub(super) fn window_of(entity: &Entity, judged: &Judgement<'_>) -> WindowEvidence {
    let counts = entity.window.generations();
    let is_day = judged.span == Span::Day;
    let distinct = if is_day { judged.count } else { counts.distinct };
    if judged.counter.is_fan_out() {
        // Everybody who came there for the first time and got in.
        return judged.evidence(distinct, distinct, judged.succeeding + distinct);
    }
    let failures = if judged.counter.is_account() || is_day { judged.count } else { counts.failures };
    judged.evidence(failures, distinct, counts.successes)
}
