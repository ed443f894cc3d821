//! How many failures, and how many sign-ins, are normal in this five minutes of the week?
//!
//! 168 hours of the week, each with what it has seen, halved every 28 days. An hour that is young leans on the same hour
//! of the other working days (or of the other day of the weekend), and that on the whole week: Monday at nine is known on
//! the first Tuesday, and better each week. Hours are UTC: a tenant's own day and its change to summer time appear as a
//! shape that is learned.
//!
//! Invariant: work and memory do not grow with time; an expectation reads each of the 168 slots once.

use serde::{Deserialize, Serialize};

use super::BUCKETS_PER_HOUR;

/// Hours of a week.
const HOURS: u32 = 168;
/// The epoch was a Thursday: hours from the Monday before to it.
const EPOCH_HOURS: u32 = 72;
/// `2^(-7 d / 28 d)`: what is left of the past after one week.
const KEPT_PER_WEEK: f64 = 0.840_896_415_253_714_5;
/// Buckets that the mean of the whole week weighs against those of the same hour on like days: one hour's worth.
const WEEK_WEIGHT: f64 = 12.0;
/// Buckets that the same hour on like days weighs against the hour's own: two weeks' worth.
const LIKE_HOURS_WEIGHT: f64 = 24.0;
/// Buckets of the same hour on like days without which an hour was never seen: Saturday says nothing of Monday at nine.
const LIKE_HOURS_LEAST: f64 = 6.0;
/// The least that is expected in a bucket: below it one failure more or less would be a ratio without meaning.
pub(super) const FLOOR: f64 = 0.2;

/// Where most of an expectation comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Source {
    /// Nothing learned yet: the ceilings.
    Ceiling,
    /// The mean of all that was learned: this hour has been seen on no like day, and is judged by the ceilings.
    Week,
    /// The same hour of like days.
    LikeHours,
    /// This hour of the week itself.
    Hour,
}

/// What is normal in one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Normal {
    /// Expected failures, at least [`FLOOR`].
    pub(super) failures: f64,
    /// Expected sign-ins.
    pub(super) successes: f64,
    pub(super) source: Source,
}

/// Decayed sums over the buckets of one hour of the week.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Slot {
    failures: f64,
    successes: f64,
    buckets: f64,
    /// The week up to which the sums are decayed.
    week: u32,
}

/// What a week looks like.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Season {
    /// Empty until something is learned, then [`HOURS`] long.
    slots: Vec<Slot>,
}

impl Slot {
    fn add(&mut self, other: &Self) {
        self.failures += other.failures;
        self.successes += other.successes;
        self.buckets += other.buckets;
    }

    /// Means per bucket, with `weight` buckets of the means `(failures, successes)` mixed in.
    fn means(&self, weight: f64, (failures, successes): (f64, f64)) -> (f64, f64) {
        let buckets = self.buckets + weight;
        ((self.failures + weight * failures) / buckets, (self.successes + weight * successes) / buckets)
    }
}

impl Season {
    /// What is normal in bucket `number`.
    pub(super) fn normal(&self, number: u32) -> Normal {
        let hour = hour_of_week(number);
        let (mut week, mut like, mut own) = (Slot::default(), Slot::default(), Slot::default());
        for (other, slot) in (0_u32..).zip(&self.slots) {
            week.add(slot);
            if other % 24 == hour % 24 && is_weekend(other) == is_weekend(hour) {
                like.add(slot);
            }
            if other == hour {
                own = *slot;
            }
        }
        if week.buckets <= 0.0 {
            return Normal { failures: FLOOR, successes: 0.0, source: Source::Ceiling };
        }
        let means = own.means(LIKE_HOURS_WEIGHT, like.means(WEEK_WEIGHT, week.means(0.0, (0.0, 0.0))));
        let source = if own.buckets >= LIKE_HOURS_WEIGHT {
            Source::Hour
        } else if like.buckets >= LIKE_HOURS_LEAST {
            Source::LikeHours
        } else {
            Source::Week
        };
        Normal { failures: if means.0 < FLOOR { FLOOR } else { means.0 }, successes: means.1, source }
    }

    /// Bucket `number` had so many failures and sign-ins.
    pub(super) fn learn(&mut self, number: u32, failures: f64, successes: f64) {
        if self.slots.is_empty() {
            self.slots = vec![Slot::default(); HOURS as usize];
        }
        let week = (hours(number) + EPOCH_HOURS) / HOURS;
        let Some(slot) = self.slots.get_mut(hour_of_week(number) as usize) else { return };
        // Past two years nothing is left, and the loop ends.
        for _ in 0..week.saturating_sub(slot.week).min(104) {
            slot.failures *= KEPT_PER_WEEK;
            slot.successes *= KEPT_PER_WEEK;
            slot.buckets *= KEPT_PER_WEEK;
        }
        slot.week = slot.week.max(week);
        slot.add(&Slot { failures, successes, buckets: 1.0, week });
    }
}

/// Whether both buckets lie in the same hour, so that what is normal is the same.
pub(super) fn same_hour(one: u32, other: u32) -> bool {
    hours(one) == hours(other)
}

fn hours(number: u32) -> u32 {
    number / BUCKETS_PER_HOUR
}

/// Monday, midnight UTC, is 0.
fn hour_of_week(number: u32) -> u32 {
    (hours(number) + EPOCH_HOURS) % HOURS
}

fn is_weekend(hour_of_week: u32) -> bool {
    hour_of_week >= 5 * 24
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Monday 2026-01-05, midnight UTC.
    const MONDAY: u32 = 1_767_571_200 / 300;
    const DAY: u32 = 288;

    #[test]
    fn constants_are_what_they_say() {
        assert!((KEPT_PER_WEEK - 0.5_f64.powf(0.25)).abs() < 1e-15);
        assert_eq!(hour_of_week(MONDAY), 0);
        assert!(is_weekend(hour_of_week(MONDAY - 1)));
        assert_eq!(hour_of_week(MONDAY + 5 * DAY + 12), 121);
    }

    #[test]
    fn the_ladder_leans_on_the_next_larger_group() {
        let mut season = Season::default();
        assert_eq!(season.normal(MONDAY), Normal { failures: FLOOR, successes: 0.0, source: Source::Ceiling });
        // Monday, hour 9: 10 failures and 40 sign-ins in each bucket; hour 3: none.
        for bucket in 0..12 {
            season.learn(MONDAY + 9 * 12 + bucket, 10.0, 40.0);
            season.learn(MONDAY + 3 * 12 + bucket, 0.0, 0.0);
        }
        // By hand: the week's mean is 5; Tuesday at nine is (120 + 12*5)/(12 + 12); Monday itself (120 + 24*7.5)/36.
        let tuesday = season.normal(MONDAY + DAY + 9 * 12);
        assert!((tuesday.failures - 7.5).abs() < 1e-12 && (tuesday.successes - 30.0).abs() < 1e-12, "{tuesday:?}");
        assert_eq!(tuesday.source, Source::LikeHours);
        let monday = season.normal(MONDAY + 9 * 12 + 5);
        assert!((monday.failures - 300.0 / 36.0).abs() < 1e-12, "{monday:?}");
        let saturday = season.normal(MONDAY + 5 * DAY + 9 * 12);
        assert!((saturday.failures - 5.0).abs() < 1e-12, "{saturday:?}");
        assert_eq!(saturday.source, Source::Week);
    }

    #[test]
    fn the_past_is_halved_every_four_weeks() {
        let mut season = Season::default();
        for week in 0..60 {
            for bucket in 0..12 {
                season.learn(MONDAY + week * 7 * DAY + bucket, 8.0, 0.0);
            }
        }
        let later = MONDAY + 63 * 7 * DAY;
        season.learn(later, 0.0, 0.0);
        // 59 weeks of twelve, decayed to the last of them, then four weeks more.
        let kept = 12.0 * (1.0 - KEPT_PER_WEEK.powi(60)) / (1.0 - KEPT_PER_WEEK) * 0.5;
        let slot = season.slots[0];
        assert!((slot.failures / (8.0 * kept) - 1.0).abs() < 1e-12, "{slot:?} {kept}");
        assert!((slot.buckets / (kept + 1.0) - 1.0).abs() < 1e-12, "{slot:?}");
    }
}
