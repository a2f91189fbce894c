//! Chunks read back by a reader of their own, written from the format's description.

use std::convert::Infallible;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::base::bits::BitReader;
use crate::model::sample::STALE_NAN_BITS;

fn uvarint(bits: &mut BitReader<'_>) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = bits.get(8).unwrap();
        value |= (byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

/// A number of `width` bits; those above the half are negative.
fn signed(bits: &mut BitReader<'_>, width: u32) -> i64 {
    let value = bits.get(width).unwrap();
    if width < 64 && value > 1 << (width - 1) { value as i64 - (1 << width) } else { value as i64 }
}

/// How many ones come before the next zero, `most` at most.
fn ones(bits: &mut BitReader<'_>, most: u32) -> u32 {
    (0..most).find(|_| bits.get(1) == Some(0)).unwrap_or(most)
}

fn xored(bits: &mut BitReader<'_>, last: f64, window: &mut (u32, u32)) -> f64 {
    if bits.get(1).unwrap() == 0 {
        return last;
    }
    if bits.get(1).unwrap() == 1 {
        let lead = bits.get(5).unwrap() as u32;
        let width = match bits.get(6).unwrap() as u32 {
            0 => 64,
            width => width,
        };
        *window = (lead, 64 - lead - width);
    }
    let xor = bits.get(64 - window.0 - window.1).unwrap() << window.1;
    f64::from_bits(last.to_bits() ^ xor)
}

fn floats(data: &[u8]) -> Vec<(i64, f64)> {
    let mut bits = BitReader::new(data);
    let count = bits.get(16).unwrap();
    let (mut t, mut delta, mut value, mut window) = (0i64, 0i64, 0.0, (0, 0));
    let mut all = Vec::new();
    for place in 0..count {
        match place {
            0 => {
                let raw = uvarint(&mut bits);
                t = (raw >> 1) as i64 ^ -((raw & 1) as i64);
                value = f64::from_bits(bits.get(64).unwrap());
            }
            1 => delta = uvarint(&mut bits) as i64,
            _ => {
                let width = [0, 14, 17, 20, 64][ones(&mut bits, 4) as usize];
                delta = delta.wrapping_add(if width == 0 { 0 } else { signed(&mut bits, width) });
            }
        }
        if place > 0 {
            t = t.wrapping_add(delta);
            value = xored(&mut bits, value, &mut window);
        }
        all.push((t, value));
    }
    all
}

const NUMBER_WIDTHS: [u32; 9] = [0, 3, 6, 9, 12, 18, 25, 56, 64];

fn int(bits: &mut BitReader<'_>) -> i64 {
    match NUMBER_WIDTHS[ones(bits, 8) as usize] {
        0 => 0,
        width => signed(bits, width),
    }
}

fn uint(bits: &mut BitReader<'_>) -> u64 {
    let width = NUMBER_WIDTHS[ones(bits, 8) as usize];
    bits.get(width).unwrap()
}

fn spans(bits: &mut BitReader<'_>) -> Vec<BucketSpan> {
    let count = uint(bits);
    let span = |_| {
        let length = uint(bits) as u32;
        BucketSpan { length, offset: int(bits) as i32 }
    };
    (0..count).map(span).collect()
}

fn histograms(data: &[u8]) -> Vec<(i64, Histogram)> {
    let mut bits = BitReader::new(data);
    let count = bits.get(16).unwrap();
    let reset_hint = if bits.get(8).unwrap() == 0b1100_0000 { ResetHint::Gauge } else { ResetHint::Unknown };
    let zero_threshold = match bits.get(8).unwrap() {
        0 => 0.0,
        255 => f64::from_bits(bits.get(64).unwrap()),
        power => 2f64.powi(power as i32 - 244),
    };
    let schema = int(&mut bits) as i32;
    let (positive_spans, negative_spans) = (spans(&mut bits), spans(&mut bits));
    let mut custom_bounds = Vec::new();
    if schema == CUSTOM_BUCKETS_SCHEMA {
        for _ in 0..uint(&mut bits) {
            custom_bounds.push(match uint(&mut bits) {
                0 => f64::from_bits(bits.get(64).unwrap()),
                thousands => (thousands - 1) as f64 / 1_000.0,
            });
        }
    }
    let buckets = |spans: &[BucketSpan]| spans.iter().map(|span| span.length as usize).sum::<usize>();
    let (positive, negative) = (buckets(&positive_spans), buckets(&negative_spans));
    let mut numbers = vec![(0.0, (0, 0)); 3 + positive + negative];
    let (mut t, mut delta) = (0i64, 0i64);
    let mut all = Vec::new();
    for place in 0..count {
        match place {
            0 => t = int(&mut bits),
            1 => delta = int(&mut bits),
            _ => delta += int(&mut bits),
        }
        t += delta;
        for (number, window) in &mut numbers {
            *number = match place {
                0 => f64::from_bits(bits.get(64).unwrap()),
                _ => xored(&mut bits, *number, window),
            };
        }
        let own: Vec<f64> = numbers.iter().map(|(number, _)| *number).collect();
        let histogram = Histogram {
            reset_hint,
            schema,
            zero_threshold,
            count: own[0],
            zero_count: own[1],
            sum: own[2],
            positive_spans: positive_spans.clone(),
            positive: own[3..3 + positive].to_vec(),
            negative_spans: negative_spans.clone(),
            negative: own[3 + positive..].to_vec(),
            custom_bounds: custom_bounds.clone(),
        };
        all.push((t, histogram));
    }
    all
}

fn written(columns: &Columns) -> Vec<Chunk> {
    let mut all = Vec::new();
    chunks(columns, |chunk| {
        all.push(chunk);
        Ok::<_, Infallible>(())
    })
    .unwrap();
    for pair in all.windows(2) {
        assert!(pair[0].last_t < pair[1].first_t, "chunks follow one another");
    }
    all
}

fn columns(samples: &[(i64, f64)]) -> Columns {
    let (times, values): (Vec<i64>, Vec<f64>) = samples.iter().copied().unzip();
    Columns { times: times.into(), values, ..Columns::default() }
}

fn check_floats(samples: &[(i64, f64)]) {
    let chunks = written(&columns(samples));
    assert!(chunks.iter().all(|chunk| chunk.encoding == Encoding::Xor));
    let bits = |samples: &[(i64, f64)]| samples.iter().map(|(t, v)| (*t, v.to_bits())).collect::<Vec<_>>();
    let back: Vec<(i64, f64)> = chunks.iter().flat_map(|chunk| floats(&chunk.data)).collect();
    assert_eq!(bits(&back), bits(samples));
    for chunk in chunks {
        let own = floats(&chunk.data);
        assert_eq!((own[0].0, own[own.len() - 1].0), (chunk.first_t, chunk.last_t));
        assert!(own.len() <= SAMPLES_MAX);
    }
}

#[test]
fn the_bytes_are_those_of_prometheus() {
    // Three samples, worked out by hand from the description of the format.
    let chunk = &written(&columns(&[(1_000, 1.0), (2_000, 1.0), (3_001, 2.0)]))[0];
    let expected = [
        0,
        3, // samples
        0xd0,
        0x0f, // 1000, zigzag
        0x3f,
        0xf0,
        0,
        0,
        0,
        0,
        0,
        0, // 1.0
        0xe8,
        0x07, // delta 1000
        // value the same: 0; change of delta 1: 10 and 14 bits; XOR 0x7ff0 at the top: 11, lead 1 in
        // five bits, 11 bits in six, the bits.
        0b0100_0000,
        0b0000_0000,
        0b1110_0001,
        0b0010_1111,
        0b1111_1111,
        0b1000_0000,
    ];
    assert_eq!(chunk.data, expected);
}

#[test]
fn floats_come_back_bit_by_bit() {
    let stale = f64::from_bits(STALE_NAN_BITS);
    check_floats(&[(0, 0.0)]);
    check_floats(&[(i64::MIN, 1.0), (-1, f64::NAN), (0, stale), (1, f64::INFINITY), (i64::MAX, -0.0)]);
    check_floats(&(0..1_000).map(|n| (1_700_000_000_000 + n * 15_000, n as f64 * 0.1)).collect::<Vec<_>>());
    for change in [8_192, 8_193, 65_536, 65_537, 524_288, 524_289, 1 << 40] {
        check_floats(&[(0, 1.0), (change, 2.0), (change + 1, 3.0), (2 * change + 2, 4.0), (2 * change + 3, 4.5)]);
    }
}

fn histogram(count: f64, schema: i32) -> Histogram {
    Histogram {
        schema,
        zero_threshold: 0.001,
        zero_count: 1.0,
        count,
        sum: count * 0.3,
        positive_spans: vec![BucketSpan { offset: -3, length: 2 }, BucketSpan { offset: 40_000, length: 1 }],
        positive: vec![count, 0.5 * count, 2.0],
        negative_spans: vec![BucketSpan { offset: 7, length: 1 }],
        negative: vec![count / 3.0],
        ..Histogram::default()
    }
}

fn check_histograms(samples: &[(i64, Histogram)]) -> usize {
    let sample =
        |(t, histogram): &(i64, Histogram)| HistogramSample { t: *t, start: 0, histogram: Arc::new(histogram.clone()) };
    let columns = Columns { histograms: samples.iter().map(sample).collect(), ..Columns::default() };
    let chunks = written(&columns);
    let back: Vec<(i64, Histogram)> = chunks.iter().flat_map(|chunk| histograms(&chunk.data)).collect();
    assert_eq!(format!("{back:?}"), format!("{samples:?}"));
    chunks.len()
}

#[test]
fn histograms_come_back_and_a_reset_begins_a_chunk() {
    let growing: Vec<_> = (0..300).map(|n| (n * 15_000, histogram(n as f64, 3))).collect();
    assert_eq!(check_histograms(&growing), 3);
    let reset = [(0, histogram(9.0, 0)), (1, histogram(10.0, 0)), (2, histogram(3.0, 0))];
    assert_eq!(check_histograms(&reset), 2);
    let gauges: Vec<_> =
        reset.iter().map(|(t, one)| (*t, Histogram { reset_hint: ResetHint::Gauge, ..one.clone() })).collect();
    assert_eq!(check_histograms(&gauges), 1);
    assert_eq!(check_histograms(&[(0, histogram(9.0, 0)), (1, histogram(10.0, 1))]), 2, "another schema");
    for threshold in [0.0, 2f64.powi(-243), 2f64.powi(-244), 2f64.powi(-128), 1_024.0, 2_048.0, 1e-128] {
        check_histograms(&[(-5, Histogram { zero_threshold: threshold, ..histogram(1.0, 8) })]);
    }
}

#[test]
fn custom_bounds_stale_markers_and_floats_between_come_back() {
    let custom = Histogram {
        custom_bounds: vec![0.005, 0.1, 1.0, 33_554.43, 33_554.431, 1e9, -2.5],
        positive_spans: vec![BucketSpan { offset: 0, length: 8 }],
        positive: (0..8).map(f64::from).collect(),
        schema: CUSTOM_BUCKETS_SCHEMA,
        ..Histogram::default()
    };
    check_histograms(&[(1, custom.clone()), (2, custom)]);
    let sum = f64::from_bits(STALE_NAN_BITS);
    let stale = |t| HistogramSample { t, start: 0, histogram: Arc::new(Histogram { sum, ..Histogram::default() }) };
    let one = |t| HistogramSample { t, start: 0, histogram: Arc::new(histogram(1.0, 0)) };
    let mixed = Columns {
        times: vec![1, 2, 5, 9].into(),
        values: vec![1.0, 2.0, 5.0, 9.0],
        histograms: vec![one(3), stale(4), one(6), one(7)],
        ..Columns::default()
    };
    let chunks = written(&mixed);
    let spans: Vec<_> = chunks.iter().map(|chunk| (chunk.encoding as u64, chunk.first_t, chunk.last_t)).collect();
    assert_eq!(spans, [(1, 1, 2), (3, 3, 3), (3, 4, 4), (1, 5, 5), (3, 6, 7), (1, 9, 9)]);
    assert!(is_stale(histograms(&chunks[2].data)[0].1.sum));
}

proptest! {
    #[test]
    fn any_floats_come_back(steps in proptest::collection::vec((1i64..1 << 45, any::<u64>()), 0..400)) {
        let mut t = -(1i64 << 50);
        let samples: Vec<_> = steps.iter().map(|(step, bits)| { t += step; (t, f64::from_bits(*bits)) }).collect();
        check_floats(&samples);
    }
}
