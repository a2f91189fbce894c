//! The functions of PromQL: one row each, and how a row is called.
//! The parser owns the signatures; a test parses each row's example.

mod classic;
mod edges;
pub mod histogram;
mod label;
mod math;
mod over_range;
mod over_time;
mod rate;
mod sliding;
mod time;
mod vector;

use std::sync::Arc;

pub(super) use over_range::OverRange;
pub(super) use rate::{MIXED, MIXED_SCHEMAS};

use sliding::Sliding;

use super::PromqlError;
use super::ast::{Call, Expr, Kind, Pos};
use super::eval::{Eval, Grid};
use super::range::Window;
use super::stream::{Open, Stage, Stream};
use super::value::{Cell, CellRef, Value};
use crate::model::labels::Labels;
use crate::model::sample::is_stale;

/// One row of the table.
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// A call of it.
    pub example: &'static str,
    /// How it is computed.
    imp: Imp,
    /// How it is computed faster, over ranges of floats.
    sliding: Option<Sliding>,
}

/// A function over windows of a range vector.
type OfWindow = fn(&Window<'_>, &[f64], &mut RangeContext<'_, '_>) -> Option<Cell>;
/// A function of the whole call.
type Whole = fn(&mut Eval<'_>, &Call, Pos, &Grid) -> Result<Value, PromqlError>;

enum Imp {
    /// Of each window of the one range vector among its arguments; the others are scalars.
    Range(OfWindow),
    /// The same, and the name stays.
    RangeKeepsName(OfWindow),
    /// Of each float of the first argument, which histograms do not have; the others are scalars.
    Float(fn(f64, &[f64]) -> f64),
    /// Of the whole call.
    Whole(Whole),
}

#[cfg(test)]
impl Function {
    /// Whether it has a fast way.
    pub(super) fn slides(&self) -> bool {
        self.sliding.is_some()
    }
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Tables of all families.
const FAMILIES: &[&[Function]] = &[
    rate::FUNCTIONS,
    over_time::FUNCTIONS,
    histogram::FUNCTIONS,
    label::FUNCTIONS,
    math::FUNCTIONS,
    time::FUNCTIONS,
    vector::FUNCTIONS,
];

/// All rows.
pub fn all() -> impl Iterator<Item = &'static Function> {
    FAMILIES.iter().flat_map(|family| family.iter())
}

/// The row of a name.
pub fn find(name: &str) -> Option<&'static Function> {
    all().find(|function| function.name == name)
}

const fn row(name: &'static str, summary: &'static str, example: &'static str, imp: Imp) -> Function {
    Function { name, summary, example, imp, sliding: None }
}

/// A function over ranges that slides over floats.
const fn slides(row: Function, sliding: Sliding) -> Function {
    Function { sliding: Some(sliding), ..row }
}

/// What a function over ranges may need besides the window.
pub struct RangeContext<'e, 'a> {
    /// The query.
    pub eval: &'e mut Eval<'a>,
    /// The series.
    pub labels: &'e Labels,
    /// Where the range vector begins.
    pub pos: Pos,
    /// Where the first scalar argument begins.
    pub scalar_pos: Pos,
    /// Length of the window, milliseconds.
    pub range: i64,
    /// How the edges are treated.
    pub edges: super::ast::Edges,
}

impl RangeContext<'_, '_> {
    /// Counts work within one window; whether it may go on. If not, the query says why.
    pub(super) fn goes_on(&mut self, work: usize) -> bool {
        self.eval.goes_on(work)
    }

    /// Warns about the series.
    pub fn warn(&mut self, text: &str) {
        let text = format!("{text} {:?}", self.labels.metric_name());
        self.eval.warn(self.pos, text);
    }

    /// Informs about the series.
    pub fn info(&mut self, text: &str) {
        let text = format!("{text} {:?}", self.labels.metric_name());
        self.eval.info(self.pos, text);
    }
}

/// Calls a function.
///
/// # Errors
/// What its arguments or the budget say.
pub(super) fn call<'q>(eval: &mut Eval<'_>, call: &'q Call, pos: Pos, grid: &Grid) -> Result<Open<'q>, PromqlError> {
    match call.function.imp {
        Imp::Range(f) => Ok(Open::Stream(Stream::over_range(OverRange::of(eval, call, f, false, grid)?, grid))),
        Imp::RangeKeepsName(f) => Ok(Open::Stream(Stream::over_range(OverRange::of(eval, call, f, true, grid)?, grid))),
        Imp::Float(f) => of_float(eval, call, grid, f),
        Imp::Whole(f) => Ok(f(eval, call, pos, grid)?.into()),
    }
}

fn is_range(expr: &Expr) -> bool {
    matches!(expr.bare().kind, Kind::Matrix(..) | Kind::Subquery(_))
}

/// Most scalars that a function of floats takes.
const SCALARS_MAX: usize = 4;

fn of_float<'q>(
    eval: &mut Eval<'_>,
    call: &'q Call,
    grid: &Grid,
    f: fn(f64, &[f64]) -> f64,
) -> Result<Open<'q>, PromqlError> {
    let Some((first, rest)) = call.args.split_first() else {
        return Err(PromqlError::Execution(format!("{} needs an argument", call.function.name)));
    };
    let vector = eval.open(first, grid)?;
    let mut scalars = Vec::with_capacity(rest.len());
    for arg in rest.iter().take(SCALARS_MAX) {
        scalars.push(eval.scalar(arg, grid)?);
    }
    let of_step = Arc::new(move |value: f64, step: usize| {
        let mut params = [f64::NAN; SCALARS_MAX];
        for (param, scalar) in params.iter_mut().zip(&scalars) {
            *param = scalar.get(step).copied().unwrap_or(f64::NAN);
        }
        f(value, params.get(..scalars.len()).unwrap_or_default())
    });
    let of_float = of_step.clone();
    let stage = Stage::new(true, move |_, step, cell| {
        let CellRef::Float(value) = cell else { return Ok(None) };
        Ok(Some(Cell::Float(of_float(value, step))))
    });
    let stage = stage.of_floats(move |at, cells| {
        for (step, cell) in cells.iter_mut().enumerate().filter(|(_, cell)| !is_stale(**cell)) {
            *cell = of_step(*cell, at + step);
        }
    });
    eval.staged(vector, stage)
}

fn arg(call: &Call, at: usize) -> Result<&Expr, PromqlError> {
    call.args.get(at).ok_or_else(|| PromqlError::Execution(format!("{} needs argument {}", call.function.name, at + 1)))
}
