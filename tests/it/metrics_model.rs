//! A plain list of what was appended to a metrics store, which knows what the store must answer, and
//! the batches and matchers, taken by chance, to ask both.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use trilith::base::counters::Counters;
use trilith::base::disk::RealDisk;
use trilith::base::limits::QueryBudget;
use trilith::model::batch::{MetricsBatch, SeriesBatch};
use trilith::model::exemplar::Exemplar;
use trilith::model::histogram::{BucketSpan, Histogram};
use trilith::model::labels::Labels;
use trilith::model::matcher::{MatchOp, Matcher, all_match};
use trilith::model::sample::{Columns, HistogramSample, Sample};
use trilith::model::time::RangeMs;
use trilith::store::env::{Env, Gate};
use trilith::store::lane::Pace;
use trilith::store::metrics::{MetricsStore, Options};
use trilith::store::series_set;
use trilith::store::waist;
use trilith::store::{AppendMetrics, SelectMetrics};

use super::support::ManualClock;

pub(super) const NOW_MS: i64 = 1_760_000_000_000;
pub(super) const DAY_MS: i64 = 86_400_000;

pub(super) fn env(dir: &Path) -> Env {
    Env::open(
        dir,
        Arc::new(RealDisk),
        Arc::new(ManualClock::at_ns(NOW_MS * 1_000_000)),
        Counters::default(),
        Arc::default(),
    )
}

pub(super) fn open(dir: &Path) -> MetricsStore {
    MetricsStore::open(&env(dir), options()).unwrap()
}

pub(super) fn options() -> Options {
    let mut options = Options::default();
    // Small, so that a test meets several segments.
    options.lane.wal.segment_bytes_max = 4 << 10;
    options
}

/// xorshift64*: seeded, so a failure can be repeated.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 33) % end
    }
}

pub(super) fn labels(number: u64) -> Labels {
    let (job, pod) = (format!("job-{}", number % 3), format!("pod-{number}"));
    let zone = if number.is_multiple_of(4) { "" } else { "z" };
    Labels::from_pairs([("__name__", "requests_total"), ("job", &job), ("pod", &pod), ("zone", zone)]).unwrap()
}

pub(super) fn histogram(random: &mut Random) -> Histogram {
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
pub(super) struct Model(BTreeMap<Labels, Rows>);

/// Floats, histograms, and the start that was written last for each time.
pub(super) type Rows = (BTreeMap<i64, u64>, BTreeMap<i64, String>, BTreeMap<i64, i64>);

impl Model {
    pub(super) fn append(&mut self, batch: &MetricsBatch) {
        for series in &batch.series {
            let own = self.0.entry(series.labels.clone()).or_default();
            own.0.extend(series.samples.iter().map(|sample| (sample.t, sample.value.to_bits())));
            own.1.extend(series.histograms.iter().map(|sample| (sample.t, format!("{:?}", sample.histogram))));
            let starts = series.starts.iter().copied().chain(std::iter::repeat(0));
            own.2.extend(series.samples.iter().zip(starts).map(|(sample, start)| (sample.t, start)));
            own.2.extend(series.histograms.iter().map(|sample| (sample.t, sample.start)));
        }
    }

    pub(super) fn delete(&mut self, matchers: &[Matcher], range: RangeMs) {
        for (_, own) in self.0.iter_mut().filter(|(labels, _)| all_match(matchers, labels)) {
            own.0.retain(|t, _| !range.contains(*t));
            own.1.retain(|t, _| !range.contains(*t));
        }
    }

    pub(super) fn select(&self, matchers: &[Matcher], range: RangeMs) -> Vec<String> {
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

pub(super) fn lines(answer: &[(Labels, Columns)]) -> Vec<String> {
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

pub(super) fn select(store: &MetricsStore, matchers: &[Matcher], range: RangeMs) -> Vec<String> {
    let answer = series_set::select(store, matchers, range, &QueryBudget::unlimited()).unwrap();
    assert!(answer.is_sorted_by(|a, b| a.0 < b.0));
    lines(&answer)
}

pub(super) fn everything(store: &MetricsStore) -> Vec<String> {
    select(store, &[], RangeMs::ALL)
}

pub(super) fn random_time(random: &mut Random) -> i64 {
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
pub(super) fn start_of(t: i64) -> i64 {
    if t % 3 == 0 { 0 } else { NOW_MS - 77 - t % 5 }
}

pub(super) fn random_value(random: &mut Random) -> f64 {
    match random.below(8) {
        0 => f64::from_bits(0x7ff0_0000_0000_0002),
        1 => -0.0,
        2 => f64::from_bits(random.next()),
        3 => f64::INFINITY,
        _ => random.below(10_000) as f64 / 10.0,
    }
}

pub(super) fn random_batch(random: &mut Random, starts: bool) -> MetricsBatch {
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

pub(super) fn pace() -> Pace {
    Pace::full(&Arc::new(Gate::default()))
}

pub(super) fn random_matchers(random: &mut Random) -> Vec<Matcher> {
    let all = some_matchers();
    all[random.below(all.len() as u64) as usize].clone()
}

pub(super) fn some_matchers() -> Vec<Vec<Matcher>> {
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
pub(super) fn compare(found: &[String], expected: &[String], when: &str) {
    let differs = found.iter().zip(expected).find(|(found, expected)| found != expected);
    assert_eq!(differs, None, "{when}");
    assert_eq!(found.len(), expected.len(), "{when}");
}

pub(super) fn check(store: &MetricsStore, model: &Model, seed: u64) {
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
pub(super) fn check_lists(store: &MetricsStore, matchers: &[Matcher], when: &str) {
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
        let expected = waist::count(all, 7, &budget).unwrap();
        assert_eq!(store.cardinality(&selectors, range, 7, &budget).unwrap(), expected, "{when}");
    }
}

pub(super) fn one_series(number: u64, samples: &[(i64, f64)]) -> MetricsBatch {
    let samples = samples.iter().map(|(t, value)| Sample { t: *t, value: *value }).collect();
    let series = SeriesBatch { labels: labels(number), samples, ..SeriesBatch::default() };
    MetricsBatch { series: vec![series], metadata: vec![] }
}

pub(super) fn parts(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir.join("metrics")).unwrap().map(|entry| entry.unwrap().path());
    let mut parts: Vec<_> = entries.filter(|path| path.extension().is_some_and(|own| own == "part")).collect();
    parts.sort();
    parts
}

/// A store with one part of a few series, closed.
pub(super) fn with_one_part(dir: &Path) -> Model {
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
