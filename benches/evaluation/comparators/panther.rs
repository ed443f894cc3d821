//! Panther's brute force by address: 20 refused within the hour that the first one begins (threshold and deduplication
//! period in one).

use std::collections::HashMap;
use std::net::IpAddr;

use super::{Alert, Comparator, HOUR, Seen};

const THRESHOLD: u32 = 20;
const PERIOD: i64 = HOUR;

#[derive(Clone, Debug, Default)]
pub struct Panther {
    /// When the period of an address began, and the failures in it.
    periods: HashMap<IpAddr, (i64, u32)>,
    swept: i64,
}

impl Comparator for Panther {
    fn name(&self) -> &'static str {
        "Panther"
    }

    fn observe(&mut self, seen: &Seen, alerts: &mut Vec<Alert>) {
        if seen.at - self.swept >= PERIOD {
            self.swept = seen.at;
            self.periods.retain(|_, (began, _)| seen.at - *began < PERIOD);
        }
        if !seen.failed {
            return;
        }
        let (began, count) = self.periods.entry(seen.ip).or_insert((seen.at, 0));
        if seen.at - *began >= PERIOD {
            (*began, *count) = (seen.at, 0);
        }
        *count += 1;
        if *count == THRESHOLD {
            alerts.push(Alert::at_once(seen.at, seen.ip));
        }
    }

    fn fork(&self) -> Box<dyn Comparator> {
        Box::new(self.clone())
    }
}
