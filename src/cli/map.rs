//! `authspike map`: what a mapping makes of records, line by line, and the presets as text.
//!
//! Invariant: what is printed of a record is what the log would keep of it: an identifier appears as its hash only.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::Subcommand;
use indicatif::ProgressBar;

use super::mapping::MappingArgs;
use super::replay::records::{Lined, Records};
use super::{Exit, replay};
use crate::config::{self, Environment, Faults, Flags, Need, identifier_key};
use crate::event::AuthEvent;
use crate::normalize::mapped::{Mapped, preset};

const EXAMPLES: &str = "\
Examples:
  authspike map test --preset okta system-log.ndjson
  head -100 /var/log/nginx/access.log | authspike map test --preset nginx-combined -
  authspike map show --preset ecs > my-mapping.toml

`test` prints a line for each record: its number, and the attempt it became, or why it was skipped or refused. At the end it \
counts them. `show` prints a preset, to be copied under [ingest.mapping.NAME] and changed; without --preset it lists all.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What each record of a file becomes
    Test(TestArgs),
    /// A preset as text
    Show(ShowArgs),
}

#[derive(Debug, clap::Args)]
struct TestArgs {
    #[command(flatten)]
    mapping: MappingArgs,
    /// Files of one record a line, also .gz and .zst; - is stdin
    #[arg(required = true, value_name = "FILES")]
    files: Vec<PathBuf>,
    /// Configuration file, for its mappings [default: ./authspike.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// Which
    #[arg(long, value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(preset::names()))]
    preset: Option<String>,
}

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    match args.command {
        Command::Test(args) => test(args),
        Command::Show(args) => show(args.preset.as_deref()),
    }
}

fn show(name: Option<&str>) -> anyhow::Result<Exit> {
    let mut out = io::stdout().lock();
    match name.and_then(preset::source) {
        Some(text) => out.write_all(text.as_bytes())?,
        None => preset::names().try_for_each(|name| writeln!(out, "{name}"))?,
    }
    Ok(Exit::Done)
}

fn test(args: TestArgs) -> anyhow::Result<Exit> {
    let flags = Flags { config: args.config, ..Flags::default() };
    let config = config::load(&flags, &Environment::of_process(), Need::Nothing)?.config;
    let Some(mapping) = args.mapping.compiled(&config)? else {
        return Err(Faults::one("--preset", "say which: --preset or --mapping").into());
    };
    replay::total_bytes(&args.files)?;
    let key = identifier_key::load(&config.data_dir)?.unwrap_or_else(identifier_key::replay_key);
    let bar = ProgressBar::hidden();
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut counts = BTreeMap::<String, u64>::new();
    let mut broken = false;
    for path in &args.files {
        let mut records = match Records::open(path, &bar) {
            Ok(records) => records,
            Err(fault) => return Err(anyhow::Error::new(fault).context(path.display().to_string())),
        };
        while let Some(lined) = records.next(&mapping, &key) {
            match lined {
                Lined::Record(number, Ok(Mapped::Attempt(attempt))) => {
                    line(&mut out, number, &attempt.event)?;
                    *counts.entry(attempt.event.outcome.as_str().to_owned()).or_default() += 1;
                }
                Lined::Record(number, Ok(Mapped::Skipped(why))) => {
                    writeln!(out, "{number:>6}  skipped  {why}")?;
                    *counts.entry("skipped".to_owned()).or_default() += 1;
                }
                Lined::Record(number, Err(fault)) => {
                    writeln!(out, "{number:>6}  refused  {fault}")?;
                    *counts.entry("refused".to_owned()).or_default() += 1;
                }
                Lined::Broken(fault) => {
                    writeln!(out, "cannot be read to its end: {fault}")?;
                    broken = true;
                }
            }
        }
    }
    writeln!(out)?;
    for (what, count) in &counts {
        writeln!(out, "{what:<24} {count:>12}")?;
    }
    out.flush()?;
    Ok(if broken { Exit::Failed } else { Exit::Done })
}

/// An attempt on one line: what the log keeps, where there is any.
fn line(out: &mut impl Write, number: u64, event: &AuthEvent) -> io::Result<()> {
    write!(out, "{number:>6}  {}  {}", event.outcome.as_str(), event.occurred_at)?;
    let account = event.account.as_ref().map(ToString::to_string);
    let fields = [
        ("ip", event.ip.map(|ip| ip.to_string())),
        ("account", account),
        ("reason", event.reason.as_deref().map(str::to_owned)),
        ("tenant", Some(event.tenant.to_string())),
        ("id", Some(event.id.to_string())),
        ("user_agent", event.user_agent.as_deref().map(str::to_owned)),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            write!(out, "  {name}={value}")?;
        }
    }
    writeln!(out)
}
