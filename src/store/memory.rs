//! Stores in memory: one of metrics, and one that holds nothing of any signal. For tests, benches and
//! fuzz targets of what lies above the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::error::StoreError;
use super::series_set::InMemory;
use super::waist::{AttrScope, LineHints, LogChunk, LogStats, SelectLogs, SelectMetrics, SelectTraces, SeriesSet};
use super::waist::{ServiceOperations, SpanBlock, SpanHint};
use crate::base::limits::QueryBudget;
use crate::model::batch::MetricMetadata;
use crate::model::exemplar::Exemplar;
use crate::model::labels::Labels;
use crate::model::matcher::{Matcher, all_match};
use crate::model::sample::{Columns, HistogramSample};
use crate::model::span::{AttrValue, Span, TraceId};
use crate::model::time::{RangeMs, RangeNs};

/// Series by their labels.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    series: BTreeMap<Labels, Arc<Columns>>,
    /// What [`SelectMetrics::metadata`] answers.
    pub metadata: Vec<MetricMetadata>,
    /// Exemplars by series.
    pub exemplars: Vec<(Labels, Vec<Exemplar>)>,
}

impl Memory {
    /// Adds a series, or replaces it.
    pub fn insert(&mut self, labels: Labels, columns: Columns) {
        self.series.insert(labels, Arc::new(columns));
    }

    /// Adds a float; times of a series must go up.
    pub fn float(&mut self, labels: &Labels, t: i64, value: f64) {
        let columns = self.entry(labels);
        columns.times = columns.times.iter().copied().chain([t]).collect();
        columns.values.push(value);
    }

    /// Adds a histogram; times of a series must go up.
    pub fn histogram(&mut self, labels: &Labels, sample: HistogramSample) {
        self.entry(labels).histograms.push(sample);
    }

    /// Says when counting began for a sample that is there already.
    pub fn began(&mut self, labels: &Labels, t: i64, start: i64) {
        let columns = self.entry(labels);
        columns.starts.resize(columns.times.len(), 0);
        if let Ok(at) = columns.times.binary_search(&t)
            && let Some(known) = columns.starts.get_mut(at)
        {
            *known = start;
        }
        columns.histograms.iter_mut().filter(|sample| sample.t == t).for_each(|sample| sample.start = start);
    }

    fn entry(&mut self, labels: &Labels) -> &mut Columns {
        Arc::make_mut(self.series.entry(labels.clone()).or_default())
    }

    /// Matching series with a sample in the range.
    fn matching(&self, matchers: &[Matcher], range: RangeMs) -> impl Iterator<Item = (&Labels, &Arc<Columns>)> {
        let has_samples = move |columns: &Columns| {
            columns.times.get(columns.times.partition_point(|t| *t < range.start)).is_some_and(|t| range.contains(*t))
                || columns.histograms.iter().any(|sample| range.contains(sample.t))
        };
        self.series.iter().filter(move |(labels, columns)| all_match(matchers, labels) && has_samples(columns))
    }
}

impl SelectMetrics for Memory {
    fn select(&self, matchers: &[Matcher], range: RangeMs, _: &QueryBudget) -> Result<Box<dyn SeriesSet>, StoreError> {
        let found = self.matching(matchers, range).map(|(labels, columns)| (labels.clone(), columns.clone()));
        Ok(Box::new(InMemory::new(found.collect(), range)))
    }

    fn series(&self, matchers: &[Matcher], range: RangeMs, _: &QueryBudget) -> Result<Vec<Labels>, StoreError> {
        Ok(self.matching(matchers, range).map(|(labels, _)| labels.clone()).collect())
    }

    fn label_names(&self, matchers: &[Matcher], range: RangeMs, _: &QueryBudget) -> Result<Vec<String>, StoreError> {
        let mut names = BTreeSet::new();
        for (labels, _) in self.matching(matchers, range) {
            names.extend(labels.iter().map(|(name, _)| name.to_owned()));
        }
        Ok(names.into_iter().collect())
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        range: RangeMs,
        _: &QueryBudget,
    ) -> Result<Vec<String>, StoreError> {
        let all = self.matching(matchers, range);
        let values: BTreeSet<String> = all.filter_map(|(labels, _)| Some(labels.get(name)?.to_owned())).collect();
        Ok(values.into_iter().collect())
    }

    fn metadata(&self, _: &QueryBudget) -> Result<Vec<MetricMetadata>, StoreError> {
        let all = self.metadata.iter().map(|one| (&one.name, one));
        Ok(all.collect::<BTreeMap<_, _>>().into_values().cloned().collect())
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

/// A store that holds nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nothing;

impl SelectMetrics for Nothing {
    fn select(&self, _: &[Matcher], range: RangeMs, _: &QueryBudget) -> Result<Box<dyn SeriesSet>, StoreError> {
        Ok(Box::new(InMemory::new(Vec::new(), range)))
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

    fn metadata(&self, _: &QueryBudget) -> Result<Vec<MetricMetadata>, StoreError> {
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

impl SelectTraces for Nothing {
    fn trace(&self, _: TraceId, _: &QueryBudget) -> Result<Vec<Span>, StoreError> {
        Ok(Vec::new())
    }

    fn blocks(&self, _: RangeNs, _: &[SpanHint], _: &QueryBudget) -> Result<Vec<Box<dyn SpanBlock>>, StoreError> {
        Ok(Vec::new())
    }

    fn tag_names(&self, _: RangeNs, _: &QueryBudget) -> Result<Vec<(AttrScope, String)>, StoreError> {
        Ok(Vec::new())
    }

    fn tag_values(
        &self,
        _: &[AttrScope],
        _: &str,
        _: RangeNs,
        _: usize,
        _: &QueryBudget,
    ) -> Result<Vec<AttrValue>, StoreError> {
        Ok(Vec::new())
    }

    fn services(&self, _: &QueryBudget) -> Result<Vec<ServiceOperations>, StoreError> {
        Ok(Vec::new())
    }
}
