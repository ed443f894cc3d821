//! Follows files that others write (access logs, log drains) and appends what a mapping makes of their lines.
//!
//! Invariant: a position is stored only after the log said that everything before it is durable; after a crash lines are
//! read again and recognised by their ids. While the log cannot take a batch it is kept and tried again: the file is the
//! buffer. Whoever writes the file is never held up.
//!
//! Not here: compressed and finished files; `authspike replay` reads those.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::Intake;
use crate::event::Source;
use crate::normalize::identifier::IdentifierKey;
use crate::normalize::mapped::{self, Arrival, Choice, Mapped, Mapping, collapse};
use crate::normalize::{NormalizeError, Normalized};

mod position;
mod tail;

use tail::{Line, Tail};

/// Each is a thread's work now and then; more belong to a log shipper.
const MAX_FILES: usize = 64;
/// How often a file that was read to its end is looked at again: short beside the minutes a window lasts.
const IDLE: Duration = Duration::from_millis(250);
/// How long to wait when the log cannot take a batch, or the file cannot be read.
const RETRY: Duration = Duration::from_secs(1);

/// One file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The path at which the newest is, as a log shipper would be told.
    pub path: PathBuf,
    /// The preset that reads it.
    pub preset: String,
    /// Or the mapping of `[ingest.mapping.NAME]`.
    pub mapping: String,
    /// The instance its attempts belong to, where the mapping names none.
    pub instance: String,
    /// Begin, the first time, with what is in the file already.
    pub from_start: bool,
}

impl Config {
    fn choice(&self) -> Choice<'_> {
        Choice { preset: &self.preset, mapping: &self.mapping, instance: &self.instance }
    }
}

/// Every fault, as `place.key: what is wrong`.
pub(super) fn validate(files: &[Config], own: &BTreeMap<String, mapped::Config>) -> Vec<String> {
    let mut faults = Vec::new();
    if files.len() > MAX_FILES {
        faults.push(format!("{MAX_FILES}: at most {MAX_FILES} files can be followed"));
    }
    for (index, file) in files.iter().enumerate() {
        if file.path.as_os_str().is_empty() {
            faults.push(format!("{index}.path: must be set"));
        } else if files.iter().take(index).any(|other| other.path == file.path) {
            faults.push(format!("{index}.path: is followed twice"));
        }
        faults.extend(file.choice().fault(own).map(|fault| format!("{index}.{fault}")));
    }
    faults
}

/// A file that is about to be followed.
pub struct Follower {
    tail: Tail,
    mapping: Arc<Mapping>,
    key: IdentifierKey,
    intake: Intake,
    unreadable: bool,
    lag: i64,
}

/// One for each file of the configuration.
///
/// # Errors
/// A mapping that cannot be used, or the directory of positions.
pub fn followers(parts: &super::Parts, data_dir: &Path) -> Result<Vec<Follower>, String> {
    let intake = Intake::new(parts);
    let positions = data_dir.join("positions");
    if !parts.config.file.is_empty() {
        std::fs::create_dir_all(&positions).map_err(|fault| format!("{}: {fault}", positions.display()))?;
    }
    let follower = |file: &Config| {
        let mapping = file.choice().compile(&parts.config.mapping).map_err(|fault| format!("ingest.file.{fault}"))?;
        Ok(Follower {
            tail: Tail::new(&file.path, &positions, file.from_start),
            mapping: Arc::new(mapping),
            key: parts.identifier_key.clone(),
            intake: intake.clone(),
            unreadable: false,
            lag: 0,
        })
    };
    parts.config.file.iter().map(follower).collect()
}

impl Follower {
    /// Follows until `stop`.
    pub async fn follow(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let (back, read) = match tokio::task::spawn_blocking(move || self.read()).await {
                Ok(done) => done,
                Err(error) => return tracing::error!(%error, "following a file failed"),
            };
            self = back;
            let wait = match read {
                Ok(batch) => self.append(batch, &stop).await,
                Err(fault) => {
                    self.say(Some(&fault));
                    Some(RETRY)
                }
            };
            if let Some(wait) = wait {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(wait) => {}
                }
            }
        }
    }

    /// The next lines as attempts. Blocks.
    fn read(mut self) -> (Self, std::io::Result<Batch>) {
        let mut batch = Batch::default();
        let mut attempts = Vec::new();
        let (mapping, key, clock) = (&self.mapping, &self.key, &self.intake.clock);
        let read = self.tail.read(&mut |place, line| {
            batch.lines += 1;
            let now = clock.now();
            let arrival = Arrival { received_at: Some(now), near: now, place };
            let mapped = match line {
                Line::Whole(line) => mapping.apply(line, arrival, key),
                Line::TooLong => Err(NormalizeError::Malformed("too long".to_owned())),
            };
            match mapped {
                Ok(Mapped::Attempt(attempt)) => attempts.push(*attempt),
                Ok(Mapped::Skipped(_)) => batch.skipped += 1,
                Err(fault) => batch.refused.push(fault.reason()),
            }
        });
        batch.attempts = collapse(attempts, |attempt| &attempt.event);
        (self, read.map(|()| batch))
    }

    /// Makes a batch durable and then its end the position, however often it takes; how long to wait before the next.
    async fn append(&mut self, batch: Batch, stop: &CancellationToken) -> Option<Duration> {
        self.say(None);
        let metrics = self.intake.metrics.clone();
        while let Err(refused) = self.intake.append(Source::LogRecord, batch.attempts.clone()).await {
            tracing::debug!(reason = refused.reason, "lines of a file wait for the log");
            tokio::select! {
                () = stop.cancelled() => return None,
                () = tokio::time::sleep(RETRY) => {}
            }
        }
        let count = |result: &str, lines: usize| {
            metrics.file_lines.with_label_values(&[result]).inc_by(lines as u64);
        };
        count("refused", batch.refused.len());
        count("skipped", batch.skipped);
        count("attempt", batch.lines - batch.skipped - batch.refused.len());
        for reason in batch.refused {
            metrics.items_refused.with_label_values(&[reason]).inc();
        }
        let lag = self.tail.lag();
        metrics.file_lag_bytes.add(lag - std::mem::replace(&mut self.lag, lag));
        if let Err(error) = self.tail.keep() {
            // Nothing is lost by it: what was read is read again after a restart, and recognised.
            tracing::warn!(file = %self.tail.path().display(), %error, "the position in a file cannot be stored");
            return Some(RETRY);
        }
        (batch.lines == 0).then_some(IDLE)
    }

    /// Says once that the file cannot be read, and once that it can again.
    fn say(&mut self, fault: Option<&std::io::Error>) {
        if fault.is_some() == self.unreadable {
            return;
        }
        self.unreadable = fault.is_some();
        let file: &Path = self.tail.path();
        if let Some(error) = fault {
            tracing::warn!(file = %file.display(), %error, "a file to follow cannot be read; waiting for it");
        } else {
            tracing::info!(file = %file.display(), "a file to follow can be read again");
        }
        self.intake.metrics.files_unreadable.add(if self.unreadable { 1 } else { -1 });
    }
}

/// What one reading gave.
#[derive(Default)]
struct Batch {
    lines: usize,
    skipped: usize,
    refused: Vec<&'static str>,
    attempts: Vec<Normalized>,
}

#[cfg(test)]
mod tests;
