//! Which items are let in: times neither too far ahead nor beyond retention, lines not too long.
//! Times are checked here because one sample years ahead can make a store refuse the present, and
//! because what is past the retention of its own series would be acknowledged and never seen.

use std::sync::Arc;
use std::time::Duration;

use super::{Options, service};
use crate::model::batch::{Example, LogsBatch, MetricsBatch, Rejections, SeriesBatch, Signal, TracesBatch};
use crate::model::labels::Labels;
use crate::model::log::ARRIVAL;
use crate::model::raw::{self, ParseLabels, RawMetrics};
use crate::model::sample::retain;
use crate::store::metrics::keep::Retention;

/// The times that are let in, nanoseconds since the Unix epoch.
#[derive(Clone, Debug)]
pub(super) struct Window {
    now: i64,
    oldest: i64,
    newest: i64,
    line_bytes_max: usize,
    /// Where series differ in how long they are kept.
    by_series: Option<BySeries>,
}

/// How long the samples of which series are kept.
#[derive(Clone, Debug)]
struct BySeries {
    retention: Arc<Retention>,
    now_ms: i64,
    /// Samples from here on are kept of every series, milliseconds since the Unix epoch.
    surely_kept: i64,
}

impl BySeries {
    fn new(retention: &Arc<Retention>, now_ns: i64) -> Option<Self> {
        let now_ms = now_ns.div_euclid(1_000_000);
        let shortest = retention.shortest().filter(|shortest| Some(*shortest) != retention.longest())?;
        let surely_kept = now_ms.saturating_sub(i64::try_from(shortest.as_millis()).unwrap_or(i64::MAX));
        Some(Self { retention: retention.clone(), now_ms, surely_kept })
    }
}

/// Past its retention.
const TOO_OLD: &str = "too_old";

/// Milliseconds that nanoseconds in 64 bits can hold: 1677 to 2262.
const MS_MAX: i64 = i64::MAX / 1_000_000;

fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

impl Window {
    /// Of items from what lies too far ahead of `now_ns` to what is past its retention at `kept_now_ns`.
    pub(super) fn new(options: &Options, signal: Signal, now_ns: i64, kept_now_ns: i64) -> Self {
        let oldest = options.retention(signal).map_or(i64::MIN, |kept| kept_now_ns.saturating_sub(nanoseconds(kept)));
        let newest = now_ns.saturating_add(nanoseconds(options.future_max));
        let by_series = match signal {
            Signal::Metrics => BySeries::new(&options.retention_metrics, kept_now_ns),
            Signal::Logs | Signal::Traces => None,
        };
        Self { now: now_ns, oldest, newest, line_bytes_max: options.line_bytes_max, by_series }
    }

    /// Whether a sample, in milliseconds, may be past the retention of its series though others are kept.
    fn asks_series(&self, t: i64) -> bool {
        self.by_series.as_ref().is_some_and(|own| t < own.surely_kept)
    }

    /// The first time of a series that is let in, milliseconds since the Unix epoch.
    fn start_of(&self, labels: &Labels) -> i64 {
        self.by_series.as_ref().map_or(i64::MIN, |own| own.retention.start(labels, own.now_ms))
    }

    /// The reason to refuse a time in nanoseconds.
    fn refuse_ns(&self, t: i64) -> Option<&'static str> {
        match () {
            () if t > self.newest => Some("too_far_in_future"),
            () if t < self.oldest => Some(TOO_OLD),
            () => None,
        }
    }

    /// The reason to refuse a time in milliseconds.
    fn refuse_ms(&self, t: i64) -> Option<&'static str> {
        match t.checked_mul(1_000_000) {
            Some(ns) => self.refuse_ns(ns),
            None if t > MS_MAX => Some("too_far_in_future"),
            None if self.oldest > i64::MIN => Some(TOO_OLD),
            None => Some("out_of_range"),
        }
    }
}

/// A label set for an error message: cut, because a hostile one has megabytes.
fn shown(labels: &Labels) -> String {
    labels.to_string().chars().take(200).collect()
}

/// Whether a series has anything to store.
pub(super) fn holds_something(series: &SeriesBatch) -> bool {
    !(series.samples.is_empty() && series.histograms.is_empty() && series.exemplars.is_empty())
}

/// Takes samples and exemplars outside the window out of the batch. Series stay, also empty ones:
/// their positions are names.
pub(super) fn metrics(batch: &mut MetricsBatch, window: &Window, rejected: &mut Rejections) {
    for series in &mut batch.series {
        let SeriesBatch { labels, samples, starts, histograms, exemplars } = series;
        let mut start = None;
        let mut admit = |t: i64| match window.refuse_ms(t).or_else(|| {
            let is_old = window.asks_series(t) && t < *start.get_or_insert_with(|| window.start_of(labels));
            is_old.then_some(TOO_OLD)
        }) {
            None => true,
            Some(reason) => {
                rejected.add(reason, 1, || {
                    Example::of(labels.metric_name(), format!("sample of {} at {t} ms", shown(labels)))
                });
                false
            }
        };
        retain(samples, starts, |sample| admit(sample.t));
        histograms.retain(|sample| admit(sample.t));
        // Exemplars are no data of their own: one without its sample is left out without a word.
        exemplars.retain(|exemplar| window.refuse_ms(exemplar.t).is_none());
    }
}

/// Takes samples outside the window out of a request whose labels have not been read.
pub(super) fn raw(batch: &mut RawMetrics<'_>, parse: &ParseLabels<'_>, window: &Window, rejected: &mut Rejections) {
    let (min, max) = batch.times.iter().fold((i64::MAX, i64::MIN), |(min, max), t| (min.min(*t), max.max(*t)));
    let all_let_in = window.refuse_ms(min).is_none() && window.refuse_ms(max).is_none() && !window.asks_series(min);
    if batch.times.is_empty() || all_let_in {
        return;
    }
    let mut kept = Vec::with_capacity(batch.times.len());
    for (labels, rows) in batch.iter() {
        let times = batch.times.get(rows).unwrap_or_default();
        // Labels that cannot be read are the store's to refuse.
        let start = if times.iter().any(|t| window.asks_series(*t)) {
            parse(labels).map_or(i64::MIN, |labels| window.start_of(&labels))
        } else {
            i64::MIN
        };
        for t in times {
            let reason = window.refuse_ms(*t).or_else(|| (*t < start).then_some(TOO_OLD));
            kept.push(reason.is_none());
            if let Some(reason) = reason {
                rejected.add(reason, 1, || {
                    let shown = parse(labels).map_or_else(|(_, text)| text, |labels| shown(&labels));
                    Example::of(raw::metric_name(labels), format!("sample of {shown} at {t} ms"))
                });
            }
        }
    }
    let (mut next, mut rows_end) = (0, 0);
    for own in &mut batch.series {
        let end = own.rows_end as usize;
        rows_end += kept.get(next..end).unwrap_or_default().iter().filter(|kept| **kept).count() as u32;
        (own.rows_end, next) = (rows_end, end);
    }
    keep(&mut batch.times, &kept);
    keep(&mut batch.values, &kept);
    keep(&mut batch.starts, &kept);
}

fn keep<T>(column: &mut Vec<T>, kept: &[bool]) {
    let mut kept = kept.iter();
    column.retain(|_| kept.next() == Some(&true));
}

/// Takes lines that are too long or outside the window out of the batch. Those without a time get the
/// present one.
pub(super) fn logs(batch: &mut LogsBatch, window: &Window, rejected: &mut Rejections) {
    for stream in &mut batch.streams {
        let labels = &stream.labels;
        stream.entries.iter_mut().filter(|entry| entry.t == ARRIVAL).for_each(|entry| entry.t = window.now);
        stream.entries.retain(|entry| {
            let bytes = entry.line.len();
            if bytes > window.line_bytes_max {
                let limit = window.line_bytes_max;
                rejected.add("line_too_long", 1, || {
                    let text = format!("line of {} has {bytes} bytes, the limit is {limit}", shown(labels));
                    Example::of(service::name(labels), text)
                });
                return false;
            }
            match window.refuse_ns(entry.t) {
                None => true,
                Some(reason) => {
                    rejected.add(reason, 1, || {
                        Example::of(service::name(labels), format!("line of {} at {} ns", shown(labels), entry.t))
                    });
                    false
                }
            }
        });
    }
    batch.streams.retain(|stream| !stream.entries.is_empty());
}

/// Takes spans that start outside the window, or end too far ahead, out of the batch.
pub(super) fn traces(batch: &mut TracesBatch, window: &Window, rejected: &mut Rejections) {
    batch.spans.retain(|span| {
        let ahead = (span.end > window.newest).then_some("too_far_in_future");
        match window.refuse_ns(span.start).or(ahead) {
            None => true,
            Some(reason) => {
                let ids = (span.trace_id, span.span_id);
                rejected.add(reason, 1, || {
                    format!("span {} of trace {} from {} to {} ns", ids.1, ids.0, span.start, span.end)
                });
                false
            }
        }
    });
}
