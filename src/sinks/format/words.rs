//! The sentences and tables that every format shares.

use crate::finding::{EntityKind, Finding, Shape};

/// Version of the ATT&CK matrix that [`technique`] speaks of.
pub(super) const ATTACK_VERSION: &str = "17.1";

/// An ATT&CK technique with its tactic.
pub(super) struct Technique {
    pub(super) tactic: (&'static str, &'static str),
    pub(super) technique: (&'static str, &'static str),
    pub(super) sub_technique: Option<(&'static str, &'static str)>,
}

/// What the attacker is doing.
pub(super) fn technique(shape: Shape) -> Technique {
    let brute_force = |uid, name| Technique {
        tactic: ("TA0006", "Credential Access"),
        technique: ("T1110", "Brute Force"),
        sub_technique: Some((uid, name)),
    };
    match shape {
        Shape::PasswordGuessing => brute_force("T1110.001", "Password Guessing"),
        Shape::PasswordSpraying => brute_force("T1110.003", "Password Spraying"),
        Shape::CredentialStuffing => brute_force("T1110.004", "Credential Stuffing"),
        Shape::Enumeration => Technique {
            tactic: ("TA0043", "Reconnaissance"),
            technique: ("T1589", "Gather Victim Identity Information"),
            sub_technique: None,
        },
    }
}

/// What it is once accounts were broken into.
pub(super) const TAKEOVER: Technique = Technique {
    tactic: ("TA0001", "Initial Access"),
    technique: ("T1078", "Valid Accounts"),
    sub_technique: Some(("T1078.004", "Cloud Accounts")),
};

/// "from 203.0.113.7" or "at user_…".
pub(super) fn whereabouts(finding: &Finding) -> String {
    let preposition = if finding.entity.kind == EntityKind::Account { "at" } else { "from" };
    format!("{preposition} {}", finding.entity.value)
}

/// One line: what, where, and whether somebody got in.
pub(super) fn headline(finding: &Finding) -> String {
    let (evidence, title) = (&finding.evidence, finding.shape.title());
    let mut line = format!("{title} {}: {}", whereabouts(finding), plural(evidence.totals.failures, "failed sign-in"));
    if finding.entity.kind != EntityKind::Account {
        line += &format!(" on {}", plural(evidence.accounts.total, "account"));
    }
    if evidence.compromised_total > 0 {
        line += &format!(", {} broken into", plural(evidence.compromised_total, "account"));
    }
    line
}

/// What was counted, against what is normal.
pub(super) fn explanation(finding: &Finding) -> String {
    let (evidence, peak) = (&finding.evidence, finding.evidence.peak);
    let minutes = (peak.end.millis_since(peak.start) + 59_999) / 60_000;
    let counted = if finding.entity.kind == EntityKind::Account {
        plural(peak.failures, "failed sign-in")
    } else {
        format!("{} on about {}", plural(peak.failures, "failed sign-in"), plural(peak.distinct, "different account"))
    };
    let normal = format!("normal here is {} a day ({})", evidence.baseline.per_day, basis(finding));
    format!(
        "At the peak {counted} within {minutes} minutes; {normal}, so this is at least {} times as much.",
        peak.ratio
    )
}

fn basis(finding: &Finding) -> String {
    use crate::finding::BaselineSource::{Entity, Prior, Tenant};
    let kind = finding.entity.kind.as_str();
    match finding.evidence.baseline.source {
        Prior => "the shipped figure, still learning".to_owned(),
        Tenant => format!("the mean of this tenant, this {kind} is new"),
        Entity => format!("learned from {} days of this {kind}", finding.evidence.baseline.observed_seconds / 86_400),
    }
}

/// "1 account", "2 accounts".
pub(super) fn plural(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
