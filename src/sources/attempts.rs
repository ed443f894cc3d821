//! `POST /v1/attempts`: sign-in attempts as the customer's own edge or back end saw them.
//!
//! Body: one JSON object, a JSON array of them, or one a line. Answer: 200 with what became of each item; 400 no items at
//! all, 401 not believed, 404 neither secret nor token configured, 413 over 8 MiB or 10,000 items, 415 not JSON, 503
//! cannot be taken now (then none of it was).
//!
//! Invariant: one bad item never loses the others, and the answer lists the items in the order they came.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use serde_json::value::RawValue;
use subtle::ConstantTimeEq as _;

use super::signature::{Signed, SigningKey};
use super::webhook::unbelieved;
use super::{Intake, Refused, media_type, read_body};
use crate::event::Source;
use crate::log::Appended;
use crate::normalize::attempt;
use crate::normalize::identifier::IdentifierKey;
use crate::secret::Secret;

/// Items of one call: a few seconds of a busy app, and an answer of a few hundred kilobytes.
const MAX_ITEMS: usize = 10_000;
/// 10,000 items of 800 bytes; with long user agents they have 500.
const MAX_BODY_BYTES: usize = 8 << 20;

/// The endpoint.
#[derive(Clone)]
pub(super) struct Endpoint(Arc<Shared>);

struct Shared {
    intake: Intake,
    keys: Arc<[SigningKey]>,
    tokens: Arc<[Secret]>,
    identifier_key: IdentifierKey,
}

impl Endpoint {
    pub(super) fn new(
        intake: Intake,
        keys: Arc<[SigningKey]>,
        tokens: Arc<[Secret]>,
        identifier_key: IdentifierKey,
    ) -> Self {
        Self(Arc::new(Shared { intake, keys, tokens, identifier_key }))
    }
}

/// The answer.
#[derive(Debug, Default, Serialize)]
struct Answer {
    accepted: usize,
    duplicates: usize,
    refused: usize,
    results: Vec<ItemAnswer>,
}

#[derive(Debug, Serialize)]
struct ItemAnswer {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

pub(super) async fn receive(State(Endpoint(endpoint)): State<Endpoint>, request: Request) -> Response {
    match endpoint.take(request).await {
        Ok(answer) => Json(answer).into_response(),
        Err(refused) => endpoint.intake.refuse(Source::AttemptReport, refused),
    }
}

impl Shared {
    async fn take(&self, request: Request) -> Result<Answer, Refused> {
        let _slot = self.intake.admit(Source::AttemptReport)?;
        if self.keys.is_empty() && self.tokens.is_empty() {
            let message = "attempt reports are off; set AUTHSPIKE_ATTEMPTS_TOKEN or AUTHSPIKE_ATTEMPTS_SECRET";
            return Err(Refused::new(StatusCode::NOT_FOUND, "not_configured", message));
        }
        let (head, body) = request.into_parts();
        let now = self.intake.clock.now();
        let by_token = self.knows_token(&head.headers)?;
        let signed = if by_token { None } else { Some(Signed::from_headers(&head.headers, now).map_err(unbelieved)?) };
        if !matches!(
            media_type(&head.headers).as_deref(),
            Some("application/json" | "application/x-ndjson" | "application/ndjson" | "application/jsonl")
        ) {
            let message = "the content type must be application/json or application/x-ndjson";
            return Err(Refused::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type", message));
        }
        let body = read_body(&head.headers, body, MAX_BODY_BYTES).await?;
        if let Some(signed) = signed {
            signed.verify(&self.keys, &body).map_err(unbelieved)?;
        }
        self.intake.metrics.verified.with_label_values(&[Source::AttemptReport.as_str()]).inc();
        let items = split(&body)?;
        self.judge(&items, now).await
    }

    async fn judge(&self, items: &[&[u8]], now: crate::event::Timestamp) -> Result<Answer, Refused> {
        let normalized: Vec<_> =
            items.iter().map(|item| attempt::normalize(item, Some(now), &self.identifier_key)).collect();
        let good: Vec<_> = normalized.iter().filter_map(|result| result.as_ref().ok().cloned()).collect();
        let mut appended = self.intake.append(Source::AttemptReport, good).await?.into_iter();
        let mut answer = Answer::default();
        for (item, result) in items.iter().zip(normalized) {
            answer.results.push(match result {
                Ok(normalized) => {
                    let id = Some(normalized.event.id.into_string());
                    if appended.next() == Some(Appended::Stored) {
                        answer.accepted += 1;
                        ItemAnswer { id, status: "accepted", reason: None }
                    } else {
                        answer.duplicates += 1;
                        ItemAnswer { id, status: "duplicate", reason: None }
                    }
                }
                Err(error) => {
                    answer.refused += 1;
                    self.intake.metrics.items_refused.with_label_values(&[error.reason()]).inc();
                    ItemAnswer { id: attempt::id_of(item), status: "refused", reason: Some(error.to_string()) }
                }
            });
        }
        Ok(answer)
    }

    /// Whether a right token was given. A wrong one is refused even if a signature follows.
    fn knows_token(&self, headers: &HeaderMap) -> Result<bool, Refused> {
        let Some(given) = headers.get(header::AUTHORIZATION) else { return Ok(false) };
        let given = given.as_bytes().strip_prefix(b"Bearer ").unwrap_or_default();
        let known = self
            .tokens
            .iter()
            .fold(subtle::Choice::from(0), |known, token| known | token.expose().as_bytes().ct_eq(given));
        if known.into() {
            Ok(true)
        } else {
            Err(Refused::new(StatusCode::UNAUTHORIZED, "bad_token", "the bearer token is not known here"))
        }
    }
}

/// The items of a body: an array's elements, or the objects one after another, on a line each or not.
fn split(body: &[u8]) -> Result<Vec<&[u8]>, Refused> {
    let text = body.trim_ascii();
    let items: Vec<&[u8]> = if text.first() == Some(&b'[') {
        let items: Vec<&RawValue> = serde_json::from_slice(text).map_err(|error| {
            let message = format!("the array is not JSON (line {}, column {})", error.line(), error.column());
            Refused::new(StatusCode::BAD_REQUEST, "bad_body", message)
        })?;
        items.into_iter().map(|item| item.get().as_bytes()).collect()
    } else if serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok() {
        // One object, perhaps over several lines.
        vec![text]
    } else {
        text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()).collect()
    };
    if items.is_empty() {
        return Err(Refused::new(StatusCode::BAD_REQUEST, "bad_body", "there is no attempt in the body"));
    }
    if items.len() > MAX_ITEMS {
        let message = format!("more than {MAX_ITEMS} attempts in one call");
        return Err(Refused::new(StatusCode::PAYLOAD_TOO_LARGE, "too_many_items", message));
    }
    Ok(items)
}
