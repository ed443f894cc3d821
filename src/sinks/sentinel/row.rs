//! A finding as a row of the table in `deploy/sentinel`.
//!
//! Invariant: the columns are those of the table and of the rule's stream, which a test holds against the files; a column
//! that is not declared would be dropped without a word.
//!
//! Not here: sending.

use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::finding::{EntityKind, Finding};
use crate::sinks::format::{Body, attack, moment, prose, severity};

/// Log Analytics cuts a value off at 32 KB (of characters, which are at least as many as bytes only for ASCII), and cut
/// JSON is none any more.
const MAX_FINDING_BYTES: usize = 30_000;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row<'a> {
    time_generated: String,
    finding_id: Uuid,
    revision_id: Uuid,
    revision: u32,
    lifecycle: &'static str,
    severity: &'static str,
    rule: &'static str,
    shape: &'static str,
    title: String,
    message: String,
    clerk_instance: &'a str,
    entity_kind: &'static str,
    entity: &'a str,
    source_ip: &'a str,
    first_seen: String,
    last_seen: String,
    failures: u64,
    distinct_count: u64,
    ratio: Option<f64>,
    compromised_count: u64,
    compromised_accounts: Vec<&'a str>,
    techniques: Vec<&'static str>,
    /// OCSF.
    finding: Option<Box<RawValue>>,
}

/// The row of `finding` as JSON.
pub(super) fn row(finding: &Finding) -> serde_json::Result<Vec<u8>> {
    let evidence = &finding.evidence;
    // Even without its record a row says what matters.
    let record = Body::Ocsf.line_within(finding, MAX_FINDING_BYTES)?;
    let record = record.map(|line| RawValue::from_string(String::from_utf8_lossy(&line).into_owned())).transpose()?;
    let techniques = attack::techniques(finding);
    serde_json::to_vec(&Row {
        time_generated: moment(finding.at),
        finding_id: finding.finding_id,
        revision_id: finding.revision_id,
        revision: finding.revision,
        lifecycle: finding.lifecycle.as_str(),
        severity: severity::terms(finding.severity).ocsf,
        rule: finding.rule.as_str(),
        shape: finding.shape.as_str(),
        title: prose::title(finding),
        message: prose::message(finding),
        clerk_instance: &finding.tenant.0,
        entity_kind: finding.entity.kind.as_str(),
        entity: &finding.entity.value,
        source_ip: if finding.entity.kind == EntityKind::Ip { &finding.entity.value } else { "" },
        first_seen: moment(finding.episode.first_seen_at),
        last_seen: moment(finding.episode.last_seen_at),
        failures: evidence.totals.failures,
        distinct_count: evidence.peak.distinct,
        ratio: evidence.peak.ratio.is_finite().then_some(evidence.peak.ratio),
        compromised_count: evidence.compromised_total,
        compromised_accounts: evidence.compromised.iter().map(|one| one.account.as_str()).collect(),
        techniques: techniques.iter().map(|one| one.sub_technique.unwrap_or(one.technique).uid).collect(),
        finding: record,
    })
}
