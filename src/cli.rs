//! The command line: one file per command.
//!
//! Invariant: stdout holds what was asked for and nothing else; faults, progress and log lines go to stderr. The exit
//! code says what happened: see `Exit`.
//!
//! Not here: doing the work. A command turns its arguments into calls of the other modules.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Faults, Flags, Role};
use crate::simulate::PlanError;
use crate::simulate::post::PostError;

mod asking;
mod check;
mod demo;
mod explain;
mod forget;
mod map;
mod mapping;
mod outbox;
pub mod replay;
mod run;
mod simulate;
mod sink;
mod topics;

const EXIT_CODES: &str = "\
Exit codes:
   0  done
   1  something failed
  64  wrong usage or configuration
  75  stopped by a signal, and not finished before the deadline (shutdown_seconds)";

/// A streaming detector of credential attacks on apps that sign in with Clerk.
#[derive(Debug, Parser)]
#[command(name = "authspike", version, after_help = EXIT_CODES, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Receive events, judge them and deliver findings, until stopped
    Run(run::Args),
    /// Report every fault of the configuration, without starting anything
    Check(check::Args),
    /// Why an entity fired, or why not, at a running instance
    Explain(explain::Args),
    /// Forget an account, at a running instance
    Forget(forget::Args),
    /// Judge recorded events, as fast as it goes
    Replay(replay::Args),
    /// What a mapping makes of somebody else's log
    Map(map::Args),
    /// The commands that prepare Kafka, or prepare it
    Topics(topics::Args),
    /// Make labelled sign-in traffic, with attacks in it
    Simulate(simulate::Args),
    /// What waits for the sinks, what they refused, and what to do about it
    Outbox(outbox::Args),
    /// Try out a sink
    Sink(sink::Args),
}

/// Where the configuration comes from. Global: `authspike outbox list --config FILE` means what it says.
#[derive(Debug, clap::Args)]
struct ConfigArgs {
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        help = "Configuration file [default: ./authspike.toml, if it is there; also: AUTHSPIKE_CONFIG]"
    )]
    config: Option<PathBuf>,
    /// Where the log, the outbox and the identifier key live [default: authspike-data]
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<String>,
    /// Where events are received [default: 127.0.0.1:8080]
    #[arg(long, global = true, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where /metrics, /livez and /readyz are [default: 127.0.0.1:9090]
    #[arg(long, global = true, value_name = "ADDRESS")]
    admin_listen: Option<String>,
    /// What the process does, on Kafka; may be given several times [default: all three]
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<Role>,
}

impl From<ConfigArgs> for Flags {
    fn from(args: ConfigArgs) -> Self {
        let ConfigArgs { config, data_dir, listen, admin_listen, roles } = args;
        Self { config, data_dir, listen, admin_listen, roles }
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    Done,
    Failed,
    /// `EX_USAGE` of sysexits: starting again without a change is no use.
    Usage,
    /// `EX_TEMPFAIL`: what was not finished is picked up at the next start.
    DeadlineMissed,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 64,
            Exit::DeadlineMissed => 75,
        })
    }
}

/// Does what `arguments` (the program's name first) ask for.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(answer) => {
            // `--help` and `--version` come this way too, and are no failure. Nobody is left to tell if this fails.
            let _ = answer.print();
            return if answer.use_stderr() { Exit::Usage } else { Exit::Done }.into();
        }
    };
    let result = match cli.command {
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::run(args),
        Command::Explain(args) => explain::run(&args),
        Command::Forget(args) => forget::run(&args),
        Command::Replay(args) => replay::run(args),
        Command::Map(args) => map::run(args),
        Command::Simulate(args) => simulate::run(&args),
        Command::Outbox(args) => outbox::run(args),
        Command::Sink(args) => sink::run(args),
        Command::Topics(args) => topics::run(args),
    };
    result.unwrap_or_else(|fault| report(&fault)).into()
}

fn report(fault: &anyhow::Error) -> Exit {
    if fault.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>()).any(is_broken_pipe) {
        // `authspike simulate | head`: whoever read has enough.
        return Exit::Done;
    }
    let bad_target = matches!(fault.downcast_ref(), Some(PostError::Target(_) | PostError::Secret));
    let usage = fault.is::<Faults>() || fault.is::<PlanError>() || bad_target;
    let mut stderr = std::io::stderr().lock();
    for line in format!("{fault:#}").lines() {
        let _ = writeln!(stderr, "authspike: {line}");
    }
    if usage { Exit::Usage } else { Exit::Failed }
}

fn is_broken_pipe(fault: &std::io::Error) -> bool {
    fault.kind() == std::io::ErrorKind::BrokenPipe
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_every_command_shows_an_example() {
        let mut command = Cli::command();
        command.clone().debug_assert();
        for sub in command.get_subcommands_mut().filter(|sub| sub.get_name() != "help") {
            let help = sub.render_long_help().to_string();
            assert!(help.contains(&format!("authspike {}", sub.get_name())), "{help}");
            assert!(help.contains("Example"), "{help}");
        }
        assert!(command.render_long_help().to_string().contains("75"));
    }
}
