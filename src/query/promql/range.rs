//! Range vectors: series of samples over which windows slide, left-open as in Prometheus 3.

use std::sync::Arc;

use super::PromqlError;
use super::ast::{At, Edges, Selector, Subquery};
use super::run::{Eval, Grid};
use super::samples::{Held, Samples, drop_stale};
use super::value::{CellRef, Column, Value, histogram_cost};
use crate::base::limits::LimitError;
use crate::model::histogram::{Histogram, ResetHint};
use crate::model::labels::Labels;
use crate::model::sample::{Columns, HistogramSample, Times};
use crate::model::time::RangeMs;
use crate::query::pace::ByBlock;

/// What is done with the labels of a series, whether its name goes, and its samples.
type EachSeries<'v> = dyn FnMut(&mut Eval<'_>, &Labels, bool, &Columns) -> Result<(), PromqlError> + 'v;

/// A range vector over a grid.
pub(super) struct Matrix {
    /// The series.
    pub samples: Samples,
    /// Length of a window, milliseconds.
    pub range: i64,
    /// Milliseconds back from the step.
    pub offset: i64,
    /// A fixed time.
    pub at: Option<At>,
    /// How the edges are treated.
    pub edges: Edges,
    /// Milliseconds that anchored and smoothed ranges look beyond their edges.
    pub beyond: i64,
}

impl Matrix {
    /// Shows each series, without stale markers, to whoever slides over it by himself.
    ///
    /// # Errors
    /// What the store, the budget or `visit` says.
    pub(super) fn each(&self, eval: &mut Eval<'_>, visit: &mut EachSeries<'_>) -> Result<(), PromqlError> {
        self.samples.read(eval, 0..self.samples.len(), &mut |eval, place, columns| {
            drop_stale(columns);
            match self.samples.series(place) {
                Some((labels, drop_name)) => visit(eval, labels, drop_name, columns),
                None => Ok(()),
            }
        })
    }
}

/// What a range function sees of a series at one step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window<'a> {
    /// Times of the float samples.
    pub times: &'a [i64],
    /// The float samples.
    pub values: &'a [f64],
    /// When counting began for each float sample; empty when known of none.
    pub starts: &'a [i64],
    /// The histogram samples.
    pub histograms: &'a [HistogramSample],
    /// The window begins after this time.
    pub start: i64,
    /// The window ends with this time.
    pub end: i64,
    /// The time of the step.
    pub now: i64,
}

impl Window<'_> {
    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.times.is_empty() && self.histograms.is_empty()
    }

    /// The last few samples of each kind.
    pub(super) fn last(&self, count: usize) -> Self {
        let last = |length: usize| length.saturating_sub(count)..;
        Self {
            times: self.times.get(last(self.times.len())).unwrap_or_default(),
            values: self.values.get(last(self.values.len())).unwrap_or_default(),
            starts: self.starts.get(last(self.starts.len())).unwrap_or_default(),
            histograms: self.histograms.get(last(self.histograms.len())).unwrap_or_default(),
            ..*self
        }
    }

    /// When counting began for the float at a place; 0 when not known.
    pub(super) fn start_at(&self, place: usize) -> i64 {
        self.starts.get(place).copied().unwrap_or_default()
    }
}

/// Reads the samples of a range selector.
///
/// # Errors
/// What the store or the budget says.
pub(super) fn of_selector(
    eval: &mut Eval<'_>,
    selector: &Selector,
    range: i64,
    grid: &Grid,
) -> Result<Matrix, PromqlError> {
    let first = eval.looks_at(selector.at, selector.offset, grid, 0);
    let last = eval.looks_at(selector.at, selector.offset, grid, grid.steps.saturating_sub(1));
    let before = if selector.edges == Edges::Plain { 0 } else { eval.lookback };
    let after = if selector.edges == Edges::Smoothed { eval.lookback } else { 0 };
    let wide = RangeMs {
        start: first.saturating_sub(range).saturating_sub(before).saturating_add(1),
        end: last.saturating_add(after),
    };
    let samples = Samples::select(eval, selector, wide)?;
    let Selector { offset, at, edges, .. } = *selector;
    Ok(Matrix { samples, range, offset, at, edges, beyond: eval.lookback })
}

/// Evaluates a subquery over all its windows at once.
///
/// # Errors
/// What its expression, the store or the budget says.
pub(super) fn of_subquery(eval: &mut Eval<'_>, subquery: &Subquery, grid: &Grid) -> Result<Matrix, PromqlError> {
    let first = eval.looks_at(subquery.at, subquery.offset, grid, 0);
    let last = eval.looks_at(subquery.at, subquery.offset, grid, grid.steps.saturating_sub(1));
    let step = subquery.step.unwrap_or(eval.default_step).max(1);
    // Steps are multiples of the step since 1970; the first lies after the left edge.
    let start = first.saturating_sub(subquery.range).div_euclid(step).saturating_add(1).saturating_mul(step);
    let inner = Grid::between(start, last, step)?;
    let mut series = Vec::new();
    if inner.steps > 0 {
        // The samples within are counted when windows of the outer steps look at what comes of them.
        let counted = eval.counted.take();
        let vector = match eval.eval(&subquery.expr, &inner)? {
            Value::Vector(vector) => vector,
            Value::Scalar(_) | Value::String(_) => Vec::new(),
        };
        eval.counted = counted;
        // Series with a sample at every step share their times.
        eval.budget.charge(8 * inner.steps)?;
        let all_times: Times = (0..inner.steps).map(|step| inner.time(step)).collect();
        eval.budget.charge(size_of::<Held>() * vector.len())?;
        for one in vector {
            eval.spend(2 * inner.steps)?;
            let columns = match one.column.into_dense() {
                Ok(values) => Columns { times: all_times.clone(), values, ..Columns::default() },
                Err(column) => sparse(eval, &column, &inner)?,
            };
            series.push(Held { labels: one.labels, drop_name: one.drop_name, columns });
        }
    }
    let Subquery { range, offset, at, .. } = *subquery;
    Ok(Matrix { samples: Samples::Held(series), range, offset, at, edges: Edges::Plain, beyond: 0 })
}

fn sparse(eval: &mut Eval<'_>, column: &Column, inner: &Grid) -> Result<Columns, PromqlError> {
    // The values take the place of the column.
    eval.budget.charge(2 * size_of::<i64>() * inner.steps)?;
    let mut charged = ByBlock::new(eval.budget);
    let (mut times, mut columns) = (Vec::new(), Columns::default());
    for step in 0..inner.steps {
        match column.get(step) {
            CellRef::None => {}
            CellRef::Float(value) => {
                times.push(inner.time(step));
                columns.values.push(value);
            }
            CellRef::Histogram(histogram) => {
                eval.spend(histogram_cost(histogram))?;
                charged.add(2 * size_of::<HistogramSample>())?;
                let histogram = without_hint(histogram, &mut charged)?;
                columns.histograms.push(HistogramSample { t: inner.time(step), start: 0, histogram });
            }
        }
    }
    charged.settle()?;
    columns.times = times.into();
    Ok(columns)
}

/// A subquery leaves samples out and repeats others, so what they say about resets before them does
/// not hold between its steps.
fn without_hint(histogram: &Arc<Histogram>, charged: &mut ByBlock<'_>) -> Result<Arc<Histogram>, LimitError> {
    match histogram.reset_hint {
        ResetHint::Unknown | ResetHint::Gauge => Ok(histogram.clone()),
        ResetHint::Reset | ResetHint::NotReset => {
            charged.add(histogram.bytes())?;
            Ok(Arc::new(Histogram { reset_hint: ResetHint::Unknown, ..histogram.as_ref().clone() }))
        }
    }
}

/// Slides a window over one series. Windows must be asked for in the order of steps.
pub(super) struct Slide<'m> {
    columns: &'m Columns,
    floats: (usize, usize),
    histograms: (usize, usize),
}

impl<'m> Slide<'m> {
    /// At the beginning of a series.
    pub(super) fn new(columns: &'m Columns) -> Self {
        Self { columns, floats: (0, 0), histograms: (0, 0) }
    }

    /// The samples after `start` up to and with `end`.
    pub(super) fn to(&mut self, start: i64, end: i64, now: i64) -> Window<'m> {
        let Columns { times, values, starts, histograms } = self.columns;
        self.floats = moved(self.floats, times, |t| *t, start, end);
        self.histograms = moved(self.histograms, histograms, |sample| sample.t, start, end);
        let floats = self.floats.0..self.floats.1;
        Window {
            times: times.get(floats.clone()).unwrap_or_default(),
            values: values.get(floats.clone()).unwrap_or_default(),
            starts: starts.get(floats).unwrap_or_default(),
            histograms: histograms.get(self.histograms.0..self.histograms.1).unwrap_or_default(),
            start,
            end,
            now,
        }
    }
}

fn moved<T>(
    (mut from, mut to): (usize, usize),
    items: &[T],
    time: impl Fn(&T) -> i64,
    start: i64,
    end: i64,
) -> (usize, usize) {
    while items.get(from).is_some_and(|item| time(item) <= start) {
        from += 1;
    }
    to = to.max(from);
    while items.get(to).is_some_and(|item| time(item) <= end) {
        to += 1;
    }
    (from, to)
}
