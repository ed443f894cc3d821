//! From a signal to the end: the first SIGTERM or SIGINT asks everything to finish, and one deadline bounds all of it.
//!
//! Invariant: after [`Shutdown::requested`] is cancelled, [`Shutdown::bound`] returns within the deadline, whatever it
//! waits for. A second signal is the deadline.
//!
//! Not here: what finishing means. Each part gets the token and drains itself.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The two moments of a stop.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// Cancelled at the first signal: take nothing new, finish what is there.
    pub requested: CancellationToken,
    /// Cancelled at the second: stop waiting.
    pub forced: CancellationToken,
}

impl Shutdown {
    /// Listens for signals from now on; needs a running tokio.
    ///
    /// # Errors
    /// The system refuses to register them.
    pub fn on_signals() -> io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = Self::default();
        let told = shutdown.clone();
        tokio::spawn(async move {
            let name = first_of(&mut terminate, &mut interrupt).await;
            tracing::info!(signal = name, "stopping");
            told.requested.cancel();
            let name = first_of(&mut terminate, &mut interrupt).await;
            tracing::warn!(signal = name, "stopping at once");
            told.forced.cancel();
        });
        Ok(shutdown)
    }

    /// Runs `work` to its end, or until `deadline` after the stop was requested: then `None`.
    pub async fn bound<T>(&self, deadline: Duration, work: impl Future<Output = T>) -> Option<T> {
        let overdue = async {
            self.requested.cancelled().await;
            tokio::select! {
                () = tokio::time::sleep(deadline) => {}
                () = self.forced.cancelled() => {}
            }
        };
        tokio::select! {
            biased;
            done = work => Some(done),
            () = overdue => None,
        }
    }
}

async fn first_of(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Stopwatch;

    const SHORT: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn work_that_ends_is_not_cut_short() {
        let shutdown = Shutdown::default();
        assert_eq!(shutdown.bound(SHORT, async { 7 }).await, Some(7));
        // Twice the deadline, and nobody has asked it to stop.
        assert_eq!(shutdown.bound(SHORT, tokio::time::sleep(SHORT * 2)).await, Some(()));
    }

    #[tokio::test]
    async fn work_that_hangs_is_left_at_the_deadline_or_the_second_signal() {
        let shutdown = Shutdown::default();
        shutdown.requested.cancel();
        let watch = Stopwatch::start();
        assert_eq!(shutdown.bound(SHORT, std::future::pending::<()>()).await, None);
        assert!(watch.elapsed() >= SHORT, "{:?}", watch.elapsed());

        shutdown.forced.cancel();
        let watch = Stopwatch::start();
        assert_eq!(shutdown.bound(Duration::from_mins(1), std::future::pending::<()>()).await, None);
        assert!(watch.elapsed() < Duration::from_secs(5), "{:?}", watch.elapsed());
    }
}
