//! Webhooks: signed by Standard Webhooks or by a plain HMAC header, or in the form that Slack, `PagerDuty`, Datadog, Sumo
//! Logic and Panther take.
//!
//! Invariant: the id of a delivery is the id of the revision, so it is the same at every try; the time and the signature
//! are those of the try, so that a receiver that refuses what is five minutes old takes what waited out an outage.
//!
//! Not here: what each receiver's body looks like (`bodies`), signatures (`sign`).

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::credential::{Credential, Variables};
use super::format::{Body, is_afterword};
use super::http::batch::runs;
use super::http::{Answer, Client, Request, Url, url_fault};
use super::section::{SecretKeys, Section, section, shared_keys};
use super::{Delivery, Sink};
use crate::clock::{Clock, Stopwatch};
use crate::finding::{Finding, Lifecycle, Severity};
use crate::secret::Secret;

mod bodies;
mod sign;

/// Below it the least of a finding does not fit.
const MIN_BYTES: usize = 8192;
/// What Panther takes in one request, with room for headers; Datadog takes 1 MB for one log.
const MAX_BYTES: usize = 450_000;
/// Of one request with many findings: the same, and less than the others take (Sumo Logic 1 MB, Datadog 5).
const MAX_BODY_BYTES: usize = 450_000;
/// The dispatcher waits a minute for a batch; no request about a finding is begun that could end after this.
const MAX_DELIVERY: Duration = Duration::from_secs(55);
/// Findings whose last posted severity is remembered. When there are more, all are forgotten, and each of those still open
/// is posted once more.
const MAX_POSTED: usize = 10_000;

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
#[derive(Debug)]
pub struct Webhook {
    config: Config,
    client: Client,
    clock: Clock,
    secret: Option<Credential>,
    url: Option<Credential>,
    /// The severity last posted of a finding, for receivers that are people.
    posted: HashMap<Uuid, Severity>,
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
        Ok(Self { config: config.clone(), client, clock, secret, url, posted: HashMap::new() })
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

    /// One request about each of `findings`, until one says that the next would fare no better.
    async fn deliver_each(&mut self, findings: &[Finding]) -> Vec<Delivery> {
        let watch = Stopwatch::start();
        let mut deliveries = Vec::with_capacity(findings.len());
        for finding in findings {
            if !deliveries.is_empty() && watch.elapsed() + self.config.http().timeout > MAX_DELIVERY {
                break;
            }
            let delivery = if self.is_news(finding) { self.deliver_one(finding).await } else { Delivery::Accepted };
            let stop = matches!(delivery, Delivery::Retry { .. } | Delivery::Blocked(_));
            if delivery == Delivery::Accepted {
                self.remember(finding);
            }
            deliveries.push(delivery.clone());
            if stop {
                deliveries.resize(findings.len(), delivery);
            }
            if deliveries.len() == findings.len() {
                break;
            }
        }
        deliveries.resize(findings.len(), Delivery::retry("the receiver is slow, and its turn did not come"));
        deliveries
    }

    async fn deliver_one(&mut self, finding: &Finding) -> Delivery {
        match self.request_about(finding).await {
            Ok(answer) => answer.verdict(),
            Err(delivery) => delivery,
        }
    }

    async fn request_about(&mut self, finding: &Finding) -> Result<Answer, Delivery> {
        let (url, url_secret) = self.target().await?;
        let secret = match &mut self.secret {
            Some(secret) => secret.current().await,
            None => Secret::new(""),
        };
        let config = &self.config;
        let body = match config.preset {
            Preset::Slack => bodies::slack(finding),
            Preset::Pagerduty => bodies::pagerduty(finding, &secret, config.body, config.max_bytes),
            _ => bodies::envelope(finding, config.body, config.max_bytes),
        };
        let body = body.map_err(not_json)?.ok_or_else(|| too_large(config.max_bytes))?;
        let headers = match config.preset {
            Preset::Standard => {
                sign::standard(&secret, finding.revision_id, self.clock.now(), &body).map_err(Delivery::Blocked)?
            }
            Preset::Hmac => {
                let name = config.header.clone().unwrap_or_else(|| "X-Hub-Signature-256".to_owned());
                vec![(name, sign::hex(&secret, &body))]
            }
            _ => Vec::new(),
        };
        let mut request = Request::post(&url, "application/json", body);
        for (name, value) in headers {
            request = request.header(&name, &value)?;
        }
        if config.preset == Preset::Pagerduty {
            request = request.body_holds(&secret);
        }
        if let Some(secret) = &url_secret {
            request = request.body_holds(secret);
        }
        self.client.post(request).await
    }

    /// All of `findings` in as few requests as fit.
    async fn deliver_together(&mut self, findings: &[Finding]) -> Vec<Delivery> {
        let now = self.clock.now();
        let (body, max_bytes, preset) = (self.config.body, self.config.max_bytes, self.config.preset);
        let item = |finding: &Finding| match preset {
            Preset::Datadog => bodies::datadog(finding, body, max_bytes, now),
            _ => body.line_within(finding, max_bytes),
        };
        let mut deliveries = vec![Delivery::Accepted; findings.len()];
        let mut items = Vec::with_capacity(findings.len());
        for (finding, delivery) in findings.iter().zip(&mut deliveries) {
            match item(finding).map_err(not_json).and_then(|item| item.ok_or_else(|| too_large(max_bytes))) {
                Ok(item) => items.push((delivery, item)),
                Err(refused) => *delivery = refused,
            }
        }
        for run in runs(items.iter().map(|(_, item)| item.len() + 1), MAX_BODY_BYTES) {
            let lines: Vec<&[u8]> =
                items.get(run.clone()).unwrap_or_default().iter().map(|(_, item)| &item[..]).collect();
            let result = self.post_together(&lines).await;
            let stop = matches!(result, Delivery::Retry { .. } | Delivery::Blocked(_));
            let until = if stop { items.len() } else { run.end };
            for (delivery, _) in items.iter_mut().take(until).skip(run.start) {
                **delivery = result.clone();
            }
            if stop {
                break;
            }
        }
        deliveries
    }

    async fn post_together(&mut self, items: &[&[u8]]) -> Delivery {
        let sent = async {
            let (url, url_secret) = self.target().await?;
            let (kind, body) = if self.config.preset == Preset::Datadog {
                ("application/json", [b"[".as_slice(), &items.join(&b','), b"]"].concat())
            } else {
                ("application/x-ndjson", items.join(&b'\n'))
            };
            let mut request = Request::post(&url, kind, body);
            if let Some(secret) = &mut self.secret {
                let named = self.config.header.as_deref().filter(|_| self.config.preset != Preset::Datadog);
                let name = named.unwrap_or("DD-API-KEY");
                request = request.secret_header(name, "", &secret.current().await)?;
            }
            if let Some(secret) = &url_secret {
                request = request.body_holds(secret);
            }
            self.client.post(request).await
        };
        match sent.await {
            Ok(answer) => answer.verdict(),
            Err(delivery) => delivery,
        }
    }

    /// Whether a person wants to hear of this revision: of the first, of those that are worse than what was posted, and of
    /// what comes to light when all seems over. After a restart, which forgets what was posted, the next update of a finding that is still open is posted again.
    fn is_news(&self, finding: &Finding) -> bool {
        if self.config.preset != Preset::Slack {
            return true;
        }
        if is_afterword(finding) {
            return true;
        }
        match (finding.lifecycle, self.posted.get(&finding.finding_id)) {
            (Lifecycle::Opened, _) | (Lifecycle::Updated, None) => true,
            (Lifecycle::Closed, None) => false,
            (Lifecycle::Updated | Lifecycle::Closed, Some(posted)) => finding.severity > *posted,
        }
    }

    fn remember(&mut self, finding: &Finding) {
        if self.config.preset == Preset::Slack {
            if self.posted.len() >= MAX_POSTED && !self.posted.contains_key(&finding.finding_id) {
                self.posted.clear();
            }
            self.posted.insert(finding.finding_id, finding.severity);
        }
    }
}

#[async_trait]
impl Sink for Webhook {
    async fn deliver(&mut self, findings: &[Finding]) -> Vec<Delivery> {
        match self.config.preset {
            Preset::Standard | Preset::Hmac | Preset::Slack | Preset::Pagerduty => self.deliver_each(findings).await,
            Preset::Datadog | Preset::Sumo | Preset::Panther => self.deliver_together(findings).await,
        }
    }

    fn last_answer(&self) -> Option<String> {
        self.client.last_answer()
    }
}

fn not_json(error: serde_json::Error) -> Delivery {
    Delivery::Refused(format!("cannot be written as JSON: {error}"))
}

fn too_large(max_bytes: usize) -> Delivery {
    Delivery::Refused(format!("does not fit into {max_bytes} bytes (max_bytes)"))
}

#[cfg(test)]
mod tests;
