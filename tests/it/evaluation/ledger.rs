//! Alerts and findings as incidents.

use authspike::finding::EntityKind;

use super::suite::comparators::{Alert, HOUR, Subject};
use super::suite::ledger::{Ledger, subject};
use super::suite::panel::account_of;

#[test]
fn alerts_an_hour_apart_are_one_incident_and_time_is_counted_once() {
    let mut ledger = Ledger::default();
    let subject = Subject::Tenant;
    for at in [0, HOUR, 2 * HOUR, 3 * HOUR + 1] {
        ledger.alert(&Alert::at_once(at, subject), "rule", 7);
    }
    let spans: Vec<_> = ledger.incidents.iter().map(|incident| (incident.opened_at, incident.until)).collect();
    assert_eq!(spans, [(0, 3 * HOUR), (3 * HOUR + 1, 4 * HOUR + 1)]);
    ledger.alert(&Alert::at_once(2 * HOUR, Subject::Account(1)), "rule", 7);
    assert_eq!(Ledger::open_millis(ledger.incidents.iter(), HOUR, 4 * HOUR), 3 * HOUR - 1);
}

#[test]
fn entities_are_read_as_findings_write_them() {
    let net = |text: &str| Subject::Net(text.parse().unwrap());
    assert_eq!(subject(EntityKind::Ip, "203.0.113.7"), net("203.0.113.7/32"));
    assert_eq!(subject(EntityKind::Ip, "2001:db8:1:2::/64"), net("2001:db8:1:2::/64"));
    assert_eq!(subject(EntityKind::Network, "203.0.113.0/24"), net("203.0.113.0/24"));
    assert_eq!(subject(EntityKind::Account, "user_1"), Subject::Account(account_of("user_1")));
}
