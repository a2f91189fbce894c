//! Looks over a protobuf body before prost decodes it: meters what would be built, because an empty
//! span of two bytes becomes a struct of 300, and bounds the nesting.

use super::schema::{Kind, Message};
use crate::wire::error::WireError;
use crate::wire::limits::{Meter, Options};
use crate::wire::protobuf::{Reader, Value};

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
        return Err(WireError::malformed(super::FORMAT, what));
    };
    meter.take(schema.cost)?;
    let mut reader = Reader::new(bytes);
    while let Some((number, value)) = reader.field()? {
        let Value::Bytes(bytes) = value else { continue };
        match schema.fields.iter().find(|field| field.number == number).map(|field| &field.kind) {
            Some(Kind::Message(schema)) => walk(bytes, schema, depth, options, meter)?,
            Some(Kind::Text | Kind::Hex | Kind::Base64) => meter.take(bytes.len())?,
            // Packed: a byte may be a number of eight, here and again in the model.
            Some(Kind::Varint | Kind::Zigzag | Kind::Bool | Kind::Enum(_)) => meter.take(16 * bytes.len())?,
            Some(Kind::Fixed64 | Kind::Double | Kind::Fixed32) => meter.take(2 * bytes.len())?,
            // prost skips what it does not know.
            None => {}
        }
    }
    Ok(())
}
