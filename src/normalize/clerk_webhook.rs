//! One webhook body as Clerk sends it.
//!
//! Invariant: any event of the documented envelope is accepted, of whatever type and with whatever fields: an endpoint that
//! answers 400 to a new event type is retried for a day and then disabled by the sender. Of `email.created` and
//! `sms.created`, which carry live codes, only the slug, the user id, the time and the address are read.
//!
//! Webhooks carry no failed sign-in. They tell of sessions (success), lock-outs and codes (by the mails sent about them)
//! and the life of accounts.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::text::{self, Loose, Text};
use super::{NormalizeError, Normalized, clamp};
use crate::event::{Account, AuthEvent, Outcome, Source, Tenant, Timestamp};

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    object: Option<Text<'a>>,
    #[serde(borrow, rename = "type")]
    kind: Option<Text<'a>>,
    timestamp: Option<i64>,
    #[serde(borrow)]
    instance_id: Option<Text<'a>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    event_attributes: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct EventAttributes<'a> {
    #[serde(borrow)]
    http_request: Option<HttpRequest<'a>>,
}

#[derive(Default, Deserialize)]
struct HttpRequest<'a> {
    #[serde(borrow, default)]
    client_ip: Loose<'a>,
    #[serde(borrow, default)]
    user_agent: Loose<'a>,
}

/// The few fields of any event's `data` that are read.
#[derive(Default, Deserialize)]
struct Body<'a> {
    #[serde(borrow, default)]
    id: Loose<'a>,
    #[serde(borrow, default)]
    user_id: Loose<'a>,
    #[serde(borrow, default)]
    slug: Loose<'a>,
    actor: Option<IgnoredAny>,
    #[serde(borrow)]
    latest_activity: Option<Activity<'a>>,
    locked: Option<bool>,
    created_at: Option<i64>,
    updated_at: Option<i64>,
}

#[derive(Default, Deserialize)]
struct Activity<'a> {
    #[serde(borrow, default)]
    ip_address: Loose<'a>,
}

/// The event of one webhook. `delivery_id` is the `svix-id`; without one (a replay of bare bodies) the id is made from what
/// the body is about. `received_at` is `None` in a replay.
///
/// # Errors
/// Not the envelope; see [`NormalizeError`].
pub fn normalize(
    delivery_id: Option<&str>,
    body: &[u8],
    received_at: Option<Timestamp>,
) -> Result<Normalized, NormalizeError> {
    let envelope: Envelope<'_> = serde_json::from_slice(body)?;
    if envelope.object.is_none_or(|object| object.0 != "event") {
        return Err(NormalizeError::Field { field: "object", fault: "is not \"event\"" });
    }
    let kind = envelope.kind.ok_or(NormalizeError::Missing("type"))?.0;
    let data = envelope.data.ok_or(NormalizeError::Missing("data"))?.get();
    if !data.starts_with('{') {
        return Err(NormalizeError::Field { field: "data", fault: "is not an object" });
    }
    // A field of another type than documented costs the fields, not the event.
    let data: Body<'_> = serde_json::from_str(data).unwrap_or_default();
    let attributes =
        envelope.event_attributes.and_then(|raw| serde_json::from_str::<EventAttributes<'_>>(raw.get()).ok());
    let request = attributes.and_then(|attributes| attributes.http_request).unwrap_or_default();

    let stated = envelope.timestamp.map(text::epoch).or_else(|| received_at.is_none().then(|| dated(&data)).flatten());
    let occurred_at = stated.or(received_at).ok_or(NormalizeError::Missing("timestamp"))?;
    let received_at = received_at.unwrap_or(occurred_at);
    let (occurred_at, clamped) = clamp(occurred_at, received_at);
    let id = if let Some(id) = delivery_id {
        text::id("svix-id", id)?
    } else {
        let about = data.id.0.as_deref().unwrap_or_default();
        text::id("data.id", &format!("{kind}|{about}|{}", occurred_at.0))?
    };
    let (outcome, reason, unknown_type) = classify(&kind, &data);
    let is_session = kind.starts_with("session.");
    let activity = data.latest_activity.filter(|_| is_session).and_then(|activity| activity.ip_address.0);
    // Of two addresses, that of the request that caused the event; an address that cannot be read is none.
    let ip = [request.client_ip.0, activity]
        .into_iter()
        .flatten()
        .find_map(|address| text::ip("client_ip", &address).ok().flatten());
    let user = if kind.starts_with("user.") { &data.id.0 } else { &data.user_id.0 };
    let account = user.as_deref().and_then(|user| text::id("user_id", user).ok()).map(Account::User);
    let session = data.id.0.as_deref().filter(|_| is_session).and_then(|session| text::id("data.id", session).ok());
    let tenant = match envelope.instance_id {
        Some(instance) if !instance.0.is_empty() => Tenant(text::id("instance_id", &instance.0)?),
        _ => Tenant::UNNAMED.into(),
    };
    let event = AuthEvent {
        id,
        occurred_at,
        received_at,
        tenant,
        source: Source::ClerkWebhook,
        outcome,
        reason: Some(text::reason(&reason)),
        ip,
        account,
        identifier: None,
        user_agent: request.user_agent.0.and_then(|agent| text::user_agent(&agent)),
        session,
    };
    Ok(Normalized { event, clamped, unknown_type })
}

/// When the thing itself says that it last changed.
fn dated(data: &Body<'_>) -> Option<Timestamp> {
    data.updated_at.or(data.created_at).map(text::epoch)
}

/// What an event means for a sign-in, with its reason, and whether its type is unknown to this version.
fn classify(kind: &str, data: &Body<'_>) -> (Outcome, String, bool) {
    let plain = |outcome| (outcome, kind.to_owned(), false);
    match kind {
        // An administrator acting as the user is not the user's sign-in.
        "session.created" if data.actor.is_some() => (Outcome::Other, "impersonation".to_owned(), false),
        "session.created" => plain(Outcome::Success),
        // Tasks are left (a second factor to set up, an organisation to choose). Whether `created` follows is not
        // documented, so this is neither a success of its own nor a failure.
        "session.pending" => plain(Outcome::Challenge),
        "session.ended" | "session.removed" | "session.revoked" => plain(Outcome::SessionEnded),
        // A state, repeated in every later update of the user: the lock-out itself is told by its mail.
        "user.updated" if data.locked == Some(true) => (Outcome::AccountChanged, "user_locked".to_owned(), false),
        "user.created" | "user.updated" => plain(Outcome::AccountChanged),
        "user.deleted" => plain(Outcome::AccountDeleted),
        "email.created" | "sms.created" => {
            let slug = data.slug.0.as_deref().unwrap_or(kind);
            let outcome = match slug {
                "account_locked" => Outcome::Locked,
                "verification_code" | "reset_password_code" | "magic_link_sign_in" | "magic_link_sign_up" => {
                    Outcome::CodeSent
                }
                _ => Outcome::Other,
            };
            (outcome, slug.to_owned(), false)
        }
        _ => (Outcome::Other, kind.to_owned(), !is_documented(kind)),
    }
}

/// The documented families of events that say nothing about signing in.
fn is_documented(kind: &str) -> bool {
    let Some((family, _)) = kind.split_once('.') else { return false };
    matches!(
        family,
        "organization"
            | "organizationDomain"
            | "organizationInvitation"
            | "organizationMembership"
            | "permission"
            | "role"
            | "waitlistEntry"
            | "paymentAttempt"
            | "subscription"
            | "subscriptionItem"
            | "invitation"
    )
}
