//! Span sets packed for the log and the head.

use crate::store::codec::{Malformed, Reader, put_varint};

/// Largest span set before compression, in bytes.
const RAW_BYTES_MAX: usize = 256 << 20;

/// Packs a span set for the log and the head: how it is compressed, its length, its bytes.
pub(in crate::store::traces) fn pack(raw: &[u8]) -> Vec<u8> {
    let packed = zstd::bulk::compress(raw, 1).ok().filter(|packed| packed.len() + 8 < raw.len());
    let (codec, stored) = packed.as_deref().map_or((0, raw), |packed| (1, packed));
    let mut out = Vec::with_capacity(stored.len() + 6);
    out.push(codec);
    put_varint(&mut out, raw.len() as u64);
    out.extend_from_slice(stored);
    out
}

/// The reverse of [`pack`].
///
/// # Errors
/// [`Malformed`].
pub(in crate::store::traces) fn unpack(bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut reader = Reader::new(bytes);
    let codec = reader.byte()?;
    let raw = reader.count(RAW_BYTES_MAX)?;
    let unpacked = match codec {
        0 => reader.rest().to_vec(),
        1 => zstd::bulk::decompress(reader.rest(), raw).map_err(|_| Malformed("spans do not decompress"))?,
        _ => return Err(Malformed("unknown compression")),
    };
    if unpacked.len() == raw { Ok(unpacked) } else { Err(Malformed("spans have another length than said")) }
}
