//! An HTTP server that remembers what it was sent and answers as it was told, and certificates to connect with.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use authspike::clock::Clock;
use authspike::secret::Secret;
use authspike::sinks::credential::Variables;
use authspike::sinks::{self, Delivery, Outlet, Parts};
use figment::Figment;
use figment::providers::{Format as _, Toml};
use flate2::read::GzDecoder;
use serde_json::{Map, Value};

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// Path and query.
    pub path: String,
    /// By lower-case name.
    pub headers: Map<String, Value>,
    /// Unpacked.
    pub body: String,
}

impl Received {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// The server; it ends with this value.
pub(crate) struct Stub {
    pub address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    answers: Arc<Mutex<VecDeque<String>>>,
    stop: Arc<AtomicBool>,
}

impl Stub {
    /// Answers requests with `answers` in turn (`"429 Too Many Requests\r\nRetry-After: 7\r\n\r\nbody"`), then with 200.
    pub(crate) fn answering(answers: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stub = Self {
            address: listener.local_addr().unwrap(),
            received: Arc::default(),
            answers: Arc::new(Mutex::new(answers.iter().map(|&answer| answer.to_owned()).collect())),
            stop: Arc::default(),
        };
        let (received, answers, stop) = (Arc::clone(&stub.received), Arc::clone(&stub.answers), Arc::clone(&stub.stop));
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                serve(stream, &received, &answers);
            }
        });
        stub
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What came since this was last asked.
    pub(crate) fn take(&self) -> Vec<Received> {
        std::mem::take(&mut *self.received.lock().unwrap())
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

/// One request a connection.
fn serve(stream: TcpStream, received: &Mutex<Vec<Received>>, answers: &Mutex<VecDeque<String>>) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    if reader.read_line(&mut line).unwrap_or(0) == 0 {
        return;
    }
    let path = line.split(' ').nth(1).unwrap().to_owned();
    let mut headers = Map::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.into());
    }
    let length: usize = headers["content-length"].as_str().unwrap().parse().unwrap();
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes).unwrap();
    let mut body = String::new();
    if headers.get("content-encoding").is_some_and(|encoding| encoding == "gzip") {
        GzDecoder::new(&bytes[..]).read_to_string(&mut body).unwrap();
    } else {
        body = String::from_utf8(bytes).unwrap();
    }
    received.lock().unwrap().push(Received { path, headers, body });
    let answer = answers.lock().unwrap().pop_front().unwrap_or_else(|| "200 OK\r\n\r\n".to_owned());
    // Who asks may have gone.
    let _ = write!(reader.get_mut(), "HTTP/1.1 {}", answer.replacen("\r\n", "\r\nConnection: close\r\n", 1));
}

/// The one sink of `section`, as the configuration file would make it; `secrets` are variables.
pub(crate) fn sink(section: &str, secrets: &[(&str, &str)]) -> Result<Outlet, String> {
    let always = "[stdout]\nenabled = false\n[jsonl]\nenabled = false\n";
    let config: sinks::Config = Figment::from(Toml::string(&format!("{always}{section}"))).extract().unwrap();
    assert_eq!(config.validate(), [""; 0]);
    let variables: Variables = secrets.iter().map(|(name, value)| ((*name).to_owned(), Secret::new(*value))).collect();
    let parts = Parts { data_dir: std::path::Path::new("/nowhere"), variables: &variables, clock: Clock::system() };
    let mut outlets = sinks::build(&config, &parts).map_err(|error| error.to_string())?;
    assert_eq!(outlets.len(), 1);
    Ok(outlets.remove(0))
}

/// The reasons of what was not accepted.
pub(crate) fn reasons(deliveries: &[Delivery]) -> Vec<String> {
    let reason = |delivery: &Delivery| match delivery {
        Delivery::Accepted => None,
        Delivery::Retry { reason, .. } => Some(format!("retry: {reason}")),
        Delivery::Blocked(reason) => Some(format!("blocked: {reason}")),
        Delivery::Split(reason) => Some(format!("split: {reason}")),
        Delivery::Bisect(reason) => Some(format!("bisect: {reason}")),
        Delivery::Refused(reason) => Some(format!("refused: {reason}")),
    };
    deliveries.iter().filter_map(reason).collect()
}

/// An authority with a certificate for a server on this machine and one for a client, and an authority of somebody else.
pub(crate) struct Certificates(tempfile::TempDir);

impl Certificates {
    pub(crate) fn make() -> Self {
        let made = Self(tempfile::tempdir().unwrap());
        for authority in ["ca", "stranger"] {
            let subject = format!("/CN={authority}");
            made.openssl(&format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout {authority}.key \
                 -out {authority}.pem -days 2 -subj {subject} -addext basicConstraints=critical,CA:TRUE"
            ));
        }
        let extensions = "subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth,clientAuth\n";
        std::fs::write(made.path("extensions"), extensions).unwrap();
        for name in ["server", "client"] {
            made.openssl(&format!(
                "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"
            ));
            made.openssl(&format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out {name}.pem -days 2 -extfile extensions"
            ));
        }
        made
    }

    /// `ca.pem`, `stranger.pem`, `server.pem`, `server.key`, `client.pem`, `client.key`.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl").args(arguments.split(' ')).current_dir(self.0.path()).output().unwrap();
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
