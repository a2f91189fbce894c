//! The metrics store as a whole, against a plain list of what was appended.

use std::sync::Arc;
use std::time::Duration;

use trilith::base::limits::QueryBudget;
use trilith::base::memory::MemoryBudget;
use trilith::model::batch::{MetricMetadata, MetricsBatch, SeriesBatch};
use trilith::model::exemplar::Exemplar;
use trilith::model::labels::Labels;
use trilith::model::matcher::{MatchOp, Matcher};
use trilith::model::sample::Sample;
use trilith::model::time::RangeMs;
use trilith::store::account::Account;
use trilith::store::env::Env;
use trilith::store::metrics::keep::{Retention, Rule};
use trilith::store::metrics::{MetricsStore, Options};
use trilith::store::series_set;
use trilith::store::{AppendMetrics, SelectMetrics};

use super::metrics_model::{
    DAY_MS, Model, NOW_MS, Random, check, compare, env, everything, labels, one_series, open, options, pace, parts,
    random_batch, random_matchers, select,
};
use super::support::ManualClock;

#[test]
fn any_sequence_of_appends_flushes_merges_deletes_and_reopens_answers_as_a_plain_list_would() {
    for seed in 1..=10u64 {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let starts = seed % 2 == 0;
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        let mut model = Model::default();
        for _ in 0..50 {
            match random.below(16) {
                0 | 3 | 4 => store.lane().flush().unwrap(),
                5 => drop(store.lane().merge(&mut pace()).unwrap()),
                6 => drop(store.lane().rewrite(&mut pace()).unwrap()),
                7 => {
                    let matchers = random_matchers(&mut random);
                    let start = NOW_MS + random.below(300) as i64 * 15_000;
                    let range = match random.below(3) {
                        0 => RangeMs::ALL,
                        _ => RangeMs { start, end: start + random.below(200) as i64 * 15_000 },
                    };
                    store.delete(&matchers, range).unwrap();
                    model.delete(&matchers, range);
                }
                1 => {
                    drop(store);
                    store = open(dir.path());
                }
                2 => check(&store, &model, seed),
                _ => {
                    let batch = random_batch(&mut random, starts);
                    let appended = store.append(&batch).unwrap();
                    assert_eq!(appended.accepted as usize, batch.samples());
                    model.append(&batch);
                }
            }
        }
        check(&store, &model, seed);
        store.lane().flush().unwrap();
        check(&store, &model, seed);
        drop(store);
        check(&open(dir.path()), &model, seed);
    }
}

#[test]
fn parts_of_a_day_become_one_and_small_ones_wait_for_others() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut model = Model::default();
    for hour in 0..9 {
        for series in 0..4 {
            let samples: Vec<_> =
                (0..240).map(|at| (NOW_MS - DAY_MS + hour * 3_600_000 + at * 15_000, at as f64)).collect();
            let batch = one_series(series, &samples);
            store.append(&batch).unwrap();
            model.append(&batch);
        }
        store.lane().flush().unwrap();
    }
    let before: u64 = parts(dir.path()).iter().map(|path| std::fs::metadata(path).unwrap().len()).sum();
    let count = parts(dir.path()).len();
    assert!(count >= 9, "{count}");
    assert!(store.lane().merge(&mut pace()).unwrap() > 0);
    check(&store, &model, 0);
    let merged = parts(dir.path());
    assert!(merged.len() <= 2, "one a day: {merged:?}");
    let after: u64 = merged.iter().map(|path| std::fs::metadata(path).unwrap().len()).sum();
    assert!(after < before, "{after} of {before}");
    // Little that comes late is not worth writing a day anew.
    store.append(&one_series(1, &[(NOW_MS - DAY_MS + 7, 1.0)])).unwrap();
    model.append(&one_series(1, &[(NOW_MS - DAY_MS + 7, 1.0)]));
    store.lane().flush().unwrap();
    assert_eq!(store.lane().merge(&mut pace()).unwrap(), 0);
    assert_eq!(parts(dir.path()).len(), merged.len() + 1);
    drop(store);
    check(&open(dir.path()), &model, 0);
}

#[test]
fn heads_that_were_flushed_early_become_one_part_and_whole_ones_wait_for_others() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let flush_at = |minute: i64| {
        let samples: Vec<_> = (0..40).map(|at| (NOW_MS + minute * 60_000 + at * 15_000, at as f64)).collect();
        store.append(&one_series(1, &samples)).unwrap();
        store.lane().flush().unwrap();
    };
    // Two parts of two hours.
    [0, 100].into_iter().for_each(flush_at);
    assert_eq!(store.lane().merge(&mut pace()).unwrap(), 1);
    assert_eq!(parts(dir.path()).len(), 1);
    // What lies further apart is written anew with more of its like.
    flush_at(230);
    assert_eq!(store.lane().merge(&mut pace()).unwrap(), 0);
    assert_eq!(parts(dir.path()).len(), 2);
    assert_eq!(everything(&store).len(), 120);
}

#[test]
fn old_data_of_many_days_is_merged_as_far_as_memory_allows() {
    for (merge_bytes_max, whole) in [(64 << 20, true), (100 << 10, false)] {
        let dir = tempfile::tempdir().unwrap();
        let mut options = options();
        options.lane.merge_bytes_max = merge_bytes_max;
        let store = MetricsStore::open(&env(dir.path()), options).unwrap();
        let mut random = Random(7);
        let old = (NOW_MS / DAY_MS - 800) / 400 * 400 * DAY_MS;
        // Eight times ten days, of some 25 KB each.
        for part in 0..8 {
            let times = (0..1_200).map(|at| old + part * 10 * DAY_MS + at * 720_000);
            for series in 0..2 {
                let samples: Vec<_> = times.clone().map(|t| (t, f64::from_bits(random.next()))).collect();
                store.append(&one_series(series, &samples)).unwrap();
            }
            store.lane().flush().unwrap();
        }
        assert_eq!(parts(dir.path()).len(), 8);
        let before = everything(&store);
        store.lane().merge(&mut pace()).unwrap();
        let left = parts(dir.path()).len();
        assert!(if whole { left == 1 } else { (3..8).contains(&left) }, "{left} with {merge_bytes_max}");
        compare(&everything(&store), &before, "merged");
    }
}

#[test]
fn parts_are_merged_when_there_is_memory_for_it_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let whole = MemoryBudget::new(64 << 20);
    let env = Env { account: Account::new(&whole), ..env(dir.path()) };
    let store = MetricsStore::open(&env, options()).unwrap();
    for minute in 0..4 {
        let samples: Vec<_> = (0..40).map(|at| (NOW_MS + minute * 60_000 + at * 15_000, at as f64)).collect();
        store.append(&one_series(1, &samples)).unwrap();
        store.lane().flush().unwrap();
    }
    let merges = &env.account.merges;
    let held = merges.hold(usize::try_from(merges.room()).unwrap()).unwrap();
    assert_eq!(store.lane().merge(&mut pace()).unwrap(), 0);
    assert_eq!(parts(dir.path()).len(), 4);
    drop(held);
    assert_eq!(store.lane().merge(&mut pace()).unwrap(), 1);
    assert_eq!((parts(dir.path()).len(), merges.used()), (1, 0));
}

#[test]
fn a_head_is_flushed_in_time_also_when_the_clock_was_far_ahead() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at_ns((NOW_MS + 400 * DAY_MS) * 1_000_000));
    let store = MetricsStore::open(&Env { clock: clock.clone(), ..env(dir.path()) }, options()).unwrap();
    clock.set_ns(NOW_MS * 1_000_000);
    store.append(&one_series(1, &[(NOW_MS, 1.0)])).unwrap();
    store.lane().flush_if_due(u64::MAX).unwrap();
    assert!(parts(dir.path()).is_empty());
    clock.set_ns((NOW_MS + 2 * 3_600_000) * 1_000_000);
    store.lane().flush_if_due(u64::MAX).unwrap();
    assert_eq!(parts(dir.path()).len(), 1);
}

#[test]
fn a_deleted_sample_is_gone_also_from_the_disk_and_one_sent_again_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let samples: Vec<_> = (0..100).map(|at| (NOW_MS - 1_000_000 + at * 1000, at as f64)).collect();
    for series in [1, 2] {
        store.append(&one_series(series, &samples)).unwrap();
    }
    let exemplar = Exemplar { labels: Labels::default(), value: 7.0, t: samples[50].0 };
    let with = SeriesBatch { labels: labels(1), exemplars: vec![exemplar], ..SeriesBatch::default() };
    store.append(&MetricsBatch { series: vec![with], metadata: vec![] }).unwrap();
    let (matchers, range) =
        (vec![Matcher::equal("pod", "pod-1")], RangeMs { start: samples[10].0, end: samples[89].0 });
    store.delete(&matchers, range).unwrap();
    let budget = QueryBudget::unlimited();
    for step in 0..3 {
        assert_eq!(everything(&store).len(), 120, "step {step}");
        assert!(store.exemplars(&[], RangeMs::ALL, &budget).unwrap().iter().all(|(_, own)| own.is_empty()));
        // Later on a series is listed for what it has around the range.
        assert!(step == 2 || store.series(&matchers, range, &budget).unwrap().is_empty(), "step {step}");
        match step {
            0 => {
                assert_eq!(store.tombstones(), 1);
                drop(store);
                store = open(dir.path());
            }
            _ => {
                store.lane().rewrite(&mut pace()).unwrap();
                assert_eq!(store.tombstones(), 0, "nothing waits any more");
            }
        }
    }
    store.append(&one_series(1, &samples[20..30])).unwrap();
    assert_eq!(everything(&store).len(), 130);
    store.lane().flush().unwrap();
    store.lane().merge(&mut pace()).unwrap();
    drop(store);
    assert_eq!(everything(&open(dir.path())).len(), 130);
}

#[test]
fn a_series_has_the_retention_of_the_first_rule_that_fits() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let hours = |hours: u64| Some(std::time::Duration::from_secs(hours * 3600));
    let rule = |pod: &str, keep| Rule { matchers: vec![Matcher::equal("pod", pod)], keep };
    let hour = |ago: i64| (NOW_MS - ago * 3_600_000, ago as f64);
    let ages: Vec<_> = [100, 60, 30, 5, 0].map(hour).to_vec();
    for series in 1..=3 {
        store.append(&one_series(series, &ages)).unwrap();
    }
    let rules = vec![rule("pod-1", hours(10)), rule("pod-2", None)];
    let retention = Retention { rules, others: hours(50) };
    store.set_retention(retention);
    let left = |store: &MetricsStore, pod: &str| select(store, &[Matcher::equal("pod", pod)], RangeMs::ALL).len();
    for step in 0..3 {
        let found = ["pod-1", "pod-2", "pod-3"].map(|pod| left(&store, pod));
        assert_eq!(found, [2, 5, 3], "step {step}");
        match step {
            0 => store.lane().flush().unwrap(),
            _ => drop(store.lane().rewrite(&mut pace()).unwrap()),
        }
    }
    assert_eq!(store.lane().rewrite(&mut pace()).unwrap(), 0, "once is enough");
    // What is gone stays gone when the rules change.
    store.set_retention(Retention::default());
    assert_eq!(left(&store, "pod-2"), 5);
    assert!(left(&store, "pod-1") < 5 && left(&store, "pod-3") < 5);
}

#[test]
fn exemplars_and_metadata_survive_flush_and_restart_once() {
    let dir = tempfile::tempdir().unwrap();
    let budget = QueryBudget::unlimited();
    let exemplar = |t: i64| Exemplar { labels: labels(50), value: f64::NAN, t };
    let mut batch = one_series(1, &[(NOW_MS, 1.0)]);
    batch.series[0].exemplars = vec![exemplar(NOW_MS), exemplar(NOW_MS), exemplar(NOW_MS - 3 * DAY_MS)];
    batch.metadata = vec![MetricMetadata { name: "a".into(), help: "x".repeat(10_000), ..Default::default() }];
    for round in 0..4 {
        let store = open(dir.path());
        let appended = store.append(&batch).unwrap();
        assert!(appended.exemplars <= 2);
        if round % 2 == 0 {
            store.lane().flush().unwrap();
        }
        let found = store.exemplars(&[Matcher::equal("pod", "pod-1")], RangeMs::ALL, &budget).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].1.iter().map(|own| own.t).collect::<Vec<_>>(), [NOW_MS - 3 * DAY_MS, NOW_MS]);
        assert!(store.exemplars(&[Matcher::equal("pod", "x")], RangeMs::ALL, &budget).unwrap().is_empty());
        let metadata = store.metadata(&QueryBudget::unlimited()).unwrap();
        assert_eq!((metadata.len(), metadata[0].help.len()), (1, 4096));
        let poor = QueryBudget::new(Duration::MAX, 4096, u64::MAX);
        assert!(store.metadata(&poor).is_err(), "an answer with metadata is not charged");
    }
}

#[test]
fn over_the_series_limit_new_series_are_refused_and_old_ones_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = MetricsStore::open(&env(dir.path()), Options { active_series_max: 3, ..options() }).unwrap();
    for number in 0..5 {
        let appended = store.append(&one_series(number, &[(NOW_MS, 1.0), (NOW_MS + 1, 1.0)])).unwrap();
        assert_eq!(appended.rejected.count(), if number < 3 { 0 } else { 2 });
        assert!(appended.rejected.iter().all(|(reason, _)| reason == "series_limit"));
    }
    assert_eq!(store.append(&one_series(0, &[(NOW_MS + 2, 1.0)])).unwrap().accepted, 1);
    assert_eq!(everything(&store).len(), 7);
    let long = Labels::from_pairs([("a", "x".repeat(100_000))]).unwrap();
    let series = SeriesBatch { labels: long, samples: vec![Sample { t: 1, value: 1.0 }], ..SeriesBatch::default() };
    let appended = store.append(&MetricsBatch { series: vec![series], metadata: vec![] }).unwrap();
    assert_eq!(appended.rejected.iter().next().unwrap().0, "labels_too_long");
}

#[test]
fn a_query_over_its_memory_or_rows_ends_with_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for number in 0..20 {
        let samples: Vec<_> = (0..1000).map(|at| (NOW_MS + at, at as f64)).collect();
        store.append(&one_series(number, &samples)).unwrap();
    }
    for _ in 0..2 {
        let small = QueryBudget::new(std::time::Duration::from_secs(60), 100_000, u64::MAX);
        assert!(series_set::select(&store, &[], RangeMs::ALL, &small).is_err());
        assert!(small.memory_peak() <= 100_000);
        let few = QueryBudget::new(std::time::Duration::from_secs(60), u64::MAX, 5_000);
        assert!(series_set::select(&store, &[], RangeMs::ALL, &few).is_err());
        let canceled = QueryBudget::unlimited();
        canceled.cancel();
        assert!(series_set::select(&store, &[], RangeMs::ALL, &canceled).is_err());
        store.lane().flush().unwrap();
    }
}

#[test]
fn series_without_samples_take_no_room() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let before = store.lane().stats();
    for number in 0..100 {
        assert_eq!(store.append(&one_series(number, &[])).unwrap().accepted, 0);
    }
    assert_eq!(store.lane().stats(), before);
    assert_eq!(store.active_series(), 0);
}

#[test]
fn a_label_with_more_values_than_the_catalog_lists_is_answered_by_its_part() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut batch = MetricsBatch::default();
    for number in 0..40_000 {
        batch.series.extend(one_series(number, &[(NOW_MS, 1.0)]).series);
    }
    store.append(&batch).unwrap();
    store.lane().flush().unwrap();
    let budget = QueryBudget::unlimited();
    assert_eq!(store.label_values("pod", &[], RangeMs::ALL, &budget).unwrap().len(), 40_000);
    let one = [Matcher::equal("pod", "pod-39999")];
    assert_eq!(store.label_values("job", &one, RangeMs::ALL, &budget).unwrap(), ["job-0"]);
    assert_eq!(store.label_names(&one, RangeMs::ALL, &budget).unwrap(), ["__name__", "job", "pod", "zone"]);
    assert_eq!(select(&store, &one, RangeMs::ALL).len(), 1);
    let some = [Matcher::new("pod", MatchOp::Regex, "pod-12.*9").unwrap()];
    assert_eq!(store.series(&some, RangeMs::ALL, &budget).unwrap().len(), 1 + 10 + 100);
}

#[test]
fn threads_that_append_query_and_flush_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let store = &store;
            scope.spawn(move || {
                for at in 0..200 {
                    store.append(&one_series(thread, &[(NOW_MS + at, at as f64)])).unwrap();
                    let own = [Matcher::equal("pod", format!("pod-{thread}"))];
                    let found = select(store, &own, RangeMs { start: NOW_MS + at, end: NOW_MS + at });
                    assert_eq!(found.len(), 1, "what was acknowledged is not seen");
                }
            });
        }
        for _ in 0..10 {
            store.lane().flush().unwrap();
        }
    });
    assert_eq!(everything(&store).len(), 800);
    drop(store);
    assert_eq!(everything(&open(dir.path())).len(), 800);
}
