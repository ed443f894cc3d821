//! The key under which identifiers are hashed, kept in `<data_dir>/identifier.key`.
//!
//! Invariant: once a data directory has a key it keeps it: hashes made before and after a restart are comparable. The
//! file appears whole or not at all, readable by its owner only.
//!
//! Losing the file only means that identifiers seen before and after are no longer recognised as the same.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::normalize::identifier::IdentifierKey;
use crate::secret::Secret;

/// The file's name inside the data directory.
pub const FILE: &str = "identifier.key";

/// The key of a replay without a data directory: the same hashes in every such replay, comparable with no live instance.
#[must_use]
pub fn replay_key() -> IdentifierKey {
    IdentifierKey::new(&[0; IdentifierKey::BYTES])
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file or its directory.
    #[error("{path}: {fault}")]
    Io {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        fault: io::Error,
    },
    /// The file is not one of ours.
    #[error("{path}: holds {found} bytes, not {expected}: restore it, or delete it to get a new key", expected = IdentifierKey::BYTES)]
    Length {
        /// The file.
        path: PathBuf,
        /// Its length.
        found: usize,
    },
    /// The system has no randomness to give.
    #[error("no random bytes: {0}")]
    Random(getrandom::Error),
}

/// The key written as 64 hexadecimal digits.
#[must_use]
pub fn parse(secret: &Secret) -> Option<IdentifierKey> {
    let digits = secret.expose().as_bytes();
    let mut key = [0; IdentifierKey::BYTES];
    if digits.len() != 2 * key.len() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(digits.as_chunks::<2>().0) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(IdentifierKey::new(&key))
}

/// The key that was given, or that of `data_dir`, made at the first start.
///
/// # Errors
/// See [`KeyError`].
pub fn of(data_dir: &Path, given: Option<&Secret>) -> Result<IdentifierKey, KeyError> {
    given.and_then(parse).map_or_else(|| load_or_create(data_dir), Ok)
}

/// The key of `data_dir`, made at the first start.
///
/// # Errors
/// See [`KeyError`].
pub fn load_or_create(data_dir: &Path) -> Result<IdentifierKey, KeyError> {
    if let Some(key) = load(data_dir)? {
        return Ok(key);
    }
    create(data_dir)?;
    // Whoever was first: what is in the file is the key.
    load(data_dir)?
        .ok_or_else(|| KeyError::Io { path: data_dir.join(FILE), fault: io::Error::from(io::ErrorKind::NotFound) })
}

/// The key of `data_dir`, if it has one.
///
/// # Errors
/// See [`KeyError`].
pub fn load(data_dir: &Path) -> Result<Option<IdentifierKey>, KeyError> {
    let path = data_dir.join(FILE);
    let mut bytes = Vec::with_capacity(IdentifierKey::BYTES + 1);
    match File::open(&path) {
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(fault) => return Err(KeyError::Io { path, fault }),
        Ok(file) => {
            if file.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o007 != 0) {
                tracing::warn!("{} can be read by every user of this machine: chmod 600 it", path.display());
            }
            let most = IdentifierKey::BYTES as u64 + 1;
            file.take(most).read_to_end(&mut bytes).map_err(|fault| KeyError::Io { path: path.clone(), fault })?;
        }
    }
    match <&[u8; IdentifierKey::BYTES]>::try_from(bytes.as_slice()) {
        Ok(key) => Ok(Some(IdentifierKey::new(key))),
        Err(_) => Err(KeyError::Length { path, found: bytes.len() }),
    }
}

fn create(data_dir: &Path) -> Result<(), KeyError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |fault| KeyError::Io { path, fault }
    };
    DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(at(data_dir))?;
    let mut key = [0; IdentifierKey::BYTES];
    getrandom::fill(&mut key).map_err(KeyError::Random)?;

    let path = data_dir.join(FILE);
    // Written beside and linked into place: a crash leaves no short key, and of two starts the first one's key stays.
    let draft = data_dir.join(format!("{FILE}.{}.new", std::process::id()));
    let written =
        write_durably(&draft, &key).map_err(at(&draft)).and_then(|()| match std::fs::hard_link(&draft, &path) {
            Err(fault) if fault.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result.map_err(at(&path)),
        });
    let removed = std::fs::remove_file(&draft);
    written?;
    removed.map_err(at(&draft))?;
    File::open(data_dir).and_then(|dir| dir.sync_all()).map_err(at(data_dir))
}

fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(key: &IdentifierKey) -> String {
        key.hash(&"ins_1".into(), "alice@example.com").to_string()
    }

    #[test]
    fn the_key_is_made_once_and_kept_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("a/b");
        assert!(load(&data).unwrap().is_none());
        let first = load_or_create(&data).unwrap();
        assert_eq!(hash(&first), hash(&load_or_create(&data).unwrap()));
        assert_ne!(hash(&first), hash(&replay_key()));
        let other = load_or_create(&dir.path().join("c")).unwrap();
        assert_ne!(hash(&first), hash(&other));

        let mode = std::fs::metadata(data.join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(&data).unwrap().count(), 1, "the draft is gone");
    }

    #[test]
    fn a_key_from_the_environment_is_64_digits() {
        let digits = "00ff".repeat(16);
        assert_eq!(
            hash(&parse(&Secret::new(digits.clone())).unwrap()),
            hash(&parse(&Secret::new(digits.to_uppercase())).unwrap())
        );
        for wrong in [&digits[1..], "", &format!("{digits}0"), &"zz".repeat(32), &"+f".repeat(32)] {
            assert!(parse(&Secret::new(wrong)).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_short_or_long_key_is_refused_and_left_alone() {
        for length in [0, 31, 33] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join(FILE), vec![1; length]).unwrap();
            let fault = load_or_create(dir.path()).unwrap_err();
            assert!(matches!(fault, KeyError::Length { found, .. } if found == length), "{fault}");
            assert_eq!(std::fs::read(dir.path().join(FILE)).unwrap().len(), length);
        }
    }
}
