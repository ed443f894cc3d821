//! Why did it fire, or why not? The figures of every window of one entity, as the rules see them now.
//!
//! Invariant: asking changes nothing; an answer is what the rules would say to one more failure at this moment, by the same
//! code that judges it.
//!
//! Not here: how a question comes in and how the answer looks (`pipeline`, `admin`, `cli`).

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::baseline::Baseline;
use super::key::{Counter, Key};
use super::rules::{Judgement, Span, rounded};
use super::{Detector, Episode};
use crate::event::{Address, Network, Tenant, Timestamp};
use crate::finding::{BaselineEvidence, Entity, EntityKind, Finding, Rule, Verdict, WindowEvidence};

mod allowance;
mod instance;
mod subject;

pub use subject::{Subject, UnknownSubject};

/// Tenants that one answer speaks of: a page or two for a person, and milliseconds of the detector's time. Whoever runs
/// more instances and meets one address at all of them names the one he means.
pub const MAX_TENANTS_EXPLAINED: usize = 16;
/// The shorter of the two windows, as far as it is sure to reach.
const FAST_MILLIS: i64 = 300_000;

/// One window of one entity, as the rules see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The Clerk instance.
    pub tenant: Tenant,
    /// Whose window.
    pub entity: Entity,
    /// Which rule judges it.
    pub rule: Rule,
    /// What the rule says.
    pub verdict: Verdict,
    /// Why, in one sentence.
    pub because: String,
    /// The window's counts, what was expected, and the count that would have fired.
    pub window: WindowEvidence,
    /// What is normal, and how well it is known.
    pub baseline: BaselineEvidence,
    /// Fewer are never a finding.
    pub minimum: u64,
    /// So many always are, past the shared-address guard; absent for an instance's series.
    pub ceiling: Option<u64>,
    /// How many times normal it takes.
    pub factor: f64,
    /// Probability that chance alone gives this count; absent for an instance's series.
    pub chance: Option<f64>,
    /// The largest that still fires.
    pub chance_limit: f64,
    /// Distinct accounts that got in from there in the same window.
    pub succeeding: u64,
    /// Failing accounts that these explain, if it is a shared address.
    pub excused: f64,
    /// Addresses of a network that fail in its short window, or networks of an account (over a day: since UTC midnight); of
    /// the rest 0.
    pub spread: u64,
    /// The finding that is open about it, or was closed less than an hour ago.
    pub finding: Option<Uuid>,
}

impl Explanation {
    /// The count that the rule judges: failures of an account, of everybody else distinct accounts.
    #[must_use]
    pub const fn judged(&self) -> u64 {
        match self.entity.kind {
            EntityKind::Account => self.window.failures,
            EntityKind::Ip | EntityKind::Network | EntityKind::Tenant => self.window.distinct,
        }
    }
}

impl Detector {
    /// What the rules say of `subject` at event time [`Detector::now`], window by window, for `tenant` or for the first
    /// [`MAX_TENANTS_EXPLAINED`] that know it. Empty: nothing is known of it; it never failed, was met once, or was
    /// forgotten. While a finding about it is open, what was reported is judged again, so that the answer says why.
    #[must_use]
    pub fn explain(&self, subject: &Subject, tenant: Option<&Tenant>) -> Vec<Explanation> {
        let places =
            (0_u16..).zip(&self.tenants).filter(|(_, state)| tenant.is_none_or(|asked| *asked == state.tenant));
        places
            .map(|(place, state)| match subject {
                Subject::Tenant(asked) if *asked == state.tenant => self.explain_tenant(place),
                Subject::Tenant(_) => Vec::new(),
                Subject::Address(_) | Subject::Network(_) | Subject::Account(_) => {
                    let of_one = |(key, entity, whole): (Key, Entity, Subject)| {
                        self.explain_entity(&key, &entity, self.allowance(&whole, &state.tenant).as_deref())
                    };
                    keys(subject, place).into_iter().flat_map(of_one).collect()
                }
            })
            .filter(|explanations| !explanations.is_empty())
            .take(MAX_TENANTS_EXPLAINED)
            .flatten()
            .collect()
    }

    /// Event time up to which everything is believed seen: the moment of which [`Detector::explain`] speaks.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.watermark.now()
    }

    fn explain_entity(&self, key: &Key, entity: &Entity, allowed: Option<&str>) -> Vec<Explanation> {
        let known = self.entities.find(key, key.hash()).and_then(|place| self.entities.get(place).copied());
        let Some(tenant) = self.tenants.get(usize::from(key.tenant)) else { return Vec::new() };
        let Some(mut state) = known else {
            // What is allowed leaves no trace; the list itself is the answer. Codes are the same entity's second aspect.
            let allowed = allowed.filter(|_| !key.counter.is_codes() && !key.counter.is_fan_out());
            return allowed.and_then(|why| self.explain_untraced(key, entity, why)).into_iter().collect();
        };
        let now = self.watermark.now();
        // As it would be judged at one more failure now; on a copy, so that asking changes nothing.
        super::count::roll(&mut state, super::window::bucket_of(now), &mut tenant.population.clone());
        let counts = state.window.generations();
        let is_open = self.episode_of(key).is_some_and(|episode| !episode.is_closed());
        let explain = |span: Span| {
            let judged = self.judgement(&state, span, now)?;
            let judged = Judgement { reported: judged.reported && !is_open, ..judged };
            let (failures, distinct, successes) = match span {
                _ if key.counter.is_fan_out() => (judged.count, judged.count, judged.succeeding + judged.count),
                Span::Fast if !key.counter.is_account() => (counts.failures, counts.distinct, counts.successes),
                Span::Fast => (judged.count, counts.distinct, counts.successes),
                Span::Day => (judged.count, judged.count, state.window.day().successes),
            };
            self.explanation(key, entity, &judged, (failures, distinct, successes), allowed)
        };
        [Span::Fast, Span::Day].into_iter().filter_map(explain).collect()
    }

    /// An entity that was never counted, because the allow list covers it.
    fn explain_untraced(&self, key: &Key, entity: &Entity, why: &str) -> Option<Explanation> {
        let (tenant, now) = (self.tenants.get(usize::from(key.tenant))?, self.watermark.now());
        let start = now.plus_millis(-FAST_MILLIS);
        let judged = Judgement {
            thresholds: &tenant.thresholds,
            counter: key.counter,
            span: Span::Fast,
            expectation: Baseline::default().expectation(&tenant.population, key.counter),
            start,
            now,
            exposure: tenant.exposure(start, now),
            count: 0,
            succeeding: 0,
            spread: 0,
            phi: tenant.population.phi(),
            chance: tenant.population.chance(tenant.thresholds.budget),
            in_outage: false,
            reported: false,
            learning: tenant.population.learning(now),
        };
        self.explanation(key, entity, &judged, (0, 0, 0), Some(why))
    }

    /// `counts`: failures, distinct accounts and successes of the window.
    fn explanation(
        &self,
        key: &Key,
        entity: &Entity,
        judged: &Judgement<'_>,
        counts: (u64, u64, u64),
        allowed: Option<&str>,
    ) -> Option<Explanation> {
        let limits = judged.thresholds.limits(key.counter, judged.span);
        let verdict = if allowed.is_some() { Verdict::Allowed } else { judged.verdict() };
        let (failures, distinct, successes) = counts;
        Some(Explanation {
            tenant: self.tenants.get(usize::from(key.tenant))?.tenant.clone(),
            entity: entity.clone(),
            rule: key.counter.rule(),
            verdict,
            because: because(verdict, judged, allowed),
            window: judged.evidence(failures, distinct, successes),
            baseline: judged.baseline(),
            minimum: limits.minimum,
            ceiling: Some(limits.ceiling),
            factor: limits.factor,
            chance: Some(judged.by_chance()),
            chance_limit: judged.chance,
            succeeding: judged.succeeding,
            excused: rounded(if key.counter.is_account() { 0.0 } else { judged.excused() }, 10.0),
            spread: match (key.counter, judged.span) {
                (Counter::Network | Counter::NetworkFanOut, Span::Fast) | (Counter::Account, _) => judged.spread,
                // A day does not keep the addresses of a network apart.
                _ => 0,
            },
            finding: self.finding_of(key),
        })
    }

    fn episode_of(&self, key: &Key) -> Option<&Episode> {
        self.of_key.get(&key.of(key.counter.told_as())).and_then(|id| self.episodes.get(id))
    }

    fn finding_of(&self, key: &Key) -> Option<Uuid> {
        self.episode_of(key).map(Episode::finding_id)
    }

    /// The finding with this id, if it is open or was closed less than an hour ago.
    #[must_use]
    pub fn finding(&self, id: Uuid) -> Option<Finding> {
        self.episodes.values().find(|episode| episode.finding_id() == id).map(Episode::current)
    }
}

/// The counters that `subject` has at the tenant in `place`, whose they are, and what the allow list would have to cover.
fn keys(subject: &Subject, place: u16) -> Vec<(Key, Entity, Subject)> {
    let entity = |kind: EntityKind, value: String| Entity { kind, value };
    let network = |ip: IpAddr| {
        let network = Network::of(ip);
        (Key::network(place, network), entity(EntityKind::Network, network.to_string()), Subject::Network(ip))
    };
    let strangers = |(key, entity, whole): &(Key, Entity, Subject)| {
        let counter = key.counter.fan_out();
        counter.map(|counter| (key.of(counter), entity.clone(), whole.clone()))
    };
    match subject {
        Subject::Address(ip) => {
            let address = Address::of(*ip);
            let (key, named) = (Key::address(place, address), entity(EntityKind::Ip, address.to_string()));
            let codes = (key.of(Counter::AddressCodes), named.clone(), subject.clone());
            let (address, network) = ((key, named, subject.clone()), network(*ip));
            let fan_outs = [strangers(&address), strangers(&network)].into_iter().flatten();
            [address, codes, network].into_iter().chain(fan_outs).collect()
        }
        Subject::Network(ip) => {
            let network = network(*ip);
            let fan_out = strangers(&network);
            std::iter::once(network).chain(fan_out).collect()
        }
        Subject::Account(account) => {
            let (key, named) = (Key::account(place, account), entity(EntityKind::Account, account.to_string()));
            let codes = (key.of(Counter::AccountCodes), named.clone(), subject.clone());
            vec![(key, named, subject.clone()), codes]
        }
        Subject::Tenant(_) => Vec::new(),
    }
}

/// Why, in one sentence without its full stop. `allowed`: what the allow list says of it.
fn because(verdict: Verdict, judged: &Judgement<'_>, allowed: Option<&str>) -> String {
    let (count, threshold) = (judged.count, judged.threshold());
    let limits = judged.thresholds.limits(judged.counter, judged.span);
    match verdict {
        Verdict::Spike if count < threshold => format!(
            "{count} from {} networks: from {} networks on, more than {1} are enough",
            judged.spread, judged.thresholds.account_networks
        ),
        Verdict::Spike => format!("{count} is at or above the threshold of {threshold}"),
        Verdict::BelowMinimum => format!("{count} is below the minimum of {}: too few to matter", limits.minimum),
        Verdict::SharedAddress if judged.counter.is_fan_out() => {
            format!("among so many who get in, {count} may well be new there with a new device: a shared address")
        }
        Verdict::SharedAddress => format!("the accounts that get in explain the {count} that fail: a shared address"),
        Verdict::OneAddress => "fewer than three addresses of it take part: each is judged by itself".to_owned(),
        Verdict::WithinFactor => format!("{count} is not enough times normal; {threshold} would be"),
        Verdict::CouldBeChance => format!("{count} could be chance; {threshold} could not"),
        Verdict::Outage => "sign-in fails for everyone at the moment".to_owned(),
        Verdict::Reported => "the window reaches back to what was already reported".to_owned(),
        Verdict::Allowed => allowed.unwrap_or("the allow list covers it").to_owned(),
    }
}

#[cfg(test)]
mod tests;
