//! What a metrics store answers when bytes of its files are not what was written, or work did not end.

use std::sync::atomic::Ordering;

use trilith::base::limits::QueryBudget;
use trilith::model::batch::{MetricMetadata, MetricsBatch};
use trilith::model::time::RangeMs;
use trilith::store::lane::expect_replay;
use trilith::store::metrics::MetricsStore;
use trilith::store::{AppendMetrics, SelectMetrics};

use super::metrics_model::{
    DAY_MS, Model, NOW_MS, check_lists, env, everything, one_series, open, options, parts, select, some_matchers,
    with_one_part,
};

#[test]
fn any_flipped_byte_in_a_part_gives_no_false_answer() {
    let dir = tempfile::tempdir().unwrap();
    let model = with_one_part(dir.path());
    let truth = model.select(&[], RangeMs::ALL);
    let [path] = parts(dir.path()).try_into().unwrap();
    let good = std::fs::read(&path).unwrap();
    let (mut whole, mut damaged) = (0, 0);
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x11;
        std::fs::write(&path, &bad).unwrap();
        let env = env(dir.path());
        let store = MetricsStore::open(&env, options()).unwrap();
        let found = everything(&store);
        assert!(found.iter().all(|line| truth.contains(line)), "byte {at}");
        whole += usize::from(found == truth);
        for matchers in some_matchers() {
            let some = select(&store, &matchers, RangeMs::ALL);
            assert!(found != truth || some == model.select(&matchers, RangeMs::ALL), "byte {at}: {matchers:?}");
        }
        let budget = QueryBudget::unlimited();
        let _ = store.exemplars(&[], RangeMs::ALL, &budget).unwrap();
        if found == truth {
            check_lists(&store, &some_matchers()[0], &format!("byte {at}"));
        } else {
            store.cardinality(&[vec![]], RangeMs::ALL, 9, &budget).unwrap();
        }
        damaged += usize::from(env.counters.expose().contains("trilith_damaged_total{signal=\"metrics\"} 0"));
        drop((store, env));
        for aside in std::fs::read_dir(dir.path().join("metrics")).unwrap() {
            std::fs::remove_file(aside.unwrap().path()).unwrap();
        }
    }
    // Only bytes of the one data frame cost samples.
    assert!(whole > good.len() / 3, "{whole} of {}", good.len());
    assert!(damaged < good.len() / 4, "{damaged} of {} went unnoticed", good.len());
}

#[test]
fn what_was_not_flushed_is_replayed_once_also_with_a_torn_tail() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model::default();
    {
        let store = open(dir.path());
        for number in 0..200 {
            let batch = one_series(number % 7, &[(NOW_MS + number as i64, 1.0), (NOW_MS - number as i64, 2.0)]);
            store.append(&batch).unwrap();
            model.append(&batch);
        }
    }
    let wal = dir.path().join("wal/metrics");
    let mut segments: Vec<_> = std::fs::read_dir(&wal).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.sort();
    assert!(segments.len() > 1, "one segment tells nothing");
    let last = segments.last().unwrap();
    let mut bytes = std::fs::read(last).unwrap();
    bytes.extend_from_slice(&[0xF7, b'T', b'L', b'W', 200, 0, 0, 0, 1, 2, 3]);
    std::fs::write(last, bytes).unwrap();
    let env = env(dir.path());
    expect_replay(&env).unwrap();
    let store = MetricsStore::open(&env, options()).unwrap();
    assert_eq!(everything(&store), model.select(&[], RangeMs::ALL));
    assert_eq!(env.progress.percent(), 100);
    assert!(env.progress.total.load(Ordering::Relaxed) > 0);
    store.lane().flush().unwrap();
    assert_eq!(everything(&store), model.select(&[], RangeMs::ALL));
}

#[test]
fn any_flipped_byte_in_the_log_gives_no_false_answer() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model::default();
    {
        let store = open(dir.path());
        for number in 0..4 {
            let batch = one_series(number % 2, &[(NOW_MS + number as i64, number as f64)]);
            store.append(&batch).unwrap();
            model.append(&batch);
        }
    }
    let truth = model.select(&[], RangeMs::ALL);
    let wal = dir.path().join("wal/metrics");
    let path = std::fs::read_dir(&wal).unwrap().next().unwrap().unwrap().path();
    let good = std::fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x11;
        let again = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(again.path().join("wal/metrics")).unwrap();
        std::fs::write(again.path().join("wal/metrics").join(path.file_name().unwrap()), bad).unwrap();
        let found = everything(&open(again.path()));
        assert!(found.iter().all(|line| truth.contains(line)), "byte {at}: {found:?}");
        // The first record of a series names it, so it costs what follows in the segment, too.
        assert!(found.len() >= truth.len() - 2, "byte {at}: {found:?}");
    }
}

#[test]
fn a_flush_that_did_not_end_leaves_every_sample_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model::default();
    let wal = dir.path().join("wal/metrics");
    let saved = tempfile::tempdir().unwrap();
    {
        let store = open(dir.path());
        let batch = one_series(1, &[(NOW_MS, 1.0), (NOW_MS - DAY_MS, 2.0), (NOW_MS - 2 * DAY_MS, 3.0)]);
        store.append(&batch).unwrap();
        model.append(&batch);
        for entry in std::fs::read_dir(&wal).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, saved.path().join(path.file_name().unwrap())).unwrap();
        }
        store.lane().flush().unwrap();
    }
    let written = parts(dir.path());
    assert_eq!(written.len(), 3);
    let restore = || {
        for entry in std::fs::read_dir(saved.path()).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, wal.join(path.file_name().unwrap())).unwrap();
        }
    };
    // All parts and their log: the parts count.
    restore();
    assert_eq!(everything(&open(dir.path())), model.select(&[], RangeMs::ALL));
    // Parts of which one never got its name: the log counts.
    restore();
    std::fs::rename(&written[1], written[1].with_extension("part.tmp")).unwrap();
    assert_eq!(everything(&open(dir.path())), model.select(&[], RangeMs::ALL));
    assert!(!written[1].with_extension("part.tmp").exists());
}

#[test]
fn a_damaged_catalog_is_rebuilt_from_parts() {
    let dir = tempfile::tempdir().unwrap();
    with_one_part(dir.path());
    {
        let store = open(dir.path());
        let metadata = MetricMetadata { name: "up".into(), kind: "gauge".into(), ..MetricMetadata::default() };
        store.append(&MetricsBatch { metadata: vec![metadata], ..MetricsBatch::default() }).unwrap();
        store.lane().flush().unwrap();
    }
    std::fs::remove_dir_all(dir.path().join("catalog")).unwrap();
    std::fs::create_dir(dir.path().join("catalog")).unwrap();
    std::fs::write(dir.path().join("catalog/conf"), b"rubbish").unwrap();
    std::fs::write(dir.path().join("catalog/db"), [7; 4000]).unwrap();
    let store = open(dir.path());
    let budget = QueryBudget::unlimited();
    assert_eq!(store.label_names(&[], RangeMs::ALL, &budget).unwrap(), ["__name__", "job", "pod", "zone"]);
    assert_eq!(store.label_values("job", &[], RangeMs::ALL, &budget).unwrap(), ["job-0", "job-1", "job-2"]);
    assert_eq!(store.metadata(&QueryBudget::unlimited()).unwrap()[0].kind, "gauge");
    let long_ago = RangeMs { start: 0, end: 1 };
    assert!(store.label_names(&[], long_ago, &budget).unwrap().is_empty());
}
