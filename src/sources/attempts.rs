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
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use super::body::{self, Budget};
use super::items;
use super::signature::{Signed, SigningKey};
use super::token::{self, Token};
use super::webhook::unbelieved;
use super::{Intake, Refused, media_type};
use crate::event::{Source, Timestamp};
use crate::log::Appended;
use crate::normalize::identifier::IdentifierKey;
use crate::normalize::{Normalized, attempt};

/// 10,000 items of 800 bytes; with long user agents they have 500.
const MAX_BODY_BYTES: usize = 8 << 20;
/// What all bodies may hold together: eight of the largest.
const BODY_BUDGET_BYTES: usize = 64 << 20;
/// Up to here judging a body takes less than a tenth of a millisecond, which other requests on the same thread can wait
/// for; 8 MiB take tens of milliseconds, which they cannot.
const MAX_INLINE_BYTES: usize = 32 * 1024;

/// The endpoint.
#[derive(Clone)]
pub(super) struct Endpoint(Arc<Shared>);

struct Shared {
    intake: Intake,
    keys: Arc<[SigningKey]>,
    tokens: Vec<Token>,
    identifier_key: IdentifierKey,
    budget: Budget,
}

impl Endpoint {
    pub(super) fn new(
        intake: Intake,
        keys: Arc<[SigningKey]>,
        tokens: Vec<Token>,
        identifier_key: IdentifierKey,
    ) -> Self {
        let budget = Budget::new(BODY_BUDGET_BYTES);
        Self(Arc::new(Shared { intake, keys, tokens, identifier_key, budget }))
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

/// Items that can be appended, and what is to be said about each item, in order.
#[derive(Default)]
struct Judged {
    good: Vec<Normalized>,
    /// `Err`: refused, with its label and the answer to it. `Ok`: it has this id, and the log decides.
    items: Vec<Result<String, (&'static str, ItemAnswer)>>,
}

pub(super) async fn receive(State(Endpoint(endpoint)): State<Endpoint>, request: Request) -> Response {
    match Arc::clone(&endpoint).take(request).await {
        Ok(answer) => Json(answer).into_response(),
        Err(refused) => endpoint.intake.refuse(Source::AttemptReport, refused),
    }
}

impl Shared {
    async fn take(self: Arc<Self>, request: Request) -> Result<Answer, Refused> {
        self.intake.metrics.requests.with_label_values(&[Source::AttemptReport.as_str()]).inc();
        if self.keys.is_empty() && self.tokens.is_empty() {
            let message = "attempt reports are off; set AUTHSPIKE_ATTEMPTS_TOKEN or AUTHSPIKE_ATTEMPTS_SECRET";
            return Err(Refused::new(StatusCode::NOT_FOUND, "not_configured", message));
        }
        let (head, body) = request.into_parts();
        let arrived = self.intake.clock.now();
        self.check_headers(&head.headers, arrived)?;
        let body = body::read(&head.headers, body, MAX_BODY_BYTES, &self.budget).await?;
        let judged = if body.bytes.len() <= MAX_INLINE_BYTES {
            self.judge(&head.headers, &body.bytes, arrived)?
        } else {
            let (this, bytes) = (Arc::clone(&self), body.bytes.clone());
            let judged = tokio::task::spawn_blocking(move || this.judge(&head.headers, &bytes, arrived)).await;
            judged.map_err(|_| Refused::unavailable())??
        };
        let appended = self.intake.append(Source::AttemptReport, judged.good).await?;
        Ok(self.answer(judged.items, appended))
    }

    /// What can be told before the body is read. A wrong token is refused even if a right signature stands beside it.
    fn check_headers(&self, headers: &HeaderMap, now: Timestamp) -> Result<(), Refused> {
        match token::is_known(headers, &self.tokens) {
            Some(true) => {}
            Some(false) => {
                let message = "the bearer token is not known here";
                return Err(Refused::new(StatusCode::UNAUTHORIZED, "bad_token", message));
            }
            None => {
                Signed::from_headers(headers, now).map_err(unbelieved)?;
            }
        }
        let media_type = media_type(headers);
        if matches!(
            media_type.as_deref(),
            Some("application/json" | "application/x-ndjson" | "application/ndjson" | "application/jsonl")
        ) {
            return Ok(());
        }
        let message = "the content type must be application/json or application/x-ndjson";
        Err(Refused::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type", message))
    }

    /// Verifies the body, where it is signed, and normalises its items.
    fn judge(&self, headers: &HeaderMap, body: &[u8], arrived: Timestamp) -> Result<Judged, Refused> {
        if token::is_known(headers, &self.tokens) != Some(true) {
            let signed = Signed::from_headers(headers, arrived).map_err(unbelieved)?;
            signed.verify(&self.keys, body).map_err(unbelieved)?;
        }
        self.intake.metrics.verified.with_label_values(&[Source::AttemptReport.as_str()]).inc();
        let mut judged = Judged::default();
        let received_at = self.intake.clock.now();
        for item in items::split(body)? {
            judged.items.push(match attempt::normalize(item, Some(received_at), &self.identifier_key) {
                Ok(normalized) => {
                    let id = normalized.event.id.clone().into_string();
                    judged.good.push(normalized);
                    Ok(id)
                }
                Err(error) => {
                    let (id, reason) = (attempt::id_of(item), Some(error.to_string()));
                    Err((error.reason(), ItemAnswer { id, status: "refused", reason }))
                }
            });
        }
        Ok(judged)
    }

    fn answer(&self, items: Vec<Result<String, (&'static str, ItemAnswer)>>, appended: Vec<Appended>) -> Answer {
        let mut appended = appended.into_iter();
        let mut answer = Answer::default();
        for item in items {
            let (count, result) = match item.map(|id| (Some(id), appended.next())) {
                Ok((id, Some(Appended::Stored))) => {
                    (&mut answer.accepted, ItemAnswer { id, status: "accepted", reason: None })
                }
                Ok((id, _)) => (&mut answer.duplicates, ItemAnswer { id, status: "duplicate", reason: None }),
                Err((reason, refused)) => {
                    self.intake.metrics.items_refused.with_label_values(&[reason]).inc();
                    (&mut answer.refused, refused)
                }
            };
            *count += 1;
            answer.results.push(result);
        }
        answer
    }
}
