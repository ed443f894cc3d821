//! Why it fired, or why not: the built binary asks a running instance, and a replay at its end.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::Instance;

const ADMIN_TOKEN: &str = "admin-token-of-no-account";

/// Failures of so many accounts from one address, one a second.
fn failures(address: &str, accounts: u32) -> String {
    let line = |second: u32| {
        let at = 1_767_600_000_000_u64 + u64::from(second) * 1000;
        format!(
            r#"{{"id":"{address}-{second}","occurred_at":{at},"outcome":"failure","ip":"{address}","user_id":"user_{address}_{second}","instance_id":"ins_1"}}"#
        )
    };
    (0..accounts).map(line).collect::<Vec<_>>().join("\n")
}

/// Exit code, stdout and stderr of `authspike` with `arguments`.
fn run(arguments: &[&str], token: Option<&str>) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_authspike"))
        .args(arguments)
        .env_clear()
        .envs(token.map(|token| ("AUTHSPIKE_ADMIN_TOKEN", token)))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn explain(admin: &str, entity: &str, more: &[&str], token: Option<&str>) -> (i32, String, String) {
    run(&[&["explain", entity, "--admin", admin], more].concat(), token)
}

#[test]
fn a_running_instance_says_why_it_fired_and_why_not() {
    let directory = tempfile::tempdir().unwrap();
    let instance = Instance::start(directory.path());
    let lines = format!("{}\n{}", failures("203.0.113.7", 12), failures("198.51.100.7", 5));
    assert_eq!(instance.attempts(&lines).unwrap().0, 200);
    instance.settle();
    let admin = format!("http://{}", instance.admin);
    let found: Value = serde_json::from_str(&instance.admin("/v1/findings").1).unwrap();
    let id = found[0]["finding_id"].as_str().unwrap();

    let (code, fired, stderr) = explain(&admin, "203.0.113.7", &[], None);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let blocks: Vec<_> = fired.split("\n\n").collect();
    assert_eq!(blocks.len(), 5, "whom it is about, and two windows each of the address and its network: {fired}");
    assert_eq!(blocks[0], "203.0.113.7, as of 2026-01-05T08:00:11.000Z by the time of the events");
    assert!(blocks[1].starts_with("Fired: in "), "{fired}");
    for figure in [
        " different accounts failed to sign in from 203.0.113.7; ",
        "address_failure_spike",
        "ins_1, still learning",
        ": 12 failures on ",
        "nothing is learned yet",
        "it takes 50x",
        "it takes less than 1 in 1,000,000",
        "fires at  8 accounts (never fewer than 8); 60 do whatever is normal",
        id,
        ", medium, open\n",
    ] {
        assert!(blocks[1].contains(figure), "{figure}: {fired}");
    }

    let (code, quiet, _) = explain(&admin, "198.51.100.7", &["--tenant", "ins_1"], None);
    assert_eq!(code, 0);
    let block = quiet.split("\n\n").nth(1).unwrap();
    assert!(block.starts_with("Quiet: in ") && block.contains("; 5 is below the minimum of 8: too few"), "{quiet}");
    assert!(block.contains("finding   none"), "{quiet}");

    let (code, json, _) = explain(&admin, "198.51.100.7", &["--json"], None);
    let answer: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &answer["explanations"][0]["verdict"]), (0, &Value::from("below_minimum")));
    assert_eq!(answer["explanations"][0]["window"]["failures"], 5);
    assert_eq!(answer["watermark"], 1_767_600_011_000_u64);
    let again = serde_json::from_str::<Value>(&explain(&admin, "198.51.100.7", &["--json"], None).1).unwrap();
    assert_eq!(again, answer, "asking changes nothing");

    for (entity, more) in [("192.0.2.1", [].as_slice()), ("203.0.113.7", &["--tenant", "ins_2"])] {
        let (code, unknown, _) = explain(&admin, entity, more, None);
        assert!(code == 0 && unknown.contains("note: nothing is known of it"), "{code} {unknown}");
    }
    assert!(instance.terminate().success());
}

#[test]
fn who_may_not_ask_or_asks_for_nothing_that_is_counted_is_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let instance = Instance::start_with(directory.path(), &[("AUTHSPIKE_ADMIN_TOKEN", ADMIN_TOKEN)]);
    let admin = format!("http://{}", instance.admin);
    for token in [None, Some("wrong-token")] {
        let (code, stdout, stderr) = explain(&admin, "203.0.113.7", &[], token);
        assert_eq!((code, stdout.as_str()), (1, ""));
        assert!(stderr.contains("401") && stderr.contains("AUTHSPIKE_ADMIN_TOKEN"), "{stderr}");
        assert!(!stderr.contains("wrong-token"), "{stderr}");
    }
    assert_eq!(explain(&admin, "203.0.113.7", &[], Some(ADMIN_TOKEN)).0, 0);
    for (entity, fault) in
        [("203.0.113.0/25", "/24 (IPv4)"), ("alice@example.com", "by its hash only"), ("idh_1", "must be an address")]
    {
        let (code, _, stderr) = explain(&admin, entity, &[], Some(ADMIN_TOKEN));
        assert!(code == 64 && stderr.contains(fault), "{code} {stderr}");
    }
    let (code, _, stderr) = explain("https://127.0.0.1:9090", "203.0.113.7", &[], None);
    assert!(code == 64 && stderr.contains("no TLS"), "{code} {stderr}");
    assert!(instance.terminate().success());
    let (code, _, stderr) = explain(&admin, "203.0.113.7", &[], Some(ADMIN_TOKEN));
    assert!(code == 1 && stderr.contains("cannot be asked"), "{code} {stderr}");
}

fn replayed(directory: &Path, more: &[&str]) -> (i32, String, String) {
    let file = directory.join("attempts.ndjson");
    std::fs::write(&file, format!("{}\n{}", failures("203.0.113.7", 12), failures("198.51.100.7", 5))).unwrap();
    run(&[&["replay", file.to_str().unwrap()], more].concat(), None)
}

#[test]
fn a_replay_explains_the_moment_of_the_last_event() {
    let directory = tempfile::tempdir().unwrap();
    let (code, stdout, stderr) = replayed(directory.path(), &["--explain", "203.0.113.7", "--explain", "198.51.100.7"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let (summary, explained) = stdout.split_once("\n\n203.0.113.7, as of 2026-01-05T08:00:11.000Z").unwrap();
    assert!(summary.contains("findings              1"), "{stdout}");
    let (fired, quiet) = explained.split_once("\n\n198.51.100.7, as of ").unwrap();
    assert!(
        fired.contains("\nFired: in ") && fired.contains(", medium, open\n"),
        "still open, though the summary counts it: {stdout}"
    );
    assert!(quiet.contains("5 is below the minimum of 8"), "{stdout}");
    assert!(!replayed(directory.path(), &[]).1.contains("as of"));
    assert_eq!(replayed(directory.path(), &["--explain", "203.0.113.0/25"]).0, 64);
    assert_eq!(replayed(directory.path(), &["--explain", "203.0.113.7", "--json"]).0, 64);
}
