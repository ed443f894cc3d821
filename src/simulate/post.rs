//! Sends simulated attempts to a running instance, through the same `POST /v1/attempts` as everybody else.
//!
//! Invariant: an attempt is sent until it is answered for: a 503 or a broken connection is waited out and the same lines
//! with the same ids are sent again, so the instance counts each once. At most one batch is under way.
//!
//! Not here: TLS. This is a tool for a machine's own loopback and a test network; an `https` target is refused rather
//! than sent to in the clear.

use std::time::Duration;

use reqwest::{StatusCode, Url};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::Attempt;
use super::render::Renderer;
use crate::clock::{Clock, Stopwatch};
use crate::event::Timestamp;

mod target;

pub use target::{Credential, Target};

/// Attempts in one request where nothing else bounds it: large enough that the disk's sync is shared by many, and a
/// third of a megabyte, far below the body limit of the receiver.
const MAX_BATCH: usize = 1000;
/// How often a paced sender wakes up: a batch covers this span.
const BEAT: Duration = Duration::from_millis(200);
/// Longer than the receiver's own limit for one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// How long one batch is tried before the run is given up: a restart of the receiver fits in.
const GIVE_UP_AFTER: Duration = Duration::from_mins(5);
/// First wait after a broken connection, and the longest; a receiver's `Retry-After` is honoured up to the same.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// How fast attempts are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As fast as they are taken.
    Unbounded,
    /// So many a second, whatever their own times.
    PerSecond(f64),
    /// Each when its own time comes.
    RealTime,
}

/// What became of the attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Durable for the first time.
    pub accepted: u64,
    /// Durable already.
    pub duplicates: u64,
    /// Not understood.
    pub refused: u64,
    /// Requests answered with 2xx.
    pub requests: u64,
    /// Requests that had to be sent again.
    pub retries: u64,
}

/// Why nothing more was sent.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// The target is not one.
    #[error("{0}")]
    Target(String),
    /// The secret is not one.
    #[error("the secret to sign with is not `whsec_` and base64")]
    Secret,
    /// The receiver said no, in a way that trying again does not change.
    #[error("{url} answered {status}: {text}")]
    Refused {
        /// Where the request went.
        url: Url,
        /// What came back.
        status: StatusCode,
        /// The start of the answer.
        text: String,
    },
    /// The receiver did not take a batch for so long that the run was given up.
    #[error("{url} has taken nothing for {} s: {fault}", GIVE_UP_AFTER.as_secs())]
    Unavailable {
        /// Where the request went.
        url: Url,
        /// The last thing that went wrong.
        fault: String,
    },
    /// The receiver answered 2xx and did not say what became of every attempt.
    #[error("{url} answered for {answered} of {sent} attempts")]
    Unanswered {
        /// Where the request went.
        url: Url,
        /// Attempts in the request.
        sent: u64,
        /// Attempts in the answer.
        answered: u64,
    },
    /// The client cannot be built, the answer is not one, or the truth cannot be written.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
}

/// Sends attempts one batch after the other.
#[derive(Debug)]
pub struct Poster {
    target: Target,
    client: reqwest::Client,
    clock: Clock,
    pace: Pace,
    /// Stamp each attempt with the moment it is sent.
    restamp: bool,
    totals: Totals,
}

/// One batch, written down.
#[derive(Debug, Default)]
struct Batch {
    lines: Vec<u8>,
    truth: Vec<u8>,
    attempts: usize,
}

impl Poster {
    /// Prepares to send to `target` at `pace`; `restamp`: each attempt happens when it is sent.
    ///
    /// # Errors
    /// The client cannot be built.
    pub fn new(target: Target, pace: Pace, restamp: bool, clock: Clock) -> Result<Self, PostError> {
        let client = reqwest::Client::builder()
            .timeout(REQUEST_TIMEOUT)
            // What is sent proves who we are: it goes to the named host and no further.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|fault| PostError::Other(fault.into()))?;
        Ok(Self { target, client, clock, pace, restamp, totals: Totals::default() })
    }

    /// What has become of the attempts so far.
    #[must_use]
    pub const fn totals(&self) -> Totals {
        self.totals
    }

    /// Sends `traffic` to its end or until `stop`; `truth` gets the truth about each batch once it was taken.
    ///
    /// # Errors
    /// See [`PostError`].
    pub async fn run(
        &mut self,
        traffic: impl Iterator<Item = Attempt>,
        renderer: &mut Renderer,
        stop: &CancellationToken,
        mut truth: impl FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Result<(), PostError> {
        let mut traffic = traffic.peekable();
        let started = Stopwatch::start();
        let mut sent: u64 = 0;
        let mut batch = Batch::default();
        while traffic.peek().is_some() {
            let due = self.due(started, sent);
            batch.clear();
            while batch.attempts < due.most
                && let Some(mut attempt) = traffic.next_if(|next| next.at <= due.until)
            {
                if self.restamp {
                    attempt.at = self.clock.now();
                }
                batch.push(renderer, &attempt).map_err(|fault| PostError::Other(fault.into()))?;
            }
            if batch.attempts == 0 {
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    () = tokio::time::sleep(BEAT) => continue,
                }
            }
            let attempts = batch.attempts as u64;
            let answer = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                answer = self.send(&batch.lines) => answer?,
            };
            self.count(answer, attempts)?;
            sent += attempts;
            truth(&batch.truth).map_err(|fault| PostError::Other(fault.into()))?;
        }
        Ok(())
    }

    fn due(&self, started: Stopwatch, sent: u64) -> Due {
        match self.pace {
            Pace::Unbounded => Due { most: MAX_BATCH, until: Timestamp(i64::MAX) },
            Pace::RealTime => Due { most: MAX_BATCH, until: self.clock.now() },
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "attempts of one run")]
            Pace::PerSecond(rate) => {
                let by_now = (started.elapsed().as_secs_f64() * rate) as u64;
                let most = usize::try_from(by_now.saturating_sub(sent)).unwrap_or(usize::MAX).min(MAX_BATCH);
                Due { most, until: Timestamp(i64::MAX) }
            }
        }
    }

    fn count(&mut self, answer: Answer, sent: u64) -> Result<(), PostError> {
        let Answer { accepted, duplicates, refused } = answer;
        self.totals.requests += 1;
        self.totals.accepted += accepted;
        self.totals.duplicates += duplicates;
        self.totals.refused += refused;
        let answered = accepted.saturating_add(duplicates).saturating_add(refused);
        if answered != sent {
            return Err(PostError::Unanswered { url: self.target.url.clone(), sent, answered });
        }
        Ok(())
    }

    /// Sends one body until it is answered for.
    async fn send(&mut self, body: &[u8]) -> Result<Answer, PostError> {
        let started = Stopwatch::start();
        let mut wait = FIRST_WAIT;
        loop {
            let fault = match self.send_once(body).await? {
                Sent::Taken(answer) => return Ok(answer),
                Sent::NotNow { fault, retry_after } => {
                    wait = retry_after.unwrap_or(wait).min(LONGEST_WAIT);
                    fault
                }
            };
            if started.elapsed() + wait > GIVE_UP_AFTER {
                return Err(PostError::Unavailable { url: self.target.url.clone(), fault });
            }
            self.totals.retries += 1;
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    async fn send_once(&self, body: &[u8]) -> Result<Sent, PostError> {
        let request = self
            .client
            .post(self.target.url.clone())
            .header(reqwest::header::CONTENT_TYPE, "application/x-ndjson")
            .body(body.to_vec());
        let request = self.target.authenticate(request, body, self.clock.now());
        let response = match request.send().await {
            Ok(response) => response,
            Err(fault) => return Ok(Sent::NotNow { fault: fault.without_url().to_string(), retry_after: None }),
        };
        let status = response.status();
        let retry_after = retry_after(&response);
        let text = match response.text().await {
            Ok(text) => text,
            Err(fault) => return Ok(Sent::NotNow { fault: fault.without_url().to_string(), retry_after }),
        };
        if status.is_success() {
            let answer = serde_json::from_str(&text).map_err(|fault| PostError::Other(fault.into()))?;
            return Ok(Sent::Taken(answer));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::TOO_MANY_REQUESTS {
            return Ok(Sent::NotNow { fault: status.to_string(), retry_after });
        }
        let text = text.chars().take(300).collect();
        Err(PostError::Refused { url: self.target.url.clone(), status, text })
    }
}

struct Due {
    most: usize,
    until: Timestamp,
}

enum Sent {
    Taken(Answer),
    NotNow { fault: String, retry_after: Option<Duration> },
}

/// The part of the answer that is counted.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Answer {
    accepted: u64,
    duplicates: u64,
    refused: u64,
}

impl Batch {
    fn clear(&mut self) {
        self.lines.clear();
        self.truth.clear();
        self.attempts = 0;
    }

    fn push(&mut self, renderer: &mut Renderer, attempt: &Attempt) -> std::io::Result<()> {
        self.attempts += 1;
        renderer.write(attempt, &mut self.lines, &mut self.truth)
    }
}

fn retry_after(response: &reqwest::Response) -> Option<Duration> {
    let seconds = response.headers().get(reqwest::header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}
