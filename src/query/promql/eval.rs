//! Evaluation, instant and range alike: an expression is computed for all steps of a grid at once,
//! each series a column with a cell per step. A selector is read from the store once, series by
//! series (`stream`), on as many threads as pay (`spread`).
//! Memory: every column is charged to the query's budget before it is made; time is checked with it.

use std::collections::HashMap;

use super::PromqlError;
use super::ast::{Expr, Kind, Pos};
use super::functions;
use super::instant::Instant;
use super::lex::Times;
use super::notes::Notes;
use super::range::{self, Matrix};
use super::stream::{Open, Stage, Stream};
use super::value::{Cell, CellRef, Column, Series, Value, Vector, cost, series_bytes};
use crate::base::limits::QueryBudget;
use crate::model::labels::Labels;
use crate::model::sample::is_stale;
use crate::query::pace::{ByBlock, Held};
use crate::store::SelectMetrics;

/// Work units between two looks at the clock; one is a few nanoseconds.
const CHECK_EVERY: usize = 20_000;
/// Most cells that one grid may have, whatever memory says: a year in steps of a second ends here.
const STEPS_MAX: i64 = 10_000_000;
/// What joining series with equal labels takes for each while it lasts: a place in the map, one in the list.
const JOIN_BYTES: usize = 2 * size_of::<(Labels, bool, usize)>() + size_of::<Series>();

/// The steps of an evaluation.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    /// The first, milliseconds.
    pub start: i64,
    /// Between two, milliseconds.
    pub step: i64,
    /// How many; at least one.
    pub steps: usize,
}

impl Grid {
    /// The time of a step.
    pub fn time(&self, step: usize) -> i64 {
        self.start.saturating_add(self.step.saturating_mul(step as i64))
    }

    /// The time of the last step.
    pub fn end(&self) -> i64 {
        self.time(self.steps.saturating_sub(1))
    }

    /// The steps from `start` to `end`.
    ///
    /// # Errors
    /// When there are too many.
    pub fn between(start: i64, end: i64, step: i64) -> Result<Self, PromqlError> {
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
pub enum Gives {
    /// The sample itself.
    Sample,
    /// Its time in seconds.
    Time,
    /// When its counting began, in seconds; 0 when that is not known.
    Start,
}

/// One running query.
pub struct Eval<'a> {
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
    pub fn new(store: &'a dyn SelectMetrics, budget: &'a QueryBudget, times: Times, lookback: i64) -> Self {
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
    pub fn spend(&mut self, work: usize) -> Result<(), PromqlError> {
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
    pub fn column(&self, grid: &Grid) -> Result<Column, PromqlError> {
        Ok(Column::empty(grid.steps, self.budget)?)
    }

    /// Gives back the memory of columns that are done with.
    pub fn release(&self, vector: &Vector) {
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

    /// Evaluates an expression at every step of `grid`.
    ///
    /// # Errors
    /// What the query, the store or the budget says.
    pub fn eval(&mut self, expr: &Expr, grid: &Grid) -> Result<Value, PromqlError> {
        Ok(match self.open(expr, grid)? {
            Open::Scalar(values) => Value::Scalar(values),
            Open::String(text) => Value::String(text),
            Open::Vector(vector) => Value::Vector(vector),
            Open::Stream(stream) => Value::Vector(stream.collect(self)?),
        })
    }

    /// Evaluates an expression as far as whoever wants its series must know: those that can be
    /// computed one by one are left to be.
    ///
    /// # Errors
    /// As [`eval`](Self::eval).
    pub(super) fn open<'q>(&mut self, expr: &'q Expr, grid: &Grid) -> Result<Open<'q>, PromqlError> {
        self.spend(1)?;
        match &expr.kind {
            Kind::Number(value) => Ok(self.constant(*value, grid)?.into()),
            Kind::String(text) => Ok(Open::String(text.clone())),
            Kind::Paren(inner) => self.open(inner, grid),
            Kind::Vector(selector) => {
                Ok(Open::Stream(Stream::instant(Instant::select(self, selector, grid, Gives::Sample, expr.pos)?, grid)))
            }
            Kind::Matrix(..) | Kind::Subquery(_) => {
                Err(PromqlError::Execution("a range vector is allowed only as an argument of a function".to_owned()))
            }
            Kind::Negate(inner) => self.negate(inner, grid),
            Kind::Call(call) => functions::call(self, call, expr.pos, grid),
            Kind::Aggregate(aggregate) => Ok(self.aggregate(aggregate, expr.pos, grid)?.into()),
            Kind::Binary(binary) => self.binary(binary, expr.pos, grid),
        }
    }

    /// The same number at every step.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn constant(&self, value: f64, grid: &Grid) -> Result<Value, PromqlError> {
        self.budget.charge(8 * grid.steps)?;
        Ok(Value::Scalar(vec![value; grid.steps]))
    }

    /// An expression that is a vector.
    ///
    /// # Errors
    /// As [`eval`](Self::eval), and when it is not one.
    pub fn vector(&mut self, expr: &Expr, grid: &Grid) -> Result<Vector, PromqlError> {
        let open = self.open(expr, grid)?;
        self.computed(open)
    }

    /// The vector that something opened is.
    ///
    /// # Errors
    /// What computing it says, and when it is not one.
    pub(super) fn computed(&mut self, open: Open<'_>) -> Result<Vector, PromqlError> {
        match open {
            Open::Vector(vector) => Ok(vector),
            Open::Stream(stream) => stream.collect(self),
            Open::Scalar(_) | Open::String(_) => Err(PromqlError::Execution("expected an instant vector".to_owned())),
        }
    }

    /// An expression that is a scalar.
    ///
    /// # Errors
    /// As [`eval`](Self::eval), and when it is not one.
    pub fn scalar(&mut self, expr: &Expr, grid: &Grid) -> Result<Vec<f64>, PromqlError> {
        match self.eval(expr, grid)? {
            Value::Scalar(values) => Ok(values),
            Value::Vector(_) | Value::String(_) => Err(PromqlError::Execution("expected a scalar".to_owned())),
        }
    }

    /// An expression that is a string.
    ///
    /// # Errors
    /// As [`eval`](Self::eval), and when it is not one.
    pub fn string(&mut self, expr: &Expr, grid: &Grid) -> Result<String, PromqlError> {
        match self.eval(expr, grid)? {
            Value::String(text) => Ok(text),
            Value::Vector(_) | Value::Scalar(_) => Err(PromqlError::Execution("expected a string".to_owned())),
        }
    }

    fn negate<'q>(&mut self, inner: &'q Expr, grid: &Grid) -> Result<Open<'q>, PromqlError> {
        let stage = Stage::new(true, |_, _, cell| {
            Ok(match cell {
                CellRef::None => None,
                CellRef::Float(value) => Some(Cell::Float(-value)),
                CellRef::Histogram(histogram) => Some(functions::histogram::scaled(histogram, -1.0)),
            })
        });
        let stage = stage.of_floats(|_, cells| {
            cells.iter_mut().filter(|cell| !is_stale(**cell)).for_each(|cell| *cell = -*cell);
        });
        match self.open(inner, grid)? {
            Open::Scalar(mut values) => {
                self.in_parts(&mut values, |_, part| part.iter_mut().for_each(|value| *value = -*value))?;
                Ok(Open::Scalar(values))
            }
            Open::String(_) => Err(PromqlError::Execution("a string has no negative".to_owned())),
            vector => self.staged(vector, stage),
        }
    }

    /// A vector whose cells a stage changes.
    ///
    /// # Errors
    /// Those of the stage and of the budget; when it is no vector.
    pub(super) fn staged<'q>(&mut self, open: Open<'q>, stage: Stage<'q>) -> Result<Open<'q>, PromqlError> {
        match open {
            Open::Stream(stream) => Ok(Open::Stream(stream.with(stage))),
            Open::Vector(mut vector) => {
                for series in &mut vector {
                    series.drop_name |= stage.drops_name();
                    stage.apply(self, &mut series.column)?;
                }
                Ok(Open::Vector(self.without_empty(vector)?))
            }
            Open::Scalar(_) | Open::String(_) => Err(PromqlError::Execution("expected an instant vector".to_owned())),
        }
    }

    /// Changes every cell of every series; series left without any are dropped.
    ///
    /// # Errors
    /// Those of `change`, and of the budget.
    pub fn map(
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
    pub fn without_empty(&mut self, mut vector: Vector) -> Result<Vector, PromqlError> {
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
    pub fn looks_at(&self, at: Option<super::ast::At>, offset: i64, grid: &Grid, step: usize) -> i64 {
        let time = match at {
            None => grid.time(step),
            Some(super::ast::At::Start) => self.times.start,
            Some(super::ast::At::End) => self.times.end,
            Some(super::ast::At::Time(time)) => time,
        };
        time.saturating_sub(offset)
    }

    /// The range vector that an argument is.
    ///
    /// # Errors
    /// As [`eval`](Self::eval), and when it is not one.
    pub(super) fn matrix(&mut self, expr: &Expr, grid: &Grid) -> Result<Matrix, PromqlError> {
        match &expr.bare().kind {
            Kind::Matrix(selector, range) => range::of_selector(self, selector, *range, grid),
            Kind::Subquery(subquery) => range::of_subquery(self, subquery, grid),
            _ => Err(PromqlError::Execution("expected a range vector".to_owned())),
        }
    }

    /// Joins series with equal labels, as happens when names go.
    ///
    /// # Errors
    /// When two have a sample at the same step, and what the budget says.
    pub fn join_equal(&mut self, vector: Vector, final_names: bool) -> Result<Vector, PromqlError> {
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
                        return Err(PromqlError::Execution(super::SAME_LABELS.to_owned()));
                    }
                    self.set_shared(&mut place.column, step, cell.to_cell())?;
                }
            }
        }
        charged.settle()?;
        Ok(joined)
    }

    /// Warns at a place.
    pub fn warn(&mut self, pos: Pos, text: impl Into<String>) {
        self.notes.warn(pos, text);
    }

    /// Informs at a place.
    pub fn info(&mut self, pos: Pos, text: impl Into<String>) {
        self.notes.info(pos, text);
    }
}
