//! Load that goes on whatever happens to the receivers: attempts posted in order and at an even pace, each batch again
//! and again until a receiver acknowledges it, as a reporter with a queue of its own does.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use authspike::clock::Stopwatch;
use serde_json::Value;

use crate::support::{Instance, TOKEN};

/// Attempts in one request.
const BATCH: usize = 20;
/// A receiver that does not answer by then is given up and another one asked.
const PATIENCE: Duration = Duration::from_secs(15);

/// Where attempts are posted: one address after the other.
#[derive(Clone, Default)]
pub struct Receivers(Arc<Mutex<Vec<SocketAddr>>>);

impl Receivers {
    pub fn of(instances: &[&Instance]) -> Self {
        Self(Arc::new(Mutex::new(instances.iter().map(|instance| instance.ingest).collect())))
    }

    pub fn replace(&self, old: SocketAddr, new: SocketAddr) {
        let mut all = self.lock();
        let place = all.iter().position(|addr| *addr == old).unwrap();
        all[place] = new;
    }

    fn lock(&self) -> MutexGuard<'_, Vec<SocketAddr>> {
        self.0.lock().unwrap()
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Posted {
    /// The ids of what was answered with 200.
    pub acknowledged: BTreeSet<String>,
    /// Requests that had to be sent again.
    pub again: usize,
}

/// A thread that posts.
pub struct Load(JoinHandle<Posted>);

impl Load {
    /// Posts `attempts` within about `span`.
    pub fn start(attempts: Vec<String>, receivers: &Receivers, span: Duration) -> Self {
        let receivers = receivers.clone();
        Self(std::thread::spawn(move || post_evenly(&attempts, &receivers, span)))
    }

    /// Whether all was posted.
    pub fn is_over(&self) -> bool {
        self.0.is_finished()
    }

    /// Waits until all was posted.
    pub fn finish(self) -> Posted {
        self.0.join().unwrap()
    }
}

fn post_evenly(attempts: &[String], receivers: &Receivers, span: Duration) -> Posted {
    let client = reqwest::blocking::Client::builder().timeout(PATIENCE).build().unwrap();
    let (mut posted, mut turn) = (Posted::default(), 0);
    let begun = Stopwatch::start();
    let batches: Vec<&[String]> = attempts.chunks(BATCH).collect();
    let step = span / u32::try_from(batches.len()).unwrap();
    for (number, batch) in (0..).zip(&batches) {
        std::thread::sleep((step * number).saturating_sub(begun.elapsed()));
        let body = batch.join("\n");
        let waiting = Stopwatch::start();
        loop {
            let addr = {
                let all = receivers.lock();
                all[turn % all.len()]
            };
            turn += 1;
            let request = client
                .post(format!("http://{addr}/v1/attempts"))
                .bearer_auth(TOKEN)
                .header("content-type", "application/x-ndjson")
                .body(body.clone());
            if request.send().is_ok_and(|answer| answer.status() == 200) {
                break;
            }
            posted.again += 1;
            assert!(waiting.elapsed() < 4 * PATIENCE, "no receiver takes a batch");
            std::thread::sleep(Duration::from_millis(50));
        }
        posted.acknowledged.extend(batch.iter().map(|line| {
            let attempt: Value = serde_json::from_str(line).unwrap();
            attempt["id"].as_str().unwrap().to_owned()
        }));
    }
    posted
}

/// Numbers that look random and come again from the same seed.
pub struct Chance(u64);

impl Chance {
    /// From `AUTHSPIKE_TEST_SEED` if it is set, to repeat a failure; printed, so that it can be.
    pub fn new() -> Self {
        let seed = std::env::var("AUTHSPIKE_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(super::cluster::random);
        println!("AUTHSPIKE_TEST_SEED={seed}");
        Self(seed)
    }

    /// Below `bound` (`SplitMix64`).
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    /// Sleeps for a while that is at least `from` and less than `to`, in milliseconds.
    pub fn pause(&mut self, from: u64, to: u64) {
        std::thread::sleep(Duration::from_millis(from + self.below(to - from)));
    }
}
