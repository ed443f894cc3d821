//! authspike as the `proxy_url` of a Clerk instance: every request under the prefix is forwarded to Clerk's Frontend API,
//! and of those about a sign-in the answer is recorded as an attempt.
//!
//! Invariant: what detection, the log or the disk are doing makes no difference to what is forwarded. Attempts are handed
//! over through a bounded queue that nobody waits for; what finds it full is counted and let go (`record`). Of a request
//! two form fields are read and no other is copied (`watch`); the secret key goes to Clerk and nowhere else.
//!
//! Not here: TLS towards the browser (whatever stands in front has it), redirects, cookies, caches, retries.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::header::HeaderName;
use axum::http::{HeaderValue, Uri};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::alias::Aliases;
use crate::clock::Clock;
use crate::http;
use crate::log::Log;
use crate::metrics::{FapiProxyMetrics, IngestMetrics};
use crate::normalize::fapi;
use crate::normalize::identifier::IdentifierKey;
use crate::secret::Secret;

mod client_ip;
mod forward;
mod headers;
mod record;
mod sign_ins;
mod tunnel;
mod upstream;
mod watch;

use record::Recorder;

/// Clerk's ends in seconds; a picture that is uploaded over a slow line in minutes. What moves is cut off by nothing.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(10);
/// When stopping, for what runs: below the grace that supervisors give.
const DRAIN: Duration = Duration::from_secs(10);

/// What the user can set.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether it runs.
    pub enabled: bool,
    /// Address to listen on, of its own.
    pub listen: SocketAddr,
    /// The `proxy_url` of the Clerk instance, as browsers see it.
    pub proxy_url: String,
    /// What paths begin with when they arrive here; `/` where something in front takes the prefix away.
    pub prefix: String,
    /// Clerk's Frontend API. Plain HTTP only to this machine.
    pub upstream: String,
    /// Authorities to believe, as a PEM file; empty: the system's.
    pub ca_file: String,
    /// The instance (`ins_…`) whose proxy this is; attempts are counted for it. Empty: unnamed.
    pub instance_id: String,
    /// Addresses and networks of the proxies in front, whose word on who the client is is taken; nobody else's is.
    pub trusted_proxies: Vec<String>,
    /// The header in which they say it: a list to which each appends (`X-Forwarded-For`), or one address.
    pub client_ip_header: String,
    /// Connections at one time; browsers keep one or two open for a minute.
    pub max_connections: usize,
    /// Seconds without a byte of the request or the answer, after which the answer is 504.
    pub timeout_seconds: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: false,
            listen: SocketAddr::from(([127, 0, 0, 1], 8081)),
            proxy_url: String::new(),
            prefix: "/__clerk".to_owned(),
            upstream: "https://frontend-api.clerk.dev".to_owned(),
            ca_file: String::new(),
            instance_id: String::new(),
            trusted_proxies: Vec::new(),
            client_ip_header: "X-Forwarded-For".to_owned(),
            max_connections: 4096,
            timeout_seconds: 30,
        }
    }
}

impl Config {
    /// Every fault, as `key: what is wrong`.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let proxy_url = self.proxy_url.parse::<Uri>().ok().filter(|url| url.scheme_str() == Some("https"));
        if self.enabled && proxy_url.is_none_or(|url| url.query().is_some() || url.path().ends_with('/')) {
            faults
                .push("proxy_url: must be https://host/path without a slash at the end, as it is set in Clerk".into());
        }
        if !self.prefix.starts_with('/') || (self.prefix.len() > 1 && self.prefix.ends_with('/')) {
            faults.push("prefix: must begin with a slash and not end with one".into());
        }
        if upstream::Upstream::parse(&self.upstream).is_none() {
            faults.push("upstream: must be https://host, or http://address on this machine, without a path".into());
        }
        if fapi::tenant(&self.instance_id).is_none() {
            faults.push("instance_id: is not a Clerk id".into());
        }
        let bad = self.trusted_proxies.iter().filter(|proxy| network(proxy).is_none());
        faults.extend(bad.map(|proxy| format!("trusted_proxies: {proxy:?} is neither a network nor an address")));
        if HeaderName::try_from(self.client_ip_header.as_str()).is_err() {
            faults.push("client_ip_header: is no name of a header".into());
        }
        if !(1..=100_000).contains(&self.max_connections) {
            faults.push("max_connections: must be from 1 to 100000".into());
        }
        if !(1..=300).contains(&self.timeout_seconds) {
            faults.push("timeout_seconds: must be from 1 to 300".into());
        }
        faults
    }

    /// What an operator should know of it although it is no fault.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let unnamed = self.enabled && self.instance_id.is_empty();
        let note =
            "ingest.fapi_proxy.instance_id is not set: what the proxy sees and what webhooks tell are not joined";
        unnamed.then(|| note.to_owned()).into_iter().collect()
    }
}

fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// What the proxy is made of.
pub struct Parts {
    /// Settings.
    pub config: Config,
    /// `sk_live_…`, for Clerk.
    pub secret_key: Secret,
    /// Where attempts go.
    pub log: Arc<dyn Log>,
    /// Events by source and outcome.
    pub ingest: IngestMetrics,
    /// Figures of its own.
    pub metrics: FapiProxyMetrics,
    /// Stamps attempts.
    pub clock: Clock,
    /// Hashes identifiers.
    pub identifier_key: IdentifierKey,
    /// Whose they are.
    pub aliases: Aliases,
}

/// The proxy, ready to serve.
pub struct FapiProxy {
    router: Router,
    recorder: Recorder,
    limits: http::Limits,
    metrics: FapiProxyMetrics,
}

impl FapiProxy {
    /// Prepares it.
    ///
    /// # Errors
    /// What cannot be used of the settings, without showing secrets.
    pub fn new(parts: Parts) -> Result<Self, String> {
        let Parts { config, secret_key, log, ingest, metrics, clock, identifier_key, aliases } = parts;
        let mut secret_key = HeaderValue::try_from(secret_key.expose()).map_err(|_| "CLERK_SECRET_KEY: is no key")?;
        secret_key.set_sensitive(true);
        let tenant = fapi::tenant(&config.instance_id).ok_or("instance_id: is not a Clerk id")?;
        let upstream = upstream::Upstream::parse(&config.upstream).ok_or("upstream: is no origin")?;
        let client_header = HeaderName::try_from(config.client_ip_header.as_str()).map_err(|_| "client_ip_header")?;
        let networks = config.trusted_proxies.iter().filter_map(|proxy| network(proxy)).collect();
        let (key, of) = (identifier_key.clone(), tenant.clone());
        let (recorder, queue) = record::new(log, ingest, metrics.clone(), clock.clone(), of, key, aliases);
        let outgoing = headers::Outgoing::new(&config.proxy_url, upstream.origin(), secret_key, client_header.clone())?;
        let proxy = forward::Proxy {
            client: upstream::client(&config.ca_file)?,
            upstream,
            prefix: config.prefix.trim_end_matches('/').into(),
            outgoing,
            trusted: client_ip::Trusted::new(networks, client_header),
            watcher: Arc::new(watch::Watcher::new(queue, identifier_key, tenant, clock)),
            tunnels: tunnel::Tunnels::default(),
            timeout: Duration::from_secs(config.timeout_seconds),
            metrics: metrics.clone(),
        };
        let limits = http::Limits { max_connections: config.max_connections, request_timeout: REQUEST_TIMEOUT };
        Ok(Self { router: forward::router(proxy), recorder, limits, metrics })
    }

    /// Forwards until `stop`; then finishes what runs and hands the attempts that wait to the log.
    pub async fn run(self, listener: TcpListener, stop: CancellationToken) {
        let drained = CancellationToken::new();
        let recording = tokio::spawn(self.recorder.run(drained.clone()));
        let serving = http::serve(listener, self.router, self.limits, self.metrics.connections, stop.clone());
        let late = async {
            stop.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        };
        tokio::select! {
            () = serving => {}
            () = late => tracing::warn!("sign-ins still on their way were cut off while stopping"),
        }
        drained.cancel();
        if recording.await.is_err() {
            tracing::error!("the recorder of sign-in attempts failed");
        }
    }
}
