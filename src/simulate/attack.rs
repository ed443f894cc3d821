//! The attacks that can be asked for, and what each looks like when nothing else is said.
//!
//! Volumes follow attacks that were measured and published: a bank's botnet at 0.7 tries per address in 5 minutes, rotating
//! proxies at 1.2 tries per address in all, sprays of one or two tries a day on each account, lists of which 5–30 % of the
//! entries exist at the target and 0.1–2 % of those let somebody in.
//!
//! Not here: reading one from text (`settings`), turning it into attempts (`campaign`).

mod settings;

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
    /// A list that was checked before: one address, 60 accounts, and every try gets in.
    FanOut,
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
    /// One IPv6 /64: what one subscriber or one rented server has.
    OneSlash64,
    /// One IPv6 /56, each address in a /64 of its own: one household or small company.
    OneSlash56,
    /// One IPv6 /48, each address in a /64 of its own.
    OneSlash48,
    /// IPv6 homes anywhere, each address in a /48 of its own: residential proxies that rotate.
    Homes,
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
    /// How much faster it is after each day: 0.25 is a quarter more. 0: even from beginning to end.
    pub growth: f64,
    /// Share of the tries that are sign-ins to accounts of the attacker's own, to look like a network of customers.
    pub padding: f64,
    /// Tries of one address in one minute that are answered; further ones meet 429. 0: no limit.
    pub limit: u32,
    /// Attacks of one plan with the same number here come from the same addresses. `None`: each from its own.
    pub hosts: Option<u8>,
}

impl Origin {
    /// Every origin.
    pub const ALL: [Self; 8] = [
        Self::Anywhere,
        Self::OneNetwork,
        Self::OneSlash64,
        Self::OneSlash56,
        Self::OneSlash48,
        Self::Homes,
        Self::Carrier,
        Self::Office,
    ];

    /// Its name on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Anywhere => "anywhere",
            Self::OneNetwork => "one-network",
            Self::OneSlash64 => "one-slash-64",
            Self::OneSlash56 => "one-slash-56",
            Self::OneSlash48 => "one-slash-48",
            Self::Homes => "homes",
            Self::Carrier => "carrier",
            Self::Office => "office",
        }
    }

    /// The ranges that its addresses are taken from hold this many.
    const fn capacity(self) -> u64 {
        match self {
            Self::Anywhere | Self::OneSlash64 | Self::Homes => 1 << 24,
            Self::OneSlash48 => 1 << 16,
            Self::OneNetwork | Self::OneSlash56 => 256,
            Self::Carrier | Self::Office => 1,
        }
    }
}

impl AttackKind {
    /// Every kind.
    pub const ALL: [Self; 15] = [
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
        Self::FanOut,
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
            Self::FanOut => "fan-out",
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
            Self::FanOut => (10 * MINUTE, 60, 1, Origin::Anywhere, Victims::List { known: 1.0 }),
        };
        Attack {
            kind: self,
            at: None,
            span_millis,
            attempts,
            addresses,
            origin,
            victims,
            hits: None,
            growth: 0.0,
            padding: 0.0,
            limit: 0,
            hosts: None,
        }
    }
}
