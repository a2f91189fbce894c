//! Series sets for those who have, or want, all samples in memory at once.

use std::ops::Range;
use std::sync::Arc;

use super::error::StoreError;
use super::waist::{SelectMetrics, SeriesSet, VisitColumns};
use crate::base::limits::QueryBudget;
use crate::model::labels::Labels;
use crate::model::matcher::Matcher;
use crate::model::sample::Columns;
use crate::model::time::RangeMs;

/// A set whose samples are in memory already.
#[derive(Clone, Debug)]
pub struct InMemory {
    labels: Vec<Labels>,
    columns: Vec<Arc<Columns>>,
    range: RangeMs,
}

impl InMemory {
    /// A set of what these series have in `range`; none comes twice.
    pub fn new(mut series: Vec<(Labels, Arc<Columns>)>, range: RangeMs) -> Self {
        series.sort_by(|a, b| a.0.cmp(&b.0));
        let (labels, columns) = series.into_iter().unzip();
        Self { labels, columns, range }
    }
}

impl SeriesSet for InMemory {
    fn labels(&self) -> &[Labels] {
        &self.labels
    }

    fn read(&self, places: Range<usize>, budget: &QueryBudget, visit: &mut VisitColumns<'_>) -> Result<(), StoreError> {
        let mut columns = Columns::default();
        for (place, all) in places.clone().zip(self.columns.get(places).unwrap_or_default()) {
            columns.copy_range(all, self.range);
            budget.touch(columns.len())?;
            visit(place, &mut columns)?;
        }
        Ok(())
    }
}

/// Bytes of memory that columns take, shared times included.
pub fn bytes(columns: &Columns) -> usize {
    let histograms = columns.histograms.iter().map(|sample| size_of_val(sample) + sample.histogram.bytes());
    8 * (columns.times.len() + columns.values.len() + columns.starts.len()) + histograms.sum::<usize>()
}

/// All series of a set that have samples in its range, with them, charged to `budget`.
///
/// # Errors
/// [`StoreError`].
pub fn collect(set: &dyn SeriesSet, budget: &QueryBudget) -> Result<Vec<(Labels, Columns)>, StoreError> {
    let labels = set.labels();
    let mut all = Vec::with_capacity(labels.len());
    set.read(0..labels.len(), budget, &mut |place, columns| {
        if let Some(labels) = labels.get(place).filter(|_| !columns.is_empty()) {
            budget.charge(bytes(columns))?;
            all.push((labels.clone(), std::mem::take(columns)));
        }
        Ok(())
    })?;
    Ok(all)
}

/// What [`collect`] gives of a select.
///
/// # Errors
/// [`StoreError`].
pub fn select(
    store: &dyn SelectMetrics,
    matchers: &[Matcher],
    range: RangeMs,
    budget: &QueryBudget,
) -> Result<Vec<(Labels, Columns)>, StoreError> {
    collect(store.select(matchers, range, budget)?.as_ref(), budget)
}
