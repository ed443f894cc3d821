//! Labelled traffic: what people's sign-ins look like, and attacks among them, with the truth about each attempt.
//!
//! Figures for the legitimate side (failure share 20.7 %, how long a bout of failures lasts, heavy-tailed use, networks
//! shared by few or by thousands) follow published measurements; each constant names its own.
//!
//! Invariant: a [`Plan`] fixes every byte: the same plan gives the same attempts, in order of time, on every run. Memory
//! does not grow with the span: at any moment only the bouts under way and one minute of new ones are held.
//!
//! Not here: judging. Nothing in `detect` knows this module, so that the detector cannot learn the simulator by heart.

use crate::event::Timestamp;

pub mod attack;
pub mod benign;
mod bout;
mod campaign;
pub mod delivery;
pub mod event;
mod legit;
pub mod parse;
mod population;
pub mod post;
mod random;
pub mod render;

pub use attack::{Attack, AttackKind, Origin, Victims};
pub use benign::{Benign, BenignKind};

use campaign::Campaign;
use legit::Legit;
use population::Population;
use random::Random;

/// More accounts than the largest tenant needs; the table of their rates takes 8 bytes each.
pub const MAX_ACCOUNTS: u32 = 10_000_000;
/// Attacks and benign scenarios at one time; each next attempt is a scan over them.
const MAX_SCENARIOS: usize = 64;
/// The latest year RFC 3339 can write, with room for any span.
const MAX_MILLIS: i64 = 250_000_000_000_000;

/// What to simulate.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Two plans that differ only here are two draws of the same traffic.
    pub seed: u64,
    /// When it begins. Plans of one seed that begin at different moments are different days of the same people.
    pub start: Timestamp,
    /// How long it lasts; `None`: until nobody asks any more.
    pub span_millis: Option<i64>,
    /// `instance_id` of every attempt.
    pub tenant: String,
    /// How many accounts there are.
    pub accounts: u32,
    /// How often they sign in.
    pub load: Load,
    /// Failures after which an account is locked for an hour; 0: never. Counted for each person's bout and each attack.
    pub lockout: u32,
    /// Hostile traffic.
    pub attacks: Vec<Attack>,
    /// Traffic that looks hostile and is not.
    pub benign: Vec<Benign>,
}

/// How much legitimate traffic there is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// Mean sign-ins of an account per day; rates differ between accounts, hours and weekends.
    PerAccountPerDay(f64),
    /// Attempts per second at all hours, every account alike.
    PerSecond(f64),
}

/// Why a plan cannot be simulated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PlanError(String);

impl PlanError {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

/// One attempt, before it is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// When it is made.
    pub at: Timestamp,
    /// From where.
    pub ip: std::net::IpAddr,
    /// Who is named.
    pub identity: Identity,
    /// How it ends.
    pub ending: Ending,
    /// Index into [`render::AGENTS`].
    pub agent: u8,
    /// The scenario it belongs to, if it is not everyday traffic.
    pub scenario: Option<Scenario>,
}

impl Attempt {
    /// Whether it lets its maker into an account; that of an attack, into somebody else's.
    #[must_use]
    pub const fn is_hit(&self) -> bool {
        matches!(self.ending, Ending::SignedIn) && !matches!(self.identity, Identity::Own(_))
    }
}

/// Who an attempt names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// An account that exists.
    Account(u32),
    /// The owner of an account misspelt the identifier.
    Misspelt(u32),
    /// An entry of a leaked list that names nobody here.
    Leaked(u64),
    /// An account that an attacker opened for himself.
    Own(u64),
}

/// How an attempt ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// A session.
    SignedIn,
    /// `form_password_incorrect`
    WrongPassword,
    /// `form_identifier_not_found`
    UnknownIdentifier,
    /// `user_locked`
    Locked,
    /// `too_many_requests`
    RateLimited,
    /// `verification_failed`, whatever was typed.
    Outage,
}

/// Which scenario an attempt belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Index into [`Plan::attacks`].
    Attack(u8),
    /// Index into [`Plan::benign`].
    Benign(u8),
}

/// The attempts of a plan, in order of time.
#[derive(Debug)]
pub struct Traffic {
    legit: Legit,
    next_legit: Option<Attempt>,
    campaigns: Vec<(Attempt, Campaign)>,
}

impl Traffic {
    /// Prepares `plan`.
    ///
    /// # Errors
    /// A figure is out of range.
    pub fn new(plan: &Plan) -> Result<Self, PlanError> {
        check(plan)?;
        let population = Population::new(plan);
        let hostile =
            plan.attacks.iter().enumerate().map(|(index, attack)| Campaign::new(plan, index, attack, &population));
        let mut campaigns = Vec::with_capacity(plan.attacks.len());
        for campaign in hostile {
            let mut campaign = campaign?;
            if let Some(first) = campaign.next() {
                campaigns.push((first, campaign));
            }
        }
        let mut legit = Legit::new(plan, population)?;
        Ok(Self { next_legit: legit.next(), legit, campaigns })
    }
}

impl Iterator for Traffic {
    type Item = Attempt;

    fn next(&mut self) -> Option<Attempt> {
        let earliest = self.campaigns.iter_mut().enumerate().min_by_key(|(_, (next, _))| next.at);
        let hostile_first = match (&earliest, self.next_legit) {
            (Some((_, (hostile, _))), Some(legit)) => hostile.at < legit.at,
            (hostile, _) => hostile.is_some(),
        };
        if !hostile_first {
            return std::mem::replace(&mut self.next_legit, self.legit.next());
        }
        let (index, (next, campaign)) = earliest?;
        let attempt = *next;
        match campaign.next() {
            Some(following) => *next = following,
            None => drop(self.campaigns.swap_remove(index)),
        }
        Some(attempt)
    }
}

fn check(plan: &Plan) -> Result<(), PlanError> {
    let refuse = |what: String| Err(PlanError(what));
    if !(1..=MAX_ACCOUNTS).contains(&plan.accounts) {
        return refuse(format!("accounts must be from 1 to {MAX_ACCOUNTS}"));
    }
    let (name, load, most) = match plan.load {
        Load::PerAccountPerDay(load) => ("sign-ins per account and day", load, 1000.0),
        Load::PerSecond(load) => ("attempts per second", load, 100_000.0),
    };
    if !(0.0..=most).contains(&load) {
        return refuse(format!("{name} must be from 0 to {most}"));
    }
    if plan.attacks.len() > MAX_SCENARIOS || plan.benign.len() > MAX_SCENARIOS {
        return refuse(format!("at most {MAX_SCENARIOS} attacks and {MAX_SCENARIOS} benign scenarios"));
    }
    let span = plan.span_millis.unwrap_or(0);
    if span < 0 || !(0..=MAX_MILLIS).contains(&plan.start.plus_millis(span).0) || plan.start.0 < 0 {
        return refuse("the span must lie between the years 1970 and 9000".to_owned());
    }
    if plan.tenant.is_empty() || plan.tenant.len() > 100 || plan.tenant.chars().any(char::is_control) {
        return refuse("the instance must be 1 to 100 printable characters".to_owned());
    }
    Ok(())
}

impl Plan {
    /// Where a scenario without `at` begins: the middle, so that there is something to learn from before it.
    fn middle(&self) -> i64 {
        self.span_millis.unwrap_or(0) / 2
    }

    /// The generator of what people do, which is another for each moment of beginning.
    fn random_from_start(&self, part: u64) -> Random {
        Random::new(random::mix(self.seed ^ random::mix(part)) ^ self.start.0.unsigned_abs())
    }

    /// A generator of its own for each part, so that adding an attack changes nothing else.
    fn random(&self, part: u64) -> Random {
        Random::new(random::mix(self.seed ^ random::mix(part)))
    }
}
