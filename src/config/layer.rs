//! One place that sets keys: the file, one variable or one flag.
//!
//! Invariant: after [`Layer::refuse_faults`] the layer deserialises, and everything that was taken out of it to get there
//! has been reported.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::Path;

use figment::error::Kind;
use figment::providers::{Format as _, Toml};
use figment::value::{Dict, Map, Tag, Value};
use figment::{Metadata, Profile, Provider};
use serde::de::DeserializeOwned;

use super::faults::Fault;

/// A configuration with every key commented is under 20 KiB; a file above this is some other file.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Faults reported of one layer: a screenful. A file with more is not a configuration.
const MAX_FAULTS: usize = 50;

/// Keys and values, and where they were found.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    name: String,
    keys: Dict,
    /// The text a value had before its type was guessed (variables and flags).
    raw: Option<String>,
}

impl Layer {
    /// The keys of a TOML document.
    pub(super) fn toml(path: &Path, text: &str) -> Result<Self, Fault> {
        let name = path.display().to_string();
        match Toml::from_str::<Dict>(text) {
            Ok(keys) => Ok(Self { name, keys, raw: None }),
            Err(fault) => Err(Fault::new(name, None, one_line(&fault.to_string()))),
        }
    }

    /// One key from text, with its type guessed: `true`, `10`, `[a, b]`, else a string.
    pub(super) fn guessed(name: &str, key: &[impl AsRef<str>], text: &str) -> Self {
        let value = text.parse().unwrap_or_else(|never: std::convert::Infallible| match never {});
        Self { name: name.to_owned(), keys: nest(key, value), raw: Some(text.to_owned()) }
    }

    /// One key that is a list of strings.
    pub(super) fn list(name: &str, key: &[impl AsRef<str>], items: &[&str]) -> Self {
        Self { name: name.to_owned(), keys: nest(key, Value::from(items.to_vec())), raw: None }
    }

    /// One key that is a string.
    pub(super) fn text(name: &str, key: &[impl AsRef<str>], text: &str) -> Self {
        Self { name: name.to_owned(), keys: nest(key, Value::from(text)), raw: None }
    }

    /// Takes out, and reports, whatever keeps this layer from being a `T`. The deserialiser stops at the first fault, so
    /// it is asked again after each one until it has nothing more to say.
    pub(super) fn refuse_faults<T: DeserializeOwned>(&mut self, faults: &mut Vec<Fault>) {
        let mut removed = BTreeMap::new();
        let mut reported_paths = BTreeSet::new();
        for _ in 0..MAX_FAULTS {
            let Err(found) = Value::from(self.keys.clone()).deserialize::<T>() else { return };
            // A string that looks like a number is not a fault of the variable it stands in.
            if let Some(raw) = self.raw.take()
                && let Some(value) = find(&mut self.keys, &found.path)
            {
                *value = Value::from(raw);
                continue;
            }
            let mut reported = found.clone();
            reported.path = original_path(&found.path, &removed);
            // What was taken out a moment ago is missing now; that is no second fault.
            let mut missing = reported.path.clone();
            if let Kind::MissingField(field) = &reported.kind {
                missing.push(field.to_string());
            }
            if !reported_paths.contains(&missing) {
                faults.push(Fault::of_figment(&self.name, &reported));
            }
            reported_paths.insert(reported.path);
            if !remove(&mut self.keys, &found.path, &mut removed) {
                break;
            }
        }
        self.keys.clear();
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Profile::Default.collect(self.keys.clone()))
    }
}

/// A file of text, no longer than a configuration can be.
pub(super) fn read_limited(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(std::io::Error::other(format!("longer than {MAX_FILE_BYTES} bytes")));
    }
    Ok(text)
}

/// The place and the reason, without the excerpt between them: it may show what must not be shown.
fn one_line(toml_fault: &str) -> String {
    let mut lines = toml_fault.lines().filter(|line| !line.trim().is_empty());
    match (lines.next(), lines.next_back()) {
        (Some(first), Some(last)) => format!("{first}: {last}"),
        (Some(only), None) => only.to_owned(),
        _ => "not TOML".to_owned(),
    }
}

fn nest(key: &[impl AsRef<str>], value: Value) -> Dict {
    let mut value = value;
    for segment in key.iter().skip(1).rev() {
        value = Value::Dict(Tag::Default, Dict::from([(segment.as_ref().to_owned(), value)]));
    }
    key.first().map(|first| Dict::from([(first.as_ref().to_owned(), value)])).unwrap_or_default()
}

fn find<'a>(keys: &'a mut Dict, path: &[String]) -> Option<&'a mut Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(keys.get_mut(first)?, |value, segment| match value {
        Value::Dict(_, dict) => dict.get_mut(segment),
        Value::Array(_, items) => items.get_mut(segment.parse::<usize>().ok()?),
        Value::String(..) | Value::Char(..) | Value::Bool(..) | Value::Num(..) | Value::Empty(..) => None,
    })
}

/// Elements already taken out of lists, by the list's path, as the indices they had in the file.
type Removed = BTreeMap<Vec<String>, Vec<usize>>;

fn remove(keys: &mut Dict, path: &[String], removed: &mut Removed) -> bool {
    let Some((last, parent_path)) = path.split_last() else { return false };
    if parent_path.is_empty() {
        return keys.remove(last).is_some();
    }
    match find(keys, parent_path) {
        Some(Value::Dict(_, dict)) => dict.remove(last).is_some(),
        Some(Value::Array(_, items)) => match last.parse::<usize>() {
            Ok(index) if index < items.len() => {
                items.remove(index);
                let before = removed.entry(parent_path.to_vec()).or_default();
                let original = original_index(index, before);
                before.push(original);
                before.sort_unstable();
                true
            }
            _ => false,
        },
        // A value inside which nothing can be named: the whole value goes.
        _ => remove(keys, parent_path, removed),
    }
}

fn original_index(index: usize, removed: &[usize]) -> usize {
    removed.iter().fold(index, |index, gone| if *gone <= index { index + 1 } else { index })
}

fn original_path(path: &[String], removed: &Removed) -> Vec<String> {
    path.iter()
        .enumerate()
        .map(|(depth, segment)| {
            let list = path.get(..depth).and_then(|parent| removed.get(parent));
            match (list, segment.parse()) {
                (Some(gone), Ok(index)) => original_index(index, gone).to_string(),
                _ => segment.clone(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Keys {
        ports: Vec<u16>,
        name: String,
        nested: BTreeMap<String, Vec<Nested>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only deserialised")]
    struct Nested {
        port: u16,
    }

    fn faults(text: &str) -> Vec<String> {
        let mut faults = Vec::new();
        let mut layer = Layer::toml(Path::new("f"), text).unwrap();
        layer.refuse_faults::<Keys>(&mut faults);
        assert!(Value::from(layer.keys).deserialize::<Keys>().is_ok(), "what is left is right");
        faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn elements_of_lists_are_named_by_their_place_in_the_file() {
        let found = faults("ports = [1, 'a', 2, 70000, -1, 3, true]\nname = 'n'");
        let places: Vec<_> = found.iter().map(|fault| fault.split(": ").nth(1).unwrap()).collect();
        assert_eq!(places, ["ports.1", "ports.3", "ports.4", "ports.6"]);
        assert_eq!(found[1], "f: ports.3: out of range for u16");

        let found = faults("[[nested.a]]\nport = 1\n[[nested.a]]\nprt = 2\n[[nested.a]]\nport = 'x'\nmore = 1");
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(found.iter().any(|fault| fault.starts_with("f: nested.a.1.prt: unknown key")), "{found:?}");
        // Without its wrong key the second element lacks the right one.
        assert!(found.iter().any(|fault| fault == "f: nested.a.1: port is missing"), "{found:?}");
        assert!(found.iter().any(|fault| fault.starts_with("f: nested.a.2.port: expected")), "{found:?}");
    }

    #[test]
    fn keys_with_dots_are_one_key() {
        assert_eq!(faults("\"na.me\" = 1\nname = 2").len(), 2);
        assert_eq!(faults("\"\" = 1").len(), 1);
    }
}
