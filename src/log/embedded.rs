//! (being written)

use serde::Deserialize;

/// What the user can set.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Days events are kept.
    pub retention_days: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { retention_days: 7 }
    }
}

impl Config {
    /// Every fault, as `key: what is wrong`.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        if (2..=3650).contains(&self.retention_days) {
            Vec::new()
        } else {
            vec!["retention_days: must be from 2 to 3650".into()]
        }
    }
}
