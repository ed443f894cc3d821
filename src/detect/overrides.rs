//! A second set of thresholds: what one tenant, or the shadow detector, is judged by instead.
//!
//! A set holds only the keys that differ. It is laid over the base settings as values, so there is no second list of keys
//! here that could fall behind [`Config`]: a threshold that is added there can be overridden the same day, and is checked
//! like there.
//!
//! Invariant: a set holds only known thresholds with values of their type. Memory and list bounds, times of episodes and
//! other sections are the detector's, not a tenant's, and are refused.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Config, MAX_TENANTS};

mod read;

/// What a shadow detector is called unless it is named.
const SHADOW_NAME: &str = "shadow";

/// Thresholds that differ from the base settings; empty: none does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides(Map<String, Value>);

impl Overrides {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same, with `others` over it.
    fn under(&self, others: &Self) -> Self {
        Self(self.0.iter().chain(&others.0).map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}

/// The sets of all tenants that have one.
pub type Tenants = BTreeMap<String, Overrides>;

/// A set of thresholds that is tried out beside the one in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Shadow {
    /// What it is called where its findings are listed.
    pub name: String,
    /// What differs; empty: there is no shadow.
    pub overrides: Overrides,
}

impl Default for Shadow {
    fn default() -> Self {
        Self { name: SHADOW_NAME.to_owned(), overrides: Overrides::default() }
    }
}

impl Config {
    /// These settings with the thresholds of `overrides`, without tenants, allow list and shadow.
    fn with(&self, overrides: &Overrides) -> Result<Self, serde_json::Error> {
        let mut merged = as_map(self);
        merged.extend(overrides.0.clone());
        serde_json::from_value(Value::Object(merged))
    }

    /// The settings that one tenant is judged by.
    pub(crate) fn of_tenant(&self, overrides: &Overrides) -> Self {
        // `validate` has shown that they can be laid over.
        self.with(overrides).unwrap_or_else(|_| self.clone())
    }

    /// The settings of the shadow detector, if there is one: its thresholds win over the live ones of every tenant.
    #[must_use]
    pub fn shadowed(&self) -> Option<Self> {
        let overrides = &self.shadow.overrides;
        (!overrides.is_empty()).then(|| {
            let tenants = self.tenants.iter().map(|(tenant, own)| (tenant.clone(), own.under(overrides)));
            Self {
                allow: self.allow.clone(),
                tenants: tenants.collect(),
                shadow: Shadow::default(),
                ..self.of_tenant(overrides)
            }
        })
    }

    /// Every fault that the sets have and the base settings have not.
    pub(super) fn validate_overrides(&self, base: &[String]) -> Vec<String> {
        let mut faults = Vec::new();
        if self.tenants.len() > MAX_TENANTS {
            faults.push(format!("tenants: must be at most {MAX_TENANTS}, which is how many are told apart"));
        }
        if self.tenants.contains_key("") {
            faults.push("tenants: a name must not be empty".to_owned());
        }
        if self.shadow.overrides.is_empty() && self.shadow.name != SHADOW_NAME {
            faults.push("shadow: a name alone changes nothing; set at least one threshold".to_owned());
        }
        for (tenant, overrides) in &self.tenants {
            faults.extend(self.faults_of(&format!("tenants.{tenant}"), overrides, base));
            if !self.shadow.overrides.is_empty() {
                let both = overrides.under(&self.shadow.overrides);
                let of_both = self.faults_of("shadow", &both, base);
                let alone = self.faults_of("shadow", &self.shadow.overrides, base);
                let own = self.faults_of("shadow", overrides, base);
                let new = of_both.into_iter().filter(|fault| !alone.contains(fault) && !own.contains(fault));
                faults.extend(new.map(|fault| format!("{fault} (with the thresholds of {tenant})")));
            }
        }
        faults.extend(self.faults_of("shadow", &self.shadow.overrides, base));
        faults
    }

    fn faults_of(&self, section: &str, overrides: &Overrides, base: &[String]) -> Vec<String> {
        if overrides.is_empty() {
            // Also what ends this: the merged settings have no sets of their own.
            return Vec::new();
        }
        let merged = match self.with(overrides) {
            Ok(merged) => merged.validate(),
            // The base settings are at fault, and that is said there.
            Err(_) if !base.is_empty() => Vec::new(),
            Err(_) => vec!["cannot be laid over the base settings".to_owned()],
        };
        let new = merged.into_iter().filter(|fault| !base.contains(fault));
        new.map(|fault| match fault.split_once(": ") {
            Some((key, what)) if overrides.0.contains_key(key) => format!("{section}.{key}: {what}"),
            // The key at fault stands in the base settings, and is right there.
            _ => format!("{section}: {fault}"),
        })
        .collect()
    }
}

/// The settings as values, other sections apart.
fn as_map(config: &Config) -> Map<String, Value> {
    match serde_json::to_value(config) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests;
