//! From the labels of a request to the series of a head, and from the request to columns.
//! Flow: under the registry's lock for readers most series are found; those that are not are made of
//! pairs that are known, else their labels are read, without a lock, and then made, within the limits.
//! Locks: the registry's, alone.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::accepted::{Accepted, Columns, NO_SERIES};
use super::data::fits;
use super::head::Head;
use super::record_v2::fitting;
use super::registry::Known;
use crate::model::batch::{Example, MetricsBatch, Rejections, SeriesBatch};
use crate::model::labels::{Labels, METRIC_NAME};
use crate::model::raw::{self, BadLabels, ParseLabels, RawMetrics};

/// Largest label set that is kept, in bytes; larger ones are refused.
const LABELS_BYTES_MAX: usize = 64 << 10;

/// What is to be found: the canonical bytes of labels, how many samples come with them, and the
/// labels where they have been read already.
struct Wanted<'a> {
    bytes: &'a [u8],
    rows: u64,
    labels: Option<&'a Labels>,
}

impl Head {
    /// Finds the series of a batch, and makes those that are new and within the limits.
    pub fn resolve(&self, batch: &MetricsBatch) -> Accepted {
        let own: Vec<&SeriesBatch> = batch.series.iter().filter(|own| holds_something(own)).collect();
        let mut rejected = Rejections::default();
        let ids = self.ids_of(&own, &mut rejected);
        let mut columns = Columns::default();
        columns.reserve(own.iter().map(|own| own.samples.len()).sum());
        for (own, id) in own.iter().zip(ids) {
            columns.add_floats(id, own);
            columns.add_others(id, own, &mut rejected);
        }
        if !columns.starts.is_empty() {
            columns.starts.resize(columns.ids.len(), 0);
        }
        columns.metadata = self.new_metadata(&batch.metadata);
        columns.drop_unknown();
        Accepted { registry: self.registry.clone(), columns, rejected }
    }

    /// The same for a request whose labels have not been read; `parse` reads those of new series.
    pub fn resolve_raw(&self, raw: RawMetrics<'_>, parse: &ParseLabels<'_>) -> Accepted {
        let mut rejected = Rejections::default();
        let wanted = |at: usize| {
            let (bytes, rows) = raw.at(at);
            Wanted { bytes, rows: rows.len() as u64, labels: None }
        };
        let found = self.find_or_make(raw.series.len(), &wanted, parse, &mut rejected);
        let mut ids = Vec::with_capacity(raw.times.len());
        for (id, own) in found.iter().zip(&raw.series) {
            ids.resize(own.rows_end as usize, *id);
        }
        let rest: Vec<&SeriesBatch> = raw.rest.series.iter().filter(|own| holds_something(own)).collect();
        let rest_ids = self.ids_of(&rest, &mut rejected);
        let metadata = self.new_metadata(&raw.rest.metadata);
        let RawMetrics { times, values, starts, .. } = raw;
        let mut columns = Columns { ids, times, values, starts, metadata, ..Columns::default() };
        for (own, id) in rest.iter().zip(rest_ids) {
            columns.add_floats(id, own);
            columns.add_others(id, own, &mut rejected);
        }
        if !columns.starts.is_empty() {
            columns.starts.resize(columns.ids.len(), 0);
        }
        columns.drop_unknown();
        Accepted { registry: self.registry.clone(), columns, rejected }
    }

    /// Calls the series of what another head accepted by the numbers that they have here.
    pub fn adopt(&self, accepted: Accepted) -> Accepted {
        if Arc::ptr_eq(&accepted.registry, &self.registry) {
            return accepted;
        }
        let Accepted { registry, mut columns, rejected } = accepted;
        let mut numbers: std::collections::BTreeMap<u32, u32> = columns.series().map(|id| (id, NO_SERIES)).collect();
        {
            let (theirs, mut known) = (registry.read(), self.registry.write());
            for (id, own) in &mut numbers {
                *own = self.make_unlimited(&mut known, &theirs.labels(*id)).unwrap_or(NO_SERIES);
            }
        }
        columns.renumber(|id| numbers.get(&id).copied().unwrap_or(NO_SERIES));
        Accepted { registry: self.registry.clone(), columns, rejected }
    }

    /// A series, made where it is new, whatever the limits; none when there is no room.
    pub(super) fn make_unlimited(&self, known: &mut Known, labels: &Labels) -> Option<u32> {
        let pairs = known.intern(labels)?;
        self.make_of_pairs(known, &pairs)
    }

    /// As [`make_unlimited`](Self::make_unlimited), of pairs sorted by name.
    pub(super) fn make_of_pairs(&self, known: &mut Known, pairs: &[u32]) -> Option<u32> {
        let before = known.bytes();
        let (id, new) = known.series_of(pairs)?;
        if new {
            self.activity.claimed.fetch_add(1, Ordering::Relaxed);
        }
        self.grow(known.bytes() as i64 - before as i64);
        Some(id)
    }

    fn ids_of(&self, batches: &[&SeriesBatch], rejected: &mut Rejections) -> Vec<u32> {
        if batches.is_empty() {
            return Vec::new();
        }
        let mut bytes = Vec::new();
        let mut places: Vec<Range<usize>> = Vec::with_capacity(batches.len());
        for own in batches {
            let start = bytes.len();
            raw::put_labels(&mut bytes, &own.labels);
            places.push(start..bytes.len());
        }
        let wanted = |at: usize| {
            let place = places.get(at).cloned().unwrap_or_default();
            let own = batches.get(at).copied();
            let rows = own.map_or(0, |own| (own.samples.len() + own.histograms.len()).max(1) as u64);
            Wanted { bytes: bytes.get(place).unwrap_or_default(), rows, labels: own.map(|own| &own.labels) }
        };
        let unread = |_: &[u8]| -> Result<Labels, BadLabels> { Ok(Labels::default()) };
        self.find_or_make(batches.len(), &wanted, &unread, rejected)
    }

    fn find_or_make<'a>(
        &self,
        count: usize,
        wanted: &impl Fn(usize) -> Wanted<'a>,
        parse: &ParseLabels<'_>,
        rejected: &mut Rejections,
    ) -> Vec<u32> {
        let mut missing = Vec::new();
        let mut ids = Vec::with_capacity(count);
        {
            let known = self.registry.read();
            let mut guess = NO_SERIES;
            for at in 0..count {
                let id = known.find(wanted(at).bytes, guess).unwrap_or(NO_SERIES);
                if id == NO_SERIES {
                    missing.push(at);
                } else {
                    guess = id + 1;
                }
                ids.push(id);
            }
        }
        if !missing.is_empty() {
            self.make_missing(wanted, missing, parse, &mut ids, rejected);
        }
        ids
    }

    fn make_missing<'a>(
        &self,
        wanted: &impl Fn(usize) -> Wanted<'a>,
        mut missing: Vec<usize>,
        parse: &ParseLabels<'_>,
        ids: &mut [u32],
        rejected: &mut Rejections,
    ) {
        let mut made = |at: usize, id: u32| ids.get_mut(at).map_or((), |own| *own = id);
        {
            let mut known = self.registry.write();
            missing.retain(|at| {
                let own = wanted(*at);
                // Another request may have made it in between.
                let found = known.find(own.bytes, NO_SERIES);
                let id = found.or_else(|| {
                    let pairs = known.known_pairs(own.bytes).filter(|pairs| pairs.len() <= self.options.labels_max)?;
                    self.make_limited(&mut known, &pairs).ok()
                });
                id.inspect(|id| made(*at, *id)).is_none()
            });
        }
        let mut read = Vec::with_capacity(missing.len());
        for at in missing {
            let own = wanted(at);
            let labels = match own.labels.cloned().map_or_else(|| parse(own.bytes), Ok) {
                Ok(labels) => labels,
                Err((reason, text)) => {
                    self.refused.add(raw::metric_name(own.bytes), reason, own.rows);
                    rejected.add(reason, own.rows, || Example::of(raw::metric_name(own.bytes), text));
                    continue;
                }
            };
            match self.check(&labels) {
                Ok(()) => read.push((at, own.rows, labels)),
                Err((reason, text)) => {
                    self.refused.add(labels.metric_name(), reason, own.rows);
                    rejected.add(reason, own.rows, || Example::of(labels.metric_name(), text));
                }
            }
        }
        if read.is_empty() {
            return;
        }
        let mut known = self.registry.write();
        for (at, rows, labels) in read {
            match self.make(&mut known, &labels) {
                Ok(id) => made(at, id),
                Err(reason) => {
                    self.refused.add(labels.metric_name(), reason, rows);
                    rejected.add(reason, rows, || Example::of(labels.metric_name(), self.limit_text(reason, &labels)));
                }
            }
        }
    }

    fn make(&self, known: &mut Known, labels: &Labels) -> Result<u32, &'static str> {
        if let Some(id) = known.find_labels(labels) {
            return Ok(id);
        }
        // Pairs are made only for series that are.
        self.check_limits(known, known.find_pair(METRIC_NAME, labels.metric_name()))?;
        let before = known.bytes();
        let pairs = known.intern(labels).ok_or("series_limit")?;
        self.grow(known.bytes() as i64 - before as i64);
        self.make_of_pairs(known, &pairs).ok_or("series_limit")
    }

    fn check_limits(&self, known: &Known, name: Option<u32>) -> Result<(), &'static str> {
        if self.activity.claimed.load(Ordering::Relaxed) >= self.options.active_series_max {
            return Err("series_limit");
        }
        if name.is_some_and(|name| known.series_with(name) >= self.options.series_per_metric_max) {
            return Err("metric_series_limit");
        }
        Ok(())
    }

    fn make_limited(&self, known: &mut Known, pairs: &[u32]) -> Result<u32, &'static str> {
        self.check_limits(known, known.name_pair(pairs))?;
        self.make_of_pairs(known, pairs).ok_or("series_limit")
    }

    fn limit_text(&self, reason: &str, labels: &Labels) -> String {
        let labels: String = labels.to_string().chars().take(500).collect();
        if reason == "metric_series_limit" {
            let limit = self.options.series_per_metric_max;
            return format!("{labels}: the metric has {limit} active series already, as many as one may have");
        }
        let limit = self.options.active_series_max;
        format!("{labels}: there are {limit} active series already, as many as are allowed")
    }

    /// Whether the labels of a new series are within the limits.
    fn check(&self, labels: &Labels) -> Result<(), BadLabels> {
        let options = &self.options;
        let metric = || -> String { labels.metric_name().chars().take(200).collect() };
        let (count, bytes) = (labels.len(), labels.bytes());
        if count > options.labels_max {
            let text =
                format!("a series of {:?} with {count} labels, over the limit of {}", metric(), options.labels_max);
            return Err(("too_many_labels", text));
        }
        if bytes > LABELS_BYTES_MAX {
            let text = format!("a series of {:?} with labels of {bytes} bytes; {LABELS_BYTES_MAX} are kept", metric());
            return Err(("labels_too_long", text));
        }
        for (name, value) in labels {
            let long_value = value.len() > options.label_value_bytes_max && name != METRIC_NAME;
            if name.len() > options.label_name_bytes_max || long_value {
                let name: String = name.chars().take(100).collect();
                let limits = (options.label_name_bytes_max, options.label_value_bytes_max);
                let text = format!(
                    "label {name:?} of {:?}: at most {} bytes of a name and {} of a value are kept",
                    metric(),
                    limits.0,
                    limits.1
                );
                return Err(("label_too_long", text));
            }
        }
        Ok(())
    }
}

fn holds_something(own: &SeriesBatch) -> bool {
    !(own.samples.is_empty() && own.histograms.is_empty() && own.exemplars.is_empty())
}

impl Columns {
    fn reserve(&mut self, floats: usize) {
        self.ids.reserve_exact(floats);
        self.times.reserve_exact(floats);
        self.values.reserve_exact(floats);
    }

    fn add_floats(&mut self, id: u32, own: &SeriesBatch) {
        if own.samples.is_empty() {
            return;
        }
        if !own.starts.is_empty() || !self.starts.is_empty() {
            self.starts.resize(self.ids.len(), 0);
            self.starts.extend((0..own.samples.len()).map(|at| own.starts.get(at).copied().unwrap_or_default()));
        }
        self.ids.resize(self.ids.len() + own.samples.len(), id);
        self.times.extend(own.samples.iter().map(|sample| sample.t));
        self.values.extend(own.samples.iter().map(|sample| sample.value));
    }

    fn add_others(&mut self, id: u32, own: &SeriesBatch, rejected: &mut Rejections) {
        if id != NO_SERIES {
            let large = own.histograms.iter().filter(|sample| !fits(sample)).count();
            rejected.add("histogram_too_large", large as u64, || {
                Example::of(own.labels.metric_name(), own.labels.to_string())
            });
        }
        let histograms = fitting(&own.histograms);
        if !histograms.is_empty() {
            self.histograms.push((id, histograms));
        }
        if !own.exemplars.is_empty() {
            self.exemplars.push((id, own.exemplars.clone()));
        }
    }
}
