//! How sign-in fares at the moment where people usually sign in from: the last half-hour of a tenant.
//!
//! Two questions are asked of it. Does sign-in fail for everyone ([`Pulse::outage`]), which an attacker cannot bring about,
//! since he can add failures but take no success away? And how many fail per success elsewhere ([`Pulse::phi`]), so that a
//! day on which everybody's password was reset does not look like an attack on every office?
//!
//! Invariant: counts in minutes of event time; what is older than half an hour is gone.

use serde::{Deserialize, Serialize};

use super::distinct::estimate_64;
use super::rules::float;
use crate::event::Timestamp;

/// Minutes kept.
const MINUTES: u32 = 30;
/// Minutes in which an outage must show.
const OUTAGE_MINUTES: u32 = 10;
/// Spans that failures per success are told from: the shortest in which enough people got in.
const PHI_MINUTES: [u32; 4] = [5, 10, 20, 30];
/// Sign-ins that must be expected in a span before their absence means anything: with 8, chance leaves 1 or none once in
/// 330 spans, and failures must be many besides.
const MIN_EXPECTED: f64 = 8.0;
/// In an outage no more than this share of the expected sign-ins succeeds.
const OUTAGE_SHARE: f64 = 0.2;
/// Failures, and networks they come from, that make an outage.
pub(super) const OUTAGE_FAILURES: u32 = 10;
/// See [`OUTAGE_FAILURES`]: one office that fails is no outage.
const OUTAGE_NETWORKS: u64 = 5;
/// Successes that must be there before failures per success mean anything.
const MIN_SUCCESSES: u64 = 20;
/// Failed attempts per person who fails: most try twice.
const TRIES: f64 = 1.5;
/// However many fail elsewhere, one success excuses no more failing accounts than this times the guard.
const MAX_PHI: f64 = 1.0;

/// One minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Minute {
    successes: u32,
    failures: u32,
    networks: u64,
}

/// The last ten minutes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pulse {
    newest: u32,
    minutes: [Minute; MINUTES as usize],
}

/// An outage as it stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Outage {
    pub(crate) start: Timestamp,
    pub(crate) failures: u64,
    /// Networks that fail; an estimate.
    pub(crate) networks: u64,
    pub(crate) successes: u64,
    pub(crate) expected_successes: f64,
}

impl Pulse {
    /// A sign-in failed at a network where people sign in.
    pub(crate) fn fail(&mut self, at: Timestamp, network: u64) {
        if let Some(minute) = self.minute(at) {
            minute.failures = minute.failures.saturating_add(1);
            minute.networks |= 1 << (network & 63);
        }
    }

    /// A sign-in succeeded.
    pub(crate) fn succeed(&mut self, at: Timestamp) {
        if let Some(minute) = self.minute(at) {
            minute.successes = minute.successes.saturating_add(1);
        }
    }

    /// The minute of `at`, which becomes the newest if it is later; `None` if it is gone.
    fn minute(&mut self, at: Timestamp) -> Option<&mut Minute> {
        let number = number_of(at);
        if number > self.newest {
            for passed in 0..(number - self.newest).min(MINUTES) {
                if let Some(minute) = self.minutes.get_mut(place(number - passed)) {
                    *minute = Minute::default();
                }
            }
            self.newest = number;
        }
        if self.newest - number >= MINUTES { None } else { self.minutes.get_mut(place(number)) }
    }

    /// The last `minutes`, the running one included.
    fn last(&self, minutes: u32) -> Minute {
        (0..minutes.min(MINUTES)).filter_map(|back| self.minutes.get(place(self.newest.checked_sub(back)?))).fold(
            Minute::default(),
            |sum, minute| Minute {
                successes: sum.successes.saturating_add(minute.successes),
                failures: sum.failures.saturating_add(minute.failures),
                networks: sum.networks | minute.networks,
            },
        )
    }

    /// Whether sign-in fails for everyone at `now`, when `expected` sign-ins are normal in five minutes. Looks at the
    /// shortest span in which their absence means something.
    pub(crate) fn outage(&self, now: Timestamp, expected: f64) -> Option<Outage> {
        if number_of(now).saturating_sub(self.newest) >= 2 {
            return None;
        }
        let minutes = (2..=OUTAGE_MINUTES).find(|minutes| expected * f64::from(minutes - 1) / 5.0 >= MIN_EXPECTED)?;
        let last = self.last(minutes);
        let expected_successes = expected * f64::from(minutes - 1) / 5.0;
        let networks = estimate_64(last.networks).min(last.failures.into());
        let holds = f64::from(last.successes) <= OUTAGE_SHARE * expected_successes
            && last.failures >= OUTAGE_FAILURES
            && networks >= OUTAGE_NETWORKS;
        holds.then(|| Outage {
            start: Timestamp(i64::from(self.newest.saturating_sub(minutes - 1)) * 60_000),
            failures: last.failures.into(),
            networks,
            successes: last.successes.into(),
            expected_successes,
        })
    }

    /// Accounts that fail per account that gets in, without the `failures` and `successes` of the entity that asks, which
    /// are those of five minutes or a little more; `None` when too few get in to tell.
    pub(crate) fn phi(&self, failures: u64, successes: u64) -> Option<f64> {
        PHI_MINUTES.into_iter().find_map(|minutes| {
            let all = self.last(minutes);
            let successes = u64::from(all.successes).saturating_sub(successes);
            let failures = u64::from(all.failures).saturating_sub(failures);
            (successes >= MIN_SUCCESSES).then(|| (float(failures) / TRIES / float(successes)).min(MAX_PHI))
        })
    }
}

fn number_of(at: Timestamp) -> u32 {
    u32::try_from(at.0.max(0) / 60_000).unwrap_or(u32::MAX)
}

fn place(minute: u32) -> usize {
    (minute % MINUTES) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_767_600_000_000;

    fn at(seconds: i64) -> Timestamp {
        Timestamp(START + seconds * 1000)
    }

    /// One sign-in a second until `broken`, then one failure a second, from 40 networks.
    fn pulse(broken: i64, until: i64) -> Pulse {
        let mut pulse = Pulse::default();
        for second in 0..until {
            if second < broken {
                pulse.succeed(at(second));
            } else {
                pulse.fail(at(second), u64::try_from(second % 40).unwrap());
            }
        }
        pulse
    }

    #[test]
    fn sign_in_failing_for_everyone_is_an_outage_within_minutes_and_an_attack_is_none() {
        assert_eq!(pulse(600, 600).outage(at(600), 300.0), None);
        let first = (600..900).find(|until| pulse(600, *until).outage(at(*until), 300.0).is_some());
        assert!((660..=720).contains(&first.unwrap()), "{first:?}");
        // Ten failures a second on top of the usual sign-ins.
        let mut attacked = pulse(1200, 1200);
        (900..1200).for_each(|second| (0..10).for_each(|network| attacked.fail(at(second), network)));
        assert_eq!(attacked.outage(at(1200), 300.0), None);
        // Only one network fails.
        let mut office = Pulse::default();
        (0..600).for_each(|second| office.fail(at(second), 7));
        assert_eq!(office.outage(at(600), 300.0), None);
        // At night nobody is missed.
        assert_eq!(pulse(600, 900).outage(at(900), 1.0), None);
    }

    #[test]
    fn an_outage_is_over_when_people_get_in_again_or_nothing_comes() {
        let mut pulse = pulse(600, 1200);
        assert!(pulse.outage(at(1200), 300.0).is_some());
        assert_eq!(pulse.outage(at(1400), 300.0), None);
        (1200..1260).for_each(|second| pulse.succeed(at(second)));
        assert_eq!(pulse.outage(at(1260), 300.0), None);
    }

    #[test]
    fn failures_elsewhere_are_counted_without_those_of_the_one_who_asks() {
        let mut pulse = Pulse::default();
        (0..300).for_each(|second| pulse.succeed(at(second)));
        (0..150).for_each(|second| pulse.fail(at(second * 2), 3));
        assert!((pulse.phi(0, 0).unwrap() - 1.0 / 3.0).abs() < 1e-9);
        assert!(pulse.phi(150, 0).unwrap().abs() < 1e-9, "all of them are his own");
        assert_eq!(pulse.phi(0, 290), None);
        (0..3000).for_each(|_| pulse.fail(at(299), 3));
        assert!((pulse.phi(0, 0).unwrap() - 1.0).abs() < 1e-9, "bounded");
    }
}
