//! A sign-in that is told of twice is one, whoever tells of it first and whatever each leaves out.

use proptest::prelude::*;

use super::*;
use crate::detect::Config;
use crate::event::{AuthEvent, Outcome, Source};
use crate::finding::Lifecycle;

const START: i64 = 1_767_600_000_000;
const HOME: &str = "198.51.100.20";
const ATTACKER: &str = "203.0.113.7";

fn event(seconds: i64, outcome: Outcome, ip: &str, user: u32, session: Option<u32>) -> AuthEvent {
    let at = Timestamp(START + seconds * 1000);
    AuthEvent {
        id: "e".into(),
        occurred_at: at,
        received_at: at,
        tenant: "ins_1".into(),
        source: Source::FapiProxy,
        outcome,
        reason: None,
        ip: ip.parse().ok(),
        account: Some(Account::User(format!("user_{user}").into())),
        identifier: None,
        user_agent: Some("curl/8".into()),
        session: session.map(|session| format!("sess_{session}").into()),
    }
}

/// What the webhook says of the same.
fn webhook(of: &AuthEvent) -> AuthEvent {
    AuthEvent { id: "w".into(), source: Source::ClerkWebhook, reason: Some("session.created".into()), ..of.clone() }
}

fn observe(detector: &mut Detector, events: impl IntoIterator<Item = AuthEvent>) -> Vec<Finding> {
    let mut found = Vec::new();
    events.into_iter().for_each(|event| detector.observe(event, &mut found));
    found
}

fn run(events: impl IntoIterator<Item = AuthEvent>) -> (Vec<Finding>, u64) {
    let mut detector = Detector::new(&Config::default());
    let mut found = observe(&mut detector, events);
    detector.finish(&mut found);
    (found, detector.stats().repeated)
}

/// Thirty accounts fail from the attacker's address, which then gets in to one; `tell` says how that is told.
fn attack(tell: impl Fn(AuthEvent) -> Vec<AuthEvent>) -> Vec<AuthEvent> {
    let mut events: Vec<_> = (0..30).map(|user| event(user, Outcome::Failure, ATTACKER, user as u32, None)).collect();
    events.extend(tell(event(31, Outcome::Success, ATTACKER, 77, Some(1))));
    events
}

/// Who was broken into, from where, and how many got in, as the last revision has it.
fn told(found: &[Finding]) -> (Vec<(String, Option<String>)>, u64, u64) {
    let last = found.iter().rfind(|finding| finding.lifecycle == Lifecycle::Closed).unwrap();
    let evidence = &last.evidence;
    let named = evidence.compromised.iter().map(|one| (one.account.clone(), one.address.clone())).collect();
    (named, evidence.compromised_total, evidence.totals.successes)
}

fn victim() -> (Vec<(String, Option<String>)>, u64, u64) {
    (vec![("user_77".to_owned(), Some(ATTACKER.to_owned()))], 1, 1)
}

#[test]
fn a_sign_in_that_the_proxy_and_the_webhook_tell_of_is_counted_and_named_once() {
    let (once, none) = run(attack(|success| vec![success]));
    assert_eq!((told(&once), none), (victim(), 0));
    let (twice, repeated) = run(attack(|success| vec![webhook(&success), success]));
    assert_eq!((told(&twice), repeated), (victim(), 1));
    // Another session is another sign-in.
    let other = |success: AuthEvent| vec![AuthEvent { session: Some("sess_2".into()), ..success.clone() }, success];
    assert_eq!(told(&run(attack(other)).0).2, 2);
    // One session of two users is none.
    let another = |success: AuthEvent| {
        vec![AuthEvent { account: Some(Account::User("user_78".into())), ..success.clone() }, success]
    };
    let (found, repeated) = run(attack(another));
    assert_eq!((told(&found).1, told(&found).2, repeated), (2, 2, 0));
    // Without a session nothing says that the two are one.
    let bare = |success: AuthEvent| vec![AuthEvent { session: None, ..success.clone() }, success];
    assert_eq!(told(&run(attack(bare)).0).2, 2);
}

#[test]
fn what_only_one_of_them_knows_names_the_account_whichever_comes_first() {
    let without_account = |success: &AuthEvent| AuthEvent { account: None, ..success.clone() };
    let without_address = |success: &AuthEvent| AuthEvent { ip: None, user_agent: None, ..success.clone() };
    let (first, _) = run(attack(|success| vec![without_account(&success), without_address(&success)]));
    assert_eq!(told(&first), victim());
    let (second, _) = run(attack(|success| vec![without_address(&success), without_account(&success)]));
    assert_eq!(told(&second), victim());
    // Alone, neither can.
    assert_eq!(told(&run(attack(|success| vec![without_account(&success)])).0), (Vec::new(), 0, 1));
    assert_eq!(told(&run(attack(|success| vec![without_address(&success)])).0), (Vec::new(), 0, 0));
    // And a whole one that comes third adds nothing.
    let (third, repeated) =
        run(attack(|success| vec![without_account(&success), without_address(&success), webhook(&success)]));
    assert_eq!((told(&third), repeated), (victim(), 2));
}

#[test]
fn an_account_known_by_its_user_id_only_to_the_second_is_named_by_it() {
    let typed = Account::Identifier(crate::event::IdentifierHash([7; 16]));
    let (found, _) =
        run(attack(|success| vec![AuthEvent { account: Some(typed.clone()), ..success.clone() }, webhook(&success)]));
    let (named, _, successes) = told(&found);
    assert!(named.iter().any(|(account, _)| account == "user_77"), "{named:?}");
    assert_eq!(successes, 1);
}

#[test]
fn the_finding_may_open_or_close_between_the_two() {
    let without_account = |success: &AuthEvent| AuthEvent { account: None, ..success.clone() };
    // It gets in after a single failure; the webhook comes when thirty more have failed.
    let mut events = vec![event(0, Outcome::Failure, ATTACKER, 500, None)];
    let success = event(1, Outcome::Success, ATTACKER, 77, Some(1));
    events.push(without_account(&success));
    events.extend((2..32).map(|user| event(user, Outcome::Failure, ATTACKER, user as u32, None)));
    events.push(AuthEvent { received_at: Timestamp(START + 33_000), ..webhook(&success) });
    assert_eq!(told(&run(events.clone()).0), victim());
    // Or when it is over.
    let last = events.pop().unwrap();
    events.push(event(40 * 60, Outcome::Failure, HOME, 600, None));
    events.push(AuthEvent { received_at: Timestamp(START + 41 * 60_000), ..last });
    assert_eq!(told(&run(events).0), victim());
}

#[test]
fn a_restart_between_the_two_forgets_nothing() {
    let without_account = |success: &AuthEvent| AuthEvent { account: None, ..success.clone() };
    let events = attack(|success| vec![without_account(&success), webhook(&success), success]);
    let whole = run(events.clone()).0;
    for at in 29..events.len() {
        let mut detector = Detector::new(&Config::default());
        let mut found = observe(&mut detector, events[..at].to_vec());
        let snapshot = detector.snapshot().unwrap();
        let mut detector = Detector::restore(&Config::default(), &snapshot).unwrap();
        assert_eq!(detector.snapshot().unwrap(), snapshot);
        found.extend(observe(&mut detector, events[at..].to_vec()));
        detector.finish(&mut found);
        assert_eq!(found, whole);
    }
}

#[test]
fn memory_is_bounded_for_each_tenant_and_in_all_and_a_session_is_forgotten_after_an_hour() {
    let part = |whole: bool| {
        let mut detector = Detector::new(&Config::default());
        let success = event(0, Outcome::Success, HOME, 1, None);
        observe(&mut detector, [AuthEvent { user_agent: whole.then(|| "curl/8".into()), ..success }]);
        Part::of(detector.recent.newest().unwrap())
    };
    let (whole, partly) = (part(true), part(false));
    let mut sessions = Sessions::default();
    for session in 0..40_000 {
        sessions.remember(0, session, whole.clone(), Timestamp(0));
    }
    assert_eq!((sessions.held, sessions.rings[0].told.len()), (MAX_SESSIONS, MAX_SESSIONS));
    assert!(sessions.told(0, 39_999).is_some() && sessions.told(0, 0).is_none() && sessions.told(1, 39_999).is_none());
    for tenant in 1..9 {
        for session in 0..20_000 {
            sessions.remember(tenant, session, partly.clone(), Timestamp(0));
        }
        sessions.remember(tenant, 19_999, whole.clone(), Timestamp(0));
        let held: usize = sessions.rings.iter().map(|ring| ring.told.len()).sum();
        assert!(held == sessions.held && held <= MAX_HELD, "{held}");
        assert_eq!(sessions.told(tenant, 19_999), Some(&Told::Whole(key::text("user_1"))));
    }
    sessions.remember(8, 70_000, whole, Timestamp(KEPT_MILLIS + 1));
    assert_eq!(sessions.rings[8].told.len(), 1, "an hour later all of them are old");
}

fn sign_ins() -> impl Strategy<Value = Vec<AuthEvent>> {
    let one = (0_i64..20, prop::bool::weighted(0.4), 0_u32..25, 0_usize..3);
    prop::collection::vec(one, 1..160).prop_map(|steps| {
        let mut seconds = 0;
        (0..)
            .zip(steps)
            .map(|(number, (pause, succeeds, user, from))| {
                seconds += pause;
                let outcome = if succeeds { Outcome::Success } else { Outcome::Failure };
                event(seconds, outcome, [HOME, ATTACKER, "203.0.113.9"][from], user, succeeds.then_some(number))
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// A webhook beside every success changes no finding.
    #[test]
    fn telling_of_every_sign_in_twice_changes_nothing(events in sign_ins()) {
        let twice = events.iter().flat_map(|event| {
            let again = event.session.is_some().then(|| webhook(event));
            [Some(event.clone()), again].into_iter().flatten()
        });
        let (twice, repeated) = run(twice.collect::<Vec<_>>());
        prop_assert_eq!(repeated as usize, events.iter().filter(|event| event.session.is_some()).count());
        prop_assert_eq!(twice, run(events).0);
    }

    /// Each sign-in told of in two halves, in either order, is counted at most once, and for nobody but who it was.
    #[test]
    fn two_halves_are_never_two_sign_ins(events in sign_ins(), account_first in any::<bool>()) {
        let halves = events.iter().flat_map(|event| {
            if event.session.is_none() {
                return vec![event.clone()];
            }
            let from = AuthEvent { account: None, ..event.clone() };
            let who = AuthEvent { ip: None, ..event.clone() };
            if account_first { vec![who, from] } else { vec![from, who] }
        });
        for finding in run(halves.collect::<Vec<_>>()).0 {
            let evidence = &finding.evidence;
            let got_in = events.iter().filter(|event| {
                let ip = event.ip.map(|ip| ip.to_string());
                event.outcome == Outcome::Success && ip.as_deref() == Some(&*finding.entity.value)
            });
            let got_in: Vec<_> = got_in.filter_map(|event| Some(event.account.as_ref()?.to_string())).collect();
            if finding.entity.kind == crate::finding::EntityKind::Ip {
                prop_assert!(evidence.totals.successes <= got_in.len() as u64, "{finding:?}");
                prop_assert!(evidence.compromised.iter().all(|one| got_in.contains(&one.account)), "{finding:?}");
            }
        }
    }
}
