//! The messages of OTLP as tables: field names for JSON, numbers for protobuf, and what one message
//! costs in memory (as prost's type and as the model's).
//! Source: <https://github.com/open-telemetry/opentelemetry-proto>, stable parts.

use opentelemetry_proto::tonic::common::v1 as common;
use opentelemetry_proto::tonic::logs::v1 as logs;
use opentelemetry_proto::tonic::metrics::v1 as metrics;
use opentelemetry_proto::tonic::trace::v1 as trace;

use crate::model::log::LogEntry;
use crate::model::span::{AttrValue, Span, SpanEvent, SpanLink};

/// A message: its fields, and the bytes of memory that one takes without its strings.
pub(super) struct Message {
    pub(super) cost: usize,
    pub(super) fields: &'static [Field],
}

/// A field of a message.
pub(super) struct Field {
    /// In JSON.
    pub(super) name: &'static str,
    /// In protobuf.
    pub(super) number: u32,
    pub(super) kind: Kind,
}

/// What a field holds. Repeated fields are not told apart: JSON shows an array, protobuf a number
/// that comes again.
pub(super) enum Kind {
    Message(&'static Message),
    Text,
    /// Text that may come many times in one message.
    Texts,
    /// Bytes that JSON writes in hex: trace and span ids.
    Hex,
    /// Bytes that JSON writes in base64.
    Base64,
    /// int64, int32, uint64 or uint32.
    Varint,
    /// sint32.
    Zigzag,
    /// fixed64 or sfixed64.
    Fixed64,
    Fixed32,
    Double,
    Bool,
    /// A number with names; a name's position is its number.
    Enum(&'static [&'static str]),
}

use Kind::{Base64, Bool, Double, Enum, Fixed32, Fixed64, Hex, Text, Texts, Varint, Zigzag};

const fn field(number: u32, name: &'static str, kind: Kind) -> Field {
    Field { name, number, kind }
}

const fn nested(number: u32, name: &'static str, message: &'static Message) -> Field {
    Field { name, number, kind: Kind::Message(message) }
}

static ANY_VALUE: Message = Message {
    cost: size_of::<common::AnyValue>() + size_of::<AttrValue>(),
    fields: &[
        field(1, "stringValue", Text),
        field(2, "boolValue", Bool),
        field(3, "intValue", Varint),
        field(4, "doubleValue", Double),
        nested(5, "arrayValue", &ARRAY_VALUE),
        nested(6, "kvlistValue", &KEY_VALUE_LIST),
        field(7, "bytesValue", Base64),
    ],
};

static ARRAY_VALUE: Message = Message { cost: 16, fields: &[nested(1, "values", &ANY_VALUE)] };

static KEY_VALUE_LIST: Message = Message { cost: 16, fields: &[nested(1, "values", &KEY_VALUE)] };

static KEY_VALUE: Message = Message {
    cost: size_of::<common::KeyValue>() + size_of::<(String, AttrValue)>(),
    fields: &[field(1, "key", Text), nested(2, "value", &ANY_VALUE)],
};

static RESOURCE: Message = Message {
    cost: 128,
    fields: &[
        nested(1, "attributes", &KEY_VALUE),
        field(2, "droppedAttributesCount", Varint),
        nested(3, "entityRefs", &ENTITY_REF),
    ],
};

/// Not used, but prost builds it.
static ENTITY_REF: Message = Message {
    cost: size_of::<common::EntityRef>(),
    fields: &[
        field(1, "schemaUrl", Text),
        field(2, "type", Text),
        field(3, "idKeys", Texts),
        field(4, "descriptionKeys", Texts),
    ],
};

static SCOPE: Message = Message {
    cost: 256,
    fields: &[
        field(1, "name", Text),
        field(2, "version", Text),
        nested(3, "attributes", &KEY_VALUE),
        field(4, "droppedAttributesCount", Varint),
    ],
};

/// `ExportTraceServiceRequest`.
pub(super) static TRACES: Message = Message { cost: 0, fields: &[nested(1, "resourceSpans", &RESOURCE_SPANS)] };

static RESOURCE_SPANS: Message = Message {
    cost: size_of::<trace::ResourceSpans>() + 128,
    fields: &[nested(1, "resource", &RESOURCE), nested(2, "scopeSpans", &SCOPE_SPANS), field(3, "schemaUrl", Text)],
};

static SCOPE_SPANS: Message = Message {
    cost: size_of::<trace::ScopeSpans>() + 128,
    fields: &[nested(1, "scope", &SCOPE), nested(2, "spans", &SPAN), field(3, "schemaUrl", Text)],
};

static SPAN: Message = Message {
    cost: size_of::<trace::Span>() + size_of::<Span>(),
    fields: &[
        field(1, "traceId", Hex),
        field(2, "spanId", Hex),
        field(3, "traceState", Text),
        field(4, "parentSpanId", Hex),
        field(5, "name", Text),
        field(6, "kind", Enum(SPAN_KINDS)),
        field(7, "startTimeUnixNano", Fixed64),
        field(8, "endTimeUnixNano", Fixed64),
        nested(9, "attributes", &KEY_VALUE),
        field(10, "droppedAttributesCount", Varint),
        nested(11, "events", &EVENT),
        field(12, "droppedEventsCount", Varint),
        nested(13, "links", &LINK),
        field(14, "droppedLinksCount", Varint),
        nested(15, "status", &STATUS),
        field(16, "flags", Fixed32),
    ],
};

const SPAN_KINDS: &[&str] = &[
    "SPAN_KIND_UNSPECIFIED",
    "SPAN_KIND_INTERNAL",
    "SPAN_KIND_SERVER",
    "SPAN_KIND_CLIENT",
    "SPAN_KIND_PRODUCER",
    "SPAN_KIND_CONSUMER",
];

static EVENT: Message = Message {
    cost: size_of::<trace::span::Event>() + size_of::<SpanEvent>(),
    fields: &[
        field(1, "timeUnixNano", Fixed64),
        field(2, "name", Text),
        nested(3, "attributes", &KEY_VALUE),
        field(4, "droppedAttributesCount", Varint),
    ],
};

static LINK: Message = Message {
    cost: size_of::<trace::span::Link>() + size_of::<SpanLink>(),
    fields: &[
        field(1, "traceId", Hex),
        field(2, "spanId", Hex),
        field(3, "traceState", Text),
        nested(4, "attributes", &KEY_VALUE),
        field(5, "droppedAttributesCount", Varint),
        field(6, "flags", Fixed32),
    ],
};

static STATUS: Message = Message {
    cost: 0,
    fields: &[
        field(2, "message", Text),
        field(3, "code", Enum(&["STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"])),
    ],
};

/// `ExportLogsServiceRequest`.
pub(super) static LOGS: Message = Message { cost: 0, fields: &[nested(1, "resourceLogs", &RESOURCE_LOGS)] };

static RESOURCE_LOGS: Message = Message {
    cost: size_of::<logs::ResourceLogs>() + 128,
    fields: &[nested(1, "resource", &RESOURCE), nested(2, "scopeLogs", &SCOPE_LOGS), field(3, "schemaUrl", Text)],
};

static SCOPE_LOGS: Message = Message {
    cost: size_of::<logs::ScopeLogs>() + 128,
    fields: &[nested(1, "scope", &SCOPE), nested(2, "logRecords", &LOG_RECORD), field(3, "schemaUrl", Text)],
};

static LOG_RECORD: Message = Message {
    cost: size_of::<logs::LogRecord>() + size_of::<LogEntry>(),
    fields: &[
        field(1, "timeUnixNano", Fixed64),
        field(2, "severityNumber", Enum(SEVERITIES)),
        field(3, "severityText", Text),
        nested(5, "body", &ANY_VALUE),
        nested(6, "attributes", &KEY_VALUE),
        field(7, "droppedAttributesCount", Varint),
        field(8, "flags", Fixed32),
        field(9, "traceId", Hex),
        field(10, "spanId", Hex),
        field(11, "observedTimeUnixNano", Fixed64),
        field(12, "eventName", Text),
    ],
};

const SEVERITIES: &[&str] = &[
    "SEVERITY_NUMBER_UNSPECIFIED",
    "SEVERITY_NUMBER_TRACE",
    "SEVERITY_NUMBER_TRACE2",
    "SEVERITY_NUMBER_TRACE3",
    "SEVERITY_NUMBER_TRACE4",
    "SEVERITY_NUMBER_DEBUG",
    "SEVERITY_NUMBER_DEBUG2",
    "SEVERITY_NUMBER_DEBUG3",
    "SEVERITY_NUMBER_DEBUG4",
    "SEVERITY_NUMBER_INFO",
    "SEVERITY_NUMBER_INFO2",
    "SEVERITY_NUMBER_INFO3",
    "SEVERITY_NUMBER_INFO4",
    "SEVERITY_NUMBER_WARN",
    "SEVERITY_NUMBER_WARN2",
    "SEVERITY_NUMBER_WARN3",
    "SEVERITY_NUMBER_WARN4",
    "SEVERITY_NUMBER_ERROR",
    "SEVERITY_NUMBER_ERROR2",
    "SEVERITY_NUMBER_ERROR3",
    "SEVERITY_NUMBER_ERROR4",
    "SEVERITY_NUMBER_FATAL",
    "SEVERITY_NUMBER_FATAL2",
    "SEVERITY_NUMBER_FATAL3",
    "SEVERITY_NUMBER_FATAL4",
];

/// `ExportMetricsServiceRequest`.
pub(super) static METRICS: Message = Message { cost: 0, fields: &[nested(1, "resourceMetrics", &RESOURCE_METRICS)] };

static RESOURCE_METRICS: Message = Message {
    cost: size_of::<metrics::ResourceMetrics>() + 128,
    fields: &[nested(1, "resource", &RESOURCE), nested(2, "scopeMetrics", &SCOPE_METRICS), field(3, "schemaUrl", Text)],
};

static SCOPE_METRICS: Message = Message {
    cost: size_of::<metrics::ScopeMetrics>() + 128,
    fields: &[nested(1, "scope", &SCOPE), nested(2, "metrics", &METRIC), field(3, "schemaUrl", Text)],
};

static METRIC: Message = Message {
    cost: size_of::<metrics::Metric>(),
    fields: &[
        field(1, "name", Text),
        field(2, "description", Text),
        field(3, "unit", Text),
        nested(5, "gauge", &GAUGE),
        nested(7, "sum", &SUM),
        nested(9, "histogram", &HISTOGRAM),
        nested(10, "exponentialHistogram", &EXPONENTIAL_HISTOGRAM),
        nested(11, "summary", &SUMMARY),
        nested(12, "metadata", &KEY_VALUE),
    ],
};

const TEMPORALITIES: &[&str] =
    &["AGGREGATION_TEMPORALITY_UNSPECIFIED", "AGGREGATION_TEMPORALITY_DELTA", "AGGREGATION_TEMPORALITY_CUMULATIVE"];

static GAUGE: Message = Message { cost: 0, fields: &[nested(1, "dataPoints", &NUMBER_POINT)] };

static SUM: Message = Message {
    cost: 0,
    fields: &[
        nested(1, "dataPoints", &NUMBER_POINT),
        field(2, "aggregationTemporality", Enum(TEMPORALITIES)),
        field(3, "isMonotonic", Bool),
    ],
};

static HISTOGRAM: Message = Message {
    cost: 0,
    fields: &[nested(1, "dataPoints", &HISTOGRAM_POINT), field(2, "aggregationTemporality", Enum(TEMPORALITIES))],
};

static EXPONENTIAL_HISTOGRAM: Message = Message {
    cost: 0,
    fields: &[nested(1, "dataPoints", &EXPONENTIAL_POINT), field(2, "aggregationTemporality", Enum(TEMPORALITIES))],
};

static SUMMARY: Message = Message { cost: 0, fields: &[nested(1, "dataPoints", &SUMMARY_POINT)] };

static NUMBER_POINT: Message = Message {
    cost: size_of::<metrics::NumberDataPoint>(),
    fields: &[
        field(2, "startTimeUnixNano", Fixed64),
        field(3, "timeUnixNano", Fixed64),
        field(4, "asDouble", Double),
        nested(5, "exemplars", &EXEMPLAR),
        field(6, "asInt", Fixed64),
        nested(7, "attributes", &KEY_VALUE),
        field(8, "flags", Varint),
    ],
};

static HISTOGRAM_POINT: Message = Message {
    cost: size_of::<metrics::HistogramDataPoint>(),
    fields: &[
        field(2, "startTimeUnixNano", Fixed64),
        field(3, "timeUnixNano", Fixed64),
        field(4, "count", Fixed64),
        field(5, "sum", Double),
        field(6, "bucketCounts", Fixed64),
        field(7, "explicitBounds", Double),
        nested(8, "exemplars", &EXEMPLAR),
        nested(9, "attributes", &KEY_VALUE),
        field(10, "flags", Varint),
        field(11, "min", Double),
        field(12, "max", Double),
    ],
};

static EXPONENTIAL_POINT: Message = Message {
    cost: size_of::<metrics::ExponentialHistogramDataPoint>(),
    fields: &[
        nested(1, "attributes", &KEY_VALUE),
        field(2, "startTimeUnixNano", Fixed64),
        field(3, "timeUnixNano", Fixed64),
        field(4, "count", Fixed64),
        field(5, "sum", Double),
        field(6, "scale", Zigzag),
        field(7, "zeroCount", Fixed64),
        nested(8, "positive", &BUCKETS),
        nested(9, "negative", &BUCKETS),
        field(10, "flags", Varint),
        nested(11, "exemplars", &EXEMPLAR),
        field(12, "min", Double),
        field(13, "max", Double),
        field(14, "zeroThreshold", Double),
    ],
};

static BUCKETS: Message = Message { cost: 0, fields: &[field(1, "offset", Zigzag), field(2, "bucketCounts", Varint)] };

static SUMMARY_POINT: Message = Message {
    cost: size_of::<metrics::SummaryDataPoint>(),
    fields: &[
        field(2, "startTimeUnixNano", Fixed64),
        field(3, "timeUnixNano", Fixed64),
        field(4, "count", Fixed64),
        field(5, "sum", Double),
        nested(6, "quantileValues", &QUANTILE),
        nested(7, "attributes", &KEY_VALUE),
        field(8, "flags", Varint),
    ],
};

static QUANTILE: Message = Message { cost: 16, fields: &[field(1, "quantile", Double), field(2, "value", Double)] };

static EXEMPLAR: Message = Message {
    cost: size_of::<metrics::Exemplar>(),
    fields: &[
        field(2, "timeUnixNano", Fixed64),
        field(3, "asDouble", Double),
        field(4, "spanId", Hex),
        field(5, "traceId", Hex),
        field(6, "asInt", Fixed64),
        nested(7, "filteredAttributes", &KEY_VALUE),
    ],
};
