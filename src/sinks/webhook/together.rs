//! Presets whose requests hold many findings: receivers of logs.
//!
//! Not here: presets with one request about each finding (`each`).

use super::{Webhook, bodies, written};
use crate::finding::Finding;
use crate::sinks::Delivery;
use crate::sinks::http::encoded::Encoded;
use crate::sinks::http::{Answer, Request};

/// Panther takes 500 KB, headers included; Sumo Logic recommends 1 MB and Datadog takes 5.
const MAX_BODY_BYTES: usize = 450_000;

/// How findings stand in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Log {
    /// Datadog's logs, in an array.
    Datadog,
    /// Bodies, one a line.
    Lines,
}

impl Webhook {
    /// All of `findings` in as few requests as fit.
    pub(super) async fn deliver_together(&mut self, findings: &[Finding], log: Log) -> Vec<Delivery> {
        let now = self.clock.now();
        let (body, max_bytes) = (self.config.body, self.config.max_bytes);
        let encode = |finding: &Finding| match log {
            Log::Datadog => bodies::datadog(finding, body, max_bytes, now),
            Log::Lines => body.line_within(finding, max_bytes),
        };
        let items: Vec<_> = findings.iter().map(|finding| written(encode(finding), max_bytes)).collect();
        let mut encoded = Encoded::new(items, MAX_BODY_BYTES);
        while let Some(run) = encoded.next_run() {
            let sent = match log {
                Log::Datadog => {
                    let array = [b"[", &encoded.joined(run.clone(), b',')[..], b"]"].concat();
                    self.post(array, "application/json", "DD-API-KEY").await
                }
                Log::Lines => {
                    let header = self.config.header.clone().unwrap_or_default();
                    self.post(encoded.joined(run.clone(), b'\n'), "application/x-ndjson", &header).await
                }
            };
            encoded.settle(run, &sent.map_or_else(|delivery| delivery, |answer| answer.verdict()));
        }
        encoded.into_deliveries()
    }

    async fn post(&mut self, body: Vec<u8>, kind: &'static str, header: &str) -> Result<Answer, Delivery> {
        let (url, url_secret) = self.target().await?;
        let mut request = Request::post(&url, kind, body);
        if let Some(secret) = self.secret().await {
            request = request.secret_header(header, "", &secret)?;
        }
        if let Some(secret) = &url_secret {
            request = request.body_holds(secret);
        }
        self.client.post(request).await
    }
}
