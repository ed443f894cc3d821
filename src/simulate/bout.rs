//! One person trying to sign in: perhaps some failures, usually a success in the end.
//!
//! Calibrated so that 20.7 % of attempts fail, 0.23 % of bouts have five failures or more and 1.3 in 10,000 have ten: a
//! share as measured on real accounts, with a tail about five times heavier, which is the side to err on when false
//! alarms are to be counted.

use std::net::IpAddr;

use super::random::Random;
use super::{Attempt, Ending, Identity, Scenario};
use crate::event::Timestamp;

/// Bouts in which anything fails.
const FAILS_AT_ALL: f64 = 0.18;
/// After a failure, the chance of one more: for most people, and for those who have really forgotten.
const FAILS_AGAIN: f64 = 0.25;
const FORGETFUL: f64 = 0.07;
const FORGETFUL_FAILS_AGAIN: f64 = 0.6;
/// Failing bouts that end in a success; the others give up or reset the password later.
const SUCCEEDS_IN_THE_END: f64 = 0.85;
/// First failures in which the identifier is what was misspelt.
const MISSPELT: f64 = 0.05;
/// Mean attempts of a bout, by the figures above: how many bouts give a wanted number of attempts.
pub(super) const ATTEMPTS_PER_BOUT: f64 = 1.2277;

/// Nobody types a hundred passwords; bounds what one bout can hold where there is no lock.
const MAX_FAILURES: u32 = 100;

/// One person's bout.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bout {
    pub(super) account: u32,
    pub(super) ip: IpAddr,
    pub(super) agent: u8,
    pub(super) at: Timestamp,
    /// Failures after which the account is locked, for longer than anybody waits; 0: never.
    pub(super) lockout: u32,
    pub(super) scenario: Option<Scenario>,
}

impl Bout {
    /// Hands the bout's attempts to `give`, in order of time.
    pub(super) fn play(&self, random: &mut Random, mut give: impl FnMut(Attempt)) {
        let mut at = self.at;
        let mut attempt = |at, identity, ending| {
            give(Attempt { at, ip: self.ip, identity, ending, agent: self.agent, scenario: self.scenario });
        };
        let account = Identity::Account(self.account);
        if random.chance(FAILS_AT_ALL) {
            if random.chance(MISSPELT) {
                attempt(at, Identity::Misspelt(self.account), Ending::UnknownIdentifier);
            } else {
                attempt(at, account, Ending::WrongPassword);
            }
            at = at.plus_millis(pause(random));
            let again = if random.chance(FORGETFUL) { FORGETFUL_FAILS_AGAIN } else { FAILS_AGAIN };
            let mut failures = 1;
            while failures < MAX_FAILURES && random.chance(again) {
                if failures == self.lockout {
                    attempt(at, account, Ending::Locked);
                    return;
                }
                attempt(at, account, Ending::WrongPassword);
                at = at.plus_millis(pause(random));
                failures += 1;
            }
            if !random.chance(SUCCEEDS_IN_THE_END) {
                return;
            }
        }
        attempt(at, account, Ending::SignedIn);
    }
}

/// Time to read the message, sigh and type again: 2 s and a log-normal rest (median 8 s), in milliseconds.
#[expect(clippy::cast_possible_truncation, reason = "at most an hour")]
pub(super) fn pause(random: &mut Random) -> i64 {
    2000 + (random.log_normal(2.1, 0.8) * 1000.0).min(3_600_000.0) as i64
}
