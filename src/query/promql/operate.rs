//! One operator on two samples.

use std::sync::Arc;

use super::ast::{BinaryOp, Pos};
use super::histograms::{divided, scaled};
use super::native::Work;
use super::run::Eval;
use super::value::{ABSENT, Cell, CellRef};
use crate::model::histogram::{Histogram, ResetHint};
use crate::model::sample::is_stale;

/// What an operator gives: a sample, and whether a comparison holds.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    /// The sample; for a comparison, that of the left side.
    pub cell: Option<Cell>,
    /// Whether the comparison holds; true for other operators.
    pub keep: bool,
}

const NOTHING: Outcome = Outcome { cell: None, keep: false };

fn float(value: f64) -> Outcome {
    Outcome { cell: Some(Cell::Float(value)), keep: true }
}

/// Applies an operator to two numbers.
pub(super) fn floats(op: BinaryOp, a: f64, b: f64) -> Outcome {
    let holds = match op {
        BinaryOp::Add => return float(a + b),
        BinaryOp::Sub => return float(a - b),
        BinaryOp::Mul => return float(a * b),
        BinaryOp::Div => return float(a / b),
        BinaryOp::Mod => return float(a % b),
        BinaryOp::Pow => return float(a.powf(b)),
        BinaryOp::Atan2 => return float(a.atan2(b)),
        BinaryOp::Equal => a == b,
        BinaryOp::NotEqual => a != b,
        BinaryOp::Less => a < b,
        BinaryOp::LessEqual => a <= b,
        BinaryOp::Greater => a > b,
        BinaryOp::GreaterEqual => a >= b,
        BinaryOp::And | BinaryOp::Or | BinaryOp::Unless | BinaryOp::TrimUpper | BinaryOp::TrimLower => return NOTHING,
    };
    Outcome { cell: Some(Cell::Float(a)), keep: holds }
}

/// Applies an operator with a scalar to the floats of a column; absent ones stay so. With `bool` a
/// comparison gives 0 and 1, else what it does not hold for goes.
pub(super) fn column(op: BinaryOp, bool: bool, cells: &mut [f64], scalar: &[f64], scalar_first: bool) {
    let arithmetic = |cells: &mut [f64], f: fn(f64, f64) -> f64| each(cells, scalar, scalar_first, f);
    match op {
        // The common ones by themselves, so that each has its own tight loop.
        BinaryOp::Add => each(cells, scalar, scalar_first, |a, b| a + b),
        BinaryOp::Sub => each(cells, scalar, scalar_first, |a, b| a - b),
        BinaryOp::Mul => each(cells, scalar, scalar_first, |a, b| a * b),
        BinaryOp::Div => each(cells, scalar, scalar_first, |a, b| a / b),
        BinaryOp::Mod => arithmetic(cells, |a, b| a % b),
        BinaryOp::Pow => arithmetic(cells, f64::powf),
        BinaryOp::Atan2 => arithmetic(cells, f64::atan2),
        op => {
            for (cell, number) in cells.iter_mut().zip(scalar).filter(|(cell, _)| !is_stale(**cell)) {
                let holds = if scalar_first { floats(op, *number, *cell) } else { floats(op, *cell, *number) }.keep;
                if bool {
                    *cell = f64::from(u8::from(holds));
                } else if !holds {
                    *cell = ABSENT;
                }
            }
        }
    }
}

/// Applies an operator to the floats of two columns, of which `a` becomes the result; it has one where both have.
pub(super) fn columns(op: BinaryOp, bool: bool, a: &mut [f64], b: &[f64]) {
    match op {
        BinaryOp::Add => both(a, b, |a, b| a + b),
        BinaryOp::Sub => both(a, b, |a, b| a - b),
        BinaryOp::Mul => both(a, b, |a, b| a * b),
        BinaryOp::Div => both(a, b, |a, b| a / b),
        BinaryOp::Mod => both(a, b, |a, b| a % b),
        BinaryOp::Pow => both(a, b, f64::powf),
        BinaryOp::Atan2 => both(a, b, f64::atan2),
        op => both(a, b, |a, b| match floats(op, a, b).keep {
            keep if bool => f64::from(u8::from(keep)),
            true => a,
            false => ABSENT,
        }),
    }
}

fn both(a: &mut [f64], b: &[f64], f: impl Fn(f64, f64) -> f64) {
    for (a, b) in a.iter_mut().zip(b) {
        *a = if is_stale(*a) || is_stale(*b) { ABSENT } else { f(*a, *b) };
    }
}

fn each(cells: &mut [f64], scalar: &[f64], scalar_first: bool, f: impl Fn(f64, f64) -> f64) {
    for (cell, number) in cells.iter_mut().zip(scalar) {
        let value = if scalar_first { f(*number, *cell) } else { f(*cell, *number) };
        *cell = if is_stale(*cell) { ABSENT } else { value };
    }
}

/// Applies an operator to two samples. What cannot be combined gives nothing and an info at `pos`.
pub(super) fn cells(eval: &mut Eval<'_>, op: BinaryOp, a: CellRef<'_>, b: CellRef<'_>, pos: Pos) -> Outcome {
    match (a, b) {
        (CellRef::None, _) | (_, CellRef::None) => NOTHING,
        (CellRef::Float(a), CellRef::Float(b)) => {
            if matches!(op, BinaryOp::TrimUpper | BinaryOp::TrimLower) {
                return incompatible(eval, op, "float", "float", pos);
            }
            floats(op, a, b)
        }
        (CellRef::Histogram(a), CellRef::Histogram(b)) => histograms(eval, op, a, b, pos),
        (CellRef::Histogram(histogram), CellRef::Float(number)) => match op {
            BinaryOp::Mul => Outcome { cell: Some(scaled(histogram, number)), keep: true },
            BinaryOp::Div => Outcome { cell: Some(divided(histogram, number)), keep: true },
            BinaryOp::TrimUpper | BinaryOp::TrimLower => {
                let upper = op == BinaryOp::TrimUpper;
                Outcome { cell: Some(super::trim::trimmed(histogram, number, upper)), keep: true }
            }
            _ => incompatible(eval, op, "histogram", "float", pos),
        },
        (CellRef::Float(number), CellRef::Histogram(histogram)) => match op {
            BinaryOp::Mul => Outcome { cell: Some(scaled(histogram, number)), keep: true },
            _ => incompatible(eval, op, "float", "histogram", pos),
        },
    }
}

fn incompatible(eval: &mut Eval<'_>, op: BinaryOp, a: &str, b: &str, pos: Pos) -> Outcome {
    let text =
        format!("incompatible sample types encountered for binary operator {:?}: {a} {} {b}", op.text(), op.text());
    eval.info(pos, text);
    NOTHING
}

fn histograms(eval: &mut Eval<'_>, op: BinaryOp, a: &Arc<Histogram>, b: &Arc<Histogram>, pos: Pos) -> Outcome {
    let keep = match op {
        BinaryOp::Add | BinaryOp::Sub => {
            let (mut left, right) = (Work::from(a.as_ref()), Work::from(b.as_ref()));
            let (sign, word) = if op == BinaryOp::Add { (1.0, "addition") } else { (-1.0, "subtraction") };
            let Ok(added) = left.add(&right, sign) else {
                return mixed_schemas(eval, op, pos);
            };
            if added.reconciled {
                eval.info(pos, format!("mismatched custom buckets were reconciled during {word}"));
            }
            if added.conflict {
                eval.warn(pos, format!("conflicting counter resets during histogram {word}"));
            }
            if op == BinaryOp::Sub {
                left.hint = ResetHint::Gauge;
            }
            return Outcome { cell: Some(Cell::Histogram(Arc::new(left.into()))), keep: true };
        }
        BinaryOp::Equal => Work::from(a.as_ref()).equals(&Work::from(b.as_ref())),
        BinaryOp::NotEqual => !Work::from(a.as_ref()).equals(&Work::from(b.as_ref())),
        _ => return incompatible(eval, op, "histogram", "histogram", pos),
    };
    Outcome { cell: Some(Cell::Histogram(a.clone())), keep }
}

fn mixed_schemas(eval: &mut Eval<'_>, op: BinaryOp, pos: Pos) -> Outcome {
    eval.warn(pos, format!("incompatible bucket layout encountered for binary operator {}", op.text()));
    NOTHING
}
