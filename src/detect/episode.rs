//! One attack on or from one entity, from the window that gave it away to the quiet that ended it.
//!
//! Invariant: severity never falls and no revision takes back what an earlier one said; each revision is complete in
//! itself. Everything an episode holds is bounded.
//!
//! Not here: when to open, update and close (`detect`).

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::entity::Key;
use super::recent::SignIn;
use super::rules::{Judgement, rule_of};
use super::tally::{Distinct, Frequencies};
use crate::event::{Address, Outcome, Tenant, Timestamp};
use crate::finding::{
    self, BaselineEvidence, Compromise, Compromised, Entity, EntityKind, Evidence, Finding, Lifecycle, Rule, Severity,
    Shape, Totals, WindowEvidence,
};

/// Compromised accounts listed in a finding; more than a team can lock by hand, few enough for one SIEM record.
const MAX_COMPROMISED: usize = 100;
/// An attack this large is high severity even without a known success.
const LARGE_DISTINCT: u64 = 100;
/// See [`LARGE_DISTINCT`].
const LARGE_RATIO: f64 = 500.0;
/// So many compromised accounts are critical.
const CRITICAL_COMPROMISED: u64 = 3;
/// From this share of unknown identifiers on, somebody is looking for accounts, not for passwords: of a leaked list, 5 to
/// 30 % exist at any one app.
const ENUMERATION_SHARE: f64 = 0.97;
/// Below this share of unknown identifiers the attacker works from a list of real accounts.
const SPRAYING_MAX_UNKNOWN: f64 = 0.3;
/// So many tries per account, over many accounts, are rounds.
const SPRAYING_TRIES: f64 = 2.0;

/// An open episode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Episode {
    /// Where its entity lies in the table.
    pub(crate) place: u32,
    pub(crate) key: Key,
    tenant: Tenant,
    entity: Entity,
    finding_id: Uuid,
    revision: u32,
    pub(crate) severity: Severity,
    shape: Shape,
    started_at: Timestamp,
    first_seen_at: Timestamp,
    last_seen_at: Timestamp,
    /// The watermark at the last failure that kept it open.
    pub(crate) last_active_at: Timestamp,
    last_emitted_at: Timestamp,
    /// Something was counted since the last revision.
    pub(crate) grew: bool,
    peak: WindowEvidence,
    baseline: BaselineEvidence,
    totals: Totals,
    accounts: Distinct,
    addresses: Distinct,
    reasons: Frequencies,
    user_agents: Frequencies,
    compromised: Vec<Compromised>,
    compromised_accounts: Distinct,
}

impl Episode {
    /// An episode that the window `peak` gives rise to.
    pub(crate) fn open(
        place: u32,
        key: Key,
        tenant: Tenant,
        entity: Entity,
        peak: WindowEvidence,
        baseline: BaselineEvidence,
    ) -> Self {
        let rule = rule_of(key.kind);
        Self {
            place,
            key,
            finding_id: finding::finding_id(&tenant, rule, &entity, peak.start),
            tenant,
            entity,
            revision: 0,
            severity: Severity::Medium,
            shape: if key.kind == EntityKind::Account { Shape::PasswordGuessing } else { Shape::CredentialStuffing },
            started_at: peak.start,
            first_seen_at: peak.end,
            last_seen_at: peak.end,
            last_active_at: peak.end,
            last_emitted_at: peak.end,
            grew: false,
            peak,
            baseline,
            totals: Totals::default(),
            accounts: Distinct::default(),
            addresses: Distinct::default(),
            reasons: Frequencies::default(),
            user_agents: Frequencies::default(),
            compromised: Vec::new(),
            compromised_accounts: Distinct::default(),
        }
    }

    pub(crate) fn rule(&self) -> Rule {
        rule_of(self.key.kind)
    }

    /// The windows counted more than the ring of recent events still holds: the exact figure wins.
    pub(crate) fn at_least_failures(&mut self, failures: u64) {
        self.totals.failures = self.totals.failures.max(failures);
    }

    /// Whether the judged window would be the highest so far.
    pub(crate) fn is_new_peak(&self, judgement: &Judgement<'_>) -> bool {
        judgement.ratio() > self.peak.ratio
    }

    /// A window of this entity was judged again.
    pub(crate) fn raise_peak(&mut self, window: WindowEvidence) {
        if window.ratio > self.peak.ratio {
            self.peak = window;
        }
    }

    /// Counts a sign-in event of this entity.
    pub(crate) fn absorb(&mut self, sign_in: &SignIn) {
        self.grew = true;
        self.first_seen_at =
            if self.totals == Totals::default() { sign_in.at } else { self.first_seen_at.min(sign_in.at) };
        self.last_seen_at = self.last_seen_at.max(sign_in.at);
        let address = sign_in.ip.map(Address::of);
        let address_hash = address.map(|address| Key::address(0, address).bits());
        match sign_in.outcome {
            Outcome::Failure => self.absorb_failure(sign_in, address, address_hash),
            Outcome::Success => self.totals.successes += 1,
            Outcome::PasswordCorrectStopped => self.totals.password_correct_stopped += 1,
            Outcome::Locked => self.totals.locked += 1,
            Outcome::RateLimited => self.totals.rate_limited += 1,
            Outcome::Blocked => self.totals.blocked += 1,
            Outcome::Challenge
            | Outcome::CodeSent
            | Outcome::AccountChanged
            | Outcome::AccountDeleted
            | Outcome::SessionEnded
            | Outcome::Other => {}
        }
        let implicated =
            self.key.kind == EntityKind::Ip || address_hash.is_some_and(|hash| self.addresses.contains(hash));
        if implicated {
            self.absorb_compromise(sign_in, address);
        }
    }

    fn absorb_failure(&mut self, sign_in: &SignIn, address: Option<Address>, address_hash: Option<u64>) {
        self.totals.failures += 1;
        if sign_in.reason.as_deref() == Some("form_identifier_not_found") {
            self.totals.unknown_identifiers += 1;
        }
        if let Some(account) = &sign_in.account
            && self.key.kind != EntityKind::Account
        {
            self.accounts.add(Key::account(0, account).bits(), || account.to_string());
        }
        if let (Some(address), Some(hash)) = (address, address_hash)
            && self.key.kind != EntityKind::Ip
        {
            self.addresses.add(hash, || address.to_string());
        }
        if let Some(reason) = &sign_in.reason {
            self.reasons.add(reason);
        }
        if let Some(user_agent) = &sign_in.user_agent {
            self.user_agents.add(user_agent);
        }
    }

    fn absorb_compromise(&mut self, sign_in: &SignIn, address: Option<Address>) {
        let how = if sign_in.outcome == Outcome::Success {
            Compromise::SignedIn
        } else if sign_in.outcome == Outcome::PasswordCorrectStopped {
            Compromise::PasswordCorrect
        } else {
            return;
        };
        let Some(account) = &sign_in.account else { return };
        let hash = Key::account(0, account).bits();
        if self.compromised_accounts.contains(hash) {
            return;
        }
        self.compromised_accounts.add(hash, String::new);
        if self.compromised.len() < MAX_COMPROMISED {
            self.compromised.push(Compromised {
                account: account.to_string(),
                address: address.map(|address| address.to_string()),
                at: sign_in.at,
                how,
            });
        }
    }

    /// Judges severity and shape anew; answers whether a revision should not wait.
    pub(crate) fn reassess(&mut self) -> bool {
        let compromised = self.compromised_accounts.sample().total;
        let severity = if compromised >= CRITICAL_COMPROMISED {
            Severity::Critical
        } else if compromised > 0
            || self.accounts.sample().total.max(self.peak.distinct) >= LARGE_DISTINCT
            || self.peak.ratio >= LARGE_RATIO
        {
            Severity::High
        } else {
            Severity::Medium
        };
        let before = self.severity;
        self.severity = self.severity.max(severity);
        self.shape = self.current_shape();
        self.severity > before
    }

    fn current_shape(&self) -> Shape {
        if self.key.kind == EntityKind::Account {
            return Shape::PasswordGuessing;
        }
        #[expect(clippy::cast_precision_loss, reason = "shares and means need no more than 52 bits")]
        let (failures, unknown, accounts) = (
            self.totals.failures.max(1) as f64,
            self.totals.unknown_identifiers as f64,
            self.accounts.sample().total.max(1) as f64,
        );
        if unknown / failures >= ENUMERATION_SHARE && self.compromised.is_empty() {
            Shape::Enumeration
        } else if failures / accounts >= SPRAYING_TRIES && unknown / failures < SPRAYING_MAX_UNKNOWN {
            Shape::PasswordSpraying
        } else {
            Shape::CredentialStuffing
        }
    }

    /// The next revision.
    pub(crate) fn revise(&mut self, lifecycle: Lifecycle, at: Timestamp) -> Finding {
        self.revision += 1;
        self.grew = false;
        self.last_emitted_at = self.last_emitted_at.max(at);
        self.view(lifecycle)
    }

    /// The newest revision, as an opened or updated finding.
    pub(crate) fn current(&self) -> Finding {
        self.view(if self.revision == 1 { Lifecycle::Opened } else { Lifecycle::Updated })
    }

    fn view(&self, lifecycle: Lifecycle) -> Finding {
        Finding {
            finding_id: self.finding_id,
            revision_id: finding::revision_id(self.finding_id, self.revision),
            revision: self.revision,
            lifecycle,
            at: self.last_emitted_at,
            tenant: self.tenant.clone(),
            rule: self.rule(),
            entity: self.entity.clone(),
            shape: self.shape,
            severity: self.severity,
            episode: finding::Episode {
                started_at: self.started_at,
                first_seen_at: self.first_seen_at,
                last_seen_at: self.last_seen_at,
                closed_at: (lifecycle == Lifecycle::Closed).then_some(self.last_emitted_at),
            },
            evidence: Evidence {
                peak: self.peak,
                baseline: self.baseline,
                totals: self.totals,
                accounts: self.accounts.sample(),
                addresses: self.addresses.sample(),
                reasons: self.reasons.shown(),
                user_agents: self.user_agents.shown(),
                compromised: self.compromised.clone(),
                compromised_total: self.compromised_accounts.sample().total,
            },
        }
    }
}
