//! One attack on or from one entity, from the window that gave it away to the quiet that ended it.
//!
//! Invariant: severity never falls and no revision takes back what an earlier one said; each revision is complete in
//! itself. Everything an episode holds is bounded.
//!
//! Not here: when to open, update and close (`detect`).

use serde::{Deserialize, Serialize};
use uuid::Uuid;

mod compromise;

use super::heavy::HeavyHitters;
use super::key::{Counter, Key};
use super::narrow::Narrow;
use super::recent::SignIn;
use super::rules::Span;
use super::shape::{self, Figures};
use super::tally::{Distinct, OF_ENTITY, OF_TENANT};
use crate::event::{Account, Address, Network, Outcome, Tenant, Timestamp};
use crate::finding::{
    self, BaselineEvidence, Entity, EntityKind, Evidence, Finding, Lifecycle, Likelihood, Rule, Severity, Shape,
    Totals, WindowEvidence,
};
use compromise::{Compromises, pair_of};

/// Different reasons, user agents or networks counted per episode; Clerk has about 50 codes for a sign-in.
const MAX_COUNTED: u32 = 32;
/// Rows a finding shows.
const MAX_SHOWN: usize = 10;
/// An attack this large is high severity even without a known success.
const LARGE_DISTINCT: u64 = 100;
/// See [`LARGE_DISTINCT`].
const LARGE_RATIO: f64 = 500.0;
/// So many compromised accounts are critical.
const CRITICAL_COMPROMISED: u64 = 3;

/// An episode, open or lingering.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Episode {
    pub(crate) key: Key,
    rule: Rule,
    pub(crate) span: Span,
    tenant: Tenant,
    entity: Entity,
    finding_id: Uuid,
    revision: u32,
    correlation: Option<Uuid>,
    network: Option<Key>,
    strange: bool,
    pub(crate) severity: Severity,
    shape: Shape,
    started_at: Timestamp,
    first_seen_at: Timestamp,
    last_seen_at: Timestamp,
    closed_at: Option<Timestamp>,
    /// The watermark when it opened.
    opened_at: Timestamp,
    /// The watermark at the last failure that kept it open.
    pub(crate) last_active_at: Timestamp,
    last_emitted_at: Timestamp,
    /// Something was counted since the last revision.
    pub(crate) grew: bool,
    peak: WindowEvidence,
    baseline: BaselineEvidence,
    totals: Totals,
    code_failures: u64,
    accounts: Distinct,
    addresses: Distinct,
    /// Those that failed for several accounts.
    busy: Distinct,
    /// Who failed from which of them: whoever mistypes and then gets in is not broken into.
    pairs: Distinct,
    networks: HeavyHitters<String>,
    networks_seen: Distinct,
    /// Where in an IPv6 network its addresses lie.
    narrow: Narrow,
    reasons: HeavyHitters<String>,
    user_agents: HeavyHitters<String>,
    compromised: Compromises,
    suspected: Compromises,
    folded: u64,
}

/// What an episode begins with.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    pub(crate) key: Key,
    pub(crate) rule: Rule,
    pub(crate) span: Span,
    pub(crate) tenant: Tenant,
    pub(crate) entity: Entity,
    pub(crate) correlation: Option<Uuid>,
    /// The network of an address.
    pub(crate) network: Option<Key>,
    /// Nobody signs in from there.
    pub(crate) strange: bool,
    pub(crate) peak: WindowEvidence,
    /// Addresses it is about so far, where it is not about all that its key stands for.
    pub(crate) only: Option<Vec<Address>>,
    pub(crate) baseline: BaselineEvidence,
    /// The watermark.
    pub(crate) now: Timestamp,
}

impl Episode {
    /// The episode that `opening` gives rise to.
    pub(crate) fn open(opening: Opening) -> Self {
        let capacity = if opening.key.counter.kind() == EntityKind::Tenant { OF_TENANT } else { OF_ENTITY };
        let distinct = || Distinct::new(capacity);
        let Opening { key, rule, span, tenant, entity, correlation, network, strange, peak, only: _, baseline, now } =
            opening;
        Self {
            key,
            rule,
            span,
            finding_id: finding::finding_id(&tenant, rule, &entity, peak.start),
            tenant,
            entity,
            revision: 0,
            correlation,
            network,
            strange,
            severity: if key.counter == Counter::TenantOutage { Severity::Low } else { Severity::Medium },
            shape: match key.counter {
                _ if rule == Rule::SuccessFanOut => Shape::SuccessFanOut,
                Counter::Account => Shape::PasswordGuessing,
                Counter::AddressCodes | Counter::AccountCodes => Shape::CodeFlood,
                Counter::TenantLocks => Shape::LockoutWave,
                Counter::TenantOutage => Shape::Outage,
                Counter::Address | Counter::Network | Counter::Tenant => Shape::CredentialStuffing,
                Counter::AddressFanOut | Counter::NetworkFanOut => Shape::SuccessFanOut,
            },
            started_at: peak.start,
            first_seen_at: peak.end,
            last_seen_at: peak.end,
            closed_at: None,
            opened_at: now,
            last_active_at: now,
            last_emitted_at: peak.end,
            grew: false,
            peak,
            baseline,
            totals: Totals::default(),
            code_failures: 0,
            accounts: distinct(),
            addresses: distinct(),
            busy: distinct(),
            pairs: distinct(),
            networks: HeavyHitters::new(MAX_COUNTED),
            networks_seen: distinct(),
            narrow: Narrow::default(),
            reasons: HeavyHitters::new(MAX_COUNTED),
            user_agents: HeavyHitters::new(MAX_COUNTED),
            compromised: Compromises::new(capacity),
            suspected: Compromises::new(capacity),
            folded: 0,
        }
    }

    pub(crate) const fn finding_id(&self) -> Uuid {
        self.finding_id
    }

    pub(crate) const fn correlation(&self) -> Option<Uuid> {
        self.correlation
    }

    /// Its highest window.
    pub(crate) const fn peak(&self) -> &WindowEvidence {
        &self.peak
    }

    /// The address it is about, if it is about one.
    pub(crate) fn address(&self) -> Option<Address> {
        let ip = self.entity.value.split('/').next()?;
        if self.key.counter == Counter::Address { ip.parse().ok().map(Address::of) } else { None }
    }

    /// An address is part of this attack.
    pub(crate) fn take_part(&mut self, address: Address) {
        let hash = Key::address(0, address).bits();
        // Past those that are told apart, by attempts: they lie where the addresses do.
        if self.key.counter.kind() == EntityKind::Network && !self.addresses.contains(hash) {
            self.narrow.add(address.first());
        }
        self.addresses.add(hash, || address.to_string());
    }

    /// It turns out to be part of a larger attack; its next revision says so.
    pub(crate) fn join(&mut self, whole: Option<Uuid>) {
        self.correlation = whole;
        self.grew = true;
    }

    /// Whether it began where nobody signs in.
    pub(crate) const fn is_strange(&self) -> bool {
        self.strange
    }

    pub(crate) const fn opened_at(&self) -> Timestamp {
        self.opened_at
    }

    /// Whether it is about an address of `network`.
    pub(crate) fn is_of(&self, network: &Key) -> bool {
        self.network.as_ref() == Some(network)
    }

    /// Whether strangers who got in opened it, not failures.
    pub(crate) fn is_fan_out(&self) -> bool {
        self.rule == Rule::SuccessFanOut
    }

    /// The account `from` is called `to` from now on, in all that is told; answers whether it was named. What was counted
    /// stays as it is.
    pub(crate) fn rename(&mut self, from: &Account, to: &Account) -> bool {
        let tenant = self.key.tenant;
        let (was, is) = (Key::account(tenant, from), Key::account(tenant, to));
        let (name, new_name) = (from.to_string(), to.to_string());
        let is_about = self.key.counter.is_account() && self.key.id == was.id;
        if is_about {
            self.key = is.of(self.key.counter);
            self.entity.value.clone_from(&new_name);
        }
        // Without the tenant: inside an episode there is one.
        let (was, is) = ((was.bits(), name.as_str()), (is.bits(), new_name.as_str()));
        let lists = [self.accounts.rename(was, is), self.compromised.rename(was, is), self.suspected.rename(was, is)];
        is_about || lists.contains(&true)
    }

    /// Whether the event is what it is about.
    pub(crate) fn counts(&self, sign_in: &SignIn) -> bool {
        if self.is_fan_out() { sign_in.stranger } else { self.key.counter.counts(sign_in.outcome) }
    }

    pub(crate) const fn is_closed(&self) -> bool {
        self.closed_at.is_some()
    }

    /// The windows counted more than the ring of recent events still holds: the exact figure wins.
    pub(crate) fn at_least_failures(&mut self, failures: u64) {
        self.totals.failures = self.totals.failures.max(failures);
    }

    /// Whether a window with this `ratio` would be the highest so far.
    pub(crate) fn is_new_peak(&self, ratio: f64) -> bool {
        ratio > self.peak.ratio
    }

    /// A window of this entity was judged again.
    pub(crate) fn raise_peak(&mut self, window: WindowEvidence) {
        if self.is_new_peak(window.ratio) {
            self.peak = window;
        }
    }

    /// An entity that is part of this attack crossed its own threshold.
    pub(crate) fn fold(&mut self, address: Option<Address>) {
        self.folded += 1;
        self.grew = true;
        if let Some(address) = address {
            self.take_part(address);
        }
    }

    /// Counts a sign-in event of this entity.
    pub(crate) fn absorb(&mut self, sign_in: &SignIn) {
        self.grew = true;
        self.first_seen_at =
            if self.totals == Totals::default() { sign_in.at } else { self.first_seen_at.min(sign_in.at) };
        self.last_seen_at = self.last_seen_at.max(sign_in.at);
        let address = sign_in.ip.map(Address::of);
        match sign_in.outcome {
            Outcome::Failure => self.absorb_failure(sign_in),
            Outcome::Success => self.totals.successes += 1,
            Outcome::PasswordCorrectStopped => self.totals.password_correct_stopped += 1,
            Outcome::Locked => self.totals.locked += 1,
            Outcome::RateLimited => self.totals.rate_limited += 1,
            Outcome::Blocked => self.totals.blocked += 1,
            Outcome::CodeSent => self.totals.codes_sent += 1,
            Outcome::Challenge
            | Outcome::AccountChanged
            | Outcome::AccountDeleted
            | Outcome::SessionEnded
            | Outcome::Other => {}
        }
        if sign_in.outcome != Outcome::Failure && self.counts(sign_in) {
            self.absorb_parties(sign_in, address);
        }
        self.absorb_compromise(sign_in, address);
    }

    /// The same of an event that came while it was open: of a success that was told of before only what is news counts.
    pub(crate) fn absorb_newest(&mut self, sign_in: &SignIn) {
        let of_account = self.key.counter.kind() == EntityKind::Account;
        if !(if of_account { sign_in.again.account } else { sign_in.again.address }) {
            return self.absorb(sign_in);
        }
        let address = sign_in.ip.map(Address::of);
        if self.counts(sign_in) {
            self.grew = true;
            self.absorb_parties(sign_in, address);
        }
        let named = |episode: &Self| episode.compromised.total() + episode.suspected.total();
        let before = named(self);
        self.absorb_compromise(sign_in, address);
        self.grew |= named(self) > before;
    }

    fn absorb_failure(&mut self, sign_in: &SignIn) {
        self.totals.failures += 1;
        self.totals.unknown_identifiers += u64::from(sign_in.reason.as_deref() == Some("form_identifier_not_found"));
        self.code_failures += u64::from(sign_in.reason.as_deref().is_some_and(|reason| reason.contains("code")));
        self.absorb_parties(sign_in, sign_in.ip.map(Address::of));
    }

    /// Who was tried, from where, with which answer.
    fn absorb_parties(&mut self, sign_in: &SignIn, address: Option<Address>) {
        let kind = self.key.counter.kind();
        if let Some(account) = &sign_in.account
            && kind != EntityKind::Account
        {
            self.accounts.add(Key::account(0, account).bits(), || account.to_string());
        }
        if let Some(address) = address
            && kind != EntityKind::Ip
        {
            let (hash, pair) = (Key::address(0, address).bits(), pair_of(sign_in));
            if self.addresses.contains(hash) && !self.pairs.contains(pair) {
                self.busy.add(hash, String::new);
            }
            self.take_part(address);
            self.pairs.add(pair, String::new);
        }
        if let Some(ip) = sign_in.ip
            && matches!(kind, EntityKind::Account | EntityKind::Tenant)
        {
            let network = Network::of(ip);
            self.networks_seen.add(Key::network(0, network).bits(), String::new);
            self.networks.add(network.to_string().as_str(), 1);
        }
        if let Some(reason) = &sign_in.reason {
            self.reasons.add(&**reason, 1);
        }
        if let Some(user_agent) = &sign_in.user_agent {
            self.user_agents.add(&**user_agent, 1);
        }
    }

    /// Judges severity and shape anew; answers whether a revision should not wait.
    pub(crate) fn reassess(&mut self) -> bool {
        let before = self.severity;
        self.severity = self.severity.max(self.current_severity());
        let likely = self.likelihoods();
        let fit = |shape: Shape| likely.iter().find(|one| one.shape == shape).map_or(0.0, |one| one.fit);
        if let Some(best) = likely.first()
            && best.fit > fit(self.shape) + if self.revision == 0 { 0.0 } else { shape::MARGIN }
        {
            self.shape = best.shape;
        }
        self.severity > before
    }

    fn current_severity(&self) -> Severity {
        if self.key.counter == Counter::TenantOutage {
            return Severity::Low;
        }
        let compromised = self.compromised.total();
        if compromised >= CRITICAL_COMPROMISED {
            Severity::Critical
        } else if compromised > 0
            // Of a whole tenant, some are on a journey; from the attacking address itself it is a fair guess.
            || (self.suspected.total() > 0 && self.key.counter != Counter::Tenant)
            || self.accounts.total().max(self.peak.distinct) >= LARGE_DISTINCT
            || self.peak.ratio >= LARGE_RATIO
        {
            Severity::High
        } else {
            Severity::Medium
        }
    }

    fn likelihoods(&self) -> Vec<Likelihood> {
        shape::likelihoods(&Figures {
            counter: self.key.counter,
            is_fan_out: self.is_fan_out(),
            totals: self.totals,
            accounts: self.accounts.total(),
            code_failures: self.code_failures,
            compromised: self.compromised.total(),
        })
    }

    /// The next revision.
    pub(crate) fn revise(&mut self, lifecycle: Lifecycle, at: Timestamp) -> Finding {
        self.revision += 1;
        self.grew = false;
        self.last_emitted_at = self.last_emitted_at.max(at);
        if lifecycle == Lifecycle::Closed {
            self.closed_at = self.closed_at.or(Some(self.last_emitted_at));
        }
        self.view(lifecycle)
    }

    /// The newest revision.
    pub(crate) fn current(&self) -> Finding {
        self.view(match (self.is_closed(), self.revision) {
            (true, _) => Lifecycle::Closed,
            (false, 1) => Lifecycle::Opened,
            (false, _) => Lifecycle::Updated,
        })
    }

    fn view(&self, lifecycle: Lifecycle) -> Finding {
        Finding {
            finding_id: self.finding_id,
            revision_id: finding::revision_id(self.finding_id, self.revision),
            revision: self.revision,
            lifecycle,
            at: self.last_emitted_at,
            tenant: self.tenant.clone(),
            rule: self.rule,
            entity: self.entity.clone(),
            shape: self.shape,
            severity: self.severity,
            episode: finding::Episode {
                started_at: self.started_at,
                first_seen_at: self.first_seen_at,
                last_seen_at: self.last_seen_at,
                closed_at: self.closed_at,
            },
            correlation: self.correlation,
            evidence: self.evidence(),
        }
    }

    fn evidence(&self) -> Evidence {
        Evidence {
            peak: self.peak,
            baseline: self.baseline,
            totals: self.totals,
            accounts: self.accounts.sample(),
            addresses: self.addresses.sample(),
            reasons: self.reasons.shown(MAX_SHOWN),
            user_agents: self.user_agents.shown(MAX_SHOWN),
            compromised: self.compromised.listed.clone(),
            compromised_total: self.compromised.total(),
            suspected: self.suspected.listed.clone(),
            suspected_total: self.suspected.total(),
            networks: self.networks.shown(MAX_SHOWN),
            networks_total: self.networks_seen.total(),
            within: self.narrow.within(&self.key).map(|within| within.to_string()),
            folded_total: self.folded,
            shapes: self.likelihoods(),
            cut_from_bytes: None,
        }
    }
}
