//! Strings as they arrive: borrowed where JSON lets them be, bounded and checked before they are kept.
//!
//! Invariant: what passes [`id`], [`clerk_id`] and [`code`] has a bounded length and no control character; what passes
//! the last two cannot be an e-mail address.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::NormalizeError;
use crate::event::{MAX_ID_BYTES, MAX_USER_AGENT_BYTES};

/// Longest code kept; Clerk's longest has 47 bytes.
const MAX_CODE_BYTES: usize = 100;

/// A JSON value where a string is due; borrowed unless it has escapes. (A plain `Option<Cow>` would always be copied.)
/// A value of another type is told apart, not an error: an attempt is refused with the field's name, and a webhook is
/// taken without the field.
#[derive(Debug, Default)]
pub(super) enum Text<'a> {
    /// Missing or `null`.
    #[default]
    Absent,
    /// A string.
    Given(Cow<'a, str>),
    /// Something else.
    Other,
}

impl Text<'_> {
    /// The string, if it is one and not empty.
    pub(super) fn loose(&self) -> Option<&str> {
        match self {
            Self::Given(text) if !text.is_empty() => Some(text),
            Self::Given(_) | Self::Absent | Self::Other => None,
        }
    }

    /// The same, where another type than a string is a fault of the sender.
    pub(super) fn strict(&self, field: &'static str) -> Result<Option<&str>, NormalizeError> {
        if matches!(self, Self::Other) {
            return Err(NormalizeError::Field { field, fault: "is not a string" });
        }
        Ok(self.loose())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("anything")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text::Given(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text::Given(Cow::Owned(text.to_owned())))
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Text::Absent)
            }
            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(Text::Other)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
                Ok(Text::Other)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
                Ok(Text::Other)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                Ok(Text::Other)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Text::Other)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Text::Other)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Checks an id that its sender made up: at most [`MAX_ID_BYTES`] bytes, no control characters.
pub(super) fn id(field: &'static str, text: &str) -> Result<Box<str>, NormalizeError> {
    let fault = if text.is_empty() {
        "is empty"
    } else if text.len() > MAX_ID_BYTES {
        "is longer than 200 bytes"
    } else if text.chars().any(char::is_control) {
        "holds a control character"
    } else {
        return Ok(text.into());
    };
    Err(NormalizeError::Field { field, fault })
}

/// Checks an id that Clerk made (`user_…`, `sess_…`, `ins_…`). These are kept in the clear, so an e-mail address that was
/// put here by mistake is refused rather than stored.
pub(super) fn clerk_id(field: &'static str, text: &str) -> Result<Box<str>, NormalizeError> {
    if text.bytes().any(|byte| byte == b'@' || byte == b' ') {
        return Err(NormalizeError::Field { field, fault: "is not a Clerk id (an address belongs in `identifier`)" });
    }
    id(field, text)
}

/// Checks a code (an error code, a template's slug, an event type): short, of ASCII letters, digits, `_`, `.`, `:` and
/// `-`. An error message for people, which may quote an address, is none.
pub(super) fn code(field: &'static str, text: &str) -> Result<Box<str>, NormalizeError> {
    let is_of_code = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':' | b'-');
    if text.is_empty() || text.len() > MAX_CODE_BYTES || !text.bytes().all(is_of_code) {
        return Err(NormalizeError::Field { field, fault: "is not a code (letters, digits, _ . : -, at most 100)" });
    }
    Ok(text.into())
}

/// A user agent, cut to its bound. Control characters would act on the terminal that shows them.
pub(super) fn user_agent(text: &str) -> Box<str> {
    let cut = text.get(..text.floor_char_boundary(MAX_USER_AGENT_BYTES)).unwrap_or_default();
    if cut.chars().any(char::is_control) {
        cut.chars().map(|char| if char.is_control() { ' ' } else { char }).collect::<String>().into()
    } else {
        cut.into()
    }
}

/// An address; `Ok(None)` where the sender says that it knows none (0.0.0.0, ::). IPv4-mapped IPv6 is IPv4.
pub(super) fn ip(field: &'static str, text: &str) -> Result<Option<IpAddr>, NormalizeError> {
    let ip: IpAddr = text.parse().map_err(|_| NormalizeError::Field { field, fault: "is not an IP address" })?;
    let ip = ip.to_canonical();
    Ok((!ip.is_unspecified()).then_some(ip))
}
