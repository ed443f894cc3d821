//! `authspike replay`: recorded events through the same detector, as fast as it goes.
//!
//! One thread reads, decompresses and parses; another judges. Invariant: what is judged, and in which order, is a
//! function of the files and their order alone.
//!
//! Not here: durability. A replay can be run again.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::mpsc::sync_channel;

use anyhow::{Context as _, anyhow};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::mapping::MappingArgs;
use super::{Exit, explain};
use crate::alias::Aliases;
use crate::clock::Stopwatch;
use crate::config::{self, Environment, Flags, Need, identifier_key};
use crate::detect::{self, Subject};
use crate::event::AuthEvent;
use crate::finding::{Finding, Lifecycle};
use crate::logging;
use crate::metrics::Metrics;
use crate::normalize::Normalized;
use crate::pipeline::Answer;

mod engine;
mod input;
pub mod read;
pub(super) mod records;
mod report;

pub(in crate::cli) use input::total_bytes;

use engine::Engine;
use read::{Format, ReadSummary, read_events, read_records};

/// Batches between the two threads: enough that neither waits for the other, and a few megabytes.
const BATCHES_WAITING: usize = 8;

const EXAMPLES: &str = "\
Examples:
  authspike replay attempts-2026-01-*.ndjson.zst
  zcat webhooks.ndjson.gz | authspike replay --json - > findings.ndjson
  authspike simulate --for 7d --attack stuffing | authspike replay -
  AUTHSPIKE_DETECT__SHADOW__FACTOR=25 authspike replay --shadow attempts.ndjson
  authspike replay --preset okta system-log.ndjson.gz
  authspike replay --explain 203.0.113.7 --explain ins_2g7np7Hrk0SN6kj5EDMLDaKNL0S attempts.ndjson

Each line is one JSON object: an attempt report as POST /v1/attempts takes it, or a webhook body as Clerk sends it. \
Which of them it is, is seen line by line. Files are read in the order given, which should be the order of time. A line \
that is neither is counted, and the first few are shown on stderr. With --preset or --mapping the lines are records of \
somebody else's log; `authspike map test` shows what each became.

--explain speaks of the moment of the last event: what is under attack then is still open, though a replay goes on to let \
every finding close. To explain another moment, end the file there.

Identifiers are hashed with the key of the data directory if there is one, else with a fixed key: hashes in the findings \
are then not those that a running instance shows.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Files of one JSON object a line, also .gz and .zst (seen by content); - is stdin
    #[arg(required = true, value_name = "FILES")]
    files: Vec<PathBuf>,
    /// Print findings as OCSF, one a line, and nothing else on stdout
    #[arg(long)]
    json: bool,
    /// Judge by the thresholds in [detect.shadow] too, and show both counts side by side
    #[arg(long, conflicts_with = "json")]
    shadow: bool,
    /// Say at the end why this address, network, account or instance fired, or why not; may be repeated
    #[arg(long, value_name = "ENTITY", conflicts_with = "json", value_parser = explain::entity)]
    explain: Vec<Subject>,
    /// What the lines are
    #[arg(long, value_enum, default_value_t = Format::Auto, conflicts_with_all = ["preset", "mapping"])]
    from_format: Format,
    #[command(flatten)]
    mapping: MappingArgs,
    /// Configuration file, for the settings of detection [default: ./authspike.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Whose identifier key to use [default: authspike-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
}

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    let environment = Environment::of_process();
    let flags = Flags { config: args.config, data_dir: args.data_dir, ..Flags::default() };
    let mut config = config::load(&flags, &environment, Need::Nothing)?.config;
    if !args.shadow {
        // A second detector takes its time; who does not ask for it does not wait for it.
        config.detect.shadow = detect::overrides::Shadow::default();
    } else if config.detect.shadowed().is_none() {
        return Err(config::Faults::one("--shadow", "[detect.shadow] of the configuration sets no threshold").into());
    }
    let quiet = logging::Config { level: "warn".to_owned(), ..config.logging.clone() };
    logging::init(&quiet, environment.log_filter())?;
    let key = identifier_key::load(&config.data_dir)?.unwrap_or_else(identifier_key::replay_key);
    let mapping = args.mapping.compiled(&config)?;
    // Only what the files tell: a replay is a function of them.
    let aliases = Aliases::in_memory(&config.ingest.aliases, &Metrics::new()?.alias);
    let bar = progress(total_bytes(&args.files)?);
    let out = Box::new(io::stdout());
    let mut judge =
        Judge { engine: Engine::open(&config)?, json: args.json, explain: args.explain, bar: bar.clone(), out };

    let watch = Stopwatch::start();
    let (send, receive) = sync_channel::<Vec<AuthEvent>>(BATCHES_WAITING);
    let (read, closed) = std::thread::scope(|scope| {
        let (files, bar, key) = (&args.files, &bar, &key);
        let (mapping, aliases) = (mapping.as_ref(), &aliases);
        let reader = scope.spawn(move || {
            let admit = |mut normalized| {
                aliases.admit(&mut normalized);
                normalized.event
            };
            let mut hand_over = |batch: Vec<Normalized>| {
                let events = batch.into_iter().map(admit).collect();
                send.send(events).map_err(|_| anyhow!("the judging side has stopped"))
            };
            match mapping {
                Some(mapping) => read_records(files, mapping, key, bar, &mut hand_over),
                None => read_events(files, args.from_format, key, bar, &mut hand_over),
            }
        });
        let closed = judge.run(&receive);
        // A reader that waits for a judge that failed must not wait for ever.
        drop(receive);
        let read = reader.join().map_err(|_| anyhow!("the reading thread failed"));
        (read, closed)
    });
    // If both failed, the judge's reason is the first: the reader's is only that nobody takes its batches.
    let (counts, answers) = closed?;
    let read = read??;
    bar.finish_and_clear();
    report::faults(&mut io::stderr().lock(), &read)?;
    if args.json {
        io::stdout().lock().flush()?;
    } else {
        report::summary(&mut io::stdout().lock(), &read, &counts, watch.elapsed())?;
    }
    if args.shadow {
        report::side_by_side(&mut io::stdout().lock(), &config.detect.shadow.name, &judge.engine.closed())?;
    }
    for answer in &answers {
        let mut out = io::stdout().lock();
        writeln!(out)?;
        explain::text::write(&mut out, answer)?;
    }
    Ok(exit(&read))
}

/// Some unreadable lines are a note; a file that broke off, or nothing readable at all, is a failure.
fn exit(read: &ReadSummary) -> Exit {
    let nothing = read.events == 0 && read.refused > 0;
    if nothing || !read.broken_files.is_empty() { Exit::Failed } else { Exit::Done }
}

/// How many findings there were, by what a reader groups them by.
type Counts = BTreeMap<report::Group, u64>;

/// The thread that judges.
struct Judge {
    engine: Engine,
    json: bool,
    explain: Vec<Subject>,
    bar: ProgressBar,
    out: Box<dyn Write>,
}

impl Judge {
    fn run(&mut self, batches: &std::sync::mpsc::Receiver<Vec<AuthEvent>>) -> anyhow::Result<(Counts, Vec<Answer>)> {
        let mut counts = Counts::new();
        while let Ok(batch) = batches.recv() {
            let found = self.engine.feed(batch).context("cannot judge")?;
            self.take(&found, &mut counts)?;
        }
        // Before time is moved on for the findings to close: what is still going on is explained as such.
        let answers = self.explain.iter().map(|subject| self.engine.explain(subject)).collect();
        let found = self.engine.finish().context("cannot judge")?;
        self.take(&found, &mut counts)?;
        Ok((counts, answers))
    }

    fn take(&mut self, revisions: &[Finding], counts: &mut Counts) -> anyhow::Result<()> {
        for finding in revisions.iter().filter(|finding| finding.lifecycle == Lifecycle::Closed) {
            self.print(finding, counts)?;
        }
        Ok(())
    }

    fn print(&mut self, finding: &Finding, counts: &mut Counts) -> io::Result<()> {
        *counts.entry(report::Group::of(finding)).or_default() += 1;
        let (json, out) = (self.json, &mut self.out);
        self.bar.suspend(|| if json { report::json(out, finding) } else { report::line(out, finding) })
    }
}

/// Drawn on stderr if that is a terminal; without a total (stdin) only what was read.
fn progress(total: Option<u64>) -> ProgressBar {
    let (bar, template) = match total {
        Some(bytes) => (ProgressBar::new(bytes), "{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} to go"),
        None => (ProgressBar::no_length(), "{bytes} read, {bytes_per_sec}"),
    };
    bar.set_draw_target(ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::sinks::sample::stuffing;

    fn finding(address: &str, revision: u32, lifecycle: Lifecycle) -> Finding {
        let mut finding = Finding { revision, lifecycle, ..stuffing() };
        finding.entity.value = address.to_owned();
        finding.evidence.totals.failures = u64::from(revision) * 100;
        finding
    }

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn judged(json: bool) -> (String, Counts) {
        let page = Page::default();
        let (bar, out) = (ProgressBar::hidden(), Box::new(page.clone()));
        let mut judge =
            Judge { engine: Engine::open(&config::Config::default()).unwrap(), json, explain: Vec::new(), bar, out };
        let mut counts = Counts::new();
        let revisions = [
            finding("203.0.113.1", 1, Lifecycle::Opened),
            finding("203.0.113.2", 1, Lifecycle::Opened),
            finding("203.0.113.2", 2, Lifecycle::Updated),
            finding("203.0.113.1", 2, Lifecycle::Closed),
        ];
        judge.take(&revisions, &mut counts).unwrap();
        judge.take(&[finding("203.0.113.2", 3, Lifecycle::Closed)], &mut counts).unwrap();
        let text = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        (text, counts)
    }

    #[test]
    fn each_finding_is_printed_once_when_it_closes() {
        let (text, counts) = judged(false);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4, "two lines each: {text}");
        assert!(lines[0].contains("Credential stuffing from 203.0.113.1 of ins_"), "{text}");
        assert!(lines[1].contains("200 failures, "), "{text}");
        assert!(lines[2].contains("203.0.113.2"), "{text}");
        assert!(lines[3].contains("300 failures"), "{text}");
        assert_eq!(counts.into_values().collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn as_json_each_is_one_line() {
        let (text, _) = judged(true);
        let lines: Vec<_> = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
    }
}
