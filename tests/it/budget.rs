//! The disk budget and retention: what goes first, how much of it, and what a clock that jumps may do.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::support::ManualClock;
use trilith::base::counters::Counters;
use trilith::base::disk::{Disk, RealDisk};
use trilith::base::limits::QueryBudget;
use trilith::base::memory::MemoryBudget;
use trilith::model::batch::{LogsBatch, MetricsBatch, SeriesBatch, StreamBatch};
use trilith::model::labels::Labels;
use trilith::model::log::LogEntry;
use trilith::model::sample::Sample;
use trilith::model::time::{RangeMs, RangeNs};
use trilith::store::stores::{Retention, Store, StoreOptions};
use trilith::store::{Administer as _, AppendLogs as _, AppendMetrics as _, LineHints, SelectLogs as _, series_set};

use super::power::NOW_MS;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// Bytes of lines of a batch; they do not become smaller.
const BATCH: u64 = 200_000;

struct Bench {
    store: Arc<Store>,
    clock: ManualClock,
    counters: Counters,
}

fn open(dir: &Path, disk: Arc<dyn Disk>, disk_max: u64, keep: Option<Duration>) -> Bench {
    open_at(dir, disk, NOW_MS, disk_max, keep)
}

fn open_at(dir: &Path, disk: Arc<dyn Disk>, now_ms: i64, disk_max: u64, keep: Option<Duration>) -> Bench {
    let (clock, counters) = (ManualClock::at_ns(now_ms * 1_000_000), Counters::default());
    let store = Store::open(StoreOptions {
        dir: dir.to_owned(),
        disk,
        clock: Arc::new(clock.clone()),
        counters: counters.clone(),
        progress: Arc::default(),
        memory: MemoryBudget::new(1 << 30),
        disk_max: Some(disk_max),
        retention: Retention { metrics: keep, logs: keep, traces: keep },
        rules: Vec::new(),
        wal: Default::default(),
        background: false,
        metrics: Default::default(),
        logs: Default::default(),
        traces: Default::default(),
    });
    Bench { store: store.unwrap(), clock, counters }
}

struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Lines of a minute of its own, flushed to a part of its own.
fn part(bench: &Bench, at_ms: i64) {
    let mut noise = Noise(0x9E37_79B9 + at_ms.unsigned_abs());
    let mut line = || (0..1000).map(|_| char::from(b'!' + (noise.next() >> 32) as u8 % 90)).collect::<String>();
    let entries = (0..BATCH as i64 / 1000)
        .map(|row| LogEntry { t: (at_ms + row) * 1_000_000, line: line(), metadata: Labels::default() })
        .collect();
    let labels = Labels::from_pairs([("app", "noise")]).unwrap();
    bench.store.logs.append(&LogsBatch { streams: vec![StreamBatch { labels, entries }] }).unwrap();
    bench.store.logs.lane().flush().unwrap();
}

/// Minutes that lines are left of, counted from `NOW_MS`.
fn minutes(store: &Store) -> Vec<i64> {
    let chunks = store.logs.chunks(&[], RangeNs::ALL, &LineHints::default(), &QueryBudget::unlimited()).unwrap();
    let mut minutes: Vec<i64> =
        chunks.iter().map(|chunk| (chunk.span().0 / 1_000_000 - NOW_MS).div_euclid(60_000)).collect();
    minutes.sort_unstable();
    minutes.dedup();
    minutes
}

fn snapshots(dir: &Path) -> usize {
    std::fs::read_dir(dir.join("snapshots")).map_or(0, Iterator::count)
}

fn condition(store: &Store, name: &str) -> Option<String> {
    store.conditions().into_iter().find(|own| own.name == name).map(|own| own.text)
}

#[test]
fn snapshots_go_before_live_data_and_no_more_of_it_than_is_too_much() {
    let dir = tempfile::tempdir().unwrap();
    // The budget is known once everything but the lines is there.
    let bench = open(dir.path(), Arc::new(RealDisk), u64::MAX, None);
    (0..20).for_each(|minute| part(&bench, NOW_MS + minute * 60_000));
    bench.store.snapshot(false).unwrap();
    bench.store.snapshot(false).unwrap();
    let used = bench.store.disk_used().unwrap();
    assert_eq!(used.snapshots, used.snapshots.min(1_000), "what lives is not kept by snapshots: {used:?}");
    drop(bench);
    // The catalog takes more once it was closed.
    let bench = open(dir.path(), Arc::new(RealDisk), u64::MAX, None);
    let (used, parts) = (bench.store.disk_used().unwrap(), bench.store.logs.lane().stats());
    let part = parts.part_bytes / parts.parts;
    drop(bench);
    let limit = used.total() - part * 5 / 2;
    let bench = open(dir.path(), Arc::new(RealDisk), limit, None);
    let before = bench.store.disk_used().unwrap();
    bench.store.sweep();
    let after = bench.store.disk_used().unwrap();
    assert!(after.total() <= limit, "{after:?} of {limit}");
    // All parts are of a size, but for a percent of it.
    assert!(after.total() + part + part / 100 > limit, "more went than was too much: {before:?}, {after:?} of {limit}");
    assert_eq!(snapshots(dir.path()), 0);
    let left = minutes(&bench.store);
    let gone = 20 - left.len();
    assert_eq!(left, (gone as i64..20).collect::<Vec<_>>(), "the oldest go first");
    assert!(
        (2..=4).contains(&gone),
        "{gone} parts of {part} went for two and a half: {before:?}, {after:?} of {limit}"
    );
    let shown = bench.counters.expose();
    for said in [
        r#"trilith_removed_snapshots_total{reason="disk_budget"} 2"#.to_owned(),
        format!(r#"trilith_removed_rows_total{{reason="disk_budget",signal="logs"}} {}"#, gone as u64 * BATCH / 1000),
        format!(
            r#"trilith_removed_newest_timestamp_seconds{{reason="disk_budget",signal="logs"}} {}"#,
            NOW_MS / 1000 + (gone as i64 - 1) * 60
        ),
    ] {
        assert!(shown.contains(&said), "{said} is not in {shown}");
    }
}

#[test]
fn what_a_snapshot_keeps_is_counted_apart_and_goes_without_any_live_data() {
    let dir = tempfile::tempdir().unwrap();
    let bench = open(dir.path(), Arc::new(RealDisk), u64::MAX, Some(Duration::from_secs(86_400)));
    (0..5).for_each(|minute| part(&bench, NOW_MS + minute * 60_000));
    bench.store.snapshot(false).unwrap();
    (0..5).for_each(|minute| part(&bench, NOW_MS + DAY_MS / 2 + minute * 60_000));
    for hours in [12, 24, 25] {
        bench.clock.set_ns((NOW_MS + hours * HOUR_MS) * 1_000_000);
        bench.store.trust_clock();
    }
    bench.store.sweep();
    assert_eq!(minutes(&bench.store).len(), 5);
    let used = bench.store.disk_used().unwrap();
    assert!(used.snapshots > 4 * BATCH, "{used:?}");
    drop(bench);
    let bench = open(dir.path(), Arc::new(RealDisk), used.total() - BATCH, None);
    bench.store.sweep();
    assert_eq!((snapshots(dir.path()), minutes(&bench.store).len()), (0, 5));
    assert!(bench.counters.expose().contains("trilith_snapshot_bytes 0"));
}

/// Samples of twenty hours that do not become smaller, two megabytes of them in one part.
fn long_part(bench: &Bench) -> usize {
    let mut noise = Noise(7);
    let series: Vec<_> = (0..40)
        .map(|number| SeriesBatch {
            labels: Labels::from_pairs([("__name__", "noise"), ("n", &number.to_string())]).unwrap(),
            samples: (0..10_000)
                .map(|row| Sample { t: NOW_MS - 20 * HOUR_MS + row * 7_200, value: f64::from_bits(noise.next() >> 2) })
                .collect(),
            ..SeriesBatch::default()
        })
        .collect();
    bench.store.metrics.append(&MetricsBatch { series, metadata: Vec::new() }).unwrap();
    bench.store.metrics.lane().flush().unwrap();
    samples(&bench.store).len()
}

fn samples(store: &Store) -> Vec<i64> {
    let found = series_set::select(&*store.metrics, &[], RangeMs::ALL, &QueryBudget::unlimited()).unwrap();
    let mut times: Vec<i64> = found.iter().flat_map(|(_, columns)| columns.times.iter().copied()).collect();
    times.sort_unstable();
    times
}

#[test]
fn a_part_larger_than_a_step_is_cut_and_not_removed_whole() {
    let dir = tempfile::tempdir().unwrap();
    let bench = open(dir.path(), Arc::new(RealDisk), u64::MAX, None);
    let all = long_part(&bench);
    let parts = bench.store.metrics.lane().stats();
    assert!(parts.parts <= 2 && parts.part_bytes > 2_500_000, "{parts:?}");
    let used = bench.store.disk_used().unwrap().total();
    drop(bench);
    let limit = used - 400_000;
    let bench = open(dir.path(), Arc::new(RealDisk), limit, None);
    bench.store.sweep();
    assert!(bench.store.disk_used().unwrap().total() <= limit);
    let left = samples(&bench.store);
    assert!(left.len() > all / 2, "{} of {all} samples are left", left.len());
    let (first, last) = (left[0], *left.last().unwrap());
    assert_eq!(last, NOW_MS - 20 * HOUR_MS + 9_999 * 7_200);
    let expected: usize = (0..10_000).filter(|row| NOW_MS - 20 * HOUR_MS + row * 7_200 >= first).count() * 40;
    assert_eq!(left.len(), expected, "what is newer than the cut is whole");
    drop(bench);
    let again = open(dir.path(), Arc::new(RealDisk), limit, None);
    assert_eq!(samples(&again.store), left);
}

#[test]
fn a_removal_that_frees_nothing_ends_the_loop_and_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let bench = open(dir.path(), Arc::new(RealDisk), u64::MAX, None);
    (0..8).for_each(|minute| part(&bench, NOW_MS + minute * 60_000));
    // Second names where nobody expects them.
    std::fs::create_dir(dir.path().join("copies")).unwrap();
    for entry in std::fs::read_dir(dir.path().join("logs")).unwrap().flatten() {
        std::fs::hard_link(entry.path(), dir.path().join("copies").join(entry.file_name())).unwrap();
    }
    let used = bench.store.disk_used().unwrap();
    assert!(used.live < 10 * BATCH, "what has two names counts once: {used:?}");
    drop(bench);
    let bench = open(dir.path(), Arc::new(RealDisk), 4 * BATCH, None);
    (0..3).for_each(|_| bench.store.sweep());
    assert_eq!(minutes(&bench.store).len(), 8, "data went that frees nothing");
    let said = condition(&bench.store, "over_budget").unwrap();
    assert!(said.contains("second name") && said.contains("--disk-limit"), "{said}");
    std::fs::remove_dir_all(dir.path().join("copies")).unwrap();
    bench.store.sweep();
    assert_eq!(condition(&bench.store, "over_budget"), None);
    assert!(minutes(&bench.store).len() < 8 && bench.store.disk_used().unwrap().total() <= 4 * BATCH);
}

#[test]
fn a_clock_that_jumps_by_weeks_removes_nothing_until_the_data_or_somebody_confirms_it() {
    let dir = tempfile::tempdir().unwrap();
    let week = Some(Duration::from_secs(7 * 86_400));
    let bench = open(dir.path(), Arc::new(RealDisk), u64::MAX, week);
    (0..3).for_each(|minute| part(&bench, NOW_MS + minute * 60_000));
    let jump = |days: i64| {
        bench.clock.set_ns((NOW_MS + days * DAY_MS) * 1_000_000);
        bench.store.look_at_clock(Duration::ZERO);
        bench.store.sweep();
    };
    jump(30);
    assert_eq!(minutes(&bench.store).len(), 3);
    assert!(condition(&bench.store, "retention_paused").unwrap().contains("/-/trust-clock"));
    jump(0);
    assert_eq!(condition(&bench.store, "retention_paused"), None);
    jump(30);
    // A sender with a wrong clock among others.
    part(&bench, NOW_MS + 10 * 60_000);
    part(&bench, NOW_MS + 30 * DAY_MS);
    jump(30);
    assert_eq!(minutes(&bench.store).len(), 5);
    part(&bench, NOW_MS + 30 * DAY_MS + 60_000);
    jump(30);
    assert_eq!((minutes(&bench.store).len(), condition(&bench.store, "retention_paused")), (2, None));
    jump(60);
    assert_eq!(minutes(&bench.store).len(), 2);
    bench.store.trust_clock();
    bench.store.sweep();
    assert_eq!(minutes(&bench.store).len(), 0);
}

#[test]
fn a_server_that_was_off_for_weeks_keeps_its_data_at_first() {
    let dir = tempfile::tempdir().unwrap();
    let week = Some(Duration::from_secs(7 * 86_400));
    let bench = open(dir.path(), Arc::new(RealDisk), u64::MAX, week);
    part(&bench, NOW_MS);
    drop(bench);
    // Without a note of the time, as in what an older version or a backup has, the data says it.
    for noted in [false, true] {
        if !noted {
            let _ = std::fs::remove_file(dir.path().join("TRUSTED_TIME"));
        }
        let state = |store: &Bench| {
            store.store.look_at_clock(Duration::from_secs(600));
            store.store.sweep();
            (minutes(&store.store).len(), condition(&store.store, "retention_paused").is_some())
        };
        let late = open_at(dir.path(), Arc::new(RealDisk), NOW_MS + 40 * DAY_MS, u64::MAX, week);
        assert_eq!(state(&late), (1, true), "noted: {noted}");
        drop(late);
        let right = open_at(dir.path(), Arc::new(RealDisk), NOW_MS + HOUR_MS, u64::MAX, week);
        assert_eq!(state(&right), (1, false), "noted: {noted}");
        assert!(dir.path().join("TRUSTED_TIME").exists());
    }
}

/// A disk on which everything below `logs` waits.
struct Stuck {
    held: Arc<(std::sync::Mutex<bool>, std::sync::Condvar)>,
}

impl Stuck {
    fn wait(&self, path: &Path) {
        let below_logs = path.parent().is_some_and(|folder| folder.ends_with("logs") && !folder.ends_with("wal/logs"));
        let (held, changed) = &*self.held;
        let mut held = held.lock().unwrap();
        while *held && below_logs {
            held = changed.wait(held).unwrap();
        }
    }
}

impl Disk for Stuck {
    fn create_dir_all(&self, path: &Path) -> std::io::Result<()> {
        RealDisk.create_dir_all(path)
    }
    fn list(&self, path: &Path) -> std::io::Result<Vec<trilith::base::disk::Entry>> {
        RealDisk.list(path)
    }
    fn metadata(&self, path: &Path) -> std::io::Result<trilith::base::disk::Metadata> {
        RealDisk.metadata(path)
    }
    fn append(&self, path: &Path) -> std::io::Result<Arc<dyn trilith::base::disk::AppendFile>> {
        self.wait(path);
        RealDisk.append(path)
    }
    fn open(&self, path: &Path) -> std::io::Result<Arc<dyn trilith::base::disk::ReadFile>> {
        RealDisk.open(path)
    }
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        RealDisk.read(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        RealDisk.rename(from, to)
    }
    fn link(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        RealDisk.link(from, to)
    }
    fn remove(&self, path: &Path) -> std::io::Result<()> {
        RealDisk.remove(path)
    }
    fn remove_dir_all(&self, path: &Path) -> std::io::Result<()> {
        RealDisk.remove_dir_all(path)
    }
    fn sync_dir(&self, path: &Path) -> std::io::Result<()> {
        RealDisk.sync_dir(path)
    }
    fn space(&self, path: &Path) -> std::io::Result<trilith::base::disk::Space> {
        RealDisk.space(path)
    }
}

#[test]
fn retention_and_budget_wait_for_no_flush() {
    let dir = tempfile::tempdir().unwrap();
    let held = Arc::new((std::sync::Mutex::new(false), std::sync::Condvar::new()));
    let disk = Arc::new(Stuck { held: held.clone() });
    let bench = open(dir.path(), disk, u64::MAX, Some(Duration::from_secs(3_600)));
    part(&bench, NOW_MS - 2 * HOUR_MS);
    let labels = Labels::from_pairs([("app", "late")]).unwrap();
    let entries = vec![LogEntry { t: NOW_MS * 1_000_000, line: "x".to_owned(), metadata: Labels::default() }];
    bench.store.logs.append(&LogsBatch { streams: vec![StreamBatch { labels, entries }] }).unwrap();
    *held.0.lock().unwrap() = true;
    let (store, (said, swept)) = (bench.store.clone(), std::sync::mpsc::channel());
    std::thread::scope(|scope| {
        let flush = scope.spawn(|| bench.store.logs.lane().flush());
        std::thread::sleep(Duration::from_millis(100));
        std::thread::spawn(move || {
            store.sweep();
            said.send(minutes(&store).len())
        });
        let left = swept.recv_timeout(Duration::from_secs(60));
        let waited = !flush.is_finished();
        *held.0.lock().unwrap() = false;
        held.1.notify_all();
        flush.join().unwrap().unwrap();
        assert_eq!(left, Ok(1), "the sweep waited for the flush, or did not remove the old part");
        assert!(waited, "the flush was not held up");
    });
}
