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
use std::path::Path;
use std::sync::Arc;

use trilith::base::counters::Counters;
use trilith::base::disk::RealDisk;
use trilith::base::limits::QueryBudget;
use trilith::model::batch::TracesBatch;
use trilith::model::span::{
    AttrValue, Attrs, Resource, Span, SpanEvent, SpanId, SpanKind, SpanLink, StatusCode, TraceId,
};
use trilith::query::traceql::metric::{Grid, metric};
use trilith::query::traceql::parse;
use trilith::query::traceql::search::{SearchRequest, search};
use trilith::store::env::Env;
use trilith::store::traces::{Options, TracesStore};
use trilith::store::{AppendTraces, SelectTraces};

use super::support::ManualClock;
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

fn found(store: &dyn SelectTraces, query: &str) -> Result<Vec<String>, String> {
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

fn series(store: &dyn SelectTraces, range: &str, step: &str, query: &str) -> Result<Vec<String>, String> {
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

/// The store of the server with these blocks, each but the last one flushed.
fn real_store(dir: &Path, blocks: &VecTraces) -> TracesStore {
    let env = Env::open(
        dir,
        Arc::new(RealDisk),
        Arc::new(ManualClock::at_ns(60_000_000_000)),
        Counters::default(),
        Arc::default(),
    );
    let store = TracesStore::open(&env, Options::default()).unwrap();
    for (at, spans) in blocks.0.iter().enumerate() {
        if at > 0 {
            store.lane().flush().unwrap();
        }
        let appended = store.append(&TracesBatch { spans: spans.clone() }).unwrap();
        assert_eq!(appended.accepted, spans.len() as u64, "{appended:?}");
    }
    store
}

fn run(name: &str, text: &str, real: bool) {
    let dir = tempfile::tempdir().unwrap();
    let mut opened: Option<TracesStore> = None;
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
        if command != "trace" && real && opened.is_none() {
            opened = Some(real_store(dir.path(), &store));
        }
        let select: &dyn SelectTraces = match &opened {
            Some(opened) => opened,
            None => &store,
        };
        let got = match command {
            "trace" => {
                let (id, block) = rest.split_once(" block ").unwrap_or((rest, "0"));
                let block: usize = block.parse().unwrap();
                store.0.resize_with(store.0.len().max(block + 1), Vec::new);
                store.0[block].extend(body.iter().map(|line| span(id, line)));
                continue;
            }
            "eval" => found(select, rest),
            "metric" => {
                let mut parts = rest.splitn(3, ' ');
                series(select, parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap())
            }
            "error" => {
                let (query, part) = rest.rsplit_once(" => ").unwrap();
                let error = found(select, query).expect_err(line);
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
        let text = std::fs::read_to_string(&path).unwrap();
        run(&path.display().to_string(), &text, false);
        run(&format!("{} on disk", path.display()), &text, true);
        scripts += 1;
    }
    assert!(scripts >= 4, "found {scripts} scripts");
}

/// Many traces: one root and one child each, a second apart, in blocks of a hundred traces.
fn many(traces: u32) -> VecTraces {
    let trace = |at: u32| {
        let (id, start) = (format!("{:x}", at + 1), at * 1_000);
        let odd = if at % 100 == 7 { "rare" } else { "root" };
        let root = span(&id, &format!("1 - {odd} {start} {} service=a", start + 900));
        [root, span(&id, &format!("2 1 child {} {} service=b span.n={at}", start + 10, start + 20))]
    };
    let traces: Vec<_> = (0..traces).map(trace).collect();
    VecTraces(traces.chunks(100).map(|chunk| chunk.iter().flatten().cloned().collect()).collect())
}

#[test]
fn what_only_whole_traces_tell_is_found_among_many() {
    let store = many(3_000);
    let request = |query: &str, range, limit| SearchRequest {
        query: parse(query).unwrap(),
        range,
        duration: (None, None),
        limit,
        spans_per_set: 1,
    };
    let starts = |query: &str, range, limit| -> Vec<i64> {
        let found = search(&store, &request(query, range, limit), &QueryBudget::unlimited()).unwrap();
        found.traces.iter().map(|trace| trace.start / 1_000_000_000).collect()
    };
    let second = 1_000_000_000;
    assert_eq!(starts("{ rootName = \"rare\" && name = \"child\" }", None, 3), [2907, 2807, 2707]);
    assert_eq!(starts("{ rootName = \"rare\" }", None, 100).len(), 30);
    assert_eq!(starts("{ name = \"rare\" } > { name = \"child\" }", Some((0, 1000 * second)), 3), [907, 807, 707]);
    assert_eq!(starts("{}", None, 2), [2999, 2998]);
    assert_eq!(starts("{}", Some((50 * second, 60 * second)), 100), [60, 59, 58, 57, 56, 55, 54, 53, 52, 51, 50]);
    let counted = series(&store, "0..3000", "1000", "{ name = \"rare\" } >> {} | count_over_time()").unwrap();
    assert_eq!(counted, ["{__name__=count_over_time} 0 10 10 10"]);
}

#[test]
fn a_query_over_its_budget_ends_with_a_clear_error() {
    let store = many(1_000);
    let budget = QueryBudget::new(std::time::Duration::from_secs(60), 10_000, u64::MAX);
    for query in ["{} | count_over_time() by(span.n)", "{ rootName = \"rare\" } | rate()"] {
        let grid = Grid::range(0, 1_000_000_000_000, 1_000_000_000).unwrap();
        let error = metric(&store, &parse(query).unwrap(), grid, 0, &budget).unwrap_err();
        assert!(error.to_string().contains("memory"), "{error}");
    }
}

#[test]
fn an_answer_larger_than_the_budget_is_not_made() {
    let store = many(1_000);
    let budget = QueryBudget::new(std::time::Duration::from_secs(60), 20_000_000, u64::MAX);
    let quantiles = |count: usize| format!("{{}} | quantile_over_time(duration, {})", vec!["0.5"; count].join(", "));
    let grid = Grid::range(0, 1_000_000_000_000, 1_000_000_000).unwrap();
    let few = metric(&store, &parse(&quantiles(2)).unwrap(), grid, 0, &budget).unwrap();
    assert_eq!(few.series.len(), 2);
    let error = metric(&store, &parse(&quantiles(1_000)).unwrap(), grid, 0, &budget).unwrap_err();
    assert!(error.to_string().contains("memory"), "{error}");
}
