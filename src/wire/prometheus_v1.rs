//! Prometheus remote write 1.0 with all labels read; `prometheus_raw.rs` is the hot path.

use super::Decoded;
use super::error::WireError;
use super::limits::{Meter, Options};
use super::prometheus_series::{metadata, series};
use super::protobuf::Reader;
use crate::model::batch::MetricsBatch;

/// Decodes an uncompressed `prometheus.WriteRequest`.
///
/// # Errors
/// [`WireError`] when it is no such message or decodes to too much.
pub fn decode_v1(body: &[u8], options: &Options) -> Result<Decoded<MetricsBatch>, WireError> {
    let mut meter = Meter::new(options, body.len());
    let mut decoded = Decoded::default();
    let mut labels = Vec::new();
    let mut reader = Reader::new(body);
    while let Some((number, value)) = reader.field()? {
        match number {
            1 => series(value.bytes()?, options, &mut meter, &mut labels, &mut decoded)?,
            3 => match metadata(value.bytes()?, &mut meter)? {
                Ok(metadata) => decoded.batch.metadata.push(metadata),
                Err(refusal) => refusal.count(&mut decoded.rejected, 1),
            },
            _ => {}
        }
    }
    Ok(decoded)
}
