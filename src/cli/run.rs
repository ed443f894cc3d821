//! `authspike run`: the program itself, from configuration to exit code.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use super::{ConfigArgs, Exit, demo};
use crate::app::App;
use crate::app::reload::Read;
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

SIGHUP reads the configuration again: [detect] is in force at once and keeps what was counted; for the rest a warning \
names what needs a restart. With a fault in it all stays as it was.

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
    let flags = args.config.into();
    let loaded = config::load(&flags, &environment, need)?;
    logging::init(&loaded.config.logging, environment.log_filter())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("authspike")
        .build()
        .context("cannot start the runtime")?;
    let read = (!args.demo).then(|| -> Read {
        let environment = environment.clone();
        Arc::new(move || config::load(&flags, &environment, need))
    });
    let ended = runtime.block_on(serve(loaded, read));
    // Whatever is left runs on nobody's behalf: what had to be finished is finished, or its deadline has passed.
    runtime.shutdown_background();
    ended
}

/// Without `read` it is a demonstration, whose configuration is not that of the file.
async fn serve(mut loaded: Loaded, read: Option<Read>) -> anyhow::Result<Exit> {
    let shutdown = Shutdown::on_signals().context("cannot listen for signals")?;
    // From the start: until somebody listens, a hang-up ends the process.
    let hangups =
        read.is_some().then(|| signal(SignalKind::hangup())).transpose().context("cannot listen for SIGHUP")?;
    let deadline = Duration::from_secs(loaded.config.shutdown_seconds);
    let demo = read.is_none().then(|| demo::Demo::prepare(&mut loaded)).transpose()?;
    let app = App::build(&loaded.config, loaded.secrets.clone()).await?;
    let ingest = app.ingest_addr().map(tracing::field::display);
    let fapi_proxy = app.fapi_proxy_addr().map(tracing::field::display);
    tracing::info!(ingest, fapi_proxy, admin = %app.admin_addr(), "listening");
    if let (Some(demo), Some(ingest)) = (demo, app.ingest_addr()) {
        demo.start(ingest, app.admin_addr(), shutdown.requested.clone())?;
    }
    let reload = read.zip(hangups).map(|(read, hangups)| {
        let stop = shutdown.requested.clone();
        app.reload(loaded, read).run(hangups, stop)
    });
    let running = app.run(shutdown.requested.clone());
    let running = Box::pin(async {
        match reload {
            Some(reload) => tokio::join!(running, reload).0,
            None => running.await,
        }
    });
    let Some(stopped) = shutdown.bound(deadline, running).await else {
        tracing::error!("not finished before the deadline; what is missing is picked up at the next start");
        return Ok(Exit::DeadlineMissed);
    };
    stopped?;
    Ok(Exit::Done)
}
