//! Single bits in bytes, the highest bit first. Reading past the end is `None`, never a panic.

/// Writes bits behind one another.
#[derive(Clone, Debug, Default)]
pub struct BitWriter {
    bytes: Vec<u8>,
    /// Bits of the last byte that are not written yet.
    free: u32,
}

impl BitWriter {
    /// Appends the `count` lowest bits of `value`; `count` is at most 64.
    pub fn put(&mut self, value: u64, count: u32) {
        let mut left = count;
        while left > 0 {
            if self.free == 0 {
                self.grow();
                self.bytes.push(0);
                self.free = 8;
            }
            let take = left.min(self.free);
            let part = (value >> (left - take)) & ((1 << take) - 1);
            if let Some(last) = self.bytes.last_mut() {
                *last |= (part << (self.free - take)) as u8;
            }
            self.free -= take;
            left -= take;
        }
    }

    /// Grows by half, not twofold: there is one writer for each active series.
    fn grow(&mut self) {
        if self.bytes.len() == self.bytes.capacity() {
            self.bytes.reserve_exact((self.bytes.len() / 2).max(16));
        }
    }

    /// What is written so far; the last byte is filled up with zeros.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes of memory taken.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Gives the bytes away and starts anew.
    pub fn take(&mut self) -> Box<[u8]> {
        self.free = 0;
        std::mem::take(&mut self.bytes).into_boxed_slice()
    }
}

/// Reads what a [`BitWriter`] wrote.
#[derive(Clone, Debug)]
pub struct BitReader<'a> {
    bytes: &'a [u8],
    /// Bits read.
    at: usize,
}

impl<'a> BitReader<'a> {
    /// A reader of all bits of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next `count` bits, at most 64; `None` when there are fewer.
    pub fn get(&mut self, count: u32) -> Option<u64> {
        if count > 56 {
            let high = self.get(count - 32)?;
            return Some((high << 32) | self.get(32)?);
        }
        if self.at + count as usize > self.bytes.len() * 8 {
            return None;
        }
        let rest = self.bytes.get(self.at / 8..)?;
        let word = match rest.first_chunk::<8>() {
            Some(eight) => u64::from_be_bytes(*eight),
            None => rest.iter().enumerate().fold(0, |word, (at, byte)| word | u64::from(*byte) << (56 - 8 * at)),
        };
        let word = word << (self.at % 8);
        self.at += count as usize;
        Some(if count == 0 { 0 } else { word >> (64 - count) })
    }

    /// The next bit.
    pub fn bit(&mut self) -> Option<bool> {
        self.get(1).map(|bit| bit == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_of_any_width_come_back() {
        let mut writer = BitWriter::default();
        let values: Vec<(u64, u32)> =
            (0..=64).chain((0..=64).rev()).map(|count| (0x9E37_79B9_7F4A_7C15u64 ^ u64::from(count), count)).collect();
        values.iter().for_each(|(value, count)| writer.put(*value, *count));
        let mut reader = BitReader::new(writer.bytes());
        for (value, count) in values {
            let kept = if count == 64 { value } else { value & ((1 << count) - 1) };
            assert_eq!(reader.get(count), Some(kept), "{count} bits");
        }
        assert_eq!(reader.get(9), None);
    }

    #[test]
    fn an_empty_input_has_no_bit() {
        assert_eq!(BitReader::new(&[]).bit(), None);
        assert_eq!(BitReader::new(&[]).get(64), None);
        assert_eq!(BitReader::new(&[0x80]).bit(), Some(true));
    }
}
