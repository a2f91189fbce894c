//! The store on a disk that is cut off, dies at every single write, fills up, or flips a byte.
//! Whatever was acknowledged (and, for a power cut, synced) is there after reopening, exactly once.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use trilith::base::counters::Counters;
use trilith::base::disk::{Disk, RealDisk};
use trilith::base::error::{Classify as _, ErrorClass};
use trilith::base::limits::QueryBudget;
use trilith::base::memory::MemoryBudget;
use trilith::model::batch::{LogsBatch, MetricsBatch, SeriesBatch, StreamBatch, TracesBatch};
use trilith::model::labels::Labels;
use trilith::model::log::LogEntry;
use trilith::model::sample::Sample;
use trilith::model::span::{Span, SpanId, TraceId};
use trilith::model::time::{RangeMs, RangeNs};
use trilith::store::series_set;
use trilith::store::stores::{Retention, Store, StoreOptions};
use trilith::store::wal::WalOptions;
use trilith::store::{
    AppendLogs, AppendMetrics, AppendTraces, LineHints, LogColumns, SelectLogs, SelectTraces, StoreError,
};

use super::support::{ManualClock, SimDisk};

pub(super) const NOW_MS: i64 = 1_800_000_000_000;
/// Rows of each batch; batch `n` has rows `n * ROWS ..`.
const ROWS: i64 = 10;

pub(super) fn open(dir: &Path, disk: Arc<dyn Disk>) -> Result<Arc<Store>, trilith::store::stores::OpenError> {
    open_within(dir, disk, u64::MAX)
}

fn open_within(
    dir: &Path,
    disk: Arc<dyn Disk>,
    disk_max: u64,
) -> Result<Arc<Store>, trilith::store::stores::OpenError> {
    open_with(StoreOptions { disk_max: Some(disk_max), ..options(dir, disk, Counters::default()) })
}

pub(super) fn open_with(options: StoreOptions) -> Result<Arc<Store>, trilith::store::stores::OpenError> {
    Store::open(options)
}

pub(super) fn options(dir: &Path, disk: Arc<dyn Disk>, counters: Counters) -> StoreOptions {
    StoreOptions {
        dir: dir.to_owned(),
        disk,
        clock: Arc::new(ManualClock::at_ns(NOW_MS * 1_000_000)),
        counters,
        progress: Arc::default(),
        memory: MemoryBudget::new(1 << 30),
        disk_max: Some(u64::MAX),
        retention: Retention { metrics: None, logs: None, traces: None },
        rules: Vec::new(),
        wal: WalOptions { segment_bytes_max: 2000, ..WalOptions::default() },
        background: false,
        metrics: Default::default(),
        logs: Default::default(),
        traces: Default::default(),
    }
}

pub(super) fn labels(name: &str) -> Labels {
    Labels::from_pairs([("__name__", name), ("job", "power")]).unwrap()
}

fn rows(batch: i64) -> std::ops::Range<i64> {
    batch * ROWS..(batch + 1) * ROWS
}

pub(super) fn metrics(batch: i64) -> MetricsBatch {
    let samples = rows(batch).map(|row| Sample { t: NOW_MS - 100_000 + row, value: row as f64 }).collect();
    let series = SeriesBatch { labels: labels("power"), samples, ..SeriesBatch::default() };
    MetricsBatch { series: vec![series], metadata: Vec::new() }
}

pub(super) fn logs(batch: i64) -> LogsBatch {
    let entry = |row| LogEntry {
        t: NOW_MS * 1_000_000 - 100_000 + row,
        line: format!("line {row}"),
        metadata: Labels::default(),
    };
    LogsBatch { streams: vec![StreamBatch { labels: labels("power"), entries: rows(batch).map(entry).collect() }] }
}

pub(super) fn spans(batch: i64) -> TracesBatch {
    let span = |row: i64| Span {
        trace_id: TraceId([7; 16]),
        span_id: SpanId((row + 1).to_be_bytes()),
        name: format!("op {row}"),
        start: NOW_MS * 1_000_000 - 100_000 + row,
        end: NOW_MS * 1_000_000 - 100_000 + row,
        ..Span::default()
    };
    TracesBatch { spans: rows(batch).map(span).collect() }
}

/// How often each row is found, by signal. Rows that no batch has fail at once.
pub(super) type Found = [BTreeMap<i64, u32>; 3];

pub(super) fn found(store: &Store) -> Found {
    let budget = QueryBudget::unlimited();
    let mut found = Found::default();
    for (own, series) in series_set::select(&*store.metrics, &[], RangeMs::ALL, &budget).unwrap() {
        assert_eq!(own, labels("power"));
        for (t, value) in series.times.iter().zip(&series.values) {
            assert_eq!(*value, (*t - NOW_MS + 100_000) as f64, "a false sample");
            *found[0].entry(*value as i64).or_default() += 1;
        }
    }
    for chunk in store.logs.chunks(&[], RangeNs::ALL, &LineHints::default(), &budget).unwrap() {
        assert_eq!(*chunk.labels(), labels("power"));
        // A damaged chunk is an error or empty, never false lines.
        let Ok(read) = chunk.read(LogColumns { lines: true, metadata: true }, &budget) else { continue };
        for (at, t) in read.times.iter().enumerate() {
            let row = t - NOW_MS * 1_000_000 + 100_000;
            assert_eq!(read.lines.get(at), format!("line {row}"), "a false line");
            *found[1].entry(row).or_default() += 1;
        }
    }
    for span in store.traces.trace(TraceId([7; 16]), &budget).unwrap() {
        let row = span.start - NOW_MS * 1_000_000 + 100_000;
        assert_eq!(span.name, format!("op {row}"), "a false span");
        *found[2].entry(row).or_default() += 1;
    }
    found
}

/// Which batches of each signal were acknowledged.
pub(super) type Acknowledged = [Vec<i64>; 3];

pub(super) fn append(store: &Store, batch: i64, acknowledged: &mut Acknowledged) {
    let results =
        [store.metrics.append(&metrics(batch)), store.logs.append(&logs(batch)), store.traces.append(&spans(batch))];
    for (signal, result) in results.into_iter().enumerate() {
        match result {
            Ok(appended) => {
                assert!(appended.rejected.is_empty(), "{}", appended.rejected.summary());
                acknowledged[signal].push(batch);
            }
            Err(error) => assert_eq!(error.class(), ErrorClass::Unavailable, "{error}"),
        }
    }
}

pub(super) fn check(when: &str, found: &Found, acknowledged: &Acknowledged) {
    for (signal, (found, acknowledged)) in found.iter().zip(acknowledged).enumerate() {
        for row in acknowledged.iter().flat_map(|batch| rows(*batch)) {
            assert_eq!(found.get(&row), Some(&1), "{when}: signal {signal}, acknowledged row {row}");
        }
        assert!(found.values().all(|count| *count == 1), "{when}: signal {signal}: more than once");
    }
}

/// Appends, flushes and retention-free life; stops early when the disk is dead.
pub(super) fn live(store: &Store, acknowledged: &mut Acknowledged) {
    for batch in 0..6 {
        append(store, batch, acknowledged);
        if batch % 2 == 1 {
            let _ = store.flush();
        }
    }
}

#[test]
fn death_at_any_write_loses_and_doubles_nothing() {
    let whole = {
        let dir = tempfile::tempdir().unwrap();
        let disk = SimDisk::new(1);
        live(&open(dir.path(), Arc::new(disk.clone())).unwrap(), &mut Acknowledged::default());
        disk.steps()
    };
    assert!(whole > 60, "only {whole} writes: is the store using the disk?");
    for step in 0..=whole {
        let dir = tempfile::tempdir().unwrap();
        let disk = SimDisk::new(1);
        disk.die_after(step);
        let mut acknowledged = Acknowledged::default();
        if let Ok(store) = open(dir.path(), Arc::new(disk)) {
            live(&store, &mut acknowledged);
        }
        let store = open(dir.path(), Arc::new(RealDisk)).unwrap();
        check(&format!("death at write {step}"), &found(&store), &acknowledged);
        // A sender repeats what was not acknowledged.
        live(&store, &mut acknowledged);
        check(&format!("after repeating, death at write {step}"), &found(&store), &acknowledged);
        drop(store);
        let store = open(dir.path(), Arc::new(RealDisk)).unwrap();
        check(&format!("reopened, death at write {step}"), &found(&store), &acknowledged);
    }
}

#[test]
fn a_call_that_fails_loses_and_doubles_nothing_whichever_it_is() {
    let whole = {
        let dir = tempfile::tempdir().unwrap();
        let disk = SimDisk::new(1);
        live(&open(dir.path(), Arc::new(disk.clone())).unwrap(), &mut Acknowledged::default());
        disk.calls()
    };
    assert!(whole > 150, "only {whole} calls");
    for call in 0..=whole {
        let dir = tempfile::tempdir().unwrap();
        let disk = SimDisk::new(call);
        // Once, or from then on until the disk is well again.
        disk.fail_after(call, call % 3 == 0);
        let mut acknowledged = Acknowledged::default();
        let store = open(dir.path(), Arc::new(disk.clone())).unwrap_or_else(|_| {
            disk.heal();
            open(dir.path(), Arc::new(disk.clone())).unwrap()
        });
        live(&store, &mut acknowledged);
        disk.heal();
        store.tick();
        check(&format!("call {call} failed"), &found(&store), &acknowledged);
        store.flush().unwrap();
        live(&store, &mut acknowledged);
        check(&format!("after repeating, call {call} failed"), &found(&store), &acknowledged);
        drop(store);
        let store = open(dir.path(), Arc::new(RealDisk)).unwrap();
        check(&format!("reopened, call {call} failed"), &found(&store), &acknowledged);
    }
}

#[test]
fn a_power_cut_keeps_what_was_synced() {
    for seed in 1..=60_u64 {
        let dir = tempfile::tempdir().unwrap();
        let disk = SimDisk::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let store = open(dir.path(), Arc::new(disk.clone())).unwrap();
        let (mut synced, mut later) = (Acknowledged::default(), Acknowledged::default());
        let batches = i64::try_from(seed % 7).unwrap();
        for batch in 0..batches {
            append(&store, batch, &mut synced);
            if seed % 3 == 0 && batch == 2 {
                store.flush().unwrap();
            }
        }
        // The store's own thread does this several times a second.
        store.sync();
        for batch in batches..batches + 3 {
            append(&store, batch, &mut later);
        }
        if seed % 2 == 0 {
            store.flush().unwrap();
            synced.iter_mut().zip(later).for_each(|(synced, later)| synced.extend(later));
        }
        // What is in memory is gone; files are as a medium might hold them.
        drop(store);
        disk.cut_power().unwrap();
        let store = open(dir.path(), Arc::new(RealDisk)).unwrap();
        check(&format!("power cut, seed {seed}"), &found(&store), &synced);
    }
}

#[test]
fn a_full_disk_refuses_writes_answers_queries_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SimDisk::new(1);
    let store = open(dir.path(), Arc::new(disk.clone())).unwrap();
    let mut acknowledged = Acknowledged::default();
    append(&store, 0, &mut acknowledged);
    disk.set_room(Some(100));
    let refused = store.metrics.append(&metrics(1)).unwrap_err();
    assert_eq!(refused.class(), ErrorClass::Unavailable);
    assert!(store.flush().is_err());
    check("no room", &found(&store), &acknowledged);
    store.tick();
    assert!(matches!(store.logs.append(&logs(1)), Err(StoreError::DiskFull { .. })));
    disk.set_room(None);
    store.tick();
    append(&store, 1, &mut acknowledged);
    store.flush().unwrap();
    append(&store, 2, &mut acknowledged);
    check("room again", &found(&store), &acknowledged);
    drop(store);
    let store = open(dir.path(), Arc::new(RealDisk)).unwrap();
    check("reopened", &found(&store), &acknowledged);
    assert_eq!(acknowledged.map(|batches| batches.len()), [3; 3]);
}

#[test]
fn a_flush_that_fails_leaves_no_pieces_and_freezes_one_head() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SimDisk::new(1);
    let store = open(dir.path(), Arc::new(disk.clone())).unwrap();
    let mut acknowledged = Acknowledged::default();
    append(&store, 0, &mut acknowledged);
    for batch in 1..4 {
        disk.set_room(Some(100));
        assert!(store.flush().is_err());
        disk.set_room(None);
        let pieces = files(dir.path()).into_iter().filter(|path| path.extension().is_some_and(|it| it == "tmp"));
        assert_eq!(pieces.count(), 0);
        append(&store, batch, &mut acknowledged);
    }
    store.flush().unwrap();
    let parts = files(&dir.path().join("logs"));
    assert_eq!(parts.len(), 2, "one of the first batch, one of those after: {parts:?}");
    check("flushed at last", &found(&store), &acknowledged);
    drop(store);
    check("reopened", &found(&open(dir.path(), Arc::new(RealDisk)).unwrap()), &acknowledged);
}

/// Lines that do not become smaller, 100 kB of them, later with each batch.
fn noise(batch: i64) -> LogsBatch {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64 + batch.unsigned_abs();
    let mut letter = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'!' + (state >> 32) as u8 % 90)
    };
    let mut entry = |row: i64| LogEntry {
        t: NOW_MS * 1_000_000 + batch * 1000 + row,
        line: (0..1000).map(|_| letter()).collect(),
        metadata: Labels::default(),
    };
    LogsBatch { streams: vec![StreamBatch { labels: labels("noise"), entries: (0..100).map(&mut entry).collect() }] }
}

#[test]
fn a_log_over_its_share_of_the_budget_is_flushed_and_the_newest_rows_stay() {
    let dir = tempfile::tempdir().unwrap();
    let budget = 6_000_000;
    let store = open_within(dir.path(), Arc::new(RealDisk), budget).unwrap();
    let batches = 100;
    for batch in 0..batches {
        store.logs.append(&noise(batch)).unwrap();
        store.tick();
    }
    store.sweep();
    assert!(store.disk_used().unwrap().total() <= budget);
    let chunks = store.logs.chunks(&[], RangeNs::ALL, &LineHints::default(), &QueryBudget::unlimited()).unwrap();
    let mut kept = std::collections::BTreeSet::new();
    for chunk in chunks {
        let read = chunk.read(LogColumns { lines: true, metadata: true }, &QueryBudget::unlimited()).unwrap();
        kept.extend(read.times.iter().map(|t| (t - NOW_MS * 1_000_000) / 1000));
    }
    let newest: std::collections::BTreeSet<_> = (batches - kept.len() as i64..batches).collect();
    assert_eq!(kept, newest, "the oldest go first");
    assert!(kept.len() > 25, "only {} of {batches} batches are left", kept.len());
}

pub(super) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() { all.extend(files(&path)) } else { all.push(path) }
    }
    all.sort();
    all
}

/// Copies a folder, so that each damage starts from the same bytes.
fn copy(from: &Path, to: &Path) {
    for path in files(from) {
        let target = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(&path, target).unwrap();
    }
}

/// A flipped byte or a cut in any one file: the store opens, tells no falsehood, and what lies in
/// other files is there. `catalog` and `text` are indexes: damage in them loses nothing.
#[test]
fn damage_in_one_file_stays_in_that_file() {
    let origin = tempfile::tempdir().unwrap();
    let mut acknowledged = Acknowledged::default();
    {
        let store = open(origin.path(), Arc::new(RealDisk)).unwrap();
        live(&store, &mut acknowledged);
        append(&store, 6, &mut acknowledged);
        store.sync();
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut seed = 0x2545_F491_4F6C_DD1D_u64;
    let mut tried = 0;
    for path in files(origin.path()) {
        let name = path.strip_prefix(origin.path()).unwrap().to_owned();
        let size = fs::metadata(&path).unwrap().len();
        if size == 0 || name.starts_with("FORMAT") {
            continue;
        }
        for case in 0..6 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let at = usize::try_from(seed % size).unwrap();
            let dir = tempfile::tempdir().unwrap();
            copy(origin.path(), dir.path());
            let mut bytes = fs::read(&path).unwrap();
            if case % 2 == 0 {
                bytes[at] ^= 1 << (seed >> 60 & 7)
            } else {
                bytes.truncate(at)
            }
            fs::write(dir.path().join(&name), bytes).unwrap();
            let when = format!("{name:?}, byte {at} of {size}, case {case}");
            let store = open(dir.path(), Arc::new(RealDisk)).unwrap_or_else(|error| panic!("{when}: {error}"));
            let found = found(&store);
            for (signal, found) in found.iter().enumerate() {
                assert!(found.values().all(|count| *count == 1), "{when}: signal {signal}: more than once");
            }
            let whole = name.starts_with("catalog") || name.starts_with("text");
            for (signal, folder) in ["metrics", "logs", "traces"].iter().enumerate() {
                let elsewhere = whole || !name.components().any(|part| part.as_os_str() == *folder);
                let rows = found[signal].len() as i64;
                let all = acknowledged[signal].len() as i64 * ROWS;
                if elsewhere {
                    assert_eq!(rows, all, "{when}: signal {signal} lost rows that lie elsewhere");
                } else {
                    // One of three parts, or the log of the last batch.
                    assert!(rows >= all - 2 * ROWS, "{when}: signal {signal} has {rows} of {all} rows");
                }
            }
            tried += 1;
        }
    }
    assert!(tried > 60, "only {tried} cases");
}
