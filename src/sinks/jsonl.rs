//! A file of OCSF records, one a line, rotated by size: what every log shipper tails.
//!
//! Invariant: a finding is accepted only after its line is on disk (`fdatasync`), and every line is whole: what a crash or
//! a full disk left half-written is cut off before the next line is appended, and the outbox delivers it again.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use serde::Deserialize;

use super::format::ocsf;
use super::{Delivery, Sink};
use crate::finding::Finding;

/// What the user can set.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether the file is written.
    pub enabled: bool,
    /// The file; relative to the data directory.
    pub path: PathBuf,
    /// Size from which the file is rotated: `findings.jsonl` becomes `findings.jsonl.1`, and so on.
    pub max_bytes: u64,
    /// Rotated files kept.
    pub keep: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { enabled: true, path: "findings.jsonl".into(), max_bytes: 64 << 20, keep: 8 }
    }
}

impl Config {
    /// Every fault, as `key: what is wrong`.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.max_bytes < 64 << 10 {
            faults.push("max_bytes: must be at least 65536".into());
        }
        if !(1..=1000).contains(&self.keep) {
            faults.push("keep: must be from 1 to 1000".into());
        }
        faults
    }
}

/// The sink.
#[derive(Debug)]
pub struct Jsonl(Arc<Mutex<Rotating>>);

impl Jsonl {
    /// Opens the file and makes its last line whole.
    ///
    /// # Errors
    /// The file cannot be opened, read or cut.
    pub fn open(config: &Config, data_dir: &Path) -> io::Result<Self> {
        let path = data_dir.join(&config.path);
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let rotating = Rotating::open(path.clone(), config.max_bytes, config.keep).map_err(named)?;
        Ok(Self(Arc::new(Mutex::new(rotating))))
    }
}

#[async_trait]
impl Sink for Jsonl {
    async fn deliver(&mut self, findings: &[Finding]) -> Vec<Delivery> {
        let lines: String = findings.iter().map(|finding| ocsf::line(finding) + "\n").collect();
        let rotating = Arc::clone(&self.0);
        let written = tokio::task::spawn_blocking(move || {
            rotating.lock().unwrap_or_else(PoisonError::into_inner).append(lines.as_bytes())
        });
        let delivery = match written.await {
            Ok(Ok(())) => Delivery::Accepted,
            Ok(Err(error)) => Delivery::Retry(error.to_string()),
            Err(error) => Delivery::Retry(error.to_string()),
        };
        vec![delivery; findings.len()]
    }
}

#[derive(Debug)]
struct Rotating {
    path: PathBuf,
    file: File,
    /// Bytes of whole lines on disk.
    length: u64,
    max_bytes: u64,
    keep: u32,
}

impl Rotating {
    fn open(path: PathBuf, max_bytes: u64, keep: u32) -> io::Result<Self> {
        let mut file = open_file(&path)?;
        let length = whole_lines(&mut file)?;
        file.set_len(length)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self { path, file, length, max_bytes, keep })
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.length > 0 && self.length + lines.len() as u64 > self.max_bytes {
            self.rotate()?;
        }
        let written = self.file.write_all(lines).and_then(|()| self.file.sync_data());
        if written.is_ok() {
            self.length += lines.len() as u64;
        } else {
            // Half a line, perhaps: take it back, so that the next one starts a line of its own.
            self.file.set_len(self.length)?;
            self.file.seek(SeekFrom::Start(self.length))?;
        }
        written
    }

    fn rotate(&mut self) -> io::Result<()> {
        let numbered = |number: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        for number in (1..self.keep).rev() {
            match std::fs::rename(numbered(number), numbered(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        std::fs::rename(&self.path, numbered(1))?;
        self.file = open_file(&self.path)?;
        self.length = 0;
        Ok(())
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    // Findings name accounts and addresses: the owner's business only.
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Bytes up to and with the last newline.
fn whole_lines(file: &mut File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut chunk = [0; 4096];
    while end > 0 {
        let start = end.saturating_sub(chunk.len() as u64);
        file.seek(SeekFrom::Start(start))?;
        let part = chunk.get_mut(..usize::try_from(end - start).unwrap_or(0)).unwrap_or_default();
        file.read_exact(part)?;
        if let Some(newline) = part.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + newline as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path) -> Rotating {
        Rotating::open(path.to_owned(), 100, 2).unwrap()
    }

    #[test]
    fn a_torn_last_line_is_cut_and_whole_ones_stay() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("findings.jsonl");
        let torn = format!("{{\"a\":1}}\n{{\"b\":\"{}", "x".repeat(10_000));
        std::fs::write(&path, torn).unwrap();
        open(&path).append(b"{\"c\":3}\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"a\":1}\n{\"c\":3}\n");
        std::fs::write(&path, "no newline at all").unwrap();
        open(&path);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
    }

    #[test]
    fn it_rotates_by_size_and_keeps_so_many() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("findings.jsonl");
        let mut rotating = open(&path);
        for number in 0..10 {
            rotating.append(format!("{number}{}\n", "-".repeat(48)).as_bytes()).unwrap();
        }
        let first = |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap().chars().next();
        assert_eq!((first("findings.jsonl"), first("findings.jsonl.1")), (Some('8'), Some('6')));
        assert_eq!(first("findings.jsonl.2"), Some('4'));
        assert!(!directory.path().join("findings.jsonl.3").exists());
    }
}
