//! Syslog, received by rsyslog: every transport, what it wrote read back, and what must not count as delivered.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use authspike::finding::{Counted, Finding};
use authspike::sinks::format::{Body, cef};
use authspike::sinks::{Delivery, Outlet};
use openssl::ssl::{SslAcceptor, SslFiletype, SslMethod};
use serde_json::Value;

use crate::judges::{self, Cef};
use crate::ocsf::{FIXTURES, faults, fixture};
use crate::stub::{Certificates, reasons, sink};
use crate::support::{Instance, simulated, until};

/// An rsyslog with an input for each transport, which writes what it read as JSON. It ends with this value.
struct Rsyslog {
    child: Child,
    directory: tempfile::TempDir,
    ports: Ports,
}

#[derive(Clone, Copy)]
struct Ports {
    udp: u16,
    tcp: u16,
    tls: u16,
    /// TLS with a client certificate asked for.
    mutual: u16,
}

impl Ports {
    /// Free at the moment.
    fn pick() -> Self {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let tcp = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [tcp, tls, mutual] = tcp.map(|listener| listener.local_addr().unwrap().port());
        Self { udp: udp.local_addr().unwrap().port(), tcp, tls, mutual }
    }
}

impl Rsyslog {
    fn start(certificates: &Certificates, ports: Ports) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let Ports { udp, tcp, tls, mutual } = ports;
        let home = directory.path().display();
        let [ca, certificate, key] = ["ca.pem", "server.pem", "server.key"].map(|name| certificates.path(name));
        let (ca, certificate, key) = (ca.display(), certificate.display(), key.display());
        let fields = [
            ("input", "inputname"),
            ("pri", "pri"),
            ("at", "timereported\" dateFormat=\"rfc3339"),
            ("host", "hostname"),
            ("app", "app-name"),
            ("process", "procid"),
            ("rule", "msgid"),
            ("structured", "structured-data"),
            ("message", "msg"),
        ]
        .map(|(key, name)| format!("property(outname=\"{key}\" name=\"{name}\" format=\"jsonf\")\n"))
        .concat();
        let config = format!(
            "global(workDirectory=\"{home}\" maxMessageSize=\"64k\" defaultNetstreamDriver=\"ossl\"\n\
             defaultNetstreamDriverCAFile=\"{ca}\" defaultNetstreamDriverCertFile=\"{certificate}\"\n\
             defaultNetstreamDriverKeyFile=\"{key}\")\n\
             module(load=\"imudp\")\nmodule(load=\"imptcp\")\nmodule(load=\"imtcp\")\n\
             template(name=\"fields\" type=\"list\" option.jsonf=\"on\") {{\n{fields}}}\n\
             ruleset(name=\"all\") {{ action(type=\"omfile\" file=\"{home}/read.ndjson\" template=\"fields\") }}\n\
             input(type=\"imudp\" address=\"127.0.0.1\" port=\"{udp}\" name=\"udp\" ruleset=\"all\")\n\
             input(type=\"imptcp\" address=\"127.0.0.1\" port=\"{tcp}\" name=\"tcp\" ruleset=\"all\")\n\
             input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{tls}\" name=\"tls\" ruleset=\"all\"\n\
             streamdriver.name=\"ossl\" streamdriver.mode=\"1\" streamdriver.authmode=\"anon\")\n\
             input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{mutual}\" name=\"mutual\" ruleset=\"all\"\n\
             streamdriver.name=\"ossl\" streamdriver.mode=\"1\" streamdriver.authmode=\"x509/certvalid\")\n"
        );
        let (config_path, pid) = (directory.path().join("conf"), directory.path().join("pid"));
        std::fs::write(&config_path, config).unwrap();
        let mut command = Command::new("/usr/sbin/rsyslogd");
        command.arg("-n").arg("-i").arg(pid).arg("-f").arg(config_path);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let this = Self { child, directory, ports };
        until("rsyslog to listen", || {
            [tcp, tls, mutual].iter().all(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok()).then_some(())
        });
        this
    }

    /// Ends it in order (what it has read and not written yet would die with it, which is not ours to prevent); everything
    /// that it wrote.
    fn end(mut self) -> Vec<Value> {
        let terminate = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status().unwrap();
        assert!(terminate.success() && self.child.wait().unwrap().success());
        self.written()
    }

    fn written(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.directory.path().join("read.ndjson")).unwrap_or_default();
        // What is being written may lack its end.
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The next `count` messages after the first `before`.
    fn read(&self, before: usize, count: usize) -> Vec<Value> {
        until("rsyslog to write", || {
            let written = self.written();
            (written.len() >= before + count).then(|| written[before..].to_vec())
        })
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A sink that says it is `web-1`.
fn syslog(port: u16, keys: &str) -> Outlet {
    let section = format!(
        "[[syslog]]\nname = \"syslog\"\naddress = \"127.0.0.1:{port}\"\nhost = \"web-1\"\ntimeout_seconds = 5\n{keys}"
    );
    sink(&section, &[]).unwrap()
}

fn pem(key: &str, path: &Path) -> String {
    format!("{key} = \"{}\"\n", path.display())
}

fn findings() -> Vec<Finding> {
    let mut findings: Vec<Finding> = FIXTURES.iter().map(|name| fixture(name)).collect();
    let mut hostile = fixture("stuffing");
    let agent = "<82>1 - x - - - - CEF:0|a=b\\c|\n12 \u{1b}[2J\u{2028}日本 🦀 \0";
    hostile.evidence.user_agents = vec![Counted { value: agent.into(), count: 1 }];
    findings.push(hostile);
    findings
}

#[tokio::test(flavor = "multi_thread")]
async fn rsyslog_reads_every_field_over_every_transport() {
    let certificates = Certificates::make();
    let rsyslog = Rsyslog::start(&certificates, Ports::pick());
    let Ports { udp, tcp, tls, mutual } = rsyslog.ports;
    let ca = pem("ca_file", &certificates.path("ca.pem"));
    let client = ca.clone()
        + &pem("client_cert_file", &certificates.path("client.pem"))
        + &pem("client_key_file", &certificates.path("client.key"));
    let newline = "transport = \"tcp\"\nframing = \"newline\"\n";
    let ways = [
        ("udp", udp, "transport = \"udp\"\n"),
        ("tcp", tcp, "transport = \"tcp\"\n"),
        ("tcp", tcp, newline),
        ("tls", tls, &ca),
        ("mutual", mutual, &client),
    ];
    let findings = findings();
    let mut read = 0;
    for (input, port, keys) in ways {
        for payload in ["cef", "ocsf", "ecs"] {
            for confirm in [true, false] {
                let keys = format!("{keys}payload = \"{payload}\"\nconfirm = {confirm}\nmax_bytes = 16000\n");
                let mut outlet = syslog(port, &keys);
                let watch = authspike::clock::Stopwatch::start();
                for batch in [&findings[..3], &findings[3..]] {
                    assert_eq!(reasons(&outlet.sink.deliver(batch).await), [""; 0], "{input} {keys}");
                }
                assert!(watch.elapsed() < Duration::from_secs(2), "{input}: {:?}", watch.elapsed());
                let written = rsyslog.read(read, findings.len());
                read += findings.len();
                for (finding, written) in findings.iter().zip(&written) {
                    check(finding, input, payload, written);
                }
            }
        }
    }
    assert_eq!(rsyslog.written().len(), 5 * 3 * 2 * findings.len());
}

fn check(finding: &Finding, input: &str, payload: &str, written: &Value) {
    let severity = match finding.severity.as_str() {
        "critical" => 2,
        "high" => 3,
        "medium" => 4,
        other => panic!("a fixture of severity {other}"),
    };
    let origin = format!("[origin software=\"authspike\" swVersion=\"{}\"]", env!("CARGO_PKG_VERSION"));
    let expected = [
        ("input", input.to_owned()),
        ("pri", (10 * 8 + severity).to_string()),
        ("at", finding.at.to_string()),
        ("host", "web-1".to_owned()),
        ("app", "authspike".to_owned()),
        ("process", std::process::id().to_string()),
        ("rule", finding.rule.as_str().to_owned()),
        ("structured", origin),
    ];
    for (field, value) in expected {
        assert_eq!(written[field], value, "{field}");
    }
    let message = written["message"].as_str().unwrap();
    if payload == "cef" {
        assert_eq!(message, cef::line(finding));
        let read = judges::cef(message).unwrap();
        assert_eq!(read.extension["externalId"], finding.finding_id.to_string());
    } else {
        let body = if payload == "ocsf" { Body::Ocsf } else { Body::Ecs };
        let record: Value = serde_json::from_str(message).unwrap();
        assert_eq!(record, serde_json::from_slice::<Value>(&body.line(finding).unwrap()).unwrap());
        let faults = if body == Body::Ocsf { faults(&record) } else { judges::ecs(&record) };
        assert_eq!(faults, [""; 0]);
    }
}

/// The error a sink gives, which must leave everything in the outbox.
async fn refused(outlet: &mut Outlet) -> String {
    let deliveries = outlet.sink.deliver(&findings()).await;
    assert!(deliveries.iter().all(|delivery| matches!(delivery, Delivery::Retry { .. })), "{deliveries:?}");
    assert_eq!(deliveries.len(), findings().len());
    reasons(&deliveries).remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_to_a_stranger_and_nothing_counts_that_was_not_read() {
    let certificates = Certificates::make();
    let ports = Ports::pick();
    let rsyslog = Rsyslog::start(&certificates, ports);
    let ca = pem("ca_file", &certificates.path("ca.pem"));
    // The system's authorities, and somebody else's, know nothing of ours.
    let system = refused(&mut syslog(ports.tls, "")).await;
    assert!(system.contains("certificate"), "{system}");
    let stranger = refused(&mut syslog(ports.tls, &pem("ca_file", &certificates.path("stranger.pem")))).await;
    assert!(stranger.contains("certificate"), "{stranger}");
    // In TLS 1.3 a client that is not believed learns that only after it has sent.
    let nobody = refused(&mut syslog(ports.mutual, &ca)).await;
    assert!(nobody.contains("not confirmed") || nobody.contains("broken off"), "{nobody}");
    drop(rsyslog);
    let down = refused(&mut syslog(ports.tls, &ca)).await;
    assert!(down.contains("cannot connect"), "{down}");

    let rsyslog = Rsyslog::start(&certificates, ports);
    assert_eq!(reasons(&syslog(ports.tls, &ca).sink.deliver(&findings()).await), [""; 0]);
    assert_eq!(rsyslog.read(0, 4).len(), 4, "what was refused before was never written");
}

#[tokio::test(flavor = "multi_thread")]
async fn receivers_that_hang_up_or_hang_confirm_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = std::thread::spawn(move || {
        // Reads nothing and hangs up; reads everything and says nothing; reads everything and closes.
        let (stream, _) = listener.accept().unwrap();
        std::thread::sleep(Duration::from_millis(100));
        drop(stream);
        let (mut silent, _) = listener.accept().unwrap();
        silent.read_to_end(&mut Vec::new()).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        let mut read = Vec::new();
        stream.read_to_end(&mut read).unwrap();
        drop(silent);
        read
    });
    let mut outlet = syslog(port, "transport = \"tcp\"\n");
    let hung_up = refused(&mut outlet).await;
    assert!(hung_up.contains("not confirmed") || hung_up.contains("broken off"), "{hung_up}");
    let hung = refused(&mut outlet).await;
    assert!(hung.contains("no end within 5 s"), "{hung}");
    assert_eq!(reasons(&outlet.sink.deliver(&findings()).await), [""; 0]);
    let read = String::from_utf8(serving.join().unwrap()).unwrap();
    // Octet counting: the length, a space, so many bytes, and the next.
    let (mut rest, mut count) = (read.as_bytes(), 0);
    while !rest.is_empty() {
        let space = rest.iter().position(|byte| *byte == b' ').unwrap();
        let length: usize = std::str::from_utf8(&rest[..space]).unwrap().parse().unwrap();
        let message = &rest[space + 1..=space + length];
        assert!(message.starts_with(b"<8") && message.len() <= 8192);
        (rest, count) = (&rest[space + 1 + length..], count + 1);
    }
    assert_eq!(count, 4);
}

fn acceptor(certificates: &Certificates) -> SslAcceptor {
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
    acceptor.set_certificate_chain_file(certificates.path("server.pem")).unwrap();
    acceptor.set_private_key_file(certificates.path("server.key"), SslFiletype::PEM).unwrap();
    acceptor.build()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_for_another_name_is_not_believed() {
    let certificates = Certificates::make();
    let acceptor = acceptor(&certificates);
    let listener = TcpListener::bind("127.0.0.2:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serving = std::thread::spawn(move || acceptor.accept(listener.accept().unwrap().0).is_err());
    let ca = pem("ca_file", &certificates.path("ca.pem"));
    let mut outlet = sink(&format!("[[syslog]]\nname = \"s\"\naddress = \"{address}\"\n{ca}"), &[]).unwrap();
    let reason = refused(&mut outlet).await;
    assert!(reason.contains("IP address mismatch"), "{reason}");
    assert!(serving.join().unwrap());
}

/// A close without TLS's own word can be forged by anybody on the way.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_off_tls_connection_confirms_nothing() {
    let certificates = Certificates::make();
    let acceptor = acceptor(&certificates);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = std::thread::spawn(move || {
        for says_so in [false, true] {
            let mut stream = acceptor.accept(listener.accept().unwrap().0).unwrap();
            stream.read_to_end(&mut Vec::new()).unwrap();
            if says_so {
                stream.shutdown().unwrap();
            } else {
                stream.get_ref().shutdown(std::net::Shutdown::Both).unwrap();
            }
        }
    });
    let mut outlet = syslog(port, &pem("ca_file", &certificates.path("ca.pem")));
    let cut = refused(&mut outlet).await;
    assert!(cut.contains("not confirmed"), "{cut}");
    assert_eq!(reasons(&outlet.sink.deliver(&findings()).await), [""; 0]);
    serving.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_kept_notices_a_receiver_that_went_away() {
    let certificates = Certificates::make();
    let ports = Ports::pick();
    let rsyslog = Rsyslog::start(&certificates, ports);
    let ca = pem("ca_file", &certificates.path("ca.pem"));
    let mut outlet = syslog(ports.tls, &(ca + "confirm = false\n"));
    assert_eq!(reasons(&outlet.sink.deliver(&findings()).await), [""; 0]);
    assert_eq!(rsyslog.read(0, 4).len(), 4);
    drop(rsyslog);
    let gone = refused(&mut outlet).await;
    assert!(gone.contains("cannot connect"), "{gone}");
    let rsyslog = Rsyslog::start(&certificates, ports);
    assert_eq!(reasons(&outlet.sink.deliver(&findings()).await), [""; 0]);
    assert_eq!(rsyslog.read(0, 4).len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_listening_is_noticed_even_on_udp_and_what_is_too_long_says_so() {
    let port = Ports::pick().udp;
    let refused = refused(&mut syslog(port, "transport = \"udp\"\n")).await;
    assert!(refused.contains("cannot send"), "{refused}");

    let mut wide = fixture("stuffing");
    wide.tenant = "x".repeat(9000).as_str().into();
    let mut outlet = syslog(port, "transport = \"udp\"\npayload = \"ocsf\"\n");
    let deliveries = outlet.sink.deliver(&[wide]).await;
    assert_eq!(reasons(&deliveries), ["refused: does not fit into 8192 bytes (max_bytes)"]);
}

/// Detector, outbox, TLS and receiver together, both of which die in between.
#[test]
fn what_a_running_instance_finds_arrives_in_order_though_it_and_the_receiver_die() {
    let certificates = Certificates::make();
    let ports = Ports::pick();
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("authspike.toml");
    let text = format!(
        "[[sinks.syslog]]\nname = \"siem\"\naddress = \"localhost:{}\"\n{}",
        ports.tls,
        pem("ca_file", &certificates.path("ca.pem"))
    );
    std::fs::write(&config, text).unwrap();
    let variables = [("AUTHSPIKE_CONFIG", config.to_str().unwrap())];
    let traffic =
        simulated(&["--for", "6h", "--users", "30000", "--attack", "stuffing:at=1h", "--attack", "guessing:at=3h"]);
    let lines: Vec<&str> = traffic.lines().collect();
    let quarters: Vec<&[&str]> = lines.chunks(lines.len().div_ceil(4)).collect();

    let mut arrived = Vec::new();
    let mut rsyslog = Rsyslog::start(&certificates, ports);
    let mut instance = Instance::start_with(directory.path(), &variables);
    for (number, part) in quarters.iter().enumerate() {
        match number {
            1 => {
                arrived.extend(rsyslog.end());
                rsyslog = Rsyslog::start(&certificates, ports);
            }
            2 => {
                instance.kill();
                instance = Instance::start_with(directory.path(), &variables);
            }
            _ => {}
        }
        for batch in part.chunks(5000) {
            assert_eq!(instance.attempts(&batch.join("\n")).unwrap().0, 200);
        }
    }
    instance.settle();
    until("everything to be sent", || (instance.metric("authspike_outbox_depth{sink=\"siem\"}") == 0.0).then_some(()));
    let found = instance.findings();
    assert!(found.len() >= 4, "{found:?}");
    until("rsyslog to write it all", || {
        let revisions = revisions(arrived.iter().cloned().chain(rsyslog.written()));
        (revisions.iter().map(|(_, _, id)| id.clone()).collect::<BTreeSet<_>>().len() == found.len()).then_some(())
    });
    arrived.extend(rsyslog.written());
    let arrived = revisions(arrived.into_iter());
    let ids: BTreeSet<&String> = arrived.iter().map(|(_, _, id)| id).collect();
    assert_eq!(ids, found.keys().collect(), "what arrived is what the file has, no more and no less");
    let mut last: BTreeMap<&String, u64> = BTreeMap::new();
    for (finding, revision, _) in &arrived {
        let before = last.insert(finding, *revision).unwrap_or(0);
        // The one that was under way at a death comes again.
        assert!((before..=before + 1).contains(revision), "{finding}: {revision} after {before}");
    }
    assert!(instance.terminate().success());
}

/// Finding, revision and revision id of messages with CEF.
fn revisions(messages: impl Iterator<Item = Value>) -> Vec<(String, u64, String)> {
    let read = |message: Value| {
        let Cef { extension, .. } = judges::cef(message["message"].as_str().unwrap()).unwrap();
        let text = |key: &str| extension[key].as_str().unwrap().to_owned();
        (text("externalId"), text("cn3").parse().unwrap(), text("cs4"))
    };
    messages.map(read).collect()
}
