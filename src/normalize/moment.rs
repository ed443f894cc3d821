//! Times as they arrive: RFC 3339, or a number of seconds or milliseconds since the epoch.
//!
//! Invariant: a time lies in the years 1970 to 9999. Outside of them it is a unit mistaken (microseconds) or a field never
//! set, and one such time would move every window.

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::event::Timestamp;

/// Below this a number can only be seconds: as milliseconds it would be 1973, as seconds it is the year 5138. Clerk's
/// documentation says milliseconds and its examples hold seconds.
const FIRST_MILLIS: i64 = 100_000_000_000;
/// The last moment RFC 3339 can write.
const LAST_MILLIS: i64 = 253_402_300_799_999;

/// A JSON value where a time is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Moment {
    /// Missing or `null`.
    #[default]
    Absent,
    /// A time.
    At(Timestamp),
    /// Something else.
    Other,
}

impl Moment {
    /// The time, if it is one.
    pub(super) fn loose(self) -> Option<Timestamp> {
        match self {
            Self::At(at) => Some(at),
            Self::Absent | Self::Other => None,
        }
    }

    fn of_number(number: i64) -> Self {
        let millis = if number < FIRST_MILLIS { number.saturating_mul(1000) } else { number };
        Self::of_millis(millis)
    }

    fn of_millis(millis: i64) -> Self {
        if (1..=LAST_MILLIS).contains(&millis) { Self::At(Timestamp(millis)) } else { Self::Other }
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Moment;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("anything")
            }
            fn visit_str<E>(self, text: &str) -> Result<Moment, E> {
                let parsed = text.parse::<jiff::Timestamp>();
                Ok(parsed.map_or(Moment::Other, |moment| Moment::of_millis(moment.as_millisecond())))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Moment, E> {
                Ok(Moment::of_number(number))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Moment, E> {
                Ok(i64::try_from(number).map_or(Moment::Other, Moment::of_number))
            }
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_precision_loss,
                reason = "the bounds are exact in an f64, the range is checked, and parts of a millisecond go"
            )]
            fn visit_f64<E>(self, number: f64) -> Result<Moment, E> {
                // Python's `time.time()`: seconds with a fraction.
                let millis = if number < FIRST_MILLIS as f64 { number * 1000.0 } else { number };
                Ok(if millis <= LAST_MILLIS as f64 { Moment::of_millis(millis as i64) } else { Moment::Other })
            }
            fn visit_unit<E>(self) -> Result<Moment, E> {
                Ok(Moment::Absent)
            }
            fn visit_bool<E>(self, _: bool) -> Result<Moment, E> {
                Ok(Moment::Other)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Moment, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Moment::Other)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Moment, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Moment::Other)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_milliseconds_and_rfc_3339_are_one_moment() {
        let at = Moment::At(Timestamp(1_716_883_200_000));
        for written in [
            "1716883200",
            "1716883200000",
            "1716883200.0",
            "1716883200000.9",
            "1.7168832e9",
            "\"2024-05-28T08:00:00Z\"",
            "\"2024-05-28T10:00:00.0009+02:00\"",
        ] {
            assert_eq!(serde_json::from_str::<Moment>(written).unwrap(), at, "{written}");
        }
    }

    #[test]
    fn what_is_no_time_is_other_and_never_a_wrong_time() {
        for written in [
            "0",
            "-1",
            "true",
            "[]",
            "{}",
            "[1,2]",
            "\"\"",
            "\"yesterday\"",
            "\"2024-05-28T08:00:00\"",
            // Microseconds and nanoseconds.
            "1716883200000000",
            "1716883200000000000",
            "18446744073709551615",
            "1e300",
            "-1e300",
        ] {
            assert_eq!(serde_json::from_str::<Moment>(written).unwrap(), Moment::Other, "{written}");
        }
        assert_eq!(serde_json::from_str::<Moment>("null").unwrap(), Moment::Absent);
    }
}
