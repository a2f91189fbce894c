//! `count_values`: how many series of a group have which value, counted as series come, so that memory
//! is for the values of the answer, not for all series. What else is asked of all series at once and
//! needs none of them: `absent` and `scalar`.

use std::collections::HashMap;
use std::sync::Arc;

use ahash::AHashMap;

use super::PromqlError;
use super::ast::{Aggregate, Expr};
use super::group::Groups;
use super::histograms;
use super::run::{Eval, Grid};
use super::stream::{One, Open};
use super::value::{ABSENT, CellRef, Column, Series, Value, Vector, histogram_cost};
use crate::base::float_text;
use crate::base::limits::QueryBudget;
use crate::model::histogram::Histogram;
use crate::model::labels::{Labels, METRIC_NAME};
use crate::model::sample::is_stale;
use crate::query::pace::Pace;

/// What a value takes beside its counts: itself, its series, its places, allocations.
const VALUE_BYTES: usize = 400;

/// Groups and how many series have which value.
struct Tally<'q> {
    groups: Groups<'q>,
    steps: usize,
    floats: AHashMap<(usize, u64), usize>,
    histograms: AHashMap<(usize, String), usize>,
    /// By place: the group, the value as text, and for each step how many series have it.
    values: Vec<(usize, String, Vec<f64>)>,
}

impl<'q> Tally<'q> {
    fn new(aggregate: &'q Aggregate, steps: usize) -> Self {
        let groups = Groups::new(aggregate);
        Self { groups, steps, floats: AHashMap::new(), histograms: AHashMap::new(), values: Vec::new() }
    }

    fn value(&mut self, budget: &QueryBudget, group: usize, text: String) -> Result<usize, PromqlError> {
        budget.charge(8 * self.steps + VALUE_BYTES + 2 * text.len())?;
        self.values.push((group, text, vec![0.0; self.steps]));
        Ok(self.values.len() - 1)
    }

    fn of_float(&mut self, budget: &QueryBudget, group: usize, bits: u64) -> Result<usize, PromqlError> {
        if let Some(place) = self.floats.get(&(group, bits)) {
            return Ok(*place);
        }
        let place = self.value(budget, group, float_text::text(f64::from_bits(bits), float_text::FIXED))?;
        self.floats.insert((group, bits), place);
        Ok(place)
    }

    fn of_histogram(&mut self, budget: &QueryBudget, group: usize, text: String) -> Result<usize, PromqlError> {
        let key = (group, text);
        if let Some(place) = self.histograms.get(&key) {
            return Ok(*place);
        }
        let place = self.value(budget, group, key.1.clone())?;
        self.histograms.insert(key, place);
        Ok(place)
    }

    fn add(
        &mut self,
        eval: &mut Eval<'_>,
        labels: &Labels,
        drop_name: bool,
        column: &Column,
    ) -> Result<(), PromqlError> {
        let (group, new) = self.groups.place(labels, drop_name);
        if new {
            eval.budget.charge(self.groups.bytes(group))?;
        }
        eval.spend(2 * self.steps)?;
        // Values stay the same for many steps.
        let mut before: Option<(u64, usize)> = None;
        let mut histogram_before: Option<(&Arc<Histogram>, usize)> = None;
        for step in 0..self.steps {
            let place = match column.get(step) {
                CellRef::None => continue,
                CellRef::Float(value) => match before.filter(|(bits, _)| *bits == value.to_bits()) {
                    Some((_, place)) => place,
                    None => {
                        let place = self.of_float(eval.budget, group, value.to_bits())?;
                        before = Some((value.to_bits(), place));
                        place
                    }
                },
                CellRef::Histogram(one) => match histogram_before.filter(|(before, _)| Arc::ptr_eq(before, one)) {
                    Some((_, place)) => place,
                    None => {
                        // A number takes some hundred nanoseconds to write.
                        eval.spend(10 * histogram_cost(one))?;
                        let place = self.of_histogram(eval.budget, group, histograms::text(one))?;
                        histogram_before = Some((one, place));
                        place
                    }
                },
            };
            if let Some(count) = self.values.get_mut(place).and_then(|(_, _, counts)| counts.get_mut(step)) {
                *count += 1.0;
            }
        }
        Ok(())
    }

    /// Adds what a run further on has counted.
    fn merge(&mut self, other: Self, budget: &QueryBudget) -> Result<(), PromqlError> {
        let pace = Pace::new(budget);
        let places: Vec<usize> = other.groups.all().iter().map(|group| self.groups.merge(group).0).collect();
        let floats: HashMap<usize, u64> = other.floats.into_iter().map(|((_, bits), place)| (place, bits)).collect();
        for (at, (group, text, counts)) in other.values.into_iter().enumerate() {
            pace.go(VALUE_BYTES + 2 * counts.len() + text.len())?;
            let group = places.get(group).copied().unwrap_or_default();
            let next = self.values.len();
            let place = match floats.get(&at) {
                Some(bits) => *self.floats.entry((group, *bits)).or_insert(next),
                None => *self.histograms.entry((group, text.clone())).or_insert(next),
            };
            match self.values.get_mut(place) {
                Some((_, _, own)) => {
                    own.iter_mut().zip(counts).for_each(|(own, count)| *own += count);
                    budget.release(8 * self.steps + VALUE_BYTES + 2 * text.len());
                }
                None => self.values.push((group, text, counts)),
            }
        }
        Ok(())
    }

    /// A series for each group and value. Groups that the new label makes equal are one.
    fn finish(mut self, eval: &mut Eval<'_>, label: &str) -> Result<Vector, PromqlError> {
        Pace::new(eval.budget).sort(&mut self.values, |a, b| a.0.cmp(&b.0))?;
        let mut places: HashMap<Labels, usize> = HashMap::new();
        let mut result: Vector = Vec::with_capacity(self.values.len());
        for (group, text, mut counts) in self.values {
            eval.spend(self.steps + VALUE_BYTES)?;
            let Some(group) = self.groups.all().get(group) else { continue };
            let labels = group.labels.with(label, &text);
            eval.budget.charge(labels.bytes())?;
            if let Some(own) = places.get(&labels).and_then(|place| result.get_mut(*place)) {
                for (own, count) in own.column.overwrite().iter_mut().zip(&counts).filter(|(_, count)| **count > 0.0) {
                    *own = if is_stale(*own) { *count } else { *own + count };
                }
                eval.budget.release(8 * self.steps);
                continue;
            }
            counts.iter_mut().filter(|count| **count == 0.0).for_each(|count| *count = ABSENT);
            places.insert(labels.clone(), result.len());
            let drop_name = group.drop_name && label != METRIC_NAME;
            result.push(Series { labels, drop_name, column: Column::of(counts) });
        }
        Ok(result)
    }
}

impl Eval<'_> {
    /// How many series have which value.
    ///
    /// # Errors
    /// What its operands say, and a label that is no label.
    pub(super) fn count_values(&mut self, aggregate: &Aggregate, grid: &Grid) -> Result<Value, PromqlError> {
        let label = match &aggregate.param {
            Some(param) => self.string(param, grid)?,
            None => String::new(),
        };
        if label.is_empty() {
            return Err(PromqlError::Execution(format!("invalid label name {label:?}")));
        }
        let mut total = Tally::new(aggregate, grid.steps);
        let budget = self.budget;
        match self.open(&aggregate.expr, grid)? {
            Open::Stream(stream) if !self.general => stream.run(
                self,
                &|| Tally::new(aggregate, grid.steps),
                &|eval, tally: &mut Tally<'_>, one| {
                    tally.add(eval, one.labels, one.drop_name, one.column)?;
                    Ok(false)
                },
                &mut |run| total.merge(run, budget),
            )?,
            open => {
                let vector = self.computed(open)?;
                for series in &vector {
                    total.add(self, &series.labels, series.drop_name, &series.column)?;
                }
                self.release(&vector);
            }
        }
        Ok(Value::Vector(total.finish(self, &label)?))
    }

    /// What `see` makes of all series of an expression, each run beginning with `start`; runs are put
    /// together by `join`, step by step.
    ///
    /// # Errors
    /// What the expression or the budget says.
    pub(super) fn of_all<T: Clone + Send + Sync>(
        &mut self,
        expr: &Expr,
        grid: &Grid,
        start: T,
        see: impl Fn(&mut [T], &Column) + Sync,
        join: impl Fn(&mut T, T) + Sync,
    ) -> Result<Vec<T>, PromqlError> {
        let (steps, budget) = (grid.steps, self.budget);
        let bytes = size_of::<T>() * steps;
        budget.charge(bytes)?;
        let mut all = vec![start.clone(); steps];
        match self.open(expr, grid)? {
            Open::Stream(stream) if !self.general => stream.run(
                self,
                &Vec::new,
                &|eval, own: &mut Vec<T>, one: One<'_>| {
                    if own.is_empty() {
                        eval.budget.charge(bytes)?;
                        own.resize(steps, start.clone());
                    }
                    eval.spend(steps)?;
                    see(own, one.column);
                    Ok(false)
                },
                &mut |run| {
                    budget.release(size_of::<T>() * run.len());
                    all.iter_mut().zip(run).for_each(|(all, one)| join(all, one));
                    Ok(())
                },
            )?,
            open => {
                let vector = self.computed(open)?;
                for series in &vector {
                    self.spend(steps)?;
                    see(&mut all, &series.column);
                }
                self.release(&vector);
            }
        }
        budget.release(bytes);
        Ok(all)
    }
}
