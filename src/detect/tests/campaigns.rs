//! Attacks that show only when addresses, networks and accounts are seen together, and what only looks like one.

use super::*;
use crate::finding::Rule;

fn address(number: u32) -> IpAddr {
    // Each in a network of its own.
    IpAddr::V4(Ipv4Addr::from_bits(0x0b00_0000 + number * 256 + 7))
}

fn home(user: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(0x1400_0000 + user * 256 + 9))
}

/// Two days in which each of `users` signs in from home every six hours, one failure in five sign-ins.
fn everyday(detector: &mut Detector, users: u32) -> f64 {
    let mut found = Vec::new();
    let step = 6.0 * 3600.0 / f64::from(users);
    let total = users * 8;
    for number in 0..total {
        let (user, seconds) = (number % users, f64::from(number) * step);
        if number % 5 == 0 {
            detector.observe(failure(seconds, home(user), user), &mut found);
        }
        detector.observe(attempt(seconds + 4.0, Outcome::Success, home(user), user), &mut found);
    }
    assert_eq!(found, [], "nobody attacks");
    f64::from(total) * step
}

fn opened(found: &[Finding], rule: Rule) -> Vec<&Finding> {
    found.iter().filter(|finding| finding.rule == rule && finding.lifecycle == Lifecycle::Opened).collect()
}

#[test]
fn a_try_from_each_of_a_thousand_addresses_is_one_finding_about_the_instance() {
    let mut detector = Detector::new(&Config::default());
    let start = everyday(&mut detector, 500) + 60.0;
    let mut found = Vec::new();
    for number in 0..1000 {
        detector.observe(failure(start + f64::from(number) * 3.0, address(number), 10_000 + number), &mut found);
    }
    // Somebody gets in from a network that nobody knows, and somebody at home.
    detector.observe(attempt(start + 3001.0, Outcome::Success, address(5000), 17), &mut found);
    detector.observe(attempt(start + 3002.0, Outcome::Success, home(18), 18), &mut found);
    detector.finish(&mut found);
    let openings = opened(&found, Rule::DistributedAttack);
    assert_eq!(openings.len(), 1, "one story");
    assert!(openings[0].evidence.totals.failures <= 40, "found within forty tries: {:?}", openings[0].evidence.totals);
    assert!(found.iter().all(|finding| finding.finding_id == openings[0].finding_id));
    let closed = found.last().unwrap();
    assert_eq!((closed.entity.kind, closed.entity.value.as_str()), (EntityKind::Tenant, "ins_1"));
    assert_eq!((closed.lifecycle, closed.shape), (Lifecycle::Closed, Shape::CredentialStuffing));
    assert_eq!((closed.evidence.networks_total, closed.evidence.totals.failures), (1000, 1000));
    assert_eq!(closed.evidence.networks.iter().map(|row| row.count).sum::<u64>(), 1000, "shares of the whole");
    let suspected: Vec<_> = closed.evidence.suspected.iter().map(|one| one.account.as_str()).collect();
    assert_eq!(
        (suspected, closed.evidence.suspected_total, closed.evidence.compromised_total),
        (vec!["user_17"], 1, 0)
    );
}

#[test]
fn addresses_that_appear_together_are_one_attack_and_say_so() {
    let mut detector = Detector::new(&Config::default());
    let start = everyday(&mut detector, 500) + 60.0;
    let mut found = Vec::new();
    // Forty hosts, a try a second among them, all at different accounts.
    for number in 0..2000 {
        detector.observe(failure(start + f64::from(number) * 1.5, address(number % 40), 10_000 + number), &mut found);
    }
    detector.finish(&mut found);
    let whole = opened(&found, Rule::DistributedAttack);
    assert_eq!(whole.len(), 1);
    let whole = whole[0].finding_id;
    let addresses = opened(&found, Rule::AddressFailureSpike);
    assert!(addresses.len() <= 10, "the rest is told in the whole: {}", addresses.len());
    let last_word = |id: Uuid| found.iter().rfind(|finding| finding.finding_id == id).unwrap();
    assert!(
        addresses.iter().all(|one| last_word(one.finding_id).correlation == Some(whole)),
        "each says what it is part of"
    );
    let told = last_word(whole);
    assert_eq!((told.evidence.addresses.total, told.evidence.addresses.exact), (40, true));
    assert!(told.evidence.folded_total >= 30 && detector.stats().folded >= 30, "{}", told.evidence.folded_total);
}

#[test]
fn three_addresses_of_one_network_make_it_the_network() {
    let of_network = |number: u32| IpAddr::V4(Ipv4Addr::new(203, 0, 113, (number % 6) as u8 + 1));
    let found = run((0..300).map(|number| failure(f64::from(number), of_network(number), number)));
    let networks = opened(&found, Rule::NetworkFailureSpike);
    assert_eq!(networks.len(), 1);
    assert!(opened(&found, Rule::AddressFailureSpike).len() <= 3);
    let closed = found.iter().rfind(|finding| finding.finding_id == networks[0].finding_id).unwrap();
    assert_eq!(closed.evidence.addresses.total, 6);
}

#[test]
fn sign_in_failing_for_everyone_is_an_incident_and_opens_no_other_finding() {
    let mut detector = Detector::new(&Config::default());
    let start = everyday(&mut detector, 4000);
    let mut found = Vec::new();
    for number in 0..600 {
        let user = number * 7 % 4000;
        for again in 0..3 {
            detector.observe(
                failure(start + f64::from(number) * 2.0 + f64::from(again) * 0.3, home(user), user),
                &mut found,
            );
        }
    }
    detector.finish(&mut found);
    assert!(found.iter().all(|finding| finding.rule == Rule::SignInOutage), "{:?}", found.first());
    let outage = opened(&found, Rule::SignInOutage)[0];
    assert_eq!((outage.shape, outage.severity), (Shape::Outage, Severity::Low));
    assert!(outage.at.millis_since(Timestamp(START + (start * 1000.0) as i64)) < 10 * 60_000, "{}", outage.at);
}

#[test]
fn a_day_on_which_everybody_mistypes_first_is_none_of_ours() {
    let mut detector = Detector::new(&Config::default());
    let start = everyday(&mut detector, 4000);
    let mut found = Vec::new();
    // All passwords were reset: an office of 200 and everybody at home fail once or twice, then get in.
    let office = ip("198.51.100.1");
    for number in 0..4000_u32 {
        let at = start + f64::from(number) * 5.0;
        let from = if number % 20 == 0 { office } else { home(number) };
        for again in 0..=number % 2 {
            detector.observe(failure(at + f64::from(again) * 8.0, from, number), &mut found);
        }
        detector.observe(attempt(at + 30.0, Outcome::Success, from, number), &mut found);
    }
    assert_eq!(found, []);
}

#[test]
fn accounts_locked_in_numbers_are_a_wave_and_one_that_keeps_trying_is_not() {
    let mut detector = Detector::new(&Config::default());
    let start = everyday(&mut detector, 500) + 60.0;
    let mut found = Vec::new();
    for number in 0..200 {
        detector.observe(attempt(start + f64::from(number) * 20.0, Outcome::Locked, home(3), 3), &mut found);
    }
    assert_eq!(found, []);
    for number in 0..60 {
        let at = start + 7200.0 + f64::from(number) * 2.0;
        detector.observe(attempt(at, Outcome::Locked, address(number), 100 + number), &mut found);
    }
    let wave = opened(&found, Rule::LockoutWave);
    assert_eq!((wave.len(), wave[0].shape), (1, Shape::LockoutWave));
    detector.finish(&mut found);
    assert!(found.last().unwrap().evidence.accounts.total >= 60, "the victims");
}

#[test]
fn codes_sent_over_and_over_are_a_flood_and_codes_that_are_used_are_not() {
    let mut detector = Detector::new(&Config::default());
    let mut found = Vec::new();
    let code = |seconds: f64, from: IpAddr, user: u32| attempt(seconds, Outcome::CodeSent, from, user);
    // An office where everybody signs in by code.
    let office = ip("198.51.100.1");
    for user in 0..60 {
        let at = f64::from(user) * 8.0;
        detector.observe(code(at, office, user), &mut found);
        detector.observe(attempt(at + 5.0, Outcome::Success, office, user), &mut found);
    }
    assert_eq!(found, []);
    for number in 0..12 {
        detector.observe(code(1000.0 + f64::from(number) * 20.0, address(1), 900), &mut found);
    }
    let flood = opened(&found, Rule::CodeFlood);
    assert_eq!((flood.len(), flood[0].entity.value.as_str(), flood[0].shape), (1, "user_900", Shape::CodeFlood));
    for user in 0..12 {
        detector.observe(code(2000.0 + f64::from(user) * 20.0, address(2), 2000 + user), &mut found);
    }
    assert_eq!(opened(&found, Rule::CodeFlood)[1].entity.kind, EntityKind::Ip);
}

#[test]
fn a_password_used_within_the_hour_after_the_attack_is_still_named_and_a_new_attack_refers_to_the_old() {
    let mut detector = Detector::new(&Config::default());
    let start = everyday(&mut detector, 500) + 60.0;
    let from = address(1);
    let mut found = Vec::new();
    for user in 0..20 {
        detector.observe(failure(start + f64::from(user), from, 10_000 + user), &mut found);
    }
    detector.observe(attempt(start + 2400.0, Outcome::Success, from, 77), &mut found);
    let late = found.last().unwrap().clone();
    assert_eq!(
        (late.lifecycle, late.severity, late.evidence.compromised_total),
        (Lifecycle::Closed, Severity::High, 1)
    );
    assert_eq!(late.evidence.compromised[0].account, "user_77");
    for user in 0..20 {
        detector.observe(failure(start + 3000.0 + f64::from(user), from, 20_000 + user), &mut found);
    }
    let again = opened(&found, Rule::AddressFailureSpike)[1];
    assert_ne!(again.finding_id, late.finding_id);
    assert_eq!(again.correlation, Some(late.finding_id));
}

#[test]
fn a_slow_attacker_is_found_by_his_day_and_a_client_with_a_stale_password_is_not() {
    let slow = (0..40).map(|number| failure(f64::from(number) * 600.0, address(1), number));
    let found = run(slow);
    assert_eq!(opened(&found, Rule::AddressFailureSpike).len(), 1, "ten tries an hour, one finding");
    let peak = found[0].evidence.peak;
    assert!((20..=30).contains(&peak.failures) && peak.end.millis_since(peak.start) > 3_600_000, "{peak:?}");
    // One account, every twenty minutes of a day: not many accounts, and too few failures of one.
    assert_eq!(run((0..29).map(|number| failure(f64::from(number) * 1200.0, address(1), 1))), []);
}

#[test]
fn one_person_who_mistypes_after_an_attack_does_not_open_it_again() {
    let from = ip("203.0.113.7");
    let attack = (0..60).map(|number| failure(f64::from(number) * 2.0, from, number));
    let after = [1.0, 2.0, 5.0, 10.0].map(|hours| failure(hours * 3600.0, from, 900));
    assert_eq!(opened(&run(attack.chain(after)), Rule::AddressFailureSpike).len(), 1);
}
