//! What the door in lets through.

use std::sync::Arc;
use std::time::Duration;

use crate::model::batch::Signal;
use crate::store::metrics::keep::Retention;

/// Limits of items, and what is added to them.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// How far ahead of the clock a time may lie.
    pub future_max: Duration,
    /// How long samples of which series are kept. Older ones are refused.
    pub retention_metrics: Arc<Retention>,
    /// How long lines are kept; `None` is forever.
    pub retention_logs: Option<Duration>,
    /// How long spans are kept; `None` is forever.
    pub retention_traces: Option<Duration>,
    /// Longest line, in bytes.
    pub line_bytes_max: usize,
    /// Whether lines get `detected_level` as structured metadata.
    pub detect_level: bool,
    /// Most series whose deltas are summed up at the same time; over it the longest idle go.
    pub delta_series_max: usize,
    /// Whether series get `__type__` and `__unit__` from metadata that comes with them.
    pub type_and_unit_labels: bool,
    /// After this time without a delta a series' sum is forgotten and starts again at zero.
    pub delta_idle: Duration,
}

const DAY: Duration = Duration::from_secs(86_400);

impl Default for Options {
    fn default() -> Self {
        Self {
            future_max: 2 * DAY,
            retention_metrics: Arc::new(Retention { rules: Vec::new(), others: Some(30 * DAY) }),
            retention_logs: Some(14 * DAY),
            retention_traces: Some(7 * DAY),
            line_bytes_max: 256 << 10,
            detect_level: true,
            delta_series_max: 100_000,
            type_and_unit_labels: false,
            delta_idle: Duration::from_secs(3_600),
        }
    }
}

impl Options {
    /// The longest that anything of a signal is kept; `None` is forever.
    pub fn retention(&self, signal: Signal) -> Option<Duration> {
        match signal {
            Signal::Metrics => self.retention_metrics.longest(),
            Signal::Logs => self.retention_logs,
            Signal::Traces => self.retention_traces,
        }
    }
}
