//! Clerk's side: where it is, and the pool of connections to it.
//!
//! Invariant: the certificate is verified, always; plain HTTP goes to this machine only, and is for tests and for a sidecar
//! that has the TLS.

use std::net::IpAddr;
use std::time::Duration;

use axum::http::uri::{Authority, PathAndQuery, Scheme};
use axum::http::{HeaderValue, Uri};
use hyper_tls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::watch::Upload;

/// A connection that is not there by then is not coming.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Below what servers keep idle connections for, so that a request rarely meets one that is being closed.
const POOL_IDLE: Duration = Duration::from_secs(30);
/// Idle connections kept; a busy instance has a few hundred requests on their way.
const POOL_MAX_IDLE: usize = 512;

/// The pool.
pub(super) type Pool = Client<HttpsConnector<HttpConnector>, Upload>;

/// Scheme and host of Clerk's Frontend API.
#[derive(Clone, Debug)]
pub(super) struct Upstream {
    scheme: Scheme,
    authority: Authority,
    host: HeaderValue,
}

impl Upstream {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let parts = uri.into_parts();
        let (scheme, authority) = (parts.scheme?, parts.authority?);
        let is_bare = parts.path_and_query.is_none_or(|path| path == "/");
        let is_here = authority.host().trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let is_safe = scheme == Scheme::HTTPS || (scheme == Scheme::HTTP && is_here);
        let host = HeaderValue::from_str(authority.as_str()).ok()?;
        (is_bare && is_safe && !authority.as_str().contains('@')).then_some(Self { scheme, authority, host })
    }

    /// What is at `target` (path and query) there.
    pub(super) fn uri(&self, target: &str) -> Option<Uri> {
        let target = PathAndQuery::try_from(target).ok()?;
        let whole = Uri::builder().scheme(self.scheme.clone()).authority(self.authority.clone());
        whole.path_and_query(target).build().ok()
    }

    /// As it stands in a redirect.
    pub(super) fn origin(&self) -> String {
        format!("{}://{}", self.scheme, self.authority)
    }

    pub(super) fn host(&self) -> HeaderValue {
        self.host.clone()
    }
}

/// The pool; `ca_file` may be empty.
///
/// # Errors
/// The file cannot be read or holds no certificate.
pub(super) fn client(ca_file: &str) -> Result<Pool, String> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(CONNECT_TIMEOUT));
    // A peer that vanished is noticed while its answer is waited for.
    http.set_keepalive(Some(Duration::from_secs(20)));
    let mut tls = native_tls::TlsConnector::builder();
    if !ca_file.is_empty() {
        let pem = std::fs::read(ca_file).map_err(|fault| format!("ca_file: {ca_file} cannot be read: {fault}"))?;
        let authorities = native_tls::Certificate::stack_from_pem(&pem)
            .ok()
            .filter(|authorities| !authorities.is_empty())
            .ok_or_else(|| format!("ca_file: {ca_file} holds no certificate"))?;
        for authority in authorities {
            tls.add_root_certificate(authority);
        }
        tls.disable_built_in_roots(true);
    }
    let tls = tls.build().map_err(|fault| format!("TLS cannot be used: {fault}"))?;
    let mut builder = Client::builder(TokioExecutor::new());
    builder.pool_timer(TokioTimer::new()).pool_idle_timeout(POOL_IDLE).pool_max_idle_per_host(POOL_MAX_IDLE);
    Ok(builder.build(HttpsConnector::from((http, tls.into()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_is_an_origin_and_plain_only_on_this_machine() {
        for good in
            ["https://frontend-api.clerk.dev", "https://clerk.example:8443/", "http://127.0.0.1:81", "http://[::1]:81"]
        {
            assert!(Upstream::parse(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "frontend-api.clerk.dev",
            "http://frontend-api.clerk.dev",
            "https://a/b",
            "https://a?b",
            "ftp://a",
            "https://u@a",
        ] {
            assert!(Upstream::parse(bad).is_none(), "{bad}");
        }
        let upstream = Upstream::parse("https://a").unwrap();
        assert_eq!(upstream.uri("/v1/client?a=b%20c").unwrap().to_string(), "https://a/v1/client?a=b%20c");
        assert_eq!(upstream.uri("//evil.example/v1").unwrap().authority().unwrap(), "a");
    }
}
