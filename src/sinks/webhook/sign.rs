//! Signatures of what we send: Standard Webhooks 1.0, and the plain HMAC that many receivers know from GitHub.
//!
//! Invariant: signed are exactly the bytes that are sent. With several secrets, by spaces, there are several signatures:
//! the receiver can change from one to the next at any moment in between.
//!
//! Not here: verification of what others sign (`sources`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use uuid::Uuid;

use crate::event::Timestamp;
use crate::secret::Secret;

/// What Standard Webhooks asks for: 24 to 64 bytes.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// The keys in `secret`: `whsec_` and base64, several by spaces.
pub(super) fn keys(secret: &Secret) -> Result<Vec<Vec<u8>>, String> {
    let mut keys = Vec::new();
    for one in secret.expose().split_whitespace() {
        let key = one.strip_prefix("whsec_").and_then(|text| BASE64.decode(text).ok());
        let key = key.ok_or_else(|| "must be whsec_ and base64 (several by spaces)".to_owned())?;
        if !KEY_BYTES.contains(&key.len()) {
            return Err("must be of 24 to 64 bytes, before base64".to_owned());
        }
        keys.push(key);
    }
    if keys.is_empty() { Err("is empty".to_owned()) } else { Ok(keys) }
}

/// The headers of Standard Webhooks for `body`, sent at `now`.
pub(super) fn standard(
    secret: &Secret,
    id: Uuid,
    now: Timestamp,
    body: &[u8],
) -> Result<Vec<(String, String)>, String> {
    let seconds = now.0.div_euclid(1000).to_string();
    let id = id.to_string();
    let sign = |key: Vec<u8>| {
        let signed = mac(&key, &[id.as_bytes(), b".", seconds.as_bytes(), b".", body]);
        format!("v1,{}", BASE64.encode(signed))
    };
    let signatures: Vec<String> =
        keys(secret).map_err(|what| format!("secret: {what}"))?.into_iter().map(sign).collect();
    Ok(vec![
        ("webhook-signature".to_owned(), signatures.join(" ")),
        ("webhook-id".to_owned(), id),
        ("webhook-timestamp".to_owned(), seconds),
    ])
}

/// `sha256=` and the HMAC of `body` in hexadecimal. The secret is used as it is.
pub(super) fn hex(secret: &Secret, body: &[u8]) -> String {
    let mac = mac(secret.expose().as_bytes(), &[body]);
    mac.iter().fold("sha256=".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    // HMAC takes a key of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return Vec::new() };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}
