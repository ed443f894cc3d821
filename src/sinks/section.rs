//! The keys that every section of a list of sinks has, and what they mean together.
//!
//! Invariant: a sink's name is its identity (outbox, metrics, commands), so it is there, plain, and nobody else's.
//!
//! Not here: the keys that only one kind of sink has (its own file).

use std::path::Path;

use super::redact::Redaction;
use super::route::Route;

/// A name is a label of metrics and a word on the command line.
const MAX_NAME_CHARS: usize = 40;

/// What all sections of the configuration's lists of sinks can tell.
pub trait Section {
    /// Its name in the outbox, in metrics and on the command line.
    fn name(&self) -> &str;
    /// Which findings it gets.
    fn route(&self) -> Route;
    /// What is taken out of them before.
    fn redaction(&self) -> Redaction;
    /// Where its secrets are kept.
    fn secrets(&self) -> Vec<SecretKeys<'_>>;
    /// Every fault, as `key: what is wrong`.
    fn validate(&self) -> Vec<String>;
}

/// The two keys that say where one secret is kept: `<key>_env` and `<key>_file`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecretKeys<'a> {
    /// `token`, `password` …
    pub key: &'static str,
    /// The variable that holds it.
    pub env: Option<&'a str>,
    /// The file that holds it.
    pub file: Option<&'a Path>,
}

/// Declares a sink's section: `section! { /// Doc. pub struct Config { key: Type = default, } }` has these keys after the
/// ones that all have; `http pub struct …` those of connections too. One list of fields for `serde`, which can then name
/// every unknown key and the place of every wrong value.
macro_rules! section {
    ($(#[$doc:meta])* http pub struct $name:ident { $($(#[$key_doc:meta])* $key:ident: $type:ty = $default:expr,)* }) => {
        $crate::sinks::section::section! {
            $(#[$doc])*
            pub struct $name {
                /// Where the receiver is.
                url: String = String::new(),
                /// Whether `http://` may leave this machine, readable by everybody on the way.
                plaintext: bool = false,
                /// From the start of a request to the end of its answer.
                timeout_seconds: u64 = 30,
                /// The authorities to believe, as PEM; unset: the system's.
                ca_file: Option<std::path::PathBuf> = None,
                /// Our own certificate and its chain, as PEM.
                client_cert_file: Option<std::path::PathBuf> = None,
                /// Its key, as PEM (PKCS #8).
                client_key_file: Option<std::path::PathBuf> = None,
                /// A proxy on the way, `http://host:port`.
                proxy: Option<String> = None,
                $($(#[$key_doc])* $key: $type = $default,)*
            }
        }

        impl $name {
            /// Its connections.
            #[must_use]
            pub fn http(&self) -> $crate::sinks::http::Settings {
                $crate::sinks::http::Settings {
                    timeout: std::time::Duration::from_secs(self.timeout_seconds),
                    ca_file: self.ca_file.clone(),
                    client_cert_file: self.client_cert_file.clone(),
                    client_key_file: self.client_key_file.clone(),
                    proxy: self.proxy.clone(),
                }
            }

            /// The faults of the keys of connections.
            fn http_faults(&self) -> Vec<String> {
                let fault = $crate::sinks::http::url_fault(&self.url, self.plaintext);
                let mut faults: Vec<String> = fault.map(|what| format!("url: {what}")).into_iter().collect();
                faults.extend(self.http().validate());
                faults
            }
        }
    };
    ($(#[$doc:meta])* pub struct $name:ident { $($(#[$key_doc:meta])* $key:ident: $type:ty = $default:expr,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            /// Its name in the outbox, in metrics and on the command line.
            pub name: String,
            /// Findings below this severity are not sent.
            pub min_severity: $crate::finding::Severity,
            /// Rules whose findings are sent; empty: all.
            pub rules: Vec<$crate::finding::Rule>,
            /// Instances whose findings are sent; empty: all.
            pub tenants: Vec<$crate::event::Tenant>,
            /// What becomes of addresses and networks.
            pub addresses: $crate::sinks::redact::Treatment,
            /// What becomes of accounts.
            pub accounts: $crate::sinks::redact::Treatment,
            $($(#[$key_doc])* pub $key: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    name: String::new(),
                    min_severity: $crate::finding::Severity::Informational,
                    rules: Vec::new(),
                    tenants: Vec::new(),
                    addresses: $crate::sinks::redact::Treatment::Keep,
                    accounts: $crate::sinks::redact::Treatment::Keep,
                    $($key: $default,)*
                }
            }
        }

        impl $name {
            /// Which findings it gets.
            fn shared_route(&self) -> $crate::sinks::route::Route {
                $crate::sinks::route::Route {
                    min_severity: self.min_severity,
                    rules: self.rules.clone(),
                    tenants: self.tenants.clone(),
                }
            }

            /// What is taken out of them.
            fn shared_redaction(&self) -> $crate::sinks::redact::Redaction {
                $crate::sinks::redact::Redaction { addresses: self.addresses, accounts: self.accounts }
            }
        }
    };
}

/// The part of `impl Section` that is the same for all.
macro_rules! shared_keys {
    () => {
        fn name(&self) -> &str {
            &self.name
        }

        fn route(&self) -> $crate::sinks::route::Route {
            self.shared_route()
        }

        fn redaction(&self) -> $crate::sinks::redact::Redaction {
            self.shared_redaction()
        }
    };
}

pub(crate) use {section, shared_keys};

/// Every fault of a list's section, its name's and its secrets' among them, as `key: what is wrong`.
pub(super) fn faults(section: &dyn Section) -> Vec<String> {
    let mut faults = Vec::new();
    if let Some(what) = name_fault(section.name()) {
        faults.push(format!("name: {what}"));
    }
    for SecretKeys { key, env, file } in section.secrets() {
        if env.is_some() && file.is_some() {
            faults.push(format!("{key}_file: is set, and so is {key}_env: set one of them"));
        }
        if let Some(what) = env.and_then(variable_fault) {
            faults.push(format!("{key}_env: {what}"));
        }
    }
    faults.extend(section.validate());
    faults
}

fn name_fault(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("must be set: what this sink is called in the outbox and in metrics".into());
    }
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    if name.chars().count() > MAX_NAME_CHARS || !name.chars().all(plain) {
        return Some(format!("must be at most {MAX_NAME_CHARS} of a-z, 0-9, _ and -"));
    }
    ["stdout", "jsonl"].contains(&name).then(|| "is taken by the sink that is always there".into())
}

/// Batches on their way to one receiver, unless its section says otherwise: while one is answered, one is being sent, one
/// written and one read. More only help where an answer takes longer than all of that.
pub(super) const MAX_IN_FLIGHT: u8 = 4;
/// More connections than this look like an attack to a receiver, and what is on its way is held in memory.
const MOST_IN_FLIGHT: u8 = 16;

/// What is wrong with `max_in_flight`.
pub(super) fn in_flight_fault(max_in_flight: u8) -> Option<String> {
    let fits = (1..=MOST_IN_FLIGHT).contains(&max_in_flight);
    (!fits).then(|| format!("max_in_flight: must be from 1 to {MOST_IN_FLIGHT}"))
}

/// Variables of ours are keys, secrets or faults; of these names, secrets.
pub const SECRET_PREFIX: &str = "AUTHSPIKE_SECRET_";

/// What is wrong with `name` as the name of a variable that holds a secret.
pub(super) fn variable_fault(name: &str) -> Option<&'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(plain) {
        // Perhaps the secret itself: it is not quoted.
        return Some("must be the name of a variable, not what is in it");
    }
    let ours = name.starts_with("AUTHSPIKE_") && !name.starts_with(SECRET_PREFIX);
    ours.then_some("must not begin with AUTHSPIKE_, except with AUTHSPIKE_SECRET_: those are keys of the configuration")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_labels_and_words() {
        for name in ["splunk", "siem-2", "a_b"] {
            assert_eq!(name_fault(name), None, "{name}");
        }
        for name in ["", "stdout", "jsonl", "Splunk", "a b", "ä", &"x".repeat(41)] {
            assert!(name_fault(name).is_some(), "{name}");
        }
    }

    #[test]
    fn a_secret_in_the_place_of_a_variables_name_is_told_apart() {
        for name in ["SPLUNK_TOKEN", "AUTHSPIKE_SECRET_SPLUNK", "x"] {
            assert_eq!(variable_fault(name), None, "{name}");
        }
        for name in ["", "4f1c-22", "AUTHSPIKE_TOKEN"] {
            assert!(variable_fault(name).is_some(), "{name}");
        }
    }
}
