//! Classic histograms: series with a label `le` put together, and what their buckets tell.

use std::collections::HashMap;
use std::sync::Arc;

use crate::base::float_text;
use crate::model::histogram::Histogram;
use crate::model::labels::Labels;
use crate::query::pace::Held;
use crate::query::promql::PromqlError;
use crate::query::promql::ast::Pos;
use crate::query::promql::run::Eval;
use crate::query::promql::stat;
use crate::query::promql::value::{CellRef, Vector};

/// The classic histogram of one set of labels at one step: (upper bound, cumulative count).
pub(super) type ClassicBuckets = Vec<(f64, f64)>;

/// What a series takes that is put together with others: at most a group of its own in two tables.
const CLASSIC_BYTES: usize =
    2 * size_of::<Classic>() + 2 * size_of::<(Labels, usize)>() + 2 * size_of::<(usize, f64)>();

/// A histogram of either kind at one step, and who it is.
pub(super) struct Classic {
    pub(super) labels: Labels,
    pub(super) name_dropped: bool,
    /// Series and their bounds.
    pub(super) members: Vec<(usize, f64)>,
    /// A native histogram of the same labels.
    native: Vec<usize>,
}

/// Puts series that make up one classic histogram together.
///
/// # Errors
/// What the budget says.
pub(super) fn collect(
    eval: &mut Eval<'_>,
    held: &Held<'_>,
    vector: &Vector,
    pos: Pos,
) -> Result<Vec<Classic>, PromqlError> {
    held.add(CLASSIC_BYTES * vector.len())?;
    let mut places: HashMap<Labels, usize> = HashMap::new();
    let mut all: Vec<Classic> = Vec::new();
    for (at, series) in vector.iter().enumerate() {
        eval.spend(2 * series.column.steps() + series.labels.bytes())?;
        held.add(series.labels.bytes())?;
        let steps = || (0..series.column.steps()).map(|step| series.column.get(step));
        let has_floats = steps().any(|cell| matches!(cell, CellRef::Float(_)));
        let has_native = steps().any(|cell| matches!(cell, CellRef::Histogram(_)));
        let mut place = |labels: Labels, name_dropped: bool| {
            *places.entry(labels.clone()).or_insert_with(|| {
                all.push(Classic { labels, name_dropped, members: Vec::new(), native: Vec::new() });
                all.len() - 1
            })
        };
        let native_place = has_native.then(|| place(series.labels.clone(), series.drop_name));
        let text = series.labels.value("le");
        let bound = text.parse::<f64>().ok().filter(|_| has_floats);
        let float_place = bound.map(|_| place(series.labels.without("le"), series.drop_name));
        if has_floats && bound.is_none() {
            let name = of_metric(series.labels.metric_name());
            eval.warn(pos, format!("bucket label \"le\" is missing or has a malformed value of {text:?}{name}"));
        }
        if let Some(group) = native_place.and_then(|place| all.get_mut(place)) {
            group.native.push(at);
        }
        if let (Some(group), Some(bound)) = (float_place.and_then(|place| all.get_mut(place)), bound) {
            group.members.push((at, bound));
        }
    }
    Ok(all)
}

impl Classic {
    pub(super) fn buckets(&self, vector: &Vector, step: usize) -> ClassicBuckets {
        let mut buckets: ClassicBuckets = Vec::with_capacity(self.members.len());
        for (at, bound) in &self.members {
            if let Some(CellRef::Float(count)) = vector.get(*at).map(|series| series.column.get(step)) {
                buckets.push((*bound, count));
            }
        }
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        buckets.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                kept.1 += later.1;
            }
            same
        });
        buckets
    }

    pub(super) fn native<'v>(&self, vector: &'v Vector, step: usize) -> Option<&'v Arc<Histogram>> {
        self.native.iter().find_map(|at| match vector.get(*at)?.column.get(step) {
            CellRef::Histogram(histogram) => Some(histogram),
            CellRef::None | CellRef::Float(_) => None,
        })
    }
}

/// Raises counts so that they never fall. What was more than rounding is noted.
pub(super) fn make_monotonic(buckets: &mut ClassicBuckets, time: i64, forced: &mut Forced) {
    let mut most = f64::NEG_INFINITY;
    let mut any = false;
    for (bound, count) in buckets.iter_mut() {
        if *count < most {
            if (most - *count) / most.abs().max(count.abs()) > 1e-12 {
                any = true;
                forced.bounds = (forced.bounds.0.min(*bound), forced.bounds.1.max(*bound));
                forced.most = forced.most.max(most - *count);
            }
            *count = most;
        } else if *count - most <= 1e-12 * count.abs().max(most.abs()) && most.is_finite() {
            *count = most;
        } else {
            most = *count;
        }
    }
    if any {
        forced.samples += 1;
        forced.times = (forced.times.0.min(time), forced.times.1.max(time));
    }
}

/// How the counts of classic histograms had to be raised so that they never fall.
pub(super) struct Forced {
    /// The least and the largest bound of a bucket whose count was raised.
    bounds: (f64, f64),
    /// The most by which one was raised.
    most: f64,
    /// How many histograms.
    pub(super) samples: usize,
    /// When the first and the last was.
    times: (i64, i64),
}

impl Forced {
    pub(super) const NONE: Self =
        Self { bounds: (f64::INFINITY, f64::NEG_INFINITY), most: 0.0, samples: 0, times: (i64::MAX, i64::MIN) };

    pub(super) fn add(&mut self, other: &Self) {
        self.bounds = (self.bounds.0.min(other.bounds.0), self.bounds.1.max(other.bounds.1));
        self.most = self.most.max(other.most);
        self.samples += other.samples;
        self.times = (self.times.0.min(other.times.0), self.times.1.max(other.times.1));
    }

    pub(super) fn says(&self, name: &str) -> String {
        let second = |ms: i64| {
            let time = chrono::DateTime::from_timestamp(ms.div_euclid(1_000), 0);
            time.map_or_else(String::new, |time| time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
        };
        format!(
            "input to histogram_quantile needed to be fixed for monotonicity (see \
             https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile){}, from buckets {} \
             to {}, with a max diff of {}, over {} samples from {} to {}",
            of_metric(name),
            stat::general(self.bounds.0),
            stat::general(self.bounds.1),
            float_text::text_to(self.most, 2),
            self.samples,
            second(self.times.0),
            second(self.times.1)
        )
    }
}

/// How a message names a metric, if it has a name.
fn of_metric(name: &str) -> String {
    if name.is_empty() { String::new() } else { format!(" for metric name {name:?}") }
}

pub(super) fn quantile(q: f64, buckets: &ClassicBuckets) -> f64 {
    if q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    let Some(((_, total), finite)) = buckets.split_last().filter(|(last, _)| last.0 == f64::INFINITY) else {
        return f64::NAN;
    };
    if finite.is_empty() || *total == 0.0 || total.is_nan() {
        return f64::NAN;
    }
    let rank = q * total;
    let place = finite.partition_point(|(_, count)| *count < rank);
    let Some((upper, count)) = finite.get(place) else { return finite.last().map_or(f64::NAN, |(bound, _)| *bound) };
    let (lower, before) = match place.checked_sub(1).and_then(|place| finite.get(place)) {
        Some((bound, count)) => (*bound, *count),
        None if *upper <= 0.0 => return *upper,
        None => (0.0, 0.0),
    };
    lower + (upper - lower) * (rank - before) / (count - before)
}

pub(super) fn fraction(lower: f64, upper: f64, buckets: &ClassicBuckets) -> f64 {
    if buckets.last().is_none_or(|last| last.0 != f64::INFINITY) || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    let total = buckets.last().map_or(0.0, |last| last.1);
    if total == 0.0 || total.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let rank = |value: f64, is_lower: bool| {
        let mut low = if buckets.first().is_some_and(|first| first.0 <= 0.0) { f64::NEG_INFINITY } else { 0.0 };
        let mut before = 0.0;
        for (bound, count) in buckets {
            if value >= *bound {
                (low, before) = (*bound, *count);
                continue;
            }
            if low == f64::NEG_INFINITY {
                // Nothing can be told of where in a bucket without lower bound observations lie.
                return if value > f64::NEG_INFINITY && is_lower { *count } else { before };
            }
            if value <= low || *bound == f64::INFINITY {
                return before;
            }
            return before + (count - before) * (value - low) / (bound - low);
        }
        total
    };
    (rank(upper, false) - rank(lower, true)) / total
}
