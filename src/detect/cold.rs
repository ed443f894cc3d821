//! Who was met once: the doorkeeper before the table of entities.
//!
//! Most addresses of a botnet of proxies, and most homes, are seen once. A full record for each would fill the memory with
//! what never matters, so a first contact leaves 8 bytes here and only a second one within a day is admitted. Those 8 bytes
//! say all that the first contact would have counted, so nothing of it is lost.
//!
//! Invariant: the size is fixed; when the eight places a key can take are full, the oldest contact is forgotten and, if it
//! was still inside a window, counted as [`Cold::overwritten`]: the blind spot.

use serde::{Deserialize, Serialize};

use super::window::{Bucket, SLOT_SECONDS, SLOTS};

/// Places one key can take: one cache line.
const WAYS: usize = 8;
/// Buckets after which a contact has left every window.
const REMEMBERED: u32 = SLOTS * SLOT_SECONDS / 30;

const BUCKET_BITS: u32 = 22;
const SPREAD_BITS: u32 = 5;
const WHO_BITS: u32 = 11;
/// What is left of 64 bits for the key: a wrong match, which admits a stranger one contact early, has a chance of 8 in 2^25.
const KEY_BITS: u32 = 64 - BUCKET_BITS - SPREAD_BITS - WHO_BITS - 1;

/// The first thing an entity did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Contact {
    /// When.
    pub(crate) bucket: Bucket,
    /// Whether it was a failure; else a success.
    pub(crate) failure: bool,
    /// The bits of its member that the window's sketches use, in their places.
    pub(crate) who: u64,
    /// See `who`; of a success, 1 if it earns credit.
    pub(crate) spread: u64,
}

/// One cache line of contacts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[repr(align(64))]
struct Line([u64; WAYS]);

/// The table.
#[derive(Clone, Debug)]
pub(crate) struct Cold {
    lines: Vec<Line>,
    overwritten: u64,
}

/// What a snapshot keeps: the lines that hold anything.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Saved {
    lines: Vec<(u32, Line)>,
    of: u32,
}

impl Cold {
    /// A table of at most `bytes`; at least one line.
    pub(crate) fn new(bytes: usize) -> Self {
        let lines = (bytes / size_of::<Line>()).max(1);
        // A power of two: the key's upper bits choose the line.
        let lines = if lines.is_power_of_two() { lines } else { lines.next_power_of_two() / 2 };
        Self { lines: vec![Line::default(); lines], overwritten: 0 }
    }

    pub(crate) fn save(&self) -> Saved {
        let held = (0..).zip(&self.lines).filter(|(_, line)| **line != Line::default());
        Saved { lines: held.map(|(at, line)| (at, *line)).collect(), of: u32::try_from(self.lines.len()).unwrap_or(0) }
    }

    /// The saved table, if it has the size `bytes` asks for; else an empty one, since places depend on the size.
    pub(crate) fn restore(saved: Saved, bytes: usize) -> Self {
        let mut cold = Self::new(bytes);
        if cold.lines.len() == saved.of as usize {
            for (at, line) in saved.lines {
                if let Some(slot) = cold.lines.get_mut(at as usize) {
                    *slot = line;
                }
            }
        }
        cold
    }

    /// Contacts forgotten while they were still in a window.
    pub(crate) fn overwritten(&self) -> u64 {
        self.overwritten
    }

    /// The key with this `hash` does `contact` at event time `now`. Answers its earlier contact, which is then forgotten
    /// here, or remembers this one.
    pub(crate) fn meet(&mut self, hash: u64, contact: Contact, now: Bucket) -> Option<Contact> {
        let lines = self.lines.len();
        #[expect(clippy::cast_possible_truncation, reason = "scaled to the number of lines")]
        let at = ((u128::from(hash) * lines as u128) >> 64) as usize;
        let Line(places) = self.lines.get_mut(at)?;
        // The lower bits: the upper ones chose the line.
        let key = hash & ((1 << KEY_BITS) - 1);
        let age = |word: u64| age_of(word, now);
        if let Some(word) = places.iter_mut().find(|word| **word != 0 && **word >> (64 - KEY_BITS) == key) {
            let earlier = unpack(*word, now);
            if age(*word) < REMEMBERED {
                *word = 0;
                return Some(earlier);
            }
            *word = pack(key, contact);
            return None;
        }
        let oldest = places.iter_mut().max_by_key(|word| if **word == 0 { u32::MAX } else { age(**word) })?;
        self.overwritten += u64::from(*oldest != 0 && age(*oldest) < REMEMBERED);
        *oldest = pack(key, contact);
        None
    }
}

fn pack(key: u64, contact: Contact) -> u64 {
    // The six bits of the generations' sketch, the five of the day's.
    let who = contact.who & 63 | (contact.who >> 32 & 31) << 6;
    let mut word = key;
    word = word << BUCKET_BITS | u64::from(contact.bucket) & ((1 << BUCKET_BITS) - 1);
    word = word << WHO_BITS | who;
    word = word << SPREAD_BITS | contact.spread & 31;
    word << 1 | u64::from(contact.failure)
}

/// Buckets since the contact; one of the future (a late reader) has age 0. Four years wrap around.
fn age_of(word: u64, now: Bucket) -> u32 {
    let mask = (1_u32 << BUCKET_BITS) - 1;
    let then = u32::try_from(word >> (1 + SPREAD_BITS + WHO_BITS) & u64::from(mask)).unwrap_or(0);
    let age = (now & mask).wrapping_sub(then) & mask;
    if age > mask / 2 { 0 } else { age }
}

fn unpack(word: u64, now: Bucket) -> Contact {
    let who = word >> (1 + SPREAD_BITS) & ((1 << WHO_BITS) - 1);
    Contact {
        bucket: now - age_of(word, now).min(now),
        failure: word & 1 == 1,
        who: who & 63 | (who >> 6) << 32,
        spread: word >> 1 & 31,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Bucket = 58_000_000;

    fn contact(bucket: Bucket, who: u64) -> Contact {
        Contact { bucket, failure: true, who: who & 63 | (who >> 6 & 31) << 32, spread: who & 31 }
    }

    /// The 64-bit mix of `MurmurHash3`.
    fn hash(mut number: u64) -> u64 {
        number ^= number >> 33;
        number = number.wrapping_mul(0xff51_afd7_ed55_8ccd);
        number ^= number >> 33;
        number = number.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        number ^ number >> 33
    }

    proptest! {
        #[test]
        fn the_second_contact_brings_back_the_first(key in any::<u64>(), back in 0..REMEMBERED, who in any::<u64>(), failure in any::<bool>()) {
            let mut cold = Cold::new(1 << 16);
            let first = Contact { failure, ..contact(NOW - back, who) };
            prop_assert_eq!(cold.meet(hash(key), first, NOW - back), None);
            prop_assert_eq!(cold.meet(hash(key), contact(NOW, 1), NOW), Some(first));
            prop_assert_eq!(cold.meet(hash(key), contact(NOW, 1), NOW), None, "told once");
        }
    }

    #[test]
    fn a_contact_a_day_old_is_forgotten_and_a_full_line_forgets_the_oldest() {
        let mut cold = Cold::new(1);
        assert_eq!(cold.meet(1, contact(NOW - REMEMBERED, 5), NOW - REMEMBERED), None);
        assert_eq!(cold.meet(1, contact(NOW, 5), NOW), None, "too long ago");
        for key in 2..=9 {
            assert_eq!(cold.meet(key, contact(NOW + 1, key), NOW + 1), None);
        }
        assert_eq!(cold.overwritten(), 1);
        assert_eq!(cold.meet(1, contact(NOW + 2, 5), NOW + 2), None, "the oldest made room");
        assert!(cold.meet(4, contact(NOW + 2, 4), NOW + 2).is_some());
    }

    #[test]
    fn strangers_are_seldom_taken_for_somebody() {
        let mut cold = Cold::new(1 << 20);
        let known = (0..1_000_000).filter(|number| cold.meet(hash(*number), contact(NOW, 1), NOW).is_some()).count();
        // A million strangers, eight comparisons each at 2^-25.
        assert!(known < 5, "{known}");
    }

    #[test]
    fn a_restored_table_knows_whom_the_saved_one_knew() {
        let mut cold = Cold::new(1 << 12);
        for number in 0..100 {
            cold.meet(hash(number), contact(NOW, number), NOW);
        }
        let mut restored = Cold::restore(cold.save(), 1 << 12);
        assert_eq!(restored.lines, cold.lines);
        assert_eq!(restored.meet(hash(3), contact(NOW, 0), NOW), Some(contact(NOW, 3)));
        assert_eq!(Cold::restore(cold.save(), 1 << 13).lines, Cold::new(1 << 13).lines, "another size");
    }
}
