//! Lines of recorded attempts and webhook bodies as batches of records.
//!
//! Invariant: every line that is not blank is an event or is counted as refused; nothing is dropped without being counted.

use std::fmt;
use std::path::PathBuf;

use indicatif::ProgressBar;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::input::{Lines, MAX_LINE_BYTES, Next, name};
use super::records::{Lined, Records};
use crate::event::Timestamp;
use crate::normalize::identifier::IdentifierKey;
use crate::normalize::mapped::{Mapped, Mapping, collapse};
use crate::normalize::{NormalizeError, Normalized, attempt, clerk_webhook};

/// Records handed over at one time: about a megabyte.
const BATCH: usize = 4096;
/// Refused lines that are shown: enough to see the pattern.
const FAULTS_SHOWN: usize = 10;

/// What the lines are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Seen line by line
    Auto,
    /// Attempt reports
    Attempts,
    /// Webhook bodies
    Webhooks,
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadSummary {
    /// Lines that were not blank.
    pub lines: u64,
    /// Lines that became an event.
    pub events: u64,
    /// Lines that did not.
    pub refused: u64,
    /// Records that a mapping calls no attempt, or that tell of one that another record tells of.
    pub skipped: u64,
    /// Events of a type this version does not know.
    pub unknown_types: u64,
    /// Time of the earliest and of the latest event.
    pub span: Option<(Timestamp, Timestamp)>,
    /// The first few refused lines.
    pub faults: Vec<LineFault>,
    /// Files that could not be read to their end, and why.
    pub broken_files: Vec<String>,
}

/// A line that is no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineFault {
    /// The file.
    pub file: String,
    /// From 1.
    pub line: u64,
    /// Why, without the line's content.
    pub what: String,
}

impl fmt::Display for LineFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

/// Reads `files` in their order and hands their events to `on_batch`, at most 4096 at a time. A file that breaks off is
/// noted and the next one is read.
///
/// # Errors
/// What `on_batch` answers.
pub fn read_events(
    files: &[PathBuf],
    format: Format,
    key: &IdentifierKey,
    bar: &ProgressBar,
    on_batch: &mut dyn FnMut(Vec<Normalized>) -> anyhow::Result<()>,
) -> anyhow::Result<ReadSummary> {
    let mut summary = ReadSummary::default();
    let mut batch = Vec::with_capacity(BATCH);
    for path in files {
        let file = name(path);
        let mut number = 0;
        let mut lines = match Lines::open(path, bar) {
            Ok(lines) => lines,
            Err(fault) => {
                summary.broken_files.push(format!("{file}: {fault}"));
                continue;
            }
        };
        loop {
            number += 1;
            let line = match lines.next() {
                Ok(Next::Line(line)) => line,
                Ok(Next::TooLong) => {
                    summary.refuse(&file, number, format!("longer than {MAX_LINE_BYTES} bytes"));
                    continue;
                }
                Ok(Next::End) => break,
                Err(fault) => {
                    summary.broken_files.push(format!("{file}:{number}: {fault}"));
                    break;
                }
            };
            // Some programs begin a file with a byte order mark.
            let line = if number == 1 { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) } else { line };
            if line.is_empty() {
                continue;
            }
            match normalize(line, format, key) {
                Ok(normalized) => batch.push(summary.accept(normalized)),
                Err(fault) => summary.refuse(&file, number, fault.to_string()),
            }
            if batch.len() >= BATCH {
                on_batch(std::mem::replace(&mut batch, Vec::with_capacity(BATCH)))?;
            }
        }
    }
    if !batch.is_empty() {
        on_batch(batch)?;
    }
    Ok(summary)
}

/// The same for records of somebody else's log. Of the records of one attempt in one batch one is kept.
///
/// # Errors
/// What `on_batch` answers.
pub fn read_records(
    files: &[PathBuf],
    mapping: &Mapping,
    key: &IdentifierKey,
    bar: &ProgressBar,
    on_batch: &mut dyn FnMut(Vec<Normalized>) -> anyhow::Result<()>,
) -> anyhow::Result<ReadSummary> {
    let mut summary = ReadSummary::default();
    let mut batch = Vec::with_capacity(BATCH);
    let mut hand_over = |batch: Vec<Normalized>, summary: &mut ReadSummary| {
        let (all, kept) = (batch.len(), collapse(batch, |normalized| &normalized.event));
        let merged = (all - kept.len()) as u64;
        summary.events -= merged;
        summary.skipped += merged;
        if kept.is_empty() { Ok(()) } else { on_batch(kept) }
    };
    for path in files {
        let file = name(path);
        let mut records = match Records::open(path, bar) {
            Ok(records) => records,
            Err(fault) => {
                summary.broken_files.push(format!("{file}: {fault}"));
                continue;
            }
        };
        while let Some(lined) = records.next(mapping, key) {
            match lined {
                Lined::Record(_, Ok(Mapped::Attempt(attempt))) => batch.push(summary.accept(*attempt)),
                Lined::Record(_, Ok(Mapped::Skipped(_))) => {
                    summary.lines += 1;
                    summary.skipped += 1;
                }
                Lined::Record(number, Err(fault)) => summary.refuse(&file, number, fault.to_string()),
                Lined::Broken(fault) => {
                    summary.broken_files.push(fault);
                    break;
                }
            }
            if batch.len() >= BATCH {
                hand_over(std::mem::replace(&mut batch, Vec::with_capacity(BATCH)), &mut summary)?;
            }
        }
    }
    hand_over(batch, &mut summary)?;
    Ok(summary)
}

impl ReadSummary {
    fn accept(&mut self, normalized: Normalized) -> Normalized {
        self.lines += 1;
        self.events += 1;
        self.unknown_types += u64::from(normalized.unknown_type);
        let at = normalized.event.occurred_at;
        let (from, until) = self.span.unwrap_or((at, at));
        self.span = Some((from.min(at), until.max(at)));
        normalized
    }

    fn refuse(&mut self, file: &str, line: u64, what: String) {
        self.lines += 1;
        self.refused += 1;
        if self.faults.len() < FAULTS_SHOWN {
            self.faults.push(LineFault { file: file.to_owned(), line, what });
        }
    }
}

/// A recorded event arrived when it happened: that is the only time a recording knows.
fn normalize(line: &[u8], format: Format, key: &IdentifierKey) -> Result<Normalized, NormalizeError> {
    let is_webhook = match format {
        Format::Auto => is_envelope(line),
        Format::Attempts => false,
        Format::Webhooks => true,
    };
    if is_webhook { clerk_webhook::normalize(None, line, None, key) } else { attempt::normalize(line, None, key) }
}

/// Whether the line is what Clerk sends: `"object": "event"` and a `"type"`, at the top.
fn is_envelope(line: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow, default)]
        object: std::borrow::Cow<'a, str>,
        r#type: Option<IgnoredAny>,
    }
    // An attempt report has no such word in it; only what has is looked at closely.
    if !std::str::from_utf8(line).is_ok_and(|text| text.contains("\"object\"")) {
        return false;
    }
    serde_json::from_slice::<Envelope<'_>>(line)
        .is_ok_and(|envelope| envelope.object == "event" && envelope.r#type.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envelopes_are_told_from_attempts() {
        for envelope in [
            r#"{"object":"event","type":"session.created","data":{"object":"session"}}"#,
            r#"{ "data" : {"object":"session","type":"x"}, "type" : "a" , "object" : "event" }"#,
        ] {
            assert!(is_envelope(envelope.as_bytes()), "{envelope}");
        }
        for attempt in [
            r#"{"id":"1","occurred_at":0,"outcome":"failure"}"#,
            r#"{"id":"1","outcome":"failure","type":"event"}"#,
            r#"{"id":"1","user_agent":"\"object\":\"event\",\"type\":"}"#,
            r#"{"id":"1","extra":{"object":"event","type":"x"}}"#,
            r#"{"object":"event"}"#,
            r#"["object","event","type"]"#,
            "not json \"object\"",
        ] {
            assert!(!is_envelope(attempt.as_bytes()), "{attempt}");
        }
    }
}
