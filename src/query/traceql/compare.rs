//! `compare({selection})`: how often each value of each attribute comes among selected spans and
//! among the rest, so that what sets them apart shows.

use std::collections::BTreeMap;

use super::ast::Expr;
use super::error::QueryError;
use super::eval::Around;
use super::grid::{Grid, MetricSeries};
use super::key;
use super::value::{Truth, Value};
use crate::base::limits::QueryBudget;
use crate::model::span::AttrValue;
use crate::query::pace::Pace;

/// Most values that are counted of one attribute; one with more is marked.
const VALUES_MAX: usize = 5_000;
/// Memory of a counted value beside its samples, in bytes.
const VALUE_BYTES: usize = 256;

/// Counts spans by attribute and value.
pub(super) struct CompareSink<'a> {
    grid: Grid,
    selection: Option<&'a Expr>,
    top: usize,
    between: Option<(i64, i64)>,
    attributes: BTreeMap<String, Counted>,
    /// Reused for the name and the key of each attribute.
    name: String,
    key: Vec<u8>,
}

#[derive(Default)]
struct Counted {
    values: BTreeMap<Vec<u8>, (AttrValue, Sides)>,
    totals: Sides,
    too_many: bool,
}

/// Spans per sample, of the baseline and of the selection.
#[derive(Clone, Default)]
struct Sides([Vec<u32>; 2]);

impl Sides {
    fn add(&mut self, side: usize, at: usize, count: usize) {
        let counts = &mut self.0[side];
        if counts.is_empty() {
            counts.resize(count, 0);
        }
        counts[at] += 1;
    }

    fn sum(&self, side: usize) -> u64 {
        self.0[side].iter().map(|count| u64::from(*count)).sum()
    }
}

impl<'a> CompareSink<'a> {
    pub(super) fn new(grid: Grid, selection: Option<&'a Expr>, top: usize, between: Option<(i64, i64)>) -> Self {
        Self { grid, selection, top, between, attributes: BTreeMap::new(), name: String::new(), key: Vec::new() }
    }

    pub(super) fn add(&mut self, around: Around<'_>, at: usize, budget: &QueryBudget) -> Result<(), QueryError> {
        let span = around.span;
        let in_time = self.between.is_none_or(|(start, end)| start <= span.start && span.start <= end);
        let selected = in_time && self.selection.is_none_or(|filter| around.truth(filter) == Truth::Yes);
        let side = usize::from(selected);
        self.count("name", Value::Str((&*span.name).into()), side, at, budget)?;
        self.count("kind", Value::Kind(span.kind), side, at, budget)?;
        self.count("status", Value::Status(span.status), side, at, budget)?;
        if !span.status_message.is_empty() {
            self.count("statusMessage", Value::Str((&*span.status_message).into()), side, at, budget)?;
        }
        for (prefix, attrs) in [("resource", &span.resource.attrs), ("span", &span.attrs)] {
            for (name, value) in attrs {
                let value = Value::of_attr(value);
                if !matches!(value, Value::Nil | Value::List(_)) {
                    let mut attribute = std::mem::take(&mut self.name);
                    attribute.clear();
                    attribute.extend([prefix, ".", name]);
                    self.count(&attribute, value, side, at, budget)?;
                    self.name = attribute;
                }
            }
        }
        Ok(())
    }

    fn count(
        &mut self,
        attribute: &str,
        value: Value<'_>,
        side: usize,
        at: usize,
        budget: &QueryBudget,
    ) -> Result<(), QueryError> {
        let count = self.grid.count;
        if !self.attributes.contains_key(attribute) {
            budget.charge(VALUE_BYTES + attribute.len() + 8 * count)?;
            self.attributes.insert(attribute.to_owned(), Counted::default());
        }
        let Some(counted) = self.attributes.get_mut(attribute) else { return Ok(()) };
        counted.totals.add(side, at, count);
        self.key.clear();
        key::push(&mut self.key, &value);
        if !counted.values.contains_key(&self.key) {
            if counted.values.len() >= VALUES_MAX {
                counted.too_many = true;
                return Ok(());
            }
            budget.charge(VALUE_BYTES + 2 * self.key.len() + 8 * count)?;
            let value = value.to_attr().unwrap_or_default();
            counted.values.insert(self.key.clone(), (value, Sides::default()));
        }
        if let Some((_, sides)) = counted.values.get_mut(&self.key) {
            sides.add(side, at, count);
        }
        Ok(())
    }

    pub(super) fn finish(self, pace: &Pace<'_>) -> Result<Vec<MetricSeries>, QueryError> {
        let shown_bytes = |labels: usize| VALUE_BYTES + labels + 16 * self.grid.count;
        let mut series = Vec::new();
        for (attribute, counted) in self.attributes {
            for (side, kind) in ["baseline", "selection"].into_iter().enumerate() {
                let mut best = Vec::new();
                for (value, sides) in counted.values.values() {
                    pace.go(64 + 4 * self.grid.count)?;
                    let sum = sides.sum(side);
                    if sum > 0 {
                        best.push((sum, value, sides));
                    }
                }
                best.sort_by_key(|(sum, _, _)| std::cmp::Reverse(*sum));
                for (_, value, sides) in best.into_iter().take(self.top) {
                    pace.go(64 + 16 * self.grid.count)?;
                    pace.budget().charge(shown_bytes(attribute.len() + value.bytes()))?;
                    series.push(shown(self.grid, kind, &attribute, value.clone(), &sides.0[side]));
                }
                if counted.totals.sum(side) > 0 {
                    pace.budget().charge(shown_bytes(attribute.len()))?;
                    let nil = AttrValue::Str("nil".to_owned());
                    let kind = format!("{kind}_total");
                    series.push(shown(self.grid, &kind, &attribute, nil, &counted.totals.0[side]));
                }
                if counted.too_many {
                    let nil = AttrValue::Str("nil".to_owned());
                    let mut error = shown(self.grid, kind, &attribute, nil, &[]);
                    let label = ("__meta_error".to_owned(), AttrValue::Str("__too_many_values__".to_owned()));
                    error.labels.insert(1, label);
                    series.push(error);
                }
            }
        }
        Ok(series)
    }
}

fn shown(grid: Grid, kind: &str, attribute: &str, value: AttrValue, counts: &[u32]) -> MetricSeries {
    let labels = vec![("__meta_type".to_owned(), AttrValue::Str(kind.to_owned())), (attribute.to_owned(), value)];
    let samples = counts.iter().enumerate().map(|(at, count)| (grid.time_ms(at), f64::from(*count)));
    MetricSeries { labels, samples: samples.collect(), exemplars: Vec::new() }
}
