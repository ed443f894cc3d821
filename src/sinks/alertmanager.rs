//! Prometheus Alertmanager: an alert for each finding that is open.
//!
//! Invariant: an alert's labels are of the finding's identity and severity, never of what changes otherwise, so every
//! revision is the same alert. One of a higher severity is an alert of its own, since receivers are chosen by severity;
//! the milder ones are resolved with it. A closed finding is resolved; what comes to light after that fires once more, for
//! as long as an alert holds.
//!
//! Not here: repetition. Alertmanager forgets an alert that says nothing about its end after five minutes, so each says
//! when it would end by itself: [`Config::hold_minutes`] after it was sent.

use std::collections::BTreeMap;
use std::path::PathBuf;

use async_trait::async_trait;
use serde::Serialize;

use super::credential::{Credential, Variables};
use super::format::{is_afterword, moment, prose};
use super::http::{Client, Request, Url};
use super::section::{SecretKeys, Section, section, shared_keys};
use super::{Delivery, Sink};
use crate::clock::Clock;
use crate::event::Timestamp;
use crate::finding::{Finding, Lifecycle, Severity};

const MINUTE_MILLIS: i64 = 60_000;
/// A week: what has not been heard of for so long is over, whoever is to blame.
const MAX_HOLD_MINUTES: u32 = 7 * 24 * 60;

section! {
    /// `[[sinks.alertmanager]]`
    http pub struct Config {
        /// The variable that holds the value of the `Authorization` header, if one is needed.
        authorization_env: Option<String> = None,
        /// The file that holds it.
        authorization_file: Option<PathBuf> = None,
        /// After how many minutes without an update an alert ends by itself. Longer than findings stay quiet before they
        /// close: `detect.day_quiet_minutes`.
        hold_minutes: u32 = 240,
    }
}

impl Config {
    fn authorization(&self) -> SecretKeys<'_> {
        SecretKeys {
            key: "authorization",
            env: self.authorization_env.as_deref(),
            file: self.authorization_file.as_deref(),
        }
    }
}

impl Section for Config {
    shared_keys!();

    fn secrets(&self) -> Vec<SecretKeys<'_>> {
        vec![self.authorization()]
    }

    fn validate(&self) -> Vec<String> {
        let mut faults = self.http_faults();
        if !(5..=MAX_HOLD_MINUTES).contains(&self.hold_minutes) {
            faults.push(format!("hold_minutes: must be from 5 to {MAX_HOLD_MINUTES}"));
        }
        faults
    }
}

/// The sink.
#[derive(Debug)]
pub struct Alertmanager {
    client: Client,
    clock: Clock,
    url: Url,
    authorization: Option<Credential>,
    hold_millis: i64,
}

#[derive(Serialize)]
struct Alert<'a> {
    labels: BTreeMap<&'static str, &'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, String>,
    #[serde(rename = "startsAt")]
    starts_at: String,
    #[serde(rename = "endsAt")]
    ends_at: String,
}

impl Alertmanager {
    /// A sink by `config`. Blocks on the files it names.
    ///
    /// # Errors
    /// `key: what is wrong`.
    pub fn new(config: &Config, variables: &Variables, clock: Clock) -> Result<Self, String> {
        let url = format!("{}/api/v2/alerts", config.url.trim_end_matches('/'));
        Ok(Self {
            client: Client::new(&config.http(), clock.clone())?,
            clock,
            url: Url::parse(&url).map_err(|_| "url: must be a URL".to_owned())?,
            authorization: Credential::load(config.authorization(), variables)?,
            hold_millis: i64::from(config.hold_minutes) * MINUTE_MILLIS,
        })
    }

    async fn post(&mut self, body: Vec<u8>) -> Result<Delivery, Delivery> {
        let mut request = Request::post(&self.url, "application/json", body);
        if let Some(authorization) = &mut self.authorization {
            request = request.secret_header("Authorization", "", &authorization.current().await)?;
        }
        Ok(self.client.post(request).await?.verdict())
    }
}

#[async_trait]
impl Sink for Alertmanager {
    async fn deliver(&mut self, findings: &[Finding]) -> Vec<Delivery> {
        let now = self.clock.now();
        let ids: Vec<String> = findings.iter().map(|finding| finding.finding_id.to_string()).collect();
        let alerts: Vec<Alert<'_>> = findings
            .iter()
            .zip(&ids)
            .flat_map(|(finding, id)| alerts(finding, id, now, now.plus_millis(self.hold_millis)))
            .collect();
        let delivery = match serde_json::to_vec(&alerts) {
            Ok(body) => self.post(body).await.unwrap_or_else(|delivery| delivery),
            Err(error) => Delivery::Bisect(format!("cannot be written as JSON: {error}")),
        };
        vec![delivery; findings.len()]
    }

    fn last_answer(&self) -> Option<String> {
        self.client.last_answer()
    }
}

/// The alert of `finding`, and the milder ones that it puts an end to.
fn alerts<'a>(finding: &'a Finding, id: &'a str, now: Timestamp, hold_until: Timestamp) -> Vec<Alert<'a>> {
    let closed = finding.episode.closed_at.unwrap_or(finding.at).min(now);
    let is_over = finding.lifecycle == Lifecycle::Closed && !is_afterword(finding);
    let ends_at = if is_over { closed } else { hold_until };
    let mut alerts = vec![alert(finding, id, finding.severity, ends_at)];
    if finding.lifecycle != Lifecycle::Opened {
        // It may have been milder at first. An end to what never began is no news to anybody.
        let milder = Severity::ALL.into_iter().filter(|severity| *severity < finding.severity);
        alerts.extend(milder.map(|severity| alert(finding, id, severity, closed)));
    }
    alerts
}

fn alert<'a>(finding: &'a Finding, id: &'a str, severity: Severity, ends_at: Timestamp) -> Alert<'a> {
    let labels = [
        ("alertname", finding.rule.as_str()),
        ("source", "authspike"),
        ("severity", severity.as_str()),
        ("finding_id", id),
        ("tenant", &finding.tenant.0),
        ("entity_kind", finding.entity.kind.as_str()),
        ("entity", &finding.entity.value),
    ];
    let annotations = [
        ("summary", prose::title(finding)),
        ("description", prose::message(finding)),
        ("shape", finding.shape.as_str().to_owned()),
        ("revision", finding.revision.to_string()),
    ];
    Alert {
        // An empty value is no label.
        labels: labels.into_iter().filter(|(_, value)| !value.is_empty()).collect(),
        annotations: annotations.into_iter().collect(),
        starts_at: moment(finding.episode.first_seen_at.min(ends_at)),
        ends_at: moment(ends_at),
    }
}
