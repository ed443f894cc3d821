//! A receiver of findings that fails on purpose: it speaks Splunk's HEC, keeps what it took, and can be told how to fail.
//!
//! Threads and plain sockets, so that it can do what no HTTP library would: break off in the middle of anything.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flate2::read::GzDecoder;
use native_tls::{Identity, TlsAcceptor};
use serde_json::Value;

/// How it behaves.
#[derive(Clone, Debug)]
pub enum Mode {
    Well,
    /// Nobody listens.
    Refuse,
    /// Reads the request and never answers.
    Hang,
    /// Closes with half of the body unread, which makes the other side's system say "reset".
    ResetMidBody,
    /// Answers after this.
    Slow(Duration),
    /// Answers with this status, these header lines and this body, and takes nothing.
    Answer(u16, String, &'static str),
    /// Takes everything, then breaks off in the middle of the answer.
    TruncatedAnswer,
    /// Takes everything, then closes without an answer.
    NoAnswer,
    /// Answers 400 while this finding is in it, without saying which it is.
    Poison(String),
    /// Answers 413 for more findings than this.
    AtMost(usize),
    /// Takes everything and answers once [`Faulty::hold`] was let go; for whoever wants to kill the sender meanwhile.
    Held,
}

/// One finding it took.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Taken {
    pub finding: String,
    pub revision: u64,
    pub id: String,
}

struct Shared {
    mode: Mutex<Mode>,
    taken: Mutex<Vec<Taken>>,
    requests: AtomicUsize,
    /// Requests that are not answered yet, and the most of them at one time.
    busy: AtomicUsize,
    most: AtomicUsize,
    /// Every record that came, but for what is different in each: to be judged at the end.
    kinds: Mutex<BTreeMap<String, Value>>,
    /// Ids that were given out and are to be acknowledged; `None`: no acknowledgements.
    acks: Mutex<Option<BTreeMap<u64, bool>>>,
    held: Mutex<()>,
    tls: Option<TlsAcceptor>,
    stopped: Mutex<bool>,
}

/// The server; it ends with this value.
pub struct Faulty {
    pub addr: SocketAddr,
    shared: Arc<Shared>,
}

impl Faulty {
    pub fn start() -> Self {
        Self::with(None)
    }

    /// Behind TLS, with a certificate of `directory`'s authority.
    pub fn with_tls(directory: &Path) -> Self {
        let read = |name: &str| std::fs::read(directory.join(name)).unwrap();
        let identity = Identity::from_pkcs8(&read("server.pem"), &read("server.key")).unwrap();
        Self::with(Some(TlsAcceptor::new(identity).unwrap()))
    }

    fn with(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            mode: Mutex::new(Mode::Well),
            taken: Mutex::default(),
            requests: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            kinds: Mutex::default(),
            acks: Mutex::new(None),
            held: Mutex::new(()),
            tls,
            stopped: Mutex::new(false),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || serve(listener, addr, &serving));
        Self { addr, shared }
    }

    /// Where to send to.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.shared.tls.is_some() { "https" } else { "http" }, self.addr)
    }

    pub fn set(&self, mode: Mode) {
        *self.shared.mode.lock().unwrap() = mode;
        if matches!(*self.shared.mode.lock().unwrap(), Mode::Refuse) {
            // The listener is in `accept`: this wakes it up to close.
            drop(TcpStream::connect(self.addr));
        }
    }

    /// Acknowledges from now on; each id is first said to be pending.
    pub fn acknowledge(&self) {
        *self.shared.acks.lock().unwrap() = Some(BTreeMap::new());
    }

    /// While this lives, what [`Mode::Held`] took is not answered.
    pub fn hold(&self) -> impl Drop + '_ {
        self.shared.held.lock().unwrap()
    }

    pub fn taken(&self) -> Vec<Taken> {
        self.shared.taken.lock().unwrap().clone()
    }

    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// The most requests that were at work at one time since this was last asked.
    pub fn most_at_once(&self) -> usize {
        self.shared.most.swap(0, Ordering::SeqCst)
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        *self.shared.stopped.lock().unwrap() = true;
        drop(TcpStream::connect(self.addr));
        if !std::thread::panicking() {
            for record in self.shared.kinds.lock().unwrap().values() {
                assert_eq!(crate::judges::ocsf(record), [""; 0], "{record}");
            }
        }
    }
}

fn serve(first: TcpListener, addr: SocketAddr, shared: &Arc<Shared>) {
    let mut listener = Some(first);
    while !*shared.stopped.lock().unwrap() {
        if matches!(*shared.mode.lock().unwrap(), Mode::Refuse) {
            listener = None;
            shared.requests.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(20));
            continue;
        }
        let open = listener.get_or_insert_with(|| TcpListener::bind(addr).unwrap());
        let Ok((stream, _)) = open.accept() else { continue };
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            // Whoever went away in the middle is somebody else's concern.
            let _ = match &shared.tls {
                None => converse(stream, &shared),
                Some(tls) => tls.accept(stream).map_err(std::io::Error::other).and_then(|tls| converse(tls, &shared)),
            };
        });
    }
}

fn converse(stream: impl Read + Write, shared: &Shared) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let header = |name: &str| {
            let lines = head.lines().filter_map(|line| line.split_once(": "));
            lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).next()
        };
        let length: usize = header("content-length").unwrap().parse().unwrap();
        let mode = shared.mode.lock().unwrap().clone();
        shared.requests.fetch_add(1, Ordering::SeqCst);
        if matches!(mode, Mode::ResetMidBody) {
            stream.read_exact(&mut vec![0; length / 2])?;
            return Ok(());
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        if header("content-encoding").is_some_and(|coding| coding == "gzip") {
            let mut plain = Vec::new();
            GzDecoder::new(&body[..]).read_to_end(&mut plain)?;
            body = plain;
        }
        if head.contains("/services/collector/ack ") {
            answer(stream.get_mut(), 200, "", &asked(shared, &body))?;
            continue;
        }
        let busy = 1 + shared.busy.fetch_add(1, Ordering::SeqCst);
        shared.most.fetch_max(busy, Ordering::SeqCst);
        let goes_on = react(stream.get_mut(), shared, mode, &body);
        shared.busy.fetch_sub(1, Ordering::SeqCst);
        if !goes_on? {
            return Ok(());
        }
    }
}

/// Whether the connection goes on.
fn react(stream: &mut impl Write, shared: &Shared, mode: Mode, body: &[u8]) -> std::io::Result<bool> {
    let findings = findings(body, &shared.kinds);
    let take = || shared.taken.lock().unwrap().extend(findings.iter().cloned());
    match mode {
        Mode::Hang => {
            std::thread::sleep(Duration::from_secs(5));
            return Ok(false);
        }
        Mode::Slow(pause) => std::thread::sleep(pause),
        Mode::Answer(status, headers, text) => {
            answer(stream, status, &headers, text)?;
            return Ok(true);
        }
        Mode::TruncatedAnswer => {
            take();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 27\r\n\r\n{\"text\":\"Suc")?;
            return Ok(false);
        }
        Mode::NoAnswer => {
            take();
            return Ok(false);
        }
        Mode::Poison(id) if findings.iter().any(|finding| finding.id == id) => {
            answer(stream, 400, "", r#"{"text":"Invalid data format","code":6}"#)?;
            return Ok(true);
        }
        Mode::AtMost(most) if findings.len() > most => {
            answer(stream, 413, "", "too large")?;
            return Ok(true);
        }
        Mode::Well | Mode::Refuse | Mode::ResetMidBody | Mode::Poison(_) | Mode::AtMost(_) => {}
        Mode::Held => {
            take();
            drop(shared.held.lock().unwrap());
            answer(stream, 200, "", r#"{"text":"Success","code":0}"#)?;
            return Ok(true);
        }
    }
    take();
    let mut acks = shared.acks.lock().unwrap();
    let said = match acks.as_mut() {
        None => r#"{"text":"Success","code":0}"#.to_owned(),
        Some(acks) => {
            let id = u64::try_from(acks.len()).unwrap();
            acks.insert(id, false);
            format!(r#"{{"text":"Success","code":0,"ackId":{id}}}"#)
        }
    };
    answer(stream, 200, "Set-Cookie: node=1; Path=/\r\n", &said)?;
    Ok(true)
}

/// What has been asked for once is written by the next time.
fn asked(shared: &Shared, body: &[u8]) -> String {
    let question: Value = serde_json::from_slice(body).unwrap();
    let mut acks = shared.acks.lock().unwrap();
    let acks = acks.as_mut().unwrap();
    let mut said = serde_json::Map::new();
    for id in question["acks"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()) {
        let written = acks.insert(id, true).unwrap_or(false);
        said.insert(id.to_string(), written.into());
    }
    serde_json::json!({ "acks": said }).to_string()
}

fn answer(stream: &mut impl Write, status: u16, headers: &str, body: &str) -> std::io::Result<()> {
    let length = body.len();
    write!(stream, "HTTP/1.1 {status} X\r\n{headers}Content-Length: {length}\r\n\r\n{body}")?;
    stream.flush()
}

fn findings(body: &[u8], kinds: &Mutex<BTreeMap<String, Value>>) -> Vec<Taken> {
    let events = serde_json::Deserializer::from_slice(body).into_iter::<Value>().map(Result::unwrap);
    events.map(|mut event| taken(event["event"].take(), kinds)).collect()
}

fn taken(mut record: Value, kinds: &Mutex<BTreeMap<String, Value>>) -> Taken {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let taken = Taken {
        finding: text(&record["finding_info"]["uid"]),
        revision: record["metadata"]["sequence"].as_u64().unwrap(),
        id: text(&record["metadata"]["uid"]),
    };
    // Ids are formed alike: one of each kind is enough to ask about.
    let whole = record.clone();
    record["finding_info"]["uid"].take();
    record["metadata"]["sequence"].take();
    record["metadata"]["uid"].take();
    kinds.lock().unwrap().entry(record.to_string()).or_insert(whole);
    taken
}

/// An authority (`ca.pem`), what it signed for 127.0.0.1 (`server.pem`, `server.key`) and for us (`client.pem`,
/// `client.key`), and a stranger's (`other.pem`).
pub fn certificates(directory: &Path) -> PathBuf {
    let run = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).current_dir(directory).output();
        let output = output.unwrap_or_else(|error| panic!("openssl is needed for the tests of TLS: {error}"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let new = |name: &str, subject: &str, more: &[&str]| {
        let key = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
        let files = ["-subj", subject, "-keyout", &format!("{name}.key"), "-out", &format!("{name}.pem")];
        run(&[&key[..], &files, more].concat());
    };
    let signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "basicConstraints=CA:FALSE"];
    new("ca", "/CN=authority of a test", &[]);
    new("other", "/CN=a stranger", &[]);
    new("server", "/CN=127.0.0.1", &[&signed[..], &["-addext", "subjectAltName=IP:127.0.0.1"]].concat());
    new("client", "/CN=authspike", &[&signed[..], &["-addext", "extendedKeyUsage=clientAuth"]].concat());
    directory.to_owned()
}
