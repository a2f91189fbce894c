//! Records of the metrics log, version 2: one for each request, with what was accepted of it, in
//! columns. Series have numbers; the first record of a segment that needs one says what it stands for.
//! Pairs have places in a list of the record's own, so that a damaged one costs no series but its own.
//! Flow: [`put_columns`] runs before the log's lock is taken, [`put`] under it, so that what a number
//! stands for comes before the number is used.
//! Bytes: docs/format/wal.md.

use ahash::AHashMap;

use super::accepted::Columns;
use super::chunk::histogram;
use super::record::{put_exemplar, put_metadata, take_exemplar, take_metadata};
use super::registry::Known;
use crate::model::sample::HistogramSample;
use crate::store::codec::{Malformed, Reader, put_bytes, put_signed, put_str, put_varint};

/// The first byte of the records written here.
pub const VERSION: u8 = 2;
const HAS_STARTS: u64 = 1;
const HAS_HISTOGRAMS: u64 = 2;
const HAS_EXEMPLARS: u64 = 4;
const HAS_METADATA: u64 = 8;

/// A record that was read. Numbers are those of its segment.
#[derive(Debug, Default)]
pub struct Record<'a> {
    /// Pairs: name, value.
    pub pairs: Vec<(&'a str, &'a str)>,
    /// Series: number, where its pairs end in `members`.
    pub series: Vec<(u32, usize)>,
    /// Places of the series' pairs in `pairs`.
    pub members: Vec<u32>,
    /// The rest.
    pub columns: Columns,
}

/// Appends a record: what its numbers stand for where `segment` does not have it yet, then `columns`
/// as [`put_columns`] wrote them.
pub fn put(out: &mut Vec<u8>, known: &Known, own: &Columns, columns: &[u8], segment: u64) {
    // Numbers of segments rise by one with each 64 MiB; 32 bits of them tell those apart that matter.
    let series = known.define(own.series(), segment as u32);
    out.push(VERSION);
    let mut places = AHashMap::new();
    let mut pairs = Vec::new();
    for pair in series.iter().flat_map(|id| known.members(*id)) {
        places.entry(*pair).or_insert_with(|| {
            pairs.push(*pair);
            pairs.len() as u64 - 1
        });
    }
    put_varint(out, pairs.len() as u64);
    for pair in pairs {
        let (name, value) = known.pair(pair);
        put_str(out, name);
        put_str(out, value);
    }
    put_varint(out, series.len() as u64);
    for id in series {
        let members = known.members(id);
        put_varint(out, u64::from(id));
        put_varint(out, members.len() as u64);
        members.iter().for_each(|pair| put_varint(out, places.get(pair).copied().unwrap_or_default()));
    }
    out.extend_from_slice(columns);
}

/// Appends samples, exemplars and metadata.
pub fn put_columns(out: &mut Vec<u8>, columns: &Columns) {
    let flag = |has: bool, flag: u64| if has { flag } else { 0 };
    let flags = flag(!columns.starts.is_empty(), HAS_STARTS)
        | flag(!columns.histograms.is_empty(), HAS_HISTOGRAMS)
        | flag(!columns.exemplars.is_empty(), HAS_EXEMPLARS)
        | flag(!columns.metadata.is_empty(), HAS_METADATA);
    put_varint(out, flags);
    put_varint(out, columns.ids.len() as u64);
    put_runs(out, columns.ids.iter().map(|id| i64::from(*id)));
    put_runs(out, columns.times.iter().copied());
    out.reserve(8 * columns.values.len());
    columns.values.iter().for_each(|value| out.extend_from_slice(&value.to_bits().to_le_bytes()));
    if !columns.starts.is_empty() {
        put_runs(out, columns.starts.iter().copied());
    }
    if !columns.histograms.is_empty() {
        put_varint(out, columns.histograms.len() as u64);
        columns.histograms.iter().for_each(|(id, own)| put_histograms(out, *id, own));
    }
    if !columns.exemplars.is_empty() {
        put_varint(out, columns.exemplars.len() as u64);
        for (id, own) in &columns.exemplars {
            put_varint(out, u64::from(*id));
            put_varint(out, own.len() as u64);
            own.iter().for_each(|exemplar| put_exemplar(out, exemplar));
        }
    }
    if !columns.metadata.is_empty() {
        put_varint(out, columns.metadata.len() as u64);
        columns.metadata.iter().for_each(|metadata| put_metadata(out, metadata));
    }
}

fn put_histograms(out: &mut Vec<u8>, id: u32, own: &[HistogramSample]) {
    put_varint(out, u64::from(id));
    put_varint(out, own.len() as u64);
    let mut bytes = Vec::new();
    histogram::encode(&mut bytes, own);
    put_bytes(out, &bytes);
    put_runs(out, own.iter().map(|sample| sample.start));
}

/// Appends numbers as runs of equal steps: the step, and how many times it is taken. Series come in
/// the order of their numbers, many samples have one time, and backfilled ones have equal steps.
fn put_runs(out: &mut Vec<u8>, numbers: impl Iterator<Item = i64>) {
    let (mut last, mut step, mut count) = (0i64, 0i64, 0u64);
    for number in numbers {
        let own = number.wrapping_sub(last);
        last = number;
        if own == step {
            count += 1;
            continue;
        }
        put_run(out, step, count);
        (step, count) = (own, 1);
    }
    put_run(out, step, count);
}

fn put_run(out: &mut Vec<u8>, step: i64, count: u64) {
    if count > 0 {
        put_signed(out, step);
        put_varint(out, count);
    }
}

fn take_runs<T>(
    reader: &mut Reader<'_>,
    count: usize,
    of: impl Fn(i64) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let mut numbers = Vec::with_capacity(count);
    let mut last = 0i64;
    while numbers.len() < count {
        let step = reader.signed()?;
        for _ in 0..reader.count(count - numbers.len())?.max(1) {
            last = last.wrapping_add(step);
            numbers.push(of(last)?);
        }
    }
    Ok(numbers)
}

fn small(number: u64) -> Result<u32, Malformed> {
    u32::try_from(number).map_err(|_| Malformed("number too large"))
}

/// Reads a record of this version.
///
/// # Errors
/// [`Malformed`].
pub fn take(record: &[u8]) -> Result<Record<'_>, Malformed> {
    let mut reader = Reader::new(record);
    if reader.byte()? != VERSION {
        return Err(Malformed("a record of another version"));
    }
    let mut own = Record::default();
    for _ in 0..reader.count(record.len())? {
        own.pairs.push((reader.str()?, reader.str()?));
    }
    for _ in 0..reader.count(record.len())? {
        let id = small(reader.varint()?)?;
        for _ in 0..reader.count(record.len())? {
            own.members.push(small(reader.varint()?)?);
        }
        own.series.push((id, own.members.len()));
    }
    own.columns = take_columns(&mut reader)?;
    if reader.is_empty() { Ok(own) } else { Err(Malformed("bytes behind a record")) }
}

fn take_columns(reader: &mut Reader<'_>) -> Result<Columns, Malformed> {
    let mut own = Columns::default();
    let flags = reader.varint()?;
    let count = reader.count(reader.rest().len() / 8)?;
    own.ids = take_runs(reader, count, |id| u32::try_from(id).map_err(|_| Malformed("number too large")))?;
    own.times = take_runs(reader, count, Ok)?;
    let values = reader.take(8 * count)?;
    own.values.extend(values.as_chunks().0.iter().map(|bits| f64::from_bits(u64::from_le_bytes(*bits))));
    if flags & HAS_STARTS != 0 {
        own.starts = take_runs(reader, count, Ok)?;
    }
    if flags & HAS_HISTOGRAMS != 0 {
        for _ in 0..reader.count(reader.rest().len())? {
            own.histograms.push(take_histograms(reader)?);
        }
    }
    if flags & HAS_EXEMPLARS != 0 {
        for _ in 0..reader.count(reader.rest().len())? {
            let (id, mut exemplars) = (small(reader.varint()?)?, Vec::new());
            for _ in 0..reader.count(reader.rest().len())? {
                exemplars.push(take_exemplar(reader)?);
            }
            own.exemplars.push((id, exemplars));
        }
    }
    if flags & HAS_METADATA != 0 {
        for _ in 0..reader.count(reader.rest().len())? {
            own.metadata.push(take_metadata(reader)?);
        }
    }
    Ok(own)
}

fn take_histograms(reader: &mut Reader<'_>) -> Result<(u32, Vec<HistogramSample>), Malformed> {
    let id = small(reader.varint()?)?;
    let count = reader.count(reader.rest().len())?;
    let mut samples = histogram::decode(reader.bytes()?, count)?;
    let starts = take_runs(reader, samples.len(), Ok)?;
    for (sample, start) in samples.iter_mut().zip(starts) {
        sample.start = start;
    }
    Ok((id, samples))
}

/// Histograms as they are kept: those of the request that fit.
pub fn fitting(own: &[HistogramSample]) -> Vec<HistogramSample> {
    own.iter().filter(|sample| super::data::fits(sample)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::model::batch::MetricMetadata;
    use crate::model::exemplar::Exemplar;
    use crate::model::labels::Labels;
    use proptest::prelude::*;

    fn check_round_trip(columns: &Columns) {
        let mut out = vec![VERSION, 0, 0];
        put_columns(&mut out, columns);
        assert_eq!(format!("{:?}", take(&out).unwrap().columns), format!("{columns:?}"));
        for end in 0..out.len() {
            assert!(take(&out[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn everything_a_request_can_hold_comes_back() {
        let labels = Labels::from_pairs([("trace_id", "x")]).unwrap();
        let histogram = |t, start| HistogramSample { t, start, histogram: Arc::default() };
        let text = |text: &str| text.to_owned();
        check_round_trip(&Columns {
            ids: vec![7, 8, 9, 9, 9, 3],
            times: vec![i64::MIN, i64::MAX, 0, 15_000, 30_000, -1],
            values: vec![0.0, -0.0, 1.5, f64::INFINITY, 5e-324, -7.25],
            starts: vec![0, 0, -5, i64::MAX, 1, 2],
            histograms: vec![(4, vec![histogram(1, 0), histogram(2, -9)]), (5, vec![])],
            exemplars: vec![(2, vec![Exemplar { labels, value: 0.5, t: 9 }])],
            metadata: vec![MetricMetadata { name: text("up"), kind: text("gauge"), help: text("h"), unit: text("") }],
        });
        check_round_trip(&Columns::default());
    }

    #[test]
    fn a_scrape_takes_little_more_than_its_values() {
        let count = 10_000;
        let columns = Columns {
            ids: (500..500 + count).collect(),
            times: (0..count).map(|at| 1_700_000_000_000 + i64::from(at / 200)).collect(),
            values: vec![0.5; count as usize],
            ..Columns::default()
        };
        let mut out = Vec::new();
        put_columns(&mut out, &columns);
        assert!(out.len() < 8 * count as usize + 400, "{}", out.len());
    }

    proptest! {
        #[test]
        fn any_floats_come_back(rows: Vec<(u32, i64, u64)>) {
            let mut columns = Columns::default();
            for (id, t, value) in rows {
                columns.ids.push(id);
                columns.times.push(t);
                columns.values.push(f64::from_bits(value));
            }
            let mut out = vec![VERSION, 0, 0];
            put_columns(&mut out, &columns);
            let found = take(&out).unwrap().columns;
            prop_assert_eq!((found.ids, found.times), (columns.ids, columns.times));
            let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&found.values), bits(&columns.values));
        }

        #[test]
        fn no_bytes_panic_the_decoder(bytes: Vec<u8>) {
            let _ = take(&bytes);
            let _ = take(&[&[VERSION][..], &bytes].concat());
        }
    }
}
