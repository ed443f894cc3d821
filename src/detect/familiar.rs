//! Who has signed in before, from where and with what: membership over the last month.
//!
//! Invariant: bounded by the entries given; a member is remembered for at least 30 days after it was last added unless the
//! set had to turn over early, which [`Familiar::span`] says. Forgetting makes a sign-in look new, never the other way.
//!
//! Two generations of 64-bit words; when the current one is 30 days old or full, it becomes the previous one. An account is
//! 40 bits of its hash (of three million accounts, three in a million strangers are taken for one of them) and a bit for
//! each kind of device it was used with, so that both cost one look-up and no further memory.

use std::hash::{BuildHasher, Hasher};

use hashbrown::{HashSet, HashTable};
use serde::{Deserialize, Serialize};

use super::device::Device;
use crate::event::Timestamp;

/// How long a member is remembered at least.
const GENERATION_MILLIS: i64 = 30 * 86_400_000;
/// Bytes one entry takes in the worst moment, right after its table has doubled.
const ENTRY_BYTES: usize = 20;

/// A set of hashes with a month's memory.
#[derive(Clone, Debug)]
pub(crate) struct Familiar {
    current: Generation,
    previous: Generation,
    since: Timestamp,
    span: i64,
    max: usize,
}

/// Whoever was met within one generation.
#[derive(Clone, Debug, Default)]
struct Generation {
    members: HashSet<u64, Unmixed>,
    accounts: HashTable<u64>,
}

/// What a snapshot keeps, sorted, so that equal sets give equal bytes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Saved {
    current: SavedGeneration,
    previous: SavedGeneration,
    since: Timestamp,
    span: i64,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedGeneration {
    members: Vec<u64>,
    accounts: Vec<u64>,
}

impl Generation {
    fn len(&self) -> usize {
        self.members.len() + self.accounts.len()
    }

    fn devices(&self, account: u64) -> Option<u64> {
        self.accounts.find(hash_of(account), |word| is_of(*word, account)).map(|word| word & DEVICES)
    }

    fn meet(&mut self, account: u64, device: Option<Device>) {
        let device = device.map_or(0, Device::bit);
        if let Some(word) = self.accounts.find_mut(hash_of(account), |word| is_of(*word, account)) {
            *word |= device;
        } else {
            let word = account & !DEVICES | device;
            self.accounts.insert_unique(hash_of(account), word, |word| hash_of(*word));
        }
    }

    fn save(&self) -> SavedGeneration {
        let sorted = |all: &mut dyn Iterator<Item = u64>| {
            let mut all: Vec<u64> = all.collect();
            all.sort_unstable();
            all
        };
        SavedGeneration {
            members: sorted(&mut self.members.iter().copied()),
            accounts: sorted(&mut self.accounts.iter().copied()),
        }
    }

    fn restore(saved: SavedGeneration) -> Self {
        let mut generation = Self { members: saved.members.into_iter().collect(), accounts: HashTable::new() };
        for word in saved.accounts {
            generation.accounts.insert_unique(hash_of(word), word, |word| hash_of(*word));
        }
        generation
    }
}

/// The bits of an account's word that are its devices.
const DEVICES: u64 = (1 << Device::KINDS) - 1;

fn is_of(word: u64, account: u64) -> bool {
    (word ^ account) & !DEVICES == 0
}

/// The table takes places from the lower bits and tells neighbours apart by the upper ones; the lowest are devices.
fn hash_of(word: u64) -> u64 {
    (word >> Device::KINDS) ^ (word & !DEVICES)
}

impl Familiar {
    /// An empty set that never takes more than `bytes`.
    pub(crate) fn new(bytes: usize) -> Self {
        Self {
            current: Generation::default(),
            previous: Generation::default(),
            since: Timestamp(0),
            span: GENERATION_MILLIS,
            max: (bytes / ENTRY_BYTES / 2).max(1),
        }
    }

    pub(crate) fn contains(&self, hash: u64) -> bool {
        self.current.members.contains(&hash) || self.previous.members.contains(&hash)
    }

    /// Whether the account with this hash has signed in before, and then whether it has with such a device.
    pub(crate) fn knows(&self, account: u64, device: Device) -> Option<bool> {
        let now = self.current.devices(account);
        if now.is_some_and(|devices| devices & device.bit() != 0) {
            return Some(true);
        }
        let before = self.previous.devices(account);
        let either = now.unwrap_or(0) | before.unwrap_or(0);
        now.or(before).map(|_| either & device.bit() != 0)
    }

    /// Remembers `hash` from event time `at` on.
    pub(crate) fn add(&mut self, hash: u64, at: Timestamp) {
        self.turn(at);
        self.current.members.insert(hash);
    }

    /// Remembers that the account with this hash was used, with `device` if that is its owner's.
    pub(crate) fn meet(&mut self, account: u64, device: Option<Device>, at: Timestamp) {
        self.turn(at);
        self.current.meet(account, device);
    }

    /// Nobody has ever met the account with this hash. (Where it signed in from is known by hashes that nobody can ask for
    /// without it; they go with their generation.)
    pub(crate) fn forget(&mut self, account: u64) {
        for generation in [&mut self.current, &mut self.previous] {
            if let Ok(met) = generation.accounts.find_entry(hash_of(account), |word| is_of(*word, account)) {
                met.remove();
            }
        }
    }

    /// Begins a new generation if it is time.
    fn turn(&mut self, at: Timestamp) {
        let age = at.millis_since(self.since);
        if age >= GENERATION_MILLIS || self.current.len() >= self.max {
            self.span = age.min(GENERATION_MILLIS);
            self.previous = std::mem::take(&mut self.current);
            self.since = at;
        }
    }

    /// Members.
    pub(crate) fn len(&self) -> usize {
        self.current.len() + self.previous.len()
    }

    /// Milliseconds a member is remembered for at least, by the last turn-over.
    pub(crate) fn span(&self) -> i64 {
        self.span
    }

    pub(crate) fn save(&self) -> Saved {
        Saved { current: self.current.save(), previous: self.previous.save(), since: self.since, span: self.span }
    }

    pub(crate) fn restore(saved: Saved, bytes: usize) -> Self {
        Self {
            current: Generation::restore(saved.current),
            previous: Generation::restore(saved.previous),
            since: saved.since,
            span: saved.span,
            ..Self::new(bytes)
        }
    }
}

/// The members are hashes already.
#[derive(Clone, Copy, Debug, Default)]
struct Unmixed;

struct Identity(u64);

impl BuildHasher for Unmixed {
    type Hasher = Identity;

    fn build_hasher(&self) -> Identity {
        Identity(0)
    }
}

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;

    #[test]
    fn a_member_is_remembered_for_a_month_and_forgotten_after_two() {
        let mut familiar = Familiar::new(1 << 20);
        familiar.add(1, Timestamp(0));
        for day in 0..=60 {
            familiar.add(1000, Timestamp(day * DAY));
            assert_eq!(familiar.contains(1), day < 60, "day {day}");
        }
        assert!(familiar.contains(1000));
    }

    #[test]
    fn it_stays_in_its_bound_and_says_how_far_back_it_reaches() {
        let mut familiar = Familiar::new(20 * 2 * 1000);
        for number in 0..100_000 {
            familiar.add(number, Timestamp(i64::try_from(number).unwrap() * 1000));
            assert!(familiar.len() <= 2000);
        }
        assert!(familiar.contains(99_999) && familiar.contains(99_000) && !familiar.contains(90_000));
        assert_eq!(familiar.span(), 1000 * 1000);
    }

    #[test]
    fn a_restored_set_is_the_saved_one() {
        let mut familiar = Familiar::new(20 * 2 * 10);
        (0..12).for_each(|number| familiar.add(number, Timestamp(0)));
        (0..3).for_each(|number| familiar.meet(number << 40, Some(Device::of(Some("a"))), Timestamp(0)));
        let restored = Familiar::restore(familiar.save(), 20 * 2 * 10);
        assert!((0..12).all(|number| restored.contains(number)));
        assert!((0..3).all(|number| restored.knows(number << 40, Device::of(Some("a"))) == Some(true)));
        assert_eq!(postcard::to_allocvec(&restored.save()).unwrap(), postcard::to_allocvec(&familiar.save()).unwrap());
    }

    #[test]
    fn an_account_is_known_with_every_device_it_was_used_with_for_as_long_as_it_is_known() {
        let [phone, laptop, other] = ["phone", "laptop", "Other/1.0"].map(|agent| Device::of(Some(agent)));
        let mut familiar = Familiar::new(1 << 20);
        let account = 0x1234_5678_9abc_def0;
        assert_eq!(familiar.knows(account, phone), None);
        familiar.meet(account, Some(phone), Timestamp(0));
        familiar.meet(account, Some(laptop), Timestamp(31 * DAY));
        assert_eq!(
            [phone, laptop, other].map(|device| familiar.knows(account, device)),
            [Some(true), Some(true), Some(false)]
        );
        assert_eq!(familiar.knows(account ^ 1 << 24, phone), None, "somebody else");
        familiar.add(1, Timestamp(62 * DAY));
        assert_eq!(familiar.knows(account, phone), Some(false), "not seen for two months");
        assert_eq!(familiar.len(), 2);
    }

    #[test]
    fn accounts_spread_over_the_table() {
        let mut familiar = Familiar::new(1 << 24);
        for number in 0..100_000_u64 {
            let account = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            familiar.meet(account, None, Timestamp(0));
        }
        assert_eq!(familiar.len(), 100_000);
    }
}
