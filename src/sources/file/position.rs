//! How far a file has been read, on disk.
//!
//! Invariant: what is stored is whole: written beside, synced, renamed over. A position belongs to a file's beginning and
//! its inode, not to its name: after a rotation the name is another file's.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Inodes are used again within seconds: as many bytes of the beginning, with its times in it, tell two logs apart.
const HEAD_BYTES: u64 = 256;

/// A place in one file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// Device and inode.
    pub(super) file: (u64, u64),
    /// Bytes read, up to the end of a line.
    pub(super) offset: u64,
    /// How many bytes of the beginning `head` is of.
    head_bytes: u64,
    /// SHA-256 of them.
    head: Vec<u8>,
}

/// Device and inode of an open file.
pub(super) fn identity(file: &File) -> io::Result<(u64, u64)> {
    let metadata = file.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

impl Position {
    /// The place `offset` of `file`.
    pub(super) fn of(file: &mut File, offset: u64) -> io::Result<Self> {
        let head_bytes = offset.min(HEAD_BYTES);
        Ok(Self { file: identity(file)?, offset, head_bytes, head: head(file, head_bytes)? })
    }

    /// Whether it is a place of `file` as it is now: the same inode, the same beginning, and not cut.
    pub(super) fn is_in(&self, file: &mut File) -> io::Result<bool> {
        let same = identity(file)? == self.file && file.metadata()?.len() >= self.offset;
        Ok(same && head(file, self.head_bytes)? == self.head)
    }

    /// The position stored at `path`; one that cannot be read is none, and what was read already is recognised.
    pub(super) fn load(path: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }

    /// Stores it.
    pub(super) fn store(&self, path: &Path) -> io::Result<()> {
        let beside: PathBuf = path.with_extension("new");
        let mut file = File::create(&beside)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    }
}

fn head(file: &mut File, bytes: u64) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(bytes).read_to_end(&mut head)?;
    Ok(Sha256::digest(&head).to_vec())
}
