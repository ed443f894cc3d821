//! OCSF 1.5.0 Detection Finding (class 2004): the canonical body, and what every SIEM sink sends or wraps.
//!
//! Invariant: the record is a function of the finding and of this program's version alone. `metadata.logged_time`, which
//! is when a record is sent, is therefore not in it: a sink whose receiver needs it adds it on the way out. The record
//! passes a schema that is not ours (`tests/schemas`), whatever the finding holds.
//!
//! Not here: `confidence` and `risk`, which would be numbers made up to fill a field; triage states (`status` In
//! Progress, Suppressed), which are the reader's to set; `finding_info.created_time`, since a revision does not know when
//! the first one was made.

use crate::finding::{Entity, EntityKind, Finding, Lifecycle, Rule};

use super::{attack, prose, severity};

mod evidence;
mod record;
mod unmapped;

pub use record::DetectionFinding;

use record::{Analytic, Attack, FindingInfo, Metadata, Named, Product, ProductFeature};

/// The version of OCSF the record claims and is validated against. Newer ones (to 1.8.0) take it as it is.
pub const VERSION: &str = "1.5.0";
const CLASS_UID: u32 = 2004;

/// The record of `finding`.
#[must_use]
pub fn detection_finding(finding: &Finding) -> DetectionFinding<'_> {
    let (activity_id, activity_name, type_name) = match finding.lifecycle {
        Lifecycle::Opened => (1, "Create", "Detection Finding: Create"),
        Lifecycle::Updated => (2, "Update", "Detection Finding: Update"),
        Lifecycle::Closed => (3, "Close", "Detection Finding: Close"),
    };
    let (status_id, status) = match finding.lifecycle {
        Lifecycle::Opened | Lifecycle::Updated => (1, "New"),
        Lifecycle::Closed => (4, "Resolved"),
    };
    let severity = severity::ocsf(finding.severity);
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
        severity_id: severity.id,
        severity: severity.caption,
        status_id,
        status,
        is_alert: finding.lifecycle == Lifecycle::Opened,
        time: finding.at.0,
        start_time: finding.episode.first_seen_at.0,
        end_time: finding.episode.last_seen_at.0,
        count: integer(finding.evidence.totals.failures),
        message: prose::message(finding),
        metadata: metadata(finding),
        finding_info: finding_info(finding),
        observables: evidence::observables(finding, &evidences),
        evidences,
        resources: evidence::resources(finding),
        unmapped: unmapped::unmapped(finding),
    }
}

/// The record as one line of JSON, without the newline. No string can break the line: JSON escapes control characters.
///
/// # Errors
/// None that this record can cause; `serde_json` cannot know that.
pub fn line(finding: &Finding) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&detection_finding(finding))
}

fn metadata(finding: &Finding) -> Metadata<'_> {
    Metadata {
        version: VERSION,
        uid: finding.revision_id,
        sequence: finding.revision.min(i32::MAX.cast_unsigned()),
        event_code: finding.rule.as_str(),
        tenant_uid: &finding.tenant.0,
        correlation_uid: finding.correlation,
        log_name: "authspike.findings",
        product: Product {
            name: "authspike",
            uid: "authspike",
            vendor_name: "authspike",
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
    let desc = match rule {
        Rule::AddressFailureSpike => {
            "Different accounts failing to sign in from one address, against what is normal for that address."
        }
        Rule::NetworkFailureSpike => {
            "Different accounts failing to sign in from one network, against what is normal for that network."
        }
        Rule::AccountFailureSpike => {
            "Failed sign-ins to one account from anywhere, against what is normal for that account."
        }
        Rule::DistributedAttack => {
            "Different accounts failing from networks where nobody signs in, against what is normal for the instance."
        }
        Rule::CodeFlood => "One-time codes sent to one account, or to many accounts from one address.",
        Rule::LockoutWave => "Different accounts being locked, against what is normal for the instance.",
        Rule::SignInOutage => "Sign-in failing for everyone where people usually sign in from.",
        Rule::SuccessFanOut => {
            "Accounts with a history elsewhere getting in from one address or network, with devices new to them, against what is normal there."
        }
    };
    Analytic {
        uid: rule.as_str(),
        name: rule.as_str(),
        type_id: 3,
        type_name: "Statistical",
        // Of the rule's meaning, not of the program: raise it when a rule starts to fire for other reasons.
        version: "1",
        category: "Authentication",
        desc,
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
