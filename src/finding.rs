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

mod evidence;

pub use evidence::{
    BaselineEvidence, BaselineSource, Compromise, Compromised, Counted, Evidence, Learning, Likelihood, Sample, Totals,
    Verdict, WindowEvidence,
};

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

impl Finding {
    /// Writes `to` wherever it names the account `from`; answers whether it did. Nothing else changes, ids and counts
    /// least of all.
    pub fn rename_account(&mut self, from: &str, to: &str) -> bool {
        let evidence = &mut self.evidence;
        let lists = evidence.compromised.iter_mut().chain(&mut evidence.suspected).map(|one| &mut one.account);
        let entity = Some(&mut self.entity.value).filter(|_| self.entity.kind == EntityKind::Account);
        let named = lists.chain(&mut evidence.accounts.values).chain(entity).filter(|name| *name == from);
        named.map(|name| to.clone_into(name)).count() > 0
    }
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
    /// Many accounts with a history elsewhere are signed in to from one address or network.
    SuccessFanOut,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 8] = [
        Self::AddressFailureSpike,
        Self::NetworkFailureSpike,
        Self::AccountFailureSpike,
        Self::DistributedAttack,
        Self::CodeFlood,
        Self::LockoutWave,
        Self::SignInOutage,
        Self::SuccessFanOut,
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
            Self::SuccessFanOut => "success_fan_out",
        }
    }
}

/// The kinds of entity whose behaviour is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntityKind {
    /// An IPv4 address or an IPv6 /64.
    Ip,
    /// An IPv4 /24 or an IPv6 /48; in a finding also an IPv6 /56, if it began in one.
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
    /// Many accounts, hardly a failure: a list that was checked before, or sessions gathered elsewhere.
    SuccessFanOut,
}

impl Shape {
    /// Every shape.
    pub const ALL: [Self; 9] = [
        Self::CredentialStuffing,
        Self::PasswordSpraying,
        Self::PasswordGuessing,
        Self::Enumeration,
        Self::CodeGuessing,
        Self::CodeFlood,
        Self::LockoutWave,
        Self::Outage,
        Self::SuccessFanOut,
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
            Self::SuccessFanOut => "success_fan_out",
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
            Self::SuccessFanOut => "Sign-ins by strangers",
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
