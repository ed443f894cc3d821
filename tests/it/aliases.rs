//! One person, several names: the built binary, from posts to findings.

use serde_json::{Value, json};

use crate::support::Instance;

/// Quiet months before, so that what follows is judged at once by the shipped figures.
const START: i64 = 1_767_600_000_000;
const TENANT: &str = "ins_1";

fn attempt(number: i64, outcome: &str, who: &Value) -> String {
    let mut attempt = json!({"id": format!("a-{outcome}-{number}"), "occurred_at": START + number * 5000, "outcome": outcome,
        "ip": format!("198.51.{}.7", number % 3), "instance_id": TENANT});
    attempt.as_object_mut().unwrap().extend(who.as_object().unwrap().clone());
    attempt.to_string()
}

fn failures(numbers: std::ops::Range<i64>, who: &Value) -> Vec<String> {
    numbers.map(|number| attempt(number, "failure", who)).collect()
}

fn post(instance: &Instance, lines: &[String]) {
    let (status, answer) = instance.attempts(&lines.join("\n")).unwrap();
    assert_eq!((status, &answer["refused"]), (200, &json!(0)), "{answer}");
}

fn webhook(instance: &Instance, id: &str, kind: &str, data: &Value) {
    let body = json!({"object": "event", "type": kind, "instance_id": TENANT, "timestamp": START, "data": data});
    assert_eq!(instance.webhook(id, body.to_string().as_bytes()), 204);
}

fn user(email: &str) -> Value {
    json!({"id": "user_1", "username": "alice", "phone_numbers": [],
        "email_addresses": [{"email_address": email, "verification": {"status": "verified"}}]})
}

/// The last revision of each finding about an account, by the account.
fn about_accounts(instance: &Instance) -> Vec<(String, Value)> {
    instance.settle();
    let mut newest: Vec<Value> = Vec::new();
    let lines = instance.findings();
    for line in lines.values() {
        let record: Value = serde_json::from_str(line).unwrap();
        if record["finding_info"]["analytic"]["uid"] != "account_failure_spike" {
            continue;
        }
        let of = |record: &Value| record["finding_info"]["uid"].clone();
        let revision = |record: &Value| record["metadata"]["sequence"].as_u64().unwrap();
        match newest.iter_mut().find(|known| of(known) == of(&record)) {
            Some(known) if revision(known) < revision(&record) => *known = record,
            Some(_) => {}
            None => newest.push(record),
        }
    }
    let entity = |record: &Value| record["unmapped"]["authspike"]["entity"]["value"].as_str().unwrap().to_owned();
    newest.into_iter().map(|record| (entity(&record), record)).collect()
}

#[test]
fn failures_under_every_name_and_the_sign_in_that_follows_are_one_account() {
    let directory = tempfile::tempdir().unwrap();
    let instance = Instance::start(directory.path());
    webhook(&instance, "msg_1", "user.created", &user("alice@example.com"));
    // None of the three alone is enough for a finding.
    post(&instance, &failures(0..7, &json!({"identifier": "Alice@example.com"})));
    post(&instance, &failures(7..14, &json!({"identifier": "alice"})));
    post(&instance, &failures(14..21, &json!({"user_id": "user_1"})));
    post(&instance, &[attempt(22, "success", &json!({"identifier": "alice@example.com"}))]);
    // Nobody's.
    post(&instance, &failures(30..50, &json!({"identifier": "bob@example.com"})));
    // Two days later everything has closed.
    post(&instance, &failures(40_000..40_001, &json!({"user_id": "user_9"})));
    let found = about_accounts(&instance);
    let accounts: Vec<&str> = found.iter().map(|(account, _)| account.as_str()).collect();
    assert_eq!(accounts.iter().filter(|account| **account == "user_1").count(), 1, "{accounts:?}");
    assert_eq!(accounts.iter().filter(|account| account.starts_with("idh_")).count(), 1, "{accounts:?}");
    assert_eq!(accounts.len(), 2);
    for (account, record) in &found {
        let (figures, text) = (&record["unmapped"]["authspike"], record["finding_info"]["desc"].as_str());
        let says_so = text.unwrap().contains("not known to belong to a user");
        if account == "user_1" {
            assert_eq!(figures["totals"]["failures"], 21, "{figures}");
            assert_eq!(figures["compromised_total"], 1, "{figures}");
            assert_eq!(figures["compromised"][0]["account"], "user_1");
            assert!(!says_so);
        } else {
            assert_eq!(figures["totals"]["failures"], 20, "{figures}");
            assert!(says_so, "{text:?}");
        }
    }
    assert_eq!(instance.metric("authspike_alias_entries"), 2.0);
    assert_eq!(instance.metric("authspike_alias_resolved_total"), 15.0);
    assert!(instance.terminate().success());
}

#[test]
fn names_outlive_a_restart_and_end_with_the_user() {
    let directory = tempfile::tempdir().unwrap();
    let instance = Instance::start(directory.path());
    let both = json!({"identifier": "alice@example.com", "user_id": "user_1"});
    post(&instance, &[attempt(0, "success", &both)]);
    assert!(instance.terminate().success());

    let instance = Instance::start(directory.path());
    assert_eq!(instance.metric("authspike_alias_entries"), 1.0);
    let email = json!({"identifier": "alice@example.com"});
    post(&instance, &failures(1..21, &email));
    webhook(&instance, "msg_1", "user.deleted", &json!({"id": "user_1", "deleted": true}));
    assert_eq!(instance.metric("authspike_alias_entries"), 0.0);
    // News of before that was on its way.
    webhook(&instance, "msg_2", "user.updated", &user("alice@example.com"));
    post(&instance, &failures(30..50, &email));
    let mut accounts: Vec<String> = about_accounts(&instance).into_iter().map(|(account, _)| account).collect();
    accounts.sort();
    assert_eq!(accounts.len(), 2, "{accounts:?}");
    assert!(accounts[0].starts_with("idh_") && accounts[1] == "user_1", "{accounts:?}");
    assert!(instance.terminate().success());

    let instance = Instance::start(directory.path());
    assert_eq!(instance.metric("authspike_alias_entries"), 0.0, "forgotten for good");
    assert!(instance.terminate().success());
}

#[test]
fn a_replay_joins_the_same_names() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("mixed.ndjson");
    let created = json!({"object": "event", "type": "user.created", "instance_id": TENANT, "timestamp": START,
        "data": user("alice@example.com")});
    let mut lines = vec![created.to_string()];
    lines.extend(failures(0..10, &json!({"identifier": "alice@example.com"})));
    lines.extend(failures(10..20, &json!({"user_id": "user_1"})));
    std::fs::write(&file, lines.join("\n")).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_authspike"))
        .args(["replay", "--json", "--data-dir"])
        .arg(directory.path())
        .arg(&file)
        .env_clear()
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let out = String::from_utf8(output.stdout).unwrap();
    let found: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [only] = &found[..] else { panic!("{out}") };
    let of = &only["unmapped"]["authspike"];
    assert_eq!((&of["entity"]["value"], &of["totals"]["failures"]), (&json!("user_1"), &json!(20)), "{of}");
}
