//! Runs tests/scripts/traceql/*.test: traces are loaded, queries evaluated, answers compared.
//!
//! A script is a list of commands; `#` begins a comment.
//! - `trace ID [block N]`, then one indented line a span: `SPAN PARENT|- NAME START END [key=value ...]`,
//!   times in milliseconds. Keys: `service`, `kind`, `status`, `message`, `resource.x`, `span.x`,
//!   `event.NAME.x`, `link.x`. Values are integers, floats, `true`, `[a,b]`, or text (quotes force it).
//! - `eval QUERY`, then an indented line a found trace, newest first: `ID: SPAN SPAN [key=value]`,
//!   sets apart by `|`. No line: nothing is found.
//! - `metric START..END STEP QUERY`, in seconds, then a line a series: `{key=value} v v _`.
//! - `error QUERY => PART` expects an error that holds the text.

use std::collections::BTreeMap;
use std::sync::Arc;

use trilith::base::limits::QueryBudget;
use trilith::model::span::{
    AttrValue, Attrs, Resource, Span, SpanEvent, SpanId, SpanKind, SpanLink, StatusCode, TraceId,
};
use trilith::query::traceql::metric::{Grid, metric};
use trilith::query::traceql::parse;
use trilith::query::traceql::search::{SearchRequest, search};

use super::vec_traces::VecTraces;

fn value(text: &str) -> AttrValue {
    if let Some(list) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        return AttrValue::Array(list.split(',').map(value).collect());
    }
    if let Some(text) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        return AttrValue::Str(text.to_owned());
    }
    match text {
        "true" => AttrValue::Bool(true),
        "false" => AttrValue::Bool(false),
        _ => match (text.parse(), text.parse()) {
            (Ok(int), _) => AttrValue::Int(int),
            (_, Ok(float)) => AttrValue::Double(float),
            _ => AttrValue::Str(text.to_owned()),
        },
    }
}

fn show(value: &AttrValue) -> String {
    match value {
        AttrValue::Str(text) => text.clone(),
        AttrValue::Int(int) => int.to_string(),
        AttrValue::Double(float) => format!("{float:?}"),
        AttrValue::Bool(bool) => bool.to_string(),
        AttrValue::Array(list) => format!("[{}]", list.iter().map(show).collect::<Vec<_>>().join(",")),
        other => format!("{other:?}"),
    }
}

pub(super) fn trace_id(text: &str) -> TraceId {
    let number = u128::from_str_radix(text, 16).unwrap();
    TraceId(number.to_be_bytes())
}

fn span_id(text: &str) -> SpanId {
    SpanId(u64::from_str_radix(text, 16).unwrap().to_be_bytes())
}

/// Words of a line; quotes keep blanks together and stay.
fn words(line: &str) -> Vec<String> {
    let mut quoted = false;
    let mut words = vec![String::new()];
    for c in line.trim().chars() {
        quoted ^= c == '"';
        match c {
            ' ' if !quoted => words.push(String::new()),
            _ => words.last_mut().unwrap().push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// A span of a script.
pub(super) fn span(trace: &str, line: &str) -> Span {
    let words = words(line);
    let [id, parent, name, start, end, rest @ ..] = words.as_slice() else { panic!("span: {line}") };
    let ms = |text: &str| (text.parse::<f64>().unwrap() * 1e6).round() as i64;
    let mut resource = Resource::default();
    let mut span = Span {
        trace_id: trace_id(trace),
        span_id: span_id(id),
        parent_id: if parent == "-" { SpanId::default() } else { span_id(parent) },
        name: name.trim_matches('"').to_owned(),
        start: ms(start),
        end: ms(end),
        ..Span::default()
    };
    for word in rest {
        let (key, text) = word.split_once('=').unwrap();
        match key.split_once('.') {
            None => match key {
                "service" => resource.attrs.push(("service.name".into(), AttrValue::Str(text.to_owned()))),
                "kind" => span.kind = (0..6).map(SpanKind::from_number).find(|kind| kind.name() == text).unwrap(),
                "status" => span.status = (0..3).map(StatusCode::from_number).find(|own| own.name() == text).unwrap(),
                "message" => span.status_message = text.trim_matches('"').to_owned(),
                _ => panic!("unknown key: {line}"),
            },
            Some(("resource", key)) => resource.attrs.push((key.to_owned(), value(text))),
            Some(("span", key)) => span.attrs.push((key.to_owned(), value(text))),
            Some(("link", key)) => {
                let attrs = vec![(key.to_owned(), value(text))];
                span.links.push(SpanLink { trace_id: trace_id("ff"), attrs, ..SpanLink::default() });
            }
            Some(("event", rest)) => {
                let (name, key) = rest.split_once('.').unwrap();
                let known = span.events.iter().position(|event| event.name == name);
                let at = known.unwrap_or_else(|| {
                    span.events.push(SpanEvent { t: span.start, name: name.to_owned(), ..SpanEvent::default() });
                    span.events.len() - 1
                });
                span.events[at].attrs.push((key.to_owned(), value(text)));
            }
            Some(_) => panic!("unknown key: {line}"),
        }
    }
    span.resource = Arc::new(resource);
    span
}

fn pairs(attrs: &Attrs) -> String {
    attrs.iter().map(|(key, value)| format!("{key}={}", show(value))).collect::<Vec<_>>().join(" ")
}

fn hex(digits: String) -> String {
    let short = digits.trim_start_matches('0');
    short.to_owned()
}

fn found(store: &VecTraces, query: &str) -> Result<Vec<String>, String> {
    let query = parse(query).map_err(|error| error.to_string())?;
    let request = SearchRequest { query, range: None, duration: (None, None), limit: 100, spans_per_set: 100 };
    let result = search(store, &request, &QueryBudget::unlimited()).map_err(|error| error.to_string())?;
    let lines = result.traces.iter().map(|trace| {
        let sets = trace.sets.iter().map(|set| {
            let ids: Vec<_> = set.spans.iter().map(|span| hex(span.id.to_string())).collect();
            format!("{} {}", ids.join(" "), pairs(&set.attributes)).trim().to_owned()
        });
        format!("{}: {}", hex(trace.id.to_string()), sets.collect::<Vec<_>>().join(" | "))
    });
    Ok(lines.collect())
}

fn series(store: &VecTraces, range: &str, step: &str, query: &str) -> Result<Vec<String>, String> {
    let (start, end) = range.split_once("..").unwrap();
    let ns = |text: &str| text.parse::<i64>().unwrap() * 1_000_000_000;
    let grid = Grid::range(ns(start), ns(end), ns(step)).map_err(|error| error.to_string())?;
    let query = parse(query).map_err(|error| error.to_string())?;
    let result = metric(store, &query, grid, 0, &QueryBudget::unlimited()).map_err(|error| error.to_string())?;
    let lines = result.series.iter().map(|own| {
        let samples: BTreeMap<i64, f64> = own.samples.iter().copied().collect();
        let values = (0..grid.count).map(|at| match samples.get(&grid.time_ms(at)) {
            Some(value) => format!("{}", (value * 1e6).round() / 1e6),
            None => "_".to_owned(),
        });
        format!("{{{}}} {}", pairs(&own.labels), values.collect::<Vec<_>>().join(" "))
    });
    Ok(lines.collect())
}

fn run(name: &str, text: &str) {
    let mut store = VecTraces::default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    let mut at = 0;
    let mut checked = 0;
    while let Some(line) = lines.get(at) {
        at += 1;
        if line.trim().is_empty() {
            continue;
        }
        let body: Vec<&str> =
            lines[at..].iter().take_while(|line| line.starts_with(' ')).map(|line| line.trim()).collect();
        at += body.len();
        let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
        let got = match command {
            "trace" => {
                let (id, block) = rest.split_once(" block ").unwrap_or((rest, "0"));
                let block: usize = block.parse().unwrap();
                store.0.resize_with(store.0.len().max(block + 1), Vec::new);
                store.0[block].extend(body.iter().map(|line| span(id, line)));
                continue;
            }
            "eval" => found(&store, rest),
            "metric" => {
                let mut parts = rest.splitn(3, ' ');
                series(&store, parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap())
            }
            "error" => {
                let (query, part) = rest.rsplit_once(" => ").unwrap();
                let error = found(&store, query).expect_err(line);
                assert!(error.contains(part), "{name}: {line}: {error}");
                checked += 1;
                continue;
            }
            _ => panic!("{name}: unknown command: {line}"),
        };
        assert_eq!(
            got.as_deref(),
            Ok(body.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>().as_slice()),
            "{name}: {line}"
        );
        checked += 1;
    }
    assert!(checked > 0, "{name} checks nothing");
}

#[test]
fn scripts_hold() {
    let mut scripts = 0;
    for entry in std::fs::read_dir("tests/scripts/traceql").unwrap() {
        let path = entry.unwrap().path();
        run(&path.display().to_string(), &std::fs::read_to_string(&path).unwrap());
        scripts += 1;
    }
    assert!(scripts >= 4, "found {scripts} scripts");
}
