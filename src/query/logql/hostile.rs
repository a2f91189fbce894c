//! Queries and lines that nobody would write: the deepest, the widest, and those that make work without
//! an end. Depth is walked on half of the smallest stack that a thread of the server has.

use std::cell::Cell;

use super::filter::{FilterKind, FilterValue, LineFilter};
use super::memory::MemoryLogs;
use super::stages::{Row, run};
use super::template::{Scope, Template};
use super::{ArgumentError, Direction, Expr, LogQuery, LogqlError, MetricQuery, log_query, metric_query, parse};
use crate::base::limits::{LimitError, QueryBudget};
use crate::model::labels::Labels;
use crate::model::log::TextColumn;
use crate::model::time::RangeNs;
use crate::query::pace::Pace;

fn template_of(text: &str) -> Result<Template, ArgumentError> {
    Template::parse(text, &QueryBudget::unlimited())
}

/// Half of what tokio gives its threads.
const STACK_BYTES: usize = 1 << 20;

fn on_a_small_stack<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(work).unwrap();
    thread.join().unwrap()
}

fn labels() -> Labels {
    Labels::from_pairs([("a", "b")]).unwrap()
}

fn logs(lines: &[&str]) -> MemoryLogs {
    let logs = MemoryLogs::new(100);
    for (t, line) in (1..).zip(lines) {
        logs.push(&labels(), t, line, &Labels::default());
    }
    logs
}

const QUERY: LogQuery =
    LogQuery { range: RangeNs { start: 0, end: 1_000_000 }, limit: 10, direction: Direction::Backward, now_ns: 0 };

fn metric_of(text: &str, logs: &MemoryLogs, budget: &QueryBudget) -> Result<usize, LogqlError> {
    let Expr::Metric(expr) = parse(text).unwrap() else { panic!("{text} gives lines") };
    let query = MetricQuery { start: 0, end: 1_000, step: 10, points_max: 11_000, series_max: 10_000, now_ns: 0 };
    metric_query(logs, &expr, query, budget).map(|answer| answer.series.len())
}

/// Everything that walks a query.
fn walk(text: &str) {
    let expr = parse(text).unwrap();
    let (copy, budget, logs) = (expr.clone(), QueryBudget::unlimited(), logs(&["x=1", "{\"x\":{\"y\":1}}"]));
    let written = copy.to_string();
    assert!(!written.is_empty() && !format!("{copy:?}").is_empty());
    match expr {
        Expr::Log(log) => {
            log_query(&logs, &log, QUERY, &budget).unwrap();
        }
        Expr::Metric(_) => {
            metric_of(text, &logs, &budget).unwrap();
        }
    }
}

/// Queries that grow with a number.
fn shapes() -> [fn(usize) -> String; 12] {
    [
        |n| format!("{}vector(1){}", "(".repeat(n), ")".repeat(n)),
        |n| format!("{}vector(1){}", "sum(".repeat(n), ")".repeat(n)),
        |n| format!("vector(1){}", " + vector(1)".repeat(n)),
        |n| format!("{}vector(1){}", "vector(1) + (".repeat(n), ")".repeat(n)),
        |n| format!("{}vector(1)", "vector(1) ^ ".repeat(n)),
        |n| format!("{}vector(1)", "vector(1) or vector(2) + vector(1) == bool ".repeat(n)),
        |n| format!("{}vector(1){}", "label_replace(".repeat(n), ", `x`, `$1`, `y`, `(.*)`)".repeat(n)),
        |n| format!("count_over_time({}{{a=\"b\"}}{} [1m])", "(".repeat(n), ")".repeat(n)),
        |n| format!("{}{{a=\"b\"}}{}", "(".repeat(n), " | json)".repeat(n)),
        |n| format!("{{a=\"b\"}} | json | {}x=\"1\"{}", "(y=\"1\" or x>2 and ".repeat(n), ")".repeat(n)),
        |n| format!("{{a=\"b\"}} | x=\"1\"{}", " or y=\"1\"".repeat(n)),
        |n| format!("{{a=\"b\"}} |= `x`{}", " or `y`".repeat(n)),
    ]
}

#[test]
fn the_deepest_query_is_walked_on_a_small_stack_and_one_more_is_refused() {
    for (at, shape) in shapes().into_iter().enumerate() {
        let deepest = (1..1_500).take_while(|n| parse(&shape(*n)).is_ok()).last().unwrap();
        assert!(parse(&shape(50_000)).is_err(), "shape {at}");
        on_a_small_stack(move || {
            walk(&shape(deepest));
            let _ = parse(&shape(deepest + 1));
            let _ = parse(&shape(50_000));
        });
    }
}

/// A row that lets a template do only so much.
struct Bounded {
    left: Cell<usize>,
    json: String,
}

impl Scope for Bounded {
    fn label(&self, _: &str) -> Option<&str> {
        Some(&self.json)
    }
    fn each_label(&self, visit: &mut dyn FnMut(&str, &str)) {
        visit("a", &self.json);
    }
    fn line(&self) -> &str {
        &self.json
    }
    fn time_ns(&self) -> i64 {
        0
    }
    fn now_ns(&self) -> i64 {
        0
    }
    fn spend(&self, cost: usize) -> bool {
        let left = self.left.get().checked_sub(cost);
        self.left.set(left.unwrap_or(0));
        left.is_some()
    }
}

fn deep_json(levels: usize) -> String {
    format!("{}1{}", "{\"x\":".repeat(levels), "}".repeat(levels))
}

#[test]
fn the_deepest_templates_and_documents_are_walked_on_a_small_stack() {
    let templates: [fn(usize) -> String; 7] = [
        |n| format!("{}x{}", "{{ if .a }}".repeat(n), "{{ end }}".repeat(n)),
        |n| format!("{}x{}", "{{ with .a }}".repeat(n), "{{ end }}".repeat(n)),
        |n| format!("{}x{}", "{{ range (fromJson .a) }}".repeat(n), "{{ end }}".repeat(n)),
        |n| format!("{{{{ {}.a{} }}}}", "(".repeat(n), ")".repeat(n)),
        |n| format!("{{{{ {}.a{} }}}}", "(print ".repeat(n), ")".repeat(n)),
        |n| format!("{{{{ .a {} }}}}", "| print ".repeat(n)),
        |n| format!("{{{{ if .a }}}}{}{{{{ end }}}}", "{{ else if .b }}".repeat(n)),
    ];
    for template in templates {
        let deepest = (1..3_000).take_while(|n| template_of(&template(*n)).is_ok()).last().unwrap();
        on_a_small_stack(move || {
            let scope = Bounded { left: Cell::new(usize::MAX), json: deep_json(100) };
            let parsed = template_of(&template(deepest)).unwrap();
            let _ = parsed.clone().execute(&scope);
            assert!(!format!("{parsed:?}").is_empty());
            let _ = template_of(&template(20_000));
        });
    }
    on_a_small_stack(|| {
        for levels in [1, 120, 127, 128, 129, 10_000] {
            let line = deep_json(levels);
            let path = vec!["x"; levels.min(5_000)].join(".");
            let stages = format!(
                "| json | json y=`{path}` | unpack | line_format `{{{{ fromJson __line__ }}}}` | label_format z=`{{{{ .x }}}}`"
            );
            let Expr::Log(log) = parse(&format!("{{a=\"b\"}} {stages}")).unwrap() else { panic!() };
            let (stream, metadata) = (labels(), Labels::default());
            run(&log.stages, &mut Row::new(0, &line, &stream, &metadata, 0));
            let logs = logs(&[&line]);
            let Expr::Log(all) = parse("{a=\"b\"}").unwrap() else { panic!() };
            super::detect::detected_fields(&logs, &all, QUERY, &QueryBudget::unlimited()).unwrap();
        }
    });
}

#[test]
fn what_a_template_makes_costs_as_what_it_is_given() {
    let spent = |template: &str| {
        let scope = Bounded { left: Cell::new(usize::MAX), json: "abc".to_owned() };
        let _ = template_of(template).unwrap().execute(&scope);
        usize::MAX - scope.left.get()
    };
    let made = spent("{{ $x := repeat 100000 \"a\" }}");
    assert!(made > 100_000, "{made}");
    assert!(spent("{{ $x := indent 100000 .a }}") > 100_000);
    assert!(spent("{{ $x := printf \"%100000d\" 1 }}") > 100_000);
    assert!(spent("{{ count \"a\" .a }}") > 10_000, "a pattern may have to be compiled");
    let many = format!("{{{{ $l := fromJson \"[{}]\" }}}}", vec!["1"; 3_000].join(","));
    let loops = "{{ range $l }}{{ range $l }}x{{ end }}{{ end }}";
    let bounded = Bounded { left: Cell::new(1_000_000), json: String::new() };
    let error = template_of(&format!("{many}{loops}")).unwrap().execute(&bounded).unwrap_err();
    assert_eq!((error.as_str(), bounded.left.get()), ("the query ended", 0));
}

#[test]
fn a_canceled_query_ends_within_a_block_and_within_a_line() {
    let mut column = TextColumn::default();
    (0..100_000).for_each(|at| column.push(&format!("line {at} of many, with some text to look at")));
    let budget = QueryBudget::unlimited();
    budget.cancel();
    let values = ["x.*y", "e \\d+ of"].map(|value| FilterValue::Text(value.to_owned())).to_vec();
    let filter = LineFilter::new(FilterKind::Regex, false, values, &QueryBudget::unlimited()).unwrap();
    let pace = Pace::new(&budget);
    let kept = filter.rows(&column, &pace).len();
    assert!(kept < 10_000, "{kept} lines were looked at");
    assert_eq!(pace.result(), Err(LimitError::Canceled));

    let line = format!("[{}]", vec!["1"; 100_000].join(","));
    let stage = "| line_format `{{ range (fromJson __line__) }}{{ . }}{{ end }}`";
    let Expr::Log(log) = parse(&format!("{{a=\"b\"}} {} ", stage.repeat(50))).unwrap() else { panic!() };
    let (stream, metadata) = (labels(), Labels::default());
    let mut row = Row::new(0, &line, &stream, &metadata, 0).paced(&pace);
    assert!(!run(&log.stages, &mut row), "nothing is done for a query that has ended");
}

#[test]
fn every_kind_of_metric_query_that_is_canceled_ends_with_an_error() {
    let lines: Vec<String> = (0..50).map(|at| format!("x={at} y=2")).collect();
    let logs = logs(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    let inner = "sum by (x) (count_over_time({a=\"b\"} | logfmt [1m]))";
    for text in [
        inner.to_owned(),
        format!("topk(2, {inner})"),
        format!("sort({inner} + on (x) {inner})"),
        format!("{inner} or on (x) {inner}"),
        "quantile_over_time(0.5, {a=\"b\"} | logfmt | unwrap y [1m]) by (x)".to_owned(),
    ] {
        assert!(metric_of(&text, &logs, &QueryBudget::unlimited()).unwrap() > 0, "{text}");
        let budget = QueryBudget::unlimited();
        budget.cancel();
        let error = metric_of(&text, &logs, &budget).unwrap_err();
        assert!(matches!(error, LogqlError::Limit(LimitError::Canceled)), "{text}: {error}");
    }
}

#[test]
fn a_label_that_stream_and_metadata_both_have_names_one_series() {
    let logs = MemoryLogs::new(10);
    let metadata = Labels::from_pairs([("a", "c"), ("m", "1")]).unwrap();
    logs.push(&labels(), 5, "x", &metadata);
    let Expr::Metric(expr) = parse("count_over_time({a=\"b\"} [1m])").unwrap() else { panic!() };
    let query = MetricQuery { start: 10, end: 10, step: 1, points_max: 1, series_max: 10, now_ns: 0 };
    let answer = metric_query(&logs, &expr, query, &QueryBudget::unlimited()).unwrap();
    let named: Vec<_> = answer.series.iter().map(|series| series.labels.clone()).collect();
    assert_eq!(named, [metadata], "not the empty series");
}

#[test]
fn a_value_too_long_for_a_label_is_an_error_and_not_the_empty_series() {
    let long = format!("x={}", "y".repeat((1 << 20) + 1));
    let logs = logs(&[&long]);
    let error = metric_of("count_over_time({a=\"b\"} | logfmt [1m])", &logs, &QueryBudget::unlimited()).unwrap_err();
    assert!(error.to_string().contains("drop that label"), "{error}");
}
