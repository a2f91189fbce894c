//! How telemetry arrives, one file per protocol; [`RECEIVERS`] lists them.
//! Flow: `http.rs` (or `grpc.rs`) reads a body within its caps → a blocking thread inflates it, runs
//! the row's `decode` and pushes the batch into `ingest` → `reply.rs` answers as the dialect does.
//! A row is a pure function and its names; caps, deadlines and counters are the handler's work, so a
//! new protocol cannot forget them.

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod failure;
mod grpc;
mod headers;
mod http;
mod import;
mod loki_push;
mod otlp;
mod remote_write;
mod reply;
mod work;

use axum::Router;
use axum::routing::post;

pub use self::failure::Failure;
pub use self::work::{Options, State};
use crate::base::error::{Classify, ErrorClass};
use crate::model::batch::{LogsBatch, MetricsBatch, Rejections, Signal, TracesBatch};
use crate::model::labels::Labels;
use crate::model::raw::{BadLabels, RawMetrics};
use crate::wire::decompress::Encoding;
use crate::wire::error::WireError;
use crate::wire::openmetrics::Parser;

/// The headers of a request.
pub type Headers = axum::http::HeaderMap;

/// All push protocols.
pub const RECEIVERS: &[Receiver] =
    &[remote_write::WRITE, loki_push::PUSH, otlp::TRACES, otlp::LOGS, otlp::METRICS, import::TEXT];

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
    pub decode: for<'a> fn(&Headers, &'a [u8]) -> Result<Decoded<'a>, DecodeError>,
    /// For bodies of lines, which may be of any length: reads them piece by piece, instead of `decode`.
    /// Samples without a time get the one given, in milliseconds.
    pub lines: Option<fn(&Headers, i64) -> Parser>,
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

/// Which paths a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// All of them.
    Main,
    /// Loki's paths.
    Loki,
    /// OTLP over HTTP at `/v1/*`.
    OtlpHttp,
    /// OTLP over gRPC.
    OtlpGrpc,
}

impl Listener {
    fn serves_path(self, receiver: &Receiver, path: &str) -> bool {
        match self {
            Self::Main => true,
            Self::Loki => receiver.dialect == Dialect::Loki || path == "/otlp/v1/logs",
            Self::OtlpHttp => receiver.dialect == Dialect::Otlp && path.starts_with("/v1/"),
            Self::OtlpGrpc => false,
        }
    }

    fn serves_grpc(self) -> bool {
        matches!(self, Self::Main | Self::OtlpGrpc)
    }
}

/// Every receiver, as the main listener serves them.
pub fn router(state: State) -> Router {
    router_for(Listener::Main, state)
}

/// The receivers of one listener. Other methods than POST are answered with 405.
pub fn router_for(listener: Listener, state: State) -> Router {
    let mut router = Router::new();
    for receiver in RECEIVERS {
        for path in receiver.paths.iter().filter(|path| listener.serves_path(receiver, path)) {
            let state = state.clone();
            router = router.route(path, post(move |request| http::handle(receiver, state, request)));
        }
        if let Some(path) = receiver.grpc.filter(|_| listener.serves_grpc()) {
            let state = state.clone();
            router = router.route(path, post(move |request| grpc::handle(receiver, state, request)));
        }
    }
    router
}
