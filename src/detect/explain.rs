//! Why did it fire, or why not? The figures of every window of one entity, as the rules see them now.
//!
//! Invariant: asking changes nothing; an answer is what the rules would say to one more failure at this moment, by the same
//! code that judges it.
//!
//! Not here: how a question comes in and how the answer looks (`pipeline`, `admin`, `cli`).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::baseline::Baseline;
use super::key::{Counter, Key};
use super::rules::{Judgement, Span, rounded};
use super::series::Alarm;
use super::tenant::{baseline, evidence};
use super::{Detector, Episode};
use crate::event::{Account, Address, IdentifierHash, MAX_ID_BYTES, Network, Tenant, Timestamp};
use crate::finding::{BaselineEvidence, Entity, EntityKind, Finding, Rule, Verdict, WindowEvidence};

/// Tenants that one answer speaks of: a page or two for a person, and milliseconds of the detector's time. Whoever runs
/// more instances and meets one address at all of them names the one he means.
pub const MAX_TENANTS_EXPLAINED: usize = 16;
/// The shorter of the two windows, as far as it is sure to reach.
const FAST_MILLIS: i64 = 300_000;

/// Whom a question is about. It is written and read as findings name their entities.
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
pub enum UnknownSubject {
    /// Neither of the lengths that are counted.
    #[error("networks are counted as /24 (IPv4) and /48 (IPv6), addresses as /32 and /64: ask for one of these")]
    Length,
    /// An e-mail address or a phone number, which is not kept.
    #[error("an identifier is known by its hash only: ask for the idh_… that findings show, or for the user_… id")]
    Identifier,
    /// Anything else.
    #[error("must be an address, a network (/24, /48), an account (user_…, idh_…) or an instance (ins_…)")]
    Other,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(ip) => ip.fmt(f),
            Self::Network(ip) => Network::of(*ip).fmt(f),
            Self::Account(account) => account.fmt(f),
            Self::Tenant(tenant) => tenant.fmt(f),
        }
    }
}

impl FromStr for Subject {
    type Err = UnknownSubject;

    /// `203.0.113.7`, `203.0.113.0/24`, `2001:db8:1::/48`, `2001:db8:1:2::/64`, `user_…`, `idh_…`, else an instance.
    fn from_str(text: &str) -> Result<Self, UnknownSubject> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self::Address(ip.to_canonical()));
        }
        if let Some((ip, length)) = text.split_once('/') {
            let ip: IpAddr = ip.parse().map_err(|_| UnknownSubject::Other)?;
            return match (ip, length) {
                (IpAddr::V4(_), "24") | (IpAddr::V6(_), "48") => Ok(Self::Network(ip)),
                (IpAddr::V4(_), "32") | (IpAddr::V6(_), "64" | "128") => Ok(Self::Address(ip.to_canonical())),
                _ => Err(UnknownSubject::Length),
            };
        }
        if let Some(hex) = text.strip_prefix("idh_") {
            let is_hash = hex.len() == 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
            let bits = is_hash.then(|| u128::from_str_radix(hex, 16).ok()).flatten().ok_or(UnknownSubject::Other)?;
            return Ok(Self::Account(Account::Identifier(IdentifierHash(bits.to_be_bytes()))));
        }
        // What a source refuses as an id can never be known.
        if text.contains('@') || text.starts_with('+') {
            return Err(UnknownSubject::Identifier);
        }
        if text.is_empty() || text.len() > MAX_ID_BYTES || text.chars().any(|char| char == ' ' || char.is_control()) {
            return Err(UnknownSubject::Other);
        }
        Ok(if text.starts_with("user_") {
            Self::Account(Account::User(text.into()))
        } else {
            Self::Tenant(text.into())
        })
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
            let allowed = allowed.filter(|_| !key.counter.is_codes());
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
            let limits = tenant.thresholds.limits(key.counter, span);
            let (failures, distinct, successes) = match span {
                Span::Fast if !key.counter.is_account() => (counts.failures, counts.distinct, counts.successes),
                Span::Fast => (judged.count, counts.distinct, counts.successes),
                Span::Day => (judged.count, judged.count, state.window.day().successes),
            };
            let verdict = if allowed.is_some() { Verdict::Allowed } else { judged.verdict() };
            Some(Explanation {
                tenant: tenant.tenant.clone(),
                entity: entity.clone(),
                rule: key.counter.rule(),
                verdict,
                because: because(verdict, &judged, allowed),
                window: judged.evidence(failures, distinct, successes),
                baseline: judged.baseline(),
                minimum: limits.minimum,
                ceiling: Some(limits.ceiling),
                factor: limits.factor,
                chance: Some(judged.by_chance()),
                chance_limit: judged.chance,
                succeeding: judged.succeeding,
                excused: rounded(if key.counter.is_account() { 0.0 } else { judged.excused() }, 10.0),
                spread: match (key.counter, span) {
                    (Counter::Network, Span::Fast) | (Counter::Account, _) => judged.spread,
                    // A day does not keep the addresses of a network apart.
                    _ => 0,
                },
                finding: self.finding_of(key),
            })
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
            phi: tenant.phi(key.counter, 0, 0),
            chance: tenant.population.chance(tenant.thresholds.budget),
            in_outage: false,
            reported: false,
            learning: tenant.population.learning(now),
        };
        let limits = tenant.thresholds.limits(key.counter, Span::Fast);
        Some(Explanation {
            tenant: tenant.tenant.clone(),
            entity: entity.clone(),
            rule: key.counter.rule(),
            verdict: Verdict::Allowed,
            because: because(Verdict::Allowed, &judged, Some(why)),
            window: judged.evidence(0, 0, 0),
            baseline: judged.baseline(),
            minimum: limits.minimum,
            ceiling: Some(limits.ceiling),
            factor: limits.factor,
            chance: Some(judged.by_chance()),
            chance_limit: judged.chance,
            succeeding: 0,
            excused: 0.0,
            spread: 0,
            finding: self.finding_of(key),
        })
    }

    fn explain_tenant(&self, place: u16) -> Vec<Explanation> {
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
            // It opens a finding at once, unless there is nothing to hold failures against.
            Some(Alarm::Ceiling) if finding.is_none() => (
                Verdict::WithinFactor,
                "nobody has signed in there yet, so no number of failures is too many".to_owned(),
            ),
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

    fn episode_of(&self, key: &Key) -> Option<&Episode> {
        self.of_key.get(key).and_then(|id| self.episodes.get(id))
    }

    fn finding_of(&self, key: &Key) -> Option<Uuid> {
        self.episode_of(key).map(Episode::finding_id)
    }

    /// The finding with this id, if it is open or was closed less than an hour ago.
    #[must_use]
    pub fn finding(&self, id: Uuid) -> Option<Finding> {
        self.episodes.values().find(|episode| episode.finding_id() == id).map(Episode::current)
    }

    /// Until when and why the allow list covers the whole of `subject` now, if it does: of several entries the longest-lived.
    fn allowance(&self, subject: &Subject, tenant: &Tenant) -> Option<String> {
        let entries = self.config.allow.iter().filter(|entry| {
            entry.tenant.as_deref().is_none_or(|own| *own == *tenant.0)
                && entry.until.is_none_or(|until| self.watermark.now() < until.0)
                && match subject {
                    Subject::Account(account) => {
                        entry.account.as_deref().and_then(|own| own.parse().ok())
                            == Some(Subject::Account(account.clone()))
                            || entry.account.as_deref() == Some(&*account.to_string())
                    }
                    Subject::Address(_) | Subject::Network(_) | Subject::Tenant(_) => {
                        entry.cidr.as_deref().zip(whole(subject)).is_some_and(|(cidr, whole)| covers(cidr, &whole))
                    }
                }
        });
        let entry = entries.max_by_key(|entry| entry.until.map_or(i64::MAX, |until| until.0.0))?;
        let until = entry.until.map_or_else(String::new, |until| format!(" until {}", until.0));
        Some(format!("the allow list covers it{until} ({})", entry.reason.trim()))
    }
}

/// What an entry of the allow list must cover. Of an IPv6 address the address that was asked for, since an event is allowed
/// by its own address; of a network all of it.
fn whole(subject: &Subject) -> Option<IpNet> {
    match subject {
        Subject::Address(ip) => Some(IpNet::from(*ip)),
        Subject::Network(ip) => Network::of(*ip).to_string().parse().ok(),
        Subject::Account(_) | Subject::Tenant(_) => None,
    }
}

fn covers(cidr: &str, whole: &IpNet) -> bool {
    let allowed = cidr.parse::<IpNet>().or_else(|_| cidr.parse::<IpAddr>().map(IpNet::from));
    allowed.is_ok_and(|allowed| allowed.contains(whole))
}

fn instance(tenant: &Tenant) -> Entity {
    Entity { kind: EntityKind::Tenant, value: tenant.to_string() }
}

/// The counters that `subject` has at the tenant in `place`, whose they are, and what the allow list would have to cover.
fn keys(subject: &Subject, place: u16) -> Vec<(Key, Entity, Subject)> {
    let entity = |kind: EntityKind, value: String| Entity { kind, value };
    let network = |ip: IpAddr| {
        let network = Network::of(ip);
        (Key::network(place, network), entity(EntityKind::Network, network.to_string()), Subject::Network(ip))
    };
    match subject {
        Subject::Address(ip) => {
            let address = Address::of(*ip);
            let (key, named) = (Key::address(place, address), entity(EntityKind::Ip, address.to_string()));
            let codes = (key.of(Counter::AddressCodes), named.clone(), subject.clone());
            vec![(key, named, subject.clone()), codes, network(*ip)]
        }
        Subject::Network(ip) => vec![network(*ip)],
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
