//! What Clerk's error codes mean for a sign-in.

use crate::event::Outcome;

/// The outcome of an attempt that was answered with `code`. A code that is not listed was an error answer to an attempt,
/// and counts as a failure: new codes appear faster than releases.
pub(super) fn outcome(code: &str) -> Outcome {
    match code {
        "form_password_pwned" | "form_password_compromised" | "needs_second_factor" | "needs_client_trust" => {
            Outcome::PasswordCorrectStopped
        }
        "user_locked" => Outcome::Locked,
        "too_many_requests" | "verification_code_too_many_requests" => Outcome::RateLimited,
        "user_banned" | "not_allowed_access" | "captcha_invalid" | "requires_captcha" | "action_blocked"
        | "device_blocked" => Outcome::Blocked,
        // The client's own mistakes: nothing was tried.
        "strategy_for_user_invalid" | "session_exists" | "client_state_invalid" | "sign_up_if_missing_transfer" => {
            Outcome::Challenge
        }
        _ => Outcome::Failure,
    }
}
