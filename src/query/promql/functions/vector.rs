//! Functions of whole vectors: making, sorting, and telling that there is nothing.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use super::row::{Function, Imp, arg, is_range, row};
use crate::model::labels::{Labels, METRIC_NAME};
use crate::model::matcher::{MatchOp, Matcher};
use crate::model::sample::is_stale;
use crate::query::pace::Pace;
use crate::query::promql::PromqlError;
use crate::query::promql::ast::{Call, Expr, Kind, Pos};
use crate::query::promql::range::Slide;
use crate::query::promql::run::{Eval, Grid};
use crate::query::promql::stat;
use crate::query::promql::value::{Cell, CellRef, Column, Series, Value, Vector};

pub(super) const FUNCTIONS: &[Function] = &[
    row("vector", "a scalar as a vector without labels", "vector(1)", Imp::Whole(vector)),
    row("scalar", "the value of a one-element vector, else NaN", "scalar(a)", Imp::Whole(scalar)),
    row("absent", "1 when the vector is empty", "absent(a)", Imp::Whole(absent)),
    row("absent_over_time", "1 when the range is empty", "absent_over_time(a[5m])", Imp::Whole(absent_over_time)),
    row("sort", "ascending by value", "sort(a)", Imp::Whole(|e, c, p, g| sort(e, c, p, g, false))),
    row("sort_desc", "descending by value", "sort_desc(a)", Imp::Whole(|e, c, p, g| sort(e, c, p, g, true))),
    row(
        "sort_by_label",
        "ascending by labels, numbers by their value",
        "sort_by_label(a, \"x\")",
        Imp::Whole(|e, c, p, g| sort_by_label(e, c, p, g, false)),
    ),
    row(
        "sort_by_label_desc",
        "descending by labels",
        "sort_by_label_desc(a, \"x\")",
        Imp::Whole(|e, c, p, g| sort_by_label(e, c, p, g, true)),
    ),
];

fn vector(eval: &mut Eval<'_>, call: &Call, _: Pos, grid: &Grid) -> Result<Value, PromqlError> {
    let column = Column::of(eval.scalar(arg(call, 0)?, grid)?);
    Ok(Value::Vector(vec![Series { labels: Labels::default(), drop_name: false, column }]))
}

fn scalar(eval: &mut Eval<'_>, call: &Call, _: Pos, grid: &Grid) -> Result<Value, PromqlError> {
    // How many floats there are, up to two, and one of them.
    let see = |all: &mut [(u8, f64)], column: &Column| {
        for (step, (count, value)) in all.iter_mut().enumerate() {
            if let CellRef::Float(own) = column.get(step) {
                (*count, *value) = (count.saturating_add(1), own);
            }
        }
    };
    let join = |all: &mut (u8, f64), one: (u8, f64)| {
        if one.0 > 0 {
            *all = (all.0.saturating_add(one.0), one.1);
        }
    };
    let all = eval.of_all(arg(call, 0)?, grid, (0, f64::NAN), see, join)?;
    eval.budget.charge(8 * grid.steps)?;
    Ok(Value::Scalar(all.into_iter().map(|(count, value)| if count == 1 { value } else { f64::NAN }).collect()))
}

/// The labels that a selector fixes: those with one `=` matcher and no other.
fn fixed_labels(expr: &Expr) -> Labels {
    let matchers: &[Matcher] = match &expr.bare().kind {
        Kind::Vector(selector) | Kind::Matrix(selector, _) => &selector.matchers,
        _ => &[],
    };
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for matcher in matchers {
        *counts.entry(matcher.name.as_str()).or_default() += 1;
    }
    let fixed = |matcher: &&Matcher| {
        matcher.name != METRIC_NAME && matcher.op == MatchOp::Equal && counts.get(matcher.name.as_str()) == Some(&1)
    };
    let pairs = matchers.iter().filter(fixed).map(|matcher| (matcher.name.as_str(), matcher.value.as_str()));
    Labels::from_pairs(pairs).unwrap_or_default()
}

fn ones(eval: &mut Eval<'_>, grid: &Grid, labels: Labels, present: &[bool]) -> Result<Value, PromqlError> {
    let mut column = eval.column(grid)?;
    eval.spend(grid.steps)?;
    for (step, present) in present.iter().enumerate() {
        if !present {
            column.set(step, Some(Cell::Float(1.0)));
        }
    }
    Ok(Value::Vector(eval.without_empty(vec![Series { labels, drop_name: false, column }])?))
}

fn absent(eval: &mut Eval<'_>, call: &Call, _: Pos, grid: &Grid) -> Result<Value, PromqlError> {
    let expr = arg(call, 0)?;
    let see = |present: &mut [bool], column: &Column| match column.floats() {
        Some(floats) => present.iter_mut().zip(floats).for_each(|(present, value)| *present |= !is_stale(*value)),
        None => present.iter_mut().enumerate().for_each(|(step, present)| *present |= column.get(step).is_some()),
    };
    let present = eval.of_all(expr, grid, false, see, |all, one| *all |= one)?;
    ones(eval, grid, fixed_labels(expr), &present)
}

fn absent_over_time(eval: &mut Eval<'_>, call: &Call, _: Pos, grid: &Grid) -> Result<Value, PromqlError> {
    let expr = arg(call, 0)?;
    if !is_range(expr) {
        return Err(PromqlError::Execution("absent_over_time needs a range vector".to_owned()));
    }
    let matrix = eval.matrix(expr, grid)?;
    eval.budget.charge(grid.steps)?;
    let mut present = vec![false; grid.steps];
    matrix.each(eval, &mut |eval, _, _, columns| {
        let mut slide = Slide::new(columns);
        eval.spend(grid.steps + columns.len())?;
        for (step, present) in present.iter_mut().enumerate() {
            let end = eval.looks_at(matrix.at, matrix.offset, grid, step);
            *present |= !slide.to(end.saturating_sub(matrix.range), end, end).is_empty();
        }
        Ok(())
    })?;
    ones(eval, grid, fixed_labels(expr), &present)
}

const INEFFECTIVE: &str = "sort is ineffective for range queries since results are always ordered by labels";

fn is_range_query(eval: &Eval<'_>, grid: &Grid) -> bool {
    grid.steps > 1 || (eval.times.step > 0 && eval.times.end > eval.times.start)
}

fn sort(eval: &mut Eval<'_>, call: &Call, pos: Pos, grid: &Grid, descending: bool) -> Result<Value, PromqlError> {
    let mut vector = eval.vector(arg(call, 0)?, grid)?;
    // Histograms have no order and are left out.
    for series in &mut vector {
        eval.spend(grid.steps)?;
        for step in 0..grid.steps {
            if matches!(series.column.get(step), CellRef::Histogram(_)) {
                series.column.set(step, None);
            }
        }
    }
    let mut vector = eval.without_empty(vector)?;
    if is_range_query(eval, grid) {
        eval.warn(pos, INEFFECTIVE);
        return Ok(Value::Vector(vector));
    }
    // NaN comes last either way.
    let value = |series: &Series| if let CellRef::Float(value) = series.column.get(0) { value } else { f64::NAN };
    Pace::new(eval.budget).sort(&mut vector, |a, b| {
        let (a, b) = (value(a), value(b));
        match (a.is_nan(), b.is_nan()) {
            (false, false) if descending => stat::nan_first(&b, &a),
            (false, false) => stat::nan_first(&a, &b),
            (a, b) => a.cmp(&b),
        }
    })?;
    Ok(Value::Vector(vector))
}

fn sort_by_label(
    eval: &mut Eval<'_>,
    call: &Call,
    pos: Pos,
    grid: &Grid,
    descending: bool,
) -> Result<Value, PromqlError> {
    let mut vector: Vector = eval.vector(arg(call, 0)?, grid)?;
    let mut names = Vec::new();
    for name in call.args.iter().skip(1) {
        names.push(eval.string(name, grid)?);
    }
    if is_range_query(eval, grid) {
        eval.warn(pos, INEFFECTIVE);
        return Ok(Value::Vector(vector));
    }
    // A name that came before changes nothing, and neither does one that no series has.
    let mut known: HashSet<&str> = HashSet::new();
    for series in &vector {
        eval.spend(10 + series.labels.bytes())?;
        known.extend(series.labels.iter().map(|(name, _)| name));
    }
    let names: Vec<&String> = names.iter().filter(|name| known.remove(name.as_str())).collect();
    drop(known);
    let cost = |series: &Series| (1 + names.len()) * series.labels.bytes();
    Pace::new(eval.budget).sort_dear(&mut vector, cost, |a, b| {
        let by_names = names.iter().map(|name| natural(a.labels.value(name), b.labels.value(name)));
        let order = by_names.fold(Ordering::Equal, Ordering::then).then_with(|| a.labels.cmp(&b.labels));
        if descending { order.reverse() } else { order }
    })?;
    Ok(Value::Vector(vector))
}

/// Orders texts with runs of digits by the numbers that they are.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let (Some(x), Some(y)) = (a.chars().next(), b.chars().next()) else { return a.len().cmp(&b.len()) };
        let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        if x.is_ascii_digit() && y.is_ascii_digit() {
            let (left, right) = (a.split_at(digits(a)), b.split_at(digits(b)));
            let (m, n) = (left.0.trim_start_matches('0'), right.0.trim_start_matches('0'));
            let order = m.len().cmp(&n.len()).then_with(|| m.cmp(n)).then_with(|| left.0.len().cmp(&right.0.len()));
            if order != Ordering::Equal {
                return order;
            }
            (a, b) = (left.1, right.1);
        } else {
            if x != y {
                return x.cmp(&y);
            }
            (a, b) = (&a[x.len_utf8()..], &b[y.len_utf8()..]);
        }
    }
}
