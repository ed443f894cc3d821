//! Accounts that strangers get in to, and crowds that only look like strangers.

use super::*;
use crate::finding::{EntityKind, Rule};

const PHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_7 like Mac OS X) Version/26.1 Mobile/15E148 Safari/604.1";
const THEIRS: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:145.0) Gecko/20100101 Firefox/145.0";
const HOUR: f64 = 3600.0;

fn home(user: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(0x1400_0000 + user * 256 + 9))
}

fn with(agent: Option<&str>, event: AuthEvent) -> AuthEvent {
    AuthEvent { user_agent: agent.map(Into::into), ..event }
}

fn sign_in(seconds: f64, from: IpAddr, user: u32, agent: &str) -> AuthEvent {
    with(Some(agent), attempt(seconds, Outcome::Success, from, user))
}

/// A detector that has seen each of 500 people sign in at home with a phone, four times in two days; sessions only.
fn settled(agent: Option<&str>) -> (Detector, f64) {
    let mut detector = Detector::new(&Config::default());
    let mut found = Vec::new();
    let step = 12.0 * HOUR / 500.0;
    for number in 0..2000 {
        let event = attempt(f64::from(number) * step, Outcome::Success, home(number % 500), number % 500);
        detector.observe(with(agent, event), &mut found);
    }
    assert_eq!(found, []);
    (detector, 48.0 * HOUR + 60.0)
}

fn play(detector: &mut Detector, events: impl IntoIterator<Item = AuthEvent>) -> Vec<Finding> {
    let mut found = Vec::new();
    events.into_iter().for_each(|event| detector.observe(event, &mut found));
    detector.finish(&mut found);
    found
}

fn ids(found: &[Finding]) -> Vec<Uuid> {
    let mut ids: Vec<Uuid> = Vec::new();
    for finding in found {
        if !ids.contains(&finding.finding_id) {
            ids.push(finding.finding_id);
        }
    }
    ids
}

#[test]
fn strangers_who_get_in_to_many_accounts_from_one_address_are_found_where_nothing_fails() {
    let (mut detector, start) = settled(Some(PHONE));
    let from = ip("203.0.113.7");
    let found = play(&mut detector, (0..40).map(|user| sign_in(start + f64::from(user) * 8.0, from, user, THEIRS)));
    assert_eq!(ids(&found).len(), 1);
    let opened = &found[0];
    assert_eq!(
        (opened.rule, opened.shape, opened.severity),
        (Rule::SuccessFanOut, Shape::SuccessFanOut, Severity::Critical)
    );
    assert_eq!((opened.entity.value.as_str(), opened.entity.kind), ("203.0.113.7", EntityKind::Ip));
    assert!((10..=12).contains(&opened.evidence.totals.successes), "{:?}", opened.evidence.totals);
    assert_eq!(opened.evidence.peak.threshold, 10);
    assert!(opened.evidence.peak.ratio >= 50.0 && opened.evidence.totals.failures == 0);
    let closed = found.last().unwrap();
    assert_eq!(closed.lifecycle, Lifecycle::Closed);
    assert_eq!((closed.evidence.compromised_total, closed.evidence.accounts.total), (40, 40));
    assert_eq!(detector.stats().over_threshold[Rule::SuccessFanOut as usize], 1);
}

#[test]
fn a_list_tried_over_a_day_is_found_too() {
    let (mut detector, start) = settled(Some(PHONE));
    let slow = (0..40).map(|user| sign_in(start + f64::from(user) * 1500.0, ip("203.0.113.7"), user, THEIRS));
    let found = play(&mut detector, slow);
    assert_eq!(ids(&found).len(), 1);
    assert!((18..=24).contains(&found[0].evidence.peak.distinct), "{:?}", found[0].evidence.peak);
}

#[test]
fn a_crowd_that_brings_its_own_devices_is_quiet_wherever_it_meets() {
    let (mut detector, start) = settled(Some(PHONE));
    // An office that moves: everybody within ten minutes, one in eight with a new laptop.
    let agent = |user: u32| if user.is_multiple_of(8) { THEIRS } else { PHONE };
    let moved = (0..400).map(|user| sign_in(start + f64::from(user) * 1.5, ip("198.51.100.1"), user, agent(user)));
    assert_eq!(play(&mut detector, moved), []);
}

#[test]
fn people_without_a_history_are_nobodys_strangers() {
    let (mut detector, start) = settled(Some(PHONE));
    let term = (0..400).map(|user| sign_in(start + f64::from(user), ip("198.51.100.1"), 10_000 + user, THEIRS));
    assert_eq!(play(&mut detector, term), [], "a first day of term");
}

#[test]
fn where_no_device_is_reported_nobody_is_a_stranger() {
    let (mut detector, start) = settled(None);
    let moved =
        (0..400).map(|user| with(None, attempt(start + f64::from(user), Outcome::Success, ip("198.51.100.1"), user)));
    assert_eq!(play(&mut detector, moved), []);
}

#[test]
fn on_the_day_of_a_release_that_calls_itself_otherwise_a_new_device_means_nothing() {
    let (mut detector, start) = settled(Some(PHONE));
    let release = (100..300).map(|user| sign_in(start + f64::from(user) * 10.0, home(user), user, THEIRS));
    let moved = (300..400).map(|user| sign_in(start + 3001.0 + f64::from(user), ip("198.51.100.1"), user, THEIRS));
    assert_eq!(play(&mut detector, release.chain(moved)), []);
}

#[test]
fn an_address_has_one_finding_whether_its_failures_or_its_strangers_gave_it_away() {
    let from = ip("203.0.113.7");
    let failures =
        |at: f64| (0..300).map(move |user| with(Some(THEIRS), failure(at + f64::from(user), from, 10_000 + user)));
    let strangers = |at: f64| (0..30).map(move |user| sign_in(at + f64::from(user), from, user, THEIRS));

    let (mut detector, start) = settled(Some(PHONE));
    let found = play(&mut detector, failures(start).chain(strangers(start + 301.0)));
    assert_eq!((ids(&found).len(), found[0].rule), (1, Rule::AddressFailureSpike));
    assert_eq!(found.last().unwrap().evidence.compromised_total, 30);

    let (mut detector, start) = settled(Some(PHONE));
    let found = play(&mut detector, strangers(start).chain(failures(start + 31.0)));
    let closed = found.last().unwrap();
    assert_eq!((ids(&found).len(), closed.rule), (1, Rule::SuccessFanOut));
    assert_eq!((found[0].shape, closed.shape), (Shape::SuccessFanOut, Shape::CredentialStuffing), "an update");
    assert_eq!((closed.evidence.totals.failures, closed.evidence.totals.successes), (300, 30));
    assert!(closed.evidence.peak.distinct <= 35, "the peak is still of strangers: {:?}", closed.evidence.peak);
}

#[test]
fn a_list_used_from_several_addresses_is_one_story() {
    let (mut detector, start) = settled(Some(PHONE));
    let addresses = ["203.0.113.7", "198.51.100.7", "192.0.2.7"];
    let events =
        (0..90).map(|user| sign_in(start + f64::from(user) * 3.0, ip(addresses[user as usize % 3]), user, THEIRS));
    let found = play(&mut detector, events);
    let ids = ids(&found);
    let correlations: Vec<_> =
        ids.iter().map(|id| found.iter().find(|one| one.finding_id == *id).unwrap().correlation).collect();
    assert_eq!(correlations, [None, Some(ids[0]), Some(ids[0])]);
}

#[test]
fn strangers_spread_over_a_network_are_told_as_the_network() {
    let (mut detector, start) = settled(Some(PHONE));
    let of_network = |user: u32| IpAddr::V4(Ipv4Addr::new(203, 0, 113, (user % 20) as u8 + 1));
    let found =
        play(&mut detector, (0..60).map(|user| sign_in(start + f64::from(user) * 5.0, of_network(user), user, THEIRS)));
    assert_eq!((ids(&found).len(), found[0].entity.value.as_str()), (1, "203.0.113.0/24"));
    assert_eq!(found.last().unwrap().evidence.addresses.total, 20);
    assert_eq!(found.last().unwrap().evidence.within, None);
}

#[test]
fn an_attack_from_one_slash_56_is_told_as_it_and_keeps_its_name_when_it_spreads() {
    let of = |subnet: u32| ip(&format!("2001:db8:1:{subnet:x}::{:x}", 7 + subnet));
    let attack = |spread: u32| {
        let found = run((0..400).map(|number| {
            let subnet =
                if number < 200 { 0xab00 + number % 40 } else { 0xab00 + number % 40 + spread * (number % 200) };
            failure(f64::from(number), of(subnet), number)
        }));
        found.into_iter().filter(|one| one.rule == Rule::NetworkFailureSpike).collect::<Vec<_>>()
    };
    let found = attack(0);
    assert!(found.iter().all(|one| one.entity.value == "2001:db8:1:ab00::/56"), "{:?}", found[0].entity);
    assert_eq!(found.last().unwrap().evidence.within.as_deref(), Some("2001:db8:1:ab00::/56"));

    let wide = attack(64);
    assert_eq!(ids(&wide), ids(&found), "the id stays");
    assert_eq!(wide.last().unwrap().evidence.within.as_deref(), Some("2001:db8:1::/48"));
    // The name can be asked about.
    assert!("2001:db8:1:ab00::/56".parse::<Subject>().is_ok());
}

#[test]
fn why_strangers_fired_and_why_a_crowd_did_not_can_be_asked() {
    let (mut detector, start) = settled(Some(PHONE));
    let events = (0..15).map(|user| sign_in(start + f64::from(user), ip("203.0.113.7"), user, THEIRS));
    let crowd = (100..160).map(|user| {
        sign_in(
            start + 20.0 + f64::from(user),
            ip("198.51.100.1"),
            user,
            if user.is_multiple_of(5) { THEIRS } else { PHONE },
        )
    });
    let mut found = Vec::new();
    events.chain(crowd).for_each(|event| detector.observe(event, &mut found));
    let asked = |text: &str| {
        let all = detector.explain(&text.parse().unwrap(), None);
        all.into_iter().find(|one| one.rule == Rule::SuccessFanOut && one.entity.kind == EntityKind::Ip).unwrap()
    };
    let fired = asked("203.0.113.7");
    assert_eq!((fired.verdict, fired.finding), (crate::finding::Verdict::Spike, Some(found[0].finding_id)));
    let quiet = asked("198.51.100.1");
    assert_eq!((quiet.verdict, quiet.finding), (crate::finding::Verdict::SharedAddress, None));
    assert!((10..=14).contains(&quiet.window.distinct) && quiet.succeeding >= 40, "{quiet:?}");
}
