//! Microsoft Sentinel's password spray: once a day, over bins of 20 minutes, an address with at least five failing accounts
//! and more failing than succeeding ones.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use super::recent::Schedule;
use super::{Alert, Comparator, DAY, MINUTE, Seen};

const BIN: i64 = 20 * MINUTE;
const ACCOUNTS: usize = 5;

#[derive(Clone, Debug, Default)]
struct Bin {
    failed: HashSet<u64>,
    succeeded: HashSet<u64>,
}

#[derive(Clone, Debug)]
pub struct Sentinel {
    schedule: Schedule,
    bins: BTreeMap<(IpAddr, i64), Bin>,
}

impl Sentinel {
    pub fn new() -> Self {
        Self { schedule: Schedule::every(DAY), bins: BTreeMap::new() }
    }
}

impl Comparator for Sentinel {
    fn name(&self) -> &'static str {
        "Sentinel spray"
    }

    fn observe(&mut self, seen: &Seen, alerts: &mut Vec<Alert>) {
        while let Some(now) = self.schedule.due(seen.at) {
            for ((ip, _), bin) in std::mem::take(&mut self.bins) {
                if bin.failed.len() >= ACCOUNTS && bin.failed.len() > bin.succeeded.len() {
                    alerts.push(Alert { at: now, since: now - DAY, subject: ip.into() });
                }
            }
        }
        let bin = self.bins.entry((seen.ip, seen.at.div_euclid(BIN))).or_default();
        if seen.failed { &mut bin.failed } else { &mut bin.succeeded }.insert(seen.account);
    }

    fn fork(&self) -> Box<dyn Comparator> {
        Box::new(self.clone())
    }
}
