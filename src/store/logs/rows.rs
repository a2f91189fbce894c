//! Rows of one stream as columns in memory, how they merge, and their bytes.
//! Invariants: `line_bytes` has as many rows as `times`; `text`, where it is loaded, is all lines
//! without anything between them; `metadata` is empty when no row has any, else as long as `times`.
//! Bytes: docs/format/logs.md.

use std::collections::BTreeMap;

use ahash::AHashSet;

use crate::model::labels::Labels;
use crate::model::log::LogEntry;
use crate::store::codec::{Malformed, Reader, put_signed, put_str, put_varint};

/// What a row costs besides its text, for limits by bytes.
pub(super) const ROW_BYTES: usize = 16;

/// Rows of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rows {
    /// Nanoseconds since the Unix epoch.
    pub(super) times: Vec<i64>,
    /// Bytes of each line.
    pub(super) line_bytes: Vec<u32>,
    /// The lines, one after the other.
    pub(super) text: String,
    /// Structured metadata; empty when no row has any.
    pub(super) metadata: Vec<Labels>,
}

impl Rows {
    /// Adds a row.
    pub(super) fn push(&mut self, t: i64, line: &str, metadata: &Labels) {
        self.push_metadata(metadata);
        self.times.push(t);
        self.line_bytes.push(line.len() as u32);
        self.text.push_str(line);
    }

    /// Must come before the row's time.
    fn push_metadata(&mut self, metadata: &Labels) {
        if !metadata.is_empty() && self.metadata.is_empty() {
            self.metadata = vec![Labels::default(); self.times.len()];
        }
        if !metadata.is_empty() || !self.metadata.is_empty() {
            self.metadata.push(metadata.clone());
        }
    }

    /// Adds an entry.
    pub(super) fn push_entry(&mut self, entry: &LogEntry) {
        self.push(entry.t, &entry.line, &entry.metadata);
    }

    /// Adds the rows of `other` behind its own.
    pub(super) fn extend(&mut self, other: &Self) {
        if !(self.metadata.is_empty() && other.metadata.is_empty()) {
            self.metadata.resize(self.times.len(), Labels::default());
            self.metadata.extend(other.metadata.iter().cloned());
            self.metadata.resize(self.times.len() + other.times.len(), Labels::default());
        }
        self.times.extend_from_slice(&other.times);
        self.line_bytes.extend_from_slice(&other.line_bytes);
        self.text.push_str(&other.text);
    }

    /// The first `rows` rows.
    pub(super) fn head(&self, rows: usize) -> Self {
        self.slice(0, rows)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Metadata of a row.
    pub(super) fn metadata_of(&self, row: usize) -> Labels {
        self.metadata.get(row).cloned().unwrap_or_default()
    }

    /// Where each line begins in the text.
    pub(super) fn starts(&self) -> Vec<usize> {
        self.line_bytes
            .iter()
            .scan(0usize, |at, bytes| {
                let start = *at;
                *at += *bytes as usize;
                Some(start)
            })
            .collect()
    }

    /// Whether every line begins and ends between characters; needs the text.
    pub(super) fn cuts_no_character(&self) -> bool {
        let mut end = 0;
        self.line_bytes.iter().all(|bytes| {
            end += *bytes as usize;
            self.text.is_char_boundary(end)
        })
    }

    /// The lines; needs the text.
    pub(super) fn lines(&self) -> impl Iterator<Item = &str> {
        let mut at = 0;
        self.line_bytes.iter().map(move |bytes| {
            let start = at;
            at += *bytes as usize;
            self.text.get(start..at).unwrap_or_default()
        })
    }

    /// Memory that the rows take, roughly, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let metadata: usize = self.metadata.iter().map(|labels| labels.bytes() + ROW_BYTES).sum();
        self.text.len() + self.times.len() * ROW_BYTES + metadata
    }

    /// Earliest and latest time; `None` without rows.
    pub(super) fn span(&self) -> Option<(i64, i64)> {
        Some((*self.times.iter().min()?, *self.times.iter().max()?))
    }

    fn slice(&self, from: usize, to: usize) -> Self {
        let bytes =
            |range: Option<&[u32]>| range.unwrap_or_default().iter().map(|bytes| *bytes as usize).sum::<usize>();
        let start = bytes(self.line_bytes.get(..from));
        let end = start + bytes(self.line_bytes.get(from..to));
        Self {
            times: self.times.get(from..to).unwrap_or_default().to_vec(),
            line_bytes: self.line_bytes.get(from..to).unwrap_or_default().to_vec(),
            text: self.text.get(start..end).unwrap_or_default().to_owned(),
            metadata: self.metadata.get(from..to).unwrap_or_default().to_vec(),
        }
    }

    /// The rows with times in `min..=max`; times must be in order.
    pub(super) fn between(self, min: i64, max: i64) -> Self {
        let from = self.times.partition_point(|t| *t < min);
        let to = self.times.partition_point(|t| *t <= max).max(from);
        if (from, to) == (0, self.times.len()) { self } else { self.slice(from, to) }
    }

    /// The rows, their text dropped.
    #[must_use]
    pub(super) fn without_text(mut self) -> Self {
        self.text = String::new();
        self
    }

    /// The rows whose times `keep` says yes to; needs the text.
    pub(super) fn filter(self, keep: impl Fn(i64) -> bool) -> Self {
        if self.times.iter().all(|t| keep(*t)) {
            return self;
        }
        let mut kept = Self::default();
        for (row, (t, line)) in self.times.iter().zip(self.lines()).enumerate() {
            if keep(*t) {
                kept.push(*t, line, &self.metadata_of(row));
            }
        }
        kept
    }

    /// Whether the order of times says that there is nothing to sort and nothing twice.
    pub(super) fn is_strictly_ascending(&self) -> bool {
        self.times.windows(2).all(|two| matches!(two, [a, b] if a < b))
    }
}

/// Whether telling what is twice needs lines and metadata: some rows have one time and one length.
/// With `known_once`, rows of one source are not compared with each other.
pub(super) fn needs_text(sources: &[Rows], known_once: bool) -> bool {
    if known_once && sources.len() < 2 {
        return false;
    }
    let order = ordered(sources);
    order.chunk_by(|a, b| a.0 == b.0).any(|same| {
        let one_source = same.windows(2).all(|two| matches!(two, [a, b] if a.1 == b.1));
        if same.len() < 2 || (one_source && known_once) {
            return false;
        }
        let mut lengths = AHashSet::new();
        !same.iter().all(|(_, source, row)| {
            lengths.insert(sources.get(*source as usize).and_then(|rows| rows.line_bytes.get(*row as usize)))
        })
    })
}

/// All rows as (time, source, row), by time, then in the order they came.
fn ordered(sources: &[Rows]) -> Vec<(i64, u32, u32)> {
    let mut order = Vec::with_capacity(sources.iter().map(Rows::len).sum());
    for (source, rows) in sources.iter().enumerate() {
        order.extend(rows.times.iter().enumerate().map(|(row, t)| (*t, source as u32, row as u32)));
    }
    order.sort_by_key(|(t, _, _)| *t);
    order
}

/// Sorts the rows of all sources by time, equal times in the order they came, and keeps rows that have
/// one time, line and metadata once. Needs all columns; see [`needs_text`].
pub(super) fn merge(sources: Vec<Rows>) -> Rows {
    sorted(sources, true)
}

/// Sorts the rows of all sources by time, equal times in the order they came, and keeps all of them.
pub(super) fn interleave(sources: Vec<Rows>) -> Rows {
    sorted(sources, false)
}

fn sorted(sources: Vec<Rows>, once: bool) -> Rows {
    if let [only] = sources.as_slice()
        && (only.is_strictly_ascending() || (!once && only.times.is_sorted()))
    {
        return sources.into_iter().next().unwrap_or_default();
    }
    let has_metadata = sources.iter().any(|rows| !rows.metadata.is_empty());
    let starts: Vec<Vec<usize>> =
        sources.iter().map(|rows| if rows.text.is_empty() { Vec::new() } else { rows.starts() }).collect();
    let line = |source: u32, row: u32| -> &str {
        let (Some(rows), Some(starts)) = (sources.get(source as usize), starts.get(source as usize)) else { return "" };
        let start = starts.get(row as usize).copied().unwrap_or(0);
        let bytes = rows.line_bytes.get(row as usize).copied().unwrap_or(0) as usize;
        rows.text.get(start..start + bytes).unwrap_or_default()
    };
    let metadata = |source: u32, row: u32| -> &str {
        let own = sources.get(source as usize).and_then(|rows| rows.metadata.get(row as usize));
        own.map_or("", Labels::key)
    };
    let order = ordered(&sources);
    let mut merged = Rows { times: Vec::with_capacity(order.len()), ..Rows::default() };
    let mut seen = AHashSet::new();
    for same in order.chunk_by(|a, b| a.0 == b.0) {
        seen.clear();
        for &(t, source, row) in same {
            let own = line(source, row);
            if once && same.len() > 1 && !seen.insert((own, metadata(source, row))) {
                continue;
            }
            let Some(rows) = sources.get(source as usize) else { continue };
            if has_metadata {
                merged.metadata.push(rows.metadata_of(row as usize));
            }
            merged.times.push(t);
            merged.line_bytes.push(rows.line_bytes.get(row as usize).copied().unwrap_or(0));
            merged.text.push_str(own);
        }
    }
    merged
}

/// Writes a label set.
pub(super) fn put_labels(out: &mut Vec<u8>, labels: &Labels) {
    put_varint(out, labels.len() as u64);
    for (name, value) in labels {
        put_str(out, name);
        put_str(out, value);
    }
}

/// Reads a label set.
///
/// # Errors
/// [`Malformed`].
pub(super) fn read_labels(reader: &mut Reader<'_>) -> Result<Labels, Malformed> {
    let count = reader.count(reader.rest().len())?;
    let mut pairs = Vec::with_capacity(count);
    for _ in 0..count {
        pairs.push((reader.str()?, reader.str()?));
    }
    Labels::from_pairs(pairs).map_err(|_| Malformed("not a label set"))
}

/// Units of time that a column may be counted in, in nanoseconds.
const UNITS: [i64; 4] = [1, 1_000, 1_000_000, 1_000_000_000];

/// Writes times and line lengths: how many, the unit of the times, the first time and the
/// differences in that unit, the lengths.
pub(super) fn put_times(out: &mut Vec<u8>, times: &[i64], line_bytes: &[u32]) {
    let fits = |unit: &i64| times.iter().all(|t| t % unit == 0);
    let code = UNITS.iter().rposition(fits).unwrap_or(0);
    let unit = UNITS.get(code).copied().unwrap_or(1);
    put_varint(out, times.len() as u64);
    out.push(code as u8);
    let mut last = 0i64;
    for t in times {
        put_signed(out, (t / unit).wrapping_sub(last));
        last = t / unit;
    }
    line_bytes.iter().for_each(|bytes| put_varint(out, u64::from(*bytes)));
}

/// Reads what [`put_times`] wrote.
///
/// # Errors
/// [`Malformed`].
pub(super) fn read_times(reader: &mut Reader<'_>) -> Result<(Vec<i64>, Vec<u32>), Malformed> {
    let count = reader.count(reader.rest().len())?;
    let unit = *UNITS.get(usize::from(reader.byte()?)).ok_or(Malformed("unknown unit of time"))?;
    let mut times = Vec::with_capacity(count);
    let mut last = 0i64;
    for _ in 0..count {
        last = last.wrapping_add(reader.signed()?);
        times.push(last.checked_mul(unit).ok_or(Malformed("time too large"))?);
    }
    let mut line_bytes = Vec::with_capacity(count);
    for _ in 0..count {
        line_bytes.push(u32::try_from(reader.varint()?).map_err(|_| Malformed("line too long"))?);
    }
    Ok((times, line_bytes))
}

/// Writes metadata by name: the rows that have the name, then lengths and bytes of its values.
pub(super) fn put_metadata(out: &mut Vec<u8>, metadata: &[Labels]) {
    let mut columns: BTreeMap<&str, Vec<(usize, &str)>> = BTreeMap::new();
    for (row, labels) in metadata.iter().enumerate() {
        for (name, value) in labels {
            columns.entry(name).or_default().push((row, value));
        }
    }
    put_varint(out, columns.len() as u64);
    for (name, cells) in columns {
        put_str(out, name);
        put_varint(out, cells.len() as u64);
        let mut next = 0;
        for (row, _) in &cells {
            put_varint(out, (row - next) as u64);
            next = row + 1;
        }
        cells.iter().for_each(|(_, value)| put_varint(out, value.len() as u64));
        cells.iter().for_each(|(_, value)| out.extend_from_slice(value.as_bytes()));
    }
}

/// Most bytes of metadata that are built for the rows of one stream; writers stay below a quarter. A name is
/// stored once and built for each row that has it.
const METADATA_BYTES_MAX: usize = 128 << 20;

/// Reads what [`put_metadata`] wrote for `rows` rows; empty when none has any.
///
/// # Errors
/// [`Malformed`].
pub(super) fn read_metadata(reader: &mut Reader<'_>, rows: usize) -> Result<Vec<Labels>, Malformed> {
    let columns = reader.count(reader.rest().len())?;
    if columns == 0 {
        return Ok(Vec::new());
    }
    let mut pairs: Vec<Vec<(&str, &str)>> = vec![Vec::new(); rows];
    let mut bytes = 0usize;
    for _ in 0..columns {
        let name = reader.str()?;
        let count = reader.count(reader.rest().len())?;
        bytes = bytes.saturating_add(name.len().saturating_mul(count));
        if bytes > METADATA_BYTES_MAX {
            return Err(Malformed("too much metadata"));
        }
        let mut places = Vec::with_capacity(count);
        let mut next = 0usize;
        for _ in 0..count {
            let row = next.saturating_add(reader.count(rows)?);
            places.push(row);
            next = row + 1;
        }
        let mut lengths = Vec::with_capacity(count);
        for _ in 0..count {
            lengths.push(reader.count(reader.rest().len())?);
        }
        for (row, bytes) in places.into_iter().zip(lengths) {
            let value = std::str::from_utf8(reader.take(bytes)?).map_err(|_| Malformed("text is not UTF-8"))?;
            pairs.get_mut(row).ok_or(Malformed("metadata of a row that is not there"))?.push((name, value));
        }
    }
    let read = pairs.into_iter().map(|pairs| Labels::from_pairs(pairs).map_err(|_| Malformed("not a label set")));
    let metadata: Vec<Labels> = read.collect::<Result<_, _>>()?;
    Ok(if metadata.iter().all(Labels::is_empty) { Vec::new() } else { metadata })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(entries: &[(i64, &str, &str)]) -> Rows {
        let mut rows = Rows::default();
        for (t, line, value) in entries {
            rows.push(*t, line, &Labels::default().with("k", value));
        }
        rows
    }

    #[test]
    fn columns_come_back_as_they_were() {
        for times in [vec![], vec![0], vec![i64::MIN, i64::MAX, -1], vec![5_000_000_000, 7_000_000_000, 6_000_000_000]]
        {
            let lengths: Vec<u32> = (0..times.len() as u32).map(|n| n * 1000).collect();
            let mut out = Vec::new();
            put_times(&mut out, &times, &lengths);
            assert_eq!(read_times(&mut Reader::new(&out)), Ok((times, lengths)));
        }
        let metadata = rows(&[(1, "a", ""), (2, "b", "x"), (3, "c", "ü"), (4, "d", "")]).metadata;
        let mut out = Vec::new();
        put_metadata(&mut out, &metadata);
        assert_eq!(read_metadata(&mut Reader::new(&out), 4), Ok(metadata));
    }

    #[test]
    fn whole_seconds_take_fewer_bytes_than_nanoseconds() {
        let (mut seconds, mut nanos) = (Vec::new(), Vec::new());
        put_times(&mut seconds, &[1_700_000_000_000_000_000, 1_700_000_001_000_000_000], &[0, 0]);
        put_times(&mut nanos, &[1_700_000_000_000_000_001, 1_700_000_001_000_000_001], &[0, 0]);
        assert!(seconds.len() < nanos.len());
    }

    #[test]
    fn rows_are_twice_when_time_line_and_metadata_are() {
        let merged = merge(vec![
            rows(&[(2, "b", "1"), (1, "a", ""), (2, "c", ""), (2, "b", "1")]),
            rows(&[(2, "b", "2"), (2, "a", ""), (2, "b", "1"), (2, "c", "")]),
        ]);
        assert_eq!(merged, rows(&[(1, "a", ""), (2, "b", "1"), (2, "c", ""), (2, "b", "2"), (2, "a", "")]));
        let empty = merge(vec![rows(&[(1, "", ""), (1, "", "")])]);
        assert_eq!(empty.len(), 1);
        assert_eq!(merge(vec![rows(&[(1, "", ""), (1, "", "x")])]).len(), 2);
    }

    #[test]
    fn rows_without_text_are_all_kept() {
        let mut two = rows(&[(2, "b", ""), (2, "b", "")]).without_text();
        two.extend(&rows(&[(1, "a", "")]).without_text());
        assert_eq!(interleave(vec![two]).times, [1, 2, 2]);
    }

    #[test]
    fn lines_are_needed_only_where_time_and_length_repeat() {
        let one = || rows(&[(1, "a", ""), (2, "bb", "")]);
        assert!(!needs_text(&[one(), rows(&[(2, "b", "")])], true));
        assert!(needs_text(&[one(), rows(&[(2, "cc", "")])], true));
        assert!(!needs_text(&[rows(&[(1, "a", ""), (1, "b", "")])], true));
        assert!(!needs_text(&[one(), rows(&[(3, "a", ""), (3, "b", "")])], true));
        assert!(needs_text(&[rows(&[(1, "a", ""), (1, "b", "")])], false));
    }

    #[test]
    fn any_bytes_decode_or_fail_without_panic() {
        let mut good = Vec::new();
        put_times(&mut good, &[1, 2, 3], &[4, 5, 6]);
        put_metadata(&mut good, &rows(&[(1, "a", "x"), (2, "b", "y")]).metadata);
        put_labels(&mut good, &Labels::default().with("a", "b"));
        for at in 0..good.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                let mut reader = Reader::new(&bad);
                let _ = read_times(&mut reader)
                    .and_then(|(times, _)| read_metadata(&mut reader, times.len()))
                    .and_then(|_| read_labels(&mut reader));
            }
        }
    }
}
