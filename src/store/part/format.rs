//! The bytes of a part that writer and reader agree on.
//! Bytes: docs/format/part.md.

use crate::model::batch::Signal;
use crate::store::codec::{Malformed, Reader, put_signed, put_varint};

/// Names a part: its seq and index.
pub type PartId = (u64, u32);

/// Version of everything in this file's format.
pub const PART_VERSION: u8 = 1;
/// Largest frame before compression, in bytes.
pub const FRAME_BYTES_MAX: usize = 64 << 20;

pub(super) const MARKER: [u8; 4] = *b"\xF7TLF";
pub(super) const MAGIC: [u8; 8] = *b"TRILPART";
pub(super) const HEAD_BYTES: usize = 20;
pub(super) const TRAILER_BYTES: usize = 24;
/// Frame of a merged part: which parts it counts for.
pub(super) const KIND_MERGED: u8 = 0xEF;
pub(super) const KIND_HEADER: u8 = 0xF0;
pub(super) const KIND_FOOTER: u8 = 0xF1;

/// What a part is and spans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartInfo {
    /// Whose data it holds.
    pub signal: Signal,
    /// The newest write-ahead log segment whose records it holds; with `index` its name.
    pub seq: u64,
    /// Its place in its group.
    pub index: u32,
    /// How many parts its flush made; 0 when it is merged from other parts.
    pub group: u32,
    /// Earliest time in it, inclusive, in the signal's unit.
    pub min_t: i64,
    /// Latest time in it, inclusive, in the signal's unit.
    pub max_t: i64,
    /// Samples, lines or spans.
    pub rows: u64,
    /// When it was written, milliseconds since the Unix epoch.
    pub created_ms: i64,
}

impl PartInfo {
    /// Seq and index, which name it.
    pub fn id(&self) -> PartId {
        (self.seq, self.index)
    }

    /// The part's file name.
    pub fn file_name(&self) -> String {
        Self::name_of(self.id())
    }

    /// The file name of a part.
    pub fn name_of((seq, index): PartId) -> String {
        format!("{seq:016x}-{index:04x}.part")
    }

    /// Seq and index of a part's file name.
    pub fn parse_file_name(name: &str) -> Option<(u64, u32)> {
        let (seq, index) = name.strip_suffix(".part")?.split_once('-')?;
        Some((u64::from_str_radix(seq, 16).ok()?, u32::from_str_radix(index, 16).ok()?))
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(PART_VERSION);
        out.push(self.signal as u8);
        put_varint(out, self.seq);
        put_varint(out, u64::from(self.index));
        put_varint(out, u64::from(self.group));
        put_signed(out, self.min_t);
        put_signed(out, self.max_t);
        put_varint(out, self.rows);
        put_signed(out, self.created_ms);
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        if reader.byte()? != PART_VERSION {
            return Err(Malformed("written by another version; run the version that wrote it or migrate"));
        }
        let signal = reader.byte()?;
        Ok(Self {
            signal: Signal::ALL.into_iter().find(|own| *own as u8 == signal).ok_or(Malformed("unknown signal"))?,
            seq: reader.varint()?,
            index: small(reader.varint()?)?,
            group: small(reader.varint()?)?,
            min_t: reader.signed()?,
            max_t: reader.signed()?,
            rows: reader.varint()?,
            created_ms: reader.signed()?,
        })
    }
}

pub(super) fn small(value: u64) -> Result<u32, Malformed> {
    u32::try_from(value).map_err(|_| Malformed("number too large"))
}

/// What a merged part counts for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// The parts whose rows it holds; they may still be there after a crash.
    pub replaces: Vec<PartId>,
    /// What the signal noted when the merge began.
    pub mark: u64,
}

impl Merged {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.mark);
        put_varint(out, self.replaces.len() as u64);
        for (seq, index) in &self.replaces {
            put_varint(out, *seq);
            put_varint(out, u64::from(*index));
        }
    }

    pub(super) fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        let mut merged = Self { mark: reader.varint()?, replaces: Vec::new() };
        for _ in 0..reader.count(payload.len())? {
            merged.replaces.push((reader.varint()?, small(reader.varint()?)?));
        }
        Ok(merged)
    }
}

/// Where a frame lies in its part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRef {
    /// What is in it; each signal gives its own meanings below 0xF0.
    pub kind: u8,
    /// Offset of the frame's head.
    pub offset: u64,
    /// Bytes of the payload as stored.
    pub stored: u32,
    /// Bytes of the payload before compression.
    pub raw: u32,
}
