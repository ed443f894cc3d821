//! The simulator: does its traffic have the figures it claims, and the truth the traffic?

use std::collections::{HashMap, HashSet};

use authspike::event::Timestamp;
use authspike::normalize;
use authspike::normalize::identifier::IdentifierKey;
use authspike::simulate::delivery::{Deliveries, Distortion};
use authspike::simulate::event::Events;
use authspike::simulate::render::Renderer;
use authspike::simulate::{
    Attack, AttackKind, Attempt, Benign, BenignKind, Ending, Identity, Load, Plan, Scenario, Traffic,
};

const DAY: i64 = 86_400_000;
/// A Monday.
const START: Timestamp = Timestamp(1_767_571_200_000);

fn plan(accounts: u32, span_millis: i64) -> Plan {
    Plan {
        seed: 7,
        start: START,
        span_millis: Some(span_millis),
        tenant: "ins_test".into(),
        accounts,
        load: Load::PerAccountPerDay(0.25),
        lockout: 10,
        attacks: Vec::new(),
        benign: Vec::new(),
    }
}

/// A plan with nothing but `attack`.
fn only(attack: &str) -> Plan {
    let attacks = vec![Attack::parse(attack).unwrap()];
    Plan { load: Load::PerAccountPerDay(0.0), attacks, ..plan(5000, 4 * DAY) }
}

fn attempts(plan: &Plan) -> Vec<Attempt> {
    let attempts: Vec<_> = Traffic::new(plan).unwrap().collect();
    assert!(attempts.is_sorted_by_key(|attempt| attempt.at), "out of order");
    let end = plan.start.plus_millis(plan.span_millis.unwrap());
    assert!(attempts.iter().all(|attempt| (plan.start..end).contains(&attempt.at)), "outside the span");
    attempts
}

fn rendered(plan: &Plan) -> (Vec<u8>, Vec<u8>) {
    let (mut lines, mut truth) = (Vec::new(), Vec::new());
    let mut renderer = Renderer::new(plan);
    for attempt in Traffic::new(plan).unwrap() {
        renderer.write(&attempt, &mut lines, &mut truth).unwrap();
    }
    (lines, truth)
}

fn json_lines(bytes: &[u8]) -> Vec<serde_json::Value> {
    bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "counts of a test")]
fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole as f64
}

#[test]
fn everyday_traffic_has_the_published_figures() {
    let attempts = attempts(&plan(50_000, 14 * DAY));
    let failures = attempts.iter().filter(|attempt| attempt.ending != Ending::SignedIn).count();
    // 50,000 accounts x 0.25 x 14 days x 1.2277 attempts a bout = 214,850.
    assert!((209_000..221_000).contains(&attempts.len()), "{}", attempts.len());
    let failing = share(failures, attempts.len());
    assert!((0.202..0.212).contains(&failing), "{failing}");

    let misspelt = attempts.iter().filter(|attempt| matches!(attempt.identity, Identity::Misspelt(_))).count();
    let misspelt = share(misspelt, failures);
    assert!((0.03..0.045).contains(&misspelt), "{misspelt}");

    // Use is heavy-tailed: by Gamma(1/2), the busiest tenth of the accounts makes half of the sign-ins.
    let mut by_account: HashMap<u32, usize> = HashMap::new();
    for attempt in attempts.iter().filter(|attempt| attempt.ending == Ending::SignedIn) {
        if let Identity::Account(account) = attempt.identity {
            *by_account.entry(account).or_default() += 1;
        }
    }
    let mut counts: Vec<_> = by_account.into_values().collect();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    let busiest: usize = counts.iter().take(5000).sum();
    let busiest = share(busiest, counts.iter().sum());
    assert!((0.40..0.60).contains(&busiest), "{busiest}");

    // Addresses: most are somebody's home, a few are shared by a thousand.
    let mut by_ip: HashMap<_, HashSet<Identity>> = HashMap::new();
    for attempt in &attempts {
        by_ip.entry(attempt.ip).or_default().insert(attempt.identity);
    }
    assert!(by_ip.values().any(|accounts| accounts.len() > 400), "no carrier");
    let few = by_ip.values().filter(|accounts| accounts.len() <= 2).count();
    assert!(share(few, by_ip.len()) > 0.9, "{few} of {}", by_ip.len());
    assert!(by_ip.keys().any(std::net::IpAddr::is_ipv6));
}

#[test]
fn nobody_fails_more_often_than_the_lock_allows() {
    let longest = |lockout: u32| {
        let mut failures: HashMap<Identity, u32> = HashMap::new();
        let plan = Plan { lockout, ..plan(50_000, 14 * DAY) };
        let mut longest = 0;
        for attempt in attempts(&plan) {
            let count = failures.entry(attempt.identity).or_default();
            // A bout lasts minutes; the same account fails again another day.
            *count = if attempt.ending == Ending::WrongPassword { *count + 1 } else { 0 };
            longest = longest.max(*count);
        }
        longest
    };
    // Some bouts give up, so that two of them may follow each other without a success.
    assert!(longest(0) > 10, "{}", longest(0));
    assert!(longest(5) <= 10, "{}", longest(5));
}

#[test]
fn nights_and_weekends_are_quiet() {
    let attempts = attempts(&plan(50_000, 7 * DAY));
    let count = |from: i64, until: i64| {
        let (from, until) = (START.plus_millis(from), START.plus_millis(until));
        attempts.iter().filter(|attempt| (from..until).contains(&attempt.at)).count()
    };
    let hour = DAY / 24;
    let (afternoon, night) = (count(14 * hour, 16 * hour), count(2 * hour, 4 * hour));
    // 1.85 to 0.15 at the extremes.
    assert!((8.0..17.0).contains(&share(afternoon, night)), "{afternoon} : {night}");
    let weekend = share(count(5 * DAY, 7 * DAY) * 5, count(0, 5 * DAY) * 2);
    assert!((0.49..0.55).contains(&weekend), "{weekend}");
}

#[test]
fn the_same_plan_gives_the_same_bytes_and_another_seed_others() {
    let mut plan = plan(2000, 2 * DAY);
    plan.attacks = vec![Attack::parse("stuffing:at=1h").unwrap()];
    plan.benign = BenignKind::ALL.map(BenignKind::usual).to_vec();
    let first = rendered(&plan);
    assert!(!first.0.is_empty() && !first.1.is_empty());
    assert!(first == rendered(&plan), "not the same");
    plan.seed += 1;
    let other = rendered(&plan);
    let ids = |bytes: &[u8]| -> HashSet<String> {
        json_lines(bytes).iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect()
    };
    assert!(ids(&first.0).is_disjoint(&ids(&other.0)));
}

#[test]
fn an_attack_changes_nothing_but_its_own_attempts() {
    let quiet = plan(2000, 2 * DAY);
    let attacked = Plan { attacks: vec![Attack::parse("botnet").unwrap()], ..quiet.clone() };
    let everyday: Vec<_> = attempts(&attacked).into_iter().filter(|attempt| attempt.scenario.is_none()).collect();
    assert_eq!(everyday, attempts(&quiet));
}

#[test]
fn every_attack_is_as_large_as_it_says() {
    for kind in AttackKind::ALL {
        let usual = kind.usual();
        let attempts = attempts(&only(&format!("{}:at=1h", kind.as_str())));
        if kind == AttackKind::Enumeration {
            // Identifiers that exist show no failure.
            assert!((1900..2000).contains(&attempts.len()), "{}", attempts.len());
        } else {
            assert_eq!(attempts.len() as u64, usual.attempts, "{kind:?}");
        }
        let addresses: HashSet<_> = attempts.iter().map(|attempt| attempt.ip).collect();
        // Numbers are hashed to addresses, so of thousands a handful may coincide.
        let expected = usize::try_from(usual.addresses).unwrap();
        assert!(
            addresses.len() <= expected && addresses.len() * 1000 >= expected * 999,
            "{kind:?} {}",
            addresses.len()
        );
        let hits = attempts.iter().filter(|attempt| attempt.ending == Ending::SignedIn).count();
        assert_eq!(hits as u64, usual.hits(), "{kind:?}");
        let first = attempts[0].at.millis_since(START);
        let span = attempts[attempts.len() - 1].at.millis_since(attempts[0].at);
        assert!((3_600_000..3_600_000 + usual.span_millis / 20).contains(&first), "{kind:?} {first}");
        assert!(span > usual.span_millis * 9 / 10 && span <= usual.span_millis, "{kind:?} {span}");
    }
}

#[test]
fn settings_are_obeyed_and_wrong_ones_refused() {
    let attempts = attempts(&only("stuffing:at=90s,for=1m,attempts=500,addresses=5,known=0.4,hits=2"));
    assert_eq!(attempts.len(), 500);
    assert_eq!(attempts.iter().filter(|attempt| attempt.ending == Ending::SignedIn).count(), 2);
    let addresses: HashSet<_> = attempts.iter().map(|attempt| attempt.ip.to_string()).collect();
    assert_eq!(addresses.len(), 5);
    assert!(addresses.iter().all(|ip| ["203.0.113.", "198.51.100.", "192.0.2."].iter().any(|net| ip.starts_with(net))));
    let known = attempts.iter().filter(|attempt| matches!(attempt.identity, Identity::Account(_))).count();
    assert!((160..240).contains(&known), "{known}");
    for wrong in [
        "nothing",
        "stuffing:for=0s",
        "stuffing:attempts=0",
        "stuffing:known=1.5",
        "stuffing:known=NaN",
        "stuffing:rounds=3",
        "stuffing:accounts=3",
        "stuffing:hits=3001",
        "guessing:hits=2",
        "guessing:known=0.5",
        "spraying:accounts=0",
        "network:addresses=257",
        "network:origin=nowhere",
        "network:origin=office",
        "ipv6:origin=one-slash-48,addresses=65537",
        "drip:growth=-0.1",
        "drip:growth=10",
        "stuffing:padding=1",
        "stuffing:limit=-1",
        "office:addresses=2",
        "stuffing:at=-1h",
    ] {
        assert!(Attack::parse(wrong).is_err(), "{wrong}");
    }
    for wrong in ["nothing", "spike:count=0", "spike:for=0s", "spike:hits=1"] {
        assert!(Benign::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_spray_comes_back_to_the_same_accounts_in_rounds() {
    let attempts = attempts(&only("spraying"));
    let mut tries: HashMap<Identity, Vec<i64>> = HashMap::new();
    for attempt in &attempts {
        tries.entry(attempt.identity).or_default().push(attempt.at.0);
    }
    assert_eq!(tries.len(), 500);
    // Three tries each, half an hour apart.
    for times in tries.values() {
        assert_eq!(times.len(), 3);
        assert!(times.windows(2).all(|pair| (1_780_000..1_820_000).contains(&(pair[1] - pair[0]))), "{times:?}");
    }
}

#[test]
fn guessing_runs_into_the_lock_and_gets_in_before_it() {
    let endings = |plan: &Plan| {
        let attempts = attempts(plan);
        let count = |ending| attempts.iter().filter(|attempt| attempt.ending == ending).count();
        (count(Ending::WrongPassword), count(Ending::Locked), count(Ending::SignedIn))
    };
    assert_eq!(endings(&only("guessing")), (10, 190, 0));
    // The lock lasts an hour, so in three hours there are four rounds of ten.
    assert_eq!(endings(&only("guessing:for=3h10m,attempts=1900")).0, 40);
    let never = Plan { lockout: 0, ..only("guessing") };
    assert_eq!(endings(&never), (200, 0, 0));
    let broken = attempts(&only("guessing:hits=1"));
    assert_eq!(broken.iter().position(|attempt| attempt.ending == Ending::SignedIn), Some(9));
}

#[test]
fn benign_scenarios_do_what_they_say() {
    let with = |text: &str| Plan { benign: vec![Benign::parse(text).unwrap()], ..plan(20_000, 3 * DAY) };
    let of_it = |plan: &Plan| -> Vec<Attempt> {
        attempts(plan).into_iter().filter(|attempt| attempt.scenario == Some(Scenario::Benign(0))).collect()
    };
    let rush = of_it(&with("office-rush:at=33h"));
    let people = rush.iter().filter_map(|attempt| match attempt.identity {
        Identity::Account(account) | Identity::Misspelt(account) => Some(account),
        Identity::Leaked(_) | Identity::Own(_) => None,
    });
    let people: HashSet<u32> = people.collect();
    assert!((385..=400).contains(&people.len()), "{}", people.len());
    assert_eq!(rush.iter().map(|attempt| attempt.ip).collect::<HashSet<_>>().len(), 1);

    let stale = of_it(&with("stale-password:at=0s,for=1h,count=60"));
    assert_eq!(stale.len(), 60);
    assert!(stale.windows(2).all(|pair| (58_000..62_000).contains(&pair[1].at.millis_since(pair[0].at))));
    assert_eq!(stale.iter().map(|attempt| attempt.identity).collect::<HashSet<_>>().len(), 1);
    assert_eq!(stale.iter().filter(|attempt| attempt.ending == Ending::WrongPassword).count(), 10);

    assert_eq!(of_it(&with("nightly-test")).len(), 40);

    let outage = with("outage:at=36h");
    let from = START.plus_millis(36 * DAY / 24);
    let during: Vec<_> = attempts(&outage)
        .into_iter()
        .filter(|attempt| (from..from.plus_millis(20 * 60_000)).contains(&attempt.at))
        .collect();
    assert!(during.len() > 50, "{}", during.len());
    assert!(during.iter().all(|attempt| attempt.ending == Ending::Outage));
    assert_eq!(of_it(&outage).len(), during.len());

    let in_hour = |plan: &Plan| {
        attempts(plan).iter().filter(|attempt| (from..from.plus_millis(3_600_000)).contains(&attempt.at)).count()
    };
    let ratio = share(in_hour(&with("spike:at=36h")), in_hour(&plan(20_000, 3 * DAY)));
    assert!((4.3..5.7).contains(&ratio), "{ratio}");
}

#[test]
fn lines_are_attempt_reports_and_the_truth_names_every_hostile_one() {
    let mut plan = only("stuffing:attempts=1000,hits=3");
    plan.tenant = "ins_\"quoted\"".into();
    plan.load = Load::PerAccountPerDay(0.25);
    let (lines, truth) = rendered(&plan);
    let (lines, truth) = (json_lines(&lines), json_lines(&truth));
    let ids: HashSet<_> = lines.iter().map(|line| line["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), lines.len());
    let known = [
        "id",
        "occurred_at",
        "outcome",
        "reason",
        "ip",
        "user_id",
        "identifier",
        "user_agent",
        "instance_id",
        "session_id",
    ];
    for line in &lines {
        assert!(line.as_object().unwrap().keys().all(|key| known.contains(&key.as_str())), "{line}");
        assert_eq!(line["instance_id"], "ins_\"quoted\"");
        let at: jiff::Timestamp = line["occurred_at"].as_str().unwrap().parse().unwrap();
        assert!(at.as_millisecond() >= plan.start.0);
        assert_eq!(line["session_id"].is_string(), line["outcome"] == "success", "{line}");
        assert_eq!(line["reason"].is_string(), line["outcome"] != "success", "{line}");
    }
    let by_id: HashMap<_, _> = lines.iter().map(|line| (line["id"].as_str().unwrap(), line)).collect();
    assert_eq!(truth.len(), 1000);
    for line in &truth {
        let attempt = by_id[line["id"].as_str().unwrap()];
        assert_eq!(line["scenario"], "stuffing");
        assert_eq!(line["hostile"], true);
        assert_eq!((&line["ip"], &line["identifier"]), (&attempt["ip"], &attempt["identifier"]));
        assert_eq!(line["hit"].as_bool().unwrap(), attempt["outcome"] == "success");
    }
    assert_eq!(truth.iter().filter(|line| line["hit"] == true).count(), 3);
}

#[test]
fn a_plan_that_makes_no_sense_is_refused() {
    let good = plan(10, DAY);
    for bad in [
        Plan { accounts: 0, ..good.clone() },
        Plan { accounts: u32::MAX, ..good.clone() },
        Plan { load: Load::PerAccountPerDay(-1.0), ..good.clone() },
        Plan { load: Load::PerSecond(f64::NAN), ..good.clone() },
        Plan { start: Timestamp(i64::MAX), ..good.clone() },
        Plan { span_millis: Some(-1), ..good.clone() },
        Plan { tenant: String::new(), ..good.clone() },
        Plan { attacks: vec![AttackKind::Drip.usual(); 65], ..good.clone() },
    ] {
        assert!(Traffic::new(&bad).is_err(), "{bad:?}");
    }
    // One account, no traffic, no time: nothing, and no fault.
    assert_eq!(attempts(&plan(1, 0)).len(), 0);
}

#[test]
fn a_ramp_grows_by_the_day_and_the_same_hosts_are_used_twice() {
    let ramp = attempts(&Plan { span_millis: Some(30 * DAY), ..only("drip:at=0s,for=10d,attempts=2000,growth=0.5") });
    let days: Vec<_> =
        (0..10).map(|day| ramp.iter().filter(|try_| try_.at.millis_since(START) / DAY == day).count()).collect();
    // 2,000 x 0.5 / (1.5^10 - 1) = 17.6 on the first day, half as much again on each that follows.
    assert!((15..21).contains(&days[0]), "{days:?}");
    assert!(days.windows(2).skip(3).all(|pair| (1.4..1.6).contains(&share(pair[1], pair[0]))), "{days:?}");

    let mut twice = only("drip:hosts=3,for=1h");
    twice.attacks.push(Attack::parse("stuffing:hosts=3").unwrap());
    twice.attacks.push(Attack::parse("stuffing").unwrap());
    let of = |index| -> HashSet<_> {
        let all = attempts(&twice);
        all.iter().filter(|try_| try_.scenario == Some(Scenario::Attack(index))).map(|try_| try_.ip).collect()
    };
    assert_eq!(of(0), of(1));
    assert!(of(1).is_disjoint(&of(2)));
}

#[test]
fn origins_lie_where_they_say() {
    let of = |attack: &str, bits: u32| -> (usize, usize) {
        let all = attempts(&only(attack));
        let v6 = |ip: std::net::IpAddr| match ip {
            std::net::IpAddr::V6(ip) => ip.to_bits(),
            std::net::IpAddr::V4(ip) => panic!("{ip}"),
        };
        let nets: HashSet<_> = all.iter().map(|try_| v6(try_.ip) >> (128 - bits)).collect();
        (nets.len(), all.len())
    };
    assert_eq!(of("ipv6", 64), (1, 1000));
    assert_eq!(of("ipv6:origin=one-slash-56,addresses=256", 56), (1, 1000));
    assert_eq!(of("ipv6:origin=one-slash-56,addresses=256", 64), (256, 1000));
    assert_eq!(of("ipv6:origin=one-slash-48", 48), (1, 1000));
    assert_eq!(of("ipv6:origin=one-slash-48", 64), (1000, 1000));
    assert_eq!(of("ipv6:origin=one-slash-48", 56), (256, 1000));
    assert_eq!(of("ipv6:origin=homes", 48), (1000, 1000));
}

#[test]
fn an_address_meets_the_limit_and_every_account_its_lock() {
    let count = |plan: &Plan, ending| attempts(plan).iter().filter(|attempt| attempt.ending == ending).count();
    // 300 a minute from one address, of which 30 are answered; whole minutes, since the span begins on one.
    let limited = only("stuffing:at=0s,limit=30,hits=0");
    assert_eq!(count(&limited, Ending::RateLimited), 2700);
    assert_eq!(count(&only("stuffing:at=0s"), Ending::RateLimited), 0);
    // 20 accounts, 30 tries each within an hour: ten and no more.
    let rounds = only("spraying:at=0s,for=50m,accounts=20,attempts=600,hits=0");
    assert_eq!(count(&rounds, Ending::WrongPassword), 200);
    assert_eq!(count(&rounds, Ending::Locked), 400);
}

#[test]
fn padding_signs_in_to_accounts_of_the_attackers_own_and_is_no_hit() {
    let plan = only("stuffing:padding=0.4,hits=6");
    let all = attempts(&plan);
    let own: Vec<_> = all.iter().filter(|attempt| matches!(attempt.identity, Identity::Own(_))).collect();
    assert!((1194..=1200).contains(&own.len()), "{}", own.len());
    assert!(own.iter().all(|attempt| attempt.ending == Ending::SignedIn && !attempt.is_hit()));
    assert_eq!(own.iter().map(|attempt| attempt.identity).collect::<HashSet<_>>().len(), 5);
    assert_eq!(all.iter().filter(|attempt| attempt.is_hit()).count(), 6);
    let (lines, truth) = rendered(&plan);
    assert_eq!(json_lines(&truth).iter().filter(|line| line["hit"] == true).count(), 6);
    assert!(json_lines(&lines).iter().all(|line| line["identifier"].is_string()));
}

#[test]
fn after_a_reset_everybody_fails_at_home_and_gets_in() {
    let everyday = plan(20_000, 2 * DAY);
    let reset = Plan { benign: vec![Benign::parse("forced-reset:at=8h,count=3000").unwrap()], ..everyday.clone() };
    let of_it: Vec<_> = attempts(&reset).into_iter().filter(|attempt| attempt.scenario.is_some()).collect();
    let successes = of_it.iter().filter(|attempt| attempt.ending == Ending::SignedIn).count();
    let failures = of_it.iter().filter(|attempt| attempt.ending == Ending::WrongPassword).count();
    assert_eq!((successes, of_it.len() - successes), (3000, failures));
    assert!((1.45..1.55).contains(&share(failures, successes)), "{failures}");
    // From where they are anyway: no address carries more than a carrier or an office does.
    let mut by_ip: HashMap<_, HashSet<Identity>> = HashMap::new();
    for attempt in &of_it {
        by_ip.entry(attempt.ip).or_default().insert(attempt.identity);
    }
    assert!(by_ip.len() > 1000, "{}", by_ip.len());
}

#[test]
fn an_office_that_moved_is_at_its_new_address_and_nowhere_else_differs() {
    let everyday = plan(20_000, 3 * DAY);
    let moved = Plan { benign: vec![Benign::parse("egress-change:at=1d").unwrap()], ..everyday.clone() };
    let (before, after) = (attempts(&everyday), attempts(&moved));
    assert_eq!(before.len(), after.len());
    let changed: Vec<_> = before.iter().zip(&after).filter(|(before, after)| before.ip != after.ip).collect();
    assert!(changed.len() > 20, "{}", changed.len());
    let pairs: HashSet<_> = changed.iter().map(|(before, after)| (before.ip, after.ip)).collect();
    assert_eq!(pairs.len(), 1);
    assert!(changed.iter().all(|(_, after)| after.scenario == Some(Scenario::Benign(0))));
    assert!(changed.iter().all(|(_, after)| after.at >= START.plus_millis(DAY)));
    let (old, _) = pairs.into_iter().next().unwrap();
    assert!(after.iter().all(|attempt| attempt.ip != old || attempt.at < START.plus_millis(DAY + 3_600_000)));
}

#[test]
fn a_gathering_meets_where_nobody_was_before_and_people_bring_their_two_devices() {
    let benign = vec![Benign::parse("gathering:at=1d").unwrap()];
    let all = attempts(&Plan { benign, ..plan(2000, 2 * DAY) });
    let (there, elsewhere): (Vec<&Attempt>, Vec<&Attempt>) = all.iter().partition(|attempt| attempt.scenario.is_some());
    let addresses: HashSet<_> = there.iter().map(|attempt| attempt.ip).collect();
    assert_eq!(addresses.len(), 1);
    assert!(elsewhere.iter().all(|attempt| !addresses.contains(&attempt.ip)));
    let people: HashSet<_> = there.iter().map(|attempt| attempt.identity).collect();
    assert!((260..=310).contains(&people.len()), "{}", people.len());

    let mut agents: HashMap<Identity, HashMap<u8, usize>> = HashMap::new();
    for attempt in attempts(&plan(200, 60 * DAY)).iter().filter(|attempt| attempt.ending == Ending::SignedIn) {
        *agents.entry(attempt.identity).or_default().entry(attempt.agent).or_default() += 1;
    }
    let (mut first, mut all) = (0, 0);
    for counts in agents.values() {
        first += counts.values().max().unwrap();
        all += counts.values().sum::<usize>();
    }
    // 70 % with the usual one, and those of one sign-in or with two of the same kind.
    assert!((0.70..0.80).contains(&share(first, all)), "{}", share(first, all));
}

#[test]
fn another_day_of_the_same_people_has_the_same_homes_and_other_sign_ins() {
    let first = plan(2000, 7 * DAY);
    let second = Plan { start: START.plus_millis(7 * DAY), ..first.clone() };
    let places = |plan: &Plan| -> HashSet<_> { attempts(plan).iter().map(|attempt| attempt.ip).collect() };
    let (one, two) = (attempts(&first), attempts(&second));
    assert_ne!(one[0].at.millis_since(first.start), two[0].at.millis_since(second.start));
    let both = places(&first).intersection(&places(&second)).filter(|ip| ip.is_ipv4()).count();
    assert!(both > 200, "{both}");
}

#[test]
fn deliveries_come_late_and_twice_and_misdated_but_never_before_they_are_made() {
    let mut plan = plan(5000, 7 * DAY);
    plan.attacks = vec![Attack::parse("stuffing").unwrap()];
    let all = attempts(&plan);
    let undistorted: Vec<_> = Deliveries::new(all.iter().copied(), Distortion::default(), 1).unwrap().collect();
    assert_eq!(undistorted.iter().map(|delivered| delivered.attempt).collect::<Vec<_>>(), all);
    assert!(undistorted.iter().all(|delivered| delivered.received_at == delivered.attempt.at && !delivered.is_repeat));

    let distortion = Distortion { repeated: 0.05, late: 0.1, late_millis: 600_000, skewed: 0.02, skew_millis: 120_000 };
    let distorted: Vec<_> = Deliveries::new(all.iter().copied(), distortion, 1).unwrap().collect();
    assert!(distorted.is_sorted_by_key(|delivered| delivered.received_at));
    let repeats = distorted.iter().filter(|delivered| delivered.is_repeat).count();
    assert_eq!(distorted.len() - repeats, all.len());
    assert!((0.04..0.06).contains(&share(repeats, all.len())), "{repeats}");
    let (mut late, mut ahead) = (0, 0);
    for delivered in distorted.iter().filter(|delivered| !delivered.is_repeat) {
        let made = &all[usize::try_from(delivered.number).unwrap()];
        let delay = delivered.received_at.millis_since(made.at);
        assert!((0..600_000).contains(&delay), "{delay}");
        late += usize::from(delay > 0);
        ahead += usize::from(delivered.attempt.at.millis_since(made.at) == 120_000);
    }
    assert!((0.09..0.11).contains(&share(late, all.len())), "{late}");
    assert!((0.015..0.025).contains(&share(ahead, all.len())), "{ahead}");
    for wrong in [
        Distortion { repeated: 1.5, ..distortion },
        Distortion { late: f64::NAN, ..distortion },
        Distortion { late_millis: -1, ..distortion },
        Distortion { skew_millis: i64::MAX, ..distortion },
    ] {
        assert!(Deliveries::new(all.iter().copied(), wrong, 1).is_err(), "{wrong:?}");
    }
}

#[test]
fn an_event_made_directly_is_the_one_that_its_line_becomes() {
    let mut plan = plan(2000, DAY);
    plan.lockout = 3;
    plan.attacks = ["stuffing:padding=0.3,limit=20", "guessing:attempts=20", "ipv6", "distributed-guessing:hits=1"]
        .map(|attack| Attack::parse(attack).unwrap())
        .to_vec();
    plan.benign = vec![Benign::parse("outage:at=13h").unwrap()];
    let key = IdentifierKey::new(&[3; 32]);
    let mut events = Events::new(&plan, key.clone());
    let mut renderer = Renderer::new(&plan);
    let mut endings = HashSet::new();
    for (number, attempt) in (0..).zip(Traffic::new(&plan).unwrap()) {
        let (mut line, mut truth) = (Vec::new(), Vec::new());
        renderer.write(&attempt, &mut line, &mut truth).unwrap();
        // As if received when it happened, and as if the sender's clock ran ten minutes ahead.
        for received_at in [attempt.at, attempt.at.plus_millis(-600_000)] {
            let normalized = normalize::attempt::normalize(&line, Some(received_at), &key).unwrap();
            assert_eq!(events.event(number, &attempt, received_at), normalized.event);
        }
        endings.insert(format!("{:?}", attempt.ending));
    }
    assert_eq!(endings.len(), 6, "{endings:?}");
}
