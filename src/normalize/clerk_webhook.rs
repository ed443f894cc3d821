//! One webhook body as Clerk sends it.
//!
//! Invariant: any event of the documented envelope is accepted, of whatever type and with whatever fields: an endpoint that
//! answers 400 to a new event type is retried for a day and then disabled by the sender. Of `email.created` and
//! `sms.created`, which carry live codes, only the slug, the user id, the time and the address are read.
//!
//! Webhooks carry no failed sign-in. They tell of sessions (success), lock-outs and codes (by the mails sent about them)
//! and the life of accounts.

use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::identifier::IdentifierKey;
use super::moment::Moment;
use super::text::{self, Text};
use super::{Names, NormalizeError, Normalized, clamp, object};
use crate::event::{Account, AuthEvent, Outcome, Source, Tenant, Timestamp};

mod names;

pub use names::MAX_NAMES;

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    object: Text<'a>,
    #[serde(borrow, default, rename = "type")]
    kind: Text<'a>,
    #[serde(default)]
    timestamp: Moment,
    #[serde(borrow, default)]
    instance_id: Text<'a>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    event_attributes: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct EventAttributes<'a> {
    #[serde(borrow)]
    http_request: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct HttpRequest<'a> {
    #[serde(borrow, default)]
    client_ip: Text<'a>,
    #[serde(borrow, default)]
    user_agent: Text<'a>,
}

/// The few fields of any event's `data` that are read. None of them can fail by its type.
#[derive(Default, Deserialize)]
struct Body<'a> {
    #[serde(borrow, default)]
    id: Text<'a>,
    #[serde(borrow, default)]
    user_id: Text<'a>,
    #[serde(borrow, default)]
    slug: Text<'a>,
    #[serde(borrow)]
    actor: Option<&'a RawValue>,
    #[serde(borrow)]
    latest_activity: Option<&'a RawValue>,
    #[serde(borrow)]
    locked: Option<&'a RawValue>,
    #[serde(borrow, default)]
    username: Text<'a>,
    #[serde(borrow)]
    email_addresses: Option<&'a RawValue>,
    #[serde(borrow)]
    phone_numbers: Option<&'a RawValue>,
    #[serde(default)]
    created_at: Moment,
    #[serde(default)]
    updated_at: Moment,
}

#[derive(Default, Deserialize)]
struct Activity<'a> {
    #[serde(borrow, default)]
    ip_address: Text<'a>,
}

/// The event of one webhook. `delivery_id` is the `svix-id`; without one (a replay of bare bodies) the id is made of what
/// the body is about: `type|data.id|milliseconds`. `received_at` is `None` in a replay: it then arrived when it happened.
///
/// # Errors
/// Not the envelope; see [`NormalizeError`].
pub fn normalize(
    delivery_id: Option<&str>,
    body: &[u8],
    received_at: Option<Timestamp>,
    key: &IdentifierKey,
) -> Result<Normalized, NormalizeError> {
    let envelope: Envelope<'_> = object(body)?;
    if envelope.object.loose() != Some("event") {
        return Err(NormalizeError::Field { field: "object", fault: "is not \"event\"" });
    }
    let kind = text::code("type", envelope.kind.strict("type")?.ok_or(NormalizeError::Missing("type"))?)?;
    let raw = envelope.data.ok_or(NormalizeError::Missing("data"))?.get();
    if !raw.starts_with('{') {
        return Err(NormalizeError::Field { field: "data", fault: "is not an object" });
    }
    let data: Body<'_> = read(raw);
    let request: HttpRequest<'_> = envelope
        .event_attributes
        .and_then(|attributes| read::<EventAttributes<'_>>(attributes.get()).http_request)
        .map(|request| read(request.get()))
        .unwrap_or_default();

    // The state's own time is a fallback for bodies of 2022, which bear none; live, the arrival is nearer the truth.
    let last_changed = || data.updated_at.loose().or_else(|| data.created_at.loose());
    let occurred_at = envelope.timestamp.loose().or(received_at).or_else(last_changed);
    let occurred_at = occurred_at.ok_or(NormalizeError::Missing("timestamp"))?;
    let received_at = received_at.unwrap_or(occurred_at);
    let (occurred_at, clamped) = clamp(occurred_at, received_at);

    let is_session = kind.starts_with("session.");
    let user = if kind.starts_with("user.") { &data.id } else { &data.user_id };
    let activity = data.latest_activity.filter(|_| is_session).map(|activity| read::<Activity<'_>>(activity.get()));
    let (outcome, reason) = classify(&kind, &data);
    let event = AuthEvent {
        id: match delivery_id {
            Some(id) => text::id("svix-id", id)?,
            None => text::id("data.id", &made_id(&kind, &data, raw, occurred_at))?,
        },
        occurred_at,
        received_at,
        tenant: match envelope.instance_id.strict("instance_id")? {
            Some(instance) => Tenant(text::clerk_id("instance_id", instance)?),
            None => Tenant::UNNAMED.into(),
        },
        source: Source::ClerkWebhook,
        outcome,
        reason: Some(reason),
        // Of two addresses, that of the request that caused the event; one that cannot be read is none.
        ip: [request.client_ip.loose(), activity.as_ref().and_then(|activity| activity.ip_address.loose())]
            .into_iter()
            .flatten()
            .find_map(|address| text::ip("client_ip", address).ok().flatten()),
        account: clerk_id(user).map(Account::User),
        identifier: None,
        user_agent: request.user_agent.loose().map(text::user_agent),
        session: if is_session { clerk_id(&data.id) } else { None },
    };
    let names = match &*kind {
        "user.created" | "user.updated" => names::of(&data, &event.tenant, key),
        _ => Names::Unsaid,
    };
    Ok(Normalized { event, clamped, unknown_type: !DOCUMENTED.contains(&&*kind), names })
}

/// What of a part can be read: a part of another shape than documented costs its fields, not the event.
fn read<'a, T: Default + Deserialize<'a>>(raw: &'a str) -> T {
    object(raw.as_bytes()).unwrap_or_default()
}

fn clerk_id(text: &Text<'_>) -> Option<Box<str>> {
    text.loose().and_then(|id| text::clerk_id("data.id", id).ok())
}

fn made_id(kind: &str, data: &Body<'_>, raw: &str, occurred_at: Timestamp) -> String {
    if let Some(about) = data.id.loose() {
        return format!("{kind}|{about}|{}", occurred_at.0);
    }
    // About nothing that has an id: the content tells two such events of one second apart.
    let digest = Sha256::digest(raw.as_bytes());
    let start = digest.iter().take(8).fold(0_u64, |start, byte| (start << 8) | u64::from(*byte));
    format!("{kind}|{start:016x}|{}", occurred_at.0)
}

/// What an event means for a sign-in, with its reason.
fn classify(kind: &str, data: &Body<'_>) -> (Outcome, Box<str>) {
    match kind {
        // An administrator acting as the user is not the user's sign-in.
        "session.created" if data.actor.is_some() => (Outcome::Other, "impersonation".into()),
        "session.created" => (Outcome::Success, kind.into()),
        // The credential was right and tasks are left (a second factor to set up, an organisation to choose). Whether
        // `created` follows is not documented: as this outcome it is never a second success, and an attacker who stops
        // here has still shown which account is open to him.
        "session.pending" => (Outcome::PasswordCorrectStopped, kind.into()),
        "session.ended" | "session.removed" | "session.revoked" => (Outcome::SessionEnded, kind.into()),
        // A state, repeated by every later update of a locked user: the lock-out itself is told once, by its mail.
        "user.updated" if data.locked.is_some_and(|locked| locked.get() == "true") => {
            (Outcome::AccountChanged, "user_locked".into())
        }
        "user.created" | "user.updated" => (Outcome::AccountChanged, kind.into()),
        "user.deleted" => (Outcome::AccountDeleted, kind.into()),
        "email.created" | "sms.created" => {
            let slug = data.slug.loose().and_then(|slug| text::code("slug", slug).ok()).unwrap_or_else(|| kind.into());
            let outcome = match &*slug {
                "account_locked" => Outcome::Locked,
                "verification_code" | "reset_password_code" => Outcome::CodeSent,
                // magic_link_sign_in, magic_link_sign_up, magic_link_user_profile
                slug if slug.starts_with("magic_link") => Outcome::CodeSent,
                _ => Outcome::Other,
            };
            (outcome, slug)
        }
        _ => (Outcome::Other, kind.into()),
    }
}

/// The event types of Clerk's specification (`webhooks/2025-04-15`), and four that only its SDK and guides name.
const DOCUMENTED: [&str; 49] = [
    "email.created",
    "invitation.accepted",
    "invitation.created",
    "invitation.revoked",
    "organization.created",
    "organization.deleted",
    "organization.updated",
    "organizationDomain.created",
    "organizationDomain.deleted",
    "organizationDomain.updated",
    "organizationInvitation.accepted",
    "organizationInvitation.created",
    "organizationInvitation.revoked",
    "organizationMembership.created",
    "organizationMembership.deleted",
    "organizationMembership.updated",
    "paymentAttempt.created",
    "paymentAttempt.updated",
    "permission.created",
    "permission.deleted",
    "permission.updated",
    "role.created",
    "role.deleted",
    "role.updated",
    "session.created",
    "session.ended",
    "session.pending",
    "session.removed",
    "session.revoked",
    "sms.created",
    "subscription.active",
    "subscription.created",
    "subscription.pastDue",
    "subscription.updated",
    "subscriptionItem.abandoned",
    "subscriptionItem.active",
    "subscriptionItem.canceled",
    "subscriptionItem.created",
    "subscriptionItem.ended",
    "subscriptionItem.freeTrialEnding",
    "subscriptionItem.incomplete",
    "subscriptionItem.pastDue",
    "subscriptionItem.upcoming",
    "subscriptionItem.updated",
    "user.created",
    "user.deleted",
    "user.updated",
    "waitlistEntry.created",
    "waitlistEntry.updated",
];
