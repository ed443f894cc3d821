//! `POST /webhooks/clerk`, on the router itself: every documented body, and every way to be refused.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use authspike::alias::{self, Aliases};
use authspike::clock::Clock;
use authspike::event::{Account, AuthEvent, Outcome, Timestamp};
use authspike::http::Peer;
use authspike::log::memory::MemoryLog;
use authspike::log::{Log, Offset, Partition, Record};
use authspike::metrics::Metrics;
use authspike::normalize::clerk_webhook;
use authspike::normalize::identifier::IdentifierKey;
use authspike::secret::Secret;
use authspike::sources::signature::SigningKey;
use authspike::sources::{Config, Parts, Secrets, router};
use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::{Request, StatusCode};
use hyper::body::Frame;
use tower::ServiceExt as _;

use crate::support::SECRET;

const NOW: Timestamp = Timestamp(1_716_883_205_000);

pub struct Door {
    router: Router,
    pub log: Arc<MemoryLog>,
    pub metrics: Metrics,
}

impl Door {
    pub fn new(config: Config, secrets: Secrets) -> Self {
        let (log, metrics) = (Arc::new(MemoryLog::keeping()), Metrics::new().unwrap());
        let parts = Parts {
            config,
            secrets,
            log: Arc::clone(&log) as Arc<dyn Log>,
            metrics: metrics.ingest.clone(),
            clock: Clock::held(NOW),
            identifier_key: IdentifierKey::new(&[1; 32]),
            aliases: Aliases::in_memory(&alias::Config::default(), &metrics.alias),
        };
        Self { router: router(parts).unwrap(), log, metrics }
    }

    fn webhooks(config: Config) -> Self {
        Self::new(config, Secrets { clerk_webhook: vec![Secret::new(SECRET)], ..Secrets::default() })
    }

    pub async fn send(&self, request: Request<Body>) -> (StatusCode, axum::http::HeaderMap, String) {
        let (head, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let body = axum::body::to_bytes(body, 16 << 20).await.unwrap();
        (head.status, head.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    pub fn events(&self) -> Vec<AuthEvent> {
        let polled = self.log.poll(Partition(0), Offset(0), Duration::ZERO).unwrap();
        polled
            .records
            .into_iter()
            .filter_map(|record| match record {
                Record::Event(event) => Some(event),
                Record::Tick { .. } => None,
            })
            .collect()
    }
}

/// A signed request, before anything is done to it.
fn request(id: &str, body: &[u8]) -> Request<Body> {
    let timestamp = (NOW.0 / 1000).to_string();
    let signature = SigningKey::new(&Secret::new(SECRET)).unwrap().sign(id, &timestamp, body);
    Request::post("/webhooks/clerk")
        .header("svix-id", id)
        .header("svix-timestamp", timestamp)
        .header("svix-signature", signature)
        .header("content-type", "application/json")
        .body(Body::from(body.to_vec()))
        .unwrap()
}

/// Every documented body, by name.
pub fn documented() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/clerk");
    let mut bodies = Vec::new();
    for folder in [folder.clone(), folder.join("variants")] {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
            bodies.push((entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()));
        }
    }
    bodies.sort();
    bodies
}

const SESSION: &[u8] = include_bytes!("../fixtures/clerk/session.created.json");

#[tokio::test]
async fn every_documented_body_is_taken_and_nothing_secret_is_kept() {
    let door = Door::webhooks(Config::default());
    let bodies = documented();
    assert_eq!(bodies.len(), 49, "45 types and 4 variants");
    for (name, body) in &bodies {
        let (status, _, answer) = door.send(request(&format!("msg_{name}"), body)).await;
        assert_eq!(status, StatusCode::NO_CONTENT, "{name}: {answer}");
    }
    let events = door.events();
    let of = |name: &str| events.iter().find(|event| &*event.id == format!("msg_{name}").as_str()).unwrap();
    let outcomes = [
        ("session.created.json", Outcome::Success),
        ("session.created.catalog-2022.json", Outcome::Success),
        ("session.pending.json", Outcome::PasswordCorrectStopped),
        ("session.ended.json", Outcome::SessionEnded),
        ("session.removed.json", Outcome::SessionEnded),
        ("session.revoked.json", Outcome::SessionEnded),
        ("user.created.json", Outcome::AccountChanged),
        ("user.updated.json", Outcome::AccountChanged),
        ("user.deleted.json", Outcome::AccountDeleted),
        ("email.created.json", Outcome::CodeSent),
        ("sms.created.json", Outcome::CodeSent),
        ("role.created.json", Outcome::Other),
        ("paymentAttempt.updated.json", Outcome::Other),
    ];
    for (name, outcome) in outcomes {
        assert_eq!(of(name).outcome, outcome, "{name}");
    }
    let session = of("session.created.json");
    assert_eq!(session.account, Some(Account::User("user_2g7np7Hrk0SN6kj5EDMLDaKNL0S".into())));
    assert_eq!(session.ip, Some("192.168.1.100".parse().unwrap()));
    assert_eq!(session.occurred_at, Timestamp(1_716_883_200_000), "seconds");
    assert_eq!(&*session.tenant.0, "ins_2g7np7Hrk0SN6kj5EDMLDaKNL0S");
    assert_eq!(of("email.created.json").ip, None, "0.0.0.0 is nobody's address");
    let variant = of("user.created.docs-overview.json");
    assert_eq!(variant.occurred_at, Timestamp(1_654_012_591_835), "milliseconds");
    assert_eq!(of("user.deleted.catalog-2022.json").occurred_at, NOW, "no time of its own: when it came");
    let kept = format!("{events:?}");
    for secret in ["123456", "example@", "+1987", "John", "<html", "img.clerk.com"] {
        assert!(!kept.contains(secret), "{secret} was kept");
    }
    assert_eq!(door.metrics.ingest.unknown_types.get(), 0, "all of them are known");
}

#[tokio::test]
async fn an_unknown_type_and_strange_fields_are_taken_and_counted() {
    let door = Door::webhooks(Config::default());
    let strange = br#"{"object":"event","type":"signIn.failed","timestamp":1716883200123,"zzz":[1],"data":{"id":7,"user_id":{"a":1},"slug":[],"latest_activity":"x","actor":null}}"#;
    assert_eq!(door.send(request("msg_1", strange)).await.0, StatusCode::NO_CONTENT);
    let event = &door.events()[0];
    assert_eq!((event.outcome, event.account.clone()), (Outcome::Other, None));
    assert_eq!(door.metrics.ingest.unknown_types.get(), 1);
}

#[tokio::test]
async fn an_impersonated_session_is_not_the_users_sign_in() {
    let body =
        String::from_utf8(SESSION.to_vec()).unwrap().replace("\"actor\": null", "\"actor\": {\"sub\": \"user_admin\"}");
    let normalized =
        clerk_webhook::normalize(Some("msg_1"), body.as_bytes(), Some(NOW), &IdentifierKey::new(&[1; 32])).unwrap();
    assert_eq!((normalized.event.outcome, normalized.event.reason.as_deref()), (Outcome::Other, Some("impersonation")));
}

#[tokio::test]
async fn a_retry_is_acknowledged_and_counted_once() {
    let door = Door::webhooks(Config::default());
    for _ in 0..3 {
        assert_eq!(door.send(request("msg_1", SESSION)).await.0, StatusCode::NO_CONTENT);
    }
    assert_eq!(door.events().len(), 1);
    assert_eq!(door.metrics.ingest.duplicates.with_label_values(&["clerk_webhook"]).get(), 2);
}

#[tokio::test]
async fn what_is_refused_says_so_with_the_right_status() {
    let door = Door::webhooks(Config::default());
    let without = |header: &str| {
        let mut request = request("msg_1", SESSION);
        request.headers_mut().remove(header);
        request
    };
    let with = |header: &'static str, value: &str| {
        let mut request = request("msg_1", SESSION);
        request.headers_mut().insert(header, value.parse().unwrap());
        request
    };
    let large = vec![b' '; 512 * 1024 + 1];
    let cases = [
        (with("svix-signature", "v1,AAAA"), StatusCode::UNAUTHORIZED, "bad_signature"),
        (without("svix-signature"), StatusCode::UNAUTHORIZED, "missing_header"),
        (with("svix-timestamp", "1"), StatusCode::UNAUTHORIZED, "timestamp"),
        (with("content-type", "text/plain"), StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type"),
        (without("content-type"), StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type"),
        (request("msg_1", b"not json"), StatusCode::BAD_REQUEST, "bad_body"),
        (request("msg_1", b"{\"type\":\"x\",\"data\":{}}"), StatusCode::BAD_REQUEST, "bad_body"),
        (request("msg_1", b"{\"object\":\"event\",\"type\":\"x\",\"data\":[]}"), StatusCode::BAD_REQUEST, "bad_body"),
        (request("msg_1", &large), StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
        (with("content-length", "99999999"), StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
    ];
    for (request, status, reason) in cases {
        let (given, _, body) = door.send(request).await;
        assert_eq!(given, status, "{reason}: {body}");
        assert!(body.contains(&format!("\"error\":\"{reason}\"")), "{body}");
        assert!(door.metrics.ingest.refused.with_label_values(&["clerk_webhook", reason]).get() > 0);
    }
    assert_eq!(door.events(), []);
    let get = Request::get("/webhooks/clerk").body(Body::empty()).unwrap();
    assert_eq!(door.send(get).await.0, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_log_that_cannot_take_it_is_503_and_the_retry_is_taken() {
    let door = Door::webhooks(Config::default());
    door.log.set_fault(Some("disk is full"));
    let (status, headers, body) = door.send(request("msg_1", SESSION)).await;
    assert_eq!((status, headers["retry-after"].to_str().unwrap()), (StatusCode::SERVICE_UNAVAILABLE, "30"));
    assert!(!body.contains("disk"), "the inside is nobody's business: {body}");
    door.log.set_fault(None);
    assert_eq!(door.send(request("msg_1", SESSION)).await.0, StatusCode::NO_CONTENT);
    assert_eq!(door.events().len(), 1);
}

#[tokio::test]
async fn a_deletion_that_could_not_be_taken_finds_the_names_of_the_user_when_it_comes_again() {
    let door = Door::webhooks(Config::default());
    let body = |kind: &str, data: &str| {
        format!(r#"{{"object":"event","type":"{kind}","instance_id":"ins_1","timestamp":1716883200000,"data":{data}}}"#)
    };
    let created = body("user.created", r#"{"id":"user_1","username":"alice"}"#);
    let deleted = body("user.deleted", r#"{"id":"user_1","deleted":true}"#);
    assert_eq!(door.send(request("msg_1", created.as_bytes())).await.0, StatusCode::NO_CONTENT);
    door.log.set_fault(Some("disk is full"));
    for _ in 0..2 {
        assert_eq!(door.send(request("msg_2", deleted.as_bytes())).await.0, StatusCode::SERVICE_UNAVAILABLE);
    }
    door.log.set_fault(None);
    assert_eq!(door.send(request("msg_2", deleted.as_bytes())).await.0, StatusCode::NO_CONTENT);
    let name = IdentifierKey::new(&[1; 32]).hash(&"ins_1".into(), "alice");
    let told: Vec<_> = door.events().into_iter().skip(1).map(|event| (event.outcome, event.account.unwrap())).collect();
    let gone = [Account::User("user_1".into()), Account::Identifier(name)];
    assert_eq!(told, gone.map(|account| (Outcome::AccountDeleted, account)));
}

/// A body of which nothing ever comes.
struct Stalled;

impl HttpBody for Stalled {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Pending
    }
}

#[tokio::test]
async fn strangers_with_slow_bodies_hold_no_place() {
    let door = Door::webhooks(Config { max_in_flight: 1, ..Config::default() });
    // Plausible headers, and then nothing.
    let stalled = || {
        let mut request = request("msg_1", SESSION);
        request.headers_mut().insert("content-length", "524288".parse().unwrap());
        *request.body_mut() = Body::new(Stalled);
        request
    };
    let mut held: Vec<_> = (0..300).map(|_| Box::pin(door.send(stalled()))).collect();
    for stranger in &mut held {
        let waited = tokio::time::timeout(Duration::ZERO, stranger.as_mut()).await;
        assert!(waited.is_err(), "it must still be waiting for its body");
    }
    assert_eq!(door.send(request("msg_2", SESSION)).await.0, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn the_published_addresses_are_those_the_source_ships() {
    let published: std::collections::BTreeMap<String, Vec<String>> =
        serde_json::from_str(include_str!("../fixtures/svix/webhook-ips.json")).unwrap();
    let mut config = Config::default();
    config.clerk_webhook.allowed_sources = vec!["svix".into()];
    let door = Door::webhooks(config);
    let addresses: Vec<_> = published.values().flatten().collect();
    assert_eq!(addresses.len(), 20);
    for address in addresses {
        let mut request = request(&format!("msg_{address}"), SESSION);
        request.extensions_mut().insert(Peer(address.trim_end_matches("/56").parse().unwrap()));
        assert_eq!(door.send(request).await.0, StatusCode::NO_CONTENT, "{address}");
    }
}

#[tokio::test]
async fn instances_and_sources_can_be_limited() {
    let mut config = Config::default();
    config.clerk_webhook.allowed_instances = vec!["ins_production".into()];
    let door = Door::webhooks(config.clone());
    let (status, _, body) = door.send(request("msg_1", SESSION)).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{body}");
    config.clerk_webhook.allowed_instances = vec!["ins_2g7np7Hrk0SN6kj5EDMLDaKNL0S".into()];
    config.clerk_webhook.allowed_sources = vec!["svix".into(), "10.1.0.0/16".into()];
    assert_eq!(config.validate(), Vec::<String>::new());
    let door = Door::webhooks(config.clone());
    for (peer, status) in [
        ("44.228.126.217", StatusCode::NO_CONTENT),
        ("2600:1f24:64:8000::9", StatusCode::NO_CONTENT),
        ("10.1.2.3", StatusCode::NO_CONTENT),
        ("10.2.2.3", StatusCode::FORBIDDEN),
    ] {
        let mut request = request("msg_1", SESSION);
        request.extensions_mut().insert(Peer(peer.parse().unwrap()));
        assert_eq!(door.send(request).await.0, status, "{peer}");
    }
    // In a test of the router alone nobody knows the peer: it is not let in.
    assert_eq!(door.send(request("msg_1", SESSION)).await.0, StatusCode::FORBIDDEN);
    config.clerk_webhook.allowed_sources = vec!["everywhere".into()];
    assert_eq!(config.validate().len(), 1);
}

#[tokio::test]
async fn without_a_secret_the_endpoint_is_off_and_a_bad_one_is_named_by_its_variable() {
    let door = Door::new(Config::default(), Secrets::default());
    assert_eq!(door.send(request("msg_1", SESSION)).await.0, StatusCode::NOT_FOUND);
    let parts = Parts {
        config: Config::default(),
        secrets: Secrets {
            clerk_webhook: vec![Secret::new(SECRET), Secret::new("whsec_c2hvcnQ=")],
            ..Secrets::default()
        },
        log: Arc::new(MemoryLog::keeping()),
        metrics: Metrics::new().unwrap().ingest,
        clock: Clock::held(NOW),
        identifier_key: IdentifierKey::new(&[1; 32]),
        aliases: Aliases::in_memory(&alias::Config::default(), &Metrics::new().unwrap().alias),
    };
    let faults = router(parts).map(|_| ()).unwrap_err();
    assert_eq!(faults, ["CLERK_WEBHOOK_SIGNING_SECRET (no. 2): is too short: 16 bytes at least, before base64"]);
}
