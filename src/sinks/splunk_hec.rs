//! Splunk's HTTP Event Collector, and what speaks its protocol (CrowdStrike LogScale, the OpenTelemetry Collector,
//! VictoriaLogs).
//!
//! Invariant: without `ack`, a finding counts as delivered once the collector has answered 200, which means "looks valid";
//! with it, once an indexer has written it. Whatever was not acknowledged in time is sent again, under the same
//! `metadata.uid`.
//!
//! Not here: deduplication. HEC has none; the README shows the search that reads the latest revision of each finding.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use uuid::Uuid;

use super::credential::{Credential, Variables};
use super::format::Body;
use super::http::batch::{Tally, runs};
use super::http::{Answer, Client, Request, Url};
use super::section::{MAX_IN_FLIGHT, SecretKeys, Section, in_flight_fault, section, shared_keys};
use super::{Delivery, Sink};
use crate::clock::{Clock, Stopwatch};
use crate::finding::Finding;

mod reply;

use reply::Reply;

/// Below Splunk's own limit on a request (1 MB by default in some versions), uncompressed.
const MAX_BODY_BYTES: usize = 900_000;
/// Between two questions whether an indexer has written it.
const ACK_INTERVAL: Duration = Duration::from_millis(500);
/// Sticky cookies of a load balancer: one or two; whoever sets more is not believed.
const MAX_COOKIES: usize = 8;

section! {
    /// `[[sinks.splunk_hec]]`
    http pub struct Config {
        /// The variable that holds the token.
        token_env: Option<String> = None,
        /// The file that holds it.
        token_file: Option<std::path::PathBuf> = None,
        /// The word before the token: `Splunk`; `Bearer` for LogScale.
        scheme: String = "Splunk".into(),
        /// Where events are posted to, below `url`.
        path: String = "/services/collector/event".into(),
        /// The index; unset: the token's own.
        index: Option<String> = None,
        /// What an event holds.
        body: Body = Body::Ocsf,
        /// `source` of the events.
        source: String = "authspike".into(),
        /// `sourcetype` of the events.
        sourcetype: String = "ocsf:detection_finding".into(),
        /// `host` of the events; unset: the receiver's choice.
        host: Option<String> = None,
        /// Whether requests are compressed.
        gzip: bool = true,
        /// Requests that may be on their way at one time.
        max_in_flight: u8 = MAX_IN_FLIGHT,
        /// Whether to wait until an indexer has written it; the token must have acknowledgement enabled.
        ack: bool = false,
        /// How long, in seconds.
        ack_timeout_seconds: u64 = 20,
    }
}

impl Config {
    fn endpoint(&self) -> Result<Url, String> {
        let joined = format!("{}/{}", self.url.trim_end_matches('/'), self.path.trim_start_matches('/'));
        Url::parse(&joined).map_err(|_| "path: does not make a URL".to_owned())
    }
}

impl Section for Config {
    shared_keys!();

    fn secrets(&self) -> Vec<SecretKeys<'_>> {
        vec![SecretKeys { key: "token", env: self.token_env.as_deref(), file: self.token_file.as_deref() }]
    }

    fn validate(&self) -> Vec<String> {
        let mut faults = self.http_faults();
        faults.extend(in_flight_fault(self.max_in_flight));
        if self.token_env.is_none() && self.token_file.is_none() {
            faults.push("token_env: must be set, or token_file: HEC takes nothing without a token".into());
        }
        if self.scheme.is_empty() || !self.scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            faults.push("scheme: must be one word: Splunk, Bearer".into());
        }
        // The dispatcher gives up on a sink after a minute.
        let together = self.ack_timeout_seconds.saturating_add(self.timeout_seconds);
        if self.ack && (self.ack_timeout_seconds == 0 || together > 55) {
            faults.push("ack_timeout_seconds: must be at least 1, and with timeout_seconds at most 55".into());
        }
        faults
    }
}

/// The sink.
#[derive(Clone, Debug)]
pub struct SplunkHec {
    config: Config,
    client: Client,
    token: Credential,
    events: Url,
    acks: Url,
    /// Of this process: acknowledgements of an earlier one are not to be had, so what was not recorded is sent again.
    channel: String,
    cookies: BTreeMap<String, String>,
}

/// What is posted around the record of one finding.
#[derive(Serialize)]
struct Envelope<'a> {
    /// Seconds.
    time: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    source: &'a str,
    sourcetype: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<&'a str>,
    fields: Fields<'a>,
}

/// Indexed fields: flat strings, or Splunk refuses the event.
#[derive(Serialize)]
struct Fields<'a> {
    finding_uid: Uuid,
    lifecycle: &'static str,
    severity: &'static str,
    rule: &'static str,
    tenant: &'a str,
}

impl SplunkHec {
    /// A sink by `config`. Blocks on the files it names.
    ///
    /// # Errors
    /// `key: what is wrong`.
    pub fn new(config: &Config, variables: &Variables, clock: Clock) -> Result<Self, String> {
        let keys = SecretKeys { key: "token", env: config.token_env.as_deref(), file: config.token_file.as_deref() };
        let events = config.endpoint()?;
        let acks = events.join("ack").map_err(|_| "path: does not make a URL".to_owned())?;
        Ok(Self {
            client: Client::new(&config.http(), clock)?,
            token: Credential::load(keys, variables)?.ok_or_else(|| "token_env: must be set".to_owned())?,
            events,
            acks,
            channel: channel(),
            cookies: BTreeMap::new(),
            config: config.clone(),
        })
    }

    fn event(&self, finding: &Finding) -> serde_json::Result<Vec<u8>> {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of this millennium fit in 52 bits")]
        let time = finding.at.0 as f64 / 1000.0;
        let mut event = serde_json::to_vec(&Envelope {
            time,
            host: self.config.host.as_deref(),
            source: &self.config.source,
            sourcetype: &self.config.sourcetype,
            index: self.config.index.as_deref(),
            fields: Fields {
                finding_uid: finding.finding_id,
                lifecycle: finding.lifecycle.as_str(),
                severity: finding.severity.as_str(),
                rule: finding.rule.as_str(),
                tenant: &finding.tenant.0,
            },
        })?;
        // The record is JSON already: it takes the place of the closing brace.
        event.pop();
        event.extend_from_slice(b",\"event\":");
        event.extend(self.config.body.line(finding)?);
        event.push(b'}');
        Ok(event)
    }

    async fn post(&mut self, url: &Url, body: Vec<u8>) -> Result<Answer, Delivery> {
        let token = self.token.current().await;
        let mut request = Request::post(url, "application/json", body);
        request = request.secret_header("Authorization", &format!("{} ", self.config.scheme), &token)?;
        if self.config.ack {
            request = request.header("X-Splunk-Request-Channel", &self.channel)?;
        }
        if !self.cookies.is_empty() {
            let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request = request.header("Cookie", &cookies.join("; "))?;
        }
        if self.config.gzip {
            request = request.gzip();
        }
        let answer = self.client.post(request).await?;
        self.keep_cookies(&answer);
        Ok(answer)
    }

    /// Behind a load balancer an acknowledgement is known to one indexer only: the cookie leads back to it.
    fn keep_cookies(&mut self, answer: &Answer) {
        for cookie in answer.cookies() {
            let pair = cookie.split(';').next().unwrap_or_default();
            if let Some((name, value)) = pair.split_once('=')
                && (self.cookies.len() < MAX_COOKIES || self.cookies.contains_key(name.trim()))
            {
                self.cookies.insert(name.trim().to_owned(), value.trim().to_owned());
            }
        }
    }

    /// Posts one request's events: what became of all of them, or the id to ask for.
    async fn send(&mut self, body: Vec<u8>) -> Result<Option<u64>, Delivery> {
        let url = self.events.clone();
        let answer = self.post(&url, body).await?;
        let reply = Reply::read(answer.body());
        let verdict = reply.verdict(answer.status(), answer.reason()).unwrap_or_else(|| answer.verdict());
        if verdict != Delivery::Accepted {
            return Err(verdict);
        }
        if self.config.ack && reply.ack_id.is_none() {
            return Err(Delivery::Blocked("answered without ackId: the token has no acknowledgement".into()));
        }
        Ok(reply.ack_id.filter(|_| self.config.ack))
    }

    /// Asks until all of `pending` are written or time is up; leaves in it what is not.
    async fn acknowledge(&mut self, pending: &mut Vec<u64>) -> Result<(), Delivery> {
        let timeout = Duration::from_secs(self.config.ack_timeout_seconds);
        let watch = Stopwatch::start();
        let url = self.acks.clone();
        while !pending.is_empty() && watch.elapsed() < timeout {
            let question = serde_json::json!({ "acks": pending }).to_string().into_bytes();
            let answer = self.post(&url, question).await?;
            match answer.verdict() {
                // Only what is said to be written is: a 404 here says nothing about the event.
                Delivery::Accepted => {
                    let acks = reply::acks(answer.body());
                    pending.retain(|id| !acks.contains(id));
                }
                Delivery::Retry { .. } => {}
                // Nor does a 400 say that an event is bad: it was taken.
                Delivery::Blocked(_) | Delivery::Split(_) | Delivery::Bisect(_) | Delivery::Refused(_) => {
                    let reason = format!("the question for acknowledgements: {}", answer.reason());
                    return Err(Delivery::Blocked(reason));
                }
            }
            if !pending.is_empty() {
                tokio::time::sleep(ACK_INTERVAL).await;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Sink for SplunkHec {
    async fn deliver(&mut self, findings: &[Finding]) -> Vec<Delivery> {
        let events: Vec<Vec<u8>> = match findings.iter().map(|finding| self.event(finding)).collect() {
            Ok(events) => events,
            Err(error) => return vec![Delivery::Bisect(format!("cannot be written as JSON: {error}")); findings.len()],
        };
        let (mut tally, mut acks) = (Tally::default(), Vec::new());
        for run in runs(events.iter().map(|event| event.len() + 1), MAX_BODY_BYTES) {
            let count = run.len();
            let sent = match tally.stopped() {
                Some(reason) => Err(reason),
                None => self.send(events.get(run).unwrap_or_default().join(&b'\n')).await,
            };
            match sent {
                Ok(ack) => {
                    acks.extend(ack.map(|id| (id, tally.len()..tally.len() + count)));
                    tally.all(count, &Delivery::Accepted);
                }
                Err(delivery) => tally.all(count, &delivery),
            }
        }
        let mut pending: Vec<u64> = acks.iter().map(|(id, _)| *id).collect();
        let fault = self.acknowledge(&mut pending).await.err();
        let fault = fault.unwrap_or_else(|| {
            Delivery::retry(format!("not acknowledged within {} s", self.config.ack_timeout_seconds))
        });
        for (_, range) in acks.into_iter().filter(|(id, _)| pending.contains(id)) {
            tally.correct(range, &fault);
        }
        tally.finish()
    }

    fn last_answer(&self) -> Option<String> {
        self.client.last_answer()
    }
}

/// A random UUID, as Splunk wants a channel to be.
fn channel() -> String {
    let mut bytes = [0; 16];
    // Without entropy it is a fixed one: channels of two processes mix, and each only counts its own ids.
    let _ = getrandom::fill(&mut bytes);
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

#[cfg(test)]
mod tests;
