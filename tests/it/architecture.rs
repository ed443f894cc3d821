//! Which module may name which: the direction of dependency, held against the source itself.
//!
//! Not only `use` lines but every path `crate::…` in the code of a module counts, its own tests apart.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// For each module, the modules of ours that it may name. A module that is not here may name none.
const MAY_NAME: [(&str, &[&str]); 18] = [
    ("event", &[]),
    ("finding", &["event"]),
    ("secret", &[]),
    ("clock", &["event"]),
    ("metrics", &[]),
    ("normalize", &["event"]),
    ("alias", &["event", "normalize", "metrics", "store"]),
    ("http", &[]),
    ("detect", &["event", "finding"]),
    ("store", &[]),
    ("log", &["event", "finding", "alias", "store", "clock", "metrics", "secret"]),
    ("sources", &["event", "normalize", "alias", "log", "metrics", "clock", "secret", "http"]),
    ("sinks", &["event", "finding", "store", "metrics", "clock", "secret"]),
    ("pipeline", &["event", "finding", "detect", "log", "metrics", "clock"]),
    ("erasure", &["event", "alias", "log", "sinks", "store", "clock", "metrics"]),
    ("admin", &["erasure", "finding", "log", "metrics", "pipeline", "secret"]),
    ("logging", &[]),
    ("shutdown", &[]),
];
/// Modules that wire the others together and may name all of them, and that no other module may name.
const WIRING: [&str; 5] = ["app", "cli", "config", "main", "simulate"];
/// What the pure part may not even mention.
const IMPURE: [&str; 12] = [
    "tokio",
    "async ",
    "std::fs",
    "std::net::Tcp",
    "std::thread",
    "Mutex",
    "RwLock",
    "Atomic",
    "rand::",
    "tracing::",
    "prometheus",
    "std::time",
];

fn sources() -> Vec<(String, PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    files
        .into_iter()
        .map(|path| {
            let inside = path.strip_prefix(&root).unwrap();
            let module = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            (module, path, text)
        })
        .collect()
}

/// The code without comments and without what is compiled for tests only.
fn code(path: &Path, text: &str) -> String {
    if path.file_name().is_some_and(|name| name == "tests.rs" || name == "sample.rs") {
        return String::new();
    }
    let tests = text.find("#[cfg(test)]").unwrap_or(text.len());
    text[..tests].lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn named(code: &str) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for (start, _) in code.match_indices("crate::") {
        let rest = &code[start + "crate::".len()..];
        // `use crate::{admin, http, sources};`
        let inner = rest.strip_prefix('{').map_or(rest, |list| list.split('}').next().unwrap());
        let parts = if rest.starts_with('{') { inner.split(',').collect() } else { vec![inner] };
        for name in parts {
            let name: String = name.trim().chars().take_while(|char| char.is_alphanumeric() || *char == '_').collect();
            named.insert(name);
        }
    }
    named
}

#[test]
fn modules_name_only_what_they_may() {
    let mut seen = BTreeSet::new();
    for (module, path, text) in sources() {
        seen.insert(module.clone());
        if module == "lib" || WIRING.contains(&module.as_str()) {
            continue;
        }
        let Some((_, allowed)) = MAY_NAME.iter().find(|(name, _)| *name == module) else {
            panic!("{}: a new module; say in this test what it may name", path.display());
        };
        for name in named(&code(&path, &text)) {
            assert!(name == module || allowed.contains(&name.as_str()), "{} names {name}", path.display());
        }
    }
    let known = MAY_NAME.iter().map(|(name, _)| *name).chain(WIRING).chain(["lib"]).map(str::to_owned).collect();
    assert_eq!(seen, known, "this test speaks of modules that are not there");
}

#[test]
fn the_detector_and_the_normaliser_are_pure() {
    for (module, path, text) in sources() {
        if module == "detect" || module == "normalize" {
            let code = code(&path, &text);
            for word in IMPURE {
                assert!(!code.contains(word), "{} mentions {word}", path.display());
            }
        }
    }
}

#[test]
fn wall_time_is_read_in_one_place() {
    for (module, path, text) in sources() {
        for call in ["SystemTime::now", "Instant::now", "Timestamp::now"] {
            assert!(module == "clock" || !code(&path, &text).contains(call), "{} reads the clock", path.display());
        }
    }
}

#[test]
fn the_check_itself_sees_what_it_looks_for() {
    let seen = named("use crate::detect::Config;\nlet x = crate::sinks::build();\nuse crate::{http, sources};");
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["detect", "http", "sinks", "sources"]);
    assert_eq!(code(Path::new("a.rs"), "// crate::app\nfn a() {}\n#[cfg(test)]\nuse crate::cli;"), "fn a() {}");
}
