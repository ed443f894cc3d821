//! Asking a running instance on its admin listener.
//!
//! Invariant: the token goes to the host that was named and nowhere else: no redirect is followed, no proxy is used.
//!
//! Not here: TLS. The admin listener has none, so an `https` address is refused; from elsewhere there is `ssh -L`.

use std::time::Duration;

use anyhow::{Context as _, bail};
use reqwest::{Method, StatusCode, Url};

use crate::config::Faults;
use crate::secret::Secret;
use crate::sinks::format::prose::visible;

/// Longer than the instance itself lets an asker wait.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Sixteen instances with a handful of windows and findings each are a few hundred kilobytes.
const MAX_ANSWER_BYTES: usize = 8 << 20;
/// Of an answer that is none, so much is shown.
const SHOWN_CHARS: usize = 300;

/// The listener at `admin`, which is only scheme, host and port.
///
/// # Errors
/// It is more, or something else.
pub(super) fn listener(admin: &str) -> Result<Url, Faults> {
    let fault = |what: &str| Faults::one("--admin", what);
    let base = Url::parse(admin).map_err(|_| fault("must be a URL: http://127.0.0.1:9090"))?;
    if base.scheme() != "http" {
        return Err(fault("must be http://…: the admin listener has no TLS; ask on its own machine or through ssh -L"));
    }
    if base.path() != "/" || base.query().is_some() || !base.username().is_empty() || base.password().is_some() {
        return Err(fault("must be only scheme, host and port: http://127.0.0.1:9090"));
    }
    Ok(base)
}

/// The answer to a request of `url` that is one: 200, or 202.
///
/// # Errors
/// Nobody answers, or with something else; the text says what.
pub(super) async fn ask(method: Method, url: Url, token: Option<&Secret>) -> anyhow::Result<(StatusCode, Vec<u8>)> {
    let host = url.authority().to_owned();
    let client = reqwest::Client::builder()
        .timeout(REQUEST_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .context("the HTTP client cannot be made")?;
    let mut request = client.request(method, url);
    if let Some(token) = token {
        request = request.bearer_auth(token.expose());
    }
    let unreachable = || format!("{host} cannot be asked; is it the admin listener of a running instance? (--admin)");
    let mut response = request.send().await.map_err(reqwest::Error::without_url).with_context(unreachable)?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url).with_context(unreachable)? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            bail!("{host} answers with more than {MAX_ANSWER_BYTES} bytes; that is no authspike");
        }
        body.extend_from_slice(&chunk);
    }
    if matches!(status, StatusCode::OK | StatusCode::ACCEPTED) {
        return Ok((status, body));
    }
    if status == StatusCode::UNAUTHORIZED {
        bail!("{host} answered 401: set AUTHSPIKE_ADMIN_TOKEN to what the running instance has");
    }
    // Whoever answers there may not be what it should.
    let said: String = String::from_utf8_lossy(&body).trim_end().chars().take(SHOWN_CHARS).collect();
    bail!("{host} answered {status}: {}", visible(&said));
}
