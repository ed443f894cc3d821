//! Why did an instance's series fire, or why not?
//!
//! Invariant: a series is read as it stands at event time now, on a copy.
//!
//! Not here: the series themselves (`series`), and when they open a finding (`tenant`).

use super::{Detector, Explanation};
use crate::detect::key::{Counter, Key};
use crate::detect::series::Alarm;
use crate::detect::tenant::{baseline, evidence};
use crate::event::Tenant;
use crate::finding::{Entity, EntityKind, Rule, Verdict};

impl Detector {
    /// The series of the tenant in `place`, and its outage if one is told of.
    pub(super) fn explain_tenant(&self, place: u16) -> Vec<Explanation> {
        let series = [Counter::Tenant, Counter::TenantLocks].map(|counter| self.explain_series(place, counter));
        series.into_iter().chain([self.explain_outage(place)]).flatten().collect()
    }

    fn explain_series(&self, place: u16, counter: Counter) -> Option<Explanation> {
        let (tenant, now) = (self.tenants.get(usize::from(place))?, self.watermark.now());
        let limits = tenant.limits(counter);
        // On a copy here too.
        let mut series = tenant.series(counter).clone();
        series.roll(now, &limits);
        let reading = series.reading(series.alarm().unwrap_or(Alarm::Spike), &limits);
        let window = evidence(&reading, &limits, now);
        let finding = self.finding_of(&Key::tenant(place, counter));
        let (verdict, because) = match series.alarm() {
            Some(Alarm::Drift) => (Verdict::Spike, "what is beyond normal has added up to more than chance".to_owned()),
            Some(Alarm::Ceiling | Alarm::Spike) => {
                (Verdict::Spike, format!("{} is at or above the threshold of {}", window.failures, window.threshold))
            }
            None if window.failures < limits.minimum => (
                Verdict::BelowMinimum,
                format!("{} is below the minimum of {}: too few to matter", window.failures, limits.minimum),
            ),
            None => (
                Verdict::WithinFactor,
                format!("{} is not enough times normal; {} would be", window.failures, window.threshold),
            ),
        };
        Some(Explanation {
            tenant: tenant.tenant.clone(),
            entity: instance(&tenant.tenant),
            rule: counter.rule(),
            verdict,
            because,
            window,
            baseline: baseline(&reading),
            minimum: limits.minimum,
            ceiling: None,
            factor: limits.ratio,
            chance: None,
            chance_limit: limits.chance,
            succeeding: 0,
            excused: 0.0,
            spread: 0,
            finding,
        })
    }

    /// Only while a finding tells of one: what an outage is held against is not a threshold of failures.
    fn explain_outage(&self, place: u16) -> Option<Explanation> {
        let tenant = self.tenants.get(usize::from(place))?;
        let found = self.episode_of(&Key::tenant(place, Counter::TenantOutage))?.current();
        let goes_on = tenant.in_outage(self.watermark.now());
        let (verdict, because) = if goes_on {
            (Verdict::Spike, "people who usually get in do not")
        } else {
            (Verdict::Reported, "people get in again")
        };
        Some(Explanation {
            tenant: tenant.tenant.clone(),
            entity: instance(&tenant.tenant),
            rule: Rule::SignInOutage,
            verdict,
            because: because.to_owned(),
            window: found.evidence.peak,
            baseline: found.evidence.baseline,
            minimum: found.evidence.peak.threshold,
            ceiling: None,
            factor: 1.0,
            chance: None,
            chance_limit: tenant.population.chance(tenant.thresholds.budget),
            succeeding: 0,
            excused: 0.0,
            spread: 0,
            finding: Some(found.finding_id),
        })
    }
}

fn instance(tenant: &Tenant) -> Entity {
    Entity { kind: EntityKind::Tenant, value: tenant.to_string() }
}
