//! How the clients are: what they complain of, and what their statistics say.
//!
//! Invariant: a fault stays until a broker is connected again, a refusal until what was refused works; the text names what
//! an operator has to look at and holds no secret. Statistics come once a second from each client.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::statistics::Broker;
use rdkafka::{ClientContext, Statistics};

use crate::clock::Stopwatch;
use crate::metrics::KafkaMetrics;

/// How often something is sent in spite of a fault.
const TRY_INTERVAL: Duration = Duration::from_secs(1);

/// What lasts until a broker is connected again.
#[derive(Debug)]
struct Fault {
    code: RDKafkaErrorCode,
    text: String,
}

/// What a consumer may be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Refused {
    /// Membership of its group; until it is a member.
    Group,
    /// Reading its topic; until it reads.
    Topic,
}

impl Refused {
    /// If `error` is of the kind.
    pub(super) fn by(error: &KafkaError) -> Option<Self> {
        let code = error.rdkafka_error_code()?;
        let kinds = [
            (RDKafkaErrorCode::GroupAuthorizationFailed, Self::Group),
            (RDKafkaErrorCode::TopicAuthorizationFailed, Self::Topic),
        ];
        kinds.into_iter().find_map(|(refusal, what)| (refusal == code).then_some(what))
    }
}

/// The state of one kind of client.
#[derive(Debug)]
pub(super) struct Health {
    /// `producer`, `detect`, …: the `client` label.
    client: &'static str,
    fault: Mutex<Option<Fault>>,
    /// Why a connection failed last.
    unconnected: Mutex<Option<String>>,
    /// What a consumer is not allowed, by what it is about: librdkafka tells once, not each time it tries.
    refusals: Mutex<BTreeMap<Refused, String>>,
    metrics: KafkaMetrics,
    /// Ends of partitions, by topic and partition, as the last statistics had them.
    ends: DashMap<(String, i32), i64>,
    timeouts: Mutex<HashMap<String, u64>>,
    joined: AtomicBool,
    /// When something was sent in spite of a fault.
    tried: Mutex<Option<Stopwatch>>,
}

impl Health {
    pub(super) fn new(client: &'static str, metrics: KafkaMetrics) -> Self {
        Self {
            client,
            fault: Mutex::default(),
            unconnected: Mutex::default(),
            refusals: Mutex::default(),
            metrics,
            ends: DashMap::new(),
            timeouts: Mutex::default(),
            joined: AtomicBool::new(false),
            tried: Mutex::default(),
        }
    }

    /// Whether the group has settled at least once since the start.
    pub(super) fn has_joined(&self) -> bool {
        self.joined.load(Ordering::Relaxed)
    }

    pub(super) fn metrics(&self) -> &KafkaMetrics {
        &self.metrics
    }

    /// Why nothing can be done at the moment.
    pub(super) fn fault(&self) -> Option<String> {
        let fault = locked(&self.fault).as_ref().map(|fault| fault.text.clone());
        fault.or_else(|| locked(&self.refusals).values().next().cloned())
    }

    /// A consumer is not allowed what it needs, which `text` says. It tries on by itself.
    pub(super) fn refused(&self, what: Refused, text: String) {
        let mut refusals = locked(&self.refusals);
        if refusals.get(&what) != Some(&text) {
            tracing::error!(client = self.client, "{text}");
            refusals.insert(what, text);
        }
    }

    /// A consumer has what it needs.
    pub(super) fn allowed(&self, what: Refused) {
        if locked(&self.refusals).remove(&what).is_some() {
            tracing::info!(client = self.client, ?what, "it is allowed now");
        }
    }

    /// Whether something may be sent: there is no fault, or nobody has tried for a moment. A client connects only when it
    /// has something to send, so a fault that kept everything back would never pass.
    pub(super) fn may_try(&self) -> Result<(), String> {
        let Some(fault) = self.fault() else { return Ok(()) };
        let mut tried = locked(&self.tried);
        if tried.as_ref().is_some_and(|tried| tried.elapsed() < TRY_INTERVAL) {
            return Err(fault);
        }
        *tried = Some(Stopwatch::start());
        Ok(())
    }

    /// The offset that the next record of a partition will get, as far as is known.
    pub(super) fn end(&self, topic: &str, partition: i32) -> Option<i64> {
        self.ends.get(&(topic.to_owned(), partition)).map(|end| *end)
    }

    /// What a client says of itself.
    pub(super) fn error(&self, error: &KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        let text = match code {
            Some(RDKafkaErrorCode::AllBrokersDown) => match locked(&self.unconnected).as_deref() {
                Some(why) => format!("no broker can be reached ({reason}: {why})"),
                None => format!("no broker can be reached ({reason})"),
            },
            Some(RDKafkaErrorCode::Authentication) => format!("the brokers refuse our credentials ({reason})"),
            Some(RDKafkaErrorCode::SSL) => format!("TLS fails ({reason})"),
            Some(RDKafkaErrorCode::Fatal) => format!("the client has given up ({reason})"),
            _ => {
                if matches!(code, Some(RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::Resolve)) {
                    *locked(&self.unconnected) = Some(reason.to_owned());
                }
                tracing::debug!(client = self.client, %error, reason, "kafka");
                return;
            }
        };
        let Some(code) = code else { return };
        let mut fault = locked(&self.fault);
        let before = fault.as_ref().map(|fault| fault.code);
        // What was refused is worth more than that nobody is left to ask.
        if code == RDKafkaErrorCode::AllBrokersDown && before.is_some_and(|before| before != code) {
            return;
        }
        // It is said again with every try to connect.
        if before != Some(code) {
            tracing::warn!(client = self.client, "{text}");
        }
        *fault = Some(Fault { code, text });
    }

    /// Whether [`Health::error`] has said it: a consumer says it once more where its records come from.
    pub(super) const fn covers(code: RDKafkaErrorCode) -> bool {
        matches!(
            code,
            RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::SSL
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::Resolve
        )
    }

    /// What librdkafka wants to say: its own lines, at our levels.
    pub(super) fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let client = self.client;
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(client, facility, "{message}");
            }
            // A broker that restarts makes a dozen of these; `error` says it once.
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => tracing::debug!(client, facility, "{message}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
                tracing::trace!(client, facility, "{message}");
            }
        }
    }

    pub(super) fn stats(&self, statistics: &Statistics) {
        // Those learned from the cluster; what was given to start with has no number.
        let brokers: Vec<&Broker> = statistics.brokers.values().filter(|broker| broker.nodeid >= 0).collect();
        let up = brokers.iter().filter(|broker| broker.state == "UP").count();
        if up > 0 {
            *locked(&self.fault) = None;
        }
        let label = [self.client];
        self.metrics.brokers_up.with_label_values(&label).set(i64::try_from(up).unwrap_or(i64::MAX));
        let slowest = brokers.iter().filter_map(|broker| broker.rtt.as_ref()).map(|rtt| rtt.p99).max();
        #[expect(clippy::cast_precision_loss, reason = "microseconds of a request")]
        self.metrics.rtt.with_label_values(&label).set(slowest.unwrap_or(0) as f64 / 1e6);
        let mut timeouts = locked(&self.timeouts);
        for broker in brokers {
            let before = timeouts.insert(broker.name.clone(), broker.req_timeouts).unwrap_or(0);
            let grown = broker.req_timeouts.saturating_sub(before);
            self.metrics.request_timeouts.with_label_values(&label).inc_by(grown);
        }
        drop(timeouts);
        let queued = i64::try_from(statistics.msg_cnt).unwrap_or(i64::MAX);
        self.metrics.queued_messages.with_label_values(&label).set(queued);
        if statistics.cgrp.as_ref().is_some_and(|group| group.join_state == "steady") {
            self.joined.store(true, Ordering::Relaxed);
            self.allowed(Refused::Group);
        }
        for topic in statistics.topics.values() {
            for partition in topic.partitions.values().filter(|partition| partition.hi_offset >= 0) {
                self.ends.insert((topic.topic.clone(), partition.partition), partition.hi_offset);
            }
        }
    }
}

/// A client that tells its health and nothing else.
#[derive(Clone)]
pub(super) struct Listener(pub(super) Arc<Health>);

impl ClientContext for Listener {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        self.0.stats(&statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(&error, reason);
    }
}

impl ConsumerContext for Listener {}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is wrong with a client's settings, without their values.
pub(super) fn client_fault(error: &KafkaError) -> String {
    if let KafkaError::ClientConfig(_, what, key, _) = error {
        return format!("kafka: property {key}: {what}");
    }
    if let KafkaError::ClientCreation(what) = error {
        // OpenSSL does not say that a password is wrong.
        let hint = if what.contains("ssl.key.location") {
            " (is it the private key, and AUTHSPIKE_KAFKA_SSL_KEY_PASSWORD its password?)"
        } else {
            ""
        };
        return format!("kafka: {}{hint}", what.trim_end());
    }
    format!("kafka: {error}")
}

/// What a refusal means for whoever runs this, with the thing it is about.
pub(super) fn explain(error: &KafkaError, what: &str) -> String {
    use RDKafkaErrorCode as Code;
    let advice = match error.rdkafka_error_code() {
        Some(Code::TopicAuthorizationFailed) => {
            "the brokers do not allow it: `authspike topics` prints the rights that are needed"
        }
        Some(Code::GroupAuthorizationFailed) => {
            "the brokers do not allow Read on this consumer group: `authspike topics` prints the rights that are needed"
        }
        Some(Code::ClusterAuthorizationFailed) => {
            "the brokers want IdempotentWrite on the cluster (before Kafka 3.0): `authspike topics` prints it"
        }
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => {
            "it does not exist: `authspike topics --create` creates it"
        }
        Some(Code::MessageTimedOut) => "no broker took it in time",
        Some(Code::NotEnoughReplicas | Code::NotEnoughReplicasAfterAppend) => {
            "fewer replicas are in sync than min.insync.replicas"
        }
        _ => return format!("{what}: {error}"),
    };
    format!("{what}: {advice}")
}
