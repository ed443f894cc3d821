//! `authspike outbox` and `authspike sink test` as an operator uses them, beside a running instance.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::faulty::{Faulty, Mode};
use crate::ocsf::faults;
use crate::support::{Instance, simulated, until};

const TOKEN: &str = "4f1c-no-real-token";

/// Runs `authspike` with the configuration in `directory`; exit code, stdout, stderr.
fn authspike(directory: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output: Output = Command::new(env!("CARGO_BIN_EXE_authspike"))
        .args(arguments)
        .env_clear()
        .env("AUTHSPIKE_CONFIG", directory.join("authspike.toml"))
        .env("AUTHSPIKE_SECRET_SIEM", TOKEN)
        .current_dir(directory)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert!(!out.contains(TOKEN) && !err.contains(TOKEN), "{out}{err}");
    (output.status.code().unwrap(), out, err)
}

fn configure(directory: &Path, faulty: &Faulty) {
    let data_dir = directory.join("data");
    let text = format!(
        "data_dir = \"{}\"\n[[sinks.splunk_hec]]\nname = \"siem\"\nurl = \"{}\"\ntoken_env = \"AUTHSPIKE_SECRET_SIEM\"\n",
        data_dir.display(),
        faulty.url()
    );
    std::fs::write(directory.join("authspike.toml"), text).unwrap();
}

#[test]
fn dead_letters_are_listed_shown_exported_replayed_and_purged_beside_a_running_instance() {
    let directory = tempfile::tempdir().unwrap();
    let faulty = Faulty::start();
    configure(directory.path(), &faulty);
    let run = |arguments: &[&str]| authspike(directory.path(), arguments);
    let (code, _, said) = run(&["outbox", "list"]);
    assert!(code == 1 && said.contains("cannot be opened"), "{said}");

    faulty.set(Mode::Answer(400, String::new(), r#"{"text":"Invalid data format 4f1c-no-real-token","code":6}"#));
    let file = directory.path().join("authspike.toml");
    let variables = [("AUTHSPIKE_CONFIG", file.to_str().unwrap()), ("AUTHSPIKE_SECRET_SIEM", TOKEN)];
    let instance = Instance::start_with(&directory.path().join("data"), &variables);
    let traffic =
        simulated(&["--lockout", "0", "--for", "5h", "--users", "20000", "--attack", "stuffing:at=2h,hits=2"]);
    assert_eq!(instance.attempts(&traffic).unwrap().0, 200);
    instance.settle();
    let dead = || instance.metric("authspike_outbox_dead_letters{sink=\"siem\"}");
    let found = instance.findings().len();
    let all = f64::from(u32::try_from(found).unwrap());
    until("dead letters", || (dead() == all).then_some(()));

    let data_dir = directory.path().join("data").display().to_string();
    let (code, listed, _) = run(&["outbox", "list", "--sink", "siem", "--state", "dead", "--data-dir", &data_dir]);
    assert_eq!((code, listed.matches("dead to siem: ").count()), (0, found), "{listed}");
    assert!(listed.contains("Invalid data format ***"), "the secret was struck out: {listed}");
    let (code, exported, _) = run(&["outbox", "export", "--state", "dead"]);
    let lines: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((code, lines.len()), (0, found));
    for line in &lines {
        assert_eq!(faults(&line["record"]), [""; 0]);
        assert_eq!(line["record"]["metadata"]["uid"], line["revision_id"]);
        assert!(line["reason"].as_str().unwrap().contains("answered 400"), "{line}");
    }
    let id = lines[0]["revision_id"].as_str().unwrap();
    let (_, shown, _) = run(&["outbox", "show", id]);
    assert!(shown.contains("delivered to jsonl: ") && shown.contains("dead to siem: "), "{shown}");

    let (code, _, said) = run(&["outbox", "purge"]);
    assert!(code == 64 && said.contains("--all"), "nothing is purged by leaving something out: {said}");
    let (_, purged, _) = run(&["outbox", "purge", id]);
    assert_eq!(purged, "1 deleted\n");
    faulty.set(Mode::Well);
    let (_, replayed, _) = run(&["outbox", "replay", "--sink", "siem"]);
    assert_eq!(replayed, format!("{} pending again\n", found - 1));
    until("what was replayed to arrive", || (faulty.taken().len() == found - 1).then_some(()));
    let (_, listed, _) = run(&["outbox", "list"]);
    assert!(!listed.contains("dead to"), "{listed}");
    assert!(instance.terminate().success());
}

#[test]
fn a_sink_is_tried_out_with_a_marked_finding_and_shows_what_the_receiver_says() {
    let directory = tempfile::tempdir().unwrap();
    let faulty = Faulty::start();
    configure(directory.path(), &faulty);
    let run = |arguments: &[&str]| authspike(directory.path(), arguments);
    faulty.set(Mode::Answer(401, String::new(), r#"{"text":"Invalid authorization","code":3}"#));
    let (code, out, _) = run(&["sink", "test", "siem"]);
    assert!(code == 1 && out.contains(": blocked") && out.contains("answered 401 Unauthorized"), "{out}");
    assert!(out.contains("Invalid authorization"), "{out}");

    faulty.set(Mode::Well);
    let (code, out, _) = run(&["sink", "test", "siem"]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("siem: opened ") && out.contains("siem: closed ") && out.contains("\"Success\""), "{out}");
    let taken = faulty.taken();
    assert_eq!((taken.len(), taken[0].revision, taken[1].revision), (2, 1, 2));
    assert!(out.contains(&taken[0].id));

    let (code, _, said) = run(&["sink", "test", "nowhere"]);
    assert!(code == 64 && said.contains("stdout, jsonl, siem"), "{said}");
    let (code, out, _) = run(&["sink", "test", "stdout"]);
    assert!(code == 0 && out.contains("no attack, nothing to do"), "{out}");
}
