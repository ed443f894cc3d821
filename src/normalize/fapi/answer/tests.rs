//! Every documented code and status, and what is none of Clerk's answers.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;

fn said(route: &Route, status: u16, strategy: Option<&str>, body: &Value) -> Option<Ending> {
    ending(route, status, strategy, body.to_string().as_bytes()).unwrap()
}

fn attempt() -> Route {
    Route::Attempt("sia_1".into())
}

fn errors(code: &str) -> Value {
    json!({"errors": [{"code": code, "message": "m", "long_message": "l", "meta": {}}], "clerk_trace_id": "t"})
}

fn sign_in(status: &str) -> Value {
    json!({"response": {"object": "sign_in_attempt", "id": "sia_1", "status": status, "identifier": "alice@example.com",
        "created_session_id": null, "first_factor_verification": null, "second_factor_verification": null}, "client": null})
}

/// Each sign-in code of Clerk's published list: a new one in it must be judged here by a person.
#[test]
fn the_outcome_of_each_documented_code() {
    let catalog: Vec<BTreeMap<String, Value>> =
        serde_json::from_str(include_str!("../../../../tests/fixtures/clerk/fapi/error-catalog.sign-in-subset.json"))
            .unwrap();
    let mut by_outcome: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for entry in &catalog {
        let code = entry["code"].as_str().unwrap();
        let status = entry.get("status").and_then(|it| it.as_str()?.parse().ok()).unwrap_or(400);
        let codes =
            by_outcome.entry(said(&attempt(), status, None, &errors(code)).unwrap().outcome.as_str()).or_default();
        if !codes.contains(&code) {
            codes.push(code);
        }
    }
    assert_eq!(
        by_outcome["password_correct_stopped"],
        ["form_password_pwned", "form_password_compromised", "password_reset_required"]
    );
    assert_eq!(by_outcome["locked"], ["user_locked"]);
    assert_eq!(
        by_outcome["rate_limited"],
        ["too_many_requests", "verification_code_too_many_requests", "verification_code_rate_limit_exceeded"]
    );
    for code in [
        "form_identifier_not_found",
        "form_code_incorrect",
        "form_password_incorrect",
        "form_password_or_identifier_incorrect",
        "account_lockout_warning",
        "incorrect_password",
        "verification_failed",
        "verification_expired",
        "passkey_invalid_verification",
        "of_a_later_release",
    ] {
        assert_eq!(said(&attempt(), 422, None, &errors(code)).unwrap().outcome, Outcome::Failure, "{code}");
    }
}

#[test]
fn a_sign_in_is_a_success_only_when_it_is_complete() {
    use Outcome::{Challenge, Other, PasswordCorrectStopped, Success};
    for (status, strategy, expected) in [
        ("complete", Some("password"), Success),
        ("complete", Some("email_code"), Success),
        ("needs_first_factor", None, Challenge),
        ("needs_second_factor", Some("password"), PasswordCorrectStopped),
        ("needs_second_factor", None, PasswordCorrectStopped),
        ("needs_second_factor", Some("email_code"), Challenge),
        ("needs_client_trust", Some("password"), PasswordCorrectStopped),
        ("needs_new_password", Some("password"), PasswordCorrectStopped),
        ("needs_new_password", Some("reset_password_email_code"), Challenge),
        ("needs_identifier", None, Other),
        ("needs_something_new", None, Other),
    ] {
        let ending = said(&attempt(), 200, strategy, &sign_in(status)).unwrap();
        assert_eq!((ending.outcome, ending.reason.as_deref()), (expected, Some(status)), "{status} by {strategy:?}");
        assert_eq!(ending.sign_in.as_deref(), Some("sia_1"));
    }
    let mut first = sign_in("needs_second_factor");
    first["response"]["first_factor_verification"] =
        json!({"status": "verified", "strategy": "email_code", "error": null});
    assert_eq!(said(&attempt(), 200, None, &first).unwrap().outcome, Challenge, "the answer tells how they came in");
    let step_up = Route::StepUp("sess_1".into());
    assert_eq!(said(&step_up, 200, None, &sign_in("complete")).unwrap().outcome, Other, "no new session");
}

#[test]
fn a_complete_sign_in_names_the_user_of_the_session_it_made() {
    let mut body = sign_in("complete");
    body["response"]["created_session_id"] = "sess_2".into();
    body["client"] =
        json!({"sessions": [{"id": "sess_1", "user": {"id": "user_1"}}, {"id": "sess_2", "user": {"id": "user_2"}}]});
    let ending = said(&Route::Create, 200, None, &body).unwrap();
    assert_eq!((ending.session.as_deref(), ending.user.as_deref()), (Some("sess_2"), Some("user_2")));
}

#[test]
fn an_error_inside_a_200_is_read_once() {
    let locked: Value = serde_json::from_str(include_str!(
        "../../../../tests/fixtures/clerk/fapi/sign_in.first_factor_verification.user_locked.json"
    ))
    .unwrap();
    let mut sign_in = locked.clone();
    sign_in["id"] = "sia_1".into();
    let answered =
        said(&Route::Create, 200, Some("oauth_google"), &json!({"response": sign_in, "client": null})).unwrap();
    let later =
        said(&Route::Client, 200, None, &json!({"response": {"id": "client_1", "sign_in": sign_in}, "client": null}));
    assert_eq!((answered.outcome, answered.reason.as_deref()), (Outcome::Locked, Some("user_locked")));
    assert_eq!(Some(&answered), later.as_ref());
    assert!(answered.repeats);
    for nothing in [json!({"response": null}), json!({"response": {"id": "client_1", "sign_in": null}})] {
        assert_eq!(said(&Route::Client, 200, None, &nothing), None);
    }
}

#[test]
fn where_no_credential_is_judged_none_is_wrong() {
    let (prepare, reset) = (Route::Prepare("sia_1".into()), Route::Reset("sia_1".into()));
    for (route, status, strategy, body, expected) in [
        (&prepare, 200, Some("email_code"), sign_in("needs_first_factor"), Outcome::CodeSent),
        (&prepare, 200, Some("email_link"), sign_in("needs_first_factor"), Outcome::CodeSent),
        (&prepare, 200, Some("oauth_google"), sign_in("needs_first_factor"), Outcome::Other),
        (&prepare, 429, None, errors("too_many_requests"), Outcome::RateLimited),
        (&prepare, 422, None, errors("form_something"), Outcome::Other),
        (&reset, 422, None, errors("form_password_pwned"), Outcome::Other),
        (&reset, 403, None, errors("user_locked"), Outcome::Locked),
        (&reset, 200, None, sign_in("complete"), Outcome::Success),
    ] {
        assert_eq!(said(route, status, strategy, &body).unwrap().outcome, expected, "{route:?} {status} {body}");
    }
}

#[test]
fn what_is_not_clerks_is_told_by_its_status() {
    let html = b"<html>blocked</html>";
    let outcome =
        |status| ending(&attempt(), status, None, html).unwrap().map(|ending| (ending.outcome, ending.reason));
    assert_eq!(outcome(403), Some((Outcome::Blocked, Some("http_403".into()))));
    assert_eq!(outcome(429), Some((Outcome::RateLimited, Some("http_429".into()))));
    assert_eq!(outcome(422), Some((Outcome::Failure, Some("http_422".into()))));
    assert_eq!(outcome(404), Some((Outcome::Other, Some("http_404".into()))));
    for status in [302, 500, 502, 101] {
        assert_eq!(outcome(status), None, "{status}");
    }
    assert!(ending(&attempt(), 200, None, html).is_err());
    assert_eq!(said(&Route::Client, 404, None, &json!({})), None);
}

#[test]
fn whose_the_identifier_is_tells_only_an_answer_that_it_led_to() {
    let answer = |status: &str, strategy: &str| {
        let mut body = sign_in(status);
        body["response"]["first_factor_verification"] = json!({"status": "verified", "strategy": strategy});
        identified(body.to_string().as_bytes())
    };
    for strategy in ["password", "email_code", "phone_code", "reset_password_email_code"] {
        assert_eq!(answer("complete", strategy).as_deref(), Some("alice@example.com"), "{strategy}");
    }
    // Anybody's address may have been typed beside these.
    for strategy in ["ticket", "passkey", "oauth_google", "enterprise_sso", "google_one_tap"] {
        assert_eq!(answer("complete", strategy), None, "{strategy}");
    }
    assert_eq!(answer("needs_second_factor", "password"), None);
    assert_eq!(identified(b"{}"), None);
}
