//! Gives a sink that blocks (a file, a pipe) a thread of its own.
//!
//! Invariant: a write that hangs (a paused pager, a dead network share) holds up nobody but its own sink: no thread of
//! the runtime is lent to it, so neither another sink nor the end of the process waits for it.
//!
//! Not here: time-outs. The dispatcher stops waiting; the thread finishes its batch whenever it can.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use async_trait::async_trait;
use tokio::sync::oneshot;

use crate::finding::Finding;

use super::jsonl::Files;
use super::{Delivery, Sink};

/// A sink whose calls block.
pub trait BlockingSink: Send + 'static {
    /// Sends the findings in order; one result each.
    fn deliver(&mut self, findings: &[Finding]) -> Vec<Delivery>;

    /// See [`Sink::files`].
    fn files(&self) -> Option<Files> {
        None
    }
}

/// A [`BlockingSink`] as a [`Sink`].
#[derive(Debug)]
pub struct Threaded {
    batches: SyncSender<Batch>,
    /// The answer to a batch that the caller stopped waiting for: the thread may still be busy with it.
    abandoned: Option<oneshot::Receiver<Vec<Delivery>>>,
    files: Option<Files>,
}

#[derive(Debug)]
struct Batch {
    findings: Vec<Finding>,
    reply: oneshot::Sender<Vec<Delivery>>,
}

impl Threaded {
    /// Starts the thread `sink-<name>`; it ends when this value is dropped and the batch at hand is done.
    ///
    /// # Errors
    /// The system starts no more threads.
    pub fn spawn(name: &str, sink: impl BlockingSink) -> std::io::Result<Self> {
        // One batch is at hand at any time, so one place is enough for the next to be handed over without waiting.
        let (batches, waiting) = sync_channel(1);
        let files = sink.files();
        std::thread::Builder::new().name(format!("sink-{name}")).spawn(move || run(sink, &waiting))?;
        Ok(Self { batches, abandoned: None, files })
    }
}

fn run(mut sink: impl BlockingSink, batches: &Receiver<Batch>) {
    while let Ok(batch) = batches.recv() {
        // Nobody waits any more: the outbox delivers again, which receivers recognise by the id.
        let _ = batch.reply.send(sink.deliver(&batch.findings));
    }
}

#[async_trait]
impl Sink for Threaded {
    async fn deliver(&mut self, findings: &[Finding]) -> Vec<Delivery> {
        // Kept in `self` while waiting, so that a caller who gives up here again loses nothing.
        if let Some(answer) = self.abandoned.as_mut() {
            let _ = answer.await;
        }
        let (reply, answer) = oneshot::channel();
        self.abandoned = None;
        match self.batches.try_send(Batch { findings: findings.to_vec(), reply }) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return all(findings, "the sink is still busy"),
            Err(TrySendError::Disconnected(_)) => return all(findings, "the sink's thread has ended"),
        }
        let answered = self.abandoned.insert(answer).await;
        self.abandoned = None;
        answered.unwrap_or_else(|_| all(findings, "the sink's thread has ended"))
    }

    fn files(&self) -> Option<Files> {
        self.files.clone()
    }
}

fn all(findings: &[Finding], reason: &str) -> Vec<Delivery> {
    findings.iter().map(|_| Delivery::retry(reason)).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};
    use std::time::Duration;

    use super::*;
    use crate::sinks::sample::revision;

    /// Answers once it is let.
    struct Gate(Receiver<Delivery>);

    impl BlockingSink for Gate {
        fn deliver(&mut self, findings: &[Finding]) -> Vec<Delivery> {
            let answer = self.0.recv().expect("the gate was dropped");
            findings.iter().map(|_| answer.clone()).collect()
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_batch_nobody_waited_for_is_finished_before_the_next_and_its_answer_is_not_the_next_ones() {
        let (open, gate) = sync_channel(2);
        let mut sink = Threaded::spawn("gate", Gate(gate)).unwrap();
        let findings = [revision(1, 1), revision(2, 1)];
        for _ in 0..2 {
            // The sink hangs; its one runtime thread does not.
            let waited = tokio::time::timeout(Duration::from_millis(5), sink.deliver(&findings)).await;
            assert!(waited.is_err(), "{waited:?}");
        }
        open.send(Delivery::Refused("first".into())).unwrap();
        open.send(Delivery::Accepted).unwrap();
        assert_eq!(sink.deliver(&findings[..1]).await, [Delivery::Accepted]);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_sink_that_dies_answers_retry() {
        let (open, gate) = sync_channel::<Delivery>(1);
        let mut sink = Threaded::spawn("gate", Gate(gate)).unwrap();
        drop(open);
        for _ in 0..2 {
            let answers = sink.deliver(&[revision(1, 1)]).await;
            assert_eq!(answers, [Delivery::retry("the sink's thread has ended")]);
        }
    }
}
