//! Which events teach what, and which are put under another account.

use super::*;
use crate::metrics::Metrics;
use crate::normalize::identifier::IdentifierKey;
use crate::normalize::{attempt, clerk_webhook};

const NOW: Timestamp = Timestamp(1_767_600_000_000);

fn aliases() -> Aliases {
    Aliases::in_memory(&Config::default(), &Metrics::new().unwrap().alias)
}

fn key() -> IdentifierKey {
    IdentifierKey::new(&[1; 32])
}

/// Whose account an attempt with these fields is, once it went through.
fn account(aliases: &Aliases, fields: &str) -> Option<String> {
    let text = format!(r#"{{"id":"1","occurred_at":{},"instance_id":"ins_1",{fields}}}"#, NOW.0);
    let mut normalized = attempt::normalize(text.as_bytes(), Some(NOW), &key()).unwrap();
    aliases.admit(&mut normalized);
    normalized.event.account.map(|account| account.to_string())
}

fn user_event(aliases: &Aliases, kind: &str, at: i64, data: &str) {
    let text = format!(
        r#"{{"object":"event","type":"{kind}","instance_id":"ins_1","timestamp":{at},"data":{{"id":"user_1",{data}}}}}"#
    );
    let now = Timestamp(at);
    aliases.admit(&mut clerk_webhook::normalize(Some("msg"), text.as_bytes(), Some(now), &key()).unwrap());
}

fn failure(aliases: &Aliases, identifier: &str) -> String {
    account(aliases, &format!(r#""outcome":"failure","identifier":"{identifier}""#)).unwrap()
}

#[test]
fn a_report_that_names_both_makes_them_one() {
    let aliases = aliases();
    assert!(failure(&aliases, "a@example.com").starts_with("idh_"));
    let both = r#""outcome":"success","user_id":"user_1","identifier":"A@example.com ""#;
    assert_eq!(account(&aliases, both).as_deref(), Some("user_1"));
    assert_eq!(failure(&aliases, "a@example.com"), "user_1");
    // One that fails is from the same back end.
    let both = r#""outcome":"failure","user_id":"user_1","identifier":"alice""#;
    assert_eq!(account(&aliases, both).as_deref(), Some("user_1"));
    assert_eq!(failure(&aliases, "alice"), "user_1");
    assert!(failure(&aliases, "b@example.com").starts_with("idh_"));
    // Nobody has it any more.
    let gone = r#""outcome":"failure","reason":"form_identifier_not_found","identifier":"alice""#;
    assert!(account(&aliases, gone).unwrap().starts_with("idh_"));
}

#[test]
fn clerks_lists_make_and_end_links_of_what_is_verified() {
    let aliases = aliases();
    let email = |address: &str, status: &str| {
        format!(r#"{{"email_address":"{address}","verification":{{"status":"{status}"}}}}"#)
    };
    let phone = r#"[{"phone_number":"+15555550100","verification":{"status":"verified"}}]"#;
    let data = |emails: &[String], phones: &str| {
        format!(r#""username":"alice","email_addresses":[{}],"phone_numbers":{phones}"#, emails.join(","))
    };
    let both = [email("a@example.com", "verified"), email("victim@example.com", "unverified")];
    user_event(&aliases, "user.created", NOW.0, &data(&both, phone));
    for mine in ["a@example.com", "alice", "+15555550100"] {
        assert_eq!(failure(&aliases, mine), "user_1", "{mine}");
    }
    assert!(failure(&aliases, "victim@example.com").starts_with("idh_"), "anybody can add it");
    // The address is gone, and news of before it went comes late.
    user_event(&aliases, "user.updated", NOW.0 + 2000, &data(&[email("new@example.com", "verified")], phone));
    user_event(&aliases, "user.updated", NOW.0 + 1000, &data(&both, phone));
    assert!(failure(&aliases, "a@example.com").starts_with("idh_"));
    assert_eq!(failure(&aliases, "new@example.com"), "user_1");
    // A record without its lists says nothing of what is not in it.
    user_event(&aliases, "user.updated", NOW.0 + 3000, r#""username":"alice2""#);
    for mine in ["new@example.com", "alice", "alice2"] {
        assert_eq!(failure(&aliases, mine), "user_1", "{mine}");
    }
    user_event(&aliases, "user.updated", NOW.0 + 4000, r#""username":"boss@example.com""#);
    assert!(failure(&aliases, "boss@example.com").starts_with("idh_"), "a user name can be chosen");
    assert_eq!(aliases.len(), 4);
}

#[test]
fn a_deleted_user_has_no_names_and_gets_none_from_late_news() {
    let aliases = aliases();
    let listed = r#""username":"alice","email_addresses":[],"phone_numbers":[]"#;
    user_event(&aliases, "user.created", NOW.0, listed);
    let had = key().hash(&"ins_1".into(), "alice");
    user_event(&aliases, "user.deleted", NOW.0 + 1000, r#""deleted":true"#);
    user_event(&aliases, "user.created", NOW.0, listed);
    assert!(failure(&aliases, "alice").starts_with("idh_"));
    assert!(aliases.is_empty());
    // Whoever erases the rest learns which they were.
    assert_eq!(aliases.forget(&"ins_1".into(), "user_1"), [had]);
    assert!(aliases.forget(&"ins_1".into(), "user_1").is_empty());
}

#[test]
fn it_can_be_turned_off() {
    let off = Config { max_entries: 0 };
    assert!(off.validate().is_empty() && !Config { max_entries: 10 }.validate().is_empty());
    let aliases = Aliases::new(&off, &Metrics::new().unwrap().alias);
    account(&aliases, r#""outcome":"success","user_id":"user_1","identifier":"a@example.com""#);
    assert!(aliases.is_empty() && aliases.changes(1).is_empty());
}
