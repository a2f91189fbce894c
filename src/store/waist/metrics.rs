//! Finding series and reading their samples, heads and parts as one.

use std::ops::Range;

use super::cardinality::{self, Cardinality};
use crate::base::limits::QueryBudget;
use crate::model::batch::MetricMetadata;
use crate::model::exemplar::Exemplar;
use crate::model::labels::Labels;
use crate::model::matcher::Matcher;
use crate::model::sample::Columns;
use crate::model::time::RangeMs;
use crate::store::error::StoreError;

/// What was refused of one metric for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedMetric {
    /// The metric, or the beginning of a long name.
    pub name: String,
    /// Why, as in `/metrics`.
    pub reason: &'static str,
    /// Samples, at least.
    pub count: u64,
}

/// What is done with the samples of the series at a place of a [`SeriesSet`]. What it wants to keep
/// it takes out of the columns, and charges.
pub type VisitColumns<'a> = dyn FnMut(usize, &mut Columns) -> Result<(), StoreError> + 'a;

/// Series that a select has found, sorted by labels, each once. Samples are read when they are
/// asked for; parts and heads that they lie in stay as they were when the select was made.
pub trait SeriesSet: Send + Sync {
    /// Who the series are. A series may turn out to have no sample in the range.
    fn labels(&self) -> &[Labels];

    /// Reads the samples of the series at `places`, in that order, each handed to `visit` once, also
    /// when there is none in the range. Several threads may read different places at once;
    /// neighbours are best read by one thread. What is held while reading is charged to `budget`
    /// and given back, samples read are counted with its `touch`.
    ///
    /// # Errors
    /// [`StoreError`], or what `visit` returns.
    fn read(&self, places: Range<usize>, budget: &QueryBudget, visit: &mut VisitColumns<'_>) -> Result<(), StoreError>;
}

/// Finds series. `matchers` must all hold; an empty list matches every series.
pub trait SelectMetrics: Send + Sync {
    /// The series that match and may have samples in `range`. What the set holds stays charged to
    /// `budget`.
    ///
    /// # Errors
    /// [`StoreError`].
    fn select(
        &self,
        matchers: &[Matcher],
        range: RangeMs,
        budget: &QueryBudget,
    ) -> Result<Box<dyn SeriesSet>, StoreError>;

    /// Label sets of matching series that may have samples in `range`, sorted.
    ///
    /// # Errors
    /// [`StoreError`].
    fn series(&self, matchers: &[Matcher], range: RangeMs, budget: &QueryBudget) -> Result<Vec<Labels>, StoreError>;

    /// Names of labels of matching series, sorted.
    ///
    /// # Errors
    /// [`StoreError`].
    fn label_names(
        &self,
        matchers: &[Matcher],
        range: RangeMs,
        budget: &QueryBudget,
    ) -> Result<Vec<String>, StoreError>;

    /// Values of one label of matching series, sorted.
    ///
    /// # Errors
    /// [`StoreError`].
    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        range: RangeMs,
        budget: &QueryBudget,
    ) -> Result<Vec<String>, StoreError>;

    /// Metadata of all metric families, one of each name, sorted by it; all are charged.
    ///
    /// # Errors
    /// [`StoreError`].
    fn metadata(&self, budget: &QueryBudget) -> Result<Vec<MetricMetadata>, StoreError>;

    /// Series in memory, counted by label, the `rows` largest of each list; `None` where nothing is
    /// counted there.
    ///
    /// # Errors
    /// [`StoreError::Limit`].
    fn cardinality_now(&self, _rows: usize, _budget: &QueryBudget) -> Result<Option<Cardinality>, StoreError> {
        Ok(None)
    }

    /// Series that match one of `selectors` and may have samples in `range`, likewise.
    ///
    /// # Errors
    /// [`StoreError`].
    fn cardinality(
        &self,
        selectors: &[Vec<Matcher>],
        range: RangeMs,
        rows: usize,
        budget: &QueryBudget,
    ) -> Result<Cardinality, StoreError> {
        let mut all = Vec::new();
        for selector in selectors {
            all.extend(self.series(selector, range, budget)?);
        }
        cardinality::count(all, rows, budget)
    }

    /// The metrics that most samples of new series were refused of, the most first.
    fn refused(&self, _rows: usize) -> Vec<RefusedMetric> {
        Vec::new()
    }

    /// Exemplars of matching series, by series, in time order.
    ///
    /// # Errors
    /// [`StoreError`].
    fn exemplars(
        &self,
        matchers: &[Matcher],
        range: RangeMs,
        budget: &QueryBudget,
    ) -> Result<Vec<(Labels, Vec<Exemplar>)>, StoreError>;
}
