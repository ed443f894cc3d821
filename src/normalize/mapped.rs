//! One record of somebody else's log (a log drain, a gateway, another identity provider) as a sign-in attempt, by a
//! declarative mapping: where each field stands, and which values mean which outcome.
//!
//! Invariant: of a record only what the mapping names is read, and the identifier leaves only as its hash. A record that no
//! rule calls an attempt is skipped with the reason, never guessed at. The same bytes at the same place give the same id,
//! so reading a file again counts nothing twice.
//!
//! Not here: whether a record is true. A mapping trusts its file; what a client can write into it (`X-Forwarded-For`,
//! `X-Request-Id`) no preset believes.

use std::fmt::Write as _;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::identifier::IdentifierKey;
use super::{Names, NormalizeError, Normalized, clamp, text};
use crate::event::{Account, AuthEvent, Outcome, Source, Tenant, Timestamp};

mod collapse;
pub mod config;
pub mod preset;
mod record;
mod route;
mod time;

pub use collapse::collapse;
pub use config::Config;

use record::{Pattern, Pointer, Record};
use time::TimeFormat;

/// Longest identifier hashed: e-mail addresses end at 254 bytes, and a pointer that hits a message hits no identifier.
const MAX_IDENTIFIER_BYTES: usize = 1024;
/// Longest value shown in a reason to skip: an event type, not a message.
const MAX_SHOWN_BYTES: usize = 60;

/// A mapping ready for use; made by [`Config::compile`].
#[derive(Clone, Debug)]
pub struct Mapping {
    patterns: Vec<Pattern>,
    pattern_at: Option<Pointer>,
    id: Vec<Pointer>,
    occurred_at: Vec<Pointer>,
    time: Vec<TimeFormat>,
    ip: Vec<Pointer>,
    user_id: Vec<Pointer>,
    user_id_prefix: Box<str>,
    identifier: Vec<Pointer>,
    user_agent: Vec<Pointer>,
    instance_id: Vec<Pointer>,
    instance: Option<Tenant>,
    session_id: Vec<Pointer>,
    reason: Vec<Pointer>,
    decide: Decide,
}

/// What makes a record an attempt.
#[derive(Clone, Debug)]
enum Decide {
    /// The first rule of which all conditions hold.
    Rules(Vec<Rule>),
    /// An answer of Clerk's Frontend API, by method, path and status.
    FrontendApi { method: Vec<Pointer>, path: Vec<Pointer>, status: Vec<Pointer> },
}

#[derive(Clone, Debug)]
struct Rule {
    when: Vec<Condition>,
    /// None: the record is context.
    outcome: Option<Outcome>,
    reason: Option<Box<str>>,
}

#[derive(Clone, Debug)]
struct Condition {
    at: Vec<Pointer>,
    is: Vec<Box<str>>,
}

/// What the record itself does not say.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// When it was read; none in a replay: it then arrived when it happened.
    pub received_at: Option<Timestamp>,
    /// Times without a year are taken for the latest that is no more than a day after this.
    pub near: Timestamp,
    /// Where the record stands, the same whenever it is read: part of the id of records that bear none.
    pub place: &'a str,
}

/// What a record became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mapped {
    /// An attempt.
    Attempt(Box<Normalized>),
    /// No attempt, and why: a sentence that names a pointer and at most a short code that was found there.
    Skipped(String),
}

impl Mapping {
    /// What `line` becomes.
    ///
    /// # Errors
    /// It is an attempt by the rules, and cannot be used as one (no time, no JSON); see [`NormalizeError`].
    pub fn apply(&self, line: &[u8], arrival: Arrival<'_>, key: &IdentifierKey) -> Result<Mapped, NormalizeError> {
        let Some(record) = Record::read(line, &self.patterns, self.pattern_at.as_ref())? else {
            return Ok(Mapped::Skipped("no pattern matches".to_owned()));
        };
        let (outcome, given) = match self.decide(&record) {
            Ok(decided) => decided,
            Err(why) => return Ok(Mapped::Skipped(why)),
        };
        let written = record.text(&self.occurred_at).ok_or(NormalizeError::Missing("occurred_at"))?;
        let fault = "is no time of the mapping's formats";
        let occurred_at = self.time.iter().find_map(|format| format.read(&written, arrival.near));
        let occurred_at = occurred_at.ok_or(NormalizeError::Field { field: "occurred_at", fault })?;
        let received_at = arrival.received_at.unwrap_or(occurred_at);
        let (occurred_at, clamped) = clamp(occurred_at, received_at);
        let tenant = self.tenant(&record);
        let (account, identifier) = self.account(&record, &tenant, key);
        let id = match record.text(&self.id) {
            Some(id) => text::id("id", &id)?,
            None => made_id(arrival.place, line),
        };
        // A field that cannot be used is left out: nobody made these records for us, and the attempt still happened.
        let event = AuthEvent {
            id,
            occurred_at,
            received_at,
            source: Source::LogRecord,
            outcome,
            reason: given.or_else(|| record.text(&self.reason).and_then(|reason| text::code("reason", &reason).ok())),
            ip: record.text(&self.ip).and_then(|ip| text::ip("ip", &ip).ok().flatten()),
            account,
            identifier,
            user_agent: record.text(&self.user_agent).map(|agent| text::user_agent(&agent)),
            session: record.text(&self.session_id).and_then(|id| text::clerk_id("session_id", &id).ok()),
            tenant,
        };
        let names = self.names(&event);
        Ok(Mapped::Attempt(Box::new(Normalized { event, clamped, unknown_type: false, names })))
    }

    /// Whether the record tells whose the identifier is. An identity provider's log does, of whoever got in. A line of a web
    /// server's does not: what was typed and what the session says are both the client's words there.
    fn names(&self, event: &AuthEvent) -> Names {
        let is_proved = matches!(event.outcome, Outcome::Success | Outcome::PasswordCorrectStopped);
        let is_providers = self.patterns.is_empty() && matches!(self.decide, Decide::Rules(_));
        match (&event.account, event.identifier) {
            (Some(Account::User(_)), Some(_)) if is_proved && is_providers => Names::Tried,
            _ => Names::Unsaid,
        }
    }

    /// The outcome and the reason that the rule gives; else why the record is none.
    fn decide(&self, record: &Record) -> Result<(Outcome, Option<Box<str>>), String> {
        match &self.decide {
            Decide::Rules(rules) => {
                let Some(rule) = rules.iter().find(|rule| rule.when.iter().all(|condition| condition.holds(record)))
                else {
                    return Err(format!("no rule for {}", shown(record, rules.first())));
                };
                let outcome = rule.outcome.ok_or_else(|| format!("context: {}", shown(record, Some(rule))))?;
                Ok((outcome, rule.reason.clone()))
            }
            Decide::FrontendApi { method, path, status } => {
                let method = record.text(method).ok_or("no method")?;
                let path = record.text(path).ok_or("no path")?;
                let status = record.text(status).and_then(|status| status.parse().ok()).ok_or("no status")?;
                let outcome = route::outcome(&method, &path, status)?;
                Ok((outcome, Some(format!("http_{status}").into())))
            }
        }
    }

    fn tenant(&self, record: &Record) -> Tenant {
        let found =
            || record.text(&self.instance_id).and_then(|id| text::clerk_id("instance_id", &id).ok()).map(Tenant);
        self.instance.clone().or_else(found).unwrap_or_else(|| Tenant::UNNAMED.into())
    }

    /// Whose account. A user id that could be an address is hashed as an identifier is.
    fn account(
        &self,
        record: &Record,
        tenant: &Tenant,
        key: &IdentifierKey,
    ) -> (Option<Account>, Option<crate::event::IdentifierHash>) {
        let user = record.text(&self.user_id).filter(|user| user.starts_with(&*self.user_id_prefix));
        let clean = user.as_ref().and_then(|user| text::clerk_id("user_id", user).ok());
        let identifier = record.text(&self.identifier).or_else(|| user.filter(|_| clean.is_none()));
        let identifier = identifier.filter(|identifier| identifier.len() <= MAX_IDENTIFIER_BYTES);
        let identifier = identifier.map(|identifier| key.hash(tenant, &identifier));
        (clean.map(Account::User).or(identifier.map(Account::Identifier)), identifier)
    }
}

impl Condition {
    /// Whether the first of its places that holds anything holds one of its values; of a list, any element.
    fn holds(&self, record: &Record) -> bool {
        record.any(&self.at, &|found| self.is.iter().any(|wanted| glob(wanted, found)))
    }
}

/// `pattern` may hold `*`, for any number of any characters.
fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(found) = rest.find(part) else { return false };
        rest = rest.get(found + part.len()..).unwrap_or_default();
    }
    rest.ends_with(last)
}

/// What `rule` looked at first, as far as it is a code: anything longer or with other characters may be a person's.
fn shown(record: &Record, rule: Option<&Rule>) -> String {
    let Some(condition) = rule.and_then(|rule| rule.when.first()) else { return "anything".to_owned() };
    let place = condition.at.first().map(ToString::to_string).unwrap_or_default();
    match record.text(&condition.at) {
        Some(found) if found.len() <= MAX_SHOWN_BYTES && text::code("value", &found).is_ok() => {
            format!("{place} = {found}")
        }
        Some(_) => format!("the value at {place}"),
        None => format!("{place}, which is not there"),
    }
}

/// The id of a record that bears none.
fn made_id(place: &str, line: &[u8]) -> Box<str> {
    let digest = Sha256::new().chain_update(place).chain_update([0]).chain_update(line).finalize();
    let mut id = "rec_".to_owned();
    for byte in digest.iter().take(16) {
        // Writing to a string cannot fail.
        let _ = write!(id, "{byte:02x}");
    }
    id.into()
}

/// A JSON value as text, where it is a single one that says something.
fn scalar(value: &Value) -> Option<std::borrow::Cow<'_, str>> {
    match value {
        Value::String(text) if text.is_empty() || text == "-" => None,
        Value::String(text) => Some(text.as_str().into()),
        Value::Number(number) => Some(number.to_string().into()),
        Value::Bool(flag) => Some(if *flag { "true" } else { "false" }.into()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests;
