//! Encodings of samples that were valid a moment ago: they are refused, or give as many samples as were
//! asked for, which are the same when they are encoded and decoded again. Deletions of a file whose checksum
//! holds are all read or all set aside.

use std::sync::Arc;

use super::chunk::{floats, gorilla, histogram, histograms, pack};
use super::keep::Keep;
use super::layout::{DataBuilder, DataFrame};
use crate::base::counters::Counters;
use crate::base::disk::{Disk, RealDisk};
use crate::base::mutate::Mutator;
use crate::model::histogram::{BucketSpan, Histogram};
use crate::model::matcher::{MatchOp, Matcher};
use crate::model::sample::HistogramSample;
use crate::model::time::RangeMs;
use crate::store::codec::Reader;

const SEEDS: u64 = 3_000;

/// Numbers of the kinds that the codecs have forms for: steady, small, with outliers, wild.
fn numbers(mutator: &mut Mutator) -> Vec<i64> {
    let (count, kind) = (mutator.below(200), mutator.below(4));
    let number = |at: usize, mutator: &mut Mutator| match kind {
        0 => at as i64 * 15_000,
        1 => mutator.below(9) as i64,
        2 if mutator.below(20) == 0 => mutator.next() as i64,
        2 => 7,
        _ => mutator.next() as i64,
    };
    (0..count).map(|at| number(at, mutator)).collect()
}

#[test]
fn damaged_columns_of_numbers_have_as_many_as_were_asked_for_or_are_refused() {
    let mut kept = 0;
    for seed in 0..SEEDS {
        let mut mutator = Mutator::new(seed);
        let good = numbers(&mut mutator);
        let (mut bytes, mut work) = (Vec::new(), pack::Work::default());
        pack::encode(&mut bytes, &good, &mut work);
        let mut read = Vec::new();
        if pack::decode(&mut Reader::new(&mutator.bytes(&bytes)), good.len(), &mut read).is_err() {
            continue;
        }
        kept += 1;
        assert_eq!(read.len(), good.len(), "seed {seed}");
        let (mut anew, mut again) = (Vec::new(), Vec::new());
        pack::encode(&mut anew, &read, &mut work);
        pack::decode(&mut Reader::new(&anew), read.len(), &mut again).unwrap();
        assert_eq!(again, read, "seed {seed}");
    }
    assert!(kept > SEEDS / 10, "only {kept} were read");
}

#[test]
fn damaged_columns_of_values_have_as_many_as_were_asked_for_or_are_refused() {
    let mut kept = 0;
    for seed in 0..SEEDS {
        let mut mutator = Mutator::new(seed);
        let divisor = *mutator.pick(&[1.0, 10.0, 1_000.0, 0.0, 3.0]);
        let good: Vec<f64> = numbers(&mut mutator).iter().map(|number| *number as f64 / divisor).collect();
        let (mut bytes, mut work) = (Vec::new(), floats::Work::default());
        floats::encode(&mut bytes, &good, &mut work);
        let (mut read, mut scratch) = (Vec::new(), Vec::new());
        let bad = mutator.bytes(&bytes);
        if floats::decode(&mut Reader::new(&bad), good.len(), &mut scratch, &mut read).is_err() {
            continue;
        }
        kept += 1;
        assert_eq!(read.len(), good.len(), "seed {seed}");
        let (mut anew, mut again) = (Vec::new(), Vec::new());
        floats::encode(&mut anew, &read, &mut work);
        floats::decode(&mut Reader::new(&anew), read.len(), &mut scratch, &mut again).unwrap();
        let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&again), bits(&read), "seed {seed}");
        // Samples of a head likewise.
        let mut chunk = Vec::new();
        let _ = gorilla::decode(&bad, good.len() as u32, |t, value| chunk.push((t, value)));
        assert!(chunk.len() <= good.len(), "seed {seed}");
    }
    assert!(kept > SEEDS / 10, "only {kept} were read");
}

fn samples(mutator: &mut Mutator) -> Vec<HistogramSample> {
    let mut last = Histogram {
        schema: 3,
        zero_threshold: 1e-128,
        positive_spans: vec![BucketSpan { offset: -2, length: 3 }],
        positive: vec![1.0, 5.0, 2.0],
        ..Histogram::default()
    };
    let mut all = Vec::new();
    for at in 0..mutator.below(20) {
        if mutator.below(6) == 0 {
            last.negative_spans = vec![BucketSpan { offset: 0, length: 2 }];
            last.negative = vec![0.5, 4.0];
        }
        last.positive.iter_mut().for_each(|count| *count += mutator.below(5) as f64);
        last.count += 9.0;
        last.sum += 0.25;
        all.push(HistogramSample { t: at as i64 * 15_000, start: 0, histogram: Arc::new(last.clone()) });
    }
    all
}

#[test]
fn damaged_histograms_have_as_many_as_were_asked_for_or_are_refused() {
    let mut kept = [0; 2];
    for seed in 0..SEEDS {
        let mut mutator = Mutator::new(seed);
        let good = samples(&mut mutator);
        let (mut work, mut scratch) = (floats::Work::default(), Vec::new());
        let (mut rows, mut columns) = (Vec::new(), Vec::new());
        histogram::encode(&mut rows, &good);
        histograms::encode(&mut columns, &good, &mut work);
        if let Ok(read) = histogram::decode(&mutator.bytes(&rows), good.len()) {
            kept[0] += 1;
            assert_eq!(read.len(), good.len(), "seed {seed}");
            let mut anew = Vec::new();
            histogram::encode(&mut anew, &read);
            let again = histogram::decode(&anew, read.len()).unwrap();
            assert_eq!(format!("{again:?}"), format!("{read:?}"), "seed {seed}");
        }
        if let Ok(read) = histograms::decode(&mutator.bytes(&columns), good.len(), &mut scratch) {
            kept[1] += 1;
            assert_eq!(read.len(), good.len(), "seed {seed}");
            let mut anew = Vec::new();
            histograms::encode(&mut anew, &read, &mut work);
            let again = histograms::decode(&anew, read.len(), &mut scratch).unwrap();
            assert_eq!(format!("{again:?}"), format!("{read:?}"), "seed {seed}");
        }
    }
    assert!(kept.iter().all(|kept| *kept as u64 > SEEDS / 20), "only {kept:?} were read");
}

#[test]
fn damaged_data_frames_find_their_blocks_or_are_refused() {
    let mut builder = DataBuilder::default();
    for series in (10..300).step_by(3) {
        for number in [series, 7] {
            builder.block(series, number == 7, series % 2 == 0, number, |out| out.extend(series.to_le_bytes()));
        }
    }
    let good = builder.take(-5);
    let mut kept = 0;
    for seed in 0..SEEDS {
        let bad = Mutator::new(seed).bytes(&good);
        let bytes = bad.len();
        let Ok(frame) = DataFrame::parse(bad) else { continue };
        kept += 1;
        assert!(frame.bytes() <= 64 * bytes, "seed {seed}");
        let data: usize = (0..frame.blocks().len()).map(|place| frame.data(place).len()).sum();
        assert!(data <= bytes, "seed {seed}: blocks overlap");
    }
    assert!(kept > SEEDS / 20, "only {kept} were read");
}

#[test]
fn damaged_lists_of_deletions_are_read_whole_or_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let damaged = Counters::default().counter("damaged", "", &[]);
    let open = || Keep::open(Arc::new(RealDisk) as Arc<dyn Disk>, dir.path(), &damaged).unwrap();
    let own = open();
    for (op, value) in [(MatchOp::Equal, "a"), (MatchOp::Regex, "a|b.*"), (MatchOp::NotEqual, "")] {
        let matchers = [Matcher::new("job", op, value).unwrap()];
        own.delete(&matchers, RangeMs { start: -5, end: 1_000_000 }, 3).unwrap();
    }
    let path = own.path();
    let good = std::fs::read(&path).unwrap();
    let body = &good[..good.len() - 4];
    let mut kept = 0;
    for seed in 0..500 {
        let mut bad = Mutator::new(seed).bytes(body);
        bad.extend_from_slice(&crc32c::crc32c(&bad).to_le_bytes());
        std::fs::write(&path, &bad).unwrap();
        let own = open();
        let read = own.tombstones();
        if !path.exists() {
            assert!(read.is_empty(), "seed {seed}: set aside, and read all the same");
            continue;
        }
        kept += 1;
        own.delete(&[], RangeMs::ALL, 9).unwrap();
        let again = open().tombstones();
        assert_eq!(again[..read.len()], read[..], "seed {seed}");
        assert_eq!(again.len(), read.len() + 1, "seed {seed}");
    }
    assert!(kept > 10, "only {kept} were read");
}
