//! OTLP: traces, logs and metrics, as protobuf or JSON over HTTP. The same rows serve gRPC.

use axum::http::HeaderValue;

use super::receiver::{self, Batch, DecodeError, Decoded, Dialect, Headers, Receiver};
use crate::model::batch::Signal;
use crate::wire::decompress::Encoding;
use crate::wire::limits;
use crate::wire::otlp::{Format, decode_logs, decode_metrics, decode_traces};

const SPEC: &str = "https://opentelemetry.io/docs/specs/otlp/";

/// Spans.
pub(super) const TRACES: Receiver = Receiver {
    name: "otlp_traces",
    summary: "OTLP traces over HTTP (protobuf, JSON) and gRPC",
    paths: &["/v1/traces", "/otlp/v1/traces"],
    grpc: Some("/opentelemetry.proto.collector.trace.v1.TraceService/Export"),
    signal: Signal::Traces,
    spec: SPEC,
    dialect: Dialect::Otlp,
    encoding,
    decode: traces,
    growth: 12,
    lines: None,
    untyped: None,
};

/// Log records.
pub(super) const LOGS: Receiver = Receiver {
    name: "otlp_logs",
    summary: "OTLP logs over HTTP (protobuf, JSON) and gRPC, mapped to streams as Loki does",
    paths: &["/v1/logs", "/otlp/v1/logs"],
    grpc: Some("/opentelemetry.proto.collector.logs.v1.LogsService/Export"),
    signal: Signal::Logs,
    spec: SPEC,
    dialect: Dialect::Otlp,
    encoding,
    decode: logs,
    growth: 12,
    lines: None,
    untyped: None,
};

/// Data points.
pub(super) const METRICS: Receiver = Receiver {
    name: "otlp_metrics",
    summary: "OTLP metrics over HTTP (protobuf, JSON) and gRPC, with Prometheus names and types",
    paths: &["/v1/metrics", "/otlp/v1/metrics", "/api/v1/otlp/v1/metrics"],
    grpc: Some("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"),
    signal: Signal::Metrics,
    spec: SPEC,
    dialect: Dialect::Otlp,
    encoding,
    decode: metrics,
    growth: 12,
    lines: None,
    untyped: None,
};

fn encoding(headers: &Headers) -> Option<Encoding> {
    receiver::encoding(headers, Encoding::Identity)
}

/// How the body is written, as its content type says.
pub(super) fn format(headers: &Headers) -> Result<Format, DecodeError> {
    match receiver::media_type(headers).as_str() {
        "application/x-protobuf" | "application/protobuf" => Ok(Format::Protobuf),
        "application/json" => Ok(Format::Json),
        other => Err(DecodeError::UnsupportedType {
            got: other.to_owned(),
            expected: "application/x-protobuf or application/json",
        }),
    }
}

/// The content type of a format.
pub(super) fn content_type(format: Format) -> HeaderValue {
    HeaderValue::from_static(match format {
        Format::Protobuf => "application/x-protobuf",
        Format::Json => "application/json",
    })
}

fn traces(headers: &Headers, body: &[u8], limits: &limits::Options) -> Result<Decoded<'static>, DecodeError> {
    let decoded = decode_traces(body, format(headers)?, limits)?;
    Ok(Decoded { batch: Batch::Traces(decoded.batch), rejected: decoded.rejected })
}

fn logs(headers: &Headers, body: &[u8], limits: &limits::Options) -> Result<Decoded<'static>, DecodeError> {
    let decoded = decode_logs(body, format(headers)?, limits)?;
    Ok(Decoded { batch: Batch::Logs(decoded.batch), rejected: decoded.rejected })
}

fn metrics(headers: &Headers, body: &[u8], limits: &limits::Options) -> Result<Decoded<'static>, DecodeError> {
    let decoded = decode_metrics(body, format(headers)?, limits)?;
    let batch = Batch::Metrics { batch: decoded.batch.batch, deltas: decoded.batch.deltas };
    Ok(Decoded { batch, rejected: decoded.rejected })
}
