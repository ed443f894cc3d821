//! The one HTTP client of all sinks that speak HTTP.
//!
//! Invariant: a server is believed only with a valid certificate, there is no switch for anything else, and no redirect is
//! followed, since either would hand the credentials to a stranger. Every wait and every answer has a bound, and no
//! secret that was sent comes back in a reason.
//!
//! Not here: what an answer's status means ([`status`]), when to try again (`sinks::dispatch`), and what a body holds (the
//! sinks).

use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, SET_COOKIE};

use super::Delivery;
use super::format::prose::visible;
use crate::clock::Clock;
use crate::secret::Secret;

pub mod batch;
pub mod encoded;
pub mod settings;
pub mod status;

pub use reqwest::Url;
pub use settings::{Settings, url_fault};

/// To reach the receiver: a machine that is up answers within one, one that is not costs no more.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Between deliveries. Below the idle time-outs of common load balancers (60 s), so that it is we who close.
const POOL_IDLE: Duration = Duration::from_secs(50);
/// The longest answer that is read: the results of 1000 items of a `_bulk` with a reason each are some 300 KB.
const MAX_ANSWER_BYTES: usize = 2 << 20;
/// How much of an answer a reason quotes.
const QUOTED_CHARS: usize = 200;
/// A receiver's `Retry-After` counts up to here: a wrong date must not silence a sink for a year.
pub const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

/// The client of one sink; it keeps its connections.
#[derive(Clone, Debug)]
pub struct Client {
    connections: reqwest::Client,
    clock: Clock,
    /// For whoever tests the sink by hand.
    last_answer: Arc<Mutex<Option<String>>>,
}

/// One POST.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    url: &'a Url,
    headers: HeaderMap,
    secrets: Vec<Secret>,
    body: Vec<u8>,
    gzip: bool,
}

impl<'a> Request<'a> {
    /// `body` of the type `content_type` to `url`.
    #[must_use]
    pub fn post(url: &'a Url, content_type: &'static str, body: Vec<u8>) -> Self {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]);
        Self { url, headers, secrets: Vec::new(), body, gzip: false }
    }

    /// Compresses the body.
    #[must_use]
    pub fn gzip(mut self) -> Self {
        self.gzip = true;
        self
    }

    /// Adds a header that is no secret.
    ///
    /// # Errors
    /// `name` or `value` cannot stand in a header.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, Delivery> {
        self.insert(name, value, false)?;
        Ok(self)
    }

    /// Adds the header `name: <before><secret>`, which shows in no log, and whose secret is struck out of what the
    /// receiver answers.
    ///
    /// # Errors
    /// The secret cannot stand in a header.
    pub fn secret_header(mut self, name: &str, before: &str, secret: &Secret) -> Result<Self, Delivery> {
        self.insert(name, &format!("{before}{}", secret.expose()), true)?;
        self.secrets.push(secret.clone());
        Ok(self)
    }

    /// Says that the body holds `secret`, which is then struck out of what the receiver answers.
    #[must_use]
    pub fn body_holds(mut self, secret: &Secret) -> Self {
        self.secrets.push(secret.clone());
        self
    }

    /// The headers, for tests of what is sent.
    #[cfg(test)]
    pub(super) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    fn insert(&mut self, name: &str, value: &str, sensitive: bool) -> Result<(), Delivery> {
        // A configuration that cannot be sent is the operator's to repair, as a wrong password is.
        let blocked = || Delivery::Blocked(format!("the header {name} cannot be sent: its value is no header's"));
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| blocked())?;
        let mut value = HeaderValue::from_str(value).map_err(|_| blocked())?;
        value.set_sensitive(sensitive);
        self.headers.insert(header, value);
        Ok(())
    }
}

/// What the receiver said.
#[derive(Clone, Debug)]
pub struct Answer {
    status: u16,
    retry_after: Option<Duration>,
    cookies: Vec<String>,
    body: Vec<u8>,
    secrets: Vec<Secret>,
}

impl Answer {
    /// The status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// Not before this, if the receiver said so; at most [`MAX_RETRY_AFTER`].
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The values of `Set-Cookie`.
    #[must_use]
    pub fn cookies(&self) -> &[String] {
        &self.cookies
    }

    /// The body, whole.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The beginning of the body on one line, without the secrets that were sent; empty if there is none.
    #[must_use]
    pub fn quote(&self) -> String {
        let mut said = String::from_utf8_lossy(&self.body).into_owned();
        // Before cutting: the rest of a secret that was cut in two would stay.
        for secret in &self.secrets {
            said = said.replace(secret.expose(), "***");
        }
        let line = said.split_whitespace().collect::<Vec<_>>().join(" ");
        visible(&line.chars().take(QUOTED_CHARS).collect::<String>())
    }

    /// What becomes of everything that was in the request, by the status alone: see [`status`].
    #[must_use]
    pub fn verdict(&self) -> Delivery {
        status::verdict(self.status, self.retry_after, &self.reason())
    }

    /// `503 Service Unavailable: the body's beginning`
    #[must_use]
    pub fn reason(&self) -> String {
        let name = reqwest::StatusCode::from_u16(self.status).ok().and_then(|status| status.canonical_reason());
        let quote = self.quote();
        let mut reason = format!("answered {}", self.status);
        for part in [name, (!quote.is_empty()).then_some(quote.as_str())].into_iter().flatten() {
            let separator = if reason.len() > "answered 200".len() { ": " } else { " " };
            reason.push_str(separator);
            reason.push_str(part);
        }
        reason
    }
}

impl Client {
    /// A client by `settings`. Blocks on the files they name.
    ///
    /// # Errors
    /// A file cannot be read or does not hold what it should; the text names the key.
    pub fn new(settings: &Settings, clock: Clock) -> Result<Self, String> {
        let builder = reqwest::Client::builder()
            .user_agent(concat!("authspike/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT.min(settings.timeout))
            .timeout(settings.timeout)
            .pool_idle_timeout(POOL_IDLE)
            .tcp_nodelay(true)
            // What the environment says about proxies is about browsers; a sink's proxy stands in its section.
            .no_proxy();
        let connections =
            settings.apply(builder)?.build().map_err(|error| format!("TLS cannot be set up: {}", chain(error)))?;
        Ok(Self { connections, clock, last_answer: Arc::default() })
    }

    /// Sends `request` and reads the whole answer.
    ///
    /// # Errors
    /// There is no whole answer (not reached, no valid certificate, no answer in time, an answer cut short or without
    /// end): [`Delivery::Retry`], since the receiver may or may not have taken it.
    pub async fn post(&self, request: Request<'_>) -> Result<Answer, Delivery> {
        let Request { url, mut headers, secrets, body, gzip } = request;
        let body = if gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            compress(&body)
        } else {
            body
        };
        let retry = |error| Delivery::retry(chain(error));
        let mut response =
            self.connections.post(url.clone()).headers(headers).body(body).send().await.map_err(retry)?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(retry)? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(Delivery::retry(format!("answered {status} with more than {MAX_ANSWER_BYTES} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        let retry_after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let cookies = headers.get_all(SET_COOKIE).iter().filter_map(|value| value.to_str().ok());
        let answer = Answer {
            status,
            retry_after: retry_after.and_then(|value| status::retry_after(value, self.clock.now())),
            cookies: cookies.map(str::to_owned).collect(),
            body,
            secrets,
        };
        *self.last_answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer.reason());
        Ok(answer)
    }

    /// The last answer in words, see [`Answer::reason`].
    #[must_use]
    pub fn last_answer(&self) -> Option<String> {
        self.last_answer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A finding is repetitive JSON: the fastest level already leaves a tenth of it.
fn compress(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    // Writing to memory does not fail.
    let _ = encoder.write_all(body);
    encoder.finish().unwrap_or_default()
}

/// The error and its causes on one line, without the URL: it may hold a secret path.
fn chain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = visible(&error.to_string());
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        let said = visible(&error.to_string());
        // Some repeat their cause in their own text.
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
