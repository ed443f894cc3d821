//! What operators are given in deploy/: that it fits the program as it is.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use authspike::config::{self, Environment, Flags, Need};
use serde_json::Value;

use crate::support::Instance;

const DASHBOARD: &str = include_str!("../../deploy/grafana/authspike.json");
const RULES: &str = include_str!("../../deploy/prometheus/rules.yml");
const RULES_TEST: &str = include_str!("../../deploy/prometheus/rules_test.yml");
const DOCKERFILE: &str = include_str!("../../deploy/Dockerfile");
const UNIT: &str = include_str!("../../deploy/authspike.service");
const EXAMPLE: &str = include_str!("../../deploy/authspike.toml");
/// Variables that are no keys of the configuration: secrets, and what is set for the program from outside.
const VARIABLES: [&str; 8] = [
    "AUTHSPIKE_CONFIG",
    "AUTHSPIKE_ADMIN_TOKEN",
    "AUTHSPIKE_ATTEMPTS_TOKEN",
    "AUTHSPIKE_ATTEMPTS_SECRET",
    "AUTHSPIKE_IDENTIFIER_KEY",
    "AUTHSPIKE_KAFKA_BROKERS",
    "AUTHSPIKE_KAFKA_SASL_PASSWORD",
    "AUTHSPIKE_KAFKA_SSL_KEY_PASSWORD",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files below `folder` of the repository.
fn files(folder: &str) -> Vec<PathBuf> {
    let (mut folders, mut found) = (vec![root().join(folder)], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.path().is_dir() { folders.push(entry.path()) } else { found.push(entry.path()) }
        }
    }
    found
}

/// The words of a text that begin with `start` and go on in the characters that `of` allows.
fn words<'a>(text: &'a str, start: &str, of: fn(char) -> bool) -> BTreeSet<&'a str> {
    text.match_indices(start).map(|(at, _)| text[at..].split(|next| !of(next)).next().unwrap()).collect()
}

/// The metrics' names as src/metrics declares them; a label vector that has counted nothing is not on the page.
fn declared() -> BTreeSet<String> {
    let sources = files("src").into_iter().filter(|path| path.strip_prefix(root()).unwrap().starts_with("src/metrics"));
    let text: String = std::iter::once(root().join("src/metrics.rs"))
        .chain(sources)
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    let declarations = text.split("declare").map(|rest| rest.trim_start().trim_start_matches(['.', '_']));
    let summaries = text.split("LatencyQuantiles::new");
    declarations
        .chain(summaries)
        .filter_map(|rest| {
            let (before, arguments) = rest.split_once('(')?;
            let plain = before.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            let name = arguments.trim_start().strip_prefix('"')?.split('"').next()?;
            plain.then(|| format!("authspike_{name}"))
        })
        .collect()
}

#[test]
fn every_metric_on_the_dashboard_and_in_the_rules_is_one_that_the_program_has() {
    let declared = declared();
    assert!(declared.contains("authspike_findings_total") && declared.contains("authspike_build_info"), "{declared:?}");
    let name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let mut used = BTreeSet::new();
    for text in [DASHBOARD, RULES, RULES_TEST] {
        used.extend(words(text, "authspike_", name));
    }
    assert!(used.len() > 40, "{used:?}");
    let unknown: Vec<_> = used
        .into_iter()
        .filter(|name| {
            let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
            !declared.contains(*name) && !of_histogram.is_some_and(|name| declared.contains(name))
        })
        .collect();
    assert!(unknown.is_empty(), "no such metrics: {unknown:?}");
}

#[test]
fn every_alert_fires_when_it_should_and_only_then() {
    let commands = [
        &["check", "config", "--syntax-only", "prometheus.yml"][..],
        &["check", "rules", "rules.yml"],
        &["test", "rules", "rules_test.yml"],
    ];
    for arguments in commands {
        let folder = root().join("deploy/prometheus");
        let output = Command::new("promtool").args(arguments).current_dir(folder).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }
    let alerts: Vec<&str> = RULES.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 20);
    for alert in alerts {
        let cases: Vec<&str> = RULES_TEST.split("\n  - name: ").filter(|case| tests(case, alert)).collect();
        let quiet = cases.iter().filter(|case| case.contains("exp_alerts: []")).count();
        assert!(quiet >= 1 && cases.len() > quiet, "{alert}: {} cases, {quiet} of them quiet", cases.len());
    }
}

fn tests(case: &str, alert: &str) -> bool {
    case.lines().any(|line| line.trim().strip_prefix("- alertname: ") == Some(alert))
}

#[test]
fn every_panel_says_what_it_shows_and_asks_what_prometheus_understands() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let (mut ids, mut rules) = (BTreeSet::new(), String::from("groups:\n- name: panels\n  rules:\n"));
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "two panels of one id");
        let title = panel["title"].as_str().unwrap();
        if panel["type"] == "row" {
            continue;
        }
        assert!(!panel["description"].as_str().unwrap().is_empty(), "{title}");
        for target in panel["targets"].as_array().unwrap() {
            let query = target["expr"].as_str().unwrap();
            assert!(query.contains("role=~\"$role\""), "{title} shows all roles whichever is chosen");
            let query = query.replace("$__rate_interval", "5m");
            let number = rules.len();
            writeln!(rules, "  - record: panel\n    labels: {{of: panel{number}}}\n    expr: >-\n      {query}")
                .unwrap();
        }
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("panels.yml"), rules).unwrap();
    let output =
        Command::new("promtool").args(["check", "rules", "panels.yml"]).current_dir(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_variable_that_is_set_for_the_program_is_one_it_reads() {
    let name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    for path in files("deploy") {
        let text = std::fs::read_to_string(&path).unwrap();
        for variable in words(&text, "AUTHSPIKE_", name) {
            let plain = variable.trim_end_matches("_FILE");
            // In prose a name may be cut off: AUTHSPIKE_ and its path in capitals.
            let known = plain.ends_with('_')
                || plain.starts_with("AUTHSPIKE_SECRET_")
                || VARIABLES.contains(&plain)
                || is_key(plain);
            assert!(known, "{}: {variable}", path.display());
        }
    }
}

/// Whether a variable sets a key that stands in the example of the configuration.
fn is_key(variable: &str) -> bool {
    let path = variable.trim_start_matches("AUTHSPIKE_").to_ascii_lowercase();
    let (section, key) = path.rsplit_once("__").unwrap_or(("", &path));
    let section = section.replace("__", ".");
    let mut within = String::new();
    EXAMPLE.lines().any(|line| {
        if let Some(header) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            header.clone_into(&mut within);
        }
        within == section && line.strip_prefix("# ").is_some_and(|line| line.starts_with(&format!("{key} = ")))
    })
}

#[test]
fn the_fleets_configuration_has_no_fault() {
    let flags = Flags { config: Some(root().join("deploy/kubernetes/authspike.toml")), ..Flags::default() };
    let environment = Environment::of([("AUTHSPIKE_ADMIN_TOKEN", "a-token-of-nobody")]);
    if let Err(faults) = config::load(&flags, &environment, Need::Nothing) {
        panic!("{faults}");
    }
}

#[test]
fn the_images_health_check_tells_a_live_instance_from_none() {
    let command = DOCKERFILE.split_once("HEALTHCHECK").unwrap().1.split_once("CMD ").unwrap().1;
    let command: Vec<String> = serde_json::from_str(command.lines().next().unwrap()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let instance = Instance::start(directory.path());
    let port = instance.admin.port().to_string();
    let check = || {
        let mut check = Command::new(&command[0]);
        check.args(command[1..].iter().map(|part| part.replace("9090", &port)));
        check.output().unwrap().status.success()
    };
    assert!(check());
    instance.terminate();
    assert!(!check());
}

#[test]
fn systemd_takes_the_unit_and_finds_it_well_confined() {
    let directory = tempfile::tempdir().unwrap();
    let unit = directory.path().join("authspike.service");
    // systemd looks whether the program is there.
    std::fs::write(&unit, UNIT.replace("/usr/local/bin/authspike", env!("CARGO_BIN_EXE_authspike"))).unwrap();
    // From 0 (confined) to 100 (not at all); what listens on the network can hardly be below 10.
    for arguments in [&["verify", "--man=no"][..], &["security", "--offline=true", "--threshold=15"]] {
        let output = Command::new("systemd-analyze").args(arguments).arg(&unit).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        // It warns of a directive it does not know and is content all the same.
        assert!(arguments[0] != "verify" || !said.contains(".service:"), "{said}");
    }
}
