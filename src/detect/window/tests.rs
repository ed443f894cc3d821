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
    let forward = prop_oneof![6 => 0..3_u32, 3 => 3..25_u32, 1 => 25..500_u32];
    let back = prop_oneof![5 => Just(0_i64), 3 => 0..25_i64, 1 => 25..200_i64];
    let failure =
        (back.clone(), 0..90_u64, 0..40_u64).prop_map(|(back, who, spread)| Step::Failure { back, who, spread });
    let success = (back, 0..90_u64).prop_map(|(back, who)| Step::Success { back, who });
    prop::collection::vec((forward, prop_oneof![3 => failure, 1 => success]), 1..200)
}

proptest! {
    #[test]
    fn it_counts_what_the_model_counts(start in 1000..5000_u32, steps in steps()) {
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
            window.roll(bucket, |_, _| {});
            model.newest = model.newest.max(bucket);
            match step {
                Step::Failure { who, spread, .. } => {
                    let counted = window.add_failure(bucket, who, spread);
                    prop_assert_eq!(counted, model.in_ring(bucket));
                    model.failures.push((bucket, who, spread));
                }
                Step::Success { who, .. } => {
                    window.add_success(bucket, who);
                    model.successes.push((bucket, who));
                }
            }
            prop_assert_eq!(window.ring_failures(), model.ring_failures());
            prop_assert!(window.ring_start() <= start_of(model.newest).plus_millis(-300_000));
            prop_assert!(window.ring_start() >= start_of(model.newest).plus_millis(-300_000 - BUCKET_MILLIS));
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
    fn each_generation_with_counts_leaves_once_and_in_order(start in 1000..2000_u32, forward in prop::collection::vec(0..40_u32, 1..60)) {
        let mut window = Window::starting_at(start);
        let mut left = Vec::new();
        let mut added = 0_u64;
        let mut now = start;
        for step in forward {
            now += step;
            window.roll(now, |number, generation| left.push((number, generation.failures)));
            window.add_failure(now, 1, 1);
            added += 1;
        }
        window.roll(now + 1000, |number, generation| left.push((number, generation.failures)));
        prop_assert!(left.windows(2).all(|pair| pair[0].0 < pair[1].0), "{:?}", left);
        prop_assert_eq!(left.iter().map(|(_, failures)| u64::from(*failures)).sum::<u64>(), added);
    }
}

#[test]
fn a_true_five_minute_window_is_never_under_counted() {
    // 300 failures, one a second, across many bucket phases: the ring holds at least the last 300 seconds of them.
    for phase in 0..60 {
        let mut window = Window::starting_at(bucket_of(Timestamp(phase * 1000)));
        for second in 0..=300 {
            let bucket = bucket_of(Timestamp((phase + second) * 1000));
            window.roll(bucket, |_, _| {});
            window.add_failure(bucket, 0, 0);
        }
        assert!(window.ring_failures() == 301, "phase {phase}: {}", window.ring_failures());
    }
}

#[test]
fn a_half_minute_saturates_instead_of_wrapping() {
    let mut window = Window::starting_at(7);
    for _ in 0..70_000 {
        window.add_failure(7, 0, 0);
    }
    assert_eq!(window.ring_failures(), 65_535);
    assert_eq!(window.generations().failures, 70_000);
}
