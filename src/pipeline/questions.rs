//! Questions about entities on their way to the tasks, and the answers.
//!
//! Invariant: asking changes nothing, and a task is never held up for long: it answers between two steps, at most
//! [`MAX_WAITING`] questions each time. Nobody waits for longer than [`TIMEOUT`].
//!
//! Not here: what the rules say (`detect`), who may ask (`admin`).

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::Task;
use crate::detect::{Detector, Explanation, MAX_TENANTS_EXPLAINED, Subject, UnknownSubject};
use crate::event::{Tenant, Timestamp};
use crate::finding::Finding;
use crate::log::Partition;

/// Questions that wait for one task. People ask, one at a time; an answer takes milliseconds, so a fifth that waits means
/// that somebody asks in a loop, and he is told so rather than served before the events.
const MAX_WAITING: usize = 4;
/// How long an asker waits. A task looks for questions at least four times a second, but for a moment in which it reads a
/// backlog or writes a large snapshot.
const TIMEOUT: Duration = Duration::from_secs(2);
const UNKNOWN: &str = "nothing is known of it: it never failed here, was met once, or was forgotten";

/// What the rules say about an entity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Whom it is about, in the form in which findings write it.
    pub entity: String,
    /// The event time of which it speaks.
    pub watermark: Timestamp,
    /// Its windows, of every instance that knows it.
    pub explanations: Vec<Explanation>,
    /// The findings these name, as they stand: open, or closed less than an hour ago.
    pub findings: Vec<Finding>,
    /// Why there is nothing, or not all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Answer {
    fn new(subject: &Subject) -> Self {
        Self {
            entity: subject.to_string(),
            watermark: Timestamp(0),
            explanations: Vec::new(),
            findings: Vec::new(),
            note: None,
        }
    }

    /// What `detector` says of `subject`, for `tenant` or for every tenant that knows it.
    fn of(detector: &Detector, subject: &Subject, tenant: Option<&Tenant>) -> Self {
        let explanations = detector.explain(subject, tenant);
        let mut ids: Vec<Uuid> = explanations.iter().filter_map(|one| one.finding).collect();
        // Both windows of an entity name the same one, side by side.
        ids.dedup();
        let findings = ids.into_iter().filter_map(|id| detector.finding(id)).collect();
        Self { watermark: detector.now(), explanations, findings, ..Self::new(subject) }
    }

    fn join(&mut self, other: Self) {
        self.watermark = self.watermark.max(other.watermark);
        self.explanations.extend(other.explanations);
        self.findings.extend(other.findings);
    }

    fn with_note(mut self, tenant: Option<&Tenant>) -> Self {
        let mut tenants: Vec<_> = self.explanations.iter().map(|one| &one.tenant).collect();
        tenants.dedup();
        self.note = if self.explanations.is_empty() {
            Some(UNKNOWN.to_owned())
        } else {
            let is_full = tenant.is_none() && tenants.len() >= MAX_TENANTS_EXPLAINED;
            is_full.then(|| format!("more than these {} instances may know it: ask for one of them", tenants.len()))
        };
        self
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// Nothing of the kind is counted.
    #[error(transparent)]
    Unknown(#[from] UnknownSubject),
    /// Others are asking.
    #[error("{MAX_WAITING} questions are waiting already; ask again")]
    Busy,
    /// The task did not come to it.
    #[error("the detector did not answer within {} s; it may be reading a backlog, ask again", TIMEOUT.as_secs())]
    Late,
    /// The task is gone, or going.
    #[error("the detector has stopped")]
    Stopped,
}

/// Where questions are put. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Questions(Arc<DashMap<Partition, mpsc::Sender<Question>>>);

/// A question on its way to one task.
#[derive(Debug)]
pub(super) struct Question {
    subject: Subject,
    tenant: Option<Tenant>,
    answer: oneshot::Sender<Answer>,
}

pub(super) fn channel() -> (mpsc::Sender<Question>, mpsc::Receiver<Question>) {
    mpsc::channel(MAX_WAITING)
}

impl Questions {
    /// From now on `task` is asked too.
    pub(super) fn add(&self, task: &Task) {
        self.0.insert(task.partition, task.questions.0.clone());
    }

    /// The task of `partition` is asked no more.
    pub(super) fn remove(&self, partition: Partition) {
        self.0.remove(&partition);
    }

    /// Asks about `entity`, at `tenant` or at every tenant that knows it.
    ///
    /// # Errors
    /// See [`Unanswered`].
    pub async fn ask(&self, entity: &str, tenant: Option<&str>) -> Result<Answer, Unanswered> {
        let (subject, tenant): (Subject, Option<Tenant>) = (entity.parse()?, tenant.map(Tenant::from));
        let asked = async {
            let tasks: Vec<_> = self.0.iter().map(|entry| entry.value().clone()).collect();
            let mut waiting = Vec::with_capacity(tasks.len());
            for task in tasks {
                let (answer, answered) = oneshot::channel();
                let question = Question { subject: subject.clone(), tenant: tenant.clone(), answer };
                task.try_send(question).map_err(|fault| match fault {
                    mpsc::error::TrySendError::Full(_) => Unanswered::Busy,
                    mpsc::error::TrySendError::Closed(_) => Unanswered::Stopped,
                })?;
                waiting.push(answered);
            }
            let mut all = Answer::new(&subject);
            for answered in waiting {
                all.join(answered.await.map_err(|_| Unanswered::Stopped)?);
            }
            Ok(all.with_note(tenant.as_ref()))
        };
        tokio::time::timeout(TIMEOUT, asked).await.unwrap_or(Err(Unanswered::Late))
    }
}

impl Task {
    /// What the rules say of `subject` after the last step.
    #[must_use]
    pub fn explain(&self, subject: &Subject) -> Answer {
        Answer::of(&self.detector, subject, None).with_note(None)
    }

    /// Answers those who still wait.
    pub(super) fn answer_questions(&mut self) {
        for _ in 0..MAX_WAITING {
            let Ok(Question { subject, tenant, answer }) = self.questions.1.try_recv() else { return };
            if !answer.is_closed() {
                // Whoever asked may have gone since.
                let _ = answer.send(Answer::of(&self.detector, &subject, tenant.as_ref()));
            }
        }
    }
}

#[cfg(test)]
mod tests;
