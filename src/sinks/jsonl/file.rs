//! The file under the lines: opening, repairing, moving aside.
//!
//! Invariant: a file that was opened here ends in a newline or is empty, and its name is on the disk.
//!
//! Not here: when to rotate and what a line is.

use std::fs::{File, OpenOptions};
use std::io::{Error, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// How much of the file's end is searched for a newline at one time.
const BLOCK: u64 = 64 << 10;

/// Opens `path` for appending, creates it if need be, and cuts off a last line without its newline.
pub(super) fn open(path: &Path) -> std::io::Result<File> {
    // Opening a pipe without a reader would hang for ever.
    if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(Error::other("is not a regular file"));
    }
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    // Findings name accounts and addresses: for the owner, and for a shipper in the owner's group.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o640);
    let mut file = options.open(path)?;
    let length = file.metadata()?.len();
    let whole = end_of_last_line(&mut file, length)?;
    if whole < length {
        tracing::warn!(path = %path.display(), bytes = length - whole, "cut off a torn line; its finding comes again");
        file.set_len(whole)?;
    }
    file.sync_all()?;
    sync_directory(path)?;
    Ok(file)
}

/// The place after the last newline, searched from the end.
fn end_of_last_line(file: &mut File, length: u64) -> std::io::Result<u64> {
    let mut end = length;
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(start))?;
        let mut block = Vec::new();
        (&mut *file).take(end - start).read_to_end(&mut block)?;
        if let Some(newline) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + u64::try_from(newline).unwrap_or(u64::MAX) + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Moves `path` to `path.1`, `path.1` to `path.2` and so on; what was at `path.<keep>` is gone.
pub(super) fn rotate(path: &Path, keep: u32) -> std::io::Result<()> {
    for number in (1..keep).rev() {
        rename_if_there(&numbered(path, number), &numbered(path, number + 1))?;
    }
    rename_if_there(path, &numbered(path, 1))?;
    sync_directory(path)
}

/// The file and those that were moved aside, whatever is kept of them by now.
pub(super) fn all(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Ok(vec![path.to_owned()]) };
    let mut all = Vec::new();
    for entry in std::fs::read_dir(directory_of(path))? {
        let entry = entry?;
        let found = entry.file_name();
        let rest = found.to_str().and_then(|found| found.strip_prefix(name));
        let is_numbered = |rest: &str| rest.strip_prefix('.').is_some_and(|rest| rest.parse::<u32>().is_ok());
        if rest.is_some_and(|rest| rest.is_empty() || is_numbered(rest)) && entry.file_type()?.is_file() {
            all.push(entry.path());
        }
    }
    Ok(all)
}

fn rename_if_there(from: &Path, to: &Path) -> std::io::Result<()> {
    match std::fs::rename(from, to) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        renamed => renamed,
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    beside(path, &number.to_string())
}

/// `path`, a full stop and `what`.
pub(super) fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{what}"));
    name.into()
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A new name is durable once its directory is.
#[cfg(unix)]
pub(super) fn sync_directory(path: &Path) -> std::io::Result<()> {
    File::open(directory_of(path))?.sync_all()
}

#[cfg(not(unix))]
pub(super) fn sync_directory(_: &Path) -> std::io::Result<()> {
    Ok(())
}

/// Whether `path` still leads to `file`.
#[cfg(unix)]
pub(super) fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(open), Ok(found)) => (open.dev(), open.ino()) == (found.dev(), found.ino()),
        _ => false,
    }
}

#[cfg(not(unix))]
pub(super) fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}
