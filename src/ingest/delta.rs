//! Sums up OTLP's deltas, because the store and PromQL know cumulative series only.
//! State: for each series the sum so far and the time of its newest delta, in memory. It is bounded:
//! idle series are forgotten, and when a new one finds the map full, the longest idle go. After that,
//! and after a restart, a sum starts again at zero, which PromQL sees as a counter reset.
//! A delta not newer than the newest of its series is refused: it may have been summed up already.
//! Sums are committed only after the store took them, so a sender's retry is not counted twice.

use std::sync::Arc;
use std::time::Duration;

use ahash::HashMap;

use crate::model::batch::{Example, MetricsBatch, Rejections, SeriesBatch};
use crate::model::histogram::{BucketSpan, Histogram, ResetHint};
use crate::model::labels::Labels;
use crate::model::sample::is_stale;

/// What has been summed up of one series.
#[derive(Clone, Debug, Default)]
struct Sum {
    /// Newest delta, milliseconds since the Unix epoch.
    newest: Option<i64>,
    /// When it came, by our clock, milliseconds.
    touched: i64,
    value: f64,
    histogram: Option<Arc<Histogram>>,
}

/// The sums of all series that send deltas.
#[derive(Debug)]
pub(super) struct Accumulator {
    series_max: usize,
    idle_ms: i64,
    sums: HashMap<Labels, Sum>,
}

/// Sums that become the state once the store has taken the samples made of them.
#[derive(Debug, Default)]
pub(super) struct Staged(HashMap<Labels, Sum>);

impl Accumulator {
    pub(super) fn new(series_max: usize, idle: Duration) -> Self {
        let idle_ms = i64::try_from(idle.as_millis()).unwrap_or(i64::MAX);
        Self { series_max: series_max.max(1), idle_ms, sums: HashMap::default() }
    }

    /// Replaces the deltas of the series at `positions` by sums.
    pub(super) fn apply(
        &self,
        batch: &mut MetricsBatch,
        positions: &[usize],
        now_ms: i64,
        rejected: &mut Rejections,
    ) -> Staged {
        let mut staged = Staged::default();
        for position in positions {
            let Some(series) = batch.series.get_mut(*position) else { continue };
            let sum = staged.0.entry(series.labels.clone()).or_insert_with(|| self.known(&series.labels, now_ms));
            sum.touched = now_ms;
            accumulate(series, sum, rejected);
        }
        staged
    }

    fn known(&self, labels: &Labels, now_ms: i64) -> Sum {
        let fresh = |sum: &&Sum| now_ms.saturating_sub(sum.touched) <= self.idle_ms;
        self.sums.get(labels).filter(fresh).cloned().unwrap_or_default()
    }

    /// Makes what was staged the state.
    pub(super) fn commit(&mut self, staged: Staged) {
        let Some(now_ms) = staged.0.values().map(|sum| sum.touched).max() else { return };
        let new = staged.0.keys().filter(|labels| !self.sums.contains_key(*labels)).count();
        if self.sums.len() + new > self.series_max {
            self.evict(now_ms, new);
        }
        self.sums.extend(staged.0);
    }

    /// Forgets the idle; if that is not enough, the longest idle tenth besides, so that a full map
    /// is not sorted for each new series.
    fn evict(&mut self, now_ms: i64, new: usize) {
        self.sums.retain(|_, sum| now_ms.saturating_sub(sum.touched) <= self.idle_ms);
        let room = self.series_max.saturating_sub(new);
        if self.sums.len() <= room {
            return;
        }
        let surplus = (self.sums.len() - room).max(self.series_max / 10).min(self.sums.len());
        let mut touched: Vec<i64> = self.sums.values().map(|sum| sum.touched).collect();
        touched.sort_unstable();
        let limit = surplus.checked_sub(1).and_then(|last| touched.get(last).copied()).unwrap_or(i64::MIN);
        self.sums.retain(|_, sum| sum.touched > limit);
    }
}

fn accumulate(series: &mut SeriesBatch, sum: &mut Sum, rejected: &mut Rejections) {
    let labels = &series.labels;
    let mut refuse = |t: i64, newest: i64| {
        rejected.add("delta_out_of_order", 1, || {
            let shown: String = labels.to_string().chars().take(200).collect();
            let text = format!("delta of {shown} at {t} ms is not newer than the one at {newest} ms");
            Example::of(labels.metric_name(), text)
        });
        false
    };
    series.samples.sort_by_key(|sample| sample.t);
    series.samples.retain_mut(|sample| {
        if let Some(newest) = sum.newest.filter(|newest| sample.t <= *newest) {
            return refuse(sample.t, newest);
        }
        sum.newest = Some(sample.t);
        if !is_stale(sample.value) {
            sum.value += sample.value;
            sample.value = sum.value;
        }
        true
    });
    series.histograms.sort_by_key(|sample| sample.t);
    series.histograms.retain_mut(|sample| {
        if let Some(newest) = sum.newest.filter(|newest| sample.t <= *newest) {
            return refuse(sample.t, newest);
        }
        sum.newest = Some(sample.t);
        if !is_stale(sample.histogram.sum) {
            let total = match &sum.histogram {
                Some(before) => Arc::new(add(before, &sample.histogram)),
                None => sample.histogram.clone(),
            };
            sum.histogram = Some(total.clone());
            sample.histogram = total;
        }
        true
    });
}

/// The histogram of both histograms' observations, in the coarser of their resolutions.
fn add(a: &Histogram, b: &Histogram) -> Histogram {
    let schema = a.schema.min(b.schema);
    let (positive_spans, positive) = add_sides(a, b, schema, |h| (&h.positive_spans, &h.positive));
    let (negative_spans, negative) = add_sides(a, b, schema, |h| (&h.negative_spans, &h.negative));
    Histogram {
        reset_hint: ResetHint::Unknown,
        schema,
        zero_threshold: a.zero_threshold.max(b.zero_threshold),
        zero_count: a.zero_count + b.zero_count,
        count: a.count + b.count,
        sum: a.sum + b.sum,
        positive_spans,
        positive,
        negative_spans,
        negative,
        custom_bounds: Vec::new(),
    }
}

type Side<'a> = (&'a Vec<BucketSpan>, &'a Vec<f64>);

fn add_sides(
    a: &Histogram,
    b: &Histogram,
    schema: i32,
    side: impl Fn(&Histogram) -> Side<'_>,
) -> (Vec<BucketSpan>, Vec<f64>) {
    let mut buckets: Vec<(i64, f64)> = Vec::new();
    for histogram in [a, b] {
        let (spans, counts) = side(histogram);
        let shift = histogram.schema.saturating_sub(schema).clamp(0, 62);
        // Bucket i of a finer schema lies in bucket ceil(i / 2^shift) of the coarser one.
        buckets.extend(indexed(spans, counts).map(|(index, count)| (((index - 1) >> shift) + 1, count)));
    }
    buckets.sort_by_key(|(index, _)| *index);
    buckets.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 += next.1;
        }
        same
    });
    to_spans(&buckets)
}

fn indexed<'a>(spans: &'a [BucketSpan], counts: &'a [f64]) -> impl Iterator<Item = (i64, f64)> + 'a {
    let mut next = 0i64;
    let indices = spans.iter().flat_map(move |span| {
        let start = next + i64::from(span.offset);
        next = start + i64::from(span.length);
        start..next
    });
    indices.zip(counts.iter().copied())
}

fn to_spans(buckets: &[(i64, f64)]) -> (Vec<BucketSpan>, Vec<f64>) {
    let mut spans: Vec<BucketSpan> = Vec::new();
    let mut end = 0i64;
    for (index, _) in buckets {
        let gap = i32::try_from(index - end).unwrap_or(i32::MAX);
        match spans.last_mut() {
            Some(span) if gap == 0 => span.length += 1,
            Some(_) | None => spans.push(BucketSpan { offset: gap, length: 1 }),
        }
        end = index + 1;
    }
    (spans, buckets.iter().map(|(_, count)| *count).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sample::{HistogramSample, Sample};

    fn batch(series: &[(&str, i64, f64)]) -> MetricsBatch {
        let series = series.iter().map(|(name, t, value)| SeriesBatch {
            labels: Labels::from_pairs([("__name__", name)]).unwrap(),
            samples: vec![Sample { t: *t, value: *value }],
            ..SeriesBatch::default()
        });
        MetricsBatch { series: series.collect(), metadata: Vec::new() }
    }

    fn push(accumulator: &mut Accumulator, now_ms: i64, series: &[(&str, i64, f64)]) -> (Vec<f64>, u64) {
        let mut batch = batch(series);
        let mut rejected = Rejections::default();
        let positions: Vec<usize> = (0..series.len()).collect();
        let staged = accumulator.apply(&mut batch, &positions, now_ms, &mut rejected);
        accumulator.commit(staged);
        (
            batch.series.iter().flat_map(|series| series.samples.iter().map(|sample| sample.value)).collect(),
            rejected.count(),
        )
    }

    #[test]
    fn deltas_of_a_series_are_summed_up_in_time_order() {
        let mut accumulator = Accumulator::new(10, Duration::from_secs(60));
        assert_eq!(push(&mut accumulator, 0, &[("a", 1, 2.0), ("b", 1, 5.0), ("a", 2, 3.0)]), (vec![2.0, 5.0, 5.0], 0));
        assert_eq!(push(&mut accumulator, 1, &[("a", 3, 1.0)]), (vec![6.0], 0));
        assert_eq!(push(&mut accumulator, 2, &[("a", 3, 1.0)]), (vec![], 1), "the same delta again is refused");
    }

    #[test]
    fn what_the_store_did_not_take_is_not_summed_up() {
        let mut accumulator = Accumulator::new(10, Duration::from_secs(60));
        let mut first = batch(&[("a", 1, 2.0)]);
        let _not_committed = accumulator.apply(&mut first, &[0], 0, &mut Rejections::default());
        assert_eq!(push(&mut accumulator, 0, &[("a", 1, 2.0)]), (vec![2.0], 0));
    }

    #[test]
    fn idle_series_are_forgotten_and_the_map_stays_bounded() {
        let mut accumulator = Accumulator::new(10, Duration::from_secs(60));
        push(&mut accumulator, 0, &[("a", 1, 2.0)]);
        assert_eq!(push(&mut accumulator, 61_000, &[("a", 2, 2.0)]).0, [2.0]);
        for n in 0..100 {
            push(&mut accumulator, 62_000 + n, &[(&format!("s{n}"), 1, 1.0)]);
            assert!(accumulator.sums.len() <= 10);
        }
        assert_eq!(push(&mut accumulator, 62_100, &[("s99", 2, 1.0)]).0, [2.0], "the newest is still known");
    }

    #[test]
    fn histograms_are_added_in_the_coarser_schema() {
        let fine = Histogram {
            schema: 1,
            count: 6.0,
            positive_spans: vec![BucketSpan { offset: -1, length: 4 }],
            positive: vec![1.0, 2.0, 1.0, 2.0],
            ..Histogram::default()
        };
        let coarse = Histogram {
            schema: 0,
            count: 5.0,
            positive_spans: vec![BucketSpan { offset: 1, length: 1 }, BucketSpan { offset: 2, length: 1 }],
            positive: vec![4.0, 1.0],
            ..Histogram::default()
        };
        let sum = add(&fine, &coarse);
        // Fine buckets -1 and 0 lie in coarse bucket 0, 1 and 2 in 1.
        assert_eq!(sum.positive, [3.0, 7.0, 1.0]);
        assert_eq!(sum.positive_spans, [BucketSpan { offset: 0, length: 2 }, BucketSpan { offset: 2, length: 1 }]);
        assert_eq!((sum.schema, sum.count), (0, 11.0));
    }

    #[test]
    fn histogram_deltas_are_summed_up() {
        let accumulator = Accumulator::new(10, Duration::from_secs(60));
        let histogram = |count| Arc::new(Histogram { count, ..Histogram::default() });
        let mut batch = batch(&[("h", 0, 0.0)]);
        batch.series[0].samples.clear();
        batch.series[0].histograms = vec![
            HistogramSample { t: 2, start: 0, histogram: histogram(1.0) },
            HistogramSample { t: 1, start: 0, histogram: histogram(2.0) },
        ];
        accumulator.apply(&mut batch, &[0], 0, &mut Rejections::default());
        let counts: Vec<_> = batch.series[0].histograms.iter().map(|sample| sample.histogram.count).collect();
        assert_eq!(counts, [2.0, 3.0]);
    }
}
