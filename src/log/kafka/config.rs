//! What the user can set of Kafka, and how a client is configured from that.
//!
//! Invariant: what the guarantees rest on (acknowledgement by all replicas, explicit commits, the partitioner) is set here
//! and nowhere else; a property that would undo it is refused by name at start, never overridden in silence. Secrets are no
//! properties: a configuration file ends up in repositories.

use std::collections::BTreeMap;
use std::fmt;

use rdkafka::ClientConfig;
use serde::{Deserialize, Serialize};

use crate::secret::Secret;

/// Kafka's own bound on a group's or topic's name is 249; topics get a suffix.
const MAX_NAME_BYTES: usize = 200;

/// Readiness and lag are this old at most. Clients that nobody asks how they are make none.
const STATISTICS_MILLIS: &str = "1000";

/// What the user can set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `host:port` of some brokers, parted by commas. Empty: the log is the embedded one.
    pub brokers: String,
    /// What the topics' names begin with.
    pub topic_prefix: String,
    /// What the names of the consumer groups begin with.
    pub group: String,
    /// How consumers agree on who reads what.
    pub group_protocol: Protocol,
    /// Partitions of topics that `authspike topics` creates. Never changed afterwards: a tenant's events must stay in
    /// one partition.
    pub partitions: u32,
    /// Copies of topics that `authspike topics` creates.
    pub replication: u16,
    /// Ids remembered by each partition to recognise duplicates, at about 20 bytes of memory and 8 of every snapshot.
    pub dedupe_max_ids: usize,
    /// For librdkafka as they are, all clients.
    pub properties: Properties,
    /// For consumers.
    pub consumer: ClientProperties,
    /// For producers.
    pub producer: ClientProperties,
}

/// Properties of one kind of client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientProperties {
    /// For librdkafka as they are.
    pub properties: Properties,
}

/// How consumers agree on who reads what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// The one every broker knows; assignments are `cooperative-sticky`.
    #[default]
    Classic,
    /// KIP-848, of Kafka 4.0 and later: one round less at each hand-over.
    Consumer,
}

impl Protocol {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
        }
    }
}

/// Names and values; numbers and booleans may stand as such.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Properties(BTreeMap<String, Value>);

/// One value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Value {
    Bool(bool),
    Integer(i64),
    Text(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Integer(value) => value.fmt(f),
            Self::Text(value) => value.fmt(f),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            brokers: String::new(),
            topic_prefix: "authspike".into(),
            group: "authspike".into(),
            group_protocol: Protocol::Classic,
            // Divisible by 2, 3, 4 and 6 detectors; most users have fewer tenants than that.
            partitions: 12,
            replication: 3,
            dedupe_max_ids: 4_000_000,
            properties: Properties::default(),
            consumer: ClientProperties::default(),
            producer: ClientProperties::default(),
        }
    }
}

/// What is ours to set, and why.
const OURS: [(&str, &str); 19] = [
    ("bootstrap.servers", "set kafka.brokers"),
    ("metadata.broker.list", "set kafka.brokers"),
    ("group.id", "set kafka.group"),
    ("group.protocol", "set kafka.group_protocol"),
    ("acks", "an event is acknowledged only once every replica in sync has it"),
    ("request.required.acks", "an event is acknowledged only once every replica in sync has it"),
    ("enable.idempotence", "without it a retry changes the order of events"),
    ("transactional.id", "authspike is at-least-once with stable ids and uses no transactions"),
    ("message.timeout.ms", "it has to end before the sender's own time-out of 15 s"),
    ("delivery.timeout.ms", "it has to end before the sender's own time-out of 15 s"),
    ("partitioner", "a tenant's events must stay in one partition"),
    ("enable.auto.commit", "offsets are committed with the state that belongs to them"),
    ("enable.auto.offset.store", "offsets are committed with the state that belongs to them"),
    ("enable.partition.eof", "restoring a snapshot rests on it"),
    ("auto.offset.reset", "events that nobody has judged would be passed over"),
    ("isolation.level", "events of a transaction that was given up did not happen"),
    ("statistics.interval.ms", "metrics and readiness rest on it"),
    ("sasl.password", "it is a secret: set AUTHSPIKE_KAFKA_SASL_PASSWORD in the environment"),
    ("ssl.key.password", "it is a secret: set AUTHSPIKE_KAFKA_SSL_KEY_PASSWORD in the environment"),
];
/// Secrets under other names: a file is named instead.
const SECRETS: [(&str, &str); 4] = [
    ("sasl.oauthbearer.client.secret", "it is a secret and cannot stand in a configuration file"),
    ("ssl.key.pem", "it is a secret: name the file in ssl.key.location"),
    ("ssl.keystore.password", "it is a secret: use ssl.key.location and AUTHSPIKE_KAFKA_SSL_KEY_PASSWORD"),
    ("sasl.oauthbearer.config", "it may hold a secret and cannot stand in a configuration file"),
];
/// What KIP-848 leaves to the broker, and the broker's name for it.
const LEFT_TO_BROKER: [(&str, &str); 4] = [
    ("session.timeout.ms", "group.consumer.session.timeout.ms"),
    ("heartbeat.interval.ms", "group.consumer.heartbeat.interval.ms"),
    ("partition.assignment.strategy", "group.consumer.assignors"),
    ("group.protocol.type", "nothing"),
];

impl Config {
    /// Whether the log is on Kafka.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.brokers.is_empty()
    }

    /// Every fault, as `key: what is wrong`. No text holds a value.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let is_name = |name: &str| {
            (1..=MAX_NAME_BYTES).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        for (key, name) in [("topic_prefix", &self.topic_prefix), ("group", &self.group)] {
            if !is_name(name) {
                faults.push(format!("{key}: must be 1 to {MAX_NAME_BYTES} letters, digits, '.', '_' or '-'"));
            }
        }
        if self.brokers.split(',').any(|broker| broker.trim().is_empty()) && self.is_on() {
            faults.push("brokers: must be host:port, several parted by commas".into());
        }
        if !(1..=1000).contains(&self.partitions) {
            faults.push("partitions: must be from 1 to 1000".into());
        }
        if self.replication == 0 {
            faults.push("replication: must be at least 1".into());
        }
        if !(1000..=100_000_000).contains(&self.dedupe_max_ids) {
            faults.push("dedupe_max_ids: must be from 1000 to 100000000".into());
        }
        let sections = [
            ("properties", &self.properties),
            ("consumer.properties", &self.consumer.properties),
            ("producer.properties", &self.producer.properties),
        ];
        for (section, properties) in sections {
            for name in properties.0.keys() {
                if let Some((_, why)) = OURS.iter().chain(&SECRETS).find(|(ours, _)| ours == name) {
                    faults.push(format!("{section}.{name}: cannot be set: {why}"));
                }
            }
        }
        faults
    }

    /// Properties that cannot be set under KIP-848 and are left out, with what replaces them on the broker.
    #[must_use]
    pub fn left_out(&self) -> Vec<String> {
        if self.group_protocol == Protocol::Classic {
            return Vec::new();
        }
        let given = |name: &str| self.properties.0.contains_key(name) || self.consumer.properties.0.contains_key(name);
        LEFT_TO_BROKER
            .iter()
            .filter(|(name, _)| given(name))
            .map(|(name, broker)| {
                format!("kafka: {name} is left out: under group_protocol = \"consumer\" the broker decides ({broker})")
            })
            .collect()
    }

    /// The topic called `suffix`.
    #[must_use]
    pub fn topic(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.topic_prefix)
    }
}

/// What the clients prove themselves with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secrets {
    /// Of SASL.
    pub sasl_password: Option<Secret>,
    /// Of the private key file.
    pub ssl_key_password: Option<Secret>,
}

/// Makes the settings of clients.
#[derive(Clone, Debug)]
pub struct Clients {
    config: Config,
    secrets: Secrets,
}

impl Clients {
    /// Of this configuration.
    #[must_use]
    pub const fn new(config: Config, secrets: Secrets) -> Self {
        Self { config, secrets }
    }

    /// Clients of other `brokers` (empty: the same), with further `properties`.
    #[must_use]
    pub fn with(&self, brokers: &str, properties: &Properties) -> Self {
        let mut clients = self.clone();
        if !brokers.is_empty() {
            brokers.clone_into(&mut clients.config.brokers);
        }
        clients.config.properties.0.extend(properties.0.clone());
        clients
    }

    /// What they were made from.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// A client that only asks.
    #[must_use]
    pub fn plain(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", &self.config.brokers)
            .set("client.id", "authspike")
            // A broker that comes back is noticed within seconds, not ten.
            .set("reconnect.backoff.max.ms", "2000")
            .set("socket.keepalive.enable", "true");
        set_all(&mut client, &self.config.properties);
        if let Some(password) = &self.secrets.sasl_password {
            client.set("sasl.password", password.expose());
        }
        if let Some(password) = &self.secrets.ssl_key_password {
            client.set("ssl.key.password", password.expose());
        }
        client
    }

    /// Appends events, findings and snapshots.
    #[must_use]
    pub fn producer(&self) -> ClientConfig {
        let mut client = self.plain();
        client
            .set("statistics.interval.ms", STATISTICS_MILLIS)
            // A request waits this long for company; with 64 senders that costs nothing, and alone one millisecond.
            .set("linger.ms", "1")
            .set("compression.type", "lz4")
            // What waits for a broker that is away: some seconds of a busy instance. More is refused with 503.
            .set("queue.buffering.max.messages", "100000")
            .set("queue.buffering.max.kbytes", "65536");
        set_all(&mut client, &self.config.producer.properties);
        client
            .set("acks", "all")
            .set("enable.idempotence", "true")
            // Below the 12 s after which a request is answered, and the 15 s after which its sender gives up.
            .set("message.timeout.ms", "10000")
            // As Java clients do, so that other programs find a tenant's partition too.
            .set("partitioner", "murmur2_random");
        client
    }

    /// A member of `group`.
    #[must_use]
    pub fn member(&self, group: &str) -> ClientConfig {
        let mut client = self.consumer(group);
        client.set("group.protocol", self.config.group_protocol.as_str());
        match self.config.group_protocol {
            Protocol::Classic if !self.sets("partition.assignment.strategy") => {
                client.set("partition.assignment.strategy", "cooperative-sticky");
            }
            Protocol::Classic => {}
            Protocol::Consumer => {
                for (name, _) in LEFT_TO_BROKER {
                    client.remove(name);
                }
            }
        }
        client
    }

    /// Reads partitions that it is told, from where it is told.
    #[must_use]
    pub fn reader(&self, group: &str) -> ClientConfig {
        let mut client = self.consumer(group);
        for (name, _) in LEFT_TO_BROKER {
            client.remove(name);
        }
        client
    }

    fn consumer(&self, group: &str) -> ClientConfig {
        let mut client = self.plain();
        client
            .set("statistics.interval.ms", STATISTICS_MILLIS)
            .set("fetch.wait.max.ms", "100")
            // What is fetched ahead, of all partitions: bounds memory and what a hand-over throws away.
            .set("queued.max.messages.kbytes", "8192")
            // After a full queue: the default of a second would be a stall at each of them.
            .set("fetch.queue.backoff.ms", "10");
        set_all(&mut client, &self.config.consumer.properties);
        client
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed");
        client
    }

    fn sets(&self, name: &str) -> bool {
        self.config.properties.0.contains_key(name) || self.config.consumer.properties.0.contains_key(name)
    }
}

fn set_all(client: &mut ClientConfig, properties: &Properties) {
    for (name, value) in &properties.0 {
        client.set(name, value.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Config {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_the_guarantees_rest_on_is_refused_by_name_and_without_its_value() {
        let config = parse(
            r#"{"brokers": "b:1", "properties": {"acks": "1", "sasl.password": "hunter2", "client.rack": "a"},
                "consumer": {"properties": {"enable.auto.commit": true}},
                "producer": {"properties": {"message.timeout.ms": 60000, "ssl.key.pem": "hunter2"}}}"#,
        );
        let faults = config.validate();
        let keys: Vec<_> = faults.iter().map(|fault| fault.split_once(": ").unwrap().0).collect();
        assert_eq!(
            keys,
            [
                "properties.acks",
                "properties.sasl.password",
                "consumer.properties.enable.auto.commit",
                "producer.properties.message.timeout.ms",
                "producer.properties.ssl.key.pem",
            ]
        );
        assert!(!faults.concat().contains("hunter2"), "{faults:?}");
    }

    #[test]
    fn properties_pass_through_and_ours_stay() {
        let config = parse(
            r#"{"brokers": "b:1", "properties": {"security.protocol": "SASL_SSL"},
                "producer": {"properties": {"linger.ms": 7}}, "consumer": {"properties": {"fetch.wait.max.ms": 9}}}"#,
        );
        let secrets = Secrets { sasl_password: Some(Secret::new("hunter2")), ssl_key_password: None };
        let clients = Clients::new(config, secrets);
        let (producer, member) = (clients.producer(), clients.member("g"));
        assert_eq!(producer.get("linger.ms"), Some("7"));
        assert_eq!((producer.get("acks"), producer.get("security.protocol")), (Some("all"), Some("SASL_SSL")));
        assert_eq!(member.get("fetch.wait.max.ms"), Some("9"));
        assert_eq!(member.get("partition.assignment.strategy"), Some("cooperative-sticky"));
        assert_eq!(member.get("sasl.password"), Some("hunter2"));
        assert!(!format!("{clients:?}").contains("hunter2"));
    }

    #[test]
    fn what_kip_848_leaves_to_the_broker_is_left_out_and_told() {
        let text = r#"{"brokers": "b:1", "group_protocol": "consumer",
            "consumer": {"properties": {"session.timeout.ms": 6000, "max.poll.interval.ms": 60000}}}"#;
        let config = parse(text);
        assert!(config.validate().is_empty());
        let told = config.left_out();
        assert!(told.len() == 1 && told[0].contains("group.consumer.session.timeout.ms"), "{told:?}");
        let member = Clients::new(config, Secrets::default()).member("g");
        assert_eq!((member.get("session.timeout.ms"), member.get("max.poll.interval.ms")), (None, Some("60000")));
        assert_eq!(member.get("group.protocol"), Some("consumer"));
    }
}
