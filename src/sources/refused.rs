//! Why a request was not taken, and how that is said.
//!
//! Invariant: `reason` comes from a closed list in the code (it is a label), and the message never holds what was sent.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

/// `Retry-After` when too much is waiting: the queue is seconds deep.
const RETRY_OVERLOADED: HeaderValue = HeaderValue::from_static("1");
/// `Retry-After` when the disk must be looked after first.
const RETRY_UNAVAILABLE: HeaderValue = HeaderValue::from_static("30");
/// HTTP wants a 401 to name a scheme; the signature headers have no registered one.
const AUTHENTICATE: HeaderValue = HeaderValue::from_static("Standard-Webhooks");

/// A request that is not taken: its status, its reason for the metric and the body, and words for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    pub(super) reason: &'static str,
    message: String,
    retry_after: Option<HeaderValue>,
}

impl Refused {
    pub(super) fn new(status: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { status, reason, message: message.into(), retry_after: None }
    }

    pub(super) fn overloaded() -> Self {
        let refused = Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "too much is waiting; send it again");
        Self { retry_after: Some(RETRY_OVERLOADED), ..refused }
    }

    pub(super) fn unavailable() -> Self {
        let refused =
            Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "it cannot be stored now; send it again");
        Self { retry_after: Some(RETRY_UNAVAILABLE), ..refused }
    }

    pub(super) fn into_response(self) -> Response {
        let body = Json(serde_json::json!({ "error": self.reason, "message": self.message }));
        let mut response = (self.status, body).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, AUTHENTICATE);
        }
        if let Some(after) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, after);
        }
        response
    }
}
