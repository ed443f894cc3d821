//! Elastic Common Schema 9.4: a finding as Elastic Security, and whatever else speaks ECS, wants to see it.
//!
//! Invariant: a function of the finding and of what the sink says about the delivery ([`Delivered`]). Every field is of
//! ECS, with the type and the array form that ECS gives it; figures of our own stand under `authspike`.
//!
//! Not here: `event.outcome` (ours would be about the attack, where everybody searches it for sign-ins) and
//! `event.risk_score`, which would be a number made up to fill a field.

use std::net::IpAddr;

use serde::Serialize;

use crate::event::Timestamp;
use crate::finding::{EntityKind, Finding, Lifecycle};

use super::figures::{Figures, figures};
use super::{DATASET, PRODUCT, analytic, attack, moment, prose, severity};

mod document;

use document::{
    Document, Event, Labels, Observer, Organization, Related, Rule, Source, Threat, ThreatNames, ThreatTechniques,
    User, UserAgent, Version,
};

/// The version of ECS a document claims and is judged by.
pub const VERSION: &str = "9.4.0";
/// Values in `related.*`: what an analyst pivots on; the counts beside them are exact.
const MAX_RELATED: usize = 50;
const NANOS_PER_MILLI: i64 = 1_000_000;

/// What only the sink knows. The default: nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivered<'a> {
    /// `event.ingested`: when it is sent. Elastic's rule for external alerts looks back two minutes by this field, so
    /// without it a finding that waited out an outage is never promoted.
    pub at: Option<Timestamp>,
    /// `data_stream.*`.
    pub data_stream: Option<DataStream<'a>>,
}

/// The data stream a document goes to: `<type>-<dataset>-<namespace>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DataStream<'a> {
    /// `logs`
    #[serde(rename = "type")]
    pub kind: &'a str,
    /// `authspike.findings`
    pub dataset: &'a str,
    /// `default`
    pub namespace: &'a str,
}

/// The document of `finding` as one line of JSON, without the newline. `cut_from_bytes` as in [`super::fit`].
///
/// # Errors
/// None that a document can cause; `serde_json` cannot know that.
pub fn line(finding: &Finding, delivered: Delivered<'_>, cut_from_bytes: Option<usize>) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&document(finding, delivered, cut_from_bytes))
}

fn document<'a>(
    finding: &'a Finding,
    delivered: Delivered<'a>,
    cut_from_bytes: Option<usize>,
) -> Document<'a, Figures<'a>> {
    let about_account = (finding.entity.kind == EntityKind::Account).then_some(finding.entity.value.as_str());
    Document {
        timestamp: moment(finding.at),
        // Elastic Security names the alert after it.
        message: prose::title(finding),
        ecs: Version { version: VERSION },
        data_stream: delivered.data_stream,
        event: event(finding, delivered.at),
        rule: Rule {
            id: finding.rule.as_str(),
            name: finding.rule.as_str(),
            version: analytic::VERSION,
            category: analytic::CATEGORY,
            description: analytic::description(finding.rule),
            ruleset: PRODUCT,
        },
        threat: threat(finding),
        source: address(finding).map(|ip| Source { ip }),
        user: about_account.map(|id| User { id }),
        user_agent: finding.evidence.user_agents.first().map(|agent| UserAgent { original: &agent.value }),
        related: Related { ip: related_ips(finding), user: related_users(finding) },
        observer: Observer { vendor: PRODUCT, product: PRODUCT, kind: "detector", version: env!("CARGO_PKG_VERSION") },
        organization: Organization { id: &finding.tenant.0 },
        labels: Labels {
            finding_uid: finding.finding_id,
            lifecycle: finding.lifecycle.as_str(),
            shape: finding.shape.as_str(),
            entity_kind: finding.entity.kind.as_str(),
            entity: &finding.entity.value,
            correlation_uid: finding.correlation,
        },
        authspike: figures(finding, cut_from_bytes),
    }
}

fn event(finding: &Finding, ingested: Option<Timestamp>) -> Event {
    let (start, end) = (finding.episode.first_seen_at, finding.episode.last_seen_at);
    let duration = end.millis_since(start).checked_mul(NANOS_PER_MILLI).filter(|nanos| *nanos >= 0);
    let (kind, action) = match finding.lifecycle {
        // Only the first is an alert: else every update would page somebody again.
        Lifecycle::Opened => ("alert", "finding-opened"),
        Lifecycle::Updated => ("event", "finding-updated"),
        Lifecycle::Closed => ("event", "finding-closed"),
    };
    Event {
        kind,
        category: ["authentication", "intrusion_detection"],
        // The one type that both categories know.
        types: ["info"],
        action,
        code: finding.rule.as_str(),
        id: finding.revision_id,
        module: PRODUCT,
        dataset: DATASET,
        provider: "clerk",
        severity: severity::terms(finding.severity).ecs,
        sequence: finding.revision,
        start: moment(start),
        end: moment(end),
        duration,
        reason: prose::message(finding),
        ingested: ingested.map(moment),
    }
}

fn threat(finding: &Finding) -> Option<Threat> {
    let techniques = attack::techniques(finding);
    if techniques.is_empty() {
        return None;
    }
    let mut threat = Threat {
        framework: "MITRE ATT&CK",
        tactic: ThreatNames::default(),
        technique: ThreatTechniques { names: ThreatNames::default(), subtechnique: ThreatNames::default() },
    };
    for one in techniques {
        threat.tactic.add(one.tactic);
        threat.technique.names.add(one.technique);
        if let Some(sub_technique) = one.sub_technique {
            threat.technique.subtechnique.add(sub_technique);
        }
    }
    Some(threat)
}

/// The one address the finding is about; of an IPv6 /64, its first.
fn address(finding: &Finding) -> Option<IpAddr> {
    if finding.entity.kind != EntityKind::Ip {
        return None;
    }
    super::address(&finding.entity.value)
}

fn related_ips(finding: &Finding) -> Vec<IpAddr> {
    let compromised = finding.evidence.compromised.iter().filter_map(|one| super::address(one.address.as_deref()?));
    let took_part = finding.evidence.addresses.values.iter().filter_map(|one| super::address(one));
    distinct(address(finding).into_iter().chain(compromised).chain(took_part))
}

fn related_users(finding: &Finding) -> Vec<&str> {
    let about = (finding.entity.kind == EntityKind::Account).then_some(finding.entity.value.as_str());
    let compromised = finding.evidence.compromised.iter().map(|one| one.account.as_str());
    let tried = finding.evidence.accounts.values.iter().map(String::as_str);
    distinct(about.into_iter().chain(compromised).chain(tried))
}

fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut kept = Vec::new();
    for value in values {
        if kept.len() >= MAX_RELATED {
            break;
        }
        if !kept.contains(&value) {
            kept.push(value);
        }
    }
    kept
}
