//! Metrics over spans: `rate`, `*_over_time`, `compare`, by fields, on a grid of times.
//! Flow: spans of blocks in range that a filter alone decides are counted as they are read; traces
//! that only the whole can decide (structure, pipelines, roots) are joined afterwards. A sample at T
//! covers (T - step, T].

use super::QueryError;
use super::assemble::{Open, gather};
use super::ast::{CompareOp, Field, Metric, MetricFunction, Query, SecondStage};
use super::compare::CompareSink;
use super::eval::Around;
use super::hints::Drivers;
use super::series::SeriesSink;
use super::spanset;
use super::value::{Truth, holds};
use super::view::TraceView;
use crate::base::limits::QueryBudget;
use crate::model::span::{Attrs, Span, TraceId};
use crate::model::time::RangeNs;
use crate::store::SelectTraces;

/// Most samples of one series.
const SAMPLES_MAX: i64 = 11_000;
/// Memory that a remembered trace id takes, in bytes.
const SEEN_BYTES: usize = 64;

/// Times at which samples lie: `count` of them, `step` apart, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// The first.
    pub first: i64,
    /// The distance.
    pub step: i64,
    /// How many.
    pub count: usize,
}

impl Grid {
    /// Multiples of `step` from the last not after `start` to the first not before `end`.
    ///
    /// # Errors
    /// [`QueryError::Invalid`] when the range or the step makes no sense, or there are too many.
    pub fn range(start: i64, end: i64, step: i64) -> Result<Self, QueryError> {
        if step <= 0 {
            return Err(QueryError::Invalid("step must be above 0".to_owned()));
        }
        if start >= end {
            return Err(QueryError::Invalid("start must be before end".to_owned()));
        }
        let outside = || QueryError::Invalid("the time range is out of bounds".to_owned());
        let first = start.div_euclid(step).checked_mul(step).ok_or_else(outside)?;
        let last =
            end.checked_add(step - 1).and_then(|end| end.div_euclid(step).checked_mul(step)).ok_or_else(outside)?;
        first.checked_sub(step).ok_or_else(outside)?;
        let count = last.checked_sub(first).ok_or_else(outside)? / step + 1;
        if count > SAMPLES_MAX {
            let what = format!("{count} samples per series are over the limit of {SAMPLES_MAX}: use a larger step");
            return Err(QueryError::Invalid(what));
        }
        Ok(Self { first, step, count: usize::try_from(count).unwrap_or_default() })
    }

    /// One sample at `end` that covers all since `start`.
    ///
    /// # Errors
    /// [`QueryError::Invalid`] when the range is empty.
    pub fn instant(start: i64, end: i64) -> Result<Self, QueryError> {
        match end.checked_sub(start) {
            Some(step) if step > 0 => Ok(Self { first: end, step, count: 1 }),
            _ => Err(QueryError::Invalid("start must be before end".to_owned())),
        }
    }

    /// The sample that covers `t`.
    pub fn index(self, t: i64) -> Option<usize> {
        let since = t.checked_sub(self.first - self.step)?;
        let index = usize::try_from((since - 1).div_euclid(self.step)).ok()?;
        (since > 0 && index < self.count).then_some(index)
    }

    /// Milliseconds since the Unix epoch of a sample.
    pub fn time_ms(self, index: usize) -> i64 {
        (self.first + self.step * i64::try_from(index).unwrap_or_default()).div_euclid(1_000_000)
    }

    fn range_ns(self) -> RangeNs {
        let last = self.first + self.step * i64::try_from(self.count.saturating_sub(1)).unwrap_or_default();
        RangeNs { start: self.first - self.step + 1, end: last.saturating_add(1) }
    }
}

/// A span that stands for a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MetricExemplar {
    /// Its trace.
    pub trace_id: TraceId,
    /// When it began, in milliseconds since the Unix epoch.
    pub t: i64,
    /// Its value, or that of its sample.
    pub value: f64,
}

/// A series of a metrics query.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetricSeries {
    /// Who it is, in the order of `by`.
    pub labels: Attrs,
    /// Milliseconds since the Unix epoch and value, in time order.
    pub samples: Vec<(i64, f64)>,
    /// Spans that stand for samples.
    pub exemplars: Vec<MetricExemplar>,
}

/// The answer of a metrics query.
#[derive(Clone, Debug, Default)]
pub struct MetricResult {
    /// The series, by labels.
    pub series: Vec<MetricSeries>,
    /// Spans read.
    pub inspected_spans: u64,
    /// Blocks in range.
    pub blocks: u64,
}

/// What matched spans are added to.
enum Sink<'a> {
    Series(SeriesSink<'a>),
    Compare(CompareSink<'a>),
}

impl Sink<'_> {
    fn add(&mut self, around: Around<'_>, at: usize, budget: &QueryBudget) -> Result<(), QueryError> {
        match self {
            Self::Series(sink) => sink.add(around, at, budget),
            Self::Compare(sink) => sink.add(around, at, budget),
        }
    }
}

/// Computes a metrics query. At most about `exemplars` exemplars come with it.
///
/// # Errors
/// [`QueryError`]: the store failed, the budget is used up, or the query is not one for metrics.
pub fn metric(
    store: &dyn SelectTraces,
    query: &Query,
    grid: Grid,
    exemplars: usize,
    budget: &QueryBudget,
) -> Result<MetricResult, QueryError> {
    let Some(metric) = &query.metric else {
        let what = "not a metrics query: it needs a function such as rate() after its filter";
        return Err(QueryError::Invalid(what.to_owned()));
    };
    let sink = match &metric.function {
        MetricFunction::Compare { selection, top, between } => {
            Sink::Compare(CompareSink::new(grid, selection.as_ref(), *top, *between))
        }
        _ => Sink::Series(SeriesSink::new(grid, metric, exemplars)),
    };
    let drivers = Drivers::of(query);
    let blocks = store.blocks(grid.range_ns(), &drivers.hints(), budget)?;
    let mut result = MetricResult { blocks: blocks.len() as u64, ..MetricResult::default() };
    let mut scan = Scan { query, grid, alone: decided_alone(query, metric), drivers, sink, open: Open::new() };
    for block in blocks {
        let spans = block.read(budget)?;
        budget.touch(spans.len())?;
        result.inspected_spans += spans.len() as u64;
        scan.block(&spans, budget)?;
    }
    while !scan.open.is_empty() {
        let gathered = gather(store, &mut scan.open, grid.range_ns(), budget)?;
        for trace in &gathered.traces {
            scan.whole(trace, budget)?;
        }
        budget.release(gathered.charged);
    }
    result.series = match scan.sink {
        Sink::Series(sink) => sink.finish(budget)?,
        Sink::Compare(sink) => sink.finish(),
    };
    for stage in &metric.then {
        second_stage(*stage, &mut result.series);
    }
    Ok(result)
}

/// Whether spans can be counted without their whole trace, as far as the filter is certain.
fn decided_alone(query: &Query, metric: &Metric) -> bool {
    let fields = metric.by.iter().chain(metric.function.field());
    let selection = match &metric.function {
        MetricFunction::Compare { selection: Some(selection), .. } => selection.any_field(Field::needs_trace),
        _ => false,
    };
    query.only_filter().is_some() && !selection && !fields.into_iter().any(Field::needs_trace)
}

struct Scan<'a> {
    query: &'a Query,
    grid: Grid,
    alone: bool,
    drivers: Drivers<'a>,
    sink: Sink<'a>,
    /// Traces to be joined.
    open: Open,
}

impl Scan<'_> {
    fn block(&mut self, spans: &[Span], budget: &QueryBudget) -> Result<(), QueryError> {
        for (done, span) in spans.iter().enumerate() {
            if done % 4_096 == 0 {
                budget.check()?;
            }
            let around = Around::alone(span);
            let at = self.grid.index(span.start);
            let truth = match self.query.only_filter() {
                Some(filter) if self.alone => filter.map_or(Truth::Yes, |filter| around.truth(filter)),
                _ => match self.drivers.may_match(span) {
                    true => Truth::Unknown,
                    false => Truth::No,
                },
            };
            match (truth, at) {
                (Truth::Yes, Some(at)) => self.sink.add(around, at, budget)?,
                // A pipeline may count other spans of the trace than the one that led to it.
                (Truth::Unknown, at) if at.is_some() || !self.alone => {
                    let known = self.open.insert(span.trace_id, span.start).is_some();
                    budget.charge(if known { 0 } else { SEEN_BYTES })?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Counts what the scan of blocks left open in one trace.
    fn whole(&mut self, trace: &TraceView, budget: &QueryBudget) -> Result<(), QueryError> {
        let filter = self.query.only_filter().flatten();
        for set in spanset::run(&self.query.stages, trace, budget)? {
            for at in set.spans {
                let around = Around::within(trace, at);
                let counted =
                    self.alone && filter.is_none_or(|filter| Around::alone(around.span).truth(filter) == Truth::Yes);
                if let (false, Some(index)) = (counted, self.grid.index(around.span.start)) {
                    self.sink.add(around, index, budget)?;
                }
            }
        }
        Ok(())
    }
}

fn second_stage(stage: SecondStage, series: &mut Vec<MetricSeries>) {
    match stage {
        SecondStage::Filter(op, with) => {
            for own in series.iter_mut() {
                own.samples.retain(|(_, value)| match value.partial_cmp(&with) {
                    Some(order) => holds(op, order),
                    None => op == CompareOp::NotEqual,
                });
            }
        }
        SecondStage::TopK(count) => keep_best(series, count, |value| -value),
        SecondStage::BottomK(count) => keep_best(series, count, |value| value),
    }
    series.retain(|own| !own.samples.is_empty());
}

/// At each time keeps the samples of `count` series, those of least rank.
fn keep_best(series: &mut [MetricSeries], count: usize, rank: impl Fn(f64) -> f64) {
    let mut times: std::collections::BTreeMap<i64, Vec<(f64, usize)>> = Default::default();
    for (at, own) in series.iter().enumerate() {
        for (t, value) in &own.samples {
            times.entry(*t).or_default().push((rank(*value), at));
        }
    }
    for ranks in times.values_mut() {
        ranks.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        ranks.truncate(count);
    }
    for (at, own) in series.iter_mut().enumerate() {
        own.samples.retain(|(t, _)| times.get(t).is_some_and(|ranks| ranks.iter().any(|(_, best)| *best == at)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_minutes_at_one_have_eleven_samples() {
        let minute = 60_000_000_000;
        let grid = Grid::range(20 * minute, 30 * minute, minute).unwrap();
        assert_eq!((grid.first, grid.count), (20 * minute, 11));
        assert_eq!(grid.index(20 * minute), Some(0));
        assert_eq!(grid.index(20 * minute + 1), Some(1));
        assert_eq!(grid.index(19 * minute), None);
        assert_eq!(grid.index(30 * minute), Some(10));
        assert_eq!(grid.index(30 * minute + 1), None);
        assert_eq!(Grid::range(20 * minute + 1, 30 * minute - 1, minute).unwrap(), grid);
    }

    #[test]
    fn ranges_without_sense_are_refused() {
        for (start, end, step) in
            [(0, 10, 0), (10, 10, 1), (0, 1_000_000, 1), (i64::MIN, i64::MAX, 7), (0, i64::MAX, 9)]
        {
            assert!(Grid::range(start, end, step).is_err());
        }
    }
}
