//! Evaluates pipelines over the span sets of one whole trace. A set is indices of spans in order
//! of start time, without repeats.

use super::QueryError;
use super::ast::{Aggregate, Expr, Keep, Relation, SpansetExpr, Stage};
use super::eval::Around;
use super::value::{Truth, Value, compare};
use super::view::TraceView;
use crate::base::limits::QueryBudget;
use crate::model::span::AttrValue;

/// Most span sets of one trace that a `by` may make.
const SETS_MAX: usize = 10_000;

/// Spans of one trace that a pipeline found, and what it computed of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spanset {
    /// Indices into [`TraceView::spans`], rising.
    pub spans: Vec<usize>,
    /// Keys of `by` and results of aggregates.
    pub attributes: Vec<(String, AttrValue)>,
}

/// Runs a pipeline on a whole trace. Sets that come out are not empty.
///
/// # Errors
/// [`QueryError`] when the budget is used up, or a `by` makes too many sets.
pub fn run(stages: &[Stage], trace: &TraceView, budget: &QueryBudget) -> Result<Vec<Spanset>, QueryError> {
    budget.check()?;
    let all = Spanset { spans: (0..trace.spans.len()).collect(), attributes: Vec::new() };
    Pipeline { trace, budget }.stages(stages, all)
}

struct Pipeline<'a> {
    trace: &'a TraceView,
    budget: &'a QueryBudget,
}

impl Pipeline<'_> {
    fn stages(&self, stages: &[Stage], input: Spanset) -> Result<Vec<Spanset>, QueryError> {
        let mut sets = vec![input];
        for stage in stages {
            sets = self.stage(stage, sets)?;
            sets.retain(|set| !set.spans.is_empty());
            if sets.is_empty() {
                break;
            }
        }
        Ok(sets)
    }

    fn stage(&self, stage: &Stage, sets: Vec<Spanset>) -> Result<Vec<Spanset>, QueryError> {
        match stage {
            Stage::Spanset(expr) => {
                let each = sets.into_iter().map(|set| self.spanset_stage(expr, set));
                Ok(each.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
            }
            Stage::Scalar { aggregate, of, text, op, with } => Ok(sets
                .into_iter()
                .filter_map(|mut set| {
                    let value = self.aggregate(*aggregate, of.as_ref(), &set)?;
                    // Numbers of aggregates compare by value: an average of integers is a float.
                    let kept = compare(*op, &value, with, true) == Truth::Yes;
                    set.attributes.push((text.clone(), value.to_attr()?));
                    kept.then_some(set)
                })
                .collect()),
            Stage::By { expr, text } => self.by(expr, text, sets),
            Stage::Select(_) => Ok(sets),
            Stage::Coalesce => {
                let mut spans: Vec<_> = sets.into_iter().flat_map(|set| set.spans).collect();
                spans.sort_unstable();
                spans.dedup();
                Ok(vec![Spanset { spans, attributes: Vec::new() }])
            }
        }
    }

    /// A pipeline in brackets may give several sets with what it computed; anything else one.
    fn spanset_stage(&self, expr: &SpansetExpr, set: Spanset) -> Result<Vec<Spanset>, QueryError> {
        match expr {
            SpansetExpr::Pipeline(stages) => self.stages(stages, set),
            _ => {
                let spans = self.spanset(expr, &set.spans)?;
                Ok(vec![Spanset { spans, attributes: set.attributes }])
            }
        }
    }

    fn spanset(&self, expr: &SpansetExpr, input: &[usize]) -> Result<Vec<usize>, QueryError> {
        match expr {
            SpansetExpr::Filter(None) => Ok(input.to_vec()),
            SpansetExpr::Filter(Some(filter)) => {
                self.budget.touch(input.len())?;
                let holds = |at: &usize| Around::within(self.trace, *at).truth(filter) == Truth::Yes;
                Ok(input.iter().copied().filter(holds).collect())
            }
            SpansetExpr::And(left, right) => {
                let (left, right) = (self.spanset(left, input)?, self.spanset(right, input)?);
                Ok(if left.is_empty() || right.is_empty() { Vec::new() } else { union(left, right) })
            }
            SpansetExpr::Or(left, right) => Ok(union(self.spanset(left, input)?, self.spanset(right, input)?)),
            SpansetExpr::Structural(relation, keep, left, right) => {
                let (left, right) = (self.spanset(left, input)?, self.spanset(right, input)?);
                Ok(self.structural(*relation, *keep, &left, &right))
            }
            SpansetExpr::Pipeline(stages) => {
                let set = Spanset { spans: input.to_vec(), attributes: Vec::new() };
                let sets = self.stages(stages, set)?;
                Ok(sets.into_iter().fold(Vec::new(), |all, set| union(all, set.spans)))
            }
        }
    }

    fn structural(&self, relation: Relation, keep: Keep, left: &[usize], right: &[usize]) -> Vec<usize> {
        let related = self.related(relation, left);
        let of_right = right.iter().copied();
        match keep {
            Keep::Right => of_right.filter(|at| related[*at]).collect(),
            Keep::NotRight => of_right.filter(|at| !related[*at]).collect(),
            Keep::Both => {
                let inverse = match relation {
                    Relation::Descendant => Relation::Ancestor,
                    Relation::Ancestor => Relation::Descendant,
                    Relation::Child => Relation::Parent,
                    Relation::Parent => Relation::Child,
                    Relation::Sibling => Relation::Sibling,
                };
                let back = self.related(inverse, right);
                let lefts = left.iter().copied().filter(|at| back[*at]).collect();
                union(lefts, of_right.filter(|at| related[*at]).collect())
            }
        }
    }

    /// For each span of the trace, whether it is (for `>>`: a descendant) of one of `of`.
    fn related(&self, relation: Relation, of: &[usize]) -> Vec<bool> {
        let trace = self.trace;
        let mut given = vec![false; trace.spans.len()];
        of.iter().for_each(|at| given[*at] = true);
        let mut result = vec![false; trace.spans.len()];
        match relation {
            Relation::Child | Relation::Descendant => {
                for at in &trace.order {
                    if let Some(parent) = trace.parents[*at] {
                        result[*at] = given[parent] || (relation == Relation::Descendant && result[parent]);
                    }
                }
            }
            Relation::Parent | Relation::Ancestor => {
                for at in trace.order.iter().rev() {
                    if let Some(parent) = trace.parents[*at] {
                        result[parent] |= given[*at] || (relation == Relation::Ancestor && result[*at]);
                    }
                }
            }
            Relation::Sibling => {
                let mut below = vec![0_usize; trace.spans.len()];
                of.iter().filter_map(|at| trace.parents[*at]).for_each(|parent| below[parent] += 1);
                for (at, parent) in trace.parents.iter().enumerate() {
                    if let Some(parent) = parent {
                        result[at] = below[*parent] > usize::from(given[at]);
                    }
                }
            }
        }
        result
    }

    /// `None` when no span of the set has the value.
    fn aggregate(&self, aggregate: Aggregate, of: Option<&Expr>, set: &Spanset) -> Option<Value<'static>> {
        let Some(of) = of else {
            return Some(Value::Int(i64::try_from(set.spans.len()).unwrap_or(i64::MAX)));
        };
        let values: Vec<_> = set.spans.iter().map(|at| Around::within(self.trace, *at).value(of)).collect();
        let numbers: Vec<f64> = values.iter().filter_map(Value::number).collect();
        let first = values.iter().find(|value| value.number().is_some())?;
        let count = numbers.len() as f64;
        let result = match aggregate {
            Aggregate::Count => count,
            Aggregate::Min => numbers.iter().copied().fold(f64::INFINITY, f64::min),
            Aggregate::Max => numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            Aggregate::Sum => numbers.iter().sum(),
            Aggregate::Avg => numbers.iter().sum::<f64>() / count,
        };
        Some(match first {
            Value::Duration(_) => Value::Duration(result.round() as i64),
            Value::Int(_) if aggregate != Aggregate::Avg && result.fract() == 0.0 => Value::Int(result as i64),
            _ => Value::Float(result),
        })
    }

    fn by(&self, expr: &Expr, text: &str, sets: Vec<Spanset>) -> Result<Vec<Spanset>, QueryError> {
        let mut result: Vec<Spanset> = Vec::new();
        for set in sets {
            let mut groups: std::collections::BTreeMap<String, (AttrValue, Vec<usize>)> = Default::default();
            for at in set.spans {
                let value = Around::within(self.trace, at).value(expr).to_attr();
                let value = value.unwrap_or_else(|| AttrValue::Str("nil".to_owned()));
                groups.entry(format!("{value:?}")).or_insert_with(|| (value, Vec::new())).1.push(at);
            }
            for (value, spans) in groups.into_values() {
                let mut attributes = set.attributes.clone();
                attributes.push((text.to_owned(), value));
                result.push(Spanset { spans, attributes });
            }
            if result.len() > SETS_MAX {
                return Err(QueryError::Invalid(format!("{text} makes more than {SETS_MAX} span sets of one trace")));
            }
        }
        Ok(result)
    }
}

/// Both, rising and without repeats.
fn union(mut left: Vec<usize>, right: Vec<usize>) -> Vec<usize> {
    if left.is_empty() {
        return right;
    }
    left.extend(right);
    left.sort_unstable();
    left.dedup();
    left
}
