//! What a run is worth: a detector's incidents against the truth.

use std::collections::BTreeSet;

use super::ledger::{Incident, Ledger};
use super::play::Played;
use super::truth::Relation;

/// How one detector did on one attack.
#[derive(Clone, Debug, PartialEq)]
pub struct AttackScore {
    /// When it was found; `None`: never.
    pub found: Option<Found>,
    /// Attempts of the whole attack.
    pub attempts: u64,
    /// Share of its attempts that are accounted for.
    pub attempts_attributed: f64,
    /// Share of its addresses.
    pub addresses_attributed: f64,
    /// Accounts named as compromised, and how many of them are.
    pub named: u64,
    pub named_rightly: u64,
    /// Accounts named as suspected only, and how many of them were broken into.
    pub suspected: u64,
    pub suspected_rightly: u64,
    /// Accounts that were broken into.
    pub broken_into: u64,
    /// What the analyst gets about it.
    pub stories: u64,
    /// What the analyst gets in the same days about nothing.
    pub false_stories: u64,
}

/// When an attack was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// From its first attempt, in milliseconds of event time.
    pub after_millis: i64,
    /// Attempts made by then.
    pub after_attempts: u64,
}

/// How one detector did where there was no attack.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QuietScore {
    /// False incidents.
    pub false_stories: u64,
    /// Incidents that say themselves that they are no attack.
    pub no_attacks: u64,
    /// Milliseconds in which any false one was open.
    pub open_millis: i64,
    /// Milliseconds that were watched.
    pub millis: i64,
    /// What fired.
    pub labels: BTreeSet<String>,
}

impl AttackScore {
    /// Of one detector's `ledger`.
    pub fn of(played: &Played, ledger: &Ledger) -> Self {
        let truth = &played.truth;
        let related = |wanted: Relation| {
            let all = ledger.incidents.iter().filter(|incident| !incident.is_no_attack);
            all.filter(move |incident| truth.relation(incident) == wanted).collect::<Vec<_>>()
        };
        let about = related(Relation::About);
        let began = truth.span().map_or(0, |(from, _)| from);
        let first = about.iter().min_by_key(|incident| incident.opened_at);
        let found = first.map(|incident| Found {
            after_millis: (incident.opened_at - began).max(0),
            after_attempts: incident.tries_before.min(truth.tries()),
        });
        let (attempts_attributed, addresses_attributed) = truth.attributed(&about);
        let named: BTreeSet<u64> = about.iter().flat_map(|incident| incident.compromised.iter().copied()).collect();
        let named = &named - truth.own();
        let suspected: BTreeSet<u64> = about.iter().flat_map(|incident| incident.suspected.iter().copied()).collect();
        let suspected = &(&suspected - truth.own()) - &named;
        Self {
            found,
            attempts: truth.tries(),
            attempts_attributed,
            addresses_attributed,
            named: named.len() as u64,
            named_rightly: named.intersection(truth.hits()).count() as u64,
            suspected: suspected.len() as u64,
            suspected_rightly: suspected.intersection(truth.hits()).count() as u64,
            broken_into: truth.hits().len() as u64,
            stories: stories(&about),
            false_stories: stories(&related(Relation::Unrelated)),
        }
    }
}

impl QuietScore {
    /// Of one detector's `ledger`, counting what it opened in `[from, until)`.
    pub fn of(ledger: &Ledger, from: i64, until: i64) -> Self {
        let (no_attacks, wrong): (Vec<_>, Vec<_>) = ledger
            .incidents
            .iter()
            .filter(|incident| (from..until).contains(&incident.opened_at))
            .partition(|incident| incident.is_no_attack);
        Self {
            false_stories: stories(&wrong),
            no_attacks: stories(&no_attacks),
            open_millis: Ledger::open_millis(wrong.iter().copied(), from, until),
            millis: until - from,
            labels: wrong.iter().chain(&no_attacks).map(|incident| incident.label.clone()).collect(),
        }
    }

    /// Both together.
    pub fn add(&mut self, other: &Self) {
        self.false_stories += other.false_stories;
        self.no_attacks += other.no_attacks;
        self.open_millis += other.open_millis;
        self.millis += other.millis;
        self.labels.extend(other.labels.iter().cloned());
    }
}

fn stories(incidents: &[&Incident]) -> u64 {
    incidents.iter().map(|incident| incident.story.as_str()).collect::<BTreeSet<_>>().len() as u64
}
