//! Appending to topics, and knowing when it is safe.
//!
//! Invariant: a batch is answered once, after every replica in sync has all of its messages or one of them failed for good.
//! What is not acknowledged may still arrive: whoever sends it again sends the same id.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::Statistics;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use tokio::sync::oneshot;

use super::config::Clients;
use super::health::{Health, explain};
use crate::clock::Stopwatch;

/// While the queue is full: how soon it is looked at again, and for how long.
const FULL_PAUSE: Duration = Duration::from_millis(10);
const FULL_PATIENCE: Duration = Duration::from_secs(10);
/// When the program stops: longer than any message may take.
const FLUSH: Duration = Duration::from_secs(11);

/// One message to append.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) topic: &'a str,
    /// `None`: the key says.
    pub(super) partition: Option<i32>,
    pub(super) key: &'a [u8],
    /// `None` deletes the key from a compacted topic.
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: &'a [(&'a str, &'a str)],
}

/// Where a batch lies in the partition its messages went to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) first: i64,
    pub(super) last: i64,
}

/// Of a batch without messages.
const NOWHERE: Placed = Placed { first: i64::MAX, last: -1 };

/// Why a batch was not acknowledged.
#[derive(Clone, Debug)]
pub(super) enum Unplaced {
    /// Too much is waiting already.
    Full,
    /// The brokers do not take it.
    Failed(String),
}

/// What a batch waits for.
pub(super) struct Ack {
    left: AtomicUsize,
    first: AtomicI64,
    last: AtomicI64,
    fault: Mutex<Option<String>>,
    answer: Mutex<Option<oneshot::Sender<Result<Placed, Unplaced>>>>,
    begun: Stopwatch,
}

impl Ack {
    fn settle(&self, result: &DeliveryResult<'_>, health: &Health) {
        match result {
            Ok(message) => {
                self.first.fetch_min(message.offset(), Ordering::Relaxed);
                self.last.fetch_max(message.offset(), Ordering::Relaxed);
            }
            Err((error, message)) => {
                health.metrics().produce_failures.with_label_values(&[message.topic()]).inc();
                let fault = explain(error, &format!("topic {}", message.topic()));
                self.fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(fault);
            }
        }
        if self.left.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        if let Ok(message) = result {
            let seconds = self.begun.elapsed().as_secs_f64();
            health.metrics().produce_seconds.with_label_values(&[message.topic()]).observe(seconds);
        }
        let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner).take();
        let placed = Placed { first: self.first.load(Ordering::Relaxed), last: self.last.load(Ordering::Relaxed) };
        if let Some(answer) = self.answer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // Whoever asked may have gone; the messages are there all the same.
            let _ = answer.send(fault.map_or(Ok(placed), |fault| Err(Unplaced::Failed(fault))));
        }
    }
}

/// A batch on its way.
pub(super) struct Waiting(Option<oneshot::Receiver<Result<Placed, Unplaced>>>);

impl Waiting {
    /// Until it is safe, or has failed.
    pub(super) async fn placed(self) -> Result<Placed, Unplaced> {
        let Some(answer) = self.0 else { return Ok(NOWHERE) };
        answer.await.unwrap_or_else(|_| Err(closed()))
    }
}

struct Context {
    health: Arc<Health>,
    failed: Box<dyn Fn(String) + Send + Sync>,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.health.log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        self.health.stats(&statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.health.error(&error, reason);
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            // It never sends anything again.
            (self.failed)(format!("kafka: the producer has given up ({reason})"));
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Arc<Ack>;

    fn delivery(&self, result: &DeliveryResult<'_>, ack: Arc<Ack>) {
        ack.settle(result, &self.health);
    }
}

/// The one producer of a process.
pub(super) struct Producer {
    inner: ThreadedProducer<Context>,
    health: Arc<Health>,
}

impl Producer {
    /// `failed` is told if it can never send again.
    pub(super) fn new(
        clients: &Clients,
        health: Arc<Health>,
        failed: impl Fn(String) + Send + Sync + 'static,
    ) -> Result<Self, KafkaError> {
        let context = Context { health: Arc::clone(&health), failed: Box::new(failed) };
        let inner = clients.producer().create_with_context(context)?;
        Ok(Self { inner, health })
    }

    pub(super) fn health(&self) -> &Health {
        &self.health
    }

    /// Hands over all of `messages`, without waiting for room or for the brokers. They are copied: what they were made of
    /// need not be kept until they are acknowledged.
    pub(super) fn hand_over<'a>(
        &self,
        messages: impl ExactSizeIterator<Item = Message<'a>>,
    ) -> Result<Waiting, Unplaced> {
        if messages.len() == 0 {
            return Ok(Waiting(None));
        }
        let (ack, answer) = expect(messages.len());
        for message in messages {
            self.send(&message, &ack)?;
        }
        Ok(Waiting(Some(answer)))
    }

    /// As [`Producer::hand_over`], waiting for room and for the brokers. Blocks the calling thread.
    pub(super) fn append_blocking<'a>(
        &self,
        messages: impl ExactSizeIterator<Item = Message<'a>>,
    ) -> Result<Placed, Unplaced> {
        if messages.len() == 0 {
            return Ok(NOWHERE);
        }
        let (ack, answer) = expect(messages.len());
        let begun = Stopwatch::start();
        for message in messages {
            while let Err(error) = self.send(&message, &ack) {
                if !matches!(error, Unplaced::Full) || begun.elapsed() > FULL_PATIENCE {
                    return Err(error);
                }
                std::thread::sleep(FULL_PAUSE);
            }
        }
        answer.blocking_recv().unwrap_or_else(|_| Err(closed()))
    }

    fn send(&self, message: &Message<'_>, ack: &Arc<Ack>) -> Result<(), Unplaced> {
        let mut record = BaseRecord::<[u8], [u8], _>::with_opaque_to(message.topic, Arc::clone(ack)).key(message.key);
        if let Some(value) = message.value {
            record = record.payload(value);
        }
        if let Some(partition) = message.partition {
            record = record.partition(partition);
        }
        if !message.headers.is_empty() {
            let headers = OwnedHeaders::new_with_capacity(message.headers.len());
            record = record.headers(
                message
                    .headers
                    .iter()
                    .fold(headers, |headers, (key, value)| headers.insert(Header { key, value: Some(*value) })),
            );
        }
        self.inner.send(record).map_err(|(error, _)| match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::QueueFull) => Unplaced::Full,
            _ => Unplaced::Failed(explain(&error, &format!("topic {}", message.topic))),
        })
    }

    /// Waits until everything was acknowledged or has failed. Blocks the calling thread.
    pub(super) fn flush(&self) {
        if let Err(error) = self.inner.flush(FLUSH) {
            tracing::warn!(%error, "not everything that was appended was acknowledged");
        }
    }
}

fn expect(count: usize) -> (Arc<Ack>, oneshot::Receiver<Result<Placed, Unplaced>>) {
    let (send, answer) = oneshot::channel();
    let ack = Ack {
        left: AtomicUsize::new(count),
        first: AtomicI64::new(i64::MAX),
        last: AtomicI64::new(-1),
        fault: Mutex::default(),
        answer: Mutex::new(Some(send)),
        begun: Stopwatch::start(),
    };
    (Arc::new(ack), answer)
}

fn closed() -> Unplaced {
    Unplaced::Failed("the producer is closed".to_owned())
}
