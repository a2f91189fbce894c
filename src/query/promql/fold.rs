//! Aggregations that fold: a series is added to its group's cells and forgotten, so that memory is
//! for groups times steps, not series times steps. Each run of neighbours folds by itself; the runs
//! are then put together in order.
//! Histograms cannot be added before all of them are known (the coarsest decides), so groups keep them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::PromqlError;
use super::ast::{Aggregate, AggregateOp, Pos};
use super::cells::Cells;
use super::group::Groups;
use super::run::{Eval, Grid};
use super::spread::spread;
use super::stream::{One, Open};
use super::value::{CellRef, Column, Series, Vector, series_bytes};
use crate::base::limits::QueryBudget;
use crate::model::histogram::Histogram;
use crate::model::labels::Labels;
use crate::query::pace::{ByBlock, Pace};

/// What adding a cell costs, in nanoseconds.
const CELL_NS: usize = 3;

/// A histogram and the metric that it is of.
type Named = (Arc<Histogram>, Arc<str>);
/// What a histogram in a group takes: its place in a list with room to grow, and a list of its own at most.
const NAMED_BYTES: usize = 2 * size_of::<Named>() + 64;

/// Groups and their cells so far.
struct Fold<'q> {
    op: AggregateOp,
    pos: Pos,
    steps: usize,
    groups: Groups<'q>,
    cells: Cells,
    /// By group and step.
    histograms: BTreeMap<(usize, usize), Vec<Named>>,
    charged: usize,
}

impl<'q> Fold<'q> {
    fn new(aggregate: &'q Aggregate, steps: usize) -> Option<Self> {
        let (op, pos) = (aggregate.op, aggregate.expr.bare().pos);
        let cells = Cells::new(op)?;
        let groups = Groups::new(aggregate);
        Some(Self { op, pos, steps, groups, cells, histograms: BTreeMap::new(), charged: 0 })
    }

    fn grow(&mut self, budget: &QueryBudget, group: usize) -> Result<(), PromqlError> {
        let bytes = self.steps * self.cells.cell_bytes() + self.groups.bytes(group);
        budget.charge(bytes)?;
        self.charged += bytes;
        self.cells.grow(self.steps);
        Ok(())
    }

    /// Adds a series; whether its histograms are kept.
    fn add(
        &mut self,
        eval: &mut Eval<'_>,
        labels: &Labels,
        drop_name: bool,
        column: &Column,
    ) -> Result<bool, PromqlError> {
        let (group, new) = self.groups.place(labels, drop_name);
        if new {
            self.grow(eval.budget, group)?;
        }
        eval.spend(self.steps)?;
        match column.floats() {
            Some(floats) => self.cells.add(group, floats),
            None => self.add_mixed(eval, group, labels, column)?,
        }
        Ok(matches!(self.op, AggregateOp::Sum | AggregateOp::Avg))
    }

    fn add_mixed(
        &mut self,
        eval: &mut Eval<'_>,
        group: usize,
        labels: &Labels,
        column: &Column,
    ) -> Result<(), PromqlError> {
        let name: Arc<str> = labels.metric_name().into();
        let mut charged = ByBlock::new(eval.budget);
        for step in 0..self.steps {
            match column.get(step) {
                CellRef::None => {}
                CellRef::Float(value) => self.cells.add_at(group, self.steps, step, value),
                CellRef::Histogram(histogram) => match self.op {
                    AggregateOp::Count | AggregateOp::Group => self.cells.add_at(group, self.steps, step, 0.0),
                    AggregateOp::Sum | AggregateOp::Avg => {
                        eval.spend(10)?;
                        charged.add(NAMED_BYTES)?;
                        self.histograms.entry((group, step)).or_default().push((histogram.clone(), name.clone()));
                    }
                    op => {
                        eval.spend(10)?;
                        eval.info(self.pos, format!("ignored histogram in {} aggregation", op.text()));
                    }
                },
            }
        }
        Ok(charged.settle()?)
    }

    /// Adds what a run further on has folded.
    fn merge(&mut self, other: Self, budget: &QueryBudget) -> Result<(), PromqlError> {
        let pace = Pace::new(budget);
        let mut places = Vec::with_capacity(other.groups.all().len());
        for (at, group) in other.groups.all().iter().enumerate() {
            pace.go(4 * self.steps + group.labels.bytes())?;
            let (place, new) = self.groups.merge(group);
            if new {
                self.grow(budget, place)?;
            }
            self.cells.merge(&other.cells, (at, place), self.steps);
            places.push(place);
        }
        for ((group, step), mut histograms) in other.histograms {
            pace.go(64 + histograms.len())?;
            if let Some(place) = places.get(group) {
                self.histograms.entry((*place, step)).or_default().append(&mut histograms);
            }
        }
        budget.release(other.charged);
        Ok(())
    }

    /// The columns of all groups; none when floats have overflowed and must be looked at again.
    fn finish(self, eval: &mut Eval<'_>) -> Result<Option<Vector>, PromqlError> {
        eval.budget.charge(series_bytes(self.steps) * self.groups.all().len())?;
        eval.budget.check()?;
        let Some(results) = self.cells.results(self.steps) else {
            eval.budget.release(self.charged + series_bytes(self.steps) * self.groups.all().len());
            return Ok(None);
        };
        let mut vector = Vec::with_capacity(self.groups.all().len());
        for (group, floats) in self.groups.into_all().into_iter().zip(results) {
            eval.spend(1)?;
            vector.push(Series { labels: group.labels, drop_name: group.drop_name, column: Column::of(floats) });
        }
        for ((group, step), histograms) in self.histograms {
            let Some(series) = vector.get_mut(group) else { continue };
            let cell = if series.column.get(step).is_some() {
                eval.warn(self.pos, "encountered a mix of histograms and floats for aggregation");
                None
            } else {
                let name = |at| histograms.get(at).map_or("", |(_, name): &Named| name).to_owned();
                let all = histograms.iter().map(|(one, _)| one.as_ref());
                eval.total(all, self.op == AggregateOp::Avg, self.pos, name)?
            };
            eval.set(&mut series.column, step, cell)?;
        }
        eval.budget.release(self.charged);
        Ok(Some(vector))
    }
}

impl Eval<'_> {
    /// The result of an aggregation that folds; none for the others, and where floats overflow.
    ///
    /// # Errors
    /// What the series say that are not yet computed, and the budget.
    pub(super) fn folded<'q>(
        &mut self,
        aggregate: &'q Aggregate,
        open: &Open<'_>,
        grid: &Grid,
    ) -> Result<Option<Vector>, PromqlError> {
        let Some(mut total) = Fold::new(aggregate, grid.steps).filter(|_| !self.general) else { return Ok(None) };
        let budget = self.budget;
        let mut first = true;
        let mut take = |run: Option<Fold<'q>>| match run {
            Some(run) if first => {
                first = false;
                total = run;
                Ok(())
            }
            Some(run) => total.merge(run, budget),
            None => Ok(()),
        };
        let make = || Fold::new(aggregate, grid.steps);
        let visit = |eval: &mut Eval<'_>, fold: &mut Option<Fold<'q>>, one: One<'_>| match fold {
            Some(fold) => fold.add(eval, one.labels, one.drop_name, one.column),
            None => Ok(false),
        };
        match open {
            Open::Stream(stream) => stream.run(self, &make, &visit, &mut take)?,
            Open::Vector(vector) => {
                let work = |eval: &mut Eval<'_>, places: Range<usize>| {
                    let mut fold = make();
                    for series in vector.get(places).unwrap_or_default() {
                        if let Some(fold) = &mut fold {
                            fold.add(eval, &series.labels, series.drop_name, &series.column)?;
                        }
                    }
                    Ok(fold)
                };
                spread(self, vector.len(), CELL_NS * grid.steps, &work, &mut take)?;
            }
            Open::Scalar(_) | Open::String(_) => {
                return Err(PromqlError::Execution("expected an instant vector".to_owned()));
            }
        }
        total.finish(self)
    }
}
