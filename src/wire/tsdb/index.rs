//! The index of a block: a table of contents at the end, the strings, and the series with the places
//! of their chunks. Postings are not needed: whoever imports reads all series in order.

use super::bytes::{Bytes, checked, malformed};
use crate::wire::error::{WireError, cut};

/// Bytes of the table of contents, at the end of the file.
pub const TOC_BYTES: usize = 6 * 8 + 4;
/// Bytes of the file's head.
pub const HEAD_BYTES: usize = 5;
/// Series begin at multiples of this.
pub const SERIES_ALIGN: u64 = 16;
/// Longest entry of a series, in bytes.
pub const SERIES_BYTES_MAX: usize = 16 << 20;
/// Most bytes of all strings.
pub const SYMBOLS_BYTES_MAX: u64 = 1 << 30;

const MAGIC: u32 = 0xBAAA_D700;

/// Checks how the file begins.
///
/// # Errors
/// [`WireError::Malformed`], also for the format of Prometheus before 2.0's end.
pub fn check_head(head: &[u8]) -> Result<(), WireError> {
    let mut bytes = Bytes(head);
    let (magic, [version]) = (bytes.u32()?, bytes.array()?);
    if magic != MAGIC {
        return Err(malformed(format!("the index begins with {magic:08x}")));
    }
    if version != 2 {
        return Err(malformed(format!("the index has version {version}; version 2 is read here")));
    }
    Ok(())
}

/// Where the sections are that are read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Toc {
    /// Offset of the strings.
    pub symbols: u64,
    /// Offset of the first series.
    pub series: u64,
    /// Where series end at the latest.
    pub series_end: u64,
}

impl Toc {
    /// Reads the last [`TOC_BYTES`] of a file of `file_bytes`.
    ///
    /// # Errors
    /// [`WireError::Malformed`].
    pub fn decode(bytes: &[u8], file_bytes: u64) -> Result<Self, WireError> {
        let mut reader = Bytes(checked(bytes, "the table of contents")?);
        let mut refs = [0; 6];
        for own in &mut refs {
            *own = reader.u64()?;
        }
        let [symbols, series, others @ ..] = refs;
        let end = file_bytes.saturating_sub(TOC_BYTES as u64);
        let series_end = others.into_iter().filter(|own| *own > series).min().unwrap_or(end).min(end);
        if symbols >= end || series > end {
            return Err(malformed("the table of contents points outside the index"));
        }
        // No series at all is said by 0.
        Ok(Self { symbols, series: if series == 0 { series_end } else { series }, series_end })
    }
}

/// All strings of a block.
#[derive(Debug)]
pub struct Symbols {
    bytes: Vec<u8>,
    /// Where each begins.
    offsets: Vec<u32>,
}

impl Symbols {
    /// Bytes of the section, given its first four.
    ///
    /// # Errors
    /// [`WireError::TooLarge`].
    pub fn section_bytes(head: [u8; 4]) -> Result<u64, WireError> {
        let length = u64::from(u32::from_be_bytes(head));
        if length > SYMBOLS_BYTES_MAX {
            return Err(WireError::TooLarge { what: "bytes of strings", limit: SYMBOLS_BYTES_MAX });
        }
        Ok(4 + length + 4)
    }

    /// Reads the section.
    ///
    /// # Errors
    /// [`WireError::Malformed`].
    pub fn decode(section: Vec<u8>) -> Result<Self, WireError> {
        let body = section.get(4..).ok_or_else(|| malformed("the strings are too short"))?;
        let mut reader = Bytes(checked(body, "the strings")?);
        let count = reader.u32()? as usize;
        if count > reader.0.len() {
            return Err(malformed(format!("it cannot hold {count} strings")));
        }
        let mut offsets = Vec::with_capacity(count);
        for _ in 0..count {
            offsets.push((section.len() - 4 - reader.0.len()) as u32);
            let length = reader.count(1)?;
            reader.take(length)?;
        }
        Ok(Self { bytes: section, offsets })
    }

    /// The string of a number.
    ///
    /// # Errors
    /// [`WireError::Malformed`].
    pub fn get(&self, number: u64) -> Result<&str, WireError> {
        let missing = || malformed(format!("there is no string {number}"));
        let offset = usize::try_from(number).ok().and_then(|number| self.offsets.get(number)).ok_or_else(missing)?;
        let mut reader = Bytes(self.bytes.get(*offset as usize..).ok_or_else(missing)?);
        let length = reader.count(1)?;
        let text = reader.take(length)?;
        let shown = || malformed(format!("the string {} is not UTF-8", cut(&text.escape_ascii().to_string())));
        std::str::from_utf8(text).map_err(|_| shown())
    }
}

/// Where a chunk is and what it spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkRef {
    /// Its first time.
    pub min_t: i64,
    /// Its last time.
    pub max_t: i64,
    /// Its file, counted from 0.
    pub file: u32,
    /// Where it begins in its file.
    pub offset: u32,
}

/// A series.
#[derive(Debug)]
pub struct Series<'s> {
    /// Its labels.
    pub labels: Vec<(&'s str, &'s str)>,
    /// Its chunks, in time order.
    pub chunks: Vec<ChunkRef>,
}

/// Bytes of the entry that begins with `bytes`, with length and checksum; 0 where series end.
///
/// # Errors
/// [`WireError`].
pub fn entry_bytes(bytes: &[u8]) -> Result<usize, WireError> {
    let mut reader = Bytes(bytes);
    let length = usize::try_from(reader.uvarint()?).unwrap_or(usize::MAX);
    if length > SERIES_BYTES_MAX {
        return Err(WireError::TooLarge { what: "bytes of a series in the index", limit: SERIES_BYTES_MAX as u64 });
    }
    Ok(if length == 0 { 0 } else { bytes.len() - reader.0.len() + length + 4 })
}

/// Reads the entry of a series, of the length that [`entry_bytes`] gave.
///
/// # Errors
/// [`WireError::Malformed`].
pub fn series<'s>(entry: &[u8], symbols: &'s Symbols) -> Result<Series<'s>, WireError> {
    let mut reader = Bytes(entry);
    let _length = reader.uvarint()?;
    let mut reader = Bytes(checked(reader.0, "a series")?);
    let mut labels = Vec::new();
    for _ in 0..reader.count(2)? {
        labels.push((symbols.get(reader.uvarint()?)?, symbols.get(reader.uvarint()?)?));
    }
    let mut chunks: Vec<ChunkRef> = Vec::new();
    let (mut before, mut place) = (0i64, 0u64);
    for at in 0..reader.count(3)? {
        let min_t = if at == 0 { reader.varint()? } else { before.wrapping_add_unsigned(reader.uvarint()?) };
        let max_t = min_t.wrapping_add_unsigned(reader.uvarint()?);
        place = if at == 0 { reader.uvarint()? } else { place.wrapping_add_signed(reader.varint()?) };
        before = max_t;
        chunks.push(ChunkRef { min_t, max_t, file: (place >> 32) as u32, offset: place as u32 });
    }
    Ok(Series { labels, chunks })
}
