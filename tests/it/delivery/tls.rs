//! Whom a sink believes, and how it shows who it is.

use std::time::Duration;

use super::{Way, revision};
use crate::faulty::{Faulty, certificates};

#[tokio::test(flavor = "multi_thread")]
async fn only_the_right_authority_is_believed() {
    let directory = tempfile::tempdir().unwrap();
    let path = certificates(directory.path());
    let faulty = Faulty::with_tls(&path);
    let with = |authority: &str| format!("ca_file = \"{}\"\n", path.join(authority).display());
    for keys in [String::new(), with("other.pem")] {
        let way = Way::to(&faulty, &keys);
        way.put(vec![revision(1, 1)]).await;
        way.pass(Duration::from_millis(200), "it to fail", || way.standing().0 != "ok" && way.standing().1.is_some())
            .await;
        let (state, reason) = way.standing();
        assert!(["failing", "open"].contains(&&*state) && reason.unwrap().contains("certificate verify failed"));
        assert_eq!(way.figures().await.pending, 1);
        way.stop().await;
    }
    assert_eq!(faulty.requests(), 0, "not a byte was told to a stranger");
    let way = Way::to(&faulty, &with("ca.pem"));
    way.put(vec![revision(1, 1)]).await;
    way.until_delivered().await;
    way.stop().await;
    assert_eq!(faulty.taken().len(), 1);
}

/// OpenSSL's own server, which demands a certificate of its authority and prints what it was sent.
#[tokio::test(flavor = "multi_thread")]
async fn our_own_certificate_is_shown_to_whoever_demands_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = certificates(directory.path());
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let heard = path.join("heard");
    let server = std::process::Command::new("openssl")
        .args(["s_server", "-quiet", "-cert", "server.pem", "-key", "server.key", "-CAfile", "ca.pem", "-Verify", "2"])
        .args(["-verify_return_error", "-accept", &format!("127.0.0.1:{port}")])
        .current_dir(&path)
        // At the end of its input it would end each conversation.
        .stdin(std::process::Stdio::piped())
        .stdout(std::fs::File::create(&heard).unwrap())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let _server = Ended(server);
    let section = |more: &str| {
        format!(
            "[[sinks.splunk_hec]]\nname = \"siem\"\nurl = \"https://127.0.0.1:{port}\"\ntoken_env = \"T\"\n\
             timeout_seconds = 1\nca_file = \"{}\"\n{more}",
            path.join("ca.pem").display()
        )
    };
    let (certificate, key) = (path.join("client.pem"), path.join("client.key"));
    let ours = format!("client_cert_file = \"{}\"\nclient_key_file = \"{}\"\n", certificate.display(), key.display());
    for (more, is_heard) in [("", false), (ours.as_str(), true)] {
        let way = Way::with(&section(more));
        way.put(vec![revision(1, 1)]).await;
        // It never answers as HTTP does, so nothing is ever delivered.
        way.pass(Duration::from_millis(200), "tries", || way.standing().0 == "open").await;
        way.stop().await;
        let said = String::from_utf8_lossy(&std::fs::read(&heard).unwrap()).into_owned();
        assert_eq!(said.contains("POST /services/collector/event"), is_heard, "{said:?}");
    }
}

/// Ends with its test, however that ends.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
