//! Chunks: bytes that are none decode to an error, and what is encoded comes back bit for bit.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use trilith::model::histogram::{BucketSpan, Histogram, ResetHint};
use trilith::model::sample::HistogramSample;
use trilith::store::codec::Reader;
use trilith::store::metrics::chunk::gorilla::Appender;
use trilith::store::metrics::chunk::{floats, gorilla, histogram, histograms, pack};

/// Times and values that the bytes mean: small and wide steps, equal and wild values.
fn samples(bytes: &[u8]) -> (Vec<i64>, Vec<f64>) {
    let (mut times, mut values) = (Vec::new(), Vec::new());
    let (mut t, mut value) = (0i64, 0u64);
    for chunk in bytes.chunks(5) {
        let number = chunk.iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
        let step = match number % 4 {
            0 => 15_000,
            1 => 15_000 + (number >> 2) % 7,
            2 => 1 + (number >> 2),
            _ => 1 + ((number >> 2) << 24),
        };
        let Some(next) = t.checked_add(i64::try_from(step).unwrap_or(1)) else { break };
        t = next;
        value = match number >> 38 {
            0 => value,
            1 => value.wrapping_add(1),
            2 => (number as f64).to_bits(),
            _ => number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        };
        times.push(t);
        values.push(f64::from_bits(value));
    }
    (times, values)
}

/// Histograms that the bytes mean: most with the layout of the one before.
fn histograms_of(bytes: &[u8]) -> Vec<HistogramSample> {
    let (times, values) = samples(bytes);
    let sample = |(at, t): (usize, &i64)| {
        let number = |of: usize| values.get((at + of) % values.len().max(1)).copied().unwrap_or_default();
        let buckets = 1 + at / 16 % 3;
        let histogram = Histogram {
            reset_hint: [ResetHint::Unknown, ResetHint::Gauge, ResetHint::Reset][at / 8 % 3],
            schema: 3,
            zero_threshold: 1e-128,
            zero_count: 1.0,
            count: number(1),
            sum: number(2),
            positive_spans: vec![BucketSpan { offset: -4, length: buckets as u32 }],
            positive: (0..buckets).map(number).collect(),
            negative_spans: vec![BucketSpan { offset: 7, length: 1 }],
            negative: vec![number(3)],
            custom_bounds: if at / 32 % 2 == 1 { vec![number(4)] } else { Vec::new() },
        };
        HistogramSample { t: *t, start: 0, histogram: Arc::new(histogram) }
    };
    times.iter().enumerate().map(sample).take(histograms::SAMPLES_MAX).collect()
}

/// An input whose chunk is one, of a codec that the seed chooses.
fn valid(bytes: &[u8], seed: u32) -> Vec<u8> {
    let ((times, values), histograms) = (samples(bytes), histograms_of(bytes));
    let mut out = Vec::new();
    match seed % 5 {
        0 => pack::encode(&mut out, &times, &mut pack::Work::default()),
        1 => floats::encode(&mut out, &values, &mut floats::Work::default()),
        2 => histogram::encode(&mut out, &histograms),
        3 => histograms::encode(&mut out, &histograms, &mut floats::Work::default()),
        _ => {
            let mut appender = Appender::default();
            times.iter().zip(&values).for_each(|(t, value)| appender.push(*t, *value));
            out = appender.seal().bits.into_vec();
        }
    }
    let count = if matches!(seed % 5, 2 | 3) { histograms.len() } else { times.len() };
    [&u16::try_from(count).unwrap_or(u16::MAX).to_le_bytes()[..], &out].concat()
}

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    trilith_fuzz::change_or_valid(data, size, max_size, seed, valid)
});

fuzz_target!(|bytes: &[u8]| {
    let Some((count, rest)) = bytes.split_first_chunk::<2>() else { return };
    let count = u16::from_le_bytes(*count);
    let (mut numbers, mut values) = (Vec::new(), Vec::new());
    let _ = pack::decode(&mut Reader::new(rest), usize::from(count), &mut numbers);
    let _ = floats::decode(&mut Reader::new(rest), usize::from(count), &mut numbers, &mut values);
    let _ = gorilla::decode(rest, u32::from(count), |_, _| {});
    if let Ok(all) = histogram::decode(rest, usize::from(count)) {
        let mut out = Vec::new();
        histogram::encode(&mut out, &all);
        let again = histogram::decode(&out, all.len()).expect("histograms that were encoded");
        assert_eq!(format!("{all:?}"), format!("{again:?}"));
    }

    if let Ok(all) = histograms::decode(rest, usize::from(count), &mut numbers) {
        let mut out = Vec::new();
        histograms::encode(&mut out, &all, &mut floats::Work::default());
        let again = histograms::decode(&out, all.len(), &mut numbers).expect("histograms that were encoded");
        assert_eq!(format!("{all:?}"), format!("{again:?}"));
    }

    let (times, values) = samples(rest);
    let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    let (mut out, mut own_times) = (Vec::new(), Vec::new());
    pack::encode(&mut out, &times, &mut pack::Work::default());
    pack::decode(&mut Reader::new(&out), times.len(), &mut own_times).expect("times that were encoded");
    assert_eq!(times, own_times);
    let (mut out, mut work, mut numbers, mut own_values) =
        (Vec::new(), floats::Work::default(), Vec::new(), Vec::new());
    floats::encode(&mut out, &values, &mut work);
    let read = floats::decode(&mut Reader::new(&out), values.len(), &mut numbers, &mut own_values);
    read.expect("values that were encoded");
    assert_eq!(bits(&values), bits(&own_values));
    let integers: Vec<i64> = values.iter().map(|value| value.to_bits() as i64).collect();
    let mut out = Vec::new();
    pack::encode(&mut out, &integers, work.pack());
    pack::decode(&mut Reader::new(&out), integers.len(), &mut numbers).expect("integers that were encoded");
    assert_eq!(integers, numbers);

    let mut appender = Appender::default();
    times.iter().zip(&values).for_each(|(t, value)| appender.push(*t, *value));
    let (mut own_times, mut own_values) = (Vec::new(), Vec::new());
    let read = appender.seal().read(|t, value| {
        own_times.push(t);
        own_values.push(value);
    });
    read.expect("a chunk that was appended");
    assert_eq!((&times, bits(&values)), (&own_times, bits(&own_values)));
});
