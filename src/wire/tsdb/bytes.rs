//! Whole bytes of a block, read from the front, and checksums.

use crate::base::varint;
use crate::wire::error::WireError;

pub(super) fn malformed(what: impl Into<String>) -> WireError {
    WireError::malformed("TSDB block", what)
}

/// Reads whole bytes from the front.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let (own, rest) = self.0.split_at_checked(count).ok_or_else(|| malformed("it ends too early"))?;
        self.0 = rest;
        Ok(own)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        self.take(N)?.try_into().map_err(|_| malformed("it ends too early"))
    }

    pub(super) fn u32(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, WireError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// Seven bits a byte, the lowest first.
    pub(super) fn uvarint(&mut self) -> Result<u64, WireError> {
        let (value, rest) = varint::take(self.0).ok_or_else(|| malformed("a number is cut short or too long"))?;
        self.0 = rest;
        Ok(value)
    }

    /// The sign in the lowest bit.
    pub(super) fn varint(&mut self) -> Result<i64, WireError> {
        self.uvarint().map(varint::unzigzag)
    }

    /// A number of things of which each takes at least `bytes_each`.
    pub(super) fn count(&mut self, bytes_each: usize) -> Result<usize, WireError> {
        let count = self.uvarint()?;
        let fits = usize::try_from(count).ok().filter(|count| count.saturating_mul(bytes_each) <= self.0.len());
        fits.ok_or_else(|| malformed(format!("it cannot hold {count} entries")))
    }
}

/// Takes the checksum off the end of `bytes` and compares it with that of what is left.
pub(super) fn checked<'a>(bytes: &'a [u8], what: &str) -> Result<&'a [u8], WireError> {
    let (body, sum) = bytes.split_last_chunk::<4>().ok_or_else(|| malformed(format!("{what} is too short")))?;
    if crc32c::crc32c(body) == u32::from_be_bytes(*sum) {
        Ok(body)
    } else {
        Err(malformed(format!("the checksum of {what} does not hold")))
    }
}
