//! Who failed a moment ago from where nobody signs in, and may get in yet.
//!
//! A person away from home mistypes and then gets in; an attacker's list does not. So a failure from a strange network that
//! the same account follows with a success from a strange network is taken back: what is left of the count is mostly
//! attack, and an attack stands out of it that is five times smaller.
//!
//! Invariant: of fixed size, half a megabyte. An entry that another displaces, in a large attack, is a failure that is not
//! taken back: the count errs upwards.

use serde::{Deserialize, Serialize};

use crate::event::Timestamp;

/// Places; at one failure a second from strange networks, a quarter of an hour fills one in seventy.
const PLACES: usize = 1 << 16;
/// Places an account can take, side by side: with one alone, a twentieth of a large attack would displace each other.
const WAYS: usize = 4;
/// Whoever has not got in after so many minutes has given up.
const MINUTES: u32 = 15;
/// Bits of an entry that hold its minute; the rest are the account's.
const MINUTE_BITS: u32 = 20;
const MINUTE_MASK: u64 = (1 << MINUTE_BITS) - 1;

/// The table: accounts by their hash.
#[derive(Clone, Debug)]
pub(crate) struct Mistyped {
    places: Vec<u64>,
}

/// What a snapshot keeps: the entries that still count.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Saved(Vec<(u32, u64)>);

impl Default for Mistyped {
    fn default() -> Self {
        Self { places: vec![0; PLACES] }
    }
}

impl Mistyped {
    /// The account with this `hash` failed.
    pub(crate) fn fail(&mut self, hash: u64, at: Timestamp) {
        let new = entry(hash, at);
        let Some(set) = self.set(hash) else { return };
        let place = match set.iter().position(|word| is_of(*word, new)) {
            Some(place) => Some(place),
            // An empty place is older than any.
            None => (0..WAYS).max_by_key(|place| set.get(*place).map_or(0, |word| age(*word, new))),
        };
        if let Some(place) = place.and_then(|place| set.get_mut(place)) {
            *place = new;
        }
    }

    fn set(&mut self, hash: u64) -> Option<&mut [u64]> {
        // The upper bits choose the set, the lower ones are in the entry.
        let first = usize::try_from(hash >> 50).unwrap_or(0) * WAYS;
        self.places.get_mut(first..first + WAYS)
    }

    /// The account with this `hash` got in; answers whether it had failed in the last quarter of an hour, once.
    pub(crate) fn redeem(&mut self, hash: u64, at: Timestamp) -> bool {
        let now = entry(hash, at);
        let Some(set) = self.set(hash) else { return false };
        let theirs = set.iter_mut().find(|word| is_of(**word, now) && age(**word, now) <= u64::from(MINUTES));
        theirs.is_some_and(|place| std::mem::replace(place, 0) != 0)
    }

    /// Nothing is known of the account with this `hash`.
    pub(crate) fn forget(&mut self, hash: u64) {
        let theirs = entry(hash, Timestamp(0));
        for word in self.set(hash).into_iter().flatten().filter(|word| is_of(**word, theirs)) {
            *word = 0;
        }
    }

    pub(crate) fn save(&self, now: Timestamp) -> Saved {
        let fresh = |word: u64| entry(0, now).wrapping_sub(word) & MINUTE_MASK <= u64::from(MINUTES);
        Saved(
            (0..)
                .zip(&self.places)
                .filter(|(_, word)| **word != 0 && fresh(**word))
                .map(|(at, word)| (at, *word))
                .collect(),
        )
    }

    pub(crate) fn restore(saved: Saved) -> Self {
        let mut mistyped = Self::default();
        for (at, word) in saved.0 {
            if let Some(place) = mistyped.places.get_mut(at as usize) {
                *place = word;
            }
        }
        mistyped
    }
}

fn is_of(word: u64, entry: u64) -> bool {
    word >> MINUTE_BITS == entry >> MINUTE_BITS
}

/// Minutes from one entry to a later one; more than any for an empty place.
fn age(word: u64, later: u64) -> u64 {
    if word == 0 { u64::MAX } else { later.wrapping_sub(word) & MINUTE_MASK }
}

/// Never 0: the marking bit keeps an entry apart from an empty place.
fn entry(hash: u64, at: Timestamp) -> u64 {
    let minute = u64::try_from(at.0 / 60_000).unwrap_or(0) & MINUTE_MASK;
    (hash << MINUTE_BITS | 1 << MINUTE_BITS) & !MINUTE_MASK | minute
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> Timestamp {
        Timestamp(1_767_600_000_000 + minutes * 60_000)
    }

    const ANNA: u64 = 0x1234_5678_9abc_def1;
    const BERT: u64 = 0x1234_0000_0000_0003;

    #[test]
    fn whoever_failed_and_gets_in_is_told_once() {
        let mut mistyped = Mistyped::default();
        mistyped.fail(ANNA, at(0));
        assert!(!mistyped.redeem(BERT, at(1)), "the same place, another account");
        assert!(mistyped.redeem(ANNA, at(3)));
        assert!(!mistyped.redeem(ANNA, at(3)));
    }

    #[test]
    fn of_five_in_one_set_the_oldest_gives_way() {
        let mut mistyped = Mistyped::default();
        let account = |number: u64| 0x1234 << 48 | number << 4 | 3;
        (0..5).for_each(|number| mistyped.fail(account(number), at(i64::try_from(number).unwrap())));
        let told: Vec<bool> = (0..5).map(|number| mistyped.redeem(account(number), at(5))).collect();
        assert_eq!(told, [false, true, true, true, true]);
    }

    #[test]
    fn after_a_quarter_of_an_hour_it_is_another_story() {
        let mut mistyped = Mistyped::default();
        mistyped.fail(ANNA, at(0));
        assert!(!mistyped.redeem(ANNA, at(16)));
        mistyped.fail(ANNA, at(0));
        let restored = Mistyped::restore(mistyped.save(at(5)));
        assert!(restored.clone().redeem(ANNA, at(15)));
        assert!(!Mistyped::restore(mistyped.save(at(20))).redeem(ANNA, at(15)), "not worth keeping");
    }
}
