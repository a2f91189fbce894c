//! Aggregations. Those that need no more of a series than to have seen it are folded (`fold`, `tally`),
//! those that pick series forget the others as they go (`pick`); for quantiles series are put into
//! groups, and each group is then aggregated step by step.

use std::sync::Arc;

use super::PromqlError;
use super::ast::{Aggregate, AggregateOp, Pos};
use super::group::{Group, Groups};
use super::native;
use super::native::Work;
use super::notes::MIXED_SCHEMAS;
use super::pick::picks;
use super::run::{Eval, Grid};
use super::stat;
use super::stream::Open;
use super::value::{Cell, CellRef, Column, Series, Value, Vector};
use crate::model::histogram::{Histogram, ResetHint};
use crate::model::labels::Labels;
use crate::query::pace::{Held, Pace};

/// The first count that no 64-bit integer holds.
const COUNT_END: f64 = 9_223_372_036_854_775_808.0;

/// Series that are aggregated together.
struct Members {
    labels: Labels,
    drop_name: bool,
    members: Vec<usize>,
}

fn groups(eval: &mut Eval<'_>, vector: &Vector, aggregate: &Aggregate) -> Result<Vec<Members>, PromqlError> {
    let mut groups = Groups::new(aggregate);
    let mut members: Vec<Vec<usize>> = Vec::new();
    eval.budget.charge(2 * size_of::<usize>() * vector.len())?;
    for (at, series) in vector.iter().enumerate() {
        eval.spend(10 + series.labels.bytes())?;
        let (place, new) = groups.place(&series.labels, series.drop_name);
        if new {
            eval.budget.charge(groups.bytes(place) + size_of::<Members>())?;
            members.push(Vec::new());
        }
        if let Some(members) = members.get_mut(place) {
            members.push(at);
        }
    }
    let with_members = groups.into_all().into_iter().zip(members);
    Ok(with_members.map(|(Group { labels, drop_name }, members)| Members { labels, drop_name, members }).collect())
}

impl Eval<'_> {
    /// Evaluates an aggregation.
    ///
    /// # Errors
    /// What its operands say, and parameters that are no counts or names.
    pub(super) fn aggregate(&mut self, aggregate: &Aggregate, own: Pos, grid: &Grid) -> Result<Value, PromqlError> {
        let pos = aggregate.expr.bare().pos;
        if aggregate.op == AggregateOp::CountValues {
            return self.count_values(aggregate, grid);
        }
        let param = match &aggregate.param {
            Some(param) => self.scalar(param, grid)?,
            None => Vec::new(),
        };
        let param_pos = aggregate.param.as_ref().map_or(pos, |param| param.bare().pos);
        self.check_param(aggregate.op, &param, param_pos)?;
        let open = self.open(&aggregate.expr, grid)?;
        if let Some(result) = self.folded(aggregate, &open, grid)? {
            if let Open::Vector(vector) = &open {
                self.release(vector);
            }
            return Ok(Value::Vector(self.without_empty(result)?));
        }
        if picks(aggregate.op) {
            return Ok(Value::Vector(self.picked(aggregate, own, open, &param, grid)?));
        }
        let vector = self.computed(open)?;
        let groups = groups(self, &vector, aggregate)?;
        let mut result = Vec::with_capacity(groups.len());
        for group in groups {
            let column = self.fold(aggregate.op, &vector, &group.members, &param, grid, pos)?;
            result.push(Series { labels: group.labels, drop_name: group.drop_name, column });
        }
        self.release(&vector);
        Ok(Value::Vector(self.without_empty(result)?))
    }

    fn check_param(&mut self, op: AggregateOp, param: &[f64], pos: Pos) -> Result<(), PromqlError> {
        for value in param {
            self.spend(10)?;
            match op {
                AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Limitk => {
                    if value.is_nan() {
                        return Err(PromqlError::Execution("Parameter value is NaN".to_owned()));
                    }
                    // One far below zero picks nothing, as any below one does.
                    if *value >= COUNT_END {
                        let message = format!("Scalar value {} overflows int64", stat::general(*value));
                        return Err(PromqlError::Execution(message));
                    }
                }
                AggregateOp::LimitRatio => {
                    if value.is_nan() {
                        return Err(PromqlError::Execution("Ratio value is NaN".to_owned()));
                    }
                    if value.abs() > 1.0 {
                        let cap = value.signum();
                        let got = stat::general(*value);
                        let text = format!("ratio value should be between -1 and 1, got {got}, capping to {cap}");
                        self.warn(pos, text);
                    }
                }
                AggregateOp::Quantile if !(0.0..=1.0).contains(value) => {
                    self.warn(pos, format!("quantile value should be between 0 and 1, got {}", stat::general(*value)));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn fold(
        &mut self,
        op: AggregateOp,
        vector: &Vector,
        members: &[usize],
        param: &[f64],
        grid: &Grid,
        pos: Pos,
    ) -> Result<Column, PromqlError> {
        let held = Held::new(self.budget);
        held.add(members.len() * size_of::<(f64, &Histogram, usize)>())?;
        let mut column = self.column(grid)?;
        let (mut floats, mut histograms, mut owners) = (Vec::new(), Vec::new(), Vec::new());
        for step in 0..grid.steps {
            self.spend(members.len())?;
            floats.clear();
            histograms.clear();
            owners.clear();
            let mut count = 0_usize;
            for at in members {
                match vector.get(*at).map_or(CellRef::None, |series| series.column.get(step)) {
                    CellRef::None => {}
                    CellRef::Float(value) => {
                        floats.push(value);
                        count += 1;
                    }
                    CellRef::Histogram(histogram) => {
                        histograms.push(histogram);
                        owners.push(*at);
                        count += 1;
                    }
                }
            }
            if count == 0 {
                continue;
            }
            let cell = match op {
                AggregateOp::Count => Some(Cell::Float(count as f64)),
                AggregateOp::Group => Some(Cell::Float(1.0)),
                AggregateOp::Sum | AggregateOp::Avg if !histograms.is_empty() => {
                    if floats.is_empty() {
                        let owner = |at: usize| owners.get(at).and_then(|at| vector.get(*at));
                        let name = |at| owner(at).map_or("", |series| series.labels.metric_name()).to_owned();
                        let all = histograms.iter().map(|one| one.as_ref());
                        self.total(all, op == AggregateOp::Avg, pos, name)?
                    } else {
                        self.warn(pos, "encountered a mix of histograms and floats for aggregation");
                        None
                    }
                }
                _ => {
                    if !histograms.is_empty() {
                        self.info(pos, format!("ignored histogram in {} aggregation", op.text()));
                    }
                    let q = param.get(step).copied().unwrap_or(f64::NAN);
                    (!floats.is_empty()).then(|| Cell::Float(float(op, &mut floats, q)))
                }
            };
            self.set(&mut column, step, cell)?;
        }
        Ok(column)
    }

    /// The sum or average of histograms, of which `name_of` knows the metrics by their places.
    ///
    /// # Errors
    /// What the budget says.
    pub(super) fn total<'h>(
        &mut self,
        all: impl Iterator<Item = &'h Histogram> + Clone,
        average: bool,
        pos: Pos,
        name_of: impl FnOnce(usize) -> String,
    ) -> Result<Option<Cell>, PromqlError> {
        let held = Held::new(self.budget);
        held.add(native::TOTAL_FACTOR * all.clone().map(Histogram::bytes).sum::<usize>())?;
        self.spend(all.clone().count())?;
        let works: Vec<Work> = all.map(Work::from).collect();
        let conflict = works.iter().any(|work| work.hint == ResetHint::Reset)
            && works.iter().any(|work| work.hint == ResetHint::NotReset);
        let pace = Pace::new(self.budget);
        let total = native::total(&works, average, &pace);
        pace.result()?;
        let Ok((total, reconciled)) = total else {
            let first = works.first().is_some_and(Work::is_custom);
            let odd = works.iter().position(|work| work.is_custom() != first).unwrap_or_default();
            self.warn(pos, format!("{} {:?}", MIXED_SCHEMAS, name_of(odd)));
            return Ok(None);
        };
        if reconciled {
            self.info(pos, "mismatched custom buckets were reconciled during aggregation");
        }
        if conflict {
            self.warn(pos, "conflicting counter resets during histogram aggregation");
        }
        Ok(Some(Cell::Histogram(Arc::new(total.into()))))
    }
}

fn float(op: AggregateOp, floats: &mut [f64], q: f64) -> f64 {
    let values = floats.iter().copied();
    match op {
        AggregateOp::Sum => stat::sum(values),
        AggregateOp::Avg => stat::mean(values),
        AggregateOp::Min => {
            values.fold(f64::NAN, |least, value| if value < least || least.is_nan() { value } else { least })
        }
        AggregateOp::Max => {
            values.fold(f64::NAN, |most, value| if value > most || most.is_nan() { value } else { most })
        }
        AggregateOp::Stddev => stat::variance(values).sqrt(),
        AggregateOp::Stdvar => stat::variance(values),
        AggregateOp::Quantile => stat::quantile(q, floats),
        AggregateOp::Count
        | AggregateOp::Group
        | AggregateOp::Topk
        | AggregateOp::Bottomk
        | AggregateOp::CountValues
        | AggregateOp::Limitk
        | AggregateOp::LimitRatio => f64::NAN,
    }
}
