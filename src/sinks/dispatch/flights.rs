//! The batches that are on their way to one sink at the same time.
//!
//! Invariant: a delivery is in one batch at most, and in no other until what became of it is recorded. Since only the
//! earliest pending revision of a finding is ever due, its revisions go out in order and one at a time, however many
//! batches are on their way.
//!
//! Not here: how many may be (`sinks::standing`), and what their answers mean (`super::judge`).

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::task::JoinSet;

use super::halves::{Halves, Part};
use crate::finding::Finding;
use crate::sinks::outbox::{Due, Outcome};
use crate::sinks::redact::{Pseudonym, Redaction};
use crate::sinks::{Delivery, Sink};

/// No sink's own time-outs are longer; one that does not answer within this is hung.
const MAX_DELIVERY: Duration = Duration::from_mins(1);

/// One batch and the sink that it occupies.
pub(super) struct Flight {
    sink: Box<dyn Sink>,
    pub(super) halves: Halves,
    /// All of the batch, also of the parts that are settled.
    entries: Vec<i64>,
    /// [`crate::sinks::standing::Standing::troubles`] when its part was sent.
    pub(super) troubles: u64,
}

/// A part that was answered, or was answered for.
pub(super) struct Landed {
    pub(super) flight: Flight,
    pub(super) part: Part,
    pub(super) deliveries: Vec<Delivery>,
}

/// All of them, and the sinks that are free.
pub(super) struct Flights {
    free: Vec<Box<dyn Sink>>,
    sent: JoinSet<Landed>,
    entries: BTreeSet<i64>,
    redaction: Redaction,
    pseudonym: Pseudonym,
}

impl Flights {
    /// None yet, over `sinks`.
    pub(super) fn over(sinks: Vec<Box<dyn Sink>>, redaction: Redaction, pseudonym: Pseudonym) -> Self {
        Self { free: sinks, sent: JoinSet::new(), entries: BTreeSet::new(), redaction, pseudonym }
    }

    /// Whether nothing is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// Whether another batch may be sent, if there may be `most` of them.
    pub(super) fn has_room(&self, most: usize) -> bool {
        !self.free.is_empty() && self.sent.len() < most
    }

    /// What is on its way.
    pub(super) fn entries(&self) -> Vec<i64> {
        self.entries.iter().copied().collect()
    }

    /// Sends `due`; returns what became of those that cannot be read. There must be room.
    pub(super) fn send(&mut self, due: Vec<Due>, troubles: u64) -> Vec<Outcome> {
        let (halves, unreadable) = Halves::of(due);
        if let Some(sink) = self.free.pop() {
            let entries = halves.entries();
            self.entries.extend(&entries);
            self.send_next(Flight { sink, halves, entries, troubles });
        }
        unreadable
    }

    /// Sends the next part of `flight`, if there is one; what was sent of it before must be recorded.
    pub(super) fn send_next(&mut self, mut flight: Flight) {
        let Some(part) = flight.halves.next() else { return self.end(flight) };
        let (redaction, pseudonym) = (self.redaction, Pseudonym::clone(&self.pseudonym));
        self.sent.spawn(async move {
            let redacted: Vec<Finding>;
            let findings = if redaction.keeps_all() {
                part.findings()
            } else {
                redacted = part.findings().iter().map(|finding| redaction.apply(finding.clone(), &pseudonym)).collect();
                &redacted
            };
            let deliveries = deliver(&mut *flight.sink, findings).await;
            Landed { flight, part, deliveries }
        });
    }

    /// Frees the sink of `flight`; what is not settled of it is due as before.
    pub(super) fn end(&mut self, flight: Flight) {
        for entry in &flight.entries {
            self.entries.remove(entry);
        }
        self.free.push(flight.sink);
    }

    /// Those that were answered, once there is one. Loses nothing when it is not waited for to its end.
    pub(super) async fn landed(&mut self) -> Vec<Landed> {
        let mut landed: Vec<Landed> = self.sent.join_next().await.map(unwound).into_iter().collect();
        while let Some(more) = self.sent.try_join_next() {
            landed.push(unwound(more));
        }
        landed
    }
}

/// A sink that panics ends the task that delivers to it, as if it had run there.
fn unwound(joined: Result<Landed, tokio::task::JoinError>) -> Landed {
    joined.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        // Nobody aborts one.
        Err(error) => std::panic::resume_unwind(Box::new(error.to_string())),
    })
}

/// One call of the sink, which answers for each finding or is answered for.
async fn deliver(sink: &mut dyn Sink, findings: &[Finding]) -> Vec<Delivery> {
    let (mut deliveries, missing) = match tokio::time::timeout(MAX_DELIVERY, sink.deliver(findings)).await {
        Ok(deliveries) => (deliveries, "the sink gave no result for it"),
        Err(_) => (Vec::new(), "the sink did not answer in time"),
    };
    deliveries.resize_with(findings.len(), || Delivery::retry(missing));
    deliveries
}
