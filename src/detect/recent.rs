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

/// Events kept: five minutes at 50 attempts a second, in about 5 MB.
const MAX_EVENTS: usize = 16_384;

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
    /// What the allow list covered when it was observed.
    pub(crate) exempt: Exempt,
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

/// The ring.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recent(VecDeque<SignIn>);

impl Recent {
    pub(crate) fn push(&mut self, sign_in: SignIn) {
        if self.0.len() >= MAX_EVENTS {
            self.0.pop_front();
        }
        self.0.push_back(sign_in);
    }

    /// The last one pushed.
    pub(crate) fn newest(&self) -> Option<&SignIn> {
        self.0.back()
    }

    /// Everything kept, oldest arrival first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &SignIn> {
        self.0.iter()
    }
}
