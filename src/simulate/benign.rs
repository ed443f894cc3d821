//! Traffic that looks like an attack and is none: what false alarms are made of.
//!
//! Not here: everyday failures; those are in every plan (`bout`).

use std::net::IpAddr;

use super::bout::{Bout, pause};
use super::legit::{at_work, below, browser};
use super::parse::{self, Spec};
use super::population::Population;
use super::random::{Random, mix};
use super::render::{BROWSERS, SCRIPTS};
use super::{Attempt, Ending, Identity, Plan, PlanError, Scenario};
use crate::event::Timestamp;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// People who, after a reset, try the old password a second time before they read what happened.
const TRIES_TWICE: f64 = 0.5;
/// Most people or times of one scenario.
const MAX_COUNT: u32 = 1_000_000;

/// The kinds of benign scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BenignKind {
    /// 400 people sign in through one office address within a quarter of an hour.
    OfficeRush,
    /// A forgotten client tries an old password every minute for two days.
    StalePassword,
    /// A test suite fails twice on each of 20 accounts within four minutes.
    NightlyTest,
    /// For 20 minutes every sign-in fails, whoever it is.
    Outage,
    /// Five times the traffic for an hour.
    Spike,
    /// Every password was reset: over ten hours 2,000 people, each where they usually are, try the old one first.
    ForcedReset,
    /// An office reaches the internet by another address from one moment on.
    EgressChange,
    /// A trade fair or a first day of term: 300 people, each with their own device, sign in within an hour through one
    /// address that nobody has used before.
    Gathering,
}

/// One benign scenario.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Benign {
    /// What it is called.
    pub kind: BenignKind,
    /// Milliseconds from the plan's start; `None`: the middle of the plan.
    pub at: Option<i64>,
    /// How long it lasts.
    pub span_millis: i64,
    /// People, tries or test accounts; how many times the traffic; how many new addresses.
    pub count: u32,
}

impl BenignKind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::OfficeRush,
        Self::StalePassword,
        Self::NightlyTest,
        Self::Outage,
        Self::Spike,
        Self::ForcedReset,
        Self::EgressChange,
        Self::Gathering,
    ];

    /// Its name on the command line and in the truth.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OfficeRush => "office-rush",
            Self::StalePassword => "stale-password",
            Self::NightlyTest => "nightly-test",
            Self::Outage => "outage",
            Self::Spike => "spike",
            Self::ForcedReset => "forced-reset",
            Self::EgressChange => "egress-change",
            Self::Gathering => "gathering",
        }
    }

    /// A scenario of this kind as it usually is.
    #[must_use]
    pub const fn usual(self) -> Benign {
        let (span_millis, count) = match self {
            Self::OfficeRush => (15 * MINUTE, 400),
            Self::StalePassword => (48 * HOUR, 2880),
            Self::NightlyTest => (4 * MINUTE, 20),
            Self::Outage => (20 * MINUTE, 1),
            Self::Spike => (HOUR, 5),
            Self::ForcedReset => (10 * HOUR, 2000),
            Self::EgressChange => (14 * 24 * HOUR, 1),
            Self::Gathering => (HOUR, 300),
        };
        Benign { kind: self, at: None, span_millis, count }
    }
}

impl Benign {
    /// Reads `kind` or `kind:key=value,…` with the keys `at`, `for` and `count`.
    ///
    /// # Errors
    /// An unknown kind or key, or a value out of range.
    pub fn parse(text: &str) -> Result<Self, PlanError> {
        let spec = Spec::parse(text)?;
        let kind = BenignKind::ALL.into_iter().find(|kind| kind.as_str() == spec.kind).ok_or_else(|| {
            let known = BenignKind::ALL.map(BenignKind::as_str).join(", ");
            PlanError::new(format!("there is no benign scenario `{}`; there are: {known}", spec.kind))
        })?;
        let mut benign = kind.usual();
        for (key, value) in spec.settings {
            match key {
                "at" => benign.at = Some(parse::span(value)?),
                "for" => benign.span_millis = parse::span(value)?,
                "count" => benign.count = parse::value(key, value)?,
                _ => return Err(PlanError::new(format!("{}: `{key}` cannot be set here", kind.as_str()))),
            }
        }
        if benign.span_millis < 1000 || !(1..=MAX_COUNT).contains(&benign.count) {
            let what = format!("{}: it must last a second, with a count from 1 to {MAX_COUNT}", kind.as_str());
            return Err(PlanError::new(what));
        }
        Ok(benign)
    }
}

/// What a scenario does to everyday traffic.
#[derive(Clone, Debug)]
pub(super) struct Effect {
    benign: Benign,
    scenario: Scenario,
    seed: u64,
    lockout: u32,
    start: Timestamp,
    population: Population,
    /// Where those scenarios sit that have one place.
    office: IpAddr,
}

impl Effect {
    pub(super) fn new(plan: &Plan, index: usize, benign: &Benign, population: &Population) -> Result<Self, PlanError> {
        let index = u8::try_from(index).map_err(|_| PlanError::new("too many scenarios"))?;
        let seed = mix(plan.seed ^ mix(200 + u64::from(index)));
        Ok(Self {
            benign: *benign,
            scenario: Scenario::Benign(index),
            seed,
            lockout: plan.lockout,
            start: plan.start.plus_millis(benign.at.unwrap_or_else(|| plan.middle())),
            population: population.clone(),
            office: population.office_of(population.any(seed)),
        })
    }

    fn covers(&self, at: Timestamp) -> bool {
        (0..self.benign.span_millis).contains(&at.millis_since(self.start))
    }

    /// How many times the usual traffic.
    pub(super) fn busier(&self, at: Timestamp) -> f64 {
        if self.benign.kind == BenignKind::Spike && self.covers(at) { f64::from(self.benign.count) } else { 1.0 }
    }

    /// Whether nothing works at `at`.
    pub(super) fn outage(&self, at: Timestamp) -> Option<Scenario> {
        (self.benign.kind == BenignKind::Outage && self.covers(at)).then_some(self.scenario)
    }

    /// From where `account` signs in instead of `usual`, if its office has moved.
    pub(super) fn moved(&self, at: Timestamp, usual: IpAddr, account: u32) -> Option<(IpAddr, Scenario)> {
        let has_moved = self.benign.kind == BenignKind::EgressChange && usual == self.office && self.covers(at);
        let number = u64::from(account % self.benign.count);
        has_moved.then(|| (self.population.egress_of(self.population.any(self.seed), number), self.scenario))
    }

    /// What begins in `[from, until)`.
    pub(super) fn add(&self, from: Timestamp, until: Timestamp, random: &mut Random, mut give: impl FnMut(Attempt)) {
        match self.benign.kind {
            BenignKind::Outage | BenignKind::Spike | BenignKind::EgressChange => return,
            BenignKind::OfficeRush
            | BenignKind::StalePassword
            | BenignKind::NightlyTest
            | BenignKind::ForcedReset
            | BenignKind::Gathering => {}
        }
        let tests = BROWSERS + SCRIPTS - 1;
        for number in self.shares(from, until) {
            let at = self.begin(number);
            // A gathering meets behind an address of its own.
            let ip = if self.benign.kind == BenignKind::Gathering {
                self.population.egress_of(self.population.any(mix(self.seed)), 0)
            } else {
                self.office
            };
            match self.benign.kind {
                BenignKind::OfficeRush | BenignKind::Gathering => {
                    let account = self.population.any(mix(self.seed ^ u64::from(number)));
                    let agent = browser(account, at);
                    let (lockout, scenario) = (self.lockout, Some(self.scenario));
                    let bout = Bout { account, ip, agent, at, lockout, scenario };
                    bout.play(random, &mut give);
                }
                BenignKind::StalePassword => {
                    let account = self.population.any(self.seed);
                    let jitter = below(random, 1000);
                    let failure = self.failure(at.plus_millis(jitter), account, browser(account, self.start));
                    give(Attempt { ending: self.stale_ending(number), ..failure });
                }
                BenignKind::NightlyTest => {
                    let account = self.population.any(self.seed.wrapping_add(u64::from(number)));
                    give(self.failure(at, account, tests));
                    give(self.failure(at.plus_millis(1500), account, tests));
                }
                BenignKind::ForcedReset => self.reset(at, number, random, &mut give),
                BenignKind::Outage | BenignKind::Spike | BenignKind::EgressChange => {}
            }
        }
    }

    /// One person who does not know yet that the password was reset: once or twice the old one, then the new one.
    fn reset(&self, at: Timestamp, number: u32, random: &mut Random, give: &mut impl FnMut(Attempt)) {
        let account = self.population.any(mix(self.seed ^ u64::from(number)));
        let ip = self.population.address(account, at_work(at), random);
        let (mut at, agent) = (at, browser(account, at));
        let mut attempt = |at, ending| {
            let (identity, agent) = (Identity::Account(account), agent);
            give(Attempt { at, ip, identity, ending, agent, scenario: Some(self.scenario) });
        };
        for _ in 0..=u8::from(random.chance(TRIES_TWICE)) {
            attempt(at, Ending::WrongPassword);
            at = at.plus_millis(pause(random));
        }
        // The mail with the new one has to arrive first.
        attempt(at.plus_millis(MINUTE), Ending::SignedIn);
    }

    /// The client knows no lock: it fails until the account is locked, meets the lock for an hour, and begins again.
    fn stale_ending(&self, number: u32) -> Ending {
        let every = (self.benign.span_millis / i64::from(self.benign.count)).max(1);
        let locked = u32::try_from(HOUR / every).unwrap_or(u32::MAX);
        let is_locked = self.lockout > 0 && number % self.lockout.saturating_add(locked) >= self.lockout;
        if is_locked { Ending::Locked } else { Ending::WrongPassword }
    }

    fn failure(&self, at: Timestamp, account: u32, agent: u8) -> Attempt {
        let (identity, ending) = (Identity::Account(account), Ending::WrongPassword);
        Attempt { at, ip: self.office, identity, ending, agent, scenario: Some(self.scenario) }
    }

    /// When share number `number` begins.
    fn begin(&self, number: u32) -> Timestamp {
        let into = i128::from(self.benign.span_millis) * i128::from(number) / i128::from(self.benign.count);
        self.start.plus_millis(i64::try_from(into).unwrap_or(i64::MAX))
    }

    /// The shares that begin in `[from, until)`.
    fn shares(&self, from: Timestamp, until: Timestamp) -> std::ops::Range<u32> {
        let first_at_or_after = |at: Timestamp| {
            let span = i128::from(self.benign.span_millis);
            let into = i128::from(at.millis_since(self.start)).clamp(0, span);
            let wanted = (into * i128::from(self.benign.count) + span - 1) / span;
            u32::try_from(wanted).unwrap_or(self.benign.count)
        };
        first_at_or_after(from)..first_at_or_after(until)
    }
}
