//! Bytes of one source in, [`AuthEvent`]s out. Pure: no IO and no clock.
//!
//! Invariant: what is not named in [`AuthEvent`] is dropped here, before anything is stored or logged; an identifier
//! leaves this module only as its keyed hash. No error quotes a value.

use crate::event::{AuthEvent, IdentifierHash, MAX_FUTURE_MILLIS, Timestamp};

pub mod attempt;
pub mod clerk_webhook;
pub mod fapi;
pub mod identifier;
pub mod mapped;
mod moment;
mod reason;
mod text;

/// An event, and what was noticed while making it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Normalized {
    /// The event.
    pub event: AuthEvent,
    /// Its time lay too far in the future and was moved back.
    pub clamped: bool,
    /// Its type is one that this version does not know.
    pub unknown_type: bool,
    /// What it tells of the names of its user.
    pub names: Names,
}

/// What somebody who knows says of which identifiers belong to the event's user. What a client can write says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// Nothing.
    #[default]
    Unsaid,
    /// The identifier that was tried is its user's.
    Tried,
    /// These are.
    Listed {
        /// Hashes of those that were shown to be the user's own; at most [`clerk_webhook::MAX_NAMES`].
        identifiers: Box<[IdentifierHash]>,
        /// No others are, of those that the sender knows.
        complete: bool,
    },
}

/// Why bytes are not an event of their source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NormalizeError {
    /// Not JSON, or not an object of the documented shape; says where.
    #[error("{0}")]
    Malformed(String),
    /// A field is missing.
    #[error("{0}: is missing")]
    Missing(&'static str),
    /// A field's value cannot be used.
    #[error("{field}: {fault}")]
    Field {
        /// Which.
        field: &'static str,
        /// Why.
        fault: &'static str,
    },
}

impl NormalizeError {
    /// The value of the `reason` label.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Missing(_) => "missing_field",
            Self::Field { .. } => "bad_field",
        }
    }
}

impl From<serde_json::Error> for NormalizeError {
    /// Where and what kind, never the text: serde's own message quotes the value it did not like.
    fn from(error: serde_json::Error) -> Self {
        let kind = match error.classify() {
            serde_json::error::Category::Data => "a field is there twice or has the wrong type",
            serde_json::error::Category::Eof => "the JSON ends too early",
            serde_json::error::Category::Syntax | serde_json::error::Category::Io => "not JSON",
        };
        Self::Malformed(format!("{kind} (line {}, column {})", error.line(), error.column()))
    }
}

/// Reads a JSON object. (To serde an array would do as well, its elements taken for the fields in their order.)
fn object<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, NormalizeError> {
    let bytes = bytes.trim_ascii();
    match bytes.first() {
        Some(b'{') => Ok(serde_json::from_slice(bytes)?),
        Some(_) => Err(NormalizeError::Malformed("not a JSON object".to_owned())),
        None => Err(NormalizeError::Malformed("there is nothing".to_owned())),
    }
}

/// The time an event counts as having happened at, and whether it was moved.
fn clamp(occurred_at: Timestamp, received_at: Timestamp) -> (Timestamp, bool) {
    let latest = received_at.plus_millis(MAX_FUTURE_MILLIS);
    if occurred_at > latest { (latest, true) } else { (occurred_at, false) }
}
