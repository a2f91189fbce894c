//! What passes the door, by a store that remembers.

use super::*;
use crate::base::support::ManualClock;
use crate::model::batch::{SeriesBatch, StreamBatch};
use crate::model::labels::Labels;
use crate::model::log::{ARRIVAL, LogEntry};
use crate::model::matcher::{MatchOp, Matcher};
use crate::model::raw;
use crate::model::sample::Sample;
use crate::model::span::Span;
use crate::store::metrics::keep::Rule;

const NOW_MS: i64 = 1_800_000_000_000;
const DAY_MS: i64 = 86_400_000;

#[derive(Default)]
struct Store {
    full: Mutex<bool>,
    samples: Mutex<Vec<(i64, f64)>>,
    lines: Mutex<Vec<(Labels, LogEntry)>>,
    spans: Mutex<Vec<Span>>,
}

impl Store {
    fn check(&self) -> Result<(), StoreError> {
        if *self.full.lock() { Err(StoreError::MemoryFull) } else { Ok(()) }
    }
}

impl AppendMetrics for Store {
    fn append(&self, batch: &MetricsBatch) -> Result<Appended, StoreError> {
        self.check()?;
        let samples = batch.series.iter().flat_map(|series| &series.samples).map(|sample| (sample.t, sample.value));
        self.samples.lock().extend(samples);
        Ok(Appended { accepted: batch.samples() as u64, ..Appended::default() })
    }
}

impl AppendLogs for Store {
    fn append(&self, batch: &LogsBatch) -> Result<Appended, StoreError> {
        self.check()?;
        let mut lines = self.lines.lock();
        for stream in &batch.streams {
            lines.extend(stream.entries.iter().map(|entry| (stream.labels.clone(), entry.clone())));
        }
        Ok(Appended { accepted: lines.len() as u64, ..Appended::default() })
    }
}

impl AppendTraces for Store {
    fn append(&self, batch: &TracesBatch) -> Result<Appended, StoreError> {
        self.check()?;
        self.spans.lock().extend(batch.spans.iter().cloned());
        Ok(Appended { accepted: batch.spans.len() as u64, ..Appended::default() })
    }
}

fn door(options: Options) -> (Arc<Store>, Ingestor, Counters) {
    let store = Arc::new(Store::default());
    let clock = Arc::new(ManualClock::at_ns(NOW_MS * 1_000_000));
    let counters = Counters::default();
    let ingestor = Ingestor::new(options, store.clone(), store.clone(), store.clone(), clock, &counters);
    (store, ingestor, counters)
}

fn samples(times: &[i64]) -> MetricsBatch {
    let labels = Labels::from_pairs([("__name__", "up")]).unwrap();
    let samples = times.iter().map(|t| Sample { t: *t, value: 1.0 }).collect();
    MetricsBatch { series: vec![SeriesBatch { labels, samples, ..SeriesBatch::default() }], metadata: Vec::new() }
}

fn reasons(rejected: &Rejections) -> Vec<(&'static str, u64)> {
    rejected.iter().map(|(reason, refused)| (reason, refused.count)).collect()
}

#[test]
fn one_sample_from_the_far_future_does_not_hurt_the_others() {
    let (store, door, counters) = door(Options::default());
    let times = [NOW_MS, NOW_MS + 366 * DAY_MS, i64::MAX, NOW_MS + DAY_MS, 0, -1, i64::MIN];
    let appended = door.push_metrics(samples(&times)).unwrap();
    assert_eq!(appended.accepted, 2);
    assert_eq!(reasons(&appended.rejected), [("too_far_in_future", 2), ("too_old", 3)]);
    assert_eq!(store.samples.lock().len(), 2);
    let text = counters.expose();
    assert!(text.contains("trilith_ingested_samples_total 2\n"), "{text}");
    assert!(text.contains(r#"trilith_rejected_total{signal="metrics",reason="too_old"} 3"#), "{text}");
}

#[test]
fn without_retention_times_before_1970_are_ordinary() {
    let (_, door, _) = door(Options { retention_metrics: Arc::default(), ..Options::default() });
    let appended = door.push_metrics(samples(&[0, -1, -9_000_000_000_000, i64::MIN])).unwrap();
    assert_eq!((appended.accepted, reasons(&appended.rejected)), (3, vec![("out_of_range", 1)]));
}

fn tiers() -> Options {
    let rule = |name: &str, value: &str, days: u64| Rule {
        matchers: vec![Matcher::new(name, MatchOp::Equal, value).unwrap()],
        keep: Some(Duration::from_secs(days * 86_400)),
    };
    let rules = vec![rule("tier", "gold", 400), rule("job", "debug", 1)];
    let others = Some(Duration::from_secs(2 * 86_400));
    Options { retention_metrics: Arc::new(Retention { rules, others }), ..Options::default() }
}

const TIERS: [(&str, &str, i64, bool); 6] = [
    ("tier", "gold", 300, true),
    ("tier", "gold", 401, false),
    ("job", "debug", 1, true),
    ("job", "debug", 2, false),
    ("job", "other", 2, true),
    ("job", "other", 3, false),
];

#[test]
fn samples_past_the_retention_of_their_own_series_are_refused_as_too_old() {
    let (store, door, counters) = door(tiers());
    let series = TIERS.map(|(name, value, days, _)| {
        let labels = Labels::from_pairs([("__name__", "up"), (name, value)]).unwrap();
        let samples = vec![Sample { t: NOW_MS - days * DAY_MS, value: 1.0 }];
        SeriesBatch { labels, samples, ..SeriesBatch::default() }
    });
    let appended = door.push_metrics(MetricsBatch { series: series.to_vec(), metadata: Vec::new() }).unwrap();
    assert_eq!((appended.accepted, reasons(&appended.rejected)), (3, vec![("too_old", 3)]));
    let expected: Vec<_> = TIERS.iter().filter(|case| case.3).map(|case| (NOW_MS - case.2 * DAY_MS, 1.0)).collect();
    assert_eq!(*store.samples.lock(), expected);
    assert!(counters.expose().contains(r#"trilith_rejected_total{signal="metrics",reason="too_old"} 3"#));
}

#[test]
fn so_are_those_whose_labels_have_not_been_read() {
    let (store, door, _) = door(tiers());
    let mut request = RawMetrics::default();
    for (name, value, days, _) in TIERS {
        let bytes = request.bytes.to_mut();
        let labels_start = bytes.len() as u32;
        raw::put_pair(bytes, name.as_bytes(), value.as_bytes());
        let labels_end = bytes.len() as u32;
        request.times.push(NOW_MS - days * DAY_MS);
        request.values.push(1.0);
        request.series.push(raw::RawSeries { labels_start, labels_end, rows_end: request.times.len() as u32 });
    }
    let parse = |bytes: &[u8]| Ok(Labels::from_pairs(raw::split_pair(bytes)).unwrap());
    let appended = door.push_raw(request, &parse).unwrap();
    assert_eq!((appended.accepted, reasons(&appended.rejected)), (3, vec![("too_old", 3)]));
    let expected: Vec<_> = TIERS.iter().filter(|case| case.3).map(|case| (NOW_MS - case.2 * DAY_MS, 1.0)).collect();
    assert_eq!(*store.samples.lock(), expected);
}

#[test]
fn lines_without_a_time_get_that_of_their_arrival() {
    let (store, door, _) = door(Options::default());
    let labels = Labels::from_pairs([("app", "a")]).unwrap();
    let streams = vec![StreamBatch { labels, entries: vec![entry(ARRIVAL, "no time")] }];
    assert_eq!(door.push_logs(LogsBatch { streams }).unwrap().accepted, 1);
    assert_eq!(store.lines.lock()[0].1.t, NOW_MS * 1_000_000);
}

fn entry(t: i64, line: &str) -> LogEntry {
    LogEntry { t, line: line.into(), metadata: Labels::default() }
}

#[test]
fn lines_get_a_service_and_a_level() {
    let (store, door, _) = door(Options::default());
    let now = NOW_MS * 1_000_000;
    let stream = |pairs: &[(&str, &str)], entries| StreamBatch {
        labels: Labels::from_pairs(pairs.iter().copied()).unwrap(),
        entries,
    };
    let long = "x".repeat((256 << 10) + 1);
    let streams = vec![
        stream(&[("job", "j"), ("app", "a")], vec![entry(now, "level=warn x"), entry(now, &long)]),
        stream(&[], vec![entry(now, "x")]),
        stream(&[("service_name", "own")], vec![entry(0, "old")]),
    ];
    let appended = door.push_logs(LogsBatch { streams }).unwrap();
    assert_eq!(reasons(&appended.rejected), [("line_too_long", 1), ("too_old", 1)]);
    let lines = store.lines.lock();
    let got: Vec<_> = lines.iter().map(|(l, e)| (l.to_string(), e.metadata.to_string())).collect();
    assert_eq!(got[0].0, r#"{app="a", job="j", service_name="a"}"#);
    assert_eq!(got[0].1, r#"{detected_level="warn"}"#);
    assert_eq!(got[1].0, r#"{service_name="unknown_service"}"#);
    assert_eq!(got.len(), 2);
}

#[test]
fn spans_far_ahead_are_refused() {
    let (_, door, _) = door(Options::default());
    let now = NOW_MS * 1_000_000;
    let span = |start, end| Span { start, end, ..Span::default() };
    let spans = vec![span(now, now + 1), span(i64::MAX, i64::MAX), span(now, i64::MAX), span(0, now)];
    let appended = door.push_traces(TracesBatch { spans }).unwrap();
    assert_eq!((appended.accepted, reasons(&appended.rejected)), (1, vec![("too_far_in_future", 2), ("too_old", 1)]));
}

#[test]
fn a_closed_door_is_unavailable_until_it_opens() {
    let (_, door, _) = door(Options::default());
    door.close("stopping");
    let error = door.push_metrics(samples(&[NOW_MS])).unwrap_err();
    assert_eq!((error.class(), error.to_string().as_str()), (ErrorClass::Unavailable, "the server is stopping; retry"));
    door.open();
    assert_eq!(door.push_metrics(samples(&[NOW_MS])).unwrap().accepted, 1);
}

#[test]
fn deltas_are_counted_once_when_the_sender_retries() {
    let (store, door, _) = door(Options::default());
    door.push_metrics_with_deltas(samples(&[NOW_MS]), &[0]).unwrap();
    *store.full.lock() = true;
    assert!(door.push_metrics_with_deltas(samples(&[NOW_MS + 1]), &[0]).is_err());
    *store.full.lock() = false;
    door.push_metrics_with_deltas(samples(&[NOW_MS + 1]), &[0]).unwrap();
    assert_eq!(*store.samples.lock(), [(NOW_MS, 1.0), (NOW_MS + 1, 2.0)]);
}
