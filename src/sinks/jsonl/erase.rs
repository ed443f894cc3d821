//! Forgetting accounts in the files of findings, those that were moved aside too.
//!
//! Invariant: a file is replaced whole, by one that is on the disk, or not at all. Whoever follows a file sees it replaced,
//! as after a rotation, and reads it anew; the records bear their ids.
//!
//! Not here: files that somebody else has moved or copied.

use std::fs::{File, Permissions};
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::{Config, file};
use crate::event::{Tenant, Timestamp, mention};
use crate::sinks::forgotten::{Forgotten, Name};

/// What the files are written with, and what they may not name.
#[derive(Clone, Debug)]
pub struct Files {
    pub(super) path: PathBuf,
    pub(super) forgotten: Forgotten,
}

impl Files {
    /// Those of `config`, whether or not anything is written to them any more.
    #[must_use]
    pub fn of(config: &Config, data_dir: &Path) -> Self {
        Self { path: data_dir.join(&config.path), forgotten: Forgotten::default() }
    }

    /// Takes `names` out of every file; answers how many lines mentioned each. Nothing is written to them meanwhile, and
    /// nothing that was on its way names them afterwards. Blocks.
    ///
    /// # Errors
    /// A file cannot be read or replaced; those before it are done.
    pub fn erase(&self, names: &[Name], now: Timestamp) -> std::io::Result<Vec<u64>> {
        let mut lines = vec![0; names.len()];
        let mut held = self.forgotten.hold();
        held.add(names.iter().cloned(), now);
        let beside = file::beside(&self.path, "erasing");
        // What a crash has left.
        remove_if_there(&beside)?;
        let all = match file::all(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            all => all?,
        };
        for path in all {
            erase_in(&path, &beside, names, &mut lines)?;
        }
        Ok(lines)
    }
}

fn erase_in(path: &Path, beside: &Path, names: &[Name], lines: &mut [u64]) -> std::io::Result<()> {
    if !mentions_any(path, names)? {
        return Ok(());
    }
    let original = File::open(path)?;
    let mut cleaned = BufWriter::new(File::create(beside)?);
    let mode = original.metadata()?.permissions().mode();
    cleaned.get_ref().set_permissions(Permissions::from_mode(mode))?;
    for line in BufReader::new(original).split(b'\n') {
        let line = line?;
        // What is no text was not written here, and is left.
        match std::str::from_utf8(&line).ok().and_then(|line| clean(line, names, lines)) {
            Some(clean) => cleaned.write_all(clean.as_bytes())?,
            None => cleaned.write_all(&line)?,
        }
        cleaned.write_all(b"\n")?;
    }
    cleaned.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
    std::fs::rename(beside, path)?;
    file::sync_directory(path)
}

/// Most files mention nobody who is forgotten: they are only read.
fn mentions_any(path: &Path, names: &[Name]) -> std::io::Result<bool> {
    for line in BufReader::new(File::open(path)?).split(b'\n') {
        let line = line?;
        if std::str::from_utf8(&line).is_ok_and(|line| clean(line, names, &mut vec![0; names.len()]).is_some()) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn clean(line: &str, names: &[Name], lines: &mut [u64]) -> Option<String> {
    let mut cleaned = None;
    for (Name { tenant, from, to }, count) in names.iter().zip(lines) {
        let text = cleaned.as_deref().unwrap_or(line);
        let within = Some(&*tenant.0).filter(|tenant| *tenant != Tenant::EVERY);
        if let Some(text) = mention::replace_in_json(text, within, from, to) {
            cleaned = Some(text);
            *count += 1;
        }
    }
    cleaned
}

fn remove_if_there(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
