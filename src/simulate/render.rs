//! Attempts as the JSON lines that `POST /v1/attempts` takes, and the truth about them as lines of its own.
//!
//! Invariant: no two plans share an id, so that one run is never taken for the redelivery of another; the same plan
//! always has the same ids.

use std::fmt;
use std::hash::Hasher as _;
use std::io::Write as _;

use super::{Attempt, Ending, Identity, Plan, Scenario};
use crate::event::Timestamp;

/// Browsers first, then scripts.
pub const AGENTS: [&str; 9] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.1 Safari/605.1.15",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.1 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:145.0) Gecko/20100101 Firefox/145.0",
    "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
    "python-requests/2.32.5",
    "Go-http-client/2.0",
    "HeadlessTests/1.0",
];
pub(super) const BROWSERS: u8 = 6;
/// What attackers with few addresses use, and test suites.
pub(super) const SCRIPTS: u8 = 3;

/// Writes attempts down.
#[derive(Debug)]
pub struct Renderer {
    run: u64,
    made: u64,
    /// The tenant as JSON, quotes included.
    tenant: String,
    names: Names,
    /// The minute of the last attempt, and how it is written.
    minute: i64,
    minute_text: String,
}

/// What scenarios are called.
#[derive(Debug)]
struct Names {
    attacks: Vec<&'static str>,
    benign: Vec<&'static str>,
}

impl Renderer {
    /// For the attempts of `plan`.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        Self {
            run: run(plan),
            made: 0,
            tenant: serde_json::Value::from(plan.tenant.as_str()).to_string(),
            names: Names {
                attacks: plan.attacks.iter().map(|attack| attack.kind.as_str()).collect(),
                benign: plan.benign.iter().map(|benign| benign.kind.as_str()).collect(),
            },
            minute: i64::MIN,
            minute_text: String::new(),
        }
    }

    /// Appends one line to `line`, and to `truth` one if the attempt belongs to a scenario.
    ///
    /// # Errors
    /// None: a vector takes every byte.
    pub fn write(&mut self, attempt: &Attempt, line: &mut Vec<u8>, truth: &mut Vec<u8>) -> std::io::Result<()> {
        let number = self.made;
        self.made += 1;
        let run = self.run;
        let (outcome, reason) = words(attempt.ending);
        write!(line, "{{\"id\":\"sim-{run:016x}-{number}\",\"occurred_at\":\"")?;
        self.moment(attempt.at, line)?;
        write!(line, "\",\"outcome\":\"{outcome}\"")?;
        if let Some(reason) = reason {
            write!(line, ",\"reason\":\"{reason}\"")?;
        }
        write!(line, ",\"ip\":\"{}\"", attempt.ip)?;
        who(attempt.identity, line)?;
        let agent = AGENTS.get(usize::from(attempt.agent)).copied().unwrap_or_default();
        write!(line, ",\"user_agent\":\"{agent}\",\"instance_id\":{}", self.tenant)?;
        if attempt.ending == Ending::SignedIn {
            write!(line, ",\"session_id\":\"sess_sim{run:016x}{number}\"")?;
        }
        line.extend_from_slice(b"}\n");

        let Some(scenario) = attempt.scenario else { return Ok(()) };
        let (name, hostile, index) = self.names.of(scenario);
        let hit = hostile && attempt.is_hit();
        write!(
            truth,
            "{{\"id\":\"sim-{run:016x}-{number}\",\"scenario\":\"{name}\",\"index\":{index},\"hostile\":{hostile}"
        )?;
        write!(truth, ",\"ip\":\"{}\"", attempt.ip)?;
        who(attempt.identity, truth)?;
        writeln!(truth, ",\"hit\":{hit}}}")
    }

    /// RFC 3339 with milliseconds. Attempts come in order, so the minute is written out once and used again.
    fn moment(&mut self, at: Timestamp, line: &mut Vec<u8>) -> std::io::Result<()> {
        let minute = at.0.div_euclid(60_000);
        if minute != self.minute {
            self.minute = minute;
            self.minute_text = Timestamp(minute.saturating_mul(60_000)).to_string();
            self.minute_text.truncate("2026-01-05T00:00:".len());
        }
        let millis = at.0.rem_euclid(60_000);
        write!(line, "{}{:02}.{:03}Z", self.minute_text, millis / 1000, millis % 1000)
    }
}

impl Names {
    fn of(&self, scenario: Scenario) -> (&'static str, bool, u8) {
        let (names, hostile, index) = match scenario {
            Scenario::Attack(index) => (&self.attacks, true, index),
            Scenario::Benign(index) => (&self.benign, false, index),
        };
        (names.get(usize::from(index)).copied().unwrap_or_default(), hostile, index)
    }
}

/// What tells the ids of `plan` from those of any other.
pub(super) fn run(plan: &Plan) -> u64 {
    let mut run = siphasher::sip::SipHasher13::new();
    run.write(format!("{plan:?}").as_bytes());
    run.finish()
}

/// The outcome and Clerk's code for it.
pub(super) const fn words(ending: Ending) -> (&'static str, Option<&'static str>) {
    match ending {
        Ending::SignedIn => ("success", None),
        Ending::WrongPassword => ("failure", Some("form_password_incorrect")),
        Ending::UnknownIdentifier => ("failure", Some("form_identifier_not_found")),
        Ending::Locked => ("locked", Some("user_locked")),
        Ending::RateLimited => ("rate_limited", Some("too_many_requests")),
        Ending::Outage => ("failure", Some("verification_failed")),
    }
}

fn who(identity: Identity, line: &mut Vec<u8>) -> std::io::Result<()> {
    if let Some(user) = identity.user() {
        write!(line, ",\"user_id\":\"{user}\"")?;
    }
    write!(line, ",\"identifier\":\"{}\"", identity.identifier())
}

impl Identity {
    /// The Clerk user id, where the identifier is somebody's.
    pub(super) fn user(self) -> Option<impl fmt::Display> {
        let (kind, number) = match self {
            Self::Account(account) => ("", u64::from(account)),
            Self::Own(number) => ("own", number),
            Self::Misspelt(_) | Self::Leaked(_) => return None,
        };
        Some(fmt::from_fn(move |f| write!(f, "user_sim{kind}{number:08}")))
    }

    /// What was typed.
    pub(super) fn identifier(self) -> impl fmt::Display {
        fmt::from_fn(move |f| match self {
            Self::Account(account) => write!(f, "person{account}@example.com"),
            Self::Misspelt(account) => write!(f, "preson{account}@example.com"),
            Self::Leaked(entry) => write!(f, "leaked{entry:x}@example.net"),
            Self::Own(number) => write!(f, "own{number}@example.org"),
        })
    }
}
