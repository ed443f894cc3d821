//! A record as fields: those of a JSON object by pointer, those of a line by named group.
//!
//! Invariant: a line is matched in time linear in its length, whatever the pattern.

use std::borrow::Cow;
use std::fmt;

use regex::Regex;
use serde_json::Value;

use super::scalar;
use crate::normalize::{NormalizeError, object};

/// A pattern with named groups.
pub(super) type Pattern = Regex;

/// Where a field stands: `/a/b/0` in a JSON object, `$name` in a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pointer {
    /// A JSON pointer (RFC 6901).
    Json(Box<str>),
    /// A named group of the pattern that matched.
    Group(Box<str>),
}

impl Pointer {
    /// Reads one as a configuration writes it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix('$') {
            Some(name) if !name.is_empty() => Some(Self::Group(name.into())),
            None if text.starts_with('/') => Some(Self::Json(text.into())),
            Some(_) | None => None,
        }
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(pointer) => f.write_str(pointer),
            Self::Group(name) => write!(f, "${name}"),
        }
    }
}

/// One record.
#[derive(Debug, Default)]
pub(super) struct Record {
    json: Value,
    groups: Vec<(Box<str>, String)>,
}

impl Record {
    /// Reads a line: as JSON unless there are patterns for the line itself. `None`: there are patterns, and none matches.
    pub(super) fn read(
        line: &[u8],
        patterns: &[Pattern],
        at: Option<&Pointer>,
    ) -> Result<Option<Self>, NormalizeError> {
        if patterns.is_empty() {
            return Ok(Some(Self { json: object(line)?, groups: Vec::new() }));
        }
        let Some(Pointer::Json(at)) = at else {
            let groups = groups(patterns, &String::from_utf8_lossy(line));
            return Ok(groups.map(|groups| Self { json: Value::Null, groups }));
        };
        let json: Value = object(line)?;
        let groups = json.pointer(at).and_then(Value::as_str).and_then(|text| groups(patterns, text));
        Ok(groups.map(|groups| Self { json, groups }))
    }

    /// The first of the places that holds a single value.
    pub(super) fn text(&self, places: &[Pointer]) -> Option<Cow<'_, str>> {
        places.iter().find_map(|place| match place {
            Pointer::Json(pointer) => match self.json.pointer(pointer) {
                // `"User-Agent": ["curl"]`: headers are lists.
                Some(Value::Array(items)) => items.first().and_then(scalar),
                Some(value) => scalar(value),
                None => None,
            },
            Pointer::Group(name) => {
                let found = self.groups.iter().find(|(group, _)| group == name)?;
                (!found.1.is_empty() && found.1 != "-").then_some(Cow::Borrowed(found.1.as_str()))
            }
        })
    }

    /// Whether the first of the places that holds anything holds something of which `is` is true.
    pub(super) fn any(&self, places: &[Pointer], is: &dyn Fn(&str) -> bool) -> bool {
        for place in places {
            if let Pointer::Json(pointer) = place
                && let Some(Value::Array(items)) = self.json.pointer(pointer)
            {
                return items.iter().filter_map(scalar).any(|found| is(&found));
            }
            if let Some(found) = self.text(std::slice::from_ref(place)) {
                return is(&found);
            }
        }
        false
    }
}

/// The named groups of the first pattern that matches.
fn groups(patterns: &[Pattern], text: &str) -> Option<Vec<(Box<str>, String)>> {
    patterns.iter().find_map(|pattern| {
        let captures = pattern.captures(text)?;
        let named = pattern.capture_names().flatten();
        Some(named.filter_map(|name| Some((name.into(), captures.name(name)?.as_str().to_owned()))).collect())
    })
}
