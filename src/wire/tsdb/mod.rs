//! Blocks of the Prometheus TSDB, read: index, chunks, tombstones, meta.json. Decoders of bytes alone;
//! whoever has the files says which bytes.
//! Spec: <https://github.com/prometheus/prometheus/tree/main/tsdb/docs/format>; the widths of its
//! variable bit encodings are those that all its releases share.

mod bits;
pub mod chunk;
pub mod index;
pub mod meta;

use super::error::WireError;

fn malformed(what: impl Into<String>) -> WireError {
    WireError::malformed("TSDB block", what)
}

/// Reads whole bytes from the front.
#[derive(Clone, Copy, Debug)]
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let (own, rest) = self.0.split_at_checked(count).ok_or_else(|| malformed("it ends too early"))?;
        self.0 = rest;
        Ok(own)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        self.take(N)?.try_into().map_err(|_| malformed("it ends too early"))
    }

    fn u32(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, WireError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// Seven bits a byte, the lowest first.
    fn uvarint(&mut self) -> Result<u64, WireError> {
        let mut value = 0u64;
        for at in 0..10 {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7F) << (7 * at);
            if byte < 0x80 {
                return if at == 9 && byte > 1 { Err(malformed("a number is too long")) } else { Ok(value) };
            }
        }
        Err(malformed("a number is too long"))
    }

    /// The sign in the lowest bit.
    fn varint(&mut self) -> Result<i64, WireError> {
        self.uvarint().map(super::protobuf::zigzag)
    }

    /// A number of things of which each takes at least `bytes_each`.
    fn count(&mut self, bytes_each: usize) -> Result<usize, WireError> {
        let count = self.uvarint()?;
        let fits = usize::try_from(count).ok().filter(|count| count.saturating_mul(bytes_each) <= self.0.len());
        fits.ok_or_else(|| malformed(format!("it cannot hold {count} entries")))
    }
}

/// Takes the checksum off the end of `bytes` and compares it with that of what is left.
fn checked<'a>(bytes: &'a [u8], what: &str) -> Result<&'a [u8], WireError> {
    let (body, sum) = bytes.split_last_chunk::<4>().ok_or_else(|| malformed(format!("{what} is too short")))?;
    if crc32c::crc32c(body) == u32::from_be_bytes(*sum) {
        Ok(body)
    } else {
        Err(malformed(format!("the checksum of {what} does not hold")))
    }
}

#[cfg(test)]
mod tests;
