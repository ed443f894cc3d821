//! The names of users whose deletion is on its way into the log.
//!
//! Invariant: they are forgotten once the log has the deletion, and not before: a deletion that it did not take, or whose
//! sender left meanwhile, comes again and must find them.

use crate::alias::Aliases;
use crate::event::{Account, AuthEvent, IdentifierHash, Outcome, Source, Tenant};

/// The names of one user, known again if this is dropped before [`Deleted::told`].
pub(super) struct Deleted {
    aliases: Aliases,
    tenant: Tenant,
    user: Box<str>,
    names: Vec<IdentifierHash>,
}

impl Deleted {
    /// Of whom `event` tells that they are deleted, if it does.
    pub(super) fn of(event: &AuthEvent, aliases: &Aliases) -> Option<Self> {
        let (Outcome::AccountDeleted, Source::ClerkWebhook, Some(Account::User(user))) =
            (event.outcome, event.source, &event.account)
        else {
            return None;
        };
        let names = aliases.forget(&event.tenant, user);
        Some(Self { aliases: aliases.clone(), tenant: event.tenant.clone(), user: user.clone(), names })
    }

    /// Each name is told of by an event of its own, in the same append as `event`.
    pub(super) fn events<'a>(&'a self, event: &'a AuthEvent) -> impl Iterator<Item = AuthEvent> + 'a {
        self.names.iter().enumerate().map(|(place, name)| AuthEvent {
            id: format!("{}_{place}", event.id).into(),
            account: Some(Account::Identifier(*name)),
            ..event.clone()
        })
    }

    /// The log has it.
    pub(super) fn told(mut self) {
        self.names.clear();
    }
}

impl Drop for Deleted {
    fn drop(&mut self) {
        if !self.names.is_empty() {
            self.aliases.not_forgotten(&self.tenant, &self.user, std::mem::take(&mut self.names));
        }
    }
}
