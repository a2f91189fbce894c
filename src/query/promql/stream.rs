//! Series that are computed one by one: a selector, or a function of its ranges, and what is done to
//! each cell after it. A series is read, its column computed, handed on, and its samples dropped, so
//! that an aggregation of any number of series holds no more than its groups.

use std::ops::Range;

use super::PromqlError;
use super::leaf::{Leaf, Scratch};
use super::run::{Eval, Grid};
use super::spread::spread;
use super::value::{Cell, CellRef, Column, Series, Value, Vector, cost, series_bytes};
use crate::model::labels::Labels;

/// What a series costs before anything is computed, in nanoseconds; then a sample that is read, and
/// a step. They decide only how many threads are worth their start.
const SERIES_NS: usize = 500;
const SAMPLE_NS: usize = 5;
const STEP_NS: usize = 4;
/// Between two samples, as far as anybody knows before reading them, milliseconds.
const SCRAPE_MS: i64 = 15_000;

/// An expression whose series may not have been computed yet.
pub(super) enum Open<'q> {
    /// A float for each step.
    Scalar(Vec<f64>),
    /// A string.
    String(String),
    /// Series.
    Vector(Vector),
    /// Series to be computed.
    Stream(Stream<'q>),
}

impl From<Value> for Open<'_> {
    fn from(value: Value) -> Self {
        match value {
            Value::Scalar(values) => Self::Scalar(values),
            Value::String(text) => Self::String(text),
            Value::Vector(vector) => Self::Vector(vector),
        }
    }
}

/// What is done to one cell at a step.
type OfCell<'q> = dyn Fn(&mut Eval<'_>, usize, CellRef<'_>) -> Result<Option<Cell>, PromqlError> + Send + Sync + 'q;
/// The same for many cells at once, where all are floats, with the step of the first; absent ones hold the
/// stale marker and keep it.
type OfFloats<'q> = dyn Fn(usize, &mut [f64]) + Send + Sync + 'q;

/// What is done to the cells of each series.
pub(super) struct Stage<'q> {
    drops_name: bool,
    cell: Box<OfCell<'q>>,
    floats: Option<Box<OfFloats<'q>>>,
}

impl<'q> Stage<'q> {
    /// Does `cell` to each cell that has a sample.
    pub(super) fn new(
        drops_name: bool,
        cell: impl Fn(&mut Eval<'_>, usize, CellRef<'_>) -> Result<Option<Cell>, PromqlError> + Send + Sync + 'q,
    ) -> Self {
        Self { drops_name, cell: Box::new(cell), floats: None }
    }

    /// Does `floats` to columns without histograms, in place of going through the cells.
    pub(super) fn of_floats(mut self, floats: impl Fn(usize, &mut [f64]) + Send + Sync + 'q) -> Self {
        self.floats = Some(Box::new(floats));
        self
    }

    /// Whether names go at the end of the query.
    pub(super) fn drops_name(&self) -> bool {
        self.drops_name
    }

    /// Changes a column.
    ///
    /// # Errors
    /// Those of what is done to cells, and of the budget.
    pub(super) fn apply(&self, eval: &mut Eval<'_>, column: &mut Column) -> Result<(), PromqlError> {
        if let (Some(change), Some(floats)) = (&self.floats, column.floats_mut()) {
            return eval.in_parts(floats, |at, part| change(at, part));
        }
        for step in 0..column.steps() {
            let before = column.get(step);
            eval.spend(cost(before))?;
            if before.is_some() {
                let after = (self.cell)(eval, step, before)?;
                eval.set(column, step, after)?;
            }
        }
        Ok(())
    }
}

/// One series at a time on its way to whoever wants it.
pub(super) struct One<'s> {
    /// Its labels.
    pub labels: &'s Labels,
    /// Whether the name goes at the end of the query.
    pub drop_name: bool,
    /// Its cells, with at least one sample. Whoever keeps the column takes it.
    pub column: &'s mut Column,
}

/// Series to be computed.
pub(super) struct Stream<'q> {
    leaf: Box<dyn Leaf + 'q>,
    stages: Vec<Stage<'q>>,
    steps: usize,
}

impl<'q> Stream<'q> {
    /// What a leaf reads.
    pub(super) fn new(leaf: impl Leaf + 'q, grid: &Grid) -> Self {
        Self { leaf: Box::new(leaf), stages: Vec::new(), steps: grid.steps }
    }

    /// The same, with a stage after it.
    pub(super) fn with(mut self, stage: Stage<'q>) -> Self {
        self.stages.push(stage);
        self
    }

    fn cost(&self) -> usize {
        let samples = usize::try_from(self.leaf.span() / SCRAPE_MS).unwrap_or(0).min(1_000_000);
        SERIES_NS + SAMPLE_NS * samples + STEP_NS * self.steps * (1 + self.stages.len())
    }

    /// Computes all series, in runs of neighbours on as many threads as pay. For each run `make` makes
    /// what `visit` puts its series into (and says whether histograms are kept), and `take` takes it, in
    /// order.
    ///
    /// # Errors
    /// What the store, the budget, the functions, `visit` or `take` say.
    pub(super) fn run<T: Send>(
        &self,
        eval: &mut Eval<'_>,
        make: &(dyn Fn() -> T + Sync),
        visit: &(dyn Fn(&mut Eval<'_>, &mut T, One<'_>) -> Result<bool, PromqlError> + Sync),
        take: &mut (dyn FnMut(T) -> Result<(), PromqlError> + Send),
    ) -> Result<(), PromqlError> {
        let work = |eval: &mut Eval<'_>, places: Range<usize>| {
            let mut made = make();
            let charged = size_of::<f64>() * self.steps;
            eval.budget.charge(charged)?;
            self.run_places(eval, places, &mut |eval, one| visit(eval, &mut made, one))?;
            eval.budget.release(charged);
            Ok(made)
        };
        spread(eval, self.leaf.samples().len(), self.cost(), &work, take)
    }

    fn run_places(
        &self,
        eval: &mut Eval<'_>,
        places: Range<usize>,
        visit: &mut dyn FnMut(&mut Eval<'_>, One<'_>) -> Result<bool, PromqlError>,
    ) -> Result<(), PromqlError> {
        let (mut scratch, mut column) = (Scratch::default(), Column::default());
        let samples = self.leaf.samples();
        samples.read(eval, places, &mut |eval, place, columns| {
            let Some((labels, drop_name)) = samples.series(place).filter(|_| !columns.is_empty()) else {
                return Ok(());
            };
            let column = &mut column;
            if column.steps() != self.steps {
                *column = Column::new(self.steps);
            }
            self.leaf.fill(eval, &mut scratch, labels, columns, column)?;
            let mut drop_name = drop_name || self.leaf.drops_name();
            for stage in &self.stages {
                stage.apply(eval, column)?;
                drop_name |= stage.drops_name;
            }
            eval.spend(self.steps)?;
            if column.is_empty() {
                eval.budget.release(column.histogram_bytes());
                return Ok(());
            }
            if !visit(eval, One { labels, drop_name, column })? {
                eval.budget.release(column.histogram_bytes());
            }
            Ok(())
        })?;
        scratch.picks.forget(eval.budget);
        scratch.windows.forget(eval.budget);
        Ok(())
    }

    /// All series, computed.
    ///
    /// # Errors
    /// What the store, the budget or the functions say.
    pub(super) fn collect(&self, eval: &mut Eval<'_>) -> Result<Vector, PromqlError> {
        let mut all = Vec::new();
        let keep = |eval: &mut Eval<'_>, run: &mut Vector, one: One<'_>| {
            eval.budget.charge(series_bytes(one.column.steps()))?;
            let column = std::mem::take(one.column);
            run.push(Series { labels: one.labels.clone(), drop_name: one.drop_name, column });
            Ok(true)
        };
        self.run(eval, &Vec::new, &keep, &mut |mut run| {
            if all.is_empty() {
                all = run;
            } else {
                all.append(&mut run);
            }
            Ok(())
        })?;
        Ok(all)
    }
}
