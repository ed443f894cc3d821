//! Other settings while it runs: SIGHUP, the allow list, and a shadow detector, on the built binary.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::{Instance, until};

/// An instance with a configuration file of its own.
struct Configured {
    directory: tempfile::TempDir,
    file: PathBuf,
}

impl Configured {
    fn with(text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("authspike.toml");
        std::fs::write(&file, text).unwrap();
        Self { directory, file }
    }

    fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn start(&self) -> Instance {
        Instance::start_with(&self.data_dir(), &[("AUTHSPIKE_CONFIG", self.file.to_str().unwrap())])
    }

    /// Writes `text`, sends SIGHUP, and waits until it has been taken or refused.
    fn reload(&self, instance: &Instance, text: &str, expected: &str) {
        let done = |result: &str| instance.metric(&format!("authspike_config_reloads_total{{result=\"{result}\"}}"));
        let before = (done("ok"), done("failed"));
        std::fs::write(&self.file, text).unwrap();
        instance.signal("HUP");
        until("the configuration to be read again", || ((done("ok"), done("failed")) != before).then_some(()));
        let expected = match expected {
            "ok" => (before.0 + 1.0, before.1),
            _ => (before.0, before.1 + 1.0),
        };
        assert_eq!((done("ok"), done("failed")), expected, "{}", instance.said());
    }
}

/// Failures of ever new accounts from one address, one a second.
fn failures(address: &str, seconds: Range<u32>) -> String {
    let line = |second: u32| {
        let at = 1_767_600_000_000_u64 + u64::from(second) * 1000;
        format!(
            r#"{{"id":"{address}-{second}","occurred_at":{at},"outcome":"failure","ip":"{address}","user_id":"user_{address}_{second}"}}"#
        )
    };
    seconds.map(line).collect::<Vec<_>>().join("\n")
}

fn post(instance: &Instance, lines: &str) {
    let (status, answer) = instance.attempts(lines).unwrap();
    assert_eq!(status, 200, "{answer}");
    instance.settle();
}

/// Addresses that the delivered findings are about, and how many failures their newest revisions count.
fn delivered(instance: &Instance) -> Vec<(String, u64)> {
    let mut newest = std::collections::BTreeMap::new();
    for line in instance.findings().into_values() {
        let record: Value = serde_json::from_str(&line).unwrap();
        let figures = &record["unmapped"]["authspike"];
        let entity = figures["entity"]["value"].as_str().unwrap().to_owned();
        let failures = figures["totals"]["failures"].as_u64().unwrap();
        let most = newest.entry(entity).or_insert(0);
        *most = failures.max(*most);
    }
    newest.into_iter().collect()
}

fn addresses(findings: &Value) -> BTreeSet<String> {
    let of = |finding: &Value| finding["entity"]["value"].as_str().unwrap().to_owned();
    findings.as_array().unwrap().iter().map(of).collect()
}

#[test]
fn sighup_changes_what_is_judged_and_loses_nothing_that_was_counted() {
    let configured = Configured::with("[detect]\naddress_minimum = 40\n");
    let instance = configured.start();
    let loaded = instance.metric("authspike_config_loaded_timestamp_seconds");
    assert!(loaded > 1.7e9);
    post(&instance, &failures("203.0.113.7", 0..20));
    assert_eq!(delivered(&instance), []);

    configured.reload(
        &instance,
        "[detect]\naddress_minimum = 8\nmax_state_bytes = 2000000\n[log]\nretention_days = 9\n[logging]\nformat = \"json\"\n",
        "ok",
    );
    assert!(instance.metric("authspike_config_loaded_timestamp_seconds") > loaded);
    let warned = instance.said();
    let warned = warned.lines().find(|line| line.contains("restart")).unwrap();
    let warned: Value = serde_json::from_str(warned).unwrap();
    // The format of the log lines comes from the environment and has not changed.
    assert_eq!(warned["keys"], "detect.max_state_bytes, log.retention_days");
    post(&instance, &failures("203.0.113.7", 20..21));
    assert_eq!(delivered(&instance), [("203.0.113.7".to_owned(), 21)], "the twenty before count");

    configured.reload(&instance, "[detect]\naddress_minimum = 40\n", "ok");
    post(&instance, &failures("198.51.100.7", 30..50));
    assert_eq!(delivered(&instance).len(), 1);
    assert!(instance.terminate().success());
}

#[test]
fn with_a_fault_every_fault_is_logged_and_all_stays_as_it_was() {
    let configured = Configured::with("[detect]\naddress_minimum = 40\n");
    let instance = configured.start();
    let loaded = instance.metric("authspike_config_loaded_timestamp_seconds");
    let broken =
        "[detect]\naddress_minimum = 8\nfacor = 2\naccount_networks = 50\n[detect.tenants.ins_1]\nfactor = 1\n";
    configured.reload(&instance, broken, "failed");
    for fault in
        ["detect.facor: unknown key", "detect.account_networks: must be", "detect.tenants.ins_1.factor: must be"]
    {
        until(fault, || instance.said().contains(fault).then_some(()));
    }
    std::fs::remove_file(&configured.file).unwrap();
    instance.signal("HUP");
    until("the missing file to be named", || instance.said().contains("cannot be read").then_some(()));
    assert_eq!(instance.metric("authspike_config_loaded_timestamp_seconds"), loaded);
    post(&instance, &failures("203.0.113.7", 0..20));
    assert_eq!(delivered(&instance), [], "judged by the settings before");
    configured.reload(&instance, "[detect]\naddress_minimum = 8\n", "ok");
    post(&instance, &failures("203.0.113.7", 20..21));
    assert_eq!(delivered(&instance).len(), 1);
}

#[test]
fn an_allowed_network_is_quiet_until_its_entry_ends() {
    // The moment of the 51st failure.
    let configured = Configured::with(
        "[[detect.allow]]\ncidr = \"203.0.113.0/24\"\nuntil = 2026-01-05T08:00:50Z\nreason = \"load test\"\n",
    );
    let instance = configured.start();
    post(&instance, &failures("203.0.113.7", 0..50));
    assert_eq!(delivered(&instance), []);
    assert_eq!(instance.metric("authspike_detect_events_total"), 50.0);
    assert_eq!(instance.metric("authspike_detect_allowed_total"), 50.0);
    // Long after the entry has ended by wall time, an event of before is still allowed.
    post(&instance, &failures("203.0.113.9", 10..50));
    assert_eq!(delivered(&instance), []);
    post(&instance, &failures("203.0.113.7", 50..70));
    let found = delivered(&instance);
    assert!(found.len() == 1 && found[0].0 == "203.0.113.7" && found[0].1 <= 20, "{found:?}");
}

#[test]
fn a_shadow_is_counted_and_listed_and_never_delivered() {
    let configured = Configured::with("[detect.shadow]\nname = \"low\"\naddress_minimum = 4\n");
    let instance = configured.start();
    let few = ["192.0.2.1", "198.51.100.1", "203.0.113.1"];
    for (number, address) in (0..).zip(few) {
        post(&instance, &failures(address, number * 6..number * 6 + 6));
    }
    post(&instance, &failures("198.18.0.1", 20..40));
    let shadow = |instance: &Instance| -> Value {
        let (status, body) = instance.admin("/v1/shadow/findings");
        assert_eq!(status, 200);
        serde_json::from_str(&body).unwrap()
    };
    let shown = shadow(&instance);
    let all: BTreeSet<_> = few.iter().chain(&["198.18.0.1"]).map(ToString::to_string).collect();
    assert_eq!((shown["name"].as_str(), addresses(&shown["open"])), (Some("low"), all.clone()));
    assert_eq!(shown["recently_closed"], serde_json::json!([]));
    let live: Value = serde_json::from_str(&instance.admin("/v1/findings").1).unwrap();
    assert_eq!(addresses(&live), BTreeSet::from(["198.18.0.1".to_owned()]));
    assert_eq!(delivered(&instance).len(), 1);
    let count = |family: &str| {
        let labels = "{lifecycle=\"opened\",rule=\"address_failure_spike\",severity=\"medium\"}";
        instance.metric(&format!("authspike_{family}{labels}"))
    };
    assert_eq!((count("shadow_findings_total"), count("findings_total")), (4.0, 1.0));

    // It is still open after a restart, and gone when it is turned off.
    assert!(instance.terminate().success());
    let instance = configured.start();
    assert_eq!(addresses(&shadow(&instance)["open"]), all);
    configured.reload(&instance, "", "ok");
    assert_eq!(shadow(&instance), serde_json::json!({"name": null, "open": [], "recently_closed": []}));
    assert_eq!(delivered(&instance).len(), 1);
}

/// One address crosses the new threshold after it came into force, another only ever did before.
fn reloaded(kill: bool, key: Option<&Path>) -> (BTreeSet<String>, Configured) {
    let configured = Configured::with("[detect]\naddress_minimum = 40\n");
    if let Some(key) = key {
        std::fs::create_dir(configured.data_dir()).unwrap();
        std::fs::copy(key, configured.data_dir().join("identifier.key")).unwrap();
    }
    let mut instance = configured.start();
    post(&instance, &failures("203.0.113.7", 0..20));
    post(&instance, &failures("198.51.100.7", 0..20));
    configured.reload(&instance, "[detect]\naddress_minimum = 8\n[detect.shadow]\naddress_minimum = 4\n", "ok");
    post(&instance, &failures("203.0.113.7", 20..22));
    if kill {
        instance.kill();
        instance = configured.start();
    }
    post(&instance, &failures("203.0.113.7", 22..24));
    post(&instance, &failures("192.0.2.7", 24..40));
    let found = instance.findings().into_values().collect();
    instance.kill();
    (found, configured)
}

#[test]
fn kill_9_after_a_reload_repeats_only_what_came_after_it() {
    let (undisturbed, configured) = reloaded(false, None);
    assert_eq!(undisturbed.len(), 2, "{undisturbed:?}");
    let (found, _) = reloaded(true, Some(&configured.data_dir().join("identifier.key")));
    // Not `assert_eq`: two pages of JSON say less than the difference in number.
    assert!(found == undisturbed, "{} instead of {}", found.len(), undisturbed.len());
}

#[test]
fn a_changed_secret_needs_a_restart_and_is_not_shown() {
    let directory = tempfile::tempdir().unwrap();
    let tokens = directory.path().join("tokens");
    std::fs::write(&tokens, "first-admin-token").unwrap();
    let instance = Instance::start_with(
        &directory.path().join("data"),
        &[("AUTHSPIKE_ADMIN_TOKEN_FILE", tokens.to_str().unwrap())],
    );
    std::fs::write(&tokens, "second-admin-token").unwrap();
    instance.signal("HUP");
    until("it to be in force", || instance.said().contains("the configuration is in force").then_some(()));
    let said = instance.said();
    assert!(said.contains("\"keys\":\"secrets\""), "{said}");
    assert!(!said.contains("admin-token"), "{said}");
}

#[test]
fn replay_shows_what_both_sets_of_thresholds_find() {
    let directory = tempfile::tempdir().unwrap();
    let lines = [failures("192.0.2.1", 0..6), failures("198.51.100.1", 6..12), failures("203.0.113.1", 12..40)];
    std::fs::write(directory.path().join("attempts.ndjson"), lines.join("\n")).unwrap();
    let replay = |arguments: &[&str], minimum: Option<&str>| {
        let variables = minimum.map(|minimum| ("AUTHSPIKE_DETECT__SHADOW__ADDRESS_MINIMUM", minimum));
        let output = Command::new(env!("CARGO_BIN_EXE_authspike"))
            .args(["replay", "attempts.ndjson"])
            .args(arguments)
            .env_clear()
            .envs(variables)
            .current_dir(directory.path())
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, page, _) = replay(&["--shadow"], Some("4"));
    let rows: Vec<Vec<_>> = page.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(code, Some(0));
    assert!(rows.contains(&vec!["findings", "1", "3"]), "{page}");
    assert!(rows.contains(&vec!["1", "3", "medium", "address_failure_spike"]), "{page}");
    // Not asked for, it is not there; asked for without thresholds, it is a mistake.
    let (code, page, _) = replay(&[], Some("4"));
    assert!(code == Some(0) && !page.contains("shadow"), "{page}");
    let (code, _, fault) = replay(&["--shadow"], None);
    assert!(code == Some(64) && fault.contains("[detect.shadow]"), "{fault}");
}
