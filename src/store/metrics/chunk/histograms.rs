//! Native histograms of one block of a part, column by column: of histograms with one layout the
//! first counts of all, then the second ones, and so on, each column as [`floats`] writes it.
//! Bytes: docs/format/metrics.md.

use std::sync::Arc;

use super::histogram::{hint, hint_code, put_layout, same_layout, take_layout};
use super::{floats, pack};
use crate::model::histogram::Histogram;
use crate::model::sample::HistogramSample;
use crate::store::codec::{Malformed, Reader, put_varint};

/// Most histograms of a block.
pub const SAMPLES_MAX: usize = 128;
/// Most memory that the histograms of one block take, in bytes, but for a single one.
pub const BYTES_MAX: usize = 1 << 20;
/// Flag of the reset hint: there is one for each histogram.
const HINTS: u8 = 0x80;

/// Appends samples, in their order.
pub fn encode(out: &mut Vec<u8>, samples: &[HistogramSample], work: &mut floats::Work) {
    let mut column = Vec::new();
    for run in samples.chunk_by(|a, b| same_layout(&a.histogram, &b.histogram)) {
        let Some(first) = run.first() else { continue };
        put_varint(out, run.len() as u64);
        put_layout(out, &first.histogram);
        let code = |sample: &HistogramSample| hint_code(sample.histogram.reset_hint);
        if run.iter().all(|own| code(own) == code(first)) {
            out.push(code(first));
        } else {
            out.push(HINTS);
            out.extend(run.iter().map(code));
        }
        let times: Vec<i64> = run.iter().map(|sample| sample.t).collect();
        pack::encode(out, &times, work.pack());
        for place in 0..columns(&first.histogram) {
            column.clear();
            column.extend(run.iter().filter_map(|sample| number(&sample.histogram, place)));
            floats::encode(out, &column, work);
        }
    }
}

/// How many numbers a histogram has.
fn columns(histogram: &Histogram) -> usize {
    3 + histogram.positive.len() + histogram.negative.len()
}

fn number(histogram: &Histogram, place: usize) -> Option<f64> {
    match place {
        0 => Some(histogram.zero_count),
        1 => Some(histogram.count),
        2 => Some(histogram.sum),
        _ => histogram.positive.iter().chain(&histogram.negative).nth(place - 3).copied(),
    }
}

fn set_number(histogram: &mut Histogram, place: usize, value: f64) {
    let own = match place {
        0 => Some(&mut histogram.zero_count),
        1 => Some(&mut histogram.count),
        2 => Some(&mut histogram.sum),
        _ => match (place - 3).checked_sub(histogram.positive.len()) {
            None => histogram.positive.get_mut(place - 3),
            Some(negative) => histogram.negative.get_mut(negative),
        },
    };
    if let Some(own) = own {
        *own = value;
    }
}

/// Reads `count` samples.
///
/// # Errors
/// [`Malformed`].
pub fn decode(bytes: &[u8], count: usize, numbers: &mut Vec<i64>) -> Result<Vec<HistogramSample>, Malformed> {
    if count > SAMPLES_MAX {
        return Err(Malformed("too many histograms in a block"));
    }
    let mut reader = Reader::new(bytes);
    let (mut samples, mut taken) = (Vec::with_capacity(count), 0);
    let (mut run, mut values) = (Vec::new(), Vec::new());
    while samples.len() < count {
        let own = reader.count(count - samples.len())?.max(1);
        let layout = take_layout(&mut reader)?;
        taken += own * layout.bytes();
        if taken > 2 * BYTES_MAX + SAMPLES_MAX * size_of::<Histogram>() {
            return Err(Malformed("histograms larger than they may be"));
        }
        let code = reader.byte()?;
        let codes = if code == HINTS { reader.take(own)? } else { &[] };
        pack::decode(&mut reader, own, numbers)?;
        let times = numbers.clone();
        run.clear();
        run.resize(own, layout.clone());
        for (at, histogram) in run.iter_mut().enumerate() {
            histogram.reset_hint = hint(codes.get(at).copied().unwrap_or(code))?;
        }
        for place in 0..columns(&layout) {
            values.clear();
            floats::decode(&mut reader, own, numbers, &mut values)?;
            run.iter_mut().zip(&values).for_each(|(histogram, value)| set_number(histogram, place, *value));
        }
        let own = times.into_iter().zip(run.drain(..));
        samples.extend(own.map(|(t, own)| HistogramSample { t, start: 0, histogram: Arc::new(own) }));
    }
    if reader.is_empty() { Ok(samples) } else { Err(Malformed("bytes behind histograms")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::histogram::{BucketSpan, ResetHint};
    use proptest::prelude::*;

    fn sample(t: i64, buckets: &[f64], sum: f64, reset_hint: ResetHint) -> HistogramSample {
        let histogram = Histogram {
            reset_hint,
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

    fn check_round_trip(samples: &[HistogramSample]) -> usize {
        let mut bytes = Vec::new();
        encode(&mut bytes, samples, &mut floats::Work::default());
        let found = decode(&bytes, samples.len(), &mut Vec::new()).unwrap();
        let text = |samples: &[HistogramSample]| {
            samples.iter().map(|one| format!("{one:?} {}", one.histogram.sum.to_bits())).collect::<Vec<_>>()
        };
        assert_eq!(text(&found), text(samples));
        bytes.len()
    }

    #[test]
    fn histograms_round_trip_also_when_their_layout_changes() {
        let stale = f64::from_bits(0x7ff0_0000_0000_0002);
        check_round_trip(&[
            sample(i64::MIN, &[1.0, 2.0, 3.0], 5.5, ResetHint::Gauge),
            sample(-1, &[2.0, 2.0, 9.0], stale, ResetHint::NotReset),
            sample(0, &[1.0], -0.0, ResetHint::Unknown),
            HistogramSample { t: 1, start: 0, histogram: Arc::new(Histogram::default()) },
            sample(i64::MAX, &[1e300, 4.0], f64::INFINITY, ResetHint::Reset),
        ]);
        check_round_trip(&[]);
    }

    #[test]
    fn counts_that_grow_slowly_take_few_bits() {
        let counts = |at: i64| (0..20).map(|bucket| (at * (bucket % 5) + at % 3) as f64).collect::<Vec<_>>();
        let samples: Vec<_> =
            (0..128).map(|at| sample(at * 15_000, &counts(at), at as f64 / 4.0, ResetHint::Unknown)).collect();
        assert!(check_round_trip(&samples) < 128 * 10);
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_decoder(bytes: Vec<u8>, count in 0usize..500) {
            let _ = decode(&bytes, count, &mut Vec::new());
        }
    }
}
