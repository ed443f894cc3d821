//! A secret of a sink, from a variable or a file.
//!
//! Invariant: a secret in a file is read again before it is used, so one that was renewed there is in force at the next
//! delivery, without a restart; while the file cannot be read, the last one counts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::section::SecretKeys;
use crate::secret::Secret;

/// Longer than any token; a file above this is some other file.
const MAX_BYTES: u64 = 16 << 10;

/// The variables that the sections name, by name.
pub type Variables = BTreeMap<String, Secret>;

/// A secret and where it came from.
#[derive(Clone, Debug)]
pub struct Credential {
    current: Secret,
    file: Option<PathBuf>,
}

impl Credential {
    /// What the keys name; `None` if they name nothing. Blocks on a file.
    ///
    /// # Errors
    /// The variable is not there or the file cannot be read, as `key: what is wrong`.
    pub fn load(keys: SecretKeys<'_>, variables: &Variables) -> Result<Option<Self>, String> {
        match (keys.env, keys.file) {
            (Some(variable), _) => {
                let current = variables.get(variable).cloned();
                let current = current.ok_or_else(|| format!("{}_env: the variable {variable} is not set", keys.key))?;
                Ok(Some(Self { current, file: None }))
            }
            (None, Some(path)) => {
                let current = read(path).map_err(|what| format!("{}_file: {}: {what}", keys.key, path.display()))?;
                Ok(Some(Self { current, file: Some(path.to_owned()) }))
            }
            (None, None) => Ok(None),
        }
    }

    /// The secret as it was when it was last read.
    #[must_use]
    pub const fn loaded(&self) -> &Secret {
        &self.current
    }

    /// The secret as it is now.
    pub async fn current(&mut self) -> Secret {
        if let Some(path) = self.file.clone() {
            // The file may lie on a share that hangs: never on a thread of the runtime.
            let read = tokio::task::spawn_blocking(move || read(&path)).await;
            if let Ok(Ok(secret)) = read {
                self.current = secret;
            }
        }
        self.current.clone()
    }
}

/// What is in a variable or a file as a secret; the newline at the end of a file is not part of it.
///
/// # Errors
/// What is wrong with it, without quoting it.
pub fn parse(text: &str) -> Result<Secret, &'static str> {
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err("is empty");
    }
    if text.chars().any(char::is_control) {
        return Err("holds a control character or more than one line");
    }
    Ok(Secret::new(text))
}

fn read(path: &Path) -> Result<Secret, String> {
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    std::io::Read::read_to_string(&mut std::io::Read::take(file, MAX_BYTES + 1), &mut text)
        .map_err(|error| error.to_string())?;
    if text.len() as u64 > MAX_BYTES {
        return Err(format!("is longer than {MAX_BYTES} bytes"));
    }
    parse(&text).map_err(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_file_is_read_again_and_a_variable_must_be_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let keys = SecretKeys { key: "token", env: None, file: Some(&path) };
        let none = Variables::new();
        assert!(Credential::load(keys, &none).unwrap_err().starts_with("token_file: "));
        std::fs::write(&path, "one\n").unwrap();
        let mut credential = Credential::load(keys, &none).unwrap().unwrap();
        assert_eq!(credential.current().await.expose(), "one");
        std::fs::write(&path, "two").unwrap();
        assert_eq!(credential.current().await.expose(), "two");
        std::fs::write(&path, "").unwrap();
        assert_eq!(credential.current().await.expose(), "two", "a file being written");

        let keys = SecretKeys { key: "token", env: Some("T"), file: None };
        assert_eq!(Credential::load(keys, &none).unwrap_err(), "token_env: the variable T is not set");
        let variables = Variables::from([("T".to_owned(), Secret::new("three"))]);
        assert_eq!(Credential::load(keys, &variables).unwrap().unwrap().current().await.expose(), "three");
        assert!(parse("a\nb").is_err() && parse("\n").is_err());
    }
}
