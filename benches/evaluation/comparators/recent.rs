//! What rules that run by the clock share: a schedule, the failures they look back on, and counts of groups.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Seen;

/// A search that runs every so often, on the clock's whole multiples.
#[derive(Clone, Debug)]
pub struct Schedule {
    every: i64,
    next: Option<i64>,
}

impl Schedule {
    pub fn every(every: i64) -> Self {
        Self { every, next: None }
    }

    /// The next run that is due before what happens at `at` is seen; the first one lies at or after the first `at`.
    pub fn due(&mut self, at: i64) -> Option<i64> {
        let next = *self.next.get_or_insert_with(|| (at + self.every - 1).div_euclid(self.every) * self.every);
        if at < next {
            return None;
        }
        self.next = Some(next + self.every);
        Some(next)
    }
}

/// The failures of the last while, oldest first.
#[derive(Clone, Debug)]
pub struct Recent {
    span: i64,
    failures: VecDeque<Seen>,
}

impl Recent {
    pub fn of(span: i64) -> Self {
        Self { span, failures: VecDeque::new() }
    }

    /// How long it looks back.
    pub fn span(&self) -> i64 {
        self.span
    }

    pub fn push(&mut self, seen: &Seen) {
        self.failures.push_back(*seen);
    }

    /// Those of `[now - span, now)`.
    pub fn until(&mut self, now: i64) -> impl Iterator<Item = &Seen> {
        while self.failures.front().is_some_and(|oldest| oldest.at < now - self.span) {
            self.failures.pop_front();
        }
        self.failures.iter().filter(move |seen| seen.at < now)
    }
}

/// What a `stats … by …` of a search gives for one group.
#[derive(Clone, Debug, Default)]
pub struct Group {
    pub tries: u64,
    pub by_account: BTreeMap<u64, u64>,
    pub addresses: BTreeSet<std::net::IpAddr>,
    pub agents: BTreeSet<u64>,
    pub first: i64,
    pub last: i64,
}

impl Group {
    pub fn add(&mut self, seen: &Seen) {
        if self.tries == 0 {
            self.first = seen.at;
        }
        self.tries += 1;
        self.last = seen.at;
        *self.by_account.entry(seen.account).or_default() += 1;
        self.addresses.insert(seen.ip);
        self.agents.insert(seen.agent);
    }

    pub fn accounts(&self) -> u64 {
        self.by_account.len() as u64
    }

    /// Most tries of one account.
    pub fn most(&self) -> u64 {
        self.by_account.values().copied().max().unwrap_or(0)
    }

    /// Share of the accounts that were tried so often.
    pub fn share(&self, tries: std::ops::RangeInclusive<u64>) -> f64 {
        let with = self.by_account.values().filter(|count| tries.contains(count)).count();
        with as f64 / self.by_account.len().max(1) as f64
    }
}
