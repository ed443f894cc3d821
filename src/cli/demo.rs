//! `authspike run --demo`: the running instance, attacked before the reader's eyes.
//!
//! Invariant: nothing is staged inside. The traffic is posted to the instance's own `POST /v1/attempts` with a token made
//! for this run, so what is seen is what the program does with anybody's attempts. It stays apart: a directory of its own
//! and the tenant `ins_demo`; the real secrets are not in force.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{Config, Loaded, Secrets};
use crate::secret::Secret;
use crate::simulate::post::{Credential, Pace, Poster, Target};
use crate::simulate::render::Renderer;
use crate::simulate::{Attack, AttackKind, Load, Plan, Traffic, Victims};

/// Quiet time before the attack: enough to see that nothing is reported.
const QUIET_MILLIS: i64 = 15_000;
/// Attempts a second of a mid-sized app's busy hour.
const LEGIT_PER_SECOND: f64 = 30.0;
/// So many accounts make that traffic that none of them, and no network they share, stands out.
const ACCOUNTS: u32 = 5_000_000;

/// A demonstration that has its token and waits for the instance.
pub(super) struct Demo {
    token: Secret,
}

impl Demo {
    /// Turns a real configuration into that of a demonstration.
    ///
    /// # Errors
    /// The system has no randomness for a token.
    pub(super) fn prepare(loaded: &mut Loaded) -> anyhow::Result<Self> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        let token = Secret::new(bytes.iter().fold(String::new(), |mut text, byte| {
            // Writing to a string does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        }));
        loaded.config.data_dir.push("demo");
        // A demonstration is nobody's alert.
        loaded.config.sinks = loaded.config.sinks.here();
        // On this machine alone, whatever the real one runs on.
        loaded.config.kafka = Config::default().kafka;
        loaded.config.roles = Config::default().roles;
        let admin_tokens = std::mem::take(&mut loaded.secrets.admin_tokens);
        loaded.secrets = Secrets { attempts_tokens: vec![token.clone()], admin_tokens, ..Secrets::default() };
        Ok(Self { token })
    }

    /// Sends traffic to `ingest` until `stop`.
    ///
    /// # Errors
    /// The target or the client cannot be made.
    pub(super) fn start(self, ingest: SocketAddr, admin: SocketAddr, stop: CancellationToken) -> anyhow::Result<()> {
        let clock = Clock::system();
        let plan = plan(&clock);
        let traffic = Traffic::new(&plan)?;
        let mut renderer = Renderer::new(&plan);
        let target = Target::new(&format!("http://{}", reachable(ingest)), Credential::Token(self.token))?;
        let mut poster = Poster::new(target, Pace::RealTime, false, clock)?;
        tracing::info!(
            metrics = format!("http://{}/metrics", reachable(admin)),
            "demo: {LEGIT_PER_SECOND} sign-in attempts a second; in {} s five addresses start trying leaked passwords",
            QUIET_MILLIS / 1000
        );
        tokio::spawn(async move {
            if let Err(fault) = poster.run(traffic, &mut renderer, &stop, |_| Ok(())).await {
                tracing::error!("demo: no more traffic: {fault}");
            }
        });
        Ok(())
    }
}

fn plan(clock: &Clock) -> Plan {
    let attack = Attack {
        at: Some(QUIET_MILLIS),
        span_millis: 90_000,
        attempts: 900,
        addresses: 5,
        victims: Victims::List { known: 0.15 },
        hits: Some(2),
        ..AttackKind::Stuffing.usual()
    };
    let start = clock.now();
    Plan {
        // Another draw at each start: a repeat would look like a recording.
        seed: start.0.unsigned_abs(),
        start,
        span_millis: None,
        tenant: "ins_demo".to_owned(),
        accounts: ACCOUNTS,
        load: Load::PerSecond(LEGIT_PER_SECOND),
        lockout: 10,
        attacks: vec![attack],
        benign: Vec::new(),
    }
}

/// An address to connect to, for one that is listened on: `0.0.0.0` is everywhere, and so also here.
fn reachable(listening: SocketAddr) -> SocketAddr {
    let ip = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, listening.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Timestamp;
    use crate::simulate::{Ending, Scenario};

    #[test]
    fn the_attack_comes_after_fifteen_quiet_seconds_and_breaks_into_two_accounts() {
        let start = Timestamp(1_767_571_200_000);
        let plan = plan(&Clock::held(start));
        let first_two_minutes: Vec<_> =
            Traffic::new(&plan).unwrap().take_while(|attempt| attempt.at < start.plus_millis(120_000)).collect();
        let (hostile, everyday): (Vec<_>, Vec<_>) =
            first_two_minutes.into_iter().partition(|attempt| attempt.scenario == Some(Scenario::Attack(0)));
        assert_eq!(hostile.len(), 900);
        assert!(hostile[0].at.millis_since(start) >= QUIET_MILLIS);
        assert_eq!(hostile.iter().filter(|attempt| attempt.ending == Ending::SignedIn).count(), 2);
        // 30 a second for two minutes.
        assert!((3300..3900).contains(&everyday.len()), "{}", everyday.len());
        // Within a minute the slowest of the five has tried dozens of accounts.
        let early = hostile.iter().filter(|attempt| attempt.at < start.plus_millis(30_000)).count();
        assert!(early / 5 >= 25, "{early}");
    }

    #[test]
    fn everywhere_is_reached_on_loopback() {
        for (listening, expected) in
            [("0.0.0.0:80", "127.0.0.1:80"), ("[::]:80", "[::1]:80"), ("10.1.2.3:80", "10.1.2.3:80")]
        {
            assert_eq!(reachable(listening.parse().unwrap()).to_string(), expected);
        }
    }
}
