//! From the head to parts: which day's part a sample goes to, and the frames of each part.
//! Flow: [`slices`] finds the days with their series; [`write`] writes the series of one day sorted
//! by labels, then postings, exemplars, metadata, directory.
//! Bytes: docs/format/metrics.md.

use std::collections::BTreeMap;

use ahash::AHashMap;

use super::chunk::{column, histogram};
use super::head::Head;
use super::postings::put_runs;
use super::record::{put_exemplar, put_labels, put_metadata};
use super::rows::Rows;
use super::segment::{
    DataRef, Directory, Entry, FRAME_BYTES, FRAME_DATA, FRAME_DIRECTORY, FRAME_EXEMPLARS, FRAME_METADATA,
    FRAME_POSTINGS, PostingsRef, key,
};
use super::series::Series;
use crate::model::exemplar::Exemplar;
use crate::model::labels::Labels;
use crate::model::sample::HistogramSample;
use crate::model::time::RangeMs;
use crate::store::StoreError;
use crate::store::codec::{put_bytes, put_str, put_varint};
use crate::store::lane::{SliceSpan, partition};
use crate::store::part::PartWriter;

const DAY_MS: i64 = 86_400_000;
/// Days around now that have parts of their own or, far off, share them; all others share two.
const DAYS_MAX: i64 = 40_000;
/// Floats and histograms of one entry.
const ENTRY_FLOATS: usize = 8192;
const ENTRY_HISTOGRAMS: usize = 256;
/// Memory of the histograms of one entry, in bytes.
const ENTRY_HISTOGRAMS_BYTES: usize = 1 << 20;

/// What goes to one part.
pub struct Slice {
    place: Place,
    span: RangeMs,
    /// In the order of their labels.
    ids: Vec<u32>,
    with_metadata: bool,
}

/// The days of one part: what `partition` gives for each of its times, seen from `now`.
#[derive(Clone, Copy)]
struct Place {
    number: i64,
    now: i64,
}

impl Place {
    fn holds(self, t: i64) -> bool {
        place(t, self.now) == self.number
    }
}

/// The number of the part for `t`.
fn place(t: i64, now: i64) -> i64 {
    let today = now.div_euclid(DAY_MS);
    match t.div_euclid(DAY_MS) {
        day if day < today.saturating_sub(DAYS_MAX) => i64::MIN,
        day if day > today.saturating_add(DAYS_MAX) => i64::MAX,
        _ => partition(t, now, DAY_MS),
    }
}

struct Building {
    span: (i64, i64),
    rows: u64,
    ids: Vec<u32>,
}

#[derive(Default)]
struct Places(BTreeMap<i64, Building>);

impl Places {
    fn at(&mut self, number: i64, t: i64) -> &mut Building {
        let building = self.0.entry(number).or_insert_with(|| Building { span: (t, t), rows: 0, ids: Vec::new() });
        building.span = (building.span.0.min(t), building.span.1.max(t));
        building
    }

    /// `times` is ascending.
    fn add(&mut self, id: u32, times: &[i64], now: i64) {
        let mut rest = times;
        while let Some(first) = rest.first() {
            let number = place(*first, now);
            let len = rest.partition_point(|t| place(*t, now) <= number);
            let (own, others) = rest.split_at(len.max(1));
            self.at(number, *first).rows += own.len() as u64;
            let building = self.at(number, own.last().copied().unwrap_or(*first));
            if building.ids.last() != Some(&id) {
                building.ids.push(id);
            }
            rest = others;
        }
    }
}

/// Divides a head into the parts it makes.
pub fn slices(head: &Head, now: i64) -> Vec<SliceSpan<Slice>> {
    let mut places = Places::default();
    let mut rows = Rows::default();
    for series in head.sorted() {
        read(&series, RangeMs::ALL, &mut rows);
        places.add(series.id, &rows.times, now);
        let times: Vec<i64> = rows.histograms.iter().map(|sample| sample.t).collect();
        places.add(series.id, &times, now);
    }
    for exemplar in head.exemplars().iter().flat_map(|(_, own)| own) {
        places.at(place(exemplar.t, now), exemplar.t);
    }
    let metadata = !head.metadata().is_empty();
    if metadata && places.0.is_empty() {
        places.at(place(now, now), now);
    }
    let newest = places.0.keys().next_back().copied();
    let slice = |(number, building): (i64, Building)| SliceSpan {
        min_t: building.span.0,
        max_t: building.span.1,
        rows: building.rows,
        slice: Slice {
            place: Place { number, now },
            span: RangeMs { start: building.span.0, end: building.span.1 },
            ids: building.ids,
            with_metadata: metadata && Some(number) == newest,
        },
    };
    places.0.into_iter().map(slice).collect()
}

fn read(series: &Series, range: RangeMs, rows: &mut Rows) {
    rows.clear();
    if let Err(error) = series.read(range, rows) {
        tracing::error!(%error, labels = %series.labels(), "a chunk in memory does not decode; the log has its samples");
    }
    rows.settle();
}

/// Writes the frames of one part.
///
/// # Errors
/// [`StoreError`].
pub fn write(head: &Head, slice: Slice, out: &mut PartWriter) -> Result<(), StoreError> {
    let series = head.by_ids(&slice.ids);
    let names: Vec<Labels> = series.iter().map(|own| own.labels()).collect();
    let mut data = DataFrames { out, payload: Vec::new(), span: (0, 0), directory: Directory::default() };
    let mut pairs = Pairs::default();
    let (mut rows, mut labels) = (Rows::default(), Vec::new());
    for (own, name) in series.iter().zip(&names) {
        read(own, slice.span, &mut rows);
        labels.clear();
        put_labels(&mut labels, name);
        let first = data.directory.entries;
        data.series(&labels, &rows, slice.place)?;
        if first < data.directory.entries {
            pairs.add(name, first, data.directory.entries - 1);
        }
    }
    data.close()?;
    let mut directory = data.directory;
    directory.postings = pairs.write(out)?;
    write_exemplars(head, slice.place, out)?;
    if slice.with_metadata {
        write_metadata(head, out)?;
    }
    let mut payload = Vec::new();
    directory.encode(&mut payload);
    out.frame(FRAME_DIRECTORY, &payload)?;
    Ok(())
}

struct DataFrames<'a> {
    out: &'a mut PartWriter,
    payload: Vec<u8>,
    span: (i64, i64),
    directory: Directory,
}

impl DataFrames<'_> {
    fn series(&mut self, labels: &[u8], rows: &Rows, place: Place) -> Result<(), StoreError> {
        let (first, end) = (
            rows.times.partition_point(|t| self::place(*t, place.now) < place.number),
            rows.times.partition_point(|t| self::place(*t, place.now) <= place.number),
        );
        let times = rows.times.get(first..end).unwrap_or_default().chunks(ENTRY_FLOATS);
        let values = rows.values.get(first..end).unwrap_or_default().chunks(ENTRY_FLOATS);
        let mut data = Vec::new();
        for (times, values) in times.zip(values) {
            data.clear();
            column::encode(&mut data, times, values);
            let span = (times.first().copied().unwrap_or_default(), times.last().copied().unwrap_or_default());
            self.entry(&Entry { labels, histograms: false, span, count: times.len(), data: &data })?;
        }
        let mut own = Vec::new();
        let mut bytes = 0;
        for sample in rows.histograms.iter().filter(|sample| place.holds(sample.t)) {
            bytes += sample.histogram.bytes();
            own.push(sample.clone());
            if own.len() >= ENTRY_HISTOGRAMS || bytes >= ENTRY_HISTOGRAMS_BYTES {
                self.histograms(labels, &own)?;
                own.clear();
                bytes = 0;
            }
        }
        self.histograms(labels, &own)
    }

    fn histograms(&mut self, labels: &[u8], own: &[HistogramSample]) -> Result<(), StoreError> {
        let (Some(first), Some(last)) = (own.first(), own.last()) else { return Ok(()) };
        let mut data = Vec::new();
        histogram::encode(&mut data, own);
        let span = (first.t, last.t);
        self.entry(&Entry { labels, histograms: true, span, count: own.len(), data: &data })
    }

    fn entry(&mut self, entry: &Entry<'_>) -> Result<(), StoreError> {
        if self.payload.is_empty() {
            put_varint(&mut self.payload, u64::from(self.directory.entries));
            self.span = entry.span;
            self.directory.data.push(DataRef { offset: 0, first: self.directory.entries, span: entry.span });
        }
        self.span = (self.span.0.min(entry.span.0), self.span.1.max(entry.span.1));
        entry.put(&mut self.payload);
        self.directory.entries += 1;
        if self.payload.len() >= FRAME_BYTES { self.close() } else { Ok(()) }
    }

    fn close(&mut self) -> Result<(), StoreError> {
        if !self.payload.is_empty() {
            let frame = self.out.frame(FRAME_DATA, &self.payload)?;
            self.payload.clear();
            if let Some(last) = self.directory.data.last_mut() {
                (last.offset, last.span) = (frame.offset, self.span);
            }
        }
        Ok(())
    }
}

/// Label pairs with the runs of entries that have them.
#[derive(Default)]
struct Pairs<'a>(BTreeMap<&'a str, AHashMap<&'a str, Runs>>);

/// First and last entry of each run.
type Runs = Vec<(u32, u32)>;

impl<'a> Pairs<'a> {
    fn add(&mut self, labels: &'a Labels, first: u32, last: u32) {
        for (name, value) in labels {
            let runs = self.0.entry(name).or_default().entry(value).or_insert_with(|| Vec::with_capacity(1));
            match runs.last_mut() {
                Some(run) if run.1 + 1 == first => run.1 = last,
                _ => runs.push((first, last)),
            }
        }
    }

    fn write(self, out: &mut PartWriter) -> Result<Vec<PostingsRef>, StoreError> {
        let mut frames = PostingsFrames { out, payload: Vec::new(), group: Vec::new(), count: 0, refs: Vec::new() };
        let mut runs_bytes = Vec::new();
        for (name, values) in self.0 {
            let mut values: Vec<_> = values.into_iter().collect();
            values.sort_unstable_by(|a, b| a.0.cmp(b.0));
            for (value, runs) in values {
                runs_bytes.clear();
                put_runs(&mut runs_bytes, &runs);
                frames.pair(name, value, &runs_bytes)?;
            }
            frames.end_group(name);
        }
        frames.close()?;
        Ok(frames.refs)
    }
}

struct PostingsFrames<'a> {
    out: &'a mut PartWriter,
    payload: Vec<u8>,
    group: Vec<u8>,
    count: u64,
    refs: Vec<PostingsRef>,
}

impl PostingsFrames<'_> {
    fn pair(&mut self, name: &str, value: &str, runs: &[u8]) -> Result<(), StoreError> {
        if self.payload.is_empty() && self.count == 0 {
            self.refs.push(PostingsRef { offset: 0, name: name.to_owned(), value: key(value).to_vec() });
        }
        put_str(&mut self.group, value);
        put_bytes(&mut self.group, runs);
        self.count += 1;
        if self.payload.len() + self.group.len() >= FRAME_BYTES {
            self.end_group(name);
            self.close()?;
        }
        Ok(())
    }

    fn end_group(&mut self, name: &str) {
        if self.count > 0 {
            put_str(&mut self.payload, name);
            put_varint(&mut self.payload, self.count);
            self.payload.append(&mut self.group);
            self.count = 0;
        }
    }

    fn close(&mut self) -> Result<(), StoreError> {
        if !self.payload.is_empty() {
            let frame = self.out.frame(FRAME_POSTINGS, &self.payload)?;
            self.payload.clear();
            if let Some(last) = self.refs.last_mut() {
                last.offset = frame.offset;
            }
        }
        Ok(())
    }
}

fn write_exemplars(head: &Head, place: Place, out: &mut PartWriter) -> Result<(), StoreError> {
    let mut payload = Vec::new();
    for (id, exemplars) in head.exemplars() {
        let own: Vec<Exemplar> = exemplars.into_iter().filter(|exemplar| place.holds(exemplar.t)).collect();
        let labels = head.labels_of(id);
        let (Some(labels), false) = (labels, own.is_empty()) else { continue };
        put_labels(&mut payload, &labels);
        put_varint(&mut payload, own.len() as u64);
        own.iter().for_each(|exemplar| put_exemplar(&mut payload, exemplar));
        if payload.len() >= FRAME_BYTES {
            out.frame(FRAME_EXEMPLARS, &payload)?;
            payload.clear();
        }
    }
    if !payload.is_empty() {
        out.frame(FRAME_EXEMPLARS, &payload)?;
    }
    Ok(())
}

fn write_metadata(head: &Head, out: &mut PartWriter) -> Result<(), StoreError> {
    let mut payload = Vec::new();
    for metadata in head.metadata() {
        put_metadata(&mut payload, &metadata);
        if payload.len() >= FRAME_BYTES {
            out.frame(FRAME_METADATA, &payload)?;
            payload.clear();
        }
    }
    if !payload.is_empty() {
        out.frame(FRAME_METADATA, &payload)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_times_make_few_parts_and_numbers_ascend_with_time() {
        let now = 20_000 * DAY_MS;
        let mut places = std::collections::BTreeSet::new();
        let mut last = i64::MIN;
        for step in 0..200_000i64 {
            let t = i64::MIN / 2 + step * (i64::MAX / 200_000);
            places.insert(place(t, now));
            assert!(place(t, now) >= last, "{t}");
            last = place(t, now);
        }
        (-50_000..50_000).for_each(|day| {
            places.insert(place(now + day * DAY_MS, now));
        });
        assert!(places.len() < 1_100, "{}", places.len());
    }
}
