//! Both ways in which consumers agree on who reads what: the classic one and that of KIP-848. Whichever it is, and while a
//! group changes from one to the other, the findings are those that the log makes.

use std::collections::BTreeSet;
use std::io::Write as _;

use authspike::clock::Stopwatch;

use super::Cluster;
use super::fleet::{Fleet, Revision, post, traffic};
use crate::support::{Instance, until};

const PARTITIONS: usize = 6;

fn held(detector: &Instance) -> usize {
    let name = format!("authspike_kafka_assigned_partitions{{group=\"{}\"}}", group(detector));
    let held = detector.metric(&name);
    (0..=PARTITIONS).find(|count| count.to_string() == held.to_string()).unwrap()
}

/// The one group of detectors on the page.
fn group(detector: &Instance) -> String {
    let page = detector.admin("/metrics").1;
    let line = page.lines().find(|line| line.starts_with("authspike_kafka_assigned_partitions{"));
    line.and_then(|line| line.split('"').nth(1)).unwrap_or_default().to_owned()
}

/// Waits until `detectors` share the partitions evenly between them, none of which is with anybody else.
fn shared(detectors: &[&Instance]) {
    until("the partitions to be shared", || {
        let held: Vec<usize> = detectors.iter().map(|detector| held(detector)).collect();
        held.iter().all(|held| *held == PARTITIONS / detectors.len()).then_some(())
    });
}

/// The findings that were settled, and nothing that nobody told of.
fn settled(fleet: &Fleet, deliverer: &Instance) -> BTreeSet<Revision> {
    let revisions = fleet.settled();
    fleet.delivered(&revisions, &[deliverer.data_dir.join("findings.jsonl")]);
    revisions.into_keys().collect()
}

/// Two detectors; one is stopped in the middle and another takes its place, which is killed.
fn findings_of(protocol: &str, attempts: &[String]) -> BTreeSet<Revision> {
    let fleet = Fleet::new(Cluster::shared(), PARTITIONS, 1, protocol);
    let front = fleet.start(&["receive", "deliver"]);
    let (first, second) = (fleet.start(&["detect"]), fleet.start(&["detect"]));
    shared(&[&first, &second]);
    let third = attempts.len() / 3;
    post(&front, &attempts[..third]);
    let watch = Stopwatch::start();
    assert!(first.terminate().success());
    shared(&[&second]);
    let stopped = watch.elapsed();
    let last = fleet.start(&["detect"]);
    post(&front, &attempts[third..2 * third]);
    shared(&[&second, &last]);
    let watch = Stopwatch::start();
    second.kill();
    post(&front, &attempts[2 * third..]);
    shared(&[&last]);
    let killed = watch.elapsed();
    let _ = writeln!(
        std::io::stderr(),
        "protocols: {protocol}: all is with the other {:.1} s after a stop was asked for, {:.1} s after a kill",
        stopped.as_secs_f64(),
        killed.as_secs_f64(),
    );
    let revisions = settled(&fleet, &front);
    assert!(last.terminate().success() && front.terminate().success());
    revisions
}

#[test]
fn both_protocols_find_the_same_while_one_detector_is_stopped_and_one_is_killed() {
    let attempts = traffic("70m");
    let found = ["classic", "consumer"].map(|protocol| findings_of(protocol, &attempts));
    assert!(found[0].len() > 20, "{}", found[0].len());
    assert_eq!(found[0], found[1]);
}

#[test]
fn a_group_changes_from_classic_to_consumer_once_the_last_of_the_old_has_left() {
    let fleet = Fleet::new(Cluster::shared(), PARTITIONS, 1, "classic");
    let front = fleet.start(&["receive", "deliver"]);
    let old = [fleet.start(&["detect"]), fleet.start(&["detect"])];
    shared(&[&old[0], &old[1]]);
    // What stands in the file for the classic protocol alone stays there.
    let text = std::fs::read_to_string(fleet.config()).unwrap();
    assert!(text.contains("session.timeout.ms"));
    std::fs::write(fleet.config(), text.replace("\"classic\"", "\"consumer\"")).unwrap();

    let attempts = traffic("70m");
    let mut parts = attempts.chunks(attempts.len() / 4 + 1);
    let mut post_some = || post(&front, parts.next().unwrap());
    post_some();
    let new = [fleet.launch(&["detect"]), fleet.launch(&["detect"])];
    for one in &new {
        assert!(one.said().contains("session.timeout.ms is left out"), "{}", one.said());
        let (status, page) = one.admin("/readyz");
        assert!(status == 503 && page.contains("once the last member of the classic protocol has left"), "{page}");
    }
    post_some();
    let [first, second] = old;
    assert!(first.terminate().success());
    shared(&[&second]);
    post_some();
    // It judges on while the new ones wait.
    assert_eq!((held(&new[0]), held(&new[1])), (0, 0));
    let watch = Stopwatch::start();
    assert!(second.terminate().success());
    shared(&[&new[0], &new[1]]);
    let _ = writeln!(std::io::stderr(), "protocols: changed in {:.1} s", watch.elapsed().as_secs_f64());
    post_some();
    // The deliverer too, which has been of the old kind until now.
    let file = front.data_dir.join("findings.jsonl");
    assert!(front.terminate().success());
    let front = fleet.start(&["receive", "deliver"]);
    let revisions = fleet.settled();
    assert!(!revisions.is_empty());
    fleet.delivered(&revisions, &[file, front.data_dir.join("findings.jsonl")]);
    for process in new.into_iter().chain([front]) {
        assert!(process.terminate().success());
    }
}
