//! How many series there are, by label: what to look at when there are too many. Only the largest of
//! each list are kept, so that a million values take no memory.
//! Flow: a [`Counter`] is told each pair with the series that have it, and finishes as [`Cardinality`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

use crate::base::limits::QueryBudget;
use crate::model::labels::{Labels, METRIC_NAME};
use crate::model::time::RangeMs;
use crate::store::error::StoreError;

/// Charged for a name or a row beside its text.
const ROW_BYTES: usize = 120;
/// Pairs or series between two looks at the deadline.
const PER_CHECK: u64 = 4096;

/// Series, counted. Lists are the largest first, equal ones by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cardinality {
    /// Series.
    pub series: u64,
    /// Label pairs that they have.
    pub pairs: u64,
    /// Earliest and latest time of their samples, where known.
    pub span: Option<RangeMs>,
    /// Series by the name of their metric.
    pub by_metric: Vec<(String, u64)>,
    /// Values by the name of a label.
    pub values: Vec<(String, u64)>,
    /// Bytes of those values by the name of the label.
    pub bytes: Vec<(String, u64)>,
    /// Series by pair, as `name=value`.
    pub by_pair: Vec<(String, u64)>,
}

/// Larger counts are larger, of equal ones those with the smaller names.
type Row = (u64, Reverse<(String, String)>);

/// The largest of a list, with two texts each.
struct Top<'b> {
    rows: usize,
    budget: &'b QueryBudget,
    /// The smallest on top: it goes next.
    kept: BinaryHeap<Reverse<Row>>,
}

impl<'b> Top<'b> {
    fn new(rows: usize, budget: &'b QueryBudget) -> Self {
        Self { rows, budget, kept: BinaryHeap::new() }
    }

    fn add(&mut self, name: &str, value: &str, count: u64) -> Result<(), StoreError> {
        if self.kept.len() >= self.rows {
            let Some(Reverse((least, Reverse((own, last))))) = self.kept.peek() else { return Ok(()) };
            if (count, Reverse((name, value))) <= (*least, Reverse((own.as_str(), last.as_str()))) {
                return Ok(());
            }
            self.budget.release(ROW_BYTES + own.len() + last.len());
            self.kept.pop();
        }
        self.budget.charge(ROW_BYTES + name.len() + value.len())?;
        self.kept.push(Reverse((count, Reverse((name.to_owned(), value.to_owned())))));
        Ok(())
    }

    fn finish(self, text: impl Fn(String, String) -> String) -> Vec<(String, u64)> {
        // The order of what goes next, from behind.
        let sorted = self.kept.into_sorted_vec().into_iter();
        sorted.map(|Reverse((count, Reverse((name, value))))| (text(name, value), count)).collect()
    }
}

/// Counts pairs.
pub struct Counter<'b> {
    budget: &'b QueryBudget,
    rows: usize,
    pairs: u64,
    by_metric: Top<'b>,
    by_pair: Top<'b>,
    /// By name its values and their bytes.
    names: BTreeMap<String, (u64, u64)>,
}

impl<'b> Counter<'b> {
    /// Keeps `rows` of each list.
    pub fn new(rows: usize, budget: &'b QueryBudget) -> Self {
        let top = || Top::new(rows, budget);
        Self { budget, rows, pairs: 0, by_metric: top(), by_pair: top(), names: BTreeMap::new() }
    }

    /// Counts a pair that `series` have, once.
    ///
    /// # Errors
    /// [`StoreError::Limit`].
    pub fn add(&mut self, name: &str, value: &str, series: u64) -> Result<(), StoreError> {
        if series == 0 {
            return Ok(());
        }
        self.pairs += 1;
        if self.pairs.is_multiple_of(PER_CHECK) {
            self.budget.check()?;
        }
        if !self.names.contains_key(name) {
            self.budget.charge(ROW_BYTES + name.len())?;
            self.names.insert(name.to_owned(), (0, 0));
        }
        if let Some((values, bytes)) = self.names.get_mut(name) {
            *values += 1;
            *bytes += value.len() as u64;
        }
        if name == METRIC_NAME {
            self.by_metric.add(value, "", series)?;
        }
        self.by_pair.add(name, value, series)
    }

    /// What was counted, of so many series.
    ///
    /// # Errors
    /// [`StoreError::Limit`].
    pub fn finish(self, series: u64, span: Option<RangeMs>) -> Result<Cardinality, StoreError> {
        let (mut values, mut bytes) = (Top::new(self.rows, self.budget), Top::new(self.rows, self.budget));
        for (name, own) in &self.names {
            values.add(name, "", own.0)?;
            bytes.add(name, "", own.1)?;
        }
        let alone = |name: String, _| name;
        Ok(Cardinality {
            series,
            pairs: self.pairs,
            span,
            by_metric: self.by_metric.finish(alone),
            values: values.finish(alone),
            bytes: bytes.finish(alone),
            by_pair: self.by_pair.finish(|name, value| format!("{name}={value}")),
        })
    }
}

/// Counts these series, for stores that have nothing better.
///
/// # Errors
/// [`StoreError::Limit`].
pub fn count(mut all: Vec<Labels>, rows: usize, budget: &QueryBudget) -> Result<Cardinality, StoreError> {
    all.sort();
    all.dedup();
    let mut pairs: HashMap<(&str, &str), u64> = HashMap::new();
    for (name, value) in all.iter().flat_map(Labels::iter) {
        let count = pairs.entry((name, value)).or_default();
        *count += 1;
        if *count == 1 {
            budget.charge(ROW_BYTES)?;
        }
    }
    let mut counter = Counter::new(rows, budget);
    pairs.into_iter().try_for_each(|((name, value), series)| counter.add(name, value, series))?;
    counter.finish(all.len() as u64, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn only_the_largest_are_kept_and_equal_ones_by_name() {
        let budget = QueryBudget::unlimited();
        let mut counter = Counter::new(2, &budget);
        for (name, value, series) in
            [("b", "x", 3), ("a", "y", 3), ("a", "z", 9), ("a", "none", 0), ("__name__", "up", 3)]
        {
            counter.add(name, value, series).unwrap();
        }
        let counted = counter.finish(9, None).unwrap();
        let rows = |rows: &[(&str, u64)]| -> Vec<(String, u64)> {
            rows.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
        };
        assert_eq!((counted.series, counted.pairs), (9, 4));
        assert_eq!(counted.by_metric, rows(&[("up", 3)]));
        assert_eq!(counted.values, rows(&[("a", 2), ("__name__", 1)]));
        assert_eq!(counted.bytes, rows(&[("__name__", 2), ("a", 2)]));
        assert_eq!(counted.by_pair, rows(&[("a=z", 9), ("__name__=up", 3)]));
    }

    #[test]
    fn a_million_values_take_no_memory() {
        let budget = QueryBudget::new(Duration::from_secs(600), 100_000, u64::MAX);
        let mut counter = Counter::new(10, &budget);
        for number in 0..1_000_000 {
            counter.add("pod", &number.to_string(), 1 + number % 7).unwrap();
        }
        assert_eq!(counter.finish(1, None).unwrap().values, [("pod".to_owned(), 1_000_000)]);
    }
}
