//! Microsoft Sentinel, by the Logs Ingestion API: rows of a custom table, through a data collection rule.
//!
//! Invariant: the client secret goes to Entra alone, and only the token it gives goes to the ingestion endpoint. A token
//! is renewed before it ends, and once when it is refused.
//!
//! Not here: the table and the rule, which the operator creates from `deploy/sentinel`; what is in a row (`row`).

use async_trait::async_trait;
use serde::Deserialize;

use super::credential::{Credential, Variables};
use super::http::encoded::Encoded;
use super::http::{Answer, Client, Request, Url, url_fault};
use super::section::{SecretKeys, Section, section, shared_keys};
use super::{Delivery, Sink};
use crate::clock::Clock;
use crate::event::Timestamp;
use crate::finding::Finding;
use crate::secret::Secret;

mod row;

/// The API's version this was written for.
const API_VERSION: &str = "2023-01-01";
/// Below the API's limit of 1 MiB a call, everything included.
const MAX_BODY_BYTES: usize = 950_000;
/// A token is renewed so long before it ends: clocks differ, and a request takes its time.
const RENEW_BEFORE_MILLIS: i64 = 5 * 60 * 1000;

section! {
    /// `[[sinks.sentinel]]`; `url` is the ingestion endpoint of the data collection endpoint or rule.
    http pub struct Config {
        /// The immutable id of the data collection rule, `dcr-…`.
        rule_id: String = String::new(),
        /// The stream that the rule declares.
        stream: String = "Custom-AuthspikeFindings_CL".into(),
        /// The directory (tenant) of the application.
        directory_id: String = String::new(),
        /// The application (client).
        client_id: String = String::new(),
        /// The variable that holds the application's secret.
        client_secret_env: Option<String> = None,
        /// The file that holds it.
        client_secret_file: Option<std::path::PathBuf> = None,
        /// Who gives tokens; other clouds have others.
        authority: String = "https://login.microsoftonline.com".into(),
        /// What the token is for; other clouds have others.
        scope: String = "https://monitor.azure.com/.default".into(),
    }
}

impl Config {
    fn client_secret(&self) -> SecretKeys<'_> {
        SecretKeys {
            key: "client_secret",
            env: self.client_secret_env.as_deref(),
            file: self.client_secret_file.as_deref(),
        }
    }
}

impl Section for Config {
    shared_keys!();

    fn secrets(&self) -> Vec<SecretKeys<'_>> {
        vec![self.client_secret()]
    }

    fn validate(&self) -> Vec<String> {
        let mut faults = self.http_faults();
        if let Some(what) = url_fault(&self.authority, self.plaintext) {
            faults.push(format!("authority: {what}"));
        }
        let plain = |text: &str| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        let ids = [
            ("rule_id", &self.rule_id),
            ("stream", &self.stream),
            ("directory_id", &self.directory_id),
            ("client_id", &self.client_id),
        ];
        faults.extend(
            ids.iter().filter(|(_, id)| !plain(id)).map(|(key, _)| format!("{key}: must be set, as Azure shows it")),
        );
        if self.client_secret_env.is_none() && self.client_secret_file.is_none() {
            faults.push("client_secret_env: must be set, or client_secret_file".to_owned());
        }
        faults
    }
}

/// The sink.
#[derive(Debug)]
pub struct Sentinel {
    config: Config,
    client: Client,
    clock: Clock,
    rows: Url,
    tokens: Url,
    client_secret: Credential,
    token: Option<Token>,
}

#[derive(Clone, Debug)]
struct Token {
    secret: Secret,
    renew_at: Timestamp,
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: Secret,
    /// Seconds.
    expires_in: i64,
}

impl Sentinel {
    /// A sink by `config`. Blocks on the files it names.
    ///
    /// # Errors
    /// `key: what is wrong`.
    pub fn new(config: &Config, variables: &Variables, clock: Clock) -> Result<Self, String> {
        let rows = format!(
            "{}/dataCollectionRules/{}/streams/{}?api-version={API_VERSION}",
            config.url.trim_end_matches('/'),
            config.rule_id,
            config.stream
        );
        let tokens = format!("{}/{}/oauth2/v2.0/token", config.authority.trim_end_matches('/'), config.directory_id);
        let client_secret = Credential::load(config.client_secret(), variables)?;
        Ok(Self {
            client: Client::new(&config.http(), clock.clone())?,
            clock,
            rows: Url::parse(&rows).map_err(|_| "url: must be a URL".to_owned())?,
            tokens: Url::parse(&tokens).map_err(|_| "authority: must be a URL".to_owned())?,
            client_secret: client_secret.ok_or_else(|| "client_secret_env: must be set".to_owned())?,
            token: None,
            config: config.clone(),
        })
    }

    /// A token that is good for a while, asked for if there is none.
    async fn token(&mut self) -> Result<Secret, Delivery> {
        if let Some(token) = self.token.as_ref().filter(|token| self.clock.now() < token.renew_at) {
            return Ok(token.secret.clone());
        }
        let client_secret = self.client_secret.current().await;
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "client_credentials")
            .append_pair("client_id", &self.config.client_id)
            .append_pair("client_secret", client_secret.expose())
            .append_pair("scope", &self.config.scope)
            .finish();
        let request = Request::post(&self.tokens, "application/x-www-form-urlencoded", form.into_bytes());
        let answer = self.client.post(request.body_holds(&client_secret)).await?;
        let reason = format!("no token: {}", answer.reason());
        match answer.verdict() {
            Delivery::Accepted => {}
            Delivery::Retry { after, .. } => return Err(Delivery::Retry { reason, after }),
            // Whatever it is, it is not about the findings.
            Delivery::Blocked(_) | Delivery::Split(_) | Delivery::Bisect(_) | Delivery::Refused(_) => {
                return Err(Delivery::Blocked(reason));
            }
        }
        let given: TokenAnswer = serde_json::from_slice(answer.body())
            // The cause may quote the token.
            .map_err(|_| Delivery::retry("no token: the answer is no token answer"))?;
        let lifetime = given.expires_in.saturating_mul(1000).saturating_sub(RENEW_BEFORE_MILLIS);
        let token = Token { secret: given.access_token, renew_at: self.clock.now().plus_millis(lifetime) };
        Ok(self.token.insert(token).secret.clone())
    }

    async fn post(&mut self, body: &[u8]) -> Result<Delivery, Delivery> {
        let answer = self.post_once(body).await?;
        if answer.status() != 401 {
            return Ok(verdict(&answer));
        }
        // It may have been revoked early. If a new one is refused too, somebody has to look.
        self.token = None;
        Ok(verdict(&self.post_once(body).await?))
    }

    async fn post_once(&mut self, body: &[u8]) -> Result<Answer, Delivery> {
        let token = self.token().await?;
        let request = Request::post(&self.rows, "application/json", body.to_vec()).gzip();
        self.client.post(request.secret_header("Authorization", "Bearer ", &token)?).await
    }
}

fn verdict(answer: &Answer) -> Delivery {
    if answer.status() == 403 {
        return Delivery::Blocked(format!(
            "{} (the application needs the role Monitoring Metrics Publisher on the data collection rule; a new \
             assignment takes up to 30 minutes)",
            answer.reason()
        ));
    }
    answer.verdict()
}

#[async_trait]
impl Sink for Sentinel {
    async fn deliver(&mut self, findings: &[Finding]) -> Vec<Delivery> {
        let refused = |error| Delivery::Refused(format!("cannot be written as JSON: {error}"));
        let rows: Vec<_> = findings.iter().map(|finding| row::row(finding).map_err(refused)).collect();
        let mut rows = Encoded::new(rows, MAX_BODY_BYTES);
        while let Some(run) = rows.next_run() {
            let body = [b"[", &rows.joined(run.clone(), b',')[..], b"]"].concat();
            let delivery = self.post(&body).await.unwrap_or_else(|delivery| delivery);
            rows.settle(run, &delivery);
        }
        rows.into_deliveries()
    }

    fn last_answer(&self) -> Option<String> {
        self.client.last_answer()
    }
}
