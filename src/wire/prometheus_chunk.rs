//! Chunks of samples in the formats of Prometheus's TSDB, written for remote read. Native histograms
//! become float histogram chunks, whose counts are floats as ours are.
//! Spec: <https://github.com/prometheus/prometheus/blob/main/tsdb/docs/format/chunks.md>.

use crate::base::bits::BitWriter;
use crate::model::histogram::{BucketSpan, CUSTOM_BUCKETS_SCHEMA, Histogram, ResetHint};
use crate::model::sample::{Columns, HistogramSample, is_stale};

/// Samples of a chunk, as Prometheus has them.
const SAMPLES_MAX: usize = 120;

/// How the samples of a chunk are encoded; the numbers are those of remote read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Floats.
    Xor = 1,
    /// Float histograms.
    FloatHistogram = 3,
}

/// A run of samples.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Time of the first sample, in milliseconds since the Unix epoch.
    pub first_t: i64,
    /// Time of the last sample.
    pub last_t: i64,
    /// How it is encoded.
    pub encoding: Encoding,
    /// The samples.
    pub data: Vec<u8>,
}

/// Gives all samples of a series to `visit`, in chunks, in the order of time.
///
/// # Errors
/// What `visit` returns.
pub fn chunks<E>(columns: &Columns, mut visit: impl FnMut(Chunk) -> Result<(), E>) -> Result<(), E> {
    let (mut times, mut values) = (&columns.times[..], columns.values.as_slice());
    let mut histograms = columns.histograms.as_slice();
    loop {
        let before = histograms.first().map_or(times.len(), |turn| times.partition_point(|t| *t < turn.t));
        let floats = before.min(SAMPLES_MAX).min(values.len());
        let (Some((own_times, rest_times)), Some((own_values, rest_values))) =
            (times.split_at_checked(floats), values.split_at_checked(floats))
        else {
            return Ok(());
        };
        if floats > 0 {
            visit(xor(own_times, own_values))?;
            (times, values) = (rest_times, rest_values);
            continue;
        }
        let own = alike(histograms, times.first().copied());
        let (Some((own, rest)), true) = (histograms.split_at_checked(own), own > 0) else { return Ok(()) };
        visit(float_histograms(own))?;
        histograms = rest;
    }
}

/// How many histograms before the next float can share a chunk: readers take a chunk's histograms
/// for having the same buckets and, but for gauges, no counter reset between them.
fn alike(histograms: &[HistogramSample], turn: Option<i64>) -> usize {
    let mut count = 0;
    let mut last: Option<&Histogram> = None;
    for sample in histograms.iter().take(SAMPLES_MAX) {
        let histogram = sample.histogram.as_ref();
        let fits = last.is_none_or(|last| {
            !is_stale(last.sum)
                && !is_stale(histogram.sum)
                && has_layout_of(histogram, last)
                && follows(histogram, last)
        });
        if !fits || turn.is_some_and(|turn| sample.t >= turn) {
            break;
        }
        last = Some(histogram);
        count += 1;
    }
    count
}

fn has_layout_of(one: &Histogram, other: &Histogram) -> bool {
    let bits = |histogram: &Histogram| histogram.custom_bounds.iter().map(|bound| bound.to_bits()).collect::<Vec<_>>();
    one.schema == other.schema
        && one.zero_threshold.to_bits() == other.zero_threshold.to_bits()
        && one.positive_spans == other.positive_spans
        && one.negative_spans == other.negative_spans
        && one.positive.len() == other.positive.len()
        && one.negative.len() == other.negative.len()
        && bits(one) == bits(other)
}

fn follows(one: &Histogram, before: &Histogram) -> bool {
    let gauge = |histogram: &Histogram| histogram.reset_hint == ResetHint::Gauge;
    if gauge(one) || gauge(before) {
        return gauge(one) && gauge(before);
    }
    let grows = |now: &[f64], before: &[f64]| now.iter().zip(before).all(|(now, before)| now >= before);
    one.reset_hint != ResetHint::Reset
        && one.count >= before.count
        && one.zero_count >= before.zero_count
        && grows(&one.positive, &before.positive)
        && grows(&one.negative, &before.negative)
}

/// A value that is written as the XOR with the one before, and the window of bits of the last XOR.
#[derive(Clone, Copy)]
struct Xor {
    value: u64,
    window: Option<(u32, u32)>,
}

impl Xor {
    fn first(bits: &mut BitWriter, value: f64) -> Self {
        let value = value.to_bits();
        bits.put(value, 64);
        Self { value, window: None }
    }

    fn put(&mut self, bits: &mut BitWriter, value: f64) {
        let xor = value.to_bits() ^ self.value;
        self.value = value.to_bits();
        if xor == 0 {
            return bits.put(0, 1);
        }
        let (lead, trail) = (xor.leading_zeros().min(31), xor.trailing_zeros());
        match self.window {
            Some((own_lead, own_trail)) if lead >= own_lead && trail >= own_trail => {
                bits.put(0b10, 2);
                bits.put(xor >> own_trail, 64 - own_lead - own_trail);
            }
            _ => {
                let width = 64 - lead - trail;
                bits.put(0b11, 2);
                bits.put(u64::from(lead), 5);
                // 64 is written as 0: there is no XOR without bits here.
                bits.put(u64::from(width & 63), 6);
                bits.put(xor >> trail, width);
                self.window = Some((lead, trail));
            }
        }
    }
}

/// The number of samples, before all else; at most [`SAMPLES_MAX`].
fn put_count(bits: &mut BitWriter, count: usize) {
    bits.put(count as u64, 16);
}

fn chunk(first_t: i64, last_t: i64, encoding: Encoding, mut bits: BitWriter) -> Chunk {
    Chunk { first_t, last_t, encoding, data: bits.take().into_vec() }
}

fn xor(times: &[i64], values: &[f64]) -> Chunk {
    let mut bits = BitWriter::default();
    put_count(&mut bits, times.len());
    let mut value: Option<Xor> = None;
    let (mut last_t, mut delta) = (0i64, 0i64);
    for (place, (t, float)) in times.iter().zip(values).enumerate() {
        let new_delta = t.wrapping_sub(last_t);
        match place {
            0 => put_uvarint(&mut bits, (t << 1 ^ t >> 63).cast_unsigned()),
            1 => put_uvarint(&mut bits, new_delta.cast_unsigned()),
            _ => put_change(&mut bits, new_delta.wrapping_sub(delta)),
        }
        match &mut value {
            None => value = Some(Xor::first(&mut bits, *float)),
            Some(value) => value.put(&mut bits, *float),
        }
        (last_t, delta) = (*t, new_delta);
    }
    chunk(times.first().copied().unwrap_or_default(), last_t, Encoding::Xor, bits)
}

fn put_uvarint(bits: &mut BitWriter, mut value: u64) {
    while value >= 0x80 {
        bits.put(value & 0x7f | 0x80, 8);
        value >>= 7;
    }
    bits.put(value, 8);
}

/// Whether a number is one of `width` bits, of which one more is positive than negative.
fn fits(value: i64, width: u32) -> bool {
    let half = 1i64 << (width - 1);
    -half < value && value <= half
}

/// A delta of deltas of times.
fn put_change(bits: &mut BitWriter, change: i64) {
    match change {
        0 => bits.put(0, 1),
        _ if fits(change, 14) => bits.put(0b10 << 14 | change.cast_unsigned() & 0x3fff, 16),
        _ if fits(change, 17) => bits.put(0b110 << 17 | change.cast_unsigned() & 0x1_ffff, 20),
        _ if fits(change, 20) => bits.put(0b1110 << 20 | change.cast_unsigned() & 0xf_ffff, 24),
        _ => {
            bits.put(0b1111, 4);
            bits.put(change.cast_unsigned(), 64);
        }
    }
}

/// Widths of the numbers in histogram chunks, and with how many bits each width is announced.
const WIDTHS: [(u32, u32); 7] = [(3, 2), (6, 3), (9, 4), (12, 5), (18, 6), (25, 7), (56, 8)];

fn put_number(bits: &mut BitWriter, value: u64, is_zero: bool, fits: impl Fn(u32) -> bool) {
    if is_zero {
        return bits.put(0, 1);
    }
    match WIDTHS.iter().find(|(width, _)| fits(*width)) {
        Some((width, announced)) => {
            bits.put((1 << *announced) - 2, *announced);
            bits.put(value, *width);
        }
        None => {
            bits.put(0xff, 8);
            bits.put(value, 64);
        }
    }
}

fn put_int(bits: &mut BitWriter, value: i64) {
    put_number(bits, value.cast_unsigned(), value == 0, |width| fits(value, width));
}

fn put_uint(bits: &mut BitWriter, value: u64) {
    put_number(bits, value, value == 0, |width| 64 - value.leading_zeros() <= width);
}

/// Histograms that are [`alike`].
fn float_histograms(samples: &[HistogramSample]) -> Chunk {
    let mut bits = BitWriter::default();
    put_count(&mut bits, samples.len());
    let mut fields: Vec<Xor> = Vec::new();
    let (mut last_t, mut delta) = (0i64, 0i64);
    for (place, sample) in samples.iter().enumerate() {
        let histogram = sample.histogram.as_ref();
        let new_delta = sample.t.wrapping_sub(last_t);
        match place {
            0 => {
                put_layout(&mut bits, histogram);
                put_int(&mut bits, sample.t);
            }
            1 => put_int(&mut bits, new_delta),
            _ => put_int(&mut bits, new_delta.wrapping_sub(delta)),
        }
        let buckets =
            if is_stale(histogram.sum) { [&[][..], &[]] } else { [&histogram.positive[..], &histogram.negative] };
        let numbers = [histogram.count, histogram.zero_count, histogram.sum].into_iter();
        let numbers = numbers.chain(buckets.into_iter().flatten().copied());
        if place == 0 {
            fields.extend(numbers.map(|number| Xor::first(&mut bits, number)));
        } else {
            fields.iter_mut().zip(numbers).for_each(|(field, number)| field.put(&mut bits, number));
        }
        (last_t, delta) = (sample.t, new_delta);
    }
    chunk(samples.first().map_or(0, |sample| sample.t), last_t, Encoding::FloatHistogram, bits)
}

/// What the histograms of a chunk share. A stale marker has no buckets.
fn put_layout(bits: &mut BitWriter, histogram: &Histogram) {
    // Only of gauges is it known what lies between two chunks: a reader has to look itself.
    bits.put(if histogram.reset_hint == ResetHint::Gauge { 0b1100_0000 } else { 0 }, 8);
    let empty = Histogram::default();
    let histogram = if is_stale(histogram.sum) { &empty } else { histogram };
    put_zero_threshold(bits, histogram.zero_threshold);
    put_int(bits, i64::from(histogram.schema));
    put_spans(bits, &histogram.positive_spans);
    put_spans(bits, &histogram.negative_spans);
    if histogram.schema == CUSTOM_BUCKETS_SCHEMA {
        put_uint(bits, histogram.custom_bounds.len() as u64);
        histogram.custom_bounds.iter().for_each(|bound| put_bound(bits, *bound));
    }
}

fn put_spans(bits: &mut BitWriter, spans: &[BucketSpan]) {
    put_uint(bits, spans.len() as u64);
    for span in spans {
        put_uint(bits, u64::from(span.length));
        put_int(bits, i64::from(span.offset));
    }
}

/// One byte for zero and for powers of two from 2^-243 to 2^10, nine for others.
fn put_zero_threshold(bits: &mut BitWriter, threshold: f64) {
    let raw = threshold.to_bits();
    let power = (raw >> 52) as i64 - 1_023;
    match power {
        _ if threshold == 0.0 => bits.put(0, 8),
        -243..=10 if raw << 12 == 0 => bits.put((power + 244).cast_unsigned(), 8),
        _ => {
            bits.put(255, 8);
            bits.put(raw, 64);
        }
    }
}

/// Bounds of custom buckets with at most three decimal places are short.
fn put_bound(bits: &mut BitWriter, bound: f64) {
    let thousands = bound * 1_000.0;
    // The check that it reads back is ours: a bound must not change.
    if (0.0..=33_554_430.0).contains(&thousands) && thousands.trunc() == thousands && thousands / 1_000.0 == bound {
        return put_uint(bits, thousands as u64 + 1);
    }
    bits.put(0, 1);
    bits.put(bound.to_bits(), 64);
}

#[cfg(test)]
#[path = "prometheus_chunk_tests.rs"]
mod tests;
