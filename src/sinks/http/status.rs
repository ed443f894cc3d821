//! What a status means for what was sent: one table for all sinks.
//!
//! Invariant: no status loses anything. What the receiver cannot take now is tried again, what it will not take until
//! somebody changes something waits (blocked), and what it calls bad is taken apart until the bad one is found.
//!
//! Not here: receivers that say more in the body (their sinks look there first).

use std::time::Duration;

use super::MAX_RETRY_AFTER;
use crate::event::Timestamp;
use crate::sinks::Delivery;

/// The table. `reason` is what is kept with what was not accepted.
#[must_use]
pub fn verdict(status: u16, retry_after: Option<Duration>, reason: &str) -> Delivery {
    let reason = reason.to_owned();
    match status {
        // 409: it is there already, under the id that a revision keeps for ever.
        200..=299 | 409 => Delivery::Accepted,
        300..=399 => Delivery::Blocked(format!("{reason} (redirects are not followed: set url to where it leads)")),
        400 | 422 => Delivery::Bisect(reason),
        413 => Delivery::Split(reason),
        408 | 425 | 429 | 500 | 502..=504 | 506..=599 => Delivery::Retry { reason, after: retry_after },
        // Credentials, address, method, media type, a feature that is not there: the same for everything that is sent, and
        // right again as soon as somebody has repaired it. So is whatever nobody has thought of yet.
        _ => Delivery::Blocked(reason),
    }
}

/// How long a `Retry-After` asks to wait from `now`: seconds or a date. `None` for neither; capped at
/// [`MAX_RETRY_AFTER`].
#[must_use]
pub fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let wait = if value.bytes().all(|byte| byte.is_ascii_digit()) && !value.is_empty() {
        // More digits than fit is still a number: long.
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        let at = httpdate::parse_http_date(value).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
        at.saturating_sub(Duration::from_millis(u64::try_from(now.0).ok()?))
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_consequence() {
        let of = |status| verdict(status, Some(Duration::from_secs(7)), "r").as_str();
        for (statuses, consequence) in [
            ([200, 201, 202, 204, 409].as_slice(), "accepted"),
            (&[408, 425, 429, 500, 502, 503, 504, 507, 529], "retry"),
            (&[401, 403, 404, 405, 407, 410, 415, 501, 505, 301, 302, 307, 308, 418, 999, 100], "blocked"),
            (&[400, 422], "bisect"),
            (&[413], "split"),
        ] {
            for status in statuses {
                assert_eq!(of(*status), consequence, "{status}");
            }
        }
        let floor = Delivery::Retry { reason: "r".into(), after: Some(Duration::from_secs(7)) };
        assert_eq!(verdict(429, Some(Duration::from_secs(7)), "r"), floor);
        assert!(matches!(verdict(302, None, "r"), Delivery::Blocked(reason) if reason.contains("not followed")));
    }

    #[test]
    fn retry_after_has_two_forms_and_a_bound() {
        // Sun, 06 Nov 1994 08:49:37 GMT
        let now = Timestamp(784_111_777_000);
        for (value, seconds) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("99999999999999999999999", Some(3600)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30)),
            ("Sunday, 06-Nov-94 08:50:07 GMT", Some(30)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("Sat, 06 Nov 2094 08:49:37 GMT", Some(3600)),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(retry_after(value, now), seconds.map(Duration::from_secs), "{value:?}");
        }
    }
}
