//! `authspike topics`: what Kafka needs before authspike can run on it.

use std::io::Write as _;

use anyhow::{Context as _, anyhow};

use super::{ConfigArgs, Exit};
use crate::config::{self, Environment, Need};
use crate::log::kafka::{Clients, topics};
use crate::logging;

const EXAMPLES: &str = "\
Examples:
  authspike topics > topics.sh            the commands, for whoever runs the cluster
  authspike topics --create               creates what is not there, with the rights of the configured user

Names, partitions and copies come from [kafka]. Partitions cannot be changed later: a tenant's events must stay in one.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Create the topics instead of printing how
    #[arg(long)]
    create: bool,
}

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    let environment = Environment::of_process();
    let loaded = config::load(&args.config.into(), &environment, Need::Nothing)?;
    let mut out = std::io::stdout().lock();
    if !args.create {
        write!(out, "{}", topics::commands(&loaded.config.kafka))?;
        return Ok(Exit::Done);
    }
    if !loaded.config.kafka.is_on() {
        return Err(anyhow!("kafka.brokers is not set (also: AUTHSPIKE_KAFKA_BROKERS)"));
    }
    logging::init(&loaded.config.logging, environment.log_filter())?;
    let clients = Clients::new(loaded.config.kafka, loaded.secrets.kafka);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    for line in runtime.block_on(topics::create(&clients)).map_err(|faults| anyhow!(faults))? {
        writeln!(out, "{line}")?;
    }
    Ok(Exit::Done)
}
