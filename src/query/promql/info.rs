//! `info(v)`: joins every series with the info metrics of its target (`target_info` unless a
//! selector names others) on `job` and `instance`, and takes their other labels over.

use std::collections::{BTreeSet, HashMap};

use super::PromqlError;
use super::ast::{Call, Kind, Pos, Selector, Written};
use super::run::{Eval, Gives, Grid};
use super::value::{CellRef, Column, Series, Value, Vector};
use crate::base::pattern::escape;
use crate::model::labels::{Labels, METRIC_NAME};
use crate::model::matcher::{MatchOp, Matcher};
use crate::query::pace::Held;

const IDENTIFYING: [&str; 2] = ["instance", "job"];
const DEFAULT_NAME: &str = "target_info";
/// Most values of an identifying label by which info series are searched.
const TARGETS_MAX: usize = 500;
/// What an info series takes while targets are joined with them: its identity, its place.
const INFO_BYTES: usize = 400;

fn identity(labels: &Labels) -> Labels {
    labels.filter(|name, _| IDENTIFYING.contains(&name))
}

/// Evaluates a call of `info`.
///
/// # Errors
/// What the arguments, the store or the budget say.
pub(super) fn info(eval: &mut Eval<'_>, call: &Call, _: Pos, grid: &Grid) -> Result<Value, PromqlError> {
    let Some(first) = call.args.first() else {
        return Err(PromqlError::Execution("info needs an instant vector".to_owned()));
    };
    let base = eval.vector(first, grid)?;
    let wanted: Vec<Matcher> = match call.args.get(1).map(|arg| &arg.bare().kind) {
        Some(Kind::Vector(selector)) => selector.matchers.clone(),
        Some(_) => return Err(PromqlError::Execution("expected label selectors as the second argument".to_owned())),
        None => Vec::new(),
    };
    let (mut names, data): (Vec<Matcher>, Vec<Matcher>) =
        wanted.into_iter().partition(|matcher| matcher.name == METRIC_NAME);
    if names.is_empty() {
        names.push(Matcher::equal(METRIC_NAME, DEFAULT_NAME));
    } else if names.iter().all(|matcher| matches!(matcher.op, MatchOp::NotEqual | MatchOp::NotRegex)) {
        let any = Matcher::within(METRIC_NAME, MatchOp::Regex, ".+_info", eval.budget);
        names.push(any?);
    }
    let is_info = |series: &Series| names.iter().all(|matcher| matcher.matches(series.labels.metric_name()));
    let (offset, at) = times_of(first);
    let infos = find(eval, &base, &names, &data, (offset, at, first.pos), grid)?;
    let required = data.iter().any(|matcher| !matcher.matches_empty());
    let held = Held::new(eval.budget);
    held.add(INFO_BYTES * infos.len())?;
    let mut by_identity: HashMap<Labels, Vec<usize>> = HashMap::new();
    for (place, series) in infos.iter().enumerate() {
        eval.spend(10 + series.labels.bytes())?;
        by_identity.entry(identity(&series.labels)).or_default().push(place);
    }
    let mut result: Vector = Vec::with_capacity(base.len());
    for series in base {
        eval.spend(10 + series.labels.bytes())?;
        if is_info(&series) {
            result.push(series);
            continue;
        }
        let places = by_identity.get(&identity(&series.labels)).map(Vec::as_slice).unwrap_or_default();
        enrich(eval, &series, &infos, places, &data, required, grid, &mut result)?;
    }
    eval.release(&infos);
    let joined = eval.join_equal(result, false)?;
    Ok(Value::Vector(eval.without_empty(joined)?))
}

/// The offset and time of the first selector within, which the info metrics share.
fn times_of(expr: &super::ast::Expr) -> (i64, Option<super::ast::At>) {
    match &expr.kind {
        Kind::Vector(selector) | Kind::Matrix(selector, _) => (selector.offset, selector.at),
        Kind::Paren(inner) | Kind::Negate(inner) => times_of(inner),
        Kind::Call(call) => call.args.first().map_or((0, None), times_of),
        Kind::Aggregate(aggregate) => times_of(&aggregate.expr),
        Kind::Binary(binary) => times_of(&binary.left),
        Kind::Subquery(subquery) => match times_of(&subquery.expr) {
            (offset, Some(at)) => (offset, Some(at)),
            (offset, None) => (offset.saturating_add(subquery.offset), subquery.at),
        },
        Kind::Number(_) | Kind::String(_) => (0, None),
    }
}

/// The info series of the targets in `base`.
fn find(
    eval: &mut Eval<'_>,
    base: &Vector,
    names: &[Matcher],
    data: &[Matcher],
    (offset, at, pos): (i64, Option<super::ast::At>, Pos),
    grid: &Grid,
) -> Result<Vector, PromqlError> {
    let mut matchers: Vec<Matcher> = names.to_vec();
    matchers.extend(data.iter().filter(|matcher| !matcher.matches_empty()).cloned());
    for label in IDENTIFYING {
        // With more of them a look at each info series costs less.
        let mut values: BTreeSet<&str> = BTreeSet::new();
        for series in base {
            eval.spend(10 + series.labels.bytes())?;
            if values.insert(series.labels.value(label)) && values.len() > TARGETS_MAX {
                break;
            }
        }
        if values.len() <= TARGETS_MAX {
            let values: Vec<String> = values.into_iter().map(escape).collect();
            let matcher = Matcher::within(label, MatchOp::Regex, values.join("|"), eval.budget);
            matchers.push(matcher?);
        }
    }
    if base.is_empty() {
        return Ok(Vec::new());
    }
    let edges = super::ast::Edges::Plain;
    let selector =
        Selector { matchers, offset, at, edges, counts_only: false, named: false, written: Written::default() };
    let values = eval.instant(&selector, grid, Gives::Sample, pos)?;
    for series in &values {
        eval.spend(grid.steps)?;
        if (0..grid.steps).any(|step| matches!(series.column.get(step), CellRef::Histogram(_))) {
            let message = format!("this should be an info metric, with float samples: {}", series.labels);
            return Err(PromqlError::Execution(message));
        }
    }
    eval.release(&values);
    // Where two series of one info metric overlap, the one with the later sample counts.
    eval.instant(&selector, grid, Gives::Time, pos)
}

/// The series with samples at a step, of those with equal names only the ones sampled last.
fn latest<'i>(infos: &'i Vector, places: &[usize], step: usize) -> Vec<&'i Series> {
    let mut present: Vec<(f64, &Series)> = Vec::new();
    for info in places.iter().filter_map(|at| infos.get(*at)) {
        if let CellRef::Float(time) = info.column.get(step) {
            present.push((time, info));
        }
    }
    let mut newest: HashMap<&str, f64> = HashMap::new();
    for (time, info) in &present {
        newest.entry(info.labels.metric_name()).and_modify(|newest| *newest = newest.max(*time)).or_insert(*time);
    }
    present.retain(|(time, info)| newest.get(info.labels.metric_name()).is_none_or(|newest| time >= newest));
    present.into_iter().map(|(_, info)| info).collect()
}

#[expect(clippy::too_many_arguments, reason = "one series against all that may enrich it")]
fn enrich(
    eval: &mut Eval<'_>,
    series: &Series,
    infos: &Vector,
    places: &[usize],
    data: &[Matcher],
    required: bool,
    grid: &Grid,
    result: &mut Vector,
) -> Result<(), PromqlError> {
    let mut made: HashMap<Labels, Column> = HashMap::new();
    for step in 0..grid.steps {
        eval.spend(10 + 20 * places.len())?;
        let cell = series.column.get(step);
        if !cell.is_some() {
            continue;
        }
        let present = latest(infos, places, step);
        let mut labels = series.labels.clone();
        for info in &present {
            for (name, value) in &info.labels {
                eval.spend(20 + labels.bytes())?;
                let wanted = data.is_empty() || data.iter().any(|matcher| matcher.name == name);
                if name == METRIC_NAME || IDENTIFYING.contains(&name) || !wanted {
                    continue;
                }
                if series.labels.get(name).is_some() {
                    continue;
                }
                if labels.get(name).is_some_and(|before| before != value) {
                    return Err(PromqlError::Execution(format!("conflicting label: {name}")));
                }
                labels = labels.with(name, value);
            }
        }
        if required && present.is_empty() {
            continue;
        }
        if !made.contains_key(&labels) {
            eval.budget.charge(labels.bytes())?;
            made.insert(labels.clone(), eval.column(grid)?);
        }
        if let Some(column) = made.get_mut(&labels) {
            eval.set_shared(column, step, cell.to_cell())?;
        }
    }
    let drop_name = series.drop_name;
    let mut made: Vec<(Labels, Column)> = made.into_iter().collect();
    made.sort_by(|a, b| a.0.cmp(&b.0));
    result.extend(made.into_iter().map(|(labels, column)| Series { labels, drop_name, column }));
    Ok(())
}
