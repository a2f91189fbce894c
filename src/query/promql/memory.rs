//! A store of vectors, for tests of what lies above the store.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::base::limits::QueryBudget;
use crate::model::batch::MetricMetadata;
use crate::model::exemplar::Exemplar;
use crate::model::labels::Labels;
use crate::model::matcher::{Matcher, all_match};
use crate::model::sample::{Columns, HistogramSample};
use crate::model::time::RangeMs;
use crate::store::series_set::InMemory;
use crate::store::{SelectLogs, SelectMetrics, SelectTraces, SeriesSet, StoreError};

/// Series by their labels.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) series: BTreeMap<Labels, Columns>,
    pub(crate) metadata: Vec<MetricMetadata>,
    pub(crate) exemplars: Vec<(Labels, Vec<Exemplar>)>,
}

impl Memory {
    fn entry(&mut self, labels: &Labels) -> &mut Columns {
        self.series.entry(labels.clone()).or_default()
    }

    /// Adds a float; times of a series must go up.
    pub(crate) fn float(&mut self, labels: &Labels, t: i64, value: f64) {
        let columns = self.entry(labels);
        columns.times = columns.times.iter().copied().chain([t]).collect();
        columns.values.push(value);
    }

    /// Adds a histogram; times of a series must go up.
    pub(crate) fn histogram(&mut self, labels: &Labels, sample: HistogramSample) {
        self.entry(labels).histograms.push(sample);
    }

    /// Says when counting began for a sample that is there already.
    pub(crate) fn began(&mut self, labels: &Labels, t: i64, start: i64) {
        let columns = self.entry(labels);
        columns.starts.resize(columns.times.len(), 0);
        if let Ok(at) = columns.times.binary_search(&t) {
            columns.starts[at] = start;
        }
        columns.histograms.iter_mut().filter(|sample| sample.t == t).for_each(|sample| sample.start = start);
    }

    fn matching<'m>(&'m self, matchers: &'m [Matcher]) -> impl Iterator<Item = (&'m Labels, &'m Columns)> {
        self.series.iter().filter(|(labels, _)| all_match(matchers, labels))
    }

    fn cut(series: &Columns, range: RangeMs) -> Columns {
        let places =
            series.times.partition_point(|t| *t < range.start)..series.times.partition_point(|t| *t <= range.end);
        let times = series.times.get(places.clone()).unwrap_or_default().to_vec().into();
        let values = series.values.get(places.clone()).unwrap_or_default().to_vec();
        let starts = series.starts.get(places).unwrap_or_default().to_vec();
        let histograms = series.histograms.iter().filter(|sample| range.contains(sample.t)).cloned().collect();
        Columns { times, values, starts, histograms }
    }
}

impl SelectMetrics for Memory {
    fn select(&self, matchers: &[Matcher], range: RangeMs, _: &QueryBudget) -> Result<Box<dyn SeriesSet>, StoreError> {
        let found = self.matching(matchers).map(|(labels, series)| (labels.clone(), Self::cut(series, range)));
        Ok(Box::new(InMemory::new(found.filter(|(_, series)| !series.is_empty()).collect())))
    }

    fn series(&self, matchers: &[Matcher], range: RangeMs, _: &QueryBudget) -> Result<Vec<Labels>, StoreError> {
        let all = self.matching(matchers).filter(|(_, series)| !Self::cut(series, range).is_empty());
        Ok(all.map(|(labels, _)| labels.clone()).collect())
    }

    fn label_names(&self, matchers: &[Matcher], range: RangeMs, b: &QueryBudget) -> Result<Vec<String>, StoreError> {
        let mut names = BTreeSet::new();
        for labels in SelectMetrics::series(self, matchers, range, b)? {
            names.extend(labels.iter().map(|(name, _)| name.to_owned()));
        }
        Ok(names.into_iter().collect())
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        range: RangeMs,
        budget: &QueryBudget,
    ) -> Result<Vec<String>, StoreError> {
        let all = SelectMetrics::series(self, matchers, range, budget)?;
        let values: BTreeSet<String> = all.iter().filter_map(|labels| Some(labels.get(name)?.to_owned())).collect();
        Ok(values.into_iter().collect())
    }

    fn metadata(&self) -> Result<Vec<MetricMetadata>, StoreError> {
        Ok(self.metadata.clone())
    }

    fn exemplars(
        &self,
        matchers: &[Matcher],
        range: RangeMs,
        _: &QueryBudget,
    ) -> Result<Vec<(Labels, Vec<Exemplar>)>, StoreError> {
        let mut all = self.exemplars.clone();
        all.retain(|(labels, _)| all_match(matchers, labels));
        for (_, exemplars) in &mut all {
            exemplars.retain(|exemplar| range.contains(exemplar.t));
        }
        Ok(all)
    }
}

/// A store without logs and traces.
pub(crate) struct Nothing;

impl SelectLogs for Nothing {
    fn chunks(
        &self,
        _: &[Matcher],
        _: crate::model::time::RangeNs,
        _: &crate::store::LineHints,
        _: &QueryBudget,
    ) -> Result<Vec<Box<dyn crate::store::LogChunk>>, StoreError> {
        Ok(Vec::new())
    }

    fn series(
        &self,
        _: &[Matcher],
        _: crate::model::time::RangeNs,
        _: &QueryBudget,
    ) -> Result<Vec<Labels>, StoreError> {
        Ok(Vec::new())
    }

    fn label_names(
        &self,
        _: &[Matcher],
        _: crate::model::time::RangeNs,
        _: &QueryBudget,
    ) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    fn label_values(
        &self,
        _: &str,
        _: &[Matcher],
        _: crate::model::time::RangeNs,
        _: &QueryBudget,
    ) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    fn stats(
        &self,
        _: &[Matcher],
        _: crate::model::time::RangeNs,
        _: &QueryBudget,
    ) -> Result<Vec<(Labels, crate::store::LogStats)>, StoreError> {
        Ok(Vec::new())
    }
}

impl SelectTraces for Nothing {
    fn trace(
        &self,
        _: crate::model::span::TraceId,
        _: &QueryBudget,
    ) -> Result<Vec<crate::model::span::Span>, StoreError> {
        Ok(Vec::new())
    }

    fn blocks(
        &self,
        _: crate::model::time::RangeNs,
        _: &[crate::store::SpanHint],
        _: &QueryBudget,
    ) -> Result<Vec<Box<dyn crate::store::SpanBlock>>, StoreError> {
        Ok(Vec::new())
    }

    fn tag_names(
        &self,
        _: crate::model::time::RangeNs,
        _: &QueryBudget,
    ) -> Result<Vec<(crate::store::AttrScope, String)>, StoreError> {
        Ok(Vec::new())
    }

    fn tag_values(
        &self,
        _: &[crate::store::AttrScope],
        _: &str,
        _: crate::model::time::RangeNs,
        _: usize,
        _: &QueryBudget,
    ) -> Result<Vec<crate::model::span::AttrValue>, StoreError> {
        Ok(Vec::new())
    }

    fn services(&self, _: &QueryBudget) -> Result<Vec<crate::store::ServiceOperations>, StoreError> {
        Ok(Vec::new())
    }
}
