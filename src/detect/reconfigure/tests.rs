use std::net::IpAddr;

use super::*;
use crate::event::{Account, AuthEvent, Outcome, Source, Timestamp};
use crate::finding::{EntityKind, Finding, Lifecycle};

const START: i64 = 1_767_600_000_000;

/// Failures of ever new accounts, one a second.
fn failures(tenant: &str, ip: &str, seconds: std::ops::Range<u32>) -> Vec<AuthEvent> {
    let ip: IpAddr = ip.parse().unwrap();
    seconds.map(|second| failure(tenant, ip, second, format!("user_{ip}_{second}"))).collect()
}

fn failure(tenant: &str, ip: IpAddr, second: u32, account: String) -> AuthEvent {
    let at = Timestamp(START + i64::from(second) * 1000);
    AuthEvent {
        id: format!("{ip}-{second}").into(),
        occurred_at: at,
        received_at: at,
        tenant: tenant.into(),
        source: Source::AttemptReport,
        outcome: Outcome::Failure,
        reason: None,
        ip: Some(ip),
        account: Some(Account::User(account.into())),
        identifier: None,
        user_agent: None,
        session: None,
    }
}

fn config(json: &str) -> Config {
    let config: Config = serde_json::from_str(json).unwrap();
    assert_eq!(config.validate(), [""; 0]);
    config
}

/// The kinds and values of the entities that findings were opened for.
fn opened(detector: &mut Detector, events: Vec<AuthEvent>) -> Vec<(EntityKind, String)> {
    let mut found = Vec::new();
    for event in events {
        detector.observe(event, &mut found);
    }
    let of = |finding: Finding| (finding.entity.kind, finding.entity.value);
    found.into_iter().filter(|finding| finding.lifecycle == Lifecycle::Opened).map(of).collect()
}

#[test]
fn an_allowed_network_leaves_no_trace_on_its_addresses_and_networks() {
    let allow = r#"{"allow": [{"cidr": "203.0.113.0/25", "reason": "scanner"}]}"#;
    let mut detector = Detector::new(&config(allow));
    assert_eq!(opened(&mut detector, failures("ins_1", "203.0.113.7", 0..100)), []);
    assert_eq!((detector.stats().events, detector.stats().allowed), (100, 100));
    assert_eq!(detector.stats().entities[..2], [0, 0]);
    // The rest of the /24 is not allowed, and starts from nothing.
    let beyond = opened(&mut detector, failures("ins_1", "203.0.113.200", 100..112));
    assert_eq!(beyond, [(EntityKind::Ip, "203.0.113.200".to_owned())]);
    assert_eq!(opened(&mut Detector::new(&config("{}")), failures("ins_1", "203.0.113.7", 0..12)).len(), 1);
}

#[test]
fn an_account_is_judged_from_an_allowed_network_and_its_finding_says_from_where() {
    let allow = r#"{"allow": [{"cidr": "203.0.113.7", "reason": "office"}]}"#;
    let mut detector = Detector::new(&config(allow));
    let ip: IpAddr = "203.0.113.7".parse().unwrap();
    let events = (0..20).map(|second| failure("ins_1", ip, second, "user_1".into())).collect();
    assert_eq!(opened(&mut detector, events), [(EntityKind::Account, "user_1".to_owned())]);
    assert_eq!(detector.open_findings()[0].evidence.addresses.values, ["203.0.113.7"]);
}

#[test]
fn an_allowed_account_is_not_judged_and_counts_once_for_its_address() {
    let allow = r#"{"allow": [{"account": "user_1", "reason": "canary"}]}"#;
    let ip: IpAddr = "203.0.113.7".parse().unwrap();
    let events = || (0..100).map(|second| failure("ins_1", ip, second, "user_1".into())).collect();
    let mut detector = Detector::new(&config(allow));
    assert_eq!(opened(&mut detector, events()), []);
    assert_eq!(detector.stats().entities[EntityKind::Account as usize], 0);
    assert!(detector.stats().entities[EntityKind::Ip as usize] <= 1);
    assert_eq!(opened(&mut Detector::new(&config("{}")), events()).len(), 1);
}

#[test]
fn an_entry_that_ends_in_the_middle_of_an_attack_lets_the_rest_be_found() {
    let until = Timestamp(START + 50_000);
    let allow = format!(r#"{{"allow": [{{"cidr": "203.0.113.7", "until": "{until}", "reason": "test"}}]}}"#);
    let mut detector = Detector::new(&config(&allow));
    let found = opened(&mut detector, failures("ins_1", "203.0.113.7", 0..57));
    assert_eq!(found, [], "seven failures of its own");
    assert_eq!(opened(&mut detector, failures("ins_1", "203.0.113.7", 57..58)).len(), 1);
    assert_eq!(detector.stats().allowed, 50);
}

#[test]
fn a_tenant_is_judged_by_its_own_thresholds() {
    let mut detector = Detector::new(&config(r#"{"tenants": {"ins_2": {"address_minimum": 30}}}"#));
    // Distinct accounts are estimated, hence the room between the two.
    assert_eq!(opened(&mut detector, failures("ins_1", "203.0.113.7", 0..12)).len(), 1);
    assert_eq!(opened(&mut detector, failures("ins_2", "203.0.113.7", 0..20)).len(), 0);
    assert_eq!(opened(&mut detector, failures("ins_2", "203.0.113.7", 20..45)).len(), 1);
}

#[test]
fn new_settings_judge_what_was_counted_before_and_a_restored_detector_goes_on_alike() {
    let (strict, loose) = (config(r#"{"address_minimum": 8}"#), config(r#"{"address_minimum": 40}"#));
    let own = config(r#"{"address_minimum": 40, "tenants": {"ins_1": {"address_minimum": 25}}}"#);
    // When the attack is found, if it was not before `from`.
    let fires = |detector: &mut Detector, from: u32| {
        (from..90).find(|second| !opened(detector, failures("ins_1", "203.0.113.7", *second..second + 1)).is_empty())
    };
    for (first, then, before) in [(&strict, &loose, 5), (&loose, &strict, 20), (&loose, &own, 20)] {
        let mut running = Detector::new(first);
        assert_eq!(opened(&mut running, failures("ins_1", "203.0.113.7", 0..before)), []);
        let mut restored = Detector::restore(then, &running.snapshot().unwrap()).unwrap();
        running.reconfigure(then);
        // As if it had been so all along, and at once where that is already past.
        let expected = fires(&mut Detector::new(then), 0).map(|second| second.max(before));
        assert_eq!(fires(&mut running, before), expected);
        assert_eq!(fires(&mut restored, before), expected);
        assert_eq!(running.snapshot().unwrap(), restored.snapshot().unwrap());
    }
}

#[test]
fn what_is_open_stays_open_under_new_settings_and_closes_by_the_new_quiet_time() {
    let mut detector = Detector::new(&config(r#"{"quiet_minutes": 60}"#));
    opened(&mut detector, failures("ins_1", "203.0.113.7", 0..10));
    detector.reconfigure(&config(r#"{"address_minimum": 60, "quiet_minutes": 10}"#));
    assert_eq!(detector.open_findings().len(), 1);
    let mut found = Vec::new();
    detector.tick(Timestamp(START + 12 * 60_000), &mut found);
    assert_eq!(found.last().map(|finding| finding.lifecycle), Some(Lifecycle::Closed));
}

#[test]
fn the_size_of_the_table_waits_for_a_restart() {
    let mut detector = Detector::new(&config(r#"{"max_state_bytes": 5000000}"#));
    detector.reconfigure(&config(r#"{"max_state_bytes": 9000000, "factor": 60}"#));
    assert_eq!((detector.config.max_state_bytes, detector.config.factor), (5_000_000, 60.0));
}

#[test]
fn allowed_networks_do_not_count_towards_the_tenant() {
    // One try each, from everywhere in a /8.
    let events = || -> Vec<_> {
        let from = |number: u32| IpAddr::from([11, (number / 250) as u8, (number % 250) as u8, 7]);
        let attack = (0..3000).map(|number| failure("ins_1", from(number), number / 5, format!("user_{number}")));
        // A tenant where nobody has ever signed in has nothing to hold failures against.
        let sign_in = failure("ins_1", "192.0.2.1".parse().unwrap(), 0, "user_0".into());
        std::iter::once(AuthEvent { outcome: Outcome::Success, ..sign_in }).chain(attack).collect()
    };
    let found = opened(&mut Detector::new(&config("{}")), events());
    assert_eq!(found, [(EntityKind::Tenant, "ins_1".to_owned())]);
    let allow = r#"{"allow": [{"cidr": "11.0.0.0/8", "reason": "load test"}]}"#;
    assert_eq!(opened(&mut Detector::new(&config(allow)), events()), []);
}
