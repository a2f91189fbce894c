//! Queries that are canceled in the middle, at the moment when their last sample is read: whatever they
//! do after that asks whether it may, so that they end and do not answer.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{Params, PromqlError, instant, range};
use crate::base::limits::{LimitError, QueryBudget};
use crate::model::batch::MetricMetadata;
use crate::model::exemplar::Exemplar;
use crate::model::histogram::{BucketSpan, Histogram};
use crate::model::labels::Labels;
use crate::model::matcher::Matcher;
use crate::model::sample::HistogramSample;
use crate::model::time::RangeMs;
use crate::store::memory::Memory;
use crate::store::{SelectMetrics, SeriesSet, StoreError, VisitColumns};

const SERIES: usize = 3_000;

/// A store that cancels the query with the last series of so many reads, and never asks its budget.
struct Ending {
    inner: Memory,
    budget: Arc<QueryBudget>,
    left: Arc<AtomicUsize>,
}

struct EndingSet {
    inner: Box<dyn SeriesSet>,
    budget: Arc<QueryBudget>,
    left: Arc<AtomicUsize>,
}

impl SeriesSet for EndingSet {
    fn labels(&self) -> &[Labels] {
        self.inner.labels()
    }

    fn read(&self, places: Range<usize>, _: &QueryBudget, visit: &mut VisitColumns<'_>) -> Result<(), StoreError> {
        self.inner.read(places, &QueryBudget::unlimited(), visit)?;
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.budget.cancel();
        }
        Ok(())
    }
}

impl SelectMetrics for Ending {
    fn select(&self, matchers: &[Matcher], range: RangeMs, _: &QueryBudget) -> Result<Box<dyn SeriesSet>, StoreError> {
        let inner = self.inner.select(matchers, range, &QueryBudget::unlimited())?;
        Ok(Box::new(EndingSet { inner, budget: self.budget.clone(), left: self.left.clone() }))
    }

    fn series(&self, _: &[Matcher], _: RangeMs, _: &QueryBudget) -> Result<Vec<Labels>, StoreError> {
        Ok(Vec::new())
    }

    fn label_names(&self, _: &[Matcher], _: RangeMs, _: &QueryBudget) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    fn label_values(&self, _: &str, _: &[Matcher], _: RangeMs, _: &QueryBudget) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    fn metadata(&self, _: &QueryBudget) -> Result<Vec<MetricMetadata>, StoreError> {
        Ok(Vec::new())
    }

    fn exemplars(
        &self,
        _: &[Matcher],
        _: RangeMs,
        _: &QueryBudget,
    ) -> Result<Vec<(Labels, Vec<Exemplar>)>, StoreError> {
        Ok(Vec::new())
    }
}

fn buckets(count: u32) -> Histogram {
    let positive: Vec<f64> = (1..=count).map(f64::from).collect();
    let spans = vec![BucketSpan { offset: 0, length: count }];
    Histogram {
        schema: 3,
        count: positive.iter().sum(),
        sum: 1.0,
        positive,
        positive_spans: spans,
        ..Default::default()
    }
}

fn store(budget: &Arc<QueryBudget>, reads: usize) -> Ending {
    let mut inner = Memory::default();
    let histogram = Arc::new(buckets(300));
    for at in 0..SERIES {
        let number = at.to_string();
        let text = number.as_str();
        let labels = |name: &str| Labels::from_pairs([("__name__", name), ("n", text), ("job", "x")]).unwrap();
        for name in ["a", "b"] {
            inner.float(&labels(name), 60_000, (at * 7_919 % 1_000) as f64);
        }
        let le =
            Labels::from_pairs([("__name__", "c_bucket"), ("n", &(at / 2).to_string()), ("le", ["1", "+Inf"][at % 2])]);
        inner.float(&le.unwrap(), 60_000, at as f64);
        if at % 10 == 0 {
            inner.histogram(&labels("h"), HistogramSample { t: 60_000, start: 0, histogram: histogram.clone() });
            inner.float(
                &Labels::from_pairs([("__name__", "target_info"), ("job", "x"), ("v", text)]).unwrap(),
                60_000,
                1.0,
            );
        }
    }
    let long = Labels::from_pairs([("__name__", "long")]).unwrap();
    let columns = crate::model::sample::Columns {
        times: (0..60_000).map(|at| at * 1_000).collect(),
        values: (0..60_000).map(|at| f64::from(at * 7_919 % 1_000)).collect(),
        ..Default::default()
    };
    inner.insert(long, columns);
    let long = Labels::from_pairs([("__name__", "long_h")]).unwrap();
    for t in 0..600 {
        inner.histogram(&long, HistogramSample { t: t * 1_000, start: 0, histogram: histogram.clone() });
    }
    Ending { inner, budget: budget.clone(), left: Arc::new(AtomicUsize::new(reads)) }
}

/// Params of one thread, so that what is read is read in one go.
fn params() -> Params {
    Params { threads: 1, ..Params::default() }
}

#[test]
fn whatever_is_done_after_the_last_sample_ends_when_the_query_does() {
    for (reads, query) in [
        (1, "a"),
        (1, "a[5m]"),
        (1, "a[5m:1m]"),
        (1, "-a"),
        (1, "a * 2"),
        (1, "sort(a)"),
        (1, "sort_desc(a)"),
        (1, "sort_by_label(a, \"n\")"),
        (1, "sort_by_label_desc(a, \"n\", \"m\")"),
        (1, "clamp(a, 1, 2)"),
        (1, "day_of_week(a)"),
        (1, "label_replace(a, \"x\", \"$1\", \"n\", \"(.*)\")"),
        (1, "label_join(a, \"x\", \"-\", \"n\", \"n\")"),
        (1, "quantile(0.5, a)"),
        (1, "quantile by (n) (0.5, a)"),
        (1, "sum by (n) (a)"),
        (1, "avg by (n) (h)"),
        (1, "sum(h)"),
        (1, "topk(2000, a)"),
        (1, "bottomk by (n) (1, a)"),
        (1, "limitk(2000, a)"),
        (1, "limit_ratio(0.9, a)"),
        (1, "count_values(\"v\", a)"),
        (1, "count_values(\"v\", -h)"),
        (1, "histogram_quantile(0.9, c_bucket)"),
        (1, "histogram_quantile(0.9, h)"),
        (1, "histogram_fraction(0, 1, h)"),
        (1, "histogram_quantiles(h, \"q\", 0.5, 0.9)"),
        (1, "histogram_stddev(h)"),
        (1, "h * 2"),
        (2, "a + b"),
        (2, "a + ignoring (n) group_left sum without (n) (b)"),
        (2, "a == bool b"),
        (2, "a and b"),
        (2, "a and on (n) b"),
        (2, "a or b"),
        (2, "a unless b"),
        (2, "h + h"),
        (3, "info(a)"),
        (1, "stddev_over_time(long[15h:1s])"),
        (1, "mad_over_time(long[15h:1s])"),
        (1, "changes(long_h[10m:1s])"),
    ] {
        let budget = QueryBudget::new(Duration::from_secs(600), u64::MAX, u64::MAX);
        let store = store(&budget, reads);
        let time = if query.contains("long") { 600_000 } else { 90_000 };
        let ended = instant(&store, query, time, params(), &budget);
        assert_eq!(store.left.load(Ordering::Relaxed), 0, "{query} has not read all");
        assert!(matches!(ended, Err(PromqlError::Limit(LimitError::Canceled))), "{query}: {ended:?}");
    }
}

#[test]
fn steps_without_number_are_refused_before_anything_is_read() {
    let budget = QueryBudget::new(Duration::from_secs(60), 192 << 20, u64::MAX);
    let store = store(&budget, usize::MAX);
    for query in [
        "max_over_time(a[1y:1s])",
        "max_over_time(max_over_time(rate(a[5m])[1y:1s])[1y:1s])",
        "sum(max_over_time(vector(time())[1y:1s]))",
        "absent_over_time(a[100y:1m])",
        "a[1y:1ms]",
    ] {
        for answer in [
            instant(&store, query, 90_000, params(), &budget),
            range(&store, &format!("max({query})"), (0, 600_000, 1_000), params(), &budget),
        ] {
            let error = answer.unwrap_err().to_string();
            let says =
                ["use a larger step or a shorter range", "invalid expression type", "expected type instant vector"];
            assert!(says.iter().any(|says| error.contains(says)), "{query}: {error}");
        }
    }
    assert_eq!(store.left.load(Ordering::Relaxed), usize::MAX);
}

#[test]
fn nested_subqueries_over_many_series_end_by_what_they_hold() {
    let budget = QueryBudget::new(Duration::from_secs(600), 32 << 20, u64::MAX);
    let store = store(&budget, usize::MAX);
    for query in [
        "max_over_time(max_over_time(a[5m])[1d:10s])",
        "max_over_time(max_over_time(rate(a[5m])[30d:1m])[30d:1m])",
        "sum(stddev_over_time(a[1d:10s]))",
    ] {
        let error = instant(&store, query, 90_000, params(), &budget).unwrap_err();
        assert!(matches!(error, PromqlError::Limit(LimitError::QueryMemory { .. })), "{query}: {error}");
        assert!(budget.memory_peak() <= 32 << 20);
    }
}
