//! Functions that boil a window down to one value: `*_over_time`.

use std::sync::Arc;

use super::row::{Function, Imp, RangeContext, row, slides};
use super::sliding;
use crate::model::histogram::ResetHint;
use crate::query::pace::Pace;
use crate::query::promql::native;
use crate::query::promql::native::Work;
use crate::query::promql::notes::{IGNORED, MIXED, MIXED_SCHEMAS};
use crate::query::promql::range::Window;
use crate::query::promql::stat;
use crate::query::promql::value::Cell;

pub(super) const FUNCTIONS: &[Function] = &[
    slides(row("sum_over_time", "sum", "sum_over_time(a[5m])", Imp::Range(|w, _, c| total(w, c, false))), sliding::SUM),
    slides(row("avg_over_time", "mean", "avg_over_time(a[5m])", Imp::Range(|w, _, c| total(w, c, true))), sliding::AVG),
    slides(
        row("min_over_time", "smallest value", "min_over_time(a[5m])", Imp::Range(|w, _, c| floats(w, c, stat::least))),
        sliding::MIN,
    ),
    slides(
        row("max_over_time", "largest value", "max_over_time(a[5m])", Imp::Range(|w, _, c| floats(w, c, stat::most))),
        sliding::MAX,
    ),
    slides(row("count_over_time", "number of samples", "count_over_time(a[5m])", Imp::Range(count)), sliding::COUNT),
    slides(
        row(
            "present_over_time",
            "1 for every series with samples",
            "present_over_time(a[5m])",
            Imp::Range(|_, _, _| Some(Cell::Float(1.0))),
        ),
        sliding::PRESENT,
    ),
    slides(
        row(
            "last_over_time",
            "latest sample",
            "last_over_time(a[5m])",
            Imp::RangeKeepsName(|w, _, _| edge(w, true).map(|(_, cell)| cell)),
        ),
        sliding::LAST,
    ),
    slides(
        row(
            "first_over_time",
            "earliest sample",
            "first_over_time(a[5m])",
            Imp::RangeKeepsName(|w, _, _| edge(w, false).map(|(_, cell)| cell)),
        ),
        sliding::FIRST,
    ),
    slides(
        row(
            "stddev_over_time",
            "standard deviation",
            "stddev_over_time(a[5m])",
            Imp::Range(|w, _, c| floats(w, c, |v| stat::variance(v.iter().copied()).sqrt())),
        ),
        sliding::STDDEV,
    ),
    slides(
        row(
            "stdvar_over_time",
            "variance",
            "stdvar_over_time(a[5m])",
            Imp::Range(|w, _, c| floats(w, c, |v| stat::variance(v.iter().copied()))),
        ),
        sliding::STDVAR,
    ),
    row("quantile_over_time", "quantile", "quantile_over_time(0.9, a[5m])", Imp::Range(quantile)),
    row("mad_over_time", "median absolute deviation", "mad_over_time(a[5m])", Imp::Range(|w, _, c| floats(w, c, mad))),
    slides(
        row(
            "ts_of_first_over_time",
            "time of the earliest sample",
            "ts_of_first_over_time(a[5m])",
            Imp::Range(|w, _, _| edge(w, false).map(|(t, _)| seconds(t))),
        ),
        sliding::TIME_OF_FIRST,
    ),
    slides(
        row(
            "ts_of_last_over_time",
            "time of the latest sample",
            "ts_of_last_over_time(a[5m])",
            Imp::Range(|w, _, _| edge(w, true).map(|(t, _)| seconds(t))),
        ),
        sliding::TIME_OF_LAST,
    ),
    row(
        "ts_of_min_over_time",
        "time of the smallest value, the last such",
        "ts_of_min_over_time(a[5m])",
        Imp::Range(|w, _, c| time_of(w, c, |now, best| now <= best)),
    ),
    row(
        "ts_of_max_over_time",
        "time of the largest value, the last such",
        "ts_of_max_over_time(a[5m])",
        Imp::Range(|w, _, c| time_of(w, c, |now, best| now >= best)),
    ),
];

/// Says so when histograms stay out of a computation that takes floats only.
pub(super) fn note_ignored(window: &Window<'_>, context: &mut RangeContext<'_, '_>) {
    if !window.values.is_empty() && !window.histograms.is_empty() {
        context.info(IGNORED);
    }
}

fn floats(window: &Window<'_>, context: &mut RangeContext<'_, '_>, f: impl Fn(&[f64]) -> f64) -> Option<Cell> {
    note_ignored(window, context);
    (!window.values.is_empty()).then(|| Cell::Float(f(window.values)))
}

fn count(window: &Window<'_>, _: &[f64], _: &mut RangeContext<'_, '_>) -> Option<Cell> {
    Some(Cell::Float((window.values.len() + window.histograms.len()) as f64))
}

fn seconds(t: i64) -> Cell {
    Cell::Float(t as f64 / 1000.0)
}

/// The first or last sample of either kind.
fn edge(window: &Window<'_>, last: bool) -> Option<(i64, Cell)> {
    let (float, histogram) = if last {
        (window.times.last().zip(window.values.last()), window.histograms.last())
    } else {
        (window.times.first().zip(window.values.first()), window.histograms.first())
    };
    let float = float.map(|(t, value)| (*t, Cell::Float(*value)));
    let histogram = histogram.map(|sample| (sample.t, Cell::Histogram(sample.histogram.clone())));
    match (float, histogram) {
        // Of two at one time the histogram comes second.
        (Some(float), Some(histogram)) if last => Some(if float.0 > histogram.0 { float } else { histogram }),
        (Some(float), Some(histogram)) => Some(if float.0 <= histogram.0 { float } else { histogram }),
        (float, histogram) => float.or(histogram),
    }
}

fn time_of(window: &Window<'_>, context: &mut RangeContext<'_, '_>, better: fn(f64, f64) -> bool) -> Option<Cell> {
    note_ignored(window, context);
    let mut best = (*window.times.first()?, *window.values.first()?);
    for (t, value) in window.times.iter().zip(window.values) {
        if better(*value, best.1) || best.1.is_nan() {
            best = (*t, *value);
        }
    }
    Some(seconds(best.0))
}

fn total(window: &Window<'_>, context: &mut RangeContext<'_, '_>, average: bool) -> Option<Cell> {
    if !window.values.is_empty() && !window.histograms.is_empty() {
        context.warn(MIXED);
        return None;
    }
    if window.histograms.is_empty() {
        let values = window.values.iter().copied();
        return Some(Cell::Float(if average { stat::mean(values) } else { stat::sum(values) }));
    }
    let works: Vec<Work> = window.histograms.iter().map(|sample| Work::from(sample.histogram.as_ref())).collect();
    let pace = Pace::new(context.eval.budget);
    let total = native::total(&works, average, &pace);
    if let Err(limit) = pace.result() {
        context.eval.failure.get_or_insert(limit.into());
        return None;
    }
    let Ok((total, reconciled)) = total else {
        context.warn(MIXED_SCHEMAS);
        return None;
    };
    if reconciled {
        context.eval.info(context.pos, "mismatched custom buckets were reconciled during aggregation");
    }
    let has = |hint: ResetHint| works.iter().any(|work| work.hint == hint);
    if has(ResetHint::Reset) && has(ResetHint::NotReset) {
        context.eval.warn(context.pos, "conflicting counter resets during histogram aggregation");
    }
    Some(Cell::Histogram(Arc::new(total.into())))
}

fn quantile(window: &Window<'_>, params: &[f64], context: &mut RangeContext<'_, '_>) -> Option<Cell> {
    let q = *params.first()?;
    if window.values.is_empty() {
        return None;
    }
    if !(0.0..=1.0).contains(&q) {
        let text = format!("quantile value should be between 0 and 1, got {}", stat::general(q));
        context.eval.warn(context.scalar_pos, text);
    }
    note_ignored(window, context);
    Some(Cell::Float(stat::quantile(q, &mut window.values.to_vec())))
}

fn mad(values: &[f64]) -> f64 {
    if values.iter().any(|value| value.is_nan()) {
        return f64::NAN;
    }
    let median = stat::quantile(0.5, &mut values.to_vec());
    let mut distances: Vec<f64> = values.iter().map(|value| (value - median).abs()).collect();
    stat::quantile(0.5, &mut distances)
}
