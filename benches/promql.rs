//! How much time does evaluation take, reading left out? The queries of a dashboard over 10,000 series
//! of four hours that lie in memory, in the proportions of a fleet of hosts and services.
//! `cargo bench --bench promql -- [ROUNDS] [PART OF A NAME]`
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program for developers")]

use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};
use trilith::base::limits::QueryBudget;
use trilith::model::labels::Labels;
use trilith::model::sample::{Columns, Times};
use trilith::query::promql::{self, Params};
use trilith::store::memory::Memory;

const STEP_MS: i64 = 15_000;
const SAMPLES: i64 = 960;
const END_MS: i64 = 1_760_000_000_000;
const START_MS: i64 = END_MS - SAMPLES * STEP_MS;

/// 50 hosts with 200 series each; those of a host are scraped together.
fn fleet() -> Memory {
    let mut state = 7_u64;
    let mut random = move || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1_u64 << 53) as f64
    };
    let mut fleet = Memory::default();
    for host in 0..50_i64 {
        let times: Times = (0..SAMPLES).map(|at| START_MS + at * STEP_MS + host * 37).collect();
        let instance = format!("10.0.0.{host}:9100");
        let job = ["node", "backend", "frontend", "redis", "postgres"][host as usize % 5];
        for k in 0..200 {
            let text = k.to_string();
            let (name, extra): (String, Vec<(&str, String)>) = match k {
                0..=63 => {
                    let mode = ["idle", "user", "system", "iowait", "irq", "nice", "softirq", "steal"][k % 8];
                    ("node_cpu_seconds_total".into(), vec![("cpu", (k / 8).to_string()), ("mode", mode.into())])
                }
                64..=79 => ("node_network_receive_bytes_total".into(), vec![("device", format!("eth{k}"))]),
                80..=127 => {
                    let le = ["0.005", "0.01", "0.05", "0.1", "0.5", "1", "5", "+Inf"][k % 8];
                    let handler = format!("/api/{}", k / 8);
                    ("http_request_duration_seconds_bucket".into(), vec![("handler", handler), ("le", le.into())])
                }
                _ => (format!("process_gauge_{text}"), Vec::new()),
            };
            let mut pairs = vec![("__name__", name), ("instance", instance.clone()), ("job", job.to_owned())];
            pairs.extend(extra);
            let mut value = 0.0;
            let counter = k < 128;
            let values = (0..SAMPLES)
                .map(|_| {
                    value = if counter { value + (10.0 * random()).floor() } else { random() };
                    value
                })
                .collect();
            let columns = Columns { times: times.clone(), values, ..Columns::default() };
            fleet.insert(Labels::from_pairs(pairs).unwrap(), columns);
        }
    }
    fleet
}

const MID_MS: i64 = START_MS / 2 + END_MS / 2;

/// Name, query, and its times: start, end, step.
const QUERIES: &[(&str, &str, (i64, i64, i64))] = &[
    ("rate_by_job_4h", "sum by (job) (rate(node_cpu_seconds_total{mode=\"idle\"}[5m]))", (START_MS, END_MS, 60_000)),
    (
        "quantile_4h",
        "histogram_quantile(0.99, sum by (le, handler) (rate(http_request_duration_seconds_bucket[5m])))",
        (START_MS, END_MS, 60_000),
    ),
    ("all_series", "sum by (instance) (last_over_time({__name__=~\".+\"}[5m]))", (MID_MS, END_MS, 30_000)),
    ("topk_instant", "topk(10, rate(node_network_receive_bytes_total[5m]))", (MID_MS, MID_MS, 0)),
    ("avg_over_1h", "sum by (job) (avg_over_time(node_cpu_seconds_total[1h]))", (MID_MS, MID_MS, 0)),
    (
        "one_series_4h",
        "node_cpu_seconds_total{instance=\"10.0.0.7:9100\",cpu=\"0\",mode=\"user\"}",
        (START_MS, END_MS, STEP_MS),
    ),
    ("count_all", "count({__name__!=\"\"})", (MID_MS, MID_MS, 0)),
    ("subquery", "max_over_time(sum by (job) (rate(node_cpu_seconds_total[5m]))[2h:1m])", (END_MS, END_MS, 0)),
    ("avg_1h_4h", "avg_over_time(node_cpu_seconds_total[1h])", (MID_MS, END_MS, 60_000)),
    ("max_1h_4h", "max by (job) (max_over_time(node_cpu_seconds_total[1h]))", (MID_MS, END_MS, 60_000)),
    ("stddev_by_job", "stddev by (job) (node_cpu_seconds_total * 2)", (START_MS, END_MS, 60_000)),
    (
        "join",
        "rate(node_cpu_seconds_total[5m]) / on (instance) group_left sum by (instance) (rate(node_cpu_seconds_total[5m]))",
        (START_MS, END_MS, 60_000),
    ),
    ("quantile_agg", "quantile by (job) (0.9, rate(node_cpu_seconds_total[5m]))", (START_MS, END_MS, 60_000)),
    ("topk_range", "topk(5, rate(node_cpu_seconds_total[5m]))", (START_MS, END_MS, 60_000)),
    ("by_all", "sum without (cpu) (rate(node_cpu_seconds_total[5m]))", (START_MS, END_MS, 60_000)),
];

fn cpu_ns() -> i64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let rounds: usize = args.iter().find_map(|arg| arg.parse().ok()).unwrap_or(10);
    let part = args.iter().find(|arg| arg.parse::<usize>().is_err()).map_or("", String::as_str);
    let fleet = fleet();
    println!("{:16} {:>9} {:>9} {:>9}", "query", "wall ms", "cpu ms", "MiB");
    for (name, query, times) in QUERIES.iter().filter(|(name, ..)| name.contains(part)) {
        let mut best = (f64::MAX, f64::MAX);
        let mut peak = 0;
        for _ in 0..rounds {
            let budget = QueryBudget::unlimited();
            let (begun, cpu) = (Instant::now(), cpu_ns());
            let answer = match *times {
                (time, _, 0) => promql::instant(&fleet, query, time, Params::default(), &budget).unwrap(),
                times => promql::range(&fleet, query, times, Params::default(), &budget).unwrap(),
            };
            drop(answer);
            let spent = (begun.elapsed().as_secs_f64() * 1e3, (cpu_ns() - cpu) as f64 / 1e6);
            best = (best.0.min(spent.0), best.1.min(spent.1));
            peak = budget.memory_peak() >> 20;
        }
        println!("{name:16} {:9.2} {:9.2} {peak:9}", best.0, best.1);
    }
}
