//! Did this come from who holds the secret, and recently? Svix and Standard Webhooks signatures.
//!
//! Signed are the bytes `{id}.{timestamp}.{body}`, by HMAC-SHA256; the header holds a space-separated list of
//! `v1,<base64>`, of which any may match any of our secrets (both sides rotate).
//!
//! Invariant: the raw body is what is verified; comparison takes the same time wherever it fails; a caller learns one word,
//! never which part was close. `v1a` (Ed25519) and unknown versions are skipped: Clerk signs with v1.

use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use crate::event::Timestamp;
use crate::secret::Secret;

/// How far the sender's clock may be off, and so how long a captured request can be sent again (it is then a duplicate).
const TOLERANCE_SECONDS: i64 = 300;
/// Svix makes keys of 24 bytes and more, and shows one of 18 in its documentation; below 128 bits it is a truncated copy.
const MIN_KEY_BYTES: usize = 16;
/// Signatures looked at: Svix signs with at most the newest key and ten old ones.
const MAX_SIGNATURES: usize = 16;

/// Why a secret cannot be used. Never says what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Nothing there.
    #[error("is empty")]
    Empty,
    /// `whpk_` or `whsk_`: Ed25519.
    #[error("is an asymmetric key (whpk_/whsk_); Clerk endpoints have a whsec_ secret")]
    Asymmetric,
    /// Not base64 after `whsec_`.
    #[error("is not base64 after whsec_")]
    NotBase64,
    /// Cut off.
    #[error("is too short: 16 bytes at least, before base64")]
    TooShort,
}

/// Why a request is not believed: the values of the `reason` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A header is missing.
    MissingHeader,
    /// Too old, too far ahead, or no time at all.
    Timestamp,
    /// No signature matches.
    Signature,
}

impl Refusal {
    /// The value of the `reason` label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MissingHeader => "missing_header",
            Self::Timestamp => "timestamp",
            Self::Signature => "bad_signature",
        }
    }
}

/// One secret, ready to sign and verify.
#[derive(Clone)]
pub struct SigningKey(Hmac<Sha256>);

impl SigningKey {
    /// From `whsec_<base64>`, or the base64 alone.
    ///
    /// # Errors
    /// See [`SecretError`].
    pub fn new(secret: &Secret) -> Result<Self, SecretError> {
        let text = secret.expose().trim();
        if text.starts_with("whpk_") || text.starts_with("whsk_") {
            return Err(SecretError::Asymmetric);
        }
        let encoded = text.strip_prefix("whsec_").unwrap_or(text);
        if encoded.is_empty() {
            return Err(SecretError::Empty);
        }
        let key = BASE64.decode(encoded).map_err(|_| SecretError::NotBase64)?;
        if key.len() < MIN_KEY_BYTES {
            return Err(SecretError::TooShort);
        }
        Hmac::new_from_slice(&key).map(Self).map_err(|_| SecretError::TooShort)
    }

    /// The header value for these bytes.
    #[must_use]
    pub fn sign(&self, id: &str, timestamp: &str, body: &[u8]) -> String {
        format!("v1,{}", BASE64.encode(self.mac(id.as_bytes(), timestamp.as_bytes(), body)))
    }

    fn mac(&self, id: &[u8], timestamp: &[u8], body: &[u8]) -> [u8; 32] {
        let mut mac = self.0.clone();
        for part in [id, b".", timestamp, b".", body] {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

/// The three headers of a signed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signed<'a> {
    /// The message's id, the same at every retry.
    pub id: &'a str,
    timestamp: &'a str,
    signatures: &'a str,
}

impl<'a> Signed<'a> {
    /// Reads `svix-…` or, where those are missing, `webhook-…`, and holds the time against `now`.
    ///
    /// # Errors
    /// See [`Refusal`]; cheap, for it comes before the body is read.
    pub fn from_headers(headers: &'a HeaderMap, now: Timestamp) -> Result<Self, Refusal> {
        let header = |svix: &str, standard: &str| {
            let value = headers.get(svix).or_else(|| headers.get(standard)).ok_or(Refusal::MissingHeader)?;
            value.to_str().ok().filter(|text| !text.is_empty()).ok_or(Refusal::MissingHeader)
        };
        let signed = Self {
            id: header("svix-id", "webhook-id")?,
            timestamp: header("svix-timestamp", "webhook-timestamp")?,
            signatures: header("svix-signature", "webhook-signature")?,
        };
        let sent: i64 = signed.timestamp.parse().map_err(|_| Refusal::Timestamp)?;
        let skew = sent.checked_sub(now.0.div_euclid(1000)).ok_or(Refusal::Timestamp)?;
        if skew.checked_abs().is_none_or(|skew| skew > TOLERANCE_SECONDS) {
            return Err(Refusal::Timestamp);
        }
        Ok(signed)
    }

    /// Whether one of `keys` made one of the signatures over `body`.
    ///
    /// # Errors
    /// [`Refusal::Signature`]
    pub fn verify(&self, keys: &[SigningKey], body: &[u8]) -> Result<(), Refusal> {
        let given: Vec<_> = self
            .signatures
            .split(' ')
            .filter_map(|signature| signature.strip_prefix("v1,"))
            .take(MAX_SIGNATURES)
            .filter_map(|encoded| BASE64.decode(encoded).ok())
            .collect();
        let mut matched = subtle::Choice::from(0);
        for key in keys {
            let expected = key.mac(self.id.as_bytes(), self.timestamp.as_bytes(), body);
            for signature in &given {
                matched |= expected.as_slice().ct_eq(signature);
            }
        }
        if matched.into() { Ok(()) } else { Err(Refusal::Signature) }
    }
}
