//! Loki's push as protobuf (`logproto.PushRequest`).

use super::Decoded;
use super::error::WireError;
use super::limits::Options;
use super::loki_labels;
use super::loki_streams::{Building, Pair};
use super::protobuf::Reader;
use crate::model::batch::LogsBatch;
use crate::model::log::{ARRIVAL, LogEntry};

/// Decodes an uncompressed `logproto.PushRequest`.
///
/// # Errors
/// [`WireError`] when it is no such message, decodes to too much or has no streams.
pub fn decode_protobuf(body: &[u8], options: &Options) -> Result<Decoded<LogsBatch>, WireError> {
    let mut building = Building::new(options, body.len());
    let mut reader = Reader::new(body);
    while let Some((number, value)) = reader.field()? {
        if number == 1 {
            stream(value.bytes()?, &mut building)?;
        }
    }
    building.finish()
}

fn stream(message: &[u8], building: &mut Building<'_>) -> Result<(), WireError> {
    let mut text: &[u8] = &[];
    let mut entries = Vec::new();
    let mut reader = Reader::new(message);
    while let Some((number, value)) = reader.field()? {
        match number {
            1 => text = value.bytes()?,
            2 => entry(value.bytes()?, building, &mut entries)?,
            _ => {}
        }
    }
    let text = String::from_utf8_lossy(text);
    building.stream(loki_labels::parse(&text), entries)
}

fn entry(message: &[u8], building: &mut Building<'_>, entries: &mut Vec<LogEntry>) -> Result<(), WireError> {
    let (mut t, mut line): (i64, &[u8]) = (0, &[]);
    let mut metadata = Vec::new();
    let mut reader = Reader::new(message);
    while let Some((number, value)) = reader.field()? {
        match number {
            1 => t = timestamp(value.bytes()?)?,
            2 => line = value.bytes()?,
            3 => {
                building.meter.take(32)?;
                metadata.push(pair(value.bytes()?)?);
            }
            _ => {}
        }
    }
    if building.refuses_pairs(metadata.len()) {
        return Ok(());
    }
    building.meter.take(line.len())?;
    // What is not UTF-8 is shown as U+FFFD; such text is up to three times as long.
    let text = String::from_utf8_lossy(line);
    building.meter.take(text.len() - line.len().min(text.len()))?;
    let metadata: Vec<Pair<'_>> =
        metadata.iter().map(|(name, value)| (String::from_utf8_lossy(name), String::from_utf8_lossy(value))).collect();
    building.entry(t.max(ARRIVAL + 1), text.into_owned(), &metadata, entries)
}

/// A `google.protobuf.Timestamp`, in nanoseconds; beyond 64 bits the nearest that fits.
fn timestamp(message: &[u8]) -> Result<i64, WireError> {
    let (mut seconds, mut nanos) = (0i64, 0i64);
    let mut reader = Reader::new(message);
    while let Some((number, value)) = reader.field()? {
        match number {
            1 => seconds = value.int()?,
            2 => nanos = value.int()?,
            _ => {}
        }
    }
    Ok(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

fn pair(message: &[u8]) -> Result<(&[u8], &[u8]), WireError> {
    let mut pair: (&[u8], &[u8]) = (&[], &[]);
    let mut reader = Reader::new(message);
    while let Some((number, value)) = reader.field()? {
        match number {
            1 => pair.0 = value.bytes()?,
            2 => pair.1 = value.bytes()?,
            _ => {}
        }
    }
    Ok(pair)
}
