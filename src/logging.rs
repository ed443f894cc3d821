//! The program's own log lines: on stderr, as text or JSON.
//!
//! What is written where: an address, an account or a body belongs in a finding, never in a log line. `error` means that
//! somebody must act, `warn` that they may have to, `info` what a start or a stop did; everything per request is `debug`.
//!
//! Not here: findings. They go to sinks, and stdout belongs to those.

use std::io::IsTerminal as _;

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

/// What the user can set.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How a line looks.
    pub format: Format,
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter by module: `info,authspike::sinks=debug`. `RUST_LOG` wins.
    pub level: String,
}

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// For a person.
    #[default]
    Text,
    /// One JSON object a line, for a collector.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self { format: Format::default(), level: "info".into() }
    }
}

impl Config {
    /// Every fault, as `key: what is wrong`.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        match filter(&self.level) {
            Ok(_) => Vec::new(),
            Err(fault) => vec![format!("level: {fault}")],
        }
    }
}

/// Why log lines cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// `RUST_LOG` or `logging.level` is not a filter.
    #[error("{0}")]
    Filter(String),
    /// Something else in this process has already set it up.
    #[error("logging is already set up: {0}")]
    Twice(String),
}

/// Writes log lines to stderr from now on; `rust_log` wins over `config.level`.
///
/// # Errors
/// See [`LoggingError`].
pub fn init(config: &Config, rust_log: Option<&str>) -> Result<(), LoggingError> {
    let filter = match rust_log {
        Some(text) => filter(text).map_err(|fault| LoggingError::Filter(format!("RUST_LOG: {fault}")))?,
        None => filter(&config.level).map_err(|fault| LoggingError::Filter(format!("logging.level: {fault}")))?,
    };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let set = match config.format {
        Format::Text => lines.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init(),
        Format::Json => lines.json().flatten_event(true).try_init(),
    };
    set.map_err(|fault| LoggingError::Twice(fault.to_string()))
}

fn filter(text: &str) -> Result<EnvFilter, String> {
    if text.trim().is_empty() {
        return Err("must not be empty".to_owned());
    }
    EnvFilter::try_new(text).map_err(|_| "is not a level or a filter such as `info,authspike::sinks=debug`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_filters_are_taken_and_others_refused() {
        for level in ["info", "off", "warn,authspike::sinks=debug"] {
            assert!(Config { level: level.into(), ..Config::default() }.validate().is_empty(), "{level}");
        }
        for level in ["", "authspike::sinks=loud", "info=info=info"] {
            assert_eq!(Config { level: level.into(), ..Config::default() }.validate().len(), 1, "{level}");
        }
    }
}
