//! `authspike simulate`: labelled traffic to a file, or to a running instance.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};

use super::Exit;
use crate::clock::{Clock, Stopwatch};
use crate::config::{Environment, secrets};
use crate::event::Timestamp;
use crate::logging;
use crate::shutdown::Shutdown;
use crate::simulate::post::{self, Credential, Pace, Poster, Target};
use crate::simulate::render::Renderer;
use crate::simulate::{Attack, Benign, Load, Plan, PlanError, Traffic, parse};
use crate::sources::signature::SigningKey;

/// A system call for every few hundred lines.
const BUFFER_BYTES: usize = 1 << 18;

const EXAMPLES: &str = "\
Examples:
  authspike simulate --for 14d --attack stuffing --truth truth.ndjson > attempts.ndjson
  authspike simulate --attack botnet:addresses=200,hits=4 --benign office-rush | authspike replay -
  AUTHSPIKE_ATTEMPTS_TOKEN=… authspike simulate --per-second 50 --attack stuffing:at=1m \\
    --to http://127.0.0.1:8080 --now

Attacks: stuffing, botnet, wide-botnet, proxies, low-and-slow, drip, network, ipv6, carrier-nat, office, spraying, \
guessing, distributed-guessing, enumeration, fan-out. Each takes :key=value,… with the keys at, for (spans: 90s, 10m, 6h, 2d), \
attempts, addresses, hits (accounts broken into), known (share of the tried list that exists; not for spraying and \
guessing), accounts (spraying), origin (anywhere, one-network, one-slash-64, one-slash-56, one-slash-48, homes, carrier, \
office), growth (0.25: a quarter faster each day), padding (share of tries that are sign-ins to accounts of the attacker's own), \
limit (tries of an address and minute before 429), hosts (attacks with one number have the same addresses). Without `at` \
it begins in the middle.

Benign scenarios: office-rush, stale-password, nightly-test, outage, spike, forced-reset, egress-change, gathering, with \
the keys at, for, count.

--to sends with the first of AUTHSPIKE_ATTEMPTS_TOKEN, else of AUTHSPIKE_ATTEMPTS_SECRET; the exit code is 1 if an \
attempt was refused. --truth gets one line for each attempt of a scenario: id, scenario, hostile, ip, account, hit.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Two runs with the same settings and seed give the same bytes
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long the traffic lasts
    #[arg(long = "for", value_name = "SPAN", default_value = "1d", value_parser = span)]
    span_millis: i64,
    /// When it begins (RFC 3339)
    #[arg(long, value_name = "TIME", default_value = "2026-01-05T00:00:00Z", value_parser = moment)]
    start: Timestamp,
    /// How many accounts there are
    #[arg(long, value_name = "N", default_value_t = 5000)]
    users: u32,
    /// Mean sign-ins of an account per day, rising and falling with the hour and the weekday
    #[arg(long, value_name = "N", default_value_t = 0.25)]
    per_day: f64,
    /// Instead: so many attempts per second at all hours
    #[arg(long, value_name = "N", conflicts_with = "per_day")]
    per_second: Option<f64>,
    /// The Clerk instance of every attempt
    #[arg(long, value_name = "ID", default_value = "ins_simulated")]
    instance: String,
    /// Failures after which an account is locked for an hour (0: never)
    #[arg(long, value_name = "N", default_value_t = 10)]
    lockout: u32,
    /// An attack; may be repeated
    #[arg(long = "attack", value_name = "KIND[:key=value,…]", value_parser = Attack::parse)]
    attacks: Vec<Attack>,
    /// Something that looks like an attack and is none; may be repeated
    #[arg(long = "benign", value_name = "KIND[:key=value,…]", value_parser = Benign::parse)]
    benign: Vec<Benign>,
    /// Write the attempts here [default: stdout]
    #[arg(long, value_name = "FILE", conflicts_with = "to")]
    out: Option<PathBuf>,
    /// Write the truth about the attacks' attempts here
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,
    /// Post the attempts to this instance, with the token or secret that it has, from the environment
    #[arg(long, value_name = "http://HOST:PORT")]
    to: Option<String>,
    /// Post so many attempts per second [default: as fast as they are taken]
    #[arg(long, value_name = "N", requires = "to", value_parser = rate)]
    rate: Option<f64>,
    /// Post in real time from now on; with --rate, every attempt happens when it is posted
    #[arg(long, requires = "to", conflicts_with = "start")]
    now: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let clock = Clock::system();
    let plan = Plan {
        seed: args.seed,
        start: if args.now { clock.now() } else { args.start },
        span_millis: Some(args.span_millis),
        tenant: args.instance.clone(),
        accounts: args.users,
        load: args.per_second.map_or(Load::PerAccountPerDay(args.per_day), Load::PerSecond),
        lockout: args.lockout,
        attacks: args.attacks.clone(),
        benign: args.benign.clone(),
    };
    let traffic = Traffic::new(&plan)?;
    let renderer = Renderer::new(&plan);
    let truth = Truth::create(args.truth.as_deref())?;
    match &args.to {
        Some(to) => post(args, to, traffic, renderer, truth, clock),
        None => write(args.out.as_deref(), traffic, renderer, truth),
    }
}

fn write(out: Option<&Path>, traffic: Traffic, mut renderer: Renderer, mut truth: Truth) -> anyhow::Result<Exit> {
    let sink: Box<dyn Write> = match out {
        Some(path) => Box::new(create(path)?),
        None => Box::new(io::stdout().lock()),
    };
    let mut sink = BufWriter::with_capacity(BUFFER_BYTES, sink);
    let watch = Stopwatch::start();
    let (mut lines, mut labels) = (Vec::new(), Vec::new());
    let (mut attempts, mut labelled) = (0_u64, 0_u64);
    for attempt in traffic {
        lines.clear();
        labels.clear();
        renderer.write(&attempt, &mut lines, &mut labels)?;
        sink.write_all(&lines)?;
        truth.write(&labels)?;
        attempts += 1;
        labelled += u64::from(!labels.is_empty());
    }
    sink.flush()?;
    truth.flush()?;
    let seconds = watch.elapsed().as_secs_f64();
    note(&format!("{attempts} attempts, {labelled} of them labelled, in {seconds:.1} s"))?;
    Ok(Exit::Done)
}

fn post(
    args: &Args,
    to: &str,
    traffic: Traffic,
    mut renderer: Renderer,
    mut truth: Truth,
    clock: Clock,
) -> anyhow::Result<Exit> {
    let environment = Environment::of_process();
    logging::init(&logging::Config::default(), environment.log_filter())?;
    let secrets = secrets::for_sending(&environment)?;
    let credential = match (secrets.attempts_tokens.first(), secrets.attempts.first()) {
        (Some(token), _) => Credential::Token(token.clone()),
        (None, Some(secret)) => Credential::Signing(SigningKey::new(secret).map_err(|_| post::PostError::Secret)?),
        (None, None) => return Err(anyhow!("no secret to send with")),
    };
    let pace = match (args.rate, args.now) {
        (Some(rate), _) => Pace::PerSecond(rate),
        (None, true) => Pace::RealTime,
        (None, false) => Pace::Unbounded,
    };
    let mut poster = Poster::new(Target::new(to, credential)?, pace, args.now && args.rate.is_some(), clock)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let watch = Stopwatch::start();
    let ended = runtime.block_on(async {
        let shutdown = Shutdown::on_signals().context("cannot listen for signals")?;
        let ended = poster.run(traffic, &mut renderer, &shutdown.requested, |labels| truth.write(labels)).await;
        ended.map_err(anyhow::Error::from)
    });
    truth.flush()?;
    let totals = poster.totals();
    note(&format!(
        "accepted {}, duplicates {}, refused {}; {} requests, {} retries, {:.1} s",
        totals.accepted,
        totals.duplicates,
        totals.refused,
        totals.requests,
        totals.retries,
        watch.elapsed().as_secs_f64()
    ))?;
    ended?;
    Ok(if totals.refused == 0 { Exit::Done } else { Exit::Failed })
}

/// The side file, or nothing.
struct Truth {
    file: Option<BufWriter<File>>,
}

impl Truth {
    fn create(path: Option<&Path>) -> anyhow::Result<Self> {
        let file = path.map(create).transpose()?.map(|file| BufWriter::with_capacity(BUFFER_BYTES, file));
        Ok(Self { file })
    }

    fn write(&mut self, labels: &[u8]) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), |file| file.write_all(labels))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), Write::flush)
    }
}

fn create(path: &Path) -> anyhow::Result<File> {
    File::create(path).with_context(|| format!("{} cannot be written", path.display()))
}

fn note(text: &str) -> io::Result<()> {
    writeln!(io::stderr().lock(), "authspike: {text}")
}

fn span(text: &str) -> Result<i64, PlanError> {
    parse::span(text)
}

fn moment(text: &str) -> Result<Timestamp, jiff::Error> {
    text.parse::<jiff::Timestamp>().map(|moment| Timestamp(moment.as_millisecond()))
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.001..=1_000_000.0).contains(&rate) => Ok(rate),
        _ => Err("must be from 0.001 to 1000000".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::{AttackKind, BenignKind};

    #[test]
    fn the_help_names_every_kind() {
        let names = AttackKind::ALL.map(AttackKind::as_str).into_iter().chain(BenignKind::ALL.map(BenignKind::as_str));
        for name in names {
            assert!(EXAMPLES.split(|c: char| !(c.is_alphanumeric() || c == '-')).any(|word| word == name), "{name}");
        }
    }
}
