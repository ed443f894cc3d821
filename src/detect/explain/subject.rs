//! Whom is a question about? Entities as findings write them, read back.
//!
//! Invariant: what could never be known (an e-mail address, a network of another length) is refused with the reason, so that
//! it is not mistaken for an entity of which nothing is known.
//!
//! Not here: whether anything is known of it (`explain`).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::event::{Account, IdentifierHash, MAX_ID_BYTES, Network, Tenant};

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
                // A finding may name the /56 that its network's addresses lie in.
                (IpAddr::V4(_), "24") | (IpAddr::V6(_), "48" | "56") => Ok(Self::Network(ip)),
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
