//! LogQL over the log store as a whole, against a plain list of what was appended: in the head, in
//! parts with and without an index, and after a restart the answer is the same.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use trilith::base::counters::Counters;
use trilith::base::disk::RealDisk;
use trilith::base::limits::QueryBudget;
use trilith::model::batch::{LogsBatch, StreamBatch};
use trilith::model::labels::Labels;
use trilith::model::log::LogEntry;
use trilith::model::time::RangeNs;
use trilith::query::logql::{Direction, Expr, LogQuery, MetricQuery, log_query, metric_query, parse};
use trilith::store::AppendLogs;
use trilith::store::SelectLogs;
use trilith::store::env::Env;
use trilith::store::logs::{LogsStore, Options};

use super::support::ManualClock;

const SECOND: i64 = 1_000_000_000;
const NOW: i64 = 1_760_000_000 * SECOND;
const LINES: i64 = 3_000;

fn open(dir: &Path) -> LogsStore {
    let env =
        Env::open(dir, Arc::new(RealDisk), Arc::new(ManualClock::at_ns(NOW)), Counters::default(), Arc::default());
    LogsStore::open(&env, Options { text_bytes_min: 0, ..Options::default() }).unwrap()
}

/// Line number `at`: its stream, its time (two lines share one; every tenth is late) and itself.
fn line(at: i64) -> (Labels, LogEntry) {
    let stream = Labels::from_pairs([("app", if at % 3 == 0 { "api" } else { "web" })]).unwrap();
    let late = if at % 10 == 0 { 600 } else { 0 };
    let level = if at % 7 == 0 { "error" } else { "info" };
    let entry = LogEntry {
        t: NOW - (LINES - at / 2 + late) * SECOND,
        line: format!("level={level} took={}ms msg=\"request {at:05} done\"", at % 100),
        metadata: Labels::from_pairs([("detected_level", level)]).unwrap(),
    };
    (stream, entry)
}

fn append(store: &LogsStore, lines: std::ops::Range<i64>) {
    for at in lines {
        let (labels, entry) = line(at);
        store.append(&LogsBatch { streams: vec![StreamBatch { labels, entries: vec![entry] }] }).unwrap();
    }
}

fn lines(store: &dyn SelectLogs, query: &str, limit: usize, direction: Direction) -> Vec<(i64, String)> {
    let Expr::Log(expr) = parse(query).unwrap() else { panic!("{query}") };
    let query = LogQuery { range: RangeNs::ALL, limit, direction, now_ns: NOW };
    let answer = log_query(store, &expr, query, &QueryBudget::unlimited()).unwrap();
    answer.lines.into_iter().map(|line| (line.t, line.line)).collect()
}

fn numbers(store: &dyn SelectLogs, query: &str) -> BTreeMap<String, Vec<(i64, f64)>> {
    let Expr::Metric(expr) = parse(query).unwrap() else { panic!("{query}") };
    let (start, step) = (NOW - LINES * SECOND, 300 * SECOND);
    let query = MetricQuery { start, end: NOW, step, points_max: 11_000, series_max: 500, now_ns: NOW };
    let answer = metric_query(store, &expr, query, &QueryBudget::unlimited()).unwrap();
    answer.series.into_iter().map(|series| (series.labels.to_string(), series.points)).collect()
}

/// The group of a line, as an answer names it.
type Group = fn(&Labels, &LogEntry) -> String;

fn check(store: &LogsStore, count: i64) {
    let all: Vec<(Labels, LogEntry)> = (0..count).map(line).collect();
    for (filter, needle) in [("|= `00123`", "00123"), ("|= `absent`", "absent"), ("|~ `request 0.2.4`", "")] {
        let mut expected: Vec<(i64, String)> = all
            .iter()
            .filter(|(_, entry)| {
                let digits = entry.line.split("request 0").nth(1).unwrap().as_bytes();
                if needle.is_empty() { digits[1] == b'2' && digits[3] == b'4' } else { entry.line.contains(needle) }
            })
            .map(|(_, entry)| (entry.t, entry.line.clone()))
            .collect();
        expected.sort();
        let mut got = lines(store, &format!("{{app=~\".+\"}} {filter}"), 5_000, Direction::Forward);
        assert!(got.is_sorted_by_key(|(t, _)| *t));
        got.sort();
        assert_eq!(got, expected, "{filter}");
    }
    let mut times: Vec<i64> = all.iter().map(|(_, entry)| entry.t).collect();
    times.sort_unstable();
    let newest: Vec<i64> = lines(store, "{app=~\".+\"}", 50, Direction::Backward).iter().map(|(t, _)| *t).collect();
    assert_eq!(newest, times.iter().rev().take(50).copied().collect::<Vec<_>>());
    let oldest: Vec<i64> = lines(store, "{app=~\".+\"}", 50, Direction::Forward).iter().map(|(t, _)| *t).collect();
    assert_eq!(oldest, times.iter().take(50).copied().collect::<Vec<_>>());
    let queries: [(&str, Group); 3] = [
        ("sum by (app) (count_over_time({app=~\".+\"}[10m]))", |labels, _| labels.to_string()),
        ("sum by (detected_level) (count_over_time({app=~\".+\"}[10m]))", |_, entry| entry.metadata.to_string()),
        ("sum by (level) (count_over_time({app=~\".+\"} | logfmt [10m]))", |_, entry| {
            entry.metadata.to_string().replace("detected_level", "level")
        }),
    ];
    for (query, group) in queries {
        let mut expected: BTreeMap<String, Vec<(i64, f64)>> = BTreeMap::new();
        for step in 0..=LINES / 300 {
            let at = NOW - (LINES - step * 300) * SECOND;
            let mut counts: BTreeMap<String, f64> = BTreeMap::new();
            for (labels, entry) in all.iter().filter(|(_, entry)| at - 600 * SECOND < entry.t && entry.t <= at) {
                *counts.entry(group(labels, entry)).or_default() += 1.0;
            }
            counts.into_iter().for_each(|(group, count)| expected.entry(group).or_default().push((at, count)));
        }
        assert_eq!(numbers(store, query), expected, "{query}");
    }
}

#[test]
fn head_parts_and_restart_give_one_answer() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    append(&store, 0..LINES / 3);
    check(&store, LINES / 3);
    store.lane().flush().unwrap();
    check(&store, LINES / 3);
    append(&store, LINES / 3..2 * LINES / 3);
    store.lane().flush().unwrap();
    store.settle_indexes();
    append(&store, 2 * LINES / 3..LINES);
    check(&store, LINES);
    drop(store);
    let store = open(dir.path());
    store.settle_indexes();
    check(&store, LINES);
}
