//! Why did it fire, or why not? The figures of every window of one entity, as the rules see them now.
//!
//! Invariant: asking changes nothing; an answer is what the rules would say to one more failure at this moment, by the same
//! code that judges it.
//!
//! Not here: how a question comes in and how the answer looks (`pipeline`, `admin`, `cli`).

use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Detector;
use super::key::{Counter, Key};
use super::rules::{Span, rounded};
use super::series::{Alarm, Reading};
use super::tenant::{baseline, evidence};
use crate::event::{Account, Address, IdentifierHash, Network, Tenant};
use crate::finding::{BaselineEvidence, Entity, EntityKind, Finding, Rule, Verdict, WindowEvidence};

/// Whom a question is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// An address, and the network it lies in.
    Address(IpAddr),
    /// The network an address lies in.
    Network(IpAddr),
    /// A Clerk user or the hash of an identifier.
    Account(Account),
    /// A whole Clerk instance.
    Tenant(Tenant),
}

/// What cannot be asked about.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no address, network (/24 or /48), user_…, idh_… or instance")]
pub struct UnknownSubject(String);

impl FromStr for Subject {
    type Err = UnknownSubject;

    /// `203.0.113.7`, `203.0.113.0/24`, `2001:db8:1::/48`, `2001:db8:1:2::/64`, `user_…`, `idh_…`, else an instance.
    fn from_str(text: &str) -> Result<Self, UnknownSubject> {
        let unknown = || UnknownSubject(text.to_owned());
        if let Ok(ip) = text.parse() {
            return Ok(Self::Address(ip));
        }
        if let Some((ip, length)) = text.split_once('/') {
            let ip: IpAddr = ip.parse().map_err(|_| unknown())?;
            return match (ip, length) {
                (IpAddr::V4(_), "24") | (IpAddr::V6(_), "48") => Ok(Self::Network(ip)),
                (IpAddr::V4(_), "32") | (IpAddr::V6(_), "64" | "128") => Ok(Self::Address(ip)),
                _ => Err(unknown()),
            };
        }
        if let Some(hex) = text.strip_prefix("idh_") {
            let bits = u128::from_str_radix(hex, 16).map_err(|_| unknown())?;
            return Ok(Self::Account(Account::Identifier(IdentifierHash(bits.to_be_bytes()))));
        }
        match text {
            "" => Err(unknown()),
            user if user.starts_with("user_") => Ok(Self::Account(Account::User(user.into()))),
            tenant => Ok(Self::Tenant(tenant.into())),
        }
    }
}

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
    /// The finding that is open about it, or was closed less than an hour ago.
    pub finding: Option<Uuid>,
}

impl Detector {
    /// What the rules say of `subject` at event time now, window by window, for `tenant` or for every tenant that knows it.
    /// Empty: nothing is known of it; it never failed, or was met once.
    #[must_use]
    pub fn explain(&self, subject: &Subject, tenant: Option<&Tenant>) -> Vec<Explanation> {
        let mut explanations = Vec::new();
        for (place, state) in (0_u16..).zip(&self.tenants) {
            if tenant.is_some_and(|tenant| *tenant != state.tenant) {
                continue;
            }
            if let Subject::Tenant(asked) = subject {
                if *asked == state.tenant {
                    explanations.extend(
                        [Counter::Tenant, Counter::TenantLocks]
                            .map(|counter| self.explain_series(place, counter))
                            .into_iter()
                            .flatten(),
                    );
                }
                continue;
            }
            for (key, entity) in keys(subject, place) {
                explanations.extend(self.explain_entity(&key, &entity));
            }
        }
        explanations
    }

    fn explain_entity(&self, key: &Key, entity: &Entity) -> Vec<Explanation> {
        let now = self.watermark.now();
        let known = self.entities.find(key, key.hash()).and_then(|place| self.entities.get(place).copied());
        let Some(mut state) = known else { return Vec::new() };
        let Some(tenant) = self.tenants.get(usize::from(key.tenant)) else { return Vec::new() };
        // As it would be judged at one more failure now; on a copy, so that asking changes nothing.
        super::count::roll(&mut state, super::window::bucket_of(now), &mut tenant.population.clone());
        let counts = state.window.generations();
        let explain = |span: Span| {
            let judged = self.judgement(&state, span, now)?;
            let limits = tenant.thresholds.limits(key.counter, span);
            let (failures, distinct) = match span {
                Span::Fast if !key.counter.is_account() => (counts.failures, counts.distinct),
                Span::Fast => (judged.count, counts.distinct),
                Span::Day => (judged.count, judged.count),
            };
            let verdict = judged.verdict();
            Some(Explanation {
                tenant: tenant.tenant.clone(),
                entity: entity.clone(),
                rule: key.counter.rule(),
                verdict,
                because: because(verdict, judged.count, limits.minimum, judged.threshold()),
                window: judged.evidence(failures, distinct, counts.successes),
                baseline: judged.baseline(),
                minimum: limits.minimum,
                ceiling: Some(limits.ceiling),
                factor: limits.factor,
                chance: Some(judged.by_chance()),
                chance_limit: judged.chance,
                succeeding: judged.succeeding,
                excused: rounded(if key.counter.is_account() { 0.0 } else { judged.excused() }, 10.0),
                finding: self.finding_of(key),
            })
        };
        [Span::Fast, Span::Day].into_iter().filter_map(explain).collect()
    }

    fn explain_series(&self, place: u16, counter: Counter) -> Option<Explanation> {
        let tenant = self.tenants.get(usize::from(place))?;
        let (series, limits) = (tenant.series(counter), tenant.limits(counter));
        let reading: Reading = match series.alarm() {
            Some(alarm) => series.reading(alarm, &limits),
            None => series.reading(Alarm::Spike, &limits),
        };
        let window = evidence(&reading, &limits, self.watermark.now());
        let verdict = match series.alarm() {
            Some(_) => Verdict::Spike,
            None if window.failures < limits.minimum => Verdict::BelowMinimum,
            None => Verdict::WithinFactor,
        };
        Some(Explanation {
            tenant: tenant.tenant.clone(),
            entity: Entity { kind: EntityKind::Tenant, value: tenant.tenant.to_string() },
            rule: counter.rule(),
            verdict,
            because: because(verdict, window.failures, limits.minimum, window.threshold),
            window,
            baseline: baseline(&reading),
            minimum: limits.minimum,
            ceiling: None,
            factor: limits.ratio,
            chance: None,
            chance_limit: limits.chance,
            succeeding: 0,
            excused: 0.0,
            finding: self.finding_of(&Key::tenant(place, counter)),
        })
    }

    fn finding_of(&self, key: &Key) -> Option<Uuid> {
        self.of_key.get(key).and_then(|id| self.episodes.get(id)).map(super::Episode::finding_id)
    }

    /// The finding with this id, if it is open or was closed less than an hour ago.
    #[must_use]
    pub fn finding(&self, id: Uuid) -> Option<Finding> {
        self.episodes.values().find(|episode| episode.finding_id() == id).map(super::Episode::current)
    }
}

fn keys(subject: &Subject, place: u16) -> Vec<(Key, Entity)> {
    let entity = |kind: EntityKind, value: String| Entity { kind, value };
    let network = |ip: IpAddr| {
        let network = Network::of(ip);
        (Key::network(place, network), entity(EntityKind::Network, network.to_string()))
    };
    match subject {
        Subject::Address(ip) => {
            let address = Address::of(*ip);
            let (key, named) = (Key::address(place, address), entity(EntityKind::Ip, address.to_string()));
            vec![(key, named.clone()), (key.of(Counter::AddressCodes), named), network(*ip)]
        }
        Subject::Network(ip) => vec![network(*ip)],
        Subject::Account(account) => {
            let (key, named) = (Key::account(place, account), entity(EntityKind::Account, account.to_string()));
            vec![(key, named.clone()), (key.of(Counter::AccountCodes), named)]
        }
        Subject::Tenant(_) => Vec::new(),
    }
}

fn because(verdict: Verdict, count: u64, minimum: u64, threshold: u64) -> String {
    match verdict {
        Verdict::Spike => format!("{count} is at or above the threshold of {threshold}"),
        Verdict::BelowMinimum => format!("{count} is below the minimum of {minimum}: too few to matter"),
        Verdict::SharedAddress => format!("the accounts that get in explain the {count} that fail: a shared address"),
        Verdict::OneAddress => "fewer than three addresses of it take part: each is judged by itself".to_owned(),
        Verdict::WithinFactor => format!("{count} is not enough times normal; {threshold} would be"),
        Verdict::CouldBeChance => format!("{count} could be chance; {threshold} could not"),
        Verdict::Outage => "sign-in fails for everyone at the moment".to_owned(),
        Verdict::Reported => "the window reaches back to what was already reported".to_owned(),
        Verdict::Allowed => "the allow list covers it".to_owned(),
    }
}
