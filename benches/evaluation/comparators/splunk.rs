//! Splunk's content for Okta and for web sign-ins: a plain count of users per address, and two rules at three standard
//! deviations, whose mean and deviation include the span they judge.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::net::IpAddr;

use super::recent::{Recent, Schedule};
use super::{Alert, Comparator, DAY, HOUR, MINUTE, Seen, Subject};

/// Accounts that failed from each address of a span that has ended.
fn accounts_by_address(recent: &mut Recent, now: i64) -> BTreeMap<IpAddr, HashSet<u64>> {
    let mut by_address: BTreeMap<IpAddr, HashSet<u64>> = BTreeMap::new();
    for seen in recent.until(now) {
        by_address.entry(seen.ip).or_default().insert(seen.account);
    }
    by_address
}

/// More than nine accounts of one address in a five-minute span of the clock.
#[derive(Clone, Debug)]
pub struct Okta {
    schedule: Schedule,
    recent: Recent,
}

impl Okta {
    const SPAN: i64 = 5 * MINUTE;
    const ACCOUNTS: usize = 9;

    pub fn new() -> Self {
        Self { schedule: Schedule::every(Self::SPAN), recent: Recent::of(Self::SPAN) }
    }
}

impl Comparator for Okta {
    fn name(&self) -> &'static str {
        "Splunk Okta"
    }

    fn observe(&mut self, seen: &Seen, alerts: &mut Vec<Alert>) {
        while let Some(now) = self.schedule.due(seen.at) {
            let over = accounts_by_address(&mut self.recent, now);
            let over = over.into_iter().filter(|(_, accounts)| accounts.len() > Self::ACCOUNTS);
            alerts.extend(over.map(|(ip, _)| Alert { at: now, since: now - Self::SPAN, subject: ip.into() }));
        }
        if seen.failed {
            self.recent.push(seen);
        }
    }

    fn fork(&self) -> Box<dyn Comparator> {
        Box::new(self.clone())
    }
}

/// What a rule at three deviations searches, and how often.
///
/// As shipped, every search runs hourly over the last hour.
#[derive(Clone, Debug)]
struct Search {
    every: i64,
    look_back: i64,
    spans: Schedule,
    runs: Schedule,
}

impl Search {
    fn new(span: i64, every: i64, look_back: i64) -> Self {
        Self { every, look_back, spans: Schedule::every(span), runs: Schedule::every(every) }
    }
}

/// Counts of the spans that had any, oldest first.
#[derive(Clone, Debug, Default)]
struct Series(VecDeque<(i64, f64)>);

impl Series {
    fn push(&mut self, at: i64, value: f64) {
        self.0.push_back((at, value));
    }

    fn forget(&mut self, before: i64) {
        while self.0.front().is_some_and(|(oldest, _)| *oldest <= before) {
            self.0.pop_front();
        }
    }

    /// Mean and three sample deviations, the spans that are judged included; nothing is above the mean of one value.
    fn limit(&self) -> f64 {
        let count = self.0.len() as f64;
        let mean = self.0.iter().map(|(_, value)| value).sum::<f64>() / count;
        let squares = self.0.iter().map(|(_, value)| (value - mean).powi(2)).sum::<f64>();
        if count < 2.0 { f64::INFINITY } else { mean + 3.0 * (squares / (count - 1.0)).sqrt() }
    }
}

/// Two-minute spans of the whole tenant: more than 30 accounts and 30 addresses fail, and the accounts lie three deviations
/// above their own mean and (sic) above that of the addresses.
#[derive(Clone, Debug)]
pub struct Distributed {
    name: &'static str,
    search: Search,
    recent: Recent,
    accounts: Series,
    addresses: Series,
}

impl Distributed {
    const SPAN: i64 = 2 * MINUTE;
    const LEAST: f64 = 30.0;

    /// As shipped.
    pub fn new() -> Self {
        Self::searching("Splunk 3σ tenant", HOUR, HOUR)
    }

    /// As favourable to it as can be: at the end of each span, over the last day.
    pub fn at_its_best() -> Self {
        Self::searching("Splunk 3σ tenant, 24 h", Self::SPAN, DAY)
    }

    fn searching(name: &'static str, every: i64, look_back: i64) -> Self {
        Self {
            name,
            search: Search::new(Self::SPAN, every, look_back),
            recent: Recent::of(Self::SPAN),
            accounts: Series::default(),
            addresses: Series::default(),
        }
    }

    fn end_span(&mut self, now: i64) {
        let (mut accounts, mut addresses) = (HashSet::new(), HashSet::new());
        for seen in self.recent.until(now) {
            accounts.insert(seen.account);
            addresses.insert(seen.ip);
        }
        if !accounts.is_empty() {
            self.accounts.push(now, accounts.len() as f64);
            self.addresses.push(now, addresses.len() as f64);
        }
    }

    fn fires(&mut self, now: i64) -> bool {
        self.accounts.forget(now - self.search.look_back);
        self.addresses.forget(now - self.search.look_back);
        let limit = self.accounts.limit().max(self.addresses.limit());
        let both = self.accounts.0.iter().zip(&self.addresses.0);
        both.filter(|((at, _), _)| *at > now - self.search.every).any(|((_, accounts), (_, addresses))| {
            *accounts > Self::LEAST && *addresses > Self::LEAST && *accounts >= limit
        })
    }
}

impl Comparator for Distributed {
    fn name(&self) -> &'static str {
        self.name
    }

    fn observe(&mut self, seen: &Seen, alerts: &mut Vec<Alert>) {
        while let Some(now) = self.search.spans.due(seen.at) {
            self.end_span(now);
            // A run falls on the end of a span.
            if self.search.runs.due(now).is_some() && self.fires(now) {
                alerts.push(Alert { at: now, since: now - self.search.every, subject: Subject::Tenant });
            }
        }
        if seen.failed {
            self.recent.push(seen);
        }
    }

    fn fork(&self) -> Box<dyn Comparator> {
        Box::new(self.clone())
    }
}

/// Five-minute spans of one address: more than ten accounts fail, three deviations above the address's own mean.
#[derive(Clone, Debug)]
pub struct PerAddress {
    search: Search,
    recent: Recent,
    series: BTreeMap<IpAddr, Series>,
}

impl PerAddress {
    const SPAN: i64 = 5 * MINUTE;
    const LEAST: f64 = 10.0;

    /// As shipped.
    pub fn new() -> Self {
        let search = Search::new(Self::SPAN, HOUR, HOUR);
        Self { search, recent: Recent::of(Self::SPAN), series: BTreeMap::new() }
    }
}

impl Comparator for PerAddress {
    fn name(&self) -> &'static str {
        "Splunk 3σ address"
    }

    fn observe(&mut self, seen: &Seen, alerts: &mut Vec<Alert>) {
        while let Some(now) = self.search.spans.due(seen.at) {
            for (ip, accounts) in accounts_by_address(&mut self.recent, now) {
                self.series.entry(ip).or_default().push(now, accounts.len() as f64);
            }
            if self.search.runs.due(now).is_none() {
                continue;
            }
            let since = now - self.search.every;
            let over = self.series.iter().filter(|(_, series)| {
                let limit = series.limit();
                series.0.iter().any(|(_, accounts)| *accounts > Self::LEAST && *accounts >= limit)
            });
            alerts.extend(over.map(|(ip, _)| Alert { at: now, since, subject: (*ip).into() }));
            // The next run looks back on what comes after this one.
            self.series.clear();
        }
        if seen.failed {
            self.recent.push(seen);
        }
    }

    fn fork(&self) -> Box<dyn Comparator> {
        Box::new(self.clone())
    }
}
