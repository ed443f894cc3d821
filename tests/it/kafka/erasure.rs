//! An account is forgotten on Kafka: every record that can still be read from any topic is looked through for it, and so is
//! the directory of the process that delivers.

use std::path::Path;

use authspike::clock::Clock;
use serde_json::Value;

use super::Cluster;
use super::fleet::{ALL, Fleet};
use crate::support::{Instance, until};

const TENANT: &str = "ins_erasure";
const TOPICS: [&str; 5] = ["events.v1", "state.v1", "findings.v1", "events.dlq.v1", "aliases.v1"];

fn user(number: u32) -> String {
    format!("user_2fORGETtheQUICKbrown{number:04}")
}

fn attack(instance: &Instance) {
    let now = Clock::system().now().0;
    let line = |number: u32| {
        let at = now - 60_000 + i64::from(number) * 100;
        let (outcome, user) = if number == 30 { ("success", user(3)) } else { ("failure", user(number)) };
        format!(
            r#"{{"id":"of-{number}-{at}","occurred_at":{at},"outcome":"{outcome}","ip":"203.0.113.7","instance_id":"{TENANT}","user_id":"{user}"}}"#
        )
    };
    let lines: Vec<String> = (0..=30).map(line).collect();
    assert_eq!(instance.attempts(&lines.join("\n")).unwrap().0, 200);
}

fn holds(bytes: &[u8], needle: &str) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
}

/// The topics in which something that can be read names `needle`. Snapshots are compressed.
fn naming(fleet: &Fleet, needle: &str) -> Vec<&'static str> {
    let names = |topic: &&str| {
        fleet.read(topic).iter().any(|record| {
            let value = record.value.clone().unwrap_or_default();
            let value = if *topic == "state.v1" && !value.is_empty() {
                // A small state is one part.
                zstd::decode_all(&*value).unwrap()
            } else {
                value
            };
            holds(&value, needle) || holds(record.key.as_deref().unwrap_or_default(), needle)
        })
    };
    TOPICS.into_iter().filter(names).collect()
}

fn files_naming(directory: &Path, needle: &str) -> Vec<String> {
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let naming = files.filter(|path| holds(&std::fs::read(path).unwrap(), needle));
    naming.map(|path| path.display().to_string()).collect()
}

#[test]
fn no_topic_and_no_file_names_an_account_that_was_forgotten_and_its_finding_goes_on() {
    let fleet = Fleet::new(Cluster::shared(), 2, 1, "classic");
    let instance = fleet.launch_with_token(&ALL, "admin-token-of-no-account");
    until("it to be ready", || (instance.admin("/readyz").0 == 200).then_some(()));
    attack(&instance);
    let finding = || -> Option<Value> {
        let open: Value = serde_json::from_str(&instance.admin("/v1/findings").1).unwrap();
        open.as_array().unwrap().first().cloned()
    };
    let before = until("the finding", || finding().filter(|one| one["evidence"]["compromised_total"] == 1));
    until("it to be delivered", || (!files_naming(&instance.data_dir, &user(3)).is_empty()).then_some(()));
    assert!(naming(&fleet, &user(3)).contains(&"events.v1") && naming(&fleet, &user(3)).contains(&"findings.v1"));

    let (status, said) = instance.admin_as(reqwest::Method::DELETE, &format!("/v1/accounts/{}", user(3)));
    assert!(status == 400 && said.contains("on Kafka the instance"), "{status} {said}");
    let path = format!("/v1/accounts/{}?tenant={TENANT}", user(3));
    let (status, said) = instance.admin_as(reqwest::Method::DELETE, &path);
    assert!(status == 200 || status == 202, "{status} {said}");
    until("no topic to name it", || naming(&fleet, &user(3)).is_empty().then_some(()));
    until("no file to name it", || files_naming(&instance.data_dir, &user(3)).is_empty().then_some(()));
    assert!(!instance.said().contains(&user(3)) && !instance.said().contains("not deleted yet"), "{}", instance.said());
    assert!(!files_naming(&instance.data_dir, &user(4)).is_empty(), "the others are still named");
    let audited = std::fs::read_to_string(instance.data_dir.join("audit.jsonl")).unwrap();
    assert!(audited.contains(r#""asked_by":"api""#), "{audited}");

    // Whoever takes over restores a state without it, and goes on.
    let after = until("its further revision", || finding().filter(|one| one["revision"] != before["revision"]));
    assert!(instance.terminate().success());
    let successor = fleet.launch_with_token(&ALL, "admin-token-of-no-account");
    let restored = until("the finding to be restored", || {
        let open: Value = serde_json::from_str(&successor.admin("/v1/findings").1).ok()?;
        open.as_array()?.first().cloned()
    });
    assert_eq!(restored["evidence"], after["evidence"]);
    assert_eq!(restored["evidence"]["totals"], before["evidence"]["totals"]);
    let pseudonym = restored["evidence"]["compromised"][0]["account"].as_str().unwrap();
    assert!(pseudonym.starts_with("erased_"), "{pseudonym}");
    assert!(successor.terminate().success());
    assert!(naming(&fleet, &user(3)).is_empty());
}
