//! Where attempts are sent, and what proves that we may.
//!
//! Invariant: neither a token nor a signing key shows in any output.

use reqwest::{RequestBuilder, Url};

use super::PostError;
use crate::event::Timestamp;
use crate::secret::Secret;
use crate::sources::signature::SigningKey;

/// What proves that we may send.
#[derive(Clone, Debug)]
pub enum Credential {
    /// Sent as it is.
    Token(Secret),
    /// Signs every request, as Standard Webhooks do.
    Signing(SigningKey),
}

/// Where to, how, and what to stop at.
#[derive(Clone, Debug)]
pub struct Target {
    pub(super) url: Url,
    credential: Credential,
}

impl Target {
    /// `base` is a listener (`http://127.0.0.1:8080`); the path is added.
    ///
    /// # Errors
    /// [`PostError::Target`] for anything but plain http to a host.
    pub fn new(base: &str, credential: Credential) -> Result<Self, PostError> {
        let url = Url::parse(base).map_err(|fault| PostError::Target(format!("the target is not a URL: {fault}")))?;
        if url.scheme() != "http" {
            return Err(PostError::Target(format!(
                "the target must be http://…, not {}: this tool has no TLS; send from the receiver's own machine or network",
                url.scheme()
            )));
        }
        if url.path() != "/" || url.query().is_some() || !url.username().is_empty() || url.password().is_some() {
            return Err(PostError::Target("the target is only scheme, host and port: http://127.0.0.1:8080".into()));
        }
        let url = url.join("/v1/attempts").map_err(|fault| PostError::Target(fault.to_string()))?;
        Ok(Self { url, credential })
    }

    /// Adds what proves that this body comes from us.
    pub(super) fn authenticate(&self, request: RequestBuilder, body: &[u8], now: Timestamp) -> RequestBuilder {
        match &self.credential {
            Credential::Token(token) => request.bearer_auth(token.expose()),
            Credential::Signing(signer) => {
                // The id names the request, not the attempts: those have their own.
                let id = format!("msg_sim{}", now.0);
                let seconds = now.0.div_euclid(1000).to_string();
                let signature = signer.sign(&id, &seconds, body);
                request
                    .header("webhook-id", id)
                    .header("webhook-timestamp", seconds)
                    .header("webhook-signature", signature)
            }
        }
    }
}
