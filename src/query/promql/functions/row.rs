//! Rows of the table of functions, and what functions over ranges see besides the window.

use super::sliding::Sliding;
use crate::model::labels::Labels;
use crate::query::promql::PromqlError;
use crate::query::promql::ast::{Call, Edges, Expr, Kind, Pos};
use crate::query::promql::range::Window;
use crate::query::promql::run::{Eval, Grid};
use crate::query::promql::value::{Cell, Value};

/// One row of the table.
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// A call of it.
    pub example: &'static str,
    /// How it is computed.
    pub(super) imp: Imp,
    /// How it is computed faster, over ranges of floats.
    pub(super) sliding: Option<Sliding>,
}

/// A function over windows of a range vector.
pub(super) type OfWindow = fn(&Window<'_>, &[f64], &mut RangeContext<'_, '_>) -> Option<Cell>;
/// A function of the whole call.
pub(super) type Whole = fn(&mut Eval<'_>, &Call, Pos, &Grid) -> Result<Value, PromqlError>;

/// How a function is computed.
pub(super) enum Imp {
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
    pub(in crate::query::promql) fn slides(&self) -> bool {
        self.sliding.is_some()
    }
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// A function.
pub(super) const fn row(name: &'static str, summary: &'static str, example: &'static str, imp: Imp) -> Function {
    Function { name, summary, example, imp, sliding: None }
}

/// A function over ranges that slides over floats.
pub(super) const fn slides(row: Function, sliding: Sliding) -> Function {
    Function { sliding: Some(sliding), ..row }
}

/// What a function over ranges may need besides the window.
pub(super) struct RangeContext<'e, 'a> {
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
    pub edges: Edges,
}

impl RangeContext<'_, '_> {
    /// Counts work within one window; whether it may go on. If not, the query says why.
    pub(super) fn goes_on(&mut self, work: usize) -> bool {
        self.eval.goes_on(work)
    }

    /// Warns about the series.
    pub(super) fn warn(&mut self, text: &str) {
        let text = format!("{text} {:?}", self.labels.metric_name());
        self.eval.warn(self.pos, text);
    }

    /// Informs about the series.
    pub(super) fn info(&mut self, text: &str) {
        let text = format!("{text} {:?}", self.labels.metric_name());
        self.eval.info(self.pos, text);
    }
}

/// Whether an expression is a range vector.
pub(super) fn is_range(expr: &Expr) -> bool {
    matches!(expr.bare().kind, Kind::Matrix(..) | Kind::Subquery(_))
}

/// The argument at a place.
///
/// # Errors
/// When there is none.
pub(super) fn arg(call: &Call, at: usize) -> Result<&Expr, PromqlError> {
    call.args.get(at).ok_or_else(|| PromqlError::Execution(format!("{} needs argument {}", call.function, at + 1)))
}
