//! What of the past may become what is normal?
//!
//! Invariant: nothing is learned of a bucket that is suspect when it closes, or that waits when an alarm goes up; and of the
//! others no more than a bounded multiple of what was expected of them. What that leaves to an attacker is at the head of
//! [`super`].

use super::bucket::{Closed, Open};
use super::drift::Drift;
use super::judge::{Limits, cold_expected};
use super::{BUCKETS_PER_HOUR, Series};

/// A bucket is learned so long after it ended: an attack that is noticed within six hours has taught nothing.
pub(super) const LAG: u32 = 6 * BUCKETS_PER_HOUR;
/// A bucket is learned at most at so many times its expectation,
const WINSOR_FACTOR: f64 = 2.0;
/// and so many more, without which a tenant of one failure an hour could learn nothing. More would teach a small tenant
/// faster.
const WINSOR_OFFSET: f64 = 1.0;
/// Refused buckets after which buckets are learned all the same, within the bound: a week of them. An expectation that
/// is wrong would else keep its own alarm up, and itself wrong, for ever.
const MAX_REFUSED: u32 = 7 * 24 * BUCKETS_PER_HOUR;
/// Accepted buckets in a row after which the refused ones are forgotten: a day.
const FORGIVEN: u32 = 24 * BUCKETS_PER_HOUR;

impl Series {
    /// `open` counts no more: the drift adds it up, and in six hours it is learned, unless something is wrong now.
    pub(super) fn close(&mut self, open: &Open, limits: &Limits) {
        let term = self.term(open, limits);
        match term {
            Some(term) => self.drift.close(term, self.judge_of().scale(limits)),
            // What has added up says nothing of an hour never seen, and must not keep it from being learned.
            None => self.drift = Drift::default(),
        }
        let expected = term.map(|term| term.expected);
        let closed = Closed { number: open.number, failures: open.failures, successes: open.successes, expected };
        self.recent.push_back(closed);
        while self.recent.len() > BUCKETS_PER_HOUR as usize - 2 {
            self.recent.pop_front();
        }
        while let Some(bucket) = self.waiting.pop_front_if(|bucket| bucket.number + LAG <= open.number) {
            self.learn(bucket, limits);
        }
        if open.number > self.first && self.accepts(open) {
            self.known = self.known.saturating_add(1);
            self.waiting.push_back(closed);
        }
    }

    /// Whether this bucket may be learned.
    fn accepts(&mut self, open: &Open) -> bool {
        if self.frozen || self.drift.raised || open.over || self.hour_over {
            self.accepted = 0;
            self.refused = self.refused.saturating_add(1);
        } else {
            self.accepted = self.accepted.saturating_add(1);
            if self.accepted >= FORGIVEN {
                self.refused = 0;
            }
        }
        self.accepted > 0 || self.refused > MAX_REFUSED
    }

    fn learn(&mut self, bucket: Closed, limits: &Limits) {
        let failures = f64::from(bucket.failures);
        let most = if let Some(expected) = bucket.expected {
            self.spread.learn(failures, expected);
            WINSOR_FACTOR * expected + WINSOR_OFFSET
        } else {
            limits.cold_factor * cold_expected(bucket.successes, limits)
        };
        self.season.learn(bucket.number, failures.min(most), bucket.successes.into());
    }
}
