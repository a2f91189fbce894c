//! Bits from the front, the highest first, and the numbers that chunks write in them.

use super::bytes::malformed;
use crate::wire::error::WireError;
use crate::wire::protobuf::zigzag;

/// Bits of the numbers behind 1 to 8 ones; none for no one.
const WIDTHS: [u32; 9] = [0, 3, 6, 9, 12, 18, 25, 56, 64];
/// The same for differences of times in XOR chunks.
const TIME_WIDTHS: [u32; 5] = [0, 14, 17, 20, 64];

pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    /// Bits read.
    at: usize,
}

/// Where the meaningful bits of the XOR before were.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Window {
    leading: u32,
    trailing: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bits left, padding included.
    pub(super) fn left(&self) -> usize {
        (self.bytes.len() * 8).saturating_sub(self.at)
    }

    pub(super) fn bit(&mut self) -> Result<bool, WireError> {
        let byte = self.bytes.get(self.at / 8).ok_or_else(|| malformed("a chunk ends too early"))?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Ok(bit == 1)
    }

    /// Up to 64 bits.
    pub(super) fn bits(&mut self, count: u32) -> Result<u64, WireError> {
        if self.left() < count as usize {
            return Err(malformed("a chunk ends too early"));
        }
        let mut value = 0u64;
        let mut wanted = count;
        while wanted > 0 {
            let byte = self.bytes.get(self.at / 8).copied().unwrap_or_default();
            let free = 8 - (self.at % 8) as u32;
            let own = free.min(wanted);
            let bits = u64::from(byte) >> (free - own) & ((1 << own) - 1);
            value = value << own | bits;
            self.at += own as usize;
            wanted -= own;
        }
        Ok(value)
    }

    pub(super) fn float(&mut self) -> Result<f64, WireError> {
        self.bits(64).map(f64::from_bits)
    }

    pub(super) fn byte(&mut self) -> Result<u8, WireError> {
        self.bits(8).map(|byte| byte as u8)
    }

    pub(super) fn uvarint(&mut self) -> Result<u64, WireError> {
        let mut value = 0u64;
        for at in 0..10 {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F) << (7 * at);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(malformed("a number is too long"))
    }

    pub(super) fn varint(&mut self) -> Result<i64, WireError> {
        self.uvarint().map(zigzag)
    }

    /// How many ones come before a zero, at most `max`.
    fn ones(&mut self, max: usize) -> Result<usize, WireError> {
        let mut ones = 0;
        while ones < max && self.bit()? {
            ones += 1;
        }
        Ok(ones)
    }

    fn width(&mut self, widths: &[u32]) -> Result<u32, WireError> {
        let ones = self.ones(widths.len() - 1)?;
        Ok(widths.get(ones).copied().unwrap_or_default())
    }

    /// Numbers of `width` bits go from just above minus the half to the half, inclusive.
    fn signed(&mut self, width: u32) -> Result<i64, WireError> {
        let bits = self.bits(width)?;
        if width == 0 || width == 64 || bits <= 1 << (width - 1) {
            return Ok(bits.cast_signed());
        }
        Ok(bits.cast_signed() - (1 << width))
    }

    pub(super) fn varbit_int(&mut self) -> Result<i64, WireError> {
        let width = self.width(&WIDTHS)?;
        self.signed(width)
    }

    pub(super) fn varbit_uint(&mut self) -> Result<u64, WireError> {
        let width = self.width(&WIDTHS)?;
        self.bits(width)
    }

    pub(super) fn time(&mut self) -> Result<i64, WireError> {
        let width = self.width(&TIME_WIDTHS)?;
        self.signed(width)
    }

    /// The next value after `value`, whose window is kept.
    pub(super) fn xor(&mut self, value: f64, window: &mut Window) -> Result<f64, WireError> {
        if !self.bit()? {
            return Ok(value);
        }
        if self.bit()? {
            let leading = self.bits(5)? as u32;
            let meaningful = match self.bits(6)? as u32 {
                0 => 64,
                bits => bits,
            };
            let trailing =
                64u32.checked_sub(leading + meaningful).ok_or_else(|| malformed("a value has over 64 bits"))?;
            *window = Window { leading, trailing };
        }
        let bits = self.bits(64 - window.leading - window.trailing)?;
        Ok(f64::from_bits(value.to_bits() ^ bits << window.trailing))
    }
}
