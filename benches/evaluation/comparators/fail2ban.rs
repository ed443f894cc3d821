//! fail2ban as it comes: five failures of an address in ten minutes (`maxretry`, `findtime`), banned for ten.
//!
//! Its count is no sliding log: once the first failure is older than `findtime`, the count is what the mean rate since then
//! gives for `findtime`, so that a steady slow rate keeps adding up.

use std::collections::HashMap;
use std::net::IpAddr;

use super::{Alert, Comparator, MINUTE, Seen};

const MAX_RETRY: f64 = 5.0;
const FIND_TIME: i64 = 10 * MINUTE;
const BAN_TIME: i64 = 10 * MINUTE;

#[derive(Clone, Copy, Debug)]
struct Ticket {
    first: i64,
    last: i64,
    retry: f64,
}

#[derive(Clone, Debug, Default)]
pub struct Fail2ban {
    tickets: HashMap<IpAddr, Ticket>,
    banned_until: HashMap<IpAddr, i64>,
    swept: i64,
}

impl Fail2ban {
    /// Forgets addresses without a failure for `findtime`, as its own clean-up does.
    fn sweep(&mut self, at: i64) {
        if at - self.swept >= MINUTE {
            self.swept = at;
            self.tickets.retain(|_, ticket| at - ticket.last <= FIND_TIME);
            self.banned_until.retain(|_, until| at < *until);
        }
    }
}

impl Comparator for Fail2ban {
    fn name(&self) -> &'static str {
        "fail2ban"
    }

    fn observe(&mut self, seen: &Seen, alerts: &mut Vec<Alert>) {
        self.sweep(seen.at);
        if !seen.failed || self.banned_until.get(&seen.ip).is_some_and(|until| seen.at < *until) {
            return;
        }
        let fresh = Ticket { first: seen.at, last: seen.at, retry: 0.0 };
        let ticket = self.tickets.entry(seen.ip).or_insert(fresh);
        if seen.at - ticket.last > FIND_TIME {
            *ticket = fresh;
        }
        if ticket.first < seen.at - FIND_TIME {
            let seconds = (seen.at - ticket.first) as f64;
            ticket.retry = (ticket.retry / seconds * FIND_TIME as f64).round_ties_even();
            ticket.first = seen.at - FIND_TIME;
        }
        ticket.last = seen.at;
        ticket.retry += 1.0;
        if ticket.retry >= MAX_RETRY {
            self.tickets.remove(&seen.ip);
            self.banned_until.insert(seen.ip, seen.at + BAN_TIME);
            alerts.push(Alert::at_once(seen.at, seen.ip));
        }
    }

    fn fork(&self) -> Box<dyn Comparator> {
        Box::new(self.clone())
    }
}
