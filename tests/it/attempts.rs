//! `POST /v1/attempts`, on the router itself.

use authspike::event::{Account, Outcome, Timestamp};
use authspike::secret::Secret;
use authspike::sources::signature::SigningKey;
use authspike::sources::{Config, Secrets};
use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};

use crate::support::{SECRET, TOKEN};
use crate::webhook::Door;

fn door() -> Door {
    let secrets = Secrets {
        attempts: vec![Secret::new(SECRET)],
        attempts_tokens: vec![Secret::new("another"), Secret::new(TOKEN)],
        ..Secrets::default()
    };
    Door::new(Config::default(), secrets)
}

fn request(body: impl Into<Vec<u8>>) -> Request<Body> {
    Request::post("/v1/attempts")
        .header("authorization", format!("Bearer {TOKEN}"))
        .header("content-type", "application/json")
        .body(Body::from(body.into()))
        .unwrap()
}

fn attempt(id: &str) -> Value {
    json!({"id": id, "occurred_at": 1_716_883_200_000_i64, "outcome": "failure", "ip": "203.0.113.7",
        "identifier": "alice@example.com"})
}

async fn answer(door: &Door, body: impl Into<Vec<u8>>) -> Value {
    let (status, _, body) = door.send(request(body)).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    serde_json::from_str(&body).unwrap()
}

#[tokio::test]
async fn one_object_an_array_and_lines_are_all_taken() {
    let door = door();
    let pretty = serde_json::to_string_pretty(&attempt("one")).unwrap();
    assert_eq!(answer(&door, pretty).await["accepted"], 1);
    assert_eq!(answer(&door, json!([attempt("two"), attempt("three")]).to_string()).await["accepted"], 2);
    let lines = format!("{}\r\n\n{}\n", attempt("four"), attempt("five"));
    assert_eq!(answer(&door, lines).await["accepted"], 2);
    assert_eq!(door.events().len(), 5);
}

#[tokio::test]
async fn each_item_has_its_own_result_and_a_bad_one_loses_no_other() {
    let door = door();
    let mut items =
        vec![attempt("a").to_string(), attempt("a").to_string(), "{\"id\":\"b\"}".into(), "nonsense".into()];
    for (field, value) in [
        ("occurred_at", json!("yesterday")),
        ("outcome", json!("won")),
        ("ip", json!("300.1.1.1")),
        ("id", json!("")),
        ("user_id", json!("user\u{0}")),
        ("user_id", json!(7)),
        // What a person typed has no place in fields that are kept in the clear.
        ("user_id", json!("alice@example.com")),
        ("reason", json!("no account for alice@example.com")),
    ] {
        let mut item = attempt("c");
        item[field] = value;
        items.push(item.to_string());
    }
    items.push(attempt("d").to_string());
    let answer = answer(&door, items.join("\n")).await;
    assert_eq!((&answer["accepted"], &answer["duplicates"], &answer["refused"]), (&json!(2), &json!(1), &json!(10)));
    let results = answer["results"].as_array().unwrap();
    let statuses: Vec<_> = results.iter().map(|result| result["status"].as_str().unwrap()).collect();
    let refused = vec!["refused"; 10];
    assert_eq!(statuses, [vec!["accepted", "duplicate"], refused, vec!["accepted"]].concat());
    assert_eq!(results[2], json!({"id": "b", "status": "refused", "reason": "occurred_at: is missing"}));
    assert_eq!(results[6]["reason"], "ip: is not an IP address");
    assert_eq!(results[9]["reason"], "user_id: is not a string");
    for quoted in ["300.1.1.1", "alice"] {
        assert!(!answer.to_string().contains(quoted), "{quoted} is quoted");
    }
    let refused = |reason| door.metrics.ingest.items_refused.with_label_values(&[reason]).get();
    assert_eq!(
        (refused("malformed"), refused("missing_field"), refused("bad_field")),
        (1, 2, 7),
        "an empty id is none"
    );
    assert_eq!(door.events().len(), 2);
}

#[tokio::test]
async fn fields_become_the_event_and_the_identifier_only_its_hash() {
    let door = door();
    let full = json!({"id": "1", "occurred_at": "2024-05-28T10:00:00.5+02:00", "reason": "form_password_pwned",
        "ip": "::ffff:203.0.113.7", "user_id": "user_1", "identifier": " Alice@Example.com", "user_agent": "Mo\nzilla",
        "instance_id": "ins_1", "session_id": "sess_1", "password": "hunter2", "unknown": [1, 2]});
    let bare = json!({"id": "2", "occurred_at": 1_716_883_200, "reason": "form_identifier_not_found",
        "identifier": "alice@example.com", "instance_id": "ins_1", "ip": ""});
    assert_eq!(answer(&door, format!("{full}\n{bare}")).await["accepted"], 2);
    let events = door.events();
    let (full, bare) = (&events[0], &events[1]);
    assert_eq!(full.occurred_at, Timestamp(1_716_883_200_500));
    assert_eq!(full.outcome, Outcome::PasswordCorrectStopped);
    assert_eq!(full.ip, Some("203.0.113.7".parse().unwrap()));
    assert_eq!(full.account, Some(Account::User("user_1".into())));
    assert_eq!(full.user_agent.as_deref(), Some("Mo zilla"));
    assert_eq!(full.session.as_deref(), Some("sess_1"));
    assert_eq!((bare.outcome, bare.ip), (Outcome::Failure, None));
    assert_eq!(bare.occurred_at, Timestamp(1_716_883_200_000), "seconds are understood");
    assert_eq!(bare.account, full.identifier.map(Account::Identifier), "the same person");
    let kept = format!("{events:?}");
    assert!(!kept.to_lowercase().contains("alice") && !kept.contains("hunter2"), "{kept}");
}

#[tokio::test]
async fn a_clock_far_ahead_is_moved_back_and_counted() {
    let door = door();
    let mut item = attempt("1");
    item["occurred_at"] = json!(1_716_883_205_000_i64 + 3_600_000);
    answer(&door, item.to_string()).await;
    assert_eq!(door.events()[0].occurred_at, Timestamp(1_716_883_205_000 + 300_000));
    assert_eq!(door.metrics.ingest.clamped.with_label_values(&["attempt_report"]).get(), 1);
}

#[tokio::test]
async fn who_may_send() {
    let door = door();
    let body = attempt("1").to_string();
    let signed = |secret: &str| {
        let signature = SigningKey::new(&Secret::new(secret)).unwrap().sign("msg_1", "1716883205", body.as_bytes());
        Request::post("/v1/attempts")
            .header("webhook-id", "msg_1")
            .header("webhook-timestamp", "1716883205")
            .header("webhook-signature", signature)
            .header("content-type", "application/x-ndjson; charset=utf-8")
            .body(Body::from(body.clone()))
            .unwrap()
    };
    assert_eq!(door.send(signed(SECRET)).await.0, StatusCode::OK);
    assert_eq!(door.send(signed("whsec_BBECAwQFBgcICQoLDA0ODxAREhMUFRYX")).await.0, StatusCode::UNAUTHORIZED);
    let mut wrong = request(body.clone());
    wrong.headers_mut().insert("authorization", "Bearer guess".parse().unwrap());
    let (status, _, answer) = door.send(wrong).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(answer.contains("bad_token"), "{answer}");
    let mut neither = request(body.clone());
    neither.headers_mut().remove("authorization");
    assert_eq!(door.send(neither).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(Door::new(Config::default(), Secrets::default()).send(request(body)).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn limits_and_media_types() {
    let door = door();
    let many: Vec<_> = (0..10_001).map(|number| attempt(&number.to_string()).to_string()).collect();
    assert_eq!(answer(&door, many[..10_000].join("\n")).await["accepted"], 10_000);
    assert_eq!(door.send(request(many.join("\n"))).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(door.send(request(vec![b' '; (8 << 20) + 1])).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(door.send(request("")).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(door.send(request("[]")).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(door.send(request("[{]")).await.0, StatusCode::BAD_REQUEST);
    let mut form = request("a=b");
    form.headers_mut().insert("content-type", "application/x-www-form-urlencoded".parse().unwrap());
    assert_eq!(door.send(form).await.0, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn when_the_log_cannot_take_it_nothing_was_taken() {
    let door = door();
    door.log.set_fault(Some("disk is full"));
    let (status, headers, _) = door.send(request(attempt("1").to_string())).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(headers["retry-after"], "30");
    door.log.set_fault(None);
    assert_eq!(answer(&door, attempt("1").to_string()).await["accepted"], 1);
}

/// What the published schema says of an item and what the endpoint does with it are the same.
#[tokio::test]
async fn the_schema_and_the_endpoint_agree() {
    let schema: Value = serde_json::from_str(include_str!("../../deploy/attempt.schema.json")).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let door = door();
    let mut items: Vec<Value> = vec![attempt("ok"), json!({}), json!([]), json!("x")];
    let values = [
        json!(null),
        json!(""),
        json!("x"),
        json!(7),
        json!(-1),
        json!(1.5),
        json!(253_402_300_800_000_i64),
        json!(1_716_883_200_000_000_i64),
        json!("alice@example.com"),
        json!("wrong password for alice"),
        json!(true),
        json!([]),
        json!({}),
        json!("2024-05-28T10:00:00Z"),
        json!("2024-05-28"),
        json!("success"),
        json!("challenge"),
        json!("won"),
        json!("203.0.113.7"),
        json!("2001:db8::1"),
        json!("203.0.113.700"),
        json!("y".repeat(201)),
        json!("a\u{1}b"),
        json!("form_password_incorrect"),
    ];
    for field in [
        "id",
        "occurred_at",
        "outcome",
        "reason",
        "ip",
        "user_id",
        "identifier",
        "user_agent",
        "instance_id",
        "session_id",
        "more",
    ] {
        for value in &values {
            let mut item = attempt("ok");
            item[field] = value.clone();
            items.push(item);
        }
        let mut item = attempt("ok");
        item.as_object_mut().unwrap().remove(field);
        items.push(item.clone());
        item["reason"] = json!("form_password_incorrect");
        items.push(item);
    }
    for item in items {
        let body = json!([item]).to_string();
        let taken = answer(&door, body).await["refused"] == 0;
        assert_eq!(taken, validator.is_valid(&item), "{item}");
    }
}
