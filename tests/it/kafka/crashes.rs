//! Processes that are killed without warning, under load: what was acknowledged is there, what has to be found is found
//! once, and what was found is delivered.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use authspike::clock::Stopwatch;
use serde_json::Value;

use super::cluster::{Cluster, random};
use super::fleet::{Fleet, traffic};
use crate::support::Instance;

/// Kills of each kind.
const ROUNDS: u32 = 10;
/// A round: longer than the session time-out of 4 s, so that whoever takes over has begun before the next kill.
const ROUND_MILLIS: u64 = 7000;

/// A number below `end` from `state`, which moves on.
fn draw(state: &mut u64, end: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % end
}

/// Posts `attempts` in order to whichever receiver answers, some at a time over `span`; the ids that were acknowledged.
pub fn post_over(
    attempts: &[String],
    receivers: &[Mutex<Option<Instance>>],
    span: Duration,
    killed: &AtomicBool,
) -> BTreeSet<String> {
    const CHUNK: usize = 20;
    let pause = span / u32::try_from(attempts.len().div_ceil(CHUNK)).unwrap();
    let mut acknowledged = BTreeSet::new();
    for (number, lines) in attempts.chunks(CHUNK).enumerate() {
        let mut turn = number;
        let begun = Stopwatch::start();
        loop {
            assert!(begun.elapsed() < Duration::from_mins(1), "no receiver takes anything");
            let receiver = receivers[turn % receivers.len()].lock().unwrap();
            let answer = receiver.as_ref().map(|receiver| receiver.attempts(&lines.join("\n")));
            drop(receiver);
            if let Some(Ok((200, answer))) = answer {
                assert_eq!(answer["refused"], Value::from(0), "{answer}");
                break;
            }
            turn += 1;
            std::thread::sleep(Duration::from_millis(20));
        }
        acknowledged.extend(lines.iter().map(|line| id(line)));
        if !killed.load(Ordering::Relaxed) {
            std::thread::sleep(pause.saturating_sub(begun.elapsed()));
        }
    }
    acknowledged
}

fn id(line: &str) -> String {
    serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned()
}

#[test]
fn nothing_is_lost_and_nothing_found_twice_when_any_process_is_killed_under_load() {
    let seed = random();
    let _ = writeln!(std::io::stderr(), "crashes: seed {seed}");
    let fleet = Fleet::new(Cluster::shared(), 6, 1, "classic");
    let attempts = traffic("70m");
    let start = |role: &str| Mutex::new(Some(fleet.start(&[role])));
    let receivers = [start("receive"), start("receive")];
    let mut detectors = [fleet.start(&["detect"]), fleet.start(&["detect"])].map(Some);
    let deliver = |number: usize| fleet.folder.path().join(format!("deliverer-{number}"));
    let mut deliverers = [0, 1].map(|number| Some(fleet.launch_in(&["deliver"], &deliver(number))));
    let span = Duration::from_millis(u64::from(ROUNDS) * ROUND_MILLIS);
    let done = AtomicBool::new(false);

    let acknowledged = std::thread::scope(|scope| {
        let poster = scope.spawn(|| post_over(&attempts, &receivers, span, &done));
        let mut state = seed;
        for _ in 0..ROUNDS {
            let begun = Stopwatch::start();
            // One of each kind, each at its own moment of the round's first third.
            for kind in 0..3 {
                std::thread::sleep(Duration::from_millis(draw(&mut state, ROUND_MILLIS / 9)));
                let victim = usize::try_from(draw(&mut state, 2)).unwrap();
                match kind {
                    0 => {
                        receivers[victim].lock().unwrap().take().unwrap().kill();
                        *receivers[victim].lock().unwrap() = Some(fleet.launch(&["receive"]));
                    }
                    1 => {
                        detectors[victim].take().unwrap().kill();
                        detectors[victim] = Some(fleet.launch(&["detect"]));
                    }
                    _ => {
                        deliverers[victim].take().unwrap().kill();
                        deliverers[victim] = Some(fleet.launch_in(&["deliver"], &deliver(victim)));
                    }
                }
            }
            std::thread::sleep(Duration::from_millis(ROUND_MILLIS).saturating_sub(begun.elapsed()));
        }
        done.store(true, Ordering::Relaxed);
        poster.join().unwrap()
    });

    assert_eq!(acknowledged.len(), attempts.len());
    let ids = fleet.ids();
    let missing: Vec<_> = acknowledged.iter().filter(|id| !ids.contains_key(*id)).collect();
    assert!(missing.is_empty(), "acknowledged and not there: {missing:?}");
    let revisions = fleet.settled();
    let findings: BTreeSet<_> = revisions.keys().map(|(finding, _)| finding).collect();
    let files: Vec<PathBuf> = [0, 1].map(|number| deliver(number).join("findings.jsonl")).into();
    let lines = fleet.delivered(&revisions, &files);
    let repeated: usize = ids.values().map(|count| count - 1).sum();
    let _ = writeln!(
        std::io::stderr(),
        "crashes: {} kills; {} attempts acknowledged, 0 missing, {repeated} appended twice; {} findings in {} revisions, \
         0 lost, {lines} lines delivered",
        3 * ROUNDS,
        acknowledged.len(),
        findings.len(),
        revisions.len(),
    );
}
