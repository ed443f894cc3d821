//! What counts as found, as false, and as neither.

use std::net::IpAddr;

use authspike::event::{Tenant as Instance, Timestamp};
use authspike::normalize::identifier::IdentifierKey;
use authspike::simulate::event::Events;
use authspike::simulate::{Attempt, Ending, Identity, Load, Plan, Scenario};

use super::suite::comparators::{Alert, HOUR, MINUTE, Subject};
use super::suite::ledger::{Incident, Ledger};
use super::suite::play::Played;
use super::suite::score::{AttackScore, Found, QuietScore};
use super::suite::truth::{Relation, Truth};

/// The attack begins at an hour, so that there is a before.
const T0: i64 = HOUR;
const T1: i64 = T0 + 9 * MINUTE;

/// Ten tries, a minute apart, in turns from two addresses; the last gets in, the one before is the attacker's own account.
fn truth() -> Truth {
    let plan = Plan {
        seed: 1,
        start: Timestamp(0),
        span_millis: None,
        tenant: Instance::UNNAMED.into(),
        accounts: 10,
        load: Load::PerAccountPerDay(0.0),
        lockout: 0,
        attacks: Vec::new(),
        benign: Vec::new(),
    };
    let mut events = Events::new(&plan, IdentifierKey::new(&[7; 32]));
    let mut truth = Truth::default();
    let mut note = |at: i64, ip: [u8; 4], identity, ending, scenario| {
        let (at, scenario) = (Timestamp(at), Some(scenario));
        let attempt = Attempt { at, ip: ip.into(), identity, ending, agent: 0, scenario };
        truth.note(&attempt, &events.event(0, &attempt, at), Scenario::Attack(1));
    };
    note(0, [198, 51, 100, 9], Identity::Leaked(1), Ending::UnknownIdentifier, Scenario::Attack(0));
    for number in 0..10 {
        let (identity, ending) = match number {
            8 => (Identity::Own(1), Ending::SignedIn),
            9 => (Identity::Account(9), Ending::SignedIn),
            _ => (Identity::Account(number), Ending::WrongPassword),
        };
        let ip = [203, 0, 113, u8::try_from(number % 2).unwrap()];
        note(T0 + i64::from(number) * MINUTE, ip, identity, ending, Scenario::Attack(1));
    }
    truth
}

fn incident(subject: Subject, opened_at: i64, until: i64) -> Incident {
    let mut ledger = Ledger::default();
    ledger.alert(&Alert::at_once(opened_at, subject), "rule", 5);
    let mut incident = ledger.incidents.remove(0);
    incident.until = until;
    incident
}

fn net(text: &str) -> Subject {
    Subject::Net(text.parse().unwrap())
}

#[test]
fn an_entity_that_took_part_is_about_it_then_aftermath_then_nothing() {
    let truth = truth();
    let relation = |subject, opened_at, until| truth.relation(&incident(subject, opened_at, until));
    let address = net("203.0.113.1/32");
    assert_eq!(relation(address, T0, T1), Relation::About);
    // Open since before, and still when it begins: the attacker is known.
    assert_eq!(relation(address, 0, T0), Relation::About);
    assert_eq!(relation(address, 0, T0 - 1), Relation::Unrelated);
    assert_eq!(relation(address, T1 + 15 * MINUTE, T1 + HOUR), Relation::About);
    assert_eq!(relation(address, T1 + 15 * MINUTE + 1, T1 + HOUR), Relation::Aftermath);
    assert_eq!(relation(address, T1 + 24 * HOUR + 1, T1 + 25 * HOUR), Relation::Unrelated);
    assert_eq!(relation(net("203.0.113.0/24"), T0, T1), Relation::About);
    assert_eq!(relation(net("203.0.113.7/32"), T0, T1), Relation::Unrelated);
    assert_eq!(relation(net("198.51.100.9/32"), 0, 1), Relation::Aftermath);
    assert_eq!(relation(Subject::Account(1), T0, T1), Relation::Unrelated);
}

#[test]
fn the_tenant_is_about_it_only_if_it_is_news() {
    let truth = truth();
    let relation = |opened_at, until| truth.relation(&incident(Subject::Tenant, opened_at, until));
    assert_eq!(relation(T0, T1), Relation::About);
    assert_eq!(relation(T0 - 1, T1), Relation::Unrelated);
    assert_eq!(relation(T1 + 15 * MINUTE, T1 + HOUR), Relation::About);
    assert_eq!(relation(T1 + 15 * MINUTE + 1, T1 + HOUR), Relation::Unrelated);
    // A search that runs hours later and looks back on it finds it, late.
    let late = Incident { began_at: T1, ..incident(Subject::Tenant, T1 + 9 * HOUR, T1 + 10 * HOUR) };
    assert_eq!(truth.relation(&late), Relation::About);
}

#[test]
fn attempts_are_attributed_by_subject_by_list_and_by_time() {
    let truth = truth();
    let of = |incident: Incident| truth.attributed(&[&incident]);
    assert_eq!(of(incident(net("203.0.113.1/32"), T0, T1)), (0.5, 0.5));
    assert_eq!(of(incident(net("203.0.113.0/24"), T0, T1)), (1.0, 1.0));
    assert_eq!(of(incident(Subject::Account(1), T0, T1)), (0.0, 0.0));
    let listed = Incident { listed: vec!["203.0.113.0/32".parse().unwrap()], ..incident(Subject::Account(1), T0, T1) };
    assert_eq!(of(listed), (0.5, 0.5));
    // From the fifth minute on: 5 of 10, by both addresses.
    assert_eq!(of(incident(Subject::Tenant, T0 + 5 * MINUTE, T1)), (0.5, 1.0));
    let begun = Incident { began_at: T0, ..incident(Subject::Tenant, T0 + 5 * MINUTE, T1) };
    assert_eq!(of(begun), (1.0, 1.0));
}

#[test]
fn a_score_adds_up() {
    let truth = truth();
    let (hit, own) = (*truth.hits().first().unwrap(), *truth.own().first().unwrap());
    let mut ledger = Ledger::default();
    ledger.alert(&Alert::at_once(T0 + 4 * MINUTE + 1, net("203.0.113.0/32")), "rule", 5);
    ledger.alert(&Alert::at_once(T0 + 2 * MINUTE, net("192.0.2.1/32")), "rule", 3);
    ledger.alert(&Alert::at_once(T0 + MINUTE, net("198.51.100.9/32")), "rule", 2);
    ledger.incidents[0].compromised.extend([hit, own, 12345]);
    ledger.incidents[1].compromised.insert(777);
    let played = Played { truth, ledgers: Vec::new(), from: 0, until: 3 * HOUR, events: 0 };
    let score = AttackScore::of(&played, &ledger);
    assert_eq!(score.found, Some(Found { after_millis: 4 * MINUTE + 1, after_attempts: 5 }));
    // The attacker's own account is neither right nor wrong.
    assert_eq!((score.named, score.named_rightly, score.broken_into), (2, 1, 1));
    assert_eq!((score.stories, score.false_stories), (1, 1));
    assert_eq!((score.attempts, score.attempts_attributed), (10, 0.5));
    assert_eq!(AttackScore::of(&played, &Ledger::default()).found, None);
}

#[test]
fn what_says_that_it_is_no_attack_is_counted_apart() {
    let mut ledger = Ledger::default();
    let ip: IpAddr = [192, 0, 2, 1].into();
    ledger.alert(&Alert::at_once(HOUR, ip), "rule", 0);
    ledger.alert(&Alert::at_once(HOUR, Subject::Tenant), "rule", 0);
    ledger.incidents[1].is_no_attack = true;
    let score = QuietScore::of(&ledger, 0, 4 * HOUR);
    assert_eq!((score.false_stories, score.no_attacks), (1, 1));
    assert_eq!((score.open_millis, score.millis), (HOUR, 4 * HOUR));
    // Two findings of one story are one.
    ledger.incidents[1].is_no_attack = false;
    ledger.incidents[1].story = ledger.incidents[0].story.clone();
    assert_eq!(QuietScore::of(&ledger, 0, 4 * HOUR).false_stories, 1);
    assert_eq!(QuietScore::of(&ledger, 0, HOUR).false_stories, 0);
}
