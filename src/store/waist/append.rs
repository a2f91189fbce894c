//! The ways in: when an append returns `Ok`, what was accepted is in the write-ahead log.

use crate::model::batch::{Appended, LogsBatch, MetricsBatch, TracesBatch};
use crate::model::raw::{ParseLabels, RawMetrics};
use crate::store::error::StoreError;

/// Takes samples. When it returns `Ok`, what was accepted is in the write-ahead log and seen by
/// queries; what was refused is counted in [`Appended::rejected`]. On `Err` nothing may be assumed,
/// and sending the same again is harmless.
pub trait AppendMetrics: Send + Sync {
    /// Stores a batch.
    ///
    /// # Errors
    /// [`StoreError`] of class `Unavailable`: the sender should retry.
    fn append(&self, batch: &MetricsBatch) -> Result<Appended, StoreError>;

    /// Stores a request whose labels have not been read; `parse` reads those of series that are not
    /// known by their bytes.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    fn append_raw(&self, raw: RawMetrics<'_>, parse: &ParseLabels<'_>) -> Result<Appended, StoreError> {
        let (batch, refused) = raw.read(parse);
        let mut appended = self.append(&batch)?;
        for ((reason, text), count) in refused {
            appended.rejected.add(reason, count as u64, || text);
        }
        Ok(appended)
    }
}

/// Takes log lines, with the promise of [`AppendMetrics`].
pub trait AppendLogs: Send + Sync {
    /// Stores a batch.
    ///
    /// # Errors
    /// [`StoreError`] of class `Unavailable`: the sender should retry.
    fn append(&self, batch: &LogsBatch) -> Result<Appended, StoreError>;
}

/// Takes spans, with the promise of [`AppendMetrics`].
pub trait AppendTraces: Send + Sync {
    /// Stores a batch.
    ///
    /// # Errors
    /// [`StoreError`] of class `Unavailable`: the sender should retry.
    fn append(&self, batch: &TracesBatch) -> Result<Appended, StoreError>;
}
