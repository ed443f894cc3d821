//! The lines of one growing file, through rotation and truncation.
//!
//! Invariant: every line of every file that was at the path while this looked is given once, in order, unless it was
//! overwritten before it was read. A line without its end is not given until the end is there, or the file has been
//! rotated away. Memory does not depend on the file.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::position::{Position, identity};

/// Bytes read at one time, and so the longest line: twice the largest body that is taken over HTTP.
const CHUNK_BYTES: u64 = 1 << 20;
/// Rotated files looked at for the one that was being read: a directory of a year's daily logs.
const MAX_SIBLINGS: usize = 1000;

/// What a line is.
pub(super) enum Line<'a> {
    /// Without its end; never blank.
    Whole(&'a [u8]),
    /// Longer than a chunk; it was passed over.
    TooLong,
}

/// One file that is followed.
pub(super) struct Tail {
    path: PathBuf,
    stored_at: PathBuf,
    from_start: bool,
    open: Option<Open>,
}

struct Open {
    file: File,
    identity: (u64, u64),
    offset: u64,
    /// Inside a line that was too long.
    passing: bool,
    /// What was stored last.
    kept: Option<u64>,
}

impl Tail {
    /// Will follow `path`, with its position in the directory `positions`.
    pub(super) fn new(path: &Path, positions: &Path, from_start: bool) -> Self {
        let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
        let name = digest.iter().take(16).fold(0_u128, |name, byte| name << 8 | u128::from(*byte));
        let stored_at = positions.join(format!("{name:032x}.json"));
        Self { path: path.to_owned(), stored_at, from_start, open: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that are there and not read; 0 where that cannot be told.
    pub(super) fn lag(&self) -> i64 {
        let behind = |open: &Open| Some(open.file.metadata().ok()?.len().saturating_sub(open.offset));
        self.open.as_ref().and_then(behind).and_then(|bytes| i64::try_from(bytes).ok()).unwrap_or_default()
    }

    /// Stores the position: everything read is safe elsewhere.
    pub(super) fn keep(&mut self) -> io::Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        if open.kept != Some(open.offset) {
            Position::of(&mut open.file, open.offset)?.store(&self.stored_at)?;
            open.kept = Some(open.offset);
        }
        Ok(())
    }

    /// Gives the lines of the next chunk with their places, if there are any.
    pub(super) fn read(&mut self, on_line: &mut dyn FnMut(&str, Line<'_>)) -> io::Result<()> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.begin()?,
        };
        if open.file.metadata()?.len() < open.offset {
            open = Open { offset: 0, passing: false, kept: None, ..open };
        }
        // Asked before reading: whoever rotates writes nothing more to the old file once the new one is there. (Those who
        // keep it open a while longer, as nginx does until told, are read until the next look.)
        let successor = File::open(&self.path).and_then(|file| Ok((identity(&file)?, file)));
        let rotated = matches!(&successor, Ok((identity, _)) if *identity != open.identity);
        let exhausted = open.chunk(rotated, on_line)?;
        if let (true, true, Ok((identity, file))) = (rotated, exhausted, successor) {
            open = Open { file, identity, offset: 0, passing: false, kept: None };
        }
        self.open = Some(open);
        Ok(())
    }

    /// Where to begin: where reading stopped, be that in a file that has been rotated away since.
    fn begin(&self) -> io::Result<Open> {
        let stored = Position::load(&self.stored_at);
        if let Some(position) = &stored {
            let at_path = File::open(&self.path).ok();
            for mut file in at_path.into_iter().chain(self.sibling(position.file)) {
                if position.is_in(&mut file)? {
                    let (identity, offset) = (position.file, position.offset);
                    return Ok(Open { file, identity, offset, passing: false, kept: Some(offset) });
                }
            }
        }
        let file = File::open(&self.path)?;
        // A file that has come since the last one was read is new from its start.
        let offset = if stored.is_some() || self.from_start { 0 } else { last_line_end(&file)? };
        Ok(Open { identity: identity(&file)?, file, offset, passing: false, kept: None })
    }

    /// The file of this device and inode beside the path.
    fn sibling(&self, wanted: (u64, u64)) -> Option<File> {
        let entries = std::fs::read_dir(self.path.parent()?).ok()?.take(MAX_SIBLINGS).filter_map(Result::ok);
        let mut same = entries.filter(|entry| {
            entry.metadata().is_ok_and(|metadata| metadata.is_file() && (metadata.dev(), metadata.ino()) == wanted)
        });
        File::open(same.next()?.path()).ok()
    }
}

/// The end of the last whole line within the last chunk: a line that is being written is read when it is whole.
fn last_line_end(file: &File) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let from = length.saturating_sub(CHUNK_BYTES);
    let mut file = file;
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(from))?;
    file.take(CHUNK_BYTES).read_to_end(&mut bytes)?;
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map(|at| from + at as u64 + 1);
    Ok(end.unwrap_or(if from == 0 { 0 } else { length }))
}

impl Open {
    /// Gives the lines of one chunk; whether the file has been read to its end. `is_final`: what has no end has one now.
    fn chunk(&mut self, is_final: bool, on_line: &mut dyn FnMut(&str, Line<'_>)) -> io::Result<bool> {
        let mut bytes = Vec::new();
        self.file.seek(SeekFrom::Start(self.offset))?;
        (&mut self.file).take(CHUNK_BYTES).read_to_end(&mut bytes)?;
        let at_end = (bytes.len() as u64) < CHUNK_BYTES;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let mut taken = bytes.get(..whole).unwrap_or_default();
        if at_end && is_final {
            taken = &bytes;
        } else if whole == 0 && !at_end {
            // No end within a chunk.
            if !std::mem::replace(&mut self.passing, true) {
                on_line("", Line::TooLong);
            }
            self.offset += bytes.len() as u64;
            return Ok(false);
        }
        let (device, inode) = self.identity;
        for line in taken.split_inclusive(|byte| *byte == b'\n') {
            let place = format!("{device}:{inode}:{}", self.offset);
            self.offset += line.len() as u64;
            let line = line.trim_ascii();
            if !std::mem::take(&mut self.passing) && !line.is_empty() {
                on_line(&place, Line::Whole(line));
            }
        }
        Ok(at_end)
    }
}
