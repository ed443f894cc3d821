//! Webhooks that we send: Standard Webhooks, verified by its own Python package; a plain HMAC, verified by OpenSSL; and the
//! documented forms of services that have no server one can run, against a stub.

use std::io::Write as _;
use std::process::{Command, Stdio};

use authspike::finding::{Finding, Lifecycle, Severity};
use authspike::sinks::format::Body;
use authspike::sinks::{Delivery, Outlet};
use serde_json::{Value, json};

use crate::judges;
use crate::ocsf::{FIXTURES, faults, fixture};
use crate::stub::{Certificates, Received, Stub, reasons, sink};

/// 24 bytes each.
const OLD: &str = "whsec_b2xkLW9sZC1vbGQtb2xkLW9sZC1vbGQt";
const NEW: &str = "whsec_bmV3LW5ldy1uZXctbmV3LW5ldy1uZXct";

fn webhook(url: &str, keys: &str, secret: &str) -> Outlet {
    let section = format!("[[webhook]]\nname = \"hook\"\nurl = \"{url}\"\nsecret_env = \"S\"\n{keys}");
    sink(&section, &[("S", secret)]).unwrap()
}

fn findings() -> Vec<Finding> {
    FIXTURES.iter().map(|name| fixture(name)).collect()
}

/// What Standard Webhooks' verifier says.
fn verified(request: &Received, secret: &str) -> Vec<String> {
    judges::webhook(secret, &Value::Object(request.headers.clone()), &request.body)
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_webhooks_are_verified_by_their_own_package_with_either_secret_of_a_rotation() {
    let stub = Stub::answering(&[]);
    let mut outlet = webhook(&stub.url("/hook"), "body = \"ocsf\"", &format!("{NEW} {OLD}"));
    assert_eq!(reasons(&outlet.sink.deliver(&findings()).await), [""; 0]);
    let received = stub.take();
    assert_eq!(received.len(), 3);
    for (request, finding) in received.iter().zip(findings()) {
        for secret in [NEW, OLD] {
            assert_eq!(verified(request, secret), [""; 0]);
        }
        assert_ne!(verified(request, "whsec_c29tZWJvZHkgZWxzZSdzIHNlY3JldCEh"), [""; 0]);
        let mut forged = request.clone();
        forged.body = forged.body.replacen("finding.", "finding_", 1);
        assert_ne!(verified(&forged, NEW), [""; 0]);
        assert_eq!(request.headers["webhook-id"], finding.revision_id.to_string());
        let body = request.json();
        assert_eq!(body["type"], format!("finding.{}", finding.lifecycle.as_str()));
        assert_eq!(body["timestamp"], finding.at.to_string());
        assert_eq!(faults(&body["data"]), [""; 0]);
        assert!(request.body.len() <= 20_200, "{}", request.body.len());
    }
}

/// Receivers refuse what was signed more than five minutes ago: the time is that of the try, the id is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_is_tried_again_has_the_same_id_and_a_new_time() {
    let stub = Stub::answering(&["503 Service Unavailable\r\nRetry-After: 7\r\n\r\n", "503 No\r\n\r\n"]);
    let mut outlet = webhook(&stub.url("/"), "", NEW);
    let deliveries = outlet.sink.deliver(&findings()).await;
    let after = |delivery: &Delivery| delivery.after().map(|wait| wait.as_secs());
    assert_eq!(deliveries.iter().map(after).collect::<Vec<_>>(), vec![Some(7); 3]);
    // The others would have fared no better.
    let first = stub.take();
    assert_eq!(first.len(), 1);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let _ = outlet.sink.deliver(&findings()).await;
    let again = stub.take();
    assert_eq!(again[0].headers["webhook-id"], first[0].headers["webhook-id"]);
    assert_eq!(again[0].body, first[0].body);
    assert_ne!(again[0].headers["webhook-timestamp"], first[0].headers["webhook-timestamp"]);
    assert_ne!(again[0].headers["webhook-signature"], first[0].headers["webhook-signature"]);
    assert_eq!(verified(&again[0], NEW), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_hmac_is_what_openssl_computes() {
    let stub = Stub::answering(&[]);
    for (keys, header) in [("", "x-hub-signature-256"), ("header = \"X-Signature\"", "x-signature")] {
        let mut outlet = webhook(&stub.url("/"), &format!("preset = \"hmac\"\n{keys}"), "a plain secret");
        assert_eq!(reasons(&outlet.sink.deliver(&findings()[..1]).await), [""; 0]);
        let request = stub.take().remove(0);
        let mut openssl = Command::new("openssl");
        let openssl = openssl.args(["dgst", "-sha256", "-hmac", "a plain secret", "-r"]);
        let mut child = openssl.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(request.body.as_bytes()).unwrap();
        let output = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        assert_eq!(request.headers[header], format!("sha256={}", output.split(' ').next().unwrap()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slack_hears_of_the_start_and_of_what_gets_worse_and_markup_is_text() {
    let stub = Stub::answering(&[]);
    // The URL is the secret.
    let section = "[[webhook]]\nname = \"slack\"\npreset = \"slack\"\nurl_env = \"U\"\n";
    let mut outlet = sink(section, &[("U", &stub.url("/services/T0/B0/geheim"))]).unwrap();
    let mut finding = Finding { severity: Severity::Medium, ..fixture("stuffing") };
    finding.tenant = "<!channel> & <http://evil|x>".into();
    let mut steps = Vec::new();
    for (lifecycle, severity) in [
        (Lifecycle::Opened, Severity::Medium),
        (Lifecycle::Updated, Severity::Medium),
        (Lifecycle::Updated, Severity::High),
        (Lifecycle::Updated, Severity::High),
        (Lifecycle::Closed, Severity::High),
    ] {
        let revision = Finding { lifecycle, severity, ..finding.clone() };
        assert_eq!(outlet.sink.deliver(&[revision]).await, [Delivery::Accepted]);
        steps.push(stub.take().len());
    }
    assert_eq!(steps, [1, 0, 1, 0, 0]);
    let mut afterword = Finding { lifecycle: Lifecycle::Closed, severity: Severity::High, ..finding.clone() };
    afterword.episode.closed_at = Some(afterword.at.plus_millis(-1));
    assert_eq!(outlet.sink.deliver(&[afterword]).await, [Delivery::Accepted]);
    assert_eq!(stub.take().len(), 1, "an account that is found out when all seems over");
    // Said twice is better than not at all: after a restart it does not know what it has said.
    let mut outlet = sink(section, &[("U", &stub.url("/services/T0/B0/geheim"))]).unwrap();
    let updated = Finding { lifecycle: Lifecycle::Updated, ..finding };
    assert_eq!(outlet.sink.deliver(&[updated]).await, [Delivery::Accepted]);
    let message = stub.take().remove(0);
    assert_eq!(message.path, "/services/T0/B0/geheim");
    let text = message.json()["text"].as_str().unwrap().to_owned();
    assert!(text.starts_with("*MEDIUM* Credential stuffing from 203.0.113.7\n148 different accounts"), "{text}");
    assert!(text.contains("&lt;!channel&gt; &amp; &lt;http://evil|x&gt;") && !text.contains('<'), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_url_is_in_no_reason() {
    let stub = Stub::answering(&["404 Not Found\r\n\r\nno_service geheim-geheim"]);
    let url = stub.url("/geheim-geheim");
    let section = "[[webhook]]\nname = \"slack\"\npreset = \"slack\"\nurl_env = \"U\"\n";
    let mut outlet = sink(section, &[("U", &url)]).unwrap();
    let refused = reasons(&outlet.sink.deliver(&findings()[..1]).await).remove(0);
    assert!(refused.starts_with("blocked: answered 404"), "{refused}");
    drop(stub);
    let down = reasons(&outlet.sink.deliver(&findings()[..1]).await).remove(0);
    assert!(down.starts_with("retry: ") && !down.contains("geheim"), "{down}");
    let wrong = sink(section, &[("U", "http://hooks.example.com/geheim")]).err().unwrap();
    assert!(wrong.contains("https") && !wrong.contains("geheim"), "{wrong}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pagerduty_opens_and_resolves_one_incident_a_finding() {
    let stub = Stub::answering(&["202 Accepted\r\n\r\n{}"; 3]);
    let mut outlet = webhook(&stub.url("/v2/enqueue"), "preset = \"pagerduty\"", "R0UT1NG");
    assert_eq!(reasons(&outlet.sink.deliver(&findings()).await), [""; 0]);
    for (request, finding) in stub.take().iter().zip(findings()) {
        let event = request.json();
        assert_eq!(event["routing_key"], "R0UT1NG");
        assert_eq!(event["dedup_key"], finding.finding_id.to_string());
        if finding.lifecycle == Lifecycle::Closed {
            assert_eq!((&event["event_action"], event.get("payload")), (&json!("resolve"), None));
            continue;
        }
        assert_eq!(event["event_action"], "trigger");
        let payload = &event["payload"];
        assert_eq!(payload["timestamp"], finding.at.to_string());
        assert_eq!(payload["custom_details"]["finding_id"], finding.finding_id.to_string());
        assert!(["critical", "error", "warning", "info"].contains(&payload["severity"].as_str().unwrap()));
        assert!(!payload["summary"].as_str().unwrap().is_empty() && !payload["source"].as_str().unwrap().is_empty());
    }
    // An account that is found out when all seems over is news, whatever was resolved.
    let mut afterword = findings().into_iter().find(|finding| finding.lifecycle == Lifecycle::Closed).unwrap();
    afterword.at = afterword.episode.closed_at.unwrap().plus_millis(1);
    assert_eq!(reasons(&outlet.sink.deliver(&[afterword]).await), [""; 0]);
    assert_eq!(stub.take()[0].json()["event_action"], "trigger");
    // The key is in the body; a receiver that quotes it must not bring it into a log.
    let stub = Stub::answering(&["400 Bad Request\r\n\r\n{\"errors\":[\"R0UT1NG is no key\"]}"]);
    let mut outlet = webhook(&stub.url("/"), "preset = \"pagerduty\"", "R0UT1NG");
    let reason = reasons(&outlet.sink.deliver(&findings()[..1]).await).remove(0);
    assert!(reason.starts_with("bisect: answered 400") && !reason.contains("R0UT1NG"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn datadog_gets_one_array_with_the_key_and_no_moment_it_would_refuse() {
    let stub = Stub::answering(&["202 Accepted\r\n\r\n{}"]);
    let mut outlet = webhook(&stub.url("/api/v2/logs"), "preset = \"datadog\"", "K3Y");
    let mut fresh = fixture("stuffing");
    fresh.at = authspike::clock::Clock::system().now();
    let sent = [fresh.clone(), fixture("account_updated")];
    assert_eq!(reasons(&outlet.sink.deliver(&sent).await), [""; 0]);
    let received = stub.take();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].headers["dd-api-key"], "K3Y");
    let logs = received[0].json();
    assert_eq!(logs[0]["timestamp"], fresh.at.0);
    assert_eq!(logs[1].get("timestamp"), None, "of 2024: it counts from its arrival");
    assert_eq!(logs[0]["status"], "critical");
    assert_eq!(logs[0]["ddsource"], "authspike");
    assert!(logs[0]["ddtags"].as_str().unwrap().contains("rule:address_failure_spike,severity:critical"));
    assert_eq!(logs[1]["finding"]["finding_id"], fixture("account_updated").finding_id.to_string());
    assert_eq!(logs.as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn sumo_and_panther_get_one_record_a_line() {
    let stub = Stub::answering(&[]);
    let mut sumo =
        webhook(&stub.url("/receiver/v1/http/abc"), "preset = \"sumo\"\nbody = \"ocsf\"\nheader = \"X-Key\"", "k");
    let mut panther = webhook(&stub.url("/http/1"), "preset = \"panther\"\nbody = \"ocsf\"\nheader = \"X-Key\"", "k");
    for outlet in [&mut sumo, &mut panther] {
        assert_eq!(reasons(&outlet.sink.deliver(&findings()).await), [""; 0]);
        let request = stub.take().remove(0);
        assert_eq!(request.headers["x-key"], "k");
        let lines: Vec<&str> = request.body.lines().collect();
        let expected: Vec<_> = findings().iter().map(|finding| Body::Ocsf.line(finding).unwrap()).collect();
        assert_eq!(lines.iter().map(|line| line.as_bytes()).collect::<Vec<_>>(), expected);
        for line in lines {
            assert_eq!(faults(&serde_json::from_str(line).unwrap()), [""; 0]);
        }
    }
}

/// Over HTTPS only with a certificate that is believed, and ours shown where it is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn https_believes_the_authority_it_was_given_and_shows_its_certificate() {
    use openssl::ssl::{SslAcceptor, SslFiletype, SslMethod, SslVerifyMode};
    let certificates = Certificates::make();
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
    acceptor.set_certificate_chain_file(certificates.path("server.pem")).unwrap();
    acceptor.set_private_key_file(certificates.path("server.key"), SslFiletype::PEM).unwrap();
    acceptor.set_ca_file(certificates.path("ca.pem")).unwrap();
    acceptor.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    let acceptor = acceptor.build();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let serving = std::thread::spawn(move || {
        let mut believed = Vec::new();
        for _ in 0..4 {
            let Ok(mut stream) = acceptor.accept(listener.accept().unwrap().0) else {
                believed.push(None);
                continue;
            };
            let certificate = stream.ssl().peer_certificate().unwrap();
            let name = certificate.subject_name().entries().next().unwrap().data().to_string().unwrap();
            let _ = std::io::Read::read(&mut stream, &mut [0; 16384]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            believed.push(Some(name));
        }
        believed
    });
    let key = |key: &str, name: &str| format!("{key} = \"{}\"\n", certificates.path(name).display());
    let client = key("client_cert_file", "client.pem") + &key("client_key_file", "client.key");
    let mut told = Vec::new();
    for keys in [
        client.clone(),
        key("ca_file", "stranger.pem") + &client,
        key("ca_file", "ca.pem"),
        key("ca_file", "ca.pem") + &client,
    ] {
        told.push(reasons(&webhook(&url, &keys, NEW).sink.deliver(&findings()[..1]).await));
    }
    assert!(told[..3].iter().all(|reasons| reasons.len() == 1 && reasons[0].starts_with("retry: ")), "{told:?}");
    assert!(told[0][0].contains("certificate") && told[1][0].contains("certificate"), "{told:?}");
    assert_eq!(told[3], [""; 0]);
    assert_eq!(serving.join().unwrap(), [None, None, None, Some("client".to_owned())]);
}
