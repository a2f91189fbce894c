//! Chunks: the samples of one series, floats or native histograms. Bounded: what a chunk may become
//! in memory is one sample at a time, and each number of it took at least a bit.

use std::sync::Arc;

use super::bits::{Bits, Window};
use super::bytes::{Bytes, checked, malformed};
use crate::model::histogram::{BucketSpan, CUSTOM_BUCKETS_SCHEMA, Histogram, ResetHint};
use crate::model::sample::{HistogramSample, Sample, is_stale};
use crate::wire::error::WireError;
use crate::wire::prometheus_histogram::{SCHEMA_SENT_MAX, coarsen};

/// Longest chunk that is read, in bytes. Prometheus writes about 1 KiB.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;
/// Bytes of a chunk besides its data, at most: length, encoding, checksum.
pub const FRAME_BYTES_MAX: usize = 5 + 1 + 4;
/// Bytes before the first chunk of a file.
pub const FILE_HEAD_BYTES: usize = 8;

const MAGIC: u32 = 0x85BD_40DD;
const SPANS_MAX: u64 = 20_000;
const BUCKETS_MAX: u64 = 20_000;

/// Checks how a file of chunks begins.
///
/// # Errors
/// [`WireError::Malformed`].
pub fn check_head(head: &[u8]) -> Result<(), WireError> {
    let mut bytes = Bytes(head);
    let (magic, [version]) = (bytes.u32()?, bytes.array()?);
    if magic != MAGIC || version != 1 {
        return Err(malformed(format!("a file of chunks begins with {magic:08x}, version {version}")));
    }
    Ok(())
}

/// Bytes of the chunk that begins with `bytes`, with all that is around it.
///
/// # Errors
/// [`WireError`].
pub fn frame_bytes(bytes: &[u8]) -> Result<usize, WireError> {
    let mut reader = Bytes(bytes);
    let length = reader.uvarint()?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > CHUNK_BYTES_MAX {
        return Err(WireError::TooLarge { what: "bytes of a chunk", limit: CHUNK_BYTES_MAX as u64 });
    }
    Ok(bytes.len() - reader.0.len() + 1 + length + 4)
}

/// One sample of a chunk.
#[derive(Clone, Debug)]
pub enum Point {
    /// A float.
    Float(Sample),
    /// A native histogram.
    Histogram(HistogramSample),
}

/// Hands out the samples of the chunk in `frame`, of the length that [`frame_bytes`] gave.
///
/// # Errors
/// [`WireError`]; what was handed out before is good.
pub fn decode(frame: &[u8], visit: &mut dyn FnMut(Point)) -> Result<(), WireError> {
    let mut reader = Bytes(frame);
    let _length = reader.uvarint()?;
    let body = checked(reader.0, "a chunk")?;
    let (encoding, data) = body.split_first().ok_or_else(|| malformed("a chunk is empty"))?;
    let (count, rest) = data.split_first_chunk::<2>().ok_or_else(|| malformed("a chunk is too short"))?;
    let count = u16::from_be_bytes(*count);
    match encoding {
        1 => floats(count, Bits::new(rest), visit),
        2 => histograms::<i64>(count, Bits::new(rest), visit),
        3 => histograms::<f64>(count, Bits::new(rest), visit),
        other => Err(malformed(format!("chunk encoding {other} is not known; it is of a newer Prometheus"))),
    }
}

fn floats(count: u16, mut bits: Bits<'_>, visit: &mut dyn FnMut(Point)) -> Result<(), WireError> {
    let (mut t, mut delta, mut value) = (0i64, 0i64, 0f64);
    let mut window = Window::default();
    for at in 0..count {
        match at {
            0 => (t, value) = (bits.varint()?, bits.float()?),
            1 => delta = bits.uvarint()?.cast_signed(),
            _ => delta = delta.wrapping_add(bits.time()?),
        }
        if at > 0 {
            t = t.wrapping_add(delta);
            value = bits.xor(value, &mut window)?;
        }
        visit(Point::Float(Sample { t, value }));
    }
    Ok(())
}

/// How a kind of histogram writes its numbers: integers as differences, floats as XOR.
trait Number: Sized + Default {
    /// A count.
    fn count(bits: &mut Bits<'_>) -> Result<Self, WireError>;
    /// A bucket of the first sample.
    fn bucket(bits: &mut Bits<'_>) -> Result<Self, WireError>;
    /// The same number in the next sample; `second` when it is the second.
    fn next(&mut self, second: bool, bits: &mut Bits<'_>) -> Result<(), WireError>;
    fn value(&self) -> f64;
    /// Counts of buckets: integers are differences to the bucket before.
    fn buckets(all: &[Self]) -> Vec<f64>;
}

/// An integer and its last difference.
#[derive(Clone, Copy, Debug, Default)]
struct Integer {
    value: i64,
    delta: i64,
}

impl Number for Integer {
    fn count(bits: &mut Bits<'_>) -> Result<Self, WireError> {
        Ok(Self { value: bits.varbit_uint()?.cast_signed(), delta: 0 })
    }

    fn bucket(bits: &mut Bits<'_>) -> Result<Self, WireError> {
        Ok(Self { value: bits.varbit_int()?, delta: 0 })
    }

    fn next(&mut self, second: bool, bits: &mut Bits<'_>) -> Result<(), WireError> {
        let read = bits.varbit_int()?;
        self.delta = if second { read } else { self.delta.wrapping_add(read) };
        self.value = self.value.wrapping_add(self.delta);
        Ok(())
    }

    fn value(&self) -> f64 {
        self.value.cast_unsigned() as f64
    }

    fn buckets(all: &[Self]) -> Vec<f64> {
        let mut sum = 0i64;
        let absolute = |own: &Self| {
            sum = sum.wrapping_add(own.value);
            sum as f64
        };
        all.iter().map(absolute).collect()
    }
}

/// A float and the window of its last XOR.
#[derive(Clone, Copy, Debug, Default)]
struct Float {
    value: f64,
    window: Window,
}

impl Number for Float {
    fn count(bits: &mut Bits<'_>) -> Result<Self, WireError> {
        Ok(Self { value: bits.float()?, window: Window::default() })
    }

    fn bucket(bits: &mut Bits<'_>) -> Result<Self, WireError> {
        Self::count(bits)
    }

    fn next(&mut self, _: bool, bits: &mut Bits<'_>) -> Result<(), WireError> {
        self.value = bits.xor(self.value, &mut self.window)?;
        Ok(())
    }

    fn value(&self) -> f64 {
        self.value
    }

    fn buckets(all: &[Self]) -> Vec<f64> {
        all.iter().map(|own| own.value).collect()
    }
}

/// The kind of number of a histogram's counts.
trait Counts {
    type Number: Number;
}

impl Counts for i64 {
    type Number = Integer;
}

impl Counts for f64 {
    type Number = Float;
}

/// What all samples of a chunk share.
struct Layout {
    hint: ResetHint,
    zero_threshold: f64,
    schema: i32,
    positive: Vec<BucketSpan>,
    negative: Vec<BucketSpan>,
    bounds: Vec<f64>,
}

fn layout(bits: &mut Bits<'_>) -> Result<Layout, WireError> {
    // Whether the first sample is a reset; later ones of a chunk are compared, like all others.
    let hint = match bits.byte()? >> 6 {
        2 => ResetHint::Reset,
        3 => ResetHint::Gauge,
        _ => ResetHint::Unknown,
    };
    let zero_threshold = match bits.byte()? {
        0 => 0.0,
        255 => bits.float()?,
        power => 2f64.powi(i32::from(power) - 244),
    };
    let schema = i32::try_from(bits.varbit_int()?)
        .ok()
        .filter(|own| matches!(*own, CUSTOM_BUCKETS_SCHEMA | -4..=SCHEMA_SENT_MAX));
    let schema = schema.ok_or_else(|| malformed("a histogram has an unknown schema"))?;
    let (positive, negative) = (spans(bits)?, spans(bits)?);
    let bounds = if schema == CUSTOM_BUCKETS_SCHEMA { bounds(bits)? } else { Vec::new() };
    Ok(Layout { hint, zero_threshold, schema, positive, negative, bounds })
}

fn spans(bits: &mut Bits<'_>) -> Result<Vec<BucketSpan>, WireError> {
    let count = bits.varbit_uint()?;
    // A span takes at least two bits.
    if count > SPANS_MAX || count > bits.left() as u64 / 2 {
        return Err(malformed(format!("a histogram cannot have {count} spans")));
    }
    let mut spans = Vec::new();
    let (mut buckets, mut end) = (0u64, 0i64);
    for at in 0..count {
        let (length, offset) = (bits.varbit_uint()?, bits.varbit_int()?);
        buckets = buckets.saturating_add(length);
        end = end.saturating_add(offset).saturating_add(length.min(BUCKETS_MAX + 1).cast_signed());
        let span = u32::try_from(length).ok().zip(i32::try_from(offset).ok());
        let Some((length, offset)) = span.filter(|_| buckets <= BUCKETS_MAX && i32::try_from(end).is_ok()) else {
            return Err(malformed("a histogram has too many buckets"));
        };
        if at > 0 && offset < 0 {
            return Err(malformed("a histogram's spans overlap"));
        }
        spans.push(BucketSpan { offset, length });
    }
    Ok(spans)
}

fn bounds(bits: &mut Bits<'_>) -> Result<Vec<f64>, WireError> {
    let count = bits.varbit_uint()?;
    if count > BUCKETS_MAX || count > bits.left() as u64 {
        return Err(malformed(format!("a histogram cannot have {count} bounds")));
    }
    let mut bounds = Vec::new();
    for _ in 0..count {
        bounds.push(match bits.varbit_uint()? {
            0 => bits.float()?,
            thousandths => (thousandths - 1) as f64 / 1000.0,
        });
    }
    Ok(bounds)
}

fn buckets<N: Number>(spans: &[BucketSpan], bits: &mut Bits<'_>) -> Result<Vec<N>, WireError> {
    let count: usize = spans.iter().map(|span| span.length as usize).sum();
    if count > bits.left() {
        return Err(malformed("a chunk ends too early"));
    }
    (0..count).map(|_| N::bucket(bits)).collect()
}

fn histograms<C: Counts>(count: u16, mut bits: Bits<'_>, visit: &mut dyn FnMut(Point)) -> Result<(), WireError> {
    if count == 0 {
        return Ok(());
    }
    let layout = layout(&mut bits)?;
    let mut t = bits.varbit_int()?;
    let (mut total, mut zero) = (C::Number::count(&mut bits)?, C::Number::count(&mut bits)?);
    let mut sum = Float::count(&mut bits)?;
    let mut positive: Vec<C::Number> = buckets(&layout.positive, &mut bits)?;
    let mut negative: Vec<C::Number> = buckets(&layout.negative, &mut bits)?;
    let mut delta = 0i64;
    for at in 0..count {
        let second = at == 1;
        if at > 0 {
            let read = bits.varbit_int()?;
            delta = if second { read } else { delta.wrapping_add(read) };
            t = t.wrapping_add(delta);
            total.next(second, &mut bits)?;
            zero.next(second, &mut bits)?;
            sum.next(second, &mut bits)?;
            // A stale marker has no buckets.
            if !is_stale(sum.value) {
                positive.iter_mut().chain(&mut negative).try_for_each(|own| own.next(second, &mut bits))?;
            }
        }
        let hint = if at > 0 && layout.hint == ResetHint::Reset { ResetHint::Unknown } else { layout.hint };
        let histogram = if is_stale(sum.value) {
            Histogram { sum: sum.value, ..Histogram::default() }
        } else {
            Histogram {
                reset_hint: hint,
                schema: layout.schema,
                zero_threshold: layout.zero_threshold,
                zero_count: zero.value(),
                count: total.value(),
                sum: sum.value,
                positive_spans: layout.positive.clone(),
                positive: C::Number::buckets(&positive),
                negative_spans: layout.negative.clone(),
                negative: C::Number::buckets(&negative),
                custom_bounds: layout.bounds.clone(),
            }
        };
        let mut histogram = histogram;
        coarsen(&mut histogram).map_err(|refusal| malformed(refusal.text))?;
        visit(Point::Histogram(HistogramSample { t, start: 0, histogram: Arc::new(histogram) }));
    }
    Ok(())
}
