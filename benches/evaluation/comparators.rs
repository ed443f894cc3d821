//! The rules that others ship, to be held against ours on the same events.
//!
//! Each is our reading of the public text of a rule, as favourable to it as that text allows, not its vendor's engine.
//! Invariant: a comparator sees what happened and never what it was (no labels), and keeps what its rule needs, no more.
//!
//! Not here: deduplication (all share that of `ledger`) and scoring.

use std::net::IpAddr;

use ipnet::IpNet;

pub mod crowdsec;
pub mod elastic;
pub mod ewma;
pub mod fail2ban;
pub mod panther;
mod recent;
pub mod sentinel;
pub mod splunk;

pub const MINUTE: i64 = 60_000;
pub const HOUR: i64 = 60 * MINUTE;
pub const DAY: i64 = 24 * HOUR;

/// A sign-in that was decided, as a log line shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When the line arrived, in milliseconds since the epoch; never goes back.
    pub at: i64,
    pub ip: IpAddr,
    /// Whose account, hashed.
    pub account: u64,
    /// Which browser, hashed.
    pub agent: u64,
    /// Refused (wrong password, unknown identifier, locked), or let in.
    pub failed: bool,
}

/// A rule fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alert {
    pub at: i64,
    /// Where what it looked at began: long before, if the rule runs once a day.
    pub since: i64,
    pub subject: Subject,
}

impl Alert {
    /// Of a rule that looks at each line as it comes.
    pub fn at_once(at: i64, subject: impl Into<Subject>) -> Self {
        Self { at, since: at, subject: subject.into() }
    }
}

/// What an alert is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// One address, or all of a network.
    Net(IpNet),
    /// An account, hashed as in [`Seen`].
    Account(u64),
    /// Everybody.
    Tenant,
}

impl From<IpAddr> for Subject {
    fn from(ip: IpAddr) -> Self {
        Self::Net(ip.into())
    }
}

/// One rule.
pub trait Comparator: Send {
    /// Its name in tables.
    fn name(&self) -> &'static str;
    /// Takes one line; what fires is added to `alerts`.
    fn observe(&mut self, seen: &Seen, alerts: &mut Vec<Alert>);
    /// The rule with all it has seen, to go on from here more than once.
    fn fork(&self) -> Box<dyn Comparator>;
}

/// Every rule, with nothing seen.
pub fn all() -> Vec<Box<dyn Comparator>> {
    vec![
        Box::<fail2ban::Fail2ban>::default(),
        Box::new(crowdsec::Leaky::bf()),
        Box::new(crowdsec::Leaky::user_enum()),
        Box::new(crowdsec::Leaky::slow_bf()),
        Box::<crowdsec::TimeBased>::default(),
        Box::<panther::Panther>::default(),
        Box::new(splunk::Okta::new()),
        Box::new(splunk::Distributed::new()),
        Box::new(splunk::Distributed::at_its_best()),
        Box::new(splunk::PerAddress::new()),
        Box::new(elastic::stuffing()),
        Box::new(elastic::spraying()),
        Box::new(elastic::spraying_from_many()),
        Box::new(elastic::guessing_from_many()),
        Box::new(elastic::threshold()),
        Box::new(sentinel::Sentinel::new()),
        Box::<ewma::Ewma>::default(),
    ]
}
