//! What justifies the finding, and the values an analyst searches by.
//!
//! Invariant: at most [`MAX_EVIDENCES`] evidences, the most telling first: the entity's figures, accounts broken into,
//! then addresses, user agents and accounts that were tried. What does not fit is still in `unmapped`.
//!
//! Not here: how the samples were taken (`detect`).

use crate::finding::{EntityKind, Finding};

use super::super::address;
use super::record::{Endpoint, Evidence, EvidenceFigures, HttpRequest, Observable, Resource, User};
use super::{ENTITY_PATH, is_account};

/// Consoles show evidences as a list to be read; twenty is about a screen, and keeps a record within the size that log
/// shippers take as one line.
const MAX_EVIDENCES: usize = 20;
/// Accounts named as affected resources: the same list of accounts broken into that `unmapped` has, within a bound that
/// holds whatever the finding brings.
const MAX_RESOURCES: usize = 50;

const OBSERVABLE_IP: u8 = 2;
const OBSERVABLE_SUBNET: u8 = 12;
const OBSERVABLE_USER_AGENT: u8 = 16;
const OBSERVABLE_USER_UID: u8 = 31;

/// The evidences of `finding`: never empty.
pub(super) fn evidences(finding: &Finding) -> Vec<Evidence<'_>> {
    let evidence = &finding.evidence;
    let compromised = evidence.compromised.iter().map(|one| Evidence {
        src_endpoint: one.address.as_deref().and_then(endpoint),
        user: Some(user(&one.account)),
        http_request: None,
        data: EvidenceFigures::Compromised { how: one.how.as_str(), time: one.at.0 },
    });
    let addresses = evidence.addresses.values.iter().filter_map(|address| {
        Some(Evidence {
            src_endpoint: Some(endpoint(address)?),
            user: None,
            http_request: None,
            data: EvidenceFigures::Address,
        })
    });
    let user_agents = evidence.user_agents.iter().map(|agent| Evidence {
        src_endpoint: None,
        user: None,
        http_request: Some(HttpRequest { user_agent: &agent.value }),
        data: EvidenceFigures::UserAgent { count: agent.count },
    });
    let accounts = evidence.accounts.values.iter().map(|account| Evidence {
        src_endpoint: None,
        user: Some(user(account)),
        http_request: None,
        data: EvidenceFigures::TriedAccount,
    });
    std::iter::once(entity(finding))
        .chain(compromised)
        .chain(addresses)
        .chain(user_agents)
        .chain(accounts)
        .take(MAX_EVIDENCES)
        .collect()
}

fn entity(finding: &Finding) -> Evidence<'_> {
    let value = &finding.entity.value;
    let peak = &finding.evidence.peak;
    let (src_endpoint, user) = match finding.entity.kind {
        EntityKind::Ip => (endpoint(value), None),
        // A network is no endpoint; its addresses follow as evidences of their own.
        EntityKind::Network | EntityKind::Tenant => (None, None),
        EntityKind::Account => (None, Some(user(value))),
    };
    Evidence {
        src_endpoint,
        user,
        http_request: None,
        data: EvidenceFigures::Entity { failures: peak.failures, distinct: peak.distinct, successes: peak.successes },
    }
}

/// The values of `evidences` worth searching by, each once, with the path they stand at (OCSF: without indices).
pub(super) fn observables<'a>(finding: &'a Finding, evidences: &[Evidence<'a>]) -> Vec<Observable<'a>> {
    let mut observables: Vec<Observable<'a>> = Vec::new();
    let mut add = |observable: Observable<'a>| {
        let known = |other: &Observable<'a>| other.name == observable.name && other.value == observable.value;
        if !observables.iter().any(known) {
            observables.push(observable);
        }
    };
    if finding.entity.kind == EntityKind::Network {
        let value = finding.entity.value.as_str().into();
        add(Observable { name: ENTITY_PATH, type_id: OBSERVABLE_SUBNET, value });
    }
    for evidence in evidences {
        if let Some(endpoint) = &evidence.src_endpoint {
            let value = endpoint.ip.to_string().into();
            add(Observable { name: "evidences.src_endpoint.ip", type_id: OBSERVABLE_IP, value });
        }
        if let Some(user) = &evidence.user {
            add(Observable { name: "evidences.user.uid", type_id: OBSERVABLE_USER_UID, value: user.uid.into() });
        }
        if let Some(request) = &evidence.http_request {
            let value = request.user_agent.into();
            add(Observable { name: "evidences.http_request.user_agent", type_id: OBSERVABLE_USER_AGENT, value });
        }
    }
    observables
}

/// The accounts that are affected, not merely tried: those broken into, and the one the finding is about.
pub(super) fn resources(finding: &Finding) -> Vec<Resource<'_>> {
    let about = is_account(&finding.entity).then_some(finding.entity.value.as_str());
    let broken_into = finding.evidence.compromised.iter().map(|one| one.account.as_str());
    let mut resources: Vec<Resource<'_>> = Vec::new();
    for uid in about.into_iter().chain(broken_into) {
        if resources.len() < MAX_RESOURCES && !resources.iter().any(|known| known.uid == uid) {
            resources.push(Resource { uid, type_name: "User" });
        }
    }
    resources
}

/// An account as OCSF's user. Where only an identifier was seen, its hash stands in `uid` too, so that one search finds
/// both; its type is then Unknown, since it may belong to nobody.
fn user(account: &str) -> User<'_> {
    let (type_id, type_name) = if account.starts_with("idh_") { (0, "Unknown") } else { (1, "User") };
    User { uid: account, type_id, type_name }
}

/// OCSF takes no prefix here. `None` for what is no address.
fn endpoint(value: &str) -> Option<Endpoint> {
    address(value).map(|ip| Endpoint { ip })
}
