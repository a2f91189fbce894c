//! Arithmetic on native histograms. Buckets are worked on as a sorted list of (index, count), the
//! index of a bucket being the number of its upper bound: base^index, or the custom bound.
//! Spec: https://prometheus.io/docs/specs/native_histograms/

mod buckets;

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::stat;
use crate::model::histogram::{CUSTOM_BUCKETS_SCHEMA, Histogram, ResetHint};
use crate::query::pace::Pace;

pub(super) use buckets::{Buckets, exponential_bound};

use buckets::{coarser, merged, pack, unpack};

/// A histogram in a form that is easy to compute with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Work {
    /// What is known about resets.
    pub hint: ResetHint,
    /// Resolution, or custom buckets.
    pub schema: i32,
    /// Width of the zero bucket.
    pub zero_threshold: f64,
    /// Observations in it.
    pub zero_count: f64,
    /// All observations.
    pub count: f64,
    /// Their sum.
    pub sum: f64,
    /// Buckets above zero.
    pub positive: Buckets,
    /// Buckets below zero.
    pub negative: Buckets,
    /// Custom bounds.
    pub bounds: Vec<f64>,
}

/// One bucket with its bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// Lower bound.
    pub lower: f64,
    /// Upper bound.
    pub upper: f64,
    /// Whether the lower bound is in.
    pub lower_in: bool,
    /// Whether the upper bound is in.
    pub upper_in: bool,
    /// Observations.
    pub count: f64,
}

/// Two histograms of which one has custom buckets and the other has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incompatible;

/// What adding had to do besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// Custom bounds differed, only the common ones were kept.
    pub reconciled: bool,
    /// One said there was a reset, the other that there was none.
    pub conflict: bool,
}

impl From<&Histogram> for Work {
    fn from(histogram: &Histogram) -> Self {
        Self {
            hint: histogram.reset_hint,
            schema: histogram.schema,
            zero_threshold: histogram.zero_threshold,
            zero_count: histogram.zero_count,
            count: histogram.count,
            sum: histogram.sum,
            positive: unpack(&histogram.positive_spans, &histogram.positive),
            negative: unpack(&histogram.negative_spans, &histogram.negative),
            bounds: histogram.custom_bounds.clone(),
        }
    }
}

impl From<Work> for Histogram {
    fn from(mut work: Work) -> Self {
        work.compact();
        let (positive_spans, positive) = pack(&work.positive);
        let (negative_spans, negative) = pack(&work.negative);
        Self {
            reset_hint: work.hint,
            schema: work.schema,
            zero_threshold: work.zero_threshold,
            zero_count: work.zero_count,
            count: work.count,
            sum: work.sum,
            positive_spans,
            positive,
            negative_spans,
            negative,
            custom_bounds: work.bounds,
        }
    }
}

impl Work {
    /// How many buckets and bounds there are, and one for all else.
    pub(super) fn len(&self) -> usize {
        1 + self.positive.len() + self.negative.len() + self.bounds.len()
    }

    /// Whether the buckets have custom bounds.
    pub fn is_custom(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }

    /// A histogram without observations in buckets like those of this one.
    pub fn nothing(&self) -> Self {
        let Self { schema, zero_threshold, ref bounds, .. } = *self;
        Self { schema, zero_threshold, bounds: bounds.clone(), ..Self::default() }
    }

    /// Leaves out empty buckets.
    pub fn compact(&mut self) {
        self.positive.retain(|(_, count)| *count != 0.0);
        self.negative.retain(|(_, count)| *count != 0.0);
    }

    /// Makes every number the result of `f`.
    pub fn map(&mut self, f: impl Fn(f64) -> f64) {
        for value in [&mut self.zero_count, &mut self.count, &mut self.sum] {
            *value = f(*value);
        }
        for (_, count) in self.positive.iter_mut().chain(&mut self.negative) {
            *count = f(*count);
        }
    }

    /// Multiplies by a number; a negative one makes a gauge of it.
    pub fn scale(&mut self, factor: f64) {
        self.map(|value| value * factor);
        if factor < 0.0 {
            self.hint = ResetHint::Gauge;
        }
    }

    /// Lowers the resolution to `schema`.
    pub fn reduce(&mut self, schema: i32) {
        if self.is_custom() || schema >= self.schema {
            return;
        }
        let by = self.schema.abs_diff(schema);
        self.positive = coarser(&self.positive, by);
        self.negative = coarser(&self.negative, by);
        self.schema = schema;
    }

    /// The width that the zero bucket takes when it must be at least `threshold` wide: to the end
    /// of a bucket that holds something.
    fn widened(&self, threshold: f64) -> f64 {
        let mut wide = threshold;
        for (index, count) in self.positive.iter().chain(&self.negative) {
            let lower = exponential_bound(index.saturating_sub(1), self.schema);
            let upper = exponential_bound(*index, self.schema);
            if *count != 0.0 && lower < threshold && threshold < upper {
                wide = wide.max(upper);
            }
        }
        wide
    }

    fn absorb(&mut self, threshold: f64) {
        let schema = self.schema;
        let inside = |index: i32| exponential_bound(index, schema) <= threshold;
        for buckets in [&mut self.positive, &mut self.negative] {
            for (index, count) in buckets.iter() {
                if inside(*index) {
                    self.zero_count += count;
                }
            }
            buckets.retain(|(index, _)| !inside(*index));
        }
        self.zero_threshold = threshold;
    }

    fn same_zero_bucket(&mut self, other: &mut Self) {
        while self.zero_threshold != other.zero_threshold {
            let (narrow, wide) = if self.zero_threshold < other.zero_threshold {
                (&mut *self, &mut *other)
            } else {
                (&mut *other, &mut *self)
            };
            if wide.zero_threshold.is_nan() || narrow.zero_threshold.is_nan() {
                return;
            }
            let threshold = narrow.widened(wide.zero_threshold);
            narrow.absorb(threshold);
        }
    }

    fn with_bounds(&mut self, bounds: &[f64]) {
        if self.bounds == bounds {
            return;
        }
        let mut sums: BTreeMap<i32, f64> = BTreeMap::new();
        for (index, count) in &self.positive {
            let upper = usize::try_from(*index).ok().and_then(|index| self.bounds.get(index)).copied();
            let place = match upper {
                Some(upper) => bounds.partition_point(|bound| *bound < upper),
                None => bounds.len(),
            };
            *sums.entry(i32::try_from(place).unwrap_or(i32::MAX)).or_default() += count;
        }
        self.positive = sums.into_iter().collect();
        self.bounds = bounds.to_vec();
    }

    /// Brings two histograms to the same buckets. Says whether custom bounds had to go.
    fn same_buckets(&mut self, other: &mut Self) -> Result<bool, Incompatible> {
        if self.is_custom() != other.is_custom() {
            return Err(Incompatible);
        }
        if self.is_custom() {
            if self.bounds == other.bounds {
                return Ok(false);
            }
            // Both are in order.
            let has = |bound: &f64| {
                other.bounds.binary_search_by(|own| own.partial_cmp(bound).unwrap_or(Ordering::Less)).is_ok()
            };
            let common: Vec<f64> = self.bounds.iter().copied().filter(has).collect();
            self.with_bounds(&common);
            other.with_bounds(&common);
            return Ok(true);
        }
        self.same_zero_bucket(other);
        let schema = self.schema.min(other.schema);
        self.reduce(schema);
        other.reduce(schema);
        Ok(false)
    }

    /// Adds `sign` times `other`.
    ///
    /// # Errors
    /// [`Incompatible`] when only one has custom buckets.
    pub fn add(&mut self, other: &Self, sign: f64) -> Result<Added, Incompatible> {
        let mut other = other.clone();
        let reconciled = self.same_buckets(&mut other)?;
        let conflict = matches!(
            (self.hint, other.hint),
            (ResetHint::Reset, ResetHint::NotReset) | (ResetHint::NotReset, ResetHint::Reset)
        );
        self.hint = match (self.hint, other.hint) {
            (ResetHint::Gauge, _) | (_, ResetHint::Gauge) => ResetHint::Gauge,
            (a, b) if a == b => a,
            _ => ResetHint::Unknown,
        };
        if sign < 0.0 {
            self.hint = ResetHint::Gauge;
        }
        self.zero_count += sign * other.zero_count;
        self.count += sign * other.count;
        self.sum += sign * other.sum;
        self.positive = merged(&self.positive, &other.positive, sign);
        self.negative = merged(&self.negative, &other.negative, sign);
        Ok(Added { reconciled, conflict })
    }

    /// The value at `share` of the way to `next`. A counter that began anew in between started from
    /// zero.
    ///
    /// # Errors
    /// [`Incompatible`] when only one has custom buckets.
    pub fn towards(&self, next: &Self, share: f64, counter: bool) -> Result<Self, Incompatible> {
        if self.is_custom() != next.is_custom() {
            return Err(Incompatible);
        }
        let mut result = next.clone();
        if counter && next.is_reset_after(self) {
            result.map(|value| value * share);
            return Ok(result);
        }
        let hint = result.hint;
        result.add(self, -1.0)?;
        result.map(|value| value * share);
        result.add(self, 1.0)?;
        result.hint = hint;
        Ok(result)
    }

    /// Whether `self`, coming after `before`, shows that the counter began anew.
    pub fn is_reset_after(&self, before: &Self) -> bool {
        match self.hint {
            ResetHint::Reset => return true,
            ResetHint::NotReset => return false,
            ResetHint::Unknown | ResetHint::Gauge => {}
        }
        if self.count < before.count || self.is_custom() != before.is_custom() {
            return true;
        }
        let (mut now, mut before) = (self.clone(), before.clone());
        before.compact();
        now.compact();
        if now.is_custom() {
            if now.bounds != before.bounds && now.same_buckets(&mut before).is_err() {
                return true;
            }
        } else {
            if now.schema > before.schema || now.zero_threshold < before.zero_threshold {
                return true;
            }
            if now.zero_threshold > before.zero_threshold {
                // A bucket that the new zero bucket cuts through cannot have been there before.
                if before.widened(now.zero_threshold) != now.zero_threshold {
                    return true;
                }
                before.absorb(now.zero_threshold);
            }
            before.reduce(now.schema);
        }
        now.zero_count < before.zero_count
            || merged(&now.positive, &before.positive, -1.0).iter().any(|(_, change)| *change < 0.0)
            || merged(&now.negative, &before.negative, -1.0).iter().any(|(_, change)| *change < 0.0)
    }

    /// The bounds of a bucket above zero.
    fn positive_bounds(&self, index: i32) -> (f64, f64) {
        if !self.is_custom() {
            return (exponential_bound(index.saturating_sub(1), self.schema), exponential_bound(index, self.schema));
        }
        let bound = |index: i32| usize::try_from(index).ok().and_then(|index| self.bounds.get(index)).copied();
        let lower = if index <= 0 { f64::NEG_INFINITY } else { bound(index - 1).unwrap_or(f64::INFINITY) };
        (lower, bound(index).unwrap_or(f64::INFINITY))
    }

    /// A bucket above zero.
    pub fn bucket_above(&self, index: i32, count: f64) -> Bucket {
        let (lower, upper) = self.positive_bounds(index);
        let lower_in = self.is_custom() && lower == f64::NEG_INFINITY;
        Bucket { lower, upper, lower_in, upper_in: true, count }
    }

    /// A bucket below zero.
    pub fn bucket_below(&self, index: i32, count: f64) -> Bucket {
        let (lower, upper) = self.positive_bounds(index);
        Bucket { lower: -upper, upper: -lower, lower_in: true, upper_in: false, count }
    }

    /// All buckets that hold something, from the lowest up.
    pub fn buckets(&self) -> Vec<Bucket> {
        let mut buckets = Vec::with_capacity(self.positive.len() + self.negative.len() + 1);
        buckets.extend(self.negative.iter().rev().map(|(index, count)| self.bucket_below(*index, *count)));
        // A negative count, as subtraction can leave, is no bucket of observations.
        if self.zero_count > 0.0 {
            let wide = self.zero_threshold;
            buckets.push(Bucket { lower: -wide, upper: wide, lower_in: true, upper_in: true, count: self.zero_count });
        }
        buckets.extend(self.positive.iter().map(|(index, count)| self.bucket_above(*index, *count)));
        buckets.retain(|bucket| bucket.count != 0.0);
        buckets
    }

    /// Whether two hold the same observations in the same buckets.
    pub fn equals(&self, other: &Self) -> bool {
        let (mut a, mut b) = (self.clone(), other.clone());
        a.compact();
        b.compact();
        let same = |x: f64, y: f64| x == y || (x.is_nan() && y.is_nan());
        a.schema == b.schema
            && a.zero_threshold == b.zero_threshold
            && same(a.zero_count, b.zero_count)
            && same(a.count, b.count)
            && same(a.sum, b.sum)
            && a.positive == b.positive
            && a.negative == b.negative
            && a.bounds == b.bounds
    }
}

/// Bytes that [`total`] takes for each of the histograms themselves, in their unpacked form included.
pub(super) const TOTAL_FACTOR: usize = 5;

/// The sum or the mean of histograms, exact where adding one by one would lose digits or overflow.
/// Says whether custom bounds had to go. What is not done when `pace` stops is left out.
///
/// # Errors
/// [`Incompatible`] when only some have custom buckets.
pub(super) fn total(works: &[Work], average: bool, pace: &Pace<'_>) -> Result<(Work, bool), Incompatible> {
    let Some((first, rest)) = works.split_first() else { return Ok((Work::default(), false)) };
    let (mut shape, mut reconciled) = (first.clone(), false);
    for work in rest {
        if !pace.spend(64 * (work.len() + shape.len())) {
            break;
        }
        reconciled |= shape.add(work, 1.0)?.reconciled;
    }
    let count = works.len() as f64;
    let combined = |values: &[f64]| {
        let sum = stat::sum(values.iter().copied());
        match average {
            false => sum,
            true if sum.is_infinite() && values.iter().all(|value| value.is_finite()) => {
                stat::sum(values.iter().map(|value| value / count))
            }
            true => sum / count,
        }
    };
    let (mut zero, mut counts, mut sums) = (Vec::new(), Vec::new(), Vec::new());
    let (mut positive, mut negative) = (Columns::new(), Columns::new());
    for work in works.iter().take_while(|work| pace.spend(64 * work.len())) {
        let mut work = work.clone();
        if shape.is_custom() {
            work.with_bounds(&shape.bounds);
        } else {
            if work.zero_threshold != shape.zero_threshold {
                work.absorb(shape.zero_threshold);
            }
            work.reduce(shape.schema);
        }
        zero.push(work.zero_count);
        counts.push(work.count);
        sums.push(work.sum);
        for (index, value) in work.positive {
            positive.entry(index).or_default().push(value);
        }
        for (index, value) in work.negative {
            negative.entry(index).or_default().push(value);
        }
    }
    let buckets = |columns: Columns| columns.iter().map(|(index, values)| (*index, combined(values))).collect();
    shape.zero_count = combined(&zero);
    shape.count = combined(&counts);
    shape.sum = combined(&sums);
    shape.positive = buckets(positive);
    shape.negative = buckets(negative);
    Ok((shape, reconciled))
}

/// Counts of each bucket in several histograms.
type Columns = BTreeMap<i32, Vec<f64>>;

#[cfg(test)]
mod tests {
    use super::*;

    fn work(schema: i32, positive: &[(i32, f64)]) -> Work {
        let count = positive.iter().map(|(_, count)| count).sum();
        Work { schema, count, positive: positive.to_vec(), ..Work::default() }
    }

    #[test]
    fn packing_keeps_every_bucket() {
        let before = work(0, &[(-3, 1.0), (-2, 2.0), (4, 3.0)]);
        let histogram = Histogram::from(before.clone());
        assert_eq!(histogram.positive_spans.len(), 2);
        assert_eq!(Work::from(&histogram), before);
    }

    #[test]
    fn adding_takes_the_coarser_resolution() {
        let mut a = work(1, &[(1, 1.0), (2, 1.0), (3, 1.0)]);
        a.add(&work(0, &[(1, 5.0)]), 1.0).unwrap();
        assert_eq!(a.positive, [(1, 7.0), (2, 1.0)]);
        assert_eq!(a.count, 8.0);
    }

    #[test]
    fn the_wider_zero_bucket_takes_in_what_it_touches() {
        let mut a = work(0, &[(1, 1.0), (2, 1.0)]);
        let b = Work { zero_threshold: 1.5, zero_count: 2.0, count: 2.0, ..Work::default() };
        a.add(&b, 1.0).unwrap();
        assert_eq!((a.zero_threshold, a.zero_count), (2.0, 3.0));
        assert_eq!(a.positive, [(2, 1.0)]);
    }

    #[test]
    fn a_smaller_bucket_is_a_reset() {
        let before = work(0, &[(1, 3.0), (2, 1.0)]);
        assert!(work(0, &[(1, 2.0), (2, 9.0)]).is_reset_after(&before));
        assert!(!work(0, &[(1, 3.0), (2, 9.0)]).is_reset_after(&before));
    }
}
