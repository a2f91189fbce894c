//! Spans in bytes: the one encoding of write-ahead records, head chunks and blocks of parts.
//! Layout: what repeats is written once (resources, scopes, shapes of attribute lists, strings of one
//! attribute), and each field and each attribute is a column, so that equal things lie together.
//! Invariants: decoding gives back exactly what was encoded, doubles by their bits; bytes that no
//! encoder wrote are an error, never a panic; memory is charged before the spans are handed out.
//! Bytes: docs/format/traces.md.

mod decode;
mod encode;
mod value;

pub(super) use decode::{Column, Decoded, SpanSet};
pub(super) use encode::encode;
pub(super) use value::DEPTH_MAX;

use crate::base::limits::LimitError;
use crate::store::codec::{Malformed, Reader, put_varint};

/// First byte of every span set.
const VERSION: u8 = 1;
/// Largest span set before compression, in bytes.
const RAW_BYTES_MAX: usize = 256 << 20;

/// Who an attribute column belongs to; numbers are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Owner {
    /// Spans.
    Span = 0,
    /// Events of spans.
    Event = 1,
    /// Links of spans.
    Link = 2,
}

impl Owner {
    fn from_number(number: u8) -> Result<Self, Malformed> {
        match number {
            0 => Ok(Self::Span),
            1 => Ok(Self::Event),
            2 => Ok(Self::Link),
            _ => Err(Malformed("unknown owner of a column")),
        }
    }
}

/// Type of an attribute's value; numbers are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Type {
    /// No value.
    Empty = 0,
    /// Text.
    Str = 1,
    /// Integer.
    Int = 2,
    /// Double.
    Double = 3,
    /// Truth.
    Bool = 4,
    /// Bytes.
    Bytes = 5,
    /// List.
    Array = 6,
    /// Map.
    Map = 7,
}

impl Type {
    const ALL: [Self; 8] =
        [Self::Empty, Self::Str, Self::Int, Self::Double, Self::Bool, Self::Bytes, Self::Array, Self::Map];

    fn from_number(number: u8) -> Result<Self, Malformed> {
        Self::ALL.get(usize::from(number)).copied().ok_or(Malformed("unknown type of a value"))
    }
}

/// Which fields beyond the usual a span has; one bit each in the column of extras.
mod extra {
    pub(super) const TRACE_STATE: u8 = 1;
    pub(super) const FLAGS: u8 = 2;
    pub(super) const STATUS_MESSAGE: u8 = 4;
    pub(super) const DROPPED: u8 = 8;
    pub(super) const EVENTS: u8 = 16;
    pub(super) const LINKS: u8 = 32;
}

/// Places of the fixed columns, in the order they are written.
mod column {
    pub(super) const IDS: usize = 0;
    pub(super) const PARENTS: usize = 1;
    pub(super) const PARENT_IDS: usize = 2;
    pub(super) const STARTS: usize = 3;
    pub(super) const DURATIONS: usize = 4;
    pub(super) const KINDS: usize = 5;
    pub(super) const EXTRAS: usize = 6;
    pub(super) const RARE: usize = 7;
    pub(super) const RESOURCES: usize = 8;
    pub(super) const SCOPES: usize = 9;
    pub(super) const SHAPES: usize = 10;
    pub(super) const EVENTS: usize = 11;
    pub(super) const LINKS: usize = 12;
    pub(super) const COUNT: usize = 13;
}

/// Why spans could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DecodeError {
    /// The bytes are not what an encoder wrote.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The query's budget is used up.
    #[error(transparent)]
    Limit(#[from] LimitError),
}

/// Packs a span set for the log and the head: how it is compressed, its length, its bytes.
pub(super) fn pack(raw: &[u8]) -> Vec<u8> {
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
pub(super) fn unpack(bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
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

#[cfg(test)]
mod tests;
