//! Answers of the metrics store: heads and parts as one.
//! Flow: parts, oldest first, then heads hand their samples to a [`Collector`], which knows each
//! series by its encoded labels; at the end each series is put in order and the series are sorted.
//! Memory is charged before it is taken; the deadline is looked at with each frame and each series.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ahash::{AHashMap, AHashSet};

use super::chunk::{column, histogram};
use super::head::{Head, same_exemplar};
use super::postings::damaged;
use super::record::{put_labels, take_labels};
use super::rows::Rows;
use super::segment::{Entry, Part, Visited};
use super::series::Series;
use super::{MetricsKind, MetricsStore};
use crate::base::limits::QueryBudget;
use crate::model::batch::{MetricMetadata, Signal};
use crate::model::exemplar::Exemplar;
use crate::model::labels::Labels;
use crate::model::matcher::Matcher;
use crate::model::sample::{Columns, HistogramSample};
use crate::model::time::RangeMs;
use crate::store::codec::{Malformed, Reader};
use crate::store::lane::View;
use crate::store::series_set::InMemory;
use crate::store::{SelectMetrics, SeriesSet, StoreError};

/// Charged for a series or a string beside its text.
const ITEM_BYTES: usize = 160;

struct Found {
    labels: Labels,
    rows: Rows,
}

/// Series and their samples as they are found.
struct Collector<'a> {
    budget: &'a QueryBudget,
    range: RangeMs,
    numbers: AHashMap<Box<[u8]>, usize>,
    found: Vec<Found>,
    times: Vec<i64>,
    values: Vec<f64>,
}

impl<'a> Collector<'a> {
    fn new(range: RangeMs, budget: &'a QueryBudget) -> Self {
        Self { budget, range, numbers: AHashMap::new(), found: Vec::new(), times: Vec::new(), values: Vec::new() }
    }

    /// The place of the series whose encoded labels are `key`.
    fn slot(&mut self, key: &[u8]) -> Result<Result<&mut Found, Malformed>, StoreError> {
        let number = match self.numbers.get(key) {
            Some(number) => *number,
            None => {
                let labels = match take_labels(&mut Reader::new(key)) {
                    Ok(labels) => labels,
                    Err(malformed) => return Ok(Err(malformed)),
                };
                self.budget.charge(2 * key.len() + size_of::<Found>() + ITEM_BYTES)?;
                self.numbers.insert(key.into(), self.found.len());
                self.found.push(Found { labels, rows: Rows::default() });
                self.found.len() - 1
            }
        };
        Ok(self.found.get_mut(number).ok_or(Malformed("no such series")))
    }

    /// Takes what lies in the range of an entry of a part.
    fn entry(&mut self, entry: &Entry<'_>) -> Visited {
        self.budget.touch(entry.count)?;
        if entry.histograms {
            return self.histograms(entry);
        }
        let (mut times, mut values) = (std::mem::take(&mut self.times), std::mem::take(&mut self.values));
        let decoded = column::decode(entry.data, entry.count, &mut times, &mut values);
        let first = times.partition_point(|t| *t < self.range.start);
        let end = times.partition_point(|t| *t <= self.range.end);
        if decoded.is_ok() && first < end {
            let budget = self.budget;
            match self.slot(entry.labels)? {
                Ok(found) => {
                    found.rows.reserve(end - first, budget)?;
                    let own = (times.get(first..end).unwrap_or_default(), values.get(first..end).unwrap_or_default());
                    found.rows.extend(own.0, own.1);
                }
                Err(malformed) => return Ok(Err(malformed)),
            }
        }
        (self.times, self.values) = (times, values);
        Ok(decoded)
    }

    fn histograms(&mut self, entry: &Entry<'_>) -> Visited {
        let (range, budget) = (self.range, self.budget);
        // While decoding: a count of one byte becomes eight.
        budget.charge(entry.data.len() * 8)?;
        let samples = match histogram::decode(entry.data, entry.count) {
            Ok(samples) => samples,
            Err(malformed) => return Ok(Err(malformed)),
        };
        let found = match self.slot(entry.labels)? {
            Ok(found) => found,
            Err(malformed) => return Ok(Err(malformed)),
        };
        for sample in samples.into_iter().filter(|sample| range.contains(sample.t)) {
            budget.charge(histogram_bytes(&sample))?;
            found.rows.push_histogram(sample);
        }
        budget.release(entry.data.len() * 8);
        Ok(Ok(()))
    }

    /// Takes what lies in the range of a series of a head.
    fn series(&mut self, series: &Series, key: &mut Vec<u8>) -> Result<(), StoreError> {
        let (range, budget) = (self.range, self.budget);
        let count = series.count(range);
        if count == 0 {
            return Ok(());
        }
        budget.touch(count)?;
        key.clear();
        put_labels(key, &series.labels());
        let found = self.slot(key)?.map_err(damaged)?;
        found.rows.reserve(count, budget)?;
        let (before, starts) = (found.rows.histograms.len(), found.rows.starts());
        series.read(range, &mut found.rows).map_err(damaged)?;
        budget.charge(16 * (found.rows.starts() - starts))?;
        let histograms = found.rows.histograms.get(before..).unwrap_or_default();
        budget.charge(histograms.iter().map(histogram_bytes).sum())?;
        Ok(())
    }

    fn finish(mut self) -> Result<Box<dyn SeriesSet>, StoreError> {
        drop(self.numbers);
        let mut answer = Vec::with_capacity(self.found.len());
        for mut found in self.found.drain(..) {
            let bytes = found.rows.settle_bytes();
            self.budget.charge(bytes)?;
            found.rows.settle();
            self.budget.release(bytes);
            if !found.rows.is_empty() {
                let starts = found.rows.float_starts();
                self.budget.charge(8 * starts.len())?;
                let Rows { times, values, histograms, .. } = found.rows;
                let columns = Columns { times: times.into(), values, starts, histograms };
                answer.push((found.labels, columns));
            }
        }
        self.budget.check()?;
        Ok(Box::new(InMemory::new(answer)))
    }
}

fn histogram_bytes(sample: &HistogramSample) -> usize {
    size_of::<HistogramSample>() + sample.histogram.bytes()
}

fn overlapping(view: &View<MetricsKind>, range: RangeMs) -> impl Iterator<Item = &Arc<Part>> {
    view.parts.iter().filter(move |part| part.overlaps(range))
}

fn heads(view: &View<MetricsKind>, range: RangeMs) -> impl Iterator<Item = &Arc<Head>> {
    view.heads.iter().filter(move |head| head.overlaps(range))
}

/// Distinct strings, charged as they come.
struct Strings<'a> {
    budget: &'a QueryBudget,
    set: BTreeSet<String>,
    seen: usize,
}

impl<'a> Strings<'a> {
    fn new(budget: &'a QueryBudget) -> Self {
        Self { budget, set: BTreeSet::new(), seen: 0 }
    }

    fn add(&mut self, text: &str) -> Result<(), StoreError> {
        self.seen += 1;
        if self.seen.is_multiple_of(10_000) {
            self.budget.check()?;
        }
        if !self.set.contains(text) {
            self.budget.charge(text.len() + ITEM_BYTES)?;
            self.set.insert(text.to_owned());
        }
        Ok(())
    }
}

impl SelectMetrics for MetricsStore {
    fn select(
        &self,
        matchers: &[Matcher],
        range: RangeMs,
        budget: &QueryBudget,
    ) -> Result<Box<dyn SeriesSet>, StoreError> {
        let view = self.lane.view();
        let mut collector = Collector::new(range, budget);
        for part in overlapping(&view, range) {
            part.visit(matchers, range, budget, &mut |entry| collector.entry(entry))?;
        }
        let mut key = Vec::new();
        for head in heads(&view, range) {
            for series in head.matching(matchers, budget)? {
                collector.series(&series, &mut key)?;
            }
        }
        collector.finish()
    }

    fn series(&self, matchers: &[Matcher], range: RangeMs, budget: &QueryBudget) -> Result<Vec<Labels>, StoreError> {
        let view = self.lane.view();
        let mut keys: AHashSet<Box<[u8]>> = AHashSet::new();
        let mut add = |key: &[u8]| -> Result<(), StoreError> {
            if !keys.contains(key) {
                budget.charge(2 * key.len() + ITEM_BYTES)?;
                keys.insert(key.into());
            }
            Ok(())
        };
        for part in overlapping(&view, range) {
            part.visit(matchers, range, budget, &mut |entry| add(entry.labels).map(Ok))?;
        }
        let mut key = Vec::new();
        for head in heads(&view, range) {
            for series in head.matching(matchers, budget)?.iter().filter(|series| series.overlaps(range)) {
                key.clear();
                put_labels(&mut key, &series.labels());
                add(&key)?;
            }
        }
        let labels: Result<Vec<_>, Malformed> = keys.iter().map(|key| take_labels(&mut Reader::new(key))).collect();
        let mut labels = labels.map_err(damaged)?;
        labels.sort();
        Ok(labels)
    }

    fn label_names(
        &self,
        matchers: &[Matcher],
        range: RangeMs,
        budget: &QueryBudget,
    ) -> Result<Vec<String>, StoreError> {
        let view = self.lane.view();
        let mut names = Strings::new(budget);
        for part in overlapping(&view, range) {
            let info = part.reader().info();
            let listed = if matchers.is_empty() {
                self.lane.env().catalog.label_names(Signal::Metrics, (info.seq, info.index))
            } else {
                None
            };
            match listed {
                Some(listed) => listed.iter().try_for_each(|name| names.add(name))?,
                None => part.pairs(None, matchers, budget, &mut |name, _| names.add(name))?,
            }
        }
        for head in heads(&view, range) {
            head.pairs(None, matchers, budget, &mut |name, _| names.add(name))?;
        }
        Ok(names.set.into_iter().collect())
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        range: RangeMs,
        budget: &QueryBudget,
    ) -> Result<Vec<String>, StoreError> {
        let view = self.lane.view();
        let mut values = Strings::new(budget);
        for part in overlapping(&view, range) {
            let info = part.reader().info();
            let listed = if matchers.is_empty() {
                self.lane.env().catalog.label_values(Signal::Metrics, (info.seq, info.index), name)
            } else {
                None
            };
            match listed {
                Some(listed) => listed.iter().try_for_each(|value| values.add(value))?,
                None => part.pairs(Some(name), matchers, budget, &mut |_, value| values.add(value))?,
            }
        }
        for head in heads(&view, range) {
            head.pairs(Some(name), matchers, budget, &mut |_, value| values.add(value))?;
        }
        Ok(values.set.into_iter().collect())
    }

    fn metadata(&self) -> Result<Vec<MetricMetadata>, StoreError> {
        let known = self.lane.env().catalog.metadata();
        let mut all: BTreeMap<String, MetricMetadata> = known.into_iter().map(|one| (one.name.clone(), one)).collect();
        for head in self.lane.view().heads {
            all.extend(head.metadata().into_iter().map(|one| (one.name.clone(), one)));
        }
        Ok(all.into_values().collect())
    }

    fn exemplars(
        &self,
        matchers: &[Matcher],
        range: RangeMs,
        budget: &QueryBudget,
    ) -> Result<Vec<(Labels, Vec<Exemplar>)>, StoreError> {
        let view = self.lane.view();
        let mut found: BTreeMap<Labels, Vec<Exemplar>> = BTreeMap::new();
        let mut add = |labels: &Labels, exemplar: Exemplar| -> Result<(), StoreError> {
            budget.touch(1)?;
            budget.charge(exemplar.labels.bytes() + ITEM_BYTES)?;
            let own = found.entry(labels.clone()).or_default();
            if !own.iter().any(|known| same_exemplar(known, &exemplar)) {
                own.push(exemplar);
            }
            Ok(())
        };
        for part in overlapping(&view, range) {
            part.exemplars(matchers, range, budget, &mut add)?;
        }
        for head in heads(&view, range) {
            for series in head.matching(matchers, budget)? {
                let (own, labels) = (head.exemplars_of(series.id), series.labels());
                own.into_iter()
                    .filter(|exemplar| range.contains(exemplar.t))
                    .try_for_each(|exemplar| add(&labels, exemplar))?;
            }
        }
        found.values_mut().for_each(|own| own.sort_by_key(|exemplar| exemplar.t));
        Ok(found.into_iter().collect())
    }
}
