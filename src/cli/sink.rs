//! `authspike sink test`: a marked finding to one sink, and what the receiver said.
//!
//! Invariant: it takes the same way as any finding (section, secrets, redaction, client), past the outbox; the route is not
//! looked at, since a test that is filtered out proves nothing.

use std::io::Write as _;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Subcommand;

use super::{ConfigArgs, Exit};
use crate::clock::Clock;
use crate::config::{self, Environment, Faults, Loaded, Need, identifier_key};
use crate::sinks::{self, Delivery, Outlet, Parts, probe};

const EXAMPLES: &str = "\
Examples:
  authspike sink test siem
  authspike sink test siem --config /etc/authspike.toml

Sends a finding of severity informational, of the instance authspike-test, whose title says that it is a test, and then its \
close. Prints what the receiver answered to each. Exit code 0 if it took both, 1 if not, 64 if there is no such sink.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Send a test finding to a sink and show what the receiver answers
    Test {
        /// The sink's name in the configuration; also: stdout, jsonl
        name: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    let Command::Test { name, config } = args.command;
    let loaded = config::load(&config.into(), &Environment::of_process(), Need::Sinks)?;
    if !loaded.config.sinks.names().contains(&name) {
        let known = loaded.config.sinks.names().join(", ");
        return Err(Faults::one(&name, &format!("there is no such sink; configured and on: {known}")).into());
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(test(&name, &loaded))
}

async fn test(name: &str, loaded: &Loaded) -> anyhow::Result<Exit> {
    let clock = Clock::system();
    let data_dir = &loaded.config.data_dir;
    let parts = Parts { data_dir, variables: &loaded.secrets.sinks, clock: clock.clone() };
    let outlet = sinks::build_one(&loaded.config.sinks, &parts, name)?;
    let Outlet { redaction, mut sink, .. } = outlet.with_context(|| format!("{name} cannot be built"))?;
    let key = identifier_key::load(data_dir)?.unwrap_or_else(identifier_key::replay_key);
    let pseudonym: sinks::redact::Pseudonym = Arc::new(move |tenant, text| key.hash(tenant, text).0);
    // Not locked: the sink may be standard output itself.
    let mut out = std::io::stdout();
    for finding in probe::findings(clock.now()) {
        let (revision_id, lifecycle) = (finding.revision_id, finding.lifecycle);
        let deliveries = sink.deliver(&[redaction.apply(finding, &pseudonym)]).await;
        let delivery = deliveries.into_iter().next().unwrap_or_else(|| Delivery::retry("the sink gave no result"));
        let said = sink.last_answer().or_else(|| delivery.reason().map(str::to_owned)).unwrap_or_default();
        writeln!(out, "{name}: {} {revision_id}: {}", lifecycle.as_str(), delivery.as_str())?;
        for line in [delivery.reason().filter(|reason| *reason != said), Some(said.as_str())].into_iter().flatten() {
            if !line.is_empty() {
                writeln!(out, "  {line}")?;
            }
        }
        if delivery != Delivery::Accepted {
            return Ok(Exit::Failed);
        }
    }
    Ok(Exit::Done)
}
