//! Frames of parts that were read lately, decoded, in a bounded share of memory; all parts of the
//! store have one. What has not been asked for since the hand came by goes first.
//! It is charged for, takes nothing that others want, and gives way.
//! Locks: its own, held for a look-up; whoever asks it to give way does not wait for it.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use ahash::AHashMap;
use parking_lot::Mutex;

use crate::base::counters::{Cell, Counters};
use crate::base::memory::{GiveWay, MemoryBudget};

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
    memory: Arc<MemoryBudget>,
    slots: Mutex<Slots>,
    hits: Cell,
    misses: Cell,
    bytes: Cell,
}

impl FrameCache {
    /// An empty cache of at most `bytes_max` bytes, which are charged to `memory`.
    pub fn new(bytes_max: usize, memory: &Arc<MemoryBudget>, counters: &Counters) -> Arc<Self> {
        let asked = |answer| {
            let help = "Frames of metrics parts looked for in the cache.";
            counters.counter("trilith_metrics_cache_requests_total", help, &[("answer", answer)])
        };
        let bytes =
            counters.gauge("trilith_metrics_cache_bytes", "Bytes of frames in the cache of metrics parts.", &[]);
        let (hits, misses, slots, memory) = (asked("hit"), asked("miss"), Mutex::default(), memory.clone());
        let cache = Arc::new(Self { bytes_max, memory, slots, hits, misses, bytes });
        let weak: Weak<Self> = Arc::downgrade(&cache);
        cache.memory.gives_way(weak);
        cache
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
        self.make_room(&mut slots, self.bytes_max - bytes);
        if !self.memory.take_spare(bytes as u64) {
            return;
        }
        slots.bytes += bytes;
        slots.order.push_back(key);
        slots.by_key.insert(key, Slot { frame, bytes, asked: false });
        self.bytes.set(slots.bytes as u64);
    }

    /// Lets go of all frames of a part.
    pub fn forget(&self, part: u64) {
        let mut slots = self.slots.lock();
        let before = slots.bytes;
        let Slots { by_key, order, bytes } = &mut *slots;
        order.retain(|key| key.0 != part);
        by_key.retain(|key, slot| {
            let keep = key.0 != part;
            *bytes -= if keep { 0 } else { slot.bytes };
            keep
        });
        self.bytes.set(*bytes as u64);
        self.memory.release(before - *bytes);
    }

    fn make_room(&self, slots: &mut Slots, bytes_max: usize) {
        let before = slots.bytes;
        slots.make_room(bytes_max);
        self.memory.release(before - slots.bytes);
        self.bytes.set(slots.bytes as u64);
    }
}

impl GiveWay for FrameCache {
    fn give_way(&self, bytes: u64) {
        if let Some(mut slots) = self.slots.try_lock() {
            let left = slots.bytes.saturating_sub(usize::try_from(bytes).unwrap_or(usize::MAX));
            self.make_room(&mut slots, left);
        }
    }
}

impl Drop for FrameCache {
    fn drop(&mut self) {
        self.memory.release(self.slots.get_mut().bytes);
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
        let memory = MemoryBudget::new(1_100);
        let cache = FrameCache::new(1000, &memory, &counters);
        for offset in 0..100 {
            cache.put((1, offset), Arc::new(offset), 100);
            assert_eq!(cache.get::<u64>((1, 0)).as_deref(), Some(&0), "after {offset}");
        }
        assert_eq!((0..100).filter(|offset| cache.get::<u64>((1, *offset)).is_some()).count(), 10);
        cache.put((2, 0), Arc::new(7u64), 126);
        assert!(cache.get::<u64>((2, 0)).is_none(), "too large");
        assert!(cache.get::<u8>((1, 0)).is_none(), "of another kind");
        assert_eq!(memory.used(), 1000);
        let held = memory.hold(1000).unwrap();
        assert_eq!(memory.used(), 1000, "the cache gives way");
        cache.put((3, 0), Arc::new(1u64), 120);
        assert!(cache.get::<u64>((3, 0)).is_none(), "and takes nothing that others want");
        drop(held);
        cache.put((1, 1000), Arc::new(1u64), 100);
        assert!(memory.used() >= 100);
        cache.forget(1);
        assert_eq!(memory.used(), 0);
        assert!(cache.get::<u64>((1, 0)).is_none());
        assert!(counters.expose().contains("trilith_metrics_cache_bytes 0\n"));
    }
}
