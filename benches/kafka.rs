//! How fast a detector reads from Kafka, beside a consumer that only counts, and how long a hand-over takes.
//!
//! Needs a running broker: `AUTHSPIKE_BENCH_BROKERS=127.0.0.1:9092 cargo bench --bench kafka`. It makes topics of its own
//! with a random prefix and leaves them behind. Broker, reader and detector share the machine, so compare within one run.
#![allow(missing_docs, reason = "a program of its own")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a bench prints figures and may stop"
)]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use authspike::clock::{Clock, Stopwatch};
use authspike::detect;
use authspike::event::{Account, AuthEvent, Outcome, Source, Timestamp};
use authspike::log::kafka::{Assignee, Clients, Config, KafkaLog, Parts, Secrets, topics};
use authspike::log::{Log, Partition};
use authspike::metrics::Metrics;
use authspike::pipeline::{self, ShadowBoard, SignalBoard, Tasks};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};

/// Pairs of an address and an account: a million entities.
const PAIRS: u32 = 500_000;
/// Times each pair comes: the first two make it an entity.
const ROUNDS: u32 = 4;
const TENANTS: u32 = 16;
const PARTITIONS: u32 = 4;
/// Events of one append.
const BATCH: u64 = 200;
const PATIENCE: Duration = Duration::from_mins(10);

/// Sign-ins of a busy day, one in ten of which fails.
fn event(number: u32) -> AuthEvent {
    let (pair, at) = (number % PAIRS, Timestamp(1_767_600_000_000 + i64::from(number) * 40));
    AuthEvent {
        id: number.to_string().into(),
        occurred_at: at,
        received_at: at,
        tenant: format!("ins_bench_{}", pair % TENANTS).as_str().into(),
        source: Source::AttemptReport,
        outcome: if number.is_multiple_of(10) { Outcome::Failure } else { Outcome::Success },
        reason: None,
        ip: Some(IpAddr::V4(Ipv4Addr::from_bits(0x0b00_0000 + pair * 7))),
        account: Some(Account::User(format!("user_{pair}").into())),
        identifier: None,
        user_agent: None,
        session: None,
    }
}

struct Detector {
    tasks: Tasks,
    restored: Arc<Mutex<Vec<Duration>>>,
}

impl Assignee for Detector {
    fn assigned(&mut self, partition: Partition) {
        let restored = Arc::clone(&self.restored);
        self.tasks.start(partition, move |took| restored.lock().unwrap().push(took)).unwrap();
    }

    fn revoked(&mut self, partitions: &[Partition]) {
        assert!(self.tasks.stop(partitions, PATIENCE), "a task did not stop");
    }
}

/// A detector process, without its listeners.
struct Process {
    log: Arc<KafkaLog>,
    metrics: Metrics,
    restored: Arc<Mutex<Vec<Duration>>>,
}

impl Process {
    fn open(config: &Config) -> Self {
        let (metrics, clock) = (Metrics::new().unwrap(), Clock::system());
        let log = KafkaLog::open(Parts {
            clients: Clients::new(config.clone(), Secrets::default()),
            failed: Arc::new(|fault| panic!("{fault}")),
            clock,
            log: metrics.log.clone(),
            kafka: metrics.kafka.clone(),
        });
        Self { log: log.unwrap(), metrics, restored: Arc::default() }
    }

    fn detect(&self) {
        let parts = pipeline::Parts {
            log: Arc::clone(&self.log) as Arc<dyn Log>,
            config: detect::Config::default(),
            clock: Clock::system(),
            detect_metrics: self.metrics.detect.clone(),
            log_metrics: self.metrics.log.clone(),
            board: Arc::default(),
            shadow: ShadowBoard::default(),
            signals: SignalBoard::default(),
            wake: Arc::new(|| ()),
        };
        let (tasks, _ended) = Tasks::new(parts, tokio::runtime::Handle::current());
        self.log.detect(Box::new(Detector { tasks, restored: Arc::clone(&self.restored) })).unwrap();
    }

    fn seen(&self) -> u64 {
        self.metrics.detect.events.get()
    }

    /// Waits until `count` events were seen; answers with seconds since `begun`.
    fn wait(&self, count: u64, begun: &Stopwatch) -> f64 {
        while self.seen() < count {
            assert!(begun.elapsed() < PATIENCE, "{} of {count} events", self.seen());
            std::thread::sleep(Duration::from_millis(5));
        }
        begun.elapsed().as_secs_f64()
    }
}

/// Reads the whole topic and only counts.
fn count(config: &Config, all: u64) -> f64 {
    let topic = format!("{}.events.v1", config.topic_prefix);
    let consumer: BaseConsumer = Clients::new(config.clone(), Secrets::default()).reader("count").create().unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..i32::try_from(PARTITIONS).unwrap() {
        list.add_partition_offset(&topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    let (begun, mut seen, mut bytes) = (Stopwatch::start(), 0, 0);
    while seen < all {
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            bytes += message.unwrap().payload_len();
            seen += 1;
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!("count only   {:9.0} events/s  {:.0} bytes each", seen as f64 / seconds, bytes as f64 / seen as f64);
    seconds
}

/// Appends every event, a hundred batches under way at a time; answers with how many.
async fn fill(log: &Arc<KafkaLog>) -> u64 {
    let (begun, next) = (Stopwatch::start(), Arc::new(AtomicU64::new(0)));
    let all = u64::from(PAIRS * ROUNDS);
    let senders: Vec<_> = (0..100)
        .map(|_| {
            let (log, next) = (Arc::clone(log), Arc::clone(&next));
            tokio::spawn(async move {
                loop {
                    let first = next.fetch_add(BATCH, Ordering::Relaxed);
                    if first >= all {
                        return;
                    }
                    let batch: Vec<_> = (first..first + BATCH).map(|n| event(u32::try_from(n).unwrap())).collect();
                    log.append(batch).await.unwrap();
                }
            })
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
    println!("append       {:9.0} events/s, acknowledged", all as f64 / begun.elapsed().as_secs_f64());
    all
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    // `cargo test --benches` runs it too, to see that it starts.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let Ok(brokers) = std::env::var("AUTHSPIKE_BENCH_BROKERS") else {
        println!("set AUTHSPIKE_BENCH_BROKERS to a broker on this machine");
        return;
    };
    let prefix = format!("bench-{:016x}", getrandom::u64().unwrap());
    let config = Config {
        brokers,
        topic_prefix: prefix.clone(),
        group: prefix,
        partitions: PARTITIONS,
        replication: 1,
        ..Config::default()
    };
    topics::create(&Clients::new(config.clone(), Secrets::default())).await.unwrap();
    let first = Process::open(&config);
    let all = fill(&first.log).await;

    let counting = config.clone();
    let counted = tokio::task::spawn_blocking(move || count(&counting, all)).await.unwrap();
    let begun = Stopwatch::start();
    first.detect();
    let (first, joined, done) = tokio::task::spawn_blocking(move || {
        let joined = first.wait(1, &begun);
        let done = first.wait(all, &begun);
        (first, joined, done)
    })
    .await
    .unwrap();
    println!("detect       {:9.0} events/s  (joined after {joined:.1} s)", all as f64 / (done - joined));
    println!("ratio        {:9.2}", counted / (done - joined));

    // From the moment the first lets go until the second has judged something.
    let second = Process::open(&config);
    let begun = Stopwatch::start();
    tokio::task::spawn_blocking(move || first.log.close()).await.unwrap();
    let let_go = begun.elapsed().as_secs_f64();
    second.detect();
    let more: Vec<_> =
        (0..TENANTS).map(|tenant| AuthEvent { id: format!("more {tenant}").into(), ..event(tenant) }).collect();
    second.log.append(more).await.unwrap();
    let (second, taken) = tokio::task::spawn_blocking(move || {
        let taken = second.wait(1, &begun);
        (second, taken)
    })
    .await
    .unwrap();
    let restored = second.restored.lock().unwrap().iter().max().copied().unwrap_or_default();
    println!(
        "hand-over    {taken:9.2} s   (of which: last snapshots {let_go:.2} s, restoring {:.2} s) with a million entities",
        restored.as_secs_f64()
    );
    tokio::task::spawn_blocking(move || second.log.close()).await.unwrap();
}
