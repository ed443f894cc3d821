//! One reported sign-in attempt: the JSON object that `POST /v1/attempts` and `replay` take.
//!
//! Invariant: `id` and `occurred_at` are there, and the outcome is known, by `outcome` or by `reason`; everything else is
//! optional, and what is not in the schema (`deploy/attempt.schema.json`) is ignored. Where both are given `outcome`
//! decides: the reporter saw the answer, the code is its label.
//!
//! On the path of a replay, a million lines long, so it borrows from the input and copies only what it keeps.

use serde::Deserialize;

use super::identifier::IdentifierKey;
use super::moment::Moment;
use super::text::{self, Text};
use super::{Names, NormalizeError, Normalized, clamp, object, reason};
use crate::event::{Account, AuthEvent, MAX_ID_BYTES, Outcome, Source, Tenant, Timestamp};

/// Longest identifier hashed: e-mail addresses end at 254 bytes.
const MAX_IDENTIFIER_BYTES: usize = 1024;

#[derive(Deserialize)]
struct Attempt<'a> {
    #[serde(borrow, default)]
    id: Text<'a>,
    #[serde(default)]
    occurred_at: Moment,
    #[serde(borrow, default)]
    outcome: Text<'a>,
    #[serde(borrow, default)]
    reason: Text<'a>,
    #[serde(borrow, default)]
    ip: Text<'a>,
    #[serde(borrow, default)]
    user_id: Text<'a>,
    #[serde(borrow, default)]
    identifier: Text<'a>,
    #[serde(borrow, default)]
    user_agent: Text<'a>,
    #[serde(borrow, default)]
    instance_id: Text<'a>,
    #[serde(borrow, default)]
    session_id: Text<'a>,
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
    let attempt: Attempt<'_> = object(item)?;
    let id = text::id("id", attempt.id.strict("id")?.ok_or(NormalizeError::Missing("id"))?)?;
    let occurred_at = match attempt.occurred_at {
        Moment::At(at) => at,
        Moment::Absent => return Err(NormalizeError::Missing("occurred_at")),
        Moment::Other => {
            let fault = "is neither an RFC 3339 time nor milliseconds since the epoch";
            return Err(NormalizeError::Field { field: "occurred_at", fault });
        }
    };
    let received_at = received_at.unwrap_or(occurred_at);
    let (occurred_at, clamped) = clamp(occurred_at, received_at);
    let (outcome, reason) = ending(&attempt)?;
    let tenant = match attempt.instance_id.strict("instance_id")? {
        Some(instance) => Tenant(text::clerk_id("instance_id", instance)?),
        None => Tenant::UNNAMED.into(),
    };
    let identifier = match attempt.identifier.strict("identifier")? {
        Some(identifier) if identifier.len() > MAX_IDENTIFIER_BYTES => {
            return Err(NormalizeError::Field { field: "identifier", fault: "is longer than 1024 bytes" });
        }
        Some(identifier) if !identifier.trim().is_empty() => Some(key.hash(&tenant, identifier)),
        Some(_) | None => None,
    };
    let user = attempt.user_id.strict("user_id")?.map(|user| text::clerk_id("user_id", user)).transpose()?;
    let session = attempt.session_id.strict("session_id")?;
    let event = AuthEvent {
        id,
        occurred_at,
        received_at,
        tenant,
        source: Source::AttemptReport,
        outcome,
        reason,
        ip: attempt.ip.strict("ip")?.map(|ip| text::ip("ip", ip)).transpose()?.flatten(),
        account: user.map(Account::User).or(identifier.map(Account::Identifier)),
        identifier,
        user_agent: attempt.user_agent.strict("user_agent")?.map(text::user_agent),
        session: session.map(|session| text::clerk_id("session_id", session)).transpose()?,
    };
    // Whatever the outcome: the sender proved himself, is the customer's own back end, and looked the user up.
    let names = match (&event.account, event.identifier) {
        (Some(Account::User(_)), Some(_)) => Names::Tried,
        _ => Names::Unsaid,
    };
    Ok(Normalized { event, clamped, unknown_type: false, names })
}

/// How the attempt ended, and Clerk's code for it.
fn ending(attempt: &Attempt<'_>) -> Result<(Outcome, Option<Box<str>>), NormalizeError> {
    let reason = attempt.reason.strict("reason")?.map(|reason| text::code("reason", reason)).transpose()?;
    let outcome = match (attempt.outcome.strict("outcome")?, &reason) {
        (Some("success"), _) => Outcome::Success,
        (Some("failure"), _) => Outcome::Failure,
        (Some("locked"), _) => Outcome::Locked,
        (Some("rate_limited"), _) => Outcome::RateLimited,
        (Some("blocked"), _) => Outcome::Blocked,
        (Some("challenge"), _) => Outcome::Challenge,
        (Some("password_correct_stopped"), _) => Outcome::PasswordCorrectStopped,
        (Some(_), _) => {
            return Err(NormalizeError::Field { field: "outcome", fault: "is not one of the documented outcomes" });
        }
        (None, Some(code)) => reason::outcome(code),
        (None, None) => return Err(NormalizeError::Missing("outcome")),
    };
    Ok((outcome, reason))
}

/// The `id` of an item that was refused, if it can be told: for the answer.
#[must_use]
pub fn id_of(item: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct OnlyId {
        id: String,
    }
    object::<OnlyId>(item).ok().map(|only| only.id).filter(|id| id.len() <= MAX_ID_BYTES)
}
