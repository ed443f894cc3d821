//! A fleet that grows, shrinks and is restarted while an attack goes on, and a detector that was thought dead and is not.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::cluster::Cluster;
use super::crashes::post_over;
use super::fleet::{Fleet, traffic};
use crate::support::{Instance, until};

/// Past the session time-out of 4 s.
const STOPPED: Duration = Duration::from_secs(7);

fn partitions(detector: &Instance) -> u32 {
    let page = detector.admin("/metrics").1;
    let line = page.lines().find(|line| line.starts_with("authspike_kafka_assigned_partitions"));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
}

/// Waits until all six partitions are held, each of `detectors` having some.
pub fn shared(what: &str, detectors: &[&Instance]) {
    until(what, || {
        let held: Vec<u32> = detectors.iter().map(|detector| partitions(detector)).collect();
        (held.iter().sum::<u32>() == 6 && !held.contains(&0)).then_some(())
    });
}

#[test]
fn the_findings_are_the_same_while_detectors_come_go_restart_and_come_back_from_the_dead() {
    let fleet = Fleet::new(Cluster::shared(), 6, 1, "classic");
    let attempts = traffic("70m");
    let front = [Mutex::new(Some(fleet.start(&["receive", "deliver"])))];
    let file = front[0].lock().unwrap().as_ref().unwrap().data_dir.join("findings.jsonl");
    let first = fleet.start(&["detect"]);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let poster = scope.spawn(|| post_over(&attempts, &front, Duration::from_secs(50), &done));
        shared("one detector", &[&first]);
        // 1 to 3.
        let (second, third) = (fleet.start(&["detect"]), fleet.start(&["detect"]));
        shared("three detectors", &[&first, &second, &third]);
        // A rolling restart.
        let restarted = |old: Instance| {
            assert!(old.terminate().success());
            fleet.start(&["detect"])
        };
        let (first, second) = (restarted(first), restarted(second));
        shared("three detectors again", &[&first, &second, &third]);
        // One is as if dead, and comes back when others have taken its partitions.
        third.signal("STOP");
        std::thread::sleep(STOPPED);
        shared("the other two", &[&first, &second]);
        third.signal("CONT");
        shared("all three", &[&first, &second, &third]);
        // And back to 1.
        assert!(second.terminate().success() && third.terminate().success());
        shared("one detector at last", &[&first]);
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(poster.join().unwrap().len(), attempts.len());
        let revisions = fleet.settled();
        fleet.delivered(&revisions, std::slice::from_ref(&file));
        // What is open is shown where the partition is.
        assert!(first.admin("/v1/findings").0 == 200 && first.terminate().success());
    });
}

#[test]
fn a_detector_with_nothing_to_do_is_ready_and_a_fleet_of_one_role_each_works() {
    let fleet = Fleet::new(Cluster::shared(), 1, 1, "classic");
    let detectors = [fleet.start(&["detect"]), fleet.start(&["detect"])];
    let held: Vec<u32> = detectors.iter().map(partitions).collect();
    assert!(held == [0, 1] || held == [1, 0], "{held:?}");
    let (receiver, deliverer) = (fleet.start(&["receive"]), fleet.start(&["deliver"]));
    super::fleet::post(&receiver, &traffic("40m"));
    let revisions = fleet.settled();
    fleet.delivered(&revisions, &[deliverer.data_dir.join("findings.jsonl")]);
    assert!(!receiver.data_dir.exists(), "a receiver keeps nothing");
    assert!(!detectors[0].data_dir.exists() && !detectors[1].data_dir.exists(), "nor does a detector");
}
