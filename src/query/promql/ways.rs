//! The fast way and the general way give the same answers, on one thread and on several.

use std::sync::Arc;

use proptest::prelude::*;

use super::lex::Times;
use super::native::Work;
use super::run::{Eval, Grid};
use super::value::{Cell, Value, Vector};
use super::{functions, parse};
use crate::base::limits::QueryBudget;
use crate::model::histogram::Histogram;
use crate::model::labels::Labels;
use crate::model::sample::{HistogramSample, STALE_NAN_BITS};
use crate::store::memory::Memory;

/// One sample of a generated series: how long after the one before, in seconds, and what.
#[derive(Clone, Debug)]
enum Point {
    Float(f64),
    Stale,
    Histogram(f64),
}

fn point() -> impl Strategy<Value = (i64, Point)> {
    let float = prop_oneof![
        20 => (0..50_i32).prop_map(f64::from),
        4 => -1e6..1e6_f64,
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
        1 => Just(-0.0),
        1 => Just(1e300),
    ];
    let what = prop_oneof![
        60 => float.prop_map(Point::Float),
        2 => Just(Point::Stale),
        1 => (1..9_i32).prop_map(|count| Point::Histogram(f64::from(count))),
    ];
    let gap = prop_oneof![8 => Just(15), 2 => 1..60_i64, 1 => 60..600_i64];
    (gap, what)
}

fn series() -> impl Strategy<Value = Vec<(i64, Point)>> {
    // Most series have nothing but floats: only they go the fast way.
    let floats = proptest::collection::vec((Just(15), (0..40_i32).prop_map(|v| Point::Float(f64::from(v)))), 1..200);
    prop_oneof![3 => floats, 2 => proptest::collection::vec(point(), 1..120)]
}

fn histogram(count: f64) -> Arc<Histogram> {
    Arc::new(Work { count, sum: 2.0 * count, positive: vec![(1, count)], ..Work::default() }.into())
}

fn store(all: &[Vec<(i64, Point)>]) -> Memory {
    let mut store = Memory::default();
    for (at, points) in all.iter().enumerate() {
        let pairs = [("__name__", "a_total"), ("group", ["x", "y", "z"][at % 3]), ("series", &at.to_string())];
        let labels = Labels::from_pairs(pairs).unwrap();
        let mut t = 0;
        for (gap, point) in points {
            t += gap * 1000;
            match point {
                Point::Float(value) => store.float(&labels, t, *value),
                Point::Stale => store.float(&labels, t, f64::from_bits(STALE_NAN_BITS)),
                Point::Histogram(count) => {
                    store.histogram(&labels, HistogramSample { t, start: 0, histogram: histogram(*count) });
                }
            }
        }
    }
    store
}

struct Asked {
    vector: Vector,
    notes: Vec<String>,
}

fn ask(store: &Memory, query: &str, grid: &Grid, general: bool, threads: usize) -> Asked {
    let budget = QueryBudget::unlimited();
    let expr = parse::tree(query).unwrap();
    let mut eval = Eval::new(store, &budget, Times { start: grid.start, end: grid.end(), step: grid.step }, 300_000);
    (eval.general, eval.threads) = (general, threads);
    let Value::Vector(mut vector) = eval.eval(&expr, grid).unwrap() else { panic!("{query} is no vector") };
    vector.sort_by(|a, b| a.labels.cmp(&b.labels));
    let notes = [eval.notes.warnings(query), eval.notes.infos(query)].concat();
    Asked { vector, notes }
}

fn close(a: f64, b: f64) -> bool {
    (a.is_nan() && b.is_nan()) || a == b || (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

fn same(query: &str, one: &Asked, other: &Asked, steps: usize, exactly: bool) {
    assert_eq!(one.notes, other.notes, "{query}");
    let labels = |asked: &Asked| asked.vector.iter().map(|own| (own.labels.clone(), own.drop_name)).collect::<Vec<_>>();
    assert_eq!(labels(one), labels(other), "{query}");
    for (a, b) in one.vector.iter().zip(&other.vector) {
        for step in 0..steps {
            let both = (a.column.get(step).to_cell(), b.column.get(step).to_cell());
            let equal = match &both {
                (Some(Cell::Float(a)), Some(Cell::Float(b))) if exactly => a.to_bits() == b.to_bits(),
                (Some(Cell::Float(a)), Some(Cell::Float(b))) => close(*a, *b),
                (a, b) => a == b,
            };
            assert!(equal, "{query}: {} at step {step}: {both:?}", a.labels);
        }
    }
}

fn over_ranges() -> impl Iterator<Item = &'static str> {
    functions::all().filter(|function| function.slides()).map(|function| function.name)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn windows_that_slide_see_what_every_window_shows(
        all in proptest::collection::vec(series(), 1..5),
        range in prop_oneof![Just(60), Just(300), 1..2000_i64],
        (start, step, steps) in (-100..2000_i64, 1..200_i64, 1..40_usize),
    ) {
        let store = store(&all);
        let grid = Grid { start: start * 1000, step: step * 1000, steps };
        for name in over_ranges() {
            let query = format!("{name}(a_total[{range}s])");
            same(&query, &ask(&store, &query, &grid, false, 1), &ask(&store, &query, &grid, true, 1), steps, false);
        }
    }

    #[test]
    fn folds_give_what_whole_groups_give(
        all in proptest::collection::vec(series(), 1..12),
        (start, step, steps) in (-100..2000_i64, 1..200_i64, 1..20_usize),
    ) {
        let store = store(&all);
        let grid = Grid { start: start * 1000, step: step * 1000, steps };
        for op in ["sum", "avg", "min", "max", "count", "group", "stddev", "stdvar"] {
            for of in ["a_total", "rate(a_total[5m])", "-a_total * 2 > 3", "avg by (series) (a_total)"] {
                for by in ["", "by (group)", "without (series)", "by (__name__, group)"] {
                    let query = format!("{op} {by} ({of})");
                    let folded = ask(&store, &query, &grid, false, 1);
                    same(&query, &folded, &ask(&store, &query, &grid, true, 1), steps, false);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn series_that_come_one_by_one_are_picked_and_counted_as_all_at_once(
        all in proptest::collection::vec(series(), 1..40),
        (start, step, steps) in (-100..2000_i64, 1..200_i64, 1..20_usize),
        k in 0..4_i32,
    ) {
        let store = store(&all);
        let grid = Grid { start: start * 1000, step: step * 1000, steps };
        for of in ["a_total", "rate(a_total[5m])", "round(a_total, 10)"] {
            for by in ["", "by (group)", "without (series)", "by (series)"] {
                for op in [
                    format!("topk {by} ({k}, {of})"),
                    format!("bottomk {by} ({k}, {of})"),
                    format!("limitk {by} ({k}, {of})"),
                    format!("topk {by} (time() % 4, {of})"),
                    format!("limit_ratio {by} (0.{k}, {of})"),
                    format!("limit_ratio {by} (-0.{k}, {of})"),
                    format!("count_values {by} (\"group\", {of})"),
                    format!("absent({of})"),
                    format!("vector(scalar({of} > {k}0))"),
                ] {
                    let whole = ask(&store, &op, &grid, true, 1);
                    for threads in [1, 3] {
                        same(&op, &ask(&store, &op, &grid, false, threads), &whole, steps, true);
                    }
                }
            }
        }
    }
}

#[test]
fn whole_columns_join_as_their_cells_do() {
    let mut store = Memory::default();
    for at in 0..12_i32 {
        let number = at.to_string();
        for (name, from) in [("a", 0), ("b", 3)] {
            let labels =
                Labels::from_pairs([("__name__", name), ("group", &number[..1]), ("series", &number)]).unwrap();
            for sample in (from..20).filter(|sample| (sample + at) % 5 != 0) {
                store.float(&labels, i64::from(sample) * 15_000, f64::from((at * sample) % 7));
            }
        }
    }
    let grid = Grid { start: 0, step: 7_000, steps: 60 };
    for op in ["+", "-", "*", "/", "%", "^", "atan2", "==", "!=", "<", "<=", ">", ">=", "== bool", "< bool"] {
        for matching in ["", "on (series)", "ignoring (group)", "on (group) group_left"] {
            let right = if matching.contains("left") { "sum by (group) (b)" } else { "b" };
            let query = format!("last_over_time(a[15s]) {op} {matching} {right}");
            same(&query, &ask(&store, &query, &grid, false, 1), &ask(&store, &query, &grid, true, 1), 60, true);
        }
    }
}

#[test]
fn several_threads_give_the_same_answer_every_time() {
    let mut store = Memory::default();
    for at in 0..3_000 {
        let number = at.to_string();
        let pairs = [("__name__", "a_total"), ("group", &number[number.len() - 1..]), ("series", &number)];
        let labels = Labels::from_pairs(pairs).unwrap();
        for sample in 0..20 {
            store.float(&labels, sample * 15_000, 0.1 * f64::from(at) * sample as f64);
        }
    }
    let grid = Grid { start: 60_000, step: 10_000, steps: 25 };
    for query in [
        "sum by (group) (rate(a_total[1m]))",
        "stddev(a_total)",
        "rate(a_total[1m]) * 3",
        "avg(a_total + 1)",
        "topk by (group) (3, a_total)",
        "bottomk(2, rate(a_total[1m]))",
        "limitk by (group) (2, a_total)",
        "limit_ratio(0.01, a_total)",
        "count_values(\"value\", round(a_total, 100))",
    ] {
        let alone = ask(&store, query, &grid, false, 1);
        let first = ask(&store, query, &grid, false, 3);
        same(query, &alone, &first, 25, false);
        for _ in 0..5 {
            same(query, &first, &ask(&store, query, &grid, false, 3), 25, true);
        }
    }
}
