//! Merges, deletions and retention of metrics on a disk that dies at every single write, is cut off,
//! or is full. What was acknowledged is there exactly once, what was deleted stays deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use trilith::base::disk::{Disk, RealDisk};
use trilith::base::limits::QueryBudget;
use trilith::model::batch::{MetricsBatch, SeriesBatch};
use trilith::model::labels::Labels;
use trilith::model::matcher::Matcher;
use trilith::model::sample::Sample;
use trilith::model::time::RangeMs;
use trilith::store::series_set;
use trilith::store::stores::Store;
use trilith::store::{Administer as _, AppendMetrics, StoreError};

use super::power::{NOW_MS, open};
use super::support::SimDisk;

const ROWS: i64 = 10;
/// A day that ends before retention does.
const OLD_MS: i64 = NOW_MS - 5 * 86_400_000;
const BATCHES: i64 = 9;

fn labels(series: i64) -> Labels {
    Labels::from_pairs([("__name__", "merged"), ("series", if series == 0 { "a" } else { "b" })]).unwrap()
}

/// Rows of two series; batches lie in each other's time.
fn batch(number: i64) -> MetricsBatch {
    let samples = |series: i64| {
        (0..ROWS).map(move |row| Sample {
            t: NOW_MS - 1_000_000 + row * 100 + number,
            value: (number * ROWS + row + series) as f64,
        })
    };
    let series = |own| SeriesBatch { labels: labels(own), samples: samples(own).collect(), ..SeriesBatch::default() };
    MetricsBatch { series: vec![series(0), series(1)], metadata: Vec::new() }
}

fn old() -> MetricsBatch {
    let samples = vec![Sample { t: OLD_MS, value: -1.0 }];
    MetricsBatch {
        series: vec![SeriesBatch { labels: labels(0), samples, ..SeriesBatch::default() }],
        metadata: vec![],
    }
}

/// What is deleted on the way: series `a` of batches 0 to 4, in the first rows.
fn deleted() -> (Vec<Matcher>, RangeMs) {
    (vec![Matcher::equal("series", "a")], RangeMs { start: NOW_MS - 1_000_000, end: NOW_MS - 1_000_000 + 499 })
}

type Rows = BTreeMap<(Labels, i64), f64>;

fn rows(batch: &MetricsBatch) -> Rows {
    let series = batch.series.iter();
    series.flat_map(|own| own.samples.iter().map(|sample| ((own.labels.clone(), sample.t), sample.value))).collect()
}

fn found(store: &Store) -> Rows {
    let mut found = Rows::new();
    for (labels, columns) in series_set::select(&*store.metrics, &[], RangeMs::ALL, &QueryBudget::unlimited()).unwrap()
    {
        for (t, value) in columns.times.iter().zip(&columns.values) {
            assert_eq!(found.insert((labels.clone(), *t), *value), None, "more than once");
        }
    }
    found
}

/// What a life has promised.
#[derive(Default)]
struct Promised {
    /// Acknowledged, and not touched by the deletion.
    there: Rows,
    /// Acknowledged before the deletion, which was too.
    gone: BTreeSet<(Labels, i64)>,
    /// What was sent at all.
    sent: Rows,
}

impl Promised {
    fn check(&self, when: &str, found: &Rows) {
        for (row, value) in &self.there {
            assert_eq!(found.get(row), Some(value), "{when}: {row:?}");
        }
        for (row, value) in found {
            assert_eq!(self.sent.get(row), Some(value), "{when}: a false row {row:?}");
            assert!(!self.gone.contains(row), "{when}: the deleted {row:?} is there");
        }
    }
}

/// Appends, flushes, merges, deletes, removes by retention. `durable`: what counts is flushed.
fn live(store: &Store, durable: bool, promised: &mut Promised) {
    promised.sent.extend(rows(&old()));
    let _ = store.metrics.append(&old());
    for number in 0..BATCHES {
        promised.sent.extend(rows(&batch(number)));
        let appended = store.metrics.append(&batch(number)).is_ok();
        let flushed = store.metrics.lane().flush().is_ok();
        if appended && (flushed || !durable) {
            promised.there.extend(rows(&batch(number)));
        }
        if number == 4 {
            let (matchers, range) = deleted();
            let touched = |row: &(Labels, i64)| row.0 == labels(0) && range.contains(row.1);
            let touched: BTreeSet<_> = promised.sent.keys().filter(|row| touched(row)).cloned().collect();
            // While it is not acknowledged nobody may rely on it or on its opposite.
            promised.there.retain(|row, _| !touched.contains(row));
            if store.metrics.delete(&matchers, range).is_ok() {
                promised.gone = touched;
            }
        }
        if number == 2 {
            store.metrics.lane().remove_before(OLD_MS + 86_400_000);
        }
        if number % 2 == 1 {
            let _ = store.merge();
        }
    }
    let _ = store.merge();
}

fn parts(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir.join("metrics")).unwrap().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(".part")).count()
}

#[test]
fn death_at_any_write_of_a_merge_or_deletion_loses_doubles_and_revives_nothing() {
    let whole = {
        let dir = tempfile::tempdir().unwrap();
        let disk = SimDisk::new(1);
        let store = open(dir.path(), Arc::new(disk.clone())).unwrap();
        let mut promised = Promised::default();
        live(&store, false, &mut promised);
        promised.check("whole", &found(&store));
        assert!(!promised.gone.is_empty() && parts(dir.path()) < 6, "{} parts: is anything merged?", parts(dir.path()));
        assert_eq!(store.metrics.tombstones(), 0, "what is deleted is gone from the disk in the end");
        disk.steps()
    };
    assert!(whole > 150, "only {whole} writes");
    for step in 0..=whole {
        let dir = tempfile::tempdir().unwrap();
        let disk = SimDisk::new(1);
        disk.die_after(step);
        let mut promised = Promised::default();
        if let Ok(store) = open(dir.path(), Arc::new(disk)) {
            live(&store, false, &mut promised);
        }
        let when = format!("death at write {step} of {whole}");
        let store = open(dir.path(), Arc::new(RealDisk)).unwrap();
        promised.check(&when, &found(&store));
        let before = found(&store);
        store.merge().unwrap();
        assert_eq!(found(&store), before, "{when}: merging on changed the answer");
        drop(store);
        assert_eq!(found(&open(dir.path(), Arc::new(RealDisk)).unwrap()), before, "{when}: reopened");
    }
}

#[test]
fn a_call_that_fails_during_a_merge_or_deletion_loses_doubles_and_revives_nothing() {
    let whole = {
        let dir = tempfile::tempdir().unwrap();
        let disk = SimDisk::new(1);
        live(&open(dir.path(), Arc::new(disk.clone())).unwrap(), false, &mut Promised::default());
        disk.calls()
    };
    for call in 0..=whole {
        let dir = tempfile::tempdir().unwrap();
        let disk = SimDisk::new(call);
        disk.fail_after(call, call % 3 == 0);
        let mut promised = Promised::default();
        let store = open(dir.path(), Arc::new(disk.clone())).unwrap_or_else(|_| {
            disk.heal();
            open(dir.path(), Arc::new(disk.clone())).unwrap()
        });
        live(&store, false, &mut promised);
        disk.heal();
        store.tick();
        let when = format!("call {call} of {whole} failed");
        promised.check(&when, &found(&store));
        store.metrics.lane().flush().unwrap();
        let before = found(&store);
        store.merge().unwrap();
        assert_eq!(found(&store), before, "{when}: merging on changed the answer");
        drop(store);
        assert_eq!(found(&open(dir.path(), Arc::new(RealDisk)).unwrap()), before, "{when}: reopened");
    }
}

#[test]
fn samples_that_are_deleted_while_a_merge_reads_them_stay_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SimDisk::new(1);
    let store = open(dir.path(), Arc::new(disk.clone())).unwrap();
    let one = |t: i64| {
        let samples = vec![Sample { t, value: 1.0 }];
        let series = SeriesBatch { labels: labels(0), samples, ..SeriesBatch::default() };
        MetricsBatch { series: vec![series], metadata: Vec::new() }
    };
    // Two parts that will be one; the deletion has only the older one's time.
    for t in [NOW_MS - 2000, NOW_MS - 1000] {
        store.metrics.append(&one(t)).unwrap();
        store.metrics.lane().flush().unwrap();
    }
    // Behind its header and the list of its parts the merge knows what to leave out.
    disk.hold_write("metrics/", 2);
    std::thread::scope(|scope| {
        let merge = scope.spawn(|| store.merge().unwrap());
        disk.wait_held();
        let range = RangeMs { start: NOW_MS - 2000, end: NOW_MS - 1500 };
        store.metrics.delete(&[Matcher::equal("series", "a")], range).unwrap();
        assert_eq!(found(&store).len(), 1);
        disk.release();
        assert!(merge.join().unwrap() > 0);
    });
    assert_eq!(found(&store).len(), 1, "the deleted sample is back");
    store.merge().unwrap();
    drop(store);
    assert_eq!(found(&open(dir.path(), Arc::new(RealDisk)).unwrap()).len(), 1);
}

#[test]
fn a_disk_that_is_full_from_any_write_on_loses_doubles_and_revives_nothing() {
    let mut refused = 0;
    for step in (10..200).step_by(3) {
        let dir = tempfile::tempdir().unwrap();
        let disk = SimDisk::new(1);
        let store = open(dir.path(), Arc::new(disk.clone())).unwrap();
        disk.fill_after(step);
        let mut promised = Promised::default();
        live(&store, false, &mut promised);
        let when = format!("full from write {step} on");
        promised.check(&when, &found(&store));
        refused += usize::from(promised.there.len() < promised.sent.len());
        disk.set_room(None);
        store.merge().unwrap();
        store.metrics.lane().flush().unwrap();
        promised.check(&format!("{when}, then with room"), &found(&store));
        store.metrics.append(&batch(BATCHES)).unwrap();
        promised.sent.extend(rows(&batch(BATCHES)));
        promised.there.extend(rows(&batch(BATCHES)));
        drop(store);
        promised.check(&format!("{when}, reopened"), &found(&open(dir.path(), Arc::new(RealDisk)).unwrap()));
    }
    assert!(refused > 30, "only {refused} lives met a full disk");
}

#[test]
fn a_power_cut_during_merges_and_deletions_keeps_what_was_flushed() {
    for seed in 1..=60_u64 {
        let dir = tempfile::tempdir().unwrap();
        let disk = SimDisk::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        disk.die_after(20 + seed * 4);
        let mut promised = Promised::default();
        if let Ok(store) = open(dir.path(), Arc::new(disk.clone())) {
            live(&store, true, &mut promised);
        }
        disk.cut_power().unwrap();
        let store = open(dir.path(), Arc::new(RealDisk)).unwrap();
        promised.check(&format!("power cut, seed {seed}"), &found(&store));
        let before = found(&store);
        store.merge().unwrap();
        assert_eq!(found(&store), before, "seed {seed}: merging on changed the answer");
    }
}

/// Snapshots that are whole, by name.
fn snapshots(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir.join("snapshots")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.extension().is_none()).collect()
}

#[test]
fn a_snapshot_is_whole_or_not_there_whenever_the_disk_dies() {
    let (mut step, mut taken) = (0, 0);
    while taken < 3 {
        let dir = tempfile::tempdir().unwrap();
        let disk = SimDisk::new(1);
        let store = open(dir.path(), Arc::new(disk.clone())).unwrap();
        for number in 0..2 {
            store.metrics.append(&batch(number)).unwrap();
            store.metrics.lane().flush().unwrap();
        }
        let (matchers, range) = deleted();
        store.metrics.delete(&matchers, range).unwrap();
        let there = found(&store);
        disk.die_after(step);
        taken += usize::from(store.snapshot(true).is_ok());
        drop(store);
        let store = open(dir.path(), Arc::new(RealDisk)).unwrap();
        assert_eq!(found(&store), there, "death at write {step}");
        for snapshot in snapshots(dir.path()) {
            let own = open(&snapshot, Arc::new(RealDisk)).unwrap();
            assert_eq!(found(&own), there, "the snapshot, death at write {step}");
            // It has its files to itself: what happens to it does not reach the original.
            own.merge().unwrap();
            assert_eq!(found(&own), there);
        }
        assert_eq!(found(&open_again(store, dir.path())), there, "after the snapshot was merged");
        step += 1;
    }
    assert!(step > 8, "only {step} writes");
}

/// Closes a store and opens it again.
fn open_again(store: Arc<Store>, dir: &Path) -> Arc<Store> {
    drop(store);
    open(dir, Arc::new(RealDisk)).unwrap()
}

#[test]
fn on_a_full_disk_nothing_is_merged_or_deleted_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SimDisk::new(1);
    let store = open(dir.path(), Arc::new(disk.clone()) as Arc<dyn Disk>).unwrap();
    let mut all = Rows::new();
    for number in 0..6 {
        store.metrics.append(&batch(number)).unwrap();
        store.metrics.lane().flush().unwrap();
        all.extend(rows(&batch(number)));
    }
    store.metrics.append(&batch(6)).unwrap();
    all.extend(rows(&batch(6)));
    disk.set_room(Some(50));
    assert!(matches!(store.merge(), Err(StoreError::DiskFull { .. })));
    let (matchers, range) = deleted();
    assert!(store.metrics.delete(&matchers, range).is_err());
    assert_eq!(found(&store), all);
    disk.set_room(None);
    store.metrics.delete(&matchers, range).unwrap();
    all.retain(|row, _| row.0 != labels(0) || !range.contains(row.1));
    assert_eq!(found(&store), all);
    assert!(store.merge().unwrap() > 0);
    drop(store);
    assert_eq!(found(&open(dir.path(), Arc::new(RealDisk)).unwrap()), all);
}
