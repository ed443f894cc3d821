//! Does the allow list cover an entity now, until when, and why?
//!
//! Invariant: an entity is covered only if every event of it would be. The list is walked entry by entry: a question may take
//! the time that an event may not.
//!
//! Not here: what the list spares an event (`allow`).

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Detector, Subject};
use crate::event::{Network, Tenant};

impl Detector {
    /// Until when and why the allow list covers the whole of `subject` now, if it does: of several entries the longest-lived.
    pub(super) fn allowance(&self, subject: &Subject, tenant: &Tenant) -> Option<String> {
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
