//! Headers on their way to Clerk and back.
//!
//! Invariant: what concerns one connection stays on it (RFC 9110, 7.6.1), and nobody but us tells Clerk who the client is,
//! where the proxy is and that it may be one.

use std::net::IpAddr;

use axum::http::header::{self, Entry, HeaderName};
use axum::http::{HeaderMap, HeaderValue, Uri};

/// What concerns one connection, whether `Connection` names it or not.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];
/// A client's word on who it is, in the ways that something behind us might believe.
const CLAIMS: [&str; 10] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-port",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "fastly-client-ip",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
];
const CLERK_PROXY_URL: HeaderName = HeaderName::from_static("clerk-proxy-url");
const CLERK_SECRET_KEY: HeaderName = HeaderName::from_static("clerk-secret-key");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What every request to Clerk bears.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    proxy_url: HeaderValue,
    secret_key: HeaderValue,
    host: HeaderValue,
    proto: HeaderValue,
    client_header: HeaderName,
    /// Scheme and host of Clerk's side.
    origin: String,
}

impl Outgoing {
    pub(super) fn new(
        proxy_url: &str,
        origin: String,
        secret_key: HeaderValue,
        client_header: HeaderName,
    ) -> Result<Self, &'static str> {
        const FAULT: &str = "proxy_url: is no URL";
        let uri: Uri = proxy_url.parse().map_err(|_| FAULT)?;
        let value = |text: Option<&str>| HeaderValue::from_str(text.ok_or(FAULT)?).map_err(|_| FAULT);
        Ok(Self {
            proxy_url: value(Some(proxy_url))?,
            secret_key,
            host: value(uri.authority().map(axum::http::uri::Authority::as_str))?,
            proto: value(uri.scheme_str())?,
            client_header,
            origin,
        })
    }

    /// A redirect to Clerk's own host, which knows nothing of this instance without our headers, leads back to the proxy;
    /// every other one is left as it is.
    pub(super) fn lead_back(&self, headers: &mut HeaderMap) {
        let Some(target) = headers.get(header::LOCATION).and_then(|target| target.to_str().ok()) else { return };
        let below = target.strip_prefix(&*self.origin).unwrap_or(target);
        let proxy = self.proxy_url.to_str().unwrap_or_default();
        let prefix = proxy.splitn(4, '/').nth(3).unwrap_or_default();
        let is_back = below
            .strip_prefix('/')
            .and_then(|below| below.strip_prefix(prefix))
            .is_some_and(|rest| !prefix.is_empty() && (rest.is_empty() || rest.starts_with(['/', '?', '#'])));
        if !below.starts_with('/') || below.starts_with("//") || (is_back && below.len() == target.len()) {
            return;
        }
        if let Ok(back) = HeaderValue::try_from(format!("{proxy}{below}")) {
            headers.insert(header::LOCATION, back);
        }
    }

    /// Makes the client's headers those of the request to Clerk. `client` is nobody's word but our own.
    pub(super) fn prepare(&self, headers: &mut HeaderMap, client: IpAddr) {
        strip_hop_by_hop(headers);
        headers.remove(header::HOST);
        // Answered on this connection already.
        headers.remove(header::EXPECT);
        for claim in CLAIMS {
            headers.remove(claim);
        }
        headers.remove(&self.client_header);
        headers.insert(CLERK_PROXY_URL, self.proxy_url.clone());
        headers.insert(CLERK_SECRET_KEY, self.secret_key.clone());
        headers.insert(FORWARDED_HOST, self.host.clone());
        headers.insert(FORWARDED_PROTO, self.proto.clone());
        if let Ok(client) = HeaderValue::try_from(client.to_string()) {
            headers.insert(FORWARDED_FOR, client);
        }
    }
}

/// Takes away what concerns the connection that the message came on.
pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    // Whoever names these wants them lost on the way, or their framing.
    let kept = [header::CONTENT_LENGTH, header::HOST, header::COOKIE, header::AUTHORIZATION, header::ORIGIN];
    for name in named.iter().filter(|name| !kept.contains(name)).chain(&HOP_BY_HOP) {
        if let Entry::Occupied(entry) = headers.entry(name) {
            entry.remove_entry_mult();
        }
    }
}

/// What the connection is to become, if the request asks for that (RFC 9110, 7.8).
pub(super) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let asks = |value: &HeaderValue| {
        value.to_str().is_ok_and(|value| value.split(',').any(|it| it.trim().eq_ignore_ascii_case("upgrade")))
    };
    let protocol = headers.get(header::UPGRADE)?;
    // Cleartext HTTP/2 would be a way past everything that looks at single requests.
    let is_http2 = protocol.to_str().map_or(true, |protocol| protocol.to_ascii_lowercase().contains("h2c"));
    (!is_http2 && headers.get_all(header::CONNECTION).iter().any(asks)).then(|| protocol.clone())
}

/// On a request whose answer is read: only encodings that can be read here.
pub(super) fn readable_encodings(headers: &mut HeaderMap) {
    let accepts_gzip =
        headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok()).any(|value| {
            value.split(',').any(|coding| {
                let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
                name.trim().eq_ignore_ascii_case("gzip")
                    && !matches!(weight.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000")
            })
        });
    let readable = if accepts_gzip { "gzip" } else { "identity" };
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(readable));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&str, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
    }

    fn outgoing(name: HeaderName) -> Outgoing {
        let (proxy_url, origin) = ("https://app.example/__clerk", "https://frontend-api.clerk.dev".to_owned());
        Outgoing::new(proxy_url, origin, HeaderValue::from_static("sk_test"), name).unwrap()
    }

    #[test]
    fn redirects_to_clerks_host_lead_back_and_others_are_left_alone() {
        let outgoing = outgoing(FORWARDED_FOR);
        for (location, expected) in [
            ("https://frontend-api.clerk.dev/npm/a.js?b#c", "https://app.example/__clerk/npm/a.js?b#c"),
            ("/npm/a.js", "https://app.example/__clerk/npm/a.js"),
            ("/__clerk/npm/a.js", "/__clerk/npm/a.js"),
            ("/__clerks/a.js", "https://app.example/__clerk/__clerks/a.js"),
            ("https://frontend-api.clerk.dev.evil.example/a", "https://frontend-api.clerk.dev.evil.example/a"),
            (
                "https://app.example/?b=https://frontend-api.clerk.dev/",
                "https://app.example/?b=https://frontend-api.clerk.dev/",
            ),
            ("https://accounts.example/a%20b", "https://accounts.example/a%20b"),
            ("//other.example/a", "//other.example/a"),
            ("a.js", "a.js"),
        ] {
            let mut headers = map(&[("location", location)]);
            outgoing.lead_back(&mut headers);
            assert_eq!(headers["location"], expected, "{location}");
        }
    }

    #[test]
    fn clerk_gets_its_three_headers_and_no_claim_of_the_client() {
        let name = HeaderName::from_static("x-edge-client");
        let outgoing = outgoing(name);
        let mut headers = map(&[
            ("host", "app.example"),
            ("clerk-secret-key", "sk_stolen"),
            ("clerk-proxy-url", "https://evil.example"),
            ("x-forwarded-for", "8.8.8.8"),
            ("x-edge-client", "8.8.8.8"),
            ("cf-connecting-ip", "8.8.8.8"),
            ("forwarded", "for=8.8.8.8"),
            ("x-forwarded-host", "evil.example"),
            ("connection", "close, x-private, Cookie"),
            ("x-private", "1"),
            ("te", "trailers"),
            ("expect", "100-continue"),
            ("cookie", "__session=1"),
            ("cookie", "__client=2"),
            ("content-type", "application/x-www-form-urlencoded"),
        ]);
        outgoing.prepare(&mut headers, "203.0.113.7".parse().unwrap());
        let mut left: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        left.sort();
        assert_eq!(
            left,
            [
                "clerk-proxy-url: https://app.example/__clerk",
                "clerk-secret-key: sk_test",
                "content-type: application/x-www-form-urlencoded",
                "cookie: __client=2",
                "cookie: __session=1",
                "x-forwarded-for: 203.0.113.7",
                "x-forwarded-host: app.example",
                "x-forwarded-proto: https",
            ]
        );
    }

    #[test]
    fn an_upgrade_is_asked_for_in_two_headers_and_never_to_http_2() {
        let asked = |lines: &[(&str, &str)]| upgrade(&map(lines)).map(|it| it.to_str().unwrap().to_owned());
        let websocket = [("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")];
        assert_eq!(asked(&websocket).as_deref(), Some("websocket"));
        assert_eq!(asked(&websocket[1..]), None);
        assert_eq!(asked(&[("connection", "upgrade, http2-settings"), ("upgrade", "h2c")]), None);
    }

    #[test]
    fn an_answer_that_is_read_comes_as_gzip_or_as_it_is() {
        for (asked, expected) in [
            ("gzip, deflate, br, zstd", "gzip"),
            ("br", "identity"),
            ("gzip;q=0, br", "identity"),
            ("GZIP;q=0.5", "gzip"),
        ] {
            let mut headers = map(&[("accept-encoding", asked)]);
            readable_encodings(&mut headers);
            assert_eq!(headers["accept-encoding"], expected, "{asked}");
        }
    }
}
