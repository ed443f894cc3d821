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
use super::window::{SLOT_SECONDS, SLOTS};
use crate::event::Timestamp;

/// Minutes of a slot of the day.
const MINUTES_PER_SLOT: u32 = SLOT_SECONDS / 60;
/// Minutes kept.
const MINUTES: u32 = 30;
/// Minutes in which an outage must show.
const OUTAGE_MINUTES: u32 = 10;
/// Spans that failures per success are told from: the shortest in which enough people got in. None is shorter than the
/// window of an entity, whose own share can then be taken out exactly.
const PHI_MINUTES: [u32; 3] = [10, 20, 30];
/// Spans that a bad day is told from: the shortest in which enough fail.
const MORE_MINUTES: [u32; 5] = [2, 5, 10, 20, 30];
/// Sign-ins that must be expected in a span before their absence means anything: with 8, chance leaves 1 or none once in
/// 330 spans, and failures must be many besides.
const MIN_EXPECTED: f64 = 8.0;
/// In an outage no more than this share of the expected sign-ins succeeds.
const OUTAGE_SHARE: f64 = 0.2;
/// And at least this share of them fails instead.
const OUTAGE_FAILING: f64 = 0.75;
/// Failures, and networks they come from, that make an outage.
pub(super) const OUTAGE_FAILURES: u32 = 10;
/// See [`OUTAGE_FAILURES`]: one office that fails is no outage.
const OUTAGE_NETWORKS: u64 = 5;
/// Successes that must be there before failures per success mean anything.
const MIN_SUCCESSES: u64 = 20;
/// Failed attempts per person who fails: most try twice.
const TRIES: f64 = 1.5;
/// `2^(-1 min / 28 d)`.
const KEPT_PER_MINUTE: f64 = 0.999_982_808_997_455_5;
/// Failed attempts per success before the tenant's own are known, and the successes they weigh.
const USUAL: (f64, f64) = (0.25, 200.0);
/// Failures that must be there before they are called more than usual.
const MIN_FAILURES: f64 = 20.0;
/// However many more than usual fail, an attack from elsewhere shows once it is this many times what is normal.
const MAX_MORE: f64 = 8.0;
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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pulse {
    newest: u32,
    minutes: [Minute; MINUTES as usize],
    /// Failed attempts and successes of the last six slots of four hours.
    day: [(u32, u32); SLOTS as usize],
    /// Failed attempts and successes of the minutes that are gone, halved every 28 days: what is usual.
    failures: f64,
    successes: f64,
    /// See [`Pulse::more_than_usual`]; 0: not known yet. Worked out once a minute.
    more: f64,
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
            let (failures, _) = self.slot();
            *failures = failures.saturating_add(1);
        }
    }

    /// A sign-in succeeded there.
    pub(crate) fn succeed(&mut self, at: Timestamp) {
        if let Some(minute) = self.minute(at) {
            minute.successes = minute.successes.saturating_add(1);
            let (_, successes) = self.slot();
            *successes = successes.saturating_add(1);
        }
    }

    /// The minute of `at`, which becomes the newest if it is later; `None` if it is gone.
    fn minute(&mut self, at: Timestamp) -> Option<&mut Minute> {
        let number = number_of(at);
        if number > self.newest {
            for passed in 0..(number - self.newest).min(MINUTES) {
                let Some(minute) = self.minutes.get_mut(place(number - passed)) else { continue };
                let gone = std::mem::take(minute);
                // An hour in which more fail than get in is an incident, not what is usual.
                let most = f64::from(gone.successes) * MAX_PHI;
                self.failures = self.failures * KEPT_PER_MINUTE + f64::from(gone.failures).min(most);
                self.successes = self.successes * KEPT_PER_MINUTE + f64::from(gone.successes);
            }
            let slot = number / MINUTES_PER_SLOT;
            let passed = slot.saturating_sub(self.newest / MINUTES_PER_SLOT).min(SLOTS);
            for passed in 0..passed {
                if let Some(counts) = self.day.get_mut(((slot - passed) % SLOTS) as usize) {
                    *counts = (0, 0);
                }
            }
            self.more = self.more_than_usual_fail();
            self.newest = number;
        }
        if self.newest - number >= MINUTES { None } else { self.minutes.get_mut(place(number)) }
    }

    /// The running slot of the day.
    fn slot(&mut self) -> &mut (u32, u32) {
        let [first, second, third, fourth, fifth, sixth] = &mut self.day;
        match self.newest / MINUTES_PER_SLOT % SLOTS {
            0 => first,
            1 => second,
            2 => third,
            3 => fourth,
            4 => fifth,
            _ => sixth,
        }
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
        // Whoever would have got in fails. At an hour that was never seen before, fewer of either say little.
        let holds = f64::from(last.successes) <= OUTAGE_SHARE * expected_successes
            && f64::from(last.failures) >= OUTAGE_FAILING * expected_successes
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

    /// The same as [`Pulse::phi`] over the last day.
    pub(crate) fn day_phi(&self, failures: u64, successes: u64) -> Option<f64> {
        let sum = |of: fn(&(u32, u32)) -> u32| self.day.iter().map(|slot| u64::from(of(slot))).sum::<u64>();
        let successes = sum(|slot| slot.1).saturating_sub(successes);
        let failures = sum(|slot| slot.0).saturating_sub(failures);
        (successes >= MIN_SUCCESSES).then(|| (float(failures) / TRIES / float(successes)).min(MAX_PHI))
    }

    /// Accounts that fail per account that gets in, without the `failures` and `successes` of the entity that asks, which
    /// are those of at most ten minutes; `None` when too few get in to tell.
    pub(crate) fn phi(&self, failures: u64, successes: u64) -> Option<f64> {
        PHI_MINUTES.into_iter().find_map(|minutes| {
            let all = self.last(minutes);
            let successes = u64::from(all.successes).saturating_sub(successes);
            let failures = u64::from(all.failures).saturating_sub(failures);
            (successes >= MIN_SUCCESSES).then(|| (float(failures) / TRIES / float(successes)).min(MAX_PHI))
        })
    }
}

impl Pulse {
    /// How many times more than usual fail at the moment, at least: two standard deviations are given to chance. An attack
    /// from where nobody signs in does not move it; a forced reset and an outage do.
    pub(crate) fn more_than_usual(&self) -> f64 {
        if self.more > 0.0 { self.more } else { 1.0 }
    }

    fn more_than_usual_fail(&self) -> f64 {
        let usual = (self.failures + USUAL.0 * USUAL.1) / (self.successes + USUAL.1);
        let spans = MORE_MINUTES.into_iter().map(|minutes| self.last(minutes));
        let enough = |minute: &Minute| f64::from(minute.failures) >= 2.0 * MIN_FAILURES;
        let Some(last) = spans.into_iter().find(enough) else { return 1.0 };
        let failures = f64::from(last.failures);
        let surely = failures - 2.0 * libm::sqrt(failures);
        let successes = f64::from(last.successes).max(failures / MAX_MORE / usual);
        (surely / successes / usual).clamp(1.0, MAX_MORE)
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
    fn more_than_usual_fail_on_a_bad_day_and_not_by_chance() {
        let mut pulse = Pulse::default();
        // A day with one failure per four sign-ins, one of them a second.
        let day = 86_400;
        for second in 0..day {
            pulse.succeed(at(second));
            if second % 4 == 0 {
                pulse.fail(at(second), 3);
            }
        }
        assert!((pulse.more_than_usual() - 1.0).abs() < 1e-9);
        for second in day..=day + 600 {
            pulse.succeed(at(second));
            pulse.fail(at(second), 3);
        }
        let reset = pulse.more_than_usual();
        assert!((3.0..4.0).contains(&reset), "{reset}");
        (day + 600..day + 1500).for_each(|second| pulse.fail(at(second), 3));
        let outage = pulse.more_than_usual();
        assert!((6.0..=MAX_MORE).contains(&outage), "{outage}");
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
