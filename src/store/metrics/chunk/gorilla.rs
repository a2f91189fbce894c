//! Float samples as they come, in bits: times as deltas of deltas, values as XOR with the one
//! before ("Gorilla: A Fast, Scalable, In-Memory Time Series Database", VLDB 2015, sections 4.1.1
//! and 4.1.2, with wider steps for any `i64`). Used in the head only; parts have
//! [`column`](super::column).

use crate::base::bits::{self, Bits};
use crate::store::codec::{Malformed, unzigzag, zigzag};

/// Widths of a delta of deltas: one more leading 1 bit for each step.
const WIDTHS: [u32; 5] = [0, 7, 12, 32, 64];
/// No window of meaningful bits is set yet.
const NO_WINDOW: u8 = u8::MAX;
/// Most samples of one appender.
pub const SAMPLES_MAX: u16 = 240;

/// Samples of one series, still growing. There is one for each active series, so it is small.
#[derive(Clone, Debug)]
pub struct Appender {
    /// The first sample's time and value come first, whole.
    bytes: Vec<u8>,
    last_t: i64,
    delta: i64,
    value: u64,
    count: u16,
    /// Bits of the last byte that are not written yet.
    free: u8,
    lead: u8,
    trail: u8,
}

impl Default for Appender {
    fn default() -> Self {
        Self { bytes: Vec::new(), last_t: 0, delta: 0, value: 0, count: 0, free: 0, lead: NO_WINDOW, trail: 0 }
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
        u32::from(self.count)
    }

    /// Whether it takes no more samples.
    pub fn is_full(&self) -> bool {
        self.count >= SAMPLES_MAX
    }

    /// Times of the first and the last sample.
    pub fn span(&self) -> (i64, i64) {
        (self.bytes.first_chunk().map_or(0, |first| i64::from_be_bytes(*first)), self.last_t)
    }

    /// The newest sample's time and the bits of its value.
    pub fn last(&self) -> Option<(i64, u64)> {
        (self.count > 0).then_some((self.last_t, self.value))
    }

    /// Bytes of memory taken beside the struct itself.
    pub fn heap_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Appends a sample.
    pub fn push(&mut self, t: i64, value: f64) {
        let value = value.to_bits();
        if self.count == 0 {
            self.put(t as u64, 64);
            self.put(value, 64);
        } else {
            let delta = t.wrapping_sub(self.last_t);
            let change = zigzag(delta.wrapping_sub(self.delta));
            let (time, time_width) = self.time_code(change);
            let (code, width) = self.value_code(value ^ self.value);
            if time_width + width <= 64 {
                self.put(time << width | code, time_width + width);
            } else {
                self.put(time, time_width);
                self.put_wide(value ^ self.value, code, width);
            }
            self.delta = delta;
        }
        self.last_t = t;
        self.value = value;
        self.count += 1;
    }

    /// The bits of a delta of deltas; the widest are written here but for the last of them.
    fn time_code(&mut self, change: u64) -> (u64, u32) {
        if change == 0 {
            return (0, 1);
        }
        match 64 - change.leading_zeros() {
            0..=7 => (0b10 << 7 | change, 9),
            8..=12 => (0b110 << 12 | change, 15),
            13..=32 => (0b1110 << 32 | change, 36),
            _ => {
                self.put(0b1111, 4);
                self.put(change >> 32, 32);
                (change & u64::from(u32::MAX), 32)
            }
        }
    }

    /// The bits of a changed value; over 64 of them, `put_wide` makes them again.
    fn value_code(&mut self, xor: u64) -> (u64, u32) {
        if xor == 0 {
            return (0, 1);
        }
        let (lead, trail) = (xor.leading_zeros().min(31) as u8, xor.trailing_zeros() as u8);
        if self.lead != NO_WINDOW && lead >= self.lead && trail >= self.trail {
            let width = 64 - u32::from(self.lead) - u32::from(self.trail);
            return ((xor >> self.trail) | 0b10u64.checked_shl(width).unwrap_or(0), width + 2);
        }
        (self.lead, self.trail) = (lead, trail);
        let width = 64 - u32::from(lead) - u32::from(trail);
        let head = 0b11 << 11 | u64::from(lead) << 6 | (u64::from(width) - 1);
        ((xor >> trail) | head.checked_shl(width).unwrap_or(0), width + 13)
    }

    fn put_wide(&mut self, xor: u64, code: u64, width: u32) {
        if width <= 64 {
            return self.put(code, width);
        }
        // The head does not fit beside the bits: a window that was there, or a new one.
        let bits = 64 - u32::from(self.lead) - u32::from(self.trail);
        if width == bits + 2 {
            self.put(0b10, 2);
        } else {
            self.put(0b11 << 11 | u64::from(self.lead) << 6 | (u64::from(bits) - 1), 13);
        }
        self.put(xor >> self.trail, bits);
    }

    fn put(&mut self, value: u64, count: u32) {
        bits::put(&mut self.bytes, &mut self.free, value, count);
    }

    /// Gives the samples away as a chunk and starts anew.
    pub fn seal(&mut self) -> Chunk {
        let (first_t, last_t) = self.span();
        let own = std::mem::take(self);
        Chunk { first_t, last_t, count: u32::from(own.count), bits: own.bytes.into_boxed_slice() }
    }

    /// Appends the samples to columns.
    ///
    /// # Errors
    /// Never for what this appender wrote.
    pub fn decode(&self, times: &mut Vec<i64>, values: &mut Vec<f64>) -> Result<(), Malformed> {
        decode_into(&self.bytes, self.count(), times, values)
    }

    /// Hands out the samples in the order they came.
    ///
    /// # Errors
    /// Never for what this appender wrote.
    pub fn read(&self, visit: impl FnMut(i64, f64)) -> Result<(), Malformed> {
        decode(&self.bytes, self.count(), visit)
    }
}

impl Chunk {
    /// Appends the samples to columns.
    ///
    /// # Errors
    /// [`Malformed`] when the bits are not an appender's.
    pub fn decode(&self, times: &mut Vec<i64>, values: &mut Vec<f64>) -> Result<(), Malformed> {
        decode_into(&self.bits, self.count, times, values)
    }

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

fn decode_into(bits: &[u8], count: u32, times: &mut Vec<i64>, values: &mut Vec<f64>) -> Result<(), Malformed> {
    times.reserve(count as usize);
    values.reserve(count as usize);
    decode(bits, count, |t, value| {
        times.push(t);
        values.push(value);
    })
}

/// Hands out `count` samples from `bits`.
///
/// # Errors
/// [`Malformed`] when there are fewer; the ones before have been handed out.
#[inline]
pub fn decode(bits: &[u8], count: u32, mut visit: impl FnMut(i64, f64)) -> Result<(), Malformed> {
    if count == 0 {
        return Ok(());
    }
    let mut bits = Bits::new(bits);
    let mut t = bits.take(64) as i64;
    let mut value = bits.take(64);
    let (mut delta, mut width, mut trail) = (0i64, 64, 0);
    if bits.is_over() {
        return Err(Malformed("chunk cut short"));
    }
    visit(t, f64::from_bits(value));
    for _ in 1..count {
        let mut word = bits.peek();
        if word >> 63 == 0 {
            bits.skip(1);
            word <<= 1;
        } else {
            delta = delta.wrapping_add(unzigzag(take_time(&mut bits, word)));
            word = bits.peek();
        }
        t = t.wrapping_add(delta);
        if word >> 63 == 0 {
            bits.skip(1);
        } else {
            if word >> 62 == 0b11 {
                let lead = (word << 2 >> 59) as u32;
                width = (word << 7 >> 58) as u32 + 1;
                trail = 64u32.checked_sub(lead + width).ok_or(Malformed("chunk with a window over 64 bits"))?;
                bits.skip(13);
            } else {
                bits.skip(2);
            }
            value ^= bits.take(width) << trail;
        }
        if bits.is_over() {
            return Err(Malformed("chunk cut short"));
        }
        visit(t, f64::from_bits(value));
    }
    Ok(())
}

#[inline(always)]
fn take_time(bits: &mut Bits<'_>, word: u64) -> u64 {
    let step = word.leading_ones().min(WIDTHS.len() as u32 - 1);
    let head = (step + 1).min(WIDTHS.len() as u32 - 1);
    bits.skip(head);
    bits.take(WIDTHS.get(step as usize).copied().unwrap_or(64))
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
