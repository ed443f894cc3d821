//! What is counted, against a model that keeps every event.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::traffic::{MONDAY, put};
use crate::detect::series::bucket::start_of;
use crate::detect::series::learn::LAG;
use crate::detect::series::*;

const START: Timestamp = Timestamp(MONDAY as i64 * BUCKET_MILLIS + 1000);

/// Limits that nothing reaches, so that everything is accepted.
fn no_limits() -> Limits {
    Limits { cold_minimum: u64::MAX, minimum: u64::MAX, drift_threshold: f64::INFINITY, ..Limits::default() }
}

#[derive(Clone, Debug)]
struct Event {
    forward: i64,
    back: i64,
    who: u64,
    is_failure: bool,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    // Mostly the present, sometimes a gap of minutes or hours, sometimes minutes late or a clock that was set back.
    let forward = prop_oneof![8 => 0..60_i64, 2 => 200..700_i64, 1 => 700..4000_i64];
    let back = prop_oneof![6 => Just(0_i64), 2 => 0..700_i64, 1 => 700..90_000_i64];
    let event = (forward, back, 0..40_u64, any::<bool>()).prop_map(|(forward, back, who, is_failure)| Event {
        forward,
        back,
        who,
        is_failure,
    });
    prop::collection::vec(event, 1..150)
}

proptest! {
    #[test]
    fn it_counts_what_the_model_counts(events in events()) {
        let limits = no_limits();
        let mut series = Series::starting_at(START);
        let mut model = BTreeMap::<u32, [BTreeSet<u64>; 2]>::new();
        let (mut now, mut newest) = (START, bucket_of(START));
        let mut left: Vec<Closed> = Vec::new();
        for event in events {
            now = now.plus_millis(event.forward * 1000);
            let at = now.plus_millis(event.back * -1000);
            newest = newest.max(bucket_of(at));
            let counting = if event.is_failure {
                series.fail(at, event.who, &limits)
            } else {
                series.succeed(at, event.who, &limits)
            };
            let members = &mut model.entry(bucket_of(at)).or_default()[usize::from(event.is_failure)];
            if bucket_of(at) + 1 < newest {
                prop_assert_eq!(counting, Counting::Late);
            } else {
                let expected = if members.insert(event.who) { Counting::Counted } else { Counting::Known };
                prop_assert_eq!(counting, expected);
            }
            let of = |number: u32| model.get(&number).map_or((0, 0), |[successes, failures]| (failures.len(), successes.len()));
            for open in [&series.running, &series.previous] {
                prop_assert_eq!((open.failures as usize, open.successes as usize), of(open.number));
            }
            prop_assert_eq!((series.running.number, series.previous.number), (newest, newest - 1));
            let hour: usize = (newest - 11..=newest).map(|number| of(number).0).sum();
            prop_assert_eq!(series.last_hour().0, hour as u64);
            let last = left.last().map_or(series.first, |closed| closed.number);
            left.extend(series.waiting.iter().filter(|closed| closed.number > last));
            prop_assert!(series.waiting.len() <= LAG as usize);
        }
        // Every bucket that was seen whole closed once, in order, with what it held.
        for closed in &left {
            let (failures, successes) =
                model.get(&closed.number).map_or((0, 0), |[successes, failures]| (failures.len(), successes.len()));
            prop_assert_eq!((closed.failures as usize, closed.successes as usize), (failures, successes));
        }
        prop_assert_eq!(series.known, newest.saturating_sub(series.first + 2));
    }

    #[test]
    fn within_the_open_buckets_order_does_not_matter(
        events in prop::collection::vec((0..600_i64, 0..300_u64, any::<bool>()), 1..400), turn in 0..400_usize,
    ) {
        let limits = Limits::default();
        let count = |events: &[(i64, u64, bool)]| {
            let mut series = Series::starting_at(start_of(MONDAY));
            series.roll(start_of(MONDAY + 1), &limits);
            for (second, who, is_failure) in events {
                let at = start_of(MONDAY).plus_millis(second * 1000);
                if *is_failure { series.fail(at, *who, &limits) } else { series.succeed(at, *who, &limits) };
            }
            (series.alarm(), series.bucket(&limits), series.last_hour(), series.running.failing, series.previous.failing)
        };
        let mut turned = events.clone();
        turned.rotate_left(turn % events.len());
        turned.reverse();
        prop_assert_eq!(count(&events), count(&turned));
    }
}

#[test]
fn the_ceiling_of_the_first_hours_is_seen_at_the_event_that_crosses_it() {
    let limits = Limits::default();
    let mut series = Series::starting_at(START);
    for who in 0..49 {
        series.fail(START, who, &limits);
        series.fail(START, who, &limits);
    }
    assert_eq!(series.alarm(), None);
    series.fail(START, 49, &limits);
    assert_eq!(series.alarm(), Some(Alarm::Ceiling));
    let reading = series.reading(Alarm::Ceiling, &limits);
    assert_eq!((reading.observed, reading.threshold, reading.expected), (50, Some(50), 2.0));
    assert_eq!((reading.excess(), reading.ratio()), (48.0, 25.0));
    // 41 accounts get in: failures no longer outnumber them.
    for who in 0..41 {
        series.succeed(START, 1000 + who, &limits);
    }
    assert_eq!(series.alarm(), None);
    // The same number in an hour, five in each bucket.
    let mut slow = Series::starting_at(START);
    let crossed = (0..60).find(|minute| {
        slow.fail(START.plus_millis(minute * 60_000), *minute as u64, &limits);
        slow.alarm().is_some()
    });
    assert_eq!(crossed, Some(49));
    let reading = slow.reading(Alarm::Ceiling, &limits);
    assert_eq!((reading.observed, reading.threshold), (50, Some(50)));
    assert_eq!(reading.end.millis_since(reading.start), 3_600_000);
}

#[test]
fn silence_costs_bounded_work_and_is_learned_as_one_week_at_most() {
    let limits = Limits::default();
    let mut series = Series::starting_at(START);
    for number in 1..4 * 2016 {
        put(&mut series, MONDAY + number, 10, 80, &limits);
    }
    let before = series.season.normal(MONDAY).failures;
    let (mut month, mut year) = (series.clone(), series);
    month.roll(start_of(MONDAY + 8 * 2016), &limits);
    year.roll(start_of(MONDAY + 56 * 2016), &limits);
    assert_eq!(month.season, year.season);
    // Four weeks but the first bucket, which was not seen whole, and one week.
    assert_eq!((month.known, year.known), (5 * 2016 - 1, 5 * 2016 - 1));
    let after = year.season.normal(MONDAY).failures;
    assert!((0.7..0.9).contains(&(after / before)), "{before} {after}");
}

#[test]
fn a_snapshot_goes_on_where_it_was_and_is_small() {
    let limits = Limits::default();
    let mut series = Series::starting_at(START);
    for number in 1..2000 {
        put(&mut series, MONDAY + number, number % 17, 80, &limits);
    }
    for who in 0..5000 {
        series.fail(start_of(MONDAY + 2000), who, &limits);
        series.succeed(start_of(MONDAY + 2000), who, &limits);
    }
    let bytes = postcard::to_stdvec(&series).unwrap();
    println!("snapshot: {} bytes; frame {} bytes", bytes.len(), size_of::<Series>());
    assert!(bytes.len() < 12_000, "{}", bytes.len());
    let mut restored: Series = postcard::from_bytes(&bytes).unwrap();
    assert_eq!(restored, series);
    for number in 2001..2500 {
        put(&mut series, MONDAY + number, 30, 80, &limits);
        put(&mut restored, MONDAY + number, 30, 80, &limits);
    }
    assert_eq!(restored, series);
}
