//! Which answers of Clerk's Frontend API tell of a sign-in attempt: by method, path and status alone, as access logs have
//! them.
//!
//! Invariant: what the status does not settle is no attempt. The bodies say more (which code, which account); an access log
//! has none, so a right password that a second factor then stops looks like a success here, and a wrong one that came
//! without an identifier before it like any other.

use crate::event::Outcome;

/// What `status` in answer to `method path` says; `Err`: it is no attempt, and why. The path may be absolute, prefixed and
/// have a query.
pub(super) fn outcome(method: &str, path: &str, status: u16) -> Result<Outcome, &'static str> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let Some((_, route)) = path.split_once("/v1/client/") else { return Err("not a route of a sign-in") };
    // The browser sends only GET and POST, and what it means beside the query.
    let meant = query.split('&').find_map(|pair| pair.strip_prefix("_method=")).unwrap_or(method);
    if !(method.eq_ignore_ascii_case("POST") && meant.eq_ignore_ascii_case("POST")) {
        return Err("not a POST");
    }
    let parts: Vec<_> = route.trim_end_matches('/').split('/').collect();
    match *parts.as_slice() {
        ["sign_ins"] => create(status),
        ["sign_ins", _, "attempt_first_factor" | "attempt_second_factor"] => attempt(status),
        ["sessions", _, "verify", "attempt_first_factor" | "attempt_second_factor"] => {
            but_success(status, "a session that was there is confirmed")
        }
        ["sign_ins", _, "prepare_first_factor" | "prepare_second_factor"] if status == 429 => Ok(Outcome::RateLimited),
        ["sign_ins", ..] => Err("a step of a sign-in that judges nothing"),
        _ => Err("not a route of a sign-in"),
    }
}

/// An attempt is begun: with the identifier alone, or with the password too. A 200 does not say which.
fn create(status: u16) -> Result<Outcome, &'static str> {
    but_success(status, "a sign-in was begun; its factor is judged later, or was in the body")
}

/// As an attempt, where a 200 says nothing and this is why.
fn but_success(status: u16, why: &'static str) -> Result<Outcome, &'static str> {
    attempt(status).and_then(|outcome| if outcome == Outcome::Success { Err(why) } else { Ok(outcome) })
}

fn attempt(status: u16) -> Result<Outcome, &'static str> {
    match status {
        200 => Ok(Outcome::Success),
        // A wrong password or code, or an identifier nobody has.
        422 => Ok(Outcome::Failure),
        // A CAPTCHA is asked for; a lock, a ban, a policy: the status does not tell them apart.
        401 | 403 => Ok(Outcome::Blocked),
        429 => Ok(Outcome::RateLimited),
        // 400 and 404: the client's own mistakes and expired attempts are most of them.
        _ => Err("a status that settles nothing"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn method_path_and_status_say_what_is_an_attempt() {
        const FIRST: &str = "/v1/client/sign_ins/sia_1/attempt_first_factor";
        for (method, path, status, expected) in [
            ("POST", "/v1/client/sign_ins", 422, Some(Outcome::Failure)),
            ("POST", "/__clerk/v1/client/sign_ins?__clerk_api_version=2025-04-10", 422, Some(Outcome::Failure)),
            ("POST", "https://app.example:443/__clerk/v1/client/sign_ins", 429, Some(Outcome::RateLimited)),
            ("POST", "/v1/client/sign_ins", 401, Some(Outcome::Blocked)),
            ("POST", "/v1/client/sign_ins", 403, Some(Outcome::Blocked)),
            ("POST", "/v1/client/sign_ins", 200, None),
            ("POST", "/v1/client/sign_ins", 502, None),
            ("GET", "/v1/client/sign_ins", 422, None),
            ("POST", "/v1/client/sign_ins?_method=PATCH", 422, None),
            ("POST", FIRST, 200, Some(Outcome::Success)),
            ("POST", FIRST, 422, Some(Outcome::Failure)),
            ("POST", FIRST, 403, Some(Outcome::Blocked)),
            ("POST", FIRST, 400, None),
            ("post", "/v1/client/sign_ins/sia_1/attempt_second_factor/", 422, Some(Outcome::Failure)),
            ("POST", "/v1/client/sign_ins/sia_1/prepare_first_factor", 200, None),
            ("POST", "/v1/client/sign_ins/sia_1/prepare_first_factor", 429, Some(Outcome::RateLimited)),
            ("POST", "/v1/client/sign_ins/sia_1/reset_password", 422, None),
            ("POST", "/v1/client/sessions/sess_1/verify/attempt_first_factor", 422, Some(Outcome::Failure)),
            ("POST", "/v1/client/sessions/sess_1/verify/attempt_first_factor", 200, None),
            ("POST", "/v1/client/sign_ups", 422, None),
            ("POST", "/login?next=/v1/client/sign_ins", 422, None),
            ("GET", "/v1/client", 200, None),
        ] {
            assert_eq!(outcome(method, path, status).ok(), expected, "{method} {path} {status}");
        }
    }
}
