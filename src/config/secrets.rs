//! The secrets, which come from the environment alone: a configuration file ends up in repositories and tickets.
//!
//! Each variable holds one secret or several parted by commas (all are accepted, so one can be rotated), or
//! `<NAME>_FILE` holds the path of a file with one a line or parted by commas.
//!
//! Invariant: an empty secret is refused, never skipped: `NAME=""` in a unit file means that somebody believes it is set.
//!
//! Not here: what makes a well-formed secret (`sources::signature`).

use std::path::Path;

use super::environment::Environment;
use super::faults::Fault;
use super::layer::read_limited;
use crate::log::kafka;
use crate::secret::Secret;
use crate::sinks;
use crate::sinks::credential::{self, Variables};
use crate::sinks::section::SECRET_PREFIX;
use crate::sources::signature::SigningKey;

/// Signing secret of the webhook endpoint, as Clerk's SDKs call it.
pub const CLERK_WEBHOOK: &str = "CLERK_WEBHOOK_SIGNING_SECRET";
/// The older name for the same.
pub const CLERK_WEBHOOK_ALIAS: &str = "CLERK_WEBHOOK_SECRET";
/// The instance's secret key (`sk_live_…`), as Clerk's SDKs call it; for the Frontend API proxy.
pub const CLERK_SECRET_KEY: &str = "CLERK_SECRET_KEY";
/// Our own `whsec_` secret for attempt reports.
pub const ATTEMPTS: &str = "AUTHSPIKE_ATTEMPTS_SECRET";
/// Bearer token for attempt reports.
pub const ATTEMPTS_TOKEN: &str = "AUTHSPIKE_ATTEMPTS_TOKEN";
/// Bearer token for the admin listener.
pub const ADMIN_TOKEN: &str = "AUTHSPIKE_ADMIN_TOKEN";
/// The key under which identifiers are hashed, 64 hexadecimal digits: the same for every receiver of a fleet.
pub const IDENTIFIER_KEY: &str = "AUTHSPIKE_IDENTIFIER_KEY";
/// Password of `sasl.username` on Kafka.
pub const KAFKA_SASL_PASSWORD: &str = "AUTHSPIKE_KAFKA_SASL_PASSWORD";
/// Password of the file in `ssl.key.location`.
pub const KAFKA_SSL_KEY_PASSWORD: &str = "AUTHSPIKE_KAFKA_SSL_KEY_PASSWORD";

const NAMES: [&str; 9] = [
    CLERK_SECRET_KEY,
    CLERK_WEBHOOK,
    CLERK_WEBHOOK_ALIAS,
    ATTEMPTS,
    ATTEMPTS_TOKEN,
    ADMIN_TOKEN,
    IDENTIFIER_KEY,
    KAFKA_SASL_PASSWORD,
    KAFKA_SSL_KEY_PASSWORD,
];
const FILE_SUFFIX: &str = "_FILE";

/// Rotation needs two; ten leave room for a secret per sender. Each is tried on every request, so there is a bound.
const MAX_SECRETS: usize = 10;

/// What was given, in the order it was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secrets {
    /// Verify `POST /webhooks/clerk`.
    pub clerk_webhook: Vec<Secret>,
    /// Goes to Clerk with every request that is forwarded.
    pub clerk_secret_key: Option<Secret>,
    /// Verify signed `POST /v1/attempts`.
    pub attempts: Vec<Secret>,
    /// Verify `POST /v1/attempts` with a bearer token.
    pub attempts_tokens: Vec<Secret>,
    /// Verify requests to the admin listener.
    pub admin_tokens: Vec<Secret>,
    /// Hashes identifiers, instead of the key in the data directory.
    pub identifier_key: Option<Secret>,
    /// Prove who we are to Kafka.
    pub kafka: kafka::Secrets,
    /// What the sections of the sinks name, by variable.
    pub sinks: Variables,
}

impl Secrets {
    /// Whether any source of events can be verified.
    #[must_use]
    pub fn any_source(&self) -> bool {
        !(self.clerk_webhook.is_empty() && self.attempts.is_empty() && self.attempts_tokens.is_empty())
    }

    /// What to do when there is none.
    #[must_use]
    pub fn missing() -> Fault {
        Fault::new(
            "environment",
            None,
            format!(
                "no secret is set, so nothing could be received; set {CLERK_WEBHOOK} (the signing secret of the Clerk \
                 webhook endpoint) for POST /webhooks/clerk, and {ATTEMPTS} (whsec_…) or {ATTEMPTS_TOKEN} (a bearer \
                 token) for POST /v1/attempts; {FILE_SUFFIX} after any of these names means: read it from that file. \
                 To look around first: authspike run --demo"
            ),
        )
    }

    /// What to do when a receiver of a fleet has no key of its own.
    #[must_use]
    pub(super) fn no_identifier_key() -> Fault {
        let what = format!(
            "{IDENTIFIER_KEY} is not set: on Kafka every receiver must hash identifiers under the same key, or one person \
             looks like several; make one with openssl rand -hex 32"
        );
        Fault::new("environment", None, what)
    }

    /// What to do when the proxy has no key.
    #[must_use]
    pub(super) fn no_secret_key() -> Fault {
        let what = format!("{CLERK_SECRET_KEY} is not set: without it Clerk takes nothing from ingest.fapi_proxy");
        Fault::new("environment", None, what)
    }

    pub(super) fn read(environment: &Environment, faults: &mut Vec<Fault>) -> Self {
        let mut clerk_webhook = read_one(environment, CLERK_WEBHOOK, faults);
        for secret in read_one(environment, CLERK_WEBHOOK_ALIAS, faults) {
            if !clerk_webhook.contains(&secret) {
                clerk_webhook.push(secret);
            }
        }
        let attempts = read_one(environment, ATTEMPTS, faults);
        for (name, secrets) in [(CLERK_WEBHOOK, &clerk_webhook), (ATTEMPTS, &attempts)] {
            let unusable = secrets.iter().filter_map(|secret| SigningKey::new(secret).err());
            faults.extend(unusable.map(|error| Fault::new("environment", Some(name.to_owned()), error.to_string())));
        }
        Self {
            clerk_webhook,
            clerk_secret_key: read_single(environment, CLERK_SECRET_KEY, faults),
            attempts,
            attempts_tokens: read_one(environment, ATTEMPTS_TOKEN, faults),
            admin_tokens: read_one(environment, ADMIN_TOKEN, faults),
            identifier_key: identifier_key(environment, faults),
            kafka: kafka::Secrets {
                sasl_password: read_single(environment, KAFKA_SASL_PASSWORD, faults),
                ssl_key_password: read_single(environment, KAFKA_SSL_KEY_PASSWORD, faults),
            },
            sinks: Variables::new(),
        }
    }
}

/// The variables that the sections of `config` name. Each holds one secret, as it is.
pub(super) fn of_sinks(environment: &Environment, config: &sinks::Config) -> Result<Variables, Vec<(String, String)>> {
    let (mut variables, mut faults) = (Variables::new(), Vec::new());
    for (key, name) in config.variables() {
        let mut unreadable = Vec::new();
        let read = match environment.get(name, &mut unreadable) {
            Some(text) => credential::parse(text),
            None if unreadable.is_empty() => Err("is not set"),
            None => Err("is not UTF-8"),
        };
        match read {
            Ok(secret) => drop(variables.insert(name.to_owned(), secret)),
            Err(what) => faults.push((key, format!("the variable {name} {what}"))),
        }
    }
    if faults.is_empty() { Ok(variables) } else { Err(faults) }
}

/// Whether a variable is a secret or names the file of one.
pub(super) fn is_secret(variable: &str) -> bool {
    variable.starts_with(SECRET_PREFIX) || NAMES.contains(&variable.strip_suffix(FILE_SUFFIX).unwrap_or(variable))
}

/// The first attempt-report secret or token, for a sender (`authspike simulate --to`).
///
/// # Errors
/// What is wrong with the variables.
pub fn for_sending(environment: &Environment) -> Result<Secrets, super::Faults> {
    let mut faults = Vec::new();
    let secrets = Secrets {
        attempts: read_one(environment, ATTEMPTS, &mut faults),
        attempts_tokens: read_one(environment, ATTEMPTS_TOKEN, &mut faults),
        ..Secrets::default()
    };
    if secrets.any_source() || !faults.is_empty() {
        return if faults.is_empty() { Ok(secrets) } else { Err(super::Faults(faults)) };
    }
    let what = format!("set {ATTEMPTS} or {ATTEMPTS_TOKEN} to what the running instance has");
    Err(super::Faults(vec![Fault::new("environment", None, what)]))
}

/// The first token of the admin listener, for somebody who asks it (`authspike explain`), if one is set.
///
/// # Errors
/// What is wrong with the variable.
pub fn for_asking(environment: &Environment) -> Result<Option<Secret>, super::Faults> {
    let mut faults = Vec::new();
    let token = read_one(environment, ADMIN_TOKEN, &mut faults).into_iter().next();
    if faults.is_empty() { Ok(token) } else { Err(super::Faults(faults)) }
}

/// A key that can be used, or a fault.
fn identifier_key(environment: &Environment, faults: &mut Vec<Fault>) -> Option<Secret> {
    let secret = read_single(environment, IDENTIFIER_KEY, faults)?;
    if super::identifier_key::parse(&secret).is_none() {
        let what = "must be 64 hexadecimal digits: openssl rand -hex 32";
        faults.push(Fault::new("environment", Some(IDENTIFIER_KEY.to_owned()), what.to_owned()));
    }
    Some(secret)
}

/// A secret of which there can be only one.
fn read_single(environment: &Environment, name: &str, faults: &mut Vec<Fault>) -> Option<Secret> {
    let mut secrets = read_one(environment, name, faults);
    if secrets.len() > 1 {
        faults.push(Fault::new(name, None, "holds several secrets: it can be one only"));
    }
    secrets.pop()
}

fn read_one(environment: &Environment, name: &str, faults: &mut Vec<Fault>) -> Vec<Secret> {
    let file_variable = format!("{name}{FILE_SUFFIX}");
    let value = environment.get(name, faults).map(str::to_owned);
    let path = environment.get(&file_variable, faults);
    let (source, text, in_file) = match (value, path) {
        (None, None) => return Vec::new(),
        (Some(_), Some(_)) => {
            faults.push(Fault::new(name, None, format!("is set, and so is {file_variable}: set one of them")));
            return Vec::new();
        }
        (Some(text), None) => (name.to_owned(), text, false),
        (None, Some(path)) => match read_limited(Path::new(path)) {
            Ok(text) => (file_variable, text, true),
            Err(fault) => {
                faults.push(Fault::new(file_variable, None, format!("the file cannot be read: {fault}")));
                return Vec::new();
            }
        },
    };
    match split(&text, in_file) {
        Ok(secrets) => secrets,
        Err(what) => {
            faults.push(Fault::new(source, None, what));
            Vec::new()
        }
    }
}

fn split(text: &str, in_file: bool) -> Result<Vec<Secret>, String> {
    // The end of a file's last line is not an empty secret; an empty place between commas is.
    let lines = text.lines().filter(|line| !(in_file && line.trim().is_empty()));
    let mut secrets = Vec::new();
    for item in lines.flat_map(|line| line.split(',')).map(str::trim) {
        if item.is_empty() {
            return Err("holds an empty secret".to_owned());
        }
        if item.chars().any(|character| character.is_control() || character.is_whitespace()) {
            return Err("holds a secret with a space or a control character in it".to_owned());
        }
        secrets.push(Secret::new(item));
    }
    match secrets.len() {
        0 => Err("is empty".to_owned()),
        1..=MAX_SECRETS => Ok(secrets),
        _ => Err(format!("holds more than {MAX_SECRETS} secrets")),
    }
}
