//! What one detector said in one run: its incidents, however it says them.
//!
//! Alerts of a rule about one subject are one incident until the rule has been quiet about it for an hour; findings of
//! ours say themselves when they open and close.

use std::collections::{BTreeSet, HashMap};

use authspike::event::Timestamp;
use authspike::finding::{EntityKind, Finding, Lifecycle};
use ipnet::IpNet;

use super::comparators::{Alert, HOUR, Subject};
use super::panel::account_of;

/// An incident of a rule ends when the rule is quiet for so long.
const QUIET: i64 = HOUR;

/// One incident.
#[derive(Clone, Debug)]
pub struct Incident {
    pub subject: Subject,
    /// What fired, and what it takes it for.
    pub label: String,
    /// The moment at which somebody could have been told.
    pub opened_at: i64,
    /// Where what it counts begins.
    pub began_at: i64,
    /// When it ended.
    pub until: i64,
    /// Labelled attempts that had been made by then.
    pub tries_before: u64,
    /// Incidents with the same story reach the analyst as one.
    pub story: String,
    /// It says of itself that it is no attack.
    pub is_no_attack: bool,
    /// Accounts it calls compromised.
    pub compromised: BTreeSet<u64>,
    /// Accounts that it says may be.
    pub suspected: BTreeSet<u64>,
    /// Addresses it names beside its subject.
    pub listed: Vec<IpNet>,
}

/// The incidents of one run.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub incidents: Vec<Incident>,
    by_subject: HashMap<Subject, usize>,
    by_finding: HashMap<uuid::Uuid, usize>,
}

impl Ledger {
    /// Notes an alert of a rule, after `tries` labelled attempts.
    pub fn alert(&mut self, alert: &Alert, name: &'static str, tries: u64) {
        let until = alert.at + QUIET;
        if let Some(incident) = self.by_subject.get(&alert.subject).and_then(|index| self.incidents.get_mut(*index))
            && alert.at <= incident.until
        {
            incident.until = until;
            return;
        }
        self.by_subject.insert(alert.subject, self.incidents.len());
        self.incidents.push(Incident {
            subject: alert.subject,
            label: name.to_owned(),
            opened_at: alert.at,
            began_at: alert.since,
            until,
            tries_before: tries,
            story: self.incidents.len().to_string(),
            is_no_attack: false,
            compromised: BTreeSet::new(),
            suspected: BTreeSet::new(),
            listed: Vec::new(),
        });
    }

    /// Notes a revision of a finding, after `tries` labelled attempts.
    pub fn finding(&mut self, finding: &Finding, tries: u64) {
        let next = self.incidents.len();
        let index = *self.by_finding.entry(finding.finding_id).or_insert(next);
        if index == next {
            self.incidents.push(incident(finding, tries));
        }
        let Some(incident) = self.incidents.get_mut(index) else { return };
        incident.label = label(finding);
        incident.story = story(finding);
        incident.is_no_attack = says_no_attack(finding);
        incident.began_at = incident.began_at.min(finding.episode.first_seen_at.0);
        incident.until = finding.episode.closed_at.unwrap_or(finding.episode.last_seen_at).0.max(incident.opened_at);
        incident.compromised.extend(finding.evidence.compromised.iter().map(|named| account_of(&named.account)));
        incident.suspected.extend(finding.evidence.suspected.iter().map(|named| account_of(&named.account)));
        incident.listed = finding.evidence.addresses.values.iter().filter_map(|text| net(text)).collect();
        debug_assert!(finding.lifecycle != Lifecycle::Closed || finding.episode.closed_at.is_some());
    }

    /// Milliseconds of `[from, until)` in which any of these incidents was open.
    pub fn open_millis<'a>(incidents: impl Iterator<Item = &'a Incident>, from: i64, until: i64) -> i64 {
        let mut spans: Vec<_> = incidents
            .map(|incident| (incident.opened_at.clamp(from, until), incident.until.clamp(from, until)))
            .collect();
        spans.sort_unstable();
        let mut open = 0;
        let mut covered = from;
        for (start, end) in spans {
            open += (end - start.max(covered)).max(0);
            covered = covered.max(end);
        }
        open
    }
}

fn incident(finding: &Finding, tries: u64) -> Incident {
    let Timestamp(opened_at) = finding.at;
    Incident {
        subject: subject(finding.entity.kind, &finding.entity.value),
        label: String::new(),
        opened_at,
        began_at: finding.episode.first_seen_at.0,
        until: opened_at,
        tries_before: tries,
        story: String::new(),
        is_no_attack: false,
        compromised: BTreeSet::new(),
        suspected: BTreeSet::new(),
        listed: Vec::new(),
    }
}

/// By the kind's name, not its variant: a kind that is neither an account nor a range of addresses is the tenant.
pub fn subject(kind: EntityKind, value: &str) -> Subject {
    match (kind.as_str(), net(value)) {
        ("account", _) => Subject::Account(account_of(value)),
        (_, Some(net)) => Subject::Net(net),
        (_, None) => Subject::Tenant,
    }
}

/// An address or a network, as findings write them.
fn net(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse().ok().map(|ip: std::net::IpAddr| ip.into()))
}

fn label(finding: &Finding) -> String {
    format!("{} / {}", finding.rule.as_str(), finding.shape.as_str())
}

/// An outage or a broken deploy is an incident, and said to be one, not an attack.
fn says_no_attack(finding: &Finding) -> bool {
    label(finding).contains("outage")
}

/// What correlates findings, where they carry it; else each finding is a story of its own.
fn story(finding: &Finding) -> String {
    finding.correlation.unwrap_or(finding.finding_id).to_string()
}
