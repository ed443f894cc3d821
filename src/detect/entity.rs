//! Whom the detector knows: a bounded table of entities.
//!
//! Invariant: at most `max` entities; when full, the least valuable of a few candidates makes room, and one with an open
//! episode never does. An attacker who floods the table with addresses used once displaces other addresses used once, not
//! the slow attack that has already failed five times.
//!
//! Entities lie in one vector in order of admission (an evicted one's place is reused), so a snapshot is that vector and
//! nothing depends on the order of a hash table.

use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128, SipHasher13};

use super::baseline::Baseline;
use super::window::{Bucket, Window};
use crate::event::{Account, Address, Network};
use crate::finding::EntityKind;

/// Candidates looked at to find one to evict: enough to miss the valuable ones, few enough to cost nothing.
const EVICTION_CANDIDATES: usize = 8;

/// Which entity, in 24 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Key {
    pub(crate) high: u64,
    pub(crate) low: u64,
    pub(crate) tenant: u32,
    pub(crate) kind: EntityKind,
}

impl Key {
    pub(crate) fn address(tenant: u32, address: Address) -> Self {
        Self::of_ip(tenant, EntityKind::Ip, address.first())
    }

    pub(crate) fn network(tenant: u32, network: Network) -> Self {
        Self::of_ip(tenant, EntityKind::Network, network.first())
    }

    fn of_ip(tenant: u32, kind: EntityKind, ip: IpAddr) -> Self {
        let (high, low) = match ip {
            IpAddr::V4(ip) => (0, u64::from(ip.to_bits())),
            IpAddr::V6(ip) => split(ip.to_bits()),
        };
        // A native IPv6 network never starts with 96 zero bits, so the two families cannot meet.
        Self { high, low, tenant, kind }
    }

    pub(crate) fn account(tenant: u32, account: &Account) -> Self {
        let (high, low) = match account {
            // Fixed keys: Clerk draws user ids, nobody can aim them at each other. The mark keeps the two kinds apart.
            Account::User(id) => {
                let mut hasher = SipHasher13::new_with_keys(0x6175_7468_7370_696b, 0x6163_636f_756e_7473);
                hasher.write(id.as_bytes());
                let hash = hasher.finish128();
                (hash.h1 | 1, hash.h2)
            }
            Account::Identifier(hash) => {
                let (high, low) = split(u128::from_be_bytes(hash.0));
                (high & !1, low)
            }
        };
        Self { high, low, tenant, kind: EntityKind::Account }
    }

    /// Well-mixed bits that choose this key's place in a sketch.
    pub(crate) fn bits(&self) -> u64 {
        // Multiply and fold: addresses of one network differ in a few low bits only.
        let (high, low) = split(u128::from(self.low ^ self.high.rotate_left(23)) * 0x9e37_79b9_7f4a_7c15);
        let (high, low) = split(u128::from(high ^ low) * 0xf39c_c060_5ced_c835);
        high ^ low
    }

    fn hash(&self, state: &FixedState) -> u64 {
        let mut hasher = state.build_hasher();
        hasher.write_u64(self.low);
        hasher.write_u64(self.high);
        hasher.write_u64(u64::from(self.tenant) << 2 | self.kind as u64);
        hasher.finish()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "splits the 128 bits into two halves")]
fn split(bits: u128) -> (u64, u64) {
    ((bits >> 64) as u64, bits as u64)
}

/// No episode is open.
const NO_EPISODE: u32 = u32::MAX;

/// What is kept of one entity.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entity {
    pub(crate) key: Key,
    pub(crate) window: Window,
    pub(crate) baseline: Baseline,
    episode: u32,
}

impl Entity {
    pub(crate) fn episode(&self) -> Option<u32> {
        (self.episode != NO_EPISODE).then_some(self.episode)
    }

    pub(crate) fn set_episode(&mut self, episode: Option<u32>) {
        self.episode = episode.unwrap_or(NO_EPISODE);
    }

    /// What would be lost: recent failures, then learned history; the time last seen breaks ties.
    fn value(&self) -> (u64, Bucket) {
        let failures = self.window.generations().failures;
        let learned = u64::from(self.baseline.is_learned());
        (failures * 2 + learned, self.window.newest())
    }
}

/// Bytes one entity takes: its record, its place in the index, and the slack both keep for growing.
const ENTITY_BYTES: usize = size_of::<Entity>() + size_of::<u32>() + 2;

/// The table.
#[derive(Debug)]
pub(crate) struct Entities {
    all: Vec<Entity>,
    index: HashTable<u32>,
    hasher: FixedState,
    /// State of the generator that chooses candidates for eviction: part of the state, so that a replay evicts alike.
    draw: u64,
    max: usize,
    counts: [u64; EntityKind::ALL.len()],
    evictions: [u64; EntityKind::ALL.len()],
}

/// What a snapshot keeps of the table.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Saved {
    all: Vec<Entity>,
    draw: u64,
}

impl Entities {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            all: Vec::new(),
            index: HashTable::new(),
            hasher: FixedState::default(),
            draw: 0,
            max,
            counts: [0; EntityKind::ALL.len()],
            evictions: [0; EntityKind::ALL.len()],
        }
    }

    pub(crate) fn save(&self) -> Saved {
        Saved { all: self.all.clone(), draw: self.draw }
    }

    pub(crate) fn restore(saved: Saved, max: usize) -> Self {
        let mut entities = Self::new(max);
        entities.draw = saved.draw;
        for entity in saved.all {
            entities.push(entity);
        }
        entities
    }

    pub(crate) fn get(&self, place: u32) -> Option<&Entity> {
        self.all.get(place as usize)
    }

    pub(crate) fn get_mut(&mut self, place: u32) -> Option<&mut Entity> {
        self.all.get_mut(place as usize)
    }

    pub(crate) fn find(&self, key: &Key) -> Option<u32> {
        let all = &self.all;
        let is_key = |place: &u32| all.get(*place as usize).is_some_and(|entity| entity.key == *key);
        self.index.find(key.hash(&self.hasher), is_key).copied()
    }

    /// The entity's place, admitted with an empty window at `bucket` if it is new; `None` if there is no room for it.
    pub(crate) fn find_or_admit(&mut self, key: &Key, bucket: Bucket) -> Option<u32> {
        if let Some(place) = self.find(key) {
            return Some(place);
        }
        let window = Window::starting_at(bucket);
        let entity = Entity { key: *key, window, baseline: Baseline::default(), episode: NO_EPISODE };
        if self.all.len() < self.max {
            return Some(self.push(entity));
        }
        let place = self.candidate()?;
        self.replace(place, entity);
        Some(place)
    }

    #[expect(clippy::cast_possible_truncation, reason = "`max` is at most 2^31")]
    fn push(&mut self, entity: Entity) -> u32 {
        if self.all.len() == self.all.capacity() {
            // A quarter, not double: half of the memory would lie idle right after growing.
            self.all.reserve_exact((self.all.len() / 4).max(1024));
        }
        let place = self.all.len() as u32;
        self.count(entity.key.kind, 1);
        self.all.push(entity);
        self.link(place);
        place
    }

    fn link(&mut self, place: u32) {
        let (all, hasher) = (&self.all, &self.hasher);
        let hash_at = |place: &u32| all.get(*place as usize).map_or(0, |entity| entity.key.hash(hasher));
        self.index.insert_unique(hash_at(&place), place, hash_at);
    }

    fn count(&mut self, kind: EntityKind, by: i64) {
        if let Some(count) = self.counts.get_mut(kind as usize) {
            *count = count.saturating_add_signed(by);
        }
    }

    /// The least valuable of a few drawn ones without an open episode.
    #[expect(clippy::cast_possible_truncation, reason = "places are below `max`, at most 2^31")]
    fn candidate(&mut self) -> Option<u32> {
        let mut best: Option<(u64, Bucket, usize)> = None;
        for _ in 0..EVICTION_CANDIDATES {
            // Knuth's generator for a linear congruence; its upper bits choose the place.
            self.draw = self.draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let place = ((self.draw >> 32) as usize * self.all.len()) >> 32;
            let Some(entity) = self.all.get(place) else { continue };
            if entity.episode().is_some() {
                continue;
            }
            let (value, newest) = entity.value();
            if best.is_none_or(|(least, oldest, _)| (value, newest) < (least, oldest)) {
                best = Some((value, newest, place));
            }
        }
        best.map(|(_, _, place)| place as u32)
    }

    fn replace(&mut self, place: u32, entity: Entity) {
        let Some(old) = self.all.get(place as usize).map(|old| old.key) else { return };
        if let Ok(found) = self.index.find_entry(old.hash(&self.hasher), |other| *other == place) {
            found.remove();
        }
        if let Some(evicted) = self.evictions.get_mut(old.kind as usize) {
            *evicted += 1;
        }
        self.count(old.kind, -1);
        self.count(entity.key.kind, 1);
        if let Some(slot) = self.all.get_mut(place as usize) {
            *slot = entity;
        }
        self.link(place);
    }

    /// Entities of each kind, and how many were evicted so far.
    pub(crate) fn counts(&self) -> [(EntityKind, u64, u64); EntityKind::ALL.len()] {
        let at = |counts: &[u64], kind: EntityKind| counts.get(kind as usize).copied().unwrap_or(0);
        EntityKind::ALL.map(|kind| (kind, at(&self.counts, kind), at(&self.evictions, kind)))
    }

    /// Bytes per entity, with the share of the slack that growing leaves.
    pub(crate) fn bytes_per_entity(&self) -> u64 {
        let allocated = self.all.capacity() * size_of::<Entity>() + self.index.capacity() * 8 / 7 * 5;
        (allocated / self.all.len().max(1)).max(ENTITY_BYTES) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn key(number: u32) -> Key {
        Key::address(0, Address::of(Ipv4Addr::from_bits(number).into()))
    }

    #[test]
    fn an_entity_is_small() {
        assert!(size_of::<Entity>() <= 144, "{}", size_of::<Entity>());
        let mut entities = Entities::new(1_000_000);
        for number in 0..300_000 {
            entities.find_or_admit(&key(number), 7);
        }
        assert!(entities.bytes_per_entity() < 200, "{}", entities.bytes_per_entity());
    }

    #[test]
    fn a_full_table_forgets_the_least_valuable_and_never_an_open_episode() {
        let mut entities = Entities::new(1000);
        for number in 0..1000 {
            let place = entities.find_or_admit(&key(number), 100).unwrap();
            let entity = entities.get_mut(place).unwrap();
            if number < 10 {
                for who in 0..5 {
                    entity.window.add_failure(100, who, 0);
                }
            }
            if number == 999 {
                entity.set_episode(Some(3));
            }
        }
        for number in 1000..51_000 {
            let place = entities.find_or_admit(&key(number), 100).unwrap();
            entities.get_mut(place).unwrap().window.add_failure(100, 1, 0);
        }
        for number in (0..10).chain([999]) {
            assert!(entities.find(&key(number)).is_some(), "{number} must have survived the flood");
        }
        assert_eq!(entities.counts()[EntityKind::Ip as usize], (EntityKind::Ip, 1000, 50_000));
    }

    #[test]
    fn a_restored_table_goes_on_like_the_saved_one() {
        let mut entities = Entities::new(64);
        for number in 0..200 {
            entities.find_or_admit(&key(number % 97), 100 + number);
        }
        let mut restored = Entities::restore(entities.save(), 64);
        for number in 0..200 {
            let place = entities.find_or_admit(&key(number % 101), 400 + number);
            assert_eq!(place, restored.find_or_admit(&key(number % 101), 400 + number));
        }
        assert_eq!(entities.all, restored.all);
    }

    #[test]
    fn neighbouring_addresses_set_different_bits() {
        let bits: std::collections::HashSet<u64> = (0..256).map(|number| key(number).bits() & 63).collect();
        assert!(bits.len() > 50, "{}", bits.len());
    }
}
