//! One request to Clerk and its answer back.
//!
//! Invariant: method, path, query, body, status and all headers that do not concern a connection, an address or the proxy
//! itself arrive as they were sent, in both directions; no redirect is followed. What cannot be forwarded is answered in the shape of Clerk's own
//! errors, so that its SDK can show it.

use std::net::{IpAddr, Ipv4Addr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, Version, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tokio::sync::OwnedSemaphorePermit;

use super::client_ip::Trusted;
use super::headers::{self, Outgoing};
use super::tunnel::{self, Tunnels};
use super::upstream::{Pool, Upstream};
use super::watch::{Download, Sent, Upload, Watcher};
use crate::clock::Stopwatch;
use crate::http::{Peer, Progress};
use crate::metrics::FapiProxyMetrics;
use crate::normalize::fapi::Route;

/// Where the load balancer in front asks whether this proxy forwards. The admin listener's `/readyz` tells of detection.
const LIVE: &str = "/livez";

/// What forwards.
pub(super) struct Proxy {
    pub(super) client: Pool,
    pub(super) upstream: Upstream,
    /// Without a slash at the end; empty where paths arrive without it.
    pub(super) prefix: Box<str>,
    pub(super) outgoing: Outgoing,
    pub(super) trusted: Trusted,
    pub(super) watcher: Arc<Watcher>,
    pub(super) tunnels: Tunnels,
    /// For each step of the way.
    pub(super) timeout: Duration,
    pub(super) metrics: FapiProxyMetrics,
}

/// Why a request was not forwarded, or not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    NotUnderPrefix,
    BadTarget,
    TooManyTunnels,
    Unreachable,
    Broken,
    Silent,
}

impl Fault {
    const fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::NotUnderPrefix => (StatusCode::NOT_FOUND, "proxy_path_mismatch", "this path is not Clerk's"),
            Self::BadTarget => (StatusCode::BAD_REQUEST, "proxy_bad_request", "this cannot be forwarded"),
            Self::TooManyTunnels => (StatusCode::SERVICE_UNAVAILABLE, "proxy_overloaded", "too many open connections"),
            Self::Unreachable => (StatusCode::BAD_GATEWAY, "proxy_unreachable", "Clerk cannot be reached"),
            Self::Broken => (StatusCode::BAD_GATEWAY, "proxy_broken_answer", "Clerk's answer broke off"),
            Self::Silent => (StatusCode::GATEWAY_TIMEOUT, "proxy_timeout", "Clerk did not answer in time"),
        }
    }

    fn into_response(self) -> Response {
        let (status, code, message) = self.parts();
        let errors = serde_json::json!({ "errors": [{ "code": code, "message": message, "long_message": message }] });
        (status, [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))], Json(errors)).into_response()
    }
}

/// Everything is for one handler: what is under the prefix is Clerk's to route.
pub(super) fn router(proxy: Proxy) -> Router {
    Router::new().fallback(forward).with_state(Arc::new(proxy))
}

async fn forward(State(proxy): State<Arc<Proxy>>, request: Request) -> Response {
    if request.uri().path() == LIVE && request.method() == Method::GET {
        return "ok\n".into_response();
    }
    let watch = Stopwatch::start();
    let answer = proxy.forward(request).await.unwrap_or_else(|fault| {
        let (_, reason, _) = fault.parts();
        proxy.metrics.failures.with_label_values(&[reason]).inc();
        fault.into_response()
    });
    proxy.metrics.answer_seconds.observe(watch.elapsed().as_secs_f64());
    proxy.metrics.answered(answer.status().as_u16());
    answer
}

/// A connection that may become something else.
struct Upgrade {
    protocol: HeaderValue,
    client: OnUpgrade,
    place: OwnedSemaphorePermit,
}

impl Proxy {
    async fn forward(&self, mut request: Request) -> Result<Response, Fault> {
        let path = self.below_prefix(request.uri().path()).ok_or(Fault::NotUnderPrefix)?;
        let query = request.uri().query();
        let target = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
        let target = self.upstream.uri(&target).ok_or(Fault::BadTarget)?;
        let route = Route::of(request.method().as_str(), path, query);
        let peer = request.extensions().get::<Peer>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0);
        let client = self.trusted.client(peer, request.headers());
        let progress = request.extensions().get::<Progress>().cloned();
        let upgrade = self.upgrade(&mut request)?;

        let (mut head, body) = request.into_parts();
        let sighting = route.map(|route| self.watcher.sight(route, client, &head.headers));
        self.outgoing.prepare(&mut head.headers, client.unwrap_or(peer));
        head.headers.insert(header::HOST, self.upstream.host());
        if sighting.is_some() {
            headers::readable_encodings(&mut head.headers);
        }
        if let Some(upgrade) = &upgrade {
            ask_for(&upgrade.protocol, &mut head.headers);
        }
        let sent = Sent::default();
        let form = sighting.as_ref().map(super::watch::Sighting::form);
        let mut outgoing = hyper::Request::new(Upload::new(body, form, Arc::clone(&sent), progress.clone()));
        (*outgoing.method_mut(), *outgoing.uri_mut(), *outgoing.headers_mut()) = (head.method, target, head.headers);

        let mut answer = self.send(outgoing, &sent).await?;
        let switches = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
        let protocol = answer.headers().get(header::UPGRADE).cloned();
        headers::strip_hop_by_hop(answer.headers_mut());
        // Of Clerk's own address, where the browser is not.
        answer.headers_mut().remove(header::ALT_SVC);
        self.outgoing.lead_back(answer.headers_mut());
        *answer.version_mut() = Version::default();
        match (upgrade, switches) {
            (Some(upgrade), true) => {
                ask_for(&protocol.unwrap_or(upgrade.protocol), answer.headers_mut());
                tunnel::join(upgrade.client, &mut answer, upgrade.place);
            }
            // Nobody asked for it.
            (None, true) => return Err(Fault::Broken),
            (_, false) => {}
        }
        let answered = sighting.map(|sighting| sighting.answered(answer.status().as_u16(), answer.headers()));
        Ok(answer.map(|body| Body::new(Download::new(body, answered, progress))))
    }

    /// The path as Clerk knows it.
    fn below_prefix<'a>(&self, path: &'a str) -> Option<&'a str> {
        match path.strip_prefix(&*self.prefix)? {
            "" => Some("/"),
            below => below.starts_with('/').then_some(below),
        }
    }

    fn upgrade(&self, request: &mut Request) -> Result<Option<Upgrade>, Fault> {
        let Some(protocol) = headers::upgrade(request.headers()).filter(|_| request.version() == Version::HTTP_11)
        else {
            return Ok(None);
        };
        let place = self.tunnels.place().ok_or(Fault::TooManyTunnels)?;
        Ok(Some(Upgrade { protocol, client: hyper::upgrade::on(request), place }))
    }

    /// Until the answer begins. A request whose body still moves is waited for.
    async fn send(&self, request: hyper::Request<Upload>, sent: &Sent) -> Result<Response<Incoming>, Fault> {
        let mut answer = pin!(self.client.request(request));
        let mut before = sent.load(Ordering::Relaxed);
        loop {
            if let Ok(answer) = tokio::time::timeout(self.timeout, &mut answer).await {
                return answer.map_err(|error| {
                    tracing::debug!(%error, "Clerk did not answer");
                    if error.is_connect() { Fault::Unreachable } else { Fault::Broken }
                });
            }
            let now = sent.load(Ordering::Relaxed);
            if now == before {
                return Err(Fault::Silent);
            }
            before = now;
        }
    }
}

/// Says on the next connection what was said on the last.
fn ask_for(protocol: &HeaderValue, headers: &mut axum::http::HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, protocol.clone());
}
