//! One person, several names: which identifiers belong to which user.
//!
//! Failures are seen under what was typed (an e-mail address, a phone number, a user name), successes under `user_…`. An
//! identifier that was told to belong to a user is an *alias* of it; an event under an alias becomes one of the user, before
//! the log, so that windows, distinct counts and findings speak of one account and detection stays a function of the log.
//!
//! Invariant: only hashes are held. A link is made on the word of somebody who knows ([`Names`]): Clerk, or a back end that
//! proved itself; never of whoever is signing in. Of two words the one about the later moment counts, in whatever order they
//! arrive. [`Aliases::resolve`] takes no lock that a writer holds for long, and never waits for a disk or a broker.
//!
//! A link is durable soon ([`rows`], and on Kafka the log's compacted topic), not before the event that told of it is
//! acknowledged: a crash loses the links of the last second, and until somebody tells of them again the two names are two
//! accounts, as they were before. What was counted under a name before it was linked stays counted under it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::event::{Account, AuthEvent, IdentifierHash, Outcome, Source, Tenant, Timestamp};
use crate::metrics::AliasMetrics;
use crate::normalize::{Names, Normalized};

pub mod rows;
mod table;

use table::Table;

/// Clerk's word for an identifier that nobody has: whoever had it has it no longer.
const NOBODYS: &str = "form_identifier_not_found";

/// What the user can set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Identifiers whose user is known, at about 450 bytes of memory each (310 with two to a user); beyond it one of the longest
    /// unused is forgotten. 0 turns it off.
    pub max_entries: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_entries: 1_000_000 }
    }
}

impl Config {
    /// Every fault, as `key: what is wrong`.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let is_right = self.max_entries == 0 || (1000..=100_000_000).contains(&self.max_entries);
        let fault = "max_entries: must be from 1000 to 100000000, or 0 for none".to_owned();
        (!is_right).then_some(fault).into_iter().collect()
    }
}

/// A link as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The instance.
    pub tenant: Tenant,
    /// `user_…`
    pub user: Box<str>,
    /// The moment that the newest word on it was about.
    pub said_at: Timestamp,
    /// Clerk listed it among the user's own; one that is left out of a later list is no longer the user's.
    pub listed: bool,
}

/// What became of an identifier, for whoever keeps the links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub identifier: IdentifierHash,
    /// Whose it is now; `None`: nobody's.
    pub link: Option<Link>,
}

/// The links; clones share them.
#[derive(Clone)]
pub struct Aliases(Arc<Table>);

impl Aliases {
    /// None yet. What changes is remembered for whoever keeps them ([`Aliases::changes`]).
    #[must_use]
    pub fn new(config: &Config, metrics: &AliasMetrics) -> Self {
        Self(Arc::new(Table::new(config.max_entries, metrics.clone(), true)))
    }

    /// None yet, and none that outlive the process.
    #[must_use]
    pub fn in_memory(config: &Config, metrics: &AliasMetrics) -> Self {
        Self(Arc::new(Table::new(config.max_entries, metrics.clone(), false)))
    }

    /// What every event goes through on its way to the log, in order: it is put under its user if that is known, and what
    /// it tells of users' names is learned. The same event twice changes nothing.
    pub fn admit(&self, normalized: &mut Normalized) {
        self.learn(&normalized.event, &normalized.names);
        self.resolve(&mut normalized.event);
    }

    /// Puts an event that names only an identifier under the user whose it is.
    pub fn resolve(&self, event: &mut AuthEvent) {
        let identifier = match &event.account {
            Some(Account::User(_)) => return,
            Some(Account::Identifier(identifier)) => Some(*identifier),
            None => event.identifier,
        };
        let Some(identifier) = identifier else { return };
        // A link that is out of date: the attempt was at nobody's account.
        if event.reason.as_deref() == Some(NOBODYS) {
            return;
        }
        if let Some(user) = self.0.user(&event.tenant, identifier) {
            event.account = Some(Account::User(user));
        }
    }

    /// Learns what `names` says of the user of `event`.
    pub fn learn(&self, event: &AuthEvent, names: &Names) {
        let Some(Account::User(user)) = &event.account else { return };
        let (tenant, at) = (&event.tenant, event.occurred_at);
        if event.source == Source::ClerkWebhook && event.outcome == Outcome::AccountDeleted {
            self.0.let_go(tenant, user);
            return;
        }
        let is_nobodys = event.reason.as_deref() == Some(NOBODYS);
        match (names, event.identifier) {
            (Names::Tried, Some(identifier)) if !is_nobodys => self.0.learn(tenant, user, identifier, at),
            (Names::Listed { identifiers, complete }, _) => self.0.list(tenant, user, identifiers, *complete, at),
            (Names::Tried | Names::Unsaid, _) => {}
        }
    }

    /// Forgets all names of `user`, and takes none for it any more: a webhook that tells of its earlier life may still be on
    /// its way. Answers with the identifiers it had, which are what else speaks of it; also after [`Aliases::admit`] met the
    /// news of its deletion, once. What is kept of them is gone within a second.
    #[expect(clippy::must_use_candidate, reason = "mostly called for what it does")]
    pub fn forget(&self, tenant: &Tenant, user: &str) -> Vec<IdentifierHash> {
        self.0.forget(tenant, user)
    }

    /// What [`Aliases::forget`] answered with could not be told on: it answers with them once more.
    pub fn not_forgotten(&self, tenant: &Tenant, user: &str, names: Vec<IdentifierHash>) {
        self.0.not_forgotten(tenant, user, names);
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Up to `max` of the changes that nobody keeps yet; they are the caller's now, who gives them back with
    /// [`Aliases::not_kept`] if he cannot keep them.
    #[must_use]
    pub fn changes(&self, max: usize) -> Vec<Change> {
        self.0.changes(max)
    }

    /// These could not be kept: [`Aliases::changes`] will give what is then true of them.
    pub fn not_kept(&self, changes: &[Change]) {
        self.0.mark(changes.iter().map(|change| change.identifier));
    }

    /// Takes what somebody kept, or another receiver told. Where what is known here is newer, that is told again if
    /// `answers`: a compacted topic holds the last word, which is not always the newest.
    pub fn take(&self, change: Change, answers: bool) {
        self.0.take(change, answers);
    }
}

#[cfg(test)]
mod tests;
