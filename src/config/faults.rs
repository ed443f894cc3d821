//! What is wrong with a configuration, in words that tell where to look.
//!
//! Invariant: one fault is one line, and holds no configured value.

use std::fmt;

use figment::error::{Actual, Kind};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    source: String,
    key: Option<String>,
    what: String,
}

impl Fault {
    /// `source` is a file, a variable or a flag; `key` the dotted key inside it.
    pub(crate) fn new(source: impl Into<String>, key: Option<String>, what: impl Into<String>) -> Self {
        Self { source: source.into(), key, what: what.into() }
    }

    /// What `figment` found, without the value it found.
    pub(super) fn of_figment(source: &str, fault: &figment::Error) -> Self {
        let key = (!fault.path.is_empty()).then(|| fault.path.join("."));
        Self::new(source, key, describe(&fault.kind))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{}: {key}: {}", self.source, self.what),
            None => write!(f, "{}: {}", self.source, self.what),
        }
    }
}

/// Everything that is wrong, one fault a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    /// A single one, of a flag or a variable as a whole.
    pub(crate) fn one(source: &str, what: &str) -> Self {
        Self(vec![Fault::new(source, None, what)])
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

fn describe(kind: &Kind) -> String {
    match kind {
        Kind::Message(text) => text.replace('\n', " "),
        Kind::InvalidValue(Actual::Unsigned(_) | Actual::Signed(_), expected) => format!("out of range for {expected}"),
        Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
            let expected = match expected.as_str() {
                "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number from 0",
                "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
                "f32" | "f64" => "a number",
                other => other,
            };
            format!("expected {expected}, found {}", name_of(found))
        }
        Kind::UnknownField(_, []) => "unknown key; there is none here".to_owned(),
        Kind::UnknownField(_, known) => format!("unknown key; known here: {}", known.join(", ")),
        Kind::UnknownVariant(_, known) => format!("must be one of {}", known.join(", ")),
        Kind::InvalidLength(found, expected) => format!("expected {expected}, found {found} elements"),
        Kind::MissingField(name) => format!("{name} is missing"),
        Kind::DuplicateField(name) => format!("{name} is there twice"),
        Kind::ISizeOutOfRange(_) | Kind::USizeOutOfRange(_) => "number out of range".to_owned(),
        Kind::Unsupported(found) => format!("{} cannot stand here", name_of(found)),
        Kind::UnsupportedKey(found, _) => format!("{} cannot be a key", name_of(found)),
    }
}

fn name_of(actual: &Actual) -> &str {
    match actual {
        Actual::Bool(_) => "a boolean",
        Actual::Unsigned(_) => "an unsigned number",
        Actual::Signed(_) => "a signed number",
        Actual::Float(_) => "a number with a fraction",
        Actual::Char(_) | Actual::Str(_) => "a string",
        Actual::Bytes(_) => "bytes",
        Actual::Unit | Actual::Option => "nothing",
        Actual::Seq | Actual::TupleVariant => "a list",
        Actual::Map | Actual::StructVariant => "a section",
        Actual::NewtypeStruct | Actual::Enum | Actual::UnitVariant | Actual::NewtypeVariant | Actual::Other(_) => {
            "something else"
        }
    }
}
