//! The metrics store as a whole, against a plain list of what was appended.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use trilith::base::clock::ManualClock;
use trilith::base::counters::Counters;
use trilith::base::disk::RealDisk;
use trilith::base::limits::QueryBudget;
use trilith::model::batch::{MetricMetadata, MetricsBatch, SeriesBatch};
use trilith::model::exemplar::Exemplar;
use trilith::model::histogram::{BucketSpan, Histogram};
use trilith::model::labels::Labels;
use trilith::model::matcher::{MatchOp, Matcher, all_match};
use trilith::model::sample::{Columns, HistogramSample, Sample};
use trilith::model::time::RangeMs;
use trilith::store::catalog::Catalog;
use trilith::store::env::{Env, Gate, Progress};
use trilith::store::lane::{Pace, expect_replay};
use trilith::store::metrics::cardinality;
use trilith::store::metrics::keep::{Retention, Rule};
use trilith::store::metrics::{MetricsStore, Options};
use trilith::store::series_set;
use trilith::store::{AppendMetrics, SelectMetrics};

pub(super) const NOW_MS: i64 = 1_760_000_000_000;
const DAY_MS: i64 = 86_400_000;

fn env(dir: &Path) -> Env {
    let counters = Counters::default();
    let (catalog, catalog_is_new) = Catalog::open(&dir.join("catalog"), &counters).unwrap();
    Env {
        dir: dir.to_owned(),
        disk: Arc::new(RealDisk),
        clock: Arc::new(ManualClock::at_ns(NOW_MS * 1_000_000)),
        counters,
        catalog: Arc::new(catalog),
        catalog_is_new,
        gate: Arc::new(Gate::default()),
        progress: Arc::new(Progress::default()),
    }
}

pub(super) fn open(dir: &Path) -> MetricsStore {
    MetricsStore::open(&env(dir), options()).unwrap()
}

fn options() -> Options {
    let mut options = Options::default();
    // Small, so that a test meets several segments.
    options.lane.wal.segment_bytes_max = 4 << 10;
    options
}

/// xorshift64*: seeded, so a failure can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 33) % end
    }
}

fn labels(number: u64) -> Labels {
    let (job, pod) = (format!("job-{}", number % 3), format!("pod-{number}"));
    let zone = if number.is_multiple_of(4) { "" } else { "z" };
    Labels::from_pairs([("__name__", "requests_total"), ("job", &job), ("pod", &pod), ("zone", zone)]).unwrap()
}

fn histogram(random: &mut Random) -> Histogram {
    let counts: Vec<f64> = (0..random.below(4)).map(|_| random.below(1000) as f64).collect();
    Histogram {
        schema: 2,
        count: counts.iter().sum(),
        sum: random.below(1_000_000) as f64 / 7.0,
        positive_spans: vec![BucketSpan { offset: -3, length: counts.len() as u32 }],
        positive: counts,
        ..Histogram::default()
    }
}

/// What a store must answer: float bits, or a histogram as text.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model(BTreeMap<Labels, Rows>);

/// Floats, histograms, and the start that was written last for each time.
type Rows = (BTreeMap<i64, u64>, BTreeMap<i64, String>, BTreeMap<i64, i64>);

impl Model {
    fn append(&mut self, batch: &MetricsBatch) {
        for series in &batch.series {
            let own = self.0.entry(series.labels.clone()).or_default();
            own.0.extend(series.samples.iter().map(|sample| (sample.t, sample.value.to_bits())));
            own.1.extend(series.histograms.iter().map(|sample| (sample.t, format!("{:?}", sample.histogram))));
            let starts = series.starts.iter().copied().chain(std::iter::repeat(0));
            own.2.extend(series.samples.iter().zip(starts).map(|(sample, start)| (sample.t, start)));
            own.2.extend(series.histograms.iter().map(|sample| (sample.t, sample.start)));
        }
    }

    fn delete(&mut self, matchers: &[Matcher], range: RangeMs) {
        for (_, own) in self.0.iter_mut().filter(|(labels, _)| all_match(matchers, labels)) {
            own.0.retain(|t, _| !range.contains(*t));
            own.1.retain(|t, _| !range.contains(*t));
        }
    }

    fn select(&self, matchers: &[Matcher], range: RangeMs) -> Vec<String> {
        let mut lines = Vec::new();
        for (labels, (floats, histograms, starts)) in self.0.iter().filter(|(labels, _)| all_match(matchers, labels)) {
            let floats = floats.iter().filter(|(t, _)| range.contains(**t) && !histograms.contains_key(t));
            lines.extend(floats.map(|(t, bits)| format!("{labels} {t} {bits:x} {}", starts[t])));
            let histograms = histograms.iter().filter(|(t, _)| range.contains(**t));
            lines.extend(histograms.map(|(t, histogram)| format!("{labels} {t} {histogram} {}", starts[t])));
        }
        lines
    }
}

fn lines(answer: &[(Labels, Columns)]) -> Vec<String> {
    let mut lines = Vec::new();
    for (labels, series) in answer {
        assert!(!series.is_empty());
        assert!(series.times.is_sorted_by(|a, b| a < b));
        assert!(series.starts.is_empty() || series.starts.len() == series.times.len());
        let floats = series.times.iter().zip(&series.values).enumerate();
        lines.extend(floats.map(|(at, (t, value))| format!("{labels} {t} {:x} {}", value.to_bits(), series.start(at))));
        let histograms = series.histograms.iter();
        lines.extend(histograms.map(|sample| format!("{labels} {} {:?} {}", sample.t, sample.histogram, sample.start)));
    }
    lines
}

fn select(store: &MetricsStore, matchers: &[Matcher], range: RangeMs) -> Vec<String> {
    let answer = series_set::select(store, matchers, range, &QueryBudget::unlimited()).unwrap();
    assert!(answer.is_sorted_by(|a, b| a.0 < b.0));
    lines(&answer)
}

pub(super) fn everything(store: &MetricsStore) -> Vec<String> {
    select(store, &[], RangeMs::ALL)
}

fn random_time(random: &mut Random) -> i64 {
    match random.below(20) {
        0 => i64::MIN,
        1 => i64::MAX,
        2 => NOW_MS + DAY_MS - 2 + random.below(4) as i64,
        3 => -(random.below(3) as i64),
        4 => NOW_MS - 900 * DAY_MS,
        _ => NOW_MS + random.below(400) as i64 * 15_000,
    }
}

/// When counting began for a sample of this time: of some it is not known.
fn start_of(t: i64) -> i64 {
    if t % 3 == 0 { 0 } else { NOW_MS - 77 - t % 5 }
}

fn random_value(random: &mut Random) -> f64 {
    match random.below(8) {
        0 => f64::from_bits(0x7ff0_0000_0000_0002),
        1 => -0.0,
        2 => f64::from_bits(random.next()),
        3 => f64::INFINITY,
        _ => random.below(10_000) as f64 / 10.0,
    }
}

fn random_batch(random: &mut Random, starts: bool) -> MetricsBatch {
    let mut batch = MetricsBatch::default();
    for _ in 0..random.below(6) {
        let mut series = SeriesBatch { labels: labels(random.below(12)), ..SeriesBatch::default() };
        for _ in 0..random.below(30) {
            series.samples.push(Sample { t: random_time(random), value: random_value(random) });
        }
        // A run in order, as most samples come.
        let start = NOW_MS + random.below(10_000) as i64;
        let (step, count) = match random.below(6) {
            // Over many blocks.
            0 => (1 + random.below(60_000), random.below(900)),
            _ => (1 + random.below(20_000), random.below(80)),
        };
        for at in 0..count as i64 {
            series.samples.push(Sample { t: start + at * step as i64, value: (at * 3) as f64 });
        }
        if starts {
            series.starts = series.samples.iter().map(|sample| start_of(sample.t)).collect();
        }
        for _ in 0..random.below(4) * random.below(4) {
            let t = random_time(random);
            series.histograms.push(HistogramSample {
                t,
                start: if starts { start_of(t) } else { 0 },
                histogram: Arc::new(histogram(random)),
            });
        }
        batch.series.push(series);
    }
    batch
}

fn pace() -> Pace {
    Pace::full(&Arc::new(Gate::default()))
}

fn random_matchers(random: &mut Random) -> Vec<Matcher> {
    let all = some_matchers();
    all[random.below(all.len() as u64) as usize].clone()
}

fn some_matchers() -> Vec<Vec<Matcher>> {
    let new = |name: &str, op, value: &str| Matcher::new(name, op, value).unwrap();
    vec![
        vec![Matcher::equal("job", "job-1")],
        vec![Matcher::equal("__name__", "requests_total"), new("pod", MatchOp::Regex, "pod-1.*")],
        vec![new("pod", MatchOp::Regex, "pod-1|pod-2|pod-99"), new("job", MatchOp::NotEqual, "job-2")],
        vec![Matcher::equal("zone", ""), new("pod", MatchOp::NotRegex, "pod-[0-5]")],
        vec![Matcher::equal("job", "absent")],
        vec![new("nothing", MatchOp::Regex, ".*"), new("zone", MatchOp::Regex, ".+")],
    ]
}

/// Says the first difference, not thousands of lines.
fn compare(found: &[String], expected: &[String], when: &str) {
    let differs = found.iter().zip(expected).find(|(found, expected)| found != expected);
    assert_eq!(differs, None, "{when}");
    assert_eq!(found.len(), expected.len(), "{when}");
}

fn check(store: &MetricsStore, model: &Model, seed: u64) {
    compare(&everything(store), &model.select(&[], RangeMs::ALL), &format!("seed {seed}"));
    let range = RangeMs { start: NOW_MS + 10 * 15_000, end: NOW_MS + DAY_MS };
    for matchers in some_matchers() {
        let when = format!("seed {seed}: {matchers:?}");
        compare(&select(store, &matchers, range), &model.select(&matchers, range), &when);
        let matching = model
            .0
            .iter()
            .filter(|(labels, own)| all_match(&matchers, labels) && !(own.0.is_empty() && own.1.is_empty()));
        let mut expected: Vec<_> = matching.map(|(labels, _)| labels.clone()).collect();
        expected.sort();
        let budget = QueryBudget::unlimited();
        let mut found = store.series(&matchers, RangeMs::ALL, &budget).unwrap();
        // What is deleted may be listed until its part is written anew.
        if store.tombstones() > 0 {
            found.retain(|labels| expected.contains(labels));
        }
        assert_eq!(found, expected, "seed {seed}: {matchers:?}");
        let mut pods: Vec<_> = expected.iter().map(|labels| labels.value("pod").to_owned()).collect();
        pods.sort();
        let found = store.label_values("pod", &matchers, RangeMs::ALL, &budget).unwrap();
        // Values may also come from series that have no samples.
        assert!(pods.iter().all(|pod| found.contains(pod)), "seed {seed}: {matchers:?}: {pods:?} {found:?}");
        check_lists(store, &matchers, &format!("seed {seed}: {matchers:?}"));
    }
    check_lists(store, &[], &format!("seed {seed}"));
}

/// What is counted and listed by label is that of the series that are listed.
fn check_lists(store: &MetricsStore, matchers: &[Matcher], when: &str) {
    let budget = QueryBudget::unlimited();
    let series = store.series(matchers, RangeMs::ALL, &budget).unwrap();
    for name in ["pod", "zone"] {
        let mut values: Vec<_> = series.iter().filter_map(|own| own.get(name)).map(str::to_owned).collect();
        values.sort();
        values.dedup();
        assert_eq!(store.label_values(name, matchers, RangeMs::ALL, &budget).unwrap(), values, "{when}");
    }
    let mut names: Vec<_> = series.iter().flat_map(Labels::iter).map(|(name, _)| name.to_owned()).collect();
    names.sort();
    names.dedup();
    assert_eq!(store.label_names(matchers, RangeMs::ALL, &budget).unwrap(), names, "{when}");
    let selectors = [matchers.to_vec(), vec![Matcher::equal("pod", "pod-3")]];
    for range in [RangeMs::ALL, RangeMs { start: NOW_MS + 150_000, end: NOW_MS + 600_000 }] {
        let all = selectors.iter().flat_map(|own| store.series(own, range, &budget).unwrap()).collect();
        let expected = cardinality::count(all, 7, &budget).unwrap();
        assert_eq!(store.cardinality(&selectors, range, 7, &budget).unwrap(), expected, "{when}");
    }
}

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

fn one_series(number: u64, samples: &[(i64, f64)]) -> MetricsBatch {
    let samples = samples.iter().map(|(t, value)| Sample { t: *t, value: *value }).collect();
    let series = SeriesBatch { labels: labels(number), samples, ..SeriesBatch::default() };
    MetricsBatch { series: vec![series], metadata: vec![] }
}

fn parts(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir.join("metrics")).unwrap().map(|entry| entry.unwrap().path());
    let mut parts: Vec<_> = entries.filter(|path| path.extension().is_some_and(|own| own == "part")).collect();
    parts.sort();
    parts
}

/// A store with one part of a few series, closed.
fn with_one_part(dir: &Path) -> Model {
    let store = open(dir);
    let mut model = Model::default();
    for number in 0..5 {
        let mut batch = one_series(number, &[(NOW_MS, 1.5), (NOW_MS + 1, number as f64)]);
        let exemplar = Exemplar { labels: labels(99), value: 1.0, t: NOW_MS };
        batch.series[0].exemplars.push(exemplar);
        store.append(&batch).unwrap();
        model.append(&batch);
    }
    store.lane().flush().unwrap();
    model
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
    [0, 100].map(flush_at);
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
    assert_eq!(store.metadata().unwrap()[0].kind, "gauge");
    let long_ago = RangeMs { start: 0, end: 1 };
    assert!(store.label_names(&[], long_ago, &budget).unwrap().is_empty());
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
        let metadata = store.metadata().unwrap();
        assert_eq!((metadata.len(), metadata[0].help.len()), (1, 4096));
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
