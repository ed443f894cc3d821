//! A string that does not print: the only type a secret may have.
//!
//! Invariant: neither `Debug` nor `Display` nor serialisation shows the content; [`Secret::expose`] is the one way to it.

use std::fmt;

use serde::Deserialize;

/// A secret from the environment, a file or the configuration.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps `value`.
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The content. Never log, store or answer with it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
