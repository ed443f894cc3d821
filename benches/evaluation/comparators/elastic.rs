//! Elastic's Okta rules and its threshold type: searches that run every quarter of an hour over what they look back on.
//!
//! Two of their conditions need what the events do not carry (countries, autonomous systems); the alternatives that these
//! stand in an OR with are kept.

use std::collections::BTreeMap;

use super::recent::{Group, Recent, Schedule};
use super::{Alert, Comparator, MINUTE, Seen, Subject};

/// What failures are grouped by.
#[derive(Clone, Copy, Debug)]
enum By {
    Address,
    Account,
    Tenant,
}

/// One search.
#[derive(Clone, Debug)]
pub struct Search {
    name: &'static str,
    by: By,
    fires: fn(&Group) -> bool,
    schedule: Schedule,
    recent: Recent,
}

impl Search {
    fn new(name: &'static str, by: By, look_back: i64, every: i64, fires: fn(&Group) -> bool) -> Self {
        Self { name, by, fires, schedule: Schedule::every(every), recent: Recent::of(look_back) }
    }
}

/// Credential stuffing from a single source.
pub fn stuffing() -> Search {
    Search::new("Elastic stuffing", By::Address, 15 * MINUTE, 15 * MINUTE, |group| {
        group.tries >= 25 && group.accounts() >= 15 && group.most() <= 2 && group.share(0..=2) >= 0.8
    })
}

/// Password spraying from a single source.
pub fn spraying() -> Search {
    Search::new("Elastic spray", By::Address, 60 * MINUTE, 15 * MINUTE, |group| {
        group.accounts() >= 5
            && group.tries >= 15
            && (2..=8).contains(&group.most())
            && group.share(2..=6) >= 0.6
            && group.last - group.first >= 5 * MINUTE
    })
}

/// Password spraying from many sources: it looks at whole quarters of an hour, of which the one just ended is new.
pub fn spraying_from_many() -> Search {
    Search::new("Elastic spray multi", By::Tenant, 15 * MINUTE, 15 * MINUTE, |group| {
        let (addresses, accounts) = (group.addresses.len() as u64, group.accounts());
        addresses >= 5 && accounts >= 8 && group.tries >= 25 && group.tries <= 5 * accounts && accounts >= addresses
    })
}

/// Brute force on one account from many sources.
pub fn guessing_from_many() -> Search {
    Search::new("Elastic brute multi", By::Account, 30 * MINUTE, 15 * MINUTE, |group| {
        let addresses = group.addresses.len();
        addresses >= 5 && group.tries >= 10 && (addresses >= 8 || group.agents.len() >= 3)
    })
}

/// The threshold type as its Microsoft 365 spray rule uses it: 25 failures of one address, here within half an hour.
pub fn threshold() -> Search {
    Search::new("Elastic threshold", By::Address, 30 * MINUTE, 5 * MINUTE, |group| group.tries >= 25)
}

impl Comparator for Search {
    fn name(&self) -> &'static str {
        self.name
    }

    fn observe(&mut self, seen: &Seen, alerts: &mut Vec<Alert>) {
        while let Some(now) = self.schedule.due(seen.at) {
            let mut groups: BTreeMap<Subject, Group> = BTreeMap::new();
            for seen in self.recent.until(now) {
                let subject = match self.by {
                    By::Address => seen.ip.into(),
                    By::Account => Subject::Account(seen.account),
                    By::Tenant => Subject::Tenant,
                };
                groups.entry(subject).or_default().add(seen);
            }
            let since = now - self.recent.span();
            let over = groups.into_iter().filter(|(_, group)| (self.fires)(group));
            alerts.extend(over.map(|(subject, _)| Alert { at: now, since, subject }));
        }
        if seen.failed {
            self.recent.push(seen);
        }
    }

    fn fork(&self) -> Box<dyn Comparator> {
        Box::new(self.clone())
    }
}
