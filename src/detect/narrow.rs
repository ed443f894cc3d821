//! Is it the whole network, or one customer of it? Where in an IPv6 /48 the addresses of an attack lie.
//!
//! Addresses are counted as /64 and networks as /48, what a hoster gives. A home or a small company gets a /56 of its
//! provider's, and who rotates through the 256 /64 of one is one party: blocking all of the /48 would hit 255 neighbours. A
//! /56 as a third counted entity would cost every IPv6 event a look-up and every network more memory, to say what is known
//! anyway when it matters: so it is derived from the addresses of the episode.
//!
//! Invariant: a finding's entity, which its id is made of, is decided by the window that opened it and never changes; what
//! has come about since is said beside it (`Evidence::within`).

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::key::{Counter, Key};

/// Fewer addresses say nothing about where the next will lie.
const MIN_ADDRESSES: u32 = 3;
/// One in ten may be a neighbour who mistypes meanwhile.
const NEARLY_ALL: (u32, u32) = (9, 10);

/// How many addresses (/64) lie in each /56 of a /48: at most 256 counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Narrow(BTreeMap<u8, u32>);

/// A prefix in which nearly all addresses lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Within {
    first: Ipv6Addr,
    length: u8,
}

impl Narrow {
    /// Of those addresses, each counted once.
    pub(crate) fn of(addresses: impl Iterator<Item = IpAddr>) -> Self {
        let mut slash_64s: Vec<u64> = addresses.filter_map(slash_64).collect();
        slash_64s.sort_unstable();
        slash_64s.dedup();
        let mut narrow = Self::default();
        for bits in slash_64s {
            narrow.count(bits);
        }
        narrow
    }

    /// One more address, which was not counted before; of IPv4 nothing is.
    pub(crate) fn add(&mut self, address: IpAddr) {
        if let Some(bits) = slash_64(address) {
            self.count(bits);
        }
    }

    fn count(&mut self, slash_64: u64) {
        let [.., number, _] = slash_64.to_be_bytes();
        let count = self.0.entry(number).or_default();
        *count = count.saturating_add(1);
    }

    /// The narrowest prefix in the IPv6 network of `key` that holds nearly all of them; `None` if there are none.
    pub(crate) fn within(&self, key: &Key) -> Option<Within> {
        if key.counter.told_as() != Counter::Network {
            return None;
        }
        let all: u32 = self.0.values().fold(0, |all, count| all.saturating_add(*count));
        // The lowest of the fullest.
        let (number, most) = self.0.iter().max_by_key(|(number, count)| (**count, std::cmp::Reverse(**number)))?;
        let (part, whole) = NEARLY_ALL;
        let is_one = all >= MIN_ADDRESSES && most.saturating_mul(whole) >= all.saturating_mul(part);
        let (number, length) = if is_one { (*number, 56) } else { (0, 48) };
        let first = Ipv6Addr::from_bits(u128::from(key.id | u64::from(number) << 8) << 64);
        Some(Within { first, length })
    }
}

impl Within {
    /// Whether it is less than the network that is counted.
    pub(crate) const fn is_narrower(self) -> bool {
        self.length > 48
    }
}

impl fmt::Display for Within {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.length)
    }
}

/// The upper half of an IPv6 address.
fn slash_64(ip: IpAddr) -> Option<u64> {
    match ip {
        IpAddr::V4(_) => None,
        IpAddr::V6(ip) => u64::try_from(ip.to_bits() >> 64).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Network;

    fn within(addresses: &[&str]) -> Option<String> {
        let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let key = Key::network(0, Network::of(addresses[0]));
        Narrow::of(addresses.into_iter()).within(&key).map(|within| within.to_string())
    }

    #[test]
    fn addresses_of_one_slash_56_are_told_as_it() {
        let one = ["2001:db8:1:ab00::1", "2001:db8:1:ab01::1", "2001:db8:1:abff::9"];
        assert_eq!(within(&one).as_deref(), Some("2001:db8:1:ab00::/56"));
        assert_eq!(within(&one[..2]).as_deref(), Some("2001:db8:1::/48"), "two are too few");
        let repeated = ["2001:db8:1:ab00::1", "2001:db8:1:ab00::2", "2001:db8:1:ab00::3"];
        assert_eq!(within(&repeated).as_deref(), Some("2001:db8:1::/48"), "one /64");
        let spread = ["2001:db8:1:ab00::1", "2001:db8:1:ac00::1", "2001:db8:1:ad00::1"];
        assert_eq!(within(&spread).as_deref(), Some("2001:db8:1::/48"));
        assert_eq!(within(&["203.0.113.1", "203.0.113.2", "203.0.113.3"]), None);
    }

    #[test]
    fn one_neighbour_in_ten_does_not_widen_it_and_two_do() {
        let of = |neighbours: u32| {
            let mut narrow = Narrow::default();
            let address =
                |number: u32| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, u16::try_from(number).unwrap(), 0, 0, 0, 1));
            (0..18).for_each(|number| narrow.add(address(0xab00 + number)));
            (0..neighbours).for_each(|number| narrow.add(address(number)));
            narrow.within(&Key::network(0, Network::of(address(0)))).unwrap().is_narrower()
        };
        assert!(of(2) && !of(3));
    }
}
