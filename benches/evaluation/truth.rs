//! What really happened in a run: the attempts of the scenario that is judged, and who belongs to it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;

use authspike::event::{AuthEvent, Timestamp};
use authspike::simulate::{Attempt, Identity, Scenario};
use ipnet::IpNet;

use super::comparators::{HOUR, MINUTE, Subject};
use super::ledger::Incident;
use super::panel;

/// What an incident about an attack is made of begins at most so long after the attack's end.
const GRACE: i64 = 15 * MINUTE;
/// What is said of an attacker's entity up to a day later is aftermath: neither found nor false.
const AFTERMATH: i64 = 24 * HOUR;

/// One labelled attempt: 40 bytes, so that the largest attack (108,000 attempts) takes four megabytes.
#[derive(Clone, Copy, Debug)]
struct Labelled {
    at: i64,
    ip: IpAddr,
    account: u64,
}

/// What an incident has to do with the scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// It is about it.
    About,
    /// It is about its remains, or about what led up to it.
    Aftermath,
    /// It is about something else.
    Unrelated,
}

/// The labelled attempts of one run.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    attempts: Vec<Labelled>,
    /// Accounts that were broken into.
    hits: BTreeSet<u64>,
    /// Accounts of the attacker's own, which it is neither right nor wrong to name.
    own: BTreeSet<u64>,
    addresses: HashSet<IpAddr>,
    accounts: HashSet<u64>,
    /// Addresses of what led up to it.
    led_up: HashSet<IpAddr>,
}

impl Truth {
    /// Notes an attempt if it belongs to scenario `judged`, or to an attack that led up to it.
    pub fn note(&mut self, attempt: &Attempt, event: &AuthEvent, judged: Scenario) {
        let (Some(scenario), account) = (attempt.scenario, panel::account(event)) else { return };
        let Timestamp(at) = attempt.at;
        if scenario != judged {
            self.led_up.insert(attempt.ip);
            return;
        }
        self.attempts.push(Labelled { at, ip: attempt.ip, account });
        self.addresses.insert(attempt.ip);
        self.accounts.insert(account);
        if attempt.is_hit() {
            self.hits.insert(account);
        }
        if matches!(attempt.identity, Identity::Own(_)) {
            self.own.insert(account);
        }
    }

    /// Attempts so far.
    pub fn tries(&self) -> u64 {
        self.attempts.len() as u64
    }

    /// When it began and ended.
    pub fn span(&self) -> Option<(i64, i64)> {
        Some((self.attempts.first()?.at, self.attempts.last()?.at))
    }

    /// Accounts that were broken into.
    pub fn hits(&self) -> &BTreeSet<u64> {
        &self.hits
    }

    /// Accounts that the attacker signs in to and that are his.
    pub fn own(&self) -> &BTreeSet<u64> {
        &self.own
    }

    /// What `incident` has to do with it.
    pub fn relation(&self, incident: &Incident) -> Relation {
        let Some((from, until)) = self.span() else { return Relation::Unrelated };
        let (takes_part, led_up) = match &incident.subject {
            Subject::Tenant => (true, false),
            Subject::Account(account) => (self.accounts.contains(account), false),
            Subject::Net(net) => (touches(&self.addresses, net), touches(&self.led_up, net)),
        };
        let is_tenant = incident.subject == Subject::Tenant;
        let began_by = |grace: i64| incident.began_at <= until + grace && incident.until >= from;
        // What was open about everybody before it began says nothing about it: else a rule that always fires finds all.
        let is_news = !is_tenant || incident.opened_at >= from;
        if takes_part && is_news && began_by(GRACE) {
            Relation::About
        } else if (takes_part && !is_tenant && began_by(AFTERMATH)) || led_up {
            Relation::Aftermath
        } else {
            Relation::Unrelated
        }
    }

    /// Which of its attempts and addresses `incidents` account for, as shares.
    pub fn attributed(&self, incidents: &[&Incident]) -> (f64, f64) {
        let mut nets = Nets::default();
        let mut accounts = HashSet::new();
        let mut spans = Vec::new();
        for incident in incidents {
            match &incident.subject {
                Subject::Net(net) => nets.add(*net),
                Subject::Account(account) => drop(accounts.insert(*account)),
                Subject::Tenant => spans.push((incident.began_at.min(incident.opened_at), incident.until)),
            }
            incident.listed.iter().for_each(|net| nets.add(*net));
        }
        let mut attempts = 0_u64;
        let mut addresses = HashSet::new();
        for labelled in &self.attempts {
            let inside = |span: &(i64, i64)| (span.0..=span.1).contains(&labelled.at);
            if nets.contains(labelled.ip) || accounts.contains(&labelled.account) || spans.iter().any(inside) {
                attempts += 1;
                addresses.insert(labelled.ip);
            }
        }
        let share = |part: u64, whole: usize| part as f64 / whole.max(1) as f64;
        (share(attempts, self.attempts.len()), share(addresses.len() as u64, self.addresses.len()))
    }
}

/// Whether any of `addresses` lies in `net`.
fn touches(addresses: &HashSet<IpAddr>, net: &IpNet) -> bool {
    if net.prefix_len() == net.max_prefix_len() {
        return addresses.contains(&net.addr());
    }
    addresses.iter().any(|ip| net.contains(ip))
}

/// Ranges of addresses, found by their lengths.
#[derive(Debug, Default)]
struct Nets(BTreeMap<u8, HashSet<IpNet>>);

impl Nets {
    fn add(&mut self, net: IpNet) {
        self.0.entry(net.prefix_len()).or_default().insert(net.trunc());
    }

    fn contains(&self, ip: IpAddr) -> bool {
        self.0.iter().any(|(length, nets)| IpNet::new(ip, *length).is_ok_and(|net| nets.contains(&net.trunc())))
    }
}
