//! Hashes of the spans of heads before the last two, so that a copy that its sender repeats minutes
//! or hours later is known.
//! Invariants: at least the newest `per_set_max` hashes are there and at most about twice as many;
//! a set that is full becomes the older one, and the one that was older goes.

use std::mem;

use ahash::AHashSet;

use super::head::Seen;

/// Memory of a hash in a set, in bytes, with the room a hash table leaves free.
const HASH_BYTES: usize = 18;

/// Hashes of spans stored some time ago, in two generations.
pub(super) struct Past {
    newer: AHashSet<u64>,
    older: AHashSet<u64>,
    per_set_max: usize,
}

impl Past {
    /// Nothing; it will take about `bytes_max` of memory.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { newer: AHashSet::new(), older: AHashSet::new(), per_set_max: (bytes_max / 2 / HASH_BYTES).max(1) }
    }

    /// Adds the hashes of a head.
    pub(super) fn add(&mut self, head: &Seen) {
        head.each_hash(|hash| {
            if self.newer.len() >= self.per_set_max {
                self.older = mem::take(&mut self.newer);
            }
            self.newer.insert(hash);
        });
    }

    /// Memory that it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        (self.newer.len() + self.older.len()) * HASH_BYTES
    }

    /// Whether it has a hash.
    pub(super) fn contains(&self, hash: u64) -> bool {
        self.newer.contains(&hash) || self.older.contains(&hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::traces::survey::SpanKey;

    #[test]
    fn the_newest_hashes_are_known_and_old_ones_go() {
        let mut past = Past::new(100 * 2 * HASH_BYTES);
        for hash in 0..1000 {
            let head = Seen::default();
            head.insert(SpanKey { id: 1, hash });
            past.add(&head);
        }
        assert!((900..1000).all(|hash| past.contains(hash)));
        assert!(!(0..800).any(|hash| past.contains(hash)));
        assert!(!past.contains(1000));
    }
}
