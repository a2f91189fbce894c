//! Bytes to wire types and back, one file per format. No I/O, no clock: a decoder is a pure function
//! of its bytes, and what it builds is metered before it is allocated ([`limits::Meter`]).

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub mod compress;
pub mod decompress;
pub mod error;
pub mod exposition;
pub mod jaeger_out;
mod json_text;
mod label_check;
pub mod limits;
pub mod loki;
mod loki_json;
pub mod loki_labels;
pub mod openmetrics;
pub mod otlp;
pub mod otlp_trace_out;
pub mod prometheus;
pub mod prometheus_chunk;
mod prometheus_histogram;
pub mod prometheus_out;
mod prometheus_raw;
mod prometheus_v2;
pub mod protobuf;
pub mod remote_read;
pub mod tempo;
pub mod tsdb;

use crate::model::batch::Rejections;

/// What a decoder made of one body: the good items, and the refused ones counted.
#[derive(Clone, Debug, Default)]
pub struct Decoded<B> {
    /// The good items.
    pub batch: B,
    /// The refused ones.
    pub rejected: Rejections,
}
