//! "Fifty times the usual", taken literally: an exponentially weighted mean of the failures that an address has in five
//! minutes, and an alert when the current five minutes have 50 times as many.
//!
//! What a baseline costs that has no floor of evidence, no unit but the failure and no guard for shared addresses.

use std::collections::HashMap;
use std::net::IpAddr;

use super::{Alert, Comparator, DAY, MINUTE, Seen};

const SPAN: i64 = 5 * MINUTE;
const FACTOR: f64 = 50.0;
/// An address that nothing is known of is taken to fail so often in five minutes: otherwise its first failure fires.
const LEAST: f64 = 0.1;
/// Spans after which what was learned counts half: a week.
const HALF_LIFE: f64 = (7 * DAY / SPAN) as f64;

#[derive(Clone, Copy, Debug, Default)]
struct Usual {
    mean: f64,
    span: i64,
    count: f64,
}

#[derive(Clone, Debug, Default)]
pub struct Ewma {
    addresses: HashMap<IpAddr, Usual>,
}

impl Comparator for Ewma {
    fn name(&self) -> &'static str {
        "50× EWMA"
    }

    fn observe(&mut self, seen: &Seen, alerts: &mut Vec<Alert>) {
        if !seen.failed {
            return;
        }
        let span = seen.at.div_euclid(SPAN);
        let usual = self.addresses.entry(seen.ip).or_insert(Usual { span, ..Usual::default() });
        if span != usual.span {
            let keep = |spans: f64| 0.5_f64.powf(spans / HALF_LIFE);
            usual.mean = usual.mean * keep(1.0) + usual.count * (1.0 - keep(1.0));
            usual.mean *= keep((span - usual.span - 1) as f64);
            (usual.span, usual.count) = (span, 0.0);
        }
        usual.count += 1.0;
        if usual.count >= FACTOR * usual.mean.max(LEAST) {
            alerts.push(Alert::at_once(seen.at, seen.ip));
        }
    }

    fn fork(&self) -> Box<dyn Comparator> {
        Box::new(self.clone())
    }
}
