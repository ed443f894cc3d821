//! What a task shows of its instances, and what it notices.

use super::*;
use crate::detect::Config;
use crate::event::{Account, AuthEvent, Outcome, Source};
use crate::metrics::Metrics;

const DAY: i64 = 86_400_000;
const START: Timestamp = Timestamp(1_767_600_000_000);

fn event(tenant: &str, at: Timestamp, outcome: Outcome) -> AuthEvent {
    AuthEvent {
        id: "e".into(),
        occurred_at: at,
        received_at: at,
        tenant: tenant.into(),
        source: Source::AttemptReport,
        outcome,
        reason: None,
        ip: "203.0.113.7".parse().ok(),
        account: Some(Account::User("user_1".into())),
        identifier: None,
        user_agent: None,
        session: None,
    }
}

fn detector() -> Detector {
    let mut detector = Detector::new(&Config::default());
    for (tenant, outcome) in [("ins_a", Outcome::Success), ("ins_b", Outcome::Success), ("ins_b", Outcome::Failure)] {
        detector.observe(event(tenant, START, outcome), &mut Vec::new());
    }
    detector.observe(event("ins_a", START.plus_millis(2 * DAY), Outcome::Success), &mut Vec::new());
    detector
}

#[test]
fn what_stopped_is_told_first_and_apart_from_what_never_was_also_after_a_restart() {
    let later = START.plus_millis(2 * DAY);
    let before = detector();
    let restored = Detector::restore(&Config::default(), &before.snapshot().unwrap()).unwrap();
    for detector in [before, restored] {
        let metrics = Metrics::new().unwrap();
        let board = SignalBoard::new(Silence(DAY), Clock::held(later));
        let sight = Sight::open(board.clone(), Partition(3), &detector);
        let all = board.instances();
        assert_eq!(all.iter().map(|one| &*one.instance.0).collect::<Vec<_>>(), ["ins_b", "ins_a"]);
        let told = |one: &Instance| one.blind.iter().map(|it| (it.signal, it.state)).collect::<Vec<_>>();
        let never = [(Signal::CodeRequest, Flow::Never), (Signal::LockOut, Flow::Never)];
        assert_eq!(
            told(&all[0]),
            [&[(Signal::Success, Flow::Stopped), (Signal::Failure, Flow::Stopped)], &never[..]].concat()
        );
        assert_eq!(
            told(&all[1]),
            [&[(Signal::SuccessWithUserAgent, Flow::Never), (Signal::Failure, Flow::Never)], &never[..]].concat()
        );
        let standing = all[1].signals["success"];
        assert_eq!((standing.first_seen_at, standing.last_seen_at), (Some(START), Some(later)));

        board.publish(&metrics.detect.signals);
        let gauge = |signal: Signal, flow: Flow| {
            metrics.detect.signals.with_label_values(&[signal.as_str(), flow.as_str()]).get()
        };
        assert_eq!(Flow::ALL.map(|flow| gauge(Signal::Failure, flow)), [0, 1, 0, 1]);
        assert_eq!(Flow::ALL.map(|flow| gauge(Signal::Success, flow)), [1, 1, 0, 0]);
        sight.withdraw();
        board.publish(&metrics.detect.signals);
        assert_eq!((board.instances(), gauge(Signal::Failure, Flow::Stopped)), (Vec::new(), 0));
    }
}

#[test]
fn a_look_notices_what_stops_and_what_comes_back() {
    let (mut detector, clock) = (detector(), Clock::held(START));
    let board = SignalBoard::new(Silence(DAY), clock.clone());
    let mut sight = Sight::open(board.clone(), Partition(0), &detector);
    let bits_of_b = |sight: &Sight| sight.stopped.get(&Tenant::from("ins_b")).copied().unwrap();
    assert_eq!(bits_of_b(&sight), 0);
    let later = START.plus_millis(2 * DAY);
    clock.set(later);
    std::thread::sleep(BETWEEN_LOOKS);
    sight.look(&detector, 4);
    assert_eq!(bits_of_b(&sight), bit(Signal::Success) | bit(Signal::Failure));
    detector.observe(event("ins_b", later, Outcome::Failure), &mut Vec::new());
    std::thread::sleep(BETWEEN_LOOKS);
    sight.look(&detector, 5);
    assert_eq!(bits_of_b(&sight), bit(Signal::Success));
    assert_eq!(board.instances()[0].signals["failure"].last_seen_at, Some(later));
}
