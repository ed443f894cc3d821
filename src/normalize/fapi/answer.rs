//! What an answer says about the attempt.
//!
//! A status is read before a code, a code before the HTTP status: 200 does not mean signed in, and a page of some proxy on
//! the way has neither.

use serde::Deserialize;

use super::{Ending, Route};
use crate::event::Outcome;
use crate::normalize::text::{self, Text};
use crate::normalize::{NormalizeError, object, reason};

/// Strategies by which somebody shows that he has the account that the identifier names.
const BY_IDENTIFIER: [&str; 6] =
    ["password", "email_code", "email_link", "phone_code", "reset_password_email_code", "reset_password_phone_code"];

#[derive(Default, Deserialize)]
#[serde(default)]
struct Body<'a> {
    #[serde(borrow)]
    response: Option<Resource<'a>>,
    #[serde(borrow)]
    client: Option<Client<'a>>,
    #[serde(borrow)]
    errors: Vec<Fault<'a>>,
}

/// A sign-in, a verification of a session, or a client.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Resource<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow)]
    status: Text<'a>,
    #[serde(borrow)]
    created_session_id: Text<'a>,
    #[serde(borrow)]
    identifier: Text<'a>,
    #[serde(borrow)]
    first_factor_verification: Option<Verification<'a>>,
    #[serde(borrow)]
    second_factor_verification: Option<Verification<'a>>,
    /// Of a client.
    #[serde(borrow)]
    sign_in: Option<SignIn<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SignIn<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow)]
    first_factor_verification: Option<Verification<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Verification<'a> {
    #[serde(borrow)]
    strategy: Text<'a>,
    #[serde(borrow)]
    error: Option<Fault<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Fault<'a> {
    #[serde(borrow)]
    code: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Client<'a> {
    #[serde(borrow)]
    sessions: Vec<Session<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Session<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow)]
    user: Option<User<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct User<'a> {
    #[serde(borrow)]
    id: Text<'a>,
}

/// What the answer `status` with `body` says; `strategy` is what the request asked for. `None`: nothing was judged.
///
/// # Errors
/// A 2xx whose body is not what Clerk sends.
pub fn ending(
    route: &Route,
    status: u16,
    strategy: Option<&str>,
    body: &[u8],
) -> Result<Option<Ending>, NormalizeError> {
    match (status, route) {
        (200..=299, Route::Client) => Ok(of_client(&object(body)?)),
        (200..=299, _) => of_resource(route, strategy, object(body)?).map(Some),
        (400..=499, Route::Create | Route::Prepare(_) | Route::Attempt(_) | Route::Reset(_) | Route::StepUp(_)) => {
            Ok(Some(of_errors(route, status, &object(body).unwrap_or_default())))
        }
        _ => Ok(None),
    }
}

/// The identifier in an answer that says that its owner signed in: Clerk's own word on whose it is. `None` where something
/// else than the identifier led to the account (a ticket, a passkey, another provider): what was typed beside it is then the
/// word of whoever is signing in, who may have typed anybody's.
#[must_use]
pub fn identified(body: &[u8]) -> Option<String> {
    let body: Body<'_> = object(body).ok()?;
    let resource = body.response?;
    let verification = resource.first_factor_verification.as_ref()?;
    let is_proved = resource.status.loose() == Some("complete")
        && verification.strategy.loose().is_some_and(|strategy| BY_IDENTIFIER.contains(&strategy));
    resource.identifier.loose().filter(|_| is_proved).map(str::to_owned)
}

fn of_errors(route: &Route, status: u16, body: &Body<'_>) -> Ending {
    let code = body.errors.first().and_then(|fault| code(&fault.code));
    let outcome = match (&code, status) {
        (Some(code), _) => judged(route, reason::outcome(code)),
        // No answer of Clerk's own: of what stands before it.
        (None, 403) => Outcome::Blocked,
        (None, 429) => Outcome::RateLimited,
        (None, 422) => judged(route, Outcome::Failure),
        (None, _) => Outcome::Other,
    };
    let reason = code.or_else(|| Some(format!("http_{status}").into()));
    Ending { outcome, reason, sign_in: None, session: None, user: None, repeats: false }
}

/// An error of a sign-in elsewhere, which is seen here and nowhere before.
fn of_client(body: &Body<'_>) -> Option<Ending> {
    let sign_in = body.response.as_ref()?.sign_in.as_ref()?;
    let reason = error(sign_in.first_factor_verification.as_ref())?;
    let outcome = reason::outcome(&reason);
    let sign_in = Some(id(&sign_in.id)?);
    Some(Ending { outcome, reason: Some(reason), sign_in, session: None, user: None, repeats: true })
}

fn of_resource(route: &Route, strategy: Option<&str>, body: Body<'_>) -> Result<Ending, NormalizeError> {
    let resource = body.response.ok_or(NormalizeError::Missing("response"))?;
    let status = code(&resource.status).ok_or(NormalizeError::Missing("response.status"))?;
    let verifications = [&resource.first_factor_verification, &resource.second_factor_verification];
    let fault = verifications.into_iter().find_map(|verification| error(verification.as_ref()));
    let strategy = strategy.map(Box::from).or_else(|| {
        // The newest one is what was prepared; the first one is how the person came in.
        let newest = if matches!(route, Route::Prepare(_)) { verifications.len() } else { 1 };
        let told = verifications.into_iter().take(newest).flatten();
        told.rev().find_map(|verification| code(&verification.strategy))
    });
    let session = id(&resource.created_session_id);
    let sign_in = if matches!(route, Route::StepUp(_)) { None } else { id(&resource.id) };
    let ending = |outcome, reason, repeats| Ending {
        outcome,
        reason: Some(reason),
        user: session.as_deref().and_then(|session| user(body.client.as_ref(), session)),
        session: session.clone(),
        sign_in,
        repeats,
    };
    if &*status == "complete" {
        // Who proves it again was signed in before.
        let outcome = if matches!(route, Route::StepUp(_)) { Outcome::Other } else { Outcome::Success };
        return Ok(ending(outcome, status, false));
    }
    if let Some(fault) = fault {
        return Ok(ending(judged(route, reason::outcome(&fault)), fault, true));
    }
    if matches!(route, Route::Prepare(_)) {
        let strategy = strategy.and_then(|strategy| text::code("strategy", &strategy).ok());
        let sends = strategy.as_deref().is_none_or(|strategy| strategy.ends_with("_code") || strategy == "email_link");
        let outcome = if sends { Outcome::CodeSent } else { Outcome::Other };
        return Ok(ending(outcome, strategy.unwrap_or(status), false));
    }
    // Without a strategy it is the short form of a sign-in by password.
    let by_password = strategy.as_deref().is_none_or(|strategy| strategy == "password");
    let mut outcome = reason::outcome(&status);
    if outcome == Outcome::PasswordCorrectStopped && !by_password {
        outcome = Outcome::Challenge;
    } else if outcome == Outcome::Failure {
        // A status that is not known here.
        outcome = Outcome::Other;
    }
    Ok(ending(outcome, status, false))
}

/// What a code means on this route: where no credential is judged, none is wrong. Where a new password is set it is the
/// new one that is refused, and where a code is sent there is none yet.
fn judged(route: &Route, outcome: Outcome) -> Outcome {
    let judges = !matches!(route, Route::Reset(_) | Route::Prepare(_));
    let is_judgement = matches!(outcome, Outcome::Failure | Outcome::PasswordCorrectStopped);
    if is_judgement && !judges { Outcome::Other } else { outcome }
}

fn error(verification: Option<&Verification<'_>>) -> Option<Box<str>> {
    code(&verification?.error.as_ref()?.code)
}

fn user(client: Option<&Client<'_>>, session: &str) -> Option<Box<str>> {
    let sessions = &client?.sessions;
    let created = sessions.iter().find(|it| it.id.loose() == Some(session))?;
    id(&created.user.as_ref()?.id)
}

fn code(text: &Text<'_>) -> Option<Box<str>> {
    text::code("code", text.loose()?).ok()
}

fn id(text: &Text<'_>) -> Option<Box<str>> {
    text::clerk_id("id", text.loose()?).ok()
}

#[cfg(test)]
mod tests;
