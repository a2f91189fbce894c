//! Evaluation, instant and range alike: an expression is computed for all steps of a grid at once,
//! each series a column with a cell per step. A selector is read from the store once.
//! Memory: every column is charged to the query's budget before it is made; time is checked with it.

use std::collections::HashMap;
use std::sync::Arc;

use super::PromqlError;
use super::ast::{Edges, Expr, Kind, Pos, Selector};
use super::counts;
use super::functions;
use super::lex::Times;
use super::native;
use super::native::Work;
use super::notes::Notes;
use super::range::{self, Matrix};
use super::value::{Cell, CellRef, Column, Series, Value, Vector};
use crate::base::limits::QueryBudget;
use crate::model::histogram::ResetHint;
use crate::model::labels::Labels;
use crate::model::sample::{Columns, is_stale};
use crate::model::time::RangeMs;
use crate::store::{SelectMetrics, series_set};

/// Work units between two looks at the clock.
const CHECK_EVERY: usize = 20_000;
/// Most cells that one grid may have, whatever memory says: a year in steps of a millisecond ends here.
const STEPS_MAX: i64 = 50_000_000;

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
    /// What a function over ranges could not say in its result.
    pub failure: Option<PromqlError>,
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
            failure: None,
            work: 0,
        }
    }

    /// Counts work; now and then looks at the clock.
    ///
    /// # Errors
    /// When the time is up or the client is gone.
    pub fn spend(&mut self, work: usize) -> Result<(), PromqlError> {
        self.work += work;
        if self.work > CHECK_EVERY {
            self.work = 0;
            self.budget.check()?;
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
        self.budget.release(vector.iter().map(|series| 8 * series.column.steps()).sum());
    }

    /// Charges what a new cell takes besides its place.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn charge_cell(&self, cell: &Cell) -> Result<(), PromqlError> {
        match cell {
            Cell::Float(_) => Ok(()),
            Cell::Histogram(histogram) => Ok(self.budget.charge(histogram.bytes())?),
        }
    }

    /// Evaluates an expression at every step of `grid`.
    ///
    /// # Errors
    /// What the query, the store or the budget says.
    pub fn eval(&mut self, expr: &Expr, grid: &Grid) -> Result<Value, PromqlError> {
        self.spend(1)?;
        match &expr.kind {
            Kind::Number(value) => self.constant(*value, grid),
            Kind::String(text) => Ok(Value::String(text.clone())),
            Kind::Paren(inner) => self.eval(inner, grid),
            Kind::Vector(selector) => Ok(Value::Vector(self.instant(selector, grid, Gives::Sample, expr.pos)?)),
            Kind::Matrix(..) | Kind::Subquery(_) => {
                Err(PromqlError::Execution("a range vector is allowed only as an argument of a function".to_owned()))
            }
            Kind::Negate(inner) => self.negate(inner, grid),
            Kind::Call(call) => functions::call(self, call, expr.pos, grid),
            Kind::Aggregate(aggregate) => self.aggregate(aggregate, grid),
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
        match self.eval(expr, grid)? {
            Value::Vector(vector) => Ok(vector),
            Value::Scalar(_) | Value::String(_) => Err(PromqlError::Execution("expected an instant vector".to_owned())),
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

    fn negate(&mut self, inner: &Expr, grid: &Grid) -> Result<Value, PromqlError> {
        match self.eval(inner, grid)? {
            Value::Scalar(mut values) => {
                values.iter_mut().for_each(|value| *value = -*value);
                Ok(Value::Scalar(values))
            }
            Value::Vector(vector) => {
                let negative = |_: &mut Self, _: usize, cell: CellRef<'_>| {
                    Ok(match cell {
                        CellRef::None => None,
                        CellRef::Float(value) => Some(Cell::Float(-value)),
                        CellRef::Histogram(histogram) => Some(functions::histogram::scaled(histogram, -1.0)),
                    })
                };
                Ok(Value::Vector(self.map(vector, true, negative)?))
            }
            Value::String(_) => Err(PromqlError::Execution("a string has no negative".to_owned())),
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
            self.spend(series.column.steps())?;
            series.drop_name |= drop_name;
            for step in 0..series.column.steps() {
                let before = series.column.get(step);
                if before.is_some() {
                    let after = change(self, step, before)?;
                    if let Some(cell) = &after {
                        self.charge_cell(cell)?;
                    }
                    series.column.set(step, after);
                }
            }
        }
        Ok(self.without_empty(vector))
    }

    /// Drops series without samples.
    pub fn without_empty(&self, mut vector: Vector) -> Vector {
        vector.retain(|series| {
            let empty = series.column.is_empty();
            if empty {
                self.budget.release(8 * series.column.steps());
            }
            !empty
        });
        vector
    }

    /// Reads series from the store.
    ///
    /// # Errors
    /// What the store says.
    pub fn fetch(&mut self, selector: &Selector, range: RangeMs) -> Result<Vec<(Labels, Columns)>, PromqlError> {
        if range.start > range.end {
            return Ok(Vec::new());
        }
        let found = counts::select(self.store, selector, range, self.lookback, self.budget)?;
        let series = series_set::collect(found.as_ref(), self.budget)?;
        let samples: usize = series.iter().map(|(_, columns)| columns.len()).sum();
        self.samples += samples as u64;
        Ok(series)
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

    /// An instant vector selector.
    ///
    /// # Errors
    /// What the store or the budget says.
    pub fn instant(&mut self, selector: &Selector, grid: &Grid, gives: Gives, pos: Pos) -> Result<Vector, PromqlError> {
        let first = self.looks_at(selector.at, selector.offset, grid, 0);
        let last = self.looks_at(selector.at, selector.offset, grid, grid.steps.saturating_sub(1));
        let beyond = if selector.edges == Edges::Smoothed { self.lookback } else { 0 };
        let start = first.saturating_sub(self.lookback).saturating_add(1);
        let range = RangeMs { start, end: last.saturating_add(beyond) };
        let mut vector = Vec::new();
        for (labels, series) in self.fetch(selector, range)? {
            let mut column = self.column(grid)?;
            let (mut floats, mut histograms) = (0, 0);
            self.spend(grid.steps)?;
            for step in 0..grid.steps {
                let until = self.looks_at(selector.at, selector.offset, grid, step);
                floats += advance(&series.times, floats, until, |t| *t);
                histograms += advance(&series.histograms, histograms, until, |sample| sample.t);
                let after = until.saturating_sub(self.lookback);
                let Some((time, cell)) = latest(&series, floats, histograms) else { continue };
                if time > after {
                    let seconds = |ms: i64| Cell::Float(ms as f64 / 1000.0);
                    let cell = match cell {
                        Some(cell) if selector.edges == Edges::Smoothed && time != until => {
                            self.smoothed((&labels, &series), (floats, histograms), (time, cell), until, pos)
                        }
                        cell => cell,
                    };
                    let given = |cell: Cell| match gives {
                        Gives::Sample => cell,
                        Gives::Time => seconds(time),
                        Gives::Start => seconds(start_of(&series, floats, histograms, time)),
                    };
                    column.set(step, cell.map(given));
                }
            }
            vector.push(Series { labels, drop_name: false, column });
        }
        Ok(self.without_empty(vector))
    }

    /// The value between a sample and the one after it; without one after it, the sample itself.
    fn smoothed(
        &mut self,
        (labels, series): (&Labels, &Columns),
        (floats, histograms): (usize, usize),
        (time, cell): (i64, Cell),
        until: i64,
        pos: Pos,
    ) -> Option<Cell> {
        let in_reach = |t: i64| t <= until.saturating_add(self.lookback);
        let float = series.times.get(floats).copied().zip(series.values.get(floats).copied());
        let float = float.filter(|(t, value)| in_reach(*t) && !is_stale(*value));
        let histogram = series.histograms.get(histograms).filter(|sample| in_reach(sample.t));
        let share = |next: i64| (until - time) as f64 / (next - time) as f64;
        let name = labels.metric_name();
        match (cell, float, histogram) {
            (Cell::Float(value), Some((t, next)), other) if other.is_none_or(|sample| sample.t > t) => {
                Some(Cell::Float(value + (next - value) * share(t)))
            }
            (Cell::Histogram(value), float, Some(sample)) if float.is_none_or(|(t, _)| sample.t < t) => {
                let (value, next) = (Work::from(value.as_ref()), Work::from(sample.histogram.as_ref()));
                let counter = value.hint != ResetHint::Gauge;
                match value.towards(&next, share(sample.t), counter) {
                    Ok(between) => Some(Cell::Histogram(Arc::new(between.into()))),
                    Err(native::Incompatible) => {
                        self.warn(pos, format!("{} {name:?}", functions::MIXED_SCHEMAS));
                        None
                    }
                }
            }
            (cell, None, None) => Some(cell),
            _ => {
                self.warn(pos, format!("{} {name:?}", functions::MIXED));
                None
            }
        }
    }

    /// The range vector that an argument is.
    ///
    /// # Errors
    /// As [`eval`](Self::eval), and when it is not one.
    pub fn matrix(&mut self, expr: &Expr, grid: &Grid) -> Result<Matrix, PromqlError> {
        match &expr.bare().kind {
            Kind::Matrix(selector, range) => range::of_selector(self, selector, *range, grid),
            Kind::Subquery(subquery) => range::of_subquery(self, subquery, grid),
            _ => Err(PromqlError::Execution("expected a range vector".to_owned())),
        }
    }

    /// Joins series with equal labels, as happens when names go.
    ///
    /// # Errors
    /// When two have a sample at the same step.
    pub fn join_equal(&mut self, vector: Vector, final_names: bool) -> Result<Vector, PromqlError> {
        let mut places: HashMap<(Labels, bool), usize> = HashMap::with_capacity(vector.len());
        let mut joined: Vector = Vec::with_capacity(vector.len());
        for mut series in vector {
            if final_names {
                series.labels = series.final_labels();
                series.drop_name = false;
            }
            let key = (series.labels.clone(), series.drop_name);
            let Some(place) = places.get(&key).and_then(|place| joined.get_mut(*place)) else {
                places.insert(key, joined.len());
                joined.push(series);
                continue;
            };
            for step in 0..series.column.steps() {
                let cell = series.column.get(step);
                if cell.is_some() {
                    if place.column.get(step).is_some() {
                        let message = "vector cannot contain metrics with the same labelset";
                        return Err(PromqlError::Execution(message.to_owned()));
                    }
                    place.column.set(step, cell.to_cell());
                }
            }
        }
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

/// How many more items there are up to a time, both searching near first.
fn advance<T>(items: &[T], from: usize, until: i64, time: impl Fn(&T) -> i64) -> usize {
    items.get(from..).unwrap_or_default().iter().take_while(|item| time(item) <= until).count()
}

/// When counting began for the sample of a time that is the later of those before two indexes.
fn start_of(series: &Columns, floats: usize, histograms: usize, time: i64) -> i64 {
    let histogram = histograms.checked_sub(1).and_then(|at| series.histograms.get(at));
    match histogram.filter(|sample| sample.t == time) {
        Some(sample) => sample.start,
        None => floats.checked_sub(1).map_or(0, |at| series.start(at)),
    }
}

/// The later of the samples before two indexes; no cell when it ends the series.
fn latest(series: &Columns, floats: usize, histograms: usize) -> Option<(i64, Option<Cell>)> {
    let float = floats.checked_sub(1).and_then(|at| Some((*series.times.get(at)?, *series.values.get(at)?)));
    let histogram = histograms.checked_sub(1).and_then(|at| series.histograms.get(at));
    match (float, histogram) {
        (Some((time, value)), other) if other.is_none_or(|sample| sample.t < time) => {
            Some((time, (!is_stale(value)).then_some(Cell::Float(value))))
        }
        (_, Some(sample)) => {
            let alive = !is_stale(sample.histogram.sum);
            Some((sample.t, alive.then(|| Cell::Histogram(sample.histogram.clone()))))
        }
        _ => None,
    }
}
