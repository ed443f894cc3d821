//! Which findings are one attack: what belongs to a network or a tenant under attack is told there.
//!
//! Three ways lead from many addresses to one story: an address whose network or tenant already has a finding is part of
//! that ([`Detector::whole`]); three addresses of one network make it a finding about the network ([`Detector::promote`]);
//! five that appear out of nowhere within minutes make it one about the tenant ([`Detector::gather`]).
//!
//! Invariant: what is part of another finding says so (`correlation`), or has none of its own and is counted there.

use uuid::Uuid;

use super::Detector;
use super::count::Parties;
use super::episode::Episode;
use super::key::{Counter, Key};
use super::rules::{Span, float, rounded};
use super::window::generation_of;
use crate::event::{Address, Timestamp};
use crate::finding::{Finding, WindowEvidence};

/// Addresses of one network with a finding of their own that make it a finding about the network.
const PROMOTING_ADDRESSES: usize = 3;
/// Address findings that tell of one distributed attack each for itself; further ones are only named in it.
const MAX_MEMBERS: usize = 10;
/// Findings about addresses where nobody signs in, within ten minutes, that are one attack whatever the series says: on
/// its own not one of them is to be expected in a month.
const GATHERING: usize = 5;
/// See [`GATHERING`].
const GATHERING_MILLIS: i64 = 600_000;

impl Detector {
    /// The attack that an entity crossing its threshold is part of.
    pub(super) fn whole(&self, key: &Key, parties: &Parties, strange: bool) -> Option<Uuid> {
        let open = |key: Key| {
            let episode = self.of_key.get(&key).and_then(|id| self.episodes.get(id));
            episode.filter(|episode| !episode.is_closed()).map(Episode::finding_id)
        };
        match key.counter {
            Counter::Address => parties
                .network
                .and_then(open)
                .or_else(|| open(Key::tenant(key.tenant, Counter::Tenant)).filter(|_| strange)),
            Counter::Network => open(Key::tenant(key.tenant, Counter::Tenant)).filter(|_| strange),
            Counter::Account
            | Counter::AddressCodes
            | Counter::AccountCodes
            | Counter::AddressFanOut
            | Counter::NetworkFanOut
            | Counter::Tenant
            | Counter::TenantLocks
            | Counter::TenantOutage => None,
        }
        .or_else(|| {
            // The same entity again, within the hour.
            self.of_key.get(key).and_then(|id| self.episodes.get(id)).map(Episode::finding_id)
        })
    }

    /// Whether the entity is only named in `whole`: an address of a network that is told as one, or one of many of a
    /// distributed attack.
    pub(super) fn folds(&self, key: &Key, whole: Uuid) -> bool {
        let Some(of) = self.episodes.values().find(|episode| episode.finding_id() == whole) else { return false };
        let members = || self.episodes.values().filter(|episode| episode.correlation() == Some(whole)).count();
        (of.key.counter == Counter::Network && key.counter == Counter::Address)
            || (of.key.counter == Counter::Tenant && members() >= MAX_MEMBERS)
    }

    pub(super) fn episode_with(&mut self, finding_id: Uuid) -> Option<&mut Episode> {
        self.episodes.values_mut().find(|episode| episode.finding_id() == finding_id)
    }

    pub(super) fn fold(&mut self, place: u32, whole: Uuid, address: Option<Address>) {
        self.stats.folded += 1;
        if let Some(episode) = self.episode_with(whole) {
            episode.fold(address);
        }
        if let Some(entity) = self.entities.get_mut(place) {
            entity.baseline.freeze(generation_of(entity.window.newest()));
            entity.window.clear_day();
        }
    }

    /// Several addresses of one network were found, the last of them by `judged`: from now on it is the network that attacks.
    pub(super) fn promote(&mut self, judged: Counter, parties: &Parties, at: Timestamp, found: &mut Vec<Finding>) {
        let Some(network) = parties.network.filter(|network| !self.of_key.contains_key(network)) else { return };
        let of_network = |episode: &&Episode| episode.key.counter == Counter::Address && episode.is_of(&network);
        if self.episodes.values().filter(of_network).count() < PROMOTING_ADDRESSES {
            return;
        }
        let counter = if judged.is_fan_out() { Counter::NetworkFanOut } else { Counter::Network };
        let network = network.of(counter);
        if let Some(place) = self.entities.find(&network, network.hash()) {
            self.open_entity(place, Span::Fast, at, None, found);
        }
    }

    /// Many addresses were found within minutes: they are one attack, even where the series is not alarmed.
    pub(super) fn gather(&mut self, parties: &Parties, at: Timestamp, found: &mut Vec<Finding>) {
        if self.of_key.contains_key(&Key::tenant(parties.tenant, Counter::Tenant)) {
            return;
        }
        let since = self.watermark.now().plus_millis(-GATHERING_MILLIS);
        let is_fresh = |episode: &Episode| {
            let key = episode.key;
            key.counter == Counter::Address
                && key.tenant == parties.tenant
                && episode.opened_at() >= since
                && episode.is_strange()
                && !episode.is_fan_out()
                && episode.correlation().is_none()
        };
        let fresh: Vec<&Episode> = self.episodes.values().filter(|episode| is_fresh(episode)).collect();
        if fresh.len() < GATHERING {
            return;
        }
        // Judged together: what they did against what was normal for all of them.
        let peaks = fresh.iter().map(|episode| *episode.peak());
        let Some(peak) = peaks.reduce(|sum, one| WindowEvidence {
            start: sum.start.min(one.start),
            end: at,
            failures: sum.failures + one.failures,
            distinct: sum.distinct + one.distinct,
            successes: sum.successes + one.successes,
            ratio: 0.0,
            expected: sum.expected + one.expected,
            threshold: sum.threshold + one.threshold,
        }) else {
            return;
        };
        let ratio = rounded(float(peak.distinct) / peak.expected, 10.0);
        let only = fresh.iter().filter_map(|episode| episode.address()).collect();
        self.open_gathered(parties.tenant, WindowEvidence { ratio, ..peak }, only, at, found);
        let whole = self.of_key.get(&Key::tenant(parties.tenant, Counter::Tenant)).and_then(|id| self.episodes.get(id));
        let whole = whole.map(Episode::finding_id);
        for episode in self.episodes.values_mut().filter(|episode| is_fresh(episode)) {
            episode.join(whole);
        }
    }
}
