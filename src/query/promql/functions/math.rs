//! Functions of single floats: arithmetic, rounding, clamping, trigonometry.

use super::row::{Function, Imp, arg, row};
use crate::query::promql::PromqlError;
use crate::query::promql::ast::{Call, Pos};
use crate::query::promql::run::{Eval, Grid};
use crate::query::promql::value::{Cell, CellRef, Value};

pub(super) const FUNCTIONS: &[Function] = &[
    row("abs", "absolute value", "abs(a)", Imp::Float(|v, _| v.abs())),
    row("ceil", "rounds up", "ceil(a)", Imp::Float(|v, _| v.ceil())),
    row("floor", "rounds down", "floor(a)", Imp::Float(|v, _| v.floor())),
    row("exp", "e to the power of", "exp(a)", Imp::Float(|v, _| v.exp())),
    row("ln", "natural logarithm", "ln(a)", Imp::Float(|v, _| v.ln())),
    row("log2", "binary logarithm", "log2(a)", Imp::Float(|v, _| v.log2())),
    row("log10", "decimal logarithm", "log10(a)", Imp::Float(|v, _| v.log10())),
    row("sqrt", "square root", "sqrt(a)", Imp::Float(|v, _| v.sqrt())),
    row("sgn", "sign: -1, 0 or 1", "sgn(a)", Imp::Float(|v, _| if v == 0.0 || v.is_nan() { v } else { v.signum() })),
    row("sin", "sine", "sin(a)", Imp::Float(|v, _| v.sin())),
    row("cos", "cosine", "cos(a)", Imp::Float(|v, _| v.cos())),
    row("tan", "tangent", "tan(a)", Imp::Float(|v, _| v.tan())),
    row("asin", "arc sine", "asin(a)", Imp::Float(|v, _| v.asin())),
    row("acos", "arc cosine", "acos(a)", Imp::Float(|v, _| v.acos())),
    row("atan", "arc tangent", "atan(a)", Imp::Float(|v, _| v.atan())),
    row("sinh", "hyperbolic sine", "sinh(a)", Imp::Float(|v, _| v.sinh())),
    row("cosh", "hyperbolic cosine", "cosh(a)", Imp::Float(|v, _| v.cosh())),
    row("tanh", "hyperbolic tangent", "tanh(a)", Imp::Float(|v, _| v.tanh())),
    row("asinh", "inverse hyperbolic sine", "asinh(a)", Imp::Float(|v, _| v.asinh())),
    row("acosh", "inverse hyperbolic cosine", "acosh(a)", Imp::Float(|v, _| v.acosh())),
    row("atanh", "inverse hyperbolic tangent", "atanh(a)", Imp::Float(|v, _| v.atanh())),
    row("deg", "radians to degrees", "deg(a)", Imp::Float(|v, _| v * 180.0 / std::f64::consts::PI)),
    row("rad", "degrees to radians", "rad(a)", Imp::Float(|v, _| v * std::f64::consts::PI / 180.0)),
    row("round", "rounds to the nearest multiple", "round(a, 5)", Imp::Float(round)),
    row("clamp", "keeps values between two bounds", "clamp(a, 0, 1)", Imp::Whole(clamp)),
    row("clamp_min", "raises values to a bound", "clamp_min(a, 0)", Imp::Float(|v, p| larger(v, first(p)))),
    row("clamp_max", "lowers values to a bound", "clamp_max(a, 1)", Imp::Float(|v, p| smaller(v, first(p)))),
    row("pi", "the number pi", "pi()", Imp::Whole(|eval, _, _, grid| eval.constant(std::f64::consts::PI, grid))),
    row("min_of", "the smaller of two scalars", "min_of(1, 2)", Imp::Whole(|e, c, _, g| of_two(e, c, g, smaller))),
    row("max_of", "the larger of two scalars", "max_of(1, 2)", Imp::Whole(|e, c, _, g| of_two(e, c, g, larger))),
];

fn first(params: &[f64]) -> f64 {
    params.first().copied().unwrap_or(f64::NAN)
}

fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

fn smaller(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) }
}

/// Halves go up. Multiplying by the inverse keeps `round(x, 0.1)` free of digits that division adds.
fn round(value: f64, params: &[f64]) -> f64 {
    let inverse = 1.0 / params.first().copied().unwrap_or(1.0);
    (value * inverse + 0.5).floor() / inverse
}

fn clamp(eval: &mut Eval<'_>, call: &Call, _: Pos, grid: &Grid) -> Result<Value, PromqlError> {
    let vector = eval.vector(arg(call, 0)?, grid)?;
    let low = eval.scalar(arg(call, 1)?, grid)?;
    let high = eval.scalar(arg(call, 2)?, grid)?;
    let at = |values: &[f64], step: usize| values.get(step).copied().unwrap_or(f64::NAN);
    let vector = eval.map(vector, true, |_, step, cell| {
        let CellRef::Float(value) = cell else { return Ok(None) };
        let (low, high) = (at(&low, step), at(&high, step));
        let crossed = low > high;
        Ok((!crossed).then(|| Cell::Float(larger(low, smaller(high, value)))))
    })?;
    Ok(Value::Vector(vector))
}

fn of_two(eval: &mut Eval<'_>, call: &Call, grid: &Grid, f: fn(f64, f64) -> f64) -> Result<Value, PromqlError> {
    let left = eval.scalar(arg(call, 0)?, grid)?;
    let right = eval.scalar(arg(call, 1)?, grid)?;
    Ok(Value::Scalar(left.iter().zip(&right).map(|(a, b)| f(*a, *b)).collect()))
}
