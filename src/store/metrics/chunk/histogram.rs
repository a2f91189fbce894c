//! Native histogram samples in bytes, each as what differs from the one before: the layout (schema,
//! spans, bounds) only where it changes, every number as XOR with the one in its place before,
//! bytes swapped, so that whole counts become short varints.
//! Bytes: docs/format/metrics.md.

use std::sync::Arc;

use crate::model::histogram::{BucketSpan, Histogram, ResetHint};
use crate::model::sample::HistogramSample;
use crate::store::codec::{Malformed, Reader, put_signed, put_varint};

const SAME_LAYOUT: u8 = 0x80;
/// Most buckets, spans or bounds of one histogram; a larger count is damage.
const BUCKETS_MAX: usize = 1 << 20;
/// Most bytes that the histograms of one run may take in memory when they are read: a count is at
/// least one byte, and eight in memory, beside the struct.
const GROWTH_MAX: usize = 512;

/// Appends samples, in their order.
pub fn encode(out: &mut Vec<u8>, samples: &[HistogramSample]) {
    let empty = Histogram::default();
    let (mut last, mut last_t) = (&empty, 0i64);
    for sample in samples {
        let histogram = &*sample.histogram;
        let same = same_layout(histogram, last);
        out.push(hint_code(histogram.reset_hint) | if same { SAME_LAYOUT } else { 0 });
        put_signed(out, sample.t.wrapping_sub(last_t));
        if !same {
            put_layout(out, histogram);
        }
        put_numbers(out, histogram, last);
        (last, last_t) = (histogram, sample.t);
    }
}

/// Whether both have the same schema, spans and bounds.
pub(super) fn same_layout(a: &Histogram, b: &Histogram) -> bool {
    let (a_bounds, b_bounds) = (a.custom_bounds.iter(), b.custom_bounds.iter());
    a.schema == b.schema
        && a.positive_spans == b.positive_spans
        && a.negative_spans == b.negative_spans
        && (a.positive.len(), a.negative.len()) == (b.positive.len(), b.negative.len())
        && a.zero_threshold.to_bits() == b.zero_threshold.to_bits()
        && a_bounds.map(|bound| bound.to_bits()).eq(b_bounds.map(|bound| bound.to_bits()))
}

/// A reset hint as a byte.
pub(super) fn hint_code(hint: ResetHint) -> u8 {
    match hint {
        ResetHint::Unknown => 0,
        ResetHint::Reset => 1,
        ResetHint::NotReset => 2,
        ResetHint::Gauge => 3,
    }
}

/// Appends schema, spans and bounds.
pub(super) fn put_layout(out: &mut Vec<u8>, histogram: &Histogram) {
    put_signed(out, i64::from(histogram.schema));
    put_number(out, histogram.zero_threshold, 0.0);
    for (spans, counts) in
        [(&histogram.positive_spans, &histogram.positive), (&histogram.negative_spans, &histogram.negative)]
    {
        put_varint(out, spans.len() as u64);
        for span in spans {
            put_signed(out, i64::from(span.offset));
            put_varint(out, u64::from(span.length));
        }
        put_varint(out, counts.len() as u64);
    }
    put_varint(out, histogram.custom_bounds.len() as u64);
    histogram.custom_bounds.iter().for_each(|bound| put_number(out, *bound, 0.0));
}

fn put_number(out: &mut Vec<u8>, value: f64, last: f64) {
    put_varint(out, (value.to_bits() ^ last.to_bits()).swap_bytes());
}

fn put_numbers(out: &mut Vec<u8>, histogram: &Histogram, last: &Histogram) {
    put_number(out, histogram.zero_count, last.zero_count);
    put_number(out, histogram.count, last.count);
    put_number(out, histogram.sum, last.sum);
    for (counts, lasts) in [(&histogram.positive, &last.positive), (&histogram.negative, &last.negative)] {
        for (at, count) in counts.iter().enumerate() {
            put_number(out, *count, lasts.get(at).copied().unwrap_or_default());
        }
    }
}

/// Reads `count` samples.
///
/// # Errors
/// [`Malformed`].
pub fn decode(bytes: &[u8], count: usize) -> Result<Vec<HistogramSample>, Malformed> {
    let mut reader = Reader::new(bytes);
    let mut samples: Vec<HistogramSample> = Vec::new();
    let mut last = Arc::new(Histogram::default());
    let (mut last_t, mut taken) = (0i64, 0usize);
    for _ in 0..count {
        let code = reader.byte()?;
        let t = last_t.wrapping_add(reader.signed()?);
        let mut histogram = if code & SAME_LAYOUT != 0 { copy_layout(&last) } else { take_layout(&mut reader)? };
        histogram.reset_hint = hint(code & !SAME_LAYOUT)?;
        taken += histogram.bytes();
        if taken > GROWTH_MAX * (bytes.len() + 1) {
            return Err(Malformed("histograms larger than their bytes can tell"));
        }
        take_numbers(&mut reader, &mut histogram, &last)?;
        last = Arc::new(histogram);
        last_t = t;
        samples.push(HistogramSample { t, start: 0, histogram: last.clone() });
    }
    if reader.is_empty() { Ok(samples) } else { Err(Malformed("bytes behind histograms")) }
}

/// The reset hint of a byte.
///
/// # Errors
/// [`Malformed`].
pub(super) fn hint(code: u8) -> Result<ResetHint, Malformed> {
    match code {
        0 => Ok(ResetHint::Unknown),
        1 => Ok(ResetHint::Reset),
        2 => Ok(ResetHint::NotReset),
        3 => Ok(ResetHint::Gauge),
        _ => Err(Malformed("unknown reset hint")),
    }
}

fn copy_layout(last: &Histogram) -> Histogram {
    last.clone()
}

/// Reads a histogram of which only schema, spans and bounds are known.
///
/// # Errors
/// [`Malformed`].
pub(super) fn take_layout(reader: &mut Reader<'_>) -> Result<Histogram, Malformed> {
    let small = |_| Malformed("number too large");
    let mut histogram = Histogram {
        schema: i32::try_from(reader.signed()?).map_err(small)?,
        zero_threshold: take_number(reader, 0.0)?,
        ..Histogram::default()
    };
    for positive in [true, false] {
        let mut spans = Vec::new();
        for _ in 0..reader.count(reader.rest().len())? {
            let offset = i32::try_from(reader.signed()?).map_err(small)?;
            spans.push(BucketSpan { offset, length: u32::try_from(reader.varint()?).map_err(small)? });
        }
        // Each count is at least a byte further on.
        let counts = vec![0.0; reader.count(reader.rest().len().min(BUCKETS_MAX))?];
        if positive {
            (histogram.positive_spans, histogram.positive) = (spans, counts);
        } else {
            (histogram.negative_spans, histogram.negative) = (spans, counts);
        }
    }
    for _ in 0..reader.count(reader.rest().len())? {
        histogram.custom_bounds.push(take_number(reader, 0.0)?);
    }
    Ok(histogram)
}

fn take_number(reader: &mut Reader<'_>, last: f64) -> Result<f64, Malformed> {
    Ok(f64::from_bits(reader.varint()?.swap_bytes() ^ last.to_bits()))
}

fn take_numbers(reader: &mut Reader<'_>, histogram: &mut Histogram, last: &Histogram) -> Result<(), Malformed> {
    histogram.zero_count = take_number(reader, last.zero_count)?;
    histogram.count = take_number(reader, last.count)?;
    histogram.sum = take_number(reader, last.sum)?;
    for (counts, lasts) in [(&mut histogram.positive, &last.positive), (&mut histogram.negative, &last.negative)] {
        for (at, count) in counts.iter_mut().enumerate() {
            *count = take_number(reader, lasts.get(at).copied().unwrap_or_default())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(t: i64, buckets: &[f64], sum: f64) -> HistogramSample {
        let histogram = Histogram {
            reset_hint: ResetHint::Gauge,
            schema: 3,
            zero_threshold: 1e-128,
            zero_count: 2.0,
            count: buckets.iter().sum(),
            sum,
            positive_spans: vec![BucketSpan { offset: -4, length: buckets.len() as u32 }],
            positive: buckets.to_vec(),
            negative_spans: vec![BucketSpan { offset: i32::MIN, length: 1 }],
            negative: vec![1.0],
            custom_bounds: vec![0.5, f64::MAX],
        };
        HistogramSample { t, start: 0, histogram: Arc::new(histogram) }
    }

    #[test]
    fn histograms_round_trip_also_when_their_layout_changes() {
        let stale = f64::from_bits(0x7ff0_0000_0000_0002);
        let samples = [
            sample(i64::MIN, &[1.0, 2.0, 3.0], 5.5),
            sample(i64::MAX, &[2.0, 2.0, 9.0], stale),
            sample(0, &[1.0], -0.0),
            HistogramSample { t: 1, start: 0, histogram: Arc::new(Histogram::default()) },
            sample(0, &[1e300, 4.0], f64::INFINITY),
        ];
        let mut bytes = Vec::new();
        encode(&mut bytes, &samples);
        let found = decode(&bytes, samples.len()).unwrap();
        let text = |samples: &[HistogramSample]| {
            samples.iter().map(|one| format!("{one:?} {}", one.histogram.sum.to_bits())).collect::<Vec<_>>()
        };
        assert_eq!(text(&found), text(&samples));
        assert!(decode(&bytes, samples.len() - 1).is_err());
        assert!(decode(&bytes, samples.len() + 1).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_decoder(bytes: Vec<u8>, count in 0usize..500) {
            let _ = decode(&bytes, count);
        }
    }
}
