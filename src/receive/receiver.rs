//! A push protocol as a row: its names, and the pure functions that read its headers and its bytes.

use std::sync::Arc;

use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};

use crate::base::error::{Classify, ErrorClass};
use crate::base::in_flight;
use crate::model::batch::{LogsBatch, MetricsBatch, Rejections, Signal, TracesBatch};
use crate::model::labels::Labels;
use crate::model::raw::{BadLabels, RawMetrics};
use crate::wire::decompress::Encoding;
use crate::wire::error::WireError;
use crate::wire::limits;
use crate::wire::openmetrics::Parser;

/// The headers of a request.
pub type Headers = HeaderMap;

/// The content type of a body that says none, by its first bytes.
pub(super) type TypeOf = fn(&[u8]) -> Option<HeaderValue>;

/// A push protocol.
#[derive(Debug)]
pub struct Receiver {
    /// Its name in counters, payload folders and the documentation.
    pub name: &'static str,
    /// What it takes, in one line.
    pub summary: &'static str,
    /// Paths on the main listener; POST only.
    pub paths: &'static [&'static str],
    /// Path of its unary call, where it also comes over gRPC.
    pub grpc: Option<&'static str>,
    /// What comes in.
    pub signal: Signal,
    /// Where the protocol is specified.
    pub spec: &'static str,
    /// How its replies are phrased.
    pub dialect: Dialect,
    /// How the body is packed; `None` for an encoding that is not known.
    pub encoding: fn(&Headers) -> Option<Encoding>,
    /// Bytes to a batch: no I/O, no clock, no locks.
    pub decode: for<'a> fn(&Headers, &'a [u8], &limits::Options) -> Result<Decoded<'a>, DecodeError>,
    /// Bytes that a decoded body mostly takes for each of its own.
    pub growth: usize,
    /// For bodies of lines, which may be of any length: reads them piece by piece, instead of `decode`.
    /// Samples without a time get the one given, in milliseconds.
    pub lines: Option<fn(&Headers, i64) -> Parser>,
    /// What the body of a request is whose headers do not say it: none of them, or what `curl -d` puts there.
    pub untyped: Option<TypeOf>,
}

/// How replies are phrased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Prometheus remote write: text, and counts in headers.
    RemoteWrite,
    /// Loki: text.
    Loki,
    /// OTLP over HTTP: protobuf or JSON, as the request.
    Otlp,
    /// Text.
    Text,
}

/// What a body held.
#[derive(Debug)]
pub struct Decoded<'a> {
    /// The good items.
    pub batch: Batch<'a>,
    /// The refused ones.
    pub rejected: Rejections,
}

/// The good items of a body.
#[derive(Debug)]
pub enum Batch<'a> {
    /// Samples; the series at the positions `deltas` hold differences.
    Metrics {
        /// The samples.
        batch: MetricsBatch,
        /// Positions of delta series, ascending.
        deltas: Vec<usize>,
    },
    /// Samples whose labels have not been read.
    Raw {
        /// The samples.
        batch: RawMetrics<'a>,
        /// Reads labels.
        parse: fn(&[u8]) -> Result<Labels, BadLabels>,
    },
    /// Lines.
    Logs(LogsBatch),
    /// Spans.
    Traces(TracesBatch),
}

/// Why a body was not decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Its `Content-Type` is none that the protocol knows.
    #[error("content type {got:?} is not taken here; send {expected}")]
    UnsupportedType {
        /// What was sent.
        got: String,
        /// What could have been.
        expected: &'static str,
    },
    /// Its bytes are not understood.
    #[error(transparent)]
    Wire(#[from] WireError),
}

impl Classify for DecodeError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::UnsupportedType { .. } => ErrorClass::BadData,
            Self::Wire(error) => error.class(),
        }
    }
}

/// What the body of a request is charged to; `None` where no connection watches over it.
pub(super) fn account(request: &Parts) -> Option<Arc<in_flight::Body>> {
    request.extensions.get().cloned()
}

/// A header as text; `None` when it is missing or no text.
pub(super) fn text<'a>(headers: &'a Headers, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The media type, in lower case and without its parameters; empty when there is none.
pub(super) fn media_type(headers: &Headers) -> String {
    let value = text(headers, &CONTENT_TYPE).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// A parameter of the media type, as in `application/x-protobuf; proto=...`.
pub(super) fn media_parameter<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    let value = text(headers, &CONTENT_TYPE)?;
    value.split(';').skip(1).find_map(|parameter| {
        let (own, value) = parameter.split_once('=')?;
        own.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
    })
}

/// The encoding of the body, `missing` when no header names one, `None` when it is not known.
pub(super) fn encoding(headers: &Headers, missing: Encoding) -> Option<Encoding> {
    match headers.get(CONTENT_ENCODING) {
        None => Some(missing),
        Some(value) => value.to_str().ok().and_then(Encoding::from_header),
    }
}
