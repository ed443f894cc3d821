//! Where findings go.
//!
//! Invariant: a sink only sends. It neither chooses what to send, nor retries, nor keeps anything: the outbox does, so a
//! sink that fails or hangs loses nothing and delays nobody else.
//!
//! Not here: the order, the schedule and the memory of what was delivered (`sinks::outbox`, `sinks::dispatch`).

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::finding::Finding;

pub mod alertmanager;
pub mod credential;
pub mod dispatch;
pub mod elastic;
pub mod forgotten;
pub mod format;
pub mod http;
pub mod jsonl;
pub mod kafka;
pub mod outbox;
pub mod probe;
pub mod redact;
pub mod route;
pub mod section;
pub mod sentinel;
pub mod splunk_hec;
pub mod standing;
pub mod stdout;
pub mod syslog;
pub mod thread;
pub mod webhook;

use credential::Variables;
use redact::Redaction;
use route::Route;
use section::Section;
use thread::Threaded;

/// What became of one finding revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It arrived.
    Accepted,
    /// Not now: try again later.
    Retry {
        /// Why.
        reason: String,
        /// The receiver's own wish: not before this has passed.
        after: Option<Duration>,
    },
    /// Not until somebody repairs something (credentials, address): everything is kept, and tried now and then.
    Blocked(String),
    /// What was sent together was too large: send it in halves; a single one, cut down.
    Split(String),
    /// Something in what was sent together is bad, and nobody said what: send it in halves until that is found; a single
    /// one goes to the dead letters.
    Bisect(String),
    /// Never: it goes to the dead letters.
    Refused(String),
}

impl Delivery {
    /// [`Delivery::Retry`] where the receiver has said nothing about when.
    #[must_use]
    pub fn retry(reason: impl Into<String>) -> Self {
        Self::Retry { reason: reason.into(), after: None }
    }

    /// Why it did not arrive.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Accepted => None,
            Self::Retry { reason, .. }
            | Self::Blocked(reason)
            | Self::Split(reason)
            | Self::Bisect(reason)
            | Self::Refused(reason) => Some(reason),
        }
    }

    /// The receiver's own wish to be left alone for so long.
    #[must_use]
    pub const fn after(&self) -> Option<Duration> {
        if let Self::Retry { after, .. } = self { *after } else { None }
    }

    /// The value of the `result` label.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Retry { .. } => "retry",
            Self::Blocked(_) => "blocked",
            Self::Split(_) => "split",
            Self::Bisect(_) => "bisect",
            Self::Refused(_) => "refused",
        }
    }
}

/// A destination.
#[async_trait]
pub trait Sink: Send + 'static {
    /// Sends the findings in order; one result each. A reason holds no secret: it is stored and shown. The caller may
    /// stop waiting (a time-out, the end of the process) and then sends the same findings again.
    async fn deliver(&mut self, findings: &[Finding]) -> Vec<Delivery>;

    /// What the receiver said last, for a person who tests the sink; `None` where nothing answers.
    fn last_answer(&self) -> Option<String> {
        None
    }

    /// The files that it writes, where they are this installation's own: accounts are taken out of them.
    fn files(&self) -> Option<jsonl::Files> {
        None
    }
}

/// A sink, what it gets, and what is taken out of that before.
pub struct Outlet {
    /// Its name in the outbox and in metrics.
    pub name: String,
    /// Which findings it gets.
    pub route: Route,
    /// What is taken out of them.
    pub redaction: Redaction,
    /// The sink itself.
    pub sink: Box<dyn Sink>,
    /// The same sink again, once for each further request that may be on its way beside the first.
    pub beside: Vec<Box<dyn Sink>>,
}

/// What the user can set. A sink's name here is its name in the outbox and in metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Standard output.
    pub stdout: stdout::Config,
    /// A file of records.
    pub jsonl: jsonl::Config,
    /// What waits for sinks, and for how long.
    pub outbox: outbox::Bounds,
    /// Splunk's HTTP Event Collector, and what speaks its protocol.
    pub splunk_hec: Vec<splunk_hec::Config>,
    /// Elasticsearch and OpenSearch.
    pub elastic: Vec<elastic::Config>,
    /// Syslog receivers, with CEF or JSON.
    pub syslog: Vec<syslog::Config>,
    /// Webhooks: signed, or in the form of some service.
    pub webhook: Vec<webhook::Config>,
    /// Prometheus Alertmanager.
    pub alertmanager: Vec<alertmanager::Config>,
    /// Microsoft Sentinel.
    pub sentinel: Vec<sentinel::Config>,
    /// Kafka.
    pub kafka: Vec<kafka::Config>,
}

impl Config {
    /// Every section of the lists, with the key it stands under: `splunk_hec.0`.
    fn sections(&self) -> Vec<(String, &dyn Section)> {
        fn of<'a, S: Section>(kind: &'static str, list: &'a [S]) -> impl Iterator<Item = (String, &'a dyn Section)> {
            list.iter().enumerate().map(move |(index, one)| (format!("{kind}.{index}"), one as &dyn Section))
        }
        of("splunk_hec", &self.splunk_hec)
            .chain(of("elastic", &self.elastic))
            .chain(of("syslog", &self.syslog))
            .chain(of("webhook", &self.webhook))
            .chain(of("alertmanager", &self.alertmanager))
            .chain(of("sentinel", &self.sentinel))
            .chain(of("kafka", &self.kafka))
            .collect()
    }

    /// Every fault, as `sink.key: what is wrong`.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut faults: Vec<String> = self.jsonl.validate().into_iter().map(|fault| format!("jsonl.{fault}")).collect();
        faults.extend(self.outbox.validate().into_iter().map(|fault| format!("outbox.{fault}")));
        let mut names = BTreeSet::new();
        for (key, one) in self.sections() {
            faults.extend(section::faults(one).into_iter().map(|fault| format!("{key}.{fault}")));
            if !one.name().is_empty() && !names.insert(one.name()) {
                faults.push(format!("{key}.name: is the name of two sinks"));
            }
        }
        faults
    }

    /// The same with what stays on this machine alone.
    #[must_use]
    pub fn here(&self) -> Self {
        Self { stdout: self.stdout.clone(), jsonl: self.jsonl.clone(), outbox: self.outbox, ..Self::default() }
    }

    /// The variables that hold secrets, each with the key that names it: `splunk_hec.0.token_env`. A name that
    /// [`Config::validate`] refuses is not among them: it may be the secret itself.
    #[must_use]
    pub fn variables(&self) -> Vec<(String, &str)> {
        let mut variables = Vec::new();
        for (key, one) in self.sections() {
            let named =
                one.secrets().into_iter().filter_map(|keys| Some((format!("{key}.{}_env", keys.key), keys.env?)));
            let named = named.filter(|(_, name)| section::variable_fault(name).is_none());
            variables.extend(named);
        }
        variables
    }

    /// The names of all sinks that are on, in the order of [`build`].
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let fixed = [("stdout", self.stdout.enabled), ("jsonl", self.jsonl.enabled)];
        let fixed = fixed.into_iter().filter(|(_, enabled)| *enabled).map(|(name, _)| name.to_owned());
        fixed.chain(self.sections().into_iter().map(|(_, one)| one.name().to_owned())).collect()
    }
}

/// A sink that was asked for cannot be had: the start fails, since a detector that tells nobody is worse than none.
#[derive(Debug, thiserror::Error)]
#[error("sink {name}: {what}")]
pub struct BuildError {
    /// The sink.
    pub name: String,
    /// What is wrong, and with what.
    pub what: String,
}

/// What sinks need beside their sections.
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    /// Relative paths start here.
    pub data_dir: &'a Path,
    /// The secrets of [`Config::variables`].
    pub variables: &'a Variables,
    /// For dates in answers.
    pub clock: Clock,
}

/// The sinks that are enabled, ready to deliver. Blocks on the files they name.
///
/// # Errors
/// See [`BuildError`].
pub fn build(config: &Config, parts: &Parts<'_>) -> Result<Vec<Outlet>, BuildError> {
    build_those(config, parts, |_| true)
}

/// The sink called `name`, if it is enabled. Blocks on the files it names.
///
/// # Errors
/// See [`BuildError`].
pub fn build_one(config: &Config, parts: &Parts<'_>, name: &str) -> Result<Option<Outlet>, BuildError> {
    Ok(build_those(config, parts, |sink| sink == name)?.pop())
}

fn build_those(config: &Config, parts: &Parts<'_>, wanted: impl Fn(&str) -> bool) -> Result<Vec<Outlet>, BuildError> {
    let mut outlets: Vec<Outlet> = Vec::new();
    let everything = |name: &str, sink| Outlet {
        name: name.to_owned(),
        route: Route::ALL,
        redaction: Redaction::default(),
        sink: Box::new(sink),
        beside: Vec::new(),
    };
    if config.stdout.enabled && wanted("stdout") {
        let sink = Threaded::spawn("stdout", stdout::Stdout::new(&config.stdout));
        let sink = sink.map_err(|error| BuildError { name: "stdout".into(), what: format!("thread: {error}") })?;
        outlets.push(everything("stdout", sink));
    }
    if config.jsonl.enabled && wanted("jsonl") {
        let fault = |what: String, error| BuildError { name: "jsonl".into(), what: format!("{what}: {error}") };
        let path = parts.data_dir.join(&config.jsonl.path).display().to_string();
        let sink = jsonl::JsonLines::open(&config.jsonl, parts.data_dir).map_err(|error| fault(path, error))?;
        outlets
            .push(everything("jsonl", Threaded::spawn("jsonl", sink).map_err(|error| fault("thread".into(), error))?));
    }
    for section in config.splunk_hec.iter().filter(|section| wanted(&section.name)) {
        let sink = splunk_hec::SplunkHec::new(section, parts.variables, parts.clock.clone());
        outlets.push(several(section, section.max_in_flight, sink)?);
    }
    for section in config.elastic.iter().filter(|section| wanted(&section.name)) {
        let sink = elastic::Elastic::new(section, parts.variables, parts.clock.clone());
        outlets.push(several(section, section.max_in_flight, sink)?);
    }
    for section in &config.syslog {
        outlets.push(outlet(section, syslog::Syslog::new(section))?);
    }
    for section in &config.webhook {
        let sink = webhook::Webhook::new(section, parts.variables, parts.clock.clone());
        outlets.push(several(section, section.in_flight(), sink)?);
    }
    for section in &config.alertmanager {
        outlets.push(outlet(section, alertmanager::Alertmanager::new(section, parts.variables, parts.clock.clone()))?);
    }
    for section in &config.sentinel {
        outlets.push(outlet(section, sentinel::Sentinel::new(section, parts.variables, parts.clock.clone()))?);
    }
    for section in &config.kafka {
        outlets.push(outlet(section, kafka::Kafka::new(section, parts.variables))?);
    }
    Ok(outlets)
}

/// A sink of a list, as its section wants it.
fn outlet(section: &dyn Section, sink: Result<impl Sink, String>) -> Result<Outlet, BuildError> {
    let (name, route, redaction) = (section.name().to_owned(), section.route(), section.redaction());
    match sink {
        Ok(sink) => Ok(Outlet { name, route, redaction, sink: Box::new(sink), beside: Vec::new() }),
        Err(what) => Err(BuildError { name, what }),
    }
}

/// The same for a sink with up to `in_flight` requests on their way.
fn several(
    section: &dyn Section,
    in_flight: u8,
    sink: Result<impl Sink + Clone, String>,
) -> Result<Outlet, BuildError> {
    let beside = |sink: &_| (1..in_flight).map(|_| Box::new(Clone::clone(sink)) as Box<dyn Sink>).collect();
    let others = sink.as_ref().map(beside).unwrap_or_default();
    Ok(Outlet { beside: others, ..outlet(section, sink)? })
}

#[cfg(test)]
pub(crate) mod sample;
