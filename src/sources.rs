//! The front door: receive, verify, normalise, append; nothing else.
//!
//! - `POST /webhooks/clerk`: Clerk's webhooks, signed by Svix (`webhook`).
//! - `POST /v1/attempts`: reported sign-in attempts (`attempts`).
//! - topics of the user's own that hold either, or records that a mapping reads (`kafka_topic`).
//! - Files that others write, followed and read by a mapping (`file`).
//! - On a listener of its own: Clerk's Frontend API, forwarded and watched (`fapi_proxy`), to which the next lines do not
//!   apply.
//!
//! Invariant: 2xx is answered only after the log said that the event is durable. Nothing unverified is parsed. What cannot
//! be taken is answered 503 with `Retry-After`, and the sender keeps it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::header;
use axum::response::Response;
use axum::routing::post;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::alias::{self, Aliases};
use crate::clock::Clock;
use crate::event::{AuthEvent, Source};
use crate::http;
use crate::log::kafka::{Clients, Failed};
use crate::log::{AppendError, Appended, Log};
use crate::metrics::{IngestMetrics, KafkaMetrics};
use crate::normalize::identifier::IdentifierKey;
use crate::normalize::{Normalized, mapped};
use crate::secret::Secret;

pub mod attempts;
mod body;
mod deleted;
pub mod fapi_proxy;
pub mod file;
mod items;
pub mod kafka_topic;
mod refused;
pub mod signature;
mod token;
pub mod webhook;

use deleted::Deleted;
use refused::Refused;
use signature::SigningKey;
use token::Token;

/// Below the 15 s after which Svix counts a delivery as failed.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(12);
/// What the user can set.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Connections at one time; Svix and a fleet of reporters keep a few dozen open.
    pub max_connections: usize,
    /// Requests that have arrived whole and wait for the log, beyond which 503 is answered: the log shares one sync of
    /// the disk among all that wait, so more would only wait longer.
    pub max_in_flight: usize,
    /// Clerk's webhooks.
    pub clerk_webhook: webhook::Config,
    /// Topics on Kafka.
    pub kafka: Vec<kafka_topic::Config>,
    /// Files to follow.
    pub file: Vec<file::Config>,
    /// Mappings of one's own, for files, topics and `replay --mapping`, by name.
    pub mapping: BTreeMap<String, mapped::Config>,
    /// The proxy in front of Clerk's Frontend API.
    pub fapi_proxy: fapi_proxy::Config,
    /// Which names belong to which user.
    pub aliases: alias::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            max_connections: 1024,
            max_in_flight: 256,
            clerk_webhook: webhook::Config::default(),
            kafka: Vec::new(),
            file: Vec::new(),
            mapping: BTreeMap::new(),
            fapi_proxy: fapi_proxy::Config::default(),
            aliases: alias::Config::default(),
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
        for (index, topic) in self.kafka.iter().enumerate() {
            faults.extend(topic.validate(&self.mapping).into_iter().map(|fault| format!("kafka.{index}.{fault}")));
        }
        for (name, mapping) in &self.mapping {
            let found = mapping.compile().err().unwrap_or_default();
            faults.extend(found.into_iter().map(|fault| format!("mapping.{name}.{fault}")));
        }
        faults.extend(file::validate(&self.file, &self.mapping).into_iter().map(|fault| format!("file.{fault}")));
        faults.extend(self.fapi_proxy.validate().into_iter().map(|fault| format!("fapi_proxy.{fault}")));
        faults.extend(self.aliases.validate().into_iter().map(|fault| format!("aliases.{fault}")));
        faults
    }

    /// Whether events come in by other ways than the listener.
    #[must_use]
    pub fn reads(&self) -> bool {
        !(self.kafka.is_empty() && self.file.is_empty())
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
    /// Whose they are.
    pub aliases: Aliases,
}

/// The topics of `[[ingest.kafka]]`, joined and ready to be read.
///
/// # Errors
/// What a section lacks.
pub fn topics(
    parts: &Parts,
    clients: &Clients,
    metrics: &KafkaMetrics,
    failed: &Failed,
) -> Result<Vec<kafka_topic::Reading>, String> {
    let intake = Intake::new(parts);
    let join = |section: &kafka_topic::Config| {
        let reader = section.reader(&parts.config.mapping)?;
        let topic = section.join(clients, metrics, Arc::clone(failed))?;
        let (intake, key) = (intake.clone(), parts.identifier_key.clone());
        Ok(kafka_topic::Reading { name: section.topic.clone(), reader, topic, intake, key })
    };
    parts.config.kafka.iter().map(join).collect()
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
    let tokens = parts.secrets.attempts_tokens.iter().filter_map(|secret| {
        let token = Token::new(secret);
        if token.is_none() {
            faults.push("AUTHSPIKE_ATTEMPTS_TOKEN: is empty".to_owned());
        }
        token
    });
    let tokens: Vec<_> = tokens.collect();
    if !faults.is_empty() {
        return Err(faults);
    }
    let intake = Intake::new(&parts);
    let key = parts.identifier_key.clone();
    let webhook = webhook::Endpoint::new(intake.clone(), &parts.config.clerk_webhook, webhook_keys, key);
    let attempts = attempts::Endpoint::new(intake, attempt_keys, tokens, parts.identifier_key);
    // Each endpoint reads its body itself, under its own limits.
    Ok(Router::new()
        .route("/webhooks/clerk", post(webhook::receive).with_state(webhook))
        .route("/v1/attempts", post(attempts::receive).with_state(attempts)))
}

/// What both endpoints do with a verified event.
#[derive(Clone)]
struct Intake {
    log: Arc<dyn Log>,
    metrics: IngestMetrics,
    clock: Clock,
    aliases: Aliases,
    slots: Arc<Semaphore>,
}

impl Intake {
    fn new(parts: &Parts) -> Self {
        Self {
            log: Arc::clone(&parts.log),
            metrics: parts.metrics.clone(),
            clock: parts.clock.clone(),
            aliases: parts.aliases.clone(),
            slots: Arc::new(Semaphore::new(parts.config.max_in_flight)),
        }
    }

    /// A place among the requests that may wait for the log. Taken once the body is there and believed: before that a
    /// few hundred strangers with slow lines could hold every place.
    fn admit(&self) -> Result<OwnedSemaphorePermit, Refused> {
        Arc::clone(&self.slots).try_acquire_owned().map_err(|_| Refused::overloaded())
    }

    /// Puts events under their users and makes them durable; counts what became of each.
    async fn append(&self, source: Source, events: Vec<Normalized>) -> Result<Vec<Appended>, Refused> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let _slot = self.admit()?;
        let notes: Vec<_> = events.iter().map(|it| (it.event.outcome, it.clamped, it.unknown_type)).collect();
        let admit = |mut normalized| {
            self.aliases.admit(&mut normalized);
            normalized.event
        };
        let mut events: Vec<AuthEvent> = events.into_iter().map(admit).collect();
        // An account that is deleted is forgotten, and so is every identifier that is known to be its own.
        let (mut deleted, mut names) = (Vec::new(), Vec::new());
        for event in &events {
            if let Some(user) = Deleted::of(event, &self.aliases) {
                names.extend(user.events(event));
                deleted.push(user);
            }
        }
        events.extend(names);
        let mut appended = self.log.append(events).await.map_err(|error| match error {
            AppendError::Overloaded => Refused::overloaded(),
            AppendError::Unavailable(error) => {
                tracing::debug!(%error, "an event could not be taken");
                Refused::unavailable()
            }
        })?;
        deleted.into_iter().for_each(Deleted::told);
        appended.truncate(notes.len());
        let label = source.as_str();
        for ((outcome, clamped, unknown_type), appended) in notes.into_iter().zip(&appended) {
            if *appended == Appended::Duplicate {
                self.metrics.duplicates.with_label_values(&[label]).inc();
                continue;
            }
            self.metrics.events.with_label_values(&[label, outcome.as_str()]).inc();
            if clamped {
                self.metrics.clamped.with_label_values(&[label]).inc();
            }
            if unknown_type {
                self.metrics.unknown_types.inc();
            }
        }
        Ok(appended)
    }

    /// Counts a refusal and makes its answer.
    fn refuse(&self, source: Source, refused: Refused) -> Response {
        self.metrics.refused.with_label_values(&[source.as_str(), refused.reason]).inc();
        // Not louder: a stranger could fill the disk with it.
        tracing::debug!(source = source.as_str(), reason = refused.reason, "a request was refused");
        refused.into_response()
    }
}

/// The media type, without its parameters, in lower case.
fn media_type(headers: &axum::http::HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}
