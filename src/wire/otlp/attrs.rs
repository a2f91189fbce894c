//! OTLP's attribute values: to the model, to text, and flattened to pairs of strings.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};

use crate::model::span::{AttrValue, Attrs};
use crate::wire::error::WireError;
use crate::wire::limits::Meter;

/// Attributes as the model has them. Ones without a name mean nothing and are left out.
pub(super) fn to_model(attributes: Vec<KeyValue>) -> Attrs {
    let named = attributes.into_iter().filter(|attribute| !attribute.key.is_empty());
    named.map(|attribute| (attribute.key, value_to_model(attribute.value))).collect()
}

fn value_to_model(value: Option<AnyValue>) -> AttrValue {
    match value.and_then(|value| value.value) {
        Some(Value::StringValue(value)) => AttrValue::Str(value),
        Some(Value::BoolValue(value)) => AttrValue::Bool(value),
        Some(Value::IntValue(value)) => AttrValue::Int(value),
        Some(Value::DoubleValue(value)) => AttrValue::Double(value),
        Some(Value::ArrayValue(array)) => {
            AttrValue::Array(array.values.into_iter().map(|value| value_to_model(Some(value))).collect())
        }
        Some(Value::KvlistValue(list)) => AttrValue::Map(to_model(list.values)),
        Some(Value::BytesValue(value)) => AttrValue::Bytes(value),
        // References into a string table exist in profiles only.
        Some(Value::StringValueStrindex(_)) | None => AttrValue::Empty,
    }
}

/// A value as text: strings as they are, bytes in base64, lists and maps as JSON.
pub(super) fn to_text(value: &AnyValue) -> String {
    match &value.value {
        Some(Value::StringValue(value)) => value.clone(),
        Some(Value::BytesValue(value)) => STANDARD.encode(value),
        Some(Value::StringValueStrindex(_)) | None => String::new(),
        Some(Value::DoubleValue(value)) => value.to_string(),
        Some(Value::BoolValue(_) | Value::IntValue(_) | Value::ArrayValue(_) | Value::KvlistValue(_)) => {
            let mut text = String::new();
            write_json(value, &mut text);
            text
        }
    }
}

fn write_json(value: &AnyValue, out: &mut String) {
    match &value.value {
        Some(Value::StringValue(value)) => write_string(value, out),
        Some(Value::BytesValue(value)) => write_string(&STANDARD.encode(value), out),
        Some(Value::StringValueStrindex(_)) | None => out.push_str("null"),
        Some(Value::BoolValue(value)) => out.push_str(if *value { "true" } else { "false" }),
        Some(Value::IntValue(value)) => {
            let _ = write!(out, "{value}");
        }
        Some(Value::DoubleValue(value)) if value.is_finite() => {
            let _ = write!(out, "{value}");
        }
        Some(Value::DoubleValue(value)) => write_string(&value.to_string(), out),
        Some(Value::ArrayValue(array)) => {
            out.push('[');
            for (at, value) in array.values.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { "," });
                write_json(value, out);
            }
            out.push(']');
        }
        Some(Value::KvlistValue(list)) => {
            out.push('{');
            for (at, attribute) in list.values.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { "," });
                write_string(&attribute.key, out);
                out.push(':');
                write_json(attribute.value.as_ref().unwrap_or(&AnyValue { value: None }), out);
            }
            out.push('}');
        }
    }
}

fn write_string(value: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(value).to_string());
}

/// Most bytes that [`to_text`] makes of a value: escapes and base64 can make it longer than what was sent.
pub(super) fn text_bytes(value: &AnyValue) -> usize {
    match &value.value {
        Some(Value::StringValue(value)) => value.len(),
        Some(Value::BytesValue(value)) => value.len() / 3 * 4 + 4,
        Some(Value::ArrayValue(_) | Value::KvlistValue(_)) => json_bytes(value),
        Some(_) | None => NUMBER_BYTES,
    }
}

/// Longest number, in bytes.
const NUMBER_BYTES: usize = 330;

fn json_bytes(value: &AnyValue) -> usize {
    match &value.value {
        Some(Value::StringValue(value)) => string_bytes(value),
        Some(Value::BytesValue(value)) => value.len() / 3 * 4 + 6,
        Some(Value::StringValueStrindex(_) | Value::BoolValue(_)) | None => 5,
        Some(Value::IntValue(_)) => 20,
        Some(Value::DoubleValue(value)) => {
            if value.abs() < 1e15 && value.abs() > 1e-5 {
                24
            } else {
                NUMBER_BYTES
            }
        }
        Some(Value::ArrayValue(array)) => 2 + array.values.iter().map(|value| 1 + json_bytes(value)).sum::<usize>(),
        Some(Value::KvlistValue(list)) => {
            let pair = |pair: &KeyValue| 2 + string_bytes(&pair.key) + pair.value.as_ref().map_or(4, json_bytes);
            2 + list.values.iter().map(pair).sum::<usize>()
        }
    }
}

fn string_bytes(text: &str) -> usize {
    let escape = |byte: u8| match byte {
        0..0x20 => 6,
        b'"' | b'\\' => 2,
        _ => 1,
    };
    2 + text.bytes().map(escape).sum::<usize>()
}

/// Adds an attribute to `pairs`; maps flatten to a pair for each value, names joined by `_`. Each
/// name repeats those above it, so names are metered.
fn flatten(
    prefix: &str,
    attribute: &KeyValue,
    pairs: &mut Vec<(String, String)>,
    meter: &mut Meter,
) -> Result<(), WireError> {
    meter.take(prefix.len() + attribute.key.len() + 64)?;
    let name = match prefix {
        "" => attribute.key.clone(),
        prefix => format!("{prefix}_{}", attribute.key),
    };
    match attribute.value.as_ref() {
        Some(AnyValue { value: Some(Value::KvlistValue(list)) }) => {
            list.values.iter().try_for_each(|inner| flatten(&name, inner, pairs, meter))
        }
        Some(value) if !name.is_empty() => {
            meter.take(text_bytes(value))?;
            pairs.push((name, to_text(value)));
            Ok(())
        }
        Some(_) | None => Ok(()),
    }
}

/// Flattens attributes to pairs of strings.
pub(super) fn flattened<'a>(
    attributes: impl IntoIterator<Item = &'a KeyValue>,
    meter: &mut Meter,
) -> Result<Vec<(String, String)>, WireError> {
    let mut pairs = Vec::new();
    attributes.into_iter().try_for_each(|attribute| flatten("", attribute, &mut pairs, meter))?;
    Ok(pairs)
}

/// An id as text; empty for none, which is zeros or the wrong length.
pub(super) fn id<const BYTES: usize>(id: &[u8]) -> String {
    if id.len() == BYTES && id.iter().any(|byte| *byte != 0) { hex(id) } else { String::new() }
}

/// Lower-case hex.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Times beyond 64 signed bits become the last one, which is too far ahead for any door.
pub(super) fn time(unix_nano: u64) -> i64 {
    i64::try_from(unix_nano).unwrap_or(i64::MAX)
}
