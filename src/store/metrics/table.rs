//! A hash table of numbers: open addressing, eight bytes a place. What a number stands for lies with
//! the caller, who says whether it is the one sought. Nothing is ever removed.

/// Numbers by hash.
#[derive(Debug, Default)]
pub struct Table {
    /// The high half of the hash, and the number plus one in the low half; 0 where there is none.
    places: Vec<u64>,
    count: usize,
}

const PLACES_MIN: usize = 64;

impl Table {
    /// The number with this hash that `is` says yes to.
    #[inline]
    pub fn find(&self, hash: u64, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        let tag = hash >> 32;
        let mask = self.places.len().checked_sub(1)?;
        let mut at = tag as usize & mask;
        loop {
            let place = *self.places.get(at)?;
            if place == 0 {
                return None;
            }
            if place >> 32 == tag {
                let number = place as u32 - 1;
                if is(number) {
                    return Some(number);
                }
            }
            at = (at + 1) & mask;
        }
    }

    /// Adds a number, at most `u32::MAX - 1`, that is not there yet.
    pub fn insert(&mut self, hash: u64, number: u32) {
        if 4 * (self.count + 1) > 3 * self.places.len() {
            let more = vec![0; (2 * self.places.len()).max(PLACES_MIN)];
            for place in std::mem::replace(&mut self.places, more).into_iter().filter(|place| *place != 0) {
                self.put(place);
            }
        }
        self.put(hash >> 32 << 32 | u64::from(number + 1));
        self.count += 1;
    }

    fn put(&mut self, place: u64) {
        let mask = self.places.len() - 1;
        let mut at = (place >> 32) as usize & mask;
        while self.places.get(at).is_some_and(|own| *own != 0) {
            at = (at + 1) & mask;
        }
        if let Some(own) = self.places.get_mut(at) {
            *own = place;
        }
    }

    /// Bytes of memory taken.
    pub fn bytes(&self) -> usize {
        8 * self.places.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_hash_also_where_hashes_are_equal() {
        let mut table = Table::default();
        assert_eq!(table.find(7, |_| true), None);
        let hash = |number: u32| u64::from(number / 3).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (0..10_000).for_each(|number| table.insert(hash(number), number));
        for number in 0..10_000 {
            assert_eq!(table.find(hash(number), |found| found == number), Some(number));
        }
        assert_eq!(table.find(hash(5), |_| false), None);
    }
}
