//! `authspike outbox`: what waits, what was given up and why, and what to do about it.
//!
//! Invariant: it works on the database beside a running instance, which goes on meanwhile and notices within seconds. Only
//! dead letters can be replayed or purged, and never all of them by leaving something out.
//!
//! Not here: the statements (`sinks::outbox::inspect`).

use std::io::Write;

use anyhow::{Context as _, bail};
use clap::{Subcommand, ValueEnum};
use rusqlite::Connection;
use serde::Serialize;
use uuid::Uuid;

use super::{ConfigArgs, Exit};
use crate::clock::Clock;
use crate::config::{self, Environment, Need};
use crate::event::Timestamp;
use crate::sinks::format::Body;
use crate::sinks::format::prose::visible;
use crate::sinks::format::text::{self, Style};
use crate::sinks::outbox::inspect::{self, Entry, Filter, SinkEntry, State};
use crate::store;

const EXAMPLES: &str = "\
Examples:
  authspike outbox list
  authspike outbox list --sink siem --state dead
  authspike outbox show 1428ff73-ccfd-572c-ba25-392eb07715ce
  authspike outbox replay --sink siem
  authspike outbox export --state dead > dead.jsonl
  authspike outbox purge --sink siem

ID is that of a revision (metadata.uid, _id, event.id) or of a finding (finding_info.uid). A dead letter is a revision that \
a sink refused for good, or that was given up for age or for room; replayed, it is delivered again under the same id.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// How the sinks stand, and deliveries, newest first
    List(Which),
    /// One revision or finding: the finding itself, and its way to every sink
    Show {
        /// Of a revision or of a finding
        id: Uuid,
    },
    /// Make dead letters pending again
    Replay(Chosen),
    /// Delete dead letters for good
    Purge(Chosen),
    /// Deliveries as JSON, one a line, with the reason and the OCSF record
    Export(Which),
}

#[derive(Debug, clap::Args)]
struct Which {
    /// Only to this sink
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
    /// Only those in this state [default: pending and dead]
    #[arg(long)]
    state: Option<Wanted>,
    /// At most so many
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    limit: usize,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Wanted {
    Pending,
    Delivered,
    Dead,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
struct Chosen {
    /// Of a revision or of a finding
    id: Option<Uuid>,
    /// Those of this sink
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
    /// Those of every sink
    #[arg(long)]
    all: bool,
}

impl Which {
    fn filters(&self) -> Vec<Filter> {
        let states = match self.state {
            Some(Wanted::Pending) => vec![State::Pending],
            Some(Wanted::Delivered) => vec![State::Delivered],
            Some(Wanted::Dead) => vec![State::Dead],
            None => vec![State::Pending, State::Dead],
        };
        let of = |state| Filter { sink: self.sink.clone(), state: Some(state), id: None, limit: self.limit };
        states.into_iter().map(of).collect()
    }
}

impl Chosen {
    fn filter(self) -> Filter {
        Filter { sink: self.sink, id: self.id, ..Filter::dead(usize::MAX) }
    }
}

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    let data_dir = config::load(&args.config.into(), &Environment::of_process(), Need::Nothing)?.config.data_dir;
    let changes = matches!(args.command, Command::Replay(_) | Command::Purge(_));
    let mut connection = store::attach(&data_dir, changes)
        .with_context(|| format!("the outbox in {} cannot be opened", data_dir.display()))?;
    let mut out = std::io::stdout().lock();
    match args.command {
        Command::List(which) => list(&connection, &which, &mut out)?,
        Command::Show { id } => show(&connection, id, &mut out)?,
        Command::Export(which) => export(&connection, &which, &mut out)?,
        Command::Replay(chosen) => {
            let tx = connection.transaction()?;
            let replayed = inspect::replay(&tx, &chosen.filter(), Clock::system().now())?;
            tx.commit()?;
            writeln!(out, "{replayed} pending again")?;
        }
        Command::Purge(chosen) => {
            let tx = connection.transaction()?;
            let purged = inspect::purge(&tx, &chosen.filter())?;
            tx.commit()?;
            writeln!(out, "{purged} deleted")?;
        }
    }
    Ok(Exit::Done)
}

fn list(connection: &Connection, which: &Which, out: &mut impl Write) -> anyhow::Result<()> {
    writeln!(out, "{:<20} {:<8} {:>8} {:>12} {:>6}  since, last reason", "sink", "state", "pending", "bytes", "dead")?;
    for sink in inspect::sinks(connection)? {
        let SinkEntry { sink, state, pending, pending_bytes, dead, since, reason } = sink;
        let since = since.map_or_else(String::new, |since| since.to_string());
        let reason = visible(&reason.unwrap_or_default());
        writeln!(out, "{sink:<20} {state:<8} {pending:>8} {pending_bytes:>12} {dead:>6}  {since} {reason}")?;
    }
    for filter in which.filters() {
        for entry in inspect::list(connection, &filter)? {
            writeln!(out)?;
            describe(&entry, out)?;
        }
    }
    Ok(())
}

fn describe(entry: &Entry, out: &mut impl Write) -> std::io::Result<()> {
    let Entry { sink, revision_id, finding_id, revision, rule, severity, lifecycle, state, attempts, .. } = entry;
    writeln!(out, "{state} to {sink}: {revision_id}")?;
    writeln!(out, "  {rule}, {severity}, {lifecycle}, revision {revision} of {finding_id}")?;
    let when = match entry.settled_at {
        Some(at) => format!("settled {at}"),
        None => format!("next try {}", entry.next_at),
    };
    writeln!(out, "  put in {}, {attempts} tries, {when}", entry.created_at)?;
    if let Some(reason) = &entry.reason {
        writeln!(out, "  {}", visible(reason))?;
    }
    Ok(())
}

fn show(connection: &Connection, id: Uuid, out: &mut impl Write) -> anyhow::Result<()> {
    let entries = inspect::list(connection, &Filter { sink: None, state: None, id: Some(id), limit: usize::MAX })?;
    let Some(newest) = entries.first() else { bail!("{id} is in the outbox neither as a revision nor as a finding") };
    if let Some(finding) = inspect::finding(connection, newest.entry)? {
        write!(out, "{}", text::block(&finding, Style::Plain))?;
    }
    for entry in &entries {
        writeln!(out)?;
        describe(entry, out)?;
    }
    Ok(())
}

/// A line of `export`. The names are a contract.
#[derive(Serialize)]
struct Exported<'a> {
    sink: &'a str,
    state: &'a str,
    reason: Option<&'a str>,
    attempts: u32,
    revision_id: Uuid,
    finding_id: Uuid,
    put_in: i64,
    settled: Option<i64>,
    record: serde_json::Value,
}

fn export(connection: &Connection, which: &Which, out: &mut impl Write) -> anyhow::Result<()> {
    for entry in
        which.filters().iter().map(|filter| inspect::list(connection, filter)).collect::<Result<Vec<_>, _>>()?.concat()
    {
        let record = match inspect::finding(connection, entry.entry)? {
            Some(finding) => serde_json::from_slice(&Body::Ocsf.line(&finding)?)?,
            None => serde_json::Value::Null,
        };
        let line = Exported {
            sink: &entry.sink,
            state: &entry.state,
            reason: entry.reason.as_deref(),
            attempts: entry.attempts,
            revision_id: entry.revision_id,
            finding_id: entry.finding_id,
            put_in: entry.created_at.0,
            settled: entry.settled_at.map(|Timestamp(at)| at),
            record,
        };
        serde_json::to_writer(&mut *out, &line)?;
        writeln!(out)?;
    }
    Ok(())
}
