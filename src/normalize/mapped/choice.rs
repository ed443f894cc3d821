//! Which mapping reads a source: a preset, or one of the user's own by its name.

use std::collections::BTreeMap;

use super::{Config, Mapping, preset};

/// What a section names, each empty where it names none.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    /// A preset.
    pub preset: &'a str,
    /// Or the mapping of `[ingest.mapping.NAME]`.
    pub mapping: &'a str,
    /// The instance its attempts belong to, where the mapping names none.
    pub instance: &'a str,
}

impl Choice<'_> {
    /// Whether neither is named.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.preset.is_empty() && self.mapping.is_empty()
    }

    /// The mapping, out of the presets and the user's `own`.
    ///
    /// # Errors
    /// As `key: what is wrong`.
    pub fn compile(self, own: &BTreeMap<String, Config>) -> Result<Mapping, String> {
        let mut config = match (self.preset, self.mapping) {
            ("", "") => Err("preset: must be set, or mapping".to_owned()),
            (name, "") => preset::config(name)
                .ok_or_else(|| format!("preset: must be one of {}", preset::names().collect::<Vec<_>>().join(", "))),
            ("", name) => {
                own.get(name).cloned().ok_or_else(|| "mapping: is no [ingest.mapping] of that name".to_owned())
            }
            _ => Err("mapping: not together with preset".to_owned()),
        }?;
        if !self.instance.is_empty() {
            self.instance.clone_into(&mut config.instance);
        }
        config.compile().map_err(|faults| faults.join("; "))
    }

    /// What is wrong with it. A mapping of the user's own that is wrong in itself is reported where it stands, not here.
    #[must_use]
    pub fn fault(self, own: &BTreeMap<String, Config>) -> Option<String> {
        self.compile(own).err().filter(|_| !own.contains_key(self.mapping) || !self.preset.is_empty())
    }
}
