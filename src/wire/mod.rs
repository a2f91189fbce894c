//! Bytes to wire types and back, one file per format. No I/O, no clock: a decoder is a pure function
//! of its bytes, and what it builds is metered before it is allocated ([`limits::Meter`]).

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub mod compress;
mod decoded;
pub mod decompress;
pub mod error;
pub mod exposition;
pub mod grpc;
pub mod jaeger_out;
mod json_text;
mod label_check;
pub mod limits;
pub mod loki;
mod loki_json;
pub mod loki_labels;
mod loki_protobuf;
mod loki_streams;
pub mod openmetrics;
pub mod otlp;
pub mod otlp_trace_out;
pub mod prometheus;
pub mod prometheus_chunk;
mod prometheus_histogram;
pub mod prometheus_out;
mod prometheus_raw;
mod prometheus_series;
mod prometheus_v1;
mod prometheus_v2;
pub mod protobuf;
pub mod remote_read;
pub mod tempo;
pub mod tsdb;

pub use self::decoded::Decoded;

#[cfg(test)]
mod tests;
