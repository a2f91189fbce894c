//! Samples of metrics, and the columns in which series come out of the store.

use std::sync::Arc;

use super::histogram::Histogram;
use super::labels::Labels;

/// The value that ends a series: one particular NaN (Prometheus, model/value).
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// Whether `value` is the stale marker.
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}

/// One float sample.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Milliseconds since the Unix epoch.
    pub t: i64,
    /// The value; NaN payloads are kept.
    pub value: f64,
}

/// One native histogram sample.
#[derive(Clone, Debug)]
pub struct HistogramSample {
    /// Milliseconds since the Unix epoch.
    pub t: i64,
    /// The histogram; a stale marker is one whose sum is the stale NaN.
    pub histogram: Arc<Histogram>,
}

/// One series over a time range, in columns. `times` and `values` have the same length; both they
/// and `histograms` are in time order without equal times. A time is in one of the two only.
#[derive(Clone, Debug, Default)]
pub struct SeriesColumns {
    /// Who the series is, `__name__` included.
    pub labels: Labels,
    /// Milliseconds since the Unix epoch of each float sample.
    pub times: Vec<i64>,
    /// The float samples, stale markers included.
    pub values: Vec<f64>,
    /// The native histogram samples.
    pub histograms: Vec<HistogramSample>,
}

impl SeriesColumns {
    /// Samples of both kinds.
    pub fn len(&self) -> usize {
        self.times.len() + self.histograms.len()
    }

    /// Whether the range holds no sample.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
