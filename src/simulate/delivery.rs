//! Attempts as they reach us over a network of fallible senders: some twice, some late, some dated in the future.
//!
//! Invariant: a function of the seed and the attempts. Deliveries come in the order in which they are received, none
//! before its attempt is made. In memory is what is under way: the traffic of the longest delay.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::random::{mix, unit};
use super::{Attempt, PlanError};
use crate::event::Timestamp;

/// The longest delay: what Svix still redelivers after.
const MAX_DELAY_MILLIS: i64 = 28 * 3_600_000;
/// The first redelivery comes after 5 s, the second after 5 min.
const REDELIVERED_AFTER_MILLIS: [i64; 2] = [5_000, 305_000];

/// How far deliveries are from "once, at once, by a right clock". [`Distortion::default`] changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Distortion {
    /// Share of the attempts that are delivered a second time.
    pub repeated: f64,
    /// Share that is held up.
    pub late: f64,
    /// For how long, at most.
    pub late_millis: i64,
    /// Share that is reported by a host whose clock is ahead (or, if negative, behind).
    pub skewed: f64,
    /// By how much.
    pub skew_millis: i64,
}

/// One delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Which attempt, counted from 0; a repeat has the number of the first.
    pub number: u64,
    /// The attempt; `at` is what the sender's clock said.
    pub attempt: Attempt,
    /// When it arrived.
    pub received_at: Timestamp,
    /// Whether it was delivered before.
    pub is_repeat: bool,
}

impl Distortion {
    fn check(&self) -> Result<(), PlanError> {
        let is_share = |share: f64| (0.0..=1.0).contains(&share);
        if ![self.repeated, self.late, self.skewed].into_iter().all(is_share) {
            return Err(PlanError::new("shares of deliveries must be from 0 to 1"));
        }
        if !(0..=MAX_DELAY_MILLIS).contains(&self.late_millis) || self.skew_millis.abs() > MAX_DELAY_MILLIS {
            return Err(PlanError::new("delays and skews must be at most 28 hours"));
        }
        Ok(())
    }
}

/// The deliveries of some attempts.
#[derive(Debug)]
pub struct Deliveries<I> {
    attempts: I,
    next: Option<Attempt>,
    distortion: Distortion,
    seed: u64,
    made: u64,
    under_way: BinaryHeap<Reverse<UnderWay>>,
}

impl<I: Iterator<Item = Attempt>> Deliveries<I> {
    /// Delivers `attempts`, which are in order of time.
    ///
    /// # Errors
    /// A figure of `distortion` is out of range.
    pub fn new(mut attempts: I, distortion: Distortion, seed: u64) -> Result<Self, PlanError> {
        distortion.check()?;
        let next = attempts.next();
        Ok(Self { attempts, next, distortion, seed, made: 0, under_way: BinaryHeap::new() })
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "at most 28 hours")]
    fn send(&mut self, mut attempt: Attempt) {
        let number = self.made;
        self.made += 1;
        let mut hash = mix(self.seed ^ mix(number));
        let mut draw = || {
            hash = mix(hash);
            unit(hash)
        };
        let (repeated, late, skewed) = (draw(), draw(), draw());
        let mut received_at = attempt.at;
        if late < self.distortion.late {
            received_at = received_at.plus_millis((draw() * self.distortion.late_millis as f64) as i64);
        }
        if skewed < self.distortion.skewed {
            attempt.at = attempt.at.plus_millis(self.distortion.skew_millis);
        }
        self.under_way.push(Reverse(UnderWay(Delivered { number, attempt, received_at, is_repeat: false })));
        if repeated < self.distortion.repeated {
            let [soon, later] = REDELIVERED_AFTER_MILLIS;
            let received_at = received_at.plus_millis(if draw() < 0.5 { soon } else { later });
            self.under_way.push(Reverse(UnderWay(Delivered { number, attempt, received_at, is_repeat: true })));
        }
    }
}

impl<I: Iterator<Item = Attempt>> Iterator for Deliveries<I> {
    type Item = Delivered;

    fn next(&mut self) -> Option<Delivered> {
        // What is not made yet cannot arrive before it is.
        while let Some(next) = self.next
            && self.under_way.peek().is_none_or(|Reverse(first)| next.at <= first.0.received_at)
        {
            self.next = self.attempts.next();
            self.send(next);
        }
        self.under_way.pop().map(|Reverse(first)| first.0)
    }
}

/// Ordered by arrival; at the same moment, in the order in which they were made.
#[derive(Debug, PartialEq, Eq)]
struct UnderWay(Delivered);

impl UnderWay {
    const fn key(&self) -> (Timestamp, u64, bool) {
        (self.0.received_at, self.0.number, self.0.is_repeat)
    }
}
impl PartialOrd for UnderWay {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for UnderWay {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}
