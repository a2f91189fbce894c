//! Native histograms as samples: scaled, written, and the share of a bucket that lies below a bound.

use std::sync::Arc;

use super::native::{Bucket, Work};
use super::stat;
use super::value::Cell;
use crate::model::histogram::{Histogram, ResetHint};

/// A histogram times a number.
pub(super) fn scaled(histogram: &Arc<Histogram>, factor: f64) -> Cell {
    let mut work = Work::from(histogram.as_ref());
    work.scale(factor);
    Cell::Histogram(Arc::new(work.into()))
}

/// A histogram divided by a number; by zero, nothing is left of its buckets.
pub(super) fn divided(histogram: &Arc<Histogram>, divisor: f64) -> Cell {
    let mut work = Work::from(histogram.as_ref());
    work.map(|value| value / divisor);
    if divisor == 0.0 {
        work.positive.clear();
        work.negative.clear();
    }
    if divisor < 0.0 {
        work.hint = ResetHint::Gauge;
    }
    Cell::Histogram(Arc::new(work.into()))
}

/// A histogram as a label value.
pub(super) fn text(histogram: &Arc<Histogram>) -> String {
    let work = Work::from(histogram.as_ref());
    let mut text = format!("{{count:{}, sum:{}", stat::general(work.count), stat::general(work.sum));
    for bucket in work.buckets() {
        let open = if bucket.lower_in { '[' } else { '(' };
        let close = if bucket.upper_in { ']' } else { ')' };
        let [lower, upper, count] = [bucket.lower, bucket.upper, bucket.count].map(stat::general);
        text += &format!(", {open}{lower},{upper}{close}:{count}");
    }
    text + "}"
}

/// The bounds between which a bucket's observations are taken to lie. The zero bucket is one-sided
/// where the histogram is; custom buckets start at zero unless they end below it.
pub(super) fn span(bucket: &Bucket, custom: bool, has_positive: bool, has_negative: bool) -> (f64, f64) {
    let (mut low, mut high) = (bucket.lower, bucket.upper);
    if custom {
        if low == f64::NEG_INFINITY {
            low = if high > 0.0 { 0.0 } else { high };
        }
        if high == f64::INFINITY {
            high = low;
        }
    } else if low < 0.0 && high > 0.0 {
        if !has_negative && has_positive {
            low = 0.0;
        } else if !has_positive && has_negative {
            high = 0.0;
        }
    }
    (low, high)
}

/// Whether observations are taken to lie evenly between two bounds.
pub(super) fn is_linear(custom: bool, low: f64, high: f64) -> bool {
    custom || (low <= 0.0 && high >= 0.0)
}

/// The share of a bucket's observations that lie below `bound`.
pub(super) fn share_below(bucket: &Bucket, bound: f64, custom: bool, has_positive: bool, has_negative: bool) -> f64 {
    if bucket.lower == bucket.upper {
        // A zero bucket without width begins at zero and ends there.
        return f64::from(u8::from(bound > bucket.upper));
    }
    if bound >= bucket.upper {
        return 1.0;
    }
    if bound <= bucket.lower {
        return 0.0;
    }
    let (low, high) = span(bucket, custom, has_positive, has_negative);
    if bound >= high {
        return if bucket.upper == f64::INFINITY { 0.0 } else { 1.0 };
    }
    if bound <= low {
        return 0.0;
    }
    if is_linear(custom, low, high) {
        return (bound - low) / (high - low);
    }
    let (a, b, x) = (low.abs().log2(), high.abs().log2(), bound.abs().log2());
    (x - a) / (b - a)
}
