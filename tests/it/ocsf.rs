//! What leaves for a SIEM as OCSF, judged by schemas that are not ours, and what a person reads.

use std::path::{Path, PathBuf};

use authspike::finding::{Finding, Severity};
use authspike::sinks::format::ocsf::{self, Version};
use authspike::sinks::format::text::{self, Style};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::generated;
pub(crate) use crate::judges::ocsf as faults;

/// The findings of `tests/fixtures/findings`, by name.
pub(crate) const FIXTURES: [&str; 3] = ["stuffing", "network_closed", "account_updated"];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

pub(crate) fn fixture(name: &str) -> Finding {
    let path = fixtures().join("findings").join(name).with_extension("json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn record(finding: &Finding) -> Value {
    serde_json::from_slice(&ocsf::line(finding).unwrap()).unwrap()
}

/// Compares with the file, byte for byte; with `AUTHSPIKE_BLESS` set, writes it instead.
pub(crate) fn assert_is(file: &str, actual: &str) {
    let path = fixtures().join("delivered").join(file);
    if std::env::var_os("AUTHSPIKE_BLESS").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert_eq!(actual, expected, "{} differs; if that is meant, run again with AUTHSPIKE_BLESS=1", path.display());
}

#[test]
fn records_stay_as_they_are_byte_for_byte() {
    for name in FIXTURES {
        let finding = fixture(name);
        let line = String::from_utf8(ocsf::line(&finding).unwrap()).unwrap();
        let version = format!("\"version\":\"{}\",\"feature\"", env!("CARGO_PKG_VERSION"));
        assert!(line.contains(&version), "the product's version is in it");
        assert_is(&format!("{name}.ocsf.json"), &(line.replace(&version, "\"version\":\"*\",\"feature\"") + "\n"));
    }
}

#[test]
fn blocks_stay_as_they_are() {
    for name in FIXTURES {
        assert_is(&format!("{name}.txt"), &text::block(&fixture(name), Style::Plain));
    }
}

#[test]
fn records_pass_the_schema_at_every_severity() {
    for name in FIXTURES {
        for severity in Severity::ALL {
            let finding = Finding { severity, ..fixture(name) };
            for version in Version::ALL {
                let record = serde_json::to_value(ocsf::detection_finding_as(&finding, version, None)).unwrap();
                assert_eq!(faults(&record), [""; 0], "{name} {severity:?} {version:?}");
            }
        }
    }
}

/// A judge that accepts everything would make all of the above worthless.
#[test]
fn the_judge_rejects_what_is_wrong() {
    let good = record(&fixture("stuffing"));
    let wrong = [
        ("/severity_id", json!(4), "severity_id"),
        ("/type_uid", json!(200_402), "type_uid"),
        ("/time", json!("2024-05-28T08:00:00Z"), "/time"),
        ("/evidences/0/src_endpoint/ip", json!("2001:db8::/64"), "/evidences/0/src_endpoint"),
        ("/metadata/product", json!({}), "/metadata/product"),
        ("/finding_info", json!({ "uid": "x", "unknown": 1 }), "/finding_info"),
        ("/observables/0/type_id", json!(1000), "/observables/0/type_id"),
    ];
    for (pointer, value, place) in wrong {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = value;
        let faults = faults(&bad);
        assert!(faults.iter().any(|fault| fault.starts_with(place)), "{pointer}: {faults:?}");
    }
}

#[test]
fn accounts_broken_into_come_first_and_bring_their_own_technique() {
    let record = record(&fixture("stuffing"));
    assert_eq!(record["evidences"][0]["src_endpoint"]["ip"], "203.0.113.7");
    assert_eq!(record["evidences"][1]["user"]["uid"], "user_2g7np7Hrk0SN6kj5EDMLDaKNL0S");
    assert_eq!(record["resources"].as_array().unwrap().len(), 2);
    let attacks = &record["finding_info"]["attacks"];
    assert_eq!(
        [&attacks[0]["sub_technique"]["uid"], &attacks[1]["sub_technique"]["uid"], &attacks[1]["tactic"]["uid"]],
        ["T1110.004", "T1078.004", "TA0001"]
    );
    assert_eq!(attacks[2], Value::Null);
}

/// Only creation is an alert: else every update pages somebody again.
#[test]
fn only_the_first_revision_is_an_alert() {
    let alerts = FIXTURES.map(|name| record(&fixture(name))["is_alert"].as_bool().unwrap());
    assert_eq!(alerts, [true, false, false]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_finding_makes_one_valid_line(finding in generated::finding()) {
        let line = ocsf::line(&finding).unwrap();
        prop_assert!(!line.contains(&b'\n') && !line.contains(&b'\r'));
        prop_assert_eq!(&line, &ocsf::line(&finding.clone()).unwrap());
        let record: Value = serde_json::from_slice(&line).unwrap();
        prop_assert_eq!(faults(&record), Vec::<String>::new());
        prop_assert!(record["evidences"].as_array().unwrap().len() <= 20);
        for observable in record["observables"].as_array().into_iter().flatten() {
            let at = observable["name"].as_str().unwrap();
            prop_assert!(values_at(&record, at).contains(&observable["value"]), "{} is not at {}", observable["value"], at);
        }
    }

    #[test]
    fn no_finding_reaches_into_the_readers_terminal(finding in generated::finding()) {
        let block = text::block(&finding, Style::Plain);
        prop_assert!(block.ends_with("\n\n"));
        prop_assert!(block.trim_end().lines().skip(1).all(|line| line.starts_with("  ")), "{}", block);
        let acts = |c: char| (c.is_control() && c != '\n') || ('\u{2028}'..='\u{202e}').contains(&c);
        prop_assert!(!block.contains(acts), "{:?}", block);
    }
}

/// The values at a dotted path without indices, as OCSF names them.
fn values_at(record: &Value, path: &str) -> Vec<Value> {
    let mut found = vec![record.clone()];
    for name in path.split('.') {
        found = found
            .into_iter()
            .flat_map(|value| value.as_array().cloned().unwrap_or_else(|| vec![value]))
            .filter_map(|value| value.get(name).cloned())
            .collect();
    }
    found
}
