//! Runs `tests/scripts/logql/*.test` against a store of vectors. A script says `load` and lines, then
//! `eval logs|instant|range|error` and what must come; every script runs with chunks of three sizes.

use std::path::{Path, PathBuf};

use super::ast::quote;
use super::lexer::{TokenKind, parse_duration, tokens};
use super::memory::MemoryLogs;
use super::stages::{ERROR_DETAILS, STAGES};
use super::{Direction, Expr, LogQuery, LogqlError, MetricQuery, log_query, metric_query, parse};
use crate::base::limits::QueryBudget;
use crate::model::labels::Labels;
use crate::model::time::RangeNs;

type Pairs = Vec<(String, String)>;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts/logql")
}

fn scripts() -> Vec<(String, String)> {
    let mut scripts = Vec::new();
    for file in std::fs::read_dir(folder()).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "test") {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            scripts.push((name, std::fs::read_to_string(&path).unwrap()));
        }
    }
    scripts
}

/// Label sets and quoted texts of `{a="b"} {c="d"} "text"`.
fn read_labels(text: &str) -> (Vec<Pairs>, Vec<String>) {
    let (mut sets, mut texts, mut name) = (Vec::new(), Vec::new(), None);
    for token in tokens(text).unwrap_or_else(|error| panic!("{text}: {error}")) {
        match token.kind {
            TokenKind::Sign("{") => sets.push(Vec::new()),
            TokenKind::Word(word) => name = Some(word),
            TokenKind::Text(text) => match name.take() {
                Some(name) => sets.last_mut().expect("a label outside of braces").push((name, text)),
                None => texts.push(text),
            },
            _ => {}
        }
    }
    (sets, texts)
}

fn show(pairs: &[(String, String)]) -> String {
    let pairs: Vec<String> = pairs
        .iter()
        .filter(|(name, _)| name != ERROR_DETAILS)
        .map(|(name, value)| format!("{name}={}", quote(value)))
        .collect();
    format!("{{{}}}", pairs.join(", "))
}

fn own(labels: &Labels) -> Pairs {
    labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

struct Runner {
    logs: MemoryLogs,
    place: String,
}

impl Runner {
    fn load(&self, line: &str) {
        let (text, time) = line.rsplit_once(" @ ").unwrap_or_else(|| panic!("{}: no time", self.place));
        let (sets, texts) = read_labels(text);
        let labels = |at: usize| Labels::from_pairs(sets.get(at).cloned().unwrap_or_default()).unwrap();
        self.logs.push(&labels(0), parse_duration(time.trim()).unwrap(), &texts[0], &labels(1));
    }

    fn lines(&self, expr: &Expr, direction: Direction, limit: usize) -> Result<Vec<String>, LogqlError> {
        let Expr::Log(expr) = expr else { panic!("{}: no log query", self.place) };
        let query = LogQuery { range: RangeNs::ALL, limit, direction, now_ns: 0 };
        let answer = log_query(&self.logs, expr, query, &QueryBudget::unlimited())?;
        let line = |line: &super::Line| {
            let mut pairs: Pairs = own(&line.stream);
            pairs.extend(own(&line.metadata));
            pairs.extend(line.parsed.iter().cloned());
            pairs.sort();
            format!("{}  {}  @ {}", show(&pairs), quote(&line.line), super::ast::DurationText(line.t))
        };
        Ok(answer.lines.iter().map(line).collect())
    }

    fn numbers(&self, expr: &Expr, start: i64, end: i64, step: i64) -> Result<Vec<String>, LogqlError> {
        let Expr::Metric(expr) = expr else { panic!("{}: no metric query", self.place) };
        let query = MetricQuery { start, end, step, points_max: 11_000, series_max: 500, now_ns: 0 };
        let answer = metric_query(&self.logs, expr, query, &QueryBudget::unlimited())?;
        let series = |series: &super::Series| {
            let mut values: Vec<String> = Vec::new();
            let mut t = start;
            for point in &series.points {
                while t < point.0 {
                    values.push("_".to_owned());
                    t += step;
                }
                values.push(if point.1.fract() == 0.0 { point.1.to_string() } else { format!("{:.6}", point.1) });
                t += step;
            }
            format!("{}  {}", show(&own(&series.labels)), values.join(" "))
        };
        Ok(answer.series.iter().map(series).collect())
    }

    fn eval(&self, command: &str, expected: &[&str]) {
        let mut words = command.splitn(2, ' ');
        let (kind, rest) = (words.next().unwrap(), words.next().unwrap_or_default());
        let duration = |text: &str| parse_duration(text).unwrap_or_else(|| panic!("{}: {text}", self.place));
        let got = match kind {
            "logs" => {
                let (direction, rest) = match rest.strip_prefix("backward ") {
                    Some(rest) => (Direction::Backward, rest),
                    None => (Direction::Forward, rest),
                };
                let (limit, query) = match rest.strip_prefix("limit ") {
                    Some(rest) => rest.split_once(' ').map(|(limit, rest)| (limit.parse().unwrap(), rest)).unwrap(),
                    None => (1_000, rest),
                };
                parse(query.trim()).map_err(LogqlError::from).and_then(|expr| self.lines(&expr, direction, limit))
            }
            "instant" => {
                let (time, query) = rest.strip_prefix("at ").and_then(|rest| rest.split_once(' ')).unwrap();
                let time = duration(time);
                parse(query.trim()).map_err(LogqlError::from).and_then(|expr| self.numbers(&expr, time, time, 1))
            }
            "range" => {
                let words: Vec<&str> = rest.splitn(7, ' ').collect();
                let [_, from, _, to, _, step, query] = words.as_slice() else { panic!("{}: malformed", self.place) };
                let (from, to, step) = (duration(from), duration(to), duration(step));
                parse(query.trim()).map_err(LogqlError::from).and_then(|expr| self.numbers(&expr, from, to, step))
            }
            "error" => {
                let result = parse(rest.trim()).map_err(LogqlError::from).and_then(|expr| match &expr {
                    Expr::Log(_) => self.lines(&expr, Direction::Forward, 1_000),
                    Expr::Metric(_) => self.numbers(&expr, 60_000_000_000, 60_000_000_000, 1),
                });
                let error = result.expect_err(&self.place).to_string();
                for text in expected {
                    assert!(error.contains(text), "{}: {error:?} lacks {text:?}", self.place);
                }
                return;
            }
            _ => panic!("{}: eval {kind}", self.place),
        };
        let got = got.unwrap_or_else(|error| panic!("{}: {error}", self.place));
        let wanted: Vec<String> = expected.iter().map(|line| self.canonical(line)).collect();
        assert_eq!(got, wanted, "{}", self.place);
    }

    /// An expected line in the form that answers are shown in.
    fn canonical(&self, line: &str) -> String {
        if let Some((text, time)) = line.rsplit_once(" @ ") {
            let (mut sets, texts) = read_labels(text);
            let mut pairs: Pairs = sets.drain(..).flatten().collect();
            pairs.sort();
            let text = texts.first().unwrap_or_else(|| panic!("{}: no line", self.place));
            return format!("{}  {}  @ {}", show(&pairs), quote(text), time.trim());
        }
        let (labels, values) = line.rsplit_once('}').unwrap_or_else(|| panic!("{}: no labels", self.place));
        let (sets, _) = read_labels(&format!("{labels}}}"));
        format!("{}  {}", show(&sets[0]), values.split_whitespace().collect::<Vec<_>>().join(" "))
    }
}

fn run(name: &str, script: &str, chunk_rows: usize) -> usize {
    let mut runner = Runner { logs: MemoryLogs::new(chunk_rows), place: String::new() };
    let lines: Vec<&str> = script.lines().collect();
    let mut at = 0;
    let mut evals = 0;
    while at < lines.len() {
        let line = lines[at];
        runner.place = format!("{name}.test line {} (chunks of {chunk_rows}): {line}", at + 1);
        at += 1;
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let end = lines[at..].iter().position(|line| !line.starts_with("  ")).map_or(lines.len(), |count| at + count);
        let block = &lines[at..end];
        at = end;
        if line == "load" {
            runner.logs = MemoryLogs::new(chunk_rows);
            block.iter().for_each(|line| runner.load(line));
        } else if let Some(command) = line.strip_prefix("eval ") {
            evals += 1;
            runner.eval(command, &block.iter().map(|line| line.trim()).collect::<Vec<_>>());
        } else {
            panic!("{}: not understood", runner.place);
        }
    }
    evals
}

#[test]
fn every_script_holds_whatever_the_size_of_chunks() {
    let mut evals = 0;
    for (name, script) in scripts() {
        for chunk_rows in [1_000, 1, 2] {
            evals += run(&name, &script, chunk_rows);
        }
    }
    assert!(evals > 300, "only {evals} evals ran: is the folder complete?");
}

#[test]
fn every_stage_has_a_script() {
    let scripts = scripts();
    for row in STAGES {
        let script = scripts.iter().find(|(name, _)| name == row.name);
        let (_, script) = script.unwrap_or_else(|| panic!("no tests/scripts/logql/{}.test", row.name));
        assert!(script.contains(&format!("| {}", row.name)), "{}.test does not use the stage", row.name);
        assert!(!row.summary.is_empty());
    }
}

/// A store with a hundred lines of two streams, a second apart, in chunks of ten.
fn hundred() -> MemoryLogs {
    let logs = MemoryLogs::new(10);
    for at in 0..100 {
        let labels = Labels::from_pairs([("app", if at % 2 == 0 { "a" } else { "b" })]).unwrap();
        let level = Labels::from_pairs([("detected_level", "info")]).unwrap();
        logs.push(&labels, at * 1_000_000_000, &format!("line {at:02} of all"), &level);
    }
    logs
}

fn ask_lines(logs: &MemoryLogs, query: &str, limit: usize) -> usize {
    let Expr::Log(expr) = parse(query).unwrap() else { panic!("{query}") };
    let query = LogQuery { range: RangeNs::ALL, limit, direction: Direction::Backward, now_ns: 0 };
    log_query(logs, &expr, query, &QueryBudget::unlimited()).unwrap().lines.len()
}

fn ask_number(logs: &MemoryLogs, query: &str) -> f64 {
    let Expr::Metric(expr) = parse(query).unwrap() else { panic!("{query}") };
    let at = 100_000_000_000;
    let query = MetricQuery { start: at, end: at, step: 1, points_max: 11_000, series_max: 500, now_ns: 0 };
    let answer = metric_query(logs, &expr, query, &QueryBudget::unlimited()).unwrap();
    answer.series.iter().map(|series| series.points[0].1).sum()
}

#[test]
fn counting_by_stream_labels_reads_neither_lines_nor_metadata() {
    let reads = |query: &str| {
        let logs = hundred();
        assert!((ask_number(&logs, query) - 100.0).abs() < 1e-9, "{query}");
        let reads = logs.reads.lock();
        (reads.iter().any(|columns| columns.lines), reads.iter().any(|columns| columns.metadata))
    };
    assert_eq!(reads("sum by (app) (count_over_time({app=~\".+\"}[5m]))"), (false, false));
    assert_eq!(reads("sum(count_over_time({app=~\".+\"}[5m]))"), (false, false));
    assert_eq!(reads("sum by (detected_level) (count_over_time({app=~\".+\"}[5m]))"), (false, true));
    assert_eq!(reads("sum(count_over_time({app=~\".+\"} |= \"line\" [5m]))"), (true, false));
}

#[test]
fn a_limit_that_is_met_ends_the_reading() {
    let logs = hundred();
    assert_eq!(ask_lines(&logs, "{app=~\".+\"}", 5), 5);
    let few = logs.reads.lock().len();
    assert!(few <= 6, "{few} chunks of ten were read for five lines");
    assert_eq!(ask_lines(&logs, "{app=~\".+\"}", 1_000), 100);
}

#[test]
fn texts_that_lines_must_contain_go_to_the_index() {
    let logs = hundred();
    assert_eq!(ask_lines(&logs, "{app=\"a\"} |= \"line 4\" |~ \"4[02] of\" != \"x\" | decolorize |= \"late\"", 9), 0);
    assert_eq!(ask_lines(&logs, "{app=\"a\"} |= \"x\" or \"line 4\" | json x=\"y\"", 9), 5);
    assert_eq!(*logs.hints.lock(), [vec!["line 4".to_owned(), "4".into(), " of".into()], vec![]]);
}
