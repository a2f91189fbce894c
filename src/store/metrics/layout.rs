//! What lies in the frames of a part of metrics, written and read: label sets, columns of times,
//! blocks of values, and the directory that says which frame holds what.
//! Each frame names what it holds, so the directory can be rebuilt from them.
//! Bytes: docs/format/metrics.md.

use std::sync::Arc;

use super::chunk::pack;
use crate::store::codec::{Malformed, Reader, put_bytes, put_signed, put_str, put_varint};

/// Bytes after which a frame is closed.
pub const FRAME_BYTES: usize = 64 << 10;
/// Compression of small frames that are read again and again.
pub const LEVEL: i32 = 3;

/// Frame of label pairs and their series.
pub const FRAME_POSTINGS: u8 = 2;
/// Frame of exemplars.
pub const FRAME_EXEMPLARS: u8 = 4;
/// Frame of metadata.
pub const FRAME_METADATA: u8 = 5;
/// Frame of label sets.
pub const FRAME_SERIES: u8 = 6;
/// Frame of columns of times.
pub const FRAME_TIMES: u8 = 7;
/// Frame of blocks of values.
pub const FRAME_DATA: u8 = 8;
/// Frame that tells which series have blocks in a group.
pub const FRAME_PRESENCE: u8 = 9;
/// Frame that tells what lies in the others.
pub const FRAME_DIRECTORY: u8 = 10;
/// Most samples of a block; a larger count is damage.
pub const BLOCK_SAMPLES_MAX: usize = 1 << 14;
/// Bytes of a label value that the directory keeps.
const KEY_BYTES: usize = 64;
const VERSION: u8 = 2;
const HISTOGRAMS: u64 = 1;
const STARTS: u64 = 2;

fn small(value: u64) -> Result<u32, Malformed> {
    u32::try_from(value).map_err(|_| Malformed("number too large"))
}

/// The beginning of a value, as the directory keeps it.
pub fn key(value: &str) -> &[u8] {
    value.as_bytes().get(..KEY_BYTES).unwrap_or(value.as_bytes())
}

/// Label sets of consecutive series, each as what it adds to the one before.
pub struct SeriesFrame {
    /// Number of the first.
    pub first: u32,
    payload: Vec<u8>,
    at: usize,
}

/// Appends a label set, as `Labels::key` gives it, behind the set `last` of the same frame.
pub fn put_series(out: &mut Vec<u8>, last: &str, own: &str) {
    let same = last.as_bytes().iter().zip(own.as_bytes()).take_while(|(a, b)| a == b).count();
    put_varint(out, same as u64);
    put_bytes(out, own.as_bytes().get(same..).unwrap_or_default());
}

impl SeriesFrame {
    /// Takes a frame.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(payload: Vec<u8>) -> Result<Self, Malformed> {
        let mut reader = Reader::new(&payload);
        let first = small(reader.varint()?)?;
        let at = payload.len() - reader.rest().len();
        Ok(Self { first, payload, at })
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.payload.len() + size_of::<Self>()
    }

    /// Hands out the sets of the series that `wanted` says yes to, until `visit` says no.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn walk<E: From<Malformed>>(
        &self,
        mut wanted: impl FnMut(u32) -> bool,
        mut visit: impl FnMut(u32, &str) -> Result<bool, E>,
    ) -> Result<(), E> {
        let mut reader = Reader::new(self.payload.get(self.at..).unwrap_or_default());
        let (mut set, mut number) = (Vec::new(), self.first);
        while !reader.is_empty() {
            set.truncate(reader.count(set.len())?);
            set.extend_from_slice(reader.bytes()?);
            if wanted(number) {
                let text = std::str::from_utf8(&set).map_err(|_| Malformed("a label set is not UTF-8"))?;
                if !visit(number, text)? {
                    break;
                }
            }
            number = number.wrapping_add(1);
        }
        Ok(())
    }
}

/// Columns of times that blocks of one group share.
pub struct TimesFrame {
    /// Whose.
    pub group: i64,
    /// Number of the first in the group.
    pub first: u32,
    /// The columns.
    pub columns: Vec<Arc<Vec<i64>>>,
}

/// Begins a frame of times.
pub fn begin_times(out: &mut Vec<u8>, group: i64, first: u32) {
    put_signed(out, group);
    put_varint(out, u64::from(first));
}

/// Appends a column of times, at least one and at most [`BLOCK_SAMPLES_MAX`].
pub fn put_column(out: &mut Vec<u8>, column: &[i64], work: &mut pack::Work) {
    put_varint(out, column.len() as u64);
    pack::encode(out, column, work);
}

impl TimesFrame {
    /// Takes a frame.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(payload: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        let (group, first) = (reader.signed()?, small(reader.varint()?)?);
        let mut columns = Vec::new();
        while !reader.is_empty() {
            let count = reader.count(BLOCK_SAMPLES_MAX)?;
            let mut column = Vec::new();
            pack::decode(&mut reader, count, &mut column)?;
            if column.is_empty() || !column.is_sorted_by(|a, b| a < b) {
                return Err(Malformed("times out of order"));
            }
            columns.push(Arc::new(column));
        }
        Ok(Self { group, first, columns })
    }

    /// The column of a number.
    pub fn column(&self, number: u32) -> Option<&Arc<Vec<i64>>> {
        self.columns.get(number.checked_sub(self.first)? as usize)
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.columns.iter().map(|column| 8 * column.len() + 48).sum::<usize>() + size_of::<Self>()
    }
}

/// Where the samples of one series over some time lie in a data frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Whose.
    pub series: u32,
    /// Whether they are histograms.
    pub histograms: bool,
    /// Whether they have starts.
    pub starts: bool,
    /// Of floats the number of their column of times, of histograms how many there are.
    pub number: u32,
    end: u32,
}

/// A data frame that is being written.
#[derive(Default)]
pub struct DataBuilder {
    heads: Vec<u8>,
    data: Vec<u8>,
    count: u64,
    /// First and last series.
    pub series: (u32, u32),
    column: u32,
}

impl DataBuilder {
    /// Appends a block, whose bytes `put` appends; blocks come by series and then time.
    pub fn block(&mut self, series: u32, histograms: bool, starts: bool, number: u32, put: impl FnOnce(&mut Vec<u8>)) {
        if self.count == 0 {
            self.series = (series, series);
        }
        let flags = if histograms { HISTOGRAMS } else { 0 } | if starts { STARTS } else { 0 };
        put_varint(&mut self.heads, u64::from(series - self.series.1) << 2 | flags);
        if histograms {
            put_varint(&mut self.heads, u64::from(number));
        } else {
            put_signed(&mut self.heads, i64::from(number) - i64::from(self.column));
            self.column = number;
        }
        let before = self.data.len();
        put(&mut self.data);
        put_varint(&mut self.heads, (self.data.len() - before) as u64);
        self.series.1 = series;
        self.count += 1;
    }

    /// Bytes so far.
    pub fn bytes(&self) -> usize {
        self.heads.len() + self.data.len()
    }

    /// Whether there is no block.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The payload of the frame; the next block begins another.
    pub fn take(&mut self, group: i64) -> Vec<u8> {
        let mut payload = Vec::with_capacity(self.bytes() + 32);
        put_signed(&mut payload, group);
        put_varint(&mut payload, u64::from(self.series.0));
        put_varint(&mut payload, self.count);
        payload.append(&mut self.heads);
        payload.append(&mut self.data);
        (self.count, self.column) = (0, 0);
        payload
    }
}

/// Blocks of one group, by series and then time.
pub struct DataFrame {
    /// Whose.
    pub group: i64,
    blocks: Vec<Block>,
    payload: Vec<u8>,
    data: usize,
}

impl DataFrame {
    /// Takes a frame.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(payload: Vec<u8>) -> Result<Self, Malformed> {
        let mut reader = Reader::new(&payload);
        let (group, mut series) = (reader.signed()?, reader.varint()?);
        let count = reader.count(payload.len())?;
        let (mut blocks, mut column, mut end) = (Vec::with_capacity(count), 0i64, 0u64);
        for _ in 0..count {
            let head = reader.varint()?;
            series = series.saturating_add(head >> 2);
            let histograms = head & HISTOGRAMS != 0;
            let number = if histograms {
                small(reader.varint()?)?
            } else {
                column = column.saturating_add(reader.signed()?);
                u32::try_from(column).map_err(|_| Malformed("number too large"))?
            };
            end = end.saturating_add(reader.varint()?);
            let starts = head & STARTS != 0;
            blocks.push(Block { series: small(series)?, histograms, starts, number, end: small(end)? });
        }
        if reader.rest().len() as u64 != end {
            return Err(Malformed("blocks of another length"));
        }
        let data = payload.len() - reader.rest().len();
        Ok(Self { group, blocks, payload, data })
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.payload.len() + size_of_val(self.blocks.as_slice()) + size_of::<Self>()
    }

    /// The blocks, by series and then time.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// The place of the first block of a series or one behind it; `near` is a place to look at first.
    pub fn seek(&self, series: u32, near: usize) -> usize {
        let rest = self.blocks.get(near..).unwrap_or_default();
        let before = near.checked_sub(1).and_then(|at| self.blocks.get(at));
        if before.is_none_or(|block| block.series < series) {
            // Those who read in order find it within a few blocks.
            if let Some(at) = rest.iter().take(16).position(|block| block.series >= series) {
                return near + at;
            }
        }
        self.blocks.partition_point(|block| block.series < series)
    }

    /// The bytes of the block at a place.
    pub fn data(&self, place: usize) -> &[u8] {
        let end = |place: usize| self.blocks.get(place).map_or(0, |block| block.end as usize);
        let start = self.data + place.checked_sub(1).map_or(0, end);
        self.payload.get(start..self.data + end(place)).unwrap_or_default()
    }
}

/// Where a frame of label sets lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeriesRef {
    /// Offset of the frame.
    pub offset: u64,
    /// Number of its first series.
    pub first: u32,
}

/// Where a frame of times lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimesRef {
    /// Offset of the frame.
    pub offset: u64,
    /// Number of its first column.
    pub first: u32,
}

/// Where a data frame lies and what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataRef {
    /// Offset of the frame.
    pub offset: u64,
    /// First and last series.
    pub series: (u32, u32),
    /// First and last time of its samples.
    pub span: (i64, i64),
}

/// Blocks that begin within the same hour or so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupRef {
    /// Its number; larger ones begin later.
    pub number: i64,
    /// First and last time of its samples.
    pub span: (i64, i64),
    /// Offset of the frame that tells which series have blocks in it.
    pub presence: Option<u64>,
    /// Frames of times, by number of their first column.
    pub times: Vec<TimesRef>,
    /// Data frames, by series.
    pub data: Vec<DataRef>,
}

/// Where a postings frame lies and with what it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostingsRef {
    /// Offset of the frame.
    pub offset: u64,
    /// Its first name.
    pub name: String,
    /// The beginning of the first value of that name.
    pub value: Vec<u8>,
}

/// What lies where in a part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    /// Series in the part.
    pub count: u32,
    /// Frames of label sets, by number of their first series.
    pub series: Vec<SeriesRef>,
    /// Groups, by number.
    pub groups: Vec<GroupRef>,
    /// Postings frames, by name and value.
    pub postings: Vec<PostingsRef>,
}

fn put_span(out: &mut Vec<u8>, span: (i64, i64)) {
    put_signed(out, span.0);
    put_varint(out, span.1.wrapping_sub(span.0) as u64);
}

fn take_span(reader: &mut Reader<'_>) -> Result<(i64, i64), Malformed> {
    let start = reader.signed()?;
    Ok((start, start.wrapping_add(reader.varint()? as i64)))
}

impl Directory {
    /// Appends the directory.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        put_varint(out, u64::from(self.count));
        put_varint(out, self.series.len() as u64);
        for series in &self.series {
            put_varint(out, series.offset);
            put_varint(out, u64::from(series.first));
        }
        put_varint(out, self.groups.len() as u64);
        self.groups.iter().for_each(|group| group.encode(out));
        put_varint(out, self.postings.len() as u64);
        for postings in &self.postings {
            put_varint(out, postings.offset);
            put_str(out, &postings.name);
            put_bytes(out, &postings.value);
        }
    }

    /// Reads a directory.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.byte()? != VERSION {
            return Err(Malformed("a directory of another version"));
        }
        let mut directory = Self { count: small(reader.varint()?)?, ..Self::default() };
        for _ in 0..reader.count(bytes.len())? {
            directory.series.push(SeriesRef { offset: reader.varint()?, first: small(reader.varint()?)? });
        }
        for _ in 0..reader.count(bytes.len())? {
            directory.groups.push(GroupRef::decode(&mut reader)?);
        }
        for _ in 0..reader.count(bytes.len())? {
            let offset = reader.varint()?;
            let (name, value) = (reader.str()?.to_owned(), reader.bytes()?.to_vec());
            directory.postings.push(PostingsRef { offset, name, value });
        }
        Ok(directory)
    }
}

impl GroupRef {
    fn encode(&self, out: &mut Vec<u8>) {
        put_signed(out, self.number);
        put_span(out, self.span);
        put_varint(out, self.presence.map_or(0, |offset| offset + 1));
        put_varint(out, self.times.len() as u64);
        for times in &self.times {
            put_varint(out, times.offset);
            put_varint(out, u64::from(times.first));
        }
        put_varint(out, self.data.len() as u64);
        for data in &self.data {
            put_varint(out, data.offset);
            put_varint(out, u64::from(data.series.0));
            put_varint(out, u64::from(data.series.1));
            put_span(out, data.span);
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (number, span) = (reader.signed()?, take_span(reader)?);
        let mut group = Self { number, span, presence: reader.varint()?.checked_sub(1), ..Self::default() };
        for _ in 0..reader.count(reader.rest().len())? {
            group.times.push(TimesRef { offset: reader.varint()?, first: small(reader.varint()?)? });
        }
        for _ in 0..reader.count(reader.rest().len())? {
            let offset = reader.varint()?;
            let series = (small(reader.varint()?)?, small(reader.varint()?)?);
            group.data.push(DataRef { offset, series, span: take_span(reader)? });
        }
        Ok(group)
    }

    /// The frame that has a column of times.
    pub fn times_of(&self, column: u32) -> Option<&TimesRef> {
        self.times.get(self.times.partition_point(|own| own.first <= column).checked_sub(1)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_directory_comes_back() {
        let group = GroupRef {
            number: -3,
            span: (i64::MIN, i64::MAX),
            presence: Some(0),
            times: vec![TimesRef { offset: 9, first: 0 }],
            data: vec![DataRef { offset: 5, series: (0, 8), span: (-1, 1) }],
        };
        let directory = Directory {
            count: 9,
            series: vec![SeriesRef { offset: 1, first: 0 }],
            groups: vec![group, GroupRef::default()],
            postings: vec![PostingsRef { offset: 77, name: "a".into(), value: vec![0xff] }],
        };
        let mut bytes = Vec::new();
        directory.encode(&mut bytes);
        assert_eq!(Directory::decode(&bytes), Ok(directory));
    }

    #[test]
    fn blocks_are_found_by_their_series_from_anywhere() {
        let mut builder = DataBuilder::default();
        for series in (10..500).step_by(3) {
            for number in [series, 7] {
                builder.block(series, number == 7, series % 2 == 0, number, |out| {
                    out.extend_from_slice(&series.to_le_bytes());
                });
            }
        }
        let frame = DataFrame::parse(builder.take(-5)).unwrap();
        assert_eq!(frame.group, -5);
        for series in 0..510 {
            for near in [0, 1, 50, 326, 999] {
                let place = frame.seek(series, near);
                assert_eq!(place, frame.blocks.partition_point(|block| block.series < series), "{series} {near}");
            }
        }
        let place = frame.seek(13, 0);
        assert_eq!((frame.blocks[place].number, frame.data(place)), (13, &13u32.to_le_bytes()[..]));
        assert_eq!((frame.blocks[place + 1].number, frame.data(place + 1)), (7, &13u32.to_le_bytes()[..]));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_decoders(bytes: Vec<u8>) {
            let _ = Directory::decode(&bytes);
            let _ = Directory::decode(&[&[VERSION][..], &bytes].concat());
            let _ = TimesFrame::parse(&bytes);
            if let Ok(frame) = DataFrame::parse(bytes.clone()) {
                (0..frame.blocks().len()).for_each(|place| { frame.data(place); });
            }
            if let Ok(frame) = SeriesFrame::parse(bytes) {
                let _ = frame.walk(|_| true, |_, _| Ok::<_, Malformed>(true));
            }
        }
    }
}
