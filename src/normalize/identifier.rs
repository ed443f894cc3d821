//! Turns an identifier a person typed into a hash that only this installation can compute.
//!
//! Invariant: the identifier itself is never kept; the same identifier, however capitalised or padded, gives the same
//! hash within a tenant and a different one in any other tenant or installation.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::event::{IdentifierHash, Tenant};

/// The key of one installation.
#[derive(Clone)]
pub struct IdentifierKey(Hmac<Sha256>);

impl IdentifierKey {
    /// Bytes of a key file.
    pub const BYTES: usize = 32;

    /// Prepares `key`.
    #[must_use]
    pub fn new(key: &[u8; Self::BYTES]) -> Self {
        // An HMAC takes a key of any length, so this cannot fail; the fallback keeps the function total.
        Self(Hmac::new_from_slice(key).unwrap_or_else(|_| Hmac::new(&hmac::digest::Key::<Hmac<Sha256>>::default())))
    }

    /// The hash of `identifier` within `tenant`: trimmed and lower-cased first.
    #[must_use]
    pub fn hash(&self, tenant: &Tenant, identifier: &str) -> IdentifierHash {
        let mut mac = self.0.clone();
        mac.update(tenant.0.as_bytes());
        mac.update(&[0]);
        let trimmed = identifier.trim();
        if trimmed.bytes().any(|byte| byte.is_ascii_uppercase() || !byte.is_ascii()) {
            mac.update(trimmed.to_lowercase().as_bytes());
        } else {
            mac.update(trimmed.as_bytes());
        }
        let digest = mac.finalize().into_bytes();
        let mut hash = [0; 16];
        hash.copy_from_slice(digest.get(..16).unwrap_or(&[0; 16]));
        IdentifierHash(hash)
    }
}

impl std::fmt::Debug for IdentifierKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdentifierKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_padding_do_not_matter_and_tenants_do() {
        let key = IdentifierKey::new(&[7; 32]);
        let hash = key.hash(&"ins_1".into(), "alice@example.com");
        assert_eq!(hash, key.hash(&"ins_1".into(), "  Alice@Example.COM "));
        assert_ne!(hash, key.hash(&"ins_2".into(), "alice@example.com"));
        assert_ne!(hash, IdentifierKey::new(&[8; 32]).hash(&"ins_1".into(), "alice@example.com"));
        // Tenant and identifier cannot run into each other.
        assert_ne!(key.hash(&"a".into(), "bc"), key.hash(&"ab".into(), "c"));
    }
}
