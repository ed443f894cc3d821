//! Deletions in, and what still names whom.

use crate::detect::{Config, Detector};
use crate::event::{Account, AuthEvent, Outcome, Source, Timestamp};
use crate::finding::{Finding, Lifecycle, Severity};

const START: i64 = 1_767_600_000_000;
const HOUR: i64 = 3_600_000;

fn event(millis: i64, outcome: Outcome, user: &str) -> AuthEvent {
    let at = Timestamp(START + millis);
    AuthEvent {
        id: format!("{millis}-{user}").into(),
        occurred_at: at,
        received_at: at,
        tenant: "ins_1".into(),
        source: Source::AttemptReport,
        outcome,
        reason: None,
        ip: Some("203.0.113.7".parse().unwrap()),
        account: Some(Account::User(user.into())),
        identifier: None,
        user_agent: None,
        session: None,
    }
}

fn deletion(millis: i64, user: &str, source: Source) -> AuthEvent {
    AuthEvent { source, ip: None, ..event(millis, Outcome::AccountDeleted, user) }
}

/// A detector that has seen an attack on thirty accounts, of which `user_7` was broken into.
fn attacked(config: &Config) -> (Detector, Vec<Finding>) {
    let (mut detector, mut found) = (Detector::new(config), Vec::new());
    for user in 0..30 {
        detector.observe(event(user * 1000, Outcome::Failure, &format!("user_{user}")), &mut found);
    }
    // Without a user agent: its session is kept for what another source may say of it.
    let got_in = AuthEvent { session: Some("sess_7".into()), ..event(31_000, Outcome::Success, "user_7") };
    detector.observe(got_in, &mut found);
    (detector, found)
}

fn names(bytes: &[u8], name: &str) -> bool {
    bytes.windows(name.len()).any(|window| window == name.as_bytes())
}

#[test]
fn a_deleted_account_is_named_for_the_night_and_then_no_longer_though_it_still_counts() {
    let (mut detector, found) = attacked(&Config::default());
    let before = found.last().unwrap().clone();
    assert_eq!(before.evidence.compromised[0].account, "user_7");
    let mut found = Vec::new();
    detector.observe(deletion(40_000, "user_7", Source::ClerkWebhook), &mut found);
    detector.tick(Timestamp(START + 40_000 + 12 * HOUR - 1), &mut Vec::new());
    assert_eq!((found.len(), detector.take_erased()), (0, vec![]));
    // What would be forgotten, were it still open: a detector that has not moved on.
    let (mut detector, _) = attacked(&Config { erase_after_hours: 0, ..Config::default() });
    detector.observe(deletion(40_000, "user_7", Source::ClerkWebhook), &mut found);
    let [after] = &found[..] else { panic!("one revision: {found:?}") };
    let erased = detector.take_erased();
    let replacement = erased[0].replacement.clone();
    assert_eq!((&erased[0].account, &*erased[0].asked_by), (&Account::User("user_7".into()), "webhook"));
    assert_eq!((after.lifecycle, after.revision), (Lifecycle::Updated, before.revision + 1));
    assert_eq!(after.severity, Severity::High);
    assert_eq!((after.evidence.compromised_total, after.evidence.accounts.total), (1, 30));
    assert_eq!(after.evidence.compromised[0].account, *replacement);
    assert_eq!(after.evidence.accounts.values[7], *replacement);
    assert_eq!(after.evidence.accounts.values[8], "user_8", "the others are still named");
    let state = detector.snapshot().unwrap();
    assert!(!names(&state, "user_7") && names(&state, "user_8") && names(&state, &replacement));
}

#[test]
fn time_alone_makes_it_due_and_a_restart_in_between_changes_nothing() {
    let (mut detector, _) = attacked(&Config::default());
    let mut found = Vec::new();
    detector.observe(deletion(40_000, "user_7", Source::ClerkWebhook), &mut found);
    let due = Timestamp(START + 40_000 + 12 * HOUR);
    let mut restored = Detector::restore(&Config::default(), &detector.snapshot().unwrap()).unwrap();
    let mut done = Vec::new();
    for detector in [&mut detector, &mut restored] {
        // Whatever the episode wanted.
        detector.finish(&mut Vec::new());
        assert!(!detector.is_due(due.plus_millis(-1)) && detector.is_due(due));
        detector.tick(due, &mut Vec::new());
        let erased = detector.take_erased();
        assert_eq!(erased.len(), 1);
        assert!(!names(&detector.snapshot().unwrap(), "user_7"));
        done.push(erased);
    }
    assert_eq!(done[0], done[1], "the same pseudonym");
}

#[test]
fn an_attacked_account_goes_on_under_its_pseudonym_until_its_finding_closes() {
    let (mut detector, mut found) = (Detector::new(&Config::default()), Vec::new());
    let guess = |second: i64| AuthEvent {
        ip: Some(std::net::IpAddr::from([198, 51, u8::try_from(second % 100).unwrap(), 1])),
        ..event(second * 1000, Outcome::Failure, "user_1")
    };
    (0..40).for_each(|second| detector.observe(guess(second), &mut found));
    let id = found[0].finding_id;
    assert_eq!(found[0].entity.value, "user_1");
    found.clear();
    detector.observe(deletion(41_000, "user_1", Source::Operator), &mut found);
    detector.finish(&mut found);
    let replacement = detector.take_erased().remove(0).replacement;
    assert_eq!(found.last().unwrap().lifecycle, Lifecycle::Closed);
    assert!(found.iter().all(|finding| finding.finding_id == id && finding.entity.value == *replacement));
    assert_eq!(found.last().unwrap().evidence.totals.failures, 40);
    assert!(!names(&detector.snapshot().unwrap(), "user_1"));
}

#[test]
fn only_clerk_and_the_operator_can_have_an_account_forgotten_and_twice_is_once() {
    let (mut detector, _) = attacked(&Config::default());
    let mut found = Vec::new();
    for source in [Source::AttemptReport, Source::LogRecord, Source::FapiProxy] {
        detector.observe(deletion(40_000, "user_7", source), &mut found);
    }
    detector.observe(deletion(41_000, "user_7", Source::ClerkWebhook), &mut found);
    assert_eq!(detector.take_erased(), []);
    detector.observe(deletion(42_000, "user_7", Source::Operator), &mut found);
    detector.observe(deletion(43_000, "user_unheard_of", Source::Operator), &mut found);
    assert_eq!(detector.take_erased().len(), 2);
    detector.tick(Timestamp(START + 20 * HOUR), &mut found);
    assert_eq!(detector.take_erased(), []);
}
