//! The links in memory: read by every event, written by few.
//!
//! Invariant: `links`, and `slots` and `people` of the [`Book`], speak of the same identifiers, never more than `max` of them and
//! never more than [`MAX_NAMES`] to a person. Only whoever holds the book adds, moves or removes a link; readers need one
//! shard of `links`, for a moment. Whoever holds a shard never asks for the book.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dashmap::DashMap;

use super::{Change, Link};
use crate::event::{IdentifierHash, Tenant, Timestamp};
use crate::metrics::AliasMetrics;

mod book;

use book::{Book, Owner};

/// Names of one person: a handful of addresses, numbers and a user name. A back end that reports one user id for all would
/// make all accounts one; so it stops at these.
pub(super) const MAX_NAMES: usize = 32;
/// Places looked at for one to forget: nearly always one of the first has not been used, and nobody waits for a million.
const MAX_LOOKS: usize = 64;
/// How far apart two words that say the same are before the later one is kept too.
const REFRESH_MILLIS: i64 = 24 * 60 * 60 * 1000;

/// What is known of one identifier. What is atomic changes without the book.
struct Held {
    owner: Arc<Owner>,
    said_at: AtomicI64,
    listed: AtomicBool,
    /// Since the hand last came by.
    used: AtomicBool,
    slot: AtomicUsize,
}

pub(super) struct Table {
    max: usize,
    /// Whether there is somebody who keeps what changes.
    is_kept: bool,
    links: DashMap<IdentifierHash, Held>,
    book: Mutex<Book>,
    metrics: AliasMetrics,
}

impl Table {
    pub(super) fn new(max: usize, metrics: AliasMetrics, is_kept: bool) -> Self {
        Self { max, is_kept, links: DashMap::new(), book: Mutex::default(), metrics }
    }

    pub(super) fn len(&self) -> usize {
        self.links.len()
    }

    /// Whose `identifier` is.
    pub(super) fn user(&self, tenant: &Tenant, identifier: IdentifierHash) -> Option<Box<str>> {
        let held = self.links.get(&identifier)?;
        // A hash is made for one instance; only a record that was made up has it in another.
        if held.owner.tenant != *tenant {
            return None;
        }
        held.touch();
        self.metrics.resolved.inc();
        Some(held.owner.user.clone())
    }

    /// Somebody tells that `identifier` is `user`'s. What is known already costs one look and no lock.
    pub(super) fn learn(&self, tenant: &Tenant, user: &str, identifier: IdentifierHash, at: Timestamp) {
        let known = self.links.get(&identifier).filter(|held| held.owner.is(tenant, user));
        if let Some(is_news) = known.map(|held| held.confirm(at, false)) {
            if is_news {
                self.mark([identifier]);
            }
            return;
        }
        let mut book = self.book();
        let owner = Owner { tenant: tenant.clone(), user: user.into() };
        if self.is_welcome(&book, &owner) {
            self.link(&mut book, owner, identifier, at, false);
            self.count();
        }
    }

    /// Clerk lists the names of `user`; if `complete`, what it listed before and lists no longer is not the user's.
    pub(super) fn list(
        &self,
        tenant: &Tenant,
        user: &str,
        identifiers: &[IdentifierHash],
        complete: bool,
        at: Timestamp,
    ) {
        let mut book = self.book();
        let owner = Owner { tenant: tenant.clone(), user: user.into() };
        if !self.is_welcome(&book, &owner) {
            return;
        }
        if complete {
            let Some(left_out) = book.newly_left_out(&owner, identifiers, at) else { return };
            for identifier in left_out {
                let is_out = |held: &Held| held.listed.load(Ordering::Relaxed) && held.said_at() <= at;
                if self.links.get(&identifier).is_some_and(|held| is_out(&held)) {
                    self.unlink(&mut book, identifier);
                }
            }
        }
        for identifier in identifiers.iter().take(MAX_NAMES) {
            self.link(&mut book, owner.clone(), *identifier, at, true);
        }
        if complete && let Some(person) = book.people.get_mut(&owner) {
            person.listed_at = Some(at);
        }
        self.count();
    }

    /// Forgets `user`, whose names it answers with.
    pub(super) fn forget(&self, tenant: &Tenant, user: &str) -> Vec<IdentifierHash> {
        self.let_go(tenant, user);
        let owner = Owner { tenant: tenant.clone(), user: user.into() };
        let mut names = self.book().gone.get_mut(&owner).map(std::mem::take).unwrap_or_default();
        names.sort_unstable();
        names
    }

    pub(super) fn not_forgotten(&self, tenant: &Tenant, user: &str, names: Vec<IdentifierHash>) {
        self.book().has_gone(Owner { tenant: tenant.clone(), user: user.into() }, names);
    }

    /// Forgets `user`, whose names [`Table::forget`] will answer with.
    pub(super) fn let_go(&self, tenant: &Tenant, user: &str) {
        let mut book = self.book();
        let owner = Owner { tenant: tenant.clone(), user: user.into() };
        let names = book.people.get(&owner).map(|person| person.names.clone()).unwrap_or_default();
        for identifier in &names {
            self.unlink(&mut book, *identifier);
        }
        book.has_gone(owner, names);
        self.count();
    }

    /// What somebody else keeps or tells; see [`super::Aliases::take`].
    pub(super) fn take(&self, change: Change, answers: bool) {
        let Change { identifier, link } = change;
        let mut book = self.book();
        let is_ours_to_tell = book.unkept.contains(&identifier);
        match link {
            // What we have to say of it will come after this.
            _ if is_ours_to_tell && !self.links.contains_key(&identifier) => {}
            None if is_ours_to_tell => {}
            None => {
                self.unlink(&mut book, identifier);
                book.unkept.remove(&identifier);
            }
            Some(Link { tenant, user, said_at, listed }) => {
                let owner = Owner { tenant, user };
                let known = self.links.get(&identifier).map(|held| (*held.owner == owner, held.said_at()));
                if known.is_some_and(|(is_same, known_at)| !is_same && known_at > said_at) {
                    if answers && self.is_kept {
                        book.unkept.insert(identifier);
                    }
                } else if !book.gone.contains_key(&owner) && self.max > 0 {
                    self.link(&mut book, owner, identifier, said_at, listed);
                    // Whoever told of it keeps it.
                    if !is_ours_to_tell {
                        book.unkept.remove(&identifier);
                    }
                }
            }
        }
        self.count();
    }

    pub(super) fn changes(&self, max: usize) -> Vec<Change> {
        let mut book = self.book();
        let taken: Vec<_> = book.unkept.iter().take(max).copied().collect();
        for identifier in &taken {
            book.unkept.remove(identifier);
        }
        if book.unkept.is_empty() && book.unkept.capacity() > 4 * max {
            book.unkept.shrink_to(max);
        }
        let change = |identifier| Change { identifier, link: self.links.get(&identifier).map(|held| held.as_link()) };
        taken.into_iter().map(change).collect()
    }

    pub(super) fn mark(&self, identifiers: impl IntoIterator<Item = IdentifierHash>) {
        if self.is_kept {
            self.book().unkept.extend(identifiers);
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self) {
        self.metrics.entries.set(i64::try_from(self.len()).unwrap_or(i64::MAX));
    }

    /// Whether names of `owner` are learned. While nobody can keep what was learned, no more is: it would grow for as long
    /// as a disk is full. What is removed was learned before, and so is bounded too.
    fn is_welcome(&self, book: &Book, owner: &Owner) -> bool {
        self.max > 0 && book.unkept.len() < self.max && !book.gone.contains_key(owner)
    }

    /// `identifier` is `owner`'s, unless a newer word says otherwise or he has too many.
    fn link(&self, book: &mut Book, owner: Owner, identifier: IdentifierHash, at: Timestamp, listed: bool) {
        let known = self.links.get(&identifier).map(|held| {
            let is_same = *held.owner == owner;
            (is_same, is_same && held.confirm(at, listed), held.said_at())
        });
        match known {
            Some((true, is_news, _)) => {
                if is_news {
                    self.note(book, identifier);
                }
                return;
            }
            Some((false, _, said_at)) if said_at > at => return,
            Some(_) | None => {}
        }
        if book.people.get(&owner).is_some_and(|person| person.names.len() >= MAX_NAMES) {
            return;
        }
        if known.is_some() {
            self.unlink(book, identifier);
        } else if self.links.len() >= self.max {
            self.forget_one(book);
        }
        let owner = book.people.get_key_value(&owner).map_or_else(|| Arc::new(owner), |(owner, _)| Arc::clone(owner));
        book.people.entry(Arc::clone(&owner)).or_default().names.push(identifier);
        let held = Held {
            owner,
            said_at: AtomicI64::new(at.0),
            listed: AtomicBool::new(listed),
            used: AtomicBool::new(true),
            slot: AtomicUsize::new(book.slots.len()),
        };
        book.slots.push(identifier);
        self.links.insert(identifier, held);
        self.note(book, identifier);
    }

    fn unlink(&self, book: &mut Book, identifier: IdentifierHash) {
        let Some((_, held)) = self.links.remove(&identifier) else { return };
        let slot = held.slot.into_inner();
        if slot < book.slots.len() {
            book.slots.swap_remove(slot);
        }
        // The last one took its place.
        if let Some(moved) = book.slots.get(slot).and_then(|moved| self.links.get(moved)) {
            moved.slot.store(slot, Ordering::Relaxed);
        }
        if let Some(person) = book.people.get_mut(&held.owner) {
            person.names.retain(|name| *name != identifier);
            if person.names.is_empty() {
                book.people.remove(&held.owner);
            }
        }
        self.note(book, identifier);
    }

    /// Makes room: the hand goes on to one that was not used since it last came by.
    fn forget_one(&self, book: &mut Book) {
        for look in 1..=MAX_LOOKS {
            if book.hand >= book.slots.len() {
                book.hand = 0;
            }
            let Some(identifier) = book.slots.get(book.hand).copied() else { return };
            let was_used = self.links.get(&identifier).is_some_and(|held| held.used.swap(false, Ordering::Relaxed));
            if was_used && look < MAX_LOOKS {
                book.hand += 1;
                continue;
            }
            self.unlink(book, identifier);
            self.metrics.evictions.inc();
            return;
        }
    }

    fn note(&self, book: &mut Book, identifier: IdentifierHash) {
        if self.is_kept {
            book.unkept.insert(identifier);
        }
    }
}

impl Held {
    fn said_at(&self) -> Timestamp {
        Timestamp(self.said_at.load(Ordering::Relaxed))
    }

    fn touch(&self) {
        // Reading first keeps the line of a much used one from being passed about between cores.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    /// The same was said again, of `at`; whether that has to be kept.
    fn confirm(&self, at: Timestamp, listed: bool) -> bool {
        self.touch();
        let before = self.said_at.fetch_max(at.0, Ordering::Relaxed);
        let is_a_day_on = at.0.div_euclid(REFRESH_MILLIS) > before.div_euclid(REFRESH_MILLIS);
        let is_first_listing = listed && !self.listed.swap(true, Ordering::Relaxed);
        is_a_day_on || is_first_listing
    }

    fn as_link(&self) -> Link {
        Link {
            tenant: self.owner.tenant.clone(),
            user: self.owner.user.clone(),
            said_at: self.said_at(),
            listed: self.listed.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests;
