//! Splunk's content for Okta and for web sign-ins: a plain count of users per address, and two rules at three standard
//! deviations, whose mean and deviation include the span they judge.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::IpAddr;

use super::recent::{Recent, Schedule};
use super::{Alert, Comparator, DAY, MINUTE, Seen, Subject};

/// What a search looks back on.
const LOOK_BACK: i64 = DAY;

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
            alerts.extend(over.map(|(ip, _)| Alert { at: now, subject: ip.into() }));
        }
        if seen.failed {
            self.recent.push(seen);
        }
    }

    fn fork(&self) -> Box<dyn Comparator> {
        Box::new(self.clone())
    }
}

/// Values of the spans that had any, with their mean and sample deviation.
#[derive(Clone, Debug, Default)]
struct Series(VecDeque<(i64, f64)>);

impl Series {
    fn push(&mut self, at: i64, value: f64) {
        self.0.push_back((at, value));
        while self.0.front().is_some_and(|(oldest, _)| at - oldest >= LOOK_BACK) {
            self.0.pop_front();
        }
    }

    /// Mean and three deviations; nothing is above the mean of one value.
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
    schedule: Schedule,
    recent: Recent,
    accounts: Series,
    addresses: Series,
}

impl Distributed {
    const SPAN: i64 = 2 * MINUTE;
    const LEAST: usize = 30;

    pub fn new() -> Self {
        Self {
            schedule: Schedule::every(Self::SPAN),
            recent: Recent::of(Self::SPAN),
            accounts: Series::default(),
            addresses: Series::default(),
        }
    }
}

impl Comparator for Distributed {
    fn name(&self) -> &'static str {
        "Splunk 3σ tenant"
    }

    fn observe(&mut self, seen: &Seen, alerts: &mut Vec<Alert>) {
        while let Some(now) = self.schedule.due(seen.at) {
            let (mut accounts, mut addresses) = (HashSet::new(), HashSet::new());
            for seen in self.recent.until(now) {
                accounts.insert(seen.account);
                addresses.insert(seen.ip);
            }
            if accounts.is_empty() {
                continue;
            }
            let value = accounts.len() as f64;
            self.accounts.push(now, value);
            self.addresses.push(now, addresses.len() as f64);
            if accounts.len() > Self::LEAST
                && addresses.len() > Self::LEAST
                && value >= self.accounts.limit()
                && value >= self.addresses.limit()
            {
                alerts.push(Alert { at: now, subject: Subject::Tenant });
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
    schedule: Schedule,
    recent: Recent,
    series: HashMap<IpAddr, Series>,
    swept: i64,
}

impl PerAddress {
    const SPAN: i64 = 5 * MINUTE;
    const LEAST: usize = 10;

    pub fn new() -> Self {
        let (schedule, recent) = (Schedule::every(Self::SPAN), Recent::of(Self::SPAN));
        Self { schedule, recent, series: HashMap::new(), swept: 0 }
    }
}

impl Comparator for PerAddress {
    fn name(&self) -> &'static str {
        "Splunk 3σ address"
    }

    fn observe(&mut self, seen: &Seen, alerts: &mut Vec<Alert>) {
        while let Some(now) = self.schedule.due(seen.at) {
            for (ip, accounts) in accounts_by_address(&mut self.recent, now) {
                let series = self.series.entry(ip).or_default();
                series.push(now, accounts.len() as f64);
                if accounts.len() > Self::LEAST && accounts.len() as f64 >= series.limit() {
                    alerts.push(Alert { at: now, subject: ip.into() });
                }
            }
            if now - self.swept >= DAY {
                self.swept = now;
                self.series.retain(|_, series| series.0.back().is_some_and(|(last, _)| now - last < LOOK_BACK));
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
