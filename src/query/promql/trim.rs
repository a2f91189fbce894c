//! The trim operators on native histograms: `h </ x` keeps what lies below x, `h >/ x` what lies
//! above. A bucket that x cuts is split by interpolation.

use std::sync::Arc;

use super::histograms::share_below;
use super::native::{Bucket, Work};
use super::value::Cell;
use crate::model::histogram::Histogram;

/// The part of a histogram below `bound` (or, when not `upper`, above).
pub(super) fn trimmed(histogram: &Arc<Histogram>, bound: f64, upper: bool) -> Cell {
    let mut work = Work::from(histogram.as_ref());
    work.compact();
    if bound.is_nan() {
        work.map(|_| f64::NAN);
        return Cell::Histogram(Arc::new(work.into()));
    }
    let custom = work.is_custom();
    let (has_positive, has_negative) = (!work.positive.is_empty(), !work.negative.is_empty());
    let (mut kept_sum, mut kept_count, mut changed) = (0.0, 0.0, false);
    let mut keep = |bucket: Bucket| {
        if let Some((share, at)) = unbounded(&bucket, bound, custom, upper) {
            let count = bucket.count * share;
            changed = true;
            kept_count += count;
            kept_sum += count * at;
            return count;
        }
        let below = share_below(&bucket, bound, custom, has_positive, has_negative);
        let share = if upper { below } else { 1.0 - below };
        let count = bucket.count * share;
        changed |= share < 1.0;
        kept_count += count;
        if count != 0.0 {
            kept_sum += count * middle(&bucket, bound, upper, share, custom, has_positive, has_negative);
        }
        count
    };
    let reference = work.clone();
    for (index, count) in &mut work.positive {
        *count = keep(reference.bucket_above(*index, *count));
    }
    for (index, count) in &mut work.negative {
        *count = keep(reference.bucket_below(*index, *count));
    }
    if work.zero_count != 0.0 {
        let wide = work.zero_threshold;
        let zero = Bucket { lower: -wide, upper: wide, lower_in: true, upper_in: true, count: work.zero_count };
        work.zero_count = keep(zero);
    }
    if changed {
        work.count = kept_count;
        work.sum = kept_sum;
    }
    Cell::Histogram(Arc::new(work.into()))
}

/// What is kept of a custom bucket that `bound` cuts and that has no lower or no upper bound, where
/// there is nothing to interpolate between: the share, and where it lies.
fn unbounded(bucket: &Bucket, bound: f64, custom: bool, upper: bool) -> Option<(f64, f64)> {
    let cut = custom && bucket.lower < bound && bound < bucket.upper;
    match (bucket.lower.is_infinite(), bucket.upper.is_infinite()) {
        (true, true) if cut => Some((0.0, bound)),
        (false, true) if cut => Some((if upper { 0.0 } else { 1.0 }, bound)),
        (true, false) if cut && bucket.upper <= 0.0 => Some((if upper { 1.0 } else { 0.0 }, bound)),
        // A bucket that ends above zero is taken to begin there.
        (true, false) if cut && bound < 0.0 => Some((0.0, bound)),
        _ => None,
    }
}

/// Where the observations that are left of a bucket lie on average.
fn middle(
    bucket: &Bucket,
    bound: f64,
    upper: bool,
    share: f64,
    custom: bool,
    has_positive: bool,
    has_negative: bool,
) -> f64 {
    let (mut low, mut high) = (bucket.lower, bucket.upper);
    let zero = !custom && low < 0.0 && high > 0.0 || (low == 0.0 && high == 0.0);
    if zero && !has_negative && has_positive {
        low = 0.0;
    }
    if zero && !has_positive && has_negative {
        high = 0.0;
    }
    if custom && low == f64::NEG_INFINITY {
        low = if high > 0.0 { 0.0 } else { high };
    }
    if custom && high == f64::INFINITY {
        high = low;
    }
    if share < 1.0 {
        if upper {
            high = high.min(bound);
        } else {
            low = low.max(bound);
        }
    }
    if custom || zero {
        return (low + high) / 2.0;
    }
    let mean = (low.abs() * high.abs()).sqrt();
    if high <= 0.0 { -mean } else { mean }
}
