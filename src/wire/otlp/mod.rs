//! OTLP, as protobuf and as JSON, for traces, logs and metrics.
//! Flow: JSON is transcoded to protobuf (`json.rs`), so that both formats take one way → `scan.rs`
//! meters what prost would build, before it does → prost decodes → `traces.rs`, `logs.rs` and
//! `metrics.rs` make model types of it and refuse bad items one by one.
//! Spec: <https://opentelemetry.io/docs/specs/otlp/>.

mod attrs;
mod exponential;
mod format;
mod json;
mod logs;
mod metrics;
pub mod names;
pub mod response;
mod scan;
mod schema;
mod traces;

use std::borrow::Cow;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

use self::format::FORMAT;
pub use self::format::Format;
pub use self::metrics::MetricsWithDeltas;
use super::Decoded;
use super::error::WireError;
use super::limits::{Meter, Options};
use crate::model::batch::{LogsBatch, TracesBatch};

/// Decodes an `ExportTraceServiceRequest`.
///
/// # Errors
/// [`WireError`] when it is no such message or decodes to too much.
pub fn decode_traces(body: &[u8], format: Format, options: &Options) -> Result<Decoded<TracesBatch>, WireError> {
    let mut meter = Meter::new(options, body.len());
    let request: ExportTraceServiceRequest = message(body, format, &schema::TRACES, options, &mut meter)?;
    Ok(traces::convert(request, options))
}

/// Decodes an `ExportLogsServiceRequest` to streams as Loki maps them.
///
/// # Errors
/// [`WireError`] when it is no such message or decodes to too much.
pub fn decode_logs(body: &[u8], format: Format, options: &Options) -> Result<Decoded<LogsBatch>, WireError> {
    let mut meter = Meter::new(options, body.len());
    let request: ExportLogsServiceRequest = message(body, format, &schema::LOGS, options, &mut meter)?;
    logs::convert(request, options, meter)
}

/// Decodes an `ExportMetricsServiceRequest` to series with Prometheus names and types.
///
/// # Errors
/// [`WireError`] when it is no such message or decodes to too much.
pub fn decode_metrics(body: &[u8], format: Format, options: &Options) -> Result<Decoded<MetricsWithDeltas>, WireError> {
    let mut meter = Meter::new(options, body.len());
    let request: ExportMetricsServiceRequest = message(body, format, &schema::METRICS, options, &mut meter)?;
    metrics::convert(request, options, meter)
}

fn message<M: Message + Default>(
    body: &[u8],
    format: Format,
    schema: &'static schema::Message,
    options: &Options,
    meter: &mut Meter,
) -> Result<M, WireError> {
    let bytes = match format {
        Format::Protobuf => Cow::Borrowed(body),
        Format::Json => Cow::Owned(json::to_protobuf(body, schema, meter)?),
    };
    scan::scan(&bytes, schema, options, meter)?;
    let failed = match M::decode(bytes.as_ref()) {
        Ok(message) => return Ok(message),
        Err(error) => WireError::malformed(FORMAT, error.to_string()),
    };
    // One bad text must not cost the body. Nothing of the first attempt is left, so that what the
    // second may take is counted anew.
    let Some(mended) = scan::mended(&bytes, schema)? else { return Err(failed) };
    *meter = Meter::new(options, body.len());
    meter.take(mended.len())?;
    scan::scan(&mended, schema, options, meter)?;
    M::decode(mended.as_slice()).map_err(|error| WireError::malformed(FORMAT, error.to_string()))
}

#[cfg(test)]
mod tests;
