//! A week of traffic, played twice, and once in two halves with a restart between: the same findings to the byte.

use authspike::detect::{Config, Detector};
use authspike::event::{AuthEvent, Timestamp};
use authspike::finding::Finding;
use authspike::normalize::identifier::IdentifierKey;
use authspike::simulate::event::Events;
use authspike::simulate::{Attack, Benign, Load, Plan, Traffic};

const DAY: i64 = 86_400_000;

fn plan() -> Plan {
    let attacks = [
        "botnet:at=2d3h,hits=10",
        "stuffing:at=3d9h,hits=5",
        "spraying:at=4d12h",
        "low-and-slow:at=5d",
        "distributed-guessing:at=6d5h,hits=1",
        "network:at=6d10h",
    ];
    Plan {
        seed: 5,
        start: Timestamp(1_767_571_200_000),
        span_millis: Some(7 * DAY),
        tenant: "ins_week".into(),
        accounts: 2000,
        load: Load::PerAccountPerDay(0.25),
        lockout: 10,
        attacks: attacks.iter().map(|text| Attack::parse(text).unwrap()).collect(),
        benign: vec![Benign::parse("outage:at=1d12h").unwrap(), Benign::parse("office-rush:at=4d8h").unwrap()],
    }
}

fn events() -> impl Iterator<Item = AuthEvent> {
    let mut events = Events::new(&plan(), IdentifierKey::new(&[7; 32]));
    let attempts = Traffic::new(&plan()).unwrap();
    (0..).zip(attempts).map(move |(number, attempt)| events.event(number, &attempt, attempt.at))
}

fn lines(found: &[Finding]) -> Vec<String> {
    found.iter().map(|finding| serde_json::to_string(finding).unwrap()).collect()
}

/// The week's findings, with a restart after each of `restarts` events.
fn week(restarts: &[usize]) -> Vec<String> {
    let config = Config { max_state_bytes: 16 << 20, ..Config::default() };
    let mut detector = Detector::new(&config);
    let mut found = Vec::new();
    for (number, event) in events().enumerate() {
        if restarts.contains(&number) {
            let snapshot = detector.snapshot().unwrap();
            detector = Detector::restore(&config, &snapshot).unwrap();
            assert_eq!(detector.snapshot().unwrap(), snapshot, "a snapshot is the whole state");
        }
        detector.observe(event, &mut found);
    }
    detector.finish(&mut found);
    lines(&found)
}

#[test]
fn a_week_is_found_alike_however_often_and_in_however_many_parts_it_is_played() {
    let once = week(&[]);
    assert!(once.len() > 20, "there is something to compare: {}", once.len());
    assert_eq!(once, week(&[]));
    let events = events().count();
    // The halves, and in the middle of the attacks.
    assert_eq!(once, week(&[events / 2]));
    assert_eq!(once, week(&[events / 5, events / 3, events / 2, events * 2 / 3, events * 4 / 5, events - 10]));
}
