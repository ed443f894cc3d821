//! (being written)

use super::identifier::IdentifierKey;
use super::{NormalizeError, Normalized};
use crate::event::Timestamp;

/// One attempt report.
///
/// # Errors
/// Not an attempt.
pub fn normalize(
    item: &[u8],
    received_at: Option<Timestamp>,
    key: &IdentifierKey,
) -> Result<Normalized, NormalizeError> {
    let _ = (item, received_at, key);
    Err(NormalizeError::Malformed("not written yet".into()))
}
