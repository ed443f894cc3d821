//! Findings on standard output: for a person, or one OCSF record a line for whatever reads the pipe.
//!
//! Invariant: what was accepted has been flushed. A reader that has gone away (broken pipe) does not end the process and
//! loses nothing: the findings stay in the outbox and come out of the next start.
//!
//! Not here: logs, which go to standard error.

use std::io::{ErrorKind, IsTerminal, Write};

use serde::{Deserialize, Serialize};

use crate::finding::Finding;

use super::Delivery;
use super::format::ocsf;
use super::format::text::{self, Style};
use super::thread::BlockingSink;

/// What the user can set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether findings are printed.
    pub enabled: bool,
    /// How.
    pub format: Format,
}

impl Default for Config {
    fn default() -> Self {
        Self { enabled: true, format: Format::Human }
    }
}

/// How findings are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// A block of text; coloured on a terminal unless `NO_COLOR` is set.
    Human,
    /// One OCSF record a line.
    Json,
}

/// The sink.
#[derive(Debug)]
pub struct Stdout<W> {
    output: W,
    format: Format,
    style: Style,
}

impl Stdout<std::io::Stdout> {
    /// On the process's own standard output.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let output = std::io::stdout();
        // https://no-color.org: set and not empty.
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let style = if output.is_terminal() && !no_color { Style::Colour } else { Style::Plain };
        Self { output, format: config.format, style }
    }
}

impl<W: Write> Stdout<W> {
    fn print(&mut self, finding: &Finding) -> std::io::Result<()> {
        let printed = match self.format {
            Format::Human => text::block(finding, self.style).into_bytes(),
            Format::Json => {
                let mut line = ocsf::line(finding)?;
                line.push(b'\n');
                line
            }
        };
        self.output.write_all(&printed)?;
        self.output.flush()
    }
}

impl<W: Write + Send + 'static> BlockingSink for Stdout<W> {
    fn deliver(&mut self, findings: &[Finding]) -> Vec<Delivery> {
        let mut failed: Option<Delivery> = None;
        let deliver = |finding| {
            if failed.is_none() {
                failed = self.print(finding).err().map(|error| retry(&error));
            }
            failed.clone().unwrap_or(Delivery::Accepted)
        };
        findings.iter().map(deliver).collect()
    }
}

fn retry(error: &std::io::Error) -> Delivery {
    Delivery::retry(if error.kind() == ErrorKind::BrokenPipe {
        "nobody reads standard output any more".into()
    } else {
        format!("standard output: {error}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::sample::{revision, stuffing};

    /// Takes so many writes, then breaks.
    struct Pipe {
        written: Vec<u8>,
        left: usize,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.left = self.left.checked_sub(1).ok_or(ErrorKind::BrokenPipe)?;
            self.written.write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn pipe(left: usize, format: Format) -> Stdout<Pipe> {
        Stdout { output: Pipe { written: Vec::new(), left }, format, style: Style::Plain }
    }

    #[test]
    fn json_is_one_record_a_line() {
        let mut sink = pipe(9, Format::Json);
        assert_eq!(sink.deliver(&[revision(1, 1), revision(2, 1)]), [Delivery::Accepted, Delivery::Accepted]);
        let lines: Vec<serde_json::Value> = sink
            .output
            .written
            .split(|byte| *byte == b'\n')
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1]["metadata"]["uid"], revision(2, 1).revision_id.to_string());
    }

    #[test]
    fn a_broken_pipe_accepts_nothing_more() {
        let mut sink = pipe(1, Format::Human);
        let answers = sink.deliver(&[revision(1, 1), revision(2, 1), revision(3, 1)]);
        let gone = Delivery::retry("nobody reads standard output any more");
        assert_eq!(answers, [Delivery::Accepted, gone.clone(), gone]);
        assert_eq!(sink.output.written, text::block(&revision(1, 1), Style::Plain).into_bytes());
    }

    #[test]
    fn colours_are_all_that_colour_adds() {
        let coloured = text::block(&stuffing(), Style::Colour);
        let mut plain = String::new();
        for (index, part) in coloured.split('\u{1b}').enumerate() {
            plain.push_str(if index == 0 { part } else { part.split_once('m').unwrap().1 });
        }
        assert_eq!(plain, text::block(&stuffing(), Style::Plain));
    }
}
