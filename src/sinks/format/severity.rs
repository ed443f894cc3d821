//! How bad it is, in the words of each format and receiver: one table, so that no two of them can disagree.
//!
//! Not here: how a severity is chosen (`detect`).

use crate::finding::Severity;

/// One severity in everybody's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// OCSF `severity_id`. There is also 6 (Fatal), which means that remediation failed: not ours to say.
    pub ocsf_id: u8,
    /// OCSF `severity`: must be the caption of `ocsf_id`.
    pub ocsf: &'static str,
    /// ECS `event.severity`: the four steps that Elastic Security knows; it takes any other number for medium.
    pub ecs: u8,
    /// CEF: 0 to 3 is low, 4 to 6 medium, 7 and 8 high, 9 and 10 very high.
    pub cef: u8,
    /// RFC 5424: 6 informational, 5 notice, 4 warning, 3 error, 2 critical.
    pub syslog: u8,
    /// PagerDuty Events v2.
    pub pagerduty: &'static str,
    /// Status of a log in Datadog.
    pub datadog: &'static str,
}

/// The row of `severity`.
#[must_use]
#[rustfmt::skip]
pub const fn terms(severity: Severity) -> Terms {
    match severity {
        Severity::Informational => Terms { ocsf_id: 1, ocsf: "Informational", ecs: 21, cef: 2, syslog: 6, pagerduty: "info", datadog: "info" },
        Severity::Low => Terms { ocsf_id: 2, ocsf: "Low", ecs: 21, cef: 3, syslog: 5, pagerduty: "info", datadog: "notice" },
        Severity::Medium => Terms { ocsf_id: 3, ocsf: "Medium", ecs: 47, cef: 6, syslog: 4, pagerduty: "warning", datadog: "warning" },
        Severity::High => Terms { ocsf_id: 4, ocsf: "High", ecs: 73, cef: 8, syslog: 3, pagerduty: "error", datadog: "error" },
        Severity::Critical => Terms { ocsf_id: 5, ocsf: "Critical", ecs: 99, cef: 10, syslog: 2, pagerduty: "critical", datadog: "critical" },
    }
}
