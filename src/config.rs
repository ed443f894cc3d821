//! What the user has set: one [`Config`] composed of each module's own, read from a TOML file, the environment and flags.
//!
//! Later layers win: defaults, file, environment, flags. Each layer is judged on its own, so a value that another layer
//! overrides is still refused when it is wrong: a typo is never silent.
//!
//! Invariant: [`load`] either answers with a configuration in which every key is known and every value in range, or with
//! *all* faults, each with the file, variable or flag it stands in. No fault's text holds a value, since it may be a
//! secret that was put in the wrong place.
//!
//! Not here: what a module's keys mean and which values are in range (its own `Config` and `validate`). Secrets are not
//! part of the file: they come from the environment ([`secrets`]).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use figment::Figment;
use serde::{Deserialize, Serialize};

use crate::{admin, detect, log, logging, sinks, sources};

pub mod environment;
mod faults;
pub mod identifier_key;
mod layer;
pub mod secrets;

pub use environment::Environment;
pub use faults::{Fault, Faults};
pub use secrets::Secrets;

use layer::Layer;

/// Read when no other file is named, if it is there.
pub const DEFAULT_FILE: &str = "authspike.toml";

/// Longest grace that makes sense: every supervisor kills long before ten minutes.
const MAX_SHUTDOWN_SECONDS: u64 = 600;

/// What a process does. On Kafka the roles may be spread over machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Takes events in.
    Receive,
    /// Judges them.
    Detect,
    /// Delivers findings.
    Deliver,
}

impl Role {
    /// Every role, in the order of the flow.
    pub const ALL: [Self; 3] = [Self::Receive, Self::Detect, Self::Deliver];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Detect => "detect",
            Self::Deliver => "deliver",
        }
    }
}

/// Everything a run is told, secrets apart.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the log, the outbox and the identifier key live; relative paths start at the working directory.
    pub data_dir: PathBuf,
    /// What this process does.
    pub roles: BTreeSet<Role>,
    /// Seconds from the first signal until what is not finished is abandoned.
    pub shutdown_seconds: u64,
    /// Receiving events.
    pub ingest: sources::Config,
    /// Metrics and health.
    pub admin: admin::Config,
    /// Keeping events, on this machine.
    pub log: log::embedded::Config,
    /// Keeping events, on Kafka.
    pub kafka: log::kafka::Config,
    /// Judging events.
    pub detect: detect::Config,
    /// Delivering findings.
    pub sinks: sinks::Config,
    /// The program's own log lines.
    pub logging: logging::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("authspike-data"),
            roles: Role::ALL.into(),
            // Kubernetes kills after 30 s: this leaves it time to see the exit code.
            shutdown_seconds: 25,
            ingest: sources::Config::default(),
            admin: admin::Config::default(),
            log: log::embedded::Config::default(),
            kafka: log::kafka::Config::default(),
            detect: detect::Config::default(),
            sinks: sinks::Config::default(),
            logging: logging::Config::default(),
        }
    }
}

impl Config {
    /// The keys whose values differ in `other`, as they stand in the file (`ingest.listen`), and that a running instance
    /// does not take: all but those of `detect`.
    #[must_use]
    pub fn needing_restart(&self, other: &Self) -> Vec<String> {
        let (ours, theirs) = (leaves(self), leaves(other));
        let in_force = |key: &str| key.strip_prefix("detect.").is_some_and(|key| !detect::NEEDS_RESTART.contains(&key));
        let differing = ours.keys().chain(theirs.keys().filter(|key| !ours.contains_key(*key)));
        let differing = differing.filter(|key| ours.get(*key) != theirs.get(*key) && !in_force(key));
        differing.cloned().collect()
    }

    /// Every value out of range, as (key, what is wrong).
    fn validate(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        if self.data_dir.as_os_str().is_empty() {
            faults.push(("data_dir".to_owned(), "must not be empty".to_owned()));
        }
        if self.roles.is_empty() {
            faults.push(("roles".to_owned(), "must name at least one".to_owned()));
        }
        if self.roles.len() < Role::ALL.len() && !self.kafka.is_on() {
            let what = "without Kafka one process has all roles: set kafka.brokers";
            faults.push(("roles".to_owned(), what.to_owned()));
        }
        if !(1..=MAX_SHUTDOWN_SECONDS).contains(&self.shutdown_seconds) {
            faults.push(("shutdown_seconds".to_owned(), format!("must be from 1 to {MAX_SHUTDOWN_SECONDS}")));
        }
        if self.ingest.listen == self.admin.listen && self.ingest.listen.port() != 0 {
            faults.push(("admin.listen".to_owned(), "must differ from ingest.listen".to_owned()));
        }
        let sections = [
            ("ingest", self.ingest.validate()),
            ("admin", self.admin.validate()),
            ("log", self.log.validate()),
            ("kafka", self.kafka.validate()),
            ("detect", self.detect.validate()),
            ("sinks", self.sinks.validate()),
            ("logging", self.logging.validate()),
        ];
        for (section, found) in sections {
            faults.extend(found.into_iter().map(|fault| match fault.split_once(": ") {
                Some((key, what)) => (format!("{section}.{key}"), what.to_owned()),
                None => (section.to_owned(), fault),
            }));
        }
        faults
    }
}

/// Every value by its dotted key.
fn leaves(config: &Config) -> BTreeMap<String, serde_json::Value> {
    let mut leaves = BTreeMap::new();
    let mut waiting = vec![(String::new(), serde_json::to_value(config).unwrap_or_default())];
    while let Some((key, value)) = waiting.pop() {
        if let serde_json::Value::Object(section) = value {
            let inside = |name: String| if key.is_empty() { name } else { format!("{key}.{name}") };
            waiting.extend(section.into_iter().map(|(name, value)| (inside(name), value)));
        } else {
            leaves.insert(key, value);
        }
    }
    leaves
}

/// What the command line may say about the configuration. The values are judged with all others.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// The file; a file that is named must exist.
    pub config: Option<PathBuf>,
    /// `data_dir`
    pub data_dir: Option<String>,
    /// `ingest.listen`
    pub listen: Option<String>,
    /// `admin.listen`
    pub admin_listen: Option<String>,
    /// `roles`; none: as configured.
    pub roles: Vec<Role>,
}

impl Flags {
    fn layers(&self) -> Vec<Layer> {
        let roles: Vec<_> = self.roles.iter().map(|role| role.as_str()).collect();
        let roles = (!roles.is_empty()).then(|| Layer::list("--role", &["roles"], &roles));
        let texts = [
            ("--data-dir", &self.data_dir, ["data_dir"].as_slice()),
            ("--listen", &self.listen, &["ingest", "listen"]),
            ("--admin-listen", &self.admin_listen, &["admin", "listen"]),
        ]
        .into_iter()
        .filter_map(|(flag, value, key)| Some(Layer::text(flag, key, value.as_deref()?)));
        texts.chain(roles).collect()
    }
}

/// A configuration without a fault.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What was set, over the defaults.
    pub config: Config,
    /// The secrets of the environment.
    pub secrets: Secrets,
    /// The file it came from, if there was one.
    pub file: Option<PathBuf>,
}

/// What a command cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A secret of at least one source, or nothing could be received; and every secret of the sinks.
    Source,
    /// Every secret of the sinks.
    Sinks,
    /// Nothing.
    Nothing,
}

/// Reads file, environment and flags.
///
/// # Errors
/// All faults of all of them, see [`Faults`].
pub fn load(flags: &Flags, environment: &Environment, need: Need) -> Result<Loaded, Faults> {
    let mut faults = Vec::new();
    let mut layers = Vec::new();
    let file = file_layer(flags, environment, &mut layers, &mut faults);
    layers.extend(environment.layers(&mut faults));
    layers.extend(flags.layers());

    let mut figment = Figment::new();
    for mut layer in layers {
        layer.refuse_faults::<Config>(&mut faults);
        figment = figment.merge(layer);
    }
    let before = faults.len();
    let mut secrets = Secrets::read(environment, &mut faults);
    match figment.extract::<Config>() {
        Ok(config) => {
            let receives = need == Need::Source && config.roles.contains(&Role::Receive);
            let proxies = config.ingest.fapi_proxy.enabled;
            let has_source = secrets.any_source() || config.ingest.reads() || proxies;
            if receives && !has_source && faults.len() == before {
                faults.push(Secrets::missing());
            }
            if receives && proxies && secrets.clerk_secret_key.is_none() {
                faults.push(Secrets::no_secret_key());
            }
            if receives && config.kafka.is_on() && secrets.identifier_key.is_none() {
                faults.push(Secrets::no_identifier_key());
            }
            let mut found = config.validate();
            match secrets::of_sinks(environment, &config.sinks) {
                Err(_) if need == Need::Nothing => {}
                Ok(variables) => secrets.sinks = variables,
                Err(missing) => found.extend(missing.into_iter().map(|(key, what)| (format!("sinks.{key}"), what))),
            }
            faults.extend(found.into_iter().map(|(key, what)| Fault::new(source_of(&figment, &key), Some(key), what)));
            if faults.is_empty() { Ok(Loaded { config, secrets, file }) } else { Err(Faults(faults)) }
        }
        // Layers that are right one by one are right together; should that ever fail, the reason must be seen.
        Err(fault) => {
            faults.extend(fault.into_iter().map(|fault| Fault::of_figment("configuration", &fault)));
            Err(Faults(faults))
        }
    }
}

/// The layer that set `key`, or the section or list it is in: what is wrong with one key may have been set by another.
fn source_of(figment: &Figment, key: &str) -> String {
    let parents = std::iter::successors(Some(key), |key| key.rsplit_once('.').map(|(parent, _)| parent));
    let mut sources = parents.filter_map(|key| figment.find_metadata(key));
    sources.next().map_or_else(|| "default".to_owned(), |found| found.name.to_string())
}

fn file_layer(
    flags: &Flags,
    environment: &Environment,
    layers: &mut Vec<Layer>,
    faults: &mut Vec<Fault>,
) -> Option<PathBuf> {
    let named = flags.config.clone().or_else(|| environment.config_file(faults));
    let path = named.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
    match layer::read_limited(&path) {
        Ok(text) => match Layer::toml(&path, &text) {
            Ok(layer) => layers.push(layer),
            Err(fault) => faults.push(fault),
        },
        Err(fault) if named.is_none() && fault.kind() == std::io::ErrorKind::NotFound => return None,
        Err(fault) => faults.push(Fault::new(path_text(&path), None, format!("cannot be read: {fault}"))),
    }
    Some(path)
}

fn path_text(path: &Path) -> String {
    path.display().to_string()
}

/// The configuration that `text` alone makes, as if it had been read from a file called `name`.
///
/// # Errors
/// All faults, see [`Faults`].
pub fn parse(name: &str, text: &str) -> Result<Config, Faults> {
    let mut faults = Vec::new();
    let mut layer = Layer::toml(Path::new(name), text).map_err(|fault| Faults(vec![fault]))?;
    layer.refuse_faults::<Config>(&mut faults);
    let config: Config = Figment::from(layer)
        .extract()
        .map_err(|fault| Faults(fault.into_iter().map(|fault| Fault::of_figment(name, &fault)).collect()))?;
    faults.extend(config.validate().into_iter().map(|(key, what)| Fault::new(name, Some(key), what)));
    if faults.is_empty() { Ok(config) } else { Err(Faults(faults)) }
}
