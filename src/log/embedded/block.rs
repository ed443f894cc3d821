//! The bytes of a block of records: a version, then the records one after another in postcard encoding.
//!
//! Invariant: a block written by any released version can be read by every later one. Fields are only ever added by
//! raising the version, since the encoding is not self-describing.

use crate::log::{LogError, Record};

const VERSION: u8 = 1;

/// A block without records, with room for `bytes` of them.
pub(super) fn with_capacity(bytes: usize) -> Vec<u8> {
    let mut block = Vec::with_capacity(1 + bytes);
    block.push(VERSION);
    block
}

/// The records of a block.
///
/// # Errors
/// A version from the future, or damaged bytes.
pub(super) fn decode(block: &[u8]) -> Result<Vec<Record>, LogError> {
    let Some((&VERSION, mut rest)) = block.split_first() else {
        return Err(LogError::Corrupt("a block of events has an unknown version".into()));
    };
    // Encoded events are about 200 bytes; the guess only saves reallocation.
    let mut records = Vec::with_capacity(rest.len() / 160);
    while !rest.is_empty() {
        let (record, after) = postcard::take_from_bytes(rest)
            .map_err(|error| LogError::Corrupt(format!("a block of events is damaged: {error}")))?;
        records.push(record);
        rest = after;
    }
    Ok(records)
}
