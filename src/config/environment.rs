//! The process's variables, as a value: read once, so that a test can bring its own.
//!
//! Every key of the configuration can be set as `AUTHSPIKE_` and its path in capitals, sections parted by two underscores:
//! `AUTHSPIKE_INGEST__LISTEN`. Invariant: a variable that begins with `AUTHSPIKE_` is a key, a secret or a fault; a
//! misspelt one in a unit file is never ignored.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::faults::Fault;
use super::layer::Layer;
use super::secrets;

/// What every key's variable begins with.
pub const PREFIX: &str = "AUTHSPIKE_";
/// Names the configuration file, as `--config` does.
pub const CONFIG_FILE: &str = "AUTHSPIKE_CONFIG";
/// Overrides `logging.level`, under the name every Rust program uses.
pub const LOG_FILTER: &str = "RUST_LOG";

/// Names and values.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// The variables of this process.
    #[must_use]
    pub fn of_process() -> Self {
        Self(std::env::vars_os().collect())
    }

    /// These variables and no others.
    #[must_use]
    pub fn of<N: Into<OsString>, V: Into<OsString>>(variables: impl IntoIterator<Item = (N, V)>) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    /// The value of `name`; one that is not UTF-8 is a fault.
    pub(super) fn get(&self, name: &str, faults: &mut Vec<Fault>) -> Option<&str> {
        let value = self.0.get(std::ffi::OsStr::new(name))?;
        if value.to_str().is_none() {
            faults.push(Fault::new(name, None, "is not UTF-8"));
        }
        value.to_str()
    }

    /// The filter for the program's own log lines, if one is set.
    #[must_use]
    pub fn log_filter(&self) -> Option<&str> {
        self.0.get(std::ffi::OsStr::new(LOG_FILTER))?.to_str().filter(|filter| !filter.is_empty())
    }

    /// The file that `AUTHSPIKE_CONFIG` names.
    pub(super) fn config_file(&self, faults: &mut Vec<Fault>) -> Option<PathBuf> {
        self.get(CONFIG_FILE, faults).map(PathBuf::from)
    }

    /// Whether Kubernetes put the variable there: for a service called `authspike…` it tells every pod of the namespace
    /// `AUTHSPIKE_SERVICE_HOST`, `AUTHSPIKE_PORT_8080_TCP_ADDR` and a dozen more, and nobody has misspelt anything.
    fn is_service_link(&self, name: &str) -> bool {
        let in_pod = self.0.contains_key(std::ffi::OsStr::new("KUBERNETES_SERVICE_HOST"));
        let is_port_of_protocol = || {
            name.match_indices("_PORT_").any(|(at, word)| {
                let rest = name.get(at + word.len()..).unwrap_or_default();
                let protocol = rest.trim_start_matches(|c: char| c.is_ascii_digit());
                protocol.len() < rest.len() && ["_TCP", "_UDP", "_SCTP"].iter().any(|known| protocol.starts_with(known))
            })
        };
        in_pod
            && !name.contains("__")
            && (name.ends_with("_SERVICE_HOST")
                || name.ends_with("_SERVICE_PORT")
                || name.contains("_SERVICE_PORT_")
                || name.ends_with("_PORT")
                || is_port_of_protocol())
    }

    /// One layer for each variable that sets a key.
    pub(super) fn layers(&self, faults: &mut Vec<Fault>) -> Vec<Layer> {
        let mut layers = Vec::new();
        for name in self.0.keys() {
            let shown = name.to_string_lossy();
            let Some(key) = shown.strip_prefix(PREFIX) else { continue };
            if shown == CONFIG_FILE || secrets::is_secret(&shown) || self.is_service_link(&shown) {
                continue;
            }
            let key = key.to_ascii_lowercase();
            // The one key that every container of a fleet sets has a short name of its own.
            let key = if key == "kafka_brokers" { "kafka__brokers" } else { &key };
            let path: Vec<&str> = key.split("__").collect();
            if let Some(value) = self.get(&shown, faults) {
                layers.push(Layer::guessed(&shown, &path, value));
            }
        }
        layers
    }
}

impl std::fmt::Debug for Environment {
    /// Names only: values may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
