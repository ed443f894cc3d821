//! What justifies a finding: figures, samples, and why a window did or did not fire.
//!
//! Invariant: counts are exact or say that they are not; lists are bounded and come with a total.

use serde::{Deserialize, Serialize};

use super::Shape;
use crate::event::Timestamp;

/// The figures and samples behind a finding. Counts are exact; lists are bounded and say what they leave out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// The window with the highest ratio so far.
    pub peak: WindowEvidence,
    /// What was normal before.
    pub baseline: BaselineEvidence,
    /// Counts over the whole episode, the opening window included.
    pub totals: Totals,
    /// Accounts that were tried; for an account entity, empty.
    pub accounts: Sample,
    /// Addresses that took part; for an address entity, empty.
    pub addresses: Sample,
    /// Clerk's codes, most frequent first.
    pub reasons: Vec<Counted>,
    /// User agents, most frequent first.
    pub user_agents: Vec<Counted>,
    /// Accounts that signed in from the attacking entity, or whose password it got right.
    pub compromised: Vec<Compromised>,
    /// How many there are, listed or not.
    pub compromised_total: u64,
    /// Accounts that signed in, during the attack, from where they had not before, and where that proves little: at an
    /// attack from many networks, from one of those that nobody had signed in from, where people on a journey are among
    /// them; or from an address that many people share.
    #[serde(default)]
    pub suspected: Vec<Compromised>,
    /// How many there are, listed or not.
    #[serde(default)]
    pub suspected_total: u64,
    /// Networks that took part and their failures, most frequent first; for an address entity, empty.
    #[serde(default)]
    pub networks: Vec<Counted>,
    /// How many took part; an estimate (2 %) above a few thousand.
    #[serde(default)]
    pub networks_total: u64,
    /// For an IPv6 network: the narrowest of /56 and /48 in which nearly all addresses lie that have taken part so far.
    #[serde(default)]
    pub within: Option<String>,
    /// Entities that crossed their own threshold as part of this attack and got no finding of their own.
    #[serde(default)]
    pub folded_total: u64,
    /// What else it could be: each likely shape and how well the numbers fit it, from 0 to 1, best first.
    #[serde(default)]
    pub shapes: Vec<Likelihood>,
    /// Its lists were shortened on the way to one receiver, and so many bytes had the whole finding. Never kept.
    #[serde(skip)]
    pub cut_from_bytes: Option<usize>,
}

/// How well the numbers fit a shape.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Likelihood {
    /// Which.
    pub shape: Shape,
    /// From 0 to 1, to two decimals.
    pub fit: f64,
}

/// What one window counted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct WindowEvidence {
    /// The window is `[start, end]`, inclusive; the failure count is exact for it.
    pub start: Timestamp,
    /// See `start`.
    pub end: Timestamp,
    /// Failed attempts; for a rule that judges something else (codes, lock-outs, sign-ins of strangers), that.
    pub failures: u64,
    /// Independent failures: distinct accounts among them (an estimate above a handful).
    pub distinct: u64,
    /// Successes in the same window.
    pub successes: u64,
    /// The count the rule judged divided by `expected`, to one decimal.
    pub ratio: f64,
    /// What the baseline expected in that window.
    pub expected: f64,
    /// The smallest count that would have fired.
    pub threshold: u64,
}

/// What was normal for the entity.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BaselineEvidence {
    /// Where the figure comes from.
    pub source: BaselineSource,
    /// Expected count per day of what the rule judges.
    pub per_day: f64,
    /// How long this entity has been observed, in seconds.
    pub observed_seconds: u64,
    /// How far the tenant's own normal has been learned.
    #[serde(default)]
    pub learning: Learning,
}

/// How far the normal of a tenant has been learned. Until it is, shipped figures and absolute bounds judge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Learning {
    /// Less than a day was seen.
    #[default]
    Learning,
    /// Less than two weeks were seen: the days of the week are not told apart yet.
    Provisional,
    /// Each day of the week was seen twice.
    Learned,
}

impl Learning {
    /// Every state, in order.
    pub const ALL: [Self; 3] = [Self::Learning, Self::Provisional, Self::Learned];

    /// The value in findings and of the `state` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Learning => "learning",
            Self::Provisional => "provisional",
            Self::Learned => "learned",
        }
    }
}

/// Why a window did or did not open a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every condition holds.
    Spike,
    /// Too few failures to matter.
    BelowMinimum,
    /// A shared address: the people who get in from it explain those who fail.
    SharedAddress,
    /// One address of the network explains it; it is judged by itself.
    OneAddress,
    /// Not enough times normal.
    WithinFactor,
    /// Could be chance.
    CouldBeChance,
    /// Sign-in fails for everyone at the moment.
    Outage,
    /// The window reaches back to an attack that was already reported.
    Reported,
    /// The user's allow list covers it.
    Allowed,
}

/// The rung of the ladder a baseline stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BaselineSource {
    /// Nothing learned yet: the shipped figure.
    Prior,
    /// What entities of this kind do at this tenant.
    Tenant,
    /// What this entity itself does.
    Entity,
}

impl BaselineSource {
    /// The value in findings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prior => "prior",
            Self::Tenant => "tenant",
            Self::Entity => "entity",
        }
    }
}

/// Counts over a whole episode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Wrong credentials.
    pub failures: u64,
    /// Of these, identifiers nobody has.
    pub unknown_identifiers: u64,
    /// Sign-ins that went through.
    pub successes: u64,
    /// Right password, stopped by something else.
    pub password_correct_stopped: u64,
    /// Attempts that met a locked account.
    pub locked: u64,
    /// Attempts answered 429.
    pub rate_limited: u64,
    /// Attempts refused by policy or bot rules.
    pub blocked: u64,
    /// One-time codes and magic links sent.
    #[serde(default)]
    pub codes_sent: u64,
}

/// A bounded list and how many there were in all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// The first ones seen, in order of appearance.
    pub values: Vec<String>,
    /// Distinct values in all; exact as long as `exact`, else a lower bound.
    pub total: u64,
    /// Whether `total` is exact.
    pub exact: bool,
}

/// A value and how often it was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// The value.
    pub value: String,
    /// How often.
    pub count: u64,
}

/// An account that should be considered taken over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compromised {
    /// Whose.
    pub account: String,
    /// From where.
    pub address: Option<String>,
    /// When.
    pub at: Timestamp,
    /// What was seen.
    pub how: Compromise,
}

/// What makes us say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compromise {
    /// A session was created.
    SignedIn,
    /// The password was right; a second factor, a device check or a breach check stopped it.
    PasswordCorrect,
}

impl Compromise {
    /// The value in findings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SignedIn => "signed_in",
            Self::PasswordCorrect => "password_correct",
        }
    }
}
