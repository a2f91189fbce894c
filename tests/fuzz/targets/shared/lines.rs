//! A few streams of every kind of line.

use std::sync::OnceLock;
use std::time::Duration;

use trilith::base::limits::QueryBudget;
use trilith::model::labels::Labels;
use trilith::model::time::RangeNs;
use trilith::query::logql::{self, Direction, Expr, LogQuery, MetricQuery};

use crate::memory::MemoryLogs;

const LINES: &[&str] = &[
    "level=info msg=\"paid 12.5 EUR\" took=15ms size=2KiB status=200 path=/v1/{id}",
    r#"{"level":"error","msg":"no","n":{"a":1,"b":[1,2,{"c":null}]},"took":"1h2m","status":500,"_entry":"x"}"#,
    "10.0.0.7 - - [10/Oct/2000:13:55:36 -0700] \"GET /a?b=c HTTP/1.1\" 200 2326",
    "\u{1b}[31mred\u{1b}[0m 2001:db8::1 grüße ٣ \u{0}",
    "",
    r#"{"broken":"#,
    "a=1 a=2 =3 b= \"c d\"=e",
];

fn store() -> &'static MemoryLogs {
    static STORE: OnceLock<MemoryLogs> = OnceLock::new();
    STORE.get_or_init(|| {
        let store = MemoryLogs::new(16);
        for app in ["shop", "web"] {
            let labels = Labels::from_pairs([("app", app), ("env", "prod")]).expect("labels");
            for row in 0..70 {
                let pairs: &[(&str, &str)] = if row % 3 == 0 { &[("trace_id", "f1"), ("level", "warn")] } else { &[] };
                let metadata = Labels::from_pairs(pairs.iter().copied()).expect("metadata");
                store.push(&labels, row * 1_000_000_000, LINES[row as usize % LINES.len()], &metadata);
            }
        }
        store
    })
}

/// A query written from its tree is the same query; only its brackets may be too many.
fn written(expression: &Expr) {
    let text = expression.to_string();
    match logql::parse(&text) {
        Ok(again) => assert_eq!(again.to_string(), text),
        Err(error) => assert!(error.message.contains("nested more than"), "{text}: {error}"),
    }
}

/// Answers a query within a budget, over times that `way` chooses.
pub fn answer(way: u8, text: &str) {
    let budget = QueryBudget::new(Duration::from_secs(2), 64 << 20, 1_000_000);
    let expression = match logql::parse_within(text, &budget) {
        Ok(expression) => expression,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    written(&expression);
    // What the store notes for tests, or it would grow for ever.
    store().reads.lock().clear();
    store().hints.lock().clear();
    let answered = match expression {
        Expr::Log(log) => {
            let direction = if way % 2 == 0 { Direction::Backward } else { Direction::Forward };
            let range = RangeNs { start: 0, end: 100_000_000_000 };
            let query = LogQuery { range, limit: usize::from(way), direction, now_ns: 60_000_000_000 };
            logql::log_query(store(), &log, query, &budget).map(drop)
        }
        Expr::Metric(metric) => {
            let (start, end, step) = match way % 3 {
                0 => (60_000_000_000, 60_000_000_000, 1),
                1 => (0, 120_000_000_000, 7_000_000_000),
                _ => (i64::MAX - 1_000_000_000, i64::MAX, 100_000_000),
            };
            let query = MetricQuery { start, end, step, points_max: 11_000, series_max: 1_000, now_ns: 60_000_000_000 };
            logql::metric_query(store(), &metric, query, &budget).map(drop)
        }
    };
    if let Err(error) = answered {
        let _ = error.to_string();
    }
}
