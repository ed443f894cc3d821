//! The plain form: a finding for programs that speak no security schema, and for people who read JSON.
//!
//! Invariant: a contract of its own, named by `schema`; fields are added to it, never renamed.
//!
//! Not here: anything a reader would have to know a vendor's schema for.

use serde::Serialize;
use uuid::Uuid;

use crate::finding::Finding;

use super::figures::{Figures, figures};
use super::{PRODUCT, attack, moment, prose};

/// The name of this contract. A field that changes its meaning would make it `/2`.
pub const SCHEMA: &str = "authspike.finding/1";

#[derive(Clone, Debug, Serialize)]
struct Plain<'a> {
    schema: &'static str,
    finding_id: Uuid,
    revision_id: Uuid,
    revision: u32,
    lifecycle: &'static str,
    severity: &'static str,
    title: String,
    message: String,
    at: String,
    first_seen_at: String,
    last_seen_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    closed_at: Option<String>,
    tenant: &'a str,
    rule: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation: Option<Uuid>,
    attack: Vec<Technique>,
    product: &'static str,
    product_version: &'static str,
    figures: Figures<'a>,
}

/// One technique: the most exact id that applies.
#[derive(Clone, Debug, Serialize)]
struct Technique {
    tactic: &'static str,
    #[serde(rename = "technique")]
    id: &'static str,
    name: &'static str,
}

/// The plain form of `finding` as one line of JSON, without the newline. `cut_from_bytes` as in [`super::fit`].
///
/// # Errors
/// None that it can cause; `serde_json` cannot know that.
pub fn line(finding: &Finding, cut_from_bytes: Option<usize>) -> serde_json::Result<Vec<u8>> {
    let technique = |one: attack::Technique| {
        let exact = one.sub_technique.unwrap_or(one.technique);
        Technique { tactic: one.tactic.uid, id: exact.uid, name: exact.name }
    };
    serde_json::to_vec(&Plain {
        schema: SCHEMA,
        finding_id: finding.finding_id,
        revision_id: finding.revision_id,
        revision: finding.revision,
        lifecycle: finding.lifecycle.as_str(),
        severity: finding.severity.as_str(),
        title: prose::title(finding),
        message: prose::message(finding),
        at: moment(finding.at),
        first_seen_at: moment(finding.episode.first_seen_at),
        last_seen_at: moment(finding.episode.last_seen_at),
        closed_at: finding.episode.closed_at.map(moment),
        tenant: &finding.tenant.0,
        rule: finding.rule.as_str(),
        correlation: finding.correlation,
        attack: attack::techniques(finding).into_iter().map(technique).collect(),
        product: PRODUCT,
        product_version: env!("CARGO_PKG_VERSION"),
        figures: figures(finding, cut_from_bytes),
    })
}
