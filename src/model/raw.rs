//! Metrics of a request whose labels are still the bytes that were sent, and samples in columns: a
//! sender repeats the same bytes with every scrape, so the store can know a series by them.
//! One form of a pair is the canonical one, `0x0a`, length of the rest; `0x0a`, length, name;
//! `0x12`, length, value; lengths in as few LEB128 bytes as do. It is what a protobuf encoder makes
//! of field 1 of a message with a `prometheus.Label` in it, so remote write has it on the wire.

use std::borrow::Cow;
use std::ops::Range;

use super::batch::{MetricsBatch, SeriesBatch};
use super::labels::{Labels, METRIC_NAME};
use super::sample::Sample;
use crate::base::varint;

/// Metrics of one request.
#[derive(Clone, Debug, Default)]
pub struct RawMetrics<'a> {
    /// What the series' `labels` are places in.
    pub bytes: Cow<'a, [u8]>,
    /// Series with float samples; a series may come more than once.
    pub series: Vec<RawSeries>,
    /// Milliseconds since the Unix epoch of the samples, series by series.
    pub times: Vec<i64>,
    /// The samples.
    pub values: Vec<f64>,
    /// When counting began for each sample, 0 where not known; empty when known of none.
    pub starts: Vec<i64>,
    /// Metadata, and what did not take the way of the above.
    pub rest: MetricsBatch,
}

/// A series of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawSeries {
    /// Where its labels begin.
    pub labels_start: u32,
    /// Where they end.
    pub labels_end: u32,
    /// Where its samples end; they begin where those of the series before end.
    pub rows_end: u32,
}

/// Why labels are none: a word as in [`Rejections`](super::batch::Rejections), and a text.
pub type BadLabels = (&'static str, String);

/// Reads labels that no series is known by.
pub type ParseLabels<'a> = dyn Fn(&[u8]) -> Result<Labels, BadLabels> + 'a;

impl RawSeries {
    /// Its labels among the `bytes` of the request.
    pub fn labels<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes.get(self.labels_start as usize..self.labels_end as usize).unwrap_or_default()
    }
}

impl RawMetrics<'_> {
    /// The labels of the series at a place, with the places of its samples.
    #[inline]
    pub fn at(&self, place: usize) -> (&[u8], Range<usize>) {
        let start = place.checked_sub(1).and_then(|before| self.series.get(before)).map_or(0, |own| own.rows_end);
        let Some(own) = self.series.get(place) else { return (&[], 0..0) };
        (own.labels(&self.bytes), start as usize..own.rows_end as usize)
    }

    /// Each series' labels with the places of its samples.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Range<usize>)> {
        (0..self.series.len()).map(|place| self.at(place))
    }

    /// The same request with all labels read, and what was refused: the reason, the text, and how
    /// many samples.
    pub fn read(self, parse: &ParseLabels<'_>) -> (MetricsBatch, Vec<(BadLabels, usize)>) {
        let (mut batch, mut refused) = (MetricsBatch::default(), Vec::new());
        for (labels, rows) in self.iter() {
            let labels = match parse(labels) {
                Ok(labels) => labels,
                Err(bad) => {
                    refused.push((bad, rows.len()));
                    continue;
                }
            };
            let times = self.times.get(rows.clone()).unwrap_or_default();
            let values = self.values.get(rows.clone()).unwrap_or_default();
            let samples = times.iter().zip(values).map(|(t, value)| Sample { t: *t, value: *value }).collect();
            let starts = self.starts.get(rows).unwrap_or_default().to_vec();
            batch.series.push(SeriesBatch { labels, samples, starts, ..SeriesBatch::default() });
        }
        batch.series.extend(self.rest.series);
        batch.metadata = self.rest.metadata;
        (batch, refused)
    }
}

/// Appends a pair in its canonical form.
pub fn put_pair(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.push(0x0a);
    let bytes = |text: &[u8]| varint::bytes(text.len() as u64) + text.len();
    varint::put(out, (2 + bytes(name) + bytes(value)) as u64);
    out.push(0x0a);
    varint::put(out, name.len() as u64);
    out.extend_from_slice(name);
    out.push(0x12);
    varint::put(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Appends a label set in its canonical form.
pub fn put_labels(out: &mut Vec<u8>, labels: &Labels) {
    labels.iter().for_each(|(name, value)| put_pair(out, name.as_bytes(), value.as_bytes()));
}

/// Takes a field of `tag` off the front: its content and the bytes behind it.
#[inline]
fn take_field(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (length, rest) = match bytes {
        [own, length @ 0..0x80, rest @ ..] if *own == tag => (*length as usize, rest),
        [own, low, high @ 1..0x80, rest @ ..] if *own == tag => (*low as usize & 0x7f | (*high as usize) << 7, rest),
        [own, low, middle @ 0x80..=0xff, high @ 1..0x80, rest @ ..] if *own == tag => {
            (*low as usize & 0x7f | (*middle as usize & 0x7f) << 7 | (*high as usize) << 14, rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// Takes the first pair off `bytes`: the pair, whole, and what follows. Not every pair it takes has
/// a canonical form inside.
#[inline]
pub fn take_pair(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_, rest) = take_field(bytes, 0x0a)?;
    bytes.split_at_checked(bytes.len() - rest.len())
}

/// Name and value of a pair in its canonical form.
pub fn split_pair(pair: &[u8]) -> Option<(&str, &str)> {
    let (inner, _) = take_field(pair, 0x0a)?;
    let (name, rest) = take_field(inner, 0x0a)?;
    let (value, rest) = take_field(rest, 0x12)?;
    let (name, value) = (std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?);
    rest.is_empty().then_some((name, value))
}

/// The value of the first label of a set that is a metric's name, as far as it can be read; else nothing.
pub fn metric_name(mut labels: &[u8]) -> &str {
    while let Some((pair, rest)) = take_pair(labels) {
        if let Some((METRIC_NAME, value)) = split_pair(pair) {
            return value;
        }
        labels = rest;
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_of_any_length_comes_back() {
        for (name, value) in [(1, 0), (3, 119), (3, 120), (127, 127), (128, 1), (1, 16_384), (300, 70_000)] {
            let (name, value) = ("n".repeat(name), "v".repeat(value));
            let mut bytes = Vec::new();
            put_pair(&mut bytes, name.as_bytes(), value.as_bytes());
            bytes.extend_from_slice(b"more");
            let (pair, rest) = take_pair(&bytes).unwrap();
            assert_eq!(rest, b"more");
            assert_eq!(split_pair(pair), Some((&*name, &*value)));
        }
    }

    #[test]
    fn what_is_cut_short_is_no_pair() {
        let mut bytes = Vec::new();
        put_pair(&mut bytes, b"name", b"value");
        for end in 0..bytes.len() {
            assert_eq!(take_pair(&bytes[..end]), None);
        }
    }
}
