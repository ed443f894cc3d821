//! Is a whole tenant failing more than it should? One series of counts, in buckets of five minutes of event time.
//!
//! What is counted are *independent* failures: how many different `who` failed in a bucket, by a sketch. Two alarms
//! hold the counts against a learned week ([`season`]), one at once, one patient:
//! - [`Alarm::Spike`]: one bucket has at least `minimum` failures, at least `ratio` times what is normal, and more than chance
//!   (negative binomial, with the variance that the series itself shows) allows;
//! - [`Alarm::Drift`]: the excess adds up over hours ([`drift`]).
//!
//! In the first day, and in an hour that was seen on no like day, there is nothing to compare with. There [`Alarm::Ceiling`]
//! stands in: failures outnumber sign-ins, in a bucket or an hour. An attack smaller than that is not seen there. Cold or
//! learned, the expectation grows with the sign-ins of the same bucket: a launch explains its own failures.
//!
//! **What an attacker can teach it.** Nothing while an alarm is up or the caller froze the series, up to a week; and the six
//! hours before an alarm are thrown away unlearned. A bucket is learned at most at twice its expectation and 1 more. So
//! whoever floods every bucket while nobody heeds an alarm needs 11 days to double what is normal and 114 for 50 times
//! (at 0.4 failures a bucket; 23 and 140 days at 12). Whoever stays below the drift alarm has to keep to 1.44 times the
//! normal rate, which doubles it in 64 days at best. Sign-ins of his own accounts raise the expectation of a learned series
//! to 4 times at most, for which he needs three accounts of his own in each bucket for every one the tenant has.
//! After a week of alarm learning goes on within that bound, since a rate that has risen for good would else be an alarm
//! for ever.
//!
//! Invariant: a failure is counted in the bucket of its own time, whatever the order, while that is the running bucket or
//! the one before; later it is refused. A bucket closes once, in order. Memory is bounded, at 16 KiB: 5.5 of week, 2.5
//! of waiting buckets, at most 8 of open sketches. A quiet tenant's is half of it.
//!
//! Not here: what an outage is, who carries the excess, when a finding ends (the caller).

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use self::bucket::{Closed, Open, bucket_of};
use self::drift::{Drift, Term};
use self::judge::{Judge, cold_expected, cold_threshold};
use self::season::{Season, same_hour};
use self::spread::Spread;
use super::tail;
use crate::event::Timestamp;

mod bucket;
mod drift;
mod episode;
mod judge;
mod learn;
mod reading;
mod season;
mod spread;

pub(crate) use self::judge::Limits;
pub(crate) use self::reading::{Alarm, Reading};

/// Length of a bucket.
pub(crate) const BUCKET_MILLIS: i64 = 300_000;
/// Buckets of an hour.
const BUCKETS_PER_HOUR: u32 = 12;
/// Buckets of a gap that are learned as empty: a week. A longer silence is a feed that was off, not a quiet tenant.
const MAX_GAP: u32 = 7 * 24 * BUCKETS_PER_HOUR;
/// Buckets after which the expectation is trusted at all: a day.
const PROVISIONAL: u32 = 24 * BUCKETS_PER_HOUR;
/// Buckets after which each hour of the week has been seen twice.
const LEARNED: u32 = 14 * 24 * BUCKETS_PER_HOUR;
/// How much of a week the series knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Maturity {
    /// Less than a day: only the ceilings stand.
    Learning,
    /// Less than two weeks: hours lean on each other.
    Provisional,
    /// Each hour of the week was seen at least twice.
    Learned,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counting {
    /// It raised the count of its bucket, or may have.
    Counted,
    /// Its `who` was counted in this bucket already.
    Known,
    /// Its bucket is closed.
    Late,
}

/// One tenant's series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Series {
    /// Buckets up to this one were not seen whole.
    first: u32,
    previous: Open,
    running: Open,
    /// Closed, not yet learned; at most the lag of learning.
    waiting: VecDeque<Closed>,
    /// The buckets of the last hour before the open ones.
    recent: VecDeque<Closed>,
    season: Season,
    spread: Spread,
    /// Buckets accepted for learning, ever: how much of a week is known.
    known: u32,
    /// Buckets refused since a whole day was accepted.
    refused: u32,
    /// Buckets accepted in a row.
    accepted: u32,
    drift: Drift,
    /// Whether the last hour is over the ceiling of a series that has learned nothing.
    hour_over: bool,
    frozen: bool,
}

impl Series {
    /// A series that has seen nothing before the moment `at`.
    pub(crate) fn starting_at(at: Timestamp) -> Self {
        let (number, season) = (bucket_of(at), Season::default());
        let normal = season.normal(number);
        Self {
            first: number,
            previous: Open::new(number.saturating_sub(1), normal),
            running: Open::new(number, normal),
            waiting: VecDeque::new(),
            recent: VecDeque::new(),
            season,
            spread: Spread::default(),
            known: 0,
            refused: 0,
            accepted: 0,
            drift: Drift::default(),
            hour_over: false,
            frozen: false,
        }
    }

    /// Counts a failure of `who` (a 64-bit hash) at `at`, which may move the series on.
    pub(crate) fn fail(&mut self, at: Timestamp, who: u64, limits: &Limits) -> Counting {
        self.roll(at, limits);
        let Some(open) = self.open_mut(bucket_of(at)) else { return Counting::Late };
        if !open.failing.add(who) {
            return Counting::Known;
        }
        open.failures = u32::try_from(open.failing.estimate()).unwrap_or(u32::MAX).saturating_sub(open.redeemed);
        self.judge(limits);
        Counting::Counted
    }

    /// A failure counted shortly before `at` is taken back: the account has got in.
    pub(crate) fn redeem(&mut self, at: Timestamp, limits: &Limits) {
        self.roll(at, limits);
        let counted = [&mut self.running, &mut self.previous].into_iter().find(|open| open.failures > 0);
        let Some(open) = counted else { return };
        open.redeemed = open.redeemed.saturating_add(1);
        open.failures -= 1;
        if self.previous.over || self.running.over || self.hour_over {
            self.judge(limits);
        }
    }

    /// Counts a sign-in of `who` at `at`, which may move the series on.
    pub(crate) fn succeed(&mut self, at: Timestamp, who: u64, limits: &Limits) -> Counting {
        self.roll(at, limits);
        let Some(open) = self.open_mut(bucket_of(at)) else { return Counting::Late };
        if !open.succeeding.add(who) {
            return Counting::Known;
        }
        let before = open.successes;
        open.successes = u32::try_from(open.succeeding.estimate()).unwrap_or(u32::MAX);
        // Where counting becomes estimating, one more may look like one less.
        let is_less = open.successes < before;
        if is_less || self.previous.over || self.running.over || self.hour_over {
            self.judge(limits);
        }
        Counting::Counted
    }

    /// Event time has come to `now`: closes what is over. Work is bounded however long the silence was.
    pub(crate) fn roll(&mut self, now: Timestamp, limits: &Limits) {
        let number = bucket_of(now);
        let Some(gap) = number.checked_sub(self.running.number + 1) else { return };
        let (running_number, normal) = (self.running.number, self.running.normal);
        let running = std::mem::replace(&mut self.running, Open::new(number, normal));
        let previous = std::mem::replace(&mut self.previous, Open::new(number - 1, normal));
        self.close(&previous, limits);
        if gap == 0 {
            self.previous = running;
            // The maturity or the limits may have changed.
            self.previous.judged_with = None;
        } else {
            self.close(&running, limits);
            let mut silent = Open::new(running.number, normal);
            for number in (running.number + 1..number - 1).take(MAX_GAP as usize) {
                if !same_hour(silent.number, number) {
                    silent.normal = self.season.normal(number);
                }
                silent.number = number;
                self.close(&silent, limits);
            }
            self.previous.normal = self.season.normal(number - 1);
        }
        if !same_hour(running_number, number) {
            // Nothing of the same hour is learned within the hour.
            self.running.normal = self.season.normal(number);
        }
        while self.recent.front().is_some_and(|closed| closed.number + BUCKETS_PER_HOUR <= number) {
            self.recent.pop_front();
        }
        self.judge(limits);
    }

    /// While frozen, nothing is learned; freezing throws away what waits to be, since the attack may have begun in it.
    pub(crate) fn set_frozen(&mut self, frozen: bool) {
        if frozen && !self.frozen {
            self.waiting.clear();
        }
        self.frozen = frozen;
    }

    /// The alarm that is up, if any. Reads flags only.
    pub(crate) fn alarm(&self) -> Option<Alarm> {
        let over = self.running.over || self.previous.over;
        let cold = self.judge_of().is_cold(self.running.normal);
        if cold && (over || self.hour_over) {
            Some(Alarm::Ceiling)
        } else if over {
            Some(Alarm::Spike)
        } else {
            self.drift.raised.then_some(Alarm::Drift)
        }
    }

    /// How much of a week is known.
    pub(crate) fn maturity(&self) -> Maturity {
        match self.known {
            0..PROVISIONAL => Maturity::Learning,
            PROVISIONAL..LEARNED => Maturity::Provisional,
            LEARNED.. => Maturity::Learned,
        }
    }

    fn open_mut(&mut self, number: u32) -> Option<&mut Open> {
        [&mut self.running, &mut self.previous].into_iter().find(|open| open.number == number)
    }

    fn judge_of(&self) -> Judge {
        Judge { maturity: self.maturity(), spread: self.spread }
    }

    /// Looks again whether anything is over, after a count or the time has changed.
    fn judge(&mut self, limits: &Limits) {
        let judge = self.judge_of();
        self.previous.judge(judge, limits);
        self.running.judge(judge, limits);
        self.hour_over = judge.is_cold(self.running.normal) && {
            let (failures, successes) = self.last_hour();
            failures >= limits.cold_minimum && failures >= cold_threshold(cold_expected(successes, limits), limits)
        };
        if !self.drift.raised && self.drift_with_open(limits).raised {
            self.drift.raised = true;
            self.waiting.clear();
        }
    }

    /// Failures and sign-ins of the running bucket and the eleven before.
    fn last_hour(&self) -> (u64, u32) {
        let closed = self.recent.iter().map(|bucket| (bucket.failures, bucket.successes));
        let open = [&self.previous, &self.running].map(|bucket| (bucket.failures, bucket.successes));
        closed.chain(open).fold((0, 0), |(failures, successes), (more_failures, more_successes)| {
            (failures + u64::from(more_failures), more_successes.saturating_add(successes))
        })
    }

    /// What the drift adds up of this bucket; nothing of one that nothing is known of.
    fn term(&self, open: &Open, limits: &Limits) -> Option<Term> {
        let judge = self.judge_of();
        if judge.is_cold(open.normal) {
            return None;
        }
        let expected = judge.expected(open.normal, open.successes, limits);
        Some(Term { number: open.number, observed: open.failures, expected, variance: self.spread.factor(expected) })
    }

    /// The drift as it would stand if the open buckets closed now. They count with their whole expectation, so it is not
    /// raised by less than will stand when they do.
    fn drift_with_open(&self, limits: &Limits) -> Drift {
        let scale = self.judge_of().scale(limits);
        let terms = [self.term(&self.previous, limits), self.term(&self.running, limits)];
        terms.into_iter().flatten().fold(self.drift, |drift, term| drift.with(term, scale))
    }
}

#[cfg(test)]
mod tests;
