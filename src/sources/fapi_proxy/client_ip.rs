//! Whose request it is: the peer of the connection, or the client that a trusted proxy names.
//!
//! Invariant: an address is believed only if every party from here to where it was written down is trusted. So a list is
//! read from its end, where our own proxies wrote, and never from its beginning, where anybody can.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use axum::http::header::HeaderName;
use ipnet::IpNet;

/// Longer lists are no path through proxies.
const MAX_HOPS: usize = 32;

/// The proxies in front.
#[derive(Clone, Debug)]
pub(super) struct Trusted {
    networks: Vec<IpNet>,
    header: HeaderName,
}

impl Trusted {
    pub(super) fn new(networks: Vec<IpNet>, header: HeaderName) -> Self {
        Self { networks, header }
    }

    /// The client, or nothing if a trusted proxy is the peer and does not say who it is.
    pub(super) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Option<IpAddr> {
        let peer = peer.to_canonical();
        if !self.trusts(peer) {
            return Some(peer);
        }
        let lines: Vec<_> = headers.get_all(&self.header).iter().collect();
        let mut hops = 0;
        let mut farthest = None;
        for line in lines.iter().rev() {
            for entry in line.to_str().ok()?.rsplit(',') {
                hops += 1;
                let address = address(entry.trim()).filter(|_| hops <= MAX_HOPS)?;
                farthest = Some(address);
                if !self.trusts(address) {
                    return farthest;
                }
            }
        }
        // Somebody inside, or nobody at all.
        farthest
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }
}

/// An address as proxies write it: with or without a port, IPv6 with or without brackets.
fn address(entry: &str) -> Option<IpAddr> {
    let bare = |entry: &str| entry.strip_prefix('[')?.strip_suffix(']')?.parse::<IpAddr>().ok();
    let parsed = entry.parse::<IpAddr>().ok().or_else(|| bare(entry));
    let parsed = parsed.or_else(|| entry.parse::<SocketAddr>().ok().map(|address| address.ip()))?;
    let parsed = parsed.to_canonical();
    (!parsed.is_unspecified()).then_some(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALB: &str = "10.0.0.0/8";
    const CLOUDFLARE: &str = "173.245.48.0/20";
    const EDGE_V6: &str = "2400:cb00::/32";

    /// (case, trusted, peer, header, lines, the client)
    type Case<'a> = (&'a str, &'a [&'a str], &'a str, &'a str, &'a [&'a str], Option<&'a str>);

    const XFF: &str = "x-forwarded-for";
    const CASES: &[Case<'_>] = &[
        ("direct", &[], "203.0.113.7", XFF, &[], Some("203.0.113.7")),
        ("direct, spoofed", &[], "203.0.113.7", XFF, &["8.8.8.8"], Some("203.0.113.7")),
        ("direct beside a proxy, spoofed", &[ALB], "203.0.113.7", XFF, &["8.8.8.8, 10.1.1.1"], Some("203.0.113.7")),
        ("IPv4 on an IPv6 socket", &[], "::ffff:203.0.113.7", XFF, &["8.8.8.8"], Some("203.0.113.7")),
        ("ALB", &[ALB], "10.0.3.4", XFF, &["203.0.113.7"], Some("203.0.113.7")),
        ("ALB appends to what was spoofed", &[ALB], "10.0.3.4", XFF, &["8.8.8.8, 203.0.113.7"], Some("203.0.113.7")),
        ("ALB with client ports", &[ALB], "10.0.3.4", XFF, &["203.0.113.7:51234"], Some("203.0.113.7")),
        ("ALB with client ports, IPv6", &[ALB], "10.0.3.4", XFF, &["[2001:db8::7]:51234"], Some("2001:db8::7")),
        (
            "Cloudflare, its header",
            &[CLOUDFLARE],
            "173.245.48.9",
            "cf-connecting-ip",
            &["203.0.113.7"],
            Some("203.0.113.7"),
        ),
        (
            "its header from elsewhere",
            &[CLOUDFLARE],
            "198.51.100.1",
            "cf-connecting-ip",
            &["203.0.113.7"],
            Some("198.51.100.1"),
        ),
        (
            "Cloudflare, then ALB",
            &[CLOUDFLARE, ALB],
            "10.0.3.4",
            XFF,
            &["8.8.8.8, 203.0.113.7, 173.245.48.9"],
            Some("203.0.113.7"),
        ),
        (
            "past Cloudflare, claiming it",
            &[CLOUDFLARE, ALB],
            "10.0.3.4",
            XFF,
            &["203.0.113.7, 173.245.48.9, 198.51.100.1"],
            Some("198.51.100.1"),
        ),
        ("nginx on this machine", &["127.0.0.1"], "127.0.0.1", "x-real-ip", &["203.0.113.7"], Some("203.0.113.7")),
        ("IPv6 all the way", &[EDGE_V6], "2400:cb00::1", XFF, &["2001:db8::7"], Some("2001:db8::7")),
        ("mapped", &[ALB], "::ffff:10.0.3.4", XFF, &["::ffff:203.0.113.7"], Some("203.0.113.7")),
        ("two lines are one list", &[ALB], "10.0.3.4", XFF, &["8.8.8.8", "203.0.113.7, 10.0.0.9"], Some("203.0.113.7")),
        ("all of it inside", &[ALB], "10.0.3.4", XFF, &["10.5.5.5, 10.0.0.9"], Some("10.5.5.5")),
        ("the proxy's own check", &[ALB], "10.0.3.4", XFF, &[], None),
        ("garbage where the proxy writes", &[ALB], "10.0.3.4", XFF, &["203.0.113.7, unknown"], None),
        ("garbage where anybody writes", &[ALB], "10.0.3.4", XFF, &["<script>, 203.0.113.7"], Some("203.0.113.7")),
        ("an empty place", &[ALB], "10.0.3.4", XFF, &["203.0.113.7,"], None),
        ("nobody", &[ALB], "10.0.3.4", XFF, &["0.0.0.0"], None),
        ("not text", &[ALB], "10.0.3.4", XFF, &["203.0.113.7\u{e9}"], None),
    ];

    #[test]
    fn only_what_trusted_proxies_wrote_is_believed() {
        for (case, trusted, peer, header, lines, expected) in CASES {
            let header: HeaderName = header.parse().unwrap();
            let networks = trusted.iter().map(|text| super::super::network(text).unwrap()).collect();
            let mut headers = HeaderMap::new();
            for line in *lines {
                headers.append(&header, axum::http::HeaderValue::from_bytes(line.as_bytes()).unwrap());
            }
            let client = Trusted::new(networks, header).client(peer.parse().unwrap(), &headers);
            assert_eq!(client, expected.map(|ip| ip.parse().unwrap()), "{case}");
        }
        let long = vec!["10.0.0.1"; MAX_HOPS + 1].join(", ");
        let headers = HeaderMap::from_iter([(HeaderName::from_static(XFF), long.parse().unwrap())]);
        let trusted = Trusted::new(vec![ALB.parse().unwrap()], HeaderName::from_static(XFF));
        assert_eq!(trusted.client("10.0.0.1".parse().unwrap(), &headers), None);
    }
}
