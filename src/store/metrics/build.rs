//! Writes the frames of a part from series that come in the order of their labels, in bounded
//! memory: one open frame of each kind and group, what is known of shared times, and the runs of the
//! label pairs. Whoever has series and samples, a flush or a merge, makes a part with it:
//! [`PartBuilder::new`], [`series`](PartBuilder::series) for each series,
//! [`exemplars`](PartBuilder::exemplars) and [`metadata`](PartBuilder::metadata) at any time, then
//! [`finish`](PartBuilder::finish). Whoever has the label pairs in order already begins with
//! [`PartBuilder::without_pairs`] and ends with [`finish_with`](PartBuilder::finish_with): a table of
//! all pairs is as large as all label values of the part.
//! Flow: samples of a series are cut where a window of time ends, the same for all series of one
//! interval, so that series scraped together have the same columns of times; each piece is a block.
//! Bytes: docs/format/metrics.md.

use std::collections::BTreeMap;

use ahash::AHashMap;

use super::chunk::{floats, histograms, pack};
use super::layout::{
    BLOCK_SAMPLES_MAX, DataBuilder, DataRef, Directory, FRAME_BYTES, FRAME_DATA, FRAME_DIRECTORY, FRAME_EXEMPLARS,
    FRAME_METADATA, FRAME_PRESENCE, FRAME_SERIES, FRAME_TIMES, GroupRef, LEVEL, SeriesRef, TimesRef, begin_times,
    put_column, put_series,
};
use super::pair_frames::PostingsFrames;
use super::postings::RunsBuilder;
use super::record::{put_exemplar, put_labels, put_metadata};
use crate::model::batch::MetricMetadata;
use crate::model::exemplar::Exemplar;
use crate::model::labels::Labels;
use crate::model::sample::{Columns, HistogramSample};
use crate::store::codec::put_varint;
use crate::store::error::StoreError;
use crate::store::part::PartWriter;

/// A group begins every 2^22 ms, about 70 minutes.
const GROUP_SHIFT: u32 = 22;
/// Open frames of groups hold no more than this together, in bytes.
const OPEN_BYTES_MAX: usize = 8 << 20;
/// What is known of shared times is forgotten over this, in bytes.
const KNOWN_BYTES_MAX: usize = 32 << 20;

/// Samples of one series, as in [`Columns`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Samples<'a> {
    /// Times of the floats.
    pub times: &'a [i64],
    /// The floats.
    pub values: &'a [f64],
    /// When counting began for each float; may be empty.
    pub starts: &'a [i64],
    /// The histograms.
    pub histograms: &'a [HistogramSample],
}

impl<'a> From<&'a Columns> for Samples<'a> {
    fn from(columns: &'a Columns) -> Self {
        let Columns { times, values, starts, histograms } = columns;
        Self { times, values, starts, histograms }
    }
}

#[derive(Default)]
struct Group {
    entry: GroupRef,
    data: DataBuilder,
    data_span: (i64, i64),
    times: Vec<u8>,
    columns: u32,
    /// Encoded columns and their numbers.
    known: AHashMap<Box<[u8]>, u32>,
    presence: RunsBuilder,
    /// Bytes of its open frames that the builder has counted.
    counted: usize,
}

/// Names, values, and the series that have them.
type Pairs = BTreeMap<Box<str>, AHashMap<Box<str>, RunsBuilder>>;

/// Writes one part.
pub struct PartBuilder<'a> {
    out: &'a mut PartWriter,
    directory: Directory,
    series: Vec<u8>,
    last: Labels,
    groups: BTreeMap<i64, Group>,
    /// None when they are handed over at the end.
    pairs: Option<Pairs>,
    exemplars: Vec<u8>,
    metadata: Vec<u8>,
    rows: u64,
    known_bytes: usize,
    /// Bytes of open frames of all groups.
    open_bytes: usize,
    column: Vec<u8>,
    work: floats::Work,
}

impl<'a> PartBuilder<'a> {
    /// Begins with the frames of `out`.
    pub fn new(out: &'a mut PartWriter) -> Self {
        Self {
            out,
            directory: Directory::default(),
            series: Vec::new(),
            last: Labels::default(),
            groups: BTreeMap::new(),
            pairs: Some(Pairs::new()),
            exemplars: Vec::new(),
            metadata: Vec::new(),
            rows: 0,
            known_bytes: 0,
            open_bytes: 0,
            column: Vec::new(),
            work: floats::Work::default(),
        }
    }

    /// Begins as [`new`](Self::new) does, and does not gather label pairs.
    pub fn without_pairs(out: &'a mut PartWriter) -> Self {
        Self { pairs: None, ..Self::new(out) }
    }

    /// Series so far: the next one has this number, unless it has no samples.
    pub fn series_count(&self) -> u32 {
        self.directory.count
    }

    /// Samples so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Adds a series with all its samples; its labels are larger than those of the series before.
    /// One without samples is left out.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn series(&mut self, labels: &Labels, samples: Samples<'_>) -> Result<(), StoreError> {
        if samples.times.is_empty() && samples.histograms.is_empty() {
            return Ok(());
        }
        let number = self.directory.count;
        debug_assert!(number == 0 || self.last < *labels, "series come in order, each once");
        self.put_labels(number, labels)?;
        self.floats(number, samples)?;
        self.histograms(number, samples.histograms)?;
        self.directory.count += 1;
        self.rows += (samples.times.len() + samples.histograms.len()) as u64;
        Ok(())
    }

    fn put_labels(&mut self, number: u32, labels: &Labels) -> Result<(), StoreError> {
        if self.series.is_empty() {
            put_varint(&mut self.series, u64::from(number));
            self.directory.series.push(SeriesRef { offset: 0, first: number });
            put_series(&mut self.series, "", labels.key());
        } else {
            put_series(&mut self.series, self.last.key(), labels.key());
        }
        self.last = labels.clone();
        if let Some(pairs) = &mut self.pairs {
            for (name, value) in labels {
                add_pair(pairs, name, value, number);
            }
        }
        if self.series.len() >= FRAME_BYTES { self.close_series() } else { Ok(()) }
    }

    fn close_series(&mut self) -> Result<(), StoreError> {
        if !self.series.is_empty() {
            let frame = self.out.frame_at_level(FRAME_SERIES, &self.series, LEVEL)?;
            self.series.clear();
            if let Some(last) = self.directory.series.last_mut() {
                last.offset = frame.offset;
            }
        }
        Ok(())
    }

    fn floats(&mut self, number: u32, samples: Samples<'_>) -> Result<(), StoreError> {
        let shift = window_shift(samples.times);
        let mut from = 0;
        while let Some(first) = samples.times.get(from) {
            let rest = samples.times.get(from..).unwrap_or_default();
            let len = rest.partition_point(|t| t >> shift == first >> shift).clamp(1, BLOCK_SAMPLES_MAX);
            let (times, range) = (rest.get(..len).unwrap_or_default(), from..from + len);
            let values = samples.values.get(range.clone()).unwrap_or_default();
            let starts = samples.starts.get(range).unwrap_or_default();
            let starts = if starts.iter().all(|start| *start == 0) { &[] } else { starts };
            let span = (*first, times.last().copied().unwrap_or(*first));
            let column = self.column(span.0, times)?;
            let work = &mut self.work;
            let group = self.groups.entry(span.0 >> GROUP_SHIFT).or_default();
            group.widen(number, span);
            group.data.block(number, false, !starts.is_empty(), column, |out| {
                floats::encode(out, values, work);
                if !starts.is_empty() {
                    pack::encode(out, starts, work.pack());
                }
            });
            self.close_full(span.0)?;
            from += len;
        }
        Ok(())
    }

    /// The number of a column of times in its group.
    fn column(&mut self, first: i64, times: &[i64]) -> Result<u32, StoreError> {
        self.column.clear();
        put_column(&mut self.column, times, self.work.pack());
        let number = first >> GROUP_SHIFT;
        let group = self.groups.entry(number).or_default();
        if let Some(column) = group.known.get(self.column.as_slice()) {
            return Ok(*column);
        }
        if group.times.is_empty() {
            begin_times(&mut group.times, number, group.columns);
            group.entry.times.push(TimesRef { offset: 0, first: group.columns });
        }
        group.times.extend_from_slice(&self.column);
        let column = group.columns;
        group.columns += 1;
        group.known.insert(self.column.as_slice().into(), column);
        self.known_bytes += self.column.len() + 48;
        if group.times.len() >= FRAME_BYTES {
            group.close_times(self.out)?;
        }
        if self.known_bytes > KNOWN_BYTES_MAX {
            self.groups.values_mut().for_each(|group| group.known = AHashMap::new());
            self.known_bytes = 0;
        }
        Ok(column)
    }

    fn histograms(&mut self, number: u32, samples: &[HistogramSample]) -> Result<(), StoreError> {
        let mut rest = samples;
        while let Some(first) = rest.first() {
            let mut bytes = 0;
            let fits = |sample: &&HistogramSample| {
                bytes += sample.histogram.bytes();
                sample.t >> GROUP_SHIFT == first.t >> GROUP_SHIFT && bytes <= histograms::BYTES_MAX
            };
            let len = rest.iter().take(histograms::SAMPLES_MAX).take_while(fits).count().max(1);
            let (own, others) = rest.split_at(len);
            rest = others;
            let starts: Vec<i64> = own.iter().map(|sample| sample.start).collect();
            let has_starts = starts.iter().any(|start| *start != 0);
            let work = &mut self.work;
            let group = self.groups.entry(first.t >> GROUP_SHIFT).or_default();
            group.widen(number, (first.t, own.last().map_or(first.t, |sample| sample.t)));
            group.data.block(number, true, has_starts, len as u32, |out| {
                if has_starts {
                    pack::encode(out, &starts, work.pack());
                }
                histograms::encode(out, own, work);
            });
            self.close_full(first.t)?;
        }
        Ok(())
    }

    /// Closes frames that are large enough.
    fn close_full(&mut self, first: i64) -> Result<(), StoreError> {
        let number = first >> GROUP_SHIFT;
        let Some(group) = self.groups.get_mut(&number) else { return Ok(()) };
        if group.data.bytes() >= FRAME_BYTES {
            group.close_data(number, self.out)?;
        }
        let open = group.data.bytes() + group.times.len();
        self.open_bytes = self.open_bytes + open - group.counted;
        group.counted = open;
        // Many groups with little in each: samples of many days. Their memory goes, too.
        if self.open_bytes > OPEN_BYTES_MAX {
            for (number, group) in &mut self.groups {
                group.close_data(*number, self.out)?;
                group.close_times(self.out)?;
                (group.data, group.times, group.counted) = (DataBuilder::default(), Vec::new(), 0);
            }
            self.open_bytes = 0;
        }
        Ok(())
    }

    /// Adds exemplars of a series.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn exemplars(&mut self, labels: &Labels, exemplars: &[Exemplar]) -> Result<(), StoreError> {
        if !exemplars.is_empty() {
            put_labels(&mut self.exemplars, labels);
            put_varint(&mut self.exemplars, exemplars.len() as u64);
            exemplars.iter().for_each(|exemplar| put_exemplar(&mut self.exemplars, exemplar));
        }
        if self.exemplars.len() >= FRAME_BYTES { close(FRAME_EXEMPLARS, &mut self.exemplars, self.out) } else { Ok(()) }
    }

    /// Adds metadata of a metric family.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn metadata(&mut self, metadata: &MetricMetadata) -> Result<(), StoreError> {
        put_metadata(&mut self.metadata, metadata);
        if self.metadata.len() >= FRAME_BYTES { close(FRAME_METADATA, &mut self.metadata, self.out) } else { Ok(()) }
    }

    /// Writes what is left, the postings and the directory.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn finish(mut self) -> Result<(), StoreError> {
        let pairs = self.pairs.take().unwrap_or_default();
        self.finish_with(|frames| {
            for (name, values) in pairs {
                let mut values: Vec<_> = values.into_iter().collect();
                values.sort_unstable_by(|a, b| a.0.cmp(&b.0));
                for (value, mut runs) in values {
                    frames.pair(&name, &value, &mut runs)?;
                }
            }
            Ok(())
        })
    }

    /// Writes what is open and the directory, with the label pairs that `write` hands over.
    ///
    /// # Errors
    /// [`StoreError`], or what `write` returns.
    pub fn finish_with(
        mut self,
        write: impl FnOnce(&mut PostingsFrames<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.out.set_rows(self.rows);
        self.close_series()?;
        let mut payload = Vec::new();
        for (number, mut group) in std::mem::take(&mut self.groups) {
            group.close_data(number, self.out)?;
            group.close_times(self.out)?;
            payload.clear();
            payload.extend_from_slice(group.presence.finish());
            group.entry.number = number;
            group.entry.presence = Some(self.out.frame_at_level(FRAME_PRESENCE, &payload, LEVEL)?.offset);
            self.directory.groups.push(group.entry);
        }
        let mut frames = PostingsFrames::new(self.out);
        write(&mut frames)?;
        self.directory.postings = frames.finish()?;
        close(FRAME_EXEMPLARS, &mut self.exemplars, self.out)?;
        close(FRAME_METADATA, &mut self.metadata, self.out)?;
        payload.clear();
        self.directory.encode(&mut payload);
        self.out.frame_at_level(FRAME_DIRECTORY, &payload, LEVEL)?;
        Ok(())
    }
}

fn add_pair(pairs: &mut Pairs, name: &str, value: &str, number: u32) {
    if !pairs.contains_key(name) {
        pairs.insert(name.into(), AHashMap::new());
    }
    let Some(values) = pairs.get_mut(name) else { return };
    match values.get_mut(value) {
        Some(runs) => runs.add(number),
        None => values.entry(value.into()).or_default().add(number),
    }
}

fn close(kind: u8, payload: &mut Vec<u8>, out: &mut PartWriter) -> Result<(), StoreError> {
    if !payload.is_empty() {
        out.frame(kind, payload)?;
        payload.clear();
    }
    Ok(())
}

/// The length of the window that holds some 200 to 300 samples of the interval, as a power of two of
/// milliseconds: 2^22 for 15 and 20 s. The usual intervals lie well within a power, so series
/// scraped together agree on it.
fn window_shift(times: &[i64]) -> u32 {
    const SAMPLES: usize = 15;
    let mut steps = [i64::MAX; SAMPLES];
    for (step, pair) in steps.iter_mut().zip(times.windows(2)) {
        if let [before, own] = pair {
            *step = own.saturating_sub(*before);
        }
    }
    let known = times.len().saturating_sub(1).min(SAMPLES);
    steps.sort_unstable();
    let Some(median) = known.checked_sub(1).and_then(|last| steps.get(last / 2)) else { return GROUP_SHIFT };
    // 2^8.45 times the interval, rounded down to a power of two.
    let target = i128::from((*median).max(1)) * 350;
    (127 - target.leading_zeros()).clamp(10, 40)
}

impl Group {
    fn widen(&mut self, series: u32, span: (i64, i64)) {
        let wide = |own: (i64, i64)| (own.0.min(span.0), own.1.max(span.1));
        self.data_span = if self.data.is_empty() { span } else { wide(self.data_span) };
        self.entry.span = if self.presence.is_empty() { span } else { wide(self.entry.span) };
        self.presence.add(series);
    }

    fn close_data(&mut self, number: i64, out: &mut PartWriter) -> Result<(), StoreError> {
        if !self.data.is_empty() {
            let series = self.data.series;
            let payload = self.data.take(number);
            let frame = out.frame_if_smaller(FRAME_DATA, &payload)?;
            self.entry.data.push(DataRef { offset: frame.offset, series, span: self.data_span });
        }
        Ok(())
    }

    fn close_times(&mut self, out: &mut PartWriter) -> Result<(), StoreError> {
        if !self.times.is_empty() {
            let frame = out.frame_at_level(FRAME_TIMES, &self.times, LEVEL)?;
            self.times.clear();
            if let Some(last) = self.entry.times.last_mut() {
                last.offset = frame.offset;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::disk::{Disk, RealDisk};
    use crate::model::batch::Signal;
    use crate::store::part::PartInfo;
    use std::sync::Arc;

    #[test]
    fn samples_of_many_months_take_no_more_memory_than_those_of_a_day() {
        let dir = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let info = PartInfo {
            signal: Signal::Metrics,
            seq: 1,
            index: 0,
            group: 0,
            min_t: 0,
            max_t: i64::MAX,
            rows: 0,
            created_ms: 0,
        };
        let mut out = PartWriter::create(&disk, dir.path(), info).unwrap();
        let mut builder = PartBuilder::new(&mut out);
        let (mut seed, mut most, mut all) = (1u64, 0, 0);
        for series in 0..40 {
            let labels = Labels::from_pairs([("pod", format!("{series:04}"))]).unwrap();
            let times: Vec<i64> =
                (0..2_000).flat_map(|group| (0..16).map(move |at| (group << GROUP_SHIFT) + at)).collect();
            let mut random = || {
                seed = seed.wrapping_mul(0x2545_F491_4F6C_DD1D).wrapping_add(99);
                f64::from_bits(seed)
            };
            let values: Vec<f64> = times.iter().map(|_| random()).collect();
            builder.series(&labels, Samples { times: &times, values: &values, ..Samples::default() }).unwrap();
            let open: usize = builder.groups.values().map(|own| own.data.bytes() + own.times.capacity()).sum();
            (most, all) = (most.max(open), all + 8 * values.len());
        }
        builder.finish().unwrap();
        assert!(all > OPEN_BYTES_MAX && most < OPEN_BYTES_MAX + OPEN_BYTES_MAX / 8, "{most} of {all}");
    }

    #[test]
    fn usual_intervals_give_windows_of_two_or_three_hundred_samples_also_with_gaps() {
        for seconds in [1, 5, 10, 15, 20, 30, 60, 120, 300] {
            let mut times: Vec<i64> = (0..100).map(|at| at * seconds * 1000 + at * 7919 % 13).collect();
            let shift = window_shift(&times);
            let samples = (1i64 << shift) / (seconds * 1000);
            assert!((180..=360).contains(&samples), "{samples} at {seconds} s");
            times.retain(|t| t / 1000 / seconds % 5 != 2);
            assert_eq!(window_shift(&times), shift, "{seconds} s");
        }
        assert_eq!(window_shift(&[]), GROUP_SHIFT);
        assert_eq!(window_shift(&[5]), GROUP_SHIFT);
        assert_eq!(window_shift(&[i64::MIN, i64::MAX]), 40);
    }
}
