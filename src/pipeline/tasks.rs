//! The tasks of this process: which partitions are judged here, each on a thread of its own.
//!
//! Invariant: a partition has at most one task here, and [`Tasks::stop`] answers only once that has left its last snapshot
//! (or the patience given is over, and then its successor waits for it). A task that ends without having been asked to is
//! told of: a partition that nobody judges would be a silent hole.
//!
//! Not here: who decides which partitions are ours. On the embedded log it is the one there is; on Kafka the group says.

use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::settings::Settings;
use super::{Parts, Questions, RETRY_WAIT, Task};
use crate::clock::Stopwatch;
use crate::detect;
use crate::log::{LogError, Partition};

/// A task that is restoring or running.
#[derive(Debug)]
struct Running {
    stop: CancellationToken,
    /// Disconnected once the thread is done.
    done: Receiver<()>,
}

/// Told when a task ends by itself, with why.
pub type Ended = mpsc::Receiver<String>;

/// The settings in force; the number grows with each change, so that one that came during a restore is noticed.
#[derive(Debug)]
struct InForce {
    config: detect::Config,
    change: u64,
}

/// The tasks. Clones share them.
#[derive(Clone)]
pub struct Tasks(Arc<Shared>);

struct Shared {
    parts: Parts,
    runtime: Handle,
    in_force: Mutex<InForce>,
    running: Mutex<Vec<(Partition, Running)>>,
    /// Those that did not stop in time, until their successors have waited for them.
    late: Mutex<Vec<(Partition, Running)>>,
    settings: DashMap<Partition, Settings>,
    questions: Questions,
    ended: mpsc::Sender<String>,
}

impl Tasks {
    /// None yet. `runtime` is where ticks are appended.
    #[must_use]
    pub fn new(parts: Parts, runtime: Handle) -> (Self, Ended) {
        // The first is enough: it ends the program.
        let (ended, end) = mpsc::channel(1);
        let tasks = Self(Arc::new(Shared {
            in_force: Mutex::new(InForce { config: parts.config.clone(), change: 0 }),
            parts,
            runtime,
            running: Mutex::default(),
            late: Mutex::default(),
            settings: DashMap::new(),
            questions: Questions::default(),
            ended,
        }));
        (tasks, end)
    }

    /// Questions that whichever tasks run answer.
    #[must_use]
    pub fn questions(&self) -> Questions {
        self.0.questions.clone()
    }

    /// Restores `partition` now.
    ///
    /// # Errors
    /// See [`LogError`].
    pub fn open(&self, partition: Partition) -> Result<Task, LogError> {
        let config = locked(&self.0.in_force).config.clone();
        Task::open(Parts { config, ..self.0.parts.clone() }, partition)
    }

    /// Runs a task that was opened.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn run(&self, task: Task) -> std::io::Result<()> {
        let partition = task.partition;
        self.spawn(partition, move |tasks, stop| tasks.serve(task, &stop))
    }

    /// Restores `partition` on its own thread, trying until that works, and runs it. `ready` is called once it is restored.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(&self, partition: Partition, ready: impl FnOnce(Duration) + Send + 'static) -> std::io::Result<()> {
        self.spawn(partition, move |tasks, stop| {
            let begun = Stopwatch::start();
            loop {
                let change = locked(&tasks.0.in_force).change;
                match tasks.open(partition) {
                    // Settings that came meanwhile have not reached it: what is stored is read again under them.
                    Ok(_) if locked(&tasks.0.in_force).change != change => {}
                    Ok(task) => {
                        ready(begun.elapsed());
                        return tasks.serve(task, &stop);
                    }
                    Err(LogError::Unavailable(error)) => {
                        tracing::warn!(partition = partition.0, %error, "cannot restore the detector yet");
                        std::thread::sleep(RETRY_WAIT);
                    }
                    Err(error @ LogError::Corrupt(_)) => return Err(error),
                }
                if stop.is_cancelled() {
                    return Ok(());
                }
            }
        })
    }

    fn spawn<F>(&self, partition: Partition, body: F) -> std::io::Result<()>
    where
        F: FnOnce(&Self, CancellationToken) -> Result<(), LogError> + Send + 'static,
    {
        let (alive, done) = sync_channel::<()>(1);
        let (stop, tasks) = (CancellationToken::new(), self.clone());
        let late: Vec<_> = locked(&self.0.late).extract_if(.., |(late, _)| *late == partition).collect();
        let stopping = stop.clone();
        std::thread::Builder::new().name(format!("detect-{}", partition.0)).spawn(move || {
            for (_, earlier) in late {
                // Two at a time would take each other's records, and what is shown of the one would go with the other.
                let _ = earlier.done.recv();
            }
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(&tasks, stopping.clone())));
            tasks.0.settings.remove(&partition);
            tasks.0.questions.remove(partition);
            let why = match result {
                Ok(Ok(())) if stopping.is_cancelled() => None,
                Ok(Ok(())) => Some("it ended by itself".to_owned()),
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some("it panicked".to_owned()),
            };
            if let Some(why) = why {
                // Nobody listens any more only while everything stops.
                let _ = tasks.0.ended.try_send(format!("the detector of partition {}: {why}", partition.0));
            }
            drop(alive);
        })?;
        locked(&self.0.running).push((partition, Running { stop, done }));
        Ok(())
    }

    fn serve(&self, task: Task, stop: &CancellationToken) -> Result<(), LogError> {
        self.0.questions.add(&task);
        self.0.settings.insert(task.partition, task.settings());
        task.run(&self.0.runtime, stop)
    }

    /// Has the tasks of `partitions` stop, and waits until they have, at most `patience`; answers whether all did.
    #[must_use]
    pub fn stop(&self, partitions: &[Partition], patience: Duration) -> bool {
        let stopping: Vec<_> =
            locked(&self.0.running).extract_if(.., |(partition, _)| partitions.contains(partition)).collect();
        for (_, running) in &stopping {
            running.stop.cancel();
        }
        let begun = Stopwatch::start();
        let late: Vec<_> = stopping
            .into_iter()
            .filter(|(_, running)| {
                let left = patience.saturating_sub(begun.elapsed());
                !matches!(running.done.recv_timeout(left), Err(RecvTimeoutError::Disconnected))
            })
            .collect();
        let all = late.is_empty();
        locked(&self.0.late).extend(late);
        all
    }

    /// As [`Tasks::stop`], for all there are.
    #[must_use]
    pub fn stop_all(&self, patience: Duration) -> bool {
        let all: Vec<_> = locked(&self.0.running).iter().map(|(partition, _)| *partition).collect();
        self.stop(&all, patience)
    }

    /// Hands new settings to every task, and to those that will come; answers once all judge by them. `false`: one ended.
    pub async fn put_in_force(&self, config: &detect::Config) -> bool {
        {
            let mut in_force = locked(&self.0.in_force);
            in_force.config = config.clone();
            in_force.change += 1;
        }
        let running: Vec<_> = self.0.settings.iter().map(|entry| (*entry.key(), entry.value().clone())).collect();
        for (partition, settings) in running {
            // One that has been stopped meanwhile needs them no more.
            if !settings.put_in_force(config.clone()).await && self.0.settings.contains_key(&partition) {
                return false;
            }
        }
        true
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
