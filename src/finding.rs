//! What was found: one [`Finding`] is one revision of the record of one attack on or from one entity.
//!
//! Invariant: a finding is a function of the log alone. Ids are derived from what was found, never drawn, so a replay
//! after a crash re-creates the same findings under the same ids, and every revision is a full snapshot: a receiver that
//! missed one loses nothing once the next arrives.
//!
//! Not here: when a finding opens, changes or closes (`detect`), and what it looks like to a SIEM (`sinks::format`).

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::event::{Tenant, Timestamp};

/// Namespace of all ids made here; a random UUID fixed once and for ever, since changing it changes every id.
const NAMESPACE: Uuid = Uuid::from_u128(0x5b1c_8f04_7d52_4c7e_9a39_0e6f_d2a4_71c3);

/// The id of one finding, the same for all its revisions.
#[must_use]
pub fn finding_id(tenant: &Tenant, rule: Rule, entity: &Entity, started_at: Timestamp) -> Uuid {
    let name = format!("{tenant}|{}|{}|{}|{}", rule.as_str(), entity.kind.as_str(), entity.value, started_at.0);
    Uuid::new_v5(&NAMESPACE, name.as_bytes())
}

/// The id of one revision of a finding: what a SIEM deduplicates on.
#[must_use]
pub fn revision_id(finding_id: Uuid, revision: u32) -> Uuid {
    Uuid::new_v5(&finding_id, &revision.to_be_bytes())
}

/// One revision of a finding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Stable over all revisions.
    pub finding_id: Uuid,
    /// Stable over all deliveries of this revision.
    pub revision_id: Uuid,
    /// 1, 2, 3 …
    pub revision: u32,
    /// Opened, updated or closed.
    pub lifecycle: Lifecycle,
    /// Event time of this revision.
    pub at: Timestamp,
    /// The Clerk instance under attack.
    pub tenant: Tenant,
    /// The rule that fired.
    pub rule: Rule,
    /// Who or what it is about.
    pub entity: Entity,
    /// What kind of attack the numbers say it is.
    pub shape: Shape,
    /// Never falls inside an episode.
    pub severity: Severity,
    /// The span of the attack.
    pub episode: Episode,
    /// The finding this one is part of (an address of a distributed attack) or goes on from (the same entity, attacked
    /// again within the hour).
    #[serde(default)]
    pub correlation: Option<Uuid>,
    /// The figures and samples that justify it.
    pub evidence: Evidence,
}

/// Where in its life a finding stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lifecycle {
    /// Revision 1.
    Opened,
    /// The attack goes on, or got worse.
    Updated,
    /// It has been quiet for the whole quiet period.
    Closed,
}

impl Lifecycle {
    /// Every stage, in order.
    pub const ALL: [Self; 3] = [Self::Opened, Self::Updated, Self::Closed];

    /// The value of the `lifecycle` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Updated => "updated",
            Self::Closed => "closed",
        }
    }
}

/// The rules that can open a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Many accounts fail from one address.
    AddressFailureSpike,
    /// Many accounts fail from several addresses of one network.
    NetworkFailureSpike,
    /// One account fails many times, from anywhere.
    AccountFailureSpike,
    /// Accounts fail from networks where nobody signs in, few tries each, many in all.
    DistributedAttack,
    /// Codes are sent over and over: to one account, or to many from one address.
    CodeFlood,
    /// Accounts are locked in numbers.
    LockoutWave,
    /// Sign-in fails for everyone: an incident, not an attack.
    SignInOutage,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 7] = [
        Self::AddressFailureSpike,
        Self::NetworkFailureSpike,
        Self::AccountFailureSpike,
        Self::DistributedAttack,
        Self::CodeFlood,
        Self::LockoutWave,
        Self::SignInOutage,
    ];

    /// The value of the `rule` label, and the analytic's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AddressFailureSpike => "address_failure_spike",
            Self::NetworkFailureSpike => "network_failure_spike",
            Self::AccountFailureSpike => "account_failure_spike",
            Self::DistributedAttack => "distributed_attack",
            Self::CodeFlood => "code_flood",
            Self::LockoutWave => "lockout_wave",
            Self::SignInOutage => "sign_in_outage",
        }
    }
}

/// The kinds of entity whose behaviour is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntityKind {
    /// An IPv4 address or an IPv6 /64.
    Ip,
    /// An IPv4 /24 or an IPv6 /48.
    Network,
    /// A Clerk user, or the hash of an identifier.
    Account,
    /// A whole Clerk instance.
    Tenant,
}

impl EntityKind {
    /// Every kind, in the order of `as usize`.
    pub const ALL: [Self; 4] = [Self::Ip, Self::Network, Self::Account, Self::Tenant];

    /// The value of the `kind` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Network => "network",
            Self::Account => "account",
            Self::Tenant => "tenant",
        }
    }
}

/// Who or what a finding is about, as a person would write it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Entity {
    /// Address, network, account or tenant.
    pub kind: EntityKind,
    /// `203.0.113.7`, `2001:db8:1:2::/64`, `203.0.113.0/24`, `user_…`, `idh_…`, `ins_…`.
    pub value: String,
}

/// What kind of attack the numbers say it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Many accounts, few tries each: leaked pairs being tried.
    CredentialStuffing,
    /// Many accounts, the same few passwords, in rounds.
    PasswordSpraying,
    /// One account, many tries.
    PasswordGuessing,
    /// Mostly identifiers nobody has.
    Enumeration,
    /// One account, many one-time codes tried.
    CodeGuessing,
    /// Codes sent to people who did not ask, to wear them out or to run up the bill.
    CodeFlood,
    /// Accounts locked on purpose.
    LockoutWave,
    /// Nobody attacks: sign-in itself is broken.
    Outage,
}

impl Shape {
    /// Every shape.
    pub const ALL: [Self; 8] = [
        Self::CredentialStuffing,
        Self::PasswordSpraying,
        Self::PasswordGuessing,
        Self::Enumeration,
        Self::CodeGuessing,
        Self::CodeFlood,
        Self::LockoutWave,
        Self::Outage,
    ];

    /// The value in findings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CredentialStuffing => "credential_stuffing",
            Self::PasswordSpraying => "password_spraying",
            Self::PasswordGuessing => "password_guessing",
            Self::Enumeration => "enumeration",
            Self::CodeGuessing => "code_guessing",
            Self::CodeFlood => "code_flood",
            Self::LockoutWave => "lockout_wave",
            Self::Outage => "outage",
        }
    }

    /// The name a person reads.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::CredentialStuffing => "Credential stuffing",
            Self::PasswordSpraying => "Password spraying",
            Self::PasswordGuessing => "Password guessing",
            Self::Enumeration => "Account enumeration",
            Self::CodeGuessing => "Code guessing",
            Self::CodeFlood => "Flood of one-time codes",
            Self::LockoutWave => "Wave of lock-outs",
            Self::Outage => "Sign-in outage",
        }
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// For the record.
    Informational,
    /// Look at it some day.
    Low,
    /// An attack without a known success.
    Medium,
    /// A large attack, or an account was broken into.
    High,
    /// Several accounts were broken into.
    Critical,
}

impl Severity {
    /// Every severity, mildest first.
    pub const ALL: [Self; 5] = [Self::Informational, Self::Low, Self::Medium, Self::High, Self::Critical];

    /// The value of the `severity` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Informational => "informational",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// The span of one attack, in event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Episode {
    /// Start of the window that opened it; part of the finding's id.
    pub started_at: Timestamp,
    /// The first failure inside that window.
    pub first_seen_at: Timestamp,
    /// The last thing counted.
    pub last_seen_at: Timestamp,
    /// When it was closed.
    pub closed_at: Option<Timestamp>,
}

/// The figures and samples behind a finding. Counts are exact; lists are bounded and say what they leave out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// The window with the highest ratio so far.
    pub peak: WindowEvidence,
    /// What was normal before.
    pub baseline: BaselineEvidence,
    /// Counts over the whole episode, the opening window included.
    pub totals: Totals,
    /// Accounts that were tried; for an account entity, empty.
    pub accounts: Sample,
    /// Addresses that took part; for an address entity, empty.
    pub addresses: Sample,
    /// Clerk's codes, most frequent first.
    pub reasons: Vec<Counted>,
    /// User agents, most frequent first.
    pub user_agents: Vec<Counted>,
    /// Accounts that signed in from the attacking entity, or whose password it got right.
    pub compromised: Vec<Compromised>,
    /// How many there are, listed or not.
    pub compromised_total: u64,
    /// Accounts that signed in, during the attack, from where they had not before, and where that proves little: at an
    /// attack from many networks, from one of those that nobody had signed in from, where people on a journey are among
    /// them; or from an address that many people share.
    #[serde(default)]
    pub suspected: Vec<Compromised>,
    /// How many there are, listed or not.
    #[serde(default)]
    pub suspected_total: u64,
    /// Networks that took part and their failures, most frequent first; for an address entity, empty.
    #[serde(default)]
    pub networks: Vec<Counted>,
    /// How many took part; an estimate (2 %) above a few thousand.
    #[serde(default)]
    pub networks_total: u64,
    /// Entities that crossed their own threshold as part of this attack and got no finding of their own.
    #[serde(default)]
    pub folded_total: u64,
    /// What else it could be: each likely shape and how well the numbers fit it, from 0 to 1, best first.
    #[serde(default)]
    pub shapes: Vec<Likelihood>,
}

/// How well the numbers fit a shape.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Likelihood {
    /// Which.
    pub shape: Shape,
    /// From 0 to 1, to two decimals.
    pub fit: f64,
}

/// What one window counted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct WindowEvidence {
    /// The window is `[start, end]`, inclusive; the failure count is exact for it.
    pub start: Timestamp,
    /// See `start`.
    pub end: Timestamp,
    /// Failed attempts.
    pub failures: u64,
    /// Independent failures: distinct accounts among them (an estimate above a handful).
    pub distinct: u64,
    /// Successes in the same window.
    pub successes: u64,
    /// The count the rule judged divided by `expected`, to one decimal.
    pub ratio: f64,
    /// What the baseline expected in that window.
    pub expected: f64,
    /// The smallest count that would have fired.
    pub threshold: u64,
}

/// What was normal for the entity.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BaselineEvidence {
    /// Where the figure comes from.
    pub source: BaselineSource,
    /// Expected count per day of what the rule judges.
    pub per_day: f64,
    /// How long this entity has been observed, in seconds.
    pub observed_seconds: u64,
    /// How far the tenant's own normal has been learned.
    #[serde(default)]
    pub learning: Learning,
}

/// How far the normal of a tenant has been learned. Until it is, shipped figures and absolute bounds judge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Learning {
    /// Less than a day was seen.
    #[default]
    Learning,
    /// Less than two weeks were seen: the days of the week are not told apart yet.
    Provisional,
    /// Each day of the week was seen twice.
    Learned,
}

impl Learning {
    /// Every state, in order.
    pub const ALL: [Self; 3] = [Self::Learning, Self::Provisional, Self::Learned];

    /// The value in findings and of the `state` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Learning => "learning",
            Self::Provisional => "provisional",
            Self::Learned => "learned",
        }
    }
}

/// Why a window did or did not open a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every condition holds.
    Spike,
    /// Too few failures to matter.
    BelowMinimum,
    /// A shared address: the people who get in from it explain those who fail.
    SharedAddress,
    /// One address of the network explains it; it is judged by itself.
    OneAddress,
    /// Not enough times normal.
    WithinFactor,
    /// Could be chance.
    CouldBeChance,
    /// Sign-in fails for everyone at the moment.
    Outage,
    /// The window reaches back to an attack that was already reported.
    Reported,
    /// The user's allow list covers it.
    Allowed,
}

/// The rung of the ladder a baseline stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BaselineSource {
    /// Nothing learned yet: the shipped figure.
    Prior,
    /// What entities of this kind do at this tenant.
    Tenant,
    /// What this entity itself does.
    Entity,
}

impl BaselineSource {
    /// The value in findings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prior => "prior",
            Self::Tenant => "tenant",
            Self::Entity => "entity",
        }
    }
}

/// Counts over a whole episode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Wrong credentials.
    pub failures: u64,
    /// Of these, identifiers nobody has.
    pub unknown_identifiers: u64,
    /// Sign-ins that went through.
    pub successes: u64,
    /// Right password, stopped by something else.
    pub password_correct_stopped: u64,
    /// Attempts that met a locked account.
    pub locked: u64,
    /// Attempts answered 429.
    pub rate_limited: u64,
    /// Attempts refused by policy or bot rules.
    pub blocked: u64,
    /// One-time codes and magic links sent.
    #[serde(default)]
    pub codes_sent: u64,
}

/// A bounded list and how many there were in all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// The first ones seen, in order of appearance.
    pub values: Vec<String>,
    /// Distinct values in all; exact as long as `exact`, else a lower bound.
    pub total: u64,
    /// Whether `total` is exact.
    pub exact: bool,
}

/// A value and how often it was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// The value.
    pub value: String,
    /// How often.
    pub count: u64,
}

/// An account that should be considered taken over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compromised {
    /// Whose.
    pub account: String,
    /// From where.
    pub address: Option<String>,
    /// When.
    pub at: Timestamp,
    /// What was seen.
    pub how: Compromise,
}

/// What makes us say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compromise {
    /// A session was created.
    SignedIn,
    /// The password was right; a second factor, a device check or a breach check stopped it.
    PasswordCorrect,
}

impl Compromise {
    /// The value in findings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SignedIn => "signed_in",
            Self::PasswordCorrect => "password_correct",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_fixed_for_ever() {
        let entity = Entity { kind: EntityKind::Ip, value: "203.0.113.7".into() };
        let id = finding_id(&"ins_1".into(), Rule::AddressFailureSpike, &entity, Timestamp(1_700_000_000_000));
        assert_eq!(id.get_version_num(), 5);
        // A changed id would make every SIEM see a second finding after an upgrade.
        assert_eq!(id.to_string(), "1428ff73-ccfd-572c-ba25-392eb07715ce");
        assert_ne!(revision_id(id, 1), revision_id(id, 2));
    }
}
