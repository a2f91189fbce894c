//! Data directories that earlier formats wrote: `tests/fixtures/store-vN/`, one for each step of
//! `MIGRATIONS`. A copy of each is opened, brought to today's format, and must hold every row.
//! After a new step, check in a directory of the new format before it is released:
//! `cargo test --test it -- --ignored a_directory_of_this_format_is_written`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use trilith::base::counters::Counters;
use trilith::base::disk::{Disk, RealDisk};
use trilith::base::limits::QueryBudget;
use trilith::base::memory::MemoryBudget;
use trilith::model::batch::{LogsBatch, MetricMetadata, MetricsBatch, SeriesBatch, Signal, StreamBatch, TracesBatch};
use trilith::model::exemplar::Exemplar;
use trilith::model::histogram::{BucketSpan, Histogram};
use trilith::model::labels::Labels;
use trilith::model::log::LogEntry;
use trilith::model::sample::{HistogramSample, Sample};
use trilith::model::span::Span;
use trilith::model::time::{RangeMs, RangeNs};
use trilith::store::env::Progress;
use trilith::store::migrate::migrate;
use trilith::store::series_set;
use trilith::store::stores::{Retention, Store, StoreOptions};
use trilith::store::wal::WalOptions;
use trilith::store::{
    AppendLogs, AppendMetrics, AppendTraces, LineHints, LogColumns, SelectLogs, SelectMetrics, SelectTraces,
    WantedAttrs,
};
use trilith::store::{logs, metrics, traces};

use super::support::ManualClock;
use super::traceql::span;

/// When the directories were written, in milliseconds since the Unix epoch.
const NOW_MS: i64 = 1_760_000_000_000;
/// Samples of a series, lines of a stream, and traces, in each of the two halves.
const ROWS: i64 = 40;
/// The value that says a series has ended.
const STALE: u64 = 0x7ff0_0000_0000_0002;

fn fixture(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/store-v{format}"))
}

/// One half of the rows: the first was flushed to parts, the second lies in the write-ahead log.
struct Half {
    metrics: MetricsBatch,
    logs: LogsBatch,
    traces: TracesBatch,
}

fn half(number: i64) -> Half {
    let at = |row: i64| NOW_MS - 3_600_000 + (number * ROWS + row) * 15_000;
    let named = |name: &str| Labels::from_pairs([("__name__", name), ("job", "shop"), ("zone", "z-ü")]).unwrap();
    let value = |row: i64| if row % 10 == 9 { f64::from_bits(STALE) } else { row as f64 / 8.0 };
    let floats = SeriesBatch {
        labels: named("requests_total"),
        samples: (0..ROWS).map(|row| Sample { t: at(row), value: value(row) }).collect(),
        exemplars: vec![Exemplar {
            labels: Labels::from_pairs([("trace_id", "f1")]).unwrap(),
            value: 1.5,
            t: at(number),
        }],
        ..SeriesBatch::default()
    };
    let histogram = |row: i64| Histogram {
        schema: 3,
        count: row as f64 + 3.0,
        sum: row as f64 / 7.0,
        positive_spans: vec![BucketSpan { offset: -2, length: 2 }],
        positive: vec![3.0, row as f64],
        ..Histogram::default()
    };
    let native = SeriesBatch {
        labels: named("request_seconds"),
        histograms: (0..ROWS)
            .map(|row| HistogramSample { t: at(row), start: 0, histogram: Arc::new(histogram(row)) })
            .collect(),
        ..SeriesBatch::default()
    };
    let metadata = MetricMetadata {
        name: "requests_total".into(),
        kind: "counter".into(),
        help: "Requests answered.".into(),
        unit: String::new(),
    };
    let entry = |row: i64| LogEntry {
        t: at(row) * 1_000_000 + row,
        line: format!("level=info took={row}ms path=\"/größe/{row}\""),
        metadata: Labels::from_pairs([("trace_id", format!("{row:04x}").as_str())]).unwrap(),
    };
    let stream = StreamBatch {
        labels: Labels::from_pairs([("app", "shop"), ("env", "prod")]).unwrap(),
        entries: (0..ROWS).map(entry).collect(),
    };
    let trace = |row: i64| {
        let (id, start) = (format!("{:x}", number * ROWS + row + 1), at(row));
        let root = format!(
            "1 - \"GET /\" {start} {} service=shop kind=server status=error message=boom span.http.status_code=500 \
             span.ratio=0.5 resource.host=a event.exception.exception.message=no",
            start + 250
        );
        let child = format!("2 1 pay {} {} service=billing kind=client span.flag=true", start + 10, start + 20);
        [span(&id, &root), span(&id, &child)]
    };
    Half {
        metrics: MetricsBatch { series: vec![floats, native], metadata: vec![metadata] },
        logs: LogsBatch { streams: vec![stream] },
        traces: TracesBatch { spans: (0..ROWS).flat_map(trace).collect() },
    }
}

struct Opened {
    store: Arc<Store>,
    counters: Counters,
    replayed: u64,
}

fn open(dir: &Path) -> Opened {
    let (counters, progress) = (Counters::default(), Arc::new(Progress::default()));
    let store = Store::open(StoreOptions {
        dir: dir.to_owned(),
        disk: Arc::new(RealDisk),
        clock: Arc::new(ManualClock::at_ns(NOW_MS * 1_000_000)),
        counters: counters.clone(),
        progress: progress.clone(),
        memory: MemoryBudget::new(1 << 30),
        disk_max: None,
        retention: Retention { metrics: None, logs: None, traces: None },
        rules: Vec::new(),
        wal: WalOptions::default(),
        background: false,
        metrics: metrics::Options::default(),
        logs: logs::Options::default(),
        traces: traces::Options::default(),
    })
    .unwrap();
    Opened { store, counters, replayed: progress.done.load(Ordering::Relaxed) }
}

fn append(store: &Store, half: &Half) {
    store.metrics.append(&half.metrics).unwrap();
    store.logs.append(&half.logs).unwrap();
    store.traces.append(&half.traces).unwrap();
}

fn check_metrics(store: &Store, halves: &[Half]) {
    let budget = QueryBudget::unlimited();
    let found = series_set::select(&*store.metrics, &[], RangeMs::ALL, &budget).unwrap();
    let [(native_labels, native), (float_labels, floats)] = found.as_slice() else { panic!("{} series", found.len()) };
    let sent = |at: usize| halves.iter().map(move |half| &half.metrics.series[at]);
    assert_eq!(
        (float_labels, native_labels),
        (&halves[0].metrics.series[0].labels, &halves[0].metrics.series[1].labels)
    );
    let samples: Vec<_> = floats.times.iter().zip(&floats.values).map(|(t, value)| (*t, value.to_bits())).collect();
    let expected = sent(0).flat_map(|series| &series.samples).map(|sample| (sample.t, sample.value.to_bits()));
    assert_eq!(samples, expected.collect::<Vec<_>>());
    let text = |sample: &HistogramSample| format!("{} {:?}", sample.t, sample.histogram);
    let histograms: Vec<_> = native.histograms.iter().map(text).collect();
    assert_eq!(histograms, sent(1).flat_map(|series| &series.histograms).map(text).collect::<Vec<_>>());
    assert_eq!(store.metrics.metadata(&QueryBudget::unlimited()).unwrap(), halves[0].metrics.metadata);
    let exemplars = store.metrics.exemplars(&[], RangeMs::ALL, &budget).unwrap();
    let times: Vec<_> = exemplars.iter().flat_map(|(_, own)| own).map(|exemplar| exemplar.t).collect();
    // Exemplars live in memory and in the log; those of flushed samples are gone after a restart.
    assert!(times.contains(&halves[1].metrics.series[0].exemplars[0].t), "{times:?}");
}

fn check_logs(store: &Store, halves: &[Half]) {
    let budget = QueryBudget::unlimited();
    let columns = LogColumns { lines: true, metadata: true };
    let mut found = Vec::new();
    for chunk in store.logs.chunks(&[], RangeNs::ALL, &LineHints::default(), &budget).unwrap() {
        assert_eq!(chunk.labels(), &halves[0].logs.streams[0].labels);
        let rows = chunk.read(columns, &budget).unwrap();
        let row = |at: usize| LogEntry {
            t: rows.times[at],
            line: rows.lines.get(at).to_owned(),
            metadata: rows.metadata[at].clone(),
        };
        found.extend((0..rows.times.len()).map(row));
    }
    found.sort_by_key(|entry| entry.t);
    let expected: Vec<_> = halves.iter().flat_map(|half| half.logs.streams[0].entries.clone()).collect();
    assert_eq!(found, expected);
}

fn check_traces(store: &Store, halves: &[Half]) {
    let budget = QueryBudget::unlimited();
    let sorted = |spans: &mut Vec<Span>| spans.sort_by_key(|span| (span.trace_id, span.span_id));
    let blocks = store.traces.blocks(RangeNs::ALL, &[], &budget).unwrap();
    let mut found: Vec<Span> =
        blocks.iter().flat_map(|block| block.read(&WantedAttrs::All, &budget).unwrap()).collect();
    let mut expected: Vec<Span> = halves.iter().flat_map(|half| half.traces.spans.clone()).collect();
    sorted(&mut found);
    sorted(&mut expected);
    assert_eq!(found, expected);
    for half in halves {
        let id = half.traces.spans[0].trace_id;
        assert_eq!(store.traces.trace(id, &budget).unwrap().len(), 2, "{id}");
    }
}

fn check(opened: &Opened) {
    let halves = [half(0), half(1)];
    check_metrics(&opened.store, &halves);
    check_logs(&opened.store, &halves);
    check_traces(&opened.store, &halves);
}

/// Copies what git keeps: files, and the folders that hold some.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::create_dir_all(to).unwrap();
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn real_disk() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}

#[test]
fn every_format_has_a_directory_and_no_directory_is_of_an_unknown_one() {
    let empty = tempfile::tempdir().unwrap();
    let newest = migrate(&real_disk(), empty.path()).unwrap();
    for format in 1..=newest {
        let number = fs::read_to_string(fixture(format).join("FORMAT")).unwrap_or_default();
        assert_eq!(number, format!("{format}\n"), "tests/fixtures/store-v{format} has no data of that format");
    }
    assert!(!fixture(newest + 1).exists(), "no step of MIGRATIONS leads to format {}", newest + 1);
}

#[test]
fn directories_of_every_format_open_with_all_their_rows() {
    let empty = tempfile::tempdir().unwrap();
    for format in 1..=migrate(&real_disk(), empty.path()).unwrap() {
        let folder = tempfile::tempdir().unwrap();
        copy(&fixture(format), folder.path());
        let opened = open(folder.path());
        assert!(opened.replayed > 0, "format {format}: nothing was in the log");
        let numbers = opened.counters.expose();
        assert!(numbers.contains("trilith_catalog_failures_total 0\n"), "format {format}: {numbers}");
        for signal in Signal::ALL.map(Signal::name) {
            assert!(numbers.contains(&format!("trilith_parts{{signal=\"{signal}\"}} 1\n")), "{format}: {numbers}");
        }
        check(&opened);
        opened.store.stop().unwrap();
        drop(opened);
        check(&open(folder.path()));
    }
}

#[test]
#[ignore = "writes into tests/fixtures; run it once for each new format"]
fn a_directory_of_this_format_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let opened = open(folder.path());
    append(&opened.store, &half(0));
    opened.store.flush().unwrap();
    append(&opened.store, &half(1));
    opened.store.sync();
    check(&opened);
    drop(opened);
    let format: u32 = fs::read_to_string(folder.path().join("FORMAT")).unwrap().trim().parse().unwrap();
    let target = fixture(format);
    assert!(!target.exists(), "{} is there; what is released is not written anew", target.display());
    copy(folder.path(), &target);
}
