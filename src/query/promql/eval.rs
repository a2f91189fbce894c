//! Evaluation, instant and range alike: an expression is computed for all steps of a grid at once,
//! each series a column with a cell per step. A selector is read from the store once, series by
//! series (`stream`), on as many threads as pay (`spread`).

use super::PromqlError;
use super::ast::{Expr, Kind, Pos, Selector};
use super::functions;
use super::histograms::scaled;
use super::instant::Instant;
use super::range::{self, Matrix};
use super::run::{Eval, Gives, Grid};
use super::stream::{Open, Stage, Stream};
use super::value::{Cell, CellRef, Value, Vector};
use crate::model::sample::is_stale;

impl Eval<'_> {
    /// Evaluates an expression at every step of `grid`.
    ///
    /// # Errors
    /// What the query, the store or the budget says.
    pub(super) fn eval(&mut self, expr: &Expr, grid: &Grid) -> Result<Value, PromqlError> {
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
                Ok(Open::Stream(Stream::new(Instant::select(self, selector, grid, Gives::Sample, expr.pos)?, grid)))
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

    /// An expression that is a vector.
    ///
    /// # Errors
    /// As [`eval`](Self::eval), and when it is not one.
    pub(super) fn vector(&mut self, expr: &Expr, grid: &Grid) -> Result<Vector, PromqlError> {
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
    pub(super) fn scalar(&mut self, expr: &Expr, grid: &Grid) -> Result<Vec<f64>, PromqlError> {
        match self.eval(expr, grid)? {
            Value::Scalar(values) => Ok(values),
            Value::Vector(_) | Value::String(_) => Err(PromqlError::Execution("expected a scalar".to_owned())),
        }
    }

    /// An expression that is a string.
    ///
    /// # Errors
    /// As [`eval`](Self::eval), and when it is not one.
    pub(super) fn string(&mut self, expr: &Expr, grid: &Grid) -> Result<String, PromqlError> {
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
                CellRef::Histogram(histogram) => Some(scaled(histogram, -1.0)),
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
    /// The vector of a selector.
    ///
    /// # Errors
    /// What the store or the budget says.
    pub(super) fn instant(
        &mut self,
        selector: &Selector,
        grid: &Grid,
        gives: Gives,
        pos: Pos,
    ) -> Result<Vector, PromqlError> {
        Stream::new(Instant::select(self, selector, grid, gives, pos)?, grid).collect(self)
    }
}
