//! Which findings go to a sink.
//!
//! Invariant: a sink that was told of a finding is told of everything that becomes of it: rule and instance of a finding
//! never change and its severity never falls, so whatever follows a revision that is routed is routed too.

use crate::event::Tenant;
use crate::finding::{Finding, Rule, Severity};

/// What a sink's section asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The mildest severity.
    pub min_severity: Severity,
    /// The rules; empty: all.
    pub rules: Vec<Rule>,
    /// The instances; empty: all.
    pub tenants: Vec<Tenant>,
}

impl Route {
    /// Everything.
    pub const ALL: Self = Self { min_severity: Severity::Informational, rules: Vec::new(), tenants: Vec::new() };

    /// Whether `finding` is among what was asked for.
    #[must_use]
    pub fn takes(&self, finding: &Finding) -> bool {
        finding.severity >= self.min_severity
            && (self.rules.is_empty() || self.rules.contains(&finding.rule))
            && (self.tenants.is_empty() || self.tenants.contains(&finding.tenant))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::sample::stuffing;

    #[test]
    fn each_condition_must_hold() {
        let finding = Finding { severity: Severity::Medium, ..stuffing() };
        let takes = |route: Route| route.takes(&finding);
        assert!(takes(Route::ALL));
        assert!(takes(Route { min_severity: Severity::Medium, ..Route::ALL }));
        assert!(!takes(Route { min_severity: Severity::High, ..Route::ALL }));
        assert!(takes(Route { rules: vec![Rule::CodeFlood, finding.rule], ..Route::ALL }));
        assert!(!takes(Route { rules: vec![Rule::CodeFlood], ..Route::ALL }));
        assert!(takes(Route { tenants: vec![finding.tenant.clone()], ..Route::ALL }));
        assert!(!takes(Route { tenants: vec!["ins_other".into()], ..Route::ALL }));
    }
}
