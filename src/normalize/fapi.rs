//! What Clerk's Frontend API was asked about a sign-in, and what it answered.
//!
//! Invariant: of a request only the form fields `identifier` and `strategy` are ever kept ([`form`]); of an answer only
//! codes, statuses and Clerk's own ids, and whether it repeats the identifier ([`identified`]), which is hashed at once. One request is at most one event.
//!
//! Not here: sign-ups (their errors say nothing about anybody's credential), and the bytes' way through (`sources`).

use std::net::IpAddr;

use super::text;
use crate::event::{Account, AuthEvent, IdentifierHash, Outcome, Source, Tenant, Timestamp};

mod answer;
pub mod form;
mod route;

pub use answer::{ending, identified};
pub use route::Route;

/// What an answer says about the attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// How it ended.
    pub outcome: Outcome,
    /// Clerk's code or status for it.
    pub reason: Option<Box<str>>,
    /// `sia_…`, which later factors name.
    pub sign_in: Option<Box<str>>,
    /// `sess_…`, of a sign-in that is complete.
    pub session: Option<Box<str>>,
    /// `user_…`, where the answer tells.
    pub user: Option<Box<str>>,
    /// The answer repeats what is the matter with a sign-in, so that it may be read several times and is one event.
    pub repeats: bool,
}

/// What is known of a request apart from its ending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context<'a> {
    /// When the answer came.
    pub at: Timestamp,
    /// Now.
    pub received_at: Timestamp,
    /// The instance behind the proxy.
    pub tenant: &'a Tenant,
    /// The person's address.
    pub ip: Option<IpAddr>,
    /// The browser's description of itself.
    pub user_agent: Option<&'a str>,
    /// Whom it was about, from this request or an earlier one of the same sign-in.
    pub identifier: Option<IdentifierHash>,
}

/// The event; `id` is used where the ending brings none of its own.
#[must_use]
pub fn event(context: &Context<'_>, ending: Ending, id: Box<str>) -> AuthEvent {
    let id = match (&ending.sign_in, &ending.reason) {
        (Some(sign_in), Some(reason)) if ending.repeats => format!("{sign_in}.{reason}").into(),
        _ => id,
    };
    AuthEvent {
        id,
        occurred_at: context.at,
        received_at: context.received_at,
        tenant: context.tenant.clone(),
        source: Source::FapiProxy,
        outcome: ending.outcome,
        reason: ending.reason,
        ip: context.ip,
        account: ending.user.map(Account::User).or(context.identifier.map(Account::Identifier)),
        identifier: context.identifier,
        user_agent: context.user_agent.filter(|agent| !agent.is_empty()).map(text::user_agent),
        session: ending.session,
    }
}

/// The instance that events are said to be of, if it is named.
#[must_use]
pub fn tenant(instance: &str) -> Option<Tenant> {
    if instance.is_empty() {
        return Some(Tenant::UNNAMED.into());
    }
    text::clerk_id("instance_id", instance).ok().map(Tenant)
}

/// The value of a hexadecimal digit.
fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}
