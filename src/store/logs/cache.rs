//! Frames read lately, decompressed: streams that share a frame, and queries that come again, read
//! it once. Bounded by bytes; what was used longest ago goes first.

use std::sync::Arc;

use ahash::AHashMap;
use parking_lot::Mutex;

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
    kept: Mutex<Kept>,
}

impl FrameCache {
    /// A cache that keeps up to `bytes_max`.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, kept: Mutex::default() }
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
        let tick = kept.tick;
        kept.bytes += payload.len();
        if let Some((old, _)) = kept.frames.insert(key, (payload, tick)) {
            kept.bytes -= old.len();
        }
        while kept.bytes > self.bytes_max {
            let Some(oldest) = kept.frames.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| *key) else {
                break;
            };
            if let Some((old, _)) = kept.frames.remove(&oldest) {
                kept.bytes -= old.len();
            }
        }
    }

    /// Forgets the frames of a part.
    pub(super) fn forget(&self, seq: u64, index: u32) {
        let mut kept = self.kept.lock();
        kept.frames.retain(|key, _| (key.0, key.1) != (seq, index));
        kept.bytes = kept.frames.values().map(|(payload, _)| payload.len()).sum();
    }
}
