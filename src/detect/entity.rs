//! Whom the detector knows: a bounded table of entities behind a doorkeeper.
//!
//! Invariant: at most `max` entities; when full, the least valuable of a few candidates makes room, and one with an open
//! episode never does. A key is admitted at its second contact within a day, and nothing of the first is lost (`cold`). An
//! attacker who floods the table with addresses used once displaces other addresses used once, not the slow attack that
//! has already failed five times.
//!
//! Entities lie in one vector in order of admission (an evicted one's place is reused), so a snapshot is that vector and
//! nothing depends on the order of a hash table.

use hashbrown::HashTable;
use serde::{Deserialize, Serialize};

use super::baseline::Baseline;
use super::cold::{self, Cold, Contact};
use super::key::{Counter, Key};
use super::window::{Bucket, Unit, Window};

/// Candidates looked at to find one to evict: enough to miss the valuable ones, few enough to cost nothing.
const EVICTION_CANDIDATES: usize = 8;
/// The table grows by this share, so that little of it lies idle.
const GROWTH: usize = 32;
/// Bytes one entity takes at most: its record, the table's slack, and its place in the index right after that has doubled.
pub(crate) const ENTITY_BYTES: usize = size_of::<Entity>() + size_of::<Entity>() / GROWTH + 12;

/// What is kept of one entity: 112 bytes with its key.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entity {
    id: u64,
    pub(crate) window: Window,
    pub(crate) baseline: Baseline,
    tenant: u16,
    counter: Counter,
    flags: u8,
}

/// An episode of this entity is open or lingers.
const IN_EPISODE: u8 = 1;
/// Somebody has signed in there.
const HAS_SUCCEEDED: u8 = 2;

impl Entity {
    fn new(key: &Key, bucket: Bucket) -> Self {
        Self {
            id: key.id,
            window: Window::starting_at(bucket),
            baseline: Baseline::default(),
            tenant: key.tenant,
            counter: key.counter,
            flags: 0,
        }
    }

    pub(crate) const fn key(&self) -> Key {
        Key { id: self.id, tenant: self.tenant, counter: self.counter }
    }

    /// What its day counts.
    pub(crate) const fn unit(&self) -> Unit {
        unit(self.counter)
    }

    /// Whether an episode of it is open, or closed less than an hour ago.
    pub(crate) const fn is_in_episode(&self) -> bool {
        self.flags & IN_EPISODE != 0
    }

    pub(crate) fn set_in_episode(&mut self, holds: bool) {
        self.set(IN_EPISODE, holds);
    }

    /// Whether anybody ever signed in there: only such entities teach the tenant what is normal.
    pub(crate) const fn has_succeeded(&self) -> bool {
        self.flags & HAS_SUCCEEDED != 0
    }

    pub(crate) fn set_has_succeeded(&mut self) {
        self.set(HAS_SUCCEEDED, true);
    }

    fn set(&mut self, flag: u8, holds: bool) {
        self.flags = if holds { self.flags | flag } else { self.flags & !flag };
    }

    /// What would be lost: recent failures, then those of the day, then learned history; the time last seen breaks ties.
    fn value(&self) -> (u64, Bucket) {
        let (recent, day) = (self.window.distinct(), self.window.day().distinct);
        (recent * 4 + day * 2 + u64::from(self.baseline.is_learned()), self.window.newest())
    }
}

/// What the day of a counter counts.
pub(crate) const fn unit(counter: Counter) -> Unit {
    if counter.is_account() { Unit::Each } else { Unit::Independent }
}

/// The table.
#[derive(Clone, Debug)]
pub(crate) struct Entities {
    all: Vec<Entity>,
    index: HashTable<u32>,
    cold: Cold,
    /// State of the generator that chooses candidates for eviction: part of the state, so that a replay evicts alike.
    draw: u64,
    max: usize,
    counts: [u64; Counter::COUNT],
    evictions: [u64; Counter::COUNT],
}

/// What a snapshot keeps of the table.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Saved {
    all: Vec<Entity>,
    cold: cold::Saved,
    draw: u64,
}

impl Entities {
    /// A table that takes at most `bytes` for entities and `cold_bytes` for those met once.
    pub(crate) fn new(bytes: usize, cold_bytes: usize) -> Self {
        Self {
            all: Vec::new(),
            index: HashTable::new(),
            cold: Cold::new(cold_bytes),
            draw: 0,
            max: (bytes / ENTITY_BYTES).clamp(EVICTION_CANDIDATES, u32::MAX as usize / 2),
            counts: [0; Counter::COUNT],
            evictions: [0; Counter::COUNT],
        }
    }

    pub(crate) fn save(&self) -> Saved {
        Saved { all: self.all.clone(), cold: self.cold.save(), draw: self.draw }
    }

    pub(crate) fn restore(saved: Saved, bytes: usize, cold_bytes: usize) -> Self {
        let mut entities = Self::new(bytes, cold_bytes);
        entities.cold = Cold::restore(saved.cold, cold_bytes);
        entities.draw = saved.draw;
        for entity in saved.all {
            // Under a bound lowered since, the rest has to make room like anybody else.
            if entities.all.len() < entities.max {
                entities.push(entity);
            } else if let Some(place) = entities.candidate() {
                entities.replace(place, entity);
            }
        }
        entities
    }

    /// Entities the table holds at most.
    pub(crate) fn max(&self) -> usize {
        self.max
    }

    pub(crate) fn get(&self, place: u32) -> Option<&Entity> {
        self.all.get(place as usize)
    }

    pub(crate) fn get_mut(&mut self, place: u32) -> Option<&mut Entity> {
        self.all.get_mut(place as usize)
    }

    /// The place of the entity with `key` and this `hash`.
    pub(crate) fn find(&self, key: &Key, hash: u64) -> Option<u32> {
        let all = &self.all;
        let is_key = |place: &u32| all.get(*place as usize).is_some_and(|entity| entity.key() == *key);
        self.index.find(hash, is_key).copied()
    }

    /// A key that is not in the table does `contact`. Answers its place if this was the second contact and there is room
    /// for it; the first is then in its window, the second not yet.
    pub(crate) fn meet(&mut self, key: &Key, hash: u64, contact: Contact, now: Bucket) -> Option<u32> {
        let first = self.cold.meet(hash, contact, now)?;
        let mut entity = Entity::new(key, first.bucket);
        if first.failure {
            entity.window.add_failure(first.bucket, first.who, first.spread, entity.unit());
        } else {
            entity.set_has_succeeded();
            entity.window.add_success(first.bucket, first.who, first.spread & 1 == 1);
        }
        if self.all.len() < self.max {
            return Some(self.push(entity));
        }
        let place = self.candidate()?;
        self.replace(place, entity);
        Some(place)
    }

    /// The entity `from` is known as `to` from now on, with all that was counted. Both are of one counter.
    pub(crate) fn rename(&mut self, from: &Key, to: &Key) {
        let Some(place) = self.find(from, from.hash()) else { return };
        if let Ok(found) = self.index.find_entry(from.hash(), |other| *other == place) {
            found.remove();
        }
        if let Some(entity) = self.all.get_mut(place as usize) {
            entity.id = to.id;
        }
        self.link(place);
    }

    #[expect(clippy::cast_possible_truncation, reason = "`max` is below 2^31")]
    fn push(&mut self, entity: Entity) -> u32 {
        if self.all.len() == self.all.capacity() {
            self.all.reserve_exact((self.all.len() / GROWTH).max(64).min(self.max - self.all.len()));
        }
        let place = self.all.len() as u32;
        self.count(entity.counter, 1);
        self.all.push(entity);
        self.link(place);
        place
    }

    fn link(&mut self, place: u32) {
        let all = &self.all;
        let hash_at = |place: &u32| all.get(*place as usize).map_or(0, |entity| entity.key().hash());
        self.index.insert_unique(hash_at(&place), place, hash_at);
    }

    fn count(&mut self, counter: Counter, by: i64) {
        if let Some(count) = self.counts.get_mut(counter as usize) {
            *count = count.saturating_add_signed(by);
        }
    }

    /// The least valuable of a few drawn ones without an open episode.
    #[expect(clippy::cast_possible_truncation, reason = "places are below `max`, which is below 2^31")]
    fn candidate(&mut self) -> Option<u32> {
        let mut best: Option<(u64, Bucket, usize)> = None;
        for _ in 0..EVICTION_CANDIDATES {
            // Knuth's generator for a linear congruence; its upper bits choose the place.
            self.draw = self.draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let place = ((self.draw >> 32) as usize * self.all.len()) >> 32;
            let Some(entity) = self.all.get(place) else { continue };
            if entity.is_in_episode() {
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
        let Some(old) = self.all.get(place as usize).map(Entity::key) else { return };
        if let Ok(found) = self.index.find_entry(old.hash(), |other| *other == place) {
            found.remove();
        }
        if let Some(evicted) = self.evictions.get_mut(old.counter as usize) {
            *evicted += 1;
        }
        self.count(old.counter, -1);
        self.count(entity.counter, 1);
        if let Some(slot) = self.all.get_mut(place as usize) {
            *slot = entity;
        }
        self.link(place);
    }

    /// Entities under `counter`, and how many were evicted so far.
    pub(crate) fn counts(&self, counter: Counter) -> (u64, u64) {
        let at = |counts: &[u64]| counts.get(counter as usize).copied().unwrap_or(0);
        (at(&self.counts), at(&self.evictions))
    }

    /// First contacts forgotten while they were still in a window.
    pub(crate) fn overwritten(&self) -> u64 {
        self.cold.overwritten()
    }

    /// Bytes per entity as allocated now, with the slack of table and index.
    pub(crate) fn bytes_per_entity(&self) -> u64 {
        // The index has a place of 4 bytes and a control byte for every 7/8 of an entry it can take.
        let allocated = self.all.capacity() * size_of::<Entity>() + self.index.capacity() * 8 / 7 * 5;
        (allocated / self.all.len().max(1)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Address;
    use std::net::Ipv4Addr;

    fn key(number: u32) -> Key {
        Key::address(0, Address::of(Ipv4Addr::from_bits(number).into()))
    }

    fn contact(bucket: Bucket) -> Contact {
        Contact { bucket, failure: false, who: 1, spread: 1 }
    }

    /// Found or, after as many contacts as it takes, admitted.
    fn known(entities: &mut Entities, number: u32, bucket: Bucket) -> Option<u32> {
        let key = key(number);
        let hash = key.hash();
        entities
            .find(&key, hash)
            .or_else(|| entities.meet(&key, hash, contact(bucket), bucket))
            .or_else(|| entities.meet(&key, hash, contact(bucket), bucket))
    }

    #[test]
    fn an_entity_is_small_at_every_size_of_the_table() {
        assert_eq!(size_of::<Entity>(), 112);
        let mut entities = Entities::new(1 << 30, 1 << 20);
        for number in 0..300_000 {
            known(&mut entities, number, 7);
            if number > 10_000 && number % 997 == 0 {
                assert!(entities.bytes_per_entity() <= 128, "{number}: {}", entities.bytes_per_entity());
            }
        }
    }

    #[test]
    fn a_second_contact_is_admitted_and_brings_the_first_along() {
        let mut entities = Entities::new(1 << 20, 1 << 12);
        let failure = |bucket, who| Contact { bucket, failure: true, who, spread: 0 };
        assert_eq!(entities.meet(&key(1), key(1).hash(), failure(100, 5), 100), None);
        let place = entities.meet(&key(1), key(1).hash(), failure(104, 6), 104).unwrap();
        assert_eq!(entities.find(&key(1), key(1).hash()), Some(place));
        let window = entities.get(place).unwrap().window;
        assert_eq!((window.newest(), window.generations().failures), (100, 1));
    }

    #[test]
    fn a_full_table_forgets_the_least_valuable_and_never_an_open_episode() {
        let mut entities = Entities::new(1000 * ENTITY_BYTES, 1 << 12);
        for number in 0..1000 {
            let place = known(&mut entities, number, 100).unwrap();
            let entity = entities.get_mut(place).unwrap();
            if number < 10 {
                for who in 0..5 {
                    entity.window.add_failure(100, who, 0, Unit::Independent);
                }
            }
            entity.set_in_episode(number == 999);
        }
        for number in 1000..51_000 {
            let place = known(&mut entities, number, 100).unwrap();
            entities.get_mut(place).unwrap().window.add_failure(100, 1, 0, Unit::Independent);
        }
        for number in (0..10).chain([999]) {
            assert!(entities.find(&key(number), key(number).hash()).is_some(), "{number} must have survived the flood");
        }
        assert_eq!(entities.counts(Counter::Address), (1000, 50_000));
    }

    #[test]
    fn a_restored_table_goes_on_like_the_saved_one() {
        let bytes = 64 * ENTITY_BYTES;
        let mut entities = Entities::new(bytes, 1 << 10);
        for number in 0..200 {
            known(&mut entities, number % 97, 100 + number);
        }
        let mut restored = Entities::restore(entities.save(), bytes, 1 << 10);
        for number in 0..200 {
            let place = known(&mut entities, number % 101, 400 + number);
            assert_eq!(place, known(&mut restored, number % 101, 400 + number));
        }
        assert_eq!(entities.all, restored.all);
        let smaller = Entities::restore(entities.save(), bytes / 2, 1 << 10);
        assert_eq!(smaller.all.len(), 32);
    }
}
