//! What clients ask over gRPC.

use std::collections::HashMap;

use prost::Message;

/// Request of a search over gRPC.
#[derive(Clone, PartialEq, Message)]
pub struct SearchRequest {
    /// Tags of the search before TraceQL.
    #[prost(map = "string, string", tag = "1")]
    pub tags: HashMap<String, String>,
    /// Least duration of a trace.
    #[prost(uint32, tag = "2")]
    pub min_duration_ms: u32,
    /// Most duration of a trace.
    #[prost(uint32, tag = "3")]
    pub max_duration_ms: u32,
    /// Most traces.
    #[prost(uint32, tag = "4")]
    pub limit: u32,
    /// Seconds since the Unix epoch.
    #[prost(uint32, tag = "5")]
    pub start: u32,
    /// Seconds since the Unix epoch.
    #[prost(uint32, tag = "6")]
    pub end: u32,
    /// TraceQL.
    #[prost(string, tag = "8")]
    pub query: String,
    /// Most spans of a span set.
    #[prost(uint32, tag = "9")]
    pub spans_per_span_set: u32,
}

/// Request of a metrics query over gRPC; that for an instant has the same fields.
#[derive(Clone, PartialEq, Message)]
pub struct QueryRangeRequest {
    /// TraceQL.
    #[prost(string, tag = "1")]
    pub query: String,
    /// Nanoseconds since the Unix epoch.
    #[prost(uint64, tag = "2")]
    pub start: u64,
    /// Nanoseconds since the Unix epoch.
    #[prost(uint64, tag = "3")]
    pub end: u64,
    /// Nanoseconds; 0 lets the server choose.
    #[prost(uint64, tag = "4")]
    pub step: u64,
    /// Most exemplars.
    #[prost(uint32, tag = "16")]
    pub exemplars: u32,
}

/// Request for names of tags over gRPC.
#[derive(Clone, PartialEq, Message)]
pub struct SearchTagsRequest {
    /// Only this scope; empty is all.
    #[prost(string, tag = "1")]
    pub scope: String,
    /// Seconds since the Unix epoch.
    #[prost(uint32, tag = "2")]
    pub start: u32,
    /// Seconds since the Unix epoch.
    #[prost(uint32, tag = "3")]
    pub end: u32,
}

/// Request for values of a tag over gRPC.
#[derive(Clone, PartialEq, Message)]
pub struct SearchTagValuesRequest {
    /// The tag.
    #[prost(string, tag = "1")]
    pub tag_name: String,
    /// TraceQL that spans satisfy.
    #[prost(string, tag = "2")]
    pub query: String,
    /// Seconds since the Unix epoch.
    #[prost(uint32, tag = "4")]
    pub start: u32,
    /// Seconds since the Unix epoch.
    #[prost(uint32, tag = "5")]
    pub end: u32,
}
