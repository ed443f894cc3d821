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

    const fn patience(self, silence: Silence) -> i64 {
        match self {
            Self::CodeRequest | Self::LockOut => silence.0.saturating_mul(RARE),
            _ => silence.0,
        }
    }

    /// Whether `event` is one.
    fn is_in(self, event: &AuthEvent) -> bool {
        let of = |outcome| event.outcome == outcome;
        let named = event.account.is_some() || event.identifier.is_some();
        match self {
            Self::Success => of(Outcome::Success),
            Self::SuccessWithAccount => of(Outcome::Success) && named,
            Self::SuccessWithAddress => of(Outcome::Success) && event.ip.is_some(),
            Self::SuccessWithUserAgent => of(Outcome::Success) && event.user_agent.is_some(),
            Self::Failure => of(Outcome::Failure),
            Self::FailureWithAccount => of(Outcome::Failure) && named,
            Self::FailureWithoutAccount => of(Outcome::Failure) && !named,
            Self::FailureWithAddress => of(Outcome::Failure) && event.ip.is_some(),
            Self::CodeRequest => of(Outcome::CodeSent),
            Self::LockOut => of(Outcome::Locked),
        }
    }
}

/// How long nothing of a kind may arrive before it has stopped, in milliseconds; of what is rare, thirty times as long.
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
        for (signal, seen) in Signal::ALL.iter().zip(&mut self.0) {
            if signal.is_in(event) {
                let before = seen.unwrap_or(Seen { first: at, last: at });
                *seen = Some(Seen { first: before.first.min(at), last: before.last.max(at) });
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
        let (silent, patience) = (now.millis_since(seen.last), signal.patience(silence));
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
mod tests {
    use super::*;
    use crate::event::{Account, Source};

    const DAY: Silence = Silence(86_400_000);
    const START: Timestamp = Timestamp(1_767_600_000_000);

    fn event(at: Timestamp, outcome: Outcome) -> AuthEvent {
        AuthEvent {
            id: "e".into(),
            occurred_at: Timestamp(0),
            received_at: at,
            tenant: "ins_1".into(),
            source: Source::AttemptReport,
            outcome,
            reason: None,
            ip: "203.0.113.7".parse().ok(),
            account: Some(Account::User("user_1".into())),
            identifier: None,
            user_agent: Some("curl/8".into()),
            session: None,
        }
    }

    fn missing(signals: &Signals, now: Timestamp) -> Vec<(Signal, Flow)> {
        signals.blind(now, DAY).into_iter().map(|blind| (blind.signal, blind.flow)).collect()
    }

    #[test]
    fn what_never_came_what_stopped_and_what_was_given_up_are_told_apart() {
        let mut signals = Signals::default();
        signals.note(&event(START, Outcome::Failure));
        let after = |days: i64| START.plus_millis(days * DAY.0);
        for (days, flow) in [(0, Flow::Flowing), (1, Flow::Flowing), (2, Flow::Stopped), (7, Flow::Stopped)] {
            assert_eq!(signals.flow(Signal::Failure, after(days), DAY), flow, "{days}");
        }
        assert_eq!(signals.flow(Signal::Failure, after(8), DAY), Flow::Gone);
        assert_eq!(signals.flow(Signal::Success, after(8), DAY), Flow::Never);
        // A clock that was set back is no silence.
        assert_eq!(signals.flow(Signal::Failure, after(-3), DAY), Flow::Flowing);
        let told = signals.blind(after(2), DAY).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert!(told[0].starts_with("no success was ever seen; no account can be named"), "{told:?}");
        assert!(
            told[1].starts_with("it stopped: no failure since 2026-01-05T08:00:00.000Z; no failure rate"),
            "{told:?}"
        );
        // Lock-outs are rare: a month of silence is nothing.
        signals.note(&event(START, Outcome::Locked));
        assert_eq!(signals.flow(Signal::LockOut, after(30), DAY), Flow::Flowing);
        assert_eq!(signals.flow(Signal::LockOut, after(31), DAY), Flow::Stopped);
    }

    #[test]
    fn a_backlog_counts_by_its_arrival_in_whatever_order() {
        let mut signals = Signals::default();
        for millis in [5, 9, 2] {
            signals.note(&event(Timestamp(millis), Outcome::Failure));
        }
        assert_eq!(signals.seen(Signal::Failure), Some(Seen { first: Timestamp(2), last: Timestamp(9) }));
    }

    #[test]
    fn each_missing_detail_names_the_rules_it_blinds() {
        let whole = [Outcome::Success, Outcome::Failure, Outcome::CodeSent, Outcome::Locked];
        let blinded = |change: fn(&mut AuthEvent), outcome: Outcome| {
            let mut signals = Signals::default();
            for mut event in whole.map(|outcome| event(START, outcome)) {
                if event.outcome == outcome {
                    change(&mut event);
                }
                signals.note(&event);
            }
            signals.blind(START, DAY)
        };
        assert_eq!(blinded(|_| (), Outcome::Failure), []);
        for (change, outcome, signal, rule) in [
            (
                (|it| it.account = None) as fn(&mut AuthEvent),
                Outcome::Failure,
                Signal::FailureWithAccount,
                Rule::AccountFailureSpike,
            ),
            (|it| it.ip = None, Outcome::Failure, Signal::FailureWithAddress, Rule::DistributedAttack),
            (|it| it.user_agent = None, Outcome::Success, Signal::SuccessWithUserAgent, Rule::SuccessFanOut),
            (|it| it.account = None, Outcome::Success, Signal::SuccessWithAccount, Rule::SuccessFanOut),
            (|it| it.ip = None, Outcome::Success, Signal::SuccessWithAddress, Rule::SuccessFanOut),
            (|it| it.outcome = Outcome::Other, Outcome::CodeSent, Signal::CodeRequest, Rule::CodeFlood),
            (|it| it.outcome = Outcome::Other, Outcome::Locked, Signal::LockOut, Rule::LockoutWave),
        ] {
            let blind = blinded(change, outcome);
            assert_eq!(blind.len(), 1, "{blind:?}");
            assert_eq!((blind[0].signal, blind[0].rules.contains(&rule)), (signal, true));
        }
    }

    #[test]
    fn what_is_part_of_something_that_is_missing_is_not_told_beside_it() {
        let mut signals = Signals::default();
        signals.note(&event(START, Outcome::Success));
        let never = [Signal::Failure, Signal::CodeRequest, Signal::LockOut].map(|signal| (signal, Flow::Never));
        assert_eq!(missing(&signals, START), never);
        let blind = signals.blind(START, DAY);
        assert_eq!(blind[0].rules.len(), 5);
        let can: Vec<_> = Rule::ALL.iter().filter(|rule| !blind[0].rules.contains(rule)).collect();
        assert_eq!(can, [&Rule::CodeFlood, &Rule::LockoutWave, &Rule::SuccessFanOut]);
    }
}
