//! What each receiver of webhooks wants to see.
//!
//! Invariant: a function of the finding (and, for Datadog, of the time), so a repeated delivery is the same again; what an
//! attacker chose cannot act as markup.
//!
//! Not here: signatures and headers.

use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::event::Timestamp;
use crate::finding::{Finding, Lifecycle};
use crate::secret::Secret;
use crate::sinks::format::{Body, is_afterword, moment, prose, severity};

/// Datadog takes no log that says it is older than 18 hours; an hour is for the way.
const DATADOG_MAX_AGE_MILLIS: i64 = 17 * 60 * 60 * 1000;
/// PagerDuty's limit for a summary, in characters.
const MAX_SUMMARY_CHARS: usize = 1024;

type Encoded = serde_json::Result<Option<Vec<u8>>>;

/// The finding as `body` within `max_bytes`, to stand inside another.
fn inner(finding: &Finding, body: Body, max_bytes: usize) -> serde_json::Result<Option<Box<RawValue>>> {
    let Some(line) = body.line_within(finding, max_bytes)? else { return Ok(None) };
    // JSON is UTF-8.
    RawValue::from_string(String::from_utf8_lossy(&line).into_owned()).map(Some)
}

#[derive(Serialize)]
struct Envelope {
    #[serde(rename = "type")]
    kind: &'static str,
    timestamp: String,
    data: Box<RawValue>,
}

/// The body that Standard Webhooks recommends.
pub(super) fn envelope(finding: &Finding, body: Body, max_bytes: usize) -> Encoded {
    let kind = match finding.lifecycle {
        Lifecycle::Opened => "finding.opened",
        Lifecycle::Updated => "finding.updated",
        Lifecycle::Closed => "finding.closed",
    };
    let Some(data) = inner(finding, body, max_bytes)? else { return Ok(None) };
    serde_json::to_vec(&Envelope { kind, timestamp: moment(finding.at), data }).map(Some)
}

/// A message for a channel.
pub(super) fn slack(finding: &Finding) -> Encoded {
    let text = format!(
        "*{}* {}\n{}\n_{}, {}, finding {}_",
        finding.severity.as_str().to_uppercase(),
        mrkdwn(&prose::title(finding)),
        mrkdwn(&prose::message(finding)),
        mrkdwn(&prose::visible(&finding.tenant.0)),
        moment(finding.at),
        finding.finding_id,
    );
    let message = json!({ "text": text, "unfurl_links": false, "unfurl_media": false });
    serde_json::to_vec(&message).map(Some)
}

/// What Slack would take for a link, a mention or an entity, escaped as it asks for.
fn mrkdwn(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[derive(Serialize)]
struct PagerDutyEvent<'a> {
    routing_key: &'a str,
    event_action: &'static str,
    dedup_key: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<PagerDutyPayload<'a>>,
}

#[derive(Serialize)]
struct PagerDutyPayload<'a> {
    summary: String,
    source: &'a str,
    severity: &'static str,
    timestamp: String,
    component: &'static str,
    group: &'a str,
    class: &'static str,
    custom_details: Box<RawValue>,
}

/// An event of Events v2: it triggers, and again with every update (the same incident, by `dedup_key`), and resolves. What
/// comes to light after that is an incident that somebody has to look at and to resolve.
pub(super) fn pagerduty(finding: &Finding, routing_key: &Secret, body: Body, max_bytes: usize) -> Encoded {
    let Some(custom_details) = inner(finding, body, max_bytes)? else { return Ok(None) };
    let payload = PagerDutyPayload {
        summary: prose::title(finding).chars().take(MAX_SUMMARY_CHARS).collect(),
        source: if finding.entity.value.is_empty() { "unknown" } else { &finding.entity.value },
        severity: severity::terms(finding.severity).pagerduty,
        timestamp: moment(finding.at),
        component: "clerk",
        group: &finding.tenant.0,
        class: finding.rule.as_str(),
        custom_details,
    };
    let (event_action, payload) = if finding.lifecycle == Lifecycle::Closed && !is_afterword(finding) {
        ("resolve", None)
    } else {
        ("trigger", Some(payload))
    };
    let event =
        PagerDutyEvent { routing_key: routing_key.expose(), event_action, dedup_key: finding.finding_id, payload };
    serde_json::to_vec(&event).map(Some)
}

#[derive(Serialize)]
struct DatadogLog {
    ddsource: &'static str,
    ddtags: String,
    service: &'static str,
    status: &'static str,
    /// Left out where Datadog would refuse it for its age: it then counts from its arrival.
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<i64>,
    message: String,
    finding: Box<RawValue>,
}

/// One log.
pub(super) fn datadog(finding: &Finding, body: Body, max_bytes: usize, now: Timestamp) -> Encoded {
    let Some(inner) = inner(finding, body, max_bytes)? else { return Ok(None) };
    let log = DatadogLog {
        ddsource: "authspike",
        ddtags: format!(
            "rule:{},severity:{},lifecycle:{}",
            finding.rule.as_str(),
            finding.severity.as_str(),
            finding.lifecycle.as_str()
        ),
        service: "authspike",
        status: severity::terms(finding.severity).datadog,
        timestamp: (now.millis_since(finding.at) < DATADOG_MAX_AGE_MILLIS).then_some(finding.at.0),
        message: format!("{}. {}", prose::title(finding), prose::message(finding)),
        finding: inner,
    };
    serde_json::to_vec(&log).map(Some)
}
