//! The way out under load: how many findings a second go into the outbox for three sinks, durable, and how fast one sink
//! gets them out, beside a bare HTTP client that posts the same requests, ready made, to the same receiver in the same run.

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
use std::sync::Arc;

use authspike::clock::{Clock, Stopwatch};
use authspike::finding::{Finding, revision_id};
use authspike::metrics::Metrics;
use authspike::secret::Secret;
use authspike::sinks::credential::Variables;
use authspike::sinks::dispatch::Dispatch;
use authspike::sinks::format::Body;
use authspike::sinks::http::batch::runs;
use authspike::sinks::http::{Client, Request, Settings, Url};
use authspike::sinks::outbox::{self, Bounds, Outbox, Recipient};
use authspike::sinks::route::Route;
use authspike::sinks::{self, Outlet, Parts};
use authspike::store::Store;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const FINDING: &str = include_str!("../tests/fixtures/findings/stuffing.json");
const FINDINGS: u128 = 30_000;
/// What one round of a detector under attack brings at most.
const TOGETHER: usize = 200;
const ROUNDS: usize = 3;
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

/// Takes whatever is posted.
fn receiver() -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("http://{}/services/collector/event", listener.local_addr().unwrap())).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || take(stream));
        }
    });
    url
}

fn take(mut stream: TcpStream) {
    let (mut buffer, mut held) = (vec![0; 1 << 16], Vec::new());
    loop {
        if let Some(head) = held.windows(4).position(|four| four == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&held[..head]).to_lowercase();
            let length = text.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
            let end = head + 4 + length.parse::<usize>().unwrap();
            while held.len() < end {
                let Ok(read @ 1..) = stream.read(&mut buffer) else { return };
                held.extend_from_slice(&buffer[..read]);
            }
            held.drain(..end);
            if stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 27\r\n\r\n{\"text\":\"Success\",\"code\":0}")
                .is_err()
            {
                return;
            }
            continue;
        }
        let Ok(read @ 1..) = stream.read(&mut buffer) else { return };
        held.extend_from_slice(&buffer[..read]);
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

fn outlet(url: &Url, clock: &Clock, gzip: bool) -> Outlet {
    let text = format!(
        "[sinks.stdout]\nenabled = false\n[sinks.jsonl]\nenabled = false\n[[sinks.splunk_hec]]\nname = \"siem\"\n\
         url = \"http://{}\"\ntoken_env = \"T\"\ngzip = {gzip}\n",
        url.authority()
    );
    let config = authspike::config::parse("bench", &text).unwrap().sinks;
    let variables = Variables::from([("T".to_owned(), Secret::new("token"))]);
    let parts = Parts { data_dir: std::path::Path::new("unused"), variables: &variables, clock: clock.clone() };
    sinks::build_one(&config, &parts, "siem").unwrap().unwrap()
}

async fn deliver(store: &Store, url: &Url, gzip: bool) -> f64 {
    let (clock, metrics) = (Clock::system(), Metrics::new().unwrap());
    let shutdown = CancellationToken::new();
    let (_wake, woken) = watch::channel(());
    let outlet = outlet(url, &clock, gzip);
    let outbox = Outbox::new(store.clone());
    let dispatch = Dispatch {
        outlet,
        outbox: outbox.clone(),
        metrics: metrics.outbox,
        clock,
        pseudonym: Arc::new(|_, _| [0; 16]),
    };
    let watch = Stopwatch::start();
    let task = tokio::spawn(dispatch.run(woken, shutdown.clone()));
    while outbox.figures("siem").await.unwrap().pending > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let took = watch.elapsed().as_secs_f64();
    shutdown.cancel();
    task.await.unwrap();
    FINDINGS as f64 / took
}

/// The same requests, ready made.
async fn bare(url: &Url, findings: &[Finding], gzip: bool) -> f64 {
    let client = Client::new(&Settings::default(), Clock::system()).unwrap();
    let event = |finding: &Finding| {
        [
            b"{\"time\":1716883500.0,\"source\":\"authspike\",\"event\":".to_vec(),
            Body::Ocsf.line(finding).unwrap(),
            b"}".to_vec(),
        ]
        .concat()
    };
    let mut requests = Vec::new();
    for together in findings.chunks(sinks::standing::MAX_BATCH) {
        let events: Vec<Vec<u8>> = together.iter().map(event).collect();
        requests.extend(runs(events.iter().map(Vec::len), 900_000).into_iter().map(|run| events[run].join(&b'\n')));
    }
    let watch = Stopwatch::start();
    for body in requests {
        let request = Request::post(url, "application/json", body);
        let answer = client.post(if gzip { request.gzip() } else { request }).await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    findings.len() as f64 / watch.elapsed().as_secs_f64()
}

#[tokio::main]
async fn main() {
    let findings: Vec<Finding> = (0..FINDINGS).map(finding).collect();
    let url = receiver();
    println!("{FINDINGS} findings of {} bytes, in the outbox for {} sinks, out to one", FINDING.len(), SINKS.len());
    println!("{:>8} {:>16} {:>16} {:>16} {:>8}", "gzip", "in (findings/s)", "out", "bare client", "ratio");
    for round in 0..ROUNDS * 2 {
        let gzip = round % 2 == 0;
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), &[outbox::SCHEMA]).unwrap();
        let put = put(&store, &findings).await;
        let (out, bare) = (deliver(&store, &url, gzip).await, bare(&url, &findings, gzip).await);
        println!("{gzip:>8} {put:>16.0} {out:>16.0} {bare:>16.0} {:>8.2}", out / bare);
        store.close();
    }
}
