//! Native histograms on the wire (the same message in remote write 1.0 and 2.0), checked: what the
//! store gets has as many counts as its spans say, none of them negative, and a resolution of at most
//! [`SCHEMA_MAX`]: finer buckets are joined, as Prometheus joins them.
//! Spec: <https://prometheus.io/docs/specs/native_histograms/>.

use std::sync::Arc;

use super::error::WireError;
use super::label_check::Refusal;
use super::limits::{Meter, Options};
use super::protobuf::{Reader, Value, zigzag};
use crate::model::histogram::{BucketSpan, CUSTOM_BUCKETS_SCHEMA, Histogram, ResetHint};
use crate::model::sample::{HistogramSample, is_stale};

/// The finest resolution that is stored.
const SCHEMA_MAX: i32 = 8;
/// The finest that is taken.
pub(super) const SCHEMA_SENT_MAX: i32 = 52;

/// One side's buckets as sent: deltas of integer counts, or float counts.
#[derive(Default)]
struct Side {
    spans: Vec<BucketSpan>,
    deltas: Vec<i64>,
    counts: Vec<f64>,
}

#[derive(Default)]
struct Raw {
    histogram: Histogram,
    positive: Side,
    negative: Side,
    is_float: bool,
    t: i64,
    /// Sent by remote write 2.0 only.
    start: i64,
}

fn refuse(text: impl Into<String>) -> Refusal {
    Refusal::new("invalid_histogram", text)
}

/// Decodes and checks one histogram.
pub(super) fn decode(
    message: &[u8],
    options: &Options,
    meter: &mut Meter,
) -> Result<Result<HistogramSample, Refusal>, WireError> {
    // A packed varint of one byte becomes a delta and a count of eight bytes each.
    meter.take(size_of::<Histogram>() + 16 + 16usize.saturating_mul(message.len().min(options.buckets_max)))?;
    let raw = read(message, options)?;
    Ok(raw.and_then(check))
}

fn read(message: &[u8], options: &Options) -> Result<Result<Raw, Refusal>, WireError> {
    let mut raw = Raw::default();
    let mut reader = Reader::new(message);
    while let Some((number, value)) = reader.field()? {
        match number {
            1 => raw.histogram.count = value.varint()? as f64,
            2 => {
                raw.histogram.count = value.double()?;
                raw.is_float = true;
            }
            3 => raw.histogram.sum = value.double()?,
            4 => raw.histogram.schema = value.sint32()?,
            5 => raw.histogram.zero_threshold = value.double()?,
            6 => raw.histogram.zero_count = value.varint()? as f64,
            7 => raw.histogram.zero_count = value.double()?,
            8 => raw.negative.spans.push(span(value.bytes()?)?),
            9 => varints(value, &mut raw.negative.deltas, options)?,
            10 => doubles(value, &mut raw.negative.counts, options)?,
            11 => raw.positive.spans.push(span(value.bytes()?)?),
            12 => varints(value, &mut raw.positive.deltas, options)?,
            13 => doubles(value, &mut raw.positive.counts, options)?,
            14 => raw.histogram.reset_hint = reset_hint(value.varint()?),
            15 => raw.t = value.int()?,
            16 => doubles(value, &mut raw.histogram.custom_bounds, options)?,
            17 => raw.start = value.int()?,
            _ => {}
        }
        if raw.is_over(options.buckets_max) {
            return Ok(Err(refuse(format!("more than {} buckets or spans", options.buckets_max))));
        }
    }
    Ok(Ok(raw))
}

impl Raw {
    fn is_over(&self, max: usize) -> bool {
        let over = |side: &Side| side.spans.len() > max || side.deltas.len() > max || side.counts.len() > max;
        over(&self.positive) || over(&self.negative) || self.histogram.custom_bounds.len() > max
    }
}

fn reset_hint(number: u64) -> ResetHint {
    match number {
        1 => ResetHint::Reset,
        2 => ResetHint::NotReset,
        3 => ResetHint::Gauge,
        _ => ResetHint::Unknown,
    }
}

fn span(message: &[u8]) -> Result<BucketSpan, WireError> {
    let mut span = BucketSpan { offset: 0, length: 0 };
    let mut reader = Reader::new(message);
    while let Some((number, value)) = reader.field()? {
        match number {
            1 => span.offset = value.sint32()?,
            2 => span.length = value.uint32()?,
            _ => {}
        }
    }
    Ok(span)
}

/// Adds packed or single zigzag numbers, at most one over the limit.
fn varints(value: Value<'_>, out: &mut Vec<i64>, options: &Options) -> Result<(), WireError> {
    let Value::Bytes(packed) = value else {
        out.push(zigzag(value.varint()?));
        return Ok(());
    };
    let mut reader = Reader::new(packed);
    while !reader.is_empty() && out.len() <= options.buckets_max {
        out.push(zigzag(reader.varint()?));
    }
    Ok(())
}

fn doubles(value: Value<'_>, out: &mut Vec<f64>, options: &Options) -> Result<(), WireError> {
    let Value::Bytes(packed) = value else {
        out.push(value.double()?);
        return Ok(());
    };
    let mut reader = Reader::new(packed);
    while !reader.is_empty() && out.len() <= options.buckets_max {
        out.push(reader.double()?);
    }
    Ok(())
}

fn check(raw: Raw) -> Result<HistogramSample, Refusal> {
    let Raw { mut histogram, positive, negative, is_float, t, start } = raw;
    histogram.positive = counts(&positive, is_float, "positive")?;
    histogram.negative = counts(&negative, is_float, "negative")?;
    histogram.positive_spans = positive.spans;
    histogram.negative_spans = negative.spans;
    match histogram.schema {
        CUSTOM_BUCKETS_SCHEMA => check_custom(&histogram)?,
        -4..=SCHEMA_SENT_MAX if !histogram.custom_bounds.is_empty() => {
            return Err(refuse("custom bounds need schema -53"));
        }
        -4..=SCHEMA_SENT_MAX => {}
        other => return Err(refuse(format!("schema {other} is not one of -4 to {SCHEMA_SENT_MAX} and -53"))),
    }
    if is_no_count(histogram.zero_threshold) || is_no_count(histogram.zero_count) {
        return Err(refuse("the zero bucket is negative or not a number"));
    }
    check_count(&histogram, is_float)?;
    coarsen(&mut histogram)?;
    Ok(HistogramSample { t, start, histogram: Arc::new(histogram) })
}

/// Joins buckets until the resolution is at most [`SCHEMA_MAX`].
pub(super) fn coarsen(histogram: &mut Histogram) -> Result<(), Refusal> {
    if histogram.schema <= SCHEMA_MAX {
        return Ok(());
    }
    let shift = histogram.schema - SCHEMA_MAX;
    (histogram.positive_spans, histogram.positive) = joined(&histogram.positive_spans, &histogram.positive, shift)?;
    (histogram.negative_spans, histogram.negative) = joined(&histogram.negative_spans, &histogram.negative, shift)?;
    histogram.schema = SCHEMA_MAX;
    Ok(())
}

/// One side with 2^`shift` neighbours in one bucket: bucket i reaches up to base^i, itself included.
fn joined(spans: &[BucketSpan], counts: &[f64], shift: i32) -> Result<(Vec<BucketSpan>, Vec<f64>), Refusal> {
    let (mut to, mut sums) = (Vec::<BucketSpan>::new(), Vec::<f64>::new());
    let (mut index, mut end) = (0i64, 0i64);
    let mut counts = counts.iter();
    for span in spans {
        index += i64::from(span.offset);
        for count in counts.by_ref().take(span.length as usize) {
            let own = ((index - 1) >> shift) + 1;
            index += 1;
            match (sums.last_mut(), to.last_mut()) {
                (Some(sum), _) if own + 1 == end => *sum += count,
                (_, Some(last)) if own == end => {
                    last.length += 1;
                    sums.push(*count);
                }
                _ => {
                    let offset = i32::try_from(own - end).map_err(|_| refuse("a bucket is out of range"))?;
                    to.push(BucketSpan { offset, length: 1 });
                    sums.push(*count);
                }
            }
            end = own + 1;
        }
    }
    Ok((to, sums))
}

/// Absolute counts of one side, as many as its spans say.
fn counts(side: &Side, is_float: bool, name: &str) -> Result<Vec<f64>, Refusal> {
    let mut buckets = 0u64;
    let mut end = 0i64;
    for (at, span) in side.spans.iter().enumerate() {
        if at > 0 && span.offset < 0 {
            return Err(refuse(format!("{name} span {at} has the negative offset {}", span.offset)));
        }
        buckets += u64::from(span.length);
        end += i64::from(span.offset) + i64::from(span.length);
    }
    let sent = if is_float { side.counts.len() } else { side.deltas.len() };
    if buckets != sent as u64 {
        return Err(refuse(format!("{name} spans say {buckets} buckets, {sent} were sent")));
    }
    if i32::try_from(end).is_err() {
        return Err(refuse(format!("{name} spans end beyond any bucket, at {end}")));
    }
    let counts = if is_float { side.counts.clone() } else { absolute(&side.deltas, name)? };
    match counts.iter().find(|count| is_no_count(**count)) {
        Some(count) => Err(refuse(format!("a {name} bucket has the count {count}"))),
        None => Ok(counts),
    }
}

/// Whether a number cannot be a count or a width: negative, or not a number.
fn is_no_count(number: f64) -> bool {
    number.is_nan() || number < 0.0
}

fn absolute(deltas: &[i64], name: &str) -> Result<Vec<f64>, Refusal> {
    let mut sum = 0i64;
    let mut counts = Vec::with_capacity(deltas.len());
    for delta in deltas {
        sum = sum.checked_add(*delta).ok_or_else(|| refuse(format!("a {name} bucket overflows")))?;
        counts.push(sum as f64);
    }
    Ok(counts)
}

fn check_custom(histogram: &Histogram) -> Result<(), Refusal> {
    let bounds = &histogram.custom_bounds;
    let ascending = bounds.windows(2).all(|two| matches!(two, [a, b] if a < b));
    if !ascending || bounds.iter().any(|bound| bound.is_nan() || *bound == f64::INFINITY) {
        return Err(refuse("custom bounds must ascend and be below +Inf"));
    }
    if !histogram.negative.is_empty() || histogram.zero_count != 0.0 {
        return Err(refuse("custom buckets allow no negative and no zero bucket"));
    }
    let start = histogram.positive_spans.first().map_or(0, |span| span.offset);
    let end: i64 = histogram.positive_spans.iter().map(|span| i64::from(span.offset) + i64::from(span.length)).sum();
    if start < 0 || end > bounds.len() as i64 + 1 {
        return Err(refuse(format!("custom buckets end at {end}, there are {} bounds", bounds.len())));
    }
    Ok(())
}

/// The count of an integer histogram is that of its buckets, or more when NaN was observed.
fn check_count(histogram: &Histogram, is_float: bool) -> Result<(), Refusal> {
    if is_stale(histogram.sum) {
        return Ok(());
    }
    if is_no_count(histogram.count) {
        return Err(refuse(format!("the count is {}", histogram.count)));
    }
    let buckets =
        histogram.zero_count + histogram.positive.iter().sum::<f64>() + histogram.negative.iter().sum::<f64>();
    let wrong = if histogram.sum.is_nan() { histogram.count < buckets } else { histogram.count != buckets };
    // Counts beyond 2^53 are rounded, so their sum need not agree.
    if !is_float && wrong && buckets < 9e15 {
        return Err(refuse(format!("the count is {}, the buckets hold {buckets}", histogram.count)));
    }
    Ok(())
}
