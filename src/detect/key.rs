//! Which counter of which entity: a key of 16 bytes.
//!
//! An address and an account are counted under more than one aspect (failures, codes asked for), each with a window and a
//! baseline of its own: a [`Counter`] is a kind of entity and what is counted of it.
//!
//! Invariant: two addresses never share a key; two accounts do with a chance of 2^-64, which would merge their counts.

use std::hash::Hasher;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use crate::event::{Account, Address, Network, Outcome};
use crate::finding::{EntityKind, Rule};

/// What is counted, of which kind of entity. The tenant's counters are series (`series`), not entries of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Counter {
    /// Independent failures of an address.
    Address,
    /// Independent failures of a network.
    Network,
    /// Failures of an account.
    Account,
    /// Accounts an address had codes sent to.
    AddressCodes,
    /// Codes sent to an account.
    AccountCodes,
    /// Accounts with a history that strangers got in to from an address (`device`).
    AddressFanOut,
    /// The same of a network.
    NetworkFanOut,
    /// Independent failures of a tenant from networks where nobody signs in.
    Tenant,
    /// Accounts of a tenant that were locked.
    TenantLocks,
    /// Sign-in failing for everyone.
    TenantOutage,
}

impl Counter {
    /// How many there are.
    pub(crate) const COUNT: usize = 10;

    /// The kind of entity.
    pub(crate) const fn kind(self) -> EntityKind {
        match self {
            Self::Address | Self::AddressCodes | Self::AddressFanOut => EntityKind::Ip,
            Self::Network | Self::NetworkFanOut => EntityKind::Network,
            Self::Account | Self::AccountCodes => EntityKind::Account,
            Self::Tenant | Self::TenantLocks | Self::TenantOutage => EntityKind::Tenant,
        }
    }

    /// The rule that judges it.
    pub(crate) const fn rule(self) -> Rule {
        match self {
            Self::Address => Rule::AddressFailureSpike,
            Self::Network => Rule::NetworkFailureSpike,
            Self::Account => Rule::AccountFailureSpike,
            Self::AddressCodes | Self::AccountCodes => Rule::CodeFlood,
            Self::AddressFanOut | Self::NetworkFanOut => Rule::SuccessFanOut,
            Self::Tenant => Rule::DistributedAttack,
            Self::TenantLocks => Rule::LockoutWave,
            Self::TenantOutage => Rule::SignInOutage,
        }
    }

    /// Whether what is counted is somebody's, not something's.
    pub(crate) const fn is_account(self) -> bool {
        matches!(self, Self::Account | Self::AccountCodes)
    }

    /// Whether it counts codes sent rather than failures.
    pub(crate) const fn is_codes(self) -> bool {
        matches!(self, Self::AddressCodes | Self::AccountCodes)
    }

    /// Whether it counts accounts that strangers got in to.
    pub(crate) const fn is_fan_out(self) -> bool {
        matches!(self, Self::AddressFanOut | Self::NetworkFanOut)
    }

    /// Whether it is a network's.
    pub(crate) const fn is_network(self) -> bool {
        matches!(self, Self::Network | Self::NetworkFanOut)
    }

    /// The counter whose episode tells of it: what strangers got in to from an address is told with what failed there.
    pub(crate) const fn told_as(self) -> Self {
        if matches!(self, Self::AddressFanOut) {
            Self::Address
        } else if matches!(self, Self::NetworkFanOut) {
            Self::Network
        } else {
            self
        }
    }

    /// The counter of strangers that an address and a network have beside that of failures.
    pub(crate) const fn fan_out(self) -> Option<Self> {
        match self {
            Self::Address => Some(Self::AddressFanOut),
            Self::Network => Some(Self::NetworkFanOut),
            Self::Account
            | Self::AddressCodes
            | Self::AccountCodes
            | Self::AddressFanOut
            | Self::NetworkFanOut
            | Self::Tenant
            | Self::TenantLocks
            | Self::TenantOutage => None,
        }
    }

    /// Whether `outcome` is what it counts; a fan-out counts only those of strangers.
    pub(crate) const fn counts(self, outcome: Outcome) -> bool {
        match self {
            Self::Address | Self::Network | Self::Account | Self::Tenant | Self::TenantOutage => {
                matches!(outcome, Outcome::Failure)
            }
            Self::AddressCodes | Self::AccountCodes => matches!(outcome, Outcome::CodeSent),
            Self::AddressFanOut | Self::NetworkFanOut => {
                matches!(outcome, Outcome::Success | Outcome::PasswordCorrectStopped)
            }
            Self::TenantLocks => matches!(outcome, Outcome::Locked),
        }
    }
}

/// One counter of one entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Key {
    pub(crate) id: u64,
    pub(crate) tenant: u16,
    pub(crate) counter: Counter,
}

impl Key {
    pub(crate) fn address(tenant: u16, address: Address) -> Self {
        Self { id: address_bits(address.first()), tenant, counter: Counter::Address }
    }

    pub(crate) fn network(tenant: u16, network: Network) -> Self {
        Self { id: address_bits(network.first()), tenant, counter: Counter::Network }
    }

    pub(crate) fn account(tenant: u16, account: &Account) -> Self {
        // Fixed keys: Clerk draws user ids and identifiers are keyed hashes, so nobody can aim them at each other.
        let mut hasher = SipHasher13::new_with_keys(0x6175_7468_7370_696b, 0x6163_636f_756e_7473);
        match account {
            Account::User(id) => hasher.write(id.as_bytes()),
            Account::Identifier(hash) => {
                hasher.write(b"\0");
                hasher.write(&hash.0);
            }
        }
        Self { id: hasher.finish(), tenant, counter: Counter::Account }
    }

    pub(crate) fn tenant(tenant: u16, counter: Counter) -> Self {
        Self { id: 0, tenant, counter }
    }

    /// The same entity under another aspect.
    pub(crate) fn of(self, counter: Counter) -> Self {
        Self { counter, ..self }
    }

    /// Well-mixed bits that choose this key's place in a sketch, the same under every aspect.
    pub(crate) fn bits(&self) -> u64 {
        // Multiply and fold: addresses of one network differ in a few low bits only.
        fold(self.id ^ 0xf39c_c060_5ced_c835, 0x9e37_79b9_7f4a_7c15)
    }

    /// Well-mixed bits of the whole key, for the tables.
    pub(crate) fn hash(&self) -> u64 {
        let who = u64::from(self.tenant) << 8 | u64::from(self.counter as u8);
        fold(self.bits() ^ fold(who ^ 0x8ebc_6af0_9c88_c6e3, 0x5895_9f7d_1c83_a2b5), 0xd6e8_feb8_6659_fd93)
    }
}

/// Hash of a name.
pub(crate) fn text(name: &str) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0x6175_7468_7370_696b, 0x7465_6e61_6e74_7321);
    hasher.write(name.as_bytes());
    hasher.finish()
}

/// Hash of two hashes.
pub(crate) fn pair(one: u64, other: u64) -> u64 {
    fold(one ^ fold(other ^ 0x2545_f491_4f6c_dd1d, 0x9e37_79b9_7f4a_7c15), 0xa076_1d64_78bd_642f)
}

fn fold(value: u64, by: u64) -> u64 {
    let (high, low) = split(u128::from(value) * u128::from(by));
    high ^ low.rotate_left(29)
}

/// IPv4 in 32 bits, of IPv6 the upper 64: an entity of ours is at least a /64. Native IPv6 never starts with 32 zero bits,
/// so the two families cannot meet.
fn address_bits(ip: IpAddr) -> u64 {
    match ip {
        IpAddr::V4(ip) => u64::from(ip.to_bits()),
        IpAddr::V6(ip) => split(ip.to_bits()).0,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "splits the 128 bits into two halves")]
const fn split(bits: u128) -> (u64, u64) {
    ((bits >> 64) as u64, bits as u64)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::Ipv4Addr;

    use super::*;

    fn key(number: u32) -> Key {
        Key::address(0, Address::of(Ipv4Addr::from_bits(number).into()))
    }

    #[test]
    fn neighbouring_addresses_set_different_bits() {
        for shift in [0, 26, 32, 58] {
            let bits: HashSet<u64> = (0..256).map(|number| key(number).bits() >> shift & 63).collect();
            assert!(bits.len() > 50, "{shift}: {}", bits.len());
        }
    }

    #[test]
    fn hashes_of_neighbours_differ_in_both_halves() {
        let tops: HashSet<u64> = (0..100_000).map(|number| key(number).hash() >> 40).collect();
        let bottoms: HashSet<u64> = (0..100_000).map(|number| key(number).hash() & 0xff_ffff).collect();
        // 100,000 throws at 2^24 places: about 300 fall together.
        assert!(tops.len() > 99_500 && bottoms.len() > 99_500, "{} {}", tops.len(), bottoms.len());
        assert_ne!(key(7).hash(), key(7).of(Counter::AddressCodes).hash());
    }
}
