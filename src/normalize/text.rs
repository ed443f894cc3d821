//! Strings as they arrive: borrowed where JSON lets them be, bounded and cleaned before they are kept.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::NormalizeError;
use crate::event::{MAX_ID_BYTES, MAX_USER_AGENT_BYTES, Timestamp};

/// Longest reason code kept; Clerk's longest has 47 bytes.
const MAX_REASON_BYTES: usize = 100;

/// A JSON string; copied only if it has escapes. (A bare `Option<Cow>` would always be copied.)
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// A JSON string, or anything else taken as absent: for fields whose type another event type may change.
#[derive(Debug, Default)]
pub(super) struct Loose<'a>(pub(super) Option<Cow<'a, str>>);

impl<'de: 'a, 'a> Deserialize<'de> for Loose<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Loose<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("anything")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Loose(Some(Cow::Borrowed(text))))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Loose(Some(Cow::Owned(text.to_owned()))))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(Loose(None))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
                Ok(Loose(None))
            }
            fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
                Ok(Loose(None))
            }
            fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                Ok(Loose(None))
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Loose(None))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Loose(None))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Loose(None))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Checks an id: 1 to [`MAX_ID_BYTES`] bytes without control characters.
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

/// A reason code, cut to a bound and cleaned.
pub(super) fn reason(text: &str) -> Box<str> {
    clean(text, MAX_REASON_BYTES)
}

/// A user agent, cut to a bound and cleaned.
pub(super) fn user_agent(text: &str) -> Option<Box<str>> {
    (!text.is_empty()).then(|| clean(text, MAX_USER_AGENT_BYTES))
}

/// Control characters would act on the terminal that shows them.
fn clean(text: &str, max: usize) -> Box<str> {
    let cut = text.get(..text.floor_char_boundary(max)).unwrap_or_default();
    if cut.chars().any(char::is_control) {
        cut.chars().map(|char| if char.is_control() { ' ' } else { char }).collect::<String>().into()
    } else {
        cut.into()
    }
}

/// An address; `Ok(None)` where the sender says that it knows none. IPv4-mapped IPv6 is IPv4.
pub(super) fn ip(field: &'static str, text: &str) -> Result<Option<IpAddr>, NormalizeError> {
    if text.is_empty() {
        return Ok(None);
    }
    let ip: IpAddr = text.parse().map_err(|_| NormalizeError::Field { field, fault: "is not an IP address" })?;
    let ip = ip.to_canonical();
    Ok((!ip.is_unspecified()).then_some(ip))
}

/// Epoch seconds or milliseconds: below 10^11 a number can only be seconds (10^11 ms is 1973).
pub(super) fn epoch(number: i64) -> Timestamp {
    if number.abs() < 100_000_000_000 { Timestamp(number.saturating_mul(1000)) } else { Timestamp(number) }
}
