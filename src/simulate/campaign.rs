//! One attack as attempts.
//!
//! Invariant: attempt number i is a function of the plan and i, and lies in the i-th share of the attack's span (equal
//! shares, or ever shorter ones in an attack that grows): so a campaign of any length comes in order of time. In memory
//! are the accounts it has failed on, for the lock, and the addresses of the minute, for the limit.

use std::collections::HashMap;
use std::net::IpAddr;

use super::attack::{Attack, AttackKind, Origin, Victims};
use super::population::{self, Population};
use super::random::{mix, unit};
use super::render::{BROWSERS, SCRIPTS};
use super::{Attempt, Ending, Identity, Plan, PlanError, Scenario};
use crate::event::Timestamp;

/// Up to this many addresses are taken from the ranges a reader knows from documentation.
const A_HANDFUL: u64 = 15;
/// How long Clerk keeps an account locked.
const LOCKED_MILLIS: i64 = 3_600_000;
/// Accounts an attacker opened for himself, where he uses any.
const OWN_ACCOUNTS: u64 = 5;
const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;

/// An attack on its way.
#[derive(Clone, Debug)]
pub(super) struct Campaign {
    attack: Attack,
    index: u8,
    seed: u64,
    /// What its addresses are drawn by: those of another attack, if they share them.
    hosts: u8,
    hosts_seed: u64,
    start: Timestamp,
    end: Timestamp,
    hits: u64,
    lockout: u32,
    population: Population,
    /// The account of a guessing attack; whose carrier or office address is used.
    target: u32,
    made: u64,
    /// Accounts it has failed on since they were last unlocked.
    strikes: HashMap<u32, Strikes>,
    /// The minute of the last attempt and how often each address has tried in it; kept only where there is a limit.
    minute: i64,
    tries: HashMap<u64, u32>,
}

/// What counts towards the lock of one account.
#[derive(Clone, Copy, Debug, Default)]
struct Strikes {
    failures: u32,
    locked_at: Option<Timestamp>,
}

impl Strikes {
    /// One more failure at `at`, under a lock after `lockout` of them.
    fn strike(&mut self, at: Timestamp, lockout: u32) -> Ending {
        if let Some(locked_at) = self.locked_at {
            if at.millis_since(locked_at) < LOCKED_MILLIS {
                return Ending::Locked;
            }
            *self = Self::default();
        }
        self.failures += 1;
        if self.failures >= lockout {
            self.locked_at = Some(at);
        }
        Ending::WrongPassword
    }
}

impl Campaign {
    pub(super) fn new(plan: &Plan, index: usize, attack: &Attack, population: &Population) -> Result<Self, PlanError> {
        let index = u8::try_from(index).map_err(|_| PlanError::new("too many attacks"))?;
        let seed_of = |number: u8| mix(plan.seed ^ mix(100 + u64::from(number)));
        let (seed, hosts) = (seed_of(index), attack.hosts.unwrap_or(index));
        Ok(Self {
            attack: *attack,
            index,
            seed,
            hosts,
            hosts_seed: seed_of(hosts),
            start: plan.start.plus_millis(attack.at.unwrap_or_else(|| plan.middle())),
            end: plan.span_millis.map_or(Timestamp(i64::MAX), |span| plan.start.plus_millis(span)),
            hits: attack.hits(),
            lockout: plan.lockout,
            population: population.clone(),
            target: population.any(mix(seed)),
            made: 0,
            strikes: HashMap::new(),
            minute: i64::MIN,
            tries: HashMap::new(),
        })
    }

    fn at(&self, hash: u64) -> Timestamp {
        #[expect(clippy::cast_precision_loss, reason = "a share of the span; a millisecond more or less is no matter")]
        let share = self.attack.time_of((self.made as f64 + unit(hash)) / self.attack.attempts as f64);
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "as above")]
        let millis = (self.attack.span_millis as f64 * share) as i64;
        self.start.plus_millis(millis)
    }

    /// Whether attempt number `made` gets in: `hits` of them, evenly spread, the first half a gap from the start.
    fn is_hit(&self) -> bool {
        if matches!(self.attack.victims, Victims::One) {
            // The last try before the account would be locked.
            let last = if self.lockout == 0 { self.attack.attempts } else { u64::from(self.lockout) };
            return self.hits > 0 && self.made + 1 == last.min(self.attack.attempts);
        }
        self.is_one_of(self.hits)
    }

    /// Whether attempt number `made` is one of `some` that are evenly spread over all.
    fn is_one_of(&self, some: u64) -> bool {
        let attempts = u128::from(self.attack.attempts);
        let reached = |made: u64| (u128::from(made) * u128::from(some) + attempts / 2) / attempts;
        reached(self.made + 1) > reached(self.made)
    }

    fn identity(&self, hash: u64, hit: bool) -> Identity {
        if !hit && self.is_one_of(self.attack.padding()) {
            return Identity::Own(u64::from(self.index) * OWN_ACCOUNTS + hash % OWN_ACCOUNTS);
        }
        match self.attack.victims {
            Victims::List { known } if hit || unit(mix(hash)) < known => Identity::Account(self.population.any(hash)),
            Victims::List { .. } => Identity::Leaked(hash),
            Victims::Rounds { accounts } => {
                let number = self.made % u64::from(accounts);
                // Neighbours in the order, so that no account comes up twice in a round.
                Identity::Account(self.population.any(u64::from(self.target) + number))
            }
            Victims::One => Identity::Account(self.target),
        }
    }

    /// Which of its addresses makes attempt number `made`: each once a round, another one first in each round. (In the
    /// same order every time, whatever is evenly spread over the attempts, the hits, would meet few of them.)
    fn address(&self) -> u64 {
        (self.made + self.made / self.attack.addresses) % self.attack.addresses
    }

    fn ip(&self) -> IpAddr {
        let number = self.address();
        match self.attack.origin {
            Origin::Anywhere if self.attack.addresses <= A_HANDFUL => population::documentation(self.hosts, number),
            Origin::Anywhere => population::hosting(self.hosts_seed, number),
            Origin::OneNetwork => population::one_network(self.hosts, number),
            Origin::OneSlash64 => population::one_slash_64(self.hosts, number),
            Origin::OneSlash56 => population::one_slash_56(self.hosts, number),
            Origin::OneSlash48 => population::one_slash_48(self.hosts, number),
            Origin::Homes => population::residential(self.hosts_seed, number),
            Origin::Carrier => self.population.carrier(self.target),
            Origin::Office => self.population.office_of(self.target),
        }
    }

    fn agent(&self, hash: u64) -> u8 {
        let pick = |from: u8, hash: u64| u8::try_from(hash % u64::from(from)).unwrap_or(0);
        // Who has a checked list does not give himself away by a script. Few addresses: one that does not care. Many: somebody who bought browsers' descriptions with them.
        if self.attack.addresses <= A_HANDFUL && self.attack.kind != AttackKind::FanOut {
            BROWSERS + pick(SCRIPTS, self.seed)
        } else {
            pick(BROWSERS, mix(hash))
        }
    }

    /// What Clerk answers, with the limit that many tries of one address run into, and the lock that many tries of one
    /// account do.
    fn ending(&mut self, at: Timestamp, identity: Identity, hit: bool) -> Ending {
        let limited = self.is_limited(at);
        match identity {
            Identity::Account(account) if hit => {
                self.strikes.remove(&account);
                Ending::SignedIn
            }
            _ if limited => Ending::RateLimited,
            Identity::Account(account) if self.lockout > 0 => {
                self.strikes.entry(account).or_default().strike(at, self.lockout)
            }
            Identity::Account(_) => Ending::WrongPassword,
            Identity::Own(_) => Ending::SignedIn,
            Identity::Misspelt(_) | Identity::Leaked(_) => Ending::UnknownIdentifier,
        }
    }

    fn is_limited(&mut self, at: Timestamp) -> bool {
        if self.attack.limit == 0 {
            return false;
        }
        let minute = at.0.div_euclid(MINUTE);
        if minute != self.minute {
            self.minute = minute;
            self.tries.clear();
        }
        let tries = self.tries.entry(self.address()).or_default();
        *tries += 1;
        *tries > self.attack.limit
    }
}

impl Attack {
    /// How far into its span an attack is when `share` of its attempts are made.
    #[expect(clippy::cast_precision_loss, reason = "a span of some days")]
    fn time_of(&self, share: f64) -> f64 {
        // n(t) grows as (1 + growth)^t: solved for t. An even attack is the limit of that.
        let whole = (self.span_millis as f64 / DAY as f64 * self.growth.ln_1p()).exp() - 1.0;
        if whole < 1e-9 { share } else { (share * whole).ln_1p() / whole.ln_1p() }
    }

    /// How many of its attempts are sign-ins to accounts of the attacker's own.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of at most a thousand million"
    )]
    fn padding(&self) -> u64 {
        (self.attempts as f64 * self.padding).round() as u64
    }
}

impl Iterator for Campaign {
    type Item = Attempt;

    fn next(&mut self) -> Option<Attempt> {
        while self.made < self.attack.attempts {
            let hash = mix(self.seed ^ mix(self.made));
            let at = self.at(hash);
            if at >= self.end {
                return None;
            }
            let hit = self.is_hit();
            let identity = self.identity(hash, hit);
            let (ip, agent, scenario) = (self.ip(), self.agent(hash), Some(Scenario::Attack(self.index)));
            // An identifier that exists leads to a password prompt, which an enumeration leaves alone: nothing to report.
            let is_silent =
                self.attack.kind == AttackKind::Enumeration && !hit && matches!(identity, Identity::Account(_));
            let ending = self.ending(at, identity, hit);
            self.made += 1;
            if is_silent {
                continue;
            }
            return Some(Attempt { at, ip, identity, ending, agent, scenario });
        }
        None
    }
}
