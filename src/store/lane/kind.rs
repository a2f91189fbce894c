//! What a lane asks of a signal.

use std::sync::Arc;

use super::pace::Pace;
use crate::model::batch::Signal;
use crate::store::catalog::Names;
use crate::store::codec::Malformed;
use crate::store::error::StoreError;
use crate::store::part::{PartReader, PartWriter};
use crate::store::wal::WalOptions;

/// What is particular to a signal's store.
pub trait Kind: Send + Sync + Sized + 'static {
    /// Whose.
    const SIGNAL: Signal;
    /// Units of time in a day: milliseconds or nanoseconds.
    const DAY: i64;
    /// Rows in memory; appended to from many threads.
    type Head: Send + Sync;
    /// An open part.
    type Part: Send + Sync;
    /// The rows of a head that go to one part.
    type Slice: Send;

    /// An empty head.
    fn new_head(&self) -> Self::Head;
    /// Applies a record of the log; records come in the order written, segment by segment.
    ///
    /// # Errors
    /// [`Malformed`]: the record is skipped and counted.
    fn replay(&self, head: &Self::Head, record: &[u8], segment: u64) -> Result<(), Malformed>;
    /// Memory the head takes, in bytes; cheap.
    fn head_bytes(&self, head: &Self::Head) -> usize;
    /// Memory, in bytes, of what outlives heads, beside what [`head_bytes`](Self::head_bytes) counts of
    /// `heads`, oldest first; cheap.
    fn kept_bytes(&self, _heads: &[&Self::Head]) -> usize {
        0
    }
    /// Memory that an open part takes, in bytes, beside its container.
    fn part_bytes(&self, _part: &Self::Part) -> usize {
        0
    }
    /// Memory that writing the head takes, in bytes, by estimate.
    fn flush_bytes(&self, head: &Self::Head) -> usize;
    /// Whether the head has nothing that a flush would write.
    fn head_is_empty(&self, head: &Self::Head) -> bool;
    /// Divides a frozen head into parts; see [`partition`].
    fn slices(&self, head: &Self::Head) -> Vec<SliceSpan<Self::Slice>>;
    /// Writes the frames of one part.
    ///
    /// # Errors
    /// [`StoreError`].
    fn write(&self, head: &Self::Head, slice: Self::Slice, out: &mut PartWriter) -> Result<(), StoreError>;
    /// Opens a part: reads what queries need at hand, checks what it reads.
    ///
    /// # Errors
    /// [`StoreError`]: the part is moved aside.
    fn open(&self, part: PartReader) -> Result<Self::Part, StoreError>;
    /// The container of an open part.
    fn reader(part: &Self::Part) -> &PartReader;
    /// Label or attribute names of a part with their values, for the catalog.
    ///
    /// # Errors
    /// [`StoreError`].
    fn names(&self, part: &Self::Part) -> Result<Names, StoreError>;
    /// Whether parts of this kind can be merged.
    const MERGES: bool = false;
    /// Bytes of memory that a merge takes for reading a part, by estimate.
    fn merge_bytes(&self, _part: &Self::Part) -> u64 {
        0
    }
    /// Writes what `parts`, oldest first, hold as one part, without what was deleted; says whether
    /// there is anything left to keep.
    ///
    /// # Errors
    /// [`StoreError`].
    fn merge(&self, _parts: &[Arc<Self::Part>], _out: &mut PartWriter, _pace: &mut Pace) -> Result<bool, StoreError> {
        Err(StoreError::NotReady("not able to merge parts of this kind"))
    }
    /// The time from which on a part would hold about `bytes` less; `None` when it cannot be cut.
    fn cut_time(&self, _part: &Self::Part, _bytes: u64) -> Option<i64> {
        None
    }
    /// Writes what a part holds from `from` on; says whether there is anything left to keep.
    ///
    /// # Errors
    /// [`StoreError`].
    fn cut(
        &self,
        _part: &Arc<Self::Part>,
        _from: i64,
        _out: &mut PartWriter,
        _pace: &mut Pace,
    ) -> Result<bool, StoreError> {
        Err(StoreError::NotReady("not able to cut parts of this kind"))
    }
    /// Whether a part should be written anew by itself, for it holds rows that are to go.
    ///
    /// # Errors
    /// [`StoreError`].
    fn wants_rewrite(&self, _part: &Self::Part) -> Result<bool, StoreError> {
        Ok(false)
    }
    /// No part wants to be merged or written anew any more; `mark` is what
    /// [`merge_mark`](Self::merge_mark) said before the parts were looked up.
    ///
    /// # Errors
    /// [`StoreError`].
    fn merged_all(&self, _parts: &[Arc<Self::Part>], _mark: u64) -> Result<(), StoreError> {
        Ok(())
    }
    /// Noted in merged parts when their merge begins.
    fn merge_mark(&self) -> u64 {
        0
    }
    /// A part has come: a good time to build its text index. Failures are the kind's to handle.
    fn added(&self, _part: &Self::Part) {}
    /// A part is gone: drop what was kept beside it.
    fn removed(&self, _part: &Self::Part) {}
}

/// What a slice spans.
pub struct SliceSpan<S> {
    /// Earliest time, inclusive.
    pub min_t: i64,
    /// Latest time, inclusive.
    pub max_t: i64,
    /// Samples, lines or spans.
    pub rows: u64,
    /// The slice.
    pub slice: S,
}

/// How a lane behaves.
#[derive(Clone, Copy, Debug)]
pub struct LaneOptions {
    /// The log.
    pub wal: WalOptions,
    /// A head of this many bytes is flushed by the next tick; twice that much makes appends wait.
    pub head_bytes_max: usize,
    /// A head of this age is flushed, in milliseconds.
    pub head_age_ms_max: i64,
    /// Parts that together span more than a day are merged if reading them takes no more memory.
    pub merge_bytes_max: u64,
}

impl Default for LaneOptions {
    fn default() -> Self {
        Self {
            wal: WalOptions::default(),
            head_bytes_max: 256 << 20,
            head_age_ms_max: 2 * 3600 * 1000,
            merge_bytes_max: 64 << 20,
        }
    }
}

/// Groups times so that rows of one part lie close together: by day within about a year of
/// `now`, else by 400 days, so that hostile times cannot make many parts.
pub fn partition(t: i64, now: i64, day: i64) -> i64 {
    let days = t.div_euclid(day);
    if (days - now.div_euclid(day)).abs() <= 400 { days } else { days.div_euclid(400) * 400 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_times_fall_into_few_partitions() {
        let day = 86_400_000;
        let now = 20_000 * day;
        assert_eq!(partition(now, now, day), 20_000);
        assert_eq!(partition(-1, 0, day), -1);
        let far = (0..10_000).map(|years| partition(-years * 365 * day, now, day));
        assert!(far.collect::<std::collections::BTreeSet<_>>().len() < 9_200);
        assert_eq!(partition(100 * day, now, day), partition(300 * day, now, day));
    }
}
