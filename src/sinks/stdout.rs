//! The terminal: a block a person reads, or one OCSF record a line.
//!
//! Invariant: a reader that has gone away (a closed pipe) costs its copy of the finding, never the process.

use std::io::{self, IsTerminal as _, Write as _};

use async_trait::async_trait;
use serde::Deserialize;

use super::format::{ocsf, text};
use super::{Delivery, Sink};
use crate::finding::Finding;

/// How findings are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// A short block of text.
    #[default]
    Human,
    /// One OCSF record a line.
    Json,
}

/// What the user can set.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether findings are written to stdout.
    pub enabled: bool,
    /// How.
    pub format: Format,
}

impl Default for Config {
    fn default() -> Self {
        Self { enabled: true, format: Format::Human }
    }
}

/// The sink.
#[derive(Debug)]
pub struct Stdout {
    format: Format,
    colour: bool,
}

impl Stdout {
    /// Colours only on a terminal, and not where `NO_COLOR` is set.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
        Self { format: config.format, colour }
    }
}

#[async_trait]
impl Sink for Stdout {
    async fn deliver(&mut self, findings: &[Finding]) -> Vec<Delivery> {
        let (format, colour) = (self.format, self.colour);
        let lines: Vec<_> = findings
            .iter()
            .map(|finding| match format {
                Format::Human => text::block(finding, colour),
                Format::Json => ocsf::line(finding) + "\n",
            })
            .collect();
        // A terminal that is paused blocks the writer: not the runtime's threads.
        let written = tokio::task::spawn_blocking(move || lines.iter().map(|line| write(line)).collect()).await;
        written.unwrap_or_else(|error| vec![Delivery::Retry(error.to_string()); findings.len()])
    }
}

fn write(text: &str) -> Delivery {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Delivery::Accepted,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Delivery::Refused("nobody reads stdout".into()),
        Err(error) => Delivery::Retry(error.to_string()),
    }
}
