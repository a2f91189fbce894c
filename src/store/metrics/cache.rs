//! Frames of parts that were read lately, decoded, in a bounded share of memory; all parts of the
//! store have one. What has not been asked for since the hand came by goes first.
//! Locks: its own, held for a look-up.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;

use ahash::AHashMap;
use parking_lot::Mutex;

use crate::base::counters::{Cell, Counters};

/// Names a frame: its part's number in this process and its offset.
pub type FrameKey = (u64, u64);

struct Slot {
    frame: Arc<dyn Any + Send + Sync>,
    bytes: usize,
    asked: bool,
}

#[derive(Default)]
struct Slots {
    by_key: AHashMap<FrameKey, Slot>,
    order: VecDeque<FrameKey>,
    bytes: usize,
}

/// Decoded frames.
pub struct FrameCache {
    bytes_max: usize,
    slots: Mutex<Slots>,
    hits: Cell,
    misses: Cell,
    bytes: Cell,
}

impl FrameCache {
    /// An empty cache of at most `bytes_max` bytes.
    pub fn new(bytes_max: usize, counters: &Counters) -> Self {
        let asked = |answer| {
            let help = "Frames of metrics parts looked for in the cache.";
            counters.counter("trilith_metrics_cache_requests_total", help, &[("answer", answer)])
        };
        let bytes =
            counters.gauge("trilith_metrics_cache_bytes", "Bytes of frames in the cache of metrics parts.", &[]);
        Self { bytes_max, slots: Mutex::default(), hits: asked("hit"), misses: asked("miss"), bytes }
    }

    /// A frame, if it is there.
    pub fn get<T: Any + Send + Sync>(&self, key: FrameKey) -> Option<Arc<T>> {
        let found = self.slots.lock().by_key.get_mut(&key).map(|slot| {
            slot.asked = true;
            slot.frame.clone()
        });
        let found = found.and_then(|frame| frame.downcast::<T>().ok());
        if found.is_some() {
            self.hits.inc()
        } else {
            self.misses.inc()
        }
        found
    }

    /// Keeps a frame of `bytes` bytes, unless that is a large part of the cache.
    pub fn put<T: Any + Send + Sync>(&self, key: FrameKey, frame: Arc<T>, bytes: usize) {
        if bytes > self.bytes_max / 8 {
            return;
        }
        let mut slots = self.slots.lock();
        if slots.by_key.contains_key(&key) {
            return;
        }
        slots.make_room(self.bytes_max - bytes);
        slots.bytes += bytes;
        slots.order.push_back(key);
        slots.by_key.insert(key, Slot { frame, bytes, asked: false });
        self.bytes.set(slots.bytes as u64);
    }

    /// Lets go of all frames of a part.
    pub fn forget(&self, part: u64) {
        let mut slots = self.slots.lock();
        let Slots { by_key, order, bytes } = &mut *slots;
        order.retain(|key| key.0 != part);
        by_key.retain(|key, slot| {
            let keep = key.0 != part;
            *bytes -= if keep { 0 } else { slot.bytes };
            keep
        });
        self.bytes.set(*bytes as u64);
    }
}

impl Slots {
    fn make_room(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max {
            let Some(key) = self.order.pop_front() else { return };
            match self.by_key.get_mut(&key) {
                Some(slot) if slot.asked => {
                    slot.asked = false;
                    self.order.push_back(key);
                }
                _ => self.bytes -= self.by_key.remove(&key).map_or(0, |slot| slot.bytes),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_within_its_bytes_and_keeps_what_is_asked_for() {
        let counters = Counters::default();
        let cache = FrameCache::new(1000, &counters);
        for offset in 0..100 {
            cache.put((1, offset), Arc::new(offset), 100);
            assert_eq!(cache.get::<u64>((1, 0)).as_deref(), Some(&0), "after {offset}");
        }
        assert_eq!((0..100).filter(|offset| cache.get::<u64>((1, *offset)).is_some()).count(), 10);
        cache.put((2, 0), Arc::new(7u64), 126);
        assert!(cache.get::<u64>((2, 0)).is_none(), "too large");
        assert!(cache.get::<u8>((1, 0)).is_none(), "of another kind");
        cache.forget(1);
        assert!(cache.get::<u64>((1, 0)).is_none());
        assert!(counters.expose().contains("trilith_metrics_cache_bytes 0\n"));
    }
}
