//! `POST /webhooks/clerk` under load, client and server on the same machine: the whole path with its sync to disk, held
//! against the same path with the store replaced by nothing, in turns. Beside the rates stands the processor time of a
//! request, which other load on the machine hardly moves.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark may stop at the first surprise"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use authspike::alias::{self, Aliases};
use authspike::clock::{Clock, Stopwatch};
use authspike::event::{AuthEvent, Timestamp};
use authspike::http;
use authspike::log::embedded::{self, EmbeddedLog};
use authspike::log::kafka;
use authspike::log::{AppendError, Appended, Commit, Log, LogError, Offset, Partition, Polled, Snapshot};
use authspike::metrics::Metrics;
use authspike::normalize::identifier::IdentifierKey;
use authspike::secret::Secret;
use authspike::sources::signature::SigningKey;
use authspike::sources::{Config, Parts, Secrets, router};
use authspike::store::Store;
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// As the binary has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
const SESSION: &str = include_str!("../tests/fixtures/clerk/session.created.json");
const CONNECTIONS: usize = 64;
const REQUESTS: usize = 60_000;
const ROUNDS: usize = 3;

/// Says that everything is durable.
struct Nothing;

#[async_trait]
impl Log for Nothing {
    async fn append(&self, events: Vec<AuthEvent>) -> Result<Vec<Appended>, AppendError> {
        Ok(vec![Appended::Stored; events.len()])
    }

    async fn tick(&self, _: Partition, _: Timestamp) -> Result<(), AppendError> {
        Ok(())
    }

    fn poll(&self, _: Partition, from: Offset, _: Duration) -> Result<Polled, LogError> {
        Ok(Polled { records: Vec::new(), next: from })
    }

    fn commit(&self, _: Partition, _: Commit) -> Result<(), LogError> {
        Ok(())
    }

    fn snapshot(&self, _: Partition) -> Result<Option<Snapshot>, LogError> {
        Ok(None)
    }

    fn head(&self, _: Partition) -> Offset {
        Offset(0)
    }

    fn fault(&self) -> Option<String> {
        None
    }
}

/// Requests as Svix sends them, each its own message, ready to be written.
fn requests(round: usize) -> Vec<Vec<u8>> {
    let key = SigningKey::new(&Secret::new(SECRET)).unwrap();
    let body: serde_json::Value = serde_json::from_str(SESSION).unwrap();
    let body = body.to_string();
    let timestamp = (Clock::system().now().0 / 1000).to_string();
    (0..REQUESTS)
        .map(|number| {
            let id = format!("msg_{round}_{number}");
            let signature = key.sign(&id, &timestamp, body.as_bytes());
            format!(
                "POST /webhooks/clerk HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nsvix-id: {id}\r\n\
                 svix-timestamp: {timestamp}\r\nsvix-signature: {signature}\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
            .into_bytes()
        })
        .collect()
}

/// Latencies in microseconds, up to a minute. Bounds are given: without them everything above 2047 would count as 2047.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).unwrap()
}

async fn drive(address: SocketAddr, requests: Arc<Vec<Vec<u8>>>) -> (f64, Histogram<u64>) {
    let next = Arc::new(AtomicUsize::new(0));
    let watch = Stopwatch::start();
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let (next, requests) = (Arc::clone(&next), Arc::clone(&requests));
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.set_nodelay(true).unwrap();
                let mut latencies = histogram();
                let mut answer = [0; 1024];
                while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let watch = Stopwatch::start();
                    stream.write_all(request).await.unwrap();
                    let mut read = 0;
                    while !answer[..read].windows(4).any(|window| window == b"\r\n\r\n") {
                        read += stream.read(&mut answer[read..]).await.unwrap();
                    }
                    assert!(answer.starts_with(b"HTTP/1.1 204"), "{}", String::from_utf8_lossy(&answer[..read]));
                    latencies.saturating_record(u64::try_from(watch.elapsed().as_micros()).unwrap());
                }
                latencies
            })
        })
        .collect();
    let mut all = histogram();
    for client in clients {
        all.add(client.await.unwrap()).unwrap();
    }
    (REQUESTS as f64 / watch.elapsed().as_secs_f64(), all)
}

/// Processor time of this process's threads so far, in microseconds: the store's writer, and all others. Zero where there
/// is no `/proc`.
#[derive(Clone, Copy, Default)]
struct Processor {
    writer: f64,
    others: f64,
}

impl Processor {
    fn so_far() -> Self {
        let mut used = Self::default();
        for thread in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
            // `pid (name) state …`; user and system time are the fields 14 and 15, in hundredths of a second.
            let Ok(stat) = std::fs::read_to_string(thread.path().join("stat")) else { continue };
            let (name, fields) = stat.rsplit_once(')').unwrap();
            let micros: f64 = fields.split_whitespace().skip(11).take(2).map(|n| n.parse::<f64>().unwrap() * 1e4).sum();
            *(if name.ends_with("store-writer") { &mut used.writer } else { &mut used.others }) += micros;
        }
        used
    }

    fn per_request_since(self, before: Self) -> Self {
        let per_request = |micros: f64| micros / REQUESTS as f64;
        Self { writer: per_request(self.writer - before.writer), others: per_request(self.others - before.others) }
    }
}

/// What a round measured.
struct Measured {
    rate: f64,
    latencies: Histogram<u64>,
    processor: Processor,
}

async fn round(log: Arc<dyn Log>, number: usize) -> Measured {
    let metrics = Metrics::new().unwrap();
    let config = Config::default();
    let limits = config.limits();
    let parts = Parts {
        config,
        secrets: Secrets { clerk_webhook: vec![Secret::new(SECRET)], ..Secrets::default() },
        log,
        metrics: metrics.ingest.clone(),
        clock: Clock::system(),
        identifier_key: IdentifierKey::new(&[1; 32]),
        aliases: Aliases::in_memory(&alias::Config::default(), &metrics.alias),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let serving =
        tokio::spawn(http::serve(listener, router(parts).unwrap(), limits, metrics.ingest.connections, stop.clone()));
    let requests = Arc::new(requests(number));
    let before = Processor::so_far();
    let (rate, latencies) = drive(address, requests).await;
    let processor = Processor::so_far().per_request_since(before);
    stop.cancel();
    serving.await.unwrap();
    Measured { rate, latencies, processor }
}

fn main() {
    // `cargo test --benches` runs it too, to see that it starts.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let store = Store::open(directory.path(), &[embedded::SCHEMA]).unwrap();
    let clock = Clock::system();
    let metrics = Metrics::new().unwrap();
    let stored: Arc<dyn Log> = Arc::new(
        EmbeddedLog::open(store, &embedded::Config::default(), Arc::new(|_, _| Ok(())), &clock, &metrics.log).unwrap(),
    );
    // With AUTHSPIKE_BENCH_BROKERS, a third time on Kafka.
    let kafka =
        std::env::var("AUTHSPIKE_BENCH_BROKERS").ok().map(|brokers| runtime.block_on(on_kafka(brokers, &metrics)));
    println!(
        "{CONNECTIONS} connections, {REQUESTS} requests a round, each of {ROUNDS} rounds: requests/s; p50, p99 in ms;"
    );
    println!("processor time in us a request, client included: the store's writer + all other threads");
    let wanted = |other: &str| std::env::var_os(other).is_none();
    let mut ratios = Vec::new();
    for number in 0..ROUNDS {
        let mut rates = Vec::new();
        if wanted("STORE_ONLY") {
            rates.push(print("nothing", &runtime.block_on(round(Arc::new(Nothing), number))));
        }
        if wanted("NOTHING_ONLY") {
            rates.push(print("store  ", &runtime.block_on(round(Arc::clone(&stored), number))));
        }
        if let Some(kafka) = &kafka {
            let rate = print("kafka  ", &runtime.block_on(round(Arc::clone(kafka), number)));
            if let Some(durable) = rates.last() {
                println!("kafka to store {:.2}", rate / durable);
            }
        }
        if let [nothing, durable] = rates[..] {
            println!("ratio   {:.2}", durable / nothing);
            ratios.push(durable / nothing);
        }
    }
    ratios.sort_by(f64::total_cmp);
    if let Some(median) = ratios.get(ROUNDS / 2) {
        println!("median ratio {median:.2}");
    }
}

async fn on_kafka(brokers: String, metrics: &Metrics) -> Arc<dyn Log> {
    let topic_prefix = format!("bench-{:016x}", getrandom::u64().unwrap());
    let config = kafka::Config { brokers, topic_prefix, partitions: 4, replication: 1, ..kafka::Config::default() };
    let clients = kafka::Clients::new(config, kafka::Secrets::default());
    kafka::topics::create(&clients).await.unwrap();
    let parts = kafka::Parts {
        clients,
        failed: Arc::new(|fault| panic!("{fault}")),
        clock: Clock::system(),
        log: metrics.log.clone(),
        kafka: metrics.kafka.clone(),
    };
    kafka::KafkaLog::open(parts).unwrap()
}

fn print(name: &str, Measured { rate, latencies, processor }: &Measured) -> f64 {
    let millis = |quantile| latencies.value_at_quantile(quantile) as f64 / 1000.0;
    println!(
        "{name} {rate:8.0}/s  p50 {:6.2}  p99 {:6.2}  processor {:5.1} + {:5.1}",
        millis(0.5),
        millis(0.99),
        processor.writer,
        processor.others
    );
    *rate
}
