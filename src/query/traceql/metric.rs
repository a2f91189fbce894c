//! Metrics over spans: `rate`, `*_over_time`, `compare`, by fields, on a grid of times.
//! Flow: spans of blocks in range that a filter alone decides are counted as they are read; traces
//! that only the whole can decide (structure, pipelines, roots) are joined afterwards. A sample at T
//! covers (T - step, T].

use super::assemble::{Open, gather};
use super::ast::{Field, Metric, MetricFunction, Query};
use super::compare::CompareSink;
use super::error::QueryError;
use super::eval::Around;
use super::hints::Drivers;
use super::second;
use super::series::SeriesSink;
use super::spanset;
use super::value::Truth;
use super::view::TraceView;
use crate::base::limits::QueryBudget;
use crate::model::span::Span;
use crate::query::pace::Pace;
use crate::store::{SelectTraces, WantedAttrs};

pub use super::grid::{Grid, MetricExemplar, MetricSeries};

/// Memory that a remembered trace id takes, in bytes.
const SEEN_BYTES: usize = 64;

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
    let wanted = match &metric.function {
        MetricFunction::Compare { .. } => WantedAttrs::All,
        function => drivers.wanted(metric.by.iter().chain(function.field())),
    };
    let mut scan = Scan { query, grid, alone: decided_alone(query, metric), drivers, sink, open: Open::new() };
    for block in blocks {
        let spans = block.read(&wanted, budget)?;
        budget.touch(spans.len())?;
        result.inspected_spans += spans.len() as u64;
        scan.block(&spans, budget)?;
    }
    while !scan.open.is_empty() {
        let gathered = gather(store, &mut scan.open, grid.range_ns(), budget)?;
        for trace in &gathered.traces {
            scan.whole(trace, budget)?;
        }
    }
    let pace = Pace::new(budget);
    result.series = match scan.sink {
        Sink::Series(sink) => sink.finish(&pace)?,
        Sink::Compare(sink) => sink.finish(&pace)?,
    };
    for stage in &metric.then {
        second::run(*stage, &mut result.series, budget)?;
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
        let pace = Pace::new(budget);
        for span in spans {
            pace.go(64)?;
            let around = Around::alone(span).paced(&pace);
            let at = self.grid.index(span.start);
            let truth = match self.query.only_filter() {
                Some(filter) if self.alone => filter.map_or(Truth::Yes, |filter| around.truth(filter)),
                _ => match self.drivers.may_match(span, &pace) {
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
        Ok(pace.result()?)
    }

    /// Counts what the scan of blocks left open in one trace.
    fn whole(&mut self, trace: &TraceView, budget: &QueryBudget) -> Result<(), QueryError> {
        let filter = self.query.only_filter().flatten();
        let pace = Pace::new(budget);
        for set in spanset::run(&self.query.stages, trace, budget)? {
            for at in set.spans {
                pace.go(64)?;
                let around = Around::within(trace, at).paced(&pace);
                let alone = || Around::alone(around.span).paced(&pace);
                let counted = self.alone && filter.is_none_or(|filter| alone().truth(filter) == Truth::Yes);
                if let (false, Some(index)) = (counted, self.grid.index(around.span.start)) {
                    self.sink.add(around, index, budget)?;
                }
            }
        }
        Ok(pace.result()?)
    }
}
