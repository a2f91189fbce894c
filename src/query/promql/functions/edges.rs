//! Ranges whose edges have values: `anchored` takes the last sample before the window for its
//! start, `smoothed` draws a line between the samples on both sides of an edge.

use super::RangeContext;
use super::rate::{self, Either, MIXED};
use crate::query::promql::ast::Edges;
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

/// What [`rate::rate`] and its kin divide up, for ranges with values at their edges.
pub(super) fn change(window: &Window<'_>, context: &mut RangeContext<'_, '_>, counter: bool) -> Option<Cell> {
    if !window.histograms.is_empty() {
        if !window.values.is_empty() {
            context.warn(MIXED);
        }
        return None;
    }
    rate::hint_non_counter(context, counter);
    let samples: Vec<(i64, f64)> = window.times.iter().copied().zip(window.values.iter().copied()).collect();
    let (before, inside, after) = parts(&samples, |sample| sample.0, window.start, window.end);
    let mut values = Vec::with_capacity(inside.len() + 2);
    if context.edges == Edges::Anchored {
        if inside.is_empty() {
            return None;
        }
        values.extend(before.map(|(_, value)| value));
        values.extend(inside.iter().map(|(_, value)| *value));
        if values.len() == 1 {
            return Some(Cell::Float(0.0));
        }
        return rate::float_change(&values, counter).map(Cell::Float);
    }
    let next = inside.first().copied().or(after);
    if let (Some(before), Some(next)) = (before, next) {
        values.push(if before.0 == window.start { before.1 } else { between(before, next, window.start, counter) });
    } else if let (Some(before), None) = (before, next) {
        values.push(before.1);
    }
    values.extend(inside.iter().map(|(_, value)| *value));
    let last = inside.last().copied().or(before);
    if let (Some(last), Some(after)) = (last, after)
        && last.0 != window.end
    {
        values.push(between(last, after, window.end, counter));
    }
    match values.as_slice() {
        [] => None,
        [_] => Some(Cell::Float(0.0)),
        values => rate::float_change(values, counter).map(Cell::Float),
    }
}

/// The samples that `changes` and `resets` compare.
pub(super) fn counted<'a>(window: &Window<'a>, context: &RangeContext<'_, '_>) -> Option<Vec<(i64, Either<'a>)>> {
    let samples = rate::in_order(window);
    if context.edges == Edges::Plain {
        return (!samples.is_empty()).then_some(samples);
    }
    let (before, inside, _) = parts(&samples, |sample| sample.0, window.start, window.end);
    if inside.is_empty() {
        return None;
    }
    Some(before.into_iter().chain(inside.iter().copied()).collect())
}
