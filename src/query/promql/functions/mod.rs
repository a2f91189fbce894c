//! The functions of PromQL: one row each, and how a row is called.
//! The parser owns the signatures; a test parses each row's example.

mod edges;
pub mod histogram;
mod label;
mod math;
mod over_time;
mod rate;
mod time;
mod vector;

pub(super) use rate::{MIXED, MIXED_SCHEMAS};

use super::PromqlError;
use super::ast::{Call, Expr, Kind, Pos};
use super::eval::{Eval, Grid};
use super::range::{Slide, Window};
use super::value::{Cell, CellRef, Series, Value};
use crate::model::labels::Labels;

/// One row of the table.
#[derive(Debug)]
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// A call of it.
    pub example: &'static str,
    /// How it is computed.
    imp: Imp,
}

/// A function over windows of a range vector.
type OverRange = fn(&Window<'_>, &[f64], &mut RangeContext<'_, '_>) -> Option<Cell>;
/// A function of the whole call.
type Whole = fn(&mut Eval<'_>, &Call, Pos, &Grid) -> Result<Value, PromqlError>;

enum Imp {
    /// Of each window of the one range vector among its arguments; the others are scalars.
    Range(OverRange),
    /// The same, and the name stays.
    RangeKeepsName(OverRange),
    /// Of each float of the first argument, which histograms do not have; the others are scalars.
    Float(fn(f64, &[f64]) -> f64),
    /// Of the whole call.
    Whole(Whole),
}

impl std::fmt::Debug for Imp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Range(_) | Self::RangeKeepsName(_) => "of a range",
            Self::Float(_) => "of a float",
            Self::Whole(_) => "of its arguments",
        })
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
    Function { name, summary, example, imp }
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
pub fn call(eval: &mut Eval<'_>, call: &Call, pos: Pos, grid: &Grid) -> Result<Value, PromqlError> {
    match call.function.imp {
        Imp::Range(f) => over_range(eval, call, grid, f, false),
        Imp::RangeKeepsName(f) => over_range(eval, call, grid, f, true),
        Imp::Float(f) => of_float(eval, call, grid, f),
        Imp::Whole(f) => f(eval, call, pos, grid),
    }
}

fn is_range(expr: &Expr) -> bool {
    matches!(expr.bare().kind, Kind::Matrix(..) | Kind::Subquery(_))
}

fn over_range(
    eval: &mut Eval<'_>,
    call: &Call,
    grid: &Grid,
    f: OverRange,
    keeps_name: bool,
) -> Result<Value, PromqlError> {
    let mut scalars = Vec::new();
    let mut range = None;
    let mut scalar_pos = Pos(0);
    for arg in &call.args {
        if is_range(arg) {
            range = Some(arg);
        } else {
            if scalars.is_empty() {
                scalar_pos = arg.pos;
            }
            scalars.push(eval.scalar(arg, grid)?);
        }
    }
    let Some(arg) = range else {
        return Err(PromqlError::Execution(format!("{} needs a range vector", call.function.name)));
    };
    let matrix = eval.matrix(arg, grid)?;
    let mut vector = Vec::with_capacity(matrix.series.len());
    let mut params = vec![0.0; scalars.len()];
    let before = if matrix.edges == super::ast::Edges::Plain { 0 } else { matrix.beyond };
    let after = if matrix.edges == super::ast::Edges::Smoothed { matrix.beyond } else { 0 };
    for series in &matrix.series {
        let mut column = eval.column(grid)?;
        let mut slide = Slide::new(series);
        for step in 0..grid.steps {
            let end = eval.looks_at(matrix.at, matrix.offset, grid, step);
            let start = end.saturating_sub(matrix.range);
            let mut window = slide.to(start.saturating_sub(before), end.saturating_add(after), grid.time(step));
            (window.start, window.end) = (start, end);
            eval.spend(window.times.len() + 10 * window.histograms.len() + 1)?;
            if window.is_empty() {
                continue;
            }
            for (param, scalar) in params.iter_mut().zip(&scalars) {
                *param = scalar.get(step).copied().unwrap_or(f64::NAN);
            }
            let (range, edges) = (matrix.range, matrix.edges);
            let mut context =
                RangeContext { eval: &mut *eval, labels: &series.labels, pos: arg.pos, scalar_pos, range, edges };
            let cell = f(&window, &params, &mut context);
            if let Some(failure) = eval.failure.take() {
                return Err(failure);
            }
            if let Some(cell) = &cell {
                eval.charge_cell(cell)?;
            }
            column.set(step, cell);
        }
        let drop_name = series.drop_name || !keeps_name;
        vector.push(Series { labels: series.labels.clone(), drop_name, column });
    }
    Ok(Value::Vector(eval.without_empty(vector)))
}

fn of_float(eval: &mut Eval<'_>, call: &Call, grid: &Grid, f: fn(f64, &[f64]) -> f64) -> Result<Value, PromqlError> {
    let Some((first, rest)) = call.args.split_first() else {
        return Err(PromqlError::Execution(format!("{} needs an argument", call.function.name)));
    };
    let vector = eval.vector(first, grid)?;
    let mut scalars = Vec::with_capacity(rest.len());
    for arg in rest {
        scalars.push(eval.scalar(arg, grid)?);
    }
    let mut params = vec![0.0; scalars.len()];
    let vector = eval.map(vector, true, |_, step, cell| {
        let CellRef::Float(value) = cell else { return Ok(None) };
        for (param, scalar) in params.iter_mut().zip(&scalars) {
            *param = scalar.get(step).copied().unwrap_or(f64::NAN);
        }
        Ok(Some(Cell::Float(f(value, &params))))
    })?;
    Ok(Value::Vector(vector))
}

fn arg(call: &Call, at: usize) -> Result<&Expr, PromqlError> {
    call.args.get(at).ok_or_else(|| PromqlError::Execution(format!("{} needs argument {}", call.function.name, at + 1)))
}
