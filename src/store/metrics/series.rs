//! One series in the head: its labels and its samples of the last hours.
//! Flow: a float newer than all before goes to the open chunk, which is sealed when full; any other
//! goes to `late`, raw, sorted when full. Histograms are kept as they came and sealed likewise.
//! Start timestamps, which few series have, are kept like floats of their own whose bits they are.
//! Invariants: sealed chunks and the open one are in time order and do not overlap; a late sample
//! was written after any sample of its time, so in the order sealed, open, late the last one counts.
//! Locks: `data`, held for one batch or one read.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;

use super::chunk::gorilla::{Appender, Chunk};
use super::chunk::histogram;
use super::rows::{Rows, keep_last};
use crate::model::batch::SeriesBatch;
use crate::model::labels::Labels;
use crate::model::sample::HistogramSample;
use crate::model::time::RangeMs;
use crate::store::codec::Malformed;

/// Floats in a sealed chunk.
const CHUNK_SAMPLES: u32 = 240;
/// Late floats and histograms that are sealed together.
const LATE_SAMPLES: usize = 128;
const CHUNK_HISTOGRAMS: usize = 32;
/// Largest histogram that is kept, in bytes of memory; larger ones are refused.
pub const HISTOGRAM_BYTES_MAX: usize = 1 << 20;

/// How a series is handed out.
pub type SeriesRef = Arc<Series>;

/// A series and its samples.
pub struct Series {
    pub(super) labels: Labels,
    /// Its number in its head; the log calls it so, too.
    pub id: u32,
    /// The log segment that has its labels, touched under the log's lock only.
    pub defined: AtomicU64,
    data: Mutex<Data>,
}

#[derive(Default)]
struct Data {
    floats: Floats,
    histograms: Option<Box<Histograms>>,
    /// When counting began for samples of either kind, as bits of floats.
    starts: Option<Box<Floats>>,
}

#[derive(Default)]
struct Floats {
    sealed: Vec<Chunk>,
    open: Appender,
    late: Option<Box<Late>>,
    sealed_bytes: usize,
}

#[derive(Default)]
struct Late {
    sealed: Vec<Chunk>,
    open: Vec<(i64, f64)>,
}

#[derive(Default)]
struct Histograms {
    sealed: Vec<HistogramChunk>,
    open: Vec<HistogramSample>,
    open_bytes: usize,
    sealed_bytes: usize,
}

struct HistogramChunk {
    span: (i64, i64),
    count: usize,
    bytes: Box<[u8]>,
}

impl Series {
    /// A series without samples.
    pub fn new(labels: Labels, id: u32) -> Self {
        Self { labels, id, defined: AtomicU64::new(0), data: Mutex::default() }
    }

    /// Who it is.
    pub fn labels(&self) -> Labels {
        self.labels.clone()
    }

    /// Bytes of memory that a series takes before it has samples, its places in the index included.
    pub fn base_bytes(&self) -> usize {
        // The string's own head, the map's and the list's places, about five bytes a label in bitmaps.
        size_of::<Self>() + self.labels.bytes() + 16 + 48 + 5 * self.labels.len()
    }

    /// Takes the samples of a batch; returns by how many bytes memory has grown (negative: shrunk).
    pub fn push(&self, batch: &SeriesBatch) -> isize {
        let mut data = self.data.lock();
        let before = data.bytes();
        for (at, sample) in batch.samples.iter().enumerate() {
            data.floats.push(sample.t, sample.value);
            data.push_start(sample.t, batch.starts.get(at).copied().unwrap_or_default());
        }
        for sample in batch.histograms.iter().filter(|sample| fits(sample)) {
            data.push_histogram(sample.clone());
            data.push_start(sample.t, sample.start);
        }
        data.bytes() as isize - before as isize
    }

    /// Adds the samples in `range` to `rows`, in the order that makes the last one count.
    ///
    /// # Errors
    /// Never for what this process wrote.
    pub fn read(&self, range: RangeMs, rows: &mut Rows) -> Result<(), Malformed> {
        self.data.lock().read(range, rows)
    }

    /// An upper bound of the samples in `range`.
    pub fn count(&self, range: RangeMs) -> usize {
        self.data.lock().count(range)
    }

    /// Whether there may be samples in `range`.
    pub fn overlaps(&self, range: RangeMs) -> bool {
        self.count(range) > 0
    }
}

/// Whether a histogram is kept.
pub fn fits(sample: &HistogramSample) -> bool {
    sample.histogram.bytes() <= HISTOGRAM_BYTES_MAX
}

fn in_range(chunk: &Chunk, range: RangeMs) -> bool {
    chunk.count > 0 && range.overlaps(chunk.first_t, chunk.last_t)
}

impl Floats {
    fn bytes(&self) -> usize {
        let late = self.late.as_ref().map_or(0, |late| size_of::<Late>() + 16 * late.open.capacity());
        self.open.heap_bytes() + self.sealed_bytes + late
    }

    /// Time of the newest sample that is not late.
    fn newest(&self) -> Option<i64> {
        self.open.last().map(|last| last.0).or_else(|| self.sealed.last().map(|chunk| chunk.last_t))
    }

    fn push(&mut self, t: i64, value: f64) {
        let newest = self.open.last().or_else(|| self.sealed.last().map(|chunk| (chunk.last_t, 0)));
        match newest {
            Some((last, bits)) if t <= last => {
                let repeats = self.late.is_none() && self.open.count() > 0 && t == last && bits == value.to_bits();
                if !repeats {
                    self.push_late(t, value);
                }
            }
            _ => {
                self.open.push(t, value);
                if self.open.count() >= CHUNK_SAMPLES {
                    let chunk = self.open.seal();
                    self.sealed_bytes += chunk.bytes();
                    self.sealed.push(chunk);
                }
            }
        }
    }

    fn push_late(&mut self, t: i64, value: f64) {
        let late = self.late.get_or_insert_default();
        late.open.push((t, value));
        if late.open.len() >= LATE_SAMPLES {
            late.open.sort_by_key(|pair| pair.0);
            keep_last(&mut late.open, |pair| pair.0);
            let mut appender = Appender::default();
            late.open.drain(..).for_each(|(t, value)| appender.push(t, value));
            let chunk = appender.seal();
            self.sealed_bytes += chunk.bytes();
            late.sealed.push(chunk);
        }
    }

    fn read(&self, range: RangeMs, mut visit: impl FnMut(i64, f64)) -> Result<(), Malformed> {
        let mut keep = |t: i64, value: f64| {
            if range.contains(t) {
                visit(t, value);
            }
        };
        for chunk in self.sealed.iter().filter(|chunk| in_range(chunk, range)) {
            chunk.read(&mut keep)?;
        }
        let (first, last) = self.open.span();
        if self.open.count() > 0 && range.overlaps(first, last) {
            self.open.read(&mut keep)?;
        }
        if let Some(late) = &self.late {
            for chunk in late.sealed.iter().filter(|chunk| in_range(chunk, range)) {
                chunk.read(&mut keep)?;
            }
            late.open.iter().for_each(|(t, value)| keep(*t, *value));
        }
        Ok(())
    }

    fn count(&self, range: RangeMs) -> usize {
        let chunks = |chunks: &[Chunk]| -> usize {
            chunks.iter().filter(|chunk| in_range(chunk, range)).map(|chunk| chunk.count as usize).sum()
        };
        let (first, last) = self.open.span();
        let open = if range.overlaps(first, last) { self.open.count() as usize } else { 0 };
        let late = self
            .late
            .as_ref()
            .map_or(0, |late| chunks(&late.sealed) + late.open.iter().filter(|(t, _)| range.contains(*t)).count());
        chunks(&self.sealed) + open + late
    }
}

impl Data {
    fn bytes(&self) -> usize {
        let histograms =
            self.histograms.as_ref().map_or(0, |own| size_of::<Histograms>() + own.open_bytes + own.sealed_bytes);
        let starts = self.starts.as_ref().map_or(0, |own| size_of::<Floats>() + own.bytes());
        self.floats.bytes() + histograms + starts
    }

    /// Keeps a start that is known, and one that is not where it may take the place of one that is.
    fn push_start(&mut self, t: i64, start: i64) {
        let known = start != 0 || self.starts.as_ref().is_some_and(|own| own.newest().is_some_and(|last| t <= last));
        if known {
            self.starts.get_or_insert_default().push(t, f64::from_bits(start as u64));
        }
    }

    fn push_histogram(&mut self, sample: HistogramSample) {
        let own = self.histograms.get_or_insert_default();
        own.open_bytes += sample.histogram.bytes() + size_of::<HistogramSample>();
        own.open.push(sample);
        if own.open.len() >= CHUNK_HISTOGRAMS || own.open_bytes > HISTOGRAM_BYTES_MAX {
            own.open.sort_by_key(|sample| sample.t);
            keep_last(&mut own.open, |sample| sample.t);
            let mut bytes = Vec::new();
            histogram::encode(&mut bytes, &own.open);
            let span = (own.open.first().map_or(0, |sample| sample.t), own.open.last().map_or(0, |sample| sample.t));
            let chunk = HistogramChunk { span, count: own.open.len(), bytes: bytes.into_boxed_slice() };
            own.sealed_bytes += size_of::<HistogramChunk>() + chunk.bytes.len();
            own.sealed.push(chunk);
            own.open.clear();
            own.open_bytes = 0;
        }
    }

    fn read(&self, range: RangeMs, rows: &mut Rows) -> Result<(), Malformed> {
        self.floats.read(range, |t, value| rows.push(t, value))?;
        if let Some(own) = &self.histograms {
            for chunk in own.sealed.iter().filter(|chunk| range.overlaps(chunk.span.0, chunk.span.1)) {
                let samples = histogram::decode(&chunk.bytes, chunk.count)?;
                samples.into_iter().filter(|sample| range.contains(sample.t)).for_each(|one| rows.push_histogram(one));
            }
            let open = own.open.iter().filter(|sample| range.contains(sample.t));
            open.for_each(|sample| rows.push_histogram(sample.clone()));
        }
        if let Some(starts) = &self.starts {
            starts.read(range, |t, bits| rows.push_start(t, bits.to_bits() as i64))?;
        }
        Ok(())
    }

    fn count(&self, range: RangeMs) -> usize {
        let histograms = self.histograms.as_ref().map_or(0, |own| {
            let sealed = own.sealed.iter().filter(|chunk| range.overlaps(chunk.span.0, chunk.span.1));
            let open = own.open.iter().filter(|sample| range.contains(sample.t)).count();
            sealed.map(|chunk| chunk.count).sum::<usize>() + open
        });
        self.floats.count(range) + histograms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sample::Sample;

    fn batch(samples: impl IntoIterator<Item = (i64, f64)>) -> SeriesBatch {
        let samples = samples.into_iter().map(|(t, value)| Sample { t, value }).collect();
        SeriesBatch { samples, ..SeriesBatch::default() }
    }

    fn settled(series: &Series, range: RangeMs) -> Rows {
        let mut rows = Rows::default();
        series.read(range, &mut rows).unwrap();
        rows.settle();
        rows
    }

    #[test]
    fn samples_in_any_order_come_back_in_time_order_once() {
        let series = Series::new(Labels::default(), 0);
        series.push(&batch((0..1000).map(|at| (at * 7 % 1000, 1.0))));
        series.push(&batch((0..1000).map(|at| (at * 3 % 1000, at as f64))));
        let rows = settled(&series, RangeMs::ALL);
        assert_eq!(rows.times, (0..1000).collect::<Vec<_>>());
        assert!((0..1000usize).all(|at| rows.values[at * 3 % 1000] == at as f64));
        let some = settled(&series, RangeMs { start: 10, end: 12 });
        assert_eq!(some.times, [10, 11, 12]);
        assert!(series.count(RangeMs { start: 10, end: 12 }) >= 3);
        assert_eq!(series.count(RangeMs { start: 1000, end: 2000 }), 0);
    }

    #[test]
    fn a_repeated_sample_takes_no_memory() {
        let series = Series::new(Labels::default(), 0);
        series.push(&batch([(5, 1.0)]));
        assert_eq!(series.push(&batch([(5, 1.0), (5, 1.0)])), 0);
        series.push(&batch([(5, 2.0), (5, 1.0)]));
        assert_eq!(settled(&series, RangeMs::ALL).values, [1.0]);
    }

    #[test]
    fn ordinary_samples_take_few_bytes() {
        let series = Series::new(Labels::default(), 0);
        let grown = series.push(&batch((0..2400).map(|at| (at * 15_000, (at * 3) as f64))));
        assert!(grown < 2400 * 5, "{grown} bytes");
    }

    #[test]
    fn starts_of_both_kinds_come_back_and_can_be_taken_away() {
        let series = Series::new(Labels::default(), 0);
        let samples: Vec<_> = (0..600).map(|at| Sample { t: at * 1000, value: at as f64 }).collect();
        let starts = (0..600).map(|at| at * 1000 - 500).collect();
        let histograms = vec![HistogramSample { t: 1, start: -3, histogram: Default::default() }];
        series.push(&SeriesBatch { samples, starts, histograms, ..SeriesBatch::default() });
        series.push(&batch([(7000, 1.0), (600_000, 2.0)]));
        let rows = settled(&series, RangeMs::ALL);
        assert_eq!(rows.histograms[0].start, -3);
        let expected = (0..601).map(|at| if at == 7 || at == 600 { 0 } else { at * 1000 - 500 });
        assert_eq!(rows.float_starts(), expected.collect::<Vec<_>>());
    }
}
