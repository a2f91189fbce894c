//! Traces in Jaeger's JSON (its query API): integer microseconds, one process per resource, parents
//! as `CHILD_OF` references.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::otlp_trace_out::{Distinct, double_json};
use crate::model::span::{AttrValue, Attrs, Resource, Span, SpanKind, StatusCode, attr};

/// A trace.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Trace {
    /// 32 hexadecimal digits.
    #[serde(rename = "traceID")]
    pub trace_id: String,
    /// Never empty: Grafana's plugin does not survive a trace without spans.
    pub spans: Vec<JaegerSpan>,
    /// Who sent the spans; every `processID` is in it.
    pub processes: Map<String, Value>,
    /// What is odd about it: nothing is told.
    pub warnings: Option<Vec<String>>,
}

/// A span.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JaegerSpan {
    #[serde(rename = "traceID")]
    trace_id: String,
    #[serde(rename = "spanID")]
    span_id: String,
    operation_name: String,
    references: Vec<Reference>,
    flags: u32,
    /// Microseconds since the Unix epoch.
    start_time: i64,
    /// Microseconds.
    duration: i64,
    tags: Vec<Tag>,
    logs: Vec<Log>,
    #[serde(rename = "processID")]
    process_id: String,
    warnings: Option<Vec<String>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    ref_type: &'static str,
    #[serde(rename = "traceID")]
    trace_id: String,
    #[serde(rename = "spanID")]
    span_id: String,
}

#[derive(Debug, Serialize)]
struct Tag {
    key: String,
    r#type: &'static str,
    value: Value,
}

#[derive(Debug, Serialize)]
struct Log {
    /// Microseconds since the Unix epoch.
    timestamp: i64,
    fields: Vec<Tag>,
}

/// The spans of one trace; `None` without spans.
pub fn trace(spans: &[Span]) -> Option<Trace> {
    let first = spans.first()?;
    let mut resources: Distinct<&Resource> = Distinct::default();
    let mut by_address: HashMap<*const Resource, usize> = HashMap::new();
    let mut processes = Map::new();
    let mut out = Vec::with_capacity(spans.len());
    for span in spans {
        let place = || resources.place(&span.resource);
        let at = *by_address.entry(Arc::as_ptr(&span.resource)).or_insert_with(place);
        if at == processes.len() {
            processes.insert(format!("p{}", at + 1), process(&span.resource));
        }
        out.push(jaeger_span(span, format!("p{}", at + 1)));
    }
    Some(Trace { trace_id: first.trace_id.to_string(), spans: out, processes, warnings: None })
}

fn process(resource: &Resource) -> Value {
    let tags: Vec<_> = resource.attrs.iter().filter(|(key, _)| key != "service.name").map(tag_of).collect();
    json!({ "serviceName": resource.service_name(), "tags": tags })
}

fn jaeger_span(span: &Span, process_id: String) -> JaegerSpan {
    let mut references = Vec::new();
    if !span.parent_id.is_none() {
        let (trace_id, span_id) = (span.trace_id.to_string(), span.parent_id.to_string());
        references.push(Reference { ref_type: "CHILD_OF", trace_id, span_id });
    }
    references.extend(span.links.iter().map(|link| Reference {
        ref_type: "FOLLOWS_FROM",
        trace_id: link.trace_id.to_string(),
        span_id: link.span_id.to_string(),
    }));
    let start_time = span.start.div_euclid(1_000);
    JaegerSpan {
        trace_id: span.trace_id.to_string(),
        span_id: span.span_id.to_string(),
        operation_name: span.name.clone(),
        references,
        flags: span.flags & 0xff,
        start_time,
        duration: span.duration_ns() / 1_000,
        tags: tags(span),
        logs: span.events.iter().map(log).collect(),
        process_id,
        warnings: None,
    }
}

/// The span's attributes, and as tags what Jaeger has no field for (OpenTelemetry's mapping).
fn tags(span: &Span) -> Vec<Tag> {
    let mut tags: Vec<_> = span.attrs.iter().map(tag_of).collect();
    if span.kind != SpanKind::Unspecified {
        tags.push(text("span.kind", span.kind.name()));
    }
    match span.status {
        StatusCode::Unset => {}
        StatusCode::Ok => tags.push(text("otel.status_code", "OK")),
        StatusCode::Error => {
            tags.push(text("otel.status_code", "ERROR"));
            if attr(&span.attrs, "error").is_none() {
                tags.push(Tag { key: "error".to_owned(), r#type: "bool", value: json!(true) });
            }
        }
    }
    if !span.status_message.is_empty() {
        tags.push(text("otel.status_description", &span.status_message));
    }
    if !span.scope.name.is_empty() {
        tags.push(text("otel.scope.name", &span.scope.name));
    }
    if !span.scope.version.is_empty() {
        tags.push(text("otel.scope.version", &span.scope.version));
    }
    if !span.trace_state.is_empty() {
        tags.push(text("w3c.tracestate", &span.trace_state));
    }
    tags
}

fn log(event: &crate::model::span::SpanEvent) -> Log {
    let named = attr(&event.attrs, "event").is_none().then(|| text("event", &event.name));
    let fields = named.into_iter().chain(event.attrs.iter().map(tag_of)).collect();
    Log { timestamp: event.t.div_euclid(1_000), fields }
}

fn text(key: &str, value: &str) -> Tag {
    Tag { key: key.to_owned(), r#type: "string", value: json!(value) }
}

fn tag_of((key, value): &(String, AttrValue)) -> Tag {
    let (r#type, value) = match value {
        AttrValue::Empty => ("string", json!("")),
        AttrValue::Str(text) => ("string", json!(text)),
        AttrValue::Int(int) => ("int64", json!(int)),
        AttrValue::Double(float) => ("float64", double_json(*float)),
        AttrValue::Bool(bool) => ("bool", json!(bool)),
        AttrValue::Bytes(_) | AttrValue::Array(_) | AttrValue::Map(_) => ("string", json!(plain(value).to_string())),
    };
    Tag { key: key.clone(), r#type, value }
}

/// A nested value as plain JSON, for showing it as text.
fn plain(value: &AttrValue) -> Value {
    match value {
        AttrValue::Empty => Value::Null,
        AttrValue::Str(text) => json!(text),
        AttrValue::Int(int) => json!(int),
        AttrValue::Double(float) => double_json(*float),
        AttrValue::Bool(bool) => json!(bool),
        AttrValue::Bytes(bytes) => json!(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
        AttrValue::Array(list) => Value::Array(list.iter().map(plain).collect()),
        AttrValue::Map(attrs) => Value::Object(plain_map(attrs)),
    }
}

fn plain_map(attrs: &Attrs) -> Map<String, Value> {
    attrs.iter().map(|(key, value)| (key.clone(), plain(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::span::{SpanEvent, SpanId, TraceId};

    #[test]
    fn times_are_whole_microseconds_and_every_process_is_known() {
        let span = Span {
            trace_id: TraceId([1; 16]),
            span_id: SpanId([2; 8]),
            parent_id: SpanId([3; 8]),
            start: 1_999,
            end: 4_100,
            status: StatusCode::Error,
            events: vec![SpanEvent { t: 2_000, name: "x".into(), ..SpanEvent::default() }],
            ..Span::default()
        };
        let value = serde_json::to_value(trace(&[span]).unwrap()).unwrap();
        let span = &value["spans"][0];
        assert_eq!((&span["startTime"], &span["duration"]), (&json!(1), &json!(2)));
        assert_eq!(span["references"][0]["refType"], "CHILD_OF");
        assert!(span["tags"].as_array().unwrap().contains(&json!({"key": "error", "type": "bool", "value": true})));
        assert_eq!(span["logs"][0]["fields"][0]["value"], "x");
        assert_eq!(value["processes"][span["processID"].as_str().unwrap()]["serviceName"], "unknown_service");
        assert!(trace(&[]).is_none());
    }
}
