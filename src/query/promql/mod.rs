//! PromQL: text → `lex` (with `durations`) and `parse` → tree (`ast`) → `eval` over a grid of steps → answer.
//! Floors, each of which names only those before it: words and trees; samples (`value`, `native`,
//! `histograms`); the running query (`run`); series one by one (`samples`, `range`, `leaf`, `instant`,
//! `stream`); `functions`, aggregations and operators; `eval`, the only one that goes through trees.
//! An instant query is a range query of one step. Names that functions drop stay until the end, so
//! that `label_replace` can still see them.
//! Language: https://prometheus.io/docs/prometheus/latest/querying/basics/

mod aggregate;
mod answer;
pub mod ast;
mod binary;
mod cells;
mod check;
mod counts;
mod durations;
#[cfg(test)]
mod endings;
mod error;
mod eval;
mod explain;
mod fold;
pub mod functions;
mod group;
mod histograms;
#[cfg(test)]
mod hostile;
mod info;
mod instant;
mod leaf;
pub mod lex;
mod native;
mod notes;
mod operate;
mod parse;
mod pick;
mod range;
mod run;
mod samples;
#[cfg(test)]
mod scripts;
mod share;
mod show;
mod spread;
mod stack;
#[cfg(test)]
mod stack_tests;
mod stat;
mod stream;
mod tally;
mod token;
mod trim;
pub mod value;
#[cfg(test)]
mod ways;
mod windows;

use crate::base::limits::QueryBudget;
use crate::model::labels::Labels;
use crate::model::matcher::Matcher;
use crate::store::SelectMetrics;

use ast::{Expr, Kind};
use lex::Times;
use run::{Eval, Grid, SAME_LABELS};
use value::Value;

pub use answer::{AnswerSeries, Matrix};
pub use error::PromqlError;
pub use native::{Bucket, Work};
pub use parse::{Signature, signature};

/// How far back an instant selector looks unless a request says otherwise, in milliseconds.
pub const LOOKBACK_MS: i64 = 300_000;

/// What a request may set besides its times.
#[derive(Clone, Copy, Debug)]
pub struct Params {
    /// How far back an instant selector looks, milliseconds.
    pub lookback: i64,
    /// Most points of one series.
    pub points_max: u64,
    /// Most series that one selector may find.
    pub series_max: u64,
    /// Whether to count the samples that each step looks at.
    pub count: bool,
    /// Most threads that work on the query; 0 for as many as there are cores.
    pub threads: usize,
}

impl Default for Params {
    fn default() -> Self {
        Self { lookback: LOOKBACK_MS, points_max: 11_000, series_max: u64::MAX, count: false, threads: 0 }
    }
}

/// The value of an answer.
#[derive(Clone, Debug)]
pub enum AnswerValue {
    /// A number at a time.
    Scalar(i64, f64),
    /// A text at a time.
    String(i64, String),
    /// Series with one sample each, in the query's order.
    Vector(Vec<AnswerSeries>),
    /// Series with many, sorted by labels.
    Matrix(Matrix),
}

/// How many samples a step looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepSamples {
    /// Its time.
    pub time: i64,
    /// All of them: one that several steps look at counts for each of them.
    pub samples: u64,
    /// Those that the step before did not look at, for ranges and fixed times; else all.
    pub new: u64,
}

/// The answer of a query.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its value.
    pub value: AnswerValue,
    /// What is probably wrong.
    pub warnings: Vec<String>,
    /// What is worth knowing.
    pub infos: Vec<String>,
    /// Samples read from the store.
    pub samples: u64,
    /// Where that was asked for, the samples of each step.
    pub per_step: Option<Vec<StepSamples>>,
    /// The most memory held at once, bytes.
    pub memory_peak: u64,
}

/// The matchers of a `match[]` parameter.
///
/// # Errors
/// [`PromqlError::Parse`].
pub fn selector(text: &str, budget: &QueryBudget) -> Result<Vec<Matcher>, PromqlError> {
    parse::selector(text, budget)
}

/// The selectors of all vectors in a query.
///
/// # Errors
/// [`PromqlError::Parse`].
pub fn selectors(query: &str, budget: &QueryBudget) -> Result<Vec<Vec<Matcher>>, PromqlError> {
    with_tree(query, budget, |expr| {
        let mut all = Vec::new();
        collect_selectors(expr, &mut all);
        Ok(all)
    })
}

/// Lets `work` look at the tree of a query, where there is stack for a walk over it.
///
/// # Errors
/// [`PromqlError::Parse`], or what `work` returns.
pub fn with_tree<T: Send>(
    query: &str,
    budget: &QueryBudget,
    work: impl FnOnce(&Expr) -> Result<T, PromqlError> + Send,
) -> Result<T, PromqlError> {
    parse::parsed(query, Times::NOMINAL, budget, |expr| work(&expr))
}

fn collect_selectors(expr: &Expr, all: &mut Vec<Vec<Matcher>>) {
    match &expr.kind {
        Kind::Number(_) | Kind::String(_) => {}
        Kind::Vector(selector) | Kind::Matrix(selector, _) => all.push(selector.matchers.clone()),
        Kind::Subquery(subquery) => collect_selectors(&subquery.expr, all),
        Kind::Call(call) => call.args.iter().for_each(|arg| collect_selectors(arg, all)),
        Kind::Aggregate(aggregate) => {
            aggregate.param.iter().for_each(|param| collect_selectors(param, all));
            collect_selectors(&aggregate.expr, all);
        }
        Kind::Binary(binary) => {
            collect_selectors(&binary.left, all);
            collect_selectors(&binary.right, all);
        }
        Kind::Negate(inner) | Kind::Paren(inner) => collect_selectors(inner, all),
    }
}

/// A query in the usual spacing.
///
/// # Errors
/// [`PromqlError::Parse`].
pub fn format(query: &str, budget: &QueryBudget) -> Result<String, PromqlError> {
    with_tree(query, budget, |expr| show::format(expr, budget))
}

/// Answers a query at one time, in milliseconds.
///
/// # Errors
/// [`PromqlError`].
pub fn instant(
    store: &dyn SelectMetrics,
    query: &str,
    time: i64,
    params: Params,
    budget: &QueryBudget,
) -> Result<Answer, PromqlError> {
    let times = Times { start: time, end: time, step: 0 };
    run(store, query, times, params, budget)
}

/// Answers a query at every step from `start` to `end`, all in milliseconds.
///
/// # Errors
/// [`PromqlError`].
pub fn range(
    store: &dyn SelectMetrics,
    query: &str,
    (start, end, step): (i64, i64, i64),
    params: Params,
    budget: &QueryBudget,
) -> Result<Answer, PromqlError> {
    if step <= 0 {
        let message = "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer";
        return Err(PromqlError::Request(message.to_owned()));
    }
    if end < start {
        return Err(PromqlError::Request(
            "invalid parameter \"end\": end timestamp must not be before start time".to_owned(),
        ));
    }
    let points = end.saturating_sub(start) / step;
    if points as u64 > params.points_max {
        let max = params.points_max;
        return Err(PromqlError::Request(format!(
            "exceeded maximum resolution of {max} points per timeseries. Try decreasing the query resolution (?step=XX) or raise \
             --query-points-max"
        )));
    }
    run(store, query, Times { start, end, step }, params, budget)
}

fn run(
    store: &dyn SelectMetrics,
    query: &str,
    times: Times,
    params: Params,
    budget: &QueryBudget,
) -> Result<Answer, PromqlError> {
    parse::parsed(query, times, budget, move |expr| {
        check::check(&expr).map_err(PromqlError::Execution)?;
        let mut eval = Eval::new(store, budget, times, params.lookback.max(1));
        eval.series_max = params.series_max;
        if params.count {
            let steps = if times.step == 0 { 1 } else { Grid::between(times.start, times.end, times.step)?.steps };
            budget.charge(16 * steps)?;
            eval.counted = Some(vec![0; steps]);
            eval.counted_new = vec![0; steps];
        }
        eval.threads = if params.threads == 0 { spread::cores() } else { params.threads };
        let value = if times.step == 0 {
            instant_value(&mut eval, &expr, times.start)?
        } else {
            range_value(&mut eval, &expr, times)?
        };
        Ok(Answer {
            value,
            warnings: eval.notes.warnings(query),
            infos: eval.notes.infos(query),
            samples: eval.samples,
            per_step: eval.counted.map(|counted| timed(counted.into_iter().zip(eval.counted_new), times)),
            memory_peak: budget.memory_peak(),
        })
    })
}

fn timed(counted: impl Iterator<Item = (u64, u64)>, times: Times) -> Vec<StepSamples> {
    let time = |step: usize| times.start.saturating_add(times.step.saturating_mul(step as i64));
    counted.enumerate().map(|(step, (samples, new))| StepSamples { time: time(step), samples, new }).collect()
}

fn instant_value(eval: &mut Eval<'_>, expr: &Expr, time: i64) -> Result<AnswerValue, PromqlError> {
    let grid = Grid { start: time, step: 1, steps: 1 };
    if matches!(expr.bare().kind, Kind::Matrix(..) | Kind::Subquery(_)) {
        return raw_matrix(eval, expr, &grid);
    }
    Ok(match eval.eval(expr, &grid)? {
        Value::Scalar(values) => AnswerValue::Scalar(time, values.first().copied().unwrap_or(f64::NAN)),
        Value::String(text) => AnswerValue::String(time, text),
        Value::Vector(vector) => {
            let joined = eval.without_empty(vector)?;
            let joined = eval.join_equal(joined, true)?;
            AnswerValue::Vector(answer_series(eval, joined, &grid)?)
        }
    })
}

/// An instant query for a range vector gives the samples themselves.
fn raw_matrix(eval: &mut Eval<'_>, expr: &Expr, grid: &Grid) -> Result<AnswerValue, PromqlError> {
    let matrix = eval.matrix(expr, grid)?;
    let end = eval.looks_at(matrix.at, matrix.offset, grid, 0);
    let mut all = Vec::new();
    let mut known = std::collections::HashSet::new();
    matrix.each(eval, &mut |eval, labels, drop_name, columns| {
        let window = range::Slide::new(columns).to(end.saturating_sub(matrix.range), end, end);
        if window.is_empty() {
            return Ok(());
        }
        let weights = window.histograms.iter().map(|sample| value::weight(&sample.histogram));
        let samples = window.times.len() as u64 + weights.sum::<u64>();
        eval.count(std::iter::once((samples, samples)));
        let histograms: usize = window.histograms.iter().map(|sample| sample.histogram.bytes()).sum();
        eval.budget.charge(16 * (window.times.len() + window.histograms.len()) + histograms + ANSWER_BYTES)?;
        eval.spend(window.times.len() + labels.bytes())?;
        let labels = if drop_name { value::nameless(labels) } else { labels.clone() };
        if drop_name {
            eval.budget.charge(labels.bytes())?;
        }
        if !known.insert(labels.clone()) {
            return Err(PromqlError::Execution(SAME_LABELS.to_owned()));
        }
        let floats = window.times.iter().copied().zip(window.values.iter().copied()).collect();
        let histograms = window.histograms.iter().map(|sample| (sample.t, sample.histogram.clone())).collect();
        all.push(AnswerSeries { labels, floats, histograms });
        Ok(())
    })?;
    Ok(AnswerValue::Matrix(Matrix::of_points(all, eval.budget)?))
}

fn range_value(eval: &mut Eval<'_>, expr: &Expr, times: Times) -> Result<AnswerValue, PromqlError> {
    let grid = Grid::between(times.start, times.end, times.step)?;
    if matches!(expr.bare().kind, Kind::Matrix(..) | Kind::Subquery(_)) {
        return Err(wrong_type("range vector"));
    }
    match eval.eval(expr, &grid)? {
        Value::Scalar(values) => {
            eval.budget.charge(16 * grid.steps)?;
            let floats = values.into_iter().enumerate().map(|(step, value)| (grid.time(step), value)).collect();
            let series = AnswerSeries { labels: Labels::default(), floats, histograms: Vec::new() };
            Ok(AnswerValue::Matrix(Matrix::of_points(vec![series], eval.budget)?))
        }
        Value::String(_) => Err(wrong_type("string")),
        Value::Vector(vector) => {
            let joined = eval.without_empty(vector)?;
            let joined = eval.join_equal(joined, true)?;
            // Charged when the columns were made.
            Ok(AnswerValue::Matrix(Matrix::of_columns(joined, grid, eval.budget)?))
        }
    }
}

fn wrong_type(name: &str) -> PromqlError {
    let wants = "must be Scalar or instant Vector";
    PromqlError::Request(format!(
        "invalid parameter \"query\": invalid expression type {name:?} for range query, {wants}"
    ))
}

/// What a series of an answer with one sample takes beside its labels.
const ANSWER_BYTES: usize = 2 * size_of::<AnswerSeries>() + 100;

fn answer_series(eval: &mut Eval<'_>, vector: value::Vector, grid: &Grid) -> Result<Vec<AnswerSeries>, PromqlError> {
    eval.budget.charge(ANSWER_BYTES * vector.len())?;
    let mut all = Vec::with_capacity(vector.len());
    for series in vector {
        eval.spend(20)?;
        all.push(answer::points(series, grid));
    }
    Ok(all)
}
