//! Which ids the log holds: fingerprints of the last 28 hours or more, in bounded memory.
//!
//! Invariant: an id is remembered for at least [`SPAN_MILLIS`] unless more than the configured number arrive within it;
//! then the span shrinks, and the metric shows it. Two generations: the older one is dropped whole when the younger one
//! covers the span, which costs nothing per event.
//!
//! A fingerprint is 64 bits, so that of ten million held ids one in 10^12 new ones is taken for a duplicate.

use std::collections::HashSet;
use std::hash::Hasher;

use foldhash::fast::FixedState;
use siphasher::sip::SipHasher13;

use crate::event::{AuthEvent, Timestamp};

/// Svix retries for 27 h 35 min and some jitter.
pub(super) const SPAN_MILLIS: i64 = 28 * 3_600_000;

/// The fingerprint of an event's source and id. Fixed for ever: it is stored.
pub(super) fn fingerprint(event: &AuthEvent) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0x6175_7468_7370_696b, 0x6564_6564_7570_6531);
    hasher.write(event.source.as_str().as_bytes());
    hasher.write_u8(0);
    hasher.write(event.id.as_bytes());
    hasher.finish()
}

#[derive(Debug, Default)]
struct Generation {
    ids: HashSet<u64, FixedState>,
    since: Option<Timestamp>,
}

/// The window of ids.
#[derive(Debug)]
pub(super) struct IdWindow {
    current: Generation,
    previous: Generation,
    max_per_generation: usize,
}

impl IdWindow {
    pub(super) fn new(max_ids: usize) -> Self {
        Self { current: Generation::default(), previous: Generation::default(), max_per_generation: max_ids / 2 }
    }

    /// Whether the id is new; it is held from now on.
    pub(super) fn insert(&mut self, id: u64, now: Timestamp) -> bool {
        let since = *self.current.since.get_or_insert(now);
        if self.current.ids.len() >= self.max_per_generation || now.millis_since(since) >= SPAN_MILLIS {
            self.previous = std::mem::take(&mut self.current);
            self.current.since = Some(now);
        }
        !self.previous.ids.contains(&id) && self.current.ids.insert(id)
    }

    /// Forgets an id whose write failed.
    pub(super) fn remove(&mut self, id: u64) {
        self.current.ids.remove(&id);
        self.previous.ids.remove(&id);
    }

    /// Appends the window to `bytes`, for [`IdWindow::decode`].
    pub(super) fn encode(&self, bytes: &mut Vec<u8>) {
        for generation in [&self.previous, &self.current] {
            bytes.extend(generation.since.map_or(i64::MIN, |since| since.0).to_le_bytes());
            bytes.extend((generation.ids.len() as u64).to_le_bytes());
            generation.ids.iter().for_each(|id| bytes.extend(id.to_le_bytes()));
        }
    }

    /// The window at the beginning of `bytes`, and what follows it; `None` if that is none.
    pub(super) fn decode(bytes: &[u8], max_ids: usize) -> Option<(Self, &[u8])> {
        let mut window = Self::new(max_ids);
        let mut rest = bytes;
        for generation in [&mut window.previous, &mut window.current] {
            let (since, after) = rest.split_first_chunk()?;
            let (count, after) = after.split_first_chunk()?;
            let length = usize::try_from(u64::from_le_bytes(*count)).ok()?.checked_mul(size_of::<u64>())?;
            let (ids, after) = after.split_at_checked(length)?;
            let since = i64::from_le_bytes(*since);
            generation.since = (since != i64::MIN).then_some(Timestamp(since));
            generation.ids = ids.as_chunks().0.iter().map(|id| u64::from_le_bytes(*id)).collect();
            rest = after;
        }
        Some((window, rest))
    }

    /// How far back duplicates are recognised, in milliseconds; the full span as long as nothing was dropped early.
    pub(super) fn span_millis(&self, now: Timestamp) -> i64 {
        match self.previous.since {
            Some(since) => now.millis_since(since).min(SPAN_MILLIS),
            None => SPAN_MILLIS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    #[test]
    fn an_id_is_known_for_the_span_and_forgotten_within_two() {
        let mut window = IdWindow::new(1000);
        assert!(window.insert(1, Timestamp(0)));
        assert!(!window.insert(1, Timestamp(0)));
        for hour in 1..28 {
            assert!(window.insert(100 + u64::try_from(hour).unwrap(), Timestamp(hour * HOUR)));
            assert!(!window.insert(1, Timestamp(hour * HOUR)), "hour {hour}");
        }
        assert!(window.insert(200, Timestamp(28 * HOUR)), "the generations change here");
        assert!(!window.insert(1, Timestamp(55 * HOUR)));
        assert!(window.insert(1, Timestamp(57 * HOUR)), "two spans later it may be new again");
    }

    #[test]
    fn memory_is_bounded_and_the_span_tells() {
        let mut window = IdWindow::new(100);
        assert_eq!(window.span_millis(Timestamp(0)), SPAN_MILLIS);
        for id in 0..1000 {
            window.insert(id, Timestamp(i64::try_from(id).unwrap()));
        }
        assert!(window.current.ids.len() + window.previous.ids.len() <= 100);
        assert!(window.span_millis(Timestamp(1000)) <= 100);
        assert!(!window.insert(999, Timestamp(1000)));
    }

    #[test]
    fn it_goes_on_after_a_restart_as_it_was() {
        let mut window = IdWindow::new(100);
        for id in 0..70 {
            window.insert(id, Timestamp(i64::try_from(id).unwrap()));
        }
        let mut bytes = Vec::new();
        window.encode(&mut bytes);
        bytes.extend(b"rest");
        let (mut again, rest) = IdWindow::decode(&bytes, 100).unwrap();
        assert_eq!(rest, b"rest");
        assert_eq!(again.span_millis(Timestamp(70)), window.span_millis(Timestamp(70)));
        assert!(!again.insert(0, Timestamp(70)) && !again.insert(69, Timestamp(70)) && again.insert(70, Timestamp(70)));
        assert!(IdWindow::decode(&bytes[..bytes.len() - 5], 100).is_none(), "cut short");
    }

    #[test]
    fn a_removed_id_is_new_again() {
        let mut window = IdWindow::new(100);
        window.insert(7, Timestamp(0));
        window.remove(7);
        assert!(window.insert(7, Timestamp(0)));
    }
}
