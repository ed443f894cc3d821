//! Who has which names: what writers need beside the links.
//!
//! Invariant: nobody is in it without a name, and nobody is remembered as gone for ever.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use crate::event::{IdentifierHash, Tenant, Timestamp};

/// Users whose deletion is remembered, against older news of them that is still on its way: hours of deletions, 2 MiB.
const MAX_GONE: usize = 10_000;

/// Somebody with names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Owner {
    pub(super) tenant: Tenant,
    pub(super) user: Box<str>,
}

impl Owner {
    pub(super) fn is(&self, tenant: &Tenant, user: &str) -> bool {
        *self.user == *user && self.tenant == *tenant
    }
}

#[derive(Default)]
pub(super) struct Person {
    pub(super) names: Vec<IdentifierHash>,
    /// Of the newest complete list: an older one that comes late says nothing.
    pub(super) listed_at: Option<Timestamp>,
}

/// What writers need beside the links.
#[derive(Default)]
pub(super) struct Book {
    pub(super) people: HashMap<Arc<Owner>, Person>,
    /// Every identifier that has a link, in no order; the hand goes round them.
    pub(super) slots: Vec<IdentifierHash>,
    pub(super) hand: usize,
    /// What somebody still has to keep.
    pub(super) unkept: HashSet<IdentifierHash>,
    /// With the names they had, until whoever erases them has asked.
    pub(super) gone: HashMap<Owner, Vec<IdentifierHash>>,
    pub(super) gone_in_order: VecDeque<Owner>,
}

impl Book {
    /// Names that `owner` has and that are not in `identifiers`; `None` if a newer list is known.
    pub(super) fn newly_left_out(
        &self,
        owner: &Owner,
        identifiers: &[IdentifierHash],
        at: Timestamp,
    ) -> Option<Vec<IdentifierHash>> {
        let Some(person) = self.people.get(owner) else { return Some(Vec::new()) };
        if person.listed_at.is_some_and(|listed_at| listed_at > at) {
            return None;
        }
        Some(person.names.iter().filter(|name| !identifiers.contains(name)).copied().collect())
    }

    pub(super) fn has_gone(&mut self, owner: Owner, names: Vec<IdentifierHash>) {
        if let Some(had) = self.gone.get_mut(&owner) {
            had.extend(names);
            return;
        }
        self.gone.insert(owner.clone(), names);
        self.gone_in_order.push_back(owner);
        if self.gone_in_order.len() > MAX_GONE
            && let Some(first) = self.gone_in_order.pop_front()
        {
            self.gone.remove(&first);
        }
    }
}
