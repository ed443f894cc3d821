//! `POST /webhooks/clerk`: what Clerk sends through Svix.
//!
//! Answers: 204 durable (or a duplicate of what is), 400 not an event, 401 not believed, 403 not from here or not for this
//! instance, 404 no secret configured, 413 over 512 KiB, 415 not JSON, 503 cannot be taken now.
//!
//! Invariant: the id of the event is the `svix-id`, which stays the same over the retries of a message while timestamp and
//! signature change; the log recognises it.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::body::{self, Budget};
use super::signature::{Signed, SigningKey};
use super::{Intake, Refused, media_type};
use crate::event::Source;
use crate::http::Peer;
use crate::normalize::clerk_webhook;
use crate::normalize::identifier::IdentifierKey;

/// Svix carries up to about 350 kB; a user with much metadata comes near it.
const MAX_BODY_BYTES: usize = 512 * 1024;
/// What all bodies may hold together: 128 of the largest, some ten thousand of the usual two kilobytes.
const BODY_BUDGET_BYTES: usize = 64 << 20;
/// The word in `allowed_sources` for the addresses Svix sends from.
const SVIX: &str = "svix";
/// Where Svix sends from, as it publishes them, of all its regions (July 2026).
const SVIX_ADDRESSES: [&str; 20] = [
    "44.228.126.217/32",
    "50.112.21.217/32",
    "52.24.126.164/32",
    "54.148.139.208/32",
    "2600:1f24:64:8000::/56",
    "54.164.207.221/32",
    "54.90.7.123/32",
    "2600:1f28:37:4000::/56",
    "52.215.16.239/32",
    "54.216.8.72/32",
    "63.33.109.123/32",
    "2a05:d028:17:8000::/56",
    "13.239.204.236/32",
    "54.66.246.217/32",
    "54.252.65.96/32",
    "2406:da2c:13:4000::/56",
    "52.60.44.49/32",
    "3.98.68.230/32",
    "3.96.105.27/32",
    "2600:1f21:1c:4000::/56",
];

/// What the user can set.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Instances (`ins_…`) whose events are taken; empty: all. Keeps a test instance out of production's baseline.
    pub allowed_instances: Vec<String>,
    /// Addresses and networks that may send, `svix` for those Svix publishes; empty: all. Compared with the peer of the
    /// connection, so only of use without a proxy in front.
    pub allowed_sources: Vec<String>,
}

impl Config {
    /// Every fault, as `key: what is wrong`.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let bad = self.allowed_sources.iter().filter(|source| *source != SVIX && parse(source).is_none());
        bad.map(|source| format!("allowed_sources: {source:?} is neither a network, an address nor \"svix\"")).collect()
    }

    fn networks(&self) -> Vec<IpNet> {
        let svix = SVIX_ADDRESSES.iter().filter(|_| self.allowed_sources.iter().any(|source| source == SVIX)).copied();
        svix.chain(self.allowed_sources.iter().map(String::as_str)).filter_map(parse).collect()
    }
}

fn parse(source: &str) -> Option<IpNet> {
    source.parse().ok().or_else(|| source.parse::<IpAddr>().ok().map(IpNet::from))
}

/// The endpoint.
#[derive(Clone)]
pub(super) struct Endpoint(Arc<Shared>);

struct Shared {
    intake: Intake,
    keys: Arc<[SigningKey]>,
    identifier_key: IdentifierKey,
    allowed_instances: Vec<String>,
    allowed_sources: Vec<IpNet>,
    budget: Budget,
}

impl Endpoint {
    pub(super) fn new(intake: Intake, config: &Config, keys: Arc<[SigningKey]>, identifier_key: IdentifierKey) -> Self {
        let (allowed_instances, allowed_sources) = (config.allowed_instances.clone(), config.networks());
        let budget = Budget::new(BODY_BUDGET_BYTES);
        Self(Arc::new(Shared { intake, keys, identifier_key, allowed_instances, allowed_sources, budget }))
    }
}

pub(super) async fn receive(State(Endpoint(endpoint)): State<Endpoint>, request: Request) -> Response {
    match endpoint.take(request).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(refused) => endpoint.intake.refuse(Source::ClerkWebhook, refused),
    }
}

impl Shared {
    async fn take(&self, request: Request) -> Result<(), Refused> {
        self.intake.metrics.requests.with_label_values(&[Source::ClerkWebhook.as_str()]).inc();
        if self.keys.is_empty() {
            let message = "no webhook secret is configured; set CLERK_WEBHOOK_SIGNING_SECRET";
            return Err(Refused::new(StatusCode::NOT_FOUND, "not_configured", message));
        }
        let (head, body) = request.into_parts();
        let peer = head.extensions.get::<Peer>().map(|peer| peer.0);
        if !self.allowed_sources.is_empty() && !peer.is_some_and(|peer| self.allows(peer)) {
            return Err(Refused::new(StatusCode::FORBIDDEN, "source_address", "not an address that may send"));
        }
        // The headers alone turn most strangers away before their body is read.
        let signed = Signed::from_headers(&head.headers, self.intake.clock.now()).map_err(unbelieved)?;
        if media_type(&head.headers).as_deref() != Some("application/json") {
            let message = "the content type must be application/json";
            return Err(Refused::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type", message));
        }
        let body = body::read(&head.headers, body, MAX_BODY_BYTES, &self.budget).await?;
        signed.verify(&self.keys, &body.bytes).map_err(unbelieved)?;
        self.intake.metrics.verified.with_label_values(&[Source::ClerkWebhook.as_str()]).inc();
        let now = self.intake.clock.now();
        let normalized = clerk_webhook::normalize(Some(signed.id), &body.bytes, Some(now), &self.identifier_key)
            .map_err(|error| Refused::new(StatusCode::BAD_REQUEST, "bad_body", error.to_string()))?;
        let instance = &*normalized.event.tenant.0;
        if !self.allowed_instances.is_empty() && !self.allowed_instances.iter().any(|allowed| allowed == instance) {
            return Err(Refused::new(StatusCode::FORBIDDEN, "instance", "not an instance whose events are taken here"));
        }
        self.intake.append(Source::ClerkWebhook, vec![normalized]).await?;
        Ok(())
    }

    fn allows(&self, peer: IpAddr) -> bool {
        self.allowed_sources.iter().any(|network| network.contains(&peer))
    }
}

pub(super) fn unbelieved(refusal: super::signature::Refusal) -> Refused {
    Refused::new(StatusCode::UNAUTHORIZED, refusal.as_str(), "the request is not signed by a secret known here")
}
