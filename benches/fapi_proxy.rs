//! The Frontend API proxy beside a direct connection and beside nginx doing the same forwarding, to one stand-in for Clerk
//! (another nginx), in turns on the same machine. Latency: one connection, one request after the other. Throughput: as many
//! connections as there are browsers at once, and the processor time of a request in it (of the forwarding process alone). nginx writes no access log and reads nothing; authspike records each sign-in.
//!
//! `cargo bench --bench fapi_proxy`; `-- --check` fails if the proxy adds more than 0.5 ms at the median or 3 ms at the
//! 99th percentile to a direct connection, or forwards less than 70 % of what nginx does.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark may stop at the first surprise"
)]

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use authspike::clock::Stopwatch;
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const ROUNDS: usize = 7;
/// Of one connection, in each round.
const ALONE: usize = 1500;
const CONNECTIONS: usize = 32;
/// Of all connections together, in each round.
const TOGETHER: usize = 16_000;

const SIGN_IN: &str = "identifier=alice%40example.com&password=correct+horse+battery+staple&strategy=password";
/// With an answer of the size that Clerk's have.
const ANSWER_BYTES: usize = 4000;

/// A process that ends with this value, children and all.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn nginx(directory: &Path, name: &str, http: &str) -> Running {
    let file = directory.join(format!("{name}.conf"));
    let pid = directory.join(format!("{name}.pid"));
    let text = format!(
        "worker_processes 2; pid {}; error_log stderr crit; daemon off; events {{ worker_connections 1024; }}\n\
         http {{ access_log off; keepalive_requests 10000000; {http} }}",
        pid.display()
    );
    std::fs::write(&file, text).unwrap();
    let child = Command::new("nginx").arg("-p").arg(directory).arg("-c").arg(&file).spawn();
    Running(child.unwrap_or_else(|fault| panic!("nginx (Debian: nginx-light) is needed: {fault}")))
}

/// The stand-in for Clerk.
fn stand_in(directory: &Path, port: u16) -> Running {
    let error = r#"{"errors":[{"code":"form_password_incorrect","message":"m","long_message":"l"}],"pad":""#;
    let answer = format!("{error}{}\"}}", "x".repeat(ANSWER_BYTES - error.len() - 2));
    let server = format!(
        "server {{ listen 127.0.0.1:{port} backlog=1024; default_type application/json; \
         location = /v1/client/sign_ins {{ return 422 '{answer}'; }} location / {{ return 200 '{answer}'; }} }}"
    );
    nginx(directory, "clerk", &server)
}

fn proxying(directory: &Path, port: u16, upstream: u16) -> Running {
    let server = format!(
        "upstream clerk {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 10000000; }}\n\
         server {{ listen 127.0.0.1:{port} backlog=1024; location /__clerk/ {{ proxy_pass http://clerk/; \
         proxy_http_version 1.1; proxy_set_header Connection ''; \
         proxy_set_header Clerk-Proxy-Url https://app.example/__clerk; proxy_set_header Clerk-Secret-Key sk_test; \
         proxy_set_header X-Forwarded-For $remote_addr; }} }}"
    );
    nginx(directory, "proxy", &server)
}

fn authspike(directory: &Path, upstream: u16) -> (Running, SocketAddr) {
    let file = directory.join("authspike.toml");
    let text = format!(
        "[ingest.fapi_proxy]\nenabled = true\nlisten = \"127.0.0.1:0\"\nproxy_url = \"https://app.example/__clerk\"\n\
         upstream = \"http://127.0.0.1:{upstream}\"\n[sinks.stdout]\nenabled = false\n[logging]\nformat = \"json\"\n"
    );
    std::fs::write(&file, text).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_authspike"))
        .args(["run", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--config"])
        .arg(&file)
        .arg("--data-dir")
        .arg(directory.join("data"))
        .env_clear()
        .env("CLERK_SECRET_KEY", "sk_test")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let running = Running(child);
    loop {
        let mut line = String::new();
        assert!(log.read_line(&mut line).unwrap() > 0, "it ended before it listened");
        let fields: serde_json::Value = serde_json::from_str(&line).unwrap();
        if let Some(address) = fields["fapi_proxy"].as_str() {
            std::thread::spawn(move || log.lines().for_each(drop));
            return (running, address.parse().unwrap());
        }
    }
}

/// One connection that asks the same over and over.
struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(to: SocketAddr, request: &str) -> Self {
        let stream = TcpStream::connect(to).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, request: request.as_bytes().to_vec(), buffer: Vec::with_capacity(16 << 10) }
    }

    async fn ask(&mut self) {
        self.stream.write_all(&self.request).await.unwrap();
        self.buffer.clear();
        loop {
            assert!(self.stream.read_buf(&mut self.buffer).await.unwrap() > 0, "the connection was closed");
            let Some(head) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            let text = std::str::from_utf8(&self.buffer[..head]).unwrap().to_ascii_lowercase();
            assert!(text.starts_with("http/1.1 422") || text.starts_with("http/1.1 200"), "{text}");
            let length = text.split("content-length: ").nth(1).unwrap().lines().next().unwrap();
            if self.buffer.len() >= head + 4 + length.parse::<usize>().unwrap() {
                return;
            }
        }
    }
}

async fn alone(to: SocketAddr, request: &str, times: &mut Histogram<u64>) {
    let mut connection = Connection::open(to, request).await;
    for _ in 0..50 {
        connection.ask().await;
    }
    for _ in 0..ALONE {
        let watch = Stopwatch::start();
        connection.ask().await;
        times.record(u64::try_from(watch.elapsed().as_nanos()).unwrap()).unwrap();
    }
}

/// Milliseconds of processor that a process and its children have used so far. Says what a request costs even where other
/// work keeps the machine from showing it in the rate.
fn cpu_millis(process: &Running) -> u64 {
    const TICK_MILLIS: u64 = 10;
    let pid = u64::from(process.0.id());
    let stats = std::fs::read_dir("/proc").unwrap().flatten();
    let stats = stats.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    stats
        .filter_map(|stat| {
            // After the name, which may hold anything: state, parent, …, user and system time as fields 14 and 15.
            let id: u64 = stat.split(' ').next()?.parse().ok()?;
            let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
            let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
            (id == pid || field(4)? == pid).then_some(field(14)? + field(15)?)
        })
        .sum::<u64>()
        * TICK_MILLIS
}

/// Requests a second.
async fn together(to: SocketAddr, request: &str) -> f64 {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(Connection::open(to, request).await);
    }
    let watch = Stopwatch::start();
    let mut running = tokio::task::JoinSet::new();
    for mut connection in connections {
        running.spawn(async move {
            for _ in 0..TOGETHER / CONNECTIONS {
                connection.ask().await;
            }
        });
    }
    running.join_all().await;
    TOGETHER as f64 / watch.elapsed().as_secs_f64()
}

fn median(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

struct Way<'a> {
    name: &'static str,
    process: &'a Running,
    cpu_millis: u64,
    to: SocketAddr,
    prefix: &'static str,
    times: Histogram<u64>,
    rates: Vec<f64>,
}

fn way<'a>(name: &'static str, process: &'a Running, port: u16, prefix: &'static str) -> Way<'a> {
    Way {
        name,
        process,
        cpu_millis: 0,
        to: SocketAddr::from(([127, 0, 0, 1], port)),
        prefix,
        times: Histogram::new(3).unwrap(),
        rates: Vec::new(),
    }
}

/// Measures one kind of request over all ways; the faults found.
fn compare(
    runtime: &tokio::runtime::Runtime,
    kind: &str,
    ways: &mut [Way<'_>],
    request: impl Fn(&str) -> String,
) -> Vec<String> {
    for _ in 0..ROUNDS {
        for way in &mut *ways {
            let request = request(way.prefix);
            runtime.block_on(alone(way.to, &request, &mut way.times));
            let before = cpu_millis(way.process);
            way.rates.push(runtime.block_on(together(way.to, &request)));
            way.cpu_millis += cpu_millis(way.process) - before;
        }
    }
    println!(
        "\n{kind}\n{:<10} {:>9} {:>9} {:>9} {:>11} {:>8}",
        "", "p50 µs", "p99 µs", "max µs", "requests/s", "CPU µs"
    );
    let mut rows = Vec::new();
    for way in &mut *ways {
        let micros = |nanos: u64| nanos as f64 / 1000.0;
        let (p50, p99) = (micros(way.times.value_at_quantile(0.5)), micros(way.times.value_at_quantile(0.99)));
        let rate = median(&mut way.rates);
        let cpu = way.cpu_millis as f64 * 1000.0 / (TOGETHER * ROUNDS) as f64;
        println!("{:<10} {p50:>9.0} {p99:>9.0} {:>9.0} {rate:>11.0} {cpu:>8.1}", way.name, micros(way.times.max()));
        rows.push((p50, p99, rate));
    }
    let [direct, nginx, ours] = rows[..] else { panic!("three ways") };
    let (added, added_p99, share) = (ours.0 - direct.0, ours.1 - direct.1, ours.2 / nginx.2);
    println!(
        "added to direct: {added:.0} µs at the median, {added_p99:.0} µs at p99; {:.0} % of nginx's rate",
        share * 100.0
    );
    let mut faults = Vec::new();
    if added >= 500.0 || added_p99 >= 3000.0 {
        faults.push(format!("{kind}: adds {added:.0} µs, {added_p99:.0} µs at p99"));
    }
    if share < 0.7 {
        faults.push(format!("{kind}: {:.0} % of nginx's rate", share * 100.0));
    }
    faults
}

fn main() {
    let check = std::env::args().any(|argument| argument == "--check");
    let directory = tempfile::tempdir().unwrap();
    let (to_clerk, to_nginx) = (free_port(), free_port());
    let clerk = stand_in(directory.path(), to_clerk);
    let nginx = proxying(directory.path(), to_nginx, to_clerk);
    let (authspike, to_authspike) = authspike(directory.path(), to_clerk);
    std::thread::sleep(Duration::from_secs(1));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ways = || {
        [
            way("direct", &clerk, to_clerk, ""),
            way("nginx", &nginx, to_nginx, "/__clerk"),
            way("authspike", &authspike, to_authspike.port(), "/__clerk"),
        ]
    };
    println!(
        "{CONNECTIONS} connections, {TOGETHER} requests, {ROUNDS} rounds in turns; answers of {ANSWER_BYTES} bytes"
    );
    let mut faults = compare(&runtime, "a page's GET, not watched", &mut ways(), |prefix| {
        format!("GET {prefix}/v1/environment?_clerk_js_version=5 HTTP/1.1\r\nhost: app.example\r\n\r\n")
    });
    faults.extend(compare(&runtime, "a failed sign-in, recorded", &mut ways(), |prefix| {
        format!(
            "POST {prefix}/v1/client/sign_ins?_clerk_js_version=5 HTTP/1.1\r\nhost: app.example\r\n\
             content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{SIGN_IN}",
            SIGN_IN.len()
        )
    }));
    assert!(!check || faults.is_empty(), "{}", faults.join("; "));
}
