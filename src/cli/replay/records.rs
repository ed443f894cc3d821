//! Lines of somebody else's log, one by one, through a mapping.
//!
//! Invariant: a record's place is its file's name and its line, so a replay of the same files makes the same ids.

use std::io;
use std::path::Path;

use indicatif::ProgressBar;

use super::input::{Lines, MAX_LINE_BYTES, Next, modified, name};
use crate::event::Timestamp;
use crate::normalize::NormalizeError;
use crate::normalize::identifier::IdentifierKey;
use crate::normalize::mapped::{Arrival, Mapped, Mapping};

/// The records of one file.
pub(in crate::cli) struct Records {
    lines: Lines,
    file: String,
    near: Timestamp,
    number: u64,
}

/// One line of it.
pub(in crate::cli) enum Lined {
    /// A record, by its line's number from 1.
    Record(u64, Result<Mapped, NormalizeError>),
    /// The file broke off.
    Broken(String),
}

impl Records {
    /// Opens one file. Times without a year are taken for the latest before the file was last written.
    pub(in crate::cli) fn open(path: &Path, bar: &ProgressBar) -> io::Result<Self> {
        Ok(Self { lines: Lines::open(path, bar)?, file: name(path), near: modified(path), number: 0 })
    }

    /// The next line that is not blank.
    pub(in crate::cli) fn next(&mut self, mapping: &Mapping, key: &IdentifierKey) -> Option<Lined> {
        loop {
            self.number += 1;
            let line = match self.lines.next() {
                Ok(Next::Line([])) => continue,
                Ok(Next::Line(line)) => line,
                Ok(Next::TooLong) => {
                    let fault = format!("longer than {MAX_LINE_BYTES} bytes");
                    return Some(Lined::Record(self.number, Err(NormalizeError::Malformed(fault))));
                }
                Ok(Next::End) => return None,
                Err(fault) => return Some(Lined::Broken(format!("{}:{}: {fault}", self.file, self.number))),
            };
            let place = format!("{}:{}", self.file, self.number);
            let arrival = Arrival { received_at: None, near: self.near, place: &place };
            return Some(Lined::Record(self.number, mapping.apply(line, arrival, key)));
        }
    }
}
