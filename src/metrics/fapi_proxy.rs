//! What is measured of the proxy in front of Clerk's Frontend API. Without it none of these counts.

use prometheus::{Histogram, IntCounterVec, IntGauge};

use super::Declare;

/// The reasons for which an attempt goes by unrecorded.
const UNRECORDED: [&str; 3] = ["queue_full", "log", "unreadable"];

/// The proxy in front of Clerk's Frontend API.
#[derive(Clone, Debug)]
pub struct FapiProxyMetrics {
    /// `status`: requests answered, by the class of the answer (`2xx`).
    requests: IntCounterVec,
    /// `reason`: requests that Clerk did not answer.
    pub failures: IntCounterVec,
    /// From the headers of a request to the start of the answer.
    pub answer_seconds: Histogram,
    /// `reason`: sign-in attempts that were forwarded and not recorded.
    unrecorded: IntCounterVec,
    /// Answers waiting to be recorded.
    pub queued: IntGauge,
    /// Connections open on its listener.
    pub connections: IntGauge,
}

impl FapiProxyMetrics {
    pub(super) fn new(declare: &Declare<'_>) -> prometheus::Result<Self> {
        // From an answer out of a cache (1 ms) to the time-out (30 s).
        let buckets = vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
        let unrecorded = declare.counters(
            "fapi_proxy_unrecorded_total",
            "Sign-in attempts that were forwarded and not recorded, by reason (queue_full, log, unreadable).",
            &["reason"],
        )?;
        // There from the start: what appears with its first failure cannot be seen to rise.
        for reason in UNRECORDED {
            unrecorded.with_label_values(&[reason]);
        }
        Ok(Self {
            requests: declare.counters(
                "fapi_proxy_requests_total",
                "Requests answered by the Frontend API proxy, by class of the status.",
                &["status"],
            )?,
            failures: declare.counters(
                "fapi_proxy_failures_total",
                "Requests that the proxy answered itself because Clerk did not or could not, by reason.",
                &["reason"],
            )?,
            answer_seconds: declare.histogram(
                "fapi_proxy_answer_seconds",
                "Time from the headers of a request to the start of Clerk's answer.",
                buckets,
            )?,
            unrecorded,
            queued: declare.gauge("fapi_proxy_queued", "Answers about sign-ins waiting to be recorded.")?,
            connections: declare.gauge("fapi_proxy_connections", "Connections open on the proxy's listener.")?,
        })
    }

    /// Counts an answer by the class of its status.
    pub fn answered(&self, status: u16) {
        let class = match status / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        self.requests.with_label_values(&[class]).inc();
    }

    /// Counts attempts that went by.
    pub fn unrecorded(&self, reason: &str, attempts: usize) {
        self.unrecorded.with_label_values(&[reason]).inc_by(attempts as u64);
    }

    /// What went by so far, as a sentence; nothing if nothing did.
    #[must_use]
    pub fn gap(&self) -> Option<String> {
        let counts = UNRECORDED.map(|reason| (reason, self.unrecorded.with_label_values(&[reason]).get()));
        let total: u64 = counts.iter().map(|(_, count)| count).sum();
        let each: Vec<_> = counts.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        (total > 0).then(|| {
            format!("{total} sign-in attempts were forwarded and not recorded since the start ({})", each.join(", "))
        })
    }
}
