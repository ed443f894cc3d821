//! Counting one event for everybody it concerns: its address, its network, its account, its tenant.
//!
//! Invariant: an event is counted once for each, whatever comes of it; what is learned from it (who signs in from where) is
//! learned after it was judged, and never from an entity under attack.
//!
//! Not here: whether the counts are too many (`judge`).

use super::Detector;
use super::allow::Exempt;
use super::cold::Contact;
use super::device::Device;
use super::entity::Entity;
use super::familiar::Familiar;
use super::key::{Counter, Key, pair};
use super::population::Population;
use super::recent::SignIn;
use super::session::{Before, News};
use super::window::{Bucket, bucket_of, slot_of};
use crate::event::{Address, Network, Outcome, Timestamp};
use crate::finding::{Finding, Learning};

/// Networks a day from which one account may speak for an address: whoever signs in from more is testing proxies.
const MAX_CREDIT_NETWORKS: u64 = 10;

/// Whom an event concerns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parties {
    pub(super) tenant: u16,
    pub(super) address: Option<Key>,
    pub(super) network: Option<Key>,
    pub(super) account: Option<Key>,
    pub(super) exempt: Exempt,
    /// Bits of the account, or of what tells one person from the next where none is known.
    pub(super) who: u64,
}

/// What an event adds to one entity.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub(super) key: Key,
    hash: u64,
    /// Who (for an account: from where); chooses a bit of the sketch.
    who: u64,
    /// Which address of a network, which network of an account.
    spread: u64,
}

impl Parties {
    pub(super) fn of(sign_in: &SignIn) -> Self {
        let tenant = sign_in.tenant;
        let account = sign_in.account.as_ref().map(|account| Key::account(tenant, account));
        Self {
            tenant,
            address: sign_in.ip.map(|ip| Key::address(tenant, Address::of(ip))),
            network: sign_in.ip.map(|ip| Key::network(tenant, Network::of(ip))),
            account,
            exempt: sign_in.exempt,
            who: account.map_or_else(|| anonymous(sign_in), |account| account.bits()),
        }
    }

    /// Those of them to whom it is news.
    fn only(&self, news: News) -> Self {
        let (address, network) = if news.address { (self.address, self.network) } else { (None, None) };
        Self { address, network, account: self.account.filter(|_| news.account), ..*self }
    }

    /// What an event with this `outcome` adds to whom; nothing to those that the allow list covers.
    fn shares(&self, outcome: Outcome) -> [Option<Share>; 3] {
        let from = self.address.map_or(0, |address| address.bits());
        let network = self.network.map_or(0, |network| network.bits());
        let share = |key: Key, who, spread| Share { key, hash: key.hash(), who, spread };
        let of_ip = |key: Option<Key>| key.filter(|_| !self.exempt.address);
        let counted = self.account.filter(|_| !self.exempt.account);
        if outcome == Outcome::CodeSent {
            return [
                of_ip(self.address).map(|key| share(key.of(Counter::AddressCodes), self.who, 0)),
                None,
                counted.map(|key| share(key.of(Counter::AccountCodes), from, network)),
            ];
        }
        [
            of_ip(self.address).map(|key| share(key, self.who, 0)),
            of_ip(self.network).map(|key| share(key, self.who, from)),
            counted.map(|key| share(key, if outcome == Outcome::Success { network } else { from }, network)),
        ]
    }
}

impl Detector {
    /// Counts a sign-in event and judges what came of it.
    /// `news`: what of it is counted; all of it, unless it was told of before. Answers what was known before.
    pub(super) fn count(&mut self, mut sign_in: SignIn, news: News, found: &mut Vec<Finding>) -> Before {
        let (at, outcome, parties) = (sign_in.at, sign_in.outcome, Parties::of(&sign_in));
        let bucket = bucket_of(at);
        let shares = parties.shares(outcome);
        // All look-ups before any work: they miss the cache independently, and so wait for memory together.
        let places @ [_, _, account] =
            shares.map(|share| share.and_then(|share| self.entities.find(&share.key, share.hash)));
        let mut is_strange = parties.network.is_some_and(|network| !self.familiar.contains(network.hash()));
        let mut met = Met::of(&self.familiar, &parties, &sign_in);
        // Both were learned from when it was told of first.
        if let Some(before) = news.again {
            is_strange = if news.address { is_strange } else { before.strange };
            (met.known, met.novel) = if news.joins() { (met.known, met.novel) } else { (before.known, before.novel) };
        }
        // Nor is what is allowed a sign of an attack on the tenant.
        sign_in.strange = is_strange && !parties.exempt.address;
        sign_in.novel = met.novel;
        sign_in.stranger = met.is_stranger();
        self.recent.push(sign_in);

        let credit = outcome == Outcome::Success && !met.is_stranger() && self.earns_credit(account);
        let mut is_late = false;
        let mut independent = false;
        let mut address_in_episode = false;
        let mut in_episode = false;
        for (share, before) in shares.into_iter().zip(places) {
            let Some(share) = share else { continue };
            if !(if share.key.counter.is_account() { news.account } else { news.address }) {
                // Counted there before; but who it was may be news to an episode.
                in_episode |= self.tell_again(&share, before, at, found);
                continue;
            }
            let Some(place) = self.place(&share, before, outcome, credit, bucket) else { continue };
            // An address with a finding of its own is explained; its network is judged by the others.
            let is_network = share.key.counter == Counter::Network;
            let explained = is_network
                && address_in_episode
                && outcome == Outcome::Failure
                && !self.entities.get(place).is_some_and(Entity::is_in_episode);
            if explained {
                continue;
            }
            let before = self.entities.get(place).map_or(0, |entity| entity.window.distinct());
            is_late |= !self.add(place, &share, outcome, credit, bucket);
            self.judge(place, outcome, at, found);
            let Some(entity) = self.entities.get(place) else { continue };
            if share.key.counter == Counter::Address {
                independent = entity.window.distinct() > before;
                address_in_episode = entity.is_in_episode();
            }
            in_episode |= !share.key.counter.is_account() && entity.is_in_episode();
        }
        if met.known && met.novel && !parties.exempt.address && news.makes_newcomer(met.is_stranger()) {
            in_episode |= self.count_newcomer(&parties, met.is_stranger(), at, found);
        }
        self.stats.late += u64::from(is_late);
        if outcome == Outcome::Success {
            self.redeem_codes(&parties.only(news), bucket);
        }
        if !parties.exempt.address || outcome == Outcome::Success {
            self.count_for_tenant(&parties, independent, address_in_episode, found);
        }
        if outcome == Outcome::Success && !in_episode {
            self.learn_success(&parties, met, credit, news.joins(), at);
        }
        Before { known: met.known, novel: met.novel, stranger: met.is_stranger(), strange: is_strange }
    }

    /// A success that `share` has counted already is judged as what it now is; answers whether an episode tells of it.
    fn tell_again(&mut self, share: &Share, place: Option<u32>, at: Timestamp, found: &mut Vec<Finding>) -> bool {
        let still_there = |place: &u32| self.entities.get(*place).is_some_and(|entity| entity.key() == share.key);
        let Some(place) = place.filter(still_there) else { return false };
        self.judge(place, Outcome::Success, at, found);
        !share.key.counter.is_account() && self.entities.get(place).is_some_and(Entity::is_in_episode)
    }

    /// Whether a success speaks for the address it came from: not if its account signs in from a dozen networks today. (Nor
    /// if it is a stranger's.)
    fn earns_credit(&self, account: Option<u32>) -> bool {
        let networks =
            account.and_then(|place| self.entities.get(place)).map_or(0, |account| account.window.day().succeeding);
        networks <= MAX_CREDIT_NETWORKS
    }

    fn learning(&self, tenant: u16) -> Learning {
        let now = self.watermark.now();
        self.tenants.get(usize::from(tenant)).map_or(Learning::Learning, |tenant| tenant.population.learning(now))
    }

    /// A success answers the codes that were sent for it.
    fn redeem_codes(&mut self, parties: &Parties, bucket: Bucket) {
        if !self.tenants.get(usize::from(parties.tenant)).is_some_and(|tenant| tenant.has_codes) {
            return;
        }
        let address = parties.address.map(|key| (key.of(Counter::AddressCodes), parties.who));
        let account = parties.account.map(|key| (key.of(Counter::AccountCodes), parties.who));
        for (key, who) in [address, account].into_iter().flatten() {
            let Some(place) = self.entities.find(&key, key.hash()) else { continue };
            let share = Share { key, hash: key.hash(), who, spread: 0 };
            self.add(place, &share, Outcome::Success, true, bucket);
        }
    }

    /// Who signs in from where, from now on. A sign-in that an open attack may have made teaches nothing. `joins`: it was not
    /// known before that it was he, and from there.
    fn learn_success(&mut self, parties: &Parties, met: Met, credit: bool, joins: bool, at: Timestamp) {
        let (Some(account), Some(network)) = (parties.account, parties.network) else { return };
        if met.novel && self.is_suspected(parties) {
            return;
        }
        if let (true, Some(tenant)) = (met.known && joins, self.tenants.get_mut(usize::from(parties.tenant))) {
            tenant.devices.count(at, met.novel, met.known_device);
        }
        self.familiar.add(pair(account.hash(), network.hash()), at);
        // A stranger's device is his owner's once it is used where the account is at home, which is there from now on.
        self.familiar.meet(account.hash(), met.device.filter(|_| !met.is_stranger()), at);
        // Somebody who has signed in before vouches for a network; while the tenant is new, everybody does.
        if credit && (met.known || self.learning(parties.tenant) == Learning::Learning) {
            self.familiar.add(network.hash(), at);
        }
    }

    /// The entity's place, `before` if that is still it. Only what a counter counts, and successes, admit a new one: the
    /// rest means something only where something is known.
    fn place(
        &mut self,
        share: &Share,
        before: Option<u32>,
        outcome: Outcome,
        credit: bool,
        now: Bucket,
    ) -> Option<u32> {
        // Admitting one entity may have evicted another that was found before.
        let still_there = |place: &u32| self.entities.get(*place).is_some_and(|entity| entity.key() == share.key);
        if let Some(place) = before.filter(still_there) {
            return Some(place);
        }
        let failure = share.key.counter.counts(outcome);
        if failure || outcome == Outcome::Success {
            let spread = if failure { share.spread } else { u64::from(credit) };
            let contact = Contact { bucket: now, failure, who: share.who, spread };
            self.entities.meet(&share.key, share.hash, contact, now)
        } else {
            None
        }
    }

    /// Adds to the entity's window; answers whether the event was in time for it.
    fn add(&mut self, place: u32, share: &Share, outcome: Outcome, credit: bool, bucket: Bucket) -> bool {
        let Some(entity) = self.entities.get_mut(place) else { return true };
        if let Some(tenant) = self.tenants.get_mut(usize::from(share.key.tenant)) {
            roll(entity, bucket, &mut tenant.population);
        }
        if share.key.counter.counts(outcome) {
            let unit = entity.unit();
            return entity.window.add_failure(bucket, share.who, share.spread, unit);
        }
        if outcome == Outcome::Success {
            entity.set_has_succeeded();
            entity.window.add_success(bucket, share.who, credit);
        }
        true
    }
}

/// What was known of an account that got its password right, before its event; of others nothing is asked.
#[derive(Clone, Copy, Debug)]
struct Met {
    device: Option<Device>,
    /// It has signed in before, from anywhere.
    known: bool,
    /// And with such a device.
    known_device: bool,
    /// It had never signed in from this network.
    novel: bool,
}

impl Met {
    fn of(familiar: &Familiar, parties: &Parties, sign_in: &SignIn) -> Self {
        let right_password = matches!(sign_in.outcome, Outcome::Success | Outcome::PasswordCorrectStopped);
        match (right_password, parties.account, parties.network) {
            (true, Some(account), Some(network)) => {
                let device = Device::of(sign_in.user_agent.as_deref());
                let known = familiar.knows(account.hash(), device);
                Self {
                    device: Some(device),
                    known: known.is_some(),
                    known_device: known == Some(true),
                    novel: !familiar.contains(pair(account.hash(), network.hash())),
                }
            }
            _ => Self { device: None, known: false, known_device: false, novel: false },
        }
    }

    /// Its owner signs in elsewhere and with other devices: who got in may be somebody else.
    const fn is_stranger(self) -> bool {
        self.known && self.novel && !self.known_device
    }
}

/// Brings the entity's window to `bucket` and lets the baseline learn what has left its day.
pub(super) fn roll(entity: &mut Entity, bucket: Bucket, population: &mut Population) {
    if slot_of(bucket) <= slot_of(entity.window.newest()) {
        entity.window.roll(bucket, |_, _, _| {});
        return;
    }
    let (counter, has_succeeded) = (entity.key().counter, entity.has_succeeded());
    let baseline = &mut entity.baseline;
    let (first, idle) = entity.window.roll(bucket, |slot, failures, successes| {
        let Some((learned, seconds)) = baseline.learn(slot, failures, population, counter) else { return };
        // What nobody ever signs in from is no example of what is normal.
        if has_succeeded {
            population.learn(counter, learned, seconds);
        }
        if counter == Counter::Network && successes >= 5 {
            population.learn_phi(super::rules::float(failures), super::rules::float(successes));
        }
    });
    if idle > 0 {
        let seconds = baseline.learn_idle(first, idle, population);
        if has_succeeded {
            population.learn(counter, 0.0, seconds);
        }
    }
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
