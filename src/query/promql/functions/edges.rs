//! Ranges whose edges have values: `anchored` takes the last sample before the window for its
//! start, `smoothed` draws a line between the samples on both sides of an edge.

use std::sync::Arc;

use super::change::{self, Either};
use super::row::RangeContext;
use crate::model::histogram::ResetHint;
use crate::query::promql::ast::Edges;
use crate::query::promql::native::Work;
use crate::query::promql::notes::{MIXED, MIXED_SCHEMAS};
use crate::query::promql::range::Window;
use crate::query::promql::value::Cell;

/// Splits a window that reaches beyond its edges: the last sample up to its start, those inside,
/// and the first after its end.
fn parts<T: Copy>(items: &[T], time: impl Fn(&T) -> i64, start: i64, end: i64) -> (Option<T>, &[T], Option<T>) {
    let from = items.partition_point(|item| time(item) <= start);
    let to = items.partition_point(|item| time(item) <= end);
    let before = from.checked_sub(1).and_then(|at| items.get(at)).copied();
    (before, items.get(from..to).unwrap_or_default(), items.get(to).copied())
}

/// The value at `time` on the line between two samples. A counter that fell began anew from zero.
fn between(a: (i64, f64), b: (i64, f64), time: i64, counter: bool) -> f64 {
    let from = if counter && b.1 < a.1 { 0.0 } else { a.1 };
    from + (b.1 - from) * (time - a.0) as f64 / (b.0 - a.0) as f64
}

/// The samples around and in a window: the last before it, those inside, the first after it.
type Parts<'a> = (Option<(i64, Either<'a>)>, Vec<(i64, Either<'a>)>, Option<(i64, Either<'a>)>);

/// What `rate` and its kin divide up, for ranges with values at their edges.
pub(super) fn change(window: &Window<'_>, context: &mut RangeContext<'_, '_>, counter: bool) -> Option<Cell> {
    let samples = change::in_order(window);
    let (before, inside, after) = parts(&samples, |sample| sample.0, window.start, window.end);
    let after = if context.edges == Edges::Anchored { None } else { after };
    if inside.is_empty() && (before.is_none() || after.is_none()) {
        return None;
    }
    let parts: Parts<'_> = (before, inside.to_vec(), after);
    let used = || before.iter().chain(inside).chain(&after);
    let floats = used().filter(|(_, sample)| matches!(sample, Either::Float(_))).count();
    if floats == used().count() {
        change::hint_non_counter(context, counter);
        return float_change(window, context, counter, &parts);
    }
    if floats > 0 {
        context.warn(MIXED);
        return None;
    }
    histogram_change(window, context, counter, &parts)
}

fn float_change(
    window: &Window<'_>,
    context: &RangeContext<'_, '_>,
    counter: bool,
    (before, inside, after): &Parts<'_>,
) -> Option<Cell> {
    let float = |(t, sample): &(i64, Either<'_>)| match sample {
        Either::Float(value) => Some((*t, *value)),
        Either::Histogram(_) => None,
    };
    let inside: Vec<(i64, f64)> = inside.iter().filter_map(float).collect();
    let (before, after) = (before.as_ref().and_then(float), after.as_ref().and_then(float));
    let mut values = Vec::with_capacity(inside.len() + 2);
    if let Some(before) = before {
        let next = inside.first().copied().or(after);
        values.push(match next {
            Some(next) if context.edges == Edges::Smoothed && before.0 != window.start => {
                between(before, next, window.start, counter)
            }
            _ => before.1,
        });
    }
    values.extend(inside.iter().map(|(_, value)| *value));
    if let (Some(last), Some(after)) = (inside.last().copied().or(before), after)
        && last.0 != window.end
    {
        values.push(between(last, after, window.end, counter));
    }
    match values.as_slice() {
        [] => None,
        [_] => Some(Cell::Float(0.0)),
        values => change::float_change(values, counter, |_| false).map(Cell::Float),
    }
}

fn histogram_change(
    window: &Window<'_>,
    context: &mut RangeContext<'_, '_>,
    counter: bool,
    (before, inside, after): &Parts<'_>,
) -> Option<Cell> {
    let work = |(t, sample): &(i64, Either<'_>)| match sample {
        Either::Float(_) => None,
        Either::Histogram(sample) => Some((*t, Work::from(sample.histogram.as_ref()))),
    };
    let mut inside: Vec<(i64, Work)> = inside.iter().filter_map(work).collect();
    let (before, after) = (before.as_ref().and_then(work), after.as_ref().and_then(work));
    let hints: Vec<ResetHint> = before.iter().chain(&inside).chain(&after).map(|(_, work)| work.hint).collect();
    change::warn_of_hints(&hints, context, counter);
    let share = |a: i64, b: i64, t: i64| (t - a) as f64 / (b - a) as f64;
    let last = inside.last().or(before.as_ref()).cloned();
    let empty_inside = inside.is_empty();
    let mut works = Vec::with_capacity(inside.len() + 2);
    if let Some((t, before)) = &before {
        let next = inside.first_mut().map(|(t, work)| (*t, work));
        let left = match (next, &after) {
            _ if context.edges == Edges::Anchored => Ok(before.clone()),
            (Some((next_t, next)), _) => {
                let left = before.towards(next, share(*t, next_t, window.start), counter);
                if counter && next.is_reset_after(before) {
                    // The reset is in what was interpolated; it must not count again.
                    next.hint = ResetHint::Unknown;
                }
                left
            }
            (None, Some((next_t, next))) => before.towards(next, share(*t, *next_t, window.start), counter),
            (None, None) => Ok(before.clone()),
        };
        let Ok(left) = left else {
            context.warn(MIXED_SCHEMAS);
            return None;
        };
        works.push(left);
    }
    works.extend(inside.into_iter().map(|(_, work)| work));
    if let (Some((t, last)), Some((after_t, after))) = (last, after)
        && t != window.end
    {
        let Ok(mut right) = last.towards(&after, share(t, after_t, window.end), counter) else {
            context.warn(MIXED_SCHEMAS);
            return None;
        };
        if empty_inside {
            right.hint = ResetHint::Unknown;
        }
        works.push(right);
    }
    if let [only] = works.as_slice() {
        works.push(only.clone());
        works.iter_mut().for_each(|work| work.hint = ResetHint::Unknown);
    }
    let result = change::works_change(works, context, counter)?;
    Some(Cell::Histogram(Arc::new(result.into())))
}

/// The samples that `changes` and `resets` compare.
pub(super) fn counted<'a>(window: &Window<'a>, context: &RangeContext<'_, '_>) -> Option<Vec<(i64, Either<'a>)>> {
    let samples = change::in_order(window);
    if context.edges == Edges::Plain {
        return (!samples.is_empty()).then_some(samples);
    }
    let (before, inside, _) = parts(&samples, |sample| sample.0, window.start, window.end);
    if inside.is_empty() {
        return None;
    }
    Some(before.into_iter().chain(inside.iter().copied()).collect())
}
