//! Bytes of one source in, [`AuthEvent`]s out. Pure: no IO and no clock.
//!
//! Invariant: what is not named in [`AuthEvent`] is dropped here, before anything is stored or logged; an identifier
//! leaves this module only as its keyed hash.

use crate::event::AuthEvent;

pub mod attempt;
pub mod clerk_webhook;
pub mod identifier;

/// An event, and what was noticed while making it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Normalized {
    /// The event.
    pub event: AuthEvent,
    /// Its time lay too far in the future and was moved back.
    pub clamped: bool,
    /// Its type is one that this version does not know.
    pub unknown_type: bool,
}

/// Why bytes are not an event of their source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NormalizeError {
    /// Not JSON, or not the documented shape; the text says where, without quoting any value.
    #[error("{0}")]
    Malformed(String),
}
