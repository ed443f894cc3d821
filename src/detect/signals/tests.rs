//! What is told of missing signals, and which rules they blind.

use super::*;
use crate::event::{Account, Source};

const DAY: Silence = Silence(86_400_000);
const START: Timestamp = Timestamp(1_767_600_000_000);

fn event(at: Timestamp, outcome: Outcome) -> AuthEvent {
    AuthEvent {
        id: "e".into(),
        occurred_at: Timestamp(0),
        received_at: at,
        tenant: "ins_1".into(),
        source: Source::AttemptReport,
        outcome,
        reason: None,
        ip: "203.0.113.7".parse().ok(),
        account: Some(Account::User("user_1".into())),
        identifier: None,
        user_agent: Some("curl/8".into()),
        session: None,
    }
}

fn missing(signals: &Signals, now: Timestamp) -> Vec<(Signal, Flow)> {
    signals.blind(now, DAY).into_iter().map(|blind| (blind.signal, blind.flow)).collect()
}

#[test]
fn what_never_came_what_stopped_and_what_was_given_up_are_told_apart() {
    let mut signals = Signals::default();
    signals.note(&event(START, Outcome::Failure));
    let after = |days: i64| START.plus_millis(days * DAY.0);
    for (days, flow) in [(0, Flow::Flowing), (1, Flow::Flowing), (2, Flow::Stopped), (7, Flow::Stopped)] {
        assert_eq!(signals.flow(Signal::Failure, after(days), DAY), flow, "{days}");
    }
    assert_eq!(signals.flow(Signal::Failure, after(8), DAY), Flow::Gone);
    assert_eq!(signals.flow(Signal::Success, after(8), DAY), Flow::Never);
    // A clock that was set back is no silence.
    assert_eq!(signals.flow(Signal::Failure, after(-3), DAY), Flow::Flowing);
    let told = signals.blind(after(2), DAY).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert!(told[0].starts_with("no success was ever seen; no account can be named"), "{told:?}");
    assert!(told[1].starts_with("it stopped: no failure since 2026-01-05T08:00:00.000Z; no failure rate"), "{told:?}");
    // Lock-outs are rare: a month of silence is nothing.
    signals.note(&event(START, Outcome::Locked));
    assert_eq!(signals.flow(Signal::LockOut, after(30), DAY), Flow::Flowing);
    assert_eq!(signals.flow(Signal::LockOut, after(31), DAY), Flow::Stopped);
}

#[test]
fn a_backlog_counts_by_its_arrival_in_whatever_order() {
    let mut signals = Signals::default();
    for millis in [5, 9, 2] {
        signals.note(&event(Timestamp(millis), Outcome::Failure));
    }
    let seen = signals.seen(Signal::Failure).unwrap();
    assert_eq!((seen.first, seen.last), (Timestamp(2), Timestamp(9)));
}

#[test]
fn weekends_are_no_outage_once_there_were_two_and_one_outage_is_no_habit() {
    let hour = DAY.0 / 24;
    let (mut signals, mut now) = (Signals::default(), START);
    let flow = |signals: &Signals, now: Timestamp| signals.flow(Signal::Failure, now, DAY);
    // Hourly for five days, then nothing for two and a half, week by week.
    for week in 0..12 {
        for _ in 0..5 * 24 {
            signals.note(&event(now, Outcome::Failure));
            now = now.plus_millis(hour);
        }
        now = now.plus_millis(60 * hour);
        let expected = if week < 2 { Flow::Stopped } else { Flow::Flowing };
        assert_eq!(flow(&signals, now), expected, "in week {week}");
    }
    assert_eq!(flow(&signals, now.plus_millis(2 * DAY.0)), Flow::Stopped, "longer than any weekend");

    // An instance that is never silent for long, but for one outage of four days.
    let (mut signals, mut now) = (Signals::default(), START);
    for number in 0..1000 {
        signals.note(&event(now, Outcome::Failure));
        now = now.plus_millis(if number == 500 { 4 * DAY.0 } else { hour });
    }
    assert_eq!(flow(&signals, now.plus_millis(DAY.0 + hour)), Flow::Stopped);
}

#[test]
fn each_missing_detail_names_the_rules_it_blinds() {
    let whole = [Outcome::Success, Outcome::Failure, Outcome::CodeSent, Outcome::Locked];
    let blinded = |change: fn(&mut AuthEvent), outcome: Outcome| {
        let mut signals = Signals::default();
        for mut event in whole.map(|outcome| event(START, outcome)) {
            if event.outcome == outcome {
                change(&mut event);
            }
            signals.note(&event);
        }
        signals.blind(START, DAY)
    };
    assert_eq!(blinded(|_| (), Outcome::Failure), []);
    for (change, outcome, signal, rule) in [
        (
            (|it| it.account = None) as fn(&mut AuthEvent),
            Outcome::Failure,
            Signal::FailureWithAccount,
            Rule::AccountFailureSpike,
        ),
        (|it| it.ip = None, Outcome::Failure, Signal::FailureWithAddress, Rule::DistributedAttack),
        (|it| it.user_agent = None, Outcome::Success, Signal::SuccessWithUserAgent, Rule::SuccessFanOut),
        (|it| it.account = None, Outcome::Success, Signal::SuccessWithAccount, Rule::SuccessFanOut),
        (|it| it.ip = None, Outcome::Success, Signal::SuccessWithAddress, Rule::SuccessFanOut),
        (|it| it.outcome = Outcome::Other, Outcome::CodeSent, Signal::CodeRequest, Rule::CodeFlood),
        (|it| it.outcome = Outcome::Other, Outcome::Locked, Signal::LockOut, Rule::LockoutWave),
    ] {
        let blind = blinded(change, outcome);
        assert_eq!(blind.len(), 1, "{blind:?}");
        assert_eq!((blind[0].signal, blind[0].rules.contains(&rule)), (signal, true));
    }
}

#[test]
fn what_is_part_of_something_that_is_missing_is_not_told_beside_it() {
    let mut signals = Signals::default();
    signals.note(&event(START, Outcome::Success));
    let never = [Signal::Failure, Signal::CodeRequest, Signal::LockOut].map(|signal| (signal, Flow::Never));
    assert_eq!(missing(&signals, START), never);
    let blind = signals.blind(START, DAY);
    assert_eq!(blind[0].rules.len(), 5);
    let can: Vec<_> = Rule::ALL.iter().filter(|rule| !blind[0].rules.contains(rule)).collect();
    assert_eq!(can, [&Rule::CodeFlood, &Rule::LockoutWave, &Rule::SuccessFanOut]);
}
