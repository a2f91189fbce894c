//! Looks over a protobuf body before prost decodes it: meters what would be built, because an empty
//! span of two bytes becomes a struct of 300, and bounds the nesting. Mends a body whose text is not
//! UTF-8, on which prost fails.

use std::borrow::Cow;

use super::format::FORMAT;
use super::schema::{Kind, Message};
use crate::wire::error::WireError;
use crate::wire::limits::{Meter, Options};
use crate::wire::protobuf::{Reader, Value, put_bytes, put_fixed32, put_fixed64, put_uint};

/// Messages around the outermost attribute value.
const FRAME_DEPTH: usize = 6;

/// Meters a message.
pub(super) fn scan(
    bytes: &[u8],
    schema: &'static Message,
    options: &Options,
    meter: &mut Meter,
) -> Result<(), WireError> {
    walk(bytes, schema, FRAME_DEPTH + 2 * options.depth_max, options, meter)
}

fn walk(
    bytes: &[u8],
    schema: &'static Message,
    depth: usize,
    options: &Options,
    meter: &mut Meter,
) -> Result<(), WireError> {
    let Some(depth) = depth.checked_sub(1) else {
        let what = format!("attribute values are nested deeper than {}", options.depth_max);
        return Err(WireError::malformed(FORMAT, what));
    };
    meter.take(schema.cost)?;
    let mut reader = Reader::new(bytes);
    while let Some((number, value)) = reader.field()? {
        let kind = schema.fields.iter().find(|field| field.number == number).map(|field| &field.kind);
        let Value::Bytes(bytes) = value else {
            // One of a list, perhaps: two bytes are a number of eight, with room for as many more.
            meter.take(if matches!(kind, Some(Kind::Varint)) { 16 } else { 0 })?;
            continue;
        };
        match kind {
            Some(Kind::Message(schema)) => walk(bytes, schema, depth, options, meter)?,
            Some(Kind::Text | Kind::Hex | Kind::Base64) => meter.take(bytes.len())?,
            Some(Kind::Texts) => meter.take(bytes.len() + 2 * size_of::<String>())?,
            // Packed: a byte may be a number of eight, here and again in the model.
            Some(Kind::Varint | Kind::Zigzag | Kind::Bool | Kind::Enum(_)) => meter.take(16 * bytes.len())?,
            Some(Kind::Fixed64 | Kind::Double | Kind::Fixed32) => meter.take(2 * bytes.len())?,
            // prost skips what it does not know.
            None => {}
        }
    }
    Ok(())
}

/// The body with U+FFFD for what is not UTF-8 in its text; nothing when all is. What it nests has been
/// looked over by [`scan`].
pub(super) fn mended(bytes: &[u8], schema: &'static Message) -> Result<Option<Vec<u8>>, WireError> {
    let mut changed = false;
    let body = mend(bytes, schema, &mut changed)?;
    Ok(changed.then_some(body))
}

fn mend(bytes: &[u8], schema: &'static Message, changed: &mut bool) -> Result<Vec<u8>, WireError> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut reader = Reader::new(bytes);
    while let Some((number, value)) = reader.field()? {
        match value {
            Value::Varint(value) => put_uint(&mut out, number, value),
            Value::Fixed64(value) => put_fixed64(&mut out, number, value),
            Value::Fixed32(value) => put_fixed32(&mut out, number, value),
            Value::Bytes(bytes) => {
                match schema.fields.iter().find(|field| field.number == number).map(|field| &field.kind) {
                    Some(Kind::Message(schema)) => put_bytes(&mut out, number, &mend(bytes, schema, changed)?),
                    Some(Kind::Text | Kind::Texts) => {
                        let text = String::from_utf8_lossy(bytes);
                        *changed |= matches!(text, Cow::Owned(_));
                        put_bytes(&mut out, number, text.as_bytes());
                    }
                    _ => put_bytes(&mut out, number, bytes),
                }
            }
        }
    }
    Ok(out)
}
