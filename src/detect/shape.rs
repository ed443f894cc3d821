//! What kind of attack is it? A fit from 0 to 1 for every shape the numbers could have.
//!
//! Invariant: no condition switches a shape off by itself: each figure moves its fit a little, so that one more try changes
//! little, and the shape of an episode changes only when another fits better by a margin ([`MARGIN`]).

use super::key::Counter;
use super::rules::{float, rounded};
use crate::finding::{Likelihood, Shape, Totals};

/// By how much another shape must fit better before an episode is called by it.
pub(crate) const MARGIN: f64 = 0.1;
/// Share of the sign-ins that work, below which it is the trying of a list, and above which that of a checked one.
const MOSTLY_FAILS: f64 = 0.1;
/// See [`MOSTLY_FAILS`].
const HARDLY_FAILS: f64 = 0.5;
/// Fits below this are not worth telling.
const WORTH_TELLING: f64 = 0.2;

/// The figures a shape is told from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    pub(crate) counter: Counter,
    /// Strangers who got in gave it away.
    pub(crate) is_fan_out: bool,
    pub(crate) totals: Totals,
    /// Accounts that were tried.
    pub(crate) accounts: u64,
    /// Failures whose reason was a wrong code.
    pub(crate) code_failures: u64,
    /// Accounts broken into.
    pub(crate) compromised: u64,
}

/// Every shape worth telling, best first.
pub(crate) fn likelihoods(figures: &Figures) -> Vec<Likelihood> {
    let fits: Vec<(Shape, f64)> = match figures.counter {
        Counter::Account => {
            let codes = share(figures.code_failures, figures.totals.failures);
            vec![(Shape::PasswordGuessing, 1.0 - codes), (Shape::CodeGuessing, codes)]
        }
        Counter::AddressCodes | Counter::AccountCodes => vec![(Shape::CodeFlood, 1.0)],
        Counter::TenantLocks => vec![(Shape::LockoutWave, 1.0)],
        Counter::TenantOutage => vec![(Shape::Outage, 1.0)],
        Counter::Address | Counter::Network | Counter::Tenant => many_accounts(figures),
        Counter::AddressFanOut | Counter::NetworkFanOut => Vec::new(),
    };
    let mut likely: Vec<Likelihood> = fits
        .into_iter()
        .map(|(shape, fit)| Likelihood { shape, fit: rounded(fit, 100.0) })
        .filter(|likelihood| likelihood.fit >= WORTH_TELLING)
        .collect();
    likely.sort_by(|a, b| b.fit.total_cmp(&a.fit).then(a.shape.cmp(&b.shape)));
    likely
}

/// What failed says which attack it is, unless hardly anything did.
fn many_accounts(figures: &Figures) -> Vec<(Shape, f64)> {
    let worked = figures.totals.successes + figures.totals.password_correct_stopped;
    let fan_out = if figures.is_fan_out {
        ramp(share(worked, worked + figures.totals.failures), MOSTLY_FAILS, HARDLY_FAILS)
    } else {
        0.0
    };
    let failing = failing_accounts(figures).into_iter().map(|(shape, fit)| (shape, fit * (1.0 - fan_out)));
    failing.chain([(Shape::SuccessFanOut, fan_out)]).collect()
}

fn failing_accounts(figures: &Figures) -> Vec<(Shape, f64)> {
    let failures = figures.totals.failures;
    let unknown = share(figures.totals.unknown_identifiers, failures);
    let tries = float(failures.max(1)) / float(figures.accounts.max(1));
    let codes = share(figures.code_failures, failures);
    // Of a leaked list 5 to 30 % exist at any one app; whoever only looks for accounts hardly meets a password prompt.
    // Two more that exist are imagined: eight of eight say little.
    let surely_unknown = share(figures.totals.unknown_identifiers, failures + 2);
    let enumeration = if figures.compromised > 0 { 0.0 } else { ramp(surely_unknown, 0.94, 1.0) };
    // Rounds over accounts that exist.
    let spraying = ramp(tries, 1.2, 2.2) * (1.0 - ramp(unknown, 0.2, 0.5));
    // One account takes nearly all of it.
    let guessing = ramp(tries, 5.0, 15.0) * (1.0 - ramp(float(figures.accounts), 2.0, 8.0));
    let stuffing = (1.0 - enumeration) * (1.0 - spraying) * (1.0 - guessing);
    vec![
        (Shape::CredentialStuffing, stuffing * (1.0 - codes)),
        (Shape::PasswordSpraying, spraying * (1.0 - guessing) * (1.0 - codes)),
        (Shape::PasswordGuessing, guessing * (1.0 - codes)),
        (Shape::Enumeration, enumeration),
        (Shape::CodeGuessing, codes),
    ]
}

/// 0 below `from`, 1 above `to`, a straight line between.
fn ramp(value: f64, from: f64, to: f64) -> f64 {
    ((value - from) / (to - from)).clamp(0.0, 1.0)
}

fn share(part: u64, whole: u64) -> f64 {
    float(part.min(whole)) / float(whole.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(counter: Counter, failures: u64, unknown: u64, accounts: u64) -> Shape {
        let totals = Totals { failures, unknown_identifiers: unknown, ..Totals::default() };
        likelihoods(&Figures { counter, is_fan_out: false, totals, accounts, code_failures: 0, compromised: 0 })[0]
            .shape
    }

    #[test]
    fn the_numbers_say_what_it_is() {
        assert_eq!(best(Counter::Address, 1000, 850, 1000), Shape::CredentialStuffing);
        assert_eq!(best(Counter::Address, 1000, 0, 1000), Shape::CredentialStuffing);
        assert_eq!(best(Counter::Address, 1500, 0, 500), Shape::PasswordSpraying);
        assert_eq!(best(Counter::Address, 1000, 995, 1000), Shape::Enumeration);
        assert_eq!(best(Counter::Address, 8, 8, 8), Shape::CredentialStuffing, "too few to tell");
        assert_eq!(best(Counter::Address, 60, 0, 2), Shape::PasswordGuessing);
        assert_eq!(best(Counter::Account, 60, 0, 1), Shape::PasswordGuessing);
        assert_eq!(best(Counter::TenantLocks, 0, 0, 50), Shape::LockoutWave);
    }

    #[test]
    fn one_more_try_changes_little() {
        for failures in 100..2000_u64 {
            let fit = |failures: u64| {
                let totals = Totals { failures, unknown_identifiers: failures / 2, ..Totals::default() };
                let figures = Figures {
                    counter: Counter::Address,
                    is_fan_out: false,
                    totals,
                    accounts: 500,
                    code_failures: 0,
                    compromised: 0,
                };
                many_accounts(&figures)
            };
            for ((shape, before), (_, after)) in fit(failures).into_iter().zip(fit(failures + 1)) {
                assert!((before - after).abs() < 0.08, "{shape:?} {failures}: {before} {after}");
            }
        }
    }

    #[test]
    fn wrong_codes_make_it_code_guessing() {
        let totals = Totals { failures: 30, ..Totals::default() };
        let figures = Figures {
            counter: Counter::Account,
            is_fan_out: false,
            totals,
            accounts: 1,
            code_failures: 28,
            compromised: 0,
        };
        let likely = likelihoods(&figures);
        assert_eq!((likely[0].shape, likely.len()), (Shape::CodeGuessing, 1));
    }

    #[test]
    fn strangers_who_get_in_are_a_fan_out_until_most_of_them_fail() {
        let shape = |failures: u64| {
            let totals = Totals { successes: 40, failures, ..Totals::default() };
            let figures = Figures {
                counter: Counter::Address,
                is_fan_out: true,
                totals,
                accounts: 40 + failures,
                code_failures: 0,
                compromised: 40,
            };
            likelihoods(&figures)[0].shape
        };
        assert_eq!(
            [0, 10, 40, 2000].map(shape),
            [Shape::SuccessFanOut, Shape::SuccessFanOut, Shape::SuccessFanOut, Shape::CredentialStuffing]
        );
    }
}
