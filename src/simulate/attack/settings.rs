//! An attack as it is written on a command line: `kind:key=value,…`.
//!
//! Not here: the grammar itself (`parse`).

use super::{Attack, AttackKind, Origin, Victims};
use crate::simulate::PlanError;
use crate::simulate::parse::{self, Spec};

/// Accounts broken into per tried account that exists, where `hits` is not given.
const HITS_PER_EXISTING: f64 = 0.005;
/// The same for a spray: each account is tried with several common passwords.
const HITS_PER_SPRAYED: f64 = 0.01;
/// Most attempts of one attack: the largest one published had 108 million.
const MAX_ATTEMPTS: u64 = 1_000_000_000;
/// Faster than tenfold a day is not a ramp but an outbreak, and over months leaves the numbers an `f64` can tell apart.
const MAX_GROWTH: f64 = 9.0;

impl Attack {
    /// Reads `kind` or `kind:key=value,…` with the keys `at`, `for`, `attempts`, `addresses`, `origin`, `hosts`, `known`
    /// (share of a list that exists), `accounts` (of a round), `hits`, `growth`, `padding` and `limit`; see the fields of
    /// [`Attack`].
    ///
    /// # Errors
    /// An unknown kind or key, or a value out of range.
    pub fn parse(text: &str) -> Result<Self, PlanError> {
        let spec = Spec::parse(text)?;
        let kind = AttackKind::ALL.into_iter().find(|kind| kind.as_str() == spec.kind).ok_or_else(|| {
            let known = AttackKind::ALL.map(AttackKind::as_str).join(", ");
            PlanError::new(format!("there is no attack `{}`; there are: {known}", spec.kind))
        })?;
        let mut attack = kind.usual();
        for (key, value) in spec.settings {
            attack.set(key, value).map_err(|fault| PlanError::new(format!("{}: {fault}", kind.as_str())))?;
        }
        attack.check()?;
        Ok(attack)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), PlanError> {
        match (key, &mut self.victims) {
            ("at", _) => self.at = Some(parse::span(value)?),
            ("for", _) => self.span_millis = parse::span(value)?,
            ("attempts", _) => self.attempts = parse::value(key, value)?,
            ("addresses", _) => self.addresses = parse::value(key, value)?,
            ("hits", _) => self.hits = Some(parse::value(key, value)?),
            ("growth", _) => self.growth = parse::value(key, value)?,
            ("padding", _) => self.padding = parse::value(key, value)?,
            ("limit", _) => self.limit = parse::value(key, value)?,
            ("hosts", _) => self.hosts = Some(parse::value(key, value)?),
            ("origin", _) => self.origin = origin(value)?,
            ("known", Victims::List { known }) => *known = parse::value(key, value)?,
            ("accounts", Victims::Rounds { accounts }) => *accounts = parse::value(key, value)?,
            _ => return Err(PlanError::new(format!("`{key}` cannot be set here"))),
        }
        Ok(())
    }

    fn check(&self) -> Result<(), PlanError> {
        let name = self.kind.as_str();
        let refuse = |what: &str| Err(PlanError::new(format!("{name}: {what}")));
        let most_addresses = self.origin.capacity();
        if !(1..=MAX_ATTEMPTS).contains(&self.attempts) {
            return refuse("attempts must be from 1 to a thousand million");
        }
        if !(1..=most_addresses).contains(&self.addresses) {
            return refuse(&format!("addresses must be from 1 to {most_addresses}"));
        }
        if self.span_millis < 1000 {
            return refuse("it must last at least a second");
        }
        if !(0.0..=MAX_GROWTH).contains(&self.growth) {
            return refuse(&format!("growth must be from 0 to {MAX_GROWTH}"));
        }
        if !(0.0..=0.99).contains(&self.padding) {
            return refuse("padding must be from 0 to 0.99");
        }
        let most_hits = match self.victims {
            Victims::List { known } if !(0.0..=1.0).contains(&known) => return refuse("known must be from 0 to 1"),
            Victims::Rounds { accounts: 0 } => return refuse("accounts must be at least 1"),
            Victims::List { .. } | Victims::Rounds { .. } => self.attempts,
            Victims::One => 1,
        };
        if self.hits.is_some_and(|hits| hits > most_hits) {
            return refuse(&format!("hits must be at most {most_hits}"));
        }
        Ok(())
    }

    /// How many tries get in.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of at most a thousand million"
    )]
    pub fn hits(&self) -> u64 {
        let usual = match (self.kind, self.victims) {
            // Only the identifier is asked about; no password is tried.
            (AttackKind::Enumeration, _) | (_, Victims::One) => 0.0,
            // What does not work was taken off the list.
            (AttackKind::FanOut, _) => self.attempts as f64,
            (_, Victims::List { known }) => self.attempts as f64 * known * HITS_PER_EXISTING,
            (_, Victims::Rounds { accounts }) => f64::from(accounts) * HITS_PER_SPRAYED,
        };
        self.hits.unwrap_or(usual.round() as u64).min(self.attempts)
    }
}

fn origin(text: &str) -> Result<Origin, PlanError> {
    Origin::ALL.into_iter().find(|origin| origin.as_str() == text).ok_or_else(|| {
        let known = Origin::ALL.map(Origin::as_str).join(", ");
        PlanError::new(format!("there is no origin `{text}`; there are: {known}"))
    })
}
