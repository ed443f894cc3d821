use super::*;
use crate::secret::Secret;
use crate::sinks::format::ocsf;
use crate::sinks::sample::stuffing;

fn config() -> Config {
    Config {
        name: "splunk".into(),
        url: "https://splunk.example.com:8088".into(),
        token_env: Some("T".into()),
        index: Some("security".into()),
        ..Config::default()
    }
}

#[test]
fn an_event_is_what_the_collector_expects() {
    let variables = Variables::from([("T".to_owned(), Secret::new("t"))]);
    let sink = SplunkHec::new(&config(), &variables, Clock::system()).unwrap();
    assert_eq!(sink.events.as_str(), "https://splunk.example.com:8088/services/collector/event");
    assert_eq!(sink.acks.as_str(), "https://splunk.example.com:8088/services/collector/ack");
    let finding = stuffing();
    let event: serde_json::Value = serde_json::from_slice(&sink.event(&finding).unwrap()).unwrap();
    assert_eq!(event["time"].as_f64().unwrap() * 1000.0, finding.at.0 as f64, "seconds");
    assert_eq!(event["event"], serde_json::to_value(ocsf::detection_finding(&finding)).unwrap());
    assert_eq!((event["index"].as_str(), event.get("host")), (Some("security"), None));
    assert_eq!(event["fields"]["finding_uid"], finding.finding_id.to_string());
    assert!(event["fields"].as_object().unwrap().values().all(serde_json::Value::is_string));
}

#[test]
fn every_fault_of_a_section_is_reported() {
    let wrong = Config {
        url: "http://splunk".into(),
        token_env: None,
        scheme: "a b".into(),
        timeout_seconds: 0,
        ack: true,
        ack_timeout_seconds: 90,
        ..config()
    };
    let faults = crate::sinks::section::faults(&wrong);
    for key in ["url", "token_env", "scheme", "timeout_seconds", "ack_timeout_seconds"] {
        assert!(faults.iter().any(|fault| fault.starts_with(&format!("{key}: "))), "{key}: {faults:?}");
    }
    assert_eq!(faults.len(), 5, "{faults:?}");
    assert_eq!(crate::sinks::section::faults(&config()), [""; 0]);
}

#[test]
fn channels_are_random() {
    assert_ne!(channel(), channel());
    assert_eq!(Uuid::parse_str(&channel()).unwrap().get_version_num(), 4);
}
