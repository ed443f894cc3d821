//! One append on its way to a block, and its answer on the way back.
//!
//! Invariant: an append is answered once. The answers of a block travel together: waking a task from a thread outside
//! the runtime takes the runtime's lock and, when it is busy, waits for its turn once for every task; so the writer wakes
//! the first, and it wakes the others. If the first has gone, whoever drops its answer does that.

use tokio::sync::oneshot;

use crate::log::id_window::fingerprint;
use crate::log::{AppendError, Appended, Record};

/// Records that wait.
pub(super) struct Append {
    pub(super) content: Content,
    /// Where its answer goes.
    pub(super) reply: Reply,
}

/// Records, encoded by the one who brought them so that the writer only copies. They go back to him with the answer: what
/// a worker of the runtime allocated and the writer freed would have both of them wait for the allocator.
pub(super) struct Content {
    records: Vec<Encoded>,
    bytes: Vec<u8>,
}

struct Encoded {
    /// `None` for a tick: it has no id and repeats nothing.
    fingerprint: Option<u64>,
    /// End of the record in `Content::bytes`.
    end: usize,
    /// What becomes of it once the block that holds it is durable.
    appended: Appended,
}

impl Append {
    pub(super) fn encode(records: impl ExactSizeIterator<Item = Record>, reply: Reply) -> Result<Self, String> {
        let mut bytes = Vec::with_capacity(records.len() * 256);
        let mut encoded = Vec::with_capacity(records.len());
        for record in records {
            bytes = postcard::to_extend(&record, bytes).map_err(|error| format!("cannot encode an event: {error}"))?;
            let fingerprint = match &record {
                Record::Event(event) => Some(fingerprint(event)),
                Record::Tick { .. } => None,
            };
            encoded.push(Encoded { fingerprint, end: bytes.len(), appended: Appended::Stored });
        }
        Ok(Self { content: Content { records: encoded, bytes }, reply })
    }
}

impl Content {
    /// Bytes of the records.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Asks of each record, by its fingerprint and its bytes and in order, what becomes of it.
    pub(super) fn judge(&mut self, mut fate: impl FnMut(Option<u64>, &[u8]) -> Appended) {
        let mut start = 0;
        for record in &mut self.records {
            let bytes = self.bytes.get(start..record.end).unwrap_or_default();
            record.appended = fate(record.fingerprint, bytes);
            start = record.end;
        }
    }

    fn appended(&self) -> Vec<Appended> {
        self.records.iter().map(|record| record.appended).collect()
    }
}

/// What became of an append.
pub(super) type Outcome = Result<Content, AppendError>;

/// Where the answer to an append goes.
pub(super) type Reply = oneshot::Sender<Answer>;

/// The answer to an append.
pub(super) struct Answer {
    outcome: Outcome,
    others: Answers,
}

impl Answer {
    /// What became of each record, after the answers that came with this one have gone on.
    pub(super) fn into_appended(self) -> Result<Vec<Appended>, AppendError> {
        drop(self.others);
        self.outcome.map(|content| content.appended())
    }
}

/// The answers of one block. They are sent when this is dropped.
#[derive(Default)]
pub(super) struct Answers(Vec<(Outcome, Reply)>);

impl Answers {
    pub(super) fn with_capacity(appends: usize) -> Self {
        Self(Vec::with_capacity(appends))
    }

    pub(super) fn push(&mut self, outcome: Outcome, reply: Reply) {
        self.0.push((outcome, reply));
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Nothing of it was written.
    pub(super) fn refuse(&mut self, error: &AppendError) {
        for (outcome, _) in &mut self.0 {
            *outcome = Err(error.clone());
        }
    }

    /// Wakes one of those that wait; it wakes the others.
    pub(super) fn send(mut self) {
        if let Some((outcome, reply)) = self.0.pop() {
            // A client that has hung up has dropped its receiver: the answer comes back and is dropped here, which
            // sends the others.
            let _ = reply.send(Answer { outcome, others: self });
        }
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        for (outcome, reply) in self.0.drain(..) {
            let _ = reply.send(Answer { outcome, others: Self::default() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Timestamp;

    fn answers(count: usize) -> (Answers, Vec<oneshot::Receiver<Answer>>) {
        let (mut answers, mut receivers) = (Answers::default(), Vec::new());
        for _ in 0..count {
            let (reply, receiver) = oneshot::channel();
            let append = Append::encode(std::iter::once(Record::Tick { at: Timestamp(1) }), reply).unwrap();
            answers.push(Ok(append.content), append.reply);
            receivers.push(receiver);
        }
        (answers, receivers)
    }

    fn answered(receivers: &mut [oneshot::Receiver<Answer>]) -> usize {
        receivers.iter_mut().filter_map(|receiver| receiver.try_recv().ok()).map(Answer::into_appended).count()
    }

    #[test]
    fn the_first_to_be_woken_answers_the_others() {
        let (answers, mut receivers) = answers(3);
        answers.send();
        let first = receivers.pop().unwrap().try_recv().unwrap();
        assert_eq!(answered(&mut receivers), 0);
        assert_eq!(first.into_appended().unwrap(), [Appended::Stored]);
        assert_eq!(answered(&mut receivers), 2);
    }

    #[test]
    fn all_are_answered_when_the_first_has_gone_before_or_after_it_was() {
        let (gone, mut receivers) = answers(3);
        drop(receivers.pop());
        gone.send();
        assert_eq!(answered(&mut receivers), 2);
        let (going, mut receivers) = answers(3);
        going.send();
        drop(receivers.pop());
        assert_eq!(answered(&mut receivers), 2);
    }

    #[test]
    fn a_block_that_was_not_written_refuses_all() {
        let (mut refused, mut receivers) = answers(2);
        refused.refuse(&AppendError::Overloaded);
        drop(refused);
        for receiver in &mut receivers {
            assert!(matches!(receiver.try_recv().unwrap().into_appended(), Err(AppendError::Overloaded)));
        }
    }
}
