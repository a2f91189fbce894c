//! Float samples as they come, in bits: times as deltas of deltas, values as XOR with the one
//! before ("Gorilla: A Fast, Scalable, In-Memory Time Series Database", VLDB 2015, sections 4.1.1
//! and 4.1.2, with wider steps for any `i64`). Used in the head only; parts have
//! [`column`](super::column).

use crate::base::bits::{BitReader, BitWriter};
use crate::store::codec::{Malformed, unzigzag, zigzag};

/// Widths of a delta of deltas: one more leading 1 bit for each step.
const WIDTHS: [u32; 5] = [0, 7, 12, 32, 64];
/// No window of meaningful bits is set yet.
const NO_WINDOW: u8 = u8::MAX;

/// Samples of one series, still growing.
#[derive(Clone, Debug)]
pub struct Appender {
    bits: BitWriter,
    count: u32,
    first_t: i64,
    last_t: i64,
    delta: i64,
    value: u64,
    lead: u8,
    trail: u8,
}

impl Default for Appender {
    fn default() -> Self {
        let bits = BitWriter::default();
        Self { bits, count: 0, first_t: 0, last_t: 0, delta: 0, value: 0, lead: NO_WINDOW, trail: 0 }
    }
}

/// A finished run of samples.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Time of the first sample.
    pub first_t: i64,
    /// Time of the last sample.
    pub last_t: i64,
    /// Samples.
    pub count: u32,
    /// Their bits.
    pub bits: Box<[u8]>,
}

impl Appender {
    /// Samples so far.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Times of the first and the last sample.
    pub fn span(&self) -> (i64, i64) {
        (self.first_t, self.last_t)
    }

    /// The newest sample's time and the bits of its value.
    pub fn last(&self) -> Option<(i64, u64)> {
        (self.count > 0).then_some((self.last_t, self.value))
    }

    /// Bytes of memory taken beside the struct itself.
    pub fn heap_bytes(&self) -> usize {
        self.bits.capacity()
    }

    /// Appends a sample.
    pub fn push(&mut self, t: i64, value: f64) {
        let value = value.to_bits();
        if self.count == 0 {
            self.bits.put(t as u64, 64);
            self.bits.put(value, 64);
            self.first_t = t;
        } else {
            let delta = t.wrapping_sub(self.last_t);
            self.put_time(zigzag(delta.wrapping_sub(self.delta)));
            self.put_value(value ^ self.value);
            self.delta = delta;
        }
        self.last_t = t;
        self.value = value;
        self.count += 1;
    }

    fn put_time(&mut self, change: u64) {
        let needed = 64 - change.leading_zeros();
        let step = WIDTHS.iter().position(|width| needed <= *width).unwrap_or(WIDTHS.len() - 1);
        // `step` ones and, but for the last step, a zero.
        let ones = (1u64 << step) - 1;
        if step + 1 < WIDTHS.len() {
            self.bits.put(ones << 1, step as u32 + 1);
        } else {
            self.bits.put(ones, step as u32);
        }
        self.bits.put(change, WIDTHS.get(step).copied().unwrap_or(64));
    }

    fn put_value(&mut self, xor: u64) {
        if xor == 0 {
            return self.bits.put(0, 1);
        }
        let (lead, trail) = (xor.leading_zeros().min(31) as u8, xor.trailing_zeros() as u8);
        if self.lead != NO_WINDOW && lead >= self.lead && trail >= self.trail {
            let width = 64 - u32::from(self.lead) - u32::from(self.trail);
            self.bits.put(0b10, 2);
            return self.bits.put(xor >> self.trail, width);
        }
        let width = 64 - u32::from(lead) - u32::from(trail);
        self.bits.put(0b11, 2);
        self.bits.put(u64::from(lead), 5);
        self.bits.put(u64::from(width) - 1, 6);
        self.bits.put(xor >> trail, width);
        (self.lead, self.trail) = (lead, trail);
    }

    /// Gives the samples away as a chunk and starts anew.
    pub fn seal(&mut self) -> Chunk {
        let bits = self.bits.take();
        let chunk = Chunk { first_t: self.first_t, last_t: self.last_t, count: self.count, bits };
        *self = Self::default();
        chunk
    }

    /// Hands out the samples in the order they came.
    ///
    /// # Errors
    /// Never for what this appender wrote.
    pub fn read(&self, visit: impl FnMut(i64, f64)) -> Result<(), Malformed> {
        decode(self.bits.bytes(), self.count, visit)
    }
}

impl Chunk {
    /// Hands out the samples in the order they came.
    ///
    /// # Errors
    /// [`Malformed`] when the bits are not an appender's.
    pub fn read(&self, visit: impl FnMut(i64, f64)) -> Result<(), Malformed> {
        decode(&self.bits, self.count, visit)
    }

    /// Bytes of memory taken.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.bits.len()
    }
}

/// Hands out `count` samples from `bits`.
///
/// # Errors
/// [`Malformed`] when there are fewer; the ones before have been handed out.
pub fn decode(bits: &[u8], count: u32, mut visit: impl FnMut(i64, f64)) -> Result<(), Malformed> {
    if count == 0 {
        return Ok(());
    }
    let mut reader = BitReader::new(bits);
    let short = Malformed("chunk cut short");
    let mut t = reader.get(64).ok_or(short)? as i64;
    let mut value = reader.get(64).ok_or(short)?;
    let (mut delta, mut lead, mut width) = (0i64, 0, 64);
    visit(t, f64::from_bits(value));
    for _ in 1..count {
        let change = unzigzag(take_time(&mut reader).ok_or(short)?);
        delta = delta.wrapping_add(change);
        t = t.wrapping_add(delta);
        if reader.bit().ok_or(short)? {
            if reader.bit().ok_or(short)? {
                lead = reader.get(5).ok_or(short)? as u32;
                width = reader.get(6).ok_or(short)? as u32 + 1;
            }
            let trail = 64u32.checked_sub(lead + width).ok_or(Malformed("chunk with a window over 64 bits"))?;
            value ^= reader.get(width).ok_or(short)? << trail;
        }
        visit(t, f64::from_bits(value));
    }
    Ok(())
}

fn take_time(reader: &mut BitReader<'_>) -> Option<u64> {
    let mut step = 0;
    while step + 1 < WIDTHS.len() && reader.bit()? {
        step += 1;
    }
    reader.get(*WIDTHS.get(step)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check_round_trip(samples: &[(i64, f64)]) {
        let mut appender = Appender::default();
        samples.iter().for_each(|(t, value)| appender.push(*t, *value));
        let mut found = Vec::new();
        appender.read(|t, value| found.push((t, value.to_bits()))).unwrap();
        let expected: Vec<_> = samples.iter().map(|(t, value)| (*t, value.to_bits())).collect();
        assert_eq!(found, expected);
        let chunk = appender.seal();
        found.clear();
        chunk.read(|t, value| found.push((t, value.to_bits()))).unwrap();
        assert_eq!(found, expected);
        assert_eq!(appender.count(), 0);
    }

    #[test]
    fn special_values_survive_by_their_bits() {
        let stale = f64::from_bits(0x7ff0_0000_0000_0002);
        let values = [1.0, stale, f64::NAN, -0.0, 0.0, f64::INFINITY, f64::NEG_INFINITY, 5e-324, f64::MAX, 1.0, 1.0];
        let samples: Vec<_> = values.iter().enumerate().map(|(at, value)| (at as i64 * 15_000, *value)).collect();
        check_round_trip(&samples);
        check_round_trip(&[]);
    }

    #[test]
    fn values_survive_the_widest_gap_in_time() {
        check_round_trip(&[(i64::MIN, 1.0), (i64::MAX, 2.0), (i64::MIN, 3.0), (0, 4.0), (-1, 5.0), (i64::MAX, 6.0)]);
    }

    #[test]
    fn regular_samples_of_a_constant_take_two_bits() {
        let mut appender = Appender::default();
        (0..240).for_each(|at| appender.push(at * 15_000, 7.0));
        assert!(appender.seal().bits.len() <= 16 + 5 + 240 / 4);
    }

    proptest! {
        #[test]
        fn any_samples_round_trip(samples: Vec<(i64, u64)>) {
            let samples: Vec<_> = samples.into_iter().map(|(t, bits)| (t, f64::from_bits(bits))).collect();
            check_round_trip(&samples);
        }

        #[test]
        fn no_bytes_panic_the_decoder(bytes: Vec<u8>, count in 0u32..500) {
            let _ = decode(&bytes, count, |_, _| {});
        }
    }
}
