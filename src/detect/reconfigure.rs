//! Other settings for a detector that is running.
//!
//! Invariant: nothing that was counted, learned or opened changes; only what is judged from now on. A detector that is
//! restored from a snapshot under the new settings goes on exactly like one that was given them at that moment.

use super::allow::AllowList;
use super::rules::Thresholds;
use super::{Config, Detector};
use crate::event::Tenant;

/// Keys of [`Config`] that only a new detector takes: its tables have the size they were made with.
pub const NEEDS_RESTART: [&str; 1] = ["max_state_bytes"];

impl Config {
    /// What `tenant` is judged by.
    pub(super) fn thresholds_of(&self, tenant: &Tenant) -> Thresholds {
        self.tenants.get(&*tenant.0).map_or_else(|| self.thresholds(), |own| self.of_tenant(own).thresholds())
    }
}

impl Detector {
    /// Judges by `config` from now on. The keys in [`NEEDS_RESTART`] keep their values.
    pub fn reconfigure(&mut self, config: &Config) {
        for tenant in &mut self.tenants {
            tenant.thresholds = config.thresholds_of(&tenant.tenant);
        }
        self.allow = AllowList::new(&config.allow);
        self.config = Config { max_state_bytes: self.config.max_state_bytes, ..config.clone() };
    }
}

#[cfg(test)]
mod tests;
