//! The last few thousand sign-in events as they were: what a finding is illustrated with when it opens.
//!
//! An entity's own record holds counts only; who was tried, from where and with which answer is looked up here at the
//! moment a rule fires. Invariant: bounded; at a rate at which the ring turns over within one window, samples are fewer,
//! counts are not.

use std::collections::VecDeque;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::allow::Exempt;
use crate::event::{Account, Outcome, Timestamp};

/// Events kept of a tenant: five minutes at 50 attempts a second, in about 5 MB.
const MAX_EVENTS: usize = 16_384;
/// Events kept of all: eight busy tenants' worth, in about 40 MB.
const MAX_HELD: usize = 8 * MAX_EVENTS;

/// A sign-in event as a finding tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SignIn {
    pub(crate) at: Timestamp,
    pub(crate) tenant: u16,
    pub(crate) outcome: Outcome,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) account: Option<Account>,
    pub(crate) reason: Option<Box<str>>,
    pub(crate) user_agent: Option<Box<str>>,
    /// Nobody had signed in from this network.
    pub(crate) strange: bool,
    /// This account had not signed in from this network.
    pub(crate) novel: bool,
    /// Nor from any with such a device, though it has a history.
    pub(crate) stranger: bool,
    /// What another source told of the same sign-in before.
    pub(crate) again: Again,
    /// What the allow list covered when it was observed.
    pub(crate) exempt: Exempt,
}

/// What was told before of a sign-in that is told of again; of one that is not, nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Again {
    /// It was told of.
    pub(crate) told: bool,
    /// From where: it was counted there.
    pub(crate) address: bool,
    /// Who: it was counted for him.
    pub(crate) account: bool,
}

impl SignIn {
    /// The address, where it counts for its address and network.
    pub(crate) fn counted_ip(&self) -> Option<IpAddr> {
        self.ip.filter(|_| !self.exempt.address)
    }

    /// The account, where it counts for itself.
    pub(crate) fn counted_account(&self) -> Option<&Account> {
        self.account.as_ref().filter(|_| !self.exempt.account)
    }
}

/// The rings, one a tenant: what happens at one is no reason to forget what happened at another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recent {
    /// By the tenant's place.
    rings: Vec<VecDeque<SignIn>>,
    held: usize,
    /// The place of the tenant whose event came last.
    last: usize,
}

impl Recent {
    pub(crate) fn push(&mut self, sign_in: SignIn) {
        self.last = usize::from(sign_in.tenant);
        if self.rings.len() <= self.last {
            self.rings.resize_with(self.last + 1, VecDeque::new);
        }
        if self.held >= MAX_HELD {
            self.make_room();
        }
        let Some(ring) = self.rings.get_mut(self.last) else { return };
        if ring.len() >= MAX_EVENTS {
            ring.pop_front();
            self.held -= 1;
        }
        ring.push_back(sign_in);
        self.held += 1;
    }

    /// Halves the longest ring: rare, and the looking for it is paid for by what it frees.
    fn make_room(&mut self) {
        if let Some(longest) = self.rings.iter_mut().max_by_key(|ring| ring.len()) {
            let freed = longest.len() / 2;
            longest.drain(..freed);
            self.held -= freed;
        }
    }

    /// Takes out the newest success of the tenant at `place` of which `is_it` is true.
    pub(crate) fn take_back(&mut self, place: u16, is_it: impl Fn(&SignIn) -> bool) {
        let Some(ring) = self.rings.get_mut(usize::from(place)) else { return };
        let found = ring.iter().rposition(|one| one.outcome == Outcome::Success && is_it(one));
        if found.and_then(|at| ring.remove(at)).is_some() {
            self.held -= 1;
        }
    }

    /// The account `from` of the tenant at `place` is called `to` from now on.
    pub(crate) fn rename(&mut self, place: u16, from: &Account, to: &Account) {
        let ring = self.rings.get_mut(usize::from(place)).into_iter().flatten();
        for account in ring.filter_map(|sign_in| sign_in.account.as_mut()).filter(|account| *account == from) {
            *account = to.clone();
        }
    }

    /// The last one pushed.
    pub(crate) fn newest(&self) -> Option<&SignIn> {
        self.rings.get(self.last)?.back()
    }

    /// Everything kept of the tenant at `place`, oldest arrival first.
    pub(crate) fn of(&self, place: u16) -> impl Iterator<Item = &SignIn> {
        self.rings.get(usize::from(place)).into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sign_in(tenant: u16, at: i64) -> SignIn {
        SignIn {
            at: Timestamp(at),
            tenant,
            outcome: Outcome::Failure,
            ip: None,
            account: None,
            reason: None,
            user_agent: None,
            strange: false,
            novel: false,
            stranger: false,
            again: Again::default(),
            exempt: Exempt::default(),
        }
    }

    #[test]
    fn a_busy_tenant_pushes_out_nothing_of_a_quiet_one_and_memory_is_bounded() {
        let mut recent = Recent::default();
        recent.push(sign_in(0, 1));
        for at in 0..40_000 {
            recent.push(sign_in(1, at));
        }
        assert_eq!((recent.of(0).count(), recent.of(1).count()), (1, MAX_EVENTS));
        assert_eq!(recent.newest().map(|newest| newest.at), Some(Timestamp(39_999)));
        for tenant in 2..20 {
            for at in 0..20_000 {
                recent.push(sign_in(tenant, at));
            }
        }
        let held: usize = (0..20).map(|tenant| recent.of(tenant).count()).sum();
        assert!(held <= MAX_HELD && held == recent.held, "{held}");
        assert_eq!(recent.of(0).count(), 1, "the longest gives way");
        assert!(recent.of(30).next().is_none());
    }
}
