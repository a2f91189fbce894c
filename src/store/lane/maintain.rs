//! What the store does with every lane, whatever its signal.

use std::path::Path;

use super::pace::Pace;
use crate::model::batch::Signal;
use crate::store::error::StoreError;

/// What the store does with every lane, whatever its signal.
pub trait Maintain: Send + Sync {
    /// Whose lane it is.
    fn signal(&self) -> Signal;
    /// Writes heads to parts and returns when those are durable and the log is gone.
    ///
    /// # Errors
    /// [`StoreError`]: heads and log are kept, the next flush tries again.
    fn flush(&self) -> Result<(), StoreError>;
    /// Flushes when a head is large or old, or its log on disk is larger than `log_bytes_max`.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    fn flush_if_due(&self, log_bytes_max: u64) -> Result<(), StoreError>;
    /// Makes everything acknowledged survive a power cut.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    fn sync(&self) -> Result<(), StoreError>;
    /// Removes parts that end before `cutoff_ms`; returns how many.
    fn remove_before(&self, cutoff_ms: i64) -> usize;
    /// Removes the part that ends first; returns the bytes it had.
    fn remove_oldest(&self) -> Option<u64>;
    /// When the oldest part ends, in milliseconds.
    fn oldest_end_ms(&self) -> Option<i64>;
    /// Merges parts until none should be, at the given pace; returns how many merges that took.
    ///
    /// # Errors
    /// [`StoreError`]: the parts are as they were.
    fn merge(&self, pace: &mut Pace) -> Result<usize, StoreError>;
    /// Writes anew the parts that hold rows that are to go; returns how many there were.
    ///
    /// # Errors
    /// [`StoreError`]: what was not written anew is as it was.
    fn rewrite(&self, pace: &mut Pace) -> Result<usize, StoreError>;
    /// Links every part into a folder, which must be there.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    fn link_parts(&self, folder: &Path) -> Result<(), StoreError>;
    /// Numbers for people.
    fn stats(&self) -> LaneStats;
}

/// A lane in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneStats {
    /// Parts.
    pub parts: u64,
    /// Bytes of all parts.
    pub part_bytes: u64,
    /// Rows in parts.
    pub part_rows: u64,
    /// Bytes of memory of all heads.
    pub head_bytes: u64,
    /// Bytes of log on disk.
    pub wal_bytes: u64,
    /// Earliest time in a part, in milliseconds.
    pub oldest_ms: Option<i64>,
}
