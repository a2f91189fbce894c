//! How many samples a second does the metrics store take, how much memory and disk do they need,
//! and how long do queries take? Seeded series in the proportions of a fleet of hosts and services.
//! `cargo bench --bench ingest -- [SERIES] [STEPS]`
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program for developers")]

use std::sync::Arc;
use std::time::Instant;

use trilith::base::clock::SystemClock;
use trilith::base::counters::Counters;
use trilith::base::disk::RealDisk;
use trilith::base::limits::QueryBudget;
use trilith::model::batch::{MetricsBatch, SeriesBatch};
use trilith::model::labels::Labels;
use trilith::model::matcher::{MatchOp, Matcher};
use trilith::model::sample::Sample;
use trilith::model::time::RangeMs;
use trilith::store::env::Env;
use trilith::store::metrics::{MetricsStore, Options};
use trilith::store::series_set;
use trilith::store::{AppendMetrics, SelectMetrics};

const STEP_MS: i64 = 15_000;

struct Random(u64);

impl Random {
    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn labels(number: usize) -> Labels {
    let (instance, k) = (number / 200, number % 200);
    let (name, extra) = match k {
        0..=39 => ("node_cpu_seconds_total".to_owned(), ("cpu", (k / 8).to_string(), "mode", (k % 8).to_string())),
        40..=79 => ("node_network_total".to_owned(), ("device", format!("eth{k}"), "", String::new())),
        80..=139 => (format!("node_memory_{k}_bytes"), ("", String::new(), "", String::new())),
        _ => (format!("process_gauge_{k}"), ("", String::new(), "", String::new())),
    };
    let host = format!("10.0.{}.{}:9100", instance / 250, instance % 250);
    let job = ["node", "backend", "frontend", "redis", "postgres"][instance % 5];
    let pairs = [("__name__", name.as_str()), ("instance", &host), ("job", job), ("region", "eu-1")];
    let extra = [(extra.0, extra.1.as_str()), (extra.2, extra.3.as_str())];
    let extra = extra.into_iter().filter(|(name, _)| !name.is_empty());
    Labels::from_pairs(pairs.into_iter().chain(extra)).unwrap()
}

fn advance(number: usize, value: f64, random: &mut Random) -> f64 {
    match number % 200 {
        0..=39 => ((value + number as f64 % 15.0 * 2.0 * random.unit()) * 100.0).round() / 100.0,
        40..=79 => value + (1000.0 * random.unit()).round(),
        80..=109 => (value / 4096.0).round() * 4096.0 + 4096.0 * (5000.0 * random.unit()).round(),
        110..=139 => value + (20.0 * random.unit()).round(),
        140..=159 => ((value * 0.9 + random.unit()) * 1000.0).round() / 1000.0,
        160..=184 => value,
        _ => random.unit(),
    }
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = status.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or_default();
    pages * 4096 / (1 << 20)
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let answer = work();
    println!("{what}: {:.1} ms, resident {} MiB", start.elapsed().as_secs_f64() * 1e3, resident_mib());
    answer
}

fn open(dir: &std::path::Path) -> MetricsStore {
    let env = Env::open(dir, Arc::new(RealDisk), Arc::new(SystemClock), Counters::default(), Arc::default());
    MetricsStore::open(&env, Options::default()).unwrap()
}

fn ingest(store: &MetricsStore, series: usize, steps: usize) {
    let mut random = Random(7);
    let all: Vec<Labels> = timed("make labels", || (0..series).map(labels).collect());
    let mut values = vec![1000.0; series];
    let (mut spent, start) = (0.0, 1_760_000_000_000);
    for step in 0..steps {
        for first in (0..series).step_by(1000) {
            let mut batch = MetricsBatch::default();
            for number in first..series.min(first + 1000) {
                values[number] = advance(number, values[number], &mut random);
                let t = start + step as i64 * STEP_MS + (number / 200 * 37 % 15_000) as i64;
                let samples = vec![Sample { t, value: values[number] }];
                batch.series.push(SeriesBatch { labels: all[number].clone(), samples, ..SeriesBatch::default() });
            }
            let begun = Instant::now();
            store.append(&batch).unwrap();
            spent += begun.elapsed().as_secs_f64();
            store.lane().flush_if_due(u64::MAX).unwrap();
        }
    }
    let samples = series * steps;
    println!(
        "append: {:.3} us a sample, {samples} samples, resident {} MiB",
        spent * 1e6 / samples as f64,
        resident_mib()
    );
    println!("head: {:.1} bytes a series", store.lane().stats().head_bytes as f64 / series as f64);
}

fn queries(store: &MetricsStore) {
    let name = Matcher::equal("__name__", "node_cpu_seconds_total");
    let host = Matcher::equal("instance", "10.0.0.7:9100");
    let any = Matcher::new("__name__", MatchOp::Regex, ".+").unwrap();
    for matchers in [vec![host.clone(), name.clone()], vec![name], vec![any]] {
        timed(&format!("select {matchers:?}").chars().take(60).collect::<String>(), || {
            let found = series_set::select(store, &matchers, RangeMs::ALL, &QueryBudget::unlimited()).unwrap();
            println!("  {} series, {} samples", found.len(), found.iter().map(|own| own.1.len()).sum::<usize>());
        });
    }
    timed("label values", || store.label_values("instance", &[], RangeMs::ALL, &QueryBudget::unlimited()).unwrap());
}

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let (series, steps) = (numbers.first().copied().unwrap_or(10_000), numbers.get(1).copied().unwrap_or(480));
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    ingest(&store, series, steps);
    queries(&store);
    drop(store);
    let store = timed("replay", || open(dir.path()));
    timed("flush", || store.lane().flush().unwrap());
    let stats = store.lane().stats();
    println!("parts: {} of {:.2} bytes a sample", stats.parts, stats.part_bytes as f64 / stats.part_rows as f64);
    queries(&store);
    drop(store);
    timed("open", || open(dir.path()));
}
