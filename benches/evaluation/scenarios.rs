//! What is played: attacks and benign days, as one would ask `authspike simulate` for them.

use authspike::simulate::delivery::Distortion;
use authspike::simulate::{Attack, Benign};

use super::comparators::{DAY, HOUR, MINUTE};
use super::play::Episode;

/// When an attack begins, where its row says nothing else: Monday at ten.
const TEN: i64 = 10 * HOUR;

/// One attack to be found.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its name in tables.
    pub name: &'static str,
    /// What leads up to it, and in the end itself.
    pub attacks: &'static [&'static str],
    /// Whether the detector knows this tenant; an attack in its first hour if not.
    pub learned: bool,
    /// Whether only sessions are reported, as Clerk's webhooks do.
    pub sessions_only: bool,
}

const fn row(name: &'static str, attacks: &'static [&'static str]) -> Row {
    Row { name, attacks, learned: true, sessions_only: false }
}

const fn sessions_only(name: &'static str, attacks: &'static [&'static str]) -> Row {
    Row { name, attacks, learned: true, sessions_only: true }
}

/// Every attack.
pub const ATTACKS: [Row; 36] = [
    row("A1 one address, 3,000 in 10 min", &["stuffing:hits=15"]),
    row("A2 50 addresses, 1/min each", &["botnet:hits=30"]),
    row("A3 2,000 addresses, 9/h each", &["wide-botnet"]),
    row("A4 20,000 addresses, once each", &["proxies"]),
    row("A5 2,000 tries in 24 h, 1.2 an address", &["low-and-slow"]),
    row("A6 spray, 3 rounds from 10 addresses", &["spraying"]),
    row("A7 one account, 200 in 10 min", &["guessing:hits=1"]),
    row("A8 one account from 60 addresses", &["distributed-guessing:hits=1"]),
    row("A9 one address, 12/h", &["drip:hits=2"]),
    row("A10 behind a carrier's address", &["carrier-nat:hits=2"]),
    row("A11 5 addresses, 6/h each", &["drip:addresses=5,attempts=720,hits=4"]),
    row("2,000 addresses, 3 tries each", &["botnet:addresses=2000,attempts=6000,hits=30"]),
    row("50,000 addresses, once each, 6 h", &["proxies:addresses=50000,attempts=50000,for=6h"]),
    row("spray, one password a day", &["spraying:accounts=500,attempts=2500,addresses=100,for=5d"]),
    row("slow guessing, 4/h, 3 days", &["guessing:attempts=288,for=3d"]),
    row("ramp, +25 % a day from 4 a day", &["drip:growth=0.25,attempts=2400,for=22d,at=0s"]),
    row("ramp, +50 % a day from 4 a day", &["drip:growth=0.5,attempts=1900,for=13d,at=0s"]),
    row("behind the office's address", &["office:hits=2"]),
    row("a /24 of 120 addresses", &["network:hits=3"]),
    row("IPv6, rotating in one /64", &["ipv6:hits=5"]),
    row("IPv6, rotating over a /56", &["ipv6:origin=one-slash-56,addresses=250,hits=5"]),
    row("IPv6, rotating over a /48", &["ipv6:origin=one-slash-48,hits=5"]),
    row("IPv6 homes, 5,000 tries, once each", &["proxies:origin=homes,addresses=5000,attempts=5000,for=2h,hits=25"]),
    row("against 30/min an address, lock-out", &["botnet:addresses=20,attempts=24000,for=20m,limit=30,hits=60"]),
    row("padded with 45 % own sign-ins", &["stuffing:attempts=1000,for=1h,padding=0.45,hits=5"]),
    row(
        "a week of poisoning, then 3,000",
        &["drip:hosts=9,attempts=140,for=7d,at=0s", "stuffing:hosts=9,at=7d10h,hits=15"],
    ),
    row("a week of poisoning, then 12/h", &["drip:hosts=9,attempts=140,for=7d,at=0s", "drip:hosts=9,at=7d10h,hits=2"]),
    row("enumeration", &["enumeration"]),
    row("checked list, 60 accounts in 10 min", &["fan-out"]),
    sessions_only("sessions only: 60 accounts in 10 min", &["fan-out"]),
    sessions_only("sessions only: 80 accounts in 20 h", &["fan-out:attempts=80,for=20h,at=1h"]),
    sessions_only(
        "sessions only: 120 accounts from a /24",
        &["fan-out:origin=one-network,addresses=24,attempts=120,for=30m"],
    ),
    sessions_only(
        "sessions only: 120 accounts from a /56",
        &["fan-out:origin=one-slash-56,addresses=24,attempts=120,for=30m"],
    ),
    row("A1 while A3 runs", &["wide-botnet:at=8h", "stuffing:hits=15"]),
    Row {
        name: "first hour: one address, 3,000",
        attacks: &["stuffing:hits=15,at=20m"],
        learned: false,
        sessions_only: false,
    },
    Row {
        name: "first hour: 2,000 addresses, 3 each",
        attacks: &["botnet:addresses=2000,attempts=6000,hits=30,at=20m"],
        learned: false,
        sessions_only: false,
    },
];

impl Row {
    /// As it is played.
    pub fn episode(&self) -> Episode {
        let mut attacks: Vec<Attack> =
            self.attacks.iter().map(|text| Attack::parse(text).expect("a row of this table")).collect();
        for attack in &mut attacks {
            attack.at = Some(attack.at.unwrap_or(TEN));
        }
        let end = attacks.iter().filter_map(|attack| attack.at.map(|at| at + attack.span_millis)).max().unwrap_or(0);
        // An unknown tenant is met on a working morning: at midnight there is nobody to confuse it with.
        let offset = if self.learned { 0 } else { 9 * HOUR };
        // Past the next midnight: some rules run once a day.
        let midnight = ((offset + end).div_euclid(DAY) + 1) * DAY;
        let sessions_only = self.sessions_only;
        Episode { span: midnight - offset + HOUR, offset, attacks, sessions_only, ..Episode::default() }
    }
}

/// One benign day.
#[derive(Clone, Copy, Debug)]
pub struct Quiet {
    /// Its name in tables.
    pub name: &'static str,
    benign: &'static [&'static str],
    /// People per thousand accounts, where a scenario takes them from everybody.
    per_thousand: Option<u32>,
    is_distorted: bool,
    /// Whether the detector knows this tenant; its very first days if not.
    pub learned: bool,
}

const fn quiet(name: &'static str, benign: &'static [&'static str]) -> Quiet {
    Quiet { name, benign, per_thousand: None, is_distorted: false, learned: true }
}

/// Every benign day. A carrier's shared addresses, and offices at their usual hours, are in all traffic.
pub const BENIGN: [Quiet; 14] = [
    quiet("office rush, 400 people in 15 min", &["office-rush:at=12h"]),
    quiet("Monday morning: rush and 3x the traffic", &["office-rush:at=8h,for=45m", "spike:at=8h,for=2h,count=3"]),
    quiet("marketing spike, 5x for an hour", &["spike:at=12h"]),
    Quiet { per_thousand: Some(300), ..quiet("forced reset, 30 % of all in 10 h", &["forced-reset:at=8h"]) },
    quiet("an office's address changes", &["egress-change:at=9h"]),
    quiet("an office moves to four addresses", &["egress-change:at=9h,count=4"]),
    quiet("trade fair, 300 people in an hour", &["gathering:at=10h"]),
    quiet("campus, 150 people in 10 min", &["gathering:at=9h,for=10m,count=150"]),
    Quiet {
        learned: false,
        ..quiet("first days, an office rush each", &["office-rush:at=9h", "office-rush:at=33h", "gathering:at=36h"])
    },
    quiet("stale password, every minute", &["stale-password:at=9h,for=24h,count=1440"]),
    quiet("nightly test, 20 accounts twice", &["nightly-test:at=3h"]),
    quiet("outage, 20 min", &["outage:at=12h"]),
    quiet("outage, 2 h, broken deploy", &["outage:at=14h,for=2h"]),
    Quiet { is_distorted: true, ..quiet("late, repeated and misdated deliveries", &[]) },
];

impl Quiet {
    /// As it is played to a tenant of `accounts` accounts: two days.
    pub fn episode(&self, accounts: u32) -> Episode {
        let mut benign: Vec<Benign> =
            self.benign.iter().map(|text| Benign::parse(text).expect("a row of this table")).collect();
        if let Some(share) = self.per_thousand {
            for scenario in &mut benign {
                scenario.count = (accounts / 1000 * share).max(1);
            }
        }
        let distorted =
            Distortion { repeated: 0.02, late: 0.05, late_millis: 30 * MINUTE, skewed: 0.02, skew_millis: 10 * MINUTE };
        let distortion = if self.is_distorted { distorted } else { Distortion::default() };
        Episode { span: 2 * DAY, benign, distortion, ..Episode::default() }
    }
}
