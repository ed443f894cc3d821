use super::*;
use crate::detect::Config;
use crate::event::{Account, AuthEvent, Outcome, Source};

const START: i64 = 1_767_600_000_000;
const ATTACKER: &str = "203.0.113.7";

fn event(at: i64, outcome: Outcome, ip: &str, user: &str) -> AuthEvent {
    let at = Timestamp(START + at);
    AuthEvent {
        id: format!("{at}-{ip}-{user}").into(),
        occurred_at: at,
        received_at: at,
        tenant: "ins_1".into(),
        source: Source::AttemptReport,
        outcome,
        reason: None,
        ip: Some(ip.parse().unwrap()),
        account: Some(Account::User(user.into())),
        identifier: None,
        user_agent: None,
        session: None,
    }
}

/// Failures of so many accounts, one a second.
fn failures(ip: &str, accounts: u32) -> Vec<AuthEvent> {
    let failure = |user| event(i64::from(user) * 1000, Outcome::Failure, ip, &format!("user_{ip}_{user}"));
    (0..accounts).map(failure).collect()
}

fn config(json: &str) -> Config {
    let config: Config = serde_json::from_str(json).unwrap();
    assert_eq!(config.validate(), [""; 0]);
    config
}

fn after(json: &str, events: impl IntoIterator<Item = AuthEvent>) -> Detector {
    let mut detector = Detector::new(&config(json));
    for event in events {
        detector.observe(event, &mut Vec::new());
    }
    detector
}

/// Asks, and holds that asking has changed nothing.
fn asked(detector: &Detector, subject: &str) -> Vec<Explanation> {
    let before = detector.snapshot().unwrap();
    let explanations = detector.explain(&subject.parse().unwrap(), None);
    assert_eq!(detector.snapshot().unwrap(), before, "asking about {subject} changed the state");
    explanations
}

/// What the rule says of the short window of the subject itself.
fn first(detector: &Detector, subject: &str) -> Explanation {
    asked(detector, subject).swap_remove(0)
}

#[test]
fn of_an_address_under_attack_the_figures_that_fired_and_the_finding() {
    let detector = after("{}", failures(ATTACKER, 12));
    let explanations = asked(&detector, ATTACKER);
    let of: Vec<_> = explanations.iter().map(|one| (one.entity.kind, one.verdict)).collect();
    // Its network is judged by its other addresses, and its day starts anew when a finding opens.
    let network = Verdict::BelowMinimum;
    let expected = [
        (EntityKind::Ip, Verdict::Spike),
        (EntityKind::Ip, Verdict::BelowMinimum),
        (EntityKind::Network, network),
        (EntityKind::Network, network),
    ];
    assert_eq!(of, expected);
    let spike = &explanations[0];
    assert_eq!((spike.window.failures, spike.window.threshold, spike.minimum), (12, 8, 8));
    assert_eq!(spike.because, format!("{} is at or above the threshold of 8", spike.judged()));
    assert!((11..=13).contains(&spike.judged()), "distinct accounts are estimated: {}", spike.judged());
    assert!(spike.window.ratio >= 100.0 && spike.chance.unwrap() < spike.chance_limit, "{spike:?}");
    assert_eq!((spike.ceiling, spike.factor, spike.succeeding), (Some(60), 50.0, 0));
    let found = detector.finding(spike.finding.unwrap()).unwrap();
    assert_eq!((found.entity.value.as_str(), found.rule), (ATTACKER, spike.rule));
    assert_eq!(explanations[2].finding, None);
}

#[test]
fn one_account_too_few_is_quiet_and_says_how_many_it_takes() {
    let quiet = first(&after("{}", failures(ATTACKER, 7)), ATTACKER);
    assert_eq!(quiet.verdict, Verdict::BelowMinimum);
    assert_eq!(quiet.because, "7 is below the minimum of 8: too few to matter");
    assert_eq!((quiet.judged(), quiet.window.threshold, quiet.finding), (7, 8, None));
}

#[test]
fn where_more_accounts_get_in_than_fail_it_is_a_shared_address() {
    let sign_in = |number: i64| event(number, Outcome::Success, ATTACKER, &format!("user_{number}"));
    let quiet = first(&after("{}", (0..20).map(sign_in).chain(failures(ATTACKER, 12))), ATTACKER);
    assert_eq!(quiet.verdict, Verdict::SharedAddress);
    assert!(quiet.succeeding >= 15 && quiet.excused > 12.0, "{quiet:?}");
    assert!(quiet.window.threshold > 12, "the count that would fire is past the guard: {}", quiet.window.threshold);
}

#[test]
fn a_network_is_no_attacker_where_two_addresses_are() {
    let both = ["203.0.113.7", "203.0.113.8"].into_iter().flat_map(|ip| failures(ip, 20));
    let mut both: Vec<_> = both.collect();
    both.sort_by_key(|event| event.occurred_at);
    let explanations = asked(&after(r#"{"address_minimum": 50}"#, both), "203.0.113.0/24");
    assert_eq!(explanations[0].verdict, Verdict::OneAddress);
    assert_eq!((explanations[0].entity.value.as_str(), explanations[0].spread), ("203.0.113.0/24", 2));
}

#[test]
fn what_is_not_far_enough_from_normal_says_what_would_be() {
    let quiet = first(&after(r#"{"factor": 10000}"#, failures(ATTACKER, 12)), ATTACKER);
    assert_eq!(quiet.verdict, Verdict::WithinFactor);
    assert!(quiet.window.ratio < quiet.factor && (13..=60).contains(&quiet.window.threshold), "{quiet:?}");

    let quiet = first(&after(r#"{"address_minimum": 3, "factor": 2}"#, failures(ATTACKER, 3)), ATTACKER);
    assert_eq!(quiet.verdict, Verdict::CouldBeChance);
    assert!(quiet.chance.unwrap() > quiet.chance_limit && quiet.window.threshold > 3, "{quiet:?}");
}

#[test]
fn an_account_tried_from_many_networks_says_that_few_are_enough() {
    let from = |number: u32| event(i64::from(number) * 1000, Outcome::Failure, &format!("11.{number}.0.7"), "user_1");
    let fired = first(&after("{}", (0..7).map(from)), "user_1");
    assert_eq!((fired.verdict, fired.window.failures, fired.entity.kind), (Verdict::Spike, 7, EntityKind::Account));
    assert!(fired.spread >= 5 && fired.finding.is_some(), "{fired:?}");
    assert_eq!(
        fired.because,
        format!("7 from {} networks: from 5 networks on, more than 5 are enough", fired.spread),
        "the threshold of 15 is not what fired"
    );
    let quiet = first(&after("{}", (0..4).map(from)), "user_1");
    assert_eq!((quiet.verdict, quiet.window.failures), (Verdict::BelowMinimum, 4));
}

#[test]
fn shortly_after_a_finding_was_closed_the_window_is_reported() {
    let mut detector = after(r#"{"quiet_minutes": 5}"#, failures(ATTACKER, 12));
    assert_eq!(first(&detector, ATTACKER).verdict, Verdict::Spike);
    detector.tick(Timestamp(START + 12_000 + 5 * 60_000), &mut Vec::new());
    assert_eq!(detector.open_findings(), []);
    let closed = first(&detector, ATTACKER);
    assert_eq!((closed.verdict, closed.window.failures), (Verdict::Reported, 12));
    assert!(
        closed.finding.is_some_and(|id| detector.finding(id).is_some_and(|found| found.episode.closed_at.is_some()))
    );
}

#[test]
fn what_the_allow_list_covers_says_until_when_and_why_even_if_nothing_was_counted() {
    let until = Timestamp(START + 60_000);
    let allow = format!(
        r#"{{"allow": [{{"cidr": "203.0.113.0/25", "until": "{until}", "reason": "test"}},
                       {{"account": "user_1", "reason": "canary"}}]}}"#
    );
    let mut detector = after(&allow, failures(ATTACKER, 12));
    let explanations = asked(&detector, ATTACKER);
    assert_eq!(explanations.len(), 1, "half of the network is not allowed, and nothing was counted for it");
    assert_eq!((explanations[0].verdict, explanations[0].window.failures), (Verdict::Allowed, 0));
    assert_eq!(explanations[0].because, format!("the allow list covers it until {until} (test)"));
    assert_eq!(first(&detector, "user_1").because, "the allow list covers it (canary)");
    assert_eq!(asked(&detector, "203.0.113.0/24"), []);

    for number in 60..65 {
        detector.observe(event(number * 1000, Outcome::Failure, ATTACKER, &format!("user_{number}")), &mut Vec::new());
    }
    let expired = first(&detector, ATTACKER);
    assert_eq!((expired.verdict, expired.window.failures), (Verdict::BelowMinimum, 5), "only what came after the end");
    detector.reconfigure(&config(r#"{"allow": [{"cidr": "203.0.112.0/23", "reason": "office"}]}"#));
    let covered = first(&detector, "203.0.113.0/24");
    assert_eq!((covered.verdict, covered.because.as_str()), (Verdict::Allowed, "the allow list covers it (office)"));
}

#[test]
fn while_sign_in_fails_for_everyone_it_says_so() {
    let address = |number: i64| format!("11.{}.0.7", number % 40);
    let user = |number: i64| format!("user_{}", number % 2000);
    // Thirty hours of sign-ins, one every five seconds, then nobody gets in.
    let day = 30 * 720;
    let fine = (0..day).map(|number| event(number * 5000, Outcome::Success, &address(number), &user(number)));
    let broken = (0..1200).map(|number| {
        let at = day * 5000 + number * 500;
        event(at, Outcome::Failure, &address(number), &user(number * 7 % 2000))
    });
    let detector = after(r#"{"shared_address_guard": 0.1}"#, fine.chain(broken));
    assert_eq!(first(&detector, "11.1.0.7").verdict, Verdict::Outage);
    let instance = asked(&detector, "ins_1");
    let outage = instance.iter().find(|one| one.rule == Rule::SignInOutage).unwrap();
    assert_eq!((outage.verdict, outage.because.as_str()), (Verdict::Spike, "people who usually get in do not"));
    assert!(outage.finding.is_some());
}

#[test]
fn an_instance_is_explained_by_its_series() {
    let sign_in = event(0, Outcome::Success, "192.0.2.1", "user_0");
    let from = |number: u32| format!("11.{}.{}.7", number / 250, number % 250);
    let attack = |count: u32| {
        (0..count).map(move |number| {
            event(i64::from(number / 5) * 1000, Outcome::Failure, &from(number), &format!("user_{number}"))
        })
    };
    let quiet = first(&after("{}", std::iter::once(sign_in.clone()).chain(attack(15))), "ins_1");
    assert_eq!((quiet.rule, quiet.verdict, quiet.finding), (Rule::DistributedAttack, Verdict::BelowMinimum, None));
    assert_eq!((quiet.judged(), quiet.minimum, quiet.chance), (15, 20, None));

    let fired = first(&after("{}", std::iter::once(sign_in).chain(attack(3000))), "ins_1");
    assert_eq!((fired.verdict, fired.entity.value.as_str()), (Verdict::Spike, "ins_1"));
    assert!(fired.finding.is_some() && fired.judged() >= fired.window.threshold, "{fired:?}");

    // Of an instance where nobody was ever seen to get in, a thousand failures may be an ordinary hour.
    let nobody = first(&after("{}", attack(1000)), "ins_1");
    assert_eq!((nobody.verdict, nobody.finding), (Verdict::WithinFactor, None));
    assert!(first(&after("{}", attack(3000)), "ins_1").finding.is_some());
    let later = event(3 * 3_600_000, Outcome::Failure, "11.9.9.9", "user_9");
    let over = first(&after("{}", attack(1000).chain([later])), "ins_1");
    assert_eq!(over.verdict, Verdict::BelowMinimum, "hours later the series stands at now");
}

#[test]
fn an_answer_speaks_of_one_tenant_if_asked_and_of_so_many_at_most() {
    let of = |number: usize| {
        let events = failures(ATTACKER, 3).into_iter();
        events.map(move |event| AuthEvent { tenant: format!("ins_{number}").as_str().into(), ..event })
    };
    let detector = after("{}", (0..MAX_TENANTS_EXPLAINED + 4).flat_map(of));
    let all = asked(&detector, ATTACKER);
    let tenants: std::collections::BTreeSet<_> = all.iter().map(|one| one.tenant.clone()).collect();
    assert_eq!((tenants.len(), all.len()), (MAX_TENANTS_EXPLAINED, MAX_TENANTS_EXPLAINED * 4));
    let last = detector.explain(&ATTACKER.parse().unwrap(), Some(&"ins_19".into()));
    assert_eq!((last.len(), &*last[0].tenant.0), (4, "ins_19"));
    assert_eq!(detector.explain(&ATTACKER.parse().unwrap(), Some(&"ins_20".into())), []);
}

#[test]
fn who_never_failed_or_was_met_once_is_unknown() {
    let detector = after("{}", failures(ATTACKER, 1));
    for subject in
        [ATTACKER, "203.0.113.0/24", "198.51.100.1", "user_1", "idh_000102030405060708090a0b0c0d0e0f", "ins_2"]
    {
        assert_eq!(asked(&detector, subject), [], "{subject}");
    }
}

#[test]
fn subjects_are_read_as_findings_write_them_and_nothing_else_is_one() {
    for text in ["203.0.113.7", "203.0.113.0/24", "2001:db8::7", "2001:db8:1::/48", "user_1", "ins_1", "default"] {
        assert_eq!(text.parse::<Subject>().unwrap().to_string(), text);
    }
    let hash = "idh_000102030405060708090a0b0c0d0e0f";
    assert_eq!(hash.parse::<Subject>().unwrap().to_string(), hash);
    assert_eq!("203.0.113.99/24".parse::<Subject>().unwrap().to_string(), "203.0.113.0/24");
    assert_eq!("::ffff:203.0.113.7".parse(), Ok(Subject::Address("203.0.113.7".parse().unwrap())));
    let hosts = "2001:db8:1:2::/64".parse::<Subject>().unwrap();
    assert_eq!(hosts, Subject::Address("2001:db8:1:2::".parse().unwrap()));
    assert_eq!("203.0.113.0/25".parse::<Subject>(), Err(UnknownSubject::Length));
    for text in ["alice@example.com", "+15550100"] {
        assert_eq!(text.parse::<Subject>(), Err(UnknownSubject::Identifier), "{text}");
    }
    for text in ["", "idh_1", "idh_+00102030405060708090a0b0c0d0e0f", "a b", "a\u{1b}[2J", "x/24"] {
        assert_eq!(text.parse::<Subject>(), Err(UnknownSubject::Other), "{text:?}");
    }
}
