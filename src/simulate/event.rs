//! Attempts as the events that the detector sees, without the detour over JSON.
//!
//! Invariant: the event of an attempt equals what `normalize::attempt` makes of the line that [`Renderer`] writes for it
//! (a test holds the two against each other), so that what is measured on these is true of what is posted.
//!
//! [`Renderer`]: super::render::Renderer

use std::fmt::{self, Write as _};

use super::render::{AGENTS, run, words};
use super::{Attempt, Ending, Plan};
use crate::event::{Account, AuthEvent, MAX_FUTURE_MILLIS, Outcome, Source, Tenant, Timestamp};
use crate::normalize::identifier::IdentifierKey;

/// Makes the events of one plan.
#[derive(Debug)]
pub struct Events {
    run: u64,
    tenant: Tenant,
    key: IdentifierKey,
    text: String,
}

impl Events {
    /// For the attempts of `plan`; identifiers are hashed under `key`.
    #[must_use]
    pub fn new(plan: &Plan, key: IdentifierKey) -> Self {
        Self { run: run(plan), tenant: plan.tenant.as_str().into(), key, text: String::new() }
    }

    /// The event of attempt number `number` of the plan, counted from 0, that was received at `received_at`.
    pub fn event(&mut self, number: u64, attempt: &Attempt, received_at: Timestamp) -> AuthEvent {
        let run = self.run;
        let (_, reason) = words(attempt.ending);
        let identifier = write(&mut self.text, attempt.identity.identifier());
        let identifier = self.key.hash(&self.tenant, identifier);
        let account = match attempt.identity.user() {
            Some(user) => Account::User(write(&mut self.text, user).into()),
            None => Account::Identifier(identifier),
        };
        let signed_in = attempt.ending == Ending::SignedIn;
        AuthEvent {
            id: write(&mut self.text, format_args!("sim-{run:016x}-{number}")).into(),
            occurred_at: attempt.at.min(received_at.plus_millis(MAX_FUTURE_MILLIS)),
            received_at,
            tenant: self.tenant.clone(),
            source: Source::AttemptReport,
            outcome: outcome(attempt.ending),
            reason: reason.map(Into::into),
            ip: Some(attempt.ip),
            account: Some(account),
            identifier: Some(identifier),
            user_agent: AGENTS.get(usize::from(attempt.agent)).map(|agent| (*agent).into()),
            session: signed_in.then(|| write(&mut self.text, format_args!("sess_sim{run:016x}{number}")).into()),
        }
    }
}

/// `text` in `buffer`, which is used again for each.
fn write(buffer: &mut String, text: impl fmt::Display) -> &str {
    buffer.clear();
    // Writing to a string does not fail.
    let _ = write!(buffer, "{text}");
    buffer
}

const fn outcome(ending: Ending) -> Outcome {
    match ending {
        Ending::SignedIn => Outcome::Success,
        Ending::WrongPassword | Ending::UnknownIdentifier | Ending::Outage => Outcome::Failure,
        Ending::Locked => Outcome::Locked,
        Ending::RateLimited => Outcome::RateLimited,
    }
}
