//! Frames read lately, decompressed: streams that share a frame, and queries that come again, read
//! it once. Bounded by bytes, which are charged; what was used longest ago goes first. It takes nothing
//! that others want, and gives way.

use std::sync::{Arc, Weak};

use ahash::AHashMap;
use parking_lot::Mutex;

use crate::base::memory::{GiveWay, MemoryBudget};
use crate::store::error::StoreError;
use crate::store::part::{FrameRef, PartReader};

/// Part (seq, index) and offset.
type Key = (u64, u32, u64);

#[derive(Default)]
struct Kept {
    frames: AHashMap<Key, (Arc<Vec<u8>>, u64)>,
    bytes: usize,
    tick: u64,
}

/// The cache.
pub(super) struct FrameCache {
    bytes_max: usize,
    memory: Arc<MemoryBudget>,
    kept: Mutex<Kept>,
}

impl FrameCache {
    /// A cache that keeps up to `bytes_max`, which are charged to `memory`.
    pub(super) fn new(bytes_max: usize, memory: &Arc<MemoryBudget>) -> Arc<Self> {
        let cache = Arc::new(Self { bytes_max, memory: memory.clone(), kept: Mutex::default() });
        let weak: Weak<Self> = Arc::downgrade(&cache);
        cache.memory.gives_way(weak);
        cache
    }

    /// The payload of a frame.
    ///
    /// # Errors
    /// Those of [`PartReader::read`].
    pub(super) fn read(&self, part: &PartReader, frame: FrameRef) -> Result<Arc<Vec<u8>>, StoreError> {
        let key = (part.info().seq, part.info().index, frame.offset);
        {
            let mut kept = self.kept.lock();
            kept.tick += 1;
            let tick = kept.tick;
            if let Some((payload, used)) = kept.frames.get_mut(&key) {
                *used = tick;
                return Ok(payload.clone());
            }
        }
        let payload = Arc::new(part.read(frame)?);
        if payload.len() <= self.bytes_max / 4 {
            self.keep(key, payload.clone());
        }
        Ok(payload)
    }

    fn keep(&self, key: Key, payload: Arc<Vec<u8>>) {
        let mut kept = self.kept.lock();
        if kept.frames.contains_key(&key) {
            return;
        }
        let bytes = payload.len();
        self.make_room(&mut kept, self.bytes_max.saturating_sub(bytes));
        if self.memory.take_spare(bytes as u64) {
            let tick = kept.tick;
            kept.bytes += bytes;
            kept.frames.insert(key, (payload, tick));
        }
    }

    fn make_room(&self, kept: &mut Kept, bytes_max: usize) {
        let before = kept.bytes;
        while kept.bytes > bytes_max {
            let Some(oldest) = kept.frames.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| *key) else {
                break;
            };
            if let Some((old, _)) = kept.frames.remove(&oldest) {
                kept.bytes -= old.len();
            }
        }
        self.memory.release(before - kept.bytes);
    }

    /// Forgets the frames of a part.
    pub(super) fn forget(&self, seq: u64, index: u32) {
        let mut kept = self.kept.lock();
        let before = kept.bytes;
        kept.frames.retain(|key, _| (key.0, key.1) != (seq, index));
        kept.bytes = kept.frames.values().map(|(payload, _)| payload.len()).sum();
        self.memory.release(before - kept.bytes);
    }
}

impl GiveWay for FrameCache {
    fn give_way(&self, bytes: u64) {
        if let Some(mut kept) = self.kept.try_lock() {
            let left = kept.bytes.saturating_sub(usize::try_from(bytes).unwrap_or(usize::MAX));
            self.make_room(&mut kept, left);
        }
    }
}

impl Drop for FrameCache {
    fn drop(&mut self) {
        self.memory.release(self.kept.get_mut().bytes);
    }
}
