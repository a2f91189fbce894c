//! How much floats and histograms change over a window: what rates, ranges with values at their edges, and
//! counts of changes share.

use super::row::RangeContext;
use crate::model::histogram::ResetHint;
use crate::model::sample::HistogramSample;
use crate::query::promql::native::Work;
use crate::query::promql::notes::MIXED_SCHEMAS;
use crate::query::promql::range::Window;

/// What is said of a series.
pub(super) const NOT_A_COUNTER: &str = "this native histogram metric is not a counter:";
/// What is said of a series.
pub(super) const NOT_A_GAUGE: &str = "this native histogram metric is not a gauge:";
const MAYBE_NO_COUNTER: &str = "metric might not be a counter, name does not end in _total/_sum/_count/_bucket:";

/// Says so when the name of a counter is none of one.
pub(super) fn hint_non_counter(context: &mut RangeContext<'_, '_>, counter: bool) {
    let name = context.labels.metric_name();
    let known = ["_total", "_sum", "_count", "_bucket"].iter().any(|end| name.ends_with(end));
    if counter && !name.is_empty() && !known {
        context.info(MAYBE_NO_COUNTER);
    }
}

/// Last minus first, with what resets took away added back. `anew` says of a place but the first
/// whether counting began anew there though the value may not have fallen.
pub(super) fn float_change(values: &[f64], counter: bool, anew: impl Fn(usize) -> bool) -> Option<f64> {
    let [first, .., last] = values else { return None };
    let mut result = last - first;
    if counter {
        for (at, pair) in values.windows(2).enumerate() {
            if let [before, now] = pair
                && (now < before || anew(at + 1))
            {
                result += before;
            }
        }
    }
    Some(result)
}

/// Warns when a gauge is treated as a counter or the other way round.
pub(super) fn warn_of_hints(hints: &[ResetHint], context: &mut RangeContext<'_, '_>, counter: bool) {
    if counter && hints.contains(&ResetHint::Gauge) {
        context.warn(NOT_A_COUNTER);
    }
    let edges = [hints.first(), hints.last()];
    if !counter && edges.iter().any(|hint| *hint != Some(&ResetHint::Gauge)) {
        context.warn(NOT_A_GAUGE);
    }
}

/// Last minus first, with what resets took away added back.
pub(super) fn works_change(works: Vec<Work>, context: &mut RangeContext<'_, '_>, counter: bool) -> Option<Work> {
    if works.iter().any(Work::is_custom) && !works.iter().all(Work::is_custom) {
        context.warn(MIXED_SCHEMAS);
        return None;
    }
    let (first, last) = (works.first()?, works.last()?);
    let mut result = last.clone();
    // All samples must end up in the coarsest buckets that any of them has.
    let schema = works.iter().map(|work| work.schema).min()?;
    result.reduce(schema);
    let reconciled = result.add(first, -1.0).ok()?.reconciled;
    let mut added = false;
    if counter {
        for pair in works.windows(2) {
            if let [before, now] = pair
                && context.goes_on(8 * now.len())
                && now.is_reset_after(before)
            {
                added |= result.add(before, 1.0).ok()?.reconciled;
            }
        }
    }
    for (reconciled, word) in [(reconciled, "subtraction"), (added, "addition")] {
        if reconciled {
            context.eval.info(context.pos, format!("mismatched custom buckets were reconciled during {word}"));
        }
    }
    result.hint = ResetHint::Gauge;
    Some(result)
}

/// A sample of either kind.
#[derive(Clone, Copy)]
pub(super) enum Either<'a> {
    /// A float.
    Float(f64),
    /// A histogram.
    Histogram(&'a HistogramSample),
}

/// All samples of a window in time order.
pub(super) fn in_order<'a>(window: &Window<'a>) -> Vec<(i64, Either<'a>)> {
    let floats = window.times.iter().zip(window.values).map(|(t, value)| (*t, Either::Float(*value)));
    let histograms = window.histograms.iter().map(|sample| (sample.t, Either::Histogram(sample)));
    let mut all: Vec<(i64, Either<'a>)> = floats.chain(histograms).collect();
    all.sort_by_key(|(t, _)| *t);
    all
}
