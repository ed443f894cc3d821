use super::*;
use crate::event::Timestamp;
use crate::sinks::sample::stuffing;
use crate::sinks::section::faults;

const NOW: Timestamp = Timestamp(1_716_890_000_000);

fn config() -> Config {
    Config { name: "es".into(), url: "https://es.example.com:9200/".into(), ..Config::default() }
}

fn lines(config: &Config) -> (serde_json::Value, serde_json::Value) {
    let sink = Elastic::new(config, &Variables::new(), Clock::held(NOW)).unwrap();
    let text = String::from_utf8(sink.lines(&stuffing()).unwrap()).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(text.ends_with('\n') && lines.len() == 2, "{text}");
    (lines[0].clone(), lines[1].clone())
}

#[test]
fn a_document_is_created_under_the_revisions_id_and_says_when_it_was_sent() {
    let (action, document) = lines(&config());
    assert_eq!(action["create"]["_id"], stuffing().revision_id.to_string());
    assert_eq!(document["event"]["ingested"], NOW.to_string());
    assert_eq!(document["data_stream"]["dataset"], "authspike.findings");
    assert_eq!(document["@timestamp"], stuffing().at.to_string());
    let (_, ocsf) = lines(&Config { body: Body::Ocsf, ..config() });
    assert_eq!(
        (ocsf["@timestamp"].as_str(), ocsf["class_uid"].as_u64()),
        (Some(&*stuffing().at.to_string()), Some(2004))
    );
    let url = config().endpoint().unwrap();
    assert!(url.as_str().starts_with("https://es.example.com:9200/logs-authspike.findings-default/_bulk?filter_path="));
}

#[test]
fn every_fault_of_a_section_is_reported() {
    assert_eq!(faults(&config()), [""; 0]);
    let wrong = Config {
        data_stream: "Logs".into(),
        username: Some("u".into()),
        api_key_env: Some("K".into()),
        token_file: Some("t".into()),
        ..config()
    };
    let keys: Vec<String> = faults(&wrong).iter().map(|fault| fault.split(':').next().unwrap().to_owned()).collect();
    assert_eq!(keys, ["data_stream", "token_env", "username"]);
}

#[tokio::test(flavor = "current_thread")]
async fn each_way_to_say_who_we_are_has_its_scheme() {
    let variables = Variables::from([("S".to_owned(), Secret::new("geheim"))]);
    let url = Url::parse("https://h/").unwrap();
    for (config, said) in [
        (Config { api_key_env: Some("S".into()), ..config() }, "ApiKey geheim"),
        (Config { token_env: Some("S".into()), ..config() }, "Bearer geheim"),
        (Config { username: Some("u".into()), password_env: Some("S".into()), ..config() }, "Basic dTpnZWhlaW0="),
    ] {
        let mut authorization = Authorization::load(&config, &variables).unwrap();
        let request = authorization.on(Request::post(&url, "text/plain", Vec::new())).await.unwrap();
        assert_eq!(request.headers().get("authorization").unwrap(), said);
        assert!(!format!("{request:?}").contains("geheim") && !format!("{authorization:?}").contains("geheim"));
    }
}
