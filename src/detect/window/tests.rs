//! The window against a model that keeps every event.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

/// Keeps everything it was told, and answers by definition.
#[derive(Default)]
struct Model {
    failures: Vec<(Bucket, u64, u64)>,
    successes: Vec<(Bucket, u64)>,
    newest: Bucket,
}

impl Model {
    fn in_ring(&self, bucket: Bucket) -> bool {
        self.newest - bucket < BUCKETS
    }

    fn in_generations(&self, bucket: Bucket) -> bool {
        generation_of(self.newest) - generation_of(bucket) <= 1
    }

    fn ring_failures(&self) -> u64 {
        self.failures.iter().filter(|(bucket, ..)| self.in_ring(*bucket)).count() as u64
    }

    fn day_failures(&self) -> u64 {
        let in_day = |bucket: Bucket| slot_of(self.newest) - slot_of(bucket) < SLOTS;
        self.failures.iter().filter(|(bucket, ..)| in_day(*bucket)).count() as u64
    }

    fn bits(&self, of: impl Iterator<Item = (Bucket, u64)>) -> u64 {
        of.filter(|(bucket, _)| self.in_generations(*bucket)).fold(0, |bits, (_, who)| bits | 1 << (who & 63))
    }
}

#[derive(Clone, Debug)]
enum Step {
    Failure { back: i64, who: u64, spread: u64 },
    Success { back: i64, who: u64 },
}

fn steps() -> impl Strategy<Value = Vec<(u32, Step)>> {
    // Mostly the present, sometimes a gap of hours, sometimes minutes late, bucket edges included.
    let forward = prop_oneof![6 => 0..3_u32, 3 => 3..25_u32, 1 => 25..900_u32];
    let back = prop_oneof![5 => Just(0_i64), 3 => 0..25_i64, 1 => 25..200_i64];
    let failure =
        (back.clone(), 0..90_u64, 0..40_u64).prop_map(|(back, who, spread)| Step::Failure { back, who, spread });
    let success = (back, 0..90_u64).prop_map(|(back, who)| Step::Success { back, who });
    prop::collection::vec((forward, prop_oneof![3 => failure, 1 => success]), 1..200)
}

proptest! {
    #[test]
    fn it_counts_what_the_model_counts(start in 10_000..15_000_u32, steps in steps()) {
        let mut window = Window::starting_at(start);
        let mut model = Model { newest: start, ..Model::default() };
        let mut now = start;
        for (forward, step) in steps {
            now += forward;
            let (back, is_failure) = match step {
                Step::Failure { back, .. } => (back, true),
                Step::Success { back, .. } => (back, false),
            };
            let bucket = u32::try_from(i64::from(now) - back).unwrap();
            window.roll(bucket, |_, _, _| {});
            model.newest = model.newest.max(bucket);
            match step {
                Step::Failure { who, spread, .. } => {
                    let counted = window.add_failure(bucket, who, spread, Unit::Each);
                    prop_assert_eq!(counted, model.in_ring(bucket));
                    model.failures.push((bucket, who, spread));
                }
                Step::Success { who, .. } => {
                    window.add_success(bucket, who, true);
                    model.successes.push((bucket, who));
                }
            }
            let (ring_start, ring_failures) = window.fast();
            prop_assert_eq!(ring_failures, model.ring_failures());
            prop_assert!(ring_start <= start_of(model.newest).plus_millis(-300_000));
            prop_assert!(ring_start >= start_of(model.newest).plus_millis(-300_000 - BUCKET_MILLIS));
            let day = window.day();
            prop_assert_eq!(day.failures, model.day_failures());
            let length = start_of(model.newest).millis_since(day.start);
            prop_assert!((20 * 3_600_000..24 * 3_600_000).contains(&length), "{}", length);
            if is_failure {
                let counts = window.generations();
                let expected = model.failures.iter().filter(|(bucket, ..)| model.in_generations(*bucket)).count() as u64;
                prop_assert_eq!(counts.failures, expected);
                let bits = model.bits(model.failures.iter().map(|(bucket, who, _)| (*bucket, *who)));
                let estimate = estimate_64(bits);
                let estimate = if is_saturated(bits) { estimate.max(expected / 2) } else { estimate };
                prop_assert_eq!(counts.distinct, estimate.min(expected));
                let spread: HashSet<u64> = model.failures.iter()
                    .filter(|(bucket, ..)| model.in_generations(*bucket)).map(|(_, _, spread)| spread & 31).collect();
                let spread = spread.iter().fold(0_u32, |bits, bit| bits | 1 << bit);
                prop_assert_eq!(counts.spread, estimate_32(spread).min(expected));
            }
        }
    }

    #[test]
    fn each_slot_leaves_once_and_in_order_with_what_was_counted_in_it(
        start in 10_000..20_000_u32,
        forward in prop::collection::vec(prop_oneof![9 => 0..700_u32, 1 => 2000..9000_u32], 1..60),
    ) {
        let mut window = Window::starting_at(start);
        let mut left = Vec::new();
        let mut idle = Vec::new();
        let mut added = 0_u64;
        let mut now = start;
        for step in forward {
            now += step;
            let (first, passed) = window.roll(now, |slot, failures, _| left.push((slot, failures)));
            idle.extend(first..first + passed);
            window.add_failure(now, 1, 1, Unit::Each);
            added += 1;
        }
        let (first, passed) = window.roll(now + 20 * BUCKETS_PER_SLOT, |slot, failures, _| left.push((slot, failures)));
        idle.extend(first..first + passed);
        prop_assert_eq!(left.iter().map(|(_, failures)| failures).sum::<u64>(), added);
        let mut slots: Vec<Slot> = left.iter().map(|(slot, _)| *slot).chain(idle).collect();
        prop_assert!(left.windows(2).all(|pair| pair[0].0 < pair[1].0), "{:?}", left);
        slots.sort_unstable();
        let expected: Vec<Slot> = (slot_of(start)..=slot_of(now + 20 * BUCKETS_PER_SLOT) - SLOTS).collect();
        prop_assert_eq!(slots, expected, "every slot once, from the first on");
    }
}

#[test]
fn a_true_five_minute_window_is_never_under_counted() {
    // 300 failures, one a second, across many bucket phases: the ring holds at least the last 300 seconds of them.
    for phase in 0..60 {
        let mut window = Window::starting_at(bucket_of(Timestamp(phase * 1000)));
        for second in 0..=300 {
            let bucket = bucket_of(Timestamp((phase + second) * 1000));
            window.roll(bucket, |_, _, _| {});
            window.add_failure(bucket, 0, 0, Unit::Each);
        }
        // Up to 30 half-minute failures each: none is saturated.
        assert_eq!(window.fast().1, 301, "phase {phase}");
    }
}

#[test]
fn a_half_minute_that_the_ring_cannot_hold_is_counted_by_the_generations() {
    let mut window = Window::starting_at(1007);
    for count in 1..=70_000_u64 {
        window.add_failure(1007, 0, 0, Unit::Each);
        assert_eq!(window.fast().1, count);
    }
    assert_eq!(window.fast().0, window.generations_start());
    assert_eq!(window.day().failures, 65_534, "a day's slot says no more than that");
}

/// The 64-bit mix of `SplitMix64`.
fn hash(number: u64) -> u64 {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

#[test]
fn a_client_with_a_stale_password_is_one_member_however_often_it_tries() {
    let midnight = 20_000 * SLOTS * BUCKETS_PER_SLOT;
    let mut window = Window::starting_at(midnight);
    // Every quarter of an hour for two days.
    for bucket in (midnight..midnight + 2 * SLOTS * BUCKETS_PER_SLOT).step_by(30) {
        window.roll(bucket, |_, _, _| {});
        window.add_failure(bucket, hash(7), 0, Unit::Independent);
        assert!(window.day().distinct <= 2, "once a UTC day");
    }
}

#[test]
fn a_day_of_independent_failures_is_estimated_without_bias() {
    for members in [10_u32, 25, 60, 150] {
        let runs = 300_u32;
        let total: u64 = (0..runs)
            .map(|run| {
                let midnight = 20_000 * SLOTS * BUCKETS_PER_SLOT;
                let mut window = Window::starting_at(midnight);
                for member in 0..members {
                    // Spread over 20 hours, each a member of its own.
                    let bucket = midnight + member * 2400 / members;
                    window.roll(bucket, |_, _, _| {});
                    let who = hash(u64::from(run * 1000 + member));
                    window.add_failure(bucket, who, 0, Unit::Independent);
                }
                window.day().distinct
            })
            .sum();
        let mean = total as f64 / f64::from(runs);
        assert!((mean / f64::from(members) - 1.0).abs() < 0.08, "{members}: {mean}");
    }
}

#[test]
fn successes_without_credit_excuse_nothing() {
    let mut window = Window::starting_at(1000);
    (0..20).for_each(|who| window.add_success(1000, hash(who), false));
    let counts = window.generations();
    assert_eq!((counts.successes, counts.succeeding, window.day().succeeding), (20, 0, 0));
    (0..5).for_each(|who| window.add_success(1000, hash(who), true));
    assert!((3..=6).contains(&window.generations().succeeding));
}

#[test]
fn a_cleared_day_counts_anew() {
    let mut window = Window::starting_at(1000);
    (0..9).for_each(|who| {
        window.add_failure(1000, hash(who), 0, Unit::Independent);
    });
    window.clear_day();
    assert_eq!(window.day().distinct, 0);
    window.add_failure(1000, hash(1), 0, Unit::Independent);
    assert_eq!(window.day().distinct, 1);
}
