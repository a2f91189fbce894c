//! Buckets of one sign as a list: out of spans and back, at a coarser resolution, added up.

use crate::model::histogram::BucketSpan;

/// Buckets of one sign, in order of their index.
pub(in crate::query::promql) type Buckets = Vec<(i32, f64)>;

pub(super) fn unpack(spans: &[BucketSpan], counts: &[f64]) -> Buckets {
    let mut buckets = Vec::with_capacity(counts.len());
    let mut index: i32 = 0;
    let mut counts = counts.iter();
    for span in spans {
        index = index.saturating_add(span.offset);
        for count in counts.by_ref().take(span.length as usize) {
            buckets.push((index, *count));
            index = index.saturating_add(1);
        }
    }
    buckets
}

pub(super) fn pack(buckets: &[(i32, f64)]) -> (Vec<BucketSpan>, Vec<f64>) {
    let mut spans: Vec<BucketSpan> = Vec::new();
    let mut next: i32 = 0;
    for (index, _) in buckets {
        match spans.last_mut() {
            Some(span) if *index == next => span.length += 1,
            _ => spans.push(BucketSpan { offset: index.saturating_sub(next), length: 1 }),
        }
        next = index.saturating_add(1);
    }
    (spans, buckets.iter().map(|(_, count)| *count).collect())
}

/// The upper bound of an exponential bucket.
pub(in crate::query::promql) fn exponential_bound(index: i32, schema: i32) -> f64 {
    if schema <= 0 {
        let exponent = i64::from(index) << (-schema).clamp(0, 16);
        return if exponent >= 1024 { f64::MAX } else { (exponent as f64).exp2() };
    }
    let schema = schema.min(20);
    let whole = index >> schema;
    let part = f64::from(index & ((1 << schema) - 1)) / f64::from(1 << schema);
    if whole >= 1024 { f64::MAX } else { f64::from(whole).exp2() * part.exp2() }
}

pub(super) fn coarser(buckets: &[(i32, f64)], by: u32) -> Buckets {
    let mut result: Buckets = Vec::with_capacity(buckets.len());
    for (index, count) in buckets {
        let index = (index.saturating_sub(1) >> by.min(31)).saturating_add(1);
        match result.last_mut() {
            Some((last, sum)) if *last == index => *sum += count,
            _ => result.push((index, *count)),
        }
    }
    result
}

pub(super) fn merged(a: &[(i32, f64)], b: &[(i32, f64)], sign: f64) -> Buckets {
    let mut result = Vec::with_capacity(a.len().max(b.len()));
    let (mut left, mut right) = (a.iter().copied().peekable(), b.iter().copied().peekable());
    loop {
        match (left.peek().copied(), right.peek().copied()) {
            (Some((i, x)), Some((j, y))) if i == j => {
                result.push((i, x + sign * y));
                left.next();
                right.next();
            }
            (Some((i, x)), Some((j, _))) if i < j => {
                result.push((i, x));
                left.next();
            }
            (Some((i, x)), None) => {
                result.push((i, x));
                left.next();
            }
            (_, Some((j, y))) => {
                result.push((j, sign * y));
                right.next();
            }
            (None, None) => return result,
        }
    }
}
