//! Bearer tokens: does the request bear one that is known here?
//!
//! Invariant: comparison tells neither where a token differs nor how long the right one is.

use axum::http::{HeaderMap, header};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::secret::Secret;

const SCHEME: &[u8] = b"bearer ";

/// The digest of one token.
#[derive(Clone)]
pub(super) struct Token([u8; 32]);

impl Token {
    /// `None` for an empty token, which everybody knows.
    pub(super) fn new(secret: &Secret) -> Option<Self> {
        (!secret.expose().is_empty()).then(|| Self(Sha256::digest(secret.expose().as_bytes()).into()))
    }
}

/// Whether the request bears one of `known`; `None` where it bears no token at all.
pub(super) fn is_known(headers: &HeaderMap, known: &[Token]) -> Option<bool> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(SCHEME.len()).unwrap_or_default();
    let digest: [u8; 32] = Sha256::digest(token).into();
    let matched = known.iter().fold(subtle::Choice::from(0), |matched, one| matched | one.0.ct_eq(&digest));
    Some(scheme.eq_ignore_ascii_case(SCHEME) && matched.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_under_its_scheme_is_known() {
        let known = [Token::new(&Secret::new("first")).unwrap(), Token::new(&Secret::new("second")).unwrap()];
        let judge = |value: &str| {
            is_known(&HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())]), &known).unwrap()
        };
        for good in ["Bearer first", "bearer second", "BEARER first"] {
            assert!(judge(good), "{good}");
        }
        for bad in ["", "Bearer", "Bearer ", "Bearer firs", "Bearer firstt", "Bearer  first", "Basic first", "first"] {
            assert!(!judge(bad), "{bad}");
        }
        assert_eq!(is_known(&HeaderMap::new(), &known), None);
        assert!(Token::new(&Secret::new("")).is_none());
    }
}
