//! Tempo's messages (tempopb): each type is the protobuf message and its protobuf-JSON at once.
//! Grafana decodes the JSON strictly, so no key may be added that its schema does not know;
//! 64-bit integers are strings, and fields of value zero are left out.

mod requests;

use std::collections::HashMap;

use prost::Message;
use serde::{Serialize, Serializer};
use serde_json::Value as Json;

use super::otlp_trace_out::{double_json, traces_data};
use crate::model::span::{AttrValue, Attrs, Span};

pub use requests::{QueryRangeRequest, SearchRequest, SearchTagValuesRequest, SearchTagsRequest};

/// A message that can be written.
pub trait Encode: Message {}
impl<M: Message> Encode for M {}

/// A message that can be read.
pub trait Decode: Message + Default {}
impl<M: Message + Default> Decode for M {}

/// A message as protobuf.
pub fn encode(message: &impl Encode) -> Vec<u8> {
    message.encode_to_vec()
}

/// Bytes that a message has as protobuf.
pub fn encoded_len(message: &impl Encode) -> usize {
    message.encoded_len()
}

/// A message from protobuf; whoever calls has capped its size.
///
/// # Errors
/// What is wrong with the bytes.
pub fn decode<M: Decode>(bytes: &[u8]) -> Result<M, String> {
    M::decode(bytes).map_err(|error| error.to_string())
}

/// Answer of a search.
#[derive(Clone, PartialEq, Message, Serialize)]
pub struct SearchResponse {
    /// Newest first.
    #[prost(message, repeated, tag = "1")]
    pub traces: Vec<TraceSearchMetadata>,
    /// What it took.
    #[prost(message, optional, tag = "2")]
    pub metrics: Option<SearchMetrics>,
}

/// A trace that a search found.
#[derive(Clone, PartialEq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TraceSearchMetadata {
    /// In hexadecimal.
    #[prost(string, tag = "1")]
    #[serde(rename = "traceID")]
    pub trace_id: String,
    /// Service of the root.
    #[prost(string, tag = "2")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub root_service_name: String,
    /// Name of the root; empty when no root was received.
    #[prost(string, tag = "3")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub root_trace_name: String,
    /// Earliest start.
    #[prost(uint64, tag = "4")]
    #[serde(serialize_with = "text")]
    pub start_time_unix_nano: u64,
    /// Rounded down.
    #[prost(uint32, tag = "5")]
    #[serde(skip_serializing_if = "is_zero")]
    pub duration_ms: u32,
    /// The first of `span_sets`, for older readers.
    #[prost(message, optional, tag = "6")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span_set: Option<SpanSet>,
    /// What matched.
    #[prost(message, repeated, tag = "7")]
    pub span_sets: Vec<SpanSet>,
    /// Spans and errors by service.
    #[prost(map = "string, message", tag = "8")]
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    pub service_stats: HashMap<String, ServiceStats>,
}

/// Counts of one service within a trace.
#[derive(Clone, Copy, PartialEq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStats {
    /// Its spans.
    #[prost(uint32, tag = "1")]
    #[serde(skip_serializing_if = "is_zero")]
    pub span_count: u32,
    /// Those with status error.
    #[prost(uint32, tag = "2")]
    #[serde(skip_serializing_if = "is_zero")]
    pub error_count: u32,
}

/// Spans that matched together.
#[derive(Clone, PartialEq, Message, Serialize)]
pub struct SpanSet {
    /// The first of them.
    #[prost(message, repeated, tag = "1")]
    pub spans: Vec<FoundSpan>,
    /// How many there are.
    #[prost(uint32, tag = "2")]
    pub matched: u32,
    /// What the query computed of them.
    #[prost(message, repeated, tag = "3")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<KeyValue>,
}

/// A span that matched (tempopb.Span).
#[derive(Clone, PartialEq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FoundSpan {
    /// In hexadecimal.
    #[prost(string, tag = "1")]
    #[serde(rename = "spanID")]
    pub span_id: String,
    /// Its name.
    #[prost(string, tag = "2")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// When it began.
    #[prost(uint64, tag = "3")]
    #[serde(serialize_with = "text")]
    pub start_time_unix_nano: u64,
    /// How long it took.
    #[prost(uint64, tag = "4")]
    #[serde(serialize_with = "text")]
    pub duration_nanos: u64,
    /// What the query names of it.
    #[prost(message, repeated, tag = "5")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<KeyValue>,
}

/// What a query took.
#[derive(Clone, Copy, PartialEq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SearchMetrics {
    /// Traces judged.
    #[prost(uint32, tag = "1")]
    #[serde(skip_serializing_if = "is_zero")]
    pub inspected_traces: u32,
    /// Blocks in range.
    #[prost(uint32, tag = "3")]
    #[serde(skip_serializing_if = "is_zero")]
    pub total_blocks: u32,
    /// Parts of the query that are done.
    #[prost(uint32, tag = "4")]
    #[serde(skip_serializing_if = "is_zero")]
    pub completed_jobs: u32,
    /// Parts of the query.
    #[prost(uint32, tag = "5")]
    #[serde(skip_serializing_if = "is_zero")]
    pub total_jobs: u32,
    /// Spans read.
    #[prost(uint64, tag = "7")]
    #[serde(serialize_with = "text", skip_serializing_if = "is_zero_64")]
    pub inspected_spans: u64,
}

/// An attribute (OTLP's KeyValue).
#[derive(Clone, PartialEq, Message, Serialize)]
pub struct KeyValue {
    /// Its name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its value.
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

/// A value (OTLP's AnyValue).
#[derive(Clone, PartialEq, Message)]
pub struct AnyValue {
    /// The value; none is an empty one.
    #[prost(oneof = "Any", tags = "1, 2, 3, 4, 5")]
    pub value: Option<Any>,
}

/// The kinds of values that answers of queries have.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Any {
    /// A string.
    #[prost(string, tag = "1")]
    Str(String),
    /// A boolean.
    #[prost(bool, tag = "2")]
    Bool(bool),
    /// An integer.
    #[prost(int64, tag = "3")]
    Int(i64),
    /// A float.
    #[prost(double, tag = "4")]
    Double(f64),
    /// A list.
    #[prost(message, tag = "5")]
    Array(ArrayValue),
}

/// A list (OTLP's ArrayValue).
#[derive(Clone, PartialEq, Message, Serialize)]
pub struct ArrayValue {
    /// Its elements.
    #[prost(message, repeated, tag = "1")]
    pub values: Vec<AnyValue>,
}

impl AnyValue {
    /// From an attribute; bytes and maps have no place in answers of queries and come out empty.
    pub fn of(value: &AttrValue) -> Self {
        let value = match value {
            AttrValue::Str(text) => Some(Any::Str(text.clone())),
            AttrValue::Bool(bool) => Some(Any::Bool(*bool)),
            AttrValue::Int(int) => Some(Any::Int(*int)),
            AttrValue::Double(float) => Some(Any::Double(*float)),
            AttrValue::Array(list) => Some(Any::Array(ArrayValue { values: list.iter().map(Self::of).collect() })),
            AttrValue::Empty | AttrValue::Bytes(_) | AttrValue::Map(_) => None,
        };
        Self { value }
    }
}

/// Attributes as messages.
pub fn key_values(attrs: &Attrs) -> Vec<KeyValue> {
    attrs.iter().map(|(key, value)| KeyValue { key: key.clone(), value: Some(AnyValue::of(value)) }).collect()
}

impl Serialize for AnyValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (key, value) = match &self.value {
            None => return serializer.collect_map(std::iter::empty::<(&str, &str)>()),
            Some(Any::Str(text)) => ("stringValue", Json::from(text.as_str())),
            Some(Any::Bool(bool)) => ("boolValue", Json::from(*bool)),
            Some(Any::Int(int)) => ("intValue", Json::from(int.to_string())),
            Some(Any::Double(float)) => ("doubleValue", double_json(*float)),
            Some(Any::Array(list)) => return serializer.collect_map([("arrayValue", list)]),
        };
        serializer.collect_map([(key, value)])
    }
}

/// Answer with names of tags.
#[derive(Clone, PartialEq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SearchTagsResponse {
    /// Without scopes.
    #[prost(string, repeated, tag = "1")]
    pub tag_names: Vec<String>,
    /// What it took.
    #[prost(message, optional, tag = "2")]
    pub metrics: Option<MetadataMetrics>,
}

/// Answer with names of tags by scope.
#[derive(Clone, PartialEq, Message, Serialize)]
pub struct SearchTagsV2Response {
    /// The scopes.
    #[prost(message, repeated, tag = "1")]
    pub scopes: Vec<SearchTagsV2Scope>,
    /// What it took.
    #[prost(message, optional, tag = "2")]
    pub metrics: Option<MetadataMetrics>,
}

/// Names of tags of one scope.
#[derive(Clone, PartialEq, Message, Serialize)]
pub struct SearchTagsV2Scope {
    /// The scope.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The names.
    #[prost(string, repeated, tag = "2")]
    pub tags: Vec<String>,
}

/// Answer with values of a tag.
#[derive(Clone, PartialEq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SearchTagValuesResponse {
    /// As text.
    #[prost(string, repeated, tag = "1")]
    pub tag_values: Vec<String>,
    /// What it took.
    #[prost(message, optional, tag = "2")]
    pub metrics: Option<MetadataMetrics>,
}

/// Answer with typed values of a tag.
#[derive(Clone, PartialEq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SearchTagValuesV2Response {
    /// The values.
    #[prost(message, repeated, tag = "1")]
    pub tag_values: Vec<TagValue>,
    /// What it took.
    #[prost(message, optional, tag = "2")]
    pub metrics: Option<MetadataMetrics>,
}

/// A typed value of a tag.
#[derive(Clone, PartialEq, Message, Serialize)]
pub struct TagValue {
    /// `string`, `int`, `float`, `bool` or `keyword`.
    #[prost(string, tag = "1")]
    pub r#type: String,
    /// As text.
    #[prost(string, tag = "2")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
}

/// What a query for tags took: nothing is told.
#[derive(Clone, Copy, PartialEq, Message, Serialize)]
pub struct MetadataMetrics {}

/// Answer of a metrics query over a range.
#[derive(Clone, PartialEq, Message, Serialize)]
pub struct QueryRangeResponse {
    /// The series.
    #[prost(message, repeated, tag = "1")]
    pub series: Vec<TimeSeries>,
    /// What it took.
    #[prost(message, optional, tag = "2")]
    pub metrics: Option<SearchMetrics>,
}

/// A series over time.
#[derive(Clone, PartialEq, Message, Serialize)]
pub struct TimeSeries {
    /// Who it is.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<KeyValue>,
    /// In time order.
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
    /// Spans that stand for samples.
    #[prost(message, repeated, tag = "4")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exemplars: Vec<Exemplar>,
}

/// A sample; one of value 0 has no `value` key in JSON.
#[derive(Clone, Copy, PartialEq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// Milliseconds since the Unix epoch.
    #[prost(int64, tag = "2")]
    #[serde(serialize_with = "text")]
    pub timestamp_ms: i64,
    /// The value.
    #[prost(double, tag = "1")]
    #[serde(serialize_with = "double", skip_serializing_if = "is_zero_double")]
    pub value: f64,
}

/// A span that stands for a sample.
#[derive(Clone, PartialEq, Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Exemplar {
    /// `trace:id`.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<KeyValue>,
    /// Its value.
    #[prost(double, tag = "2")]
    #[serde(serialize_with = "double")]
    pub value: f64,
    /// Milliseconds since the Unix epoch.
    #[prost(int64, tag = "3")]
    #[serde(serialize_with = "text")]
    pub timestamp_ms: i64,
}

/// Answer of a metrics query at an instant.
#[derive(Clone, PartialEq, Message, Serialize)]
pub struct QueryInstantResponse {
    /// The series.
    #[prost(message, repeated, tag = "1")]
    pub series: Vec<InstantSeries>,
    /// What it took.
    #[prost(message, optional, tag = "2")]
    pub metrics: Option<SearchMetrics>,
}

/// A series at an instant.
#[derive(Clone, PartialEq, Message, Serialize)]
pub struct InstantSeries {
    /// Who it is.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<KeyValue>,
    /// The value.
    #[prost(double, tag = "2")]
    #[serde(serialize_with = "double")]
    pub value: f64,
}

/// Protobuf of `TraceByIDResponse`, as `/api/v2/traces/{id}` answers it: the trace in field 1,
/// always present, and the status in field 3.
pub fn encode_v2(spans: &[Span], partial: bool) -> Vec<u8> {
    #[derive(Clone, PartialEq, Message)]
    struct TraceByIdResponse {
        #[prost(message, optional, tag = "1")]
        trace: Option<opentelemetry_proto::tonic::trace::v1::TracesData>,
        #[prost(message, optional, tag = "2")]
        metrics: Option<MetadataMetrics>,
        #[prost(int32, tag = "3")]
        status: i32,
    }
    let trace = Some(traces_data(spans));
    TraceByIdResponse { trace, metrics: Some(MetadataMetrics {}), status: i32::from(partial) }.encode_to_vec()
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}

fn is_zero_64(value: &u64) -> bool {
    *value == 0
}

fn is_zero_double(value: &f64) -> bool {
    *value == 0.0
}

fn text<T: std::fmt::Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn double<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    double_json(*value).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_samples_have_no_value_and_long_integers_are_strings() {
        let samples = [Sample { timestamp_ms: 5, value: 0.0 }, Sample { timestamp_ms: 6, value: 1.5 }];
        let text = serde_json::to_string(&samples).unwrap();
        assert_eq!(text, r#"[{"timestampMs":"5"},{"timestampMs":"6","value":1.5}]"#);
    }

    #[test]
    fn values_have_the_keys_of_otlp() {
        let list = AttrValue::Array(vec![AttrValue::Int(1), AttrValue::Str("a".into())]);
        let text = serde_json::to_string(&AnyValue::of(&list)).unwrap();
        assert_eq!(text, r#"{"arrayValue":{"values":[{"intValue":"1"},{"stringValue":"a"}]}}"#);
        assert_eq!(
            serde_json::to_string(&AnyValue::of(&AttrValue::Double(f64::NAN))).unwrap(),
            r#"{"doubleValue":"NaN"}"#
        );
    }
}
