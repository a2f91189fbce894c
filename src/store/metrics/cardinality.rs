//! How many series there are, by label: what to look at when there are too many.

use std::collections::BTreeMap;

use crate::model::labels::METRIC_NAME;
use crate::model::time::RangeMs;

/// Series of the head, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cardinality {
    /// Series.
    pub series: u64,
    /// Label pairs that they have.
    pub pairs: u64,
    /// Earliest and latest time of their samples.
    pub span: Option<RangeMs>,
    /// Series by the name of their metric.
    pub by_metric: BTreeMap<String, u64>,
    /// By name of a label: its values, the series that have it, and the bytes of its values, each
    /// counted once for each series.
    pub by_label: BTreeMap<String, LabelCount>,
    /// Series by pair.
    pub by_pair: BTreeMap<(String, String), u64>,
}

/// What is counted of one label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LabelCount {
    /// Distinct values.
    pub values: u64,
    /// Series that have it.
    pub series: u64,
    /// Bytes of the values, each as often as there are series with it.
    pub bytes: u64,
}

impl Cardinality {
    /// Counts a pair that `series` have.
    pub fn add(&mut self, name: &str, value: &str, series: u64) {
        self.pairs += 1;
        if name == METRIC_NAME {
            self.by_metric.insert(value.to_owned(), series);
        }
        let own = self.by_label.entry(name.to_owned()).or_default();
        own.values += 1;
        own.series += series;
        own.bytes += series * value.len() as u64;
        self.by_pair.insert((name.to_owned(), value.to_owned()), series);
    }

    /// The `count` largest of a list, the largest first.
    pub fn top<K: Clone + Ord>(list: impl Iterator<Item = (K, u64)>, count: usize) -> Vec<(K, u64)> {
        let mut all: Vec<(K, u64)> = list.collect();
        all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        all.truncate(count);
        all
    }
}
