//! Single bits in bytes, the highest bit first. Reading past the end gives zeros and says so, never a panic.

/// Appends the `count` lowest bits of `value`, which has no others; `count` is 1 to 64. `free` is how
/// many bits of the last byte are not written yet.
#[inline]
pub fn put(bytes: &mut Vec<u8>, free: &mut u8, value: u64, count: u32) {
    let mut word = value << (64 - count);
    let room = u32::from(*free);
    if room > 0
        && let Some(last) = bytes.last_mut()
    {
        *last |= (word >> (64 - room)) as u8;
        if count <= room {
            *free -= count as u8;
            return;
        }
        word <<= room;
    }
    let left = count - room;
    let len = left.div_ceil(8);
    if bytes.capacity() - bytes.len() < len as usize {
        // Grows by half, not twofold: there is one such for each active series.
        let more = (bytes.len() / 2).max(if bytes.is_empty() { 32 } else { 16 });
        bytes.reserve_exact((bytes.len() + more).next_multiple_of(16) - bytes.len());
    }
    bytes.extend_from_slice(word.to_be_bytes().get(..len as usize).unwrap_or_default());
    *free = (len * 8 - left) as u8;
}

/// Writes bits behind one another.
#[derive(Clone, Debug, Default)]
pub struct BitWriter {
    bytes: Vec<u8>,
    free: u8,
}

impl BitWriter {
    /// Appends the `count` lowest bits of `value`; `count` is at most 64.
    pub fn put(&mut self, value: u64, count: u32) {
        if count > 0 {
            put(&mut self.bytes, &mut self.free, value << (64 - count) >> (64 - count), count);
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

/// Reads what [`put`] wrote. Behind the end there are zeros; [`is_over`](Self::is_over) says so.
#[derive(Clone, Debug)]
pub struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    /// A reader of all bits of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next bits, from the highest on; at least 57 are right.
    #[inline(always)]
    pub fn peek(&self) -> u64 {
        let rest = self.bytes.get(self.at / 8..).unwrap_or_default();
        let word = match rest.first_chunk() {
            Some(eight) => u64::from_be_bytes(*eight),
            None => {
                let mut eight = [0; 8];
                eight.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
                u64::from_be_bytes(eight)
            }
        };
        word << (self.at % 8)
    }

    /// Passes over `count` bits.
    #[inline]
    pub fn skip(&mut self, count: u32) {
        self.at += count as usize;
    }

    /// The next `count` bits, 1 to 64.
    #[inline(always)]
    pub fn take(&mut self, count: u32) -> u64 {
        if count > 56 { self.take_wide(count) } else { self.take_few(count) }
    }

    #[inline(always)]
    fn take_few(&mut self, count: u32) -> u64 {
        let word = self.peek();
        self.at += count as usize;
        word >> (64 - count)
    }

    fn take_wide(&mut self, count: u32) -> u64 {
        let high = self.take_few(count - 32);
        high << 32 | self.take_few(32)
    }

    /// Whether more was read than there is.
    #[inline]
    pub fn is_over(&self) -> bool {
        self.at > 8 * self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_of_any_width_come_back() {
        let (mut bytes, mut free) = (Vec::new(), 0);
        let cut = |value: u64, count: u32| if count == 64 { value } else { value & ((1 << count) - 1) };
        let values: Vec<(u64, u32)> = (1..=64)
            .chain((1..=64).rev())
            .map(|count| (cut(0x9E37_79B9_7F4A_7C15u64 ^ u64::from(count), count), count))
            .collect();
        values.iter().for_each(|(value, count)| put(&mut bytes, &mut free, *value, *count));
        let mut bits = Bits::new(&bytes);
        for (value, count) in values {
            assert_eq!(bits.take(count), value, "{count} bits");
        }
        assert!(!bits.is_over());
        bits.take(9);
        assert!(bits.is_over());
    }

    #[test]
    fn behind_the_end_there_are_zeros() {
        let mut bits = Bits::new(&[0x80]);
        assert_eq!((bits.take(1), bits.take(7), bits.is_over()), (1, 0, false));
        assert_eq!((bits.take(64), bits.is_over()), (0, true));
    }

    #[test]
    fn a_writer_and_a_reader_agree() {
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
