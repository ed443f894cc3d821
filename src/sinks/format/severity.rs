//! How bad it is, in the words of each format: one table, so that no two formats can disagree.
//!
//! Not here: how a severity is chosen (`detect`).

use crate::finding::Severity;

/// One severity in OCSF's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OcsfSeverity {
    /// `severity_id`
    pub id: u8,
    /// `severity`: must be the caption of `id`.
    pub caption: &'static str,
}

/// OCSF's id and caption. OCSF also has 6 (Fatal), which means that remediation failed: not ours to say.
#[must_use]
pub const fn ocsf(severity: Severity) -> OcsfSeverity {
    match severity {
        Severity::Informational => OcsfSeverity { id: 1, caption: "Informational" },
        Severity::Low => OcsfSeverity { id: 2, caption: "Low" },
        Severity::Medium => OcsfSeverity { id: 3, caption: "Medium" },
        Severity::High => OcsfSeverity { id: 4, caption: "High" },
        Severity::Critical => OcsfSeverity { id: 5, caption: "Critical" },
    }
}
