//! What a decoder may build from one body. Two bytes on the wire can be a struct of 300 bytes in
//! memory, so decoders ask a [`Meter`] before they allocate, not after.

use super::error::WireError;

/// Limits of bodies and of what is in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Most bytes of a body after decompression.
    pub body_bytes_max: usize,
    /// Most bytes that a decoded body may take in memory.
    pub decoded_bytes_max: usize,
    /// Most labels of one series or stream.
    pub labels_max: usize,
    /// Most bytes of a label's name.
    pub label_name_bytes_max: usize,
    /// Most bytes of a label's value.
    pub label_value_bytes_max: usize,
    /// Most pairs of structured metadata of a line, and most attributes of a span.
    pub attributes_max: usize,
    /// Most buckets of one native histogram.
    pub buckets_max: usize,
    /// Deepest nesting of attribute values.
    pub depth_max: usize,
}

/// The limits in force: they keep the memory of one request under 256 MiB.
pub const DEFAULT: Options = Options {
    body_bytes_max: 32 << 20,
    decoded_bytes_max: 96 << 20,
    labels_max: 128,
    label_name_bytes_max: 1 << 10,
    label_value_bytes_max: 64 << 10,
    attributes_max: 1024,
    buckets_max: 20_000,
    depth_max: 40,
};

impl Default for Options {
    fn default() -> Self {
        DEFAULT
    }
}

/// Counts the bytes that a decoder is about to allocate.
#[derive(Debug)]
pub struct Meter {
    left: usize,
    limit: usize,
}

/// Decoded bytes allowed for each byte of a body. Real senders need up to 15.
const GROWTH_MAX: usize = 32;

/// Decoded bytes that any body may have, however small.
const DECODED_BYTES_MIN: usize = 4 << 20;

/// Bytes that a body of `body_bytes` may be decoded to.
pub fn decoded_bytes_allowed(options: &Options, body_bytes: usize) -> usize {
    body_bytes.saturating_mul(GROWTH_MAX).max(DECODED_BYTES_MIN).min(options.decoded_bytes_max)
}

impl Meter {
    /// A meter for a body of `body_bytes`: small bodies get a small allowance, so that many of them
    /// at once stay small as well.
    pub fn new(options: &Options, body_bytes: usize) -> Self {
        let limit = decoded_bytes_allowed(options, body_bytes);
        Self { left: limit, limit }
    }

    /// Counts `bytes`.
    ///
    /// # Errors
    /// [`WireError::TooLarge`] when the allowance is used up.
    pub fn take(&mut self, bytes: usize) -> Result<(), WireError> {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(WireError::TooLarge { what: "bytes of memory for the decoded body", limit: self.limit as u64 }),
        }
    }
}
