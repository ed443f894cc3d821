//! OCSF Detection Finding (class 2004): the canonical body, and what most SIEM sinks send or wrap.
//!
//! Invariant: the record is a function of the finding and of this program's version alone. `metadata.logged_time`, which
//! is when a record is sent, is therefore not in it: a sink whose receiver needs it adds it on the way out. The record
//! passes schemas that are not ours (`tests/schemas`), whatever the finding holds.
//!
//! Not here: `confidence` and `risk`, which would be numbers made up to fill a field; triage states (`status` In
//! Progress, Suppressed), which are the reader's to set; `finding_info.created_time`, since a revision does not know when
//! the first one was made.

use serde::Serialize;

use crate::finding::{Entity, EntityKind, Finding, Lifecycle, Rule};

use super::{DATASET, PRODUCT, analytic, attack, figures, prose, severity};

mod evidence;
mod record;

pub use record::DetectionFinding;

use record::{Analytic, Attack, FindingInfo, Metadata, Named, Product, ProductFeature, Unmapped};

/// The version of OCSF a record claims and is validated against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Version {
    /// What most receivers take today; newer ones take it as it is.
    #[default]
    #[serde(rename = "1.5.0")]
    V1_5_0,
    /// The newest, for receivers that pin it. Marks a record that was cut, which 1.5.0 has no attribute for.
    #[serde(rename = "1.8.0")]
    V1_8_0,
}

impl Version {
    /// Every version, oldest first.
    pub const ALL: [Self; 2] = [Self::V1_5_0, Self::V1_8_0];
}

const CLASS_UID: u32 = 2004;

/// The record of `finding` in the default version.
#[must_use]
pub fn detection_finding(finding: &Finding) -> DetectionFinding<'_> {
    detection_finding_as(finding, Version::default(), None)
}

/// The record of `finding` in `version`. `cut_from_bytes`: its lists were shortened, and so many bytes had the whole
/// record ([`super::fit`]).
#[must_use]
pub fn detection_finding_as(
    finding: &Finding,
    version: Version,
    cut_from_bytes: Option<usize>,
) -> DetectionFinding<'_> {
    let (activity_id, activity_name, type_name) = match finding.lifecycle {
        Lifecycle::Opened => (1, "Create", "Detection Finding: Create"),
        Lifecycle::Updated => (2, "Update", "Detection Finding: Update"),
        Lifecycle::Closed => (3, "Close", "Detection Finding: Close"),
    };
    let (status_id, status) = match finding.lifecycle {
        Lifecycle::Opened | Lifecycle::Updated => (1, "New"),
        Lifecycle::Closed => (4, "Resolved"),
    };
    let severity = severity::terms(finding.severity);
    let evidences = evidence::evidences(finding);
    DetectionFinding {
        activity_id,
        activity_name,
        category_uid: 2,
        category_name: "Findings",
        class_uid: CLASS_UID,
        class_name: "Detection Finding",
        type_uid: CLASS_UID * 100 + activity_id,
        type_name,
        severity_id: severity.ocsf_id,
        severity: severity.ocsf,
        status_id,
        status,
        is_alert: finding.lifecycle == Lifecycle::Opened,
        time: finding.at.0,
        start_time: finding.episode.first_seen_at.0,
        end_time: finding.episode.last_seen_at.0,
        count: integer(finding.evidence.totals.failures),
        message: prose::message(finding),
        metadata: metadata(finding, version, cut_from_bytes),
        finding_info: finding_info(finding),
        observables: evidence::observables(finding, &evidences),
        evidences,
        resources: evidence::resources(finding),
        unmapped: Unmapped { authspike: figures::figures(finding, cut_from_bytes) },
    }
}

/// The record of the default version as one line of JSON, without the newline. No string can break the line: JSON escapes control characters.
///
/// # Errors
/// None that this record can cause; `serde_json` cannot know that.
pub fn line(finding: &Finding) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&detection_finding(finding))
}

fn metadata(finding: &Finding, version: Version, cut_from_bytes: Option<usize>) -> Metadata<'_> {
    let cut_from_bytes = cut_from_bytes.or(finding.evidence.cut_from_bytes);
    let cut_from_bytes = cut_from_bytes.filter(|_| version == Version::V1_8_0);
    Metadata {
        version,
        uid: finding.revision_id,
        sequence: finding.revision.min(i32::MAX.cast_unsigned()),
        event_code: finding.rule.as_str(),
        tenant_uid: &finding.tenant.0,
        correlation_uid: finding.correlation,
        log_name: DATASET,
        is_truncated: cut_from_bytes.map(|_| true),
        // In kilobytes.
        untruncated_size: cut_from_bytes.map(|bytes| i32::try_from(bytes.div_ceil(1000)).unwrap_or(i32::MAX)),
        product: Product {
            name: PRODUCT,
            uid: PRODUCT,
            vendor_name: PRODUCT,
            version: env!("CARGO_PKG_VERSION"),
            feature: ProductFeature { name: "detector" },
        },
    }
}

fn finding_info(finding: &Finding) -> FindingInfo {
    FindingInfo {
        uid: finding.finding_id,
        title: prose::title(finding),
        desc: prose::description(finding),
        types: [finding.shape.title()],
        first_seen_time: finding.episode.first_seen_at.0,
        last_seen_time: finding.episode.last_seen_at.0,
        modified_time: finding.at.0,
        related_events_count: integer(finding.evidence.totals.failures),
        data_sources: ["clerk"],
        analytic: analytic(finding.rule),
        attacks: attack::techniques(finding).into_iter().map(attack_of).collect(),
    }
}

fn analytic(rule: Rule) -> Analytic {
    Analytic {
        uid: rule.as_str(),
        name: rule.as_str(),
        type_id: 3,
        type_name: "Statistical",
        version: analytic::VERSION,
        category: analytic::CATEGORY,
        desc: analytic::description(rule),
    }
}

fn attack_of(technique: attack::Technique) -> Attack {
    let named = |named: attack::Named| Named { uid: named.uid, name: named.name };
    Attack {
        version: attack::VERSION,
        tactic: named(technique.tactic),
        technique: named(technique.technique),
        sub_technique: technique.sub_technique.map(named),
    }
}

/// OCSF's `integer` is 32 bits wide, and typed stores of findings make it so; the exact count is in `unmapped`.
fn integer(count: u64) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// Where the entity itself stands in the record, for observables that have no better place.
const ENTITY_PATH: &str = "unmapped.authspike.entity.value";

fn is_account(entity: &Entity) -> bool {
    entity.kind == EntityKind::Account
}
