//! `kill -9` at random moments under load: nothing acknowledged is missing, no finding is lost, none gets a second id.

use std::path::PathBuf;
use std::time::Duration;

use authspike::clock::Stopwatch;

use super::cluster::Cluster;
use super::fleet::{Fleet, traffic};
use super::load::{Chance, Load, Receivers};
use crate::support::Instance;

/// Of each role.
const ROUNDS: usize = 10;
/// Long enough that some rounds let a takeover end (a session lasts 4 s) and others break into it.
const ROUND_MILLIS: [u64; 2] = [500, 7000];
/// While somebody is dead.
const DEAD_MILLIS: [u64; 2] = [0, 1500];

const ROLES: [&str; 3] = ["receive", "detect", "deliver"];

#[test]
fn kill_9_of_receivers_detectors_and_deliverers_loses_nothing_and_finds_nothing_twice() {
    let mut chance = Chance::new();
    let fleet = Fleet::new(Cluster::shared(), 6, 1, "classic");
    // Two of each, in this order.
    let mut processes: Vec<(&str, Instance)> =
        ROLES.iter().flat_map(|role| [*role; 2]).map(|role| (role, fleet.start(&[role]))).collect();
    let receivers = Receivers::of(&[&processes[0].1, &processes[1].1]);
    let mut files: Vec<PathBuf> =
        processes[4..].iter().map(|(_, instance)| instance.data_dir.join("findings.jsonl")).collect();
    let span = Duration::from_secs(60);
    let load = Load::start(traffic("70m"), &receivers, span);

    let mut killed_under_load = 0;
    let begun = Stopwatch::start();
    for round in 0..ROUNDS {
        // Every role once, at moments of its own; the round takes its share of the time whatever is drawn.
        let mut order = [0, 1, 2];
        for place in 0..2 {
            order.swap(place, place + usize::try_from(chance.below(3 - place as u64)).unwrap());
        }
        for role in order {
            let place = role * 2 + usize::try_from(chance.below(2)).unwrap();
            chance.pause(ROUND_MILLIS[0] / 3, ROUND_MILLIS[1] / 3);
            killed_under_load += usize::from(!load.is_over());
            replace(&fleet, &mut processes[place], &receivers, &mut files, &mut chance);
        }
        println!("round {round}: {:.1} s", begun.elapsed().as_secs_f64());
    }
    let posted = load.finish();
    assert!(killed_under_load >= 2 * ROUNDS, "most of the {} kills came after the load", ROUNDS * 3);

    let ids = fleet.ids();
    let missing: Vec<_> = posted.acknowledged.iter().filter(|id| !ids.contains_key(*id)).collect();
    assert!(missing.is_empty(), "acknowledged and lost: {missing:?}");
    let revisions = fleet.settled();
    assert!(revisions.len() > 50, "{} revisions: the load was no attack", revisions.len());
    let lines = fleet.delivered(&revisions, &files);
    let twice: usize = ids.values().map(|count| count - 1).sum();
    println!(
        "{} acknowledged ({} requests repeated, {twice} records twice in the log), {} revisions, {lines} deliveries, \
         {killed_under_load} kills under load, {:.0} s",
        posted.acknowledged.len(),
        posted.again,
        revisions.len(),
        begun.elapsed().as_secs_f64(),
    );
    for (_, process) in processes {
        assert!(process.terminate().success());
    }
}

/// Kills a process and starts one in its place: a deliverer with the disk of the dead one or without.
fn replace(
    fleet: &Fleet,
    (role, process): &mut (&str, Instance),
    receivers: &Receivers,
    files: &mut Vec<PathBuf>,
    chance: &mut Chance,
) {
    let (ingest, data_dir) = (process.ingest, process.data_dir.clone());
    process.kill_now();
    chance.pause(DEAD_MILLIS[0], DEAD_MILLIS[1]);
    let keeps_disk = chance.below(2) == 0;
    *process = if keeps_disk { fleet.launch_in(&[role], &data_dir) } else { fleet.launch(&[role]) };
    match *role {
        "receive" => receivers.replace(ingest, process.ingest),
        "deliver" if !keeps_disk => files.push(process.data_dir.join("findings.jsonl")),
        _ => {}
    }
}
