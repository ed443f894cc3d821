//! The front door: receive, verify, normalise, append; nothing else.
//!
//! - `POST /webhooks/clerk`: Clerk's webhooks, signed by Svix (`webhook`).
//! - `POST /v1/attempts`: reported sign-in attempts (`attempts`).
//!
//! Invariant: 2xx is answered only after the log said that the event is durable. Nothing unverified is parsed. What cannot
//! be taken is answered 503 with `Retry-After`, and the sender keeps it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::Clock;
use crate::event::Source;
use crate::http;
use crate::log::{AppendError, Appended, Log, Record};
use crate::metrics::IngestMetrics;
use crate::normalize::Normalized;
use crate::normalize::identifier::IdentifierKey;
use crate::secret::Secret;

pub mod attempts;
pub mod signature;
pub mod webhook;

use signature::SigningKey;

/// Below the 15 s after which Svix counts a delivery as failed.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(12);
/// `Retry-After` when too much is waiting: the queue is seconds deep.
const RETRY_OVERLOADED: HeaderValue = HeaderValue::from_static("1");
/// `Retry-After` when the disk must be looked after first.
const RETRY_UNAVAILABLE: HeaderValue = HeaderValue::from_static("30");

/// What the user can set.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Connections at one time; Svix and a fleet of reporters keep a few dozen open.
    pub max_connections: usize,
    /// Requests at one time beyond which 503 is answered: with bodies of at most 8 MiB this bounds their memory.
    pub max_in_flight: usize,
    /// Clerk's webhooks.
    pub clerk_webhook: webhook::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            max_connections: 1024,
            max_in_flight: 256,
            clerk_webhook: webhook::Config::default(),
        }
    }
}

impl Config {
    /// Every fault, as `key: what is wrong`.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (key, value) in [("max_connections", self.max_connections), ("max_in_flight", self.max_in_flight)] {
            if !(1..=100_000).contains(&value) {
                faults.push(format!("{key}: must be from 1 to 100000"));
            }
        }
        faults.extend(self.clerk_webhook.validate().into_iter().map(|fault| format!("clerk_webhook.{fault}")));
        faults
    }

    /// The limits of the listener.
    #[must_use]
    pub fn limits(&self) -> http::Limits {
        http::Limits { max_connections: self.max_connections, request_timeout: REQUEST_TIMEOUT }
    }
}

/// What senders prove themselves with.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// Signing secrets of Clerk's webhook endpoints.
    pub clerk_webhook: Vec<Secret>,
    /// Signing secrets of attempt reports.
    pub attempts: Vec<Secret>,
    /// Bearer tokens of attempt reports.
    pub attempts_tokens: Vec<Secret>,
}

/// What the front door is made of.
pub struct Parts {
    /// Settings.
    pub config: Config,
    /// See [`Secrets`].
    pub secrets: Secrets,
    /// Where events go.
    pub log: Arc<dyn Log>,
    /// Figures.
    pub metrics: IngestMetrics,
    /// Stamps arrivals.
    pub clock: Clock,
    /// Hashes identifiers.
    pub identifier_key: IdentifierKey,
}

/// The routes.
///
/// # Errors
/// Every secret that cannot be used, by name and place, without showing it.
pub fn router(parts: Parts) -> Result<Router, Vec<String>> {
    let mut faults = Vec::new();
    let mut keys = |name: &str, secrets: &[Secret]| {
        let parse = |(place, secret)| SigningKey::new(secret).map_err(|error| format!("{name} (no. {place}): {error}"));
        let (keys, bad): (Vec<_>, Vec<_>) = (1..).zip(secrets).map(parse).partition(Result::is_ok);
        faults.extend(bad.into_iter().filter_map(Result::err));
        keys.into_iter().filter_map(Result::ok).collect::<Arc<[SigningKey]>>()
    };
    let webhook_keys = keys("CLERK_WEBHOOK_SIGNING_SECRET", &parts.secrets.clerk_webhook);
    let attempt_keys = keys("AUTHSPIKE_ATTEMPTS_SECRET", &parts.secrets.attempts);
    if parts.secrets.attempts_tokens.iter().any(|token| token.expose().is_empty()) {
        faults.push("AUTHSPIKE_ATTEMPTS_TOKEN: is empty".to_owned());
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let intake = Intake {
        log: parts.log,
        metrics: parts.metrics,
        clock: parts.clock,
        slots: Arc::new(Semaphore::new(parts.config.max_in_flight)),
    };
    let webhook = webhook::Endpoint::new(intake.clone(), &parts.config.clerk_webhook, webhook_keys);
    let attempts =
        attempts::Endpoint::new(intake, attempt_keys, parts.secrets.attempts_tokens.into(), parts.identifier_key);
    Ok(Router::new()
        .route("/webhooks/clerk", post(webhook::receive).with_state(webhook))
        .route("/v1/attempts", post(attempts::receive).with_state(attempts))
        // Each endpoint reads its body itself, under its own limit.
        .layer(DefaultBodyLimit::disable()))
}

/// What both endpoints do with a verified event.
#[derive(Clone)]
struct Intake {
    log: Arc<dyn Log>,
    metrics: IngestMetrics,
    clock: Clock,
    slots: Arc<Semaphore>,
}

impl Intake {
    /// A place among the requests that may run at one time.
    fn admit(&self, source: Source) -> Result<OwnedSemaphorePermit, Refused> {
        self.metrics.requests.with_label_values(&[source.as_str()]).inc();
        Arc::clone(&self.slots).try_acquire_owned().map_err(|_| Refused::overloaded())
    }

    /// Makes events durable; counts what became of each.
    async fn append(&self, source: Source, events: Vec<Normalized>) -> Result<Vec<Appended>, Refused> {
        let clamped = events.iter().filter(|normalized| normalized.clamped).count();
        let unknown = events.iter().filter(|normalized| normalized.unknown_type).count();
        let outcomes: Vec<_> = events.iter().map(|normalized| normalized.event.outcome).collect();
        let records = events.into_iter().map(|normalized| Record::Event(normalized.event)).collect();
        let appended = self.log.append(records).await.map_err(|error| match error {
            AppendError::Overloaded => Refused::overloaded(),
            AppendError::Unavailable(error) => {
                tracing::debug!(%error, "an event could not be taken");
                Refused::unavailable()
            }
        })?;
        let label = source.as_str();
        self.metrics.clamped.with_label_values(&[label]).inc_by(clamped as u64);
        self.metrics.unknown_types.inc_by(unknown as u64);
        for (outcome, appended) in outcomes.iter().zip(&appended) {
            match appended {
                Appended::Stored => self.metrics.events.with_label_values(&[label, outcome.as_str()]).inc(),
                Appended::Duplicate => self.metrics.duplicates.with_label_values(&[label]).inc(),
            }
        }
        Ok(appended)
    }

    /// Counts a refusal and makes its answer.
    fn refuse(&self, source: Source, refused: Refused) -> Response {
        self.metrics.refused.with_label_values(&[source.as_str(), refused.reason]).inc();
        refused.into_response()
    }
}

/// A request that is not taken: its status, its reason for the metric and the body, and words for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refused {
    status: StatusCode,
    reason: &'static str,
    message: String,
    retry_after: Option<HeaderValue>,
}

impl Refused {
    fn new(status: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { status, reason, message: message.into(), retry_after: None }
    }

    fn overloaded() -> Self {
        let refused = Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "too much is waiting; send it again");
        Self { retry_after: Some(RETRY_OVERLOADED), ..refused }
    }

    fn unavailable() -> Self {
        let refused =
            Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "it cannot be stored now; send it again");
        Self { retry_after: Some(RETRY_UNAVAILABLE), ..refused }
    }

    fn into_response(self) -> Response {
        let body = Json(serde_json::json!({ "error": self.reason, "message": self.message }));
        let mut response = (self.status, body).into_response();
        if let Some(after) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, after);
        }
        response
    }
}

/// The whole body, if it has at most `max` bytes: refused by its stated length, or as soon as more has come.
async fn read_body(headers: &axum::http::HeaderMap, body: Body, max: usize) -> Result<bytes::Bytes, Refused> {
    let too_large = || {
        let message = format!("the body has more than {max} bytes");
        Refused::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    };
    let stated = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if stated.is_some_and(|length| length > max as u64) {
        return Err(too_large());
    }
    axum::body::to_bytes(body, max).await.map_err(|error| {
        let mut source: &dyn std::error::Error = &error;
        while let Some(deeper) = source.source() {
            source = deeper;
        }
        if source.to_string().contains("length limit") {
            too_large()
        } else {
            Refused::new(StatusCode::BAD_REQUEST, "broken_body", "the body did not arrive whole")
        }
    })
}

/// The media type, without its parameters, in lower case.
fn media_type(headers: &axum::http::HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}
