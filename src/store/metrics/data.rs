//! The samples of one series of the last hours, in memory.
//! Flow: a float newer than all before goes to the open chunk, which is sealed when full; any other
//! goes to `late`, raw, sorted when full. Histograms are kept as they came and sealed likewise.
//! Start timestamps, which few series have, are kept like floats of their own whose bits they are.
//! Invariants: sealed chunks and the open one are in time order and do not overlap; a late sample
//! was written after any sample of its time, so in the order sealed, open, late the last one counts.
//! Memory: there is one for each active series, so what most series do not have lies in boxes.

use super::chunk::gorilla::{Appender, Chunk};
use super::chunk::histogram;
use super::rows::{Rows, keep_last};
use crate::model::sample::HistogramSample;
use crate::model::time::RangeMs;
use crate::store::codec::Malformed;

/// Late floats and histograms that are sealed together.
const LATE_SAMPLES: usize = 128;
const CHUNK_HISTOGRAMS: usize = 32;
/// Largest histogram that is kept, in bytes of memory; larger ones are refused.
pub const HISTOGRAM_BYTES_MAX: usize = 1 << 20;

/// The samples of one series.
#[derive(Default)]
pub struct Data {
    floats: Floats,
    others: Option<Box<Others>>,
}

#[derive(Default)]
struct Others {
    histograms: Histograms,
    /// When counting began for samples of either kind, as bits of floats.
    starts: Floats,
}

#[derive(Default)]
struct Floats {
    open: Appender,
    older: Option<Box<Older>>,
}

#[derive(Default)]
struct Older {
    sealed: Vec<Chunk>,
    late: Late,
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
}

struct HistogramChunk {
    span: (i64, i64),
    count: usize,
    bytes: Box<[u8]>,
}

/// Whether a histogram is kept.
pub fn fits(sample: &HistogramSample) -> bool {
    sample.histogram.bytes() <= HISTOGRAM_BYTES_MAX
}

fn in_range(chunk: &Chunk, range: RangeMs) -> bool {
    chunk.count > 0 && range.overlaps(chunk.first_t, chunk.last_t)
}

/// Room for one more, grown by half; there may be many lists of this kind.
fn push_tight<T>(list: &mut Vec<T>, item: T) -> isize {
    let before = list.capacity();
    if list.len() == before {
        list.reserve_exact((before / 2).max(1));
    }
    list.push(item);
    ((list.capacity() - before) * size_of::<T>()) as isize
}

impl Floats {
    /// Time of the newest sample that is not late.
    fn newest(&self) -> Option<i64> {
        self.open.last().map(|last| last.0).or_else(|| self.older.as_ref()?.sealed.last().map(|chunk| chunk.last_t))
    }

    /// Takes a sample; returns by how many bytes memory has grown (negative: shrunk).
    #[inline]
    fn push(&mut self, t: i64, value: f64) -> isize {
        match self.open.last() {
            Some((last, _)) if t > last => {}
            Some((last, bits)) => {
                let late = self.older.as_ref().is_some_and(|older| !older.late.is_empty());
                let repeats = !late && t == last && bits == value.to_bits();
                return if repeats { 0 } else { self.push_late(t, value) };
            }
            None if self.newest().is_some_and(|last| t <= last) => return self.push_late(t, value),
            None => {}
        }
        let before = self.open.heap_bytes();
        self.open.push(t, value);
        let grown = self.open.heap_bytes() as isize - before as isize;
        if self.open.is_full() { grown + self.seal() } else { grown }
    }

    fn older(&mut self) -> (&mut Older, isize) {
        let grown = if self.older.is_none() { size_of::<Older>() } else { 0 };
        (self.older.get_or_insert_default(), grown as isize)
    }

    fn seal(&mut self) -> isize {
        let before = self.open.heap_bytes();
        let chunk = self.open.seal();
        let bytes = chunk.bits.len();
        let (older, grown) = self.older();
        grown + push_tight(&mut older.sealed, chunk) + bytes as isize - before as isize
    }

    fn push_late(&mut self, t: i64, value: f64) -> isize {
        let (older, mut grown) = self.older();
        let late = &mut older.late;
        grown += push_tight(&mut late.open, (t, value));
        if late.open.len() >= LATE_SAMPLES {
            late.open.sort_by_key(|pair| pair.0);
            keep_last(&mut late.open, |pair| pair.0);
            let mut appender = Appender::default();
            late.open.drain(..).for_each(|(t, value)| appender.push(t, value));
            let chunk = appender.seal();
            grown += chunk.bits.len() as isize;
            grown += push_tight(&mut late.sealed, chunk);
        }
        grown
    }

    fn chunks(&self, range: RangeMs) -> impl Iterator<Item = &Chunk> {
        self.older.iter().flat_map(|older| &older.sealed).filter(move |chunk| in_range(chunk, range))
    }

    fn late(&self) -> impl Iterator<Item = &Late> {
        self.older.iter().map(|older| &older.late)
    }

    /// Adds the samples in `range` as floats.
    fn read(&self, range: RangeMs, rows: &mut Rows) -> Result<(), Malformed> {
        let mut add = |chunk: &Chunk| rows.decode(range, |times, values| chunk.decode(times, values));
        self.chunks(range).try_for_each(&mut add)?;
        let (first, last) = self.open.span();
        if self.open.count() > 0 && range.overlaps(first, last) {
            rows.decode(range, |times, values| self.open.decode(times, values))?;
        }
        for late in self.late() {
            for chunk in late.sealed.iter().filter(|chunk| in_range(chunk, range)) {
                rows.decode(range, |times, values| chunk.decode(times, values))?;
            }
            let open = late.open.iter().filter(|(t, _)| range.contains(*t));
            open.for_each(|(t, value)| rows.push(*t, *value));
        }
        Ok(())
    }

    /// Hands out the samples in `range`, whatever they stand for.
    fn visit(&self, range: RangeMs, mut visit: impl FnMut(i64, f64)) -> Result<(), Malformed> {
        let mut keep = |t: i64, value: f64| {
            if range.contains(t) {
                visit(t, value);
            }
        };
        for chunk in self.chunks(range) {
            chunk.read(&mut keep)?;
        }
        let (first, last) = self.open.span();
        if self.open.count() > 0 && range.overlaps(first, last) {
            self.open.read(&mut keep)?;
        }
        for late in self.late() {
            for chunk in late.sealed.iter().filter(|chunk| in_range(chunk, range)) {
                chunk.read(&mut keep)?;
            }
            late.open.iter().for_each(|(t, value)| keep(*t, *value));
        }
        Ok(())
    }

    fn count(&self, range: RangeMs) -> usize {
        let counts = |count: usize, chunk: &Chunk| count + chunk.count as usize;
        let (first, last) = self.open.span();
        let open = if range.overlaps(first, last) { self.open.count() as usize } else { 0 };
        let late = self.late().map(|late| {
            let sealed = late.sealed.iter().filter(|chunk| in_range(chunk, range)).fold(0, counts);
            sealed + late.open.iter().filter(|(t, _)| range.contains(*t)).count()
        });
        open + late.sum::<usize>() + self.chunks(range).fold(0, counts)
    }
}

impl Late {
    fn is_empty(&self) -> bool {
        self.sealed.is_empty() && self.open.is_empty()
    }
}

impl Histograms {
    fn push(&mut self, sample: HistogramSample) -> isize {
        let bytes = sample.histogram.bytes() + size_of::<HistogramSample>();
        self.open_bytes += bytes;
        self.open.push(sample);
        if self.open.len() < CHUNK_HISTOGRAMS && self.open_bytes <= HISTOGRAM_BYTES_MAX {
            return bytes as isize;
        }
        self.open.sort_by_key(|sample| sample.t);
        keep_last(&mut self.open, |sample| sample.t);
        let mut encoded = Vec::new();
        histogram::encode(&mut encoded, &self.open);
        let span = (self.open.first().map_or(0, |sample| sample.t), self.open.last().map_or(0, |sample| sample.t));
        let chunk = HistogramChunk { span, count: self.open.len(), bytes: encoded.into_boxed_slice() };
        let grown = bytes as isize + chunk.bytes.len() as isize - self.open_bytes as isize;
        self.open.clear();
        self.open_bytes = 0;
        grown + push_tight(&mut self.sealed, chunk)
    }

    fn read(&self, range: RangeMs, rows: &mut Rows) -> Result<(), Malformed> {
        for chunk in self.sealed.iter().filter(|chunk| range.overlaps(chunk.span.0, chunk.span.1)) {
            let samples = histogram::decode(&chunk.bytes, chunk.count)?;
            samples.into_iter().filter(|sample| range.contains(sample.t)).for_each(|one| rows.push_histogram(one));
        }
        let open = self.open.iter().filter(|sample| range.contains(sample.t));
        open.for_each(|sample| rows.push_histogram(sample.clone()));
        Ok(())
    }

    fn count(&self, range: RangeMs) -> usize {
        let sealed = self.sealed.iter().filter(|chunk| range.overlaps(chunk.span.0, chunk.span.1));
        let open = self.open.iter().filter(|sample| range.contains(sample.t)).count();
        sealed.map(|chunk| chunk.count).sum::<usize>() + open
    }
}

impl Data {
    /// Takes a float; returns by how many bytes memory has grown (negative: shrunk).
    #[inline]
    pub fn push(&mut self, t: i64, value: f64) -> isize {
        self.floats.push(t, value)
    }

    fn others(&mut self) -> (&mut Others, isize) {
        let grown = if self.others.is_none() { size_of::<Others>() } else { 0 };
        (self.others.get_or_insert_default(), grown as isize)
    }

    /// Takes a histogram, but not its start; returns growth as [`push`](Self::push) does.
    pub fn push_histogram(&mut self, sample: HistogramSample) -> isize {
        let (others, grown) = self.others();
        grown + others.histograms.push(sample)
    }

    /// Keeps a start that is known, and one that is not where it may take the place of one that is;
    /// returns growth as [`push`](Self::push) does.
    pub fn push_start(&mut self, t: i64, start: i64) -> isize {
        let newest = || self.others.as_ref().and_then(|others| others.starts.newest());
        if start == 0 && newest().is_none_or(|last| t > last) {
            return 0;
        }
        let (others, grown) = self.others();
        grown + others.starts.push(t, f64::from_bits(start as u64))
    }

    /// Whether some sample has a known start, so that those without one matter, too.
    pub fn has_starts(&self) -> bool {
        self.others.as_ref().is_some_and(|others| others.starts.newest().is_some())
    }

    /// Adds the samples in `range` to `rows`, in the order that makes the last one count.
    ///
    /// # Errors
    /// Never for what this process wrote.
    pub fn read(&self, range: RangeMs, rows: &mut Rows) -> Result<(), Malformed> {
        self.floats.read(range, rows)?;
        if let Some(others) = &self.others {
            others.histograms.read(range, rows)?;
            others.starts.visit(range, |t, bits| rows.push_start(t, bits.to_bits() as i64))?;
        }
        Ok(())
    }

    /// An upper bound of the samples in `range`.
    pub fn count(&self, range: RangeMs) -> usize {
        self.floats.count(range) + self.others.as_ref().map_or(0, |others| others.histograms.count(range))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(data: &Data, range: RangeMs) -> Rows {
        let mut rows = Rows::default();
        data.read(range, &mut rows).unwrap();
        rows.settle();
        rows
    }

    #[test]
    fn samples_in_any_order_come_back_in_time_order_once() {
        let mut data = Data::default();
        (0..1000).for_each(|at| {
            data.push(at * 7 % 1000, 1.0);
        });
        (0..1000).for_each(|at| {
            data.push(at * 3 % 1000, at as f64);
        });
        let rows = settled(&data, RangeMs::ALL);
        assert_eq!(rows.times, (0..1000).collect::<Vec<_>>());
        assert!((0..1000usize).all(|at| rows.values[at * 3 % 1000] == at as f64));
        let some = settled(&data, RangeMs { start: 10, end: 12 });
        assert_eq!(some.times, [10, 11, 12]);
        assert!(data.count(RangeMs { start: 10, end: 12 }) >= 3);
        assert_eq!(data.count(RangeMs { start: 1000, end: 2000 }), 0);
    }

    #[test]
    fn a_repeated_sample_takes_no_memory() {
        let mut data = Data::default();
        data.push(5, 1.0);
        assert_eq!(data.push(5, 1.0) + data.push(5, 1.0), 0);
        data.push(5, 2.0);
        data.push(5, 1.0);
        assert_eq!(settled(&data, RangeMs::ALL).values, [1.0]);
    }

    #[test]
    fn ordinary_samples_take_few_bytes() {
        let mut data = Data::default();
        let grown: isize = (0..2400).map(|at| data.push(at * 15_000, (at * 3) as f64)).sum();
        assert!(grown < 2400 * 5, "{grown} bytes");
        assert!(size_of::<Data>() <= 72);
    }

    #[test]
    fn starts_of_both_kinds_come_back_and_can_be_taken_away() {
        let mut data = Data::default();
        for at in 0..600 {
            data.push(at * 1000, at as f64);
            data.push_start(at * 1000, at * 1000 - 500);
        }
        data.push_histogram(HistogramSample { t: 1, start: 0, histogram: Default::default() });
        data.push_start(1, -3);
        for (t, value) in [(7000, 1.0), (600_000, 2.0)] {
            data.push(t, value);
            data.push_start(t, 0);
        }
        let rows = settled(&data, RangeMs::ALL);
        assert_eq!(rows.histograms[0].start, -3);
        let expected = (0..601).map(|at| if at == 7 || at == 600 { 0 } else { at * 1000 - 500 });
        assert_eq!(rows.float_starts(), expected.collect::<Vec<_>>());
    }
}
