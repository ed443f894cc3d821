//! Membership of a consumer group, and reading the partitions it gives us.
//!
//! Two clients on one thread. The *member* only says who owns what and carries the committed offsets: its partitions are
//! paused and it never fetches. The *reader* is told by hand which partitions to fetch and from where, since that depends
//! on a snapshot which is restored elsewhere and takes its time. So nothing long happens inside a rebalance except waiting
//! for the owner to let go, and a partition that moves does not disturb the others.
//!
//! Invariant: records of one partition reach its [`Feed`] in order and without a gap, but for what retention deleted. A
//! partition is given up only after its [`Owner`] has returned from [`Owner::revoked`]. Memory is bounded: what a feed
//! does not take stays unread.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::{Offset as KafkaOffset, TopicPartitionList};

use super::config::Clients;
use super::health::{Health, Listener, Refused, explain};
use crate::clock::Stopwatch;

mod member;

use member::Member;

/// Records handed over at one time: enough that the hand-over costs nothing, few enough that a task looks up often.
const BATCH: usize = 1024;
/// Batches that wait for a task; with what librdkafka holds, some thousand records.
pub(super) const WAITING: usize = 4;
/// Commands that wait: one for each partition that is given to us at one time, which are a thousand at most.
const COMMANDS: usize = 1024;
/// Longest wait for a record: how late a command or a rebalance is seen.
const POLL: Duration = Duration::from_millis(20);
/// While a feed takes nothing.
const BLOCKED: Duration = Duration::from_millis(1);
/// How long leaving the group may take when the program stops; the others notice by themselves after the session time-out.
const LEAVE: Duration = Duration::from_secs(10);
/// After a refusal the reader begins anew this often, to learn whether it is still refused.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// For questions to the brokers.
const ASK: Duration = Duration::from_secs(10);

/// Whoever the partitions are for. Called on the group's thread.
pub(super) trait Owner: Send + 'static {
    /// These are ours from now on.
    fn assigned(&mut self, partitions: &[i32]);
    /// These are ours until this returns; whoever gets them waits for it. Must end within seconds.
    fn revoked(&mut self, partitions: &[i32]);
}

/// A record as it lies in the topic.
#[derive(Clone, Debug)]
pub(super) struct Raw {
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// When it was appended, in milliseconds since the Unix epoch.
    pub(super) appended_at: i64,
    pub(super) key: Option<Box<[u8]>>,
    pub(super) value: Option<Box<[u8]>>,
    pub(super) headers: Vec<(String, Box<[u8]>)>,
}

/// Where the records of a partition arrive.
pub(super) type Feed = Receiver<Vec<Raw>>;

/// Where they are put in; one feed may be for several partitions.
pub(super) type FeedEnd = SyncSender<Vec<Raw>>;

/// A feed that holds a bounded number of batches.
pub(super) fn feed() -> (FeedEnd, Feed) {
    sync_channel(WAITING)
}

enum Command {
    /// Reads a partition from `from` on (0: from its oldest record).
    Start {
        partition: i32,
        from: i64,
        feed: FeedEnd,
    },
    Leave,
}

/// A member of a group, on a thread of its own.
pub(super) struct Group {
    topic: String,
    member: Arc<BaseConsumer<Member>>,
    commands: SyncSender<Command>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Group {
    /// Joins `group` for `topic`. `failed` is told if it cannot go on.
    pub(super) fn join(
        clients: &Clients,
        group: &str,
        topic: &str,
        health: &Arc<Health>,
        owner: Box<dyn Owner>,
        failed: impl Fn(String) + Send + 'static,
    ) -> Result<Self, KafkaError> {
        let context = Member {
            topic: topic.to_owned(),
            group: group.to_owned(),
            owner: Mutex::new(owner),
            health: Listener(Arc::clone(health)),
            held: Mutex::default(),
            gone: Mutex::default(),
        };
        let member: Arc<BaseConsumer<Member>> = Arc::new(clients.member(group).create_with_context(context)?);
        let reader: BaseConsumer<Listener> = clients
            .reader(group)
            // An end that is reached tells that reading is allowed.
            .set("enable.partition.eof", "true")
            .create_with_context(Listener(Arc::clone(health)))?;
        member.subscribe(&[topic])?;
        let (commands, orders) = sync_channel(COMMANDS);
        let reading = Reading {
            topic: topic.to_owned(),
            member: Arc::clone(&member),
            reader,
            orders,
            feeds: BTreeMap::new(),
            changed: false,
            refused: None,
        };
        let thread = std::thread::Builder::new()
            .name(format!("kafka-{topic}"))
            .spawn(move || reading.run(&failed))
            .map_err(|error| KafkaError::ClientCreation(error.to_string()))?;
        Ok(Self { topic: topic.to_owned(), member, commands, thread: Mutex::new(Some(thread)) })
    }

    /// Reads `partition` from `from` on into `feed`; 0 is its oldest record.
    pub(super) fn start(&self, partition: i32, from: i64, feed: FeedEnd) {
        if self.commands.try_send(Command::Start { partition, from, feed }).is_err() {
            // Never full, and the thread is gone only when everything stops.
            tracing::warn!(partition, "a partition is not read");
        }
    }

    /// What is committed of `partition`: the next offset, if there is one, and what was noted beside it. Blocks.
    pub(super) fn committed(&self, partition: i32) -> Result<(Option<i64>, String), KafkaError> {
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic, partition);
        let list = self.member.committed_offsets(list, ASK)?;
        let found = list.find_partition(&self.topic, partition);
        let found = found.ok_or(KafkaError::OffsetFetch(RDKafkaErrorCode::UnknownPartition))?;
        found.error()?;
        let offset = if let KafkaOffset::Offset(offset) = found.offset() { Some(offset) } else { None };
        Ok((offset, found.metadata().to_owned()))
    }

    /// Commits `next` as the offset to read on from, with `note` beside it.
    pub(super) fn commit(&self, partition: i32, next: i64, note: &str, wait: bool) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::new();
        let mut element = list.add_partition(&self.topic, partition);
        element.set_offset(KafkaOffset::Offset(next))?;
        if !note.is_empty() {
            element.set_metadata(note);
        }
        self.member.commit(&list, if wait { CommitMode::Sync } else { CommitMode::Async })
    }

    /// Lets go of everything and leaves. Blocks the calling thread.
    pub(super) fn leave(&self) {
        let _ = self.commands.send(Command::Leave);
        let thread = locked(&self.thread).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!(topic = self.topic, "the thread of a consumer group panicked");
        }
    }
}

/// Whether a commit that failed like this may succeed in a moment: the group is being rearranged.
pub(super) fn may_pass(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::RebalanceInProgress
                | RDKafkaErrorCode::CoordinatorLoadInProgress
                | RDKafkaErrorCode::NotCoordinator
                | RDKafkaErrorCode::CoordinatorNotAvailable
                | RDKafkaErrorCode::StaleMemberEpoch
                | RDKafkaErrorCode::RequestTimedOut
        )
    )
}

struct Fed {
    /// Offset of the next record to take from the reader.
    next: i64,
    end: FeedEnd,
    waiting: Vec<Raw>,
}

/// The thread.
struct Reading {
    topic: String,
    member: Arc<BaseConsumer<Member>>,
    reader: BaseConsumer<Listener>,
    orders: Receiver<Command>,
    feeds: BTreeMap<i32, Fed>,
    /// The reader has to be told which partitions it reads.
    changed: bool,
    refused: Option<Refusal>,
}

/// Reading is not allowed. librdkafka says so once and tries on; whether it came to work it does not say.
struct Refusal {
    since: Stopwatch,
    asked_again: bool,
}

impl Reading {
    fn run(mut self, failed: &dyn Fn(String)) {
        loop {
            if !self.take_orders() {
                return self.leave();
            }
            if let Err(fault) = self.step() {
                tracing::error!(topic = self.topic, fault, "a consumer group cannot go on");
                failed(fault);
                return self.leave();
            }
        }
    }

    /// `false`: leave.
    fn take_orders(&mut self) -> bool {
        loop {
            match self.orders.try_recv() {
                // Taken away before whoever asked had learned where to begin: it is somebody else's now.
                Ok(Command::Start { partition, .. }) if !locked(&self.member.context().held).contains(&partition) => {}
                Ok(Command::Start { partition, from, feed }) => {
                    self.feeds.insert(partition, Fed { next: from, end: feed, waiting: Vec::new() });
                    self.changed = true;
                }
                Err(TryRecvError::Empty) => return true,
                Ok(Command::Leave) | Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn step(&mut self) -> Result<(), String> {
        self.attend()?;
        if let Some(refusal) = self.refused.as_mut().filter(|refusal| refusal.since.elapsed() >= ASK_AGAIN) {
            *refusal = Refusal { since: Stopwatch::start(), asked_again: true };
            self.changed = true;
        }
        if self.changed {
            self.assign().map_err(|error| explain(&error, &format!("topic {}", self.topic)))?;
            self.changed = false;
        }
        if self.hand_over() {
            // What waits has to go first: reading on would need memory without a bound.
            std::thread::sleep(BLOCKED);
            return Ok(());
        }
        let mut wait = POLL;
        for _ in 0..BATCH {
            match self.reader.poll(wait) {
                Some(Ok(message)) => {
                    let raw = raw(&message);
                    take(&mut self.feeds, raw);
                    self.reads();
                }
                Some(Err(KafkaError::PartitionEOF(_))) => self.reads(),
                Some(Err(error)) => self.complaint(&error)?,
                None => break,
            }
            wait = Duration::ZERO;
        }
        self.hand_over();
        Ok(())
    }

    /// Serves the member: rebalances happen in here.
    fn attend(&mut self) -> Result<(), String> {
        if let Some(Err(error)) = self.member.poll(Duration::ZERO) {
            self.complaint(&error)?;
        }
        for partition in std::mem::take(&mut *locked(&self.member.context().gone)) {
            self.changed |= self.feeds.remove(&partition).is_some();
        }
        Ok(())
    }

    /// Something was read, if only that nothing is there.
    fn reads(&mut self) {
        // What was fetched before it was refused may still come until the reader has begun anew.
        if self.refused.take_if(|refusal| refusal.asked_again).is_some() {
            self.member.context().health.0.allowed(Refused::Topic);
        }
    }

    fn complaint(&mut self, error: &KafkaError) -> Result<(), String> {
        let fatal = self.member.client().fatal_error().or_else(|| self.reader.client().fatal_error());
        if let Some((code, reason)) = fatal {
            return Err(format!("{code}: {reason}"));
        }
        // It goes on by itself, and `Health` has what lasts.
        let Member { group, health, .. } = &**self.member.context();
        let text = explain(error, &format!("topic {}, group {group}", self.topic));
        match Refused::by(error) {
            Some(what) => {
                health.0.refused(what, text);
                if what == Refused::Topic {
                    self.refused = Some(Refusal { since: Stopwatch::start(), asked_again: false });
                }
            }
            None if error.rdkafka_error_code().is_some_and(Health::covers) => {}
            None => tracing::warn!("{text}"),
        }
        std::thread::sleep(BLOCKED);
        Ok(())
    }

    fn assign(&self) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::with_capacity(self.feeds.len());
        for (partition, fed) in &self.feeds {
            let from = if fed.next == 0 { KafkaOffset::Beginning } else { KafkaOffset::Offset(fed.next) };
            list.add_partition_offset(&self.topic, *partition, from)?;
        }
        self.reader.assign(&list)
    }

    /// Gives every feed what waits for it; `true`: one has no room.
    fn hand_over(&mut self) -> bool {
        let mut blocked = false;
        let mut gone = Vec::new();
        for (partition, fed) in self.feeds.iter_mut().filter(|(_, fed)| !fed.waiting.is_empty()) {
            match fed.end.try_send(std::mem::take(&mut fed.waiting)) {
                Ok(()) => {}
                Err(TrySendError::Full(batch)) => {
                    fed.waiting = batch;
                    blocked = true;
                }
                // Its task is done; the partition goes any moment.
                Err(TrySendError::Disconnected(_)) => gone.push(*partition),
            }
        }
        for partition in gone {
            self.feeds.remove(&partition);
            self.changed = true;
        }
        blocked
    }

    /// Gives everything back. What the owner still has to do it does in here.
    fn leave(mut self) {
        self.member.unsubscribe();
        let begun = Stopwatch::start();
        while !locked(&self.member.context().held).is_empty() && begun.elapsed() < LEAVE {
            if self.member.poll(POLL).is_some_and(|result| result.is_err()) && self.attend().is_err() {
                break;
            }
        }
        let left: Vec<i32> = std::mem::take(&mut *locked(&self.member.context().held)).into_iter().collect();
        if !left.is_empty() {
            locked(&self.member.context().owner).revoked(&left);
        }
    }
}

fn take(feeds: &mut BTreeMap<i32, Fed>, raw: Raw) {
    // Fetched before the reader was told to read elsewhere.
    let Some(fed) = feeds.get_mut(&raw.partition) else { return };
    if raw.offset < fed.next {
        return;
    }
    fed.next = raw.offset + 1;
    fed.waiting.push(raw);
}

fn raw(message: &BorrowedMessage<'_>) -> Raw {
    use rdkafka::message::Headers as _;
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers.iter().map(|header| (header.key.to_owned(), header.value.unwrap_or_default().into())).collect()
    });
    Raw {
        partition: message.partition(),
        offset: message.offset(),
        appended_at: message.timestamp().to_millis().unwrap_or(0),
        key: message.key().map(Into::into),
        value: message.payload().map(Into::into),
        headers,
    }
}

fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
