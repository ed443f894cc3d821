//! Who signs in, and from which networks.
//!
//! Addresses are taken from ranges that no packet on the internet can come from (240.0.0.0/4 is reserved, `3fff::/20` and
//! the attackers' small ranges are for documentation), so that a finding about simulated traffic blames nobody.
//!
//! Invariant: what an account is (its home, its carrier, its office) is a function of the seed and its number; only the
//! table of rates takes memory that grows with the accounts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::random::{Random, mix, unit};
use super::{Load, Plan};

/// Share of sign-ins from a network that is seen once: hotels, trains, a friend's house.
const ONE_OFF: f64 = 0.10;
/// Accounts behind one carrier address; carriers are measured at "more than 100 devices" and up to a few thousand.
const ACCOUNTS_PER_CARRIER_ADDRESS: u32 = 1500;
/// Share of accounts that are on a carrier, and that work in an office.
const ON_CARRIER: f64 = 0.25;
const IN_OFFICE: f64 = 0.25;
/// Two people in a home.
const ACCOUNTS_PER_HOME: u32 = 2;
/// Share of homes that use IPv6.
const HOMES_ON_V6: f64 = 0.3;
/// Mean size of an office; sizes are log-normal around it, so a few are a hundred times larger.
const ACCOUNTS_PER_OFFICE: u32 = 25;
const OFFICE_SIGMA: f64 = 1.4;

const HOMES: u32 = 0xf000_0000; // 240.0.0.0/6
const ONE_OFFS: u32 = 0xf400_0000; // 244.0.0.0/6
const SIX_BIT_RANGE: u32 = (1 << 26) - 1;
const CARRIERS: u32 = 0xf800_0000; // 248.0.0.0/8
const OFFICES: u32 = 0xf900_0000; // 249.0.0.0/8
const MAX_OFFICES: u32 = 1 << 16;
const EGRESSES: u32 = 0xfd00_0000; // 253.0.0.0/8

/// The accounts of one plan.
#[derive(Clone, Debug)]
pub(super) struct Population {
    seed: u64,
    accounts: u32,
    /// Running sum of the accounts' rates; `None`: all alike.
    rates: Option<Arc<[f64]>>,
    /// Running sum of the offices' sizes.
    offices: Arc<[f64]>,
}

impl Population {
    pub(super) fn new(plan: &Plan) -> Self {
        let mut random = plan.random(1);
        let rates = match plan.load {
            // Most people sign in rarely and a few all the time.
            Load::PerAccountPerDay(_) => Some(running_sum(plan.accounts, || random.gamma_half())),
            Load::PerSecond(_) => None,
        };
        let mut random = plan.random(2);
        let offices = (plan.accounts / 4 / ACCOUNTS_PER_OFFICE).clamp(1, MAX_OFFICES);
        let offices = running_sum(offices, || random.log_normal(0.0, OFFICE_SIGMA));
        Self { seed: plan.seed, accounts: plan.accounts, rates, offices }
    }

    /// The account that signs in next, the busy ones more often.
    pub(super) fn draw(&self, random: &mut Random) -> u32 {
        match &self.rates {
            Some(rates) => pick(rates, random.unit()),
            None => self.any(random.bits()),
        }
    }

    /// Some account, all alike.
    pub(super) const fn any(&self, hash: u64) -> u32 {
        // Truncation cannot happen: the remainder is below a u32.
        #[expect(clippy::cast_possible_truncation, reason = "below accounts")]
        let account = (hash % self.accounts as u64) as u32;
        account
    }

    /// Where `account` signs in from at this hour.
    pub(super) fn address(&self, account: u32, at_work: bool, random: &mut Random) -> IpAddr {
        if random.chance(ONE_OFF) {
            return v4(ONE_OFFS | (low(random.bits()) & SIX_BIT_RANGE));
        }
        let kind = unit(mix(self.seed ^ mix(u64::from(account) | 1 << 40)));
        if kind < ON_CARRIER {
            self.carrier(account)
        } else if kind < ON_CARRIER + IN_OFFICE && at_work {
            self.office_of(account)
        } else {
            self.home(account, random)
        }
    }

    /// An address that `account`'s carrier shares among many.
    pub(super) fn carrier(&self, account: u32) -> IpAddr {
        let addresses = u64::from((self.accounts / ACCOUNTS_PER_CARRIER_ADDRESS).max(1));
        let index = mix(self.seed ^ mix(u64::from(account) | 2 << 40)) % addresses;
        // A carrier's pool is spread over networks; 16 of its addresses lie in each.
        v4(CARRIERS | (low(index) << 4))
    }

    /// The address of the office where `account` works.
    pub(super) fn office_of(&self, account: u32) -> IpAddr {
        let index = pick(&self.offices, unit(mix(self.seed ^ mix(u64::from(account) | 3 << 40))));
        v4(OFFICES | (index << 8) | 1)
    }

    /// Where that office leaves for the internet once it has moved: `number` of its new addresses.
    pub(super) fn egress_of(&self, account: u32, number: u64) -> IpAddr {
        v4(EGRESSES | (low(mix(self.seed ^ mix(u64::from(account) | 5 << 40))) & 0x00ff_ff00) | (low(number) & 0xff))
    }

    fn home(&self, account: u32, random: &mut Random) -> IpAddr {
        let home = mix(self.seed ^ mix(u64::from(account / ACCOUNTS_PER_HOME) | 4 << 40));
        if unit(home) < HOMES_ON_V6 {
            return home_on_v6(home, random.bits());
        }
        v4(HOMES | (low(home) & SIX_BIT_RANGE))
    }
}

/// Address number `index` of a botnet: hosts all over the world, hardly two in one network.
pub(super) fn hosting(seed: u64, index: u64) -> IpAddr {
    const HOSTING: u32 = 0xfa00_0000; // 250.0.0.0/7
    v4(HOSTING | (low(mix(seed ^ mix(index))) & ((1 << 25) - 1)))
}

/// Address number `index` of a handful: documentation ranges, the ones a reader expects in an example.
pub(super) fn documentation(attack: u8, index: u64) -> IpAddr {
    const RANGES: [u32; 3] = [0xcb00_7100, 0xc633_6400, 0xc000_0200]; // 203.0.113.0, 198.51.100.0, 192.0.2.0
    let range = RANGES.get(usize::try_from(index % 3).unwrap_or(0)).copied().unwrap_or(0xcb00_7100);
    v4(range | (7 + (u32::from(attack) % 15) * 16 + low(index / 3) % 16))
}

/// Address number `index` of one /24.
pub(super) fn one_network(attack: u8, index: u64) -> IpAddr {
    v4(0xfc00_0000 | (u32::from(attack) << 8) | (low(index) & 0xff)) // 252.0.0.0/16
}

/// Address number `index` of one IPv6 /64.
pub(super) fn one_slash_64(attack: u8, index: u64) -> IpAddr {
    let prefix = (0x2001_0db8_0bad_u128 << 80) | (u128::from(attack) << 64);
    IpAddr::V6(Ipv6Addr::from_bits(prefix | u128::from(mix(index))))
}

/// Address number `index` of one IPv6 /56: a /64 of its own each.
pub(super) fn one_slash_56(attack: u8, index: u64) -> IpAddr {
    let prefix = ((0x2001_0db8_2000_u128 + u128::from(attack)) << 80) | (0xab_u128 << 72);
    IpAddr::V6(Ipv6Addr::from_bits(prefix | (u128::from(index & 0xff) << 64) | u128::from(mix(index))))
}

/// Address number `index` of one IPv6 /48: a /64 of its own each, all over it from the first ones on.
pub(super) fn one_slash_48(attack: u8, index: u64) -> IpAddr {
    // An odd factor: no two of the 65,536 fall together.
    let subnet = index.wrapping_mul(40_503) & 0xffff;
    let prefix = (0x2001_0db8_1000_u128 + u128::from(attack)) << 80;
    IpAddr::V6(Ipv6Addr::from_bits(prefix | (u128::from(subnet) << 64) | u128::from(mix(index))))
}

/// Address number `index` of residential proxies: homes like everybody's.
pub(super) fn residential(seed: u64, index: u64) -> IpAddr {
    let home = mix(seed ^ mix(index));
    home_on_v6(home, mix(home))
}

/// `3fff::/20`, a /48 for each home, and a new interface id for each sign-in, as privacy extensions make them.
fn home_on_v6(home: u64, interface: u64) -> IpAddr {
    let prefix = (0x3fff_u128 << 112) | (u128::from(home & 0x0fff_ffff) << 80);
    IpAddr::V6(Ipv6Addr::from_bits(prefix | u128::from(interface)))
}

fn v4(bits: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(bits))
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is what is asked for")]
const fn low(bits: u64) -> u32 {
    bits as u32
}

fn running_sum(count: u32, mut next: impl FnMut() -> f64) -> Arc<[f64]> {
    let mut sum = 0.0;
    (0..count)
        .map(|_| {
            sum += next();
            sum
        })
        .collect()
}

/// The index whose share of the sum `unit` falls into.
fn pick(running_sum: &[f64], unit: f64) -> u32 {
    let sought = running_sum.last().copied().unwrap_or(0.0) * unit;
    let index = running_sum.partition_point(|sum| *sum <= sought).min(running_sum.len().saturating_sub(1));
    u32::try_from(index).unwrap_or(u32::MAX)
}
