//! SIGHUP: the configuration is read again while everything runs.
//!
//! Invariant: all or nothing. With any fault, every fault is logged and what was in force stays; without one, the settings
//! of detection are in force in every task before the outcome is counted, and nothing that was counted, learned or opened
//! is lost. What cannot change without a restart is named in a warning as long as it differs; it is never passed over.
//!
//! Not here: how a task takes its settings (`pipeline::settings`), which keys it can take (`detect`).

use std::sync::Arc;

use tokio::signal::unix::Signal;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{Faults, Loaded};
use crate::event::Timestamp;
use crate::metrics::ConfigMetrics;
use crate::pipeline::Tasks;

/// Reads file, environment and flags as at the start.
pub type Read = Arc<dyn Fn() -> Result<Loaded, Faults> + Send + Sync>;

/// What reads the configuration again.
pub struct Reload {
    /// What the program was started with: what needs a restart is still as it is here.
    pub(super) started: Loaded,
    pub(super) read: Read,
    pub(super) tasks: Tasks,
    pub(super) metrics: ConfigMetrics,
    pub(super) clock: Clock,
}

impl Reload {
    /// Reads it again at each of `hangups`, until `stop`. Several while it is busy are one.
    pub async fn run(self, mut hangups: Signal, stop: CancellationToken) {
        let reloading = async {
            while hangups.recv().await.is_some() {
                tracing::info!(signal = "SIGHUP", "reading the configuration again");
                let result = if self.reload().await { "ok" } else { "failed" };
                self.metrics.reloads.with_label_values(&[result]).inc();
            }
            // The system takes no more of them: nothing to do but go on as it is.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = reloading => {}
        }
    }

    /// Reads it once; answers whether it is in force.
    async fn reload(&self) -> bool {
        let read = Arc::clone(&self.read);
        // A file may lie on a disk that hangs.
        let loaded = match tokio::task::spawn_blocking(move || (*read)()).await {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(faults)) => {
                for fault in &faults.0 {
                    tracing::error!("{fault}");
                }
                tracing::error!(faults = faults.0.len(), "the configuration was not changed");
                return false;
            }
            Err(error) => {
                tracing::error!(%error, "the configuration was not changed");
                return false;
            }
        };
        let read_at = self.clock.now();
        self.warn_of_restart(&loaded);
        if !self.tasks.put_in_force(&loaded.config.detect).await {
            tracing::error!("a detector has ended; the configuration was not changed");
            return false;
        }
        self.metrics.loaded_seconds.set(seconds(read_at));
        tracing::info!("the configuration is in force");
        true
    }

    fn warn_of_restart(&self, loaded: &Loaded) {
        let mut keys = self.started.config.needing_restart(&loaded.config);
        if loaded.secrets != self.started.secrets {
            keys.push("secrets".to_owned());
        }
        if !keys.is_empty() {
            tracing::warn!(keys = keys.join(", "), "changed, but not in force before a restart");
        }
    }
}

/// As Prometheus wants it.
#[expect(clippy::cast_precision_loss, reason = "milliseconds of this millennium fit in 52 bits")]
pub(super) fn seconds(at: Timestamp) -> f64 {
    at.0 as f64 / 1000.0
}
