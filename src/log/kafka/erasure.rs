//! Forgetting accounts on Kafka, where nobody can rewrite a record: what named them is cut off.
//!
//! The detector that forgets an account puts that down in every partition of the findings topic, so that each process that
//! delivers does the rest of the work in its own outbox and files; and once its snapshot lies behind the deletion, the
//! records before the snapshot are deleted, and so are the earlier snapshots. Whoever delivers cuts the findings off in
//! the same way, as far as they were delivered.
//!
//! Invariant: nothing is cut off that is still needed: events before the noted snapshot, snapshots before that one, findings
//! before what was delivered everywhere. What cannot be cut off now (a broker away, a right that is missing) is tried again.
//!
//! Not here: the dead letters, and users' names, which the brokers' own retention and compaction forget.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::metadata::MetadataPartition;
use rdkafka::{Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};

use super::config::Clients;
use super::group::Raw;
use super::health::{client_fault, explain};
use super::wire::SCHEMA_HEADER;
use crate::event::{Account, Erasure, Tenant, Timestamp};

/// What the header of such a record says that it is.
pub(super) const SCHEMA: &str = "authspike.erasure/1";
/// A cluster that is there answers within this.
const ASK: Duration = Duration::from_secs(10);

/// As it lies in the findings topic.
#[derive(Serialize, Deserialize)]
struct Written {
    tenant: Tenant,
    account: String,
    replacement: Box<str>,
    request: Box<str>,
    asked_by: Box<str>,
    asked_at: i64,
}

/// An account that is to be forgotten, as a value.
///
/// # Errors
/// None that is known.
pub(super) fn encode(erasure: &Erasure) -> serde_json::Result<Vec<u8>> {
    let Erasure { tenant, account, replacement, request, asked_by, asked_at } = erasure.clone();
    let account = account.to_string();
    serde_json::to_vec(&Written { tenant, account, replacement, request, asked_by, asked_at: asked_at.0 })
}

/// The account that `raw` says is to be forgotten, if it does.
pub(super) fn decode(raw: &Raw) -> Option<Erasure> {
    raw.headers.iter().find(|(name, value)| name == SCHEMA_HEADER && **value == *SCHEMA.as_bytes())?;
    let Written { tenant, account, replacement, request, asked_by, asked_at } =
        serde_json::from_slice(raw.value.as_deref()?).ok()?;
    let account = Account::named(&account);
    Some(Erasure { tenant, account, replacement, request, asked_by, asked_at: Timestamp(asked_at) })
}

/// Deletes what lies before a place in a partition.
pub(super) struct Shears(Clients);

impl Shears {
    pub(super) const fn new(clients: Clients) -> Self {
        Self(clients)
    }

    /// The partitions of `topic`. Blocks the calling thread.
    ///
    /// # Errors
    /// The brokers do not say.
    pub(super) fn partitions(&self, topic: &str) -> Result<Vec<i32>, String> {
        let admin = self.admin()?;
        let metadata = admin.inner().fetch_metadata(Some(topic), ASK);
        let metadata = metadata.map_err(|error| explain(&error, &format!("topic {topic}")))?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let partitions: Vec<i32> =
            found.map(|found| found.partitions().iter().map(MetadataPartition::id).collect()).unwrap_or_default();
        if partitions.is_empty() { Err(format!("topic {topic} has no partitions")) } else { Ok(partitions) }
    }

    /// Deletes the records of `partition` of each topic before the offset that is given for it. Blocks the calling thread,
    /// which is none of a runtime's.
    ///
    /// # Errors
    /// What could not be deleted, and why; the rest is.
    pub(super) fn cut(&self, partition: i32, before: &BTreeMap<&str, i64>) -> Result<(), String> {
        let mut list = TopicPartitionList::new();
        for (topic, offset) in before {
            list.add_partition_offset(topic, partition, Offset::Offset(*offset)).map_err(|error| error.to_string())?;
        }
        let admin = self.admin()?;
        let options = AdminOptions::new().operation_timeout(Some(ASK)).request_timeout(Some(ASK));
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(|error| error.to_string())?;
        let cut = runtime.block_on(admin.delete_records(&list, &options));
        let cut = cut.map_err(|error| explain(&error, "deleting records"))?;
        let faults: Vec<String> = cut
            .elements()
            .iter()
            .filter_map(|one| one.error().err().map(|error| explain(&error, &format!("topic {}", one.topic()))))
            .collect();
        if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) }
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>, String> {
        self.0.plain().create().map_err(|error| client_fault(&error))
    }
}
