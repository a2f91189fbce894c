//! How fast things change: rate, increase, delta and their kin, regressions, resets and changes.
//! A rate extrapolates from its samples to the edges of its window, but for `anchored` and
//! `smoothed` ranges, which know the values at the edges. Where it is known when counting began, a
//! counter's first value counts from there on, and one that began anew is a reset.

use std::sync::Arc;

use super::change::{
    Either, NOT_A_COUNTER, NOT_A_GAUGE, float_change, hint_non_counter, in_order, warn_of_hints, works_change,
};
use super::row::{Function, Imp, RangeContext, row, slides};
use super::sliding;
use crate::model::histogram::ResetHint;
use crate::model::sample::HistogramSample;
use crate::query::promql::PromqlError;
use crate::query::promql::ast::Edges;
use crate::query::promql::histograms;
use crate::query::promql::native::Work;
use crate::query::promql::notes::{MIXED, MIXED_SCHEMAS};
use crate::query::promql::range::Window;
use crate::query::promql::stat::Sum;
use crate::query::promql::value::{Cell, histogram_cost};
use crate::query::promql::windows::Gaps;

pub(super) const FUNCTIONS: &[Function] = &[
    slides(row("rate", "increase per second of a counter", "rate(a[5m])", Imp::Range(rate)), sliding::RATE),
    slides(row("increase", "increase of a counter", "increase(a[5m])", Imp::Range(increase)), sliding::INCREASE),
    slides(row("delta", "change of a gauge", "delta(a[5m])", Imp::Range(delta)), sliding::DELTA),
    slides(
        row("irate", "rate of the last two samples", "irate(a[5m])", Imp::Range(|w, _, c| instant(w, c, true))),
        sliding::IRATE,
    ),
    slides(
        row(
            "idelta",
            "change between the last two samples",
            "idelta(a[5m])",
            Imp::Range(|w, _, c| instant(w, c, false)),
        ),
        sliding::IDELTA,
    ),
    row("deriv", "slope per second by linear regression", "deriv(a[5m])", Imp::Range(deriv)),
    row(
        "predict_linear",
        "value in so many seconds, by linear regression",
        "predict_linear(a[5m], 60)",
        Imp::Range(predict),
    ),
    slides(row("resets", "how often a counter began anew", "resets(a[5m])", Imp::Range(resets)), sliding::RESETS),
    slides(row("changes", "how often the value changed", "changes(a[5m])", Imp::Range(changes)), sliding::CHANGES),
    row(
        "double_exponential_smoothing",
        "smoothed value by Holt's linear trend",
        "double_exponential_smoothing(a[5m], 0.5, 0.5)",
        Imp::Range(smoothing),
    ),
];

const OVERLAPS: &str = "sample has start time that overlaps with previous sample timestamp for metric";

fn rate(window: &Window<'_>, _: &[f64], context: &mut RangeContext<'_, '_>) -> Option<Cell> {
    let seconds = context.range as f64 / 1000.0;
    if context.edges == Edges::Plain {
        return extrapolated(window, context, true, seconds);
    }
    Some(match change(window, context, true)? {
        Cell::Float(value) => Cell::Float(value / seconds),
        Cell::Histogram(histogram) => histograms::divided(&histogram, seconds),
    })
}

fn increase(window: &Window<'_>, _: &[f64], context: &mut RangeContext<'_, '_>) -> Option<Cell> {
    change(window, context, true)
}

fn delta(window: &Window<'_>, _: &[f64], context: &mut RangeContext<'_, '_>) -> Option<Cell> {
    change(window, context, false)
}

fn change(window: &Window<'_>, context: &mut RangeContext<'_, '_>, counter: bool) -> Option<Cell> {
    if context.edges != Edges::Plain {
        return super::edges::change(window, context, counter);
    }
    extrapolated(window, context, counter, 1.0)
}

/// The change over the whole window, divided by `per`.
fn extrapolated(window: &Window<'_>, context: &mut RangeContext<'_, '_>, counter: bool, per: f64) -> Option<Cell> {
    if !window.values.is_empty() && !window.histograms.is_empty() {
        context.warn(MIXED);
        return None;
    }
    if window.histograms.is_empty() {
        let (first, last) = (*window.times.first()?, *window.times.last()?);
        let counted =
            |at: usize| Counted { t: window.times.get(at).copied().unwrap_or_default(), start: window.start_at(at) };
        let began = if counter && !window.starts.is_empty() {
            warn_of_overlaps((0..window.times.len()).map(counted), context);
            counted(0).began_in(window)
        } else {
            None
        };
        let anew = |at: usize| !window.starts.is_empty() && counted(at).is_anew(counted(at - 1));
        let first_value = *window.values.first()?;
        let result = match (float_change(window.values, counter, anew), began) {
            (result, None) => result?,
            (result, Some(_)) => result.unwrap_or_default() + first_value,
        };
        let zero = (counter && result > 0.0 && first_value >= 0.0).then(|| first_value / result);
        let gaps = Gaps::of((first, last), window.times.len(), (window.start, window.end), began)?;
        hint_non_counter(context, counter);
        return Some(Cell::Float(result * (gaps.factor(zero) / per)));
    }
    let (first, last) = (window.histograms.first()?, window.histograms.last()?);
    let began = if counter { Counted::of(first).began_in(window) } else { None };
    let mut result = histogram_change(window.histograms, context, counter, began.is_some())?;
    let zero =
        (counter && result.count > 0.0 && first.histogram.count >= 0.0).then(|| first.histogram.count / result.count);
    let gaps = Gaps::of((first.t, last.t), window.histograms.len(), (window.start, window.end), began)?;
    result.scale(gaps.factor(zero) / per);
    Some(Cell::Histogram(Arc::new(result.into())))
}

/// When a sample was taken and when its counting began, 0 where that is not known.
#[derive(Clone, Copy)]
struct Counted {
    t: i64,
    start: i64,
}

impl Counted {
    fn of(sample: &HistogramSample) -> Self {
        Self { t: sample.t, start: sample.start }
    }

    /// Whether counting began anew between the sample before and this one. One that begins at the
    /// very time of the sample before is a difference, if that one had begun before its own time;
    /// else its beginning was not known.
    fn is_anew(self, before: Self) -> bool {
        match self.start {
            0 => false,
            start if start >= self.t => false,
            start if start == before.t => before.start != 0 && before.start < before.t,
            start => start > before.t,
        }
    }

    /// When counting began, where that is in the window and before the sample.
    fn began_in(self, window: &Window<'_>) -> Option<i64> {
        (self.start != 0 && self.start > window.start && self.start < self.t).then_some(self.start)
    }
}

/// Warns when counting seems to have begun anew before the last sample of the counting before.
fn warn_of_overlaps(samples: impl Iterator<Item = Counted>, context: &mut RangeContext<'_, '_>) {
    let mut before: Option<Counted> = None;
    for now in samples {
        if before.is_some_and(|before| now.start != 0 && now.start < before.t && now.start != before.start) {
            return context.warn(OVERLAPS);
        }
        before = Some(now);
    }
}

/// Last minus first of histograms, or minus zero if it is known that they `began` from there, with
/// what resets took away added back.
fn histogram_change(
    samples: &[HistogramSample],
    context: &mut RangeContext<'_, '_>,
    counter: bool,
    began: bool,
) -> Option<Work> {
    if samples.len() < 2 && !began {
        return None;
    }
    let hints: Vec<ResetHint> = samples.iter().map(|sample| sample.histogram.reset_hint).collect();
    warn_of_hints(&hints, context, counter);
    let mut works: Vec<Work> = samples.iter().map(|sample| Work::from(sample.histogram.as_ref())).collect();
    if counter && samples.iter().any(|sample| sample.start != 0) {
        warn_of_overlaps(samples.iter().map(Counted::of), context);
        for (pair, work) in samples.windows(2).zip(works.iter_mut().skip(1)) {
            if let [before, now] = pair
                && Counted::of(now).is_anew(Counted::of(before))
            {
                work.hint = ResetHint::Reset;
            }
        }
    }
    if let (true, Some(first)) = (began, works.first_mut()) {
        first.hint = ResetHint::Unknown;
        let zero = first.nothing();
        works.insert(0, zero);
    } else {
        forget_first_before_reset(&mut works, counter);
    }
    works_change(works, context, counter)
}

/// When the counter begins anew with the second sample, the first says nothing about the change,
/// and its buckets may be of any kind.
fn forget_first_before_reset(works: &mut [Work], counter: bool) {
    if let [first, second, ..] = works
        && counter
        && second.is_reset_after(first)
    {
        *first = second.nothing();
        second.hint = ResetHint::Unknown;
    }
}

fn instant(window: &Window<'_>, context: &mut RangeContext<'_, '_>, per_second: bool) -> Option<Cell> {
    let samples = in_order(&window.last(2));
    let [.., (t0, before), (t1, now)] = samples.as_slice() else { return None };
    let seconds = (t1 - t0) as f64 / 1000.0;
    match (before, now) {
        (Either::Float(before), Either::Float(now)) => {
            let anew = || {
                let place = |at: usize| Counted { t: if at == 0 { *t1 } else { *t0 }, start: last_start(window, at) };
                place(0).is_anew(place(1))
            };
            let value = if per_second && (now < before || anew()) { *now } else { now - before };
            Some(Cell::Float(if per_second { value / seconds } else { value }))
        }
        (Either::Histogram(before), Either::Histogram(now)) => {
            let gauge = |sample: &HistogramSample| sample.histogram.reset_hint == ResetHint::Gauge;
            if per_second && (gauge(before) || gauge(now)) {
                context.warn(NOT_A_COUNTER);
            }
            let gauges = gauge(before) && gauge(now);
            if !per_second && !gauges {
                context.warn(NOT_A_GAUGE);
            }
            let (first, mut result) = (Work::from(before.histogram.as_ref()), Work::from(now.histogram.as_ref()));
            let anew = Counted::of(now).is_anew(Counted::of(before));
            let reset = per_second && (anew || result.is_reset_after(&first));
            if first.is_custom() != result.is_custom() && !reset {
                context.warn(MIXED_SCHEMAS);
                return None;
            }
            if !reset {
                let added = result.add(&first, -1.0).ok()?;
                if added.reconciled {
                    context.eval.info(context.pos, "mismatched custom buckets were reconciled during subtraction");
                }
            }
            if per_second {
                result.map(|value| value / seconds);
            }
            result.hint = ResetHint::Gauge;
            Some(Cell::Histogram(Arc::new(result.into())))
        }
        _ => {
            context.warn(MIXED);
            None
        }
    }
}

/// When counting began for a float, by its place from the end.
fn last_start(window: &Window<'_>, from_end: usize) -> i64 {
    window.starts.len().checked_sub(from_end + 1).map_or(0, |at| window.start_at(at))
}

/// Slope and value at `origin` of the line closest to the samples.
fn regression(window: &Window<'_>, origin: i64) -> Option<(f64, f64)> {
    let first = *window.values.first()?;
    if window.values.len() < 2 {
        return None;
    }
    if window.values.iter().all(|value| *value == first) {
        return if first.is_infinite() { Some((f64::NAN, f64::NAN)) } else { Some((0.0, first)) };
    }
    let (mut x, mut y, mut xy, mut xx) = (Sum::default(), Sum::default(), Sum::default(), Sum::default());
    for (t, value) in window.times.iter().zip(window.values) {
        let seconds = (t - origin) as f64 / 1000.0;
        x.add(seconds);
        y.add(*value);
        xy.add(seconds * value);
        xx.add(seconds * seconds);
    }
    let n = window.values.len() as f64;
    let covariance = xy.value() - x.value() * y.value() / n;
    let variance = xx.value() - x.value() * x.value() / n;
    let slope = covariance / variance;
    Some((slope, y.value() / n - slope * x.value() / n))
}

fn deriv(window: &Window<'_>, _: &[f64], context: &mut RangeContext<'_, '_>) -> Option<Cell> {
    super::over_time::note_ignored(window, context);
    let (slope, _) = regression(window, *window.times.first()?)?;
    Some(Cell::Float(slope))
}

fn predict(window: &Window<'_>, params: &[f64], context: &mut RangeContext<'_, '_>) -> Option<Cell> {
    super::over_time::note_ignored(window, context);
    let (slope, value) = regression(window, window.now)?;
    Some(Cell::Float(slope * params.first()? + value))
}

/// How many pairs of neighbours are such.
fn count<'a>(
    samples: &[(i64, Either<'a>)],
    context: &mut RangeContext<'_, '_>,
    such: impl Fn(&&[(i64, Either<'a>)]) -> bool,
) -> Option<Cell> {
    let mut count = 0_u32;
    for pair in samples.windows(2) {
        if let [_, (_, Either::Histogram(now))] = pair
            && !context.goes_on(histogram_cost(&now.histogram))
        {
            return None;
        }
        count += u32::from(such(&pair));
    }
    Some(Cell::Float(f64::from(count)))
}

fn resets(window: &Window<'_>, _: &[f64], context: &mut RangeContext<'_, '_>) -> Option<Cell> {
    let samples = super::edges::counted(window, context)?;
    let counted = |t: i64| {
        let place = if window.starts.is_empty() { None } else { window.times.binary_search(&t).ok() };
        Counted { t, start: place.map_or(0, |place| window.start_at(place)) }
    };
    let reset = |pair: &&[(i64, Either<'_>)]| match pair {
        [(t0, Either::Float(before)), (t1, Either::Float(now))] => now < before || counted(*t1).is_anew(counted(*t0)),
        [(_, Either::Histogram(before)), (_, Either::Histogram(now))] => {
            Counted::of(now).is_anew(Counted::of(before))
                || Work::from(now.histogram.as_ref()).is_reset_after(&Work::from(before.histogram.as_ref()))
        }
        _ => true,
    };
    count(&samples, context, reset)
}

fn changes(window: &Window<'_>, _: &[f64], context: &mut RangeContext<'_, '_>) -> Option<Cell> {
    let samples = super::edges::counted(window, context)?;
    let changed = |pair: &&[(i64, Either<'_>)]| match pair {
        [(_, Either::Float(before)), (_, Either::Float(now))] => now != before && !(now.is_nan() && before.is_nan()),
        [(_, Either::Histogram(before)), (_, Either::Histogram(now))] => {
            !Work::from(now.histogram.as_ref()).equals(&Work::from(before.histogram.as_ref()))
        }
        _ => true,
    };
    count(&samples, context, changed)
}

fn smoothing(window: &Window<'_>, params: &[f64], context: &mut RangeContext<'_, '_>) -> Option<Cell> {
    let [factor, trend_factor] = params else { return None };
    for (value, name) in [(factor, "smoothing"), (trend_factor, "trend")] {
        // NaN is let through, and all that comes of it is NaN.
        if *value <= 0.0 || *value >= 1.0 {
            let sign = if name == "smoothing" { "sf" } else { "tf" };
            let message = format!("invalid {name} factor. Expected: 0 < {sign} < 1, got: {value:.6}");
            context.eval.failure = Some(PromqlError::Execution(message));
            return None;
        }
    }
    super::over_time::note_ignored(window, context);
    let [first, second, ..] = window.values else { return None };
    let (mut smooth, mut trend, mut before) = (*first, second - first, 0.0);
    for (at, value) in window.values.iter().enumerate().skip(1) {
        if at > 1 {
            trend = trend_factor * (smooth - before) + (1.0 - trend_factor) * trend;
        }
        let next = factor * value + (1.0 - factor) * (smooth + trend);
        before = smooth;
        smooth = next;
    }
    Some(Cell::Float(smooth))
}
