use super::read::KEYS;
use super::*;

fn config(json: &str) -> Config {
    serde_json::from_str(json).unwrap()
}

#[test]
fn every_key_that_a_tenant_may_set_reaches_its_thresholds() {
    let base = Config::default();
    assert!(KEYS.len() >= 9, "{:?}", *KEYS);
    for key in *KEYS {
        let value = as_map(&base)[*key].as_f64().unwrap() * 2.0;
        let whole = as_map(&base)[*key].is_u64();
        let text = if whole { format!("{value:.0}") } else { format!("{value:e}") };
        let overrides: Overrides = serde_json::from_str(&format!("{{\"{key}\": {text}}}")).unwrap();
        assert_ne!(base.of_tenant(&overrides).thresholds(), base.thresholds(), "{key} changes nothing");
    }
}

#[test]
fn what_is_not_set_is_as_in_the_base_and_the_base_keeps_its_digits() {
    let base = config(r#"{"false_findings_per_day": 1.1e-3, "factor": 33.3, "address_minimum": 9}"#);
    let overrides: Overrides = serde_json::from_str(r#"{"address_minimum": 20}"#).unwrap();
    assert_eq!(base.of_tenant(&overrides), Config { address_minimum: 20, ..base.clone() });
    // A whole number does for one with a fraction, as it does in the base.
    let overrides: Overrides = serde_json::from_str(r#"{"factor": 20}"#).unwrap();
    assert_eq!(base.of_tenant(&overrides).factor, 20.0);
}

#[test]
fn the_shadows_thresholds_win_over_a_tenants() {
    let json = r#"{"factor": 40, "tenants": {"ins_1": {"factor": 100, "address_minimum": 12}},
                   "shadow": {"name": "lower", "factor": 20}}"#;
    let live = config(json);
    let shadow = live.shadowed().unwrap();
    assert_eq!((live.factor, shadow.factor), (40.0, 20.0));
    let of_tenant = |config: &Config| config.of_tenant(&config.tenants["ins_1"]);
    assert_eq!((of_tenant(&live).factor, of_tenant(&live).address_minimum), (100.0, 12));
    assert_eq!((of_tenant(&shadow).factor, of_tenant(&shadow).address_minimum), (20.0, 12));
    assert_eq!(shadow.shadowed(), None);
    assert_eq!(Config::default().shadowed(), None);
}

#[test]
fn faults_stand_under_the_key_that_brings_them() {
    let faults = |json: &str| config(json).validate();
    assert_eq!(faults(r#"{"tenants": {"a": {"factor": 1}}}"#), ["tenants.a.factor: must be at least 2"]);
    assert_eq!(
        faults(r#"{"tenants": {"a": {"address_minimum": 70}}}"#),
        ["tenants.a: address_ceiling: must be from address_minimum to 311"]
    );
    assert_eq!(
        faults(r#"{"shadow": {"false_findings_per_day": 11}}"#),
        ["shadow.false_findings_per_day: must be above 0 and at most 10"]
    );
    assert_eq!(faults(r#"{"shadow": {"name": "x"}}"#).len(), 1);
    // What the base has wrong is said once.
    assert_eq!(
        faults(r#"{"factor": 1, "tenants": {"a": {"false_findings_per_day": 0.5}}}"#),
        ["factor: must be at least 2"]
    );
    let nan = Config { factor: f64::NAN, ..config(r#"{"tenants": {"a": {"false_findings_per_day": 0.5}}}"#) };
    assert_eq!(nan.validate(), ["factor: must be at least 2"]);
    // Each right alone, wrong together.
    let together = r#"{"tenants": {"a": {"address_minimum": 50}}, "shadow": {"address_ceiling": 40}}"#;
    let found = faults(together);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("shadow: ") || found[0].starts_with("shadow.address_ceiling: "), "{found:?}");
    assert!(found[0].ends_with("(with the thresholds of a)"), "{found:?}");
}

#[test]
fn what_is_no_threshold_is_refused() {
    for json in [
        r#"{"max_state_bytes": 5000}"#,
        r#"{"quiet_minutes": 5}"#,
        r#"{"name": "x"}"#,
        r#"{"allow": []}"#,
        r#"{"factor": "50"}"#,
        r#"{"address_minimum": 8.5}"#,
        r#"{"address_minimum": -8}"#,
        r#"{"factor": null}"#,
    ] {
        assert!(serde_json::from_str::<Overrides>(json).is_err(), "{json}");
    }
}
