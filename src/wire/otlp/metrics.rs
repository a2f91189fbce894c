//! Metrics of OTLP to series of Prometheus: names and labels by `names.rs`, one series for a number,
//! `_bucket`, `_sum` and `_count` for a histogram, a native histogram for an exponential one, and
//! `target_info` for each resource. A bad data point is refused by itself. Points of delta
//! temporality become series that are marked as such; `ingest` sums them up. Points that count from
//! a start on say when that was.
//! Spec: <https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/>.

use std::collections::HashSet;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1 as otlp;
use opentelemetry_proto::tonic::metrics::v1::exemplar::Value as ExemplarValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as NumberValue;

use super::attrs::{flattened, id, text_bytes, time, to_text};
use super::exponential;
use super::names::{self, Suffix, label_pairs, metric_name};
use crate::model::batch::{MetricMetadata, MetricsBatch, SeriesBatch};
use crate::model::exemplar::Exemplar;
use crate::model::labels::{Labels, METRIC_NAME};
use crate::model::sample::{HistogramSample, STALE_NAN_BITS, Sample};
use crate::model::time::TimestampNs;
use crate::wire::Decoded;
use crate::wire::error::{WireError, cut};
use crate::wire::label_check::{Refusal, labels};
use crate::wire::limits::{Meter, Options};

/// Series, and which of them hold differences.
#[derive(Clone, Debug, Default)]
pub struct MetricsWithDeltas {
    /// The series.
    pub batch: MetricsBatch,
    /// Positions in it of series of delta temporality, ascending.
    pub deltas: Vec<usize>,
}

type Pairs = Vec<(String, String)>;

/// Makes a batch of a request.
pub(super) fn convert(
    request: ExportMetricsServiceRequest,
    options: &Options,
    meter: Meter,
) -> Result<Decoded<MetricsWithDeltas>, WireError> {
    let decoded = Decoded::default();
    let mut building = Building { options, meter, decoded, seen: HashSet::new(), target: Vec::new(), newest: None };
    for resource_metrics in request.resource_metrics {
        let attributes = resource_metrics.resource.map(|resource| resource.attributes).unwrap_or_default();
        building.target = target_labels(&attributes, &mut building.meter)?;
        building.newest = None;
        for metric in resource_metrics.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
            building.metric(metric)?;
        }
        building.target_info(&attributes)?;
    }
    Ok(building.decoded)
}

fn text_of(attributes: &[KeyValue], name: &str, meter: &mut Meter) -> Result<Option<String>, WireError> {
    let attribute = attributes.iter().find(|attribute| attribute.key == name);
    let Some(value) = attribute.and_then(|attribute| attribute.value.as_ref()) else { return Ok(None) };
    meter.take(text_bytes(value))?;
    Ok(Some(to_text(value)).filter(|text| !text.is_empty()))
}

/// `job` and `instance` of a resource.
fn target_labels(attributes: &[KeyValue], meter: &mut Meter) -> Result<Pairs, WireError> {
    let mut pairs = Pairs::new();
    if let Some(name) = text_of(attributes, "service.name", meter)? {
        let job = match text_of(attributes, "service.namespace", meter)? {
            Some(namespace) => format!("{namespace}/{name}"),
            None => name,
        };
        pairs.push(("job".to_owned(), job));
    }
    if let Some(instance) = text_of(attributes, "service.instance.id", meter)? {
        pairs.push(("instance".to_owned(), instance));
    }
    Ok(pairs)
}

/// One metric's name, and what its points are.
struct Family {
    name: String,
    is_delta: bool,
    /// Whether its points count from their start on.
    counts: bool,
}

/// One data point: its labels but the name, and its time in milliseconds.
struct Point {
    pairs: Pairs,
    t: i64,
    /// When counting began, milliseconds; 0 when that is not known or nothing is counted.
    start: i64,
    is_stale: bool,
}

struct Building<'a> {
    options: &'a Options,
    meter: Meter,
    decoded: Decoded<MetricsWithDeltas>,
    /// Families whose metadata is in the batch.
    seen: HashSet<String>,
    /// `job` and `instance` of the resource at hand.
    target: Pairs,
    /// The newest point of the resource at hand, milliseconds.
    newest: Option<i64>,
}

/// An error of the body, or the reason why one data point is not taken.
enum Stop {
    Body(WireError),
    Point(Refusal),
}

impl From<WireError> for Stop {
    fn from(error: WireError) -> Self {
        Self::Body(error)
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Point(refusal)
    }
}

const UNSPECIFIED: i32 = 0;
const DELTA: i32 = 1;
const CUMULATIVE: i32 = 2;

/// The flag of a point that says "nothing was recorded".
const NO_RECORDED_VALUE: u32 = 1;

fn ms(unix_nano: u64) -> i64 {
    TimestampNs(time(unix_nano)).floor_ms().0
}

fn stale() -> f64 {
    f64::from_bits(STALE_NAN_BITS)
}

impl Building<'_> {
    fn metric(&mut self, metric: otlp::Metric) -> Result<(), WireError> {
        let Some(data) = metric.data else { return Ok(()) };
        let (suffix, kind, temporality, points) = describe(&data);
        // Asked before a name is made of it: that takes sixteen times as much for a moment.
        let sent = metric.name.len().max(metric.unit.len());
        if sent > self.options.label_value_bytes_max {
            let text = format!("the name or unit of metric {:?} has {sent} bytes", cut(&metric.name));
            Refusal::new("label_too_long", text).count(&mut self.decoded.rejected, points as u64);
            return Ok(());
        }
        let name = metric_name(&metric.name, &metric.unit, suffix);
        let refusal = match () {
            () if name.len() > self.options.label_value_bytes_max => {
                let text = format!("the name of metric {:?} has {} bytes", cut(&name), name.len());
                Some(Refusal::new("label_too_long", text))
            }
            () if name.is_empty() => {
                Some(Refusal::new("missing_metric_name", format!("metric {:?} has no legal name", cut(&metric.name))))
            }
            () if temporality == Some(UNSPECIFIED) => {
                Some(Refusal::new("no_temporality", format!("metric {:?} has no aggregation temporality", cut(&name))))
            }
            () => None,
        };
        if let Some(refusal) = refusal {
            refusal.count(&mut self.decoded.rejected, points as u64);
            return Ok(());
        }
        self.metadata(&name, kind, metric.description, &metric.unit)?;
        let (is_delta, counts) = (temporality == Some(DELTA), temporality == Some(CUMULATIVE) && kind != "gauge");
        let family = Family { name, is_delta, counts: counts || kind == "summary" };
        match data {
            Data::Gauge(gauge) => self.points(gauge.data_points, |own, point| own.number(&family, point)),
            Data::Sum(sum) => self.points(sum.data_points, |own, point| own.number(&family, point)),
            Data::Histogram(histogram) => {
                self.points(histogram.data_points, |own, point| own.histogram(&family, point))
            }
            Data::ExponentialHistogram(histogram) => {
                self.points(histogram.data_points, |own, point| own.exponential(&family, &point))
            }
            Data::Summary(summary) => self.points(summary.data_points, |own, point| own.summary(&family, &point)),
        }
    }

    fn points<P>(
        &mut self,
        points: Vec<P>,
        mut convert: impl FnMut(&mut Self, P) -> Result<(), Stop>,
    ) -> Result<(), WireError> {
        for point in points {
            let (series, deltas) = (self.decoded.batch.batch.series.len(), self.decoded.batch.deltas.len());
            match convert(self, point) {
                Ok(()) => {}
                Err(Stop::Body(error)) => return Err(error),
                Err(Stop::Point(refusal)) => {
                    // A refused point leaves none of its series behind.
                    self.decoded.batch.batch.series.truncate(series);
                    self.decoded.batch.deltas.truncate(deltas);
                    refusal.count(&mut self.decoded.rejected, 1);
                }
            }
        }
        Ok(())
    }

    fn metadata(&mut self, name: &str, kind: &str, help: String, unit: &str) -> Result<(), WireError> {
        if self.seen.contains(name) {
            return Ok(());
        }
        self.meter.take(size_of::<MetricMetadata>() + 2 * name.len() + 96)?;
        self.seen.insert(name.to_owned());
        let (name, kind, unit) = (name.to_owned(), kind.to_owned(), names::unit(unit));
        self.decoded.batch.batch.metadata.push(MetricMetadata { name, kind, help, unit });
        Ok(())
    }

    fn point(
        &mut self,
        attributes: &[KeyValue],
        (start_nano, unix_nano): (u64, u64),
        family: &Family,
        flags: u32,
    ) -> Result<Point, Stop> {
        let t = ms(unix_nano);
        self.newest = self.newest.max(Some(t));
        let pairs = self.pairs(attributes)?;
        let start = if family.counts { ms(start_nano) } else { 0 };
        Ok(Point { pairs, t, start, is_stale: flags & NO_RECORDED_VALUE != 0 })
    }

    /// Label pairs of attributes, those of the target and what would be a name left out.
    fn pairs<'a>(&mut self, attributes: impl IntoIterator<Item = &'a KeyValue>) -> Result<Pairs, Stop> {
        let pairs = flattened(attributes, &mut self.meter)?;
        if pairs.len() > self.options.attributes_max {
            let text = format!("{} attributes, over the limit of {}", pairs.len(), self.options.attributes_max);
            return Err(Refusal::new("too_many_attributes", text).into());
        }
        let mut pairs = label_pairs(pairs);
        pairs.retain(|(name, _)| name != METRIC_NAME && !self.target.iter().any(|(own, _)| own == name));
        Ok(pairs)
    }

    /// The label set of a point's series. `extra` is ours, and wins over an attribute of its name.
    fn labels(&mut self, name: &str, point: &Point, extra: Option<(&str, &str)>) -> Result<Labels, Stop> {
        let pairs = point.pairs.iter().chain(&self.target).map(|(name, value)| (name.as_str(), value.as_str()));
        let pairs = pairs.filter(|(name, _)| extra.is_none_or(|(own, _)| own != *name));
        let pairs: Vec<(&str, &str)> = pairs.chain([(METRIC_NAME, name)]).chain(extra).collect();
        Ok(labels(&pairs, self.options, &mut self.meter)??)
    }

    fn push(&mut self, series: SeriesBatch, is_delta: bool) -> Result<(), Stop> {
        self.meter.take(size_of::<SeriesBatch>() + size_of::<(Sample, i64)>())?;
        if is_delta {
            self.decoded.batch.deltas.push(self.decoded.batch.batch.series.len());
        }
        self.decoded.batch.batch.series.push(series);
        Ok(())
    }

    /// Adds a series of one sample.
    fn sample(
        &mut self,
        family: (&str, bool),
        point: &Point,
        extra: Option<(&str, &str)>,
        value: f64,
        exemplars: Vec<Exemplar>,
    ) -> Result<(), Stop> {
        let (name, is_delta) = family;
        let labels = self.labels(name, point, extra)?;
        let value = if point.is_stale { stale() } else { value };
        let samples = vec![Sample { t: point.t, value }];
        let starts = if point.start == 0 { Vec::new() } else { vec![point.start] };
        self.push(SeriesBatch { labels, samples, starts, exemplars, ..SeriesBatch::default() }, is_delta)
    }

    fn number(&mut self, family: &Family, sent: otlp::NumberDataPoint) -> Result<(), Stop> {
        let point =
            self.point(&sent.attributes, (sent.start_time_unix_nano, sent.time_unix_nano), family, sent.flags)?;
        let value = match sent.value {
            Some(NumberValue::AsDouble(value)) => value,
            Some(NumberValue::AsInt(value)) => value as f64,
            None if point.is_stale => 0.0,
            None => {
                return Err(Refusal::new("no_value", format!("a point of {:?} has no value", cut(&family.name))).into());
            }
        };
        let exemplars = self.exemplars(&sent.exemplars)?;
        self.sample((&family.name, family.is_delta), &point, None, value, exemplars)
    }

    fn histogram(&mut self, family: &Family, sent: otlp::HistogramDataPoint) -> Result<(), Stop> {
        let point =
            self.point(&sent.attributes, (sent.start_time_unix_nano, sent.time_unix_nano), family, sent.flags)?;
        let (bounds, counts) = (&sent.explicit_bounds, &sent.bucket_counts);
        let ascending = bounds.windows(2).all(|two| matches!(two, [a, b] if a < b));
        if (!counts.is_empty() && counts.len() != bounds.len() + 1) || !ascending || bounds.iter().any(|b| b.is_nan()) {
            let text = format!("{} bounds and {} buckets do not go together", bounds.len(), counts.len());
            return Err(Refusal::new("invalid_histogram", text).into());
        }
        let mut exemplars = self.exemplars(&sent.exemplars)?;
        exemplars.sort_by(|a, b| a.value.total_cmp(&b.value));
        let mut exemplars = exemplars.into_iter().peekable();
        let bucket = format!("{}_bucket", family.name);
        let mut below = 0u64;
        for (at, bound) in bounds.iter().enumerate().filter(|(_, bound)| bound.is_finite()) {
            below = below.saturating_add(counts.get(at).copied().unwrap_or_default());
            let own = std::iter::from_fn(|| exemplars.next_if(|exemplar| exemplar.value <= *bound)).collect();
            let extra = Some(("le", bound.to_string()));
            let extra = extra.as_ref().map(|(name, value)| (*name, value.as_str()));
            self.sample((&bucket, family.is_delta), &point, extra, below as f64, own)?;
        }
        let count = sent.count as f64;
        let rest = exemplars.collect();
        self.sample((&bucket, family.is_delta), &point, Some(("le", "+Inf")), count, rest)?;
        self.sum_and_count(family, &point, sent.sum, count)
    }

    fn sum_and_count(&mut self, family: &Family, point: &Point, sum: Option<f64>, count: f64) -> Result<(), Stop> {
        if let Some(sum) = sum.or(point.is_stale.then_some(0.0)) {
            self.sample((&format!("{}_sum", family.name), family.is_delta), point, None, sum, Vec::new())?;
        }
        self.sample((&format!("{}_count", family.name), family.is_delta), point, None, count, Vec::new())
    }

    fn exponential(&mut self, family: &Family, sent: &otlp::ExponentialHistogramDataPoint) -> Result<(), Stop> {
        let point =
            self.point(&sent.attributes, (sent.start_time_unix_nano, sent.time_unix_nano), family, sent.flags)?;
        let buckets = [&sent.positive, &sent.negative].into_iter().flatten().map(|side| side.bucket_counts.len());
        self.meter.take(256 + 16 * buckets.sum::<usize>())?;
        let histogram = if point.is_stale { exponential::stale() } else { exponential::convert(sent, self.options)? };
        let labels = self.labels(&family.name, &point, None)?;
        let exemplars = self.exemplars(&sent.exemplars)?;
        let histograms = vec![HistogramSample { t: point.t, start: point.start, histogram }];
        self.push(SeriesBatch { labels, histograms, exemplars, ..SeriesBatch::default() }, family.is_delta)
    }

    fn summary(&mut self, family: &Family, sent: &otlp::SummaryDataPoint) -> Result<(), Stop> {
        let point =
            self.point(&sent.attributes, (sent.start_time_unix_nano, sent.time_unix_nano), family, sent.flags)?;
        let quantiles = Point { pairs: point.pairs.clone(), start: 0, ..point };
        for quantile in &sent.quantile_values {
            let text = quantile.quantile.to_string();
            let extra = Some(("quantile", text.as_str()));
            self.sample((&family.name, false), &quantiles, extra, quantile.value, Vec::new())?;
        }
        self.sum_and_count(family, &point, Some(sent.sum), sent.count as f64)
    }

    /// Exemplars that make sense; the others are left out without a word, they are no data points.
    fn exemplars(&mut self, sent: &[otlp::Exemplar]) -> Result<Vec<Exemplar>, WireError> {
        let mut exemplars = Vec::new();
        for exemplar in sent {
            let mut pairs = match self.pairs(&exemplar.filtered_attributes) {
                Ok(pairs) => pairs,
                Err(Stop::Point(_)) => continue,
                Err(Stop::Body(error)) => return Err(error),
            };
            pairs.retain(|(name, _)| name != "trace_id" && name != "span_id");
            pairs.push(("trace_id".to_owned(), id::<16>(&exemplar.trace_id)));
            pairs.push(("span_id".to_owned(), id::<8>(&exemplar.span_id)));
            let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let value = match exemplar.value {
                Some(ExemplarValue::AsDouble(value)) => value,
                Some(ExemplarValue::AsInt(value)) => value as f64,
                None => continue,
            };
            if let Ok(labels) = labels(&pairs, self.options, &mut self.meter)? {
                exemplars.push(Exemplar { labels, value, t: ms(exemplar.time_unix_nano) });
            }
        }
        Ok(exemplars)
    }

    /// Adds what is known of the resource besides its identity, at its newest point.
    fn target_info(&mut self, attributes: &[KeyValue]) -> Result<(), WireError> {
        const IDENTITY: [&str; 3] = ["service.name", "service.namespace", "service.instance.id"];
        let Some(newest) = self.newest.filter(|_| !self.target.is_empty()) else { return Ok(()) };
        let others = attributes.iter().filter(|attribute| !IDENTITY.contains(&attribute.key.as_str()));
        let mut others = others.peekable();
        if others.peek().is_none() {
            return Ok(());
        }
        let added = self.pairs(others).and_then(|pairs| {
            let point = Point { pairs, t: newest, start: 0, is_stale: false };
            self.sample(("target_info", false), &point, None, 1.0, Vec::new())
        });
        match added {
            Ok(()) => self.metadata("target_info", "gauge", "Target metadata".to_owned(), ""),
            Err(Stop::Body(error)) => Err(error),
            Err(Stop::Point(refusal)) => {
                refusal.count(&mut self.decoded.rejected, 1);
                Ok(())
            }
        }
    }
}

/// Of a metric's data: the suffix of its name, its Prometheus type, its temporality where it has
/// one, and how many points it has.
fn describe(data: &Data) -> (Suffix, &'static str, Option<i32>, usize) {
    match data {
        Data::Gauge(gauge) => (Suffix::Gauge, "gauge", None, gauge.data_points.len()),
        Data::Sum(sum) if sum.is_monotonic => {
            (Suffix::Total, "counter", Some(sum.aggregation_temporality), sum.data_points.len())
        }
        Data::Sum(sum) => (Suffix::None, "gauge", Some(sum.aggregation_temporality), sum.data_points.len()),
        Data::Histogram(histogram) => {
            (Suffix::None, "histogram", Some(histogram.aggregation_temporality), histogram.data_points.len())
        }
        Data::ExponentialHistogram(histogram) => {
            (Suffix::None, "histogram", Some(histogram.aggregation_temporality), histogram.data_points.len())
        }
        Data::Summary(summary) => (Suffix::None, "summary", None, summary.data_points.len()),
    }
}
