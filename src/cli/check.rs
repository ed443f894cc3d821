//! `authspike check`: everything `run` would refuse, without starting.

use std::io::Write as _;

use super::{ConfigArgs, Exit};
use crate::config::{self, Environment, Need};

const EXAMPLES: &str = "\
Example:
  authspike check --config /etc/authspike.toml

One line per fault on stderr: file, variable or flag, then the key, then what is wrong. Exit code 64 if there is one.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    let loaded = config::load(&args.config.into(), &Environment::of_process(), Need::Source)?;
    let on = |is_on: bool| if is_on { "on" } else { "off: no secret" };
    let (config, secrets) = (&loaded.config, &loaded.secrets);
    let file = loaded.file.as_ref().map_or_else(|| "none".to_owned(), |file| file.display().to_string());
    let mut out = std::io::stdout().lock();
    writeln!(out, "configuration ok")?;
    writeln!(out, "  file                 {file}")?;
    writeln!(out, "  data directory       {}", config.data_dir.display())?;
    writeln!(out, "  ingest listener      {}", config.ingest.listen)?;
    writeln!(out, "  admin listener       {}", config.admin.listen)?;
    writeln!(out, "  POST /webhooks/clerk {}", on(!secrets.clerk_webhook.is_empty()))?;
    let attempts = !(secrets.attempts.is_empty() && secrets.attempts_tokens.is_empty());
    writeln!(out, "  POST /v1/attempts    {}", on(attempts))?;
    writeln!(out, "  files followed       {}", config.ingest.file.len())?;
    writeln!(out, "  sinks                {}", config.sinks.names().join(", "))?;
    let detect = &config.detect;
    let shadow = if detect.shadowed().is_some() { &detect.shadow.name } else { "off" };
    writeln!(out, "  allow list           {} entries", detect.allow.len())?;
    writeln!(out, "  own thresholds       {} tenants", detect.tenants.len())?;
    writeln!(out, "  shadow thresholds    {shadow}")?;
    if !attempts && config.ingest.file.is_empty() {
        writeln!(
            out,
            "note: no source of failed sign-ins: Clerk's webhooks carry none, so attacks that fail stay unseen"
        )?;
    }
    Ok(Exit::Done)
}
