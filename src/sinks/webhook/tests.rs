use super::*;
use crate::sinks::section;

fn config(preset: Preset) -> Config {
    Config { name: "hook".into(), url: "https://h/".into(), secret_env: Some("S".into()), preset, ..Config::default() }
}

#[test]
fn each_preset_asks_for_what_it_needs() {
    use Preset::{Datadog, Hmac, Pagerduty, Panther, Slack, Standard, Sumo};
    for preset in [Standard, Hmac, Slack, Pagerduty, Datadog] {
        assert_eq!(section::faults(&config(preset)), [""; 0], "{preset:?}");
    }
    let faults = |config: Config| section::faults(&config).join("; ");
    for preset in [Standard, Hmac, Pagerduty, Datadog] {
        assert!(faults(Config { secret_env: None, ..config(preset) }).starts_with("secret_env: "), "{preset:?}");
    }
    for preset in [Sumo, Panther] {
        assert!(faults(config(preset)).starts_with("header: must be set"), "{preset:?}");
        assert_eq!(faults(Config { secret_env: None, ..config(preset) }), "", "{preset:?}");
    }
    for preset in [Pagerduty, Datadog] {
        assert_eq!(faults(Config { url: String::new(), ..config(preset) }), "", "{preset:?}");
    }
    let nowhere = |preset| Config { url: String::new(), ..config(preset) };
    assert!(faults(nowhere(Slack)).starts_with("url: "));
    assert_eq!(faults(Config { url_env: Some("U".into()), ..nowhere(Slack) }), "");
    let twice = Config { url_env: Some("U".into()), ..config(Slack) };
    assert!(faults(twice).starts_with("url: is set, and so is url_env"));
    assert!(
        faults(Config { header: Some("a b".into()), max_bytes: 5, ..config(Hmac) })
            .contains("header: must be the name")
    );
}

#[test]
fn a_secret_of_the_wrong_kind_is_refused_at_the_start_and_not_quoted() {
    for secret in ["geheim", "whsec_geheim!", "whsec_Z2VoZWlt", " "] {
        let variables = Variables::from([("S".to_owned(), Secret::new(secret))]);
        let fault = Webhook::new(&config(Preset::Standard), &variables, Clock::system()).unwrap_err();
        assert!(fault.starts_with("secret: ") && !fault.contains("geheim") && !fault.contains("Z2Vo"), "{fault}");
    }
}
