//! What happened: one [`AuthEvent`], the vocabulary every other module speaks.
//!
//! Invariant: nothing here can hold a password, a one-time code, an e-mail address or a message body. An identifier a
//! person typed is present only as its keyed hash ([`IdentifierHash`]).
//!
//! Not here: how a source's bytes become an event (`normalize`) and what an event means for an entity (`detect`).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

pub mod mention;

/// A moment, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This moment moved by `millis` (negative: earlier), saturating.
    #[must_use]
    pub const fn plus_millis(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Milliseconds from `earlier` to this moment; negative when `earlier` is later.
    #[must_use]
    pub const fn millis_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with milliseconds; a moment outside the years that format can hold prints as its number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(moment) => write!(f, "{moment:.3}"),
            Err(_) => write!(f, "{} ms", self.0),
        }
    }
}

/// A Clerk instance (`ins_…`): the unit whose normal is learned and whose findings are kept apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tenant(pub Box<str>);

impl Tenant {
    /// The tenant of events that name no instance (2022-style webhook bodies, attempts without `instance_id`).
    pub const UNNAMED: &'static str = "default";
    /// In a request to forget an account: whichever instance has it.
    pub const EVERY: &'static str = "*";

    /// Whether what is asked of this tenant is asked of `other`.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self == other || *self.0 == *Self::EVERY
    }
}

impl From<&str> for Tenant {
    fn from(value: &str) -> Self {
        Self(value.into())
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Keyed hash of an identifier (e-mail address, phone number, user name): the first 128 bits of an HMAC-SHA256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct IdentifierHash(pub [u8; 16]);

impl fmt::Display for IdentifierHash {
    /// `idh_` and 32 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "idh_{:032x}", u128::from_be_bytes(self.0))
    }
}

/// Whose sign-in it was: a Clerk user id where one is known, else the hash of the identifier that was tried.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Account {
    /// `user_…`
    User(Box<str>),
    /// Only an identifier was seen; it may belong to nobody.
    Identifier(IdentifierHash),
}

impl Account {
    /// The account that is written `text`: `idh_` and 32 hexadecimal digits are an identifier, anything else a user id.
    #[must_use]
    pub fn named(text: &str) -> Self {
        let digits = text.strip_prefix("idh_").filter(|digits| digits.len() == 32);
        match digits.and_then(|digits| u128::from_str_radix(digits, 16).ok()) {
            Some(bits) => Self::Identifier(IdentifierHash(bits.to_be_bytes())),
            None => Self::User(text.into()),
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => f.write_str(id),
            Self::Identifier(hash) => hash.fmt(f),
        }
    }
}

/// Where an event came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Source {
    /// `POST /webhooks/clerk`. Carries successes and account state, never a failed sign-in.
    ClerkWebhook,
    /// `POST /v1/attempts`. Carries failures.
    AttemptReport,
    /// A record of somebody else's log, by a mapping. Carries failures.
    LogRecord,
    /// The proxy in front of Clerk's Frontend API. Carries failures and successes as Clerk answered them.
    FapiProxy,
    /// Whoever runs this, on the admin listener. Carries requests to forget an account.
    Operator,
}

impl Source {
    /// Every source, in the order metrics list them.
    pub const ALL: [Self; 5] =
        [Self::ClerkWebhook, Self::AttemptReport, Self::LogRecord, Self::FapiProxy, Self::Operator];

    /// The value of the `source` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClerkWebhook => "clerk_webhook",
            Self::AttemptReport => "attempt_report",
            Self::LogRecord => "log_record",
            Self::FapiProxy => "fapi_proxy",
            Self::Operator => "operator",
        }
    }
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A session was created.
    Success,
    /// A credential or code was wrong, or the identifier is unknown.
    Failure,
    /// The password was right and something else stopped the sign-in: second factor, unknown device, breached password.
    PasswordCorrectStopped,
    /// A further factor or a CAPTCHA was asked for; nothing was learned about the password.
    Challenge,
    /// The account was locked, or an attempt met the lock.
    Locked,
    /// Clerk answered 429.
    RateLimited,
    /// A policy or bot rule refused the attempt before its credential counted.
    Blocked,
    /// A one-time code or magic link was sent.
    CodeSent,
    /// The account's own record changed.
    AccountChanged,
    /// The account was deleted.
    AccountDeleted,
    /// A session ended, by whatever hand.
    SessionEnded,
    /// Context that detection does not count (organisations, billing, unknown types).
    Other,
}

impl Outcome {
    /// Every outcome, in the order metrics list them.
    pub const ALL: [Self; 12] = [
        Self::Success,
        Self::Failure,
        Self::PasswordCorrectStopped,
        Self::Challenge,
        Self::Locked,
        Self::RateLimited,
        Self::Blocked,
        Self::CodeSent,
        Self::AccountChanged,
        Self::AccountDeleted,
        Self::SessionEnded,
        Self::Other,
    ];

    /// The value of the `outcome` label and of the JSON field.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::PasswordCorrectStopped => "password_correct_stopped",
            Self::Challenge => "challenge",
            Self::Locked => "locked",
            Self::RateLimited => "rate_limited",
            Self::Blocked => "blocked",
            Self::CodeSent => "code_sent",
            Self::AccountChanged => "account_changed",
            Self::AccountDeleted => "account_deleted",
            Self::SessionEnded => "session_ended",
            Self::Other => "other",
        }
    }
}

/// One thing that happened, from any source, in the shape the log keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthEvent {
    /// The sender's own id, unique within the source: a repeat is a duplicate delivery, not a second attempt.
    pub id: Box<str>,
    /// When it happened, by the sender's clock, at most [`MAX_FUTURE_MILLIS`] after `received_at`.
    pub occurred_at: Timestamp,
    /// When it reached us.
    pub received_at: Timestamp,
    /// The Clerk instance it belongs to.
    pub tenant: Tenant,
    /// Where it came from.
    pub source: Source,
    /// How it ended.
    pub outcome: Outcome,
    /// Clerk's own code for it (`form_password_incorrect`, `account_locked`, …) or the webhook's event type.
    pub reason: Option<Box<str>>,
    /// The address of the person's request, never of a proxy of ours. IPv4-mapped IPv6 is IPv4.
    pub ip: Option<IpAddr>,
    /// Whose account.
    pub account: Option<Account>,
    /// The identifier that was tried, where it was given (also when `account` is a user id).
    pub identifier: Option<IdentifierHash>,
    /// The browser's own description, cut to [`MAX_USER_AGENT_BYTES`].
    pub user_agent: Option<Box<str>>,
    /// `sess_…`
    pub session: Option<Box<str>>,
}

/// An account that the detector has forgotten, and that the log, the findings and their files may still name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erasure {
    /// Whose account it was; perhaps [`Tenant::EVERY`].
    pub tenant: Tenant,
    /// Which.
    pub account: Account,
    /// What takes its place: `erased_` and something that is not made of the account.
    pub replacement: Box<str>,
    /// The id of the request; empty if that mentions the account.
    pub request: Box<str>,
    /// What asked for it: `webhook`, `link` (an identifier known to be the account's), or what the operator's request said
    /// (`api`, `cli`).
    pub asked_by: Box<str>,
    /// When.
    pub asked_at: Timestamp,
}

/// A sender's clock may run this far ahead of ours; further is clamped and counted, so that one wrong clock cannot
/// push a window minutes into the future.
pub const MAX_FUTURE_MILLIS: i64 = 5 * 60 * 1000;
/// Real user agents are under 300 bytes; longer ones are an attacker's payload and only cost memory.
pub const MAX_USER_AGENT_BYTES: usize = 256;
/// Longest id accepted: Svix ids are 31 bytes, UUIDs 36; anything longer than this is not an id.
pub const MAX_ID_BYTES: usize = 200;

/// A network: the /24 of an IPv4 address, the /48 of an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Network(IpAddr);

/// An address as an entity: IPv4 as it is, IPv6 as its /64 (one household or server rents at least that).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Address(IpAddr);

impl Network {
    /// The network `ip` belongs to.
    #[must_use]
    pub fn of(ip: IpAddr) -> Self {
        Self(mask(ip, 24, 48))
    }

    /// The first address of the network.
    #[must_use]
    pub const fn first(self) -> IpAddr {
        self.0
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0, if self.0.is_ipv4() { 24 } else { 48 })
    }
}

impl Address {
    /// The address entity `ip` counts for.
    #[must_use]
    pub fn of(ip: IpAddr) -> Self {
        Self(mask(ip, 32, 64))
    }

    /// The address itself (IPv4) or the first address of its /64 (IPv6).
    #[must_use]
    pub const fn first(self) -> IpAddr {
        self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(ip) => ip.fmt(f),
            IpAddr::V6(ip) => write!(f, "{ip}/64"),
        }
    }
}

fn mask(ip: IpAddr, v4_bits: u32, v6_bits: u32) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & (u32::MAX << (32 - v4_bits)))),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << (128 - v6_bits)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_and_addresses_are_masked_to_what_one_party_holds() {
        let v4: IpAddr = "203.0.113.77".parse().unwrap();
        let v6: IpAddr = "2001:db8:aa:bb:1:2:3:4".parse().unwrap();
        assert_eq!(Network::of(v4).to_string(), "203.0.113.0/24");
        assert_eq!(Address::of(v4).to_string(), "203.0.113.77");
        assert_eq!(Network::of(v6).to_string(), "2001:db8:aa::/48");
        assert_eq!(Address::of(v6).to_string(), "2001:db8:aa:bb::/64");
    }

    #[test]
    fn an_account_is_read_as_it_is_written() {
        let hash = Account::Identifier(IdentifierHash([7; 16]));
        for account in [hash, Account::User("user_1".into()), Account::User("idh_12".into())] {
            assert_eq!(Account::named(&account.to_string()), account);
        }
    }

    #[test]
    fn timestamps_print_as_rfc_3339() {
        assert_eq!(Timestamp(1_716_883_200_005).to_string(), "2024-05-28T08:00:00.005Z");
        assert_eq!(Timestamp(i64::MAX).to_string(), "9223372036854775807 ms");
    }
}
