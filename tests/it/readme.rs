//! What the README tells people to write must be what the program reads.

use std::path::Path;

use authspike::sinks;
use figment::Figment;
use figment::providers::{Format as _, Toml};
use serde::Deserialize;

#[derive(Deserialize)]
struct File {
    sinks: sinks::Config,
}

#[test]
fn the_sections_of_sinks_in_the_readme_are_right() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let blocks = readme.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let mut kinds = Vec::new();
    for block in blocks.filter(|block| block.contains("[[sinks.")) {
        // What the reader has to fill in is shown as an ellipsis.
        let filled_in = block.replace('…', "x");
        let file: File =
            Figment::from(Toml::string(&filled_in)).extract().unwrap_or_else(|error| panic!("{error}: {block}"));
        assert_eq!(file.sinks.validate(), [""; 0], "{block}");
        kinds.push(block.split("[[sinks.").nth(1).unwrap().split(']').next().unwrap());
    }
    for kind in ["syslog", "webhook", "alertmanager", "sentinel"] {
        assert!(kinds.contains(&kind), "{kind} has no example");
    }
}
