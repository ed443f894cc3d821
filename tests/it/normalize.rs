//! What becomes of bytes that are not quite as documented: nothing panics, nothing private is kept, nothing signed is lost.

use authspike::event::{Account, AuthEvent, Outcome, Timestamp};
use authspike::normalize::identifier::IdentifierKey;
use authspike::normalize::{NormalizeError, Normalized, attempt, clerk_webhook};
use proptest::prelude::*;
use serde_json::{Value, json};

const NOW: Timestamp = Timestamp(1_716_883_205_000);

fn key() -> IdentifierKey {
    IdentifierKey::new(&[1; 32])
}

fn webhook(body: &Value) -> AuthEvent {
    clerk_webhook::normalize(Some("msg_1"), body.to_string().as_bytes(), Some(NOW), &key()).unwrap().event
}

fn report(body: &Value) -> Result<Normalized, NormalizeError> {
    attempt::normalize(body.to_string().as_bytes(), Some(NOW), &key())
}

#[test]
fn mails_tell_what_they_were_sent_for() {
    for (slug, outcome) in [
        ("account_locked", Outcome::Locked),
        ("verification_code", Outcome::CodeSent),
        ("reset_password_code", Outcome::CodeSent),
        ("magic_link_sign_in", Outcome::CodeSent),
        ("new_device_sign_in", Outcome::Other),
        ("password_changed", Outcome::Other),
    ] {
        for kind in ["email.created", "sms.created"] {
            let data = json!({"id": "ema_1", "slug": slug, "user_id": "user_1", "subject": "654321 is your code"});
            let event = webhook(&json!({"object": "event", "type": kind, "timestamp": 1_716_883_200, "data": data}));
            assert_eq!((event.outcome, event.reason.as_deref()), (outcome, Some(slug)), "{kind}");
            assert_eq!(event.account, Some(Account::User("user_1".into())));
        }
    }
    // A customer's own template may be called anything.
    let data = json!({"slug": "654321 is your code, alice@example.com"});
    let event = webhook(&json!({"object": "event", "type": "email.created", "data": data}));
    assert_eq!((event.outcome, event.reason.as_deref()), (Outcome::Other, Some("email.created")));
}

#[test]
fn a_lock_that_a_user_record_repeats_is_not_a_lock_out_of_its_own() {
    let user = json!({"object": "event", "type": "user.updated", "data": {"id": "user_1", "locked": true}});
    let event = webhook(&user);
    assert_eq!((event.outcome, event.reason.as_deref()), (Outcome::AccountChanged, Some("user_locked")));
    assert_eq!(event.account, Some(Account::User("user_1".into())));
}

#[test]
fn the_address_is_that_of_the_request_then_that_of_the_session_then_none() {
    let body = |request: Value, activity: Value| {
        let data = json!({"id": "sess_1", "user_id": "user_1", "latest_activity": activity});
        webhook(&json!({"object": "event", "type": "session.created", "event_attributes": request, "data": data})).ip
    };
    let request = |ip: &str| json!({"http_request": {"client_ip": ip}});
    let activity = json!({"ip_address": "198.51.100.7"});
    let (first, second) = (Some("203.0.113.7".parse().unwrap()), Some("198.51.100.7".parse().unwrap()));
    assert_eq!(body(request("203.0.113.7"), activity.clone()), first);
    assert_eq!(body(request("::ffff:203.0.113.7"), json!(null)), first);
    for unknown in ["", "0.0.0.0", "::", "somewhere"] {
        assert_eq!(body(request(unknown), activity.clone()), second, "{unknown}");
        assert_eq!(body(request(unknown), json!(null)), None, "{unknown}");
    }
    for strange in [json!(null), json!("x"), json!([1]), json!({"http_request": "x"}), json!({"http_request": []})] {
        assert_eq!(body(strange.clone(), activity.clone()), second, "{strange}");
        assert_eq!(body(json!({}), strange), None);
    }
}

#[test]
fn a_part_of_another_shape_costs_its_own_field_and_no_other() {
    for field in ["actor", "latest_activity", "locked", "created_at", "updated_at", "slug", "id"] {
        for value in [json!("x"), json!(1), json!([1]), json!({"a": 1})] {
            if field == "actor" {
                continue;
            }
            let mut data = json!({"id": "sess_1", "user_id": "user_1"});
            data[field] = value;
            let event = webhook(&json!({"object": "event", "type": "session.created", "data": data}));
            assert_eq!(event.outcome, Outcome::Success, "{data}");
            assert_eq!(event.account, Some(Account::User("user_1".into())), "{data}");
        }
    }
    for timestamp in [json!(null), json!("soon"), json!(-5), json!(0), json!({}), json!(1_716_883_200_000_000_i64)] {
        let event = webhook(&json!({"object": "event", "type": "role.created", "timestamp": timestamp, "data": {}}));
        assert_eq!(event.occurred_at, NOW, "{timestamp}: when it came");
    }
}

#[test]
fn a_webhook_from_a_clock_far_ahead_is_moved_back() {
    let body = json!({"object": "event", "type": "role.created", "timestamp": 1_716_890_000, "data": {"id": "role_1"}});
    let normalized = clerk_webhook::normalize(Some("msg_1"), body.to_string().as_bytes(), Some(NOW), &key()).unwrap();
    assert_eq!((normalized.event.occurred_at, normalized.clamped), (Timestamp(NOW.0 + 300_000), true));
}

#[test]
fn a_replayed_body_gets_an_id_from_what_it_is_about_and_its_own_time() {
    let replay =
        |body: &Value| clerk_webhook::normalize(None, body.to_string().as_bytes(), None, &key()).map(|it| it.event);
    let session = json!({"object": "event", "type": "session.created", "data": {"id": "sess_1", "user_id": "user_1"}});
    assert_eq!(replay(&session).unwrap_err(), NormalizeError::Missing("timestamp"));
    let mut of_2022 = session.clone();
    of_2022["data"]["created_at"] = json!(1_654_014_318_265_i64);
    let event = replay(&of_2022).unwrap();
    assert_eq!(&*event.id, "session.created|sess_1|1654014318265");
    assert_eq!((event.occurred_at, event.received_at), (Timestamp(1_654_014_318_265), Timestamp(1_654_014_318_265)));
    let nameless =
        |field: i64| json!({"object": "event", "type": "x.y", "timestamp": 1_716_883_200, "data": {"a": field}});
    let (one, two) = (replay(&nameless(1)).unwrap(), replay(&nameless(2)).unwrap());
    assert_ne!(one.id, two.id, "two things in one second");
    assert_eq!(one.id, replay(&nameless(1)).unwrap().id);
}

#[test]
fn codes_decide_where_no_outcome_is_given() {
    for (code, outcome) in [
        ("form_password_incorrect", Outcome::Failure),
        ("form_identifier_not_found", Outcome::Failure),
        ("form_password_or_identifier_incorrect", Outcome::Failure),
        ("form_code_incorrect", Outcome::Failure),
        ("incorrect_password", Outcome::Failure),
        ("account_lockout_warning", Outcome::Failure),
        ("a_code_of_next_year", Outcome::Failure),
        ("form_password_pwned", Outcome::PasswordCorrectStopped),
        ("form_password_compromised", Outcome::PasswordCorrectStopped),
        ("needs_client_trust", Outcome::PasswordCorrectStopped),
        ("user_locked", Outcome::Locked),
        ("too_many_requests", Outcome::RateLimited),
        ("requires_captcha", Outcome::Blocked),
        ("session_exists", Outcome::Other),
    ] {
        let event = report(&json!({"id": "1", "occurred_at": 1_716_883_200, "reason": code})).unwrap().event;
        assert_eq!((event.outcome, event.reason.as_deref()), (outcome, Some(code)));
        let told = json!({"id": "1", "occurred_at": 1_716_883_200, "reason": code, "outcome": "success"});
        assert_eq!(report(&told).unwrap().event.outcome, Outcome::Success, "the reporter saw the answer");
    }
}

#[test]
fn an_attempt_is_an_object_and_each_field_of_it_once() {
    for (item, error) in [
        ("", "there is nothing"),
        ("7", "not a JSON object"),
        // What serde would take for an object's fields in their order.
        (r#"["1", 1716883200, "failure"]"#, "not a JSON object"),
        (r#"{"id":"1","id":"2","occurred_at":1716883200,"outcome":"failure"}"#, "a field is there twice"),
        (r#"{"id":"1""#, "the JSON ends too early"),
        (r#"{"id":"1"} {}"#, "not JSON"),
    ] {
        let fault = attempt::normalize(item.as_bytes(), Some(NOW), &key()).unwrap_err();
        assert_eq!(fault.reason(), "malformed");
        assert!(fault.to_string().starts_with(error), "{item}: {fault}");
    }
}

/// Any JSON value, small.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        "[\\x00-\\x7f]{0,300}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::hash_map("[a-z_]{1,8}", inner, 0..3).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

fn is_fit_to_keep(event: &AuthEvent) {
    let texts = [Some(&event.id), event.reason.as_ref(), event.user_agent.as_ref(), event.session.as_ref()];
    let account = match &event.account {
        Some(Account::User(id)) => Some(id),
        Some(Account::Identifier(_)) | None => None,
    };
    for text in texts.into_iter().flatten().chain(account).chain([&event.tenant.0]) {
        assert!(text.len() <= 256 && !text.chars().any(char::is_control), "{text:?}");
    }
    assert!(event.occurred_at.0 > 0 && event.occurred_at.0 <= event.received_at.0 + 300_000);
}

proptest! {
    #[test]
    fn whatever_an_attempt_holds_it_is_refused_or_fit_to_keep(
        fields in prop::collection::vec((0..10_usize, any_json()), 0..5),
        live in any::<bool>(),
    ) {
        const NAMES: [&str; 10] = ["id", "occurred_at", "outcome", "reason", "ip", "user_id", "identifier", "user_agent",
            "instance_id", "session_id"];
        let mut item = json!({"id": "1", "occurred_at": 1_716_883_200, "outcome": "failure"});
        for (field, value) in fields {
            item[NAMES[field]] = value;
        }
        if let Ok(normalized) = attempt::normalize(item.to_string().as_bytes(), live.then_some(NOW), &key()) {
            is_fit_to_keep(&normalized.event);
        }
    }

    #[test]
    fn whatever_a_webhook_holds_beside_its_envelope_it_is_taken(
        data in prop::collection::vec((0..8_usize, any_json()), 0..5),
        attributes in any_json(),
        timestamp in any_json(),
        kind in prop_oneof![Just("session.created"), Just("user.updated"), Just("email.created"), Just("a.new_one")],
    ) {
        const NAMES: [&str; 8] =
            ["id", "user_id", "slug", "actor", "latest_activity", "locked", "created_at", "updated_at"];
        let data: Value = data.into_iter().map(|(field, value)| (NAMES[field].to_owned(), value)).collect();
        let body = json!({"object": "event", "type": kind, "timestamp": timestamp, "instance_id": "ins_1",
            "event_attributes": attributes, "data": data});
        is_fit_to_keep(&webhook(&body));
    }

    #[test]
    fn bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = attempt::normalize(&bytes, None, &key());
        let _ = clerk_webhook::normalize(None, &bytes, None, &key());
        let _ = attempt::id_of(&bytes);
    }
}
