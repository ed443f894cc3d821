//! Times as logs write them.
//!
//! Invariant: a time lies in the years 1970 to 9999; anything else is none. Nothing is taken for local time: a time without
//! an offset is UTC, or what the mapping says.

use jiff::civil::DateTime;
use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::{Offset, TimeZone};

use crate::event::Timestamp;

/// The last moment RFC 3339 can write.
const LAST_MILLIS: i64 = 253_402_300_799_999;
/// A log's clock may be this far ahead of whoever dates its lines.
const AHEAD_MILLIS: i64 = 24 * 3_600_000;

/// How a mapping's times are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TimeFormat {
    /// As of `strptime`; none: ISO 8601, or a number of seconds, milliseconds, microseconds or nanoseconds.
    pattern: Option<Box<str>>,
    offset: Offset,
}

impl TimeFormat {
    /// `format` is "auto", or has the directives of `strptime`; `offset_minutes` is for times without an offset.
    pub(super) fn parse(format: &str, offset_minutes: i32) -> Result<Self, &'static str> {
        let offset = offset_minutes.checked_mul(60).and_then(|seconds| Offset::from_seconds(seconds).ok());
        let offset = offset.ok_or("utc_offset_minutes: is more than a day")?;
        match format {
            "auto" => Ok(Self { pattern: None, offset }),
            pattern if pattern.contains('%') => Ok(Self { pattern: Some(pattern.into()), offset }),
            _ => Err("time: must be \"auto\" or a format of strptime (\"%d/%b/%Y:%H:%M:%S %z\")"),
        }
    }

    /// The moment; one without a year is the latest that is no more than a day after `near`.
    pub(super) fn read(&self, text: &str, near: Timestamp) -> Option<Timestamp> {
        let millis = match &self.pattern {
            None => self.automatic(text),
            Some(pattern) => self.by(pattern, text, near),
        }?;
        (1..=LAST_MILLIS).contains(&millis).then_some(Timestamp(millis))
    }

    fn automatic(&self, text: &str) -> Option<i64> {
        if let Ok(number) = text.parse::<i64>() {
            return Some(match number {
                // Of this century whichever unit it is: the ranges are a factor of ten apart.
                ..100_000_000_000 => number.saturating_mul(1000),
                100_000_000_000..100_000_000_000_000 => number,
                100_000_000_000_000..100_000_000_000_000_000 => number / 1000,
                _ => number / 1_000_000,
            });
        }
        if let Ok(seconds) = text.parse::<f64>() {
            #[expect(clippy::cast_possible_truncation, reason = "a float is cut at the ends of the range")]
            return Some((seconds * 1000.0) as i64);
        }
        if let Ok(moment) = text.parse::<jiff::Timestamp>() {
            return Some(moment.as_millisecond());
        }
        self.civil(text.parse().ok()?)
    }

    fn civil(&self, at: DateTime) -> Option<i64> {
        TimeZone::fixed(self.offset).to_timestamp(at).ok().map(jiff::Timestamp::as_millisecond)
    }

    fn by(&self, pattern: &str, text: &str, near: Timestamp) -> Option<i64> {
        // `Dec  1`: days are padded so that columns align.
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut parts = BrokenDownTime::parse(pattern, &text).ok()?;
        if parts.offset().is_some() {
            return parts.to_timestamp().ok().map(jiff::Timestamp::as_millisecond);
        }
        if parts.year().is_some() {
            return self.civil(parts.to_datetime().ok()?);
        }
        let this_year = self.offset.to_datetime(jiff::Timestamp::from_millisecond(near.0).ok()?).year();
        let latest = near.plus_millis(AHEAD_MILLIS).0;
        // The 29th of February is at most eight years back.
        (0..=9).find_map(|back| {
            parts.set_year(Some(this_year.checked_add(1 - back)?)).ok()?;
            self.civil(parts.to_datetime().ok()?).filter(|at| *at <= latest)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEAR: Timestamp = Timestamp(1_716_883_200_000); // 2024-05-28T08:00:00Z

    fn read(format: &str, offset: i32, text: &str) -> Option<String> {
        TimeFormat::parse(format, offset).unwrap().read(text, NEAR).map(|at| at.to_string())
    }

    #[test]
    fn numbers_of_every_unit_and_iso_8601_are_one_moment() {
        for text in [
            "1716883200",
            "1716883200.0",
            "1716883200000",
            "1716883200000000",
            "1716883200000000000",
            "2024-05-28T08:00:00Z",
            "2024-05-28T10:00:00+0200",
            "2024-05-28 08:00:00",
        ] {
            assert_eq!(read("auto", 0, text).as_deref(), Some("2024-05-28T08:00:00.000Z"), "{text}");
        }
        assert_eq!(read("auto", 120, "2024-05-28 10:00:00").as_deref(), Some("2024-05-28T08:00:00.000Z"));
        for text in ["", "0", "-5", "NaN", "1e300", "yesterday"] {
            assert_eq!(read("auto", 0, text), None, "{text}");
        }
    }

    #[test]
    fn a_year_that_is_not_written_is_the_latest_that_can_be() {
        let of = |text| read("%b %d %H:%M:%S", 0, text);
        assert_eq!(of("May 28 07:59:59").as_deref(), Some("2024-05-28T07:59:59.000Z"));
        assert_eq!(of("May 29 07:59:59").as_deref(), Some("2024-05-29T07:59:59.000Z"));
        assert_eq!(of("Dec 10 06:55:46").as_deref(), Some("2023-12-10T06:55:46.000Z"));
        assert_eq!(of("Dec  1 06:55:46").as_deref(), Some("2023-12-01T06:55:46.000Z"));
        assert_eq!(of("Feb 29 00:00:00").as_deref(), Some("2024-02-29T00:00:00.000Z"));
        assert_eq!(of("Feb 30 00:00:00"), None);
        let common = read("%d/%b/%Y:%H:%M:%S %z", 0, "28/May/2024:10:00:00 +0200");
        assert_eq!(common.as_deref(), Some("2024-05-28T08:00:00.000Z"));
    }
}
