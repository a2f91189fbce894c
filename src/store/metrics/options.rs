//! Limits of the metrics store, and what they are when nobody says.

use crate::store::lane::LaneOptions;

/// Limits of the metrics store.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Log and head.
    pub lane: LaneOptions,
    /// Series in one head; new ones over it are refused, those there go on.
    pub active_series_max: usize,
    /// Series of one metric name in memory; new ones over it are refused, those there go on.
    pub series_per_metric_max: usize,
    /// Labels of a new series.
    pub labels_max: usize,
    /// Bytes of a label's name in a new series.
    pub label_name_bytes_max: usize,
    /// Bytes of a label's value in a new series.
    pub label_value_bytes_max: usize,
    /// Exemplars of one series in one head; the oldest makes room.
    pub exemplars_per_series_max: usize,
    /// Exemplars of all series in one head.
    pub exemplars_max: usize,
    /// Metric families with metadata in one head.
    pub metadata_max: usize,
    /// Bytes of decoded frames of parts that are kept.
    pub cache_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lane: LaneOptions::default(),
            active_series_max: 2_000_000,
            series_per_metric_max: 1_000_000,
            labels_max: 64,
            label_name_bytes_max: 1 << 10,
            label_value_bytes_max: 16 << 10,
            exemplars_per_series_max: 10,
            exemplars_max: 100_000,
            metadata_max: 100_000,
            cache_bytes_max: 256 << 20,
        }
    }
}
