//! (being written)

use super::identifier::IdentifierKey;
use super::{NormalizeError, Normalized};
use crate::event::Timestamp;

/// One webhook envelope.
///
/// # Errors
/// Not an envelope.
pub fn normalize(
    delivery_id: Option<&str>,
    body: &[u8],
    received_at: Option<Timestamp>,
    key: &IdentifierKey,
) -> Result<Normalized, NormalizeError> {
    let _ = (delivery_id, body, received_at, key);
    Err(NormalizeError::Malformed("not written yet".into()))
}
