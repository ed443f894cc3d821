//! What several tests need: the built binary as a running instance, requests to it, and waiting with a deadline.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use authspike::clock::{Clock, Stopwatch};
use authspike::secret::Secret;
use authspike::sources::signature::SigningKey;
use serde_json::Value;

/// 24 bytes of nothing in particular.
pub const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
pub const TOKEN: &str = "test-token-of-no-account";
/// Far above what anything takes on a slow machine.
const DEADLINE: Duration = Duration::from_mins(1);

/// Waits until `holds` gives something.
pub fn until<T>(what: &str, mut holds: impl FnMut() -> Option<T>) -> T {
    let watch = Stopwatch::start();
    loop {
        if let Some(value) = holds() {
            return value;
        }
        assert!(watch.elapsed() < DEADLINE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A running `authspike run`.
pub struct Instance {
    child: Child,
    pub data_dir: PathBuf,
    pub ingest: SocketAddr,
    pub admin: SocketAddr,
    /// Of one that forwards.
    pub fapi_proxy: Option<SocketAddr>,
    client: reqwest::blocking::Client,
    /// What opens its admin listener, if it has one.
    admin_token: Option<String>,
    said: Arc<Mutex<String>>,
    printed: File,
}

impl Instance {
    /// Starts on free ports in `data_dir`, with a webhook secret and an attempts token, and waits until it listens.
    pub fn start(data_dir: &Path) -> Self {
        Self::start_with(data_dir, &[])
    }

    pub fn start_with(data_dir: &Path, variables: &[(&str, &str)]) -> Self {
        Self::start_as(data_dir, variables, &[])
    }

    /// With further arguments; one that does not receive has no `ingest`.
    pub fn start_as(data_dir: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Self {
        let printed = tempfile::tempfile().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_authspike"))
            .args(["run", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir"])
            .arg(data_dir)
            .args(arguments)
            .env_clear()
            .env("CLERK_WEBHOOK_SIGNING_SECRET", SECRET)
            .env("AUTHSPIKE_ATTEMPTS_TOKEN", TOKEN)
            .env("AUTHSPIKE_LOGGING__FORMAT", "json")
            .env("AUTHSPIKE_SINKS__STDOUT__ENABLED", "false")
            .envs(variables.iter().copied())
            .stdout(printed.try_clone().unwrap())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let (mut ingest, mut admin, mut fapi_proxy) = (None, None, None);
        let mut seen = String::new();
        while admin.is_none() {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "it ended before it listened: {seen}");
            seen += &line;
            let fields: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no line of its log: {line}"));
            if fields["message"] == "listening" {
                ingest = fields["ingest"].as_str().and_then(|addr| addr.parse().ok());
                fapi_proxy = fields["fapi_proxy"].as_str().and_then(|addr| addr.parse().ok());
                admin = fields["admin"].as_str().and_then(|addr| addr.parse().ok());
            }
        }
        // Read on, so that the pipe does not fill.
        let said = Arc::new(Mutex::new(seen));
        let heard = Arc::clone(&said);
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                *heard.lock().unwrap() += &(line + "\n");
            }
        });
        let client = reqwest::blocking::Client::builder().timeout(DEADLINE).build().unwrap();
        let ingest = ingest.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
        let named = variables.iter().find(|(name, _)| *name == "AUTHSPIKE_ADMIN_TOKEN");
        let admin_token = named.map(|(_, token)| (*token).to_owned());
        Self {
            child,
            data_dir: data_dir.to_owned(),
            ingest,
            admin: admin.unwrap(),
            fapi_proxy,
            client,
            admin_token,
            said,
            printed,
        }
    }

    /// Posts attempts, one a line; the status and the answer.
    pub fn attempts(&self, lines: &str) -> Result<(u16, Value), reqwest::Error> {
        let request = self
            .client
            .post(format!("http://{}/v1/attempts", self.ingest))
            .bearer_auth(TOKEN)
            .header("content-type", "application/x-ndjson")
            .body(lines.to_owned());
        let response = request.send()?;
        Ok((response.status().as_u16(), serde_json::from_str(&response.text()?).unwrap_or_default()))
    }

    /// Posts a webhook as Svix does; the status.
    pub fn webhook(&self, id: &str, body: &[u8]) -> u16 {
        let timestamp = (Clock::system().now().0 / 1000).to_string();
        let signature = SigningKey::new(&Secret::new(SECRET)).unwrap().sign(id, &timestamp, body);
        let request = self
            .client
            .post(format!("http://{}/webhooks/clerk", self.ingest))
            .header("svix-id", id)
            .header("svix-timestamp", timestamp)
            .header("svix-signature", signature)
            .header("content-type", "application/json")
            .body(body.to_vec());
        request.send().unwrap().status().as_u16()
    }

    /// A page of the admin listener; the status and the text.
    pub fn admin(&self, path: &str) -> (u16, String) {
        self.admin_as(reqwest::Method::GET, path)
    }

    /// The same by another method.
    pub fn admin_as(&self, method: reqwest::Method, path: &str) -> (u16, String) {
        let mut request = self.client.request(method, format!("http://{}{path}", self.admin));
        if let Some(token) = &self.admin_token {
            request = request.bearer_auth(token);
        }
        let response = request.send().unwrap();
        (response.status().as_u16(), response.text().unwrap())
    }

    /// A metric's value, by its name with labels.
    pub fn metric(&self, name: &str) -> f64 {
        let page = self.admin("/metrics").1;
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Waits until the detector has seen everything and every sink has taken everything.
    pub fn settle(&self) {
        until("the detector and the sinks to catch up", || {
            let idle = self.metric("authspike_log_lag_records{partition=\"0\"}") == 0.0
                && self.metric("authspike_outbox_depth{sink=\"jsonl\"}") == 0.0;
            idle.then_some(())
        });
        // The gauges are those of a moment: what the detector found in its last round may be on its way.
        std::thread::sleep(Duration::from_millis(400));
        until("the sinks", || (self.metric("authspike_outbox_depth{sink=\"jsonl\"}") == 0.0).then_some(()));
    }

    /// Its log lines so far.
    pub fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// What it wrote to its standard output so far.
    pub fn printed(&self) -> String {
        let mut bytes = vec![0; usize::try_from(self.printed.metadata().unwrap().len()).unwrap()];
        self.printed.read_exact_at(&mut bytes, 0).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    /// Sends it a signal by its name.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
    }

    /// Its process id.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Ends it without warning.
    pub fn kill(mut self) {
        self.kill_now();
    }

    /// The same where it is replaced by another in its place.
    pub fn kill_now(&mut self) {
        // It may be dead already.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// Asks it to end, and waits.
    pub fn terminate(self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    /// Waits until it has ended.
    pub fn wait(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    pub fn findings(&self) -> BTreeMap<String, String> {
        findings(&self.data_dir.join("findings.jsonl"))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // Already waited for where the test got so far; a failed test must not leave it behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of a findings file by revision id. A line delivered twice must be the same both times.
pub fn findings(path: &Path) -> BTreeMap<String, String> {
    lines_by_revision(&std::fs::read_to_string(path).unwrap_or_default())
}

pub fn lines_by_revision(text: &str) -> BTreeMap<String, String> {
    let mut by_revision = BTreeMap::new();
    for line in text.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        assert_eq!(crate::judges::ocsf(&record), [""; 0], "{line}");
        let revision = record["metadata"]["uid"].as_str().unwrap().to_owned();
        if let Some(before) = by_revision.insert(revision, line.to_owned()) {
            assert_eq!(before, line, "one revision, two contents");
        }
    }
    by_revision
}

/// Simulated attempts, one a line.
pub fn simulated(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_authspike"))
        .arg("simulate")
        .args(arguments)
        .env_clear()
        .stderr(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}
