//! Both group protocols, and the change from one to the other while a fleet runs.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::cluster::Cluster;
use super::crashes::post_over;
use super::fleet::{Fleet, traffic};
use super::scaling::shared;

#[test]
fn with_kip_848_detectors_that_stop_and_die_change_no_finding() {
    let fleet = Fleet::new(Cluster::shared(), 6, 1, "consumer");
    let attempts = traffic("70m");
    let front = [Mutex::new(Some(fleet.start(&["receive", "deliver"])))];
    let file = front[0].lock().unwrap().as_ref().unwrap().data_dir.join("findings.jsonl");
    let (first, second) = (fleet.start(&["detect"]), fleet.start(&["detect"]));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let poster = scope.spawn(|| post_over(&attempts, &front, Duration::from_secs(25), &done));
        shared("two detectors", &[&first, &second]);
        assert!(second.terminate().success());
        shared("one is left", &[&first]);
        let third = fleet.start(&["detect"]);
        shared("two again", &[&first, &third]);
        first.kill();
        shared("the other has everything", &[&third]);
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(poster.join().unwrap().len(), attempts.len());
        let revisions = fleet.settled();
        fleet.delivered(&revisions, std::slice::from_ref(&file));
        assert!(third.terminate().success());
    });
}

#[test]
fn a_fleet_changes_from_the_classic_protocol_to_kip_848_when_the_last_member_has_gone() {
    let fleet = Fleet::new(Cluster::shared(), 6, 1, "classic");
    let attempts = traffic("40m");
    let front = [Mutex::new(Some(fleet.start(&["receive", "deliver"])))];
    let file = front[0].lock().unwrap().as_ref().unwrap().data_dir.join("findings.jsonl");
    let (first, second) = (fleet.start(&["detect"]), fleet.start(&["detect"]));
    shared("two detectors", &[&first, &second]);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let poster = scope.spawn(|| post_over(&attempts, &front, Duration::from_secs(15), &done));
        let text = std::fs::read_to_string(fleet.config()).unwrap();
        let text = text.replace("group_protocol = \"classic\"", "group_protocol = \"consumer\"");
        std::fs::write(fleet.config(), text).unwrap();
        assert!(first.terminate().success() && second.terminate().success());
        let (first, second) = (fleet.start(&["detect"]), fleet.start(&["detect"]));
        // What the broker decides now is named, and left out.
        assert!(first.said().contains("group.consumer.session.timeout.ms"), "{}", first.said());
        shared("both changed", &[&first, &second]);
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(poster.join().unwrap().len(), attempts.len());
        let revisions = fleet.settled();
        fleet.delivered(&revisions, std::slice::from_ref(&file));
    });
}
