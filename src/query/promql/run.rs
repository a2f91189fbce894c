//! A running query: its grids of steps, what it may use and has used, what it has to say, and what all
//! parts of an evaluation do to series. Evaluation itself is `eval`, which nothing below it names.
//! Memory: every column is charged to the query's budget before it is made; time is checked with it.

use std::collections::HashMap;

use super::PromqlError;
use super::ast::{At, Pos};
use super::notes::Notes;
use super::token::Times;
use super::value::{Cell, CellRef, Column, Series, Value, Vector, cost, series_bytes};
use crate::base::limits::QueryBudget;
use crate::model::labels::Labels;
use crate::query::pace::{ByBlock, Held};
use crate::store::SelectMetrics;

/// What a query is told whose series cannot be told apart.
pub(super) const SAME_LABELS: &str = "vector cannot contain metrics with the same labelset";
/// Work units between two looks at the clock; one is a few nanoseconds.
const CHECK_EVERY: usize = 20_000;
/// Most cells that one grid may have, whatever memory says: a year in steps of a second ends here.
const STEPS_MAX: i64 = 10_000_000;
/// What joining series with equal labels takes for each while it lasts: a place in the map, one in the list.
const JOIN_BYTES: usize = 2 * size_of::<(Labels, bool, usize)>() + size_of::<Series>();

/// The steps of an evaluation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    /// The first, milliseconds.
    pub start: i64,
    /// Between two, milliseconds.
    pub step: i64,
    /// How many; at least one.
    pub steps: usize,
}

impl Grid {
    /// The time of a step.
    pub(super) fn time(&self, step: usize) -> i64 {
        self.start.saturating_add(self.step.saturating_mul(step as i64))
    }

    /// The time of the last step.
    #[cfg(test)]
    pub(super) fn end(&self) -> i64 {
        self.time(self.steps.saturating_sub(1))
    }

    /// The steps from `start` to `end`.
    ///
    /// # Errors
    /// When there are too many.
    pub(super) fn between(start: i64, end: i64, step: i64) -> Result<Self, PromqlError> {
        let step = step.max(1);
        let steps = end.saturating_sub(start).div_euclid(step).saturating_add(1).max(0);
        if steps > STEPS_MAX {
            return Err(PromqlError::Execution(format!(
                "{steps} steps are more than {STEPS_MAX}; use a larger step or a shorter range"
            )));
        }
        Ok(Self { start, step, steps: steps as usize })
    }
}

/// What an instant vector selector gives of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gives {
    /// The sample itself.
    Sample,
    /// Its time in seconds.
    Time,
    /// When its counting began, in seconds; 0 when that is not known.
    Start,
}

/// One running query.
pub(super) struct Eval<'a> {
    /// Where samples come from.
    pub store: &'a dyn SelectMetrics,
    /// What it may use.
    pub budget: &'a QueryBudget,
    /// How far back an instant selector looks, milliseconds.
    pub lookback: i64,
    /// The step of subqueries that name none, milliseconds.
    pub default_step: i64,
    /// The times of the query, for `start()` and the like.
    pub times: Times,
    /// What it has to say besides.
    pub notes: Notes,
    /// Samples read from the store.
    pub samples: u64,
    /// Where that is asked for, how many samples each step of the query looks at.
    pub counted: Option<Vec<u64>>,
    /// The same without those that the step before has looked at as well.
    pub counted_new: Vec<u64>,
    /// Most series that one selector may find.
    pub series_max: u64,
    /// What a function over ranges could not say in its result.
    pub failure: Option<PromqlError>,
    /// Most threads that may work at once.
    pub threads: usize,
    /// Whether nothing takes the fast way, so that tests can compare.
    pub general: bool,
    work: usize,
}

impl<'a> Eval<'a> {
    /// A query over `times`.
    pub(super) fn new(store: &'a dyn SelectMetrics, budget: &'a QueryBudget, times: Times, lookback: i64) -> Self {
        Self {
            store,
            budget,
            lookback,
            default_step: 60_000,
            times,
            notes: Notes::default(),
            samples: 0,
            counted: None,
            counted_new: Vec::new(),
            series_max: u64::MAX,
            failure: None,
            threads: 1,
            general: false,
            work: 0,
        }
    }

    /// The same query for another thread, with nothing noted.
    pub(super) fn fork(&self) -> Self {
        let mut other = Self::new(self.store, self.budget, self.times, self.lookback);
        other.default_step = self.default_step;
        other.general = self.general;
        other.counted = self.counted.as_ref().map(|counted| vec![0; counted.len()]);
        other.counted_new = vec![0; self.counted_new.len()];
        other
    }

    /// Takes over what another thread noted.
    pub(super) fn absorb(&mut self, other: Self) {
        self.notes.absorb(other.notes);
        self.samples += other.samples;
        if let (Some(own), Some(other)) = (&mut self.counted, &other.counted) {
            own.iter_mut().zip(other).for_each(|(own, other)| *own += other);
        }
        self.counted_new.iter_mut().zip(&other.counted_new).for_each(|(own, other)| *own += other);
    }

    /// Counts the samples that steps look at, by step, and how many of them the step before did not.
    pub(super) fn count(&mut self, samples: impl Iterator<Item = (u64, u64)>) {
        if let Some(counted) = &mut self.counted {
            for ((own, new), samples) in counted.iter_mut().zip(&mut self.counted_new).zip(samples) {
                *own += samples.0;
                *new += samples.1;
            }
        }
    }

    /// Counts work; now and then looks at the clock.
    ///
    /// # Errors
    /// When the time is up or the client is gone.
    pub(super) fn spend(&mut self, work: usize) -> Result<(), PromqlError> {
        self.work = self.work.saturating_add(work);
        if self.work > CHECK_EVERY {
            self.work = 0;
            self.budget.check()?;
        }
        Ok(())
    }

    /// The same where no error fits: whether work may go on. If not, [`failure`](Self::failure) says why.
    pub(super) fn goes_on(&mut self, work: usize) -> bool {
        if let Err(error) = self.spend(work) {
            self.failure.get_or_insert(error);
        }
        self.failure.is_none()
    }

    /// Changes cells, part by part: a long column does not keep the deadline waiting. `change` gets the
    /// place of the first cell of a part with them.
    ///
    /// # Errors
    /// When the time is up or the client is gone.
    pub(super) fn in_parts<T>(
        &mut self,
        cells: &mut [T],
        mut change: impl FnMut(usize, &mut [T]),
    ) -> Result<(), PromqlError> {
        for (at, part) in cells.chunks_mut(CHECK_EVERY).enumerate() {
            self.spend(part.len())?;
            change(at * CHECK_EVERY, part);
        }
        Ok(())
    }

    /// An empty column for a grid.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub(super) fn column(&self, grid: &Grid) -> Result<Column, PromqlError> {
        Ok(Column::empty(grid.steps, self.budget)?)
    }

    /// Gives back the memory of columns that are done with.
    pub(super) fn release(&self, vector: &Vector) {
        self.budget.release(vector.iter().map(|series| series_bytes(series.column.steps())).sum());
    }

    /// Sets a cell that was computed, and charges what it takes besides its place.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub(super) fn set(&self, column: &mut Column, step: usize, cell: Option<Cell>) -> Result<(), PromqlError> {
        if let Some(Cell::Histogram(histogram)) = &cell {
            self.budget.charge(histogram.bytes())?;
        }
        self.set_shared(column, step, cell)
    }

    /// Sets a cell of which a histogram is charged where it comes from.
    ///
    /// # Errors
    /// When there is no memory for the places of histograms.
    pub(super) fn set_shared(&self, column: &mut Column, step: usize, cell: Option<Cell>) -> Result<(), PromqlError> {
        let before = column.histogram_places();
        column.set(step, cell);
        Ok(self.budget.charge(column.histogram_places() - before)?)
    }

    /// The same number at every step.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub(super) fn constant(&self, value: f64, grid: &Grid) -> Result<Value, PromqlError> {
        self.budget.charge(8 * grid.steps)?;
        Ok(Value::Scalar(vec![value; grid.steps]))
    }

    /// Changes every cell of every series; series left without any are dropped.
    ///
    /// # Errors
    /// Those of `change`, and of the budget.
    pub(super) fn map(
        &mut self,
        mut vector: Vector,
        drop_name: bool,
        mut change: impl FnMut(&mut Self, usize, CellRef<'_>) -> Result<Option<Cell>, PromqlError>,
    ) -> Result<Vector, PromqlError> {
        for series in &mut vector {
            series.drop_name |= drop_name;
            for step in 0..series.column.steps() {
                let before = series.column.get(step);
                self.spend(cost(before))?;
                if before.is_some() {
                    let after = change(self, step, before)?;
                    self.set(&mut series.column, step, after)?;
                }
            }
        }
        self.without_empty(vector)
    }

    /// Drops series without samples.
    ///
    /// # Errors
    /// When the time is up or the client is gone.
    pub(super) fn without_empty(&mut self, mut vector: Vector) -> Result<Vector, PromqlError> {
        let mut over = Ok(());
        vector.retain(|series| {
            if over.is_err() {
                return false;
            }
            over = self.spend(series.column.steps());
            let empty = series.column.is_empty();
            if empty {
                self.budget.release(series_bytes(series.column.steps()));
            }
            !empty
        });
        over?;
        Ok(vector)
    }

    /// The time that a step of a selector looks at.
    pub(super) fn looks_at(&self, at: Option<At>, offset: i64, grid: &Grid, step: usize) -> i64 {
        let time = match at {
            None => grid.time(step),
            Some(At::Start) => self.times.start,
            Some(At::End) => self.times.end,
            Some(At::Time(time)) => time,
        };
        time.saturating_sub(offset)
    }

    /// Joins series with equal labels, as happens when names go.
    ///
    /// # Errors
    /// When two have a sample at the same step, and what the budget says.
    pub(super) fn join_equal(&mut self, vector: Vector, final_names: bool) -> Result<Vector, PromqlError> {
        let held = Held::new(self.budget);
        held.add(JOIN_BYTES * vector.len())?;
        let mut charged = ByBlock::new(self.budget);
        let mut places: HashMap<(Labels, bool), usize> = HashMap::with_capacity(vector.len());
        let mut joined: Vector = Vec::with_capacity(vector.len());
        for mut series in vector {
            self.spend(10 + series.labels.bytes() / 4)?;
            if final_names {
                if series.drop_name {
                    charged.add(series.labels.bytes())?;
                }
                series.labels = series.final_labels();
                series.drop_name = false;
            }
            let key = (series.labels.clone(), series.drop_name);
            let Some(place) = places.get(&key).and_then(|place| joined.get_mut(*place)) else {
                places.insert(key, joined.len());
                joined.push(series);
                continue;
            };
            self.spend(series.column.steps())?;
            for step in 0..series.column.steps() {
                let cell = series.column.get(step);
                if cell.is_some() {
                    if place.column.get(step).is_some() {
                        return Err(PromqlError::Execution(SAME_LABELS.to_owned()));
                    }
                    self.set_shared(&mut place.column, step, cell.to_cell())?;
                }
            }
        }
        charged.settle()?;
        Ok(joined)
    }

    /// Warns at a place.
    pub(super) fn warn(&mut self, pos: Pos, text: impl Into<String>) {
        self.notes.warn(pos, text);
    }

    /// Informs at a place.
    pub(super) fn info(&mut self, pos: Pos, text: impl Into<String>) {
        self.notes.info(pos, text);
    }
}
