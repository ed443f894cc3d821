//! What may fail without being an attack: a scanner of one's own, a load test, the canary account of a monitoring system.
//!
//! Events of an allowed network leave no trace on that address and that network (and so neither on the tenant); an allowed
//! account is not judged as an account. Nothing else changes: the account that is tried from an allowed network is still
//! judged, and so is the address that tries an allowed account.
//!
//! Invariant: whether an event is allowed depends on the list and on the event's own time, so a replay of last year's
//! events allows what the entries allowed then. An empty list costs one comparison; else an event costs at most one
//! look-up for each prefix length in use, whatever the number of entries.
//!
//! Not here: what is done about an event that is covered (`detect`, `count`).

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;

use foldhash::fast::FixedState;
use ipnet::IpNet;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::event::{Account, IdentifierHash, MAX_ID_BYTES, Tenant, Timestamp};

/// Entries at most. A list of exceptions is kept by hand; one of this length is a feed, which belongs before the log.
pub(crate) const MAX_ENTRIES: usize = 10_000;
/// The wrapper in which the TOML reader hands a date over that is not in quotes.
const TOML_DATE: &str = "$__toml_private_datetime";

/// One line of the list. Exactly one of `cidr` and `account` is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Entry {
    /// A network (`198.51.100.0/24`) or a single address.
    pub cidr: Option<String>,
    /// A Clerk user id, or `idh_…` as findings show an identifier.
    pub account: Option<String>,
    /// Only for this Clerk instance; absent: for all.
    pub tenant: Option<String>,
    /// Events from this moment on are no longer allowed; absent: for ever.
    pub until: Option<Until>,
    /// Required: for whoever finds the entry in two years.
    pub reason: String,
}

impl Entry {
    /// Every fault, as `key: what is wrong`.
    fn validate(&self) -> Vec<&'static str> {
        let mut faults = Vec::new();
        if self.cidr.is_some() == self.account.is_some() {
            faults.push("one of cidr and account must be set, and not both");
        }
        // No fault shows the value: what was put here by mistake may be a secret.
        if self.cidr.as_deref().is_some_and(|cidr| parse_network(cidr).is_none()) {
            faults.push("cidr: is neither a network nor an address");
        }
        if self.account.as_deref().is_some_and(|account| parse_account(account).is_none()) {
            faults.push("account: must be a Clerk user id (user_…) or an identifier as findings show it (idh_…)");
        }
        if self.tenant.as_deref().is_some_and(str::is_empty) {
            faults.push("tenant: must not be empty");
        }
        if self.reason.trim().is_empty() {
            faults.push("reason: must say why");
        }
        faults
    }
}

/// Every fault of a list, as `allow.<place>.key: what is wrong`.
pub(crate) fn validate(entries: &[Entry]) -> Vec<String> {
    if entries.len() > MAX_ENTRIES {
        return vec![format!("allow: must have at most {MAX_ENTRIES} entries")];
    }
    let of_entry = |(place, entry): (usize, &Entry)| {
        entry.validate().into_iter().map(move |fault| match fault.split_once(": ") {
            Some((key, what)) => format!("allow.{place}.{key}: {what}"),
            None => format!("allow.{place}: {fault}"),
        })
    };
    entries.iter().enumerate().flat_map(of_entry).collect()
}

/// A moment, written as RFC 3339 with or without quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Until(pub Timestamp);

impl<'de> Deserialize<'de> for Until {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Moment;
        impl<'de> Visitor<'de> for Moment {
            type Value = Until;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a date and time with its offset, such as 2027-01-31T00:00:00Z")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Until, E> {
                let moment = text
                    .parse::<jiff::Timestamp>()
                    .map_err(|_| E::custom("must be a date and time with its offset, such as 2027-01-31T00:00:00Z"))?;
                Ok(Until(Timestamp(moment.as_millisecond())))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Until, A::Error> {
                match map.next_entry::<String, String>()? {
                    Some((key, text)) if key == TOML_DATE => self.visit_str(&text),
                    _ => Err(de::Error::invalid_type(de::Unexpected::Map, &self)),
                }
            }
        }
        deserializer.deserialize_any(Moment)
    }
}

/// What of an event is not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exempt {
    /// Its address, and its network.
    pub(crate) address: bool,
    /// Its account.
    pub(crate) account: bool,
}

impl Exempt {
    /// Whether anything is.
    pub(crate) const fn any(self) -> bool {
        self.address || self.account
    }
}

/// The list as it is asked for every event.
#[derive(Clone, Debug, Default)]
pub struct AllowList {
    everywhere: Grants,
    tenants: HashMap<Tenant, Grants, FixedState>,
    is_empty: bool,
}

/// What is allowed, and until when.
#[derive(Clone, Debug, Default)]
struct Grants {
    /// Prefix lengths in use, of IPv4 and of IPv6.
    lengths: [Vec<u8>; 2],
    networks: HashMap<IpNet, Timestamp, FixedState>,
    accounts: HashMap<Account, Timestamp, FixedState>,
}

impl AllowList {
    /// The list of these entries. Of entries for the same thing the longest-lived holds; one that is not valid is left out.
    #[must_use]
    pub fn new(entries: &[Entry]) -> Self {
        let mut list = Self { is_empty: entries.is_empty(), ..Self::default() };
        for entry in entries {
            let until = entry.until.map_or(Timestamp(i64::MAX), |until| until.0);
            let grants = match &entry.tenant {
                Some(tenant) => list.tenants.entry(tenant.as_str().into()).or_default(),
                None => &mut list.everywhere,
            };
            if let Some(network) = entry.cidr.as_deref().and_then(parse_network) {
                grants.add_network(network, until);
            }
            if let Some(account) = entry.account.as_deref().and_then(parse_account) {
                let longest = grants.accounts.entry(account).or_insert(until);
                *longest = until.max(*longest);
            }
        }
        list
    }

    /// Whether events of `tenant` from `ip` at `at` are allowed.
    #[must_use]
    pub fn covers_ip(&self, tenant: &Tenant, ip: IpAddr, at: Timestamp) -> bool {
        !self.is_empty && self.grants(tenant).any(|grants| grants.covers_ip(ip, at))
    }

    /// Whether events of `account` at `at` are allowed.
    #[must_use]
    pub fn covers_account(&self, tenant: &Tenant, account: &Account, at: Timestamp) -> bool {
        !self.is_empty
            && self.grants(tenant).any(|grants| grants.accounts.get(account).is_some_and(|until| at < *until))
    }

    /// Both of an event's.
    pub(crate) fn exempt(
        &self,
        tenant: &Tenant,
        ip: Option<IpAddr>,
        account: Option<&Account>,
        at: Timestamp,
    ) -> Exempt {
        if self.is_empty {
            return Exempt::default();
        }
        Exempt {
            address: ip.is_some_and(|ip| self.covers_ip(tenant, ip, at)),
            account: account.is_some_and(|account| self.covers_account(tenant, account, at)),
        }
    }

    fn grants(&self, tenant: &Tenant) -> impl Iterator<Item = &Grants> {
        std::iter::once(&self.everywhere).chain(self.tenants.get(tenant))
    }
}

impl Grants {
    fn add_network(&mut self, network: IpNet, until: Timestamp) {
        let [v4, v6] = &mut self.lengths;
        let lengths = if network.addr().is_ipv4() { v4 } else { v6 };
        if !lengths.contains(&network.prefix_len()) {
            lengths.push(network.prefix_len());
        }
        let longest = self.networks.entry(network).or_insert(until);
        *longest = until.max(*longest);
    }

    fn covers_ip(&self, ip: IpAddr, at: Timestamp) -> bool {
        let [v4, v6] = &self.lengths;
        let lengths = if ip.is_ipv4() { v4 } else { v6 };
        lengths.iter().any(|length| {
            let network = IpNet::new(ip, *length).map(|network| network.trunc());
            network.is_ok_and(|network| self.networks.get(&network).is_some_and(|until| at < *until))
        })
    }
}

/// A network, or an address as the network of itself.
fn parse_network(text: &str) -> Option<IpNet> {
    let parsed = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    Some(parsed.ok()?.trunc())
}

/// An account as findings write it.
fn parse_account(text: &str) -> Option<Account> {
    if let Some(digits) = text.strip_prefix("idh_") {
        let is_hash = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let bits = is_hash.then(|| u128::from_str_radix(digits, 16).ok()).flatten()?;
        return Some(Account::Identifier(IdentifierHash(bits.to_be_bytes())));
    }
    // What a source refuses as a user id can never match.
    let is_id = !text.is_empty()
        && text.len() <= MAX_ID_BYTES
        && !text.chars().any(|char| char == '@' || char == ' ' || char.is_control());
    is_id.then(|| Account::User(text.into()))
}

#[cfg(test)]
mod tests;
