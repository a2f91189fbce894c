//! Series of a metrics query while they are counted. Distributions are kept in buckets whose upper
//! bounds are powers of two, as quantiles and histograms show them.

use std::collections::{BTreeMap, HashMap};

use ahash::RandomState;

use super::ast::{Field, Intrinsic, Metric, MetricFunction};
use super::error::QueryError;
use super::eval::Around;
use super::grid::{Grid, MetricExemplar, MetricSeries};
use super::key;
use super::value::Value;
use crate::base::limits::QueryBudget;
use crate::model::span::{AttrValue, Attrs, TraceId, attrs_bytes};
use crate::query::pace::Pace;

/// Memory of a series beside its samples, in bytes.
const SERIES_BYTES: usize = 512;
/// Memory of a sample of the answer: as computed, as shown, and as text; in bytes.
const SHOWN_SAMPLE_BYTES: usize = 48;
/// Most exemplars of all series together, as a multiple of those asked for.
const EXEMPLARS_FACTOR: usize = 10;

/// Counts spans into series.
pub(super) struct SeriesSink<'a> {
    grid: Grid,
    metric: &'a Metric,
    /// What values are multiplied by to be shown: durations in seconds.
    scale: f64,
    /// Where the series of a key is.
    places: HashMap<Vec<u8>, usize, RandomState>,
    series: Vec<Counting>,
    /// Reused for the key of each span.
    key: Vec<u8>,
    exemplars: usize,
    exemplars_taken: usize,
}

struct Counting {
    labels: Attrs,
    numbers: Numbers,
    /// Exemplars by the part of the range they lie in, each with its sample.
    exemplars: BTreeMap<usize, (Taken, usize)>,
}

struct Taken {
    trace_id: TraceId,
    t: i64,
    /// Its own value as shown; `None` shows it at the height of its sample.
    value: Option<f64>,
    /// The bucket of its value.
    bucket: i32,
}

enum Numbers {
    /// Spans per sample.
    Counts(Vec<f64>),
    /// A folded value per sample, and of how many spans.
    Folded(Vec<(f64, u32)>),
    /// Spans per bucket and sample; a bucket is the exponent of its upper bound.
    Buckets(BTreeMap<i32, Vec<u32>>),
}

impl<'a> SeriesSink<'a> {
    pub(super) fn new(grid: Grid, metric: &'a Metric, exemplars: usize) -> Self {
        let scale = if metric.function.field().is_some_and(is_duration) { 1e-9 } else { 1.0 };
        Self {
            grid,
            metric,
            scale,
            places: HashMap::default(),
            series: Vec::new(),
            key: Vec::new(),
            exemplars,
            exemplars_taken: 0,
        }
    }

    pub(super) fn add(&mut self, around: Around<'_>, at: usize, budget: &QueryBudget) -> Result<(), QueryError> {
        let value = match self.metric.function.field() {
            None => None,
            // A span without the value is left out; the others count.
            Some(field) => match number(&around.field(field)) {
                Some(number) => Some(number),
                None => return Ok(()),
            },
        };
        self.key.clear();
        for field in &self.metric.by {
            key::push(&mut self.key, &around.field(field));
        }
        let place = match self.places.get(&self.key) {
            Some(place) => *place,
            None => self.open(around, budget)?,
        };
        let Some(series) = self.series.get_mut(place) else { return Ok(()) };
        series.add(&self.metric.function, at, value, self.grid.count, budget)?;
        if self.exemplars > 0 && self.exemplars_taken < self.exemplars * EXEMPLARS_FACTOR {
            let slot = at * self.exemplars / self.grid.count.max(1);
            let t = around.span.start.div_euclid(1_000_000);
            let bucket = bucket_of(value.unwrap_or_default());
            let value = value.map(|value| value * self.scale);
            let taken = Taken { trace_id: around.span.trace_id, t, value, bucket };
            let entry = series.exemplars.entry(slot);
            if let std::collections::btree_map::Entry::Vacant(vacant) = entry {
                vacant.insert((taken, at));
                self.exemplars_taken += 1;
            }
        }
        Ok(())
    }

    /// A new series of the key; says where it is.
    fn open(&mut self, around: Around<'_>, budget: &QueryBudget) -> Result<usize, QueryError> {
        let names: usize = self.metric.by.iter().map(|field| field.text.len() + SERIES_BYTES / 4).sum();
        budget.charge(SERIES_BYTES + names + 3 * self.key.len() + 16 * self.grid.count)?;
        let label = |field: &Field| {
            let value = around.field(field).to_attr().unwrap_or_else(|| AttrValue::Str("nil".to_owned()));
            (field.text.clone(), value)
        };
        let labels = self.metric.by.iter().map(label).collect();
        let place = self.series.len();
        self.series.push(Counting::new(labels, &self.metric.function, self.grid.count));
        self.places.insert(self.key.clone(), place);
        Ok(place)
    }

    pub(super) fn finish(self, pace: &Pace<'_>) -> Result<Vec<MetricSeries>, QueryError> {
        let function = &self.metric.function;
        let mut keys: Vec<_> = self.places.into_iter().collect();
        pace.sort(&mut keys, |a, b| a.0.cmp(&b.0))?;
        let mut counted: Vec<_> = self.series.into_iter().map(Some).collect();
        let in_order = |(_, place): (_, usize)| counted.get_mut(place).and_then(Option::take);
        let mut series: Vec<_> = keys.into_iter().filter_map(in_order).collect();
        let dense = matches!(function, MetricFunction::Rate | MetricFunction::Count);
        if dense && series.is_empty() && self.metric.by.is_empty() {
            series.push(Counting::new(Vec::new(), function, self.grid.count));
        }
        let mut shown = Vec::with_capacity(series.len());
        for own in series {
            let each = self.grid.count.saturating_mul(SHOWN_SAMPLE_BYTES) + attrs_bytes(&own.labels) + SERIES_BYTES;
            pace.budget().charge(own.series_shown(function).saturating_mul(each))?;
            pace.go(64 + 16 * self.grid.count)?;
            shown.extend(own.finish(function, self.grid, self.scale, pace)?);
        }
        Ok(shown)
    }
}

impl Counting {
    fn new(labels: Attrs, function: &MetricFunction, count: usize) -> Self {
        let numbers = match function {
            MetricFunction::Rate | MetricFunction::Count | MetricFunction::Compare { .. } => {
                Numbers::Counts(vec![0.0; count])
            }
            MetricFunction::Min(_) | MetricFunction::Max(_) | MetricFunction::Avg(_) | MetricFunction::Sum(_) => {
                Numbers::Folded(vec![(0.0, 0); count])
            }
            MetricFunction::Quantile(..) | MetricFunction::Histogram(_) => Numbers::Buckets(BTreeMap::new()),
        };
        Self { labels, numbers, exemplars: BTreeMap::new() }
    }

    fn add(
        &mut self,
        function: &MetricFunction,
        at: usize,
        value: Option<f64>,
        count: usize,
        budget: &QueryBudget,
    ) -> Result<(), QueryError> {
        let value = value.unwrap_or_default();
        match &mut self.numbers {
            Numbers::Counts(counts) => counts[at] += 1.0,
            Numbers::Folded(folded) => {
                let (own, spans) = &mut folded[at];
                *own = match function {
                    _ if *spans == 0 => value,
                    MetricFunction::Min(_) => own.min(value),
                    MetricFunction::Max(_) => own.max(value),
                    _ => *own + value,
                };
                *spans = spans.saturating_add(1);
            }
            Numbers::Buckets(buckets) => {
                let bucket = bucket_of(value);
                if let Some(counts) = buckets.get_mut(&bucket) {
                    counts[at] += 1;
                    return Ok(());
                }
                budget.charge(SERIES_BYTES + 4 * count)?;
                buckets.entry(bucket).or_insert_with(|| vec![0; count])[at] += 1;
            }
        }
        Ok(())
    }

    /// How many series the answer shows for this one.
    fn series_shown(&self, function: &MetricFunction) -> usize {
        match (&self.numbers, function) {
            (Numbers::Counts(_) | Numbers::Folded(_), _) => 1,
            (Numbers::Buckets(_), MetricFunction::Quantile(_, quantiles)) => quantiles.len(),
            (Numbers::Buckets(buckets), _) => buckets.len(),
        }
    }

    fn finish(
        self,
        function: &MetricFunction,
        grid: Grid,
        scale: f64,
        pace: &Pace<'_>,
    ) -> Result<Vec<MetricSeries>, QueryError> {
        let named = if self.labels.is_empty() {
            vec![("__name__".to_owned(), AttrValue::Str(function.name().to_owned()))]
        } else {
            self.labels.clone()
        };
        let exemplars = self.exemplars.into_values().collect::<Vec<_>>();
        Ok(match (self.numbers, function) {
            (Numbers::Counts(counts), _) => {
                let unit = if matches!(function, MetricFunction::Rate) { grid.step as f64 / 1e9 } else { 1.0 };
                let values: Vec<_> = counts.into_iter().map(|count| Some(count / unit)).collect();
                vec![shown(named, &values, grid, exemplars.iter())]
            }
            (Numbers::Folded(folded), _) => {
                let average = matches!(function, MetricFunction::Avg(_));
                let value = |(value, spans): (f64, u32)| {
                    let value = if average { value / f64::from(spans) } else { value };
                    (spans > 0).then_some(value * scale)
                };
                let values: Vec<_> = folded.into_iter().map(value).collect();
                vec![shown(named, &values, grid, exemplars.iter())]
            }
            (Numbers::Buckets(buckets), MetricFunction::Quantile(_, quantiles)) => {
                quantile_series(&self.labels, &buckets, quantiles, grid, scale, &exemplars, pace)?
            }
            (Numbers::Buckets(buckets), _) => {
                let one = |(bucket, counts): (i32, Vec<u32>)| {
                    pace.go(64 + 16 * counts.len())?;
                    let label = ("__bucket".to_owned(), AttrValue::Double(bound_of(bucket) * scale));
                    let labels = self.labels.iter().cloned().chain([label]).collect();
                    let values: Vec<_> = counts.into_iter().map(|count| Some(f64::from(count))).collect();
                    let own = exemplars.iter().filter(|(taken, _)| taken.bucket == bucket);
                    let counted = own.map(|(taken, at)| (Taken { value: None, ..*taken }, *at));
                    Ok(shown(labels, &values, grid, counted.collect::<Vec<_>>().iter()))
                };
                buckets.into_iter().map(one).collect::<Result<_, QueryError>>()?
            }
        })
    }
}

fn quantile_series(
    labels: &Attrs,
    buckets: &BTreeMap<i32, Vec<u32>>,
    quantiles: &[f64],
    grid: Grid,
    scale: f64,
    exemplars: &[(Taken, usize)],
    pace: &Pace<'_>,
) -> Result<Vec<MetricSeries>, QueryError> {
    let cost = 32 * (1 + buckets.len());
    let at_sample = |at: usize, quantile: f64| quantile_of(buckets, at, quantile).unwrap_or_default() * scale;
    // An exemplar goes with the quantile that it is nearest to.
    let nearest = |taken: &Taken, at: usize| {
        let distance = |quantile: &f64| (at_sample(at, *quantile) - taken.value.unwrap_or_default()).abs();
        let best = quantiles.iter().enumerate().min_by(|a, b| distance(a.1).total_cmp(&distance(b.1)));
        best.map(|(place, _)| place)
    };
    let mut places = Vec::with_capacity(exemplars.len());
    for (taken, at) in exemplars {
        pace.go(cost * quantiles.len())?;
        places.push(nearest(taken, *at));
    }
    let one = |(place, quantile): (usize, &f64)| {
        let label = ("p".to_owned(), AttrValue::Double(*quantile));
        let labels = labels.iter().cloned().chain([label]).collect();
        let mut values = Vec::with_capacity(grid.count);
        for at in 0..grid.count {
            pace.go(cost)?;
            values.push(Some(at_sample(at, *quantile)));
        }
        let near = exemplars.iter().zip(&places).filter(|(_, nearest)| **nearest == Some(place));
        Ok(shown(labels, &values, grid, near.map(|(exemplar, _)| exemplar)))
    };
    quantiles.iter().enumerate().map(one).collect()
}

fn shown<'a>(
    labels: Attrs,
    values: &[Option<f64>],
    grid: Grid,
    exemplars: impl Iterator<Item = &'a (Taken, usize)>,
) -> MetricSeries {
    let samples = values.iter().enumerate().filter_map(|(at, value)| Some((grid.time_ms(at), (*value)?)));
    let exemplar = |(taken, at): &(Taken, usize)| {
        let value = taken.value.or_else(|| values.get(*at).copied().flatten())?;
        Some(MetricExemplar { trace_id: taken.trace_id, t: taken.t, value })
    };
    MetricSeries { labels, samples: samples.collect(), exemplars: exemplars.filter_map(exemplar).collect() }
}

/// The value within the bucket where the quantile falls, interpolated exponentially.
fn quantile_of(buckets: &BTreeMap<i32, Vec<u32>>, at: usize, quantile: f64) -> Option<f64> {
    let count = |counts: &Vec<u32>| f64::from(counts.get(at).copied().unwrap_or_default());
    let total: f64 = buckets.values().map(count).sum();
    let wanted = total * quantile;
    let mut before = 0.0;
    let mut last = None;
    for (bucket, counts) in buckets {
        let here = count(counts);
        if here == 0.0 {
            continue;
        }
        last = Some(bound_of(*bucket));
        if before + here >= wanted {
            let part = (wanted - before) / here;
            return Some(if *bucket == ZERO { 0.0 } else { bound_of(*bucket) / 2.0 * part.exp2() });
        }
        before += here;
    }
    last
}

/// The bucket of values that are not above 0.
const ZERO: i32 = i32::MIN;

fn bucket_of(value: f64) -> i32 {
    if value > 0.0 { value.log2().ceil() as i32 } else { ZERO }
}

/// The upper bound of a bucket.
fn bound_of(bucket: i32) -> f64 {
    if bucket == ZERO { 0.0 } else { f64::from(bucket).exp2() }
}

fn number(value: &Value<'_>) -> Option<f64> {
    value.number().or_else(|| value.elements()?.iter().find_map(Value::number)).filter(|number| number.is_finite())
}

fn is_duration(field: &Field) -> bool {
    matches!(field.intrinsic(), Some(Intrinsic::Duration | Intrinsic::TraceDuration | Intrinsic::EventTimeSinceStart))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_second_reads_up_to_the_next_power_of_two() {
        let buckets = BTreeMap::from([(bucket_of(1e9), vec![1])]);
        let top = quantile_of(&buckets, 0, 1.0).unwrap() * 1e-9;
        assert!((top - 1.073_741_824).abs() < 1e-9, "{top}");
        let bottom = quantile_of(&buckets, 0, 0.0).unwrap() * 1e-9;
        assert!((bottom - 0.536_870_912).abs() < 1e-9, "{bottom}");
        assert_eq!(quantile_of(&BTreeMap::new(), 0, 0.5), None);
    }
}
