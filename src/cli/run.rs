//! `authspike run`: the program itself, from configuration to exit code.

use std::time::Duration;

use anyhow::Context as _;

use super::{ConfigArgs, Exit, demo};
use crate::app::App;
use crate::config::{self, Environment, Loaded, Need};
use crate::logging;
use crate::shutdown::Shutdown;

const EXAMPLES: &str = "\
Examples:
  CLERK_WEBHOOK_SIGNING_SECRET=whsec_… AUTHSPIKE_ATTEMPTS_TOKEN=… authspike run
  authspike run --config /etc/authspike.toml --listen 0.0.0.0:8080
  authspike run --demo

Secrets come from the environment, each several by commas, or <NAME>_FILE with the path of a file:
  CLERK_WEBHOOK_SIGNING_SECRET  POST /webhooks/clerk (also: CLERK_WEBHOOK_SECRET)
  AUTHSPIKE_ATTEMPTS_SECRET     POST /v1/attempts, signed
  AUTHSPIKE_ATTEMPTS_TOKEN      POST /v1/attempts, with a bearer token
  AUTHSPIKE_ADMIN_TOKEN         the admin listener
Any key of the configuration file can be set in the environment too: AUTHSPIKE_INGEST__LISTEN=0.0.0.0:8080

SIGTERM or SIGINT stops it: nothing new is taken, what is there is finished. Exit code 0 if that was done within \
shutdown_seconds, 75 if not (or after a second signal), 64 if the configuration is wrong, 1 if something failed.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Show what it does on simulated traffic with an attack in it; keeps its data in `demo` below the data directory
    #[arg(long)]
    demo: bool,
}

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    let environment = Environment::of_process();
    let need = if args.demo { Need::Nothing } else { Need::Source };
    let loaded = config::load(&args.config.into(), &environment, need)?;
    logging::init(&loaded.config.logging, environment.log_filter())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("authspike")
        .build()
        .context("cannot start the runtime")?;
    let ended = runtime.block_on(serve(loaded, args.demo));
    // Whatever is left runs on nobody's behalf: what had to be finished is finished, or its deadline has passed.
    runtime.shutdown_background();
    ended
}

async fn serve(mut loaded: Loaded, with_demo: bool) -> anyhow::Result<Exit> {
    let shutdown = Shutdown::on_signals().context("cannot listen for signals")?;
    let deadline = Duration::from_secs(loaded.config.shutdown_seconds);
    let demo = with_demo.then(|| demo::Demo::prepare(&mut loaded)).transpose()?;
    let app = App::build(&loaded.config, loaded.secrets).await?;
    tracing::info!(ingest = %app.ingest_addr(), admin = %app.admin_addr(), "listening");
    if let Some(demo) = demo {
        demo.start(app.ingest_addr(), app.admin_addr(), shutdown.requested.clone())?;
    }
    let running = app.run(shutdown.requested.clone());
    let Some(stopped) = shutdown.bound(deadline, running).await else {
        tracing::error!("not finished before the deadline; what is missing is picked up at the next start");
        return Ok(Exit::DeadlineMissed);
    };
    stopped?;
    Ok(Exit::Done)
}
