//! Takes addresses and accounts out of a finding before a sink gets it.
//!
//! Invariant: with `hash`, the same value is the same pseudonym in every finding of this installation, so a SIEM can
//! still count and join; without the installation's key nobody can try values out. A hashed address is still an address
//! (of `fd00::/8`, which is nobody's), inside the hashed network of the original, so that no receiver's types break. With
//! `drop` nothing of it is left but how many there were.
//!
//! Not here: identifiers, which are hashed before anything is stored.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::event::Tenant;
use crate::finding::{EntityKind, Finding};

/// What stands where a value was that a finding cannot do without.
const WITHHELD: &str = "withheld";

/// What becomes of values of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Treatment {
    /// They stay.
    #[default]
    Keep,
    /// Keyed pseudonyms.
    Hash,
    /// They go; counts stay.
    Drop,
}

/// What a sink's section asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Redaction {
    /// Addresses and networks.
    pub addresses: Treatment,
    /// Accounts.
    pub accounts: Treatment,
}

/// Hashes text under the installation's key, per instance.
pub type Pseudonym = Arc<dyn Fn(&Tenant, &str) -> [u8; 16] + Send + Sync>;

impl Redaction {
    /// `finding` with what is to go gone.
    #[must_use]
    pub fn apply(self, mut finding: Finding, pseudonym: &Pseudonym) -> Finding {
        let tenant = finding.tenant.clone();
        let address = |value: &str| treated(self.addresses, value, |value| hashed_address(&tenant, value, pseudonym));
        let account = |value: &str| treated(self.accounts, value, |value| hashed_account(&tenant, value, pseudonym));
        let entity = match finding.entity.kind {
            EntityKind::Ip | EntityKind::Network => address(&finding.entity.value),
            EntityKind::Account => account(&finding.entity.value),
            EntityKind::Tenant => Some(finding.entity.value.clone()),
        };
        finding.entity.value = entity.unwrap_or_else(|| WITHHELD.into());
        let evidence = &mut finding.evidence;
        evidence.addresses.values = evidence.addresses.values.iter().filter_map(|value| address(value)).collect();
        evidence.within = evidence.within.as_deref().and_then(address);
        evidence.accounts.values = evidence.accounts.values.iter().filter_map(|value| account(value)).collect();
        evidence.networks.retain_mut(|network| match address(&network.value) {
            Some(value) => {
                network.value = value;
                true
            }
            None => false,
        });
        for list in [&mut evidence.compromised, &mut evidence.suspected] {
            list.retain_mut(|one| {
                one.address = one.address.as_deref().and_then(address);
                account(&one.account).map(|account| one.account = account).is_some()
            });
        }
        finding
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn keeps_all(self) -> bool {
        self == Self::default()
    }
}

fn treated(treatment: Treatment, value: &str, hash: impl Fn(&str) -> String) -> Option<String> {
    match treatment {
        Treatment::Keep => Some(value.to_owned()),
        Treatment::Hash => Some(hash(value)),
        Treatment::Drop => None,
    }
}

fn hashed_account(tenant: &Tenant, account: &str, pseudonym: &Pseudonym) -> String {
    let hash = u128::from_be_bytes(pseudonym(tenant, &format!("sink account {account}")));
    format!("acct_{hash:032x}")
}

/// `fd`, 40 bits of the network's hash, 80 of the address's. What is no address gets the bits of both.
fn hashed_address(tenant: &Tenant, value: &str, pseudonym: &Pseudonym) -> String {
    let hash = |what: &str| u128::from_be_bytes(pseudonym(tenant, &format!("sink address {what}")));
    let (network, is_network) = match value.parse::<IpNet>().or_else(|_| value.parse::<IpAddr>().map(IpNet::from)) {
        Ok(IpNet::V4(net)) => {
            let network = Ipv4Net::new(net.addr(), net.prefix_len().min(24)).map_or(IpNet::V4(net), IpNet::V4);
            (network.trunc().to_string(), net.prefix_len() <= 24)
        }
        Ok(IpNet::V6(net)) => {
            let network = Ipv6Net::new(net.addr(), net.prefix_len().min(48)).map_or(IpNet::V6(net), IpNet::V6);
            (network.trunc().to_string(), net.prefix_len() <= 48)
        }
        Err(_) => (value.to_owned(), false),
    };
    let prefix = (0xfd_u128 << 120) | (hash(&network) >> 88 << 80);
    if is_network {
        return format!("{}/48", Ipv6Addr::from_bits(prefix));
    }
    Ipv6Addr::from_bits(prefix | (hash(value) >> 48)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::{Compromise, Compromised, Counted, Entity};
    use crate::sinks::sample::stuffing;

    fn pseudonym() -> Pseudonym {
        // Any function of both will do here.
        Arc::new(|tenant, text| {
            let mut hash = [0_u8; 16];
            for (place, byte) in tenant.0.bytes().chain(text.bytes()).enumerate() {
                hash[place % 16] = hash[place % 16].wrapping_mul(31).wrapping_add(byte);
            }
            hash
        })
    }

    fn telling() -> Finding {
        let mut finding = stuffing();
        finding.entity = Entity { kind: EntityKind::Ip, value: "203.0.113.7".into() };
        finding.evidence.addresses.values = vec!["203.0.113.7".into(), "2001:db8:1:2::/64".into()];
        finding.evidence.networks = vec![Counted { value: "203.0.113.0/24".into(), count: 9 }];
        finding.evidence.within = Some("2001:db8:1::/48".into());
        finding.evidence.accounts.values = vec!["user_1".into(), "idh_2".into()];
        let at = finding.at;
        let one = Compromised {
            account: "user_1".into(),
            address: Some("203.0.113.7".into()),
            at,
            how: Compromise::SignedIn,
        };
        finding.evidence.compromised = vec![one.clone()];
        finding.evidence.suspected = vec![one];
        finding
    }

    fn told(finding: &Finding) -> Vec<&'static str> {
        let text = serde_json::to_string(finding).unwrap();
        ["203.0.113", "2001:db8", "user_1", "idh_2"].into_iter().filter(|word| text.contains(word)).collect()
    }

    #[test]
    fn dropped_values_are_gone_and_counts_stay() {
        let finding = telling();
        assert_eq!(told(&finding).len(), 4);
        let both = Redaction { addresses: Treatment::Drop, accounts: Treatment::Drop };
        let redacted = both.apply(finding.clone(), &pseudonym());
        assert_eq!(told(&redacted), [""; 0]);
        assert_eq!(redacted.entity.value, "withheld");
        assert_eq!(redacted.evidence.accounts.total, finding.evidence.accounts.total);
        assert_eq!(redacted.evidence.totals, finding.evidence.totals);
        let addresses = Redaction { addresses: Treatment::Drop, accounts: Treatment::Keep };
        let redacted = addresses.apply(finding, &pseudonym());
        assert_eq!(told(&redacted), ["user_1", "idh_2"]);
        assert_eq!(redacted.evidence.compromised.len(), 1);
    }

    #[test]
    fn hashed_values_join_and_are_of_their_type() {
        let both = Redaction { addresses: Treatment::Hash, accounts: Treatment::Hash };
        let redacted = both.apply(telling(), &pseudonym());
        assert_eq!(told(&redacted), [""; 0]);
        let evidence = &redacted.evidence;
        assert_eq!(redacted.entity.value, evidence.addresses.values[0]);
        assert_eq!(evidence.compromised[0].address.as_ref(), Some(&redacted.entity.value));
        assert_eq!(evidence.compromised[0].account, evidence.accounts.values[0]);
        assert_ne!(evidence.accounts.values[0], evidence.accounts.values[1]);
        let network: IpNet = evidence.networks[0].value.parse().unwrap();
        let address: IpAddr = redacted.entity.value.parse().unwrap();
        assert!(network.contains(&address), "{network} {address}");
        assert!("fd00::/8".parse::<IpNet>().unwrap().contains(&address));
        assert!(!network.contains(&evidence.addresses.values[1].parse::<IpAddr>().unwrap()));
    }

    #[test]
    fn another_instance_has_other_pseudonyms() {
        let both = Redaction { addresses: Treatment::Hash, accounts: Treatment::Hash };
        let other = Finding { tenant: "ins_other".into(), ..telling() };
        let (one, other) = (both.apply(telling(), &pseudonym()), both.apply(other, &pseudonym()));
        assert_ne!(one.entity.value, other.entity.value);
        assert!(Redaction::default().keeps_all() && !both.keeps_all());
    }
}
