//! One attack as attempts.
//!
//! Invariant: attempt number i is a function of the plan and i, and lies in the i-th of equal shares of the attack's span:
//! so a campaign of any length comes in order of time and holds nothing in memory.

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

/// An attack on its way.
#[derive(Clone, Debug)]
pub(super) struct Campaign {
    attack: Attack,
    index: u8,
    seed: u64,
    start: Timestamp,
    end: Timestamp,
    hits: u64,
    lockout: u32,
    population: Population,
    /// The account of a guessing attack; whose carrier or office address is used.
    target: u32,
    made: u64,
    /// Failures on the target since it was last unlocked, and when it was locked.
    failures: u32,
    locked_at: Option<Timestamp>,
}

impl Campaign {
    pub(super) fn new(plan: &Plan, index: usize, attack: &Attack, population: &Population) -> Result<Self, PlanError> {
        let index = u8::try_from(index).map_err(|_| PlanError::new("too many attacks"))?;
        let seed = mix(plan.seed ^ mix(100 + u64::from(index)));
        Ok(Self {
            attack: *attack,
            index,
            seed,
            start: plan.start.plus_millis(attack.at.unwrap_or_else(|| plan.middle())),
            end: plan.span_millis.map_or(Timestamp(i64::MAX), |span| plan.start.plus_millis(span)),
            hits: attack.hits(),
            lockout: plan.lockout,
            population: population.clone(),
            target: population.any(mix(seed)),
            made: 0,
            failures: 0,
            locked_at: None,
        })
    }

    fn at(&self, hash: u64) -> Timestamp {
        #[expect(clippy::cast_precision_loss, reason = "a share of the span; a millisecond more or less is no matter")]
        let share = (self.made as f64 + unit(hash)) / self.attack.attempts as f64;
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "as above")]
        let millis = (self.attack.span_millis as f64 * share) as i64;
        self.start.plus_millis(millis)
    }

    /// Whether attempt number `made` gets in: `hits` of them, evenly spread, the first half a gap from the start.
    fn is_hit(&self) -> bool {
        let attempts = u128::from(self.attack.attempts);
        if matches!(self.attack.victims, Victims::One) {
            // The last try before the account would be locked.
            let last = if self.lockout == 0 { self.attack.attempts } else { u64::from(self.lockout) };
            return self.hits > 0 && self.made + 1 == last.min(self.attack.attempts);
        }
        let reached = |made: u64| (u128::from(made) * u128::from(self.hits) + attempts / 2) / attempts;
        reached(self.made + 1) > reached(self.made)
    }

    fn identity(&self, hash: u64, hit: bool) -> Identity {
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

    fn ip(&self) -> IpAddr {
        let number = self.made % self.attack.addresses;
        match self.attack.origin {
            Origin::Anywhere if self.attack.addresses <= A_HANDFUL => population::documentation(self.index, number),
            Origin::Anywhere => population::hosting(self.seed, number),
            Origin::OneNetwork => population::one_network(self.index, number),
            Origin::OneSlash64 => population::one_slash_64(self.index, number),
            Origin::Carrier => self.population.carrier(self.target),
            Origin::Office => self.population.office_of(self.target),
        }
    }

    fn agent(&self, hash: u64) -> u8 {
        let pick = |from: u8, hash: u64| u8::try_from(hash % u64::from(from)).unwrap_or(0);
        // Few addresses: a script that does not care. Many: somebody who bought browsers' descriptions with them.
        if self.attack.addresses <= A_HANDFUL { BROWSERS + pick(SCRIPTS, self.seed) } else { pick(BROWSERS, mix(hash)) }
    }

    /// What Clerk answers, with the lock that guessing at one account runs into.
    fn ending(&mut self, at: Timestamp, identity: Identity, hit: bool) -> Ending {
        if hit {
            self.failures = 0;
            return Ending::SignedIn;
        }
        if matches!(identity, Identity::Leaked(_)) {
            return Ending::UnknownIdentifier;
        }
        if !matches!(self.attack.victims, Victims::One) || self.lockout == 0 {
            return Ending::WrongPassword;
        }
        if let Some(locked_at) = self.locked_at {
            if at.millis_since(locked_at) < LOCKED_MILLIS {
                return Ending::Locked;
            }
            self.locked_at = None;
            self.failures = 0;
        }
        self.failures += 1;
        if self.failures >= self.lockout {
            self.locked_at = Some(at);
        }
        Ending::WrongPassword
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
            self.made += 1;
            // An identifier that exists leads to a password prompt, which an enumeration leaves alone: nothing to report.
            if self.attack.kind == AttackKind::Enumeration && !hit && matches!(identity, Identity::Account(_)) {
                continue;
            }
            let ending = self.ending(at, identity, hit);
            return Some(Attempt { at, ip, identity, ending, agent, scenario });
        }
        None
    }
}
