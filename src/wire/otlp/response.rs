//! What OTLP senders read: export responses with partial success, and `google.rpc.Status` for errors,
//! each in both formats. Spec: <https://opentelemetry.io/docs/specs/otlp/#otlphttp-response>.

use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsPartialSuccess, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};
use prost::Message;
use serde_json::json;

use super::format::Format;
use crate::model::batch::Signal;
use crate::wire::protobuf::{put_bytes, put_message, put_uint};

/// The response to an export of which `rejected` items were not taken, and why.
pub fn export(signal: Signal, format: Format, rejected: u64, why: &str) -> Vec<u8> {
    match format {
        Format::Protobuf => export_protobuf(signal, rejected, why),
        Format::Json => export_json(signal, rejected, why),
    }
}

fn export_protobuf(signal: Signal, rejected: u64, why: &str) -> Vec<u8> {
    let partly = rejected > 0 || !why.is_empty();
    let rejected = i64::try_from(rejected).unwrap_or(i64::MAX);
    let error_message = why.to_owned();
    match signal {
        Signal::Metrics => {
            let partial = ExportMetricsPartialSuccess { rejected_data_points: rejected, error_message };
            ExportMetricsServiceResponse { partial_success: partly.then_some(partial) }.encode_to_vec()
        }
        Signal::Logs => {
            let partial = ExportLogsPartialSuccess { rejected_log_records: rejected, error_message };
            ExportLogsServiceResponse { partial_success: partly.then_some(partial) }.encode_to_vec()
        }
        Signal::Traces => {
            let partial = ExportTracePartialSuccess { rejected_spans: rejected, error_message };
            ExportTraceServiceResponse { partial_success: partly.then_some(partial) }.encode_to_vec()
        }
    }
}

fn export_json(signal: Signal, rejected: u64, why: &str) -> Vec<u8> {
    if rejected == 0 && why.is_empty() {
        return b"{}".to_vec();
    }
    let name = match signal {
        Signal::Metrics => "rejectedDataPoints",
        Signal::Logs => "rejectedLogRecords",
        Signal::Traces => "rejectedSpans",
    };
    json!({"partialSuccess": {name: rejected.to_string(), "errorMessage": why}}).to_string().into_bytes()
}

/// A `google.rpc.Status`; with a `RetryInfo` when the sender should try again.
pub fn status(format: Format, code: u32, message: &str, retry_after_seconds: Option<u32>) -> Vec<u8> {
    if format == Format::Json {
        return json!({"code": code, "message": message}).to_string().into_bytes();
    }
    let mut out = Vec::new();
    put_uint(&mut out, 1, u64::from(code));
    put_bytes(&mut out, 2, message.as_bytes());
    if let Some(seconds) = retry_after_seconds {
        put_message(&mut out, 3, |any| {
            put_bytes(any, 1, b"type.googleapis.com/google.rpc.RetryInfo");
            put_message(any, 2, |info| put_message(info, 1, |delay| put_uint(delay, 1, u64::from(seconds))));
        });
    }
    out
}
