//! Latencies as quantiles.
//!
//! Invariant: memory does not grow with what is recorded. Not here: names and help texts (`metrics`).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram as HdrHistogram;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{LabelPair, MetricFamily, MetricType, Quantile};

/// Latencies in an HDR histogram, exported as a Prometheus summary: exact quantiles to two significant digits at any
/// scale, where fixed buckets would have to guess the range between a millisecond and an outage of a day.
#[derive(Clone, Debug)]
pub struct LatencyQuantiles {
    desc: Desc,
    name: String,
    help: String,
    recorded: Arc<Mutex<Recorded>>,
}

#[derive(Debug)]
struct Recorded {
    micros: HdrHistogram<u64>,
    sum_seconds: f64,
}

impl LatencyQuantiles {
    const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];
    /// A day: longer is an outage, and reads as "at least a day".
    const MAX_MICROS: u64 = 86_400_000_000;

    pub(super) fn new(name: &str, help: &str) -> prometheus::Result<Self> {
        let micros = HdrHistogram::new_with_bounds(1, Self::MAX_MICROS, 2)
            .map_err(|fault| prometheus::Error::Msg(fault.to_string()))?;
        Ok(Self {
            desc: Desc::new(name.into(), help.into(), Vec::new(), std::collections::HashMap::new())?,
            name: name.into(),
            help: help.into(),
            recorded: Arc::new(Mutex::new(Recorded { micros, sum_seconds: 0.0 })),
        })
    }

    /// Records one latency.
    pub fn record(&self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).clamp(1, Self::MAX_MICROS);
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        recorded.micros.saturating_record(micros);
        recorded.sum_seconds += latency.as_secs_f64();
    }
}

impl Collector for LatencyQuantiles {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    #[expect(clippy::cast_precision_loss, reason = "microseconds of a day fit in the 52 bits of an f64")]
    fn collect(&self) -> Vec<MetricFamily> {
        let recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        let mut summary = prometheus::proto::Summary::default();
        summary.set_sample_count(recorded.micros.len());
        summary.set_sample_sum(recorded.sum_seconds);
        let quantiles = Self::QUANTILES.map(|quantile| {
            let mut value = Quantile::default();
            value.set_quantile(quantile);
            value.set_value(recorded.micros.value_at_quantile(quantile) as f64 / 1e6);
            value
        });
        summary.set_quantile(quantiles.to_vec());
        let mut metric = prometheus::proto::Metric::default();
        metric.set_label(Vec::<LabelPair>::new());
        metric.set_summary(summary);
        let mut family = MetricFamily::default();
        family.set_name(self.name.clone());
        family.set_help(self.help.clone());
        family.set_field_type(MetricType::SUMMARY);
        family.set_metric(vec![metric]);
        vec![family]
    }
}
