//! The findings that `authspike sink test` sends: marked as what they are in every format, and closed again at once.
//!
//! Invariant: nobody who reads one can take it for an attack, and nothing stays open behind it.

use crate::event::Timestamp;
use crate::finding::{
    BaselineEvidence, BaselineSource, Entity, EntityKind, Episode, Evidence, Finding, Learning, Lifecycle, Rule,
    Sample, Severity, Shape, Totals, WindowEvidence, finding_id, revision_id,
};

/// The instance they name, which Clerk has none of.
pub const TENANT: &str = "authspike-test";
/// Whom they are about; every format's title names it.
const SUBJECT: &str = "nobody (authspike sink test: no attack, nothing to do)";

/// One that opens at `now`, and its close.
#[must_use]
pub fn findings(now: Timestamp) -> [Finding; 2] {
    let entity = Entity { kind: EntityKind::Account, value: SUBJECT.into() };
    let id = finding_id(&TENANT.into(), Rule::AccountFailureSpike, &entity, now);
    let opened = Finding {
        finding_id: id,
        revision_id: revision_id(id, 1),
        revision: 1,
        lifecycle: Lifecycle::Opened,
        at: now,
        tenant: TENANT.into(),
        rule: Rule::AccountFailureSpike,
        entity,
        shape: Shape::PasswordGuessing,
        severity: Severity::Informational,
        episode: Episode { started_at: now, first_seen_at: now, last_seen_at: now, closed_at: None },
        correlation: None,
        evidence: evidence(now),
    };
    let closed = Finding {
        revision_id: revision_id(id, 2),
        revision: 2,
        lifecycle: Lifecycle::Closed,
        episode: Episode { closed_at: Some(now), ..opened.episode },
        ..opened.clone()
    };
    [opened, closed]
}

fn evidence(now: Timestamp) -> Evidence {
    Evidence {
        peak: WindowEvidence {
            start: now,
            end: now,
            failures: 0,
            distinct: 0,
            successes: 0,
            ratio: 0.0,
            expected: 0.0,
            threshold: 0,
        },
        baseline: BaselineEvidence {
            source: BaselineSource::Prior,
            per_day: 0.0,
            observed_seconds: 0,
            learning: Learning::Learning,
        },
        totals: Totals::default(),
        accounts: Sample::default(),
        addresses: Sample::default(),
        reasons: Vec::new(),
        user_agents: Vec::new(),
        compromised: Vec::new(),
        compromised_total: 0,
        suspected: Vec::new(),
        suspected_total: 0,
        networks: Vec::new(),
        networks_total: 0,
        within: None,
        folded_total: 0,
        shapes: Vec::new(),
        cut_from_bytes: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::format::prose;

    #[test]
    fn it_says_that_it_is_a_test_and_closes_itself() {
        let [opened, closed] = findings(Timestamp(1_716_883_500_000));
        assert!(prose::title(&opened).contains("sink test: no attack"), "{}", prose::title(&opened));
        assert_eq!((opened.severity, closed.lifecycle), (Severity::Informational, Lifecycle::Closed));
        assert_eq!(opened.finding_id, closed.finding_id);
        assert_ne!(opened.finding_id, findings(Timestamp(1_716_883_500_001))[0].finding_id, "each test is a new one");
    }
}
