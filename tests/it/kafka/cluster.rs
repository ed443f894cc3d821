//! One or more brokers of Apache Kafka (`KRaft`) on loopback: started, killed, paused and started again.
//!
//! A broker that is started again has the files and the ports it had, and is never formatted twice: what it
//! acknowledged before must be there after. What a cluster writes is in a folder of its own under the target directory.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use authspike::clock::Stopwatch;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use tempfile::TempDir;

use super::access::{Access, Identity, Login, USERS};
use super::jars;
use super::leash::{Leash, runs};
use super::settings::{self, Ports};
use crate::support::until;

/// Below the ports that the system gives to connections and to listeners on port 0, so that a broker that is down for
/// a while finds its own free when it comes back.
const PORTS: std::ops::Range<u16> = 12_000..32_000;
/// For how long a broker is asked whether it is there yet, each time.
const ASK: Duration = Duration::from_secs(2);

/// Which doors a cluster has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// One listener, no identities, everybody may do everything.
    Plain,
    /// `SASL_SSL` with SCRAM-SHA-512 and mTLS; nothing is allowed but by an ACL. Whoever enters by the plain listener,
    /// which is there as well for the brokers among themselves and for a test's preparations, may do everything.
    Secured,
}

/// What a cluster is to be.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    pub brokers: usize,
    /// Copies of every record, of Kafka's own topics too.
    pub replication: usize,
    /// Copies without which nothing is acknowledged (`acks=all`).
    pub min_isr: usize,
    pub security: Security,
}

impl Default for Spec {
    fn default() -> Self {
        Self { brokers: 1, replication: 1, min_isr: 1, security: Security::Plain }
    }
}

struct Broker {
    ports: Ports,
    leash: Option<Leash>,
}

/// A running cluster. It ends when dropped, and with this process however that ends.
pub struct Cluster {
    folder: TempDir,
    brokers: Vec<Broker>,
    access: Option<Access>,
}

impl Cluster {
    /// One broker without security, for all tests that leave it as it is: topics and groups of their own names.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(Spec::default()))
    }

    /// One secured broker for all tests that only add topics, and ACLs for names of their own.
    pub fn secured() -> &'static Self {
        static SECURED: OnceLock<Cluster> = OnceLock::new();
        SECURED.get_or_init(|| Self::start(Spec { security: Security::Secured, ..Spec::default() }))
    }

    /// Starts a cluster and waits until each broker knows of all the others.
    pub fn start(spec: Spec) -> Self {
        let watch = Stopwatch::start();
        let mut cluster = Self::prepare(spec);
        let prepared = watch.elapsed();
        for broker in 0..spec.brokers {
            cluster.launch(broker);
        }
        cluster.await_running();
        // Past the test harness, which keeps what a test prints to itself until it fails.
        let _ = writeln!(
            std::io::stderr(),
            "kafka: {} broker(s), {:?}: formatted after {:.1} s, answered after {:.1} s",
            spec.brokers,
            spec.security,
            prepared.as_secs_f64(),
            watch.elapsed().as_secs_f64(),
        );
        cluster
    }

    /// Certificates, configuration and formatted folders.
    fn prepare(spec: Spec) -> Self {
        sweep();
        let folder =
            tempfile::Builder::new().prefix(&format!("run-{}-", std::process::id())).tempdir_in(jars::home()).unwrap();
        let secured = spec.security == Security::Secured;
        let access = secured.then(|| Access::make(&folder.path().join("access")));
        let brokers: Vec<Broker> = (0..spec.brokers)
            .map(|_| Broker {
                ports: Ports { plain: free_port(), controller: free_port(), scram: free_port(), mtls: free_port() },
                leash: None,
            })
            .collect();
        let cluster = Self { folder, brokers, access };
        let id = URL_SAFE_NO_PAD.encode(uuid::Uuid::from_u64_pair(random(), random()).as_bytes());
        let ports: Vec<Ports> = cluster.brokers.iter().map(|broker| broker.ports).collect();
        let formats = (0..spec.brokers).map(|broker| {
            let text = settings::of_broker(broker, &ports, spec, cluster.folder.path(), cluster.access.as_ref());
            std::fs::write(cluster.properties_file(broker), text).unwrap();
            cluster.format_arguments(broker, &id)
        });
        let formats: Vec<Vec<String>> = formats.collect();
        std::thread::scope(|scope| {
            for arguments in &formats {
                scope.spawn(move || jars::run("kafka.tools.StorageTool", arguments).unwrap());
            }
        });
        cluster
    }

    fn format_arguments(&self, broker: usize, id: &str) -> Vec<String> {
        let file = self.properties_file(broker).display().to_string();
        let mut arguments: Vec<String> = ["format", "-t", id, "-c"].map(str::to_owned).into();
        arguments.push(file);
        if let Some(access) = &self.access {
            for user in USERS {
                let password = access.password(user);
                arguments.push("-S".to_owned());
                arguments.push(format!("SCRAM-SHA-512=[name={user},password={password}]"));
            }
        }
        arguments
    }

    fn launch(&mut self, broker: usize) {
        let mut line = jars::java("kafka.Kafka");
        line.push(self.properties_file(broker).display().to_string());
        self.brokers[broker].leash = Some(Leash::start(&line, self.folder.path(), &self.log_file(broker)));
    }

    /// Waits until each running broker answers and knows as many brokers as run.
    fn await_running(&self) {
        let running: Vec<usize> = (0..self.brokers.len()).filter(|at| self.brokers[*at].leash.is_some()).collect();
        for broker in &running {
            let client: BaseConsumer = ClientConfig::new()
                .set("bootstrap.servers", self.address(*broker))
                .set("reconnect.backoff.max.ms", "200")
                .create()
                .unwrap();
            until("a broker", || {
                let alive = self.brokers[*broker].leash.as_ref().is_some_and(Leash::alive);
                assert!(alive, "a broker ended as it started: {}", self.log(*broker));
                let metadata = client.fetch_metadata(None, ASK).ok()?;
                (metadata.brokers().len() >= running.len()).then_some(())
            });
        }
    }

    /// `host:port` of every broker's plain listener, separated by commas.
    pub fn bootstrap(&self) -> String {
        self.addresses(|ports| ports.plain)
    }

    /// What a client needs to enter: librdkafka's properties, `bootstrap.servers` among them.
    pub fn properties(&self, login: Login<'_>) -> BTreeMap<String, String> {
        let access = || self.access.as_ref().unwrap();
        let path = |path: PathBuf| path.display().to_string();
        let scram = |user: &str, password: &str| {
            vec![
                ("bootstrap.servers", self.addresses(|ports| ports.scram)),
                ("security.protocol", "SASL_SSL".to_owned()),
                ("ssl.ca.location", path(access().authority())),
                ("sasl.mechanism", "SCRAM-SHA-512".to_owned()),
                ("sasl.username", user.to_owned()),
                ("sasl.password", password.to_owned()),
            ]
        };
        let properties = match login {
            Login::Plain => vec![("bootstrap.servers", self.bootstrap())],
            Login::Scram(user) => scram(user, access().password(user)),
            Login::Password(user, password) => scram(user, password),
            Login::Certificate(user) => {
                let Identity { authority, certificate, key } = self.identity(user);
                vec![
                    ("bootstrap.servers", self.addresses(|ports| ports.mtls)),
                    ("security.protocol", "SSL".to_owned()),
                    ("ssl.ca.location", path(authority)),
                    ("ssl.certificate.location", path(certificate)),
                    ("ssl.key.location", path(key)),
                ]
            }
        };
        properties.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    /// The certificate of a user of a secured cluster.
    pub fn identity(&self, user: &str) -> Identity {
        self.access.as_ref().unwrap().identity(user)
    }

    /// Adds an ACL: `what` as the options of kafka-acls.sh, such as `["--operation", "Read", "--topic", "x"]`.
    pub fn allow(&self, user: &str, what: &[&str]) {
        let server = self.bootstrap();
        let principal = format!("User:{user}");
        let arguments = ["--bootstrap-server", &server, "--add", "--allow-principal", &principal];
        let arguments: Vec<String> = arguments.iter().chain(what).map(|part| (*part).to_owned()).collect();
        jars::run("org.apache.kafka.tools.AclCommand", &arguments).unwrap();
    }

    /// Runs a script as an operator would who has Kafka's own scripts on the PATH; what it printed, also as the error.
    pub fn shell(&self, script: &str) -> Result<String, String> {
        let scripts = self.folder.path().join("bin");
        jars::scripts(&scripts);
        let path = format!("{}:{}", scripts.display(), std::env::var("PATH").unwrap_or_default());
        let mut command = std::process::Command::new("sh");
        let output = command.args(["-euc", script]).env("PATH", path).current_dir(self.folder.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        if output.status.success() { Ok(said.into_owned()) } else { Err(said.into_owned()) }
    }

    /// Ends a broker without warning (SIGKILL).
    pub fn kill(&mut self, broker: usize) {
        drop(self.brokers[broker].leash.take().unwrap());
    }

    /// Asks a broker to end (SIGTERM) and waits: it hands over what it leads first, as in a rolling restart.
    pub fn stop(&mut self, broker: usize) {
        let leash = self.brokers[broker].leash.take().unwrap();
        leash.signal("TERM");
        until("a broker to stop", || (!leash.alive()).then_some(()));
    }

    /// Ends all brokers that run, without warning.
    pub fn kill_all(&mut self) {
        for broker in &mut self.brokers {
            broker.leash = None;
        }
    }

    /// Starts a broker again with the files it had.
    pub fn restart(&mut self, broker: usize) {
        self.launch(broker);
        self.await_running();
    }

    /// Starts all brokers again that are down.
    pub fn restart_all(&mut self) {
        for broker in 0..self.brokers.len() {
            if self.brokers[broker].leash.is_none() {
                self.launch(broker);
            }
        }
        self.await_running();
    }

    /// Freezes a broker (SIGSTOP): its connections stay open and nothing answers.
    pub fn pause(&self, broker: usize) {
        self.leash(broker).signal("STOP");
    }

    /// Lets a frozen broker go on (SIGCONT).
    pub fn resume(&self, broker: usize) {
        self.leash(broker).signal("CONT");
    }

    /// The process id of a running broker.
    pub fn process(&self, broker: usize) -> u32 {
        self.leash(broker).process()
    }

    /// What a broker logged (warnings and errors).
    pub fn log(&self, broker: usize) -> String {
        std::fs::read_to_string(self.log_file(broker)).unwrap_or_default()
    }

    fn leash(&self, broker: usize) -> &Leash {
        self.brokers[broker].leash.as_ref().unwrap()
    }

    fn properties_file(&self, broker: usize) -> PathBuf {
        self.folder.path().join(format!("broker-{}.properties", broker + 1))
    }

    fn log_file(&self, broker: usize) -> PathBuf {
        self.folder.path().join(format!("broker-{}.log", broker + 1))
    }

    fn address(&self, broker: usize) -> String {
        format!("127.0.0.1:{}", self.brokers[broker].ports.plain)
    }

    fn addresses(&self, port: impl Fn(Ports) -> u16) -> String {
        let addresses: Vec<String> =
            self.brokers.iter().map(|broker| format!("127.0.0.1:{}", port(broker.ports))).collect();
        addresses.join(",")
    }
}

/// A port that is free on loopback and that this process has not given away before.
fn free_port() -> u16 {
    static TAKEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    until("a free port", || {
        let span = u64::from(PORTS.end - PORTS.start);
        let port = PORTS.start + u16::try_from(random() % span).unwrap();
        let free = !taken.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        (free && taken.insert(port)).then_some(port)
    })
}

/// Removes what clusters of test processes left behind that are gone: a shared cluster is never dropped.
fn sweep() {
    std::fs::create_dir_all(jars::home()).unwrap();
    for entry in std::fs::read_dir(jars::home()).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap_or_default();
        let owner = name.strip_prefix("run-").and_then(|rest| rest.split('-').next()?.parse().ok());
        if owner.is_some_and(|owner| !runs(owner)) {
            // Another test process may be doing the same.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

pub(super) fn random() -> u64 {
    getrandom::u64().unwrap()
}

/// The resident memory of a process, in MiB.
pub(super) fn resident_mib(process: u32) -> u64 {
    let status = std::fs::read_to_string(Path::new("/proc").join(process.to_string()).join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}
