//! May this process do what its roles ask of it? Asked before anything is acknowledged: a right that is missing would
//! otherwise show when the first finding is to be written, which may be in a month.
//!
//! One table says what each role needs; `authspike topics` prints the rights from it and a start tries them out.
//!
//! Invariant: trying out changes nothing. Reading begins at the end of a topic and takes nothing; what is sent to try out
//! writing asks for two acknowledgements, which no broker can give: whether it may be written is looked at first.
//!
//! Not here: rights on consumer groups. A group is joined anyway, and says what it lacks (`group`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::metadata::Metadata;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use rdkafka::{Offset, TopicPartitionList};

use super::config::{Clients, Config};
use super::health::{self, client_fault};
use super::seat::locked;
use super::topics::Topics;
use super::{aliases, detect_group, findings};
use crate::clock::Stopwatch;

/// How long a start waits for brokers that cannot be reached.
const ASK: Duration = Duration::from_secs(10);
/// How often it is listened to meanwhile what the client complains of.
const LISTEN: Duration = Duration::from_secs(1);
/// How long what is wrong is looked at again: a topic or a right that is new is not known to every broker at once.
const SETTLING: Duration = Duration::from_secs(3);
/// For trying out one right. A broker that leads a topic may be away: that is no reason not to start.
const TRY: Duration = Duration::from_secs(3);

/// What a process does, and so what it needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    /// Appends events.
    pub receives: bool,
    /// Judges them.
    pub detects: bool,
    /// Delivers findings.
    pub delivers: bool,
}

/// Whether something is done to a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Use {
    read: bool,
    write: bool,
    /// When an account is forgotten; a start does without.
    delete: bool,
}

impl Use {
    /// The operations that an ACL has to allow for it, or nothing starts.
    pub(super) fn operations(self) -> Vec<&'static str> {
        let all = [(true, "Describe"), (self.read, "Read"), (self.write, "Write")];
        all.into_iter().filter_map(|(needed, operation)| needed.then_some(operation)).collect()
    }

    /// The same, and what forgetting an account takes.
    fn all_operations(self) -> Vec<&'static str> {
        self.operations().into_iter().chain(self.delete.then_some("Delete")).collect()
    }
}

impl Roles {
    /// Each role alone, with its name.
    pub(super) const EACH: [(&'static str, Self); 3] = [
        ("receive", Self { receives: true, detects: false, delivers: false }),
        ("detect", Self { receives: false, detects: true, delivers: false }),
        ("deliver", Self { receives: false, detects: false, delivers: true }),
    ];

    /// What is done to each topic; those that are not named are none of its business.
    fn uses(self, topics: &Topics) -> Vec<(&str, Use)> {
        let Self { receives, detects, delivers } = self;
        let uses = [
            (&topics.events, Use { read: detects, write: receives || detects, delete: detects }),
            (&topics.state, Use { read: detects, write: detects, delete: detects }),
            (&topics.findings, Use { read: delivers, write: detects, delete: delivers }),
            (&topics.dead_letters, Use { read: false, write: detects || delivers, delete: false }),
            (&topics.aliases, Use { read: receives, write: receives, delete: false }),
        ];
        uses.into_iter().filter(|(_, of)| of.read || of.write).map(|(topic, of)| (topic.as_str(), of)).collect()
    }

    /// The topics that need the same operations, together.
    pub(super) fn by_operations(self, topics: &Topics) -> Vec<(Vec<&'static str>, Vec<&str>)> {
        let mut grouped: BTreeMap<Use, Vec<&str>> = BTreeMap::new();
        for (topic, of) in self.uses(topics) {
            grouped.entry(of).or_default().push(topic);
        }
        grouped.into_iter().rev().map(|(of, names)| (of.all_operations(), names)).collect()
    }

    /// The group it is a member of, where it is one role.
    pub(super) fn group(self, config: &Config) -> Option<String> {
        match self {
            Self { detects: true, .. } => Some(detect_group(config)),
            Self { delivers: true, .. } => Some(findings::group_of(config)),
            _ => None,
        }
    }
}

/// Why a start cannot go on, or may.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// They may come.
    #[error("{0}")]
    Unreachable(String),
    /// Somebody has to change something.
    #[error("{0}")]
    Wrong(String),
}

/// Keeps what the brokers complain of while a question is asked.
#[derive(Clone, Default)]
struct Complaints {
    refused: Arc<Mutex<Option<String>>>,
    /// Of a connection that failed: it may come to work.
    failed: Arc<Mutex<Option<String>>>,
}

impl ClientContext for Complaints {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(?level, facility, "{message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let kind = match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Authentication) => "the brokers refuse our credentials",
            Some(RDKafkaErrorCode::SSL) => "TLS fails",
            // How many are away says less than why.
            Some(RDKafkaErrorCode::AllBrokersDown) | None => return,
            Some(_) => {
                *locked(&self.failed) = Some(reason.to_owned());
                return;
            }
        };
        locked(&self.refused).get_or_insert(format!("kafka: {kind} ({reason})"));
    }
}

impl ConsumerContext for Complaints {}

/// Asks whether every topic that `roles` need is there, as it has to be, and may be used. Blocks the calling thread, up to
/// half a minute.
///
/// # Errors
/// See [`AccessError`]; all faults at once.
pub fn check(clients: &Clients, roles: Roles) -> Result<(), AccessError> {
    let begun = Stopwatch::start();
    loop {
        match look(clients, roles) {
            Err(AccessError::Wrong(_)) if begun.elapsed() < SETTLING => std::thread::sleep(SETTLING / 10),
            result => return result,
        }
    }
}

/// Asks whether the brokers let us in at all. Blocks the calling thread, up to ten seconds.
pub(super) fn reach(clients: &Clients) -> Result<(), AccessError> {
    let (client, complaints) = asker(clients)?;
    ask(&client, None, &complaints).map(drop)
}

fn asker(clients: &Clients) -> Result<(BaseConsumer<Complaints>, Complaints), AccessError> {
    let complaints = Complaints::default();
    let client = clients.plain().create_with_context(complaints.clone());
    Ok((client.map_err(|error| AccessError::Wrong(client_fault(&error)))?, complaints))
}

fn look(clients: &Clients, roles: Roles) -> Result<(), AccessError> {
    let (client, complaints) = asker(clients)?;
    let (topics, config) = (Topics::of(clients.config()), clients.config());
    let (mut faults, mut partitions, mut usable) = (Vec::new(), BTreeMap::new(), Vec::new());
    for (topic, of) in roles.uses(&topics) {
        // One by one: asked for all, the brokers leave out what we may not see.
        let metadata = ask(&client, Some(topic), &complaints)?;
        match count(&metadata, topic) {
            Ok(count) => {
                partitions.insert(topic, count);
                usable.push((topic, of));
            }
            Err(Some(RDKafkaErrorCode::TopicAuthorizationFailed)) => faults.push(denied(topic, &of.operations())),
            Err(Some(code)) => {
                faults.push(health::explain(&KafkaError::MetadataFetch(code), &format!("topic {topic}")));
            }
            Err(None) => faults.push(format!("topic {topic}: the brokers do not know it")),
        }
    }
    let (events, state) = (partitions.get(&*topics.events), partitions.get(&*topics.state));
    if let (Some(events), Some(state)) = (events, state)
        && events != state
    {
        faults.push(format!(
            "topic {} has {state} partitions and {} has {events}: they must have the same number",
            topics.state, topics.events
        ));
    }
    drop(client);
    let group = roles.group(config).unwrap_or_else(|| aliases::reader_of(config));
    faults.extend(unusable(clients, &group, &usable).map_err(|error| AccessError::Wrong(client_fault(&error)))?);
    if faults.is_empty() { Ok(()) } else { Err(AccessError::Wrong(faults.join("; "))) }
}

fn ask(
    client: &BaseConsumer<Complaints>,
    topic: Option<&str>,
    complaints: &Complaints,
) -> Result<Metadata, AccessError> {
    let begun = Stopwatch::start();
    loop {
        let error = match client.fetch_metadata(topic, LISTEN) {
            Ok(metadata) => return Ok(metadata),
            Err(error) => error,
        };
        // What the client has to say is told only when it is listened to, one thing at a time.
        let listening = Stopwatch::start();
        while listening.elapsed() < LISTEN / 4 {
            client.poll(LISTEN / 20);
        }
        if let Some(refused) = locked(&complaints.refused).take() {
            return Err(AccessError::Wrong(refused));
        }
        if begun.elapsed() >= ASK {
            let why = locked(&complaints.failed).take().unwrap_or_else(|| error.to_string());
            return Err(AccessError::Unreachable(format!("kafka: no broker can be reached ({why})")));
        }
    }
}

/// How many partitions `topic` has, or what the brokers say of it, if anything.
fn count(metadata: &Metadata, topic: &str) -> Result<usize, Option<RDKafkaErrorCode>> {
    let found = metadata.topics().iter().find(|found| found.name() == topic).ok_or(None)?;
    found.error().map_or_else(|| Ok(found.partitions().len()), |error| Err(Some(error.into())))
}

fn denied(topic: &str, operations: &[&str]) -> String {
    format!(
        "topic {topic}: the brokers do not allow {} on it: `authspike topics` prints the rights that are needed",
        operations.join(", ")
    )
}

/// Tries out what can be seen, and tells of what is not allowed.
fn unusable(clients: &Clients, group: &str, topics: &[(&str, Use)]) -> Result<Vec<String>, KafkaError> {
    let read: Vec<&str> = topics.iter().filter(|(_, of)| of.read).map(|(topic, _)| *topic).collect();
    let written: Vec<&str> = topics.iter().filter(|(_, of)| of.write).map(|(topic, _)| *topic).collect();
    let not_read = unreadable(clients, group, &read)?;
    let not_written = unwritable(clients, &written)?;
    let mut faults = Vec::new();
    for (topic, _) in topics {
        let topic = (*topic).to_owned();
        let both = [(not_read.contains(&topic), "Read"), (not_written.contains(&topic), "Write")];
        let lacking: Vec<&str> = both.into_iter().filter_map(|(lacks, operation)| lacks.then_some(operation)).collect();
        if !lacking.is_empty() {
            faults.push(denied(&topic, &lacking));
        }
    }
    Ok(faults)
}

/// Those of `topics` that may not be read.
fn unreadable(clients: &Clients, group: &str, topics: &[&str]) -> Result<Vec<String>, KafkaError> {
    let mut found = Vec::new();
    if topics.is_empty() {
        return Ok(found);
    }
    let reader: BaseConsumer<Complaints> = clients
        .reader(group)
        .set("enable.partition.eof", "true")
        .set("statistics.interval.ms", "0")
        .create_with_context(Complaints::default())?;
    for topic in topics {
        // Rights are the same for all its partitions.
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, 0, Offset::End)?;
        reader.assign(&list)?;
        let begun = Stopwatch::start();
        while begun.elapsed() < TRY {
            match reader.poll(LISTEN / 10) {
                Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => break,
                Some(Err(error)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
                    found.push((*topic).to_owned());
                    break;
                }
                // Rights on the group are none of this; whatever else it is may pass.
                Some(Err(_)) | None => {}
            }
        }
    }
    Ok(found)
}

/// Keeps the names of topics that may not be written to.
#[derive(Default)]
struct Refused(Mutex<Vec<String>>);

impl ClientContext for Refused {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(?level, facility, "{message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka");
    }
}

impl ProducerContext for Refused {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result
            && error.rdkafka_error_code() == Some(RDKafkaErrorCode::TopicAuthorizationFailed)
        {
            locked(&self.0).push(message.topic().to_owned());
        }
    }
}

/// Those of `topics` that may not be written to.
fn unwritable(clients: &Clients, topics: &[&str]) -> Result<Vec<String>, KafkaError> {
    let producer: BaseProducer<Refused> = clients
        .plain()
        // None, one or all of them can be asked for. A broker looks at the rights first, and then appends nothing.
        .set("request.required.acks", "2")
        .set("message.timeout.ms", TRY.as_millis().to_string())
        .create_with_context(Refused::default())?;
    for topic in topics {
        let record = BaseRecord::<str, [u8]>::to(topic).key("authspike").partition(0).payload(&[]);
        producer.send(record).map_err(|(error, _)| error)?;
    }
    producer.flush(TRY + LISTEN).or_else(|error| match error.rdkafka_error_code() {
        // What could not be tried out may be as it should.
        Some(RDKafkaErrorCode::OperationTimedOut) => Ok(()),
        _ => Err(error),
    })?;
    let refused = locked(&producer.context().0).clone();
    Ok(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_needs_what_it_uses_and_nothing_else() {
        let topics = Topics::of(&Config::default());
        let names = |roles: Roles| -> Vec<String> {
            let uses = roles.uses(&topics).into_iter();
            uses.map(|(topic, of)| format!("{topic} {}", of.operations().join("+"))).collect()
        };
        let [(_, receive), (_, detect), (_, deliver)] = Roles::EACH;
        assert_eq!(names(receive), ["authspike.events.v1 Describe+Write", "authspike.aliases.v1 Describe+Read+Write"]);
        assert_eq!(
            names(detect),
            [
                "authspike.events.v1 Describe+Read+Write",
                "authspike.state.v1 Describe+Read+Write",
                "authspike.findings.v1 Describe+Write",
                "authspike.events.dlq.v1 Describe+Write",
            ]
        );
        assert_eq!(names(deliver), ["authspike.findings.v1 Describe+Read", "authspike.events.dlq.v1 Describe+Write"]);
        assert!(names(Roles::default()).is_empty());
    }
}
