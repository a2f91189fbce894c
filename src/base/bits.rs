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
        if count == 0 {
            return;
        }
        let mut word = value << (64 - count);
        if self.free > 0
            && let Some(last) = self.bytes.last_mut()
        {
            *last |= (word >> (64 - self.free)) as u8;
            if count <= self.free {
                self.free -= count;
                return;
            }
            word <<= self.free;
        }
        let left = count - self.free;
        let len = left.div_ceil(8);
        self.grow(len as usize);
        self.bytes.extend_from_slice(word.to_be_bytes().get(..len as usize).unwrap_or_default());
        self.free = len * 8 - left;
    }

    /// Grows by half, not twofold: there is one writer for each active series.
    fn grow(&mut self, more: usize) {
        if self.bytes.capacity() - self.bytes.len() < more {
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
    /// The next bits, from the highest on. Below the first `have` there may be bits of `bytes`.
    word: u64,
    have: u32,
}

impl<'a> BitReader<'a> {
    /// A reader of all bits of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, word: 0, have: 0 }
    }

    /// The next `count` bits, at most 64; `None` when there are fewer.
    #[inline]
    pub fn get(&mut self, count: u32) -> Option<u64> {
        if count > 56 {
            let high = self.get(count - 32)?;
            return Some((high << 32) | self.get(32)?);
        }
        if self.have < count {
            self.fill();
            if self.have < count {
                return None;
            }
        }
        if count == 0 {
            return Some(0);
        }
        let bits = self.word >> (64 - count);
        self.word <<= count;
        self.have -= count;
        Some(bits)
    }

    /// Makes `have` more than 56, or all there is. It is at most 55 before.
    fn fill(&mut self) {
        if let Some(eight) = self.bytes.first_chunk::<8>() {
            // Bits of a byte that does not fit wholly are set now and, alike, the next time.
            self.word |= u64::from_be_bytes(*eight) >> self.have;
            let whole = (64 - self.have) / 8;
            self.bytes = self.bytes.get(whole as usize..).unwrap_or_default();
            self.have += whole * 8;
            return;
        }
        while self.have <= 56
            && let Some((first, rest)) = self.bytes.split_first()
        {
            self.word |= u64::from(*first) << (56 - self.have);
            self.bytes = rest;
            self.have += 8;
        }
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
