//! What the store may hold of the memory of the process, by what it is for, and how large its pieces
//! are where there is little of it.
//! Invariants: heads and what outlives them are charged as they are, for what is acknowledged cannot be
//! refused any more; they stay small because a head that is large is flushed, earlier when the account is
//! pressed, and because appends wait for the flush. Flushes and merges have a reserve, so that they can
//! always run; a text index is built when there is room for it, and not before.

use std::sync::Arc;

use crate::base::memory::MemoryBudget;
use crate::model::batch::Signal;

/// A head's share of the account; twice that much makes appends wait.
const HEAD_SHARE: u64 = 14;
/// What a flush takes at most, and a merge: the reserve of each.
const RESERVE_SHARE: u64 = 12;
/// What merges may take where there is room.
const MERGES_SHARE: u64 = 4;
/// The share of the cache for frames of metrics parts, and of that for logs.
const METRICS_CACHE_SHARE: u64 = 32;
const LOGS_CACHE_SHARE: u64 = 24;
/// A segment of the log is read whole at the start.
const SEGMENT_SHARE: u64 = 16;
/// The share of the arena that a text index is built in, ...
const ARENA_SHARE: u64 = 10;
/// ... which is at least and at most this many bytes.
const ARENA_BYTES_MIN: u64 = 6 << 20;
const ARENA_BYTES_MAX: u64 = 48 << 20;
/// Bytes of lines or spans that are in memory while they are indexed.
const INDEXED_BYTES: usize = 12 << 20;
/// Share of what a flush may decode at once.
const DECODED_SHARE: u64 = 16;

/// The shares of the store; cheap to clone.
#[derive(Clone, Debug)]
pub struct Account {
    whole: Arc<MemoryBudget>,
    heads: [Arc<MemoryBudget>; 3],
    /// Directories of open parts.
    pub parts: Arc<MemoryBudget>,
    /// Frames of parts that were read lately; gives way.
    pub caches: Arc<MemoryBudget>,
    /// What writing heads to parts takes.
    pub flushes: Arc<MemoryBudget>,
    /// What merging parts takes.
    pub merges: Arc<MemoryBudget>,
    /// What building a text index takes; there is room for one at a time.
    pub indexes: Arc<MemoryBudget>,
}

impl Default for Account {
    /// Without bounds.
    fn default() -> Self {
        Self::new(&MemoryBudget::new(u64::MAX))
    }
}

impl Account {
    /// The shares of `whole`.
    pub fn new(whole: &Arc<MemoryBudget>) -> Self {
        let limit = whole.limit();
        // Where there are no bounds nothing need be kept for anybody.
        let reserve = if limit == u64::MAX { 0 } else { (limit / RESERVE_SHARE).min(64 << 20) };
        Self {
            whole: whole.clone(),
            heads: [
                whole.share("metrics_heads", limit),
                whole.share("logs_heads", limit),
                whole.share("traces_heads", limit),
            ],
            parts: whole.share("parts", limit),
            caches: whole.share("caches", limit),
            flushes: whole.share_with_reserve("flushes", limit, reserve),
            merges: whole.share_with_reserve("merges", limit / MERGES_SHARE, reserve),
            indexes: whole.share("text_indexes", index(limit) as u64),
        }
    }

    /// All of the process's memory.
    pub fn whole(&self) -> &Arc<MemoryBudget> {
        &self.whole
    }

    /// The heads of a signal, and what outlives them.
    pub fn heads(&self, signal: Signal) -> &Arc<MemoryBudget> {
        match signal {
            Signal::Metrics => &self.heads[0],
            Signal::Logs => &self.heads[1],
            Signal::Traces => &self.heads[2],
        }
    }

    /// Bytes of a head that is flushed; twice that much makes appends wait.
    pub fn head_bytes_max(&self) -> usize {
        self.part_of(HEAD_SHARE)
    }

    /// Bytes of frames of metrics parts that are kept.
    pub fn metrics_cache_bytes_max(&self) -> usize {
        self.part_of(METRICS_CACHE_SHARE)
    }

    /// Bytes of frames of log parts that are kept.
    pub fn logs_cache_bytes_max(&self) -> usize {
        self.part_of(LOGS_CACHE_SHARE)
    }

    /// Bytes of a segment of a log.
    pub fn segment_bytes_max(&self) -> u64 {
        (self.whole.limit() / SEGMENT_SHARE).max(1 << 20)
    }

    /// Bytes that a flush may have decoded at once.
    pub fn decoded_bytes_max(&self) -> usize {
        self.part_of(DECODED_SHARE)
    }

    /// Bytes of the arena that a text index is built in.
    pub fn arena_bytes(&self) -> usize {
        arena(self.whole.limit())
    }

    /// Bytes that building a text index takes in all.
    pub fn index_bytes(&self) -> usize {
        index(self.whole.limit())
    }

    fn part_of(&self, share: u64) -> usize {
        usize::try_from(self.whole.limit() / share).unwrap_or(usize::MAX)
    }
}

fn arena(limit: u64) -> usize {
    usize::try_from((limit / ARENA_SHARE).clamp(ARENA_BYTES_MIN, ARENA_BYTES_MAX)).unwrap_or(usize::MAX)
}

/// The arena, as much again to write what is in it, and the lines that are indexed.
fn index(limit: u64) -> usize {
    2 * arena(limit) + INDEXED_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_little_there_is_the_pieces_leave_room_for_one_another() {
        for limit in [32 << 20, 128 << 20, 1 << 30, 64 << 30] {
            let whole = MemoryBudget::new(limit);
            let account = Account::new(&whole);
            let heads = 6 * account.head_bytes_max() as u64;
            let caches = (account.metrics_cache_bytes_max() + account.logs_cache_bytes_max()) as u64;
            let kept = whole.used() + heads + caches;
            assert!(kept < limit * 7 / 10, "of {limit}: {kept} for reserves, heads and caches");
            assert!(whole.room() >= account.indexes.limit(), "of {limit}: no room for an index");
            assert!(account.flushes.room() > 0 && account.merges.room() > 0);
        }
    }
}
