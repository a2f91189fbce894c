//! Rows of one time: what senders who write at once have sent is answered alike from memory, from parts,
//! and after the process has died and replayed its log. Of samples of one series and time the same one
//! counts, lines come in the same order, and so do spans.

use std::path::Path;
use std::sync::Arc;

use trilith::base::counters::Counters;
use trilith::base::disk::RealDisk;
use trilith::base::limits::QueryBudget;
use trilith::model::batch::{LogsBatch, MetricMetadata, MetricsBatch, SeriesBatch, StreamBatch, TracesBatch};
use trilith::model::exemplar::Exemplar;
use trilith::model::labels::Labels;
use trilith::model::log::LogEntry;
use trilith::model::sample::Sample;
use trilith::model::span::{Span, SpanId, TraceId};
use trilith::model::time::{RangeMs, RangeNs};
use trilith::store::stores::{Store, StoreOptions};
use trilith::store::wal::WalOptions;
use trilith::store::{
    AppendLogs as _, AppendMetrics as _, AppendTraces as _, LineHints, LogColumns, SelectLogs as _, SelectMetrics as _,
    SelectTraces as _, series_set,
};

use super::power::{NOW_MS, labels, open_with, options};

const T_MS: i64 = NOW_MS - 100_000;
const T_NS: i64 = T_MS * 1_000_000;
const SENDERS: usize = 8;
const BATCHES: usize = 60;
/// Times that every batch of samples has.
const TIMES: i64 = 40;

fn open(dir: &Path) -> Arc<Store> {
    let wal = WalOptions { segment_bytes_max: 200_000, ..WalOptions::default() };
    open_with(StoreOptions { wal, ..options(dir, Arc::new(RealDisk), Counters::default()) }).unwrap()
}

fn metrics(number: usize) -> MetricsBatch {
    let samples = (0..TIMES).map(|step| Sample { t: T_MS + step, value: number as f64 }).collect();
    let exemplar =
        |step| Exemplar { t: T_MS, value: step as f64, labels: Labels::default().with("n", &number.to_string()) };
    let series = SeriesBatch {
        labels: labels("order"),
        samples,
        exemplars: (0..2).map(exemplar).collect(),
        ..SeriesBatch::default()
    };
    let metadata = MetricMetadata { name: "order".into(), help: number.to_string(), ..MetricMetadata::default() };
    MetricsBatch { series: vec![series], metadata: vec![metadata] }
}

fn logs(number: usize) -> LogsBatch {
    let entry = |line| LogEntry { t: T_NS, line: format!("{number} {line}"), metadata: Labels::default() };
    LogsBatch { streams: vec![StreamBatch { labels: labels("order"), entries: (0..3).map(entry).collect() }] }
}

/// Spans of one start; every other batch has the id of the one before.
fn spans(number: usize) -> TracesBatch {
    let span = Span {
        trace_id: TraceId([7; 16]),
        span_id: SpanId((number as u64 / 2 + 1).to_be_bytes()),
        name: number.to_string(),
        start: T_NS,
        end: T_NS + 1,
        ..Span::default()
    };
    TracesBatch { spans: vec![span] }
}

/// All senders at once.
fn send(store: &Store, first: usize) {
    let go = std::sync::Barrier::new(SENDERS);
    std::thread::scope(|scope| {
        for sender in 0..SENDERS {
            let go = &go;
            scope.spawn(move || {
                go.wait();
                for batch in 0..BATCHES {
                    let number = first + sender * BATCHES + batch;
                    assert!(store.metrics.append(&metrics(number)).unwrap().rejected.is_empty());
                    assert!(store.logs.append(&logs(number)).unwrap().rejected.is_empty());
                    assert!(store.traces.append(&spans(number)).unwrap().rejected.is_empty());
                }
            });
        }
    });
}

/// What is answered, in the order of the answer.
#[derive(Debug, PartialEq)]
struct Answers {
    samples: Vec<(i64, f64)>,
    exemplars: Vec<Exemplar>,
    metadata: Vec<MetricMetadata>,
    lines: Vec<String>,
    spans: Vec<String>,
}

fn ask(store: &Store) -> Answers {
    let budget = QueryBudget::unlimited();
    let found = series_set::select(&*store.metrics, &[], RangeMs::ALL, &budget).unwrap();
    let samples = found.iter().flat_map(|(_, own)| own.times.iter().copied().zip(own.values.iter().copied()));
    let exemplars = store.metrics.exemplars(&[], RangeMs::ALL, &budget).unwrap();
    let mut lines = Vec::new();
    for chunk in store.logs.chunks(&[], RangeNs::ALL, &LineHints::default(), &budget).unwrap() {
        let read = chunk.read(LogColumns { lines: true, metadata: true }, &budget).unwrap();
        lines.extend((0..read.times.len()).map(|at| read.lines.get(at).to_owned()));
    }
    Answers {
        samples: samples.collect(),
        exemplars: exemplars.into_iter().flat_map(|(_, own)| own).collect(),
        metadata: store.metrics.metadata(&QueryBudget::unlimited()).unwrap(),
        lines,
        spans: store.traces.trace(TraceId([7; 16]), &budget).unwrap().into_iter().map(|span| span.name).collect(),
    }
}

#[test]
fn rows_of_one_time_are_answered_alike_before_and_after_restarts_and_flushes() {
    for round in 0..3 {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        send(&store, 0);
        if round == 1 {
            store.flush().unwrap();
            send(&store, SENDERS * BATCHES);
        }
        let live = ask(&store);
        let rows = SENDERS * BATCHES * if round == 1 { 2 } else { 1 };
        assert_eq!((live.samples.len() as i64, live.lines.len(), live.spans.len()), (TIMES, 3 * rows, rows));
        // The process dies: nothing is flushed.
        drop(store);
        let store = open(dir.path());
        assert_eq!(ask(&store), live, "round {round}: replayed");
        store.flush().unwrap();
        assert_eq!(ask(&store), live, "round {round}: in parts");
        store.merge().unwrap();
        assert_eq!(ask(&store), live, "round {round}: merged");
        drop(store);
        assert_eq!(ask(&open(dir.path())), live, "round {round}: parts opened again");
    }
}
