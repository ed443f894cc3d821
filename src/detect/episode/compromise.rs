//! Who was broken into: the accounts an attack got in to, and those it may have.
//!
//! Invariant: an account is named as compromised only if it had never signed in from there and what it came from was
//! attacking others; whatever proves less is suspected. Lists are bounded, totals are not.

use serde::{Deserialize, Serialize};

use super::Episode;
use crate::detect::key::{Counter, Key, pair};
use crate::detect::recent::SignIn;
use crate::detect::tally::Distinct;
use crate::event::{Address, Outcome};
use crate::finding::{Compromise, Compromised};

/// Compromised accounts listed in a finding; more than a team can lock by hand, few enough for one SIEM record.
const MAX_COMPROMISED: usize = 250;
/// Suspected ones.
const MAX_SUSPECTED: usize = 250;
/// The same for a tenant: a query is run over them, and a day's travellers are among them.
const MAX_SUSPECTED_OF_TENANT: usize = 2000;

/// Accounts, each once: the first by name, all of them counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Compromises {
    pub(super) listed: Vec<Compromised>,
    accounts: Distinct,
}

impl Compromises {
    pub(super) fn new(capacity: u32) -> Self {
        Self { listed: Vec::new(), accounts: Distinct::new(capacity) }
    }

    fn add(&mut self, max: usize, hash: u64, compromised: impl FnOnce() -> Compromised) {
        if self.accounts.contains(hash) {
            return;
        }
        self.accounts.add(hash, String::new);
        if self.listed.len() < max {
            self.listed.push(compromised());
        }
    }

    /// One account is another from now on; answers whether it was listed.
    pub(super) fn rename(&mut self, from: (u64, &str), to: (u64, &str)) -> bool {
        self.accounts.rename(from, to);
        let listed = self.listed.iter_mut().filter(|one| one.account == from.1);
        listed.map(|one| to.1.clone_into(&mut one.account)).count() > 0
    }

    pub(super) fn total(&self) -> u64 {
        self.accounts.total()
    }
}

impl Episode {
    /// Whether the event comes from an address that took part.
    pub(crate) fn implicates(&self, sign_in: &SignIn) -> bool {
        sign_in.ip.is_some_and(|ip| self.addresses.contains(Key::address(0, Address::of(ip)).bits()))
    }

    /// Whether the account with these bits is named as broken into, or may be.
    pub(crate) fn names(&self, account: u64) -> bool {
        self.compromised.accounts.contains(account) || self.suspected.accounts.contains(account)
    }

    /// A success after the end of the attack; answers whether it names an account that was not named before.
    pub(crate) fn absorb_late(&mut self, sign_in: &SignIn) -> bool {
        let named = |episode: &Self| {
            // Of a whole tenant there is always somebody on a journey.
            let suspected = if episode.key.counter == Counter::Tenant { 0 } else { episode.suspected.total() };
            episode.compromised.total() + suspected
        };
        let before = named(self);
        self.absorb_compromise(sign_in, sign_in.ip.map(Address::of));
        named(self) > before
    }

    pub(super) fn absorb_compromise(&mut self, sign_in: &SignIn, address: Option<Address>) {
        let how = if sign_in.outcome == Outcome::Success {
            Compromise::SignedIn
        } else if sign_in.outcome == Outcome::PasswordCorrectStopped {
            Compromise::PasswordCorrect
        } else {
            return;
        };
        // An account that always signs in from there is a victim's neighbour, not a victim.
        let (Some(account), true) = (&sign_in.account, sign_in.novel) else { return };
        // Of many addresses with a few failures each some are people who mistype away from home. An address that failed for
        // several accounts and now gets in to another is no such person.
        let is_busy = address.is_some_and(|address| self.busy.contains(Key::address(0, address).bits()));
        let others_failed_there = is_busy && !self.pairs.contains(pair_of(sign_in));
        let (sure, likely) = match self.key.counter {
            // Of those who get in where strangers do, some have a device that happens to be known.
            Counter::Address | Counter::Network if self.is_fan_out() => (self.strange && sign_in.stranger, true),
            // Where many people sign in, one who had not before may be just that.
            Counter::Address | Counter::Network => (self.strange, true),
            Counter::Account => (self.implicates(sign_in), true),
            // Whoever has just mistyped is a person.
            Counter::Tenant => (others_failed_there, sign_in.strange && !self.pairs.contains(pair_of(sign_in))),
            Counter::AddressCodes
            | Counter::AccountCodes
            | Counter::AddressFanOut
            | Counter::NetworkFanOut
            | Counter::TenantLocks
            | Counter::TenantOutage => return,
        };
        let (list, max) = match (sure, likely) {
            (true, _) => (&mut self.compromised, MAX_COMPROMISED),
            (false, true) if self.key.counter == Counter::Tenant => (&mut self.suspected, MAX_SUSPECTED_OF_TENANT),
            (false, true) => (&mut self.suspected, MAX_SUSPECTED),
            (false, false) => return,
        };
        list.add(max, Key::account(0, account).bits(), || Compromised {
            account: account.to_string(),
            address: address.map(|address| address.to_string()),
            at: sign_in.at,
            how,
        });
    }
}

pub(super) fn pair_of(sign_in: &SignIn) -> u64 {
    let address = sign_in.ip.map_or(0, |ip| Key::address(0, Address::of(ip)).bits());
    let account = sign_in.account.as_ref().map_or(0, |account| Key::account(0, account).bits());
    pair(address, account)
}
