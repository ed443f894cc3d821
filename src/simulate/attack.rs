//! The attacks that can be asked for, and what each looks like when nothing else is said.
//!
//! Volumes follow attacks that were measured and published: a bank's botnet at 0.7 tries per address in 5 minutes, rotating
//! proxies at 1.2 tries per address in all, sprays of one or two tries a day on each account, lists of which 5–30 % of the
//! entries exist at the target and 0.1–2 % of those let somebody in.
//!
//! Not here: turning an attack into attempts (`campaign`).

use super::PlanError;
use super::parse::{self, Spec};

/// Accounts broken into per tried account that exists, where `hits` is not given.
const HITS_PER_EXISTING: f64 = 0.005;
/// The same for a spray: each account is tried with several common passwords.
const HITS_PER_SPRAYED: f64 = 0.01;
/// Most attempts of one attack: the largest one published had 108 million.
const MAX_ATTEMPTS: u64 = 1_000_000_000;
/// The ranges the attackers' addresses are taken from hold this many.
const MAX_ADDRESSES: u64 = 1 << 24;

/// The kinds of attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AttackKind {
    /// A list of leaked pairs from one address, or from a handful.
    Stuffing,
    /// The same from 50 hosts, one try a minute each.
    Botnet,
    /// The same from 2,000 hosts, nine tries an hour each.
    WideBotnet,
    /// The same from 20,000 addresses, one try each.
    Proxies,
    /// 2,000 tries in a day, hardly two from one address.
    LowAndSlow,
    /// One address, one try every five minutes for a day.
    Drip,
    /// 120 hosts of one /24, five tries each.
    Network,
    /// Each try from another address of one IPv6 /64.
    Ipv6,
    /// Stuffing from behind a carrier's address that thousands use.
    CarrierNat,
    /// Stuffing from behind the address of a busy office.
    Office,
    /// Three common passwords tried on 500 accounts, in rounds.
    Spraying,
    /// One account, 200 tries from one address.
    Guessing,
    /// One account, from 60 addresses.
    DistributedGuessing,
    /// Finding out which identifiers exist.
    Enumeration,
}

/// Whom an attack tries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Victims {
    /// A list, each entry once; this share of it exists.
    List {
        /// From 0 to 1.
        known: f64,
    },
    /// So many accounts, again and again in the same order.
    Rounds {
        /// How many accounts.
        accounts: u32,
    },
    /// One account.
    One,
}

/// Where an attack's addresses lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Anywhere, hardly two in one network.
    Anywhere,
    /// One /24.
    OneNetwork,
    /// One IPv6 /64.
    OneSlash64,
    /// The carrier address of one account, and so of hundreds.
    Carrier,
    /// The office address of one account.
    Office,
}

/// One attack.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attack {
    /// What it is called.
    pub kind: AttackKind,
    /// Milliseconds from the plan's start; `None`: the middle of the plan.
    pub at: Option<i64>,
    /// How long it lasts.
    pub span_millis: i64,
    /// How many tries.
    pub attempts: u64,
    /// From how many addresses, each in its turn.
    pub addresses: u64,
    /// Where these lie.
    pub origin: Origin,
    /// Whom it tries.
    pub victims: Victims,
    /// How many tries get in, exactly, evenly spread. `None`: as many as such an attack usually does.
    pub hits: Option<u64>,
}

impl AttackKind {
    /// Every kind.
    pub const ALL: [Self; 14] = [
        Self::Stuffing,
        Self::Botnet,
        Self::WideBotnet,
        Self::Proxies,
        Self::LowAndSlow,
        Self::Drip,
        Self::Network,
        Self::Ipv6,
        Self::CarrierNat,
        Self::Office,
        Self::Spraying,
        Self::Guessing,
        Self::DistributedGuessing,
        Self::Enumeration,
    ];

    /// Its name on the command line and in the truth.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stuffing => "stuffing",
            Self::Botnet => "botnet",
            Self::WideBotnet => "wide-botnet",
            Self::Proxies => "proxies",
            Self::LowAndSlow => "low-and-slow",
            Self::Drip => "drip",
            Self::Network => "network",
            Self::Ipv6 => "ipv6",
            Self::CarrierNat => "carrier-nat",
            Self::Office => "office",
            Self::Spraying => "spraying",
            Self::Guessing => "guessing",
            Self::DistributedGuessing => "distributed-guessing",
            Self::Enumeration => "enumeration",
        }
    }

    /// An attack of this kind as it usually is.
    #[must_use]
    pub const fn usual(self) -> Attack {
        const MINUTE: i64 = 60_000;
        const HOUR: i64 = 60 * MINUTE;
        // 15 % of a leaked list exists at the target.
        const LIST: Victims = Victims::List { known: 0.15 };
        let (span_millis, attempts, addresses, origin, victims) = match self {
            Self::Stuffing => (10 * MINUTE, 3000, 1, Origin::Anywhere, LIST),
            Self::Botnet => (2 * HOUR, 6000, 50, Origin::Anywhere, LIST),
            Self::WideBotnet => (6 * HOUR, 108_000, 2000, Origin::Anywhere, LIST),
            Self::Proxies => (4 * HOUR, 20_000, 20_000, Origin::Anywhere, LIST),
            Self::LowAndSlow => (24 * HOUR, 2000, 1667, Origin::Anywhere, LIST),
            Self::Drip => (24 * HOUR, 288, 1, Origin::Anywhere, LIST),
            Self::Network => (10 * MINUTE, 600, 120, Origin::OneNetwork, LIST),
            Self::Ipv6 => (10 * MINUTE, 1000, 1000, Origin::OneSlash64, LIST),
            Self::CarrierNat => (10 * MINUTE, 200, 1, Origin::Carrier, LIST),
            Self::Office => (10 * MINUTE, 200, 1, Origin::Office, LIST),
            Self::Spraying => (90 * MINUTE, 1500, 10, Origin::Anywhere, Victims::Rounds { accounts: 500 }),
            Self::Guessing => (10 * MINUTE, 200, 1, Origin::Anywhere, Victims::One),
            Self::DistributedGuessing => (HOUR, 120, 60, Origin::Anywhere, Victims::One),
            Self::Enumeration => (10 * MINUTE, 2000, 1, Origin::Anywhere, Victims::List { known: 0.02 }),
        };
        Attack { kind: self, at: None, span_millis, attempts, addresses, origin, victims, hits: None }
    }
}

impl Attack {
    /// Reads `kind` or `kind:key=value,…` with the keys `at`, `for`, `attempts`, `addresses`, `known` (share of a list
    /// that exists), `accounts` (of a round) and `hits`.
    ///
    /// # Errors
    /// An unknown kind or key, or a value out of range.
    pub fn parse(text: &str) -> Result<Self, PlanError> {
        let spec = Spec::parse(text)?;
        let kind = AttackKind::ALL.into_iter().find(|kind| kind.as_str() == spec.kind).ok_or_else(|| {
            let known = AttackKind::ALL.map(AttackKind::as_str).join(", ");
            PlanError::new(format!("there is no attack `{}`; there are: {known}", spec.kind))
        })?;
        let mut attack = kind.usual();
        for (key, value) in spec.settings {
            attack.set(key, value).map_err(|fault| PlanError::new(format!("{}: {fault}", kind.as_str())))?;
        }
        attack.check()?;
        Ok(attack)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), PlanError> {
        match (key, &mut self.victims) {
            ("at", _) => self.at = Some(parse::span(value)?),
            ("for", _) => self.span_millis = parse::span(value)?,
            ("attempts", _) => self.attempts = parse::value(key, value)?,
            ("addresses", _) => self.addresses = parse::value(key, value)?,
            ("hits", _) => self.hits = Some(parse::value(key, value)?),
            ("known", Victims::List { known }) => *known = parse::value(key, value)?,
            ("accounts", Victims::Rounds { accounts }) => *accounts = parse::value(key, value)?,
            _ => return Err(PlanError::new(format!("`{key}` cannot be set here"))),
        }
        Ok(())
    }

    fn check(&self) -> Result<(), PlanError> {
        let name = self.kind.as_str();
        let refuse = |what: &str| Err(PlanError::new(format!("{name}: {what}")));
        let most_addresses = match self.origin {
            Origin::Anywhere | Origin::OneSlash64 => MAX_ADDRESSES,
            Origin::OneNetwork => 256,
            Origin::Carrier | Origin::Office => 1,
        };
        if !(1..=MAX_ATTEMPTS).contains(&self.attempts) {
            return refuse("attempts must be from 1 to a thousand million");
        }
        if !(1..=most_addresses).contains(&self.addresses) {
            return refuse(&format!("addresses must be from 1 to {most_addresses}"));
        }
        if self.span_millis < 1000 {
            return refuse("it must last at least a second");
        }
        let most_hits = match self.victims {
            Victims::List { known } if !(0.0..=1.0).contains(&known) => return refuse("known must be from 0 to 1"),
            Victims::Rounds { accounts: 0 } => return refuse("accounts must be at least 1"),
            Victims::List { .. } | Victims::Rounds { .. } => self.attempts,
            Victims::One => 1,
        };
        if self.hits.is_some_and(|hits| hits > most_hits) {
            return refuse(&format!("hits must be at most {most_hits}"));
        }
        Ok(())
    }

    /// How many tries get in.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of at most a thousand million"
    )]
    pub fn hits(&self) -> u64 {
        let usual = match (self.kind, self.victims) {
            // Only the identifier is asked about; no password is tried.
            (AttackKind::Enumeration, _) | (_, Victims::One) => 0.0,
            (_, Victims::List { known }) => self.attempts as f64 * known * HITS_PER_EXISTING,
            (_, Victims::Rounds { accounts }) => f64::from(accounts) * HITS_PER_SPRAYED,
        };
        self.hits.unwrap_or(usual.round() as u64).min(self.attempts)
    }
}
