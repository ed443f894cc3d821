//! What Clerk's error codes and sign-in statuses mean for a sign-in.
//!
//! Not here: the codes of sign-up, organisations and billing, which are not answers to a sign-in attempt.

use crate::event::Outcome;

/// The outcome of an attempt that was answered with `code`. A code that is not listed was an error answer to an attempt
/// and counts as a failure: new codes appear faster than releases, and a missed attack costs more than a high count.
pub(super) fn outcome(code: &str) -> Outcome {
    match code {
        "complete" => Outcome::Success,
        // Clerk compares the password before it asks for more or says that it is known to be breached.
        "form_password_pwned"
        | "form_password_compromised"
        | "password_reset_required"
        | "needs_second_factor"
        | "needs_client_trust"
        | "needs_new_password" => Outcome::PasswordCorrectStopped,
        "needs_first_factor" | "needs_protect_check" => Outcome::Challenge,
        "user_locked" => Outcome::Locked,
        "too_many_requests" | "verification_code_too_many_requests" | "verification_code_rate_limit_exceeded" => {
            Outcome::RateLimited
        }
        "user_banned"
        | "not_allowed_access"
        | "captcha_invalid"
        | "captcha_missing_token"
        | "requires_captcha"
        | "action_blocked"
        | "device_blocked" => Outcome::Blocked,
        // The client's own mistakes and changes of state: no credential was judged.
        "strategy_for_user_invalid"
        | "session_exists"
        | "identifier_already_signed_in"
        | "client_state_invalid"
        | "sign_up_if_missing_transfer"
        | "sign_in_must_use_enterprise_connection_identifier"
        | "session_reverification_required"
        | "verification_already_verified"
        | "no_password_set"
        | "resource_not_found"
        | "oauth_access_denied"
        | "external_account_not_found"
        | "form_param_missing"
        | "form_param_nil"
        | "form_param_unknown"
        | "form_param_format_invalid"
        | "form_param_value_invalid"
        | "form_conditional_param_missing"
        | "needs_identifier"
        | "abandoned" => Outcome::Other,
        _ => Outcome::Failure,
    }
}
