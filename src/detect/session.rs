//! One sign-in, told of by several sources: the proxy or an attempt report and the webhook `session.created` bear the same
//! session, and it counts once.
//!
//! What the first leaves out and a later one says is news: an account, an address, a user agent. Only that is then counted,
//! for whom it is news, with what the first said beside it; so whoever got in from an attacking address is named by whichever
//! of the two knows him. What both say is believed as the first said it, but a user id is more than the hash of an identifier.
//!
//! A session belongs to one user; of another user it is another sign-in, and counts.
//!
//! Invariant: a success with a session that is remembered adds nothing to a count that has it already. Bounded for each
//! tenant and in all, and it grows with use. A session is forgotten after an hour: Svix repeats a webhook after 5 seconds, 5
//! minutes and 30 minutes, and what comes later is late for every window but the day's.
//!
//! Not here: one event that is delivered twice; that is known by its id, before it gets here.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Detector;
use super::key;
use super::recent::{Again, SignIn};
use crate::event::{Account, Tenant, Timestamp};
use crate::finding::Finding;

/// Sessions remembered of a tenant: five minutes at 50 sign-ins a second.
const MAX_SESSIONS: usize = 16_384;
/// Of all tenants: four busy ones' worth; 4 MB, or 20 MB if all sources leave something out.
const MAX_HELD: usize = 4 * MAX_SESSIONS;
/// How long one is remembered.
const KEPT_MILLIS: i64 = 3_600_000;

/// What one event says that no other has said of the same sign-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct News {
    /// From where.
    pub(super) address: bool,
    /// Who.
    pub(super) account: bool,
    /// It is told of again; what was known of the account before it was told of first.
    pub(super) again: Option<Before>,
}

/// What was known before a sign-in was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "four facts that do not depend on each other")]
pub(super) struct Before {
    /// Its account had signed in before, from anywhere.
    pub(super) known: bool,
    /// And never from this network.
    pub(super) novel: bool,
    /// It was taken for a stranger.
    pub(super) stranger: bool,
    /// Nobody had signed in from there.
    pub(super) strange: bool,
}

impl News {
    /// It is told of for the first time.
    pub(super) const ALL: Self = Self { address: true, account: true, again: None };

    /// Whether an account with this history, at a network new to it, has to be counted as a newcomer there: not if it was,
    /// unless only now it is seen to be a stranger.
    pub(super) fn makes_newcomer(self, is_stranger: bool) -> bool {
        self.again.is_none_or(|before| self.joins() || (is_stranger && !before.stranger))
    }

    /// Whether it is now known for the first time who it was and from where.
    pub(super) const fn joins(self) -> bool {
        self.address || self.account
    }
}

/// What was said of a sign-in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Told {
    /// Everything: nothing can be news. Hash of the user's id.
    Whole(u64),
    /// This much.
    Partly(Box<Part>),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Part {
    at: Timestamp,
    ip: Option<IpAddr>,
    account: Option<Account>,
    user_agent: Option<Box<str>>,
    before: Before,
}

impl Told {
    /// Whether `sign_in` is of somebody else: whoever sends one session for many people hides none of them.
    fn is_of_another(&self, sign_in: &SignIn) -> bool {
        let told = match self {
            Self::Whole(user) => Some(*user),
            Self::Partly(part) => user(part.account.as_ref()),
        };
        told.zip(user(sign_in.account.as_ref())).is_some_and(|(told, now)| told != now)
    }
}

/// Hash of a user's id, where that is known.
fn user(account: Option<&Account>) -> Option<u64> {
    match account? {
        Account::User(id) => Some(key::text(id)),
        Account::Identifier(_) => None,
    }
}

impl Part {
    fn of(sign_in: &SignIn) -> Self {
        let SignIn { at, ip, account, user_agent, .. } = sign_in.clone();
        Self { at, ip, account, user_agent, before: Before::default() }
    }

    /// Adds what it knows to `sign_in`; answers what of that is news to it, if anything is.
    fn complete(&self, sign_in: &mut SignIn) -> Option<News> {
        let account = match (&self.account, &sign_in.account) {
            (Some(Account::Identifier(_)), Some(Account::User(_))) | (None, Some(_)) => true,
            (Some(_) | None, _) => false,
        };
        let news = News { address: self.ip.is_none() && sign_in.ip.is_some(), account, again: Some(self.before) };
        let device = self.user_agent.is_none() && sign_in.user_agent.is_some();
        sign_in.at = self.at;
        sign_in.ip = self.ip.or(sign_in.ip);
        if !account {
            sign_in.account.clone_from(&self.account);
        }
        if self.user_agent.is_some() {
            sign_in.user_agent.clone_from(&self.user_agent);
        }
        sign_in.again = Again { told: true, address: self.ip.is_some(), account: self.account.is_some() && !account };
        (news.joins() || device).then_some(news)
    }
}

/// The sessions of one tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Ring {
    /// When each was first told of, by the watermark; oldest first.
    order: VecDeque<(Timestamp, u64)>,
    told: BTreeMap<u64, Told>,
}

impl Ring {
    fn forget_oldest(&mut self) {
        if let Some((_, session)) = self.order.pop_front() {
            self.told.remove(&session);
        }
    }
}

/// The sessions that were told of lately.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sessions {
    /// By the tenant's place.
    rings: Vec<Ring>,
    held: usize,
}

impl Sessions {
    fn told(&self, tenant: u16, session: u64) -> Option<&Told> {
        self.rings.get(usize::from(tenant))?.told.get(&session)
    }

    /// Remembers what was said of `session`.
    fn remember(&mut self, tenant: u16, session: u64, part: Part, now: Timestamp) {
        let place = usize::from(tenant);
        if self.rings.len() <= place {
            self.rings.resize_with(place + 1, Ring::default);
        }
        if self.held >= MAX_HELD {
            self.make_room();
        }
        let Some(ring) = self.rings.get_mut(place) else { return };
        let before = ring.order.len();
        while ring.order.len() >= MAX_SESSIONS
            || ring.order.front().is_some_and(|(at, _)| now.millis_since(*at) > KEPT_MILLIS)
        {
            ring.forget_oldest();
        }
        let told = match user(part.account.as_ref()) {
            Some(user) if part.ip.is_some() && part.user_agent.is_some() => Told::Whole(user),
            _ => Told::Partly(Box::new(part)),
        };
        if ring.told.insert(session, told).is_none() {
            ring.order.push_back((now, session));
        }
        self.held = self.held + ring.order.len() - before;
    }

    /// The account `from` of the tenant at `place` is called `to` from now on.
    pub(super) fn rename(&mut self, place: u16, from: &Account, to: &Account) {
        let (was, is) = (user(Some(from)), user(Some(to)));
        for told in self.rings.get_mut(usize::from(place)).into_iter().flat_map(|ring| ring.told.values_mut()) {
            match told {
                Told::Whole(user) if Some(*user) == was => *user = is.unwrap_or_default(),
                Told::Partly(part) if part.account.as_ref() == Some(from) => part.account = Some(to.clone()),
                Told::Whole(_) | Told::Partly(_) => {}
            }
        }
    }

    /// Forgets the older half of the longest ring.
    fn make_room(&mut self) {
        if let Some(longest) = self.rings.iter_mut().max_by_key(|ring| ring.order.len()) {
            let freed = longest.order.len().div_ceil(2);
            (0..freed).for_each(|_| longest.forget_oldest());
            self.held -= freed;
        }
    }
}

impl Detector {
    /// Counts a success that made a session of the tenant called `name`, or what is news in it.
    pub(super) fn count_session(
        &mut self,
        name: &Tenant,
        session: &str,
        mut sign_in: SignIn,
        found: &mut Vec<Finding>,
    ) {
        let (tenant, session, now) = (sign_in.tenant, key::text(session), self.watermark.now());
        let news = match self.sessions.told(tenant, session) {
            None => News::ALL,
            Some(told) if told.is_of_another(&sign_in) => {
                self.count(sign_in, News::ALL, found);
                return;
            }
            Some(told) => {
                self.stats.repeated += 1;
                let Told::Partly(part) = told else { return };
                let earlier = Part::clone(part);
                let Some(news) = earlier.complete(&mut sign_in) else { return };
                let exempt = self.allow.exempt(name, sign_in.ip, sign_in.account.as_ref(), sign_in.at);
                sign_in.exempt = exempt;
                // The fuller one takes its place in whatever opens from now on.
                self.recent.take_back(tenant, |one| {
                    (one.at, one.ip, &one.account, &one.user_agent)
                        == (earlier.at, earlier.ip, &earlier.account, &earlier.user_agent)
                });
                news
            }
        };
        let mut part = Part::of(&sign_in);
        let before = self.count(sign_in, news, found);
        // Who was a stranger to one of them was one.
        let stranger = before.stranger || news.again.is_some_and(|earlier| earlier.stranger);
        part.before = Before { stranger, ..before };
        self.sessions.remember(tenant, session, part, now);
    }
}

#[cfg(test)]
mod tests;
