//! Evaluates pipelines over the span sets of one whole trace. A set is indices of spans in order
//! of start time, without repeats.

use std::collections::BTreeMap;

use super::ast::{Aggregate, Expr, Keep, Relation, SpansetExpr, Stage};
use super::error::QueryError;
use super::eval::Around;
use super::key;
use super::value::{Truth, Value, compare};
use super::view::TraceView;
use crate::base::limits::QueryBudget;
use crate::model::span::{AttrValue, attrs_bytes};
use crate::query::pace::{Held, Pace};

/// Most span sets of one trace that a `by` may make.
const SETS_MAX: usize = 10_000;
/// Memory of an attribute of a set beside its texts, in bytes.
const ATTRIBUTE_BYTES: usize = 64;

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
    let pipeline = Pipeline { trace, pace: Pace::new(budget), held: Held::new(budget) };
    pipeline.hold(trace.spans.len())?;
    let all = Spanset { spans: (0..trace.spans.len()).collect(), attributes: Vec::new() };
    let sets = pipeline.stages(stages, all)?;
    pipeline.pace.result()?;
    Ok(sets)
}

struct Pipeline<'a> {
    trace: &'a TraceView,
    pace: Pace<'a>,
    /// Memory of sets, given back when the pipeline has run.
    held: Held<'a>,
}

impl Pipeline<'_> {
    /// Takes memory for a set of so many spans.
    fn hold(&self, spans: usize) -> Result<(), QueryError> {
        Ok(self.held.add(spans * size_of::<usize>() + size_of::<Spanset>())?)
    }

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
            Stage::Scalar { aggregate, of, text, op, with } => {
                let mut kept = Vec::new();
                for mut set in sets {
                    let Some(value) = self.aggregate(*aggregate, of.as_ref(), &set)? else { continue };
                    // Numbers of aggregates compare by value: an average of integers is a float.
                    let holds = compare(*op, &value, with, true, &|_| true) == Truth::Yes;
                    if let Some(value) = value.to_attr().filter(|_| holds) {
                        self.held.add(ATTRIBUTE_BYTES + text.len())?;
                        set.attributes.push((text.clone(), value));
                        kept.push(set);
                    }
                }
                Ok(kept)
            }
            Stage::By { expr, text } => self.by(expr, text, sets),
            Stage::Select(_) => Ok(sets),
            Stage::Coalesce => Ok(vec![Spanset { spans: self.joined(sets)?, attributes: Vec::new() }]),
        }
    }

    /// The spans of all sets.
    fn joined(&self, sets: Vec<Spanset>) -> Result<Vec<usize>, QueryError> {
        let count = sets.iter().map(|set| set.spans.len()).sum();
        self.hold(count)?;
        self.pace.go(64_usize.saturating_mul(count))?;
        let mut spans: Vec<_> = sets.into_iter().flat_map(|set| set.spans).collect();
        spans.sort_unstable();
        spans.dedup();
        Ok(spans)
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
        self.hold(input.len())?;
        self.pace.go(64 + 16 * input.len())?;
        match expr {
            SpansetExpr::Filter(None) => Ok(input.to_vec()),
            SpansetExpr::Filter(Some(filter)) => {
                self.pace.budget().touch(input.len())?;
                let holds = |at: &usize| {
                    self.pace.spend(64) && Around::within(self.trace, *at).paced(&self.pace).truth(filter) == Truth::Yes
                };
                let kept = input.iter().copied().filter(holds).collect();
                self.pace.result()?;
                Ok(kept)
            }
            SpansetExpr::And(left, right) => {
                let (left, right) = (self.spanset(left, input)?, self.spanset(right, input)?);
                Ok(if left.is_empty() || right.is_empty() { Vec::new() } else { union(left, right) })
            }
            SpansetExpr::Or(left, right) => Ok(union(self.spanset(left, input)?, self.spanset(right, input)?)),
            SpansetExpr::Structural(relation, keep, left, right) => {
                let (left, right) = (self.spanset(left, input)?, self.spanset(right, input)?);
                // Marks of all spans, twice where both sides are kept.
                self.pace.go(32 * self.trace.spans.len())?;
                let marks = Held::new(self.pace.budget());
                marks.add((2 + size_of::<usize>()) * self.trace.spans.len())?;
                Ok(self.structural(*relation, *keep, &left, &right))
            }
            SpansetExpr::Pipeline(stages) => {
                let set = Spanset { spans: input.to_vec(), attributes: Vec::new() };
                let sets = self.stages(stages, set)?;
                self.joined(sets)
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

    /// Nothing when no span of the set has the value.
    fn aggregate(
        &self,
        aggregate: Aggregate,
        of: Option<&Expr>,
        set: &Spanset,
    ) -> Result<Option<Value<'static>>, QueryError> {
        let Some(of) = of else {
            return Ok(Some(Value::Int(i64::try_from(set.spans.len()).unwrap_or(i64::MAX))));
        };
        let mut kind = None;
        let (mut count, mut folded) = (0.0, 0.0);
        for at in &set.spans {
            self.pace.go(64)?;
            let value = Around::within(self.trace, *at).paced(&self.pace).value(of);
            let Some(number) = value.number() else { continue };
            folded = match aggregate {
                _ if kind.is_none() => number,
                Aggregate::Min => f64::min(folded, number),
                Aggregate::Max => f64::max(folded, number),
                Aggregate::Count | Aggregate::Sum | Aggregate::Avg => folded + number,
            };
            count += 1.0;
            kind.get_or_insert((matches!(value, Value::Duration(_)), matches!(value, Value::Int(_))));
        }
        let result = match aggregate {
            Aggregate::Count => count,
            Aggregate::Avg => folded / count,
            Aggregate::Min | Aggregate::Max | Aggregate::Sum => folded,
        };
        Ok(kind.map(|(duration, integer)| match (duration, integer) {
            (true, _) => Value::Duration(result.round() as i64),
            (_, true) if aggregate != Aggregate::Avg && result.fract() == 0.0 => Value::Int(result as i64),
            _ => Value::Float(result),
        }))
    }

    fn by(&self, expr: &Expr, text: &str, sets: Vec<Spanset>) -> Result<Vec<Spanset>, QueryError> {
        let mut result: Vec<Spanset> = Vec::new();
        for set in sets {
            self.hold(set.spans.len())?;
            let mut groups: BTreeMap<Vec<u8>, (AttrValue, Vec<usize>)> = BTreeMap::new();
            for at in set.spans {
                self.pace.go(128)?;
                let value = Around::within(self.trace, at).paced(&self.pace).value(expr);
                let key = key::of(&value);
                if let Some((_, spans)) = groups.get_mut(&key) {
                    spans.push(at);
                    continue;
                }
                let value = value.to_attr().unwrap_or_else(|| AttrValue::Str("nil".to_owned()));
                self.held.add(2 * ATTRIBUTE_BYTES + key.len() + value.bytes())?;
                groups.insert(key, (value, vec![at]));
            }
            for (value, spans) in groups.into_values() {
                self.held.add(size_of::<Spanset>() + attrs_bytes(&set.attributes) + ATTRIBUTE_BYTES + text.len())?;
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
fn union(left: Vec<usize>, right: Vec<usize>) -> Vec<usize> {
    if left.is_empty() {
        return right;
    }
    let mut both = Vec::with_capacity(left.len() + right.len());
    let (mut lefts, mut rights) = (left.into_iter().peekable(), right.into_iter().peekable());
    while let (Some(left), Some(right)) = (lefts.peek().copied(), rights.peek().copied()) {
        both.push(left.min(right));
        if left <= right {
            lefts.next();
        }
        if right <= left {
            rights.next();
        }
    }
    both.extend(lefts);
    both.extend(rights);
    both
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unions_rise_without_repeats() {
        assert_eq!(union(vec![1, 3, 5], vec![0, 3, 6, 7]), [0, 1, 3, 5, 6, 7]);
        assert_eq!(union(vec![], vec![2]), [2]);
        assert_eq!(union(vec![2], vec![]), [2]);
    }
}
