//! Findings in a file, one record a line: what every log shipper can follow.
//!
//! Invariant: a finding is accepted only after its line is on the disk (`fdatasync`), and every line in the file is
//! whole: a write that fails is cut off again, and a line torn by a crash is cut off when the file is next opened, since
//! the outbox still has the finding.
//!
//! Not here: compression and age-based deletion, which the shipper or the operating system does better. Another program
//! may move the file away (it is then created anew); nothing else may write to it.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::finding::Finding;

use super::Delivery;
use super::forgotten::Forgotten;
use super::format::Body;
use super::thread::BlockingSink;

mod erase;
mod file;

pub use erase::Files;

/// What the user can set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether findings are written to a file.
    pub enabled: bool,
    /// The file; a relative path is taken from the data directory.
    pub path: PathBuf,
    /// Size in bytes beyond which the file is moved to `<path>.1` before the next line.
    pub max_bytes: u64,
    /// How many moved files are kept, `<path>.1` being the newest.
    pub keep: u32,
    /// What a record is.
    pub body: Body,
}

impl Default for Config {
    fn default() -> Self {
        // A record is about 4 KiB: some 25 000 findings a file.
        Self { enabled: true, path: "findings.jsonl".into(), max_bytes: 100 << 20, keep: 5, body: Body::Ocsf }
    }
}

impl Config {
    /// Every fault, as `key: what is wrong`.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        // Below the size of a few records every line would get a file of its own.
        if self.max_bytes < 64 << 10 {
            faults.push("max_bytes: must be at least 65536 (64 KiB)".into());
        }
        // Every rotation renames each kept file.
        if !(1..=1000).contains(&self.keep) {
            faults.push("keep: must be from 1 to 1000".into());
        }
        if self.path.file_name().is_none() {
            faults.push("path: must name a file".into());
        }
        faults
    }
}

/// The sink.
#[derive(Debug)]
pub struct JsonLines {
    path: PathBuf,
    max_bytes: u64,
    keep: u32,
    body: Body,
    /// `None` after a fault: opened (and repaired) again at the next delivery.
    file: Option<File>,
    /// Whether lines have been written and not yet synced.
    unsynced: bool,
    forgotten: Forgotten,
}

impl JsonLines {
    /// Opens the file, in `data_dir` unless the configuration names another, and cuts off a torn last line.
    ///
    /// # Errors
    /// The file cannot be created, read or written, or is something else than a file.
    pub fn open(config: &Config, data_dir: &Path) -> std::io::Result<Self> {
        let path = data_dir.join(&config.path);
        let file = file::open(&path)?;
        Ok(Self {
            path,
            max_bytes: config.max_bytes,
            keep: config.keep,
            body: config.body,
            file: Some(file),
            unsynced: false,
            forgotten: Forgotten::default(),
        })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends `line`, in a new file if this one is full. After an error no part of it is left behind.
    fn append(&mut self, line: &[u8]) -> std::io::Result<()> {
        let mut length = self.current()?.metadata()?.len();
        if length > 0 && length.saturating_add(length_of(line)) > self.max_bytes {
            // What is in it was promised: on the disk before it gets another name.
            self.sync()?;
            self.file = None;
            file::rotate(&self.path, self.keep)?;
            length = self.current()?.metadata()?.len();
        }
        let file = self.current()?;
        if let Err(error) = file.write_all(line) {
            // Shortening needs no space. Should it fail as well, opening cuts off what is torn.
            if file.set_len(length).is_err() {
                self.file = None;
            }
            return Err(error);
        }
        self.unsynced = true;
        Ok(())
    }

    /// Makes the lines written so far durable.
    fn sync(&mut self) -> std::io::Result<()> {
        if !std::mem::take(&mut self.unsynced) {
            return Ok(());
        }
        let synced = self.current()?.sync_data();
        if synced.is_err() {
            // What the page cache holds after a failed sync is anybody's guess.
            self.file = None;
        }
        synced
    }

    fn current(&mut self) -> std::io::Result<&mut File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => file::open(&self.path)?,
        };
        Ok(self.file.insert(file))
    }

    /// Forgets the file if its path now leads elsewhere: lines written to a deleted file would be lost though accepted.
    fn follow_the_path(&mut self) {
        if self.file.as_ref().is_some_and(|file| !file::is_at(file, &self.path)) {
            self.file = None;
        }
    }
}

impl BlockingSink for JsonLines {
    fn deliver(&mut self, findings: &[Finding]) -> Vec<Delivery> {
        let forgotten = self.forgotten.clone();
        // To the end: nothing that is written is missed by whoever takes names out, and nothing is written beside him.
        let held = forgotten.hold();
        let findings = &*held.clean(findings);
        self.follow_the_path();
        let mut written = 0;
        let mut fault = None;
        for finding in findings {
            let appended = self.body.line(finding).map_err(std::io::Error::from).and_then(|mut line| {
                line.push(b'\n');
                self.append(&line)
            });
            match appended {
                Ok(()) => written += 1,
                Err(error) => {
                    fault = Some(error);
                    break;
                }
            }
        }
        if let Err(error) = self.sync() {
            // The lines may be there after all; they come again under the same ids.
            (written, fault) = (0, Some(error));
        }
        let reason = fault.map_or_else(String::new, |error| format!("{}: {error}", self.path.display()));
        let result = |index| if index < written { Delivery::Accepted } else { Delivery::retry(&*reason) };
        (0..findings.len()).map(result).collect()
    }

    fn files(&self) -> Option<Files> {
        Some(Files { path: self.path.clone(), forgotten: self.forgotten.clone() })
    }
}

fn length_of(line: &[u8]) -> u64 {
    u64::try_from(line.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
