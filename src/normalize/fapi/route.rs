//! Which requests are about a sign-in.
//!
//! Paths are compared as a lenient server would read them (escapes, doubled slashes, dots, a slash at the end): a spelling
//! that Clerk takes and this does not would be a way past the detector. What is forwarded is never changed by it.

use super::hex;

/// A request about a sign-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `POST /v1/client/sign_ins`: whom, and often the password with it.
    Create,
    /// `POST …/sign_ins/{sia}/prepare_{first,second}_factor`: have a code sent.
    Prepare(Box<str>),
    /// `POST …/sign_ins/{sia}/attempt_{first,second}_factor`: a password or a code.
    Attempt(Box<str>),
    /// `POST …/sign_ins/{sia}/reset_password`: a new password; who may set it was decided before.
    Reset(Box<str>),
    /// `POST /v1/client/sessions/{sess}/verify/attempt_{first,second}_factor`: somebody who is signed in proves it again.
    StepUp(Box<str>),
    /// `GET /v1/client`: after a redirect it tells how the sign-in elsewhere (OAuth, SSO) ended.
    Client,
}

impl Route {
    /// The route of a request, without the proxy's own prefix.
    #[must_use]
    pub fn of(method: &str, path: &str, query: Option<&str>) -> Option<Self> {
        let method = overriding(query).unwrap_or_else(|| method.to_owned());
        let posts = method.eq_ignore_ascii_case("POST");
        if !posts && !method.eq_ignore_ascii_case("GET") {
            return None;
        }
        let path = segments(path);
        let mut segments = path.iter().map(String::as_str);
        if (segments.next(), segments.next()) != (Some("v1"), Some("client")) {
            return None;
        }
        let rest = [segments.next(), segments.next(), segments.next(), segments.next(), segments.next()];
        let id = Box::from;
        match (posts, rest) {
            (false, [None, ..]) => Some(Self::Client),
            (true, [Some("sign_ins"), None, ..]) => Some(Self::Create),
            (true, [Some("sign_ins"), Some(sign_in), Some(step), None, _]) => match step {
                "prepare_first_factor" | "prepare_second_factor" => Some(Self::Prepare(id(sign_in))),
                "attempt_first_factor" | "attempt_second_factor" => Some(Self::Attempt(id(sign_in))),
                "reset_password" => Some(Self::Reset(id(sign_in))),
                _ => None,
            },
            (
                true,
                [
                    Some("sessions"),
                    Some(session),
                    Some("verify"),
                    Some("attempt_first_factor" | "attempt_second_factor"),
                    None,
                ],
            ) => Some(Self::StepUp(id(session))),
            _ => None,
        }
    }

    /// Whether the request's form says whom or how.
    #[must_use]
    pub const fn has_form(&self) -> bool {
        !matches!(self, Self::Client)
    }

    /// The sign-in that the path names.
    #[must_use]
    pub fn sign_in(&self) -> Option<&str> {
        match self {
            Self::Prepare(sign_in) | Self::Attempt(sign_in) | Self::Reset(sign_in) => Some(sign_in),
            Self::Create | Self::StepUp(_) | Self::Client => None,
        }
    }
}

/// The method that Clerk's SDK puts into the query, since it sends GET and POST only.
fn overriding(query: Option<&str>) -> Option<String> {
    // Most requests have none, and this is the path of all of them.
    let query = query.filter(|query| query.contains("method") || query.contains('%'))?;
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find(|(name, _)| name == "_method").map(|(_, method)| method.into_owned())
}

/// The parts of a path, unescaped.
fn segments(path: &str) -> Vec<String> {
    let mut segments = Vec::new();
    for segment in unescaped(path).split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment.to_owned()),
        }
    }
    segments
}

fn unescaped(path: &str) -> String {
    if !path.contains('%') {
        return path.to_owned();
    }
    let mut rest = path.as_bytes();
    let mut whole = Vec::with_capacity(rest.len());
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match (byte, tail) {
            (b'%', [high, low, after @ ..]) if let (Some(high), Some(low)) = (hex(*high), hex(*low)) => {
                whole.push(high << 4 | low);
                rest = after;
            }
            _ => whole.push(byte),
        }
    }
    String::from_utf8_lossy(&whole).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: &str, target: &str) -> Option<Route> {
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        Route::of(method, path, query)
    }

    #[test]
    fn requests_about_a_sign_in_are_told_from_all_others() {
        let sia = || "sia_1".into();
        for (target, expected) in [
            ("/v1/client/sign_ins?_clerk_js_version=5", Route::Create),
            ("/v1/client/sign_ins/sia_1/prepare_first_factor", Route::Prepare(sia())),
            ("/v1/client/sign_ins/sia_1/attempt_first_factor?_is_native=1", Route::Attempt(sia())),
            ("/v1/client/sign_ins/sia_1/attempt_second_factor", Route::Attempt(sia())),
            ("/v1/client/sign_ins/sia_1/reset_password", Route::Reset(sia())),
            ("/v1/client/sessions/sess_1/verify/attempt_first_factor", Route::StepUp("sess_1".into())),
            // Other spellings of the same.
            ("//v1/./client/sign%5Fins/", Route::Create),
            ("/v1/x/../client%2Fsign_ins?_method=post", Route::Create),
        ] {
            assert_eq!(of("POST", target), Some(expected), "{target}");
        }
        assert_eq!(of("GET", "/v1/client?_method=GET"), Some(Route::Client));
        assert_eq!(of("GET", "/v1/client/sign_ins?%5fmethod=POST"), Some(Route::Create));
        for (method, target) in [
            ("GET", "/v1/client/sign_ins/sia_1"),
            ("POST", "/v1/client/sign_ins?_method=DELETE"),
            ("POST", "/v1/client/sign_ins/sia_1"),
            ("POST", "/v1/client/sign_ups"),
            ("POST", "/v1/client"),
            ("POST", "/v1/client/sign_ins/sia_1/attempt_first_factor/more"),
            ("OPTIONS", "/v1/client/sign_ins"),
            ("GET", "/npm/@clerk/clerk-js@5/dist/clerk.browser.js"),
            ("POST", "/v1/%zz%"),
            ("POST", ""),
        ] {
            assert_eq!(of(method, target), None, "{method} {target}");
        }
    }
}
