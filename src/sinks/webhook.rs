//! Webhooks: signed by Standard Webhooks or by a plain HMAC header, or in the form that Slack, PagerDuty, Datadog, Sumo
//! Logic and Panther take.
//!
//! Invariant: the id of a delivery is the id of the revision, so it is the same at every try; the time and the signature
//! are those of the try, so that a receiver that refuses what is five minutes old takes what waited out an outage.
//!
//! Not here: what each receiver's body looks like (`bodies`), signatures (`sign`).

use std::path::PathBuf;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::credential::{Credential, Variables};
use super::format::Body;
use super::http::{Client, Url, url_fault};
use super::section::{MAX_IN_FLIGHT, SecretKeys, Section, in_flight_fault, section, shared_keys};
use super::{Delivery, Sink};
use crate::clock::Clock;
use crate::finding::Finding;
use crate::secret::Secret;

mod bodies;
mod each;
mod sign;
mod together;

use each::Message;
use together::Log;

/// Below it the least of a finding does not fit.
const MIN_BYTES: usize = 8192;
/// What Panther takes in one request, with room for headers; Datadog takes 1 MB for one log.
const MAX_BYTES: usize = 450_000;

section! {
    /// `[[sinks.webhook]]`
    http pub struct Config {
        /// Whose form it has.
        preset: Preset = Preset::Standard,
        /// The variable that holds the URL, for receivers whose URL is a secret.
        url_env: Option<String> = None,
        /// The file that holds it.
        url_file: Option<PathBuf> = None,
        /// The variable that holds the signing secret, the key or the token.
        secret_env: Option<String> = None,
        /// The file that holds it.
        secret_file: Option<PathBuf> = None,
        /// The finding inside the body.
        body: Body = Body::Json,
        /// The header of the signature (`hmac`) or of the secret (`sumo`, `panther`).
        header: Option<String> = None,
        /// The longest finding, in bytes. What is longer loses lists first, and says so.
        max_bytes: usize = 20_000,
        /// Findings that may be on their way at one time; messages to people always go one by one.
        max_in_flight: u8 = MAX_IN_FLIGHT,
    }
}

/// Whose form a webhook has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// Standard Webhooks 1.0.
    Standard,
    /// The same body, with `sha256=<hex>` over it in one header, as GitHub has it.
    Hmac,
    /// A message in a channel, at the start of a finding and when it gets worse.
    Slack,
    /// Events v2: an incident, which resolves when the finding closes.
    Pagerduty,
    /// Logs.
    Datadog,
    /// A hosted collector.
    Sumo,
    /// An HTTP source.
    Panther,
}

impl Preset {
    /// Where it goes if the section does not say.
    const fn url(self) -> Option<&'static str> {
        match self {
            Self::Pagerduty => Some("https://events.pagerduty.com/v2/enqueue"),
            Self::Datadog => Some("https://http-intake.logs.datadoghq.com/api/v2/logs"),
            Self::Standard | Self::Hmac | Self::Slack | Self::Sumo | Self::Panther => None,
        }
    }

    /// Whether nothing works without a secret.
    const fn needs_secret(self) -> bool {
        match self {
            Self::Standard | Self::Hmac | Self::Pagerduty | Self::Datadog => true,
            Self::Slack | Self::Sumo | Self::Panther => false,
        }
    }
}

impl Section for Config {
    shared_keys!();

    fn secrets(&self) -> Vec<SecretKeys<'_>> {
        vec![self.secret_keys(), self.url_keys()]
    }

    fn validate(&self) -> Vec<String> {
        let mut faults = self.http_faults();
        faults.extend(in_flight_fault(self.max_in_flight));
        let elsewhere = self.url_env.is_some() || self.url_file.is_some();
        if self.url.is_empty() && (elsewhere || self.preset.url().is_some()) {
            faults.retain(|fault| !fault.starts_with("url: "));
        } else if elsewhere {
            faults.push("url: is set, and so is url_env or url_file: set one of them".to_owned());
        }
        if self.preset.needs_secret() && self.secret_env.is_none() && self.secret_file.is_none() {
            faults.push("secret_env: must be set, or secret_file".to_owned());
        }
        let bare = matches!(self.preset, Preset::Sumo | Preset::Panther) && self.header.is_none();
        if bare && (self.secret_env.is_some() || self.secret_file.is_some()) {
            faults.push("header: must be set beside the secret: the name that the source was given".to_owned());
        }
        if self.header.as_deref().is_some_and(|name| !is_header_name(name)) {
            faults.push("header: must be the name of a header".to_owned());
        }
        if !(MIN_BYTES..=MAX_BYTES).contains(&self.max_bytes) {
            faults.push(format!("max_bytes: must be from {MIN_BYTES} to {MAX_BYTES}"));
        }
        faults
    }
}

impl Config {
    /// Batches that are on their way at one time.
    pub(super) const fn in_flight(&self) -> u8 {
        match self.preset {
            // Which severity was posted last is remembered in one place, and these limit a caller to about one a second.
            Preset::Slack | Preset::Pagerduty => 1,
            Preset::Standard | Preset::Hmac | Preset::Datadog | Preset::Sumo | Preset::Panther => self.max_in_flight,
        }
    }

    fn secret_keys(&self) -> SecretKeys<'_> {
        SecretKeys { key: "secret", env: self.secret_env.as_deref(), file: self.secret_file.as_deref() }
    }

    fn url_keys(&self) -> SecretKeys<'_> {
        SecretKeys { key: "url", env: self.url_env.as_deref(), file: self.url_file.as_deref() }
    }
}

fn is_header_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// The sink.
#[derive(Clone, Debug)]
pub struct Webhook {
    config: Config,
    client: Client,
    clock: Clock,
    secret: Option<Credential>,
    url: Option<Credential>,
    posted: each::Posted,
}

impl Webhook {
    /// A sink by `config`. Blocks on the files it names.
    ///
    /// # Errors
    /// `key: what is wrong`.
    pub fn new(config: &Config, variables: &Variables, clock: Clock) -> Result<Self, String> {
        let secret = Credential::load(config.secret_keys(), variables)?;
        if let (Some(secret), Preset::Standard) = (&secret, config.preset) {
            sign::keys(secret.loaded()).map_err(|what| format!("secret: {what}"))?;
        }
        let url = Credential::load(config.url_keys(), variables)?;
        if let Some(what) = url.as_ref().and_then(|url| url_fault(url.loaded().expose(), config.plaintext)) {
            return Err(format!("the URL that url_env or url_file names: {what}"));
        }
        let client = Client::new(&config.http(), clock.clone())?;
        Ok(Self { config: config.clone(), client, clock, secret, url, posted: each::Posted::default() })
    }

    /// Where to, now: the file may have been renewed.
    async fn target(&mut self) -> Result<(Url, Option<Secret>), Delivery> {
        let secret = match &mut self.url {
            Some(url) => Some(url.current().await),
            None => None,
        };
        let fixed = if self.config.url.is_empty() { self.config.preset.url() } else { Some(self.config.url.as_str()) };
        let text = secret.as_ref().map(Secret::expose).or(fixed).unwrap_or_default();
        if let Some(what) = url_fault(text, self.config.plaintext) {
            return Err(Delivery::Blocked(format!("url: {what}")));
        }
        let url = Url::parse(text).map_err(|_| Delivery::Blocked("url: is none".to_owned()))?;
        Ok((url, secret))
    }

    /// The secret, now.
    async fn secret(&mut self) -> Option<Secret> {
        match &mut self.secret {
            Some(secret) => Some(secret.current().await),
            None => None,
        }
    }
}

#[async_trait]
impl Sink for Webhook {
    async fn deliver(&mut self, findings: &[Finding]) -> Vec<Delivery> {
        match self.config.preset {
            Preset::Standard => self.deliver_each(findings, Message::Standard).await,
            Preset::Hmac => self.deliver_each(findings, Message::Hmac).await,
            Preset::Slack => self.deliver_each(findings, Message::Slack).await,
            Preset::Pagerduty => self.deliver_each(findings, Message::Pagerduty).await,
            Preset::Datadog => self.deliver_together(findings, Log::Datadog).await,
            Preset::Sumo | Preset::Panther => self.deliver_together(findings, Log::Lines).await,
        }
    }

    fn last_answer(&self) -> Option<String> {
        self.client.last_answer()
    }
}

/// `encoded`, or why it cannot be sent.
fn written(encoded: serde_json::Result<Option<Vec<u8>>>, max_bytes: usize) -> Result<Vec<u8>, Delivery> {
    match encoded {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(Delivery::Refused(format!("does not fit into {max_bytes} bytes (max_bytes)"))),
        Err(error) => Err(Delivery::Refused(format!("cannot be written as JSON: {error}"))),
    }
}

#[cfg(test)]
mod tests;
