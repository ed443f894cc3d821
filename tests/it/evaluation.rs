//! The gate form of the evaluation: fixed seeds, small tenants, lower bounds on what the detector finds and how soon, upper
//! bounds on what it says about nothing. The long form, with the comparators, is `benches/evaluation.rs`.
//!
//! The bounds are what was measured with room for other seeds. A detector that got better gets tighter ones.

#![allow(clippy::cast_precision_loss, reason = "shares of small counts")]

#[allow(
    dead_code,
    clippy::wildcard_enum_match_arm,
    reason = "the gate form leaves some of it to the long one, which says the rest of this itself"
)]
#[path = "../../benches/evaluation/suite.rs"]
mod suite;

mod comparators;
mod ledger;
mod score;

use authspike::detect::Config;
use suite::comparators::{Alert, Comparator, DAY, Seen, Subject};
use suite::ledger::Ledger;
use suite::panel::{Learned, Panel};
use suite::play::{Episode, Played, Tenant};
use suite::scenarios::{ATTACKS, BENIGN};
use suite::score::{AttackScore, QuietScore};

const SMALL: Tenant = Tenant { accounts: 1000, seed: 11 };
const LARGER: Tenant = Tenant { accounts: 6000, seed: 12 };
const LEARN_DAYS: i64 = 14;
const QUIET_DAYS: i64 = 14;

/// What is asked of the detector on one attack: a row of [`ATTACKS`], and before so many attempts it is found.
const BOUNDS: [(&str, u64); 36] = [
    ("A1 one address, 3,000 in 10 min", 12),
    ("A2 50 addresses, 1/min each", 40),
    ("A3 2,000 addresses, 9/h each", 40),
    ("A4 20,000 addresses, once each", 40),
    ("A5 2,000 tries in 24 h, 1.2 an address", 60),
    ("A6 spray, 3 rounds from 10 addresses", 40),
    ("A7 one account, 200 in 10 min", 20),
    ("A8 one account from 60 addresses", 8),
    ("A9 one address, 12/h", 40),
    ("A10 behind a carrier's address", 15),
    ("A11 5 addresses, 6/h each", 75),
    ("2,000 addresses, 3 tries each", 40),
    ("50,000 addresses, once each, 6 h", 40),
    ("spray, one password a day", 80),
    ("slow guessing, 4/h, 3 days", 50),
    ("ramp, +25 % a day from 4 a day", 1000),
    ("ramp, +50 % a day from 4 a day", 500),
    ("behind the office's address", 15),
    ("a /24 of 120 addresses", 25),
    ("IPv6, rotating in one /64", 12),
    ("IPv6, rotating over a /56", 25),
    ("IPv6, rotating over a /48", 25),
    ("IPv6 homes, 5,000 tries, once each", 40),
    ("against 30/min an address, lock-out", 40),
    ("padded with 45 % own sign-ins", 30),
    ("a week of poisoning, then 3,000", 15),
    ("a week of poisoning, then 12/h", 150),
    ("enumeration", 15),
    ("checked list, 60 accounts in 10 min", 40),
    ("sessions only: 60 accounts in 10 min", 40),
    ("sessions only: 80 accounts in 20 h", 60),
    ("sessions only: 120 accounts from a /24", 80),
    ("sessions only: 120 accounts from a /56", 80),
    ("A1 while A3 runs", 15),
    ("first hour: one address, 3,000", 12),
    ("first hour: 2,000 addresses, 3 each", 80),
];

/// Share of an attack's attempts that the findings about it account for.
const ATTRIBUTED: f64 = 0.98;
/// Share of the accounts broken into that are named as compromised or as suspected, over all attacks.
const NAMED: f64 = 0.98;
/// Share of those named as compromised that are.
const NAMED_RIGHTLY: f64 = 0.9;
/// False stories of one tenant in [`QUIET_DAYS`]: at most 0.1 a day.
const FALSE_STORIES: u64 = 1;
/// Share of that time in which one may be open.
const WRONGLY_OPEN: f64 = 0.002;
/// Stories on a benign day. A test suite that fails on 20 accounts and a client that fails on one all day are told from an
/// attack by nothing but their names.
const BENIGN_STORIES: u64 = 0;
const NAMELESS_STORIES: u64 = 1;

/// Says nothing, or fires at every failure: what no bound may let pass.
#[derive(Clone)]
enum StandIn {
    Deaf,
    Nervous,
}

impl Comparator for StandIn {
    fn name(&self) -> &'static str {
        "stand-in"
    }

    fn observe(&mut self, seen: &Seen, alerts: &mut Vec<Alert>) {
        if matches!(self, Self::Nervous) && seen.failed {
            alerts.extend([seen.ip.into(), Subject::Tenant].map(|subject| Alert::at_once(seen.at, subject)));
        }
    }

    fn fork(&self) -> Box<dyn Comparator> {
        Box::new(self.clone())
    }
}

/// Who is held to the bounds: the detector, and the two that must fail.
const OURS: usize = 0;
const DEAF: usize = 1;
const NERVOUS: usize = 2;

fn stand_ins() -> Vec<Box<dyn Comparator>> {
    vec![Box::new(StandIn::Deaf), Box::new(StandIn::Nervous)]
}

fn learned(tenant: Tenant) -> Learned {
    tenant.learn(&Config::default(), stand_ins(), LEARN_DAYS)
}

fn ledger(played: &Played, who: usize) -> &Ledger {
    &played.ledgers[who].1
}

/// What each of `who` did worse on the attacks than the bounds allow.
fn attack_complaints(tenant: Tenant, who: &[usize]) -> Vec<Vec<String>> {
    let learned = learned(tenant);
    let mut complaints = vec![Vec::new(); who.len()];
    let mut named = vec![[0_u64; 4]; who.len()];
    for (name, attempts) in &BOUNDS {
        let row = ATTACKS.iter().find(|row| row.name == *name).unwrap();
        let panel = if row.learned { learned.panel() } else { Panel::new(&Config::default(), stand_ins()) };
        let played = tenant.play(panel, LEARN_DAYS, &row.episode());
        for ((who, complaints), named) in who.iter().zip(&mut complaints).zip(&mut named) {
            let score = AttackScore::of(&played, ledger(&played, *who));
            let in_time = score.found.is_some_and(|found| found.after_attempts <= *attempts);
            if !in_time || score.attempts_attributed < ATTRIBUTED {
                complaints.push(format!("{name}: {score:?}"));
            }
            let either = score.named_rightly + score.suspected_rightly;
            for (sum, count) in named.iter_mut().zip([either, score.broken_into, score.named_rightly, score.named]) {
                *sum += count;
            }
        }
    }
    for (complaints, [either, broken_into, rightly, named]) in complaints.iter_mut().zip(named) {
        assert!(broken_into > 100, "{broken_into} accounts are too few to speak of a share");
        if (either as f64) < NAMED * broken_into as f64 {
            complaints.push(format!("{either} of {broken_into} accounts named or suspected"));
        }
        if (rightly as f64) < NAMED_RIGHTLY * named as f64 {
            complaints.push(format!("{rightly} of {named} accounts named rightly"));
        }
    }
    complaints
}

/// What each of `who` says about nothing, beyond what the bounds allow.
fn quiet_complaints(tenant: Tenant, who: &[usize]) -> Vec<Vec<String>> {
    let learned = learned(tenant);
    let mut complaints = vec![Vec::new(); who.len()];
    let nothing = Episode { span: QUIET_DAYS * DAY, ..Episode::default() };
    let played = tenant.play(learned.panel(), LEARN_DAYS, &nothing);
    for (who, complaints) in who.iter().zip(&mut complaints) {
        let score = QuietScore::of(ledger(&played, *who), played.from, played.until);
        let open = score.open_millis as f64 / score.millis as f64;
        if score.false_stories > FALSE_STORIES || open > WRONGLY_OPEN {
            complaints.push(format!("{QUIET_DAYS} quiet days: {score:?}"));
        }
    }
    for row in &BENIGN {
        let nameless = ["nightly test", "stale password"].iter().any(|name| row.name.starts_with(name));
        let most = if nameless { NAMELESS_STORIES } else { BENIGN_STORIES };
        let episode = row.episode(tenant.accounts);
        let (from, until) = episode.watched();
        let panel = if row.learned { learned.panel() } else { Panel::new(&Config::default(), stand_ins()) };
        let played = tenant.play(panel, LEARN_DAYS, &episode);
        for (who, complaints) in who.iter().zip(&mut complaints) {
            let score = QuietScore::of(ledger(&played, *who), played.from + from, played.from + until);
            if score.false_stories > most {
                complaints.push(format!("{}: {score:?}", row.name));
            }
        }
    }
    complaints
}

#[test]
fn attacks_on_a_small_tenant_are_found_in_time_and_silence_would_not_pass() {
    let complaints = attack_complaints(SMALL, &[OURS, DEAF]);
    assert_eq!(complaints[0], Vec::<String>::new());
    // Every attack, and the accounts.
    assert_eq!(complaints[1].len(), BOUNDS.len() + 1, "{:?}", complaints[1]);
}

#[test]
fn attacks_on_a_larger_tenant_are_found_in_time() {
    assert_eq!(attack_complaints(LARGER, &[OURS]), [Vec::<String>::new()]);
}

#[test]
fn a_small_tenants_benign_days_are_quiet_and_always_firing_would_not_pass() {
    let complaints = quiet_complaints(SMALL, &[OURS, NERVOUS]);
    assert_eq!(complaints[0], Vec::<String>::new());
    assert_eq!(complaints[1].len(), 1 + BENIGN.len(), "{:?}", complaints[1]);
}

#[test]
fn a_larger_tenants_benign_days_are_quiet() {
    assert_eq!(quiet_complaints(LARGER, &[OURS]), [Vec::<String>::new()]);
}

#[test]
fn every_attack_has_a_bound() {
    for row in &ATTACKS {
        assert_eq!(BOUNDS.iter().filter(|(name, _)| *name == row.name).count(), 1, "{}", row.name);
    }
    assert_eq!(BOUNDS.len(), ATTACKS.len());
}
