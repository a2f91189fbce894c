//! How many bytes does a sample take, and how many nanoseconds to write and to read, by codec and by
//! shape of the series? Blocks of 280 samples, 200 of each shape; also what zstd still finds in them.

use std::hint::black_box;
use std::io::Write as _;
use std::time::Instant;

use trilith::store::codec::Reader;
use trilith::store::metrics::chunk::{floats, gorilla, histogram, histograms, pack};

/// Samples of a block: 70 minutes at 15 seconds.
const SAMPLES: usize = 280;
const BLOCKS: usize = 200;

/// xorshift64*: seeded, so every run is the same.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// In 0..1, of 52 bits.
    fn unit(&mut self) -> f64 {
        (self.next() >> 12) as f64 / (1u64 << 52) as f64
    }
}

/// The next value, from the one before and the place.
type Next = fn(&mut Random, f64, usize) -> f64;

/// The first six are the shapes of the bench load (loadgen), with its shares of the series.
const SHAPES: &[(&str, Next)] = &[
    ("counter of whole steps, 35 %", |random, last, _| last + (300.0 * (0.5 + random.unit())).round()),
    ("counter of hundredths, 20 %", |random, last, _| ((last + 15.0 * random.unit()) * 100.0).round() / 100.0),
    ("bytes in pages, 15 %", |random, last, at| {
        if at == 0 || random.unit() < 0.6 { 4096.0 * (1e6 + (10_000.0 * random.unit()).round()) } else { last }
    }),
    ("gauge of thousandths, 10 %", |random, last, _| {
        ((50.0 + (last.min(200.0) - 50.0) * 0.9 + 2.0 * random.unit() - 1.0) * 1000.0).round() / 1000.0
    }),
    ("constant, 12 %", |_, last, _| last),
    ("uniform noise, 8 %", |random, _, _| 2.0 * random.unit() - 1.0),
    ("counter that stands still", |random, last, _| if random.unit() < 0.03 { last + 1.0 } else { last }),
    ("counter that is reset", |random, last, at| if at == 140 { 0.0 } else { last + (9.0 * random.unit()).round() }),
    ("gauge with stale markers", |random, _, at| {
        if at % 90 == 89 { f64::from_bits(0x7ff0_0000_0000_0002) } else { (1000.0 * random.unit()).round() }
    }),
    ("sine in full precision", |_, _, at| (at as f64 / 40.0).sin() * 100.0),
    ("latency, log-normal", |random, _, _| (random.unit() + random.unit() + random.unit() - 4.0).exp2()),
    ("seconds summed in full precision", |random, last, _| last + random.unit() / 10.0),
    ("any bits", |random, _, _| f64::from_bits(random.next())),
];

type Encode = fn(&mut Vec<u8>, &[i64], &[f64]);
type Decode = fn(&[u8], &mut Vec<f64>);

const CODECS: &[(&str, Encode, Decode)] = &[
    (
        "block",
        |out, _, values| floats::encode(out, values, &mut floats::Work::default()),
        |bytes, values| {
            let mut numbers = Vec::new();
            floats::decode(&mut Reader::new(bytes), SAMPLES, &mut numbers, values).expect("what was written");
        },
    ),
    ("gorilla, with times", put_gorilla, |bytes, values| {
        gorilla::decode(bytes, SAMPLES as u32, |_, value| values.push(value)).expect("what was written");
    }),
    (
        "plain",
        |out, _, values| values.iter().for_each(|own| out.extend_from_slice(&own.to_le_bytes())),
        |bytes, values| {
            let mut reader = Reader::new(bytes);
            while let Ok(value) = reader.f64() {
                values.push(value);
            }
        },
    ),
];

fn put_gorilla(out: &mut Vec<u8>, times: &[i64], values: &[f64]) {
    let mut appender = gorilla::Appender::default();
    times.iter().zip(values).for_each(|(t, value)| appender.push(*t, *value));
    out.extend_from_slice(&appender.seal().bits);
}

fn main() {
    let out = &mut std::io::stdout().lock();
    let regular: Vec<i64> = (0..SAMPLES as i64).map(|at| 1_760_000_000_000 + at * 15_000).collect();
    let _ = writeln!(out, "{:34} {:20} {:>8} {:>8} {:>7} {:>7}", "shape", "codec", "bytes", "zstd", "write", "read");
    for (shape, next) in SHAPES {
        let mut random = Random(0x9E37_79B9_7F4A_7C15);
        let blocks: Vec<Vec<f64>> = (0..BLOCKS)
            .map(|_| {
                let mut last = (1e6 * random.unit()).round();
                (0..SAMPLES).map(|at| (last = next(&mut random, last, at), last).1).collect()
            })
            .collect();
        for (codec, encode, decode) in CODECS {
            let _ = writeln!(out, "{shape:34} {codec:20} {}", measure(&blocks, &regular, *encode, *decode));
        }
    }
    columns_of_times(out);
    histograms(out);
}

fn nanoseconds(started: Instant, samples: usize) -> f64 {
    started.elapsed().as_nanos() as f64 / samples as f64
}

fn measure(blocks: &[Vec<f64>], times: &[i64], encode: Encode, decode: Decode) -> String {
    let samples = BLOCKS * SAMPLES;
    let (mut write, mut read, mut encoded) = (f64::MAX, f64::MAX, Vec::new());
    for _ in 0..5 {
        let started = Instant::now();
        encoded = blocks
            .iter()
            .map(|block| {
                let mut out = Vec::new();
                encode(&mut out, times, block);
                out
            })
            .collect();
        write = write.min(nanoseconds(started, samples));
        let (started, mut values) = (Instant::now(), Vec::with_capacity(SAMPLES));
        for bytes in &encoded {
            values.clear();
            decode(bytes, &mut values);
            black_box(&values);
        }
        read = read.min(nanoseconds(started, samples));
    }
    for (bytes, block) in encoded.iter().zip(blocks) {
        let mut values = Vec::new();
        decode(bytes, &mut values);
        assert!(values.iter().zip(block).all(|(a, b)| a.to_bits() == b.to_bits()), "what was written");
    }
    let bytes: usize = encoded.iter().map(Vec::len).sum();
    let packed = zstd::bulk::compress(&encoded.concat(), 1).expect("memory").len();
    let each = |bytes: usize| bytes as f64 / samples as f64;
    format!("{:8.3} {:8.3} {write:7.2} {read:7.2}", each(bytes), each(packed))
}

fn columns_of_times(out: &mut impl std::io::Write) {
    let mut random = Random(7);
    let mut jitter = |most: f64| (random.unit() * most) as i64;
    let regular: Vec<i64> = (0..SAMPLES as i64).map(|at| 1_760_000_000_000 + at * 15_000).collect();
    let late: Vec<i64> = regular.iter().map(|t| t + jitter(4.0)).collect();
    let any: Vec<i64> = regular.iter().map(|t| t + jitter(14_000.0)).collect();
    for (shape, column) in [("regular", regular), ("some milliseconds late", late), ("irregular", any)] {
        let mut bytes = Vec::new();
        pack::encode(&mut bytes, &column, &mut pack::Work::default());
        let started = Instant::now();
        for _ in 0..1000 {
            let mut numbers = Vec::new();
            pack::decode(&mut Reader::new(&bytes), SAMPLES, &mut numbers).expect("what was written");
            black_box(numbers);
        }
        let (each, read) = (bytes.len() as f64 / SAMPLES as f64, nanoseconds(started, 1000 * SAMPLES));
        let _ = writeln!(out, "times, {shape:27} {:20} {each:8.3} {:>8} {:>7} {read:7.2}", "block", "", "");
    }
}

fn histograms(out: &mut impl std::io::Write) {
    use trilith::model::histogram::{BucketSpan, Histogram};
    use trilith::model::sample::HistogramSample;
    let mut random = Random(7);
    for (shape, whole) in [("integer histograms, 20 buckets", true), ("float histograms, 20 buckets", false)] {
        let mut counts = vec![0.0; 20];
        let samples: Vec<HistogramSample> = (0..128)
            .map(|at| {
                for count in &mut counts {
                    let step = 20.0 * random.unit();
                    *count += if whole { step.round() } else { step };
                }
                let histogram = Histogram {
                    schema: 3,
                    count: counts.iter().sum(),
                    sum: counts.iter().sum::<f64>() * 0.37,
                    positive_spans: vec![BucketSpan { offset: -10, length: 20 }],
                    positive: counts.clone(),
                    ..Histogram::default()
                };
                HistogramSample { t: at * 15_000, start: 0, histogram: histogram.into() }
            })
            .collect();
        type Write = fn(&mut Vec<u8>, &[HistogramSample]);
        type Read = fn(&[u8]) -> Vec<HistogramSample>;
        let codecs: [(&str, Write, Read); 2] = [
            ("log record", histogram::encode, |bytes| histogram::decode(bytes, 128).expect("what was written")),
            (
                "block",
                |bytes, samples| histograms::encode(bytes, samples, &mut floats::Work::default()),
                |bytes| histograms::decode(bytes, 128, &mut Vec::new()).expect("what was written"),
            ),
        ];
        for (codec, write, read) in codecs {
            let started = Instant::now();
            let mut bytes = Vec::new();
            write(&mut bytes, &samples);
            let (write, started) = (nanoseconds(started, samples.len()), Instant::now());
            for _ in 0..100 {
                black_box(read(&bytes));
            }
            let packed = zstd::bulk::compress(&bytes, 1).expect("memory").len();
            let each = |bytes: usize| bytes as f64 / samples.len() as f64;
            let read = nanoseconds(started, 100 * samples.len());
            let line = format!("{:8.3} {:8.3} {write:7.0} {read:7.0}", each(bytes.len()), each(packed));
            let _ = writeln!(out, "{shape:34} {codec:20} {line}");
        }
    }
}
