//! What tests do with a cluster as its clients: make topics, write with acknowledgement, read a topic whole.

use std::collections::BTreeMap;
use std::time::Duration;

use authspike::clock::Stopwatch;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::cluster::random;
use crate::support::until;

/// Far above what a small topic takes on a slow machine.
const DEADLINE: Duration = Duration::from_secs(30);

/// librdkafka's properties.
pub type Properties = BTreeMap<String, String>;

/// A record as it lies in a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// A name that no other test uses.
pub fn fresh(what: &str) -> String {
    format!("{what}-{:016x}", random())
}

/// A client's configuration with these properties.
pub fn config(properties: &Properties) -> ClientConfig {
    properties.clone().into_iter().collect()
}

/// Makes a topic with the cluster's own number of copies and waits until the controller has made it.
pub fn create_topic(properties: &Properties, name: &str, partitions: usize, settings: &[(&str, &str)]) {
    let admin: AdminClient<DefaultClientContext> = config(properties).create().unwrap();
    // -1: as many copies as the brokers make by default.
    let count = i32::try_from(partitions).unwrap();
    let topic = NewTopic { config: settings.to_vec(), ..NewTopic::new(name, count, TopicReplication::Fixed(-1)) };
    let options = AdminOptions::new().operation_timeout(Some(DEADLINE)).request_timeout(Some(DEADLINE));
    let made = block_on(admin.create_topics([&topic], &options)).unwrap();
    for result in made {
        result.unwrap();
    }
}

/// Writes keys and values with `acks=all`, all at once; for each where it lies, or why it was not taken.
pub fn acknowledged(
    properties: &Properties,
    topic: &str,
    records: &[(String, String)],
    patience: Duration,
) -> Vec<Result<(i32, i64), KafkaError>> {
    let producer: FutureProducer = config(properties)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", patience.as_millis().to_string())
        .create()
        .unwrap();
    let sent: Vec<_> = records
        .iter()
        .map(|(key, value)| producer.send_result(FutureRecord::to(topic).key(key).payload(value)).unwrap())
        .collect();
    block_on(async {
        let mut results = Vec::with_capacity(sent.len());
        for delivery in sent {
            let result = delivery.await.unwrap();
            results.push(result.map(|place| (place.partition, place.offset)).map_err(|(error, _)| {
                // What the records bear after a fatal error says only that they were thrown away.
                let fatal = producer.client().fatal_error();
                fatal.map_or(error, |(code, _)| KafkaError::MessageProduction(code))
            }));
        }
        results
    })
}

/// Everything that lies in a topic now, by partition and offset, without joining a group. For topics that nobody writes
/// to in transactions: the end of one is an offset without a record.
pub fn read_topic(properties: &Properties, topic: &str) -> Result<Vec<Record>, KafkaError> {
    let consumer: BaseConsumer =
        config(properties).set("group.id", "reads-without-a-group").set("enable.auto.commit", "false").create()?;
    let mut open = ends(&consumer, topic)?;
    let mut assignment = TopicPartitionList::new();
    for partition in open.keys() {
        assignment.add_partition_offset(topic, *partition, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    let mut records = Vec::new();
    let watch = Stopwatch::start();
    while !open.is_empty() {
        assert!(watch.elapsed() < DEADLINE, "{topic} could not be read to its end: {open:?}");
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => {
                if open.get(&message.partition()).is_some_and(|end| message.offset() + 1 >= *end) {
                    open.remove(&message.partition());
                }
                records.push(record(&message));
            }
            // A broker that is away for a moment is no reason to give up before the deadline; nor is a group, which
            // this never joins, that it may not ask for.
            None
            | Some(Err(KafkaError::MessageConsumption(
                RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::GroupAuthorizationFailed,
            ))) => {}
            Some(Err(error)) => return Err(error),
        }
    }
    records.sort_by_key(|record| (record.partition, record.offset));
    Ok(records)
}

/// The partitions that hold something, and where they end. Not where a fetch ends: a leader that has just been elected
/// hands out less than was acknowledged until its followers have asked it, and tells only whoever asks for the end.
fn ends(consumer: &BaseConsumer, topic: &str) -> Result<BTreeMap<i32, i64>, KafkaError> {
    let metadata = consumer.fetch_metadata(Some(topic), DEADLINE)?;
    let found = metadata.topics().first().unwrap();
    if let Some(error) = found.error() {
        return Err(KafkaError::MetadataFetch(RDKafkaErrorCode::from(error)));
    }
    let mut ends = BTreeMap::new();
    for partition in found.partitions() {
        let (start, end) = until("the end of a partition", || {
            consumer.fetch_watermarks(topic, partition.id(), Duration::from_secs(5)).ok()
        });
        if start < end {
            ends.insert(partition.id(), end);
        }
    }
    Ok(ends)
}

fn record(message: &rdkafka::message::BorrowedMessage<'_>) -> Record {
    let headers = message.headers().into_iter().flat_map(rdkafka::message::Headers::iter);
    Record {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect(),
    }
}

pub fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
