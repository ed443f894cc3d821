//! The built binary says of each instance what comes in and what it is blind to: in `/readyz`, in `/v1/signals`, in its
//! metrics and in its log, before and after a restart.

use authspike::clock::Clock;
use serde_json::Value;

use crate::support::{Instance, until};

fn attempt(number: u32, instance: &str, outcome: &str, more: &str) -> String {
    let at = Clock::system().now().0;
    format!(
        r#"{{"id":"{instance}-{number}","occurred_at":{at},"instance_id":"{instance}","outcome":"{outcome}","ip":"203.0.113.7"{more}}}"#
    )
}

/// `signal` and `state` of what `instance` is blind to, by `GET /readyz`.
fn blind(page: &Value, instance: &str) -> Vec<(String, String)> {
    let all = page["instances"].as_array().unwrap();
    let one = all.iter().find(|one| one["instance"] == instance).unwrap_or_else(|| panic!("{instance}: {page}"));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    one["blind"].as_array().unwrap().iter().map(|it| (text(&it["signal"]), text(&it["state"]))).collect()
}

#[test]
fn each_instance_is_told_with_what_comes_in_and_what_it_is_blind_to_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let instance = Instance::start(directory.path());
    let lines = [
        // Only successes, as where there is nothing but the webhook.
        attempt(1, "ins_webhookonly", "success", r#","user_id":"user_1","user_agent":"curl/8""#),
        // Failures of an access log: nobody is named.
        attempt(1, "ins_accesslog", "failure", ""),
        attempt(2, "ins_accesslog", "success", r#","user_id":"user_1""#),
    ];
    assert_eq!(instance.attempts(&lines.join("\n")).unwrap().1["accepted"], 3);
    let ready = |instance: &Instance| serde_json::from_str::<Value>(&instance.admin("/readyz").1).unwrap();
    until("the instances to be told of", || (ready(&instance)["instances_total"] == 2).then_some(()));

    let never = |signals: &[&str]| -> Vec<(String, String)> {
        signals.iter().map(|signal| ((*signal).to_owned(), "never".to_owned())).collect()
    };
    let page = ready(&instance);
    assert_eq!(blind(&page, "ins_webhookonly"), never(&["failure", "code_request", "lock_out"]));
    let of_accesslog = never(&["success_with_user_agent", "failure_with_account", "code_request", "lock_out"]);
    assert_eq!(blind(&page, "ins_accesslog"), of_accesslog);
    let rules = &page["instances"][1]["blind"][0]["rules"];
    assert_eq!(page["instances"][1]["instance"], "ins_webhookonly");
    assert_eq!(rules.as_array().unwrap().len(), 5, "{rules}");
    let all: Value = serde_json::from_str(&instance.admin("/v1/signals").1).unwrap();
    assert_eq!(all, page["instances"]);
    let signals = &all[0]["signals"];
    assert_eq!(
        (&signals["failure"]["state"], &signals["failure_with_account"]["state"]),
        (&"flowing".into(), &"never".into())
    );
    assert!(signals["failure_without_account"]["last_seen_at"].as_i64() > Some(1_700_000_000_000), "{signals}");
    let gauge = |instance: &Instance, signal: &str, state: &str| {
        instance.metric(&format!("authspike_detect_signals{{signal=\"{signal}\",state=\"{state}\"}}"))
    };
    assert_eq!((gauge(&instance, "failure", "flowing"), gauge(&instance, "failure", "never")), (1.0, 1.0));
    assert_eq!(gauge(&instance, "success", "flowing"), 2.0);
    let before = signals.clone();
    assert!(instance.terminate().success());

    let instance = Instance::start(directory.path());
    let page = ready(&instance);
    assert_eq!(page["instances"][0]["signals"], before, "a restart forgets nothing");
    let told: Vec<Value> = instance.said().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let has = |tenant: &str, text: &str| {
        told.iter()
            .any(|line| line["instance"] == tenant && line["message"].as_str().is_some_and(|it| it.contains(text)))
    };
    assert!(has("ins_webhookonly", "no failure was ever seen; no failure rate"), "{told:?}");
    assert!(has("ins_accesslog", "no failure that names an account was ever seen"), "{told:?}");
    assert!(!has("ins_accesslog", "no failure was ever seen"));
}
