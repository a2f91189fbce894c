//! Metric queries: an expression's value at every step. Range aggregations come from `range`,
//! everything else combines vectors of steps.

use std::cmp::Ordering;

use crate::base::limits::QueryBudget;
use crate::model::labels::Labels;
use crate::query::pace::Pace;
use crate::store::SelectLogs;

use super::LogqlError;
use super::ast::{BinaryOp, MetricExpr, RangeOp, VectorOp};
use super::range;
use super::scan::Stats;
use super::vector;

/// A place without a value. A NaN that no arithmetic makes.
pub(super) const ABSENT: f64 = f64::from_bits(0x7FF8_0000_0AB5_E217);

pub(super) fn is_absent(value: f64) -> bool {
    value.to_bits() == ABSENT.to_bits()
}

/// A series while it is computed: a value or [`ABSENT`] for each step.
#[derive(Clone, Debug)]
pub(super) struct Vector {
    pub(super) labels: Labels,
    pub(super) values: Vec<f64>,
}

/// What is asked of a metric query.
#[derive(Clone, Copy, Debug)]
pub struct MetricQuery {
    /// First step, in nanoseconds.
    pub start: i64,
    /// Last step at or before this, in nanoseconds.
    pub end: i64,
    /// Between steps, in nanoseconds; over zero.
    pub step: i64,
    /// Most points of a series.
    pub points_max: u64,
    /// Most series.
    pub series_max: u64,
    /// The query's time, for templates, in nanoseconds.
    pub now_ns: i64,
}

/// A series of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Who it is.
    pub labels: Labels,
    /// Times in nanoseconds and values, oldest first.
    pub points: Vec<(i64, f64)>,
}

/// Series, in the order to show them, and what was read for them.
#[derive(Clone, Debug, Default)]
pub struct MetricAnswer {
    /// The series; one without labels when the query is a number.
    pub series: Vec<Series>,
    /// Whether the query is a number.
    pub scalar: bool,
    /// What was read.
    pub stats: Stats,
}

pub(super) struct Context<'a> {
    pub(super) logs: &'a dyn SelectLogs,
    pub(super) budget: &'a QueryBudget,
    pub(super) start: i64,
    pub(super) step: i64,
    pub(super) steps: usize,
    pub(super) now_ns: i64,
}

/// A number, or series.
pub(super) enum Value {
    Scalar(f64),
    Vectors(Vec<Vector>),
}

/// Answers a metric query.
///
/// # Errors
/// [`LogqlError`], when a limit is met, a line fails in a stage, or the store fails.
pub fn metric_query(
    logs: &dyn SelectLogs,
    expr: &MetricExpr,
    query: MetricQuery,
    budget: &QueryBudget,
) -> Result<MetricAnswer, LogqlError> {
    let span = query.end.checked_sub(query.start).filter(|span| *span >= 0 && query.step > 0);
    let span = span.ok_or_else(|| LogqlError::Range("the range of time is empty or too long".to_owned()))?;
    let steps = (span / query.step).saturating_add(1);
    if u64::try_from(steps).map_or(true, |steps| steps > query.points_max) {
        return Err(LogqlError::TooManyPoints { limit: query.points_max });
    }
    let steps = usize::try_from(steps).unwrap_or(usize::MAX);
    let context = Context { logs, budget, start: query.start, step: query.step, steps, now_ns: query.now_ns };
    let mut stats = Stats::default();
    let (vectors, scalar) = match context.eval(expr, &mut stats)? {
        Value::Scalar(value) => (vec![Vector { labels: Labels::default(), values: vec![value; steps] }], true),
        Value::Vectors(vectors) => (vectors, false),
    };
    budget.charge(vectors.iter().map(|vector| vector.values.len() * size_of::<(i64, f64)>() + 64).sum())?;
    let pace = Pace::new(budget);
    let mut series = Vec::with_capacity(vectors.len());
    for Vector { labels, values } in vectors {
        pace.go(64 + 8 * values.len())?;
        let points: Vec<(i64, f64)> = values
            .into_iter()
            .enumerate()
            .filter(|(_, value)| !is_absent(*value))
            .map(|(k, value)| (context.time(k), value))
            .collect();
        if !points.is_empty() {
            series.push(Series { labels, points });
        }
    }
    if series.len() as u64 > query.series_max {
        return Err(LogqlError::TooManySeries { limit: query.series_max });
    }
    order(expr, &mut series, steps, &pace)?;
    Ok(MetricAnswer { series, scalar, stats })
}

/// By labels, but by value where `sort` asks for it at one instant.
fn order(expr: &MetricExpr, series: &mut [Series], steps: usize, pace: &Pace<'_>) -> Result<(), LogqlError> {
    pace.sort(series, |a, b| a.labels.cmp(&b.labels))?;
    let MetricExpr::Vector { op: op @ (VectorOp::Sort | VectorOp::SortDesc), .. } = expr else { return Ok(()) };
    if steps != 1 {
        return Ok(());
    }
    let value = |series: &Series| series.points.first().map_or(f64::NAN, |(_, value)| *value);
    let by_value = |a: &Series, b: &Series| {
        let (a, b) = (value(a), value(b));
        let ascending = a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()));
        if *op == VectorOp::Sort || ascending == Ordering::Equal || a.is_nan() || b.is_nan() {
            ascending
        } else {
            ascending.reverse()
        }
    };
    Ok(pace.sort(series, by_value)?)
}

impl Context<'_> {
    fn time(&self, k: usize) -> i64 {
        self.start.saturating_add(self.step.saturating_mul(i64::try_from(k).unwrap_or(i64::MAX)))
    }

    fn eval(&self, expr: &MetricExpr, stats: &mut Stats) -> Result<Value, LogqlError> {
        self.budget.check()?;
        let value = match expr {
            MetricExpr::Number(value) => Value::Scalar(*value),
            MetricExpr::VectorLiteral(value) => {
                Value::Vectors(vec![Vector { labels: Labels::default(), values: vec![*value; self.steps] }])
            }
            MetricExpr::Range(range) => Value::Vectors(range::evaluate(range, None, self, stats)?),
            MetricExpr::Vector { op, parameter, grouping, inner } => {
                if let (VectorOp::Sum, MetricExpr::Range(range)) = (op, inner.as_ref())
                    && adds_up(range.op)
                    && range.grouping.is_none()
                {
                    let all = super::ast::Grouping::default();
                    let grouping = grouping.as_ref().unwrap_or(&all);
                    return Ok(Value::Vectors(range::evaluate(range, Some(grouping), self, stats)?));
                }
                let vectors = match self.eval(inner, stats)? {
                    Value::Vectors(vectors) => vectors,
                    Value::Scalar(_) => {
                        return Err(LogqlError::Matching("an aggregation needs series, not a number".to_owned()));
                    }
                };
                Value::Vectors(self.aggregate(*op, parameter.unwrap_or(0), grouping.as_ref(), vectors)?)
            }
            MetricExpr::Binary { op, bool_result, matching, left, right } => {
                let left = self.eval(left, stats)?;
                let right = self.eval(right, stats)?;
                vector::binary(*op, *bool_result, matching, left, right, self)?
            }
            MetricExpr::LabelReplace { inner, target, replacement, source, regex, .. } => {
                let Value::Vectors(mut vectors) = self.eval(inner, stats)? else {
                    return Err(LogqlError::Matching("label_replace needs series, not a number".to_owned()));
                };
                let pace = Pace::new(self.budget);
                for vector in &mut vectors {
                    pace.go(64 + vector.labels.bytes())?;
                    if let Some(captures) = regex.captures(vector.labels.value(source)) {
                        // A group may be as long as the value, and be named as often as there is a sign for it.
                        let groups = replacement.matches('$').count();
                        let whole = captures.get(0).map_or(0, |whole| whole.len());
                        let most = replacement.len().saturating_add(groups.saturating_mul(whole));
                        self.budget.charge(vector.labels.bytes().saturating_add(most))?;
                        let mut value = String::new();
                        captures.expand(replacement, &mut value);
                        vector.labels = vector.labels.with(target, &value);
                    }
                }
                vector::unique(&vectors, &pace)?;
                Value::Vectors(vectors)
            }
        };
        Ok(value)
    }

    fn aggregate(
        &self,
        op: VectorOp,
        parameter: usize,
        grouping: Option<&super::ast::Grouping>,
        vectors: Vec<Vector>,
    ) -> Result<Vec<Vector>, LogqlError> {
        match op {
            VectorOp::Sort | VectorOp::SortDesc => Ok(vectors),
            VectorOp::Topk | VectorOp::Bottomk => vector::best(op, parameter, grouping, vectors, self),
            VectorOp::Sum
            | VectorOp::Avg
            | VectorOp::Min
            | VectorOp::Max
            | VectorOp::Count
            | VectorOp::Stddev
            | VectorOp::Stdvar => vector::fold(op, grouping, &vectors, self),
        }
    }
}

/// Whether the sum over series is what the aggregation gives for all their lines together.
fn adds_up(op: RangeOp) -> bool {
    matches!(op, RangeOp::CountOverTime | RangeOp::Rate | RangeOp::BytesOverTime | RangeOp::BytesRate | RangeOp::Sum)
}

/// What an operator gives for two numbers; comparisons give 0 or 1.
#[expect(clippy::float_cmp, reason = "equality of numbers is what the query asks for")]
pub(super) fn compute(op: BinaryOp, left: f64, right: f64) -> f64 {
    let truth = |holds: bool| if holds { 1.0 } else { 0.0 };
    match op {
        BinaryOp::Add => left + right,
        BinaryOp::Subtract => left - right,
        BinaryOp::Multiply => left * right,
        // Unlike in PromQL, nothing is infinite here.
        BinaryOp::Divide if right == 0.0 => f64::NAN,
        BinaryOp::Divide => left / right,
        BinaryOp::Modulo if right == 0.0 => f64::NAN,
        BinaryOp::Modulo => left % right,
        BinaryOp::Power => left.powf(right),
        BinaryOp::Equal => truth(left == right),
        BinaryOp::NotEqual => truth(left != right),
        BinaryOp::Greater => truth(left > right),
        BinaryOp::GreaterEqual => truth(left >= right),
        BinaryOp::Less => truth(left < right),
        BinaryOp::LessEqual => truth(left <= right),
        BinaryOp::Or | BinaryOp::And | BinaryOp::Unless => f64::NAN,
    }
}
