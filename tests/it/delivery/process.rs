//! The built binary: killed, with a damaged database, with a sink that hangs.

use std::collections::BTreeSet;

use authspike::clock::Stopwatch;

use super::count;
use crate::faulty::{Faulty, Mode};
use crate::support::{Instance, simulated, until};

/// The built binary, killed at every step between the commit of a finding and the record of its delivery.
#[test]
fn kill_9_at_every_step_of_the_way_out_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let faulty = Faulty::start();
    let file = directory.path().join("authspike.toml");
    let section = format!("[[sinks.splunk_hec]]\nname = \"siem\"\nurl = \"{}\"\ntoken_env = \"T\"\n", faulty.url());
    std::fs::write(&file, section).unwrap();
    let variables = [("AUTHSPIKE_CONFIG", file.to_str().unwrap()), ("T", "token")];
    let data_dir = directory.path().join("data");
    let start = || Instance::start_with(&data_dir, &variables);
    let depth = |instance: &Instance| instance.metric("authspike_outbox_depth{sink=\"siem\"}");

    println!("{:<44} {:>8}", "killed", "taken");
    let killed = |step: &str, instance: Instance| {
        instance.kill();
        println!("{step:<44} {:>8}", faulty.taken().len());
    };
    faulty.set(Mode::Refuse);
    let instance = start();
    let traffic =
        simulated(&["--lockout", "0", "--for", "5h", "--users", "20000", "--attack", "stuffing:at=2h,hits=2"]);
    assert_eq!(instance.attempts(&traffic).unwrap().0, 200);
    instance.settle();
    until("findings", || Some(depth(&instance)).filter(|depth| *depth >= 3.0));
    killed("committed, nothing sent", instance);

    faulty.set(Mode::ResetMidBody);
    let (instance, before) = (start(), faulty.requests());
    until("a request", || (faulty.requests() > before).then_some(()));
    killed("half of the body sent", instance);
    assert_eq!(faulty.taken(), []);

    for step in ["taken, not answered", "answered, perhaps not recorded"] {
        faulty.set(Mode::Held);
        let (hold, before) = (faulty.hold(), faulty.taken().len());
        let instance = start();
        until("it to be taken", || (faulty.taken().len() > before).then_some(()));
        if step.starts_with("answered") {
            drop(hold);
            killed(step, instance);
        } else {
            killed(step, instance);
            drop(hold);
        }
    }
    faulty.set(Mode::Well);
    let instance = start();
    instance.settle();
    until("the rest", || (depth(&instance) == 0.0).then_some(()));
    killed("all recorded", instance);
    let taken = faulty.taken().len();
    let instance = start();
    instance.settle();
    let found: BTreeSet<String> = instance.findings().into_keys().collect();
    assert!(instance.terminate().success());
    assert_eq!(faulty.taken().len(), taken, "what was recorded does not come again");

    let arrived: BTreeSet<String> = faulty.taken().into_iter().map(|one| one.id).collect();
    assert!(found.len() >= 3, "{found:?}");
    assert_eq!(arrived, found, "the file and the receiver hold the same revisions");
    let count = count(&faulty, found.len());
    println!("{} revisions, lost {}, twice {}", found.len(), count.lost, count.twice);
    assert!(count.lost == 0 && count.twice > 0);
}

#[test]
fn with_a_damaged_database_it_says_so_and_runs() {
    let directory = tempfile::tempdir().unwrap();
    Instance::start(directory.path()).kill();
    std::fs::remove_file(directory.path().join("authspike.db-wal")).unwrap();
    std::fs::write(directory.path().join("authspike.db"), b"SQLite format 3\0 and then nothing of the kind").unwrap();
    let instance = Instance::start(directory.path());
    assert!(instance.said().contains("the database is damaged: moved aside"), "{}", instance.said());
    assert!(directory.path().join("authspike.db.damaged-1").exists());
    assert_eq!(
        instance
            .attempts(r#"{"id":"1","occurred_at":1716883200000,"outcome":"failure","identifier":"a@b.c"}"#)
            .unwrap()
            .0,
        200
    );
    assert!(instance.terminate().success());
}

#[test]
fn a_sink_that_hangs_holds_up_neither_detection_nor_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let faulty = Faulty::start();
    faulty.set(Mode::Hang);
    let file = directory.path().join("authspike.toml");
    let section = format!("[[sinks.splunk_hec]]\nname = \"siem\"\nurl = \"{}\"\ntoken_env = \"T\"\n", faulty.url());
    std::fs::write(&file, section).unwrap();
    let variables = [("AUTHSPIKE_CONFIG", file.to_str().unwrap()), ("T", "token")];
    let instance = Instance::start_with(&directory.path().join("data"), &variables);
    let first = simulated(&["--lockout", "0", "--for", "3h", "--users", "20000", "--attack", "guessing:at=1h"]);
    assert_eq!(instance.attempts(&first).unwrap().0, 200);
    instance.settle();
    until("the sink to hang", || (faulty.requests() > 0).then_some(()));
    let (before, watch) = (instance.findings().len(), Stopwatch::start());
    // While it hangs: five hours of traffic with an attack in them, judged and delivered to the file.
    let traffic =
        simulated(&["--lockout", "0", "--for", "5h", "--users", "20000", "--attack", "stuffing:at=2h,hits=2"]);
    assert_eq!(instance.attempts(&traffic).unwrap().0, 200);
    instance.settle();
    println!("{} revisions more in {:?} beside a sink that hangs", instance.findings().len() - before, watch.elapsed());
    assert!(instance.findings().len() > before, "{before}");
    assert_eq!(faulty.taken(), []);
    assert_eq!(instance.metric("authspike_log_lag_records{partition=\"0\"}"), 0.0);
    instance.kill();
}
