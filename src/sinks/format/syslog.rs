//! RFC 5424 messages: the frame in which CEF or JSON travels to a syslog receiver.
//!
//! Invariant: the header is ASCII without spaces in its fields, whatever the host is called, and the message begins with
//! the payload itself: no byte order mark, which receivers take for a part of it.
//!
//! Not here: the transport and its framing (`sinks::syslog`).

use crate::finding::Finding;

use super::{PRODUCT, moment, severity};

/// RFC 5424 section 6: the longest host name.
const MAX_HOST: usize = 255;

/// Who the message says it is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin<'a> {
    /// 0 to 23; 10 is security and authorization (`authpriv`).
    pub facility: u8,
    /// The name of this host.
    pub host: &'a str,
    /// The process.
    pub process: u32,
}

/// The message about `finding` with `payload` in it, without any framing.
#[must_use]
pub fn message(finding: &Finding, origin: Origin<'_>, payload: &[u8]) -> Vec<u8> {
    let priority = u16::from(origin.facility) * 8 + u16::from(severity::terms(finding.severity).syslog);
    let host: String = origin.host.chars().filter(char::is_ascii_graphic).take(MAX_HOST).collect();
    let host = if host.is_empty() { "-" } else { &host };
    // `origin` is registered with IANA, so it needs no enterprise number.
    let header = format!(
        "<{priority}>1 {} {host} {PRODUCT} {} {} [origin software=\"{PRODUCT}\" swVersion=\"{}\"] ",
        moment(finding.at),
        origin.process,
        finding.rule.as_str(),
        env!("CARGO_PKG_VERSION"),
    );
    let mut message = header.into_bytes();
    message.extend_from_slice(payload);
    message
}
