//! Samples of metrics, and the columns in which series come out of the store.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use super::histogram::Histogram;
use super::time::RangeMs;

/// The value that ends a series: one particular NaN (Prometheus, model/value).
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// Whether `value` is the stale marker.
#[inline]
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}

/// One float sample.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Milliseconds since the Unix epoch.
    pub t: i64,
    /// The value; NaN payloads are kept.
    pub value: f64,
}

/// One native histogram sample.
#[derive(Clone, Debug)]
pub struct HistogramSample {
    /// Milliseconds since the Unix epoch.
    pub t: i64,
    /// When counting began, milliseconds since the Unix epoch; 0 when not known.
    pub start: i64,
    /// The histogram; a stale marker is one whose sum is the stale NaN.
    pub histogram: Arc<Histogram>,
}

/// Keeps the samples that `keep` wants, with their starts; `starts` may be empty.
pub fn retain(samples: &mut Vec<Sample>, starts: &mut Vec<i64>, mut keep: impl FnMut(&Sample) -> bool) {
    if starts.is_empty() {
        return samples.retain(keep);
    }
    let kept: Vec<bool> = samples.iter().map(&mut keep).collect();
    let mut flags = kept.iter().copied();
    samples.retain(|_| flags.next().unwrap_or_default());
    let mut flags = kept.into_iter();
    starts.retain(|_| flags.next().unwrap_or_default());
}

/// Ascending times that several series may share: those scraped together have one column of them.
/// A clone shares the memory.
#[derive(Clone, Default)]
pub struct Times {
    all: Arc<Vec<i64>>,
    range: Range<usize>,
}

impl Times {
    /// The part of `all` at the places `range`; what lies outside `all` is left out.
    pub fn part(all: Arc<Vec<i64>>, range: Range<usize>) -> Self {
        let end = range.end.min(all.len());
        Self { range: range.start.min(end)..end, all }
    }

    /// The part of it at the places `range`, in the same memory.
    pub fn slice(&self, range: Range<usize>) -> Self {
        let end = range.end.min(self.len());
        let start = range.start.min(end);
        Self { all: self.all.clone(), range: self.range.start + start..self.range.start + end }
    }

    /// What tells this part of this column from all others that are in memory at the same time.
    pub fn identity(&self) -> (usize, usize, usize) {
        (Arc::as_ptr(&self.all).addr(), self.range.start, self.range.end)
    }

    /// Whether both are the same part of the same column, so that what was computed of the one
    /// holds for the other. Equal times in different memory are not the same.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.all, &other.all) && self.range == other.range
    }
}

impl Deref for Times {
    type Target = [i64];

    fn deref(&self) -> &[i64] {
        self.all.get(self.range.clone()).unwrap_or_default()
    }
}

impl From<Vec<i64>> for Times {
    fn from(times: Vec<i64>) -> Self {
        let range = 0..times.len();
        Self { all: Arc::new(times), range }
    }
}

impl FromIterator<i64> for Times {
    fn from_iter<I: IntoIterator<Item = i64>>(times: I) -> Self {
        times.into_iter().collect::<Vec<_>>().into()
    }
}

impl PartialEq for Times {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl fmt::Debug for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Samples of one series over a time range, in columns. `times` and `values` have the same length;
/// both they and `histograms` are in time order without equal times. A time is in one of the two only.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    /// Milliseconds since the Unix epoch of each float sample.
    pub times: Times,
    /// The float samples, stale markers included.
    pub values: Vec<f64>,
    /// When counting began, for each float sample, milliseconds since the Unix epoch, 0 where not
    /// known; empty when known of none.
    pub starts: Vec<i64>,
    /// The native histogram samples.
    pub histograms: Vec<HistogramSample>,
}

impl Columns {
    /// Samples of both kinds.
    pub fn len(&self) -> usize {
        self.times.len() + self.histograms.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes over the samples of `other` that lie in `range`, for its own. Times share memory.
    pub fn copy_range(&mut self, other: &Self, range: RangeMs) {
        let first = other.times.partition_point(|t| *t < range.start);
        let places = first..other.times.partition_point(|t| *t <= range.end).max(first);
        self.times = other.times.slice(places.clone());
        self.values.clear();
        self.values.extend_from_slice(other.values.get(places.clone()).unwrap_or_default());
        self.starts.clear();
        self.starts.extend_from_slice(other.starts.get(places).unwrap_or_default());
        self.histograms.clear();
        self.histograms.extend(other.histograms.iter().filter(|sample| range.contains(sample.t)).cloned());
    }

    /// When counting began for the float at a place; 0 when not known.
    pub fn start(&self, place: usize) -> i64 {
        self.starts.get(place).copied().unwrap_or_default()
    }
}
