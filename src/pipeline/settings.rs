//! New settings on their way to a running task.
//!
//! Invariant: a task takes them between two steps, and only once a snapshot of that place is durable. A crash at any later
//! time repeats from there under the new settings; what came before was judged under the old ones and is not judged again.

use tokio::sync::{mpsc, oneshot};

use super::Task;
use super::shadow::Shadow;
use crate::detect;
use crate::log::LogError;

/// The sending end, one for each task.
#[derive(Clone, Debug)]
pub(super) struct Settings(mpsc::Sender<Change>);

/// Settings that a task is to take.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) config: detect::Config,
    /// Told once they are in force.
    pub(super) done: oneshot::Sender<()>,
}

impl Settings {
    /// One is enough: whoever sends waits until it is in force.
    pub(super) fn channel() -> (Self, mpsc::Receiver<Change>) {
        let (send, receive) = mpsc::channel(1);
        (Self(send), receive)
    }

    /// Hands `config` over and waits until the task judges by it, as long as that takes (a full disk); `false`: the task
    /// has ended.
    pub(super) async fn put_in_force(&self, config: detect::Config) -> bool {
        let (done, in_force) = oneshot::channel();
        self.0.send(Change { config, done }).await.is_ok() && in_force.await.is_ok()
    }
}

impl Task {
    /// Where new settings for this task are handed over.
    pub(super) fn settings(&self) -> Settings {
        self.settings.0.clone()
    }

    /// Puts settings that were handed over in force, once what came before them is safe.
    pub(super) fn take_settings(&mut self) -> Result<(), LogError> {
        if self.change.is_none() {
            self.change = self.settings.1.try_recv().ok();
        }
        if self.change.is_none() {
            return Ok(());
        }
        self.commit(true)?;
        let Some(Change { config, done }) = self.change.take() else { return Ok(()) };
        self.detector.reconfigure(&config);
        let goes_on = self.shadow.as_mut().is_some_and(|shadow| shadow.reconfigure(&config));
        if !goes_on && self.shadow.take().is_some() {
            self.parts.shadow.clear();
        }
        if !goes_on && config.shadowed().is_some() {
            let live = self.detector.snapshot().map_err(|error| LogError::Corrupt(error.to_string()))?;
            self.shadow = Shadow::open(&config, &[Some(&live)], &self.parts.shadow, &self.parts.detect_metrics);
        }
        tracing::info!(partition = self.partition.0, shadow = self.shadow.is_some(), "judging by the new settings");
        self.parts.config = config;
        // Whoever asked may have gone.
        let _ = done.send(());
        Ok(())
    }
}
