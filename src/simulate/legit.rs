//! Everyday traffic, minute by minute, with the benign scenarios that change it.
//!
//! Invariant: attempts come in order of time, and only the bouts under way and one minute of new ones are in memory.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::benign::Effect;
use super::bout::{ATTEMPTS_PER_BOUT, Bout};
use super::population::Population;
use super::random::{Random, mix, unit};
use super::render::BROWSERS;
use super::{Attempt, Ending, Load, Plan, PlanError};
use crate::event::Timestamp;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// The day swings this far around its mean: a peak of about twice the mean, as measured at a large bank.
const DAY_SWING: f64 = 0.85;
/// The busiest hour (UTC).
const BUSIEST_HOUR: f64 = 15.0;
/// Sign-ins on a weekend day, against a working day.
const WEEKEND: f64 = 0.52;

/// The legitimate side of a plan.
#[derive(Debug)]
pub(super) struct Legit {
    population: Population,
    random: Random,
    /// Bouts a millisecond, before season and scenarios.
    bouts_per_milli: f64,
    seasonal: bool,
    lockout: u32,
    effects: Vec<Effect>,
    /// Attempts of bouts that have begun.
    waiting: BinaryHeap<Reverse<Waiting>>,
    serial: u64,
    /// Everything that begins before this has been drawn.
    drawn_until: Timestamp,
    end: Timestamp,
}

/// Ordered by time, and by when it was drawn where times are equal.
#[derive(Debug)]
struct Waiting(Timestamp, u64, Attempt);

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Waiting {}
impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

impl Legit {
    pub(super) fn new(plan: &Plan, population: Population) -> Result<Self, PlanError> {
        let (bouts_per_milli, seasonal) = match plan.load {
            #[expect(clippy::cast_precision_loss, reason = "a day's milliseconds")]
            Load::PerAccountPerDay(bouts) => (f64::from(plan.accounts) * bouts / DAY as f64, true),
            Load::PerSecond(attempts) => (attempts / ATTEMPTS_PER_BOUT / 1000.0, false),
        };
        let effects = plan
            .benign
            .iter()
            .enumerate()
            .map(|(index, benign)| Effect::new(plan, index, benign, &population))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            population,
            random: plan.random_from_start(3),
            bouts_per_milli,
            seasonal,
            lockout: plan.lockout,
            effects,
            waiting: BinaryHeap::new(),
            serial: 0,
            drawn_until: plan.start,
            end: plan.span_millis.map_or(Timestamp(i64::MAX), |span| plan.start.plus_millis(span)),
        })
    }

    fn draw_minute(&mut self) {
        let from = self.drawn_until;
        let until = from.plus_millis(MINUTE).min(self.end);
        let season = if self.seasonal { season(from) } else { 1.0 };
        let busier: f64 = self.effects.iter().map(|effect| effect.busier(from)).product();
        let length = until.millis_since(from);
        #[expect(clippy::cast_precision_loss, reason = "at most a minute")]
        let expected = self.bouts_per_milli * season * busier * length as f64;
        for _ in 0..self.random.poisson(expected) {
            let account = self.population.draw(&mut self.random);
            let at = from.plus_millis(below(&mut self.random, length));
            let usual = self.population.address(account, at_work(at), &mut self.random);
            let moved = self.effects.iter().find_map(|effect| effect.moved(at, usual, account));
            let (ip, scenario) = moved.map_or((usual, None), |(ip, scenario)| (ip, Some(scenario)));
            let agent = browser(account, at);
            let bout = Bout { account, ip, agent, at, lockout: self.lockout, scenario };
            let (waiting, serial) = (&mut self.waiting, &mut self.serial);
            bout.play(&mut self.random, |attempt| enqueue(waiting, serial, attempt));
        }
        for effect in &self.effects {
            let (waiting, serial) = (&mut self.waiting, &mut self.serial);
            effect.add(from, until, &mut self.random, |attempt| enqueue(waiting, serial, attempt));
        }
        self.drawn_until = until;
    }
}

impl Iterator for Legit {
    type Item = Attempt;

    fn next(&mut self) -> Option<Attempt> {
        loop {
            match self.waiting.peek() {
                Some(Reverse(Waiting(at, ..))) if *at < self.drawn_until => break,
                _ if self.drawn_until >= self.end => return None,
                _ => self.draw_minute(),
            }
        }
        let Reverse(Waiting(at, _, mut attempt)) = self.waiting.pop()?;
        if let Some(scenario) = self.effects.iter().find_map(|effect| effect.outage(at)) {
            attempt.ending = Ending::Outage;
            attempt.scenario = Some(scenario);
        }
        Some(attempt)
    }
}

fn enqueue(waiting: &mut BinaryHeap<Reverse<Waiting>>, serial: &mut u64, attempt: Attempt) {
    waiting.push(Reverse(Waiting(attempt.at, *serial, attempt)));
    *serial += 1;
}

/// Share of a person's sign-ins that are made with the second device: a phone beside a computer.
const ON_SECOND_DEVICE: f64 = 0.25;
/// And with one that is not theirs, or new.
const ON_OTHER_DEVICE: f64 = 0.05;

/// The browser with which an account signs in at `at`. No draw of the generator, so that traffic differs in nothing else.
pub(super) fn browser(account: u32, at: Timestamp) -> u8 {
    let account = u64::from(account);
    let bout = mix(mix(account) ^ at.0.unsigned_abs());
    let which = match unit(bout) {
        share if share < ON_OTHER_DEVICE => mix(bout),
        share if share < ON_OTHER_DEVICE + ON_SECOND_DEVICE => mix(account | 1 << 40),
        _ => mix(account),
    };
    u8::try_from(which % u64::from(BROWSERS)).unwrap_or(0)
}

/// A moment in a span of `length` milliseconds.
pub(super) fn below(random: &mut Random, length: i64) -> i64 {
    i64::try_from(random.below(u64::try_from(length).unwrap_or(0))).unwrap_or(0)
}

/// How busy the hour is; the mean over a week is 1.
#[expect(clippy::cast_precision_loss, reason = "a day's milliseconds")]
fn season(at: Timestamp) -> f64 {
    const MEAN_DAY: f64 = (5.0 + 2.0 * WEEKEND) / 7.0;
    let hour = at.0.rem_euclid(DAY) as f64 / HOUR as f64;
    let swing = (std::f64::consts::TAU * (hour - BUSIEST_HOUR) / 24.0).cos();
    let day = if is_weekend(at) { WEEKEND } else { 1.0 };
    DAY_SWING.mul_add(swing, 1.0) * day / MEAN_DAY
}

/// The epoch began on a Thursday.
const fn is_weekend(at: Timestamp) -> bool {
    matches!((at.0.div_euclid(DAY) + 4).rem_euclid(7), 0 | 6)
}

/// Whether people are in their offices.
pub(super) fn at_work(at: Timestamp) -> bool {
    !is_weekend(at) && (8..18).contains(&(at.0.rem_euclid(DAY) / HOUR))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_week_averages_to_one_and_weekends_are_quiet() {
        let hours = 7 * 24;
        let sum: f64 = (0..hours).map(|hour| season(Timestamp(hour * HOUR))).sum();
        #[expect(clippy::cast_precision_loss, reason = "168")]
        let mean = sum / hours as f64;
        assert!((mean - 1.0).abs() < 1e-9, "{mean}");
        // 2026-01-05 is a Monday, the 10th a Saturday.
        let monday = Timestamp(1_767_571_200_000);
        assert!(!is_weekend(monday));
        assert!(is_weekend(monday.plus_millis(5 * DAY)));
        assert!(is_weekend(monday.plus_millis(7 * DAY - 1)));
        assert!(!is_weekend(monday.plus_millis(7 * DAY)));
    }
}
