//! How a sink stands: taking deliveries, failing, or blocked until somebody repairs something.
//!
//! A sink that fails as a whole (unreachable, overloaded) waits as a whole, with full jitter, and is asked with ever fewer
//! findings; after [`OPEN_AFTER`] failures in a row the breaker is open and a single finding is the probe. One that takes
//! something again gets twice as many each time. Invariant: the standing is kept with the outbox, so a restart neither
//! hammers a receiver that is down nor forgets that one asked for an hour of quiet.
//!
//! Not here: findings that fail alone, which wait alone (`outbox::queue`).

use std::time::Duration;

use crate::event::Timestamp;

/// Findings handed over at one time: bounds memory and the work that is repeated if the answer is lost.
pub const MAX_BATCH: usize = 500;
/// Failures in a row after which single findings probe: enough to pass over a restart of the receiver, few enough that one
/// that is down gets little traffic.
pub const OPEN_AFTER: u32 = 5;
/// Between probes of a blocked sink: a person has to act, and a provider may count wrong passwords.
const BLOCKED_PROBE_MILLIS: i64 = 5 * 60 * 1000;
/// The first retry comes within this, each next within twice as much.
const BASE_DELAY_MILLIS: i64 = 1000;
/// A receiver that comes back is noticed within five minutes, and one that is down is not hammered.
pub(super) const MAX_DELAY_MILLIS: i64 = 5 * 60 * 1000;
/// A due time further ahead than any delay or `Retry-After` means that the wall clock has been set back since: it is due.
pub(super) const MAX_AHEAD_MILLIS: i64 = 2 * 3600 * 1000;

/// The state of a sink, as it is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// It takes deliveries.
    #[default]
    Ok,
    /// The last deliveries failed; it is tried again soon.
    Failing,
    /// Many failed: one finding at a time probes.
    Open,
    /// It refuses us (credentials, address): everything is kept, and one finding probes every five minutes.
    Blocked,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Ok, Self::Failing, Self::Open, Self::Blocked];

    /// The value in the database and of the `state` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failing => "failing",
            Self::Open => "open",
            Self::Blocked => "blocked",
        }
    }
}

/// How one sink stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The state.
    pub state: State,
    /// Failures in a row.
    pub failures: u32,
    /// Nothing is sent before.
    pub next_at: Option<Timestamp>,
    /// Since when it is not [`State::Ok`].
    pub since: Option<Timestamp>,
    /// What was said last, while it is not [`State::Ok`].
    pub reason: Option<String>,
    /// Findings refused in a row, with none taken between them.
    pub refusals: u32,
    /// How often it failed or was blocked since the process began: tells an answer to what was sent before the last time.
    pub troubles: u64,
    /// Findings that are sent together.
    batch: usize,
}

impl Default for Standing {
    fn default() -> Self {
        let (refusals, troubles) = (0, 0);
        Self {
            state: State::Ok,
            failures: 0,
            next_at: None,
            since: None,
            reason: None,
            refusals,
            troubles,
            batch: MAX_BATCH,
        }
    }
}

impl Standing {
    /// As it was kept: `state` and what belongs to it. A sink that was blocked is probed at once: a restart is how
    /// credentials are usually repaired.
    #[must_use]
    pub fn restored(
        state: &str,
        failures: u32,
        next_at: Option<Timestamp>,
        since: Option<Timestamp>,
        reason: Option<String>,
    ) -> Self {
        let state = State::ALL.into_iter().find(|known| known.as_str() == state).unwrap_or_default();
        if state == State::Ok {
            return Self::default();
        }
        let next_at = if state == State::Blocked { None } else { next_at };
        Self { state, failures, next_at, since, reason, batch: 1, ..Self::default() }
    }

    /// How many findings may be sent together at `now`.
    ///
    /// # Errors
    /// None yet, but after this time.
    pub fn allowance(&self, now: Timestamp) -> Result<usize, Duration> {
        let wait = self.next_at.map_or(0, |next| next.millis_since(now));
        if wait > 0 && wait <= MAX_AHEAD_MILLIS {
            return Err(Duration::from_millis(wait.unsigned_abs()));
        }
        Ok(if matches!(self.state, State::Open | State::Blocked) { 1 } else { self.batch })
    }

    /// How many batches may be on their way at one time, of the `most` that are configured. One for a sink in trouble: a
    /// single probe is what it gets; and one while it recovers, until it takes whole batches again.
    #[must_use]
    pub fn together(&self, most: usize) -> usize {
        if self.state == State::Ok && self.batch == MAX_BATCH { most } else { 1 }
    }

    /// The receiver took something, or said of something that it never will. Whether it had not before.
    pub fn progressed(&mut self) -> bool {
        let batch = self.batch.saturating_mul(2).min(MAX_BATCH);
        let recovered = self.state != State::Ok;
        *self = Self { batch, refusals: self.refusals, troubles: self.troubles, ..Self::default() };
        recovered
    }

    /// Nothing of what was sent together was taken; the receiver may have said to wait for `after`.
    pub fn failed(&mut self, reason: &str, after: Option<Duration>, now: Timestamp) {
        self.next_at = Some(now.plus_millis(delay_millis(self.failures, after)));
        self.failures = self.failures.saturating_add(1);
        self.troubles += 1;
        self.batch = (self.batch / 2).max(1);
        self.state = if self.failures < OPEN_AFTER { State::Failing } else { State::Open };
        self.since.get_or_insert(now);
        self.reason = Some(reason.to_owned());
    }

    /// One more batch that was on its way failed with the others; the receiver may have said to wait for `after`.
    pub fn quiet(&mut self, after: Option<Duration>, now: Timestamp) {
        if let Some(after) = after {
            let floor = now.plus_millis(delay_millis(0, Some(after)));
            self.next_at = self.next_at.max(Some(floor));
        }
    }

    /// The receiver refuses us. Whether that is news.
    pub fn blocked(&mut self, reason: &str, now: Timestamp) -> bool {
        let news = self.state != State::Blocked || self.reason.as_deref() != Some(reason);
        if self.state != State::Blocked {
            self.since = Some(now);
        }
        self.state = State::Blocked;
        self.failures = self.failures.saturating_add(1);
        self.troubles += 1;
        self.next_at = Some(now.plus_millis(BLOCKED_PROBE_MILLIS));
        self.batch = 1;
        self.reason = Some(reason.to_owned());
        news
    }
}

/// Full jitter: anywhere from nothing to the whole delay, so that what failed together does not come back together; what
/// the receiver asked for is a floor. `failures` is how often it had failed before.
pub(super) fn delay_millis(failures: u32, after: Option<Duration>) -> i64 {
    let floor = after.map_or(0, |after| i64::try_from(after.as_millis()).unwrap_or(MAX_AHEAD_MILLIS));
    let ceiling = BASE_DELAY_MILLIS.saturating_mul(1_i64 << failures.min(20)).min(MAX_DELAY_MILLIS);
    // Without entropy the delay is the full one: late, but not hammering.
    let jittered = getrandom::u64().ok().and_then(|random| i64::try_from(random % (ceiling.unsigned_abs() + 1)).ok());
    floor.saturating_add(jittered.unwrap_or(ceiling)).min(MAX_AHEAD_MILLIS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_716_883_500_000);

    #[test]
    fn delays_double_up_to_five_minutes_use_their_whole_range_and_keep_the_floor() {
        for (failures, ceiling) in [(0, 1000), (1, 2000), (8, 256_000), (9, 300_000), (u32::MAX, 300_000)] {
            let delays: Vec<i64> = (0..2000).map(|_| delay_millis(failures, None)).collect();
            let (least, most) = (*delays.iter().min().unwrap(), *delays.iter().max().unwrap());
            assert!(least >= 0 && most <= ceiling, "{failures}: {least}..{most}");
            assert!(least < ceiling / 20 && most > ceiling * 19 / 20, "{failures}: {least}..{most}");
        }
        let asked = Duration::from_mins(30);
        assert!((0..100).all(|_| delay_millis(0, Some(asked)) >= 30 * 60 * 1000));
        assert!(delay_millis(20, Some(Duration::MAX)) <= MAX_AHEAD_MILLIS);
    }

    #[test]
    fn a_sink_that_fails_is_asked_less_then_by_single_probes_and_recovers_by_doubling() {
        let mut standing = Standing::default();
        let mut now = NOW;
        let mut batches = Vec::new();
        for _ in 0..8 {
            batches.push(standing.allowance(now).unwrap());
            standing.failed("503", Some(Duration::from_secs(2)), now);
            let wait = standing.allowance(now).unwrap_err();
            assert!(wait >= Duration::from_secs(2), "{wait:?}");
            now = now.plus_millis(MAX_AHEAD_MILLIS);
        }
        assert_eq!(batches, [500, 250, 125, 62, 31, 1, 1, 1]);
        assert_eq!((standing.state, standing.since), (State::Open, Some(NOW)));
        assert!(standing.progressed());
        let mut batches = Vec::new();
        for _ in 0..10 {
            batches.push(standing.allowance(now).unwrap());
            assert!(!standing.progressed());
        }
        assert!(batches[0] <= 4 && batches.is_sorted() && batches[9] == MAX_BATCH, "{batches:?}");
        assert_eq!((standing.state, standing.since, standing.reason), (State::Ok, None, None));
    }

    #[test]
    fn a_blocked_sink_is_probed_every_five_minutes_and_at_once_after_a_restart() {
        let mut standing = Standing::default();
        assert!(standing.blocked("401", NOW));
        assert_eq!(standing.allowance(NOW), Err(Duration::from_mins(5)));
        let later = NOW.plus_millis(5 * 60 * 1000);
        assert_eq!(standing.allowance(later), Ok(1));
        assert!(!standing.blocked("401", later), "no news");
        assert_eq!(standing.since, Some(NOW));
        let kept = |standing: &Standing| {
            let reason = standing.reason.clone();
            Standing::restored(standing.state.as_str(), standing.failures, standing.next_at, standing.since, reason)
        };
        assert_eq!(kept(&standing).allowance(later), Ok(1));
        assert!(standing.progressed());
        standing.failed("503", Some(Duration::from_hours(1)), later);
        assert!(kept(&standing).allowance(later).unwrap_err() >= Duration::from_hours(1), "a restart changes nothing");
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_stop_deliveries() {
        let mut standing = Standing::default();
        standing.failed("503", None, NOW);
        assert_eq!(standing.allowance(NOW.plus_millis(-24 * 3600 * 1000)), Ok(250));
    }
}
