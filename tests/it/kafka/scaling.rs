//! Detectors that come, go, restart and are thought dead, while an attack goes on: the same findings as one that never
//! stopped, shown by whoever judges their partition and by nobody else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use authspike::clock::Stopwatch;
use authspike::finding::Lifecycle;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use serde_json::Value;

use super::client::config;
use super::cluster::Cluster;
use super::fleet::{Fleet, traffic};
use super::load::{Load, Receivers};
use crate::support::{Instance, until};

const PARTITIONS: usize = 6;
/// The session time-out of [`Fleet`]'s detectors: what a hand-over that was announced must not wait for.
const SESSION: Duration = Duration::from_secs(4);

/// The partitions that a process judges.
pub fn partitions(instance: &Instance) -> BTreeSet<i32> {
    let page = instance.admin("/metrics").1;
    let labels = page.lines().filter_map(|line| {
        line.strip_prefix("authspike_detect_watermark_timestamp_seconds{partition=\"")?.split('"').next()
    });
    labels.map(|label| label.parse().unwrap()).collect()
}

/// Waits until every partition has one task, and every process at least one.
fn spread(detectors: &[&Instance]) {
    until("the partitions to be spread", || {
        let shares: Vec<_> = detectors.iter().map(|detector| partitions(detector)).collect();
        let all: BTreeSet<i32> = shares.iter().flatten().copied().collect();
        let sum: usize = shares.iter().map(BTreeSet::len).sum();
        (all.len() == PARTITIONS && sum == PARTITIONS && shares.iter().all(|share| !share.is_empty())).then_some(())
    });
}

/// Waits until the open findings that the processes show are those that are open, each shown once.
fn shows_what_is_open(fleet: &Fleet, detectors: &[&Instance]) -> usize {
    until("what is open to be shown once", || {
        let mut last = BTreeMap::new();
        for finding in fleet.settled().into_values() {
            let before = last.entry(finding.finding_id.to_string()).or_insert((0, Lifecycle::Opened));
            *before = (*before).max((finding.revision, finding.lifecycle));
        }
        last.retain(|_, (_, lifecycle)| *lifecycle != Lifecycle::Closed);
        let shown: Vec<String> = detectors
            .iter()
            .flat_map(|detector| {
                let page: Vec<Value> = serde_json::from_str(&detector.admin("/v1/findings").1).unwrap();
                page.into_iter().map(|finding| finding["finding_id"].as_str().unwrap().to_owned())
            })
            .collect();
        let is_shown = shown.iter().collect::<BTreeSet<_>>() == last.keys().collect() && shown.len() == last.len();
        is_shown.then_some(shown.len())
    })
}

/// For each partition what is committed, what the snapshot noted beside it goes up to, and the end.
fn progress(fleet: &Fleet) -> Vec<(i64, i64, i64)> {
    let group = format!("{}-detect", fleet.prefix);
    let consumer: BaseConsumer = config(&fleet.properties).set("group.id", group).create().unwrap();
    let (topic, wait) = (fleet.topic("events.v1"), Duration::from_secs(10));
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition(&topic, i32::try_from(partition).unwrap());
    }
    let list = consumer.committed_offsets(list, wait).unwrap();
    let places = list.elements().into_iter().map(|element| {
        let note: Value = serde_json::from_str(element.metadata()).unwrap_or_default();
        let end = consumer.fetch_watermarks(&topic, element.partition(), wait).unwrap().1;
        (element.offset().to_raw().unwrap(), note["next"].as_i64().unwrap_or(-1), end)
    });
    places.collect()
}

/// Asks a detector to end; how long it takes until each of its partitions is judged by one of `others`.
fn hand_over(leaving: Instance, others: &[&Instance]) -> Duration {
    let its = partitions(&leaving);
    let asked = Stopwatch::start();
    leaving.signal("TERM");
    until("others to take over", || {
        let theirs: BTreeSet<i32> = others.iter().flat_map(|other| partitions(other)).collect();
        its.is_subset(&theirs).then_some(())
    });
    let took = asked.elapsed();
    assert!(leaving.wait().success());
    took
}

#[test]
fn detectors_scale_restart_and_come_back_from_the_dead_during_an_attack() {
    let fleet = Fleet::new(Cluster::shared(), PARTITIONS, 1, "classic");
    let front = fleet.start(&["receive", "deliver"]);
    let receivers = Receivers::of(&[&front]);
    let attempts = traffic("70m");
    let (before, after) = attempts.split_at(attempts.len() / 2);

    // 1 → 3.
    let first = fleet.start(&["detect"]);
    let load = Load::start(before.to_vec(), &receivers, Duration::from_secs(10));
    std::thread::sleep(Duration::from_secs(3));
    let mut detectors = vec![first, fleet.start(&["detect"]), fleet.start(&["detect"])];
    assert!(!load.is_over(), "they came after the load");
    spread(&detectors.iter().collect::<Vec<_>>());
    let mut acknowledged = load.finish().acknowledged;
    let open = shows_what_is_open(&fleet, &detectors.iter().collect::<Vec<_>>());
    assert!(open > 0, "nothing is open in the middle of the attacks");

    // A rolling restart.
    let load = Load::start(after.to_vec(), &receivers, Duration::from_secs(40));
    let mut took = Vec::new();
    for _ in 0..3 {
        let leaving = detectors.remove(0);
        took.push(hand_over(leaving, &detectors.iter().collect::<Vec<_>>()));
        detectors.push(fleet.start(&["detect"]));
        spread(&detectors.iter().collect::<Vec<_>>());
    }
    assert!(!load.is_over(), "the restart took longer than the load");

    // A zombie.
    let zombie = detectors.remove(0);
    zombie.signal("STOP");
    spread(&detectors.iter().collect::<Vec<_>>());
    std::thread::sleep(Duration::from_secs(2));
    assert!(!load.is_over(), "nothing came while it was thought dead");
    zombie.signal("CONT");
    detectors.push(zombie);
    spread(&detectors.iter().collect::<Vec<_>>());
    assert!(detectors.iter().all(|detector| detector.admin("/readyz").0 == 200));

    // 3 → 1.
    for _ in 0..2 {
        let leaving = detectors.remove(0);
        took.push(hand_over(leaving, &detectors.iter().collect::<Vec<_>>()));
    }
    assert!(!load.is_over(), "it ended after the load");
    acknowledged.extend(load.finish().acknowledged);
    println!("from SIGTERM until the partitions were judged by others: {took:.2?}");
    assert!(took.iter().all(|took| *took < SESSION), "a hand-over waited for the session to end: {took:?}");

    let ids = fleet.ids();
    assert!(acknowledged.iter().all(|id| ids.contains_key(id)), "acknowledged and lost");
    let revisions = fleet.settled();
    fleet.delivered(&revisions, &[front.data_dir.join("findings.jsonl")]);
    shows_what_is_open(&fleet, &detectors.iter().collect::<Vec<_>>());
    // The last one leaves nothing to do again.
    assert!(detectors.into_iter().all(|detector| detector.terminate().success()));
    for (committed, snapshot, end) in progress(&fleet) {
        assert_eq!((committed, snapshot), (end, end));
    }
    assert!(front.terminate().success());
}

#[test]
fn a_detector_without_partitions_is_ready_and_takes_over() {
    for protocol in ["classic", "consumer"] {
        let fleet = Fleet::new(Cluster::shared(), 1, 1, protocol);
        let detectors = [fleet.start(&["detect"]), fleet.start(&["detect"])];
        let share = || detectors.iter().map(|detector| partitions(detector).len()).collect::<Vec<_>>();
        until("one of them to have it", || (share().iter().sum::<usize>() == 1).then_some(()));
        let [one, other] = detectors;
        let (owner, idle) = if partitions(&one).is_empty() { (other, one) } else { (one, other) };
        let took = hand_over(owner, &[&idle]);
        println!("{protocol}: from SIGTERM until the other judged the partition: {took:.2?}");
        assert!(idle.terminate().success());
    }
}
