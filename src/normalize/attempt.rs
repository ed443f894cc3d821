//! One reported sign-in attempt: the JSON object that `POST /v1/attempts` and `replay` take.
//!
//! Invariant: `id` and `occurred_at` are there, and the outcome is known, by `outcome` or by `reason`; everything else is
//! optional, and what is not in the schema is ignored. On the path of a replay, so it borrows from the input.

use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize};

use super::identifier::IdentifierKey;
use super::text::{self, Text};
use super::{NormalizeError, Normalized, clamp, reason};
use crate::event::{Account, AuthEvent, MAX_ID_BYTES, Outcome, Source, Tenant, Timestamp};

/// Longest identifier hashed: e-mail addresses end at 254 bytes.
const MAX_IDENTIFIER_BYTES: usize = 1024;

#[derive(Deserialize)]
struct Attempt<'a> {
    #[serde(borrow)]
    id: Option<Text<'a>>,
    occurred_at: Option<When>,
    outcome: Option<Reported>,
    #[serde(borrow)]
    reason: Option<Text<'a>>,
    #[serde(borrow)]
    ip: Option<Text<'a>>,
    #[serde(borrow)]
    user_id: Option<Text<'a>>,
    #[serde(borrow)]
    identifier: Option<Text<'a>>,
    #[serde(borrow)]
    user_agent: Option<Text<'a>>,
    #[serde(borrow)]
    instance_id: Option<Text<'a>>,
    #[serde(borrow)]
    session_id: Option<Text<'a>>,
}

/// The outcomes a report may name.
#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Reported {
    Success,
    Failure,
    Locked,
    RateLimited,
    Blocked,
    Challenge,
    PasswordCorrectStopped,
}

impl From<Reported> for Outcome {
    fn from(reported: Reported) -> Self {
        match reported {
            Reported::Success => Self::Success,
            Reported::Failure => Self::Failure,
            Reported::Locked => Self::Locked,
            Reported::RateLimited => Self::RateLimited,
            Reported::Blocked => Self::Blocked,
            Reported::Challenge => Self::Challenge,
            Reported::PasswordCorrectStopped => Self::PasswordCorrectStopped,
        }
    }
}

/// RFC 3339, or milliseconds since the epoch.
struct When(Timestamp);

impl<'de> Deserialize<'de> for When {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Moment;
        impl Visitor<'_> for Moment {
            type Value = When;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an RFC 3339 time or milliseconds since the epoch")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<When, E> {
                let moment: jiff::Timestamp = text.parse().map_err(|_| E::custom("not an RFC 3339 time"))?;
                Ok(When(Timestamp(moment.as_millisecond())))
            }
            fn visit_i64<E>(self, number: i64) -> Result<When, E> {
                Ok(When(text::epoch(number)))
            }
            fn visit_u64<E>(self, number: u64) -> Result<When, E> {
                Ok(When(text::epoch(i64::try_from(number).unwrap_or(i64::MAX))))
            }
        }
        deserializer.deserialize_any(Moment)
    }
}

/// The event of one attempt. `received_at` is `None` in a replay: it then arrived when it happened.
///
/// # Errors
/// Not such an object; see [`NormalizeError`].
pub fn normalize(
    item: &[u8],
    received_at: Option<Timestamp>,
    key: &IdentifierKey,
) -> Result<Normalized, NormalizeError> {
    let attempt: Attempt<'_> = serde_json::from_slice(item)?;
    let id = text::id("id", &attempt.id.ok_or(NormalizeError::Missing("id"))?.0)?;
    let occurred_at = attempt.occurred_at.ok_or(NormalizeError::Missing("occurred_at"))?.0;
    let received_at = received_at.unwrap_or(occurred_at);
    let (occurred_at, clamped) = clamp(occurred_at, received_at);
    let reason = attempt.reason.filter(|reason| !reason.0.is_empty());
    let outcome = match (attempt.outcome, &reason) {
        (Some(reported), _) => reported.into(),
        (None, Some(code)) => reason::outcome(&code.0),
        (None, None) => return Err(NormalizeError::Missing("outcome")),
    };
    let tenant = match attempt.instance_id {
        Some(instance) if !instance.0.is_empty() => Tenant(text::id("instance_id", &instance.0)?),
        _ => Tenant::UNNAMED.into(),
    };
    let identifier = match attempt.identifier {
        Some(identifier) if identifier.0.len() > MAX_IDENTIFIER_BYTES => {
            return Err(NormalizeError::Field { field: "identifier", fault: "is longer than 1024 bytes" });
        }
        Some(identifier) if !identifier.0.trim().is_empty() => Some(key.hash(&tenant, &identifier.0)),
        _ => None,
    };
    let account = match optional_id("user_id", attempt.user_id)? {
        Some(user) => Some(Account::User(user)),
        None => identifier.map(Account::Identifier),
    };
    let ip = attempt.ip.map(|ip| text::ip("ip", &ip.0)).transpose()?.flatten();
    let event = AuthEvent {
        id,
        occurred_at,
        received_at,
        tenant,
        source: Source::AttemptReport,
        outcome,
        reason: reason.map(|code| text::reason(&code.0)),
        ip,
        account,
        identifier,
        user_agent: attempt.user_agent.and_then(|agent| text::user_agent(&agent.0)),
        session: optional_id("session_id", attempt.session_id)?,
    };
    Ok(Normalized { event, clamped, unknown_type: false })
}

/// The `id` of an item that was refused, if it can be told: for the answer.
#[must_use]
pub fn id_of(item: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct OnlyId {
        id: String,
    }
    serde_json::from_slice::<OnlyId>(item).ok().map(|only| only.id).filter(|id| id.len() <= MAX_ID_BYTES)
}

fn optional_id(field: &'static str, text: Option<Text<'_>>) -> Result<Option<Box<str>>, NormalizeError> {
    text.filter(|text| !text.0.is_empty()).map(|text| text::id(field, &text.0)).transpose()
}
