//! What comes in of an instance, since when and how lately; and so which attacks on it would pass unseen.
//!
//! A rule that gets nothing to judge is as quiet as one that finds nothing. This tells the two apart, and of what does not
//! come whether it never did (no source brings it) or has stopped (a source broke).
//!
//! Invariant: counted by arrival, so a source that delivers a backlog is flowing; part of the state, so a restart forgets
//! nothing. Whether silence is too long is asked of it with the time of whoever asks, and changes nothing.
//!
//! Not here: what is configured (`app`), how it is shown (`pipeline`, `admin`).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::event::{AuthEvent, Outcome, Timestamp};
use crate::finding::Rule;

/// Code requests and lock-outs are rare where all is well: their silence means something only after so many times longer.
const RARE: i64 = 30;
/// How long it is remembered how long a signal is usually silent: weekends come four times in it.
const PERIOD_MILLIS: i64 = 28 * 86_400_000;
/// After so many times as long as it takes to have stopped, it is no news any more: an instance that was given up.
const GONE: i64 = 7;

/// A kind of event that detection lives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// Somebody got in.
    Success,
    /// And it is told who.
    SuccessWithAccount,
    /// And from which address.
    SuccessWithAddress,
    /// And with which user agent.
    SuccessWithUserAgent,
    /// Somebody did not get in.
    Failure,
    /// And it is told whose account was tried, by id or by the hash of an identifier.
    FailureWithAccount,
    /// And it is not.
    FailureWithoutAccount,
    /// It is told from which address somebody did not get in.
    FailureWithAddress,
    /// A code or a link was sent.
    CodeRequest,
    /// An account was locked, or a lock was met.
    LockOut,
}

impl Signal {
    /// Every signal, in the order of `as usize`.
    pub const ALL: [Self; 10] = [
        Self::Success,
        Self::SuccessWithAccount,
        Self::SuccessWithAddress,
        Self::SuccessWithUserAgent,
        Self::Failure,
        Self::FailureWithAccount,
        Self::FailureWithoutAccount,
        Self::FailureWithAddress,
        Self::CodeRequest,
        Self::LockOut,
    ];

    /// The value of the `signal` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::SuccessWithAccount => "success_with_account",
            Self::SuccessWithAddress => "success_with_address",
            Self::SuccessWithUserAgent => "success_with_user_agent",
            Self::Failure => "failure",
            Self::FailureWithAccount => "failure_with_account",
            Self::FailureWithoutAccount => "failure_without_account",
            Self::FailureWithAddress => "failure_with_address",
            Self::CodeRequest => "code_request",
            Self::LockOut => "lock_out",
        }
    }

    /// As a sentence names it.
    const fn words(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::SuccessWithAccount => "success that names an account",
            Self::SuccessWithAddress => "success that names an address",
            Self::SuccessWithUserAgent => "success that names a user agent",
            Self::Failure => "failure",
            Self::FailureWithAccount => "failure that names an account",
            Self::FailureWithoutAccount => "failure that names no account",
            Self::FailureWithAddress => "failure that names an address",
            Self::CodeRequest => "code request",
            Self::LockOut => "lock-out",
        }
    }

    /// What it is a part of: without that it is not missed for itself.
    const fn part_of(self) -> Option<Self> {
        match self {
            Self::SuccessWithAccount | Self::SuccessWithAddress | Self::SuccessWithUserAgent => Some(Self::Success),
            Self::FailureWithAccount | Self::FailureWithoutAccount | Self::FailureWithAddress => Some(Self::Failure),
            Self::Success | Self::Failure | Self::CodeRequest | Self::LockOut => None,
        }
    }

    /// The rules that cannot fire without it, and what else is not seen; `None`: nothing depends on it.
    const fn needed_for(self) -> Option<(&'static [Rule], &'static str)> {
        use Rule::{
            AccountFailureSpike, AddressFailureSpike, CodeFlood, DistributedAttack, LockoutWave, NetworkFailureSpike,
            SignInOutage, SuccessFanOut,
        };
        Some(match self {
            Self::Failure => (
                &[AddressFailureSpike, NetworkFailureSpike, AccountFailureSpike, DistributedAttack, SignInOutage],
                "no failure rate can be computed; lock-out waves, code floods and success fan-out are all that can be found",
            ),
            Self::FailureWithAccount => {
                (&[AccountFailureSpike], "guessing at one account is not seen, and findings name nobody who was tried")
            }
            Self::FailureWithAddress => (
                &[AddressFailureSpike, NetworkFailureSpike, DistributedAttack],
                "where attacks come from is not seen; guessing at one account is",
            ),
            Self::Success => (
                &[SuccessFanOut, SignInOutage],
                "no account can be named as broken into by signing in, and nothing speaks for addresses that many share",
            ),
            Self::SuccessWithAccount => (&[SuccessFanOut], "no account can be named as broken into by signing in"),
            Self::SuccessWithAddress => {
                (&[SuccessFanOut], "who got in from where is not seen, so nothing speaks for addresses that many share")
            }
            Self::SuccessWithUserAgent => {
                (&[SuccessFanOut], "strangers who use an account are not told from its owner")
            }
            Self::CodeRequest => (&[CodeFlood], "floods of codes are found only if a source tells of codes"),
            Self::LockOut => (&[LockoutWave], "waves of lock-outs are found only if a source tells of lock-outs"),
            Self::FailureWithoutAccount => return None,
        })
    }

    /// How long it may be silent after what was `seen` of it.
    fn patience(self, seen: &Seen, silence: Silence) -> i64 {
        let is_rare = matches!(self, Self::CodeRequest | Self::LockOut);
        let least = if is_rare { silence.0.saturating_mul(RARE) } else { silence.0 };
        least.max(seen.usual_silence().saturating_mul(3) / 2)
    }

    /// Those that `event` is.
    fn of(event: &AuthEvent) -> [Option<Self>; 4] {
        let named = event.account.is_some() || event.identifier.is_some();
        let from = event.ip.is_some();
        match event.outcome {
            Outcome::Success => [
                Some(Self::Success),
                named.then_some(Self::SuccessWithAccount),
                from.then_some(Self::SuccessWithAddress),
                event.user_agent.as_ref().map(|_| Self::SuccessWithUserAgent),
            ],
            Outcome::Failure => [
                Some(Self::Failure),
                Some(if named { Self::FailureWithAccount } else { Self::FailureWithoutAccount }),
                from.then_some(Self::FailureWithAddress),
                None,
            ],
            Outcome::CodeSent => [Some(Self::CodeRequest), None, None, None],
            Outcome::Locked => [Some(Self::LockOut), None, None, None],
            Outcome::PasswordCorrectStopped
            | Outcome::Challenge
            | Outcome::RateLimited
            | Outcome::Blocked
            | Outcome::AccountChanged
            | Outcome::AccountDeleted
            | Outcome::SessionEnded
            | Outcome::Other => [None; 4],
        }
    }
}

/// How long nothing of a kind may arrive before it has stopped, in milliseconds; of what is rare, thirty times as long. Where
/// it was silent for longer twice within the last weeks, half as long again as that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silence(pub i64);

/// How a signal stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flow {
    /// It arrived lately.
    Flowing,
    /// It did arrive, and has stopped.
    Stopped,
    /// It stopped so long ago (seven times the silence it takes) that nobody waits for it.
    Gone,
    /// It was never seen.
    Never,
}

impl Flow {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Flowing, Self::Stopped, Self::Gone, Self::Never];

    /// The value of the `state` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Flowing => "flowing",
            Self::Stopped => "stopped",
            Self::Gone => "gone",
            Self::Never => "never",
        }
    }
}

/// When the first and the last of a signal arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The first, of those this state knows of.
    pub first: Timestamp,
    /// The last.
    pub last: Timestamp,
    /// Four weeks since the epoch, in which `last` lies.
    period: i64,
    /// The two longest silences that ended in that period, and the two of the one before, in milliseconds.
    silences: [[i64; 2]; 2],
}

impl Seen {
    const fn at(at: Timestamp) -> Self {
        Self { first: at, last: at, period: at.0.div_euclid(PERIOD_MILLIS), silences: [[0; 2]; 2] }
    }

    fn again(&mut self, at: Timestamp) {
        self.first = self.first.min(at);
        let silent = at.millis_since(self.last);
        if silent <= 0 {
            return;
        }
        self.last = at;
        let period = at.0.div_euclid(PERIOD_MILLIS);
        if period > self.period {
            let [newest, _] = self.silences;
            self.silences = [[0; 2], if period == self.period + 1 { newest } else { [0; 2] }];
            self.period = period;
        }
        let [[longest, second], before] = self.silences;
        self.silences = [[longest.max(silent), second.max(longest.min(silent))], before];
    }

    /// The longest silence that was there more than once lately: nights and weekends are, an outage is not.
    fn usual_silence(&self) -> i64 {
        let [[a, b], [c, d]] = self.silences;
        // Both are in order.
        a.min(c).max(b).max(d)
    }
}

/// What has come in of one instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signals([Option<Seen>; Signal::ALL.len()]);

/// A signal that is missing, and what that means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blind {
    /// What is missing.
    pub signal: Signal,
    /// Stopped, gone or never seen.
    pub flow: Flow,
    /// When the last one arrived, if one did.
    pub last: Option<Timestamp>,
    /// The rules that cannot fire.
    pub rules: &'static [Rule],
    /// What is not seen.
    pub means: &'static str,
}

impl Signals {
    /// Takes note of an event.
    pub fn note(&mut self, event: &AuthEvent) {
        let at = event.received_at;
        for signal in Signal::of(event).into_iter().flatten() {
            if let Some(seen) = self.0.get_mut(signal as usize) {
                seen.get_or_insert(Seen::at(at)).again(at);
            }
        }
    }

    /// When `signal` was seen, if it was.
    #[must_use]
    pub fn seen(&self, signal: Signal) -> Option<Seen> {
        self.0.get(signal as usize).copied().flatten()
    }

    /// How `signal` stands at `now`.
    #[must_use]
    pub fn flow(&self, signal: Signal, now: Timestamp, silence: Silence) -> Flow {
        let Some(seen) = self.seen(signal) else { return Flow::Never };
        let (silent, patience) = (now.millis_since(seen.last), signal.patience(&seen, silence));
        if silent <= patience {
            Flow::Flowing
        } else if silent <= patience.saturating_mul(GONE) {
            Flow::Stopped
        } else {
            Flow::Gone
        }
    }

    /// What is missing at `now`. What is part of something that is missing is not missed for itself.
    #[must_use]
    pub fn blind(&self, now: Timestamp, silence: Silence) -> Vec<Blind> {
        let flow = |signal| self.flow(signal, now, silence);
        let missed = Signal::ALL.into_iter().filter(|signal| {
            flow(*signal) != Flow::Flowing && signal.part_of().is_none_or(|whole| flow(whole) == Flow::Flowing)
        });
        missed
            .filter_map(|signal| {
                let (rules, means) = signal.needed_for()?;
                let last = self.seen(signal).map(|seen| seen.last);
                Some(Blind { signal, flow: flow(signal), last, rules, means })
            })
            .collect()
    }
}

impl fmt::Display for Blind {
    /// One sentence, with the time of the last one if there was one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.signal.words();
        match (self.flow, self.last) {
            (Flow::Never, _) | (_, None) => write!(f, "no {words} was ever seen")?,
            (Flow::Stopped, Some(last)) => write!(f, "it stopped: no {words} since {last}")?,
            (Flow::Flowing | Flow::Gone, Some(last)) => write!(f, "no {words} since {last}")?,
        }
        write!(f, "; {}", self.means)
    }
}

#[cfg(test)]
mod tests;
