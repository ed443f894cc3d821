//! The way out under load: how many findings a second go into the outbox for three sinks, durable, and how fast one sink
//! gets them out, beside a bare HTTP client that posts the same requests, ready made, to the same receiver in the same run:
//! one at a time, and as many at a time as the sink.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark may stop at the first surprise"
)]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use authspike::clock::{Clock, Stopwatch};
use authspike::finding::{Finding, revision_id};
use authspike::metrics::Metrics;
use authspike::secret::Secret;
use authspike::sinks::credential::Variables;
use authspike::sinks::dispatch::Dispatch;
use authspike::sinks::http::{Client, Request, Settings, Url};
use authspike::sinks::outbox::{self, Bounds, Outbox, Recipient};
use authspike::sinks::route::Route;
use authspike::sinks::{self, Outlet, Parts};
use authspike::store::Store;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const FINDING: &str = include_str!("../tests/fixtures/findings/stuffing.json");
const FINDINGS: u128 = 20_000;
/// What one round of a detector under attack brings at most.
const TOGETHER: usize = 200;
const ROUNDS: usize = 2;
const SINKS: [&str; 3] = ["siem", "second", "third"];

fn finding(number: u128) -> Finding {
    let finding_id = Uuid::from_u128((number << 64) | (0x5bd1_e995 * (number + 1)));
    Finding {
        finding_id,
        revision_id: revision_id(finding_id, 1),
        revision: 1,
        ..serde_json::from_str(FINDING).unwrap()
    }
}

/// What a receiver does with a request before it answers.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Work {
    /// Nothing, which no real one can.
    Takes,
    /// Unpacks it and reads the JSON, the least that any has to.
    Reads,
    /// As [`Work::Reads`], at the other end of a network.
    ReadsFarAway,
}

/// There and back between two data centres of one continent.
const FAR: std::time::Duration = std::time::Duration::from_millis(20);

/// Answers for the sink in question, and keeps what comes while it is told to.
#[derive(Clone)]
struct Receiver {
    url: Url,
    work: Arc<Mutex<Work>>,
    kept: Arc<Mutex<Option<Vec<Posted>>>>,
}

/// One request as it came, unpacked: path, type, body.
type Posted = (String, String, Vec<u8>);

impl Receiver {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let receiver = Self { url, work: Arc::new(Mutex::new(Work::Takes)), kept: Arc::default() };
        let serving = receiver.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let serving = serving.clone();
                std::thread::spawn(move || serving.converse(stream));
            }
        });
        receiver
    }

    fn converse(&self, mut stream: TcpStream) {
        stream.set_nodelay(true).unwrap();
        let (mut buffer, mut arrived) = (vec![0; 1 << 16], Vec::new());
        loop {
            let Some(head) = arrived.windows(4).position(|four| four == b"\r\n\r\n") else {
                let Ok(read @ 1..) = stream.read(&mut buffer) else { return };
                arrived.extend_from_slice(&buffer[..read]);
                continue;
            };
            let text = String::from_utf8_lossy(&arrived[..head]).into_owned();
            let header = |name: &str| {
                let mut lines = text.lines().filter_map(|line| line.split_once(": "));
                lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
            };
            let end = head + 4 + header("content-length").unwrap().parse::<usize>().unwrap();
            while arrived.len() < end {
                let Ok(read @ 1..) = stream.read(&mut buffer) else { return };
                arrived.extend_from_slice(&buffer[..read]);
            }
            let body = arrived[head + 4..end].to_vec();
            arrived.drain(..end);
            let path = text.split(' ').nth(1).unwrap().to_owned();
            let kind = header("content-type").unwrap();
            let answer = self.answer(path, kind, body, header("content-encoding").is_some());
            let length = answer.len();
            if write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{answer}").is_err() {
                return;
            }
        }
    }

    fn answer(&self, path: String, kind: String, body: Vec<u8>, packed: bool) -> String {
        let work = *self.work.lock().unwrap();
        let is_bulk = path.contains("_bulk");
        let mut plain = body;
        if packed && (is_bulk || work != Work::Takes || self.kept.lock().unwrap().is_some()) {
            let mut unpacked = Vec::new();
            flate2::read::GzDecoder::new(&plain[..]).read_to_end(&mut unpacked).unwrap();
            plain = unpacked;
        }
        if work != Work::Takes {
            let read = serde_json::Deserializer::from_slice(&plain).into_iter::<serde_json::Value>();
            assert!(read.map(Result::unwrap).count() > 0);
        }
        if work == Work::ReadsFarAway {
            std::thread::sleep(FAR);
        }
        let lines = plain.split(|byte| *byte == b'\n').count() - 1;
        if let Some(kept) = self.kept.lock().unwrap().as_mut() {
            kept.push((path, kind, plain));
        }
        if is_bulk {
            let items = vec![r#"{"create":{"status":201}}"#; lines / 2].join(",");
            return format!(r#"{{"items":[{items}]}}"#);
        }
        r#"{"text":"Success","code":0}"#.to_owned()
    }
}

async fn put(store: &Store, findings: &[Finding]) -> f64 {
    let recipients: Arc<[Recipient]> =
        SINKS.iter().map(|sink| Recipient { sink: (*sink).into(), route: Route::ALL }).collect();
    let now = Clock::system().now();
    let watch = Stopwatch::start();
    for together in findings.chunks(TOGETHER) {
        let (recipients, together) = (Arc::clone(&recipients), together.to_vec());
        let put =
            move |tx: &rusqlite::Transaction<'_>| outbox::enqueue(tx, &recipients, &together, now, &Bounds::default());
        assert_eq!(store.write(put).await.unwrap(), TOGETHER);
    }
    findings.len() as f64 / watch.elapsed().as_secs_f64()
}

const SECTIONS: [(&str, &str); 3] =
    [("splunk_hec", "token_env = \"T\""), ("elastic", "api_key_env = \"T\""), ("webhook", "secret_env = \"W\"")];

fn outlet(kind: &str, keys: &str, url: &Url, clock: &Clock) -> Outlet {
    let text = format!(
        "[sinks.stdout]\nenabled = false\n[sinks.jsonl]\nenabled = false\n[[sinks.{kind}]]\nname = \"siem\"\n\
         url = \"http://{}\"\n{keys}\n",
        url.authority()
    );
    let config = authspike::config::parse("bench", &text).unwrap().sinks;
    let signing = Secret::new("whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=");
    let variables = Variables::from([("T".to_owned(), Secret::new("token")), ("W".to_owned(), signing)]);
    let parts = Parts { data_dir: std::path::Path::new("unused"), variables: &variables, clock: clock.clone() };
    sinks::build_one(&config, &parts, "siem").unwrap().unwrap()
}

/// Findings a second out of the outbox.
async fn deliver(store: &Store, outlet: Outlet, count: usize) -> f64 {
    let (clock, metrics) = (Clock::system(), Metrics::new().unwrap());
    let shutdown = CancellationToken::new();
    let (_wake, woken) = watch::channel(());
    let outbox = Outbox::new(store.clone());
    let pseudonym = Arc::new(|_: &_, _: &_| [0; 16]);
    let dispatch = Dispatch { outlet, outbox: outbox.clone(), metrics: metrics.outbox, clock, pseudonym };
    let watch = Stopwatch::start();
    let task = tokio::spawn(dispatch.run(woken, shutdown.clone()));
    while outbox.figures("siem").await.unwrap().pending > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let took = watch.elapsed().as_secs_f64();
    shutdown.cancel();
    task.await.unwrap();
    count as f64 / took
}

/// The same requests, ready made but for being packed, so many at a time.
async fn bare(url: &Url, requests: &[Posted], together: usize, gzip: bool, count: usize) -> f64 {
    let client = Client::new(&Settings::default(), Clock::system()).unwrap();
    let (requests, next) = (Arc::new(requests.to_vec()), Arc::new(AtomicUsize::new(0)));
    let watch = Stopwatch::start();
    let clients: Vec<_> = (0..together)
        .map(|_| {
            let (client, requests, next, url) = (client.clone(), Arc::clone(&requests), Arc::clone(&next), url.clone());
            tokio::spawn(async move {
                while let Some((path, _, body)) = requests.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let target = url.join(path).unwrap();
                    let request = Request::post(&target, "application/json", body.clone());
                    let answer = client.post(if gzip { request.gzip() } else { request }).await.unwrap();
                    assert_eq!(answer.status(), 200);
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    count as f64 / watch.elapsed().as_secs_f64()
}

/// One sink, one receiver: a row of the table.
async fn row(kind: &str, keys: &str, work: Work, findings: &[Finding]) {
    let (receiver, clock) = (Receiver::start(), Clock::system());
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), &[outbox::SCHEMA]).unwrap();
    let (mut entered, mut out, mut one, mut four) = (0.0, 0.0, 0.0, 0.0);
    // The first round only shows what is sent.
    let mut requests = Vec::new();
    for round in 0..=ROUNDS {
        *receiver.work.lock().unwrap() = if round == 0 { Work::Takes } else { work };
        *receiver.kept.lock().unwrap() = (round == 0).then(Vec::new);
        let rate = put(&store, findings).await;
        let outlet = outlet(kind, keys, &receiver.url, &clock);
        let delivered = deliver(&store, outlet, findings.len()).await;
        if let Some(kept) = receiver.kept.lock().unwrap().take() {
            requests = kept;
        } else {
            let gzip = kind != "webhook";
            one += bare(&receiver.url, &requests, 1, gzip, findings.len()).await;
            four += bare(&receiver.url, &requests, 4, gzip, findings.len()).await;
            (entered, out) = (entered + rate, out + delivered);
        }
        store.write(|tx| tx.execute_batch("DELETE FROM outbox_delivery; DELETE FROM outbox_revision")).await.unwrap();
    }
    let mean = |sum: f64| sum / ROUNDS as f64;
    println!(
        "{kind:>10} {:>13} {:>9} {:>9.0} {:>9.0} {:>9.0} {:>6.2} {:>9.0} {:>6.2}",
        format!("{work:?}"),
        requests.len(),
        mean(entered),
        mean(out),
        mean(one),
        out / one,
        mean(four),
        out / four
    );
    store.close();
}

#[tokio::main]
async fn main() {
    let findings: Vec<Finding> = (0..FINDINGS).map(finding).collect();
    println!(
        "findings of {} bytes, in the outbox for {} sinks, out to one; findings a second",
        FINDING.len(),
        SINKS.len()
    );
    println!(
        "{:>10} {:>13} {:>9} {:>9} {:>9} {:>9} {:>6} {:>9} {:>6}",
        "sink", "receiver", "requests", "in", "out", "one bare", "ratio", "four bare", "ratio"
    );
    // `cargo bench --bench outbox -- 1` shows what the batches that are on their way beside the first bring, and
    // `cargo bench --bench outbox -- webhook` one sink alone.
    let given = std::env::args().find_map(|argument| argument.parse::<u8>().ok());
    let only = std::env::args().find(|argument| SECTIONS.iter().any(|(kind, _)| kind == argument));
    let more = given.map(|number| format!("\nmax_in_flight = {number}")).unwrap_or_default();
    for (kind, keys) in SECTIONS.into_iter().filter(|(kind, _)| only.as_ref().is_none_or(|only| only == kind)) {
        let keys = &format!("{keys}{more}");
        for work in [Work::Takes, Work::Reads, Work::ReadsFarAway] {
            // A webhook's requests hold one finding each: they take as long as the whole batches of others.
            let count = match (kind, work) {
                ("webhook", Work::ReadsFarAway) => 1000,
                ("webhook", _) => 5000,
                _ => findings.len(),
            };
            row(kind, keys, work, &findings[..count]).await;
        }
    }
}
