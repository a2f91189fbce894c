//! A store of metrics and logs that holds nothing, for tests of other signals.

use trilith::base::limits::QueryBudget;
use trilith::model::batch::MetricMetadata;
use trilith::model::exemplar::Exemplar;
use trilith::model::labels::Labels;
use trilith::model::matcher::Matcher;
use trilith::model::time::{RangeMs, RangeNs};
use trilith::store::series_set::InMemory;
use trilith::store::{LineHints, LogChunk, LogStats, SelectLogs, SelectMetrics, SeriesSet, StoreError};

/// It holds nothing.
pub(super) struct Nothing;

impl SelectMetrics for Nothing {
    fn select(&self, _: &[Matcher], _: RangeMs, _: &QueryBudget) -> Result<Box<dyn SeriesSet>, StoreError> {
        Ok(Box::new(InMemory::default()))
    }

    fn series(&self, _: &[Matcher], _: RangeMs, _: &QueryBudget) -> Result<Vec<Labels>, StoreError> {
        Ok(Vec::new())
    }

    fn label_names(&self, _: &[Matcher], _: RangeMs, _: &QueryBudget) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    fn label_values(&self, _: &str, _: &[Matcher], _: RangeMs, _: &QueryBudget) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    fn metadata(&self) -> Result<Vec<MetricMetadata>, StoreError> {
        Ok(Vec::new())
    }

    fn exemplars(
        &self,
        _: &[Matcher],
        _: RangeMs,
        _: &QueryBudget,
    ) -> Result<Vec<(Labels, Vec<Exemplar>)>, StoreError> {
        Ok(Vec::new())
    }
}

impl SelectLogs for Nothing {
    fn chunks(
        &self,
        _: &[Matcher],
        _: RangeNs,
        _: &LineHints,
        _: &QueryBudget,
    ) -> Result<Vec<Box<dyn LogChunk>>, StoreError> {
        Ok(Vec::new())
    }

    fn series(&self, _: &[Matcher], _: RangeNs, _: &QueryBudget) -> Result<Vec<Labels>, StoreError> {
        Ok(Vec::new())
    }

    fn label_names(&self, _: &[Matcher], _: RangeNs, _: &QueryBudget) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    fn label_values(&self, _: &str, _: &[Matcher], _: RangeNs, _: &QueryBudget) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    fn stats(&self, _: &[Matcher], _: RangeNs, _: &QueryBudget) -> Result<Vec<(Labels, LogStats)>, StoreError> {
        Ok(Vec::new())
    }
}
