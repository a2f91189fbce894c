//! Transcodes OTLP's JSON to protobuf by the tables of `schema.rs`, token by token, without a tree
//! of values. Follows the JSON encoding of the OTLP specification: ids in hex, 64-bit numbers as
//! text or number, enums as number (names are taken too), unknown keys left out, null is absent. Keys
//! in snake case are taken too, as an OpenTelemetry Collector takes them.
//! Nesting is bounded by serde_json's recursion limit of 128.
//! opentelemetry-proto's own serde support is not used: it fails on unknown keys in attribute values
//! and on enums by name.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::schema::{Field, Kind, Message};
use crate::wire::error::{WireError, cut};
use crate::wire::json_text;
use crate::wire::limits::Meter;
use crate::wire::protobuf::{put_bytes, put_double, put_fixed32, put_fixed64, put_uint, put_varint, zigzagged};

/// The protobuf form of a JSON body. Bytes that are not UTF-8 and lone surrogates become U+FFFD.
pub(super) fn to_protobuf(body: &[u8], schema: &'static Message, meter: &mut Meter) -> Result<Vec<u8>, WireError> {
    let text = json_text::lossy(body, meter)?;
    match transcode(&text, schema) {
        Err(error @ WireError::Malformed { .. }) => match json_text::without_lone_surrogates(&text) {
            Some(mended) => transcode(&mended, schema),
            None => Err(error),
        },
        transcoded => transcoded,
    }
}

/// Bytes of protobuf for each of JSON. `0,` is nine in a list of fixed numbers; real bodies shrink.
const GROWTH_MAX: usize = 3;

fn transcode(text: &str, schema: &'static Message) -> Result<Vec<u8>, WireError> {
    let mut out = Out { bytes: Vec::with_capacity(text.len() / 2), bytes_max: GROWTH_MAX * text.len() + 4096 };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read = Object { schema, out: &mut out }.deserialize(&mut deserializer).and_then(|()| deserializer.end());
    match read {
        Ok(()) => Ok(out.bytes),
        Err(_) if out.is_full() => {
            Err(WireError::TooLarge { what: "bytes of protobuf for a JSON body", limit: out.bytes_max as u64 })
        }
        Err(error) => Err(WireError::malformed("OTLP JSON", cut(&error.to_string()))),
    }
}

/// The protobuf while it is written.
struct Out {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Out {
    fn is_full(&self) -> bool {
        self.bytes.len() > self.bytes_max
    }

    fn check<E: Error>(&self) -> Result<(), E> {
        if self.is_full() { Err(E::custom("too many numbers")) } else { Ok(()) }
    }
}

/// Whether a key names the field of a name in camel case: itself, or in snake case.
fn names(field: &str, key: &str) -> bool {
    if field == key || !key.contains('_') {
        return field == key;
    }
    let snake = field.bytes().flat_map(|byte| {
        let word = byte.is_ascii_uppercase().then_some(b'_');
        word.into_iter().chain([byte.to_ascii_lowercase()])
    });
    snake.eq(key.bytes())
}

/// Standard base64, with or without its padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Bytes of a length written ahead of a message whose length is not known yet. Protobuf allows
/// varints with leading zeros.
const LENGTH_BYTES: usize = 4;

/// A JSON object that is a message.
struct Object<'o> {
    schema: &'static Message,
    out: &'o mut Out,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match self.schema.fields.iter().find(|field| names(field.name, &key)) {
                Some(field) => map.next_value_seed(FieldValue { field, out: self.out, is_element: false })?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// The value of a field, or one element of it when it is repeated.
struct FieldValue<'o> {
    field: &'static Field,
    out: &'o mut Out,
    is_element: bool,
}

impl<'de> DeserializeSeed<'de> for FieldValue<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.out.check()?;
        deserializer.deserialize_any(self)
    }
}

impl FieldValue<'_> {
    fn wrong<E: Error>(&self, got: impl fmt::Display) -> E {
        E::custom(format!("{} cannot be {}", self.field.name, cut(&got.to_string())))
    }

    fn integer<E: Error>(self, value: i128) -> Result<(), E> {
        let number = self.field.number;
        // Signed fields take the lower half of the 64 bits, unsigned ones the upper: both are kept.
        let bits = u64::try_from(value).ok().or_else(|| i64::try_from(value).ok().map(i64::cast_unsigned));
        let Some(bits) = bits else { return Err(self.wrong(value)) };
        match self.field.kind {
            Kind::Varint | Kind::Enum(_) => put_uint(&mut self.out.bytes, number, bits),
            Kind::Zigzag => put_uint(&mut self.out.bytes, number, zigzagged(bits.cast_signed())),
            Kind::Fixed64 => put_fixed64(&mut self.out.bytes, number, bits),
            Kind::Fixed32 => match u32::try_from(value) {
                Ok(value) => put_fixed32(&mut self.out.bytes, number, value),
                Err(_) => return Err(self.wrong(value)),
            },
            Kind::Double => put_double(&mut self.out.bytes, number, value as f64),
            Kind::Message(_) | Kind::Text | Kind::Texts | Kind::Hex | Kind::Base64 | Kind::Bool => {
                return Err(self.wrong(value));
            }
        }
        Ok(())
    }

    fn text<E: Error>(self, value: &str) -> Result<(), E> {
        let number = self.field.number;
        match self.field.kind {
            Kind::Text | Kind::Texts => put_bytes(&mut self.out.bytes, number, value.as_bytes()),
            // What is no hex has no length that an id may have: the span is refused, not the body.
            Kind::Hex => put_bytes(&mut self.out.bytes, number, &hex(value).unwrap_or_else(|| vec![0])),
            Kind::Base64 => match BASE64.decode(value) {
                Ok(bytes) => put_bytes(&mut self.out.bytes, number, &bytes),
                Err(error) => return Err(self.wrong(error)),
            },
            Kind::Enum(names) => match names.iter().position(|name| *name == value) {
                Some(position) => put_uint(&mut self.out.bytes, number, position as u64),
                None => return self.number(value),
            },
            Kind::Double => match value {
                "NaN" => put_double(&mut self.out.bytes, number, f64::NAN),
                "Infinity" => put_double(&mut self.out.bytes, number, f64::INFINITY),
                "-Infinity" => put_double(&mut self.out.bytes, number, f64::NEG_INFINITY),
                _ => match value.parse() {
                    Ok(value) => put_double(&mut self.out.bytes, number, value),
                    Err(_) => return Err(self.wrong(value)),
                },
            },
            Kind::Varint | Kind::Zigzag | Kind::Fixed64 | Kind::Fixed32 => return self.number(value),
            Kind::Message(_) | Kind::Bool => return Err(self.wrong(value)),
        }
        Ok(())
    }

    fn number<E: Error>(self, value: &str) -> Result<(), E> {
        match value.parse::<i128>() {
            Ok(value) => self.integer(value),
            Err(_) => Err(self.wrong(value)),
        }
    }
}

impl<'de> Visitor<'de> for FieldValue<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value of {}", self.field.name)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        match self.field.kind {
            Kind::Bool => {
                put_uint(&mut self.out.bytes, self.field.number, u64::from(value));
                Ok(())
            }
            _ => Err(self.wrong(value)),
        }
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.integer(i128::from(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.integer(i128::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        match self.field.kind {
            Kind::Double => {
                put_double(&mut self.out.bytes, self.field.number, value);
                Ok(())
            }
            // Some writers show whole numbers as 1e3 or 5.0.
            _ if value.fract() == 0.0 && value.abs() < 9e15 => self.integer(value as i128),
            _ => Err(self.wrong(value)),
        }
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.text(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if self.is_element {
            return Err(self.wrong("an array in an array"));
        }
        while seq.next_element_seed(FieldValue { field: self.field, out: &mut *self.out, is_element: true })?.is_some()
        {
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let Kind::Message(schema) = self.field.kind else { return Err(self.wrong("an object")) };
        put_varint(&mut self.out.bytes, u64::from(self.field.number) << 3 | 2);
        let length_at = self.out.bytes.len();
        self.out.bytes.extend([0; LENGTH_BYTES]);
        Object { schema, out: &mut *self.out }.visit_map(map)?;
        let length = self.out.bytes.len() - length_at - LENGTH_BYTES;
        if length >> (7 * LENGTH_BYTES) != 0 {
            return Err(self.wrong("that long"));
        }
        for (at, byte) in self.out.bytes.iter_mut().skip(length_at).take(LENGTH_BYTES).enumerate() {
            let more = if at + 1 < LENGTH_BYTES { 0x80 } else { 0 };
            *byte = (length >> (7 * at) & 0x7f) as u8 | more;
        }
        Ok(())
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    text.as_bytes()
        .chunks(2)
        .map(|two| match two {
            [high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        })
        .collect()
}
