//! Selectors of which only the count and the sum of native histograms are wanted, as under
//! `histogram_count(sum(rate(a[5m])))`: their samples are read without buckets. So that resets are
//! still seen, each sample says what the buckets said while they were there: whether counting began
//! anew since the sample before, if one was within the lookback.

use std::ops::Range;
use std::sync::Arc;

use super::ast::{AggregateOp, Edges, Expr, Kind, Selector};
use super::native::Work;
use crate::base::limits::{LimitError, QueryBudget};
use crate::model::histogram::{Histogram, ResetHint};
use crate::model::labels::Labels;
use crate::model::sample::{Columns, HistogramSample, is_stale};
use crate::model::time::RangeMs;
use crate::query::pace::Pace;
use crate::store::{SelectMetrics, SeriesSet, StoreError, VisitColumns};

/// Functions of which only counts and sums are taken from histograms.
const TAKES: &[&str] = &["histogram_count", "histogram_sum", "histogram_avg"];
/// Functions whose result has the right count and sum without looking at buckets.
const PASSES: &[&str] = &[
    "rate",
    "increase",
    "irate",
    "delta",
    "idelta",
    "sum_over_time",
    "avg_over_time",
    "last_over_time",
    "first_over_time",
    "label_replace",
    "label_join",
];

/// Marks the selectors of a tree. `wanted` says whether only counts and sums are taken of `expr`.
pub(super) fn mark(expr: &mut Expr, wanted: bool) {
    match &mut expr.kind {
        Kind::Number(_) | Kind::String(_) => {}
        Kind::Vector(selector) | Kind::Matrix(selector, _) => {
            selector.counts_only = wanted && selector.edges == Edges::Plain;
        }
        // What a subquery repeats or leaves out is compared by whoever takes its samples.
        Kind::Subquery(subquery) => mark(&mut subquery.expr, false),
        Kind::Paren(inner) => mark(inner, wanted),
        Kind::Negate(inner) => mark(inner, false),
        Kind::Aggregate(aggregate) => {
            let passes = matches!(aggregate.op, AggregateOp::Sum | AggregateOp::Avg);
            aggregate.param.iter_mut().for_each(|param| mark(param, false));
            mark(&mut aggregate.expr, wanted && passes);
        }
        Kind::Binary(binary) => {
            mark(&mut binary.left, false);
            mark(&mut binary.right, false);
        }
        Kind::Call(call) => {
            let wanted = TAKES.contains(&call.function) || (wanted && PASSES.contains(&call.function));
            call.args.iter_mut().for_each(|arg| mark(arg, wanted));
        }
    }
}

/// Finds the series of a selector.
///
/// # Errors
/// What the store says.
pub(super) fn select(
    store: &dyn SelectMetrics,
    selector: &Selector,
    range: RangeMs,
    lookback: i64,
    budget: &QueryBudget,
) -> Result<Box<dyn SeriesSet>, StoreError> {
    if !selector.counts_only {
        return store.select(&selector.matchers, range, budget);
    }
    let wide = RangeMs { start: range.start.saturating_sub(lookback), end: range.end };
    Ok(Box::new(Counts { found: store.select(&selector.matchers, wide, budget)?, start: range.start }))
}

/// Series whose histograms come without buckets, from `start` on.
struct Counts {
    found: Box<dyn SeriesSet>,
    start: i64,
}

impl SeriesSet for Counts {
    fn labels(&self) -> &[Labels] {
        self.found.labels()
    }

    fn read(&self, places: Range<usize>, budget: &QueryBudget, visit: &mut VisitColumns<'_>) -> Result<(), StoreError> {
        let pace = Pace::new(budget);
        self.found.read(places, budget, &mut |place, columns| {
            strip(&mut columns.histograms, &pace)?;
            cut(columns, self.start);
            visit(place, columns)
        })
    }
}

/// Takes the buckets away and lets each histogram say what they showed.
fn strip(samples: &mut [HistogramSample], pace: &Pace<'_>) -> Result<(), LimitError> {
    let mut before: Option<Work> = None;
    for sample in samples.iter_mut().filter(|sample| !is_stale(sample.histogram.sum)) {
        pace.go(8 * sample.histogram.bytes())?;
        let now = Work::from(sample.histogram.as_ref());
        let reset_hint = match (&before, now.hint) {
            (Some(before), ResetHint::Unknown) if now.is_reset_after(before) => ResetHint::Reset,
            (Some(_), ResetHint::Unknown) => ResetHint::NotReset,
            (_, hint) => hint,
        };
        // What is no counter is compared by its buckets.
        if reset_hint != ResetHint::Gauge {
            let Histogram { schema, zero_threshold, count, sum, .. } = *sample.histogram;
            let custom_bounds = sample.histogram.custom_bounds.clone();
            let bare =
                Histogram { reset_hint, schema, zero_threshold, count, sum, custom_bounds, ..Histogram::default() };
            sample.histogram = Arc::new(bare);
        }
        before = Some(now);
    }
    Ok(())
}

/// Leaves out what is before `start`.
fn cut(columns: &mut Columns, start: i64) {
    columns.histograms.retain(|sample| sample.t >= start);
    let first = columns.times.partition_point(|t| *t < start);
    if first > 0 {
        columns.times = columns.times.iter().skip(first).copied().collect();
        columns.values.drain(..first.min(columns.values.len()));
        columns.starts.drain(..first.min(columns.starts.len()));
    }
}
