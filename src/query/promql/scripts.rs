//! Runs tests/scripts/promql/*.test: queries as specifications. A script loads series, then asks.
//!
//! ```text
//! load 1m
//!   a_total{x="1"} 0+10x5 _ stale      # start, increment, how often; no sample; end of series
//! eval instant at 5m  rate(a_total[5m])
//!   {x="1"} 0.1666
//! eval range from 0 to 2m step 1m  a_total
//!   a_total{x="1"} 0 10 20
//! ```
//! A line that begins with `expect fail`, `expect warn` or `expect info` names a part of the message,
//! `expect ordered` makes the order count, a bare number is a scalar, `clear` empties the store. After
//! its samples, `began a_total{x="1"} 5s _ 65s` says when counting began for them.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use super::ast::{Expr, Kind};
use super::lex::{Times, duration_ms};
use super::native::Work;
use super::value::Cell;
use super::{Answer, AnswerSeries, AnswerValue, Params, PromqlError, functions, instant, parse, range};
use crate::base::limits::QueryBudget;
use crate::model::histogram::Histogram;
use crate::model::labels::Labels;
use crate::model::sample::{HistogramSample, STALE_NAN_BITS};
use crate::store::memory::Memory;

fn scripts() -> Vec<(String, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/scripts/promql");
    let mut all: Vec<(String, String)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "test"))
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap()))
        .collect();
    all.sort();
    all
}

/// All queries of all scripts.
pub(super) fn queries() -> Vec<String> {
    let texts = scripts().into_iter().map(|(_, text)| text);
    let questions = texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>());
    questions.filter(|line| line.starts_with("eval")).map(|line| question(0, &line).query).collect()
}

/// The labels at the start of a line, and the rest.
fn metric(line: &str) -> (Labels, &str) {
    let end = line.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    let mut pairs = vec![("__name__".to_owned(), name.to_owned())];
    let mut rest = rest.trim_start();
    if rest.starts_with('{') && !rest.starts_with("{{") {
        let close = rest.find('}').unwrap();
        for pair in rest[1..close].split(',').filter(|pair| !pair.trim().is_empty()) {
            let (label, value) = pair.split_once('=').unwrap();
            pairs.push((label.trim().to_owned(), value.trim().trim_matches('"').to_owned()));
        }
        rest = &rest[close + 1..];
    }
    (Labels::from_pairs(pairs).unwrap(), rest)
}

fn number(text: &str) -> f64 {
    match text {
        "NaN" => f64::NAN,
        "Inf" | "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        "stale" => f64::from_bits(STALE_NAN_BITS),
        _ => text.parse().unwrap_or_else(|_| panic!("{text:?} is no number")),
    }
}

fn histogram(body: &str) -> Arc<Histogram> {
    let mut work = Work::default();
    let (mut offset, mut below, mut above) = (0, Vec::new(), Vec::new());
    let mut rest = body.trim();
    while let Some((key, after)) = rest.split_once(':') {
        let end =
            if after.starts_with('[') { after.find(']').unwrap() + 1 } else { after.find(' ').unwrap_or(after.len()) };
        let (value, more) = after.split_at(end);
        let list = || value.trim_matches(['[', ']']).split_whitespace().map(number).collect::<Vec<f64>>();
        match key.trim() {
            "schema" => work.schema = value.parse().unwrap(),
            "count" => work.count = number(value),
            "sum" => work.sum = number(value),
            "zero" => work.zero_count = number(value),
            "width" => work.zero_threshold = number(value),
            "offset" => offset = value.parse().unwrap(),
            "buckets" => above = list(),
            "below" => below = list(),
            "bounds" => work.bounds = list(),
            other => panic!("{other:?} is no part of a histogram"),
        }
        rest = more.trim();
    }
    let numbered = |counts: Vec<f64>| (offset..).zip(counts).collect();
    work.positive = numbered(above);
    work.negative = numbered(below);
    Arc::new(work.into())
}

/// The values of a line: floats, histograms, gaps.
fn values(line: &str) -> Vec<Option<Cell>> {
    let mut all = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        if let Some(body) = rest.strip_prefix("{{") {
            let (body, more) = body.split_once("}}").unwrap();
            all.push(Some(Cell::Histogram(histogram(body))));
            rest = more.trim();
            continue;
        }
        let (word, more) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        rest = more.trim();
        if word == "_" {
            all.push(None);
            continue;
        }
        let (value, times) = word.split_once('x').unwrap_or((word, "0"));
        let sign = value.get(1..).and_then(|tail| tail.find(['+', '-'])).map(|at| at + 1);
        let (start, step) = sign.map_or((value, "0"), |at| value.split_at(at));
        let (start, step) = (number(start), number(step));
        for at in 0..=times.parse::<u32>().unwrap() {
            all.push(Some(Cell::Float(if at == 0 { start } else { start + step * f64::from(at) })));
        }
    }
    all
}

fn close(a: f64, b: f64) -> bool {
    (a.is_nan() && b.is_nan()) || a == b || (a - b).abs() <= 1e-6 * a.abs().max(b.abs())
}

fn same(expected: &Cell, got: &Cell) -> bool {
    match (expected, got) {
        (Cell::Float(a), Cell::Float(b)) => close(*a, *b),
        (Cell::Histogram(a), Cell::Histogram(b)) => {
            let (a, b) = (Work::from(a.as_ref()), Work::from(b.as_ref()));
            let (left, right) = (a.buckets(), b.buckets());
            close(a.count, b.count)
                && close(a.sum, b.sum)
                && left.len() == right.len()
                && left
                    .iter()
                    .zip(&right)
                    .all(|(a, b)| close(a.lower, b.lower) && close(a.upper, b.upper) && close(a.count, b.count))
        }
        _ => false,
    }
}

/// One question of a script and what is expected.
#[derive(Default)]
struct Question {
    line: usize,
    times: Times,
    query: String,
    ordered: bool,
    fail: Option<String>,
    notes: Vec<String>,
    scalar: Option<f64>,
    series: Vec<(Labels, Vec<Option<Cell>>)>,
}

fn milliseconds(text: &str) -> i64 {
    duration_ms(text).unwrap_or_else(|| panic!("{text:?} is no duration"))
}

fn question(line: usize, text: &str) -> Question {
    let words: Vec<&str> = text.split_whitespace().collect();
    let after = |count: usize| {
        let mut rest = text.trim();
        for _ in 0..count {
            rest = rest.split_once(char::is_whitespace).unwrap().1.trim_start();
        }
        rest.to_owned()
    };
    match words.as_slice() {
        ["eval", "instant", "at", time, ..] => {
            let time = milliseconds(time);
            Question { line, times: Times { start: time, end: time, step: 0 }, query: after(4), ..Question::default() }
        }
        ["eval", "range", "from", start, "to", end, "step", step, ..] => {
            let times = Times { start: milliseconds(start), end: milliseconds(end), step: milliseconds(step) };
            Question { line, times, query: after(8), ..Question::default() }
        }
        _ => panic!("line {line}: {text:?} is no question"),
    }
}

impl Question {
    fn expect(&mut self, text: &str) {
        if let Some(rest) = text.strip_prefix("expect ") {
            match rest.split_once(' ').unwrap_or((rest, "")) {
                ("ordered", _) => self.ordered = true,
                ("fail", message) => self.fail = Some(message.trim().to_owned()),
                ("warn" | "info", message) => self.notes.push(message.trim().to_owned()),
                _ => panic!("line {}: {text:?} is no expectation", self.line),
            }
            return;
        }
        if text == "NaN" || (text.starts_with(|c: char| c.is_ascii_digit() || c == '-') && !text.contains(' ')) {
            self.scalar = Some(number(text));
            return;
        }
        let (labels, rest) = metric(text);
        self.series.push((labels, values(rest)));
    }

    fn ask(&self, store: &Memory) -> Result<Answer, PromqlError> {
        let budget = QueryBudget::unlimited();
        let Times { start, end, step } = self.times;
        if step == 0 {
            instant(store, &self.query, start, Params::default(), &budget)
        } else {
            range(store, &self.query, (start, end, step), Params::default(), &budget)
        }
    }

    fn check(&self, name: &str, store: &Memory) {
        let at = format!("{name}:{}: {}", self.line, self.query);
        let answer = match (self.ask(store), &self.fail) {
            (Err(error), Some(message)) => {
                assert!(error.to_string().contains(message), "{at}: failed with {error}");
                return;
            }
            (Err(error), None) => panic!("{at}: {error}"),
            (Ok(answer), Some(_)) => panic!("{at}: did not fail but gave {:?}", answer.value),
            (Ok(answer), None) => answer,
        };
        let notes: Vec<&String> = answer.warnings.iter().chain(&answer.infos).collect();
        for expected in &self.notes {
            assert!(notes.iter().any(|note| note.contains(expected)), "{at}: notes are {notes:?}");
        }
        match &answer.value {
            AnswerValue::Scalar(_, value) => {
                assert!(self.scalar.is_some_and(|expected| close(expected, *value)), "{at}: got {value}");
            }
            AnswerValue::String(..) => panic!("{at}: a script cannot expect a string"),
            AnswerValue::Vector(all) => self.check_series(&at, all),
            AnswerValue::Matrix(all) => self.check_series(&at, &all.clone().into_iter().collect::<Vec<_>>()),
        }
    }

    fn check_series(&self, at: &str, all: &[AnswerSeries]) {
        assert!(self.scalar.is_none() && all.len() == self.series.len(), "{at}: got {all:?}");
        for (place, series) in all.iter().enumerate() {
            let found = self.series.iter().position(|(labels, _)| *labels == series.labels);
            let found = found.unwrap_or_else(|| panic!("{at}: unexpected {series:?}"));
            assert!(!self.ordered || found == place, "{at}: {} is in the wrong place", series.labels);
            let mut cells: Vec<(i64, Cell)> =
                series.floats.iter().map(|(t, value)| (*t, Cell::Float(*value))).collect();
            cells.extend(series.histograms.iter().map(|(t, one)| (*t, Cell::Histogram(one.clone()))));
            cells.sort_by_key(|(t, _)| *t);
            let step = self.times.step;
            let timed = |(step_number, cell): (usize, &Option<Cell>)| {
                Some((self.times.start + step * step_number as i64, cell.clone()?))
            };
            let expected: Vec<(i64, Cell)> = self.series[found].1.iter().enumerate().filter_map(timed).collect();
            let is_raw = step == 0 && cells.len() > 1;
            assert_eq!(expected.len(), cells.len(), "{at}: got {series:?}");
            for ((expected_time, expected), (time, got)) in expected.iter().zip(&cells) {
                assert!(is_raw || step == 0 || expected_time == time, "{at}: a point at {time} ms");
                assert!(same(expected, got), "{at}: expected {expected:?} at {time} ms, got {got:?}");
            }
        }
    }
}

fn load(store: &mut Memory, gap: i64, line: &str) {
    if let Some(line) = line.strip_prefix("began ") {
        let (labels, rest) = metric(line);
        for (at, time) in rest.split_whitespace().enumerate().filter(|(_, time)| *time != "_") {
            store.began(&labels, gap * at as i64, milliseconds(time));
        }
        return;
    }
    let (labels, rest) = metric(line);
    for (at, cell) in values(rest).into_iter().enumerate() {
        let t = gap * at as i64;
        match cell {
            None => {}
            Some(Cell::Float(value)) => store.float(&labels, t, value),
            Some(Cell::Histogram(histogram)) => store.histogram(&labels, HistogramSample { t, start: 0, histogram }),
        }
    }
}

fn run(name: &str, text: &str) -> usize {
    let mut store = Memory::default();
    let (mut gap, mut asked, mut failed) = (None, 0, 0);
    let mut open: Option<Question> = None;
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.split(" #").next().unwrap_or_default()));
    for (at, line) in lines.chain([(0, "end")]) {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        if line.starts_with(' ') {
            match (&mut open, gap) {
                (Some(question), _) => question.expect(line.trim()),
                (None, Some(gap)) => load(&mut store, gap, line.trim()),
                (None, None) => panic!("{name}:{at}: a line without a command"),
            }
            continue;
        }
        if let Some(question) = open.take() {
            let checked = catch_unwind(AssertUnwindSafe(|| question.check(name, &store)));
            failed += usize::from(checked.is_err());
            asked += 1;
        }
        gap = None;
        match line.split_whitespace().next() {
            Some("clear") => store = Memory::default(),
            Some("load") => gap = Some(milliseconds(line.trim_start_matches("load").trim())),
            Some("eval") => open = Some(question(at, line)),
            Some("end") => {}
            other => panic!("{name}:{at}: {other:?} is no command"),
        }
    }
    assert!(failed == 0, "{name}: {failed} of {asked} questions failed, as said above");
    asked
}

#[test]
fn every_script_gets_the_answers_it_expects() {
    let run = |(name, text): &(String, String)| catch_unwind(|| run(name, text));
    let asked: Vec<_> = scripts().iter().map(run).collect();
    assert!(asked.iter().all(Result::is_ok), "scripts failed, as said above");
    let asked: usize = asked.into_iter().flatten().sum();
    assert!(asked > 100, "only {asked} questions: is the runner reading the scripts?");
}

/// The names that are called in questions which a script answers with series or a number.
fn answered() -> BTreeSet<String> {
    let mut called = BTreeSet::new();
    for (_, text) in scripts() {
        let mut open = Vec::new();
        for line in text.lines() {
            if let Some(question) = line.strip_prefix("eval ") {
                let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let calls = question.match_indices('(').map(|(at, _)| question[..at].trim_end());
                open = calls.filter_map(|before| before.rsplit(|c| !word(c)).next()).map(str::to_owned).collect();
            } else if line.starts_with(' ') && !line.trim().starts_with("expect") {
                called.extend(open.drain(..));
            }
        }
    }
    called
}

#[test]
fn every_function_and_aggregation_is_answered_by_a_script() {
    let called = answered();
    for function in functions::all() {
        assert!(called.contains(function.name), "no script answers a call of {}", function.name);
    }
    for op in ["sum", "avg", "count", "min", "max", "group", "stddev", "stdvar", "topk", "bottomk", "count_values"] {
        assert!(called.contains(op), "no script answers {op}");
    }
    for op in ["quantile", "limitk", "limit_ratio", "fill", "fill_left", "fill_right", "group_left"] {
        assert!(called.contains(op), "no script answers {op}");
    }
}

#[test]
fn every_example_parses_to_a_call_of_its_row() {
    for function in functions::all() {
        let expr: Expr = parse::tree(function.example).unwrap_or_else(|error| panic!("{}: {error}", function.example));
        let Kind::Call(call) = expr.kind else { panic!("{} is no call", function.example) };
        assert_eq!(call.function, function.name);
        assert!(!function.summary.is_empty());
    }
}

#[test]
fn places_follow_the_words_of_the_query() {
    let place = |query: &str| {
        let Kind::Call(call) = parse::tree(query).unwrap().kind else { panic!("{query}") };
        call.args[0].pos.0
    };
    assert_eq!(place("abs(  -(a + b))"), 6);
    assert_eq!(place("histogram_quantile(scalar(sum by (x) (a{y=\")\"} offset -(5m) @ end())), b)"), 19);
    let deep = format!("{}a{}", "(".repeat(150), ")".repeat(150));
    assert!(parse::tree(&deep).is_ok());
    let long = vec!["a"; 1_500].join(" + ");
    assert!(parse::tree(&long).is_ok());
}

#[test]
fn hostile_queries_end_with_an_error() {
    let store = Memory::default();
    let budget = QueryBudget::new(std::time::Duration::from_secs(60), 50 << 20, 1_000_000);
    let ask = |query: &str| instant(&store, query, 0, Params::default(), &budget);
    for query in [
        "(".repeat(10_000),
        "a".repeat(2 << 20),
        "-".repeat(1_000_000) + "1",
        "a[".to_owned(),
        "sum_over_time(vector(1)[1y:1s])".to_owned(),
        "sum_over_time(vector(1)[1000y:1ms])".to_owned(),
        "a @ 1e300".to_owned(),
        "a[99999999999999999999y]".to_owned(),
        "abs()".to_owned(),
        "a offset Inf".to_owned(),
        "a offset -inf".to_owned(),
        "a[5m] offset +NaN".to_owned(),
        "a offset (Inf)".to_owned(),
        "rate(a[Inf])".to_owned(),
        "max_over_time(a[NaN:1m])".to_owned(),
        "a @ Inf".to_owned(),
        "sum(a)_(pi offset NaN)".to_owned(),
        "rate(a)".to_owned(),
        "{a=~\"(a{1000}){1000}\"}".to_owned(),
        "\u{0}é".to_owned(),
    ] {
        let shown: String = query.chars().take(40).collect();
        assert!(ask(&query).is_err(), "{shown}");
    }
}

#[test]
fn the_same_series_two_hundred_times_over_run_out_of_memory_with_an_error() {
    let mut store = Memory::default();
    for at in 0..500 {
        let labels = Labels::from_pairs([("__name__", "a".to_owned()), ("x", at.to_string())]).unwrap();
        store.float(&labels, 0, 1.0);
    }
    let budget = QueryBudget::new(std::time::Duration::from_secs(60), 64 << 20, u64::MAX);
    let query: Vec<String> = (0..200).map(|at| format!("label_replace(a, \"y\", \"{at}\", \"\", \"\")")).collect();
    let error = range(&store, &query.join(" or "), (0, 299_000, 100), Params::default(), &budget).unwrap_err();
    assert!(matches!(error, PromqlError::Limit(_)), "{error}");
}
