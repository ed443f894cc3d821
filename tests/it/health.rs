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

#[test]
fn a_sign_in_that_a_report_and_the_webhook_tell_of_counts_once_and_the_webhook_names_who_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let instance = Instance::start(directory.path());
    let now = Clock::system().now().0;
    let report = |number: u32, outcome: &str, more: &str| {
        let at = now - 60_000 + i64::from(number) * 1000;
        format!(
            r#"{{"id":"r-{number}","occurred_at":{at},"instance_id":"ins_1","outcome":"{outcome}","ip":"203.0.113.7"{more}}}"#
        )
    };
    let failures: Vec<String> =
        (0..20).map(|n| report(n, "failure", &format!(r#","identifier":"person{n}@example.com""#))).collect();
    assert_eq!(instance.attempts(&failures.join("\n")).unwrap().1["accepted"], 20);
    // The edge saw somebody get in, and not who.
    let success = report(30, "success", r#","session_id":"sess_1""#);
    assert_eq!(instance.attempts(&success).unwrap().1["accepted"], 1);
    let at = now - 30_000;
    let body = format!(
        r#"{{"object":"event","type":"session.created","instance_id":"ins_1","timestamp":{at},"data":{{"object":"session","id":"sess_1","user_id":"user_77","status":"active","created_at":{at}}},"event_attributes":{{"http_request":{{"client_ip":"203.0.113.7","user_agent":"curl/8"}}}}}}"#
    );
    assert_eq!(instance.webhook("msg_1", body.as_bytes()), 204);
    until("the second to be told from a further one", || {
        (instance.metric("authspike_detect_repeated_successes_total") == 1.0).then_some(())
    });
    instance.settle();
    let open: Vec<Value> = serde_json::from_str(&instance.admin("/v1/findings").1).unwrap();
    assert_eq!(open.len(), 1, "{open:?}");
    let evidence = &open[0]["evidence"];
    assert_eq!(evidence["totals"]["successes"], 1, "{evidence}");
    assert_eq!(evidence["compromised"][0]["account"], "user_77", "{evidence}");
    assert_eq!(evidence["compromised"][0]["address"], "203.0.113.7");
    assert_eq!(evidence["compromised_total"], 1);
    // Both are events that came in.
    let of = |source: &str| format!("authspike_ingest_events_total{{outcome=\"success\",source=\"{source}\"}}");
    assert_eq!((instance.metric(&of("attempt_report")), instance.metric(&of("clerk_webhook"))), (1.0, 1.0));
}
