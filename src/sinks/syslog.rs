//! Syslog: RFC 5424 messages over TLS, TCP or UDP, with CEF or JSON in them.
//!
//! Invariant: syslog answers nothing, so the one proof there is is asked for: with `confirm` (the default, not on UDP) a
//! batch has a connection of its own and counts as delivered once the receiver has read it to the end and closed. A
//! receiver that dies, hangs up early or does not believe our certificate leaves the batch in the outbox. Without a valid
//! certificate of the receiver nothing is sent over TLS, and there is no switch for that.
//!
//! Not here: what a message looks like (`format::syslog`, `format::cef`).

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::format::syslog::{Origin, message};
use super::format::{Body, cef};
use super::http::settings::is_loopback;
use super::section::{SecretKeys, Section, section, shared_keys};
use super::{Delivery, Sink};
use crate::finding::Finding;

mod tls;
mod transport;

use transport::Connection;

/// RFC 5424 section 6.1: what every receiver should take. A CEF line needs no more.
const MIN_BYTES: usize = 2048;
/// The most a UDP datagram can hold, with room for its headers; more is for none of the other receivers either.
const MAX_BYTES: usize = 65_000;
/// The largest facility, `local7`.
const MAX_FACILITY: u8 = 23;

section! {
    /// `[[sinks.syslog]]`
    pub struct Config {
        /// `host:port` of the receiver.
        address: String = String::new(),
        /// What carries the messages.
        transport: Transport = Transport::Tls,
        /// Where a message ends, over TLS and TCP.
        framing: Framing = Framing::OctetCounting,
        /// What is in a message.
        payload: Payload = Payload::Cef,
        /// 0 to 23; 10 is `authpriv`.
        facility: u8 = 10,
        /// The host that messages say they are from; unset: this one's name.
        host: Option<String> = None,
        /// The longest message, in bytes. What is longer loses lists first, and says so.
        max_bytes: usize = 8192,
        /// Whether to close after every batch and wait until the receiver has read it to the end.
        confirm: bool = true,
        /// Whether messages may leave this machine over TCP or UDP, readable by everybody on the way.
        plaintext: bool = false,
        /// For one batch, from connecting to the confirmation.
        timeout_seconds: u64 = 30,
        /// The authorities to believe, as PEM; unset: the system's.
        ca_file: Option<PathBuf> = None,
        /// Our own certificate and its chain, as PEM.
        client_cert_file: Option<PathBuf> = None,
        /// Its key, as PEM (PKCS #8).
        client_key_file: Option<PathBuf> = None,
    }
}

/// What carries the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// RFC 5425.
    Tls,
    /// RFC 6587.
    Tcp,
    /// RFC 5426. What gets lost on the way is lost.
    Udp,
}

/// Where a message ends in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Framing {
    /// Its length stands before it.
    OctetCounting,
    /// A newline stands after it.
    Newline,
}

/// What is in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payload {
    /// A line of CEF.
    #[serde(rename = "cef")]
    Cef,
    /// One of the JSON bodies.
    #[serde(untagged)]
    Json(Body),
}

impl Config {
    /// Host and port of `address`; an IPv6 address stands in brackets.
    fn host_and_port(&self) -> Option<(&str, u16)> {
        let (host, port) = self.address.rsplit_once(':')?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = bare.unwrap_or(host);
        (!host.is_empty() && (bare.is_some() || !host.contains(':'))).then_some((host, port.parse().ok()?))
    }
}

impl Section for Config {
    shared_keys!();

    fn secrets(&self) -> Vec<SecretKeys<'_>> {
        Vec::new()
    }

    fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        match self.host_and_port() {
            None => faults.push("address: must be host:port".to_owned()),
            Some((host, _)) if self.transport != Transport::Tls && !self.plaintext && !is_loopback(host) => faults.push(
                "transport: must be \"tls\", since everybody on the way could read findings; plaintext = true allows it"
                    .to_owned(),
            ),
            Some(_) => {}
        }
        if self.facility > MAX_FACILITY {
            faults.push(format!("facility: must be from 0 to {MAX_FACILITY}"));
        }
        if !(MIN_BYTES..=MAX_BYTES).contains(&self.max_bytes) {
            faults.push(format!("max_bytes: must be from {MIN_BYTES} to {MAX_BYTES}"));
        }
        // The dispatcher gives up on a sink after a minute.
        if !(1..=50).contains(&self.timeout_seconds) {
            faults.push("timeout_seconds: must be from 1 to 50".to_owned());
        }
        let tls = [&self.ca_file, &self.client_cert_file, &self.client_key_file];
        if self.transport != Transport::Tls && tls.iter().any(|file| file.is_some()) {
            faults.push(
                "ca_file: means something with transport = \"tls\" only, as do the client's certificate and key".into(),
            );
        }
        if self.client_cert_file.is_some() != self.client_key_file.is_some() {
            faults.push("client_cert_file: goes with client_key_file".to_owned());
        }
        faults
    }
}

/// The sink.
pub struct Syslog {
    config: Config,
    host: String,
    connection: Connection,
}

impl Syslog {
    /// A sink by `config`, not yet connected. Blocks on the files it names.
    ///
    /// # Errors
    /// `key: what is wrong`.
    pub fn new(config: &Config) -> Result<Self, String> {
        let (host, port) = config.host_and_port().ok_or_else(|| "address: must be host:port".to_owned())?;
        let connection = Connection::new(config, host, port)?;
        let host = config.host.clone().unwrap_or_else(this_host);
        Ok(Self { config: config.clone(), host, connection })
    }

    /// The message about `finding`; `None` if it cannot be made short enough.
    fn message(&self, finding: &Finding) -> serde_json::Result<Option<Vec<u8>>> {
        let origin = Origin { facility: self.config.facility, host: &self.host, process: std::process::id() };
        let room = self.config.max_bytes.saturating_sub(message(finding, origin, &[]).len());
        let payload = match self.config.payload {
            Payload::Cef => Some(cef::line_within(finding, room).into_bytes()).filter(|line| line.len() <= room),
            Payload::Json(body) => body.line_within(finding, room)?,
        };
        Ok(payload.map(|payload| message(finding, origin, &payload)))
    }
}

#[async_trait]
impl Sink for Syslog {
    async fn deliver(&mut self, findings: &[Finding]) -> Vec<Delivery> {
        let mut messages = Vec::with_capacity(findings.len());
        let mut deliveries = Vec::with_capacity(findings.len());
        for finding in findings {
            let refusal = match self.message(finding) {
                Ok(Some(message)) => {
                    messages.push(message);
                    deliveries.push(Delivery::Accepted);
                    continue;
                }
                Ok(None) => format!("does not fit into {} bytes (max_bytes)", self.config.max_bytes),
                Err(error) => format!("cannot be written as JSON: {error}"),
            };
            deliveries.push(Delivery::Refused(refusal));
        }
        if messages.is_empty() {
            return deliveries;
        }
        let time = Duration::from_secs(self.config.timeout_seconds);
        let sent = tokio::time::timeout(time, self.connection.send(&messages)).await;
        let fault = match sent {
            Ok(Ok(())) => return deliveries,
            Ok(Err(reason)) => reason,
            Err(_) => format!("no end within {} s", self.config.timeout_seconds),
        };
        // Part of it may have arrived; it comes again under the same ids.
        self.connection.forget();
        for delivery in deliveries.iter_mut().filter(|delivery| **delivery == Delivery::Accepted) {
            *delivery = Delivery::retry(&fault);
        }
        deliveries
    }
}

/// This machine's name, where the system tells it.
fn this_host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

#[cfg(test)]
mod tests;
