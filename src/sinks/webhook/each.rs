//! Presets with one request about each finding.
//!
//! Invariant: in order; and no more is sent after a request that says the next would fare no better.
//!
//! Not here: presets whose requests hold many (`together`).

use std::collections::HashMap;
use std::time::Duration;

use uuid::Uuid;

use super::{Webhook, bodies, sign, written};
use crate::clock::Stopwatch;
use crate::finding::{Finding, Lifecycle, Severity};
use crate::secret::Secret;
use crate::sinks::Delivery;
use crate::sinks::format::is_afterword;
use crate::sinks::http::{Answer, Request};

/// The dispatcher waits a minute for a batch; no request is begun that could end after this.
const MAX_DELIVERY: Duration = Duration::from_secs(55);
/// Findings whose last posted severity is remembered. When there are more, all are forgotten, and each of those still open
/// is posted once more.
const MAX_POSTED: usize = 10_000;

/// What a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    Standard,
    Hmac,
    Slack,
    Pagerduty,
}

/// The severity last posted of each finding, for receivers that are people.
#[derive(Clone, Debug, Default)]
pub(super) struct Posted(HashMap<Uuid, Severity>);

impl Posted {
    /// Whether a person wants to hear of this revision: of the first, of those that are worse than what was posted, and
    /// of what comes to light when all seems over. After a restart, which forgets what was posted, the next update of a
    /// finding that is still open is posted again.
    fn is_news(&self, finding: &Finding) -> bool {
        match (finding.lifecycle, self.0.get(&finding.finding_id)) {
            (Lifecycle::Opened, _) | (Lifecycle::Updated, None) => true,
            (Lifecycle::Closed, _) if is_afterword(finding) => true,
            (Lifecycle::Closed, None) => false,
            (Lifecycle::Updated | Lifecycle::Closed, Some(posted)) => finding.severity > *posted,
        }
    }

    fn remember(&mut self, finding: &Finding) {
        if self.0.len() >= MAX_POSTED && !self.0.contains_key(&finding.finding_id) {
            self.0.clear();
        }
        self.0.insert(finding.finding_id, finding.severity);
    }
}

impl Webhook {
    /// One request about each of `findings`.
    pub(super) async fn deliver_each(&mut self, findings: &[Finding], message: Message) -> Vec<Delivery> {
        let watch = Stopwatch::start();
        let mut deliveries = Vec::with_capacity(findings.len());
        let mut rest = Delivery::retry("the receiver is slow, and its turn did not come");
        for finding in findings {
            if !deliveries.is_empty() && watch.elapsed() + self.config.http().timeout > MAX_DELIVERY {
                break;
            }
            if message == Message::Slack && !self.posted.is_news(finding) {
                deliveries.push(Delivery::Accepted);
                continue;
            }
            let answer = self.request_about(finding, message).await;
            let delivery = answer.map_or_else(|delivery| delivery, |answer| answer.verdict());
            if matches!(delivery, Delivery::Retry { .. } | Delivery::Blocked(_)) {
                rest = delivery;
                break;
            }
            if message == Message::Slack && delivery == Delivery::Accepted {
                self.posted.remember(finding);
            }
            deliveries.push(delivery);
        }
        deliveries.resize(findings.len(), rest);
        deliveries
    }

    async fn request_about(&mut self, finding: &Finding, message: Message) -> Result<Answer, Delivery> {
        let (url, url_secret) = self.target().await?;
        let secret = self.secret().await.unwrap_or_else(|| Secret::new(""));
        let (inner, max_bytes) = (self.config.body, self.config.max_bytes);
        let body = match message {
            Message::Standard | Message::Hmac => bodies::envelope(finding, inner, max_bytes),
            Message::Slack => bodies::slack(finding),
            Message::Pagerduty => bodies::pagerduty(finding, &secret, inner, max_bytes),
        };
        let body = written(body, max_bytes)?;
        let headers = match message {
            Message::Standard => {
                sign::standard(&secret, finding.revision_id, self.clock.now(), &body).map_err(Delivery::Blocked)?
            }
            Message::Hmac => {
                let name = self.config.header.clone().unwrap_or_else(|| "X-Hub-Signature-256".to_owned());
                vec![(name, sign::hex(&secret, &body))]
            }
            Message::Slack | Message::Pagerduty => Vec::new(),
        };
        let mut request = Request::post(&url, "application/json", body);
        for (name, value) in headers {
            request = request.header(&name, &value)?;
        }
        if message == Message::Pagerduty {
            request = request.body_holds(&secret);
        }
        if let Some(secret) = &url_secret {
            request = request.body_holds(secret);
        }
        self.client.post(request).await
    }
}
