//! Spans out as OpenTelemetry's trace data: protobuf, and the two JSON spellings of it.
//! Invariant: resource, scope and status are always present, and a resource always has an
//! attribute: Grafana's readers do without none of them.

use std::collections::HashMap;
use std::fmt::{self, Debug, Write as _};
use std::hash::{DefaultHasher, Hasher as _};
use std::sync::Arc;

use base64::Engine as _;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::resource::v1::Resource as OtlpResource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span as OtlpSpan, Status, TracesData};
use prost::Message as _;
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::model::span::{AttrValue, Attrs, Resource, Scope, Span, SpanId, StatusCode};

/// How ids and enums look in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonStyle {
    /// Base64 ids and names of enums, as Tempo writes them.
    Tempo,
    /// Hexadecimal ids and numbers of enums, as OTLP/JSON has them.
    Otlp,
}

/// Spans of one trace grouped by resource and scope.
pub fn traces_data(spans: &[Span]) -> TracesData {
    let of_scope = |(scope, spans): (&Scope, Vec<&Span>)| {
        let spans = spans.into_iter().map(otlp_span).collect();
        ScopeSpans { spans, ..scope_spans(scope) }
    };
    let of_resource = |(resource, scopes): (&Resource, Vec<(&Scope, Vec<&Span>)>)| ResourceSpans {
        scope_spans: scopes.into_iter().map(of_scope).collect(),
        ..resource_spans(resource)
    };
    TracesData { resource_spans: grouped(spans).into_iter().map(of_resource).collect() }
}

/// The resources of spans in the order they come, with their scopes, with their spans.
type Grouped<'s> = Vec<(&'s Resource, Vec<(&'s Scope, Vec<&'s Span>)>)>;

fn grouped(spans: &[Span]) -> Grouped<'_> {
    let mut groups: Grouped<'_> = Vec::new();
    let mut resources: Distinct<&Resource> = Distinct::default();
    let mut scopes: Distinct<(usize, &Scope)> = Distinct::default();
    // The place of each scope within its resource.
    let mut places: Vec<usize> = Vec::new();
    // By address first: spans of one message share both.
    let mut by_address: HashMap<(*const Resource, *const Scope), (usize, usize)> = HashMap::new();
    for span in spans {
        let address = (Arc::as_ptr(&span.resource), Arc::as_ptr(&span.scope));
        let (at, scope_at) = *by_address.entry(address).or_insert_with(|| {
            let at = resources.place(&span.resource);
            if at == groups.len() {
                groups.push((&span.resource, Vec::new()));
            }
            let number = scopes.place((at, &span.scope));
            if let Some((_, own)) = groups.get_mut(at).filter(|_| number == places.len()) {
                places.push(own.len());
                own.push((&span.scope, Vec::new()));
            }
            (at, places.get(number).copied().unwrap_or(0))
        });
        if let Some((_, own)) = groups.get_mut(at).and_then(|(_, scopes)| scopes.get_mut(scope_at)) {
            own.push(span);
        }
    }
    groups
}

/// Different values, numbered in the order they come. Looking for one takes the same time however many
/// there are: whoever sends traces decides how many resources they have.
pub(super) struct Distinct<T> {
    by_hash: HashMap<u64, Vec<usize>>,
    values: Vec<T>,
}

impl<T> Default for Distinct<T> {
    fn default() -> Self {
        Self { by_hash: HashMap::new(), values: Vec::new() }
    }
}

impl<T: Debug + PartialEq> Distinct<T> {
    /// The number of a value; a new one gets the next.
    pub(super) fn place(&mut self, value: T) -> usize {
        let mut hash = Hash(DefaultHasher::new());
        let _ = write!(hash, "{value:?}");
        let same = self.by_hash.entry(hash.0.finish()).or_default();
        if let Some(known) = same.iter().find(|at| self.values.get(**at) == Some(&value)) {
            return *known;
        }
        same.push(self.values.len());
        self.values.push(value);
        self.values.len() - 1
    }
}

/// Hashes what is written to it.
struct Hash(DefaultHasher);

impl fmt::Write for Hash {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

/// Protobuf of a bare trace, as `/api/traces/{id}` answers it.
pub fn encode_v1(spans: &[Span]) -> Vec<u8> {
    traces_data(spans).encode_to_vec()
}

fn resource_spans(resource: &Resource) -> ResourceSpans {
    let mut attributes = attributes(&resource.attrs);
    if attributes.is_empty() {
        attributes.push(KeyValue {
            key: "service.name".to_owned(),
            value: Some(any(&AttrValue::Str(resource.service_name().to_owned()))),
            ..KeyValue::default()
        });
    }
    ResourceSpans {
        resource: Some(OtlpResource {
            attributes,
            dropped_attributes_count: resource.dropped_attrs,
            ..OtlpResource::default()
        }),
        scope_spans: Vec::new(),
        schema_url: resource.schema_url.clone(),
    }
}

fn scope_spans(scope: &Scope) -> ScopeSpans {
    ScopeSpans {
        scope: Some(InstrumentationScope {
            name: scope.name.clone(),
            version: scope.version.clone(),
            attributes: attributes(&scope.attrs),
            dropped_attributes_count: scope.dropped_attrs,
        }),
        spans: Vec::new(),
        schema_url: scope.schema_url.clone(),
    }
}

fn otlp_span(span: &Span) -> OtlpSpan {
    OtlpSpan {
        trace_id: span.trace_id.0.to_vec(),
        span_id: span.span_id.0.to_vec(),
        trace_state: span.trace_state.clone(),
        parent_span_id: parent(span.parent_id),
        flags: span.flags,
        name: span.name.clone(),
        kind: i32::from(span.kind.number()),
        start_time_unix_nano: unsigned(span.start),
        end_time_unix_nano: unsigned(span.end),
        attributes: attributes(&span.attrs),
        dropped_attributes_count: span.dropped_attrs,
        events: span.events.iter().map(event).collect(),
        dropped_events_count: span.dropped_events,
        links: span.links.iter().map(link).collect(),
        dropped_links_count: span.dropped_links,
        status: Some(Status { message: span.status_message.clone(), code: i32::from(span.status.number()) }),
    }
}

fn event(event: &crate::model::span::SpanEvent) -> Event {
    Event {
        time_unix_nano: unsigned(event.t),
        name: event.name.clone(),
        attributes: attributes(&event.attrs),
        dropped_attributes_count: event.dropped_attrs,
    }
}

fn link(link: &crate::model::span::SpanLink) -> Link {
    Link {
        trace_id: link.trace_id.0.to_vec(),
        span_id: link.span_id.0.to_vec(),
        trace_state: link.trace_state.clone(),
        attributes: attributes(&link.attrs),
        dropped_attributes_count: link.dropped_attrs,
        flags: link.flags,
    }
}

/// A root has no parent at all, not one of zeros.
fn parent(id: SpanId) -> Vec<u8> {
    if id.is_none() { Vec::new() } else { id.0.to_vec() }
}

/// The wire's clock is unsigned; times before 1970 keep their bits.
fn unsigned(ns: i64) -> u64 {
    ns.cast_unsigned()
}

fn attributes(attrs: &Attrs) -> Vec<KeyValue> {
    attrs
        .iter()
        .map(|(key, value)| KeyValue { key: key.clone(), value: Some(any(value)), ..KeyValue::default() })
        .collect()
}

fn any(value: &AttrValue) -> AnyValue {
    let value = match value {
        AttrValue::Empty => None,
        AttrValue::Str(text) => Some(Any::StringValue(text.clone())),
        AttrValue::Int(int) => Some(Any::IntValue(*int)),
        AttrValue::Double(float) => Some(Any::DoubleValue(*float)),
        AttrValue::Bool(bool) => Some(Any::BoolValue(*bool)),
        AttrValue::Bytes(bytes) => Some(Any::BytesValue(bytes.clone())),
        AttrValue::Array(list) => Some(Any::ArrayValue(ArrayValue { values: list.iter().map(any).collect() })),
        AttrValue::Map(attrs) => Some(Any::KvlistValue(KeyValueList { values: attributes(attrs) })),
    };
    AnyValue { value }
}

/// Spans in JSON, as the value of `resourceSpans` (Tempo's v1 calls it `batches`). It is made span by
/// span while it is written, so that a large trace takes no more memory than its text.
pub struct TraceJson<'s> {
    /// The spans.
    pub spans: &'s [Span],
    /// How ids and enums look.
    pub style: JsonStyle,
}

impl Serialize for TraceJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(grouped(self.spans).into_iter().map(|group| ResourceJson(group, self.style)))
    }
}

struct ResourceJson<'s>((&'s Resource, Vec<(&'s Scope, Vec<&'s Span>)>), JsonStyle);

impl Serialize for ResourceJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self((resource, scopes), style) = self;
        let own = resource_spans(resource);
        let mut about = Map::new();
        if let Some(own) = &own.resource {
            put_attributes(&mut about, &own.attributes, own.dropped_attributes_count);
        }
        let mut out = serializer.serialize_map(None)?;
        out.serialize_entry("resource", &about)?;
        let scopes: Vec<_> = scopes.iter().map(|(scope, spans)| ScopeJson(scope, spans, *style)).collect();
        out.serialize_entry("scopeSpans", &scopes)?;
        if !own.schema_url.is_empty() {
            out.serialize_entry("schemaUrl", &own.schema_url)?;
        }
        out.end()
    }
}

struct ScopeJson<'s>(&'s Scope, &'s [&'s Span], JsonStyle);

impl Serialize for ScopeJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(scope, spans, style) = self;
        let own = scope_spans(scope);
        let mut about = Map::new();
        if let Some(own) = &own.scope {
            put_text(&mut about, "name", &own.name);
            put_text(&mut about, "version", &own.version);
            put_attributes(&mut about, &own.attributes, own.dropped_attributes_count);
        }
        let mut out = serializer.serialize_map(None)?;
        out.serialize_entry("scope", &about)?;
        out.serialize_entry("spans", &SpansJson(spans, *style))?;
        if !own.schema_url.is_empty() {
            out.serialize_entry("schemaUrl", &own.schema_url)?;
        }
        out.end()
    }
}

struct SpansJson<'s>(&'s [&'s Span], JsonStyle);

impl Serialize for SpansJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|span| span_json(&otlp_span(span), self.1)))
    }
}

fn span_json(span: &OtlpSpan, style: JsonStyle) -> Value {
    let mut out = Map::new();
    out.insert("traceId".to_owned(), id(&span.trace_id, style));
    out.insert("spanId".to_owned(), id(&span.span_id, style));
    if !span.parent_span_id.is_empty() {
        out.insert("parentSpanId".to_owned(), id(&span.parent_span_id, style));
    }
    put_text(&mut out, "traceState", &span.trace_state);
    put_count(&mut out, "flags", span.flags);
    put_text(&mut out, "name", &span.name);
    out.insert(
        "kind".to_owned(),
        match style {
            JsonStyle::Tempo => json!(span.kind().as_str_name()),
            JsonStyle::Otlp => json!(span.kind),
        },
    );
    out.insert("startTimeUnixNano".to_owned(), json!(span.start_time_unix_nano.to_string()));
    out.insert("endTimeUnixNano".to_owned(), json!(span.end_time_unix_nano.to_string()));
    put_attributes(&mut out, &span.attributes, span.dropped_attributes_count);
    put_list(&mut out, "events", span.events.iter().map(event_json).collect());
    put_count(&mut out, "droppedEventsCount", span.dropped_events_count);
    put_list(&mut out, "links", span.links.iter().map(|link| link_json(link, style)).collect());
    put_count(&mut out, "droppedLinksCount", span.dropped_links_count);
    let mut status = Map::new();
    if let Some(own) = &span.status {
        put_text(&mut status, "message", &own.message);
        if own.code != i32::from(StatusCode::Unset.number()) {
            status.insert(
                "code".to_owned(),
                match style {
                    JsonStyle::Tempo => json!(own.code().as_str_name()),
                    JsonStyle::Otlp => json!(own.code),
                },
            );
        }
    }
    out.insert("status".to_owned(), Value::Object(status));
    Value::Object(out)
}

fn event_json(event: &Event) -> Value {
    let mut out = Map::new();
    out.insert("timeUnixNano".to_owned(), json!(event.time_unix_nano.to_string()));
    put_text(&mut out, "name", &event.name);
    put_attributes(&mut out, &event.attributes, event.dropped_attributes_count);
    Value::Object(out)
}

fn link_json(link: &Link, style: JsonStyle) -> Value {
    let mut out = Map::new();
    out.insert("traceId".to_owned(), id(&link.trace_id, style));
    out.insert("spanId".to_owned(), id(&link.span_id, style));
    put_text(&mut out, "traceState", &link.trace_state);
    put_attributes(&mut out, &link.attributes, link.dropped_attributes_count);
    put_count(&mut out, "flags", link.flags);
    Value::Object(out)
}

fn id(bytes: &[u8], style: JsonStyle) -> Value {
    Value::String(match style {
        JsonStyle::Tempo => base64::engine::general_purpose::STANDARD.encode(bytes),
        JsonStyle::Otlp => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
    })
}

fn put_text(out: &mut Map<String, Value>, name: &str, text: &str) {
    if !text.is_empty() {
        out.insert(name.to_owned(), json!(text));
    }
}

fn put_count(out: &mut Map<String, Value>, name: &str, count: u32) {
    if count != 0 {
        out.insert(name.to_owned(), json!(count));
    }
}

fn put_list(out: &mut Map<String, Value>, name: &str, list: Vec<Value>) {
    if !list.is_empty() {
        out.insert(name.to_owned(), Value::Array(list));
    }
}

fn put_attributes(out: &mut Map<String, Value>, attributes: &[KeyValue], dropped: u32) {
    put_list(out, "attributes", attributes.iter().map(pair_json).collect());
    put_count(out, "droppedAttributesCount", dropped);
}

fn pair_json(pair: &KeyValue) -> Value {
    json!({ "key": pair.key, "value": pair.value.as_ref().map_or_else(|| json!({}), any_json) })
}

fn any_json(value: &AnyValue) -> Value {
    match &value.value {
        None | Some(Any::StringValueStrindex(_)) => json!({}),
        Some(Any::StringValue(text)) => json!({ "stringValue": text }),
        Some(Any::BoolValue(bool)) => json!({ "boolValue": bool }),
        Some(Any::IntValue(int)) => json!({ "intValue": int.to_string() }),
        Some(Any::DoubleValue(float)) => json!({ "doubleValue": double_json(*float) }),
        Some(Any::ArrayValue(list)) => {
            json!({ "arrayValue": { "values": list.values.iter().map(any_json).collect::<Vec<_>>() } })
        }
        Some(Any::KvlistValue(list)) => {
            json!({ "kvlistValue": { "values": list.values.iter().map(pair_json).collect::<Vec<_>>() } })
        }
        Some(Any::BytesValue(bytes)) => {
            json!({ "bytesValue": base64::engine::general_purpose::STANDARD.encode(bytes) })
        }
    }
}

/// A double in protobuf's JSON: what JSON has no number for is a string.
pub(super) fn double_json(float: f64) -> Value {
    if float.is_nan() {
        json!("NaN")
    } else if float.is_infinite() {
        json!(if float > 0.0 { "Infinity" } else { "-Infinity" })
    } else {
        json!(float)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::span::TraceId;

    fn span(id: u8, resource: &Arc<Resource>) -> Span {
        Span { trace_id: TraceId([7; 16]), span_id: SpanId([id; 8]), resource: resource.clone(), ..Span::default() }
    }

    #[test]
    fn empty_messages_are_written_and_empty_resources_get_a_name() {
        let bytes = encode_v1(&[span(1, &Arc::default())]);
        let data = TracesData::decode(bytes.as_slice()).unwrap();
        let group = &data.resource_spans[0];
        assert_eq!(group.resource.as_ref().unwrap().attributes[0].key, "service.name");
        assert!(group.scope_spans[0].scope.is_some());
        assert!(group.scope_spans[0].spans[0].status.is_some());
        assert!(group.scope_spans[0].spans[0].parent_span_id.is_empty());
    }

    #[test]
    fn equal_resources_make_one_group_also_from_several_messages() {
        let resource = |name: &str| {
            let attrs = vec![("service.name".to_owned(), AttrValue::Str(name.to_owned()))];
            Arc::new(Resource { attrs, ..Resource::default() })
        };
        let spans = [span(1, &resource("a")), span(2, &resource("a")), span(3, &resource("b"))];
        let data = traces_data(&spans);
        let sizes: Vec<_> = data.resource_spans.iter().map(|group| group.scope_spans[0].spans.len()).collect();
        assert_eq!(sizes, [2, 1]);
    }

    #[test]
    fn attributes_as_deep_as_the_store_takes_them_are_written_on_a_small_stack() {
        // The store takes 64 levels, receivers 40.
        let deep = (0..64).fold(AttrValue::Int(1), |inner, level| match level % 2 {
            0 => AttrValue::Array(vec![inner]),
            _ => AttrValue::Map(vec![("k".to_owned(), inner)]),
        });
        let span = Span { attrs: vec![("deep".to_owned(), deep)], ..span(1, &Arc::default()) };
        let write = move || {
            let spans = [span];
            for style in [JsonStyle::Tempo, JsonStyle::Otlp] {
                let text = serde_json::to_string(&TraceJson { spans: &spans, style }).unwrap();
                assert_eq!(text.matches("kvlistValue").count(), 32);
            }
            assert!(!encode_v1(&spans).is_empty());
            let jaeger = crate::wire::jaeger_out::trace(&spans).unwrap();
            assert!(serde_json::to_string(&jaeger).unwrap().contains("deep"));
        };
        std::thread::Builder::new().stack_size(1 << 20).spawn(write).unwrap().join().unwrap();
    }

    #[test]
    fn as_many_resources_as_spans_are_grouped_without_comparing_each_with_each() {
        struct Counted<'c>(usize, &'c std::cell::Cell<usize>);
        impl PartialEq for Counted<'_> {
            fn eq(&self, other: &Self) -> bool {
                self.1.set(self.1.get() + 1);
                self.0 == other.0
            }
        }
        let compared = std::cell::Cell::new(0);
        // What is debugged is what is hashed: the count would make two out of one.
        struct Plain<'c>(Counted<'c>);
        impl Debug for Plain<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.0.fmt(f)
            }
        }
        impl PartialEq for Plain<'_> {
            fn eq(&self, other: &Self) -> bool {
                self.0 == other.0
            }
        }
        let mut distinct = Distinct::default();
        for at in (0..5_000).chain(0..5_000) {
            assert_eq!(distinct.place(Plain(Counted(at, &compared))), at);
        }
        assert!(compared.get() < 6_000, "{}", compared.get());
    }

    #[test]
    fn tempo_writes_base64_ids_and_names_otlp_hex_and_numbers() {
        let spans = [span(1, &Arc::default())];
        let json = |style| serde_json::to_value(TraceJson { spans: &spans, style }).unwrap();
        let tempo = &json(JsonStyle::Tempo)[0]["scopeSpans"][0]["spans"][0];
        assert_eq!((&tempo["spanId"], &tempo["kind"]), (&json!("AQEBAQEBAQE="), &json!("SPAN_KIND_UNSPECIFIED")));
        assert_eq!((&tempo["status"], &tempo["startTimeUnixNano"]), (&json!({}), &json!("0")));
        let otlp = &json(JsonStyle::Otlp)[0]["scopeSpans"][0]["spans"][0];
        assert_eq!((&otlp["spanId"], &otlp["kind"]), (&json!("0101010101010101"), &json!(0)));
    }
}
