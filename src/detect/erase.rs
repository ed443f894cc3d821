//! Forgetting an account: from the deletion in the log to a state that does not name it.
//!
//! An account that Clerk says is deleted is forgotten after [`Config::erase_after_hours`](super::Config), one that the
//! operator names at once. To forget is to rename: a pseudonym that is made of nothing but the time takes its place
//! everywhere. So what was counted stays counted, a finding goes on saying that an account was broken into, and says no
//! longer whose.
//!
//! Invariant: as everything here a function of the log: a replay forgets at the same place, under the same pseudonym. Time
//! is that of arrivals, not of events: the day within which it has to be done is one of the wall clock.
//!
//! Not here: the log's own records, and what was found before (`erasure`); an account of which something arrives
//! afterwards is met anew.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::key::{Counter, Key, pair};
use super::{Detector, OVERFLOW_TENANT};
use crate::event::{Account, AuthEvent, Erasure, Outcome, Source, Tenant, Timestamp};
use crate::finding::{Finding, Lifecycle};

/// Accounts that wait to be forgotten, in some 15 MB: more than are deleted in a day, but for a clean-up by script. Beyond
/// it the first to come are forgotten early.
const MAX_WAITING: usize = 65_536;
const HOUR_MILLIS: i64 = 3_600_000;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Waiting {
    due: Timestamp,
    asked_at: Timestamp,
    asked_by: Box<str>,
    request: Box<str>,
    tenant: Tenant,
    account: Account,
}

/// What is to be forgotten, and what has been.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Erasures {
    /// In the order in which they are due.
    waiting: VecDeque<Waiting>,
    /// The latest arrival.
    now: Timestamp,
    /// How many were forgotten: part of the pseudonym.
    made: u64,
    /// Not part of the state: the task takes them.
    #[serde(skip)]
    erased: Vec<Erasure>,
}

impl Erasures {
    pub(crate) fn is_due(&self, wall: Timestamp) -> bool {
        self.waiting.front().is_some_and(|first| first.due <= wall)
    }

    fn put(&mut self, waiting: Waiting) {
        let place = self.waiting.partition_point(|other| other.due <= waiting.due);
        self.waiting.insert(place, waiting);
    }

    fn pop(&mut self) -> Option<Waiting> {
        let is_over = self.waiting.len() > MAX_WAITING;
        self.waiting.pop_front_if(|first| is_over || first.due <= self.now)
    }
}

/// What every pseudonym begins with.
const PSEUDONYM: &str = "erased_";

/// Whether the event asks for an account to be forgotten. Only two may: reports of attempts say nothing of the kind. Of
/// what was asked for and is done, the record bears the pseudonym.
pub(super) fn is_erasure(event: &AuthEvent) -> bool {
    let is_done = matches!(&event.account, Some(Account::User(id)) if id.starts_with(PSEUDONYM));
    let may_ask = matches!(event.source, Source::ClerkWebhook | Source::Operator);
    event.outcome == Outcome::AccountDeleted && may_ask && !is_done
}

impl Detector {
    /// The accounts that were forgotten since this was last asked.
    pub fn take_erased(&mut self) -> Vec<Erasure> {
        std::mem::take(&mut self.erasures.erased)
    }

    pub(super) fn ask_to_forget(&mut self, event: &AuthEvent, found: &mut Vec<Finding>) {
        let Some(account) = &event.account else { return };
        let (asked_by, hours): (Box<str>, _) = if event.source == Source::Operator {
            // Whoever asks by name knows it, and has no need of a delay.
            (event.reason.clone().unwrap_or_else(|| "operator".into()), 0)
        } else {
            // One that was known to be theirs comes with it.
            let asked_by = if matches!(account, Account::User(_)) { "webhook" } else { "link" };
            (asked_by.into(), i64::from(self.config.erase_after_hours))
        };
        self.erasures.put(Waiting {
            due: event.received_at.plus_millis(hours * HOUR_MILLIS),
            asked_at: event.received_at,
            asked_by,
            request: if event.id.contains(&account.to_string()) { "".into() } else { event.id.clone() },
            tenant: event.tenant.clone(),
            account: account.clone(),
        });
        self.forget_due(event.received_at, found);
    }

    /// Something arrived at `now`: forgets what is due.
    pub(super) fn forget_due(&mut self, now: Timestamp, found: &mut Vec<Finding>) {
        self.erasures.now = self.erasures.now.max(now);
        while let Some(waiting) = self.erasures.pop() {
            self.forget_account(waiting, found);
        }
    }

    fn forget_account(&mut self, waiting: Waiting, found: &mut Vec<Finding>) {
        let Waiting { asked_at, asked_by, request, tenant, account, due: _ } = waiting;
        // Asked for twice is done once.
        self.erasures.waiting.retain(|other| other.account != account || !tenant.covers(&other.tenant));
        let replacement: Box<str> = format!("{PSEUDONYM}{:x}_{:x}", self.erasures.now.0, self.erasures.made).into();
        self.erasures.made += 1;
        for place in self.places_of(&tenant) {
            self.rename(place, &account, &Account::User(replacement.clone()), found);
        }
        self.erasures.erased.push(Erasure { tenant, account, replacement, request, asked_by, asked_at });
    }

    fn places_of(&self, tenant: &Tenant) -> Vec<u16> {
        if *tenant.0 == *Tenant::EVERY {
            return (0..).zip(&self.tenants).map(|(place, _)| place).collect();
        }
        let place = self.tenant_places.get(tenant).or_else(|| self.tenant_places.get(&OVERFLOW_TENANT.into()));
        place.copied().into_iter().collect()
    }

    /// Calls the account `from` of the tenant at `place` `to`, wherever it stands.
    fn rename(&mut self, place: u16, from: &Account, to: &Account, found: &mut Vec<Finding>) {
        let (was, is) = (Key::account(place, from), Key::account(place, to));
        for counter in [Counter::Account, Counter::AccountCodes] {
            let (was, is) = (was.of(counter), is.of(counter));
            self.entities.rename(&was, &is);
            if let Some(episode) = self.of_key.remove(&was) {
                self.of_key.insert(is, episode);
            }
        }
        self.familiar.forget(was.hash());
        if let Some(tenant) = self.tenants.get(usize::from(place)) {
            self.mistyped.forget(pair(was.bits(), tenant.salt));
        }
        self.recent.rename(place, from, to);
        self.sessions.rename(place, from, to);
        let now = self.watermark.now();
        for episode in self.episodes.values_mut().filter(|episode| episode.key.tenant == place) {
            // Whoever keeps the newest revision of a finding keeps none with the name.
            if episode.rename(from, to) && !episode.is_closed() {
                found.push(episode.revise(Lifecycle::Updated, now));
            }
        }
    }
}

#[cfg(test)]
mod tests;
