//! How records lie in the events topic: JSON that an operator can read and another program can take.
//!
//! Invariant: fields are only ever added; a reader passes over those it does not know. What is not a record of ours is
//! told apart from one, never guessed at.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::event::{Account, AuthEvent, IdentifierHash, Outcome, Source, Timestamp};
use crate::log::Record;

/// Header that names what the value is. Events have none: there are millions, and the topic's name says it.
pub(super) const SCHEMA_HEADER: &str = "schema";
/// A finding.
pub(super) const FINDING_SCHEMA: &str = "authspike.finding/1";

#[derive(Serialize)]
struct WrittenEvent<'a> {
    id: &'a str,
    occurred_at: i64,
    received_at: i64,
    tenant: &'a str,
    source: &'static str,
    outcome: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identifier: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a str>,
}

/// Both kinds of record: the one that is there says which it is.
#[derive(Deserialize)]
struct ReadRecord<'a> {
    tick_at: Option<i64>,
    id: Option<Box<str>>,
    occurred_at: Option<i64>,
    received_at: Option<i64>,
    tenant: Option<Box<str>>,
    source: Option<&'a str>,
    outcome: Option<Outcome>,
    reason: Option<Box<str>>,
    ip: Option<IpAddr>,
    account: Option<Box<str>>,
    identifier: Option<&'a str>,
    user_agent: Option<Box<str>>,
    session: Option<Box<str>>,
}

/// An event as a value.
pub(super) fn event(event: &AuthEvent) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&WrittenEvent {
        id: &event.id,
        occurred_at: event.occurred_at.0,
        received_at: event.received_at.0,
        tenant: &event.tenant.0,
        source: event.source.as_str(),
        outcome: event.outcome,
        reason: event.reason.as_deref(),
        ip: event.ip,
        account: event.account.as_ref().map(Account::to_string),
        identifier: event.identifier.map(|hash| hash.to_string()),
        user_agent: event.user_agent.as_deref(),
        session: event.session.as_deref(),
    })
}

/// A tick as a value.
pub(super) fn tick(at: Timestamp) -> String {
    format!(r#"{{"tick_at":{}}}"#, at.0)
}

/// The record in the value of a message of the events topic, or why there is none; the reason holds nothing of the value.
///
/// # Errors
/// What is missing or unknown.
pub fn record(value: &[u8]) -> Result<Record, &'static str> {
    let read: ReadRecord<'_> = serde_json::from_slice(value).map_err(|_| "it is no JSON of an event")?;
    if let Some(at) = read.tick_at {
        return Ok(Record::Tick { at: Timestamp(at) });
    }
    let (Some(id), Some(tenant), Some(outcome)) = (read.id, read.tenant, read.outcome) else {
        return Err("id, tenant or outcome is missing");
    };
    let (Some(occurred_at), Some(received_at)) = (read.occurred_at, read.received_at) else {
        return Err("occurred_at or received_at is missing");
    };
    let source = Source::ALL.into_iter().find(|source| Some(source.as_str()) == read.source);
    Ok(Record::Event(AuthEvent {
        id,
        occurred_at: Timestamp(occurred_at),
        received_at: Timestamp(received_at),
        tenant: crate::event::Tenant(tenant),
        source: source.ok_or("source is unknown")?,
        outcome,
        reason: read.reason,
        ip: read.ip,
        account: read.account.map(|account| match hash(&account) {
            Some(hash) => Account::Identifier(hash),
            None => Account::User(account),
        }),
        identifier: read.identifier.and_then(hash),
        user_agent: read.user_agent,
        session: read.session,
    }))
}

/// `idh_` and 32 hexadecimal digits.
pub(super) fn hash(text: &str) -> Option<IdentifierHash> {
    let digits = text.strip_prefix("idh_").filter(|digits| digits.len() == 32)?;
    u128::from_str_radix(digits, 16).ok().map(|bits| IdentifierHash(bits.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_as_they_were() {
        let hash = IdentifierHash([7; 16]);
        let full = AuthEvent {
            id: "msg_\"1\"".into(),
            occurred_at: Timestamp(1_767_600_000_000),
            received_at: Timestamp(1_767_600_000_100),
            tenant: "ins_1".into(),
            source: Source::AttemptReport,
            outcome: Outcome::PasswordCorrectStopped,
            reason: Some("needs_second_factor".into()),
            ip: Some("2001:db8::1".parse().unwrap()),
            account: Some(Account::User("user_1".into())),
            identifier: Some(hash),
            user_agent: Some("Mozilla/5.0 \\ \u{e9}".into()),
            session: Some("sess_1".into()),
        };
        let bare = AuthEvent {
            account: Some(Account::Identifier(hash)),
            reason: None,
            ip: None,
            identifier: None,
            user_agent: None,
            session: None,
            ..full.clone()
        };
        for one in [full, bare] {
            assert_eq!(record(&event(&one).unwrap()), Ok(Record::Event(one)));
        }
        let at = Timestamp(1_767_600_000_000);
        assert_eq!(record(tick(at).as_bytes()), Ok(Record::Tick { at }));
    }

    #[test]
    fn what_is_no_record_is_refused_and_fields_to_come_are_passed_over() {
        for (value, reason) in [
            ("", "no JSON"),
            ("[]", "no JSON"),
            ("{}", "missing"),
            (r#"{"id":"a","tenant":"t","outcome":"failure","occurred_at":1}"#, "received_at"),
            (r#"{"id":"a","tenant":"t","outcome":"failure","occurred_at":1,"received_at":1,"source":"x"}"#, "source"),
        ] {
            let fault = record(value.as_bytes()).unwrap_err();
            assert!(fault.contains(reason), "{value}: {fault}");
        }
        let later = r#"{"id":"a","tenant":"t","outcome":"failure","occurred_at":1,"received_at":1,
            "source":"clerk_webhook","asn":64500}"#;
        assert!(record(later.as_bytes()).is_ok());
    }
}
