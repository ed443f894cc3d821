//! Elasticsearch and OpenSearch: `_bulk` with `create` into a data stream.
//!
//! Invariant: a revision is a document whose `_id` is the revision's, so what is sent twice is there once (within one
//! backing index: a roll-over between two tries can leave two). HTTP 200 says nothing: every item's own status is read.
//!
//! Not here: the index template, which `deploy/elastic` has.

use std::path::PathBuf;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::credential::{Credential, Variables};
use super::format::Body;
use super::format::ecs::{self, DataStream, Delivered};
use super::format::moment;
use super::http::batch::{Tally, runs};
use super::http::{Client, Request, Url};
use super::section::{MAX_IN_FLIGHT, SecretKeys, Section, in_flight_fault, section, shared_keys};
use super::{Delivery, Sink};
use crate::clock::Clock;
use crate::finding::Finding;
use crate::secret::Secret;

mod items;

/// What Elastic's own shippers send at one time is 5 MB; below the limits of proxies on the way (1 MB is common).
const MAX_BODY_BYTES: usize = 900_000;
/// Of the answer, what is read. Without it, five hundred items come back with all their metadata.
const FILTER: &str = "items.*.status,items.*.error.type,items.*.error.reason";

section! {
    /// `[[sinks.elastic]]`
    http pub struct Config {
        /// Where documents go: `<type>-<dataset>-<namespace>`.
        data_stream: String = "logs-authspike.findings-default".into(),
        /// What a document holds.
        body: Body = Body::Ecs,
        /// The variable that holds an API key, as encoded as Elastic shows it.
        api_key_env: Option<String> = None,
        /// The file that holds it.
        api_key_file: Option<PathBuf> = None,
        /// The user, with a password.
        username: Option<String> = None,
        /// The variable that holds the password.
        password_env: Option<String> = None,
        /// The file that holds it.
        password_file: Option<PathBuf> = None,
        /// The variable that holds a bearer token.
        token_env: Option<String> = None,
        /// The file that holds it.
        token_file: Option<PathBuf> = None,
        /// Whether requests are compressed.
        gzip: bool = true,
        /// Requests that may be on their way at one time.
        max_in_flight: u8 = MAX_IN_FLIGHT,
    }
}

impl Config {
    fn endpoint(&self) -> Result<Url, String> {
        let text = format!("{}/{}/_bulk?filter_path={FILTER}", self.url.trim_end_matches('/'), self.data_stream);
        Url::parse(&text).map_err(|_| "url: does not make a URL together with data_stream".to_owned())
    }

    /// Type, dataset and namespace.
    fn data_stream(&self) -> Option<DataStream<'_>> {
        let mut parts = self.data_stream.splitn(3, '-');
        let (kind, dataset, namespace) = (parts.next()?, parts.next()?, parts.next()?);
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        let fits = self.data_stream.len() <= 200 && self.data_stream.chars().all(plain);
        let named = ![kind, dataset, namespace].contains(&"");
        (fits && named).then_some(DataStream { kind, dataset, namespace })
    }
}

impl Section for Config {
    shared_keys!();

    fn secrets(&self) -> Vec<SecretKeys<'_>> {
        vec![
            SecretKeys { key: "api_key", env: self.api_key_env.as_deref(), file: self.api_key_file.as_deref() },
            SecretKeys { key: "password", env: self.password_env.as_deref(), file: self.password_file.as_deref() },
            SecretKeys { key: "token", env: self.token_env.as_deref(), file: self.token_file.as_deref() },
        ]
    }

    fn validate(&self) -> Vec<String> {
        let mut faults = self.http_faults();
        faults.extend(in_flight_fault(self.max_in_flight));
        if self.data_stream().is_none() {
            faults.push("data_stream: must be type-dataset-namespace, of a-z, 0-9, '.', '_' and '-'".into());
        }
        let given = self.secrets().iter().filter(|keys| keys.env.or(keys.file.and(Some(""))).is_some()).count();
        if given > 1 {
            faults.push("token_env: one of api_key, password and token is enough; more contradict each other".into());
        }
        let has_password = self.password_env.is_some() || self.password_file.is_some();
        if self.username.is_some() != has_password {
            faults.push("username: goes with a password, and a password with it".into());
        }
        faults
    }
}

/// How we say who we are.
#[derive(Clone, Debug)]
enum Authorization {
    Nobody,
    ApiKey(Credential),
    Basic { username: String, password: Credential },
    Bearer(Credential),
}

impl Authorization {
    fn load(config: &Config, variables: &Variables) -> Result<Self, String> {
        for keys in config.secrets() {
            let Some(credential) = Credential::load(keys, variables)? else { continue };
            return Ok(match (keys.key, &config.username) {
                ("api_key", _) => Self::ApiKey(credential),
                ("password", Some(username)) => Self::Basic { username: username.clone(), password: credential },
                _ => Self::Bearer(credential),
            });
        }
        Ok(Self::Nobody)
    }

    async fn on<'a>(&mut self, request: Request<'a>) -> Result<Request<'a>, Delivery> {
        match self {
            Self::Nobody => Ok(request),
            Self::ApiKey(key) => request.secret_header("Authorization", "ApiKey ", &key.current().await),
            Self::Bearer(token) => request.secret_header("Authorization", "Bearer ", &token.current().await),
            Self::Basic { username, password } => {
                let pair = format!("{username}:{}", password.current().await.expose());
                request.secret_header("Authorization", "Basic ", &Secret::new(STANDARD.encode(pair)))
            }
        }
    }
}

/// The sink.
#[derive(Clone, Debug)]
pub struct Elastic {
    config: Config,
    client: Client,
    authorization: Authorization,
    bulk: Url,
    clock: Clock,
}

impl Elastic {
    /// A sink by `config`. Blocks on the files it names.
    ///
    /// # Errors
    /// `key: what is wrong`.
    pub fn new(config: &Config, variables: &Variables, clock: Clock) -> Result<Self, String> {
        Ok(Self {
            client: Client::new(&config.http(), clock.clone())?,
            authorization: Authorization::load(config, variables)?,
            bulk: config.endpoint()?,
            config: config.clone(),
            clock,
        })
    }

    /// The two lines of one finding, each with its newline.
    fn lines(&self, finding: &Finding) -> serde_json::Result<Vec<u8>> {
        let mut lines = format!("{{\"create\":{{\"_id\":\"{}\"}}}}\n", finding.revision_id).into_bytes();
        if self.config.body == Body::Ecs {
            let delivered = Delivered { at: Some(self.clock.now()), data_stream: self.config.data_stream() };
            lines.extend(ecs::line(finding, delivered, None)?);
        } else {
            // A data stream takes nothing without this field, which the other bodies do not have.
            let body = self.config.body.line(finding)?;
            lines.extend(format!("{{\"@timestamp\":\"{}\",", moment(finding.at)).into_bytes());
            lines.extend(body.strip_prefix(b"{").unwrap_or(&body));
        }
        lines.push(b'\n');
        Ok(lines)
    }

    /// One request of `count` findings.
    async fn send(&mut self, body: Vec<u8>, count: usize) -> Result<Vec<Delivery>, Delivery> {
        let mut request = self.authorization.on(Request::post(&self.bulk, "application/x-ndjson", body)).await?;
        if self.config.gzip {
            request = request.gzip();
        }
        let answer = self.client.post(request).await?;
        let verdict = answer.verdict();
        if verdict == Delivery::Accepted { items::deliveries(&answer, count) } else { Err(verdict) }
    }
}

#[async_trait]
impl Sink for Elastic {
    async fn deliver(&mut self, findings: &[Finding]) -> Vec<Delivery> {
        let lines: Vec<Vec<u8>> = match findings.iter().map(|finding| self.lines(finding)).collect() {
            Ok(lines) => lines,
            Err(error) => return vec![Delivery::Bisect(format!("cannot be written as JSON: {error}")); findings.len()],
        };
        let mut tally = Tally::default();
        for run in runs(lines.iter().map(Vec::len), MAX_BODY_BYTES) {
            let count = run.len();
            let sent = match tally.stopped() {
                Some(reason) => Err(reason),
                None => self.send(lines.get(run).unwrap_or_default().concat(), count).await,
            };
            match sent {
                Ok(deliveries) => tally.each(deliveries),
                Err(delivery) => tally.all(count, &delivery),
            }
        }
        tally.finish()
    }

    fn last_answer(&self) -> Option<String> {
        self.client.last_answer()
    }
}

#[cfg(test)]
mod tests;
