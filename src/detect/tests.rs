//! The detector as its task drives it: events in, findings out.

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::event::{Account, Source};
use crate::finding::{Compromise, Severity, Shape};

mod campaigns;
mod strangers;

const START: i64 = 1_767_600_000_000;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn attempt(seconds: f64, outcome: Outcome, ip: IpAddr, user: u32) -> AuthEvent {
    let at = Timestamp(START + (seconds * 1000.0) as i64);
    AuthEvent {
        id: format!("{seconds}-{ip}-{user}").into(),
        occurred_at: at,
        received_at: at,
        tenant: "ins_1".into(),
        source: Source::AttemptReport,
        outcome,
        reason: (outcome == Outcome::Failure).then(|| "form_password_incorrect".into()),
        ip: Some(ip),
        account: Some(Account::User(format!("user_{user}").into())),
        identifier: None,
        user_agent: Some("curl/8".into()),
        session: None,
    }
}

fn failure(seconds: f64, ip: IpAddr, user: u32) -> AuthEvent {
    attempt(seconds, Outcome::Failure, ip, user)
}

fn run(events: impl IntoIterator<Item = AuthEvent>) -> Vec<Finding> {
    let mut detector = Detector::new(&Config::default());
    let mut found = Vec::new();
    for event in events {
        detector.observe(event, &mut found);
    }
    detector.finish(&mut found);
    found
}

fn lifecycles(found: &[Finding]) -> Vec<Lifecycle> {
    found.iter().map(|finding| finding.lifecycle).collect()
}

#[test]
fn many_accounts_failing_from_one_address_are_one_finding_from_opening_to_close() {
    let from = ip("203.0.113.7");
    let found = run((0..100).map(|user| failure(f64::from(user) * 2.0, from, user)));
    assert_eq!(lifecycles(&found).first(), Some(&Lifecycle::Opened));
    assert_eq!(lifecycles(&found).last(), Some(&Lifecycle::Closed));
    assert!(found.iter().all(|finding| finding.finding_id == found[0].finding_id), "one attack, one finding");
    assert_eq!(
        found.iter().map(|finding| finding.revision).collect::<Vec<_>>(),
        (1..=found.len() as u32).collect::<Vec<_>>()
    );

    let opened = &found[0];
    assert_eq!((opened.entity.value.as_str(), opened.entity.kind), ("203.0.113.7", EntityKind::Ip));
    assert!((8..=11).contains(&opened.evidence.accounts.total), "{:?}", opened.evidence.accounts);
    assert_eq!(opened.evidence.totals.failures, opened.evidence.accounts.total, "the samples reach back to the first");
    assert_eq!(opened.episode.first_seen_at, Timestamp(START));

    let closed = found.last().unwrap();
    assert_eq!(closed.evidence.totals.failures, 100);
    assert_eq!((closed.evidence.accounts.total, closed.evidence.accounts.exact), (100, true));
    assert_eq!(closed.evidence.accounts.values.len(), 20);
    assert_eq!(closed.shape, Shape::CredentialStuffing);
    assert_eq!(closed.evidence.reasons[0].count, 100);
    assert_eq!(closed.evidence.user_agents[0].value, "curl/8");
    assert_eq!(closed.episode.last_seen_at, Timestamp(START + 198_000));
    assert_eq!(
        closed.episode.closed_at,
        Some(Timestamp(START + 198_000 + 15 * 60_000)),
        "quiet counts from the last failure"
    );
    assert!(closed.evidence.peak.ratio >= 50.0 && closed.evidence.peak.failures <= 100);
}

#[test]
fn a_forgetful_person_is_no_finding() {
    let found = run((0..14).map(|try_| failure(f64::from(try_) * 5.0, ip("203.0.113.7"), 1)));
    assert_eq!(found, []);
}

#[test]
fn one_account_failing_over_and_over_is_guessing_wherever_it_comes_from() {
    let addresses = |try_: u32| IpAddr::V4(Ipv4Addr::from_bits(0xcb00_7100 + try_ * 7919));
    let found = run((0..40).map(|try_| failure(f64::from(try_) * 5.0, addresses(try_), 1)));
    assert_eq!(found[0].entity.value, "user_1");
    assert_eq!(found[0].shape, Shape::PasswordGuessing);
    assert_eq!((found[0].evidence.peak.failures, found[0].evidence.networks_total), (6, 6), "few from many networks");
    assert_eq!(found.last().unwrap().evidence.addresses.total, 40);
    assert!(found.iter().all(|finding| finding.finding_id == found[0].finding_id));
}

#[test]
fn a_success_from_the_attacking_address_names_the_account_at_once() {
    let from = ip("203.0.113.7");
    let mut events: Vec<_> = (0..30).map(|user| failure(f64::from(user), from, user)).collect();
    events.insert(0, attempt(-5.0, Outcome::PasswordCorrectStopped, from, 900));
    events.push(attempt(31.0, Outcome::Success, from, 77));
    events.push(attempt(32.0, Outcome::PasswordCorrectStopped, from, 78));
    events.push(attempt(33.0, Outcome::Success, from, 77));
    events.push(attempt(34.0, Outcome::Success, from, 79));
    let found = run(events);
    let high = found.iter().find(|finding| finding.severity == Severity::High).unwrap();
    assert_eq!((high.lifecycle, high.at), (Lifecycle::Updated, Timestamp(START + 31_000)));
    let closed = found.last().unwrap();
    assert_eq!(closed.severity, Severity::Critical, "three accounts");
    let named: Vec<_> =
        closed.evidence.compromised.iter().map(|account| (account.account.as_str(), account.how)).collect();
    let (signed_in, correct) = (Compromise::SignedIn, Compromise::PasswordCorrect);
    assert_eq!(named, [("user_77", signed_in), ("user_78", correct), ("user_79", signed_in)]);
    assert_eq!(closed.evidence.compromised_total, 3, "user_900 was there before the first failure");
}

#[test]
fn a_bystander_who_signs_in_during_a_guessing_attack_on_him_is_not_compromised() {
    let mut events: Vec<_> = (0..30).map(|try_| failure(f64::from(try_), ip("203.0.113.7"), 1)).collect();
    events.push(attempt(40.0, Outcome::Success, ip("198.51.100.4"), 1));
    let found = run(events.clone());
    assert_eq!(found.last().unwrap().evidence.compromised, []);
    events.push(attempt(41.0, Outcome::Success, ip("203.0.113.7"), 1));
    assert_eq!(run(events).last().unwrap().evidence.compromised_total, 1, "from the attacking address it is");
}

#[test]
fn an_office_behind_one_address_is_quiet_and_an_attack_from_within_is_not() {
    let office = ip("198.51.100.1");
    // Nine o'clock: every second somebody signs in, every fifth mistypes first.
    let rush = |user: u32| {
        let at = f64::from(user);
        let mistyped = user.is_multiple_of(5).then(|| failure(at, office, user));
        mistyped.into_iter().chain([attempt(at + 0.5, Outcome::Success, office, user)])
    };
    assert_eq!(run((0..1500).flat_map(rush)), []);
    let mut detector = Detector::new(&Config::default());
    let mut found = Vec::new();
    for second in 0..900 {
        for event in rush(second) {
            detector.observe(event, &mut found);
        }
        if second >= 600 {
            for try_ in 0..4 {
                detector.observe(failure(f64::from(second) + 0.6, office, 100_000 + second * 4 + try_), &mut found);
            }
        }
    }
    assert_eq!(found.first().map(|finding| finding.entity.value.as_str()), Some("198.51.100.1"));
}

#[test]
fn a_network_whose_addresses_each_stay_small_is_found_as_a_network() {
    let address = |number: u32| IpAddr::V4(Ipv4Addr::new(203, 0, 113, (number % 8) as u8));
    let found = run((0..48).map(|user| failure(f64::from(user) * 5.0, address(user), user)));
    let network = found.iter().find(|finding| finding.entity.kind == EntityKind::Network).unwrap();
    assert_eq!(network.entity.value, "203.0.113.0/24");
    assert!(network.evidence.addresses.total >= 3);
    // One address alone is explained by its own finding.
    let single = run((0..48).map(|user| failure(f64::from(user) * 5.0, address(0), user)));
    assert!(single.iter().all(|finding| finding.entity.kind == EntityKind::Ip), "{single:?}");
}

#[test]
fn tenants_are_apart() {
    let from = ip("203.0.113.7");
    let events = (0..14).map(|user| AuthEvent {
        tenant: if user % 2 == 0 { "ins_1".into() } else { "ins_2".into() },
        ..failure(f64::from(user), from, user)
    });
    assert_eq!(run(events), []);
}

#[test]
fn silence_closes_a_finding_at_the_same_moment_and_with_the_same_bytes_as_traffic_does() {
    let attack = || (0..20).map(|user| failure(f64::from(user), ip("203.0.113.7"), user));
    let by_traffic = {
        let mut detector = Detector::new(&Config::default());
        let mut found = Vec::new();
        attack().for_each(|event| detector.observe(event, &mut found));
        detector.observe(attempt(3600.0, Outcome::Success, ip("198.51.100.9"), 5), &mut found);
        found
    };
    let by_silence = {
        let mut detector = Detector::new(&Config::default());
        let mut found = Vec::new();
        attack().for_each(|event| detector.observe(event, &mut found));
        let wall = |minutes: i64| Timestamp(START + 19_000 + minutes * 60_000);
        assert!(!detector.is_due(wall(4)) && detector.is_due(wall(6)));
        for minutes in 0..30 {
            if detector.is_due(wall(minutes)) {
                detector.tick(wall(minutes), &mut found);
            }
        }
        assert!(!detector.is_due(wall(9999)), "nothing is open: no more ticks");
        found
    };
    assert_eq!(by_traffic.last().unwrap().lifecycle, Lifecycle::Closed);
    assert_eq!(serde_json::to_string(&by_traffic).unwrap(), serde_json::to_string(&by_silence).unwrap());
}

#[test]
fn a_flood_of_addresses_used_once_does_not_flush_a_slow_attack() {
    let config = Config { max_state_bytes: 1 << 20, ..Config::default() };
    let mut detector = Detector::new(&config);
    let mut found = Vec::new();
    let slow = ip("203.0.113.7");
    for step in 0..10_u32 {
        // The slow one: every 40 s another account. In between: a thousand strangers, once each.
        detector.observe(failure(f64::from(step) * 40.0, slow, step), &mut found);
        for stranger in 0..1000_u32 {
            let address = IpAddr::V4(Ipv4Addr::from_bits(0x1000_0000 + (step * 1000 + stranger) * 1009));
            let at = f64::from(step) * 40.0 + f64::from(stranger) * 0.03;
            detector.observe(failure(at, address, 10_000 + step * 1000 + stranger), &mut found);
        }
    }
    let stats = detector.stats();
    assert!(stats.entities.iter().sum::<u64>() < 100, "met once is not admitted");
    assert!(stats.overwritten > 5000, "and the doorkeeper forgets the oldest");
    assert!(found.iter().any(|finding| finding.entity.value == "203.0.113.7"), "{}", found.len());
}

#[test]
fn the_bound_on_open_findings_counts_what_it_leaves_out() {
    let config = Config { max_open_findings: 1, ..Config::default() };
    let mut detector = Detector::new(&config);
    let mut found = Vec::new();
    for user in 0..30 {
        detector.observe(failure(f64::from(user), ip("203.0.113.7"), user), &mut found);
        detector.observe(failure(f64::from(user), ip("198.51.100.7"), user + 100), &mut found);
    }
    let stats = detector.stats();
    assert_eq!(stats.open, 1);
    assert!(stats.suppressed > 0);
}

#[test]
fn a_snapshot_of_another_version_is_refused() {
    let mut bytes = Detector::new(&Config::default()).snapshot().unwrap();
    assert!(Detector::restore(&Config::default(), &bytes).is_ok());
    let version = std::mem::replace(&mut bytes[0], 200);
    assert!(matches!(Detector::restore(&Config::default(), &bytes), Err(SnapshotError::Version(200))));
    assert!(matches!(Detector::restore(&Config::default(), &[]), Err(SnapshotError::Empty)));
    bytes[0] = version;
    bytes.truncate(3);
    assert!(matches!(Detector::restore(&Config::default(), &bytes), Err(SnapshotError::Damaged(_))));
}

/// A few addresses, networks and accounts, so that everything collides with everything; sometimes late, sometimes after a
/// long silence, sometimes a tick.
fn histories() -> impl Strategy<Value = Vec<(f64, u8, u8, u8, bool)>> {
    let step = prop_oneof![8 => 0.0..8.0_f64, 1 => 60.0..2000.0_f64];
    prop::collection::vec((step, any::<u8>(), any::<u8>(), any::<u8>(), prop::bool::weighted(0.03)), 50..400)
}

fn drive(detector: &mut Detector, history: &[(f64, u8, u8, u8, bool)], mut now: f64, found: &mut Vec<Finding>) -> f64 {
    for (step, address, user, kind, is_tick) in history {
        now += step;
        if *is_tick {
            detector.tick(Timestamp(START + (now * 1000.0) as i64), found);
            continue;
        }
        let outcome = match kind % 16 {
            0..=10 => Outcome::Failure,
            11 | 12 => Outcome::Success,
            13 => Outcome::PasswordCorrectStopped,
            14 => Outcome::Locked,
            _ => Outcome::RateLimited,
        };
        let address = IpAddr::V4(Ipv4Addr::new(203, 0, 113 + address % 2, address % 4));
        let late = if kind % 7 == 0 { f64::from(*kind) * 3.0 } else { 0.0 };
        let received_at = Timestamp(START + (now * 1000.0) as i64);
        let event = attempt(now - late, outcome, address, u32::from(user % 40));
        detector.observe(AuthEvent { received_at, ..event }, found);
    }
    now
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_restart_at_any_point_changes_nothing(history in histories(), cut in 0.0..1.0_f64) {
        let config = Config { max_state_bytes: 1 << 20, quiet_minutes: 3, update_minutes: 1, ..Config::default() };
        let mut uninterrupted = Vec::new();
        let mut detector = Detector::new(&config);
        drive(&mut detector, &history, 0.0, &mut uninterrupted);
        detector.finish(&mut uninterrupted);

        let (before, after) = history.split_at((history.len() as f64 * cut) as usize);
        let mut found = Vec::new();
        let mut first = Detector::new(&config);
        let now = drive(&mut first, before, 0.0, &mut found);
        let snapshot = first.snapshot().unwrap();
        let mut second = Detector::restore(&config, &snapshot).unwrap();
        prop_assert_eq!(second.snapshot().unwrap(), snapshot);
        prop_assert_eq!(second.open_findings(), first.open_findings());
        drive(&mut second, after, now, &mut found);
        second.finish(&mut found);
        prop_assert_eq!(serde_json::to_string(&found).unwrap(), serde_json::to_string(&uninterrupted).unwrap());
    }

    #[test]
    fn every_finding_holds_what_findings_promise(history in histories()) {
        let config = Config { quiet_minutes: 3, update_minutes: 1, ..Config::default() };
        let mut found = Vec::new();
        let mut detector = Detector::new(&config);
        drive(&mut detector, &history, 0.0, &mut found);
        detector.finish(&mut found);
        let mut newest: HashMap<Uuid, Finding> = HashMap::new();
        for finding in found {
            prop_assert!(finding.evidence.peak.ratio >= 50.0 || finding.evidence.peak.distinct >= 8);
            prop_assert!(finding.episode.first_seen_at <= finding.episode.last_seen_at);
            match newest.get(&finding.finding_id) {
                None => prop_assert_eq!((finding.revision, finding.lifecycle), (1, Lifecycle::Opened)),
                Some(before) => {
                    prop_assert_eq!(finding.revision, before.revision + 1);
                    prop_assert!(before.lifecycle != Lifecycle::Closed || finding.lifecycle == Lifecycle::Closed);
                    prop_assert!(finding.severity >= before.severity && finding.at >= before.at);
                    prop_assert!(finding.evidence.totals.failures >= before.evidence.totals.failures);
                }
            }
            newest.insert(finding.finding_id, finding);
        }
        prop_assert!(newest.values().all(|finding| finding.lifecycle == Lifecycle::Closed));
    }
}
