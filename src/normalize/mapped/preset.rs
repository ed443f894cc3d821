//! The mappings that come with the program.

use figment::providers::{Format as _, Toml};

use super::Config;

/// Name and text of each; the text is what a user may copy and change.
const PRESETS: [(&str, &str); 12] = [
    ("alb", include_str!("presets/alb.toml")),
    ("auth0", include_str!("presets/auth0.toml")),
    ("caddy", include_str!("presets/caddy.toml")),
    ("clerk-logs", include_str!("presets/clerk-logs.toml")),
    ("cloudflare", include_str!("presets/cloudflare.toml")),
    ("ecs", include_str!("presets/ecs.toml")),
    ("envoy", include_str!("presets/envoy.toml")),
    ("nginx-combined", include_str!("presets/nginx-combined.toml")),
    ("nginx-json", include_str!("presets/nginx-json.toml")),
    ("ocsf", include_str!("presets/ocsf.toml")),
    ("okta", include_str!("presets/okta.toml")),
    ("sshd", include_str!("presets/sshd.toml")),
];

/// Every name.
pub fn names() -> impl Iterator<Item = &'static str> {
    PRESETS.iter().map(|(name, _)| *name)
}

/// The text of one.
#[must_use]
pub fn source(name: &str) -> Option<&'static str> {
    PRESETS.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// One preset as a configuration; `None`: there is none of that name. A test reads all of them.
#[must_use]
pub fn config(name: &str) -> Option<Config> {
    Toml::from_str(source(name)?).ok()
}
