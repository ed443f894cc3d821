//! What is normal at one tenant: how often its entities fail, when its people sign in, how many mistype.
//!
//! Invariant: learned only from what was not under attack (the callers see to that), forgotten by half every 28 days, and
//! held within bounds of the shipped figures: a tenant under attack from its first day must not be able to call that normal.
//!
//! Not here: what is normal for one entity (`baseline`), and how a tenant's totals move (`series`).

use serde::{Deserialize, Serialize};

use super::key::Counter;
use super::window::{SLOT_SECONDS, SLOTS, Slot};
use crate::event::Timestamp;
use crate::finding::{BaselineSource, Learning};

/// `2^(-4 h / 28 d)`: how much of the past is left after one slot.
const KEPT_PER_SLOT: f64 = 0.995_882_623_658_297_4;
/// Entity-seconds a tenant must have been observed before its own mean replaces the shipped one: 1000 entity-days.
const WARM_SECONDS: f64 = 1000.0 * 86_400.0;
/// The tenant's mean stays within this factor of the shipped one.
const MEAN_CLAMP: f64 = 4.0;
/// Accounts that fail per account that gets in, at an address nobody attacks, before the tenant's own is known.
const SHIPPED_PHI: f64 = 0.2;
/// Bounds of what is learned of it.
const PHI: (f64, f64) = (0.05, 0.6);
/// Successes after which half of what is believed of phi is the tenant's own.
const PHI_PRIOR: f64 = 100.0;
/// A slot of the week counts as its neighbours do until it has been seen this often.
const SEASON_PRIOR: f64 = 2.0;
/// Bounds of a season's factor: below a tenth the night would make every failure a wonder.
const SEASON: (f64, f64) = (0.1, 6.0);
/// Sign-ins a season must rest on; fewer are noise.
const SEASON_MIN_EVENTS: f64 = 200.0;
/// Slots told apart: six of a working day and six of a weekend day.
const PHASES: usize = 2 * SLOTS as usize;
/// Independent failures a day that a tenant is taken to have at least, when its budget of false findings is shared out.
const MIN_FAILURES_A_DAY: f64 = 10_000.0;
/// Observed for so long, a tenant is no longer learning its first day …
const PROVISIONAL_MILLIS: i64 = 86_400_000;
/// … and has seen each weekday twice.
const LEARNED_MILLIS: i64 = 14 * 86_400_000;

/// Failures (codes, accounts that strangers get in to) a day of one entity before anything is known: distinct accounts for an address and for a
/// network, attempts for an account.
fn shipped_per_day(counter: Counter) -> f64 {
    match counter {
        Counter::Account => 0.1,
        Counter::Address | Counter::AddressCodes => 0.5,
        Counter::AccountCodes => 0.3,
        // New phones and borrowed computers, from a hotel or a carrier.
        Counter::AddressFanOut => 0.2,
        Counter::NetworkFanOut => 0.4,
        Counter::Network | Counter::Tenant | Counter::TenantLocks | Counter::TenantOutage => 1.0,
    }
}

/// Failures and the time they were seen in, summed over entities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Sum {
    failures: f64,
    seconds: f64,
}

/// How busy one part of the week is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Phase {
    events: f64,
    slots: f64,
}

/// What one tenant's entities have been seen to do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Population {
    sums: [Sum; Counter::COUNT],
    week: [Phase; PHASES],
    /// How busy each part of the week is against the mean; 0: not known yet. Worked out once a slot.
    seasons: [f64; PHASES],
    /// Failing and succeeding accounts of networks where people sign in.
    failing: f64,
    succeeding: f64,
    failures_a_day: f64,
    /// The slot under way, what happened in it, and when the tenant was first seen.
    slot: Slot,
    events: f64,
    failures: f64,
    since: Timestamp,
}

impl Population {
    /// A tenant first seen at `at`, in `slot`.
    pub(crate) fn starting_at(at: Timestamp, slot: Slot) -> Self {
        Self { since: at, slot, ..Self::default() }
    }

    /// A sign-in event in `slot`; `independent` if it was an address's independent failure.
    pub(crate) fn count(&mut self, slot: Slot, independent: bool) {
        self.roll(slot);
        self.events += 1.0;
        self.failures += if independent { 1.0 } else { 0.0 };
    }

    fn roll(&mut self, slot: Slot) {
        if slot <= self.slot {
            return;
        }
        // Empty slots are part of the season, but a silence longer than a week says that nothing is measured, not that
        // nothing happens.
        for passed in self.slot..slot.min(self.slot + 7 * SLOTS) {
            let kept = KEPT_PER_SLOT;
            for sum in &mut self.sums {
                (sum.failures, sum.seconds) = (sum.failures * kept, sum.seconds * kept);
            }
            for phase in &mut self.week {
                (phase.events, phase.slots) = (phase.events * kept, phase.slots * kept);
            }
            (self.failing, self.succeeding) = (self.failing * kept, self.succeeding * kept);
            if let Some(phase) = self.week.get_mut(phase_of(passed)) {
                phase.events += self.events;
                phase.slots += 1.0;
            }
            // A tenth of a day's weight per slot: the mean of the last two days or so.
            self.failures_a_day += (self.failures * f64::from(SLOTS) - self.failures_a_day) * 0.1;
            (self.events, self.failures) = (0.0, 0.0);
        }
        self.slot = slot;
        self.seasons = self.seasons_of_the_week();
    }

    fn seasons_of_the_week(&self) -> [f64; PHASES] {
        let (events, slots) =
            self.week.iter().fold((0.0, 0.0), |(events, slots), phase| (events + phase.events, slots + phase.slots));
        if events < SEASON_MIN_EVENTS {
            return [1.0; PHASES];
        }
        let mean = events / slots;
        self.week.map(|phase| {
            let busy = (phase.events + SEASON_PRIOR * mean) / (phase.slots + SEASON_PRIOR) / mean;
            busy.clamp(SEASON.0, SEASON.1)
        })
    }

    /// How busy `slot` is against the mean of the week.
    pub(crate) fn season(&self, slot: Slot) -> f64 {
        self.seasons.get(phase_of(slot)).copied().filter(|season| *season > 0.0).unwrap_or(1.0)
    }

    /// Seasonal seconds of a whole slot.
    pub(crate) fn exposure(&self, slot: Slot) -> f64 {
        f64::from(SLOT_SECONDS) * self.season(slot)
    }

    /// An entity has shown `failures` in `seconds` of seasonal time.
    pub(crate) fn learn(&mut self, counter: Counter, failures: f64, seconds: f64) {
        if let Some(sum) = self.sums.get_mut(counter as usize) {
            sum.failures += failures;
            sum.seconds += seconds;
        }
    }

    /// A network where people sign in has shown so many failing and succeeding accounts in a slot.
    pub(crate) fn learn_phi(&mut self, failing: f64, succeeding: f64) {
        // Not above the bound by itself: one odd network must not speak for all.
        self.failing += failing.min(succeeding * PHI.1);
        self.succeeding += succeeding;
    }

    /// Accounts that fail per account that gets in where nobody attacks.
    pub(crate) fn phi(&self) -> f64 {
        let learned = (self.failing + SHIPPED_PHI * PHI_PRIOR) / (self.succeeding + PHI_PRIOR);
        learned.clamp(PHI.0, PHI.1)
    }

    /// Mean failures per second of one entity, and whether it is the tenant's own figure.
    pub(crate) fn mean(&self, counter: Counter) -> (f64, BaselineSource) {
        let shipped = shipped_per_day(counter) / 86_400.0;
        let sum = self.sums.get(counter as usize).copied().unwrap_or_default();
        if sum.seconds < WARM_SECONDS {
            return (shipped, BaselineSource::Prior);
        }
        let own = (sum.failures / sum.seconds).clamp(shipped / MEAN_CLAMP, shipped * MEAN_CLAMP);
        (own, BaselineSource::Tenant)
    }

    /// The largest probability of chance at which the tenant has at most `budget` false findings a day: a window is judged
    /// once per independent failure.
    pub(crate) fn chance(&self, budget: f64) -> f64 {
        budget / self.failures_a_day.max(MIN_FAILURES_A_DAY)
    }

    /// How far learning has come at `now`.
    pub(crate) fn learning(&self, now: Timestamp) -> Learning {
        match now.millis_since(self.since) {
            ..PROVISIONAL_MILLIS => Learning::Learning,
            PROVISIONAL_MILLIS..LEARNED_MILLIS => Learning::Provisional,
            LEARNED_MILLIS.. => Learning::Learned,
        }
    }
}

/// The part of the week a slot lies in. The epoch began on a Thursday.
fn phase_of(slot: Slot) -> usize {
    let day = (slot / SLOTS + 4) % 7;
    let weekend = day == 0 || day == 6;
    (slot % SLOTS + if weekend { SLOTS } else { 0 }) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Slot = SLOTS;
    /// A Monday.
    const MONDAY: Slot = 20_458 * SLOTS;

    #[test]
    fn constants_are_what_they_say() {
        assert!((KEPT_PER_SLOT - 0.5_f64.powf(4.0 / (28.0 * 24.0))).abs() < 1e-15);
        assert_eq!((phase_of(MONDAY), phase_of(MONDAY + 5 * DAY), phase_of(MONDAY + 7 * DAY - 1)), (0, 6, 11));
    }

    #[test]
    fn the_season_follows_the_day_and_the_weekend_and_averages_to_one() {
        let mut population = Population::starting_at(Timestamp(0), MONDAY);
        assert!((population.season(MONDAY) - 1.0).abs() < 1e-12, "nothing known");
        for slot in MONDAY..MONDAY + 28 * DAY {
            let busy = match phase_of(slot) {
                3 => 300,
                0..6 => 60,
                _ => 30,
            };
            (0..busy).for_each(|_| population.count(slot, false));
        }
        let noon = population.season(MONDAY + 3);
        let saturday = population.season(MONDAY + 5 * DAY);
        assert!((3.0..4.0).contains(&noon) && (0.3..0.6).contains(&saturday), "{noon} {saturday}");
        let mean: f64 = (MONDAY..MONDAY + 7 * DAY).map(|slot| population.season(slot)).sum::<f64>() / 42.0;
        assert!((mean - 1.0).abs() < 0.1, "{mean}");
    }

    #[test]
    fn the_tenant_replaces_the_shipped_mean_within_bounds() {
        let mut population = Population::default();
        population.learn(Counter::Address, 100_000.0, 2000.0 * 86_400.0);
        let (mean, source) = population.mean(Counter::Address);
        assert_eq!(source, BaselineSource::Tenant);
        assert!((mean * 86_400.0 - 2.0).abs() < 1e-9, "50 a day, clamped to 4 times 0.5");
    }

    #[test]
    fn phi_is_learned_slowly_and_within_bounds() {
        let mut population = Population::default();
        assert!((population.phi() - 0.2).abs() < 1e-12);
        (0..100).for_each(|_| population.learn_phi(1.0, 10.0));
        assert!((0.1..0.12).contains(&population.phi()), "{}", population.phi());
        (0..10_000).for_each(|_| population.learn_phi(1000.0, 10.0));
        assert!((population.phi() - 0.6).abs() < 0.01, "{}", population.phi());
    }

    #[test]
    fn the_budget_is_shared_out_over_the_failures_of_a_day() {
        let mut population = Population::starting_at(Timestamp(0), MONDAY);
        assert!((population.chance(0.01) - 1e-6).abs() < 1e-12);
        for slot in MONDAY..MONDAY + 30 * DAY {
            (0..20_000).for_each(|_| population.count(slot, true));
        }
        let chance = population.chance(0.01);
        assert!((0.8e-7..1.1e-7).contains(&chance), "{chance}");
    }
}
