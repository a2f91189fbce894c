//! The functions of PromQL: one row each, and how a row is called.
//! The parser owns the signatures; a test parses each row's example.

mod change;
mod classic;
mod edges;
pub mod histogram;
mod label;
mod math;
mod over_range;
mod over_time;
mod rate;
mod row;
mod sliding;
mod time;
mod vector;

use std::sync::Arc;

pub use row::Function;

use over_range::OverRange;
use row::Imp;

use super::PromqlError;
use super::ast::{Call, Pos};
use super::run::{Eval, Grid};
use super::stream::{Open, Stage, Stream};
use super::value::{Cell, CellRef};
use crate::model::sample::is_stale;

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

/// Calls a function.
///
/// # Errors
/// What its arguments or the budget say.
pub(super) fn call<'q>(eval: &mut Eval<'_>, call: &'q Call, pos: Pos, grid: &Grid) -> Result<Open<'q>, PromqlError> {
    let Some(function) = find(call.function) else {
        return Err(PromqlError::Execution(format!("unknown function with name {:?}", call.function)));
    };
    match function.imp {
        Imp::Range(f) => {
            Ok(Open::Stream(Stream::new(OverRange::of(eval, call, (f, function.sliding), false, grid)?, grid)))
        }
        Imp::RangeKeepsName(f) => {
            Ok(Open::Stream(Stream::new(OverRange::of(eval, call, (f, function.sliding), true, grid)?, grid)))
        }
        Imp::Float(f) => of_float(eval, call, grid, f),
        Imp::Whole(f) => Ok(f(eval, call, pos, grid)?.into()),
    }
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
        return Err(PromqlError::Execution(format!("{} needs an argument", call.function)));
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
