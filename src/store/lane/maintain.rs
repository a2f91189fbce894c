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
    /// [`StoreError`]: some of it may not; it is tried again.
    fn sync(&self) -> Result<(), StoreError>;
    /// Removes parts that end before `cutoff_ms`; returns what they held, `None` when there was none.
    fn remove_before(&self, cutoff_ms: i64) -> Option<Removed>;
    /// Removes about `bytes`, of the part that ends first: all of it when it has less than `step`
    /// bytes or cannot be cut, else what it holds of its oldest times, about `step` bytes at least.
    ///
    /// # Errors
    /// [`StoreError`]: nothing is removed. [`StoreError::NotReady`] while a merge is under way.
    fn remove_oldest(&self, bytes: u64, step: u64) -> Result<Option<Removed>, StoreError>;
    /// The part that ends first.
    fn oldest(&self) -> Option<OldestPart>;
    /// The latest time in a part, in milliseconds.
    fn newest_ms(&self) -> Option<i64>;
    /// The newest seq of a part; 0 when there is none.
    fn newest_part_seq(&self) -> u64;
    /// Rows of parts behind `seq` that may be from `from_ms` on, and of all parts behind it.
    fn rows_behind(&self, seq: u64, from_ms: i64) -> (u64, u64);
    /// Parts larger than this are not made by merging, in bytes.
    fn set_merged_bytes_max(&self, bytes: u64);
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

/// What was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Parts that it was, or was of.
    pub parts: usize,
    /// Samples, lines or spans.
    pub rows: u64,
    /// Bytes that the parts are smaller now.
    pub bytes: u64,
    /// Earliest time, in milliseconds.
    pub from_ms: i64,
    /// Latest time, in milliseconds.
    pub to_ms: i64,
}

/// The part of a lane that goes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OldestPart {
    /// When it ends, in milliseconds.
    pub end_ms: i64,
    /// The id of its file when that has a second name, as in a snapshot: if that name lies in the data
    /// directory too, removing the part frees nothing.
    pub linked: Option<(u64, u64)>,
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
