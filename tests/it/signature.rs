//! Our verification against the published vectors and against two libraries that are not ours.

use authspike::event::Timestamp;
use authspike::secret::Secret;
use authspike::sources::signature::{Refusal, SecretError, Signed, SigningKey};
use axum::http::HeaderMap;
use base64::Engine as _;
use proptest::prelude::*;
use serde_json::Value;

use crate::support::SECRET;

fn key(secret: &str) -> SigningKey {
    SigningKey::new(&Secret::new(secret)).unwrap()
}

fn headers(family: &str, id: &str, timestamp: &str, signature: &str) -> HeaderMap {
    [("id", id), ("timestamp", timestamp), ("signature", signature)]
        .into_iter()
        .map(|(name, value)| (format!("{family}-{name}").parse().unwrap(), value.parse().unwrap()))
        .map(|(name, value): (axum::http::HeaderName, axum::http::HeaderValue)| (name, value))
        .collect()
}

fn verify(headers: &HeaderMap, keys: &[SigningKey], body: &[u8], now: i64) -> Result<(), Refusal> {
    Signed::from_headers(headers, Timestamp(now * 1000))?.verify(keys, body)
}

#[test]
fn every_published_vector_is_judged_as_published() {
    let vectors: Vec<Value> = serde_json::from_str(include_str!("../fixtures/svix/vectors.json")).unwrap();
    let mut accepted = 0;
    for vector in &vectors {
        let text = |key: &str| vector[key].as_str().unwrap();
        let (secret, sent) = (text("secret"), vector["timestamp"].as_i64().unwrap());
        if secret.starts_with("whsk_") {
            assert_eq!(SigningKey::new(&Secret::new(secret)).unwrap_err(), SecretError::Asymmetric);
            continue;
        }
        let headers = headers("svix", text("id"), &sent.to_string(), text("signature"));
        let expected = if vector["must_fail"] == true { Err(Refusal::Signature) } else { Ok(()) };
        assert_eq!(verify(&headers, &[key(secret)], text("payload").as_bytes(), sent), expected, "{}", text("name"));
        accepted += usize::from(expected.is_ok());
    }
    assert_eq!((vectors.len(), accepted), (5, 3));
}

#[test]
fn edge_cases() {
    let (id, sent, body) = ("msg_1", 1_700_000_000_i64, b"{}".as_slice());
    let now = sent.to_string();
    let good = key(SECRET).sign(id, &now, body);
    let judge = |headers: &HeaderMap, at: i64| verify(headers, &[key(SECRET)], body, at);
    let signed = |signature: &str| headers("svix", id, &now, signature);
    assert_eq!(judge(&signed(&good), sent), Ok(()));
    assert_eq!(judge(&headers("webhook", id, &now, &good), sent), Ok(()), "the standard's names");
    for skew in [-300, 300] {
        assert_eq!(judge(&signed(&good), sent + skew), Ok(()));
    }
    for skew in [-301, 301] {
        assert_eq!(judge(&signed(&good), sent + skew), Err(Refusal::Timestamp));
    }
    for timestamp in ["-1", "", "now", "9223372036854775807", "-9223372036854775808", "1700000000.0"] {
        let refused = judge(&headers("svix", id, timestamp, &good), sent).unwrap_err();
        assert!(matches!(refused, Refusal::Timestamp | Refusal::MissingHeader), "{timestamp}: {refused:?}");
    }
    // Signed for another second, another id.
    assert_eq!(judge(&headers("svix", id, &(sent + 1).to_string(), &good), sent), Err(Refusal::Signature));
    assert_eq!(judge(&headers("svix", "msg_2", &now, &good), sent), Err(Refusal::Signature));
    let truncated = &good[..good.len() - 4];
    for bad in ["v1,", "v1", truncated, good.trim_start_matches("v1,"), &good.replace("v1,", "v2,"), "v1a,AAAA"] {
        assert_eq!(judge(&signed(bad), sent), Err(Refusal::Signature), "{bad}");
    }
    assert_eq!(judge(&signed(&format!("v1a,AAAA v1,AAAA {good}")), sent), Ok(()), "the third of three matches");
    for missing in ["svix-id", "svix-timestamp", "svix-signature"] {
        let mut headers = signed(&good);
        headers.remove(missing);
        assert_eq!(judge(&headers, sent), Err(Refusal::MissingHeader), "{missing}");
    }
}

#[test]
fn any_of_several_secrets_does() {
    let old = "whsec_BBECAwQFBgcICQoLDA0ODxAREhMUFRYX";
    let headers = headers("svix", "msg_1", "1700000000", &key(old).sign("msg_1", "1700000000", b"x"));
    assert_eq!(verify(&headers, &[key(SECRET), key(old)], b"x", 1_700_000_000), Ok(()));
    assert_eq!(verify(&headers, &[key(SECRET)], b"x", 1_700_000_000), Err(Refusal::Signature));
    assert_eq!(verify(&headers, &[], b"x", 1_700_000_000), Err(Refusal::Signature));
}

#[test]
fn a_secret_that_cannot_be_one_says_why_and_not_what() {
    for (secret, fault) in [
        ("", SecretError::Empty),
        ("whsec_", SecretError::Empty),
        ("whsec_!!!!", SecretError::NotBase64),
        ("whsec_c2hvcnQ=", SecretError::TooShort),
        ("whpk_AAAA", SecretError::Asymmetric),
    ] {
        let refused = SigningKey::new(&Secret::new(secret)).unwrap_err();
        assert_eq!(refused, fault);
        assert!(!refused.to_string().contains("c2hvcnQ"));
    }
    assert!(!format!("{:?} {:?}", key(SECRET), Secret::new(SECRET)).contains("AAEC"));
}

/// Now, since the two libraries read the clock themselves.
fn now() -> i64 {
    authspike::clock::Clock::system().now().0 / 1000
}

fn secrets() -> impl Strategy<Value = String> {
    prop::collection::vec(any::<u8>(), 24..64)
        .prop_map(|key| format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode(key)))
}

proptest! {
    #[test]
    fn what_one_signs_the_others_accept_and_one_changed_bit_all_refuse(
        secret in secrets(),
        id in "[a-zA-Z0-9_]{1,40}",
        body in "\\PC{1,300}",
        flip in any::<prop::sample::Index>(),
    ) {
        let sent = now();
        let svix = svix::webhooks::Webhook::new(&secret).unwrap();
        let standard = standardwebhooks::Webhook::new(&secret).unwrap();
        let ours = key(&secret);
        let signatures = [
            ours.sign(&id, &sent.to_string(), body.as_bytes()),
            svix.sign(&id, sent, body.as_bytes()).unwrap(),
            standard.sign(&id, sent, body.as_bytes()).unwrap(),
        ];
        prop_assert!(signatures.iter().all(|signature| *signature == signatures[0]));
        let given = [("svix", headers("svix", &id, &sent.to_string(), &signatures[1])),
                     ("webhook", headers("webhook", &id, &sent.to_string(), &signatures[2]))];
        for (family, headers) in &given {
            prop_assert_eq!(verify(headers, std::slice::from_ref(&ours), body.as_bytes(), sent), Ok(()));
            prop_assert!(svix.verify(body.as_bytes(), headers).is_ok(), "{}", family);
        }
        prop_assert!(standard.verify(body.as_bytes(), &given[1].1).is_ok());
        // One bit of the body. A body that is no longer UTF-8 is refused by the libraries for that.
        let mut changed = body.clone().into_bytes();
        let bit = flip.index(changed.len() * 8);
        changed[bit / 8] ^= 1 << (bit % 8);
        for (_, headers) in &given {
            prop_assert_eq!(verify(headers, std::slice::from_ref(&ours), &changed, sent), Err(Refusal::Signature));
            prop_assert!(svix.verify(&changed, headers).is_err());
        }
        prop_assert!(standard.verify(&changed, &given[1].1).is_err());
    }
}
